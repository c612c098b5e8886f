"""How does a table become one compact array of tokens, and tokens become values again?

Every column is one or two tokens (see `tokens`); missing is a token, rare levels and true extremes are not learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from synthgen.codes import hierarchy
from synthgen.errors import UsageError, suggest
from synthgen.generators.ties import tie, tied, untie
from synthgen.generators.tokens import (
    MISSING,
    RARE,
    Column,
    Folded,
    LevelColumn,
    NumberColumn,
    column_from_json,
    column_to_json,
    threshold,
)
from synthgen.rng import Seed
from synthgen.schema import NUMERIC
from synthgen.schema import Column as SchemaColumn

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.data import TableData

_CHUNK = 2**18  # rows of one column that are encoded at a time
_DATE_UNITS = {"days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0}


@dataclass(frozen=True, eq=False)
class NumericInputs:
    """The numbers behind the tokens of numeric columns, for networks: a lookup table.

    Column c with known tokens (coarse, fine) has the row `start[c] + coarse * stride[c] + fine`; where its fine token
    is unknown, or it has none, use `fine = stride[c] - 1`.
    """

    coarse: np.ndarray  # (numeric columns,) number of the coarse token
    fine: np.ndarray  # (numeric columns,) number of the fine token, -1 for none
    start: np.ndarray  # (numeric columns,)
    stride: np.ndarray  # (numeric columns,)
    table: np.ndarray  # (entries, 3) float32: normal quantile, clipped standardised value, 1 if there is a value


@dataclass(frozen=True, eq=False)
class TableCodec:
    """Learned once from train; turns learned columns into tokens and tokens into values.

    >>> import pandas as pd
    >>> from synthgen.data import TableData
    >>> from synthgen.schema import Column, TableSchema
    >>> frame = pd.DataFrame({"sex": ["f", "m"] * 20, "age": [float(a) for a in range(40)]})
    >>> data = TableData(frame, TableSchema((Column("sex", "categorical"), Column("age", "integer"))))
    >>> codec = TableCodec.fit(data, seed=Seed(1))
    >>> codec.encode(data).shape, codec.owner, codec.fine_of
    ((40, 2), (0, 1), (-1, -1))
    >>> list(codec.decode(codec.encode(data), seed=Seed(2))["sex"][:2])
    ['f', 'm']
    """

    columns: tuple[Column, ...]
    dates: Mapping[str, str]  # datetime column -> the unit its numbers count: days, hours, minutes or seconds

    @staticmethod
    def fit(train: TableData, *, seed: Seed, ties: bool = False) -> TableCodec:
        """Learn levels, bins and heaped values from the learned columns of train, and with `ties` what equals what."""
        table, patients = train.table, train.patients
        columns: list[Column] = []
        dates = {}
        for described in train.schema.learned:
            name, k = described.name, threshold(seed, described.name)
            if described.kind == "datetime":
                dates[name] = _date_unit(_seconds(table[name]))
            if described.kind in NUMERIC or described.kind == "datetime":
                numbers, decimals = _numbers(table[name], dates.get(name)), _decimals(described, table[name])
                columns.append(NumberColumn.fit(name, numbers, patients, k=k, decimals=decimals))
            else:
                levels, above = table[name].to_numpy(dtype=object), hierarchy(described.kind, described.system)
                columns.append(LevelColumn.fit(name, levels, patients, k=k, hierarchy=above))
        if ties:
            known = {c.name: table[c.name].to_numpy(dtype=float) for c in train.schema.learned if c.kind in NUMERIC}
            columns = tied(columns, known, patients, k={c.name: threshold(seed, c.name) for c in columns})
        return TableCodec(tuple(columns), dates)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def vocabulary(self) -> tuple[int, ...]:
        """Size of each token."""
        return tuple(size for column in self.columns for size in column.vocabulary)

    @cached_property
    def owner(self) -> tuple[int, ...]:
        """For each token, the number of its column in `columns`."""
        return tuple(number for number, column in enumerate(self.columns) for _ in column.vocabulary)

    @cached_property
    def fine_of(self) -> tuple[int, ...]:
        """For each token the number of the coarse token that it refines; -1 for coarse and level tokens."""
        owner = self.owner
        return tuple(i - 1 if i and owner[i] == owner[i - 1] else -1 for i in range(len(owner)))

    @cached_property
    def emittable(self) -> tuple[np.ndarray, ...]:
        """For each token, which of its values a sampler may emit: none that train lacks, never RARE. Shape: (size,)."""
        masks = []
        for column in self.columns:
            masks.append(column.emittable)
            masks += [np.ones(size, dtype=bool) for size in column.vocabulary[1:]]
        return tuple(masks)

    @cached_property
    def fine_counts(self) -> dict[int, np.ndarray]:
        """For each fine token, how many values it may take at each value of the coarse one. Shape: (coarse size,)."""
        pairs = ((token, self.columns[self.owner[token]]) for token, coarse in enumerate(self.fine_of) if coarse >= 0)
        return {token: column.fine_counts for token, column in pairs if isinstance(column, NumberColumn)}

    @property
    def folded(self) -> dict[str, Folded]:
        """What value protection took from each column."""
        return {column.name: column.folded for column in self.columns}

    @property
    def folded_counts(self) -> dict[str, dict[str, int]]:
        """The same as plain data, for the facts of a model."""
        return {name: asdict(folded) for name, folded in self.folded.items()}

    def tokens_of(self, name: str) -> list[int]:
        """The token numbers of a column.

        Raises:
            UsageError: the codec has no such column.
        """
        if name not in self._tokens:
            raise UsageError(f"{name!r} is not a learned column: {suggest(name, self.names)}")
        return self._tokens[name]

    @cached_property
    def _tokens(self) -> dict[str, list[int]]:
        ends = np.cumsum([len(column.vocabulary) for column in self.columns])
        return {
            column.name: list(range(end - len(column.vocabulary), end))
            for column, end in zip(self.columns, ends.tolist(), strict=True)
        }

    def encode(self, data: TableData, *, order: np.ndarray | None = None) -> np.ndarray:
        """The tokens of a table; in the making they take no more memory than the result and one chunk of a column.

        Args:
            data: with the columns of train.
            order: (tokens,) the token numbers from left to right; None: as in `vocabulary`.

        Shape: -> (rows, tokens), the smallest signed integer type that holds every token.
        """
        place = np.argsort(order) if order is not None else np.arange(len(self.owner))
        tokens = np.empty((len(data), len(place)), dtype=np.min_scalar_type(-max(self.vocabulary)))
        for column in self.columns:
            where = place[self.tokens_of(column.name)]
            for start in range(0, len(data), _CHUNK):
                rows = slice(start, start + _CHUNK)
                encoded = self.encode_column(column.name, data.table[column.name].iloc[rows])
                if isinstance(column, NumberColumn) and column.ties:
                    names = (column.name, *column.ties)
                    numbers = {name: data.table[name].to_numpy(dtype=float)[rows] for name in names}
                    encoded = tie(column, encoded, numbers)
                tokens[rows, where] = encoded
        return tokens

    def encode_column(self, name: str, values: pd.Series) -> np.ndarray:
        """Tokens of one column in canonical form. Shape: (rows,) -> (rows, 1 or 2)."""
        column = self.columns[self.names.index(name)]
        if isinstance(column, LevelColumn):
            return column.encode(values.to_numpy(dtype=object))
        return column.encode(_numbers(values, self.dates.get(name)))

    def unlearned(self, name: str, values: pd.Series) -> np.ndarray:
        """Which values no sample can have: levels and numbers that were not learned. Shape: (rows,) -> boolean."""
        column = self.columns[self.names.index(name)]
        if isinstance(column, LevelColumn):
            return column.encode(values.to_numpy(dtype=object))[:, 0] == RARE
        return column.unlearned(_numbers(values, self.dates.get(name)))

    def decode(self, tokens: np.ndarray, *, seed: Seed) -> dict[str, np.ndarray]:
        """Values for `data.assemble`, drawn inside sub-bins. Shape: (rows, tokens) -> (rows,) for each column."""
        values: dict[str, np.ndarray] = {}
        position = 0
        for column in self.columns:
            width = len(column.vocabulary)
            part, rng = tokens[:, position : position + width], seed.child(column.name).numpy()
            drawn = column.decode(part, rng)
            if isinstance(column, NumberColumn) and column.ties:
                drawn = untie(column, part, drawn, values, rng)
            values[column.name] = _dates(drawn, self.dates[column.name]) if column.name in self.dates else drawn
            position += width
        return values

    @cached_property
    def numeric_inputs(self) -> NumericInputs:
        """For each numeric column: its normal quantile and its clipped standardised value, by token."""
        coarse, fine, start, stride, tables, entries = [], [], [], [], [], 0
        for number, column in enumerate(self.columns):
            if isinstance(column, NumberColumn) and column.vocabulary[0] > 2:
                token = self.owner.index(number)
                coarse.append(token)
                fine.append(token + 1 if len(column.vocabulary) == 2 else -1)
                start.append(entries)
                stride.append(column.centres.shape[1])
                tables.append(_features(column))
                entries += len(tables[-1])
        table = np.concatenate(tables) if tables else np.zeros((0, 3), dtype=np.float32)
        where = [np.array(numbers, dtype=np.int64) for numbers in (coarse, fine, start, stride)]
        return NumericInputs(where[0], where[1], where[2], where[3], table)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; it holds no rare level and no true extreme."""
        return {"columns": [column_to_json(column) for column in self.columns], "dates": dict(self.dates)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TableCodec:
        """The inverse of `to_json`."""
        return TableCodec(tuple(column_from_json(column) for column in data["columns"]), dict(data["dates"]))


def _features(column: NumberColumn) -> np.ndarray:
    """Shape: -> (coarse * stride, 3) float32; zeros where there is no value."""
    centres, positions = column.centres.ravel(), column.positions.ravel()
    known = ~np.isnan(centres)
    scaled = centres / (np.abs(centres[known]).max() or 1.0)  # squares of huge numbers would overflow
    raw = np.clip((scaled - np.median(scaled[known])) / (scaled[known].std() or 1.0), -4, 4)
    quantile = norm.ppf(np.clip(np.where(known, positions, 0.5), 1e-4, 1 - 1e-4))
    return np.stack([quantile, np.where(known, raw, 0.0), known], axis=1).astype(np.float32)


def _decimals(column: SchemaColumn, values: pd.Series) -> int | None:
    """Digits after the point that decoded numbers have; dates are whole in their unit unless they have fractions."""
    if column.kind == "datetime":
        seconds = _seconds(values)
        return 0 if bool(np.all(np.isnan(seconds) | (seconds == np.round(seconds)))) else None
    return column.decimals if column.kind == "real" else 0


def _seconds(values: pd.Series) -> np.ndarray:
    """Datetimes as seconds since 1970, NaN for missing. Shape: (rows,) -> (rows,) float."""
    stamps = values.to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e6)


def _date_unit(seconds: np.ndarray) -> str:
    """The largest unit that all dates are whole in: midnight-only dates count days."""
    known = seconds[~np.isnan(seconds)]
    return next((name for name, size in _DATE_UNITS.items() if not np.any(known % size)), "seconds")


def _numbers(values: pd.Series, date_unit: str | None) -> np.ndarray:
    return values.to_numpy(dtype=float) if date_unit is None else _seconds(values) / _DATE_UNITS[date_unit]


def _dates(numbers: np.ndarray, date_unit: str) -> np.ndarray:
    """The inverse of `_numbers` for dates, to the microsecond. Shape: (rows,) -> (rows,) datetime64[ns]."""
    known = ~np.isnan(numbers)
    stamps = np.full(len(numbers), np.datetime64("NaT", "ns"))
    microseconds = np.round(numbers[known] * _DATE_UNITS[date_unit] * 1e6).astype(np.int64)
    stamps[known] = microseconds.astype("datetime64[us]").astype("datetime64[ns]")
    return stamps


__all__ = ["MISSING", "RARE", "Folded", "LevelColumn", "NumberColumn", "NumericInputs", "TableCodec"]

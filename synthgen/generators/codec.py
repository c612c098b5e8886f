"""How does a table become one compact array of tokens, and tokens become values again?

Every column is one or two tokens (see `tokens`); missing is a token, rare levels and true extremes are not learned.
Columns that are compared with each other are rewritten first (see `rewriting`), and what rules on levels allow is kept
beside the columns (see `legal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from synthgen.codes import hierarchy
from synthgen.errors import DataError, UsageError, suggest
from synthgen.generators.chains import UNIT_SECONDS, microseconds, stamps
from synthgen.generators.legal import Legal, level_rules, observed, told_apart
from synthgen.generators.rewriting import Rewriting, date_unit, exactly, held_by
from synthgen.generators.ties import tie, tied, untie
from synthgen.generators.tokens import (
    HIDDEN,
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
from synthgen.rules import Combination, Implies, rule_from_mapping, rule_to_mapping
from synthgen.schema import NUMERIC
from synthgen.schema import Column as SchemaColumn

if TYPE_CHECKING:
    from synthgen.data import TableData

_CHUNK = 2**18  # rows of one column that are encoded at a time
_MOST_LOST = 0.05  # of the values of a column whose every value has a token
_STRIDE = 7_919  # a prime, so that neighbouring rows are filled from different ones


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
    rewriting: Rewriting = field(default_factory=Rewriting)
    rules: tuple[Implies | Combination, ...] = ()  # on levels
    seen: tuple[np.ndarray, ...] = ()  # for each combination rule the tokens that occur. Shape: (combinations, columns)

    @staticmethod
    def fit(train: TableData, *, seed: Seed, ties: bool = False) -> TableCodec:
        """Learn levels, bins and heaped values from the learned columns of train, and with `ties` what equals what.

        Raises:
            DataError: the rules of the schema cannot be kept with what was learned.
        """
        schema, patients = train.schema.synthetic(), train.patients
        rewriting = Rewriting.fit(train, seed=seed)
        coded, rules = rewriting.forward(train.table), level_rules(schema.rules)
        derived = {rule.derives for rule in schema.derivations}
        columns: list[Column] = []
        dates = {}
        for name in rewriting.names(tuple(c.name for c in schema.learned if c.name not in derived)):
            k = threshold(seed, name)
            if name in rewriting.coded:
                known = ~np.isnan(coded[name]) if name in rewriting.starts else np.ones(len(train), dtype=bool)
                decimals = rewriting.coded[name]
                columns.append(NumberColumn.fit(name, coded[name][known], patients[known], k=k, decimals=decimals))
            elif schema[name].kind == "datetime":
                dates[name], decimals = date_unit(train.table[name])
                numbers = _numbers(train.table[name], dates[name])
                columns.append(NumberColumn.fit(name, numbers, patients, k=k, decimals=decimals))
            elif schema[name].kind in NUMERIC:
                numbers = coded.get(name, train.table[name].to_numpy(dtype=float))
                columns.append(_number_column(schema[name], numbers, patients, rules, k))
            else:
                levels, described = train.table[name].to_numpy(dtype=object), schema[name]
                above = hierarchy(described.kind, described.system)
                columns.append(LevelColumn.fit(name, levels, patients, k=k, hierarchy=above))
        if ties:
            thresholds = {column.name: threshold(seed, column.name) for column in columns}
            columns = tied(columns, _tieable(train, rewriting, rules), patients, k=thresholds)
        seen = observed(rules, columns, train, seed=seed)
        return TableCodec(tuple(columns), dates, rewriting, rules, seen)._checked()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The coded columns in order: those of the table, and the starts of its chains (see `rewriting`)."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def originals(self) -> tuple[str, ...]:
        """The columns of the table that `decode` gives: all learned ones but those that a rule computes."""
        return tuple(name for name in self.names if name not in self.rewriting.starts or self.rewriting.chain_of(name))

    @cached_property
    def legal(self) -> Legal:
        """What the rules on levels allow."""
        seen = dict(zip((rule for rule in self.rules if isinstance(rule, Combination)), self.seen, strict=True))
        return Legal.of(self.rules, {column.name: column for column in self.columns}, seen)

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
        for start in range(0, len(data), _CHUNK):
            rows = slice(start, start + _CHUNK)
            table = data.table.iloc[rows]
            coded = self.rewriting.forward(table)
            for name in self.rewriting.starts:
                coded[name] = _filled(coded[name])
            for column in self.columns:
                name = column.name
                encoded = column.encode(coded[name]) if name in coded else self.encode_column(name, table[name])
                if isinstance(column, NumberColumn) and column.ties:
                    encoded = tie(column, encoded, {n: table[n].to_numpy(dtype=float) for n in (name, *column.ties)})
                tokens[rows, place[self.tokens_of(name)]] = encoded
        return tokens

    def encode_column(self, name: str, values: pd.Series) -> np.ndarray:
        """Tokens of one column in canonical form that belongs to no chain. Shape: (rows,) -> (rows, 1 or 2)."""
        column = self.columns[self.names.index(name)]
        if isinstance(column, LevelColumn):
            return column.encode(values.to_numpy(dtype=object))
        return column.encode(_numbers(values, self.dates.get(name)))

    def unlearned(self, name: str, values: pd.Series) -> np.ndarray:
        """Which values no sample can have: levels and numbers that were not learned. Shape: (rows,) -> boolean."""
        chain = self.rewriting.chain_of(name)
        if chain is not None:
            return chain.member(name).unlearned(values)
        column, ruled = self.columns[self.names.index(name)], self.legal.component_of(name) is not None
        if isinstance(column, LevelColumn):
            levels = values.to_numpy(dtype=object)
            if ruled:  # a rule may tell a code from the one above it
                return ~(pd.isna(levels) | np.isin(levels.astype(str), column.levels))
            return column.encode(levels)[:, 0] == RARE
        numbers = _numbers(values, self.dates.get(name))
        rare = ~np.isnan(numbers) & ~np.isin(numbers, column.spikes) & (ruled and not column.bins)
        return column.unlearned(numbers) | rare

    def clamp(self, fixed: pd.DataFrame, *, free: pd.DataFrame | None = None) -> np.ndarray:
        """What fixed columns of the table say of the tokens; HIDDEN where they say nothing.

        Args:
            fixed: columns of the table in canonical form; a missing cell is fixed as missing.
            free: of the same shape: True for cells that are not fixed after all, such as those to be imputed.

        Shape: -> (rows, tokens) int32.
        """
        tokens = np.full((len(fixed), len(self.owner)), HIDDEN, dtype=np.int32)
        for chain in self.rewriting.chains:
            held = held_by(chain, fixed, free)
            for name, known in chain.known(held, len(fixed)).items() if held else ():
                encoded = self.columns[self.names.index(name)].encode(known.values)
                tokens[:, self.tokens_of(name)] = np.where(known.rows[:, None], encoded, HIDDEN)
        for column in self.columns:
            if column.name in fixed and self.rewriting.chain_of(column.name) is None:
                told = np.ones(len(fixed), dtype=bool) if free is None else ~free[column.name].to_numpy()
                encoded = self.encode_column(column.name, fixed[column.name])
                tokens[:, self.tokens_of(column.name)] = np.where(told[:, None], encoded, HIDDEN)
        return tokens

    def decode(
        self, tokens: np.ndarray, *, seed: Seed, fixed: pd.DataFrame | None = None, free: pd.DataFrame | None = None
    ) -> dict[str, np.ndarray]:
        """Values for `data.assemble`, drawn inside sub-bins; fixed cells come back exactly (see `clamp`).

        Shape: (rows, tokens) -> (rows,) for each of `originals`.
        """
        fixed = pd.DataFrame(index=range(len(tokens))) if fixed is None else fixed
        values: dict[str, np.ndarray] = {}
        position = 0
        for column in self.columns:
            width = len(column.vocabulary)
            part, rng = tokens[:, position : position + width], seed.child(column.name).numpy()
            drawn = column.decode(part, rng)
            if isinstance(column, NumberColumn) and column.ties:
                drawn = untie(column, part, drawn, values, rng)
            unit = self.dates.get(column.name)
            values[column.name] = drawn if unit is None else stamps(drawn * (UNIT_SECONDS[unit] * 1e6))
            if column.name in fixed and self.rewriting.chain_of(column.name) is None:
                values[column.name] = exactly(values[column.name], fixed, free, column.name)  # what is tied follows
            position += width
        values = self.rewriting.inverse(values, fixed, free)
        return {name: values[name] for name in self.originals}

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
        return {
            "columns": [column_to_json(column) for column in self.columns],
            "dates": dict(self.dates),
            "rewriting": self.rewriting.to_json(),
            "rules": [rule_to_mapping(rule) for rule in self.rules],
            "seen": [tokens.tolist() for tokens in self.seen],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TableCodec:
        """The inverse of `to_json`."""
        rules = tuple(rule_from_mapping(rule) for rule in data["rules"])
        return TableCodec(
            tuple(column_from_json(column) for column in data["columns"]),
            dict(data["dates"]),
            Rewriting.from_json(data["rewriting"]),
            tuple(rule for rule in rules if isinstance(rule, Implies | Combination)),
            tuple(np.array(tokens, dtype=np.int64) for tokens in data["seen"]),
        )

    def _checked(self) -> TableCodec:
        """This codec, after building what its rules allow."""
        self.legal  # noqa: B018  raises where nothing is allowed
        return self


def _number_column(
    described: SchemaColumn, numbers: np.ndarray, patients: np.ndarray, rules: tuple[Implies | Combination, ...], k: int
) -> NumberColumn:
    """A column of numbers; the values that rules speak of have tokens of their own.

    Raises:
        DataError: too many of its values are too rare for that.
    """
    name, decimals = described.name, described.decimals if described.kind == "real" else 0
    if not any(isinstance(rule, Combination) and name in rule.columns for rule in rules):
        apart = told_apart(name, rules)
        return NumberColumn.fit(name, numbers, patients, k=k, decimals=decimals, apart=apart)
    column = NumberColumn.fit(name, numbers, patients, k=k, decimals=decimals, tokens="values")
    known = numbers[~np.isnan(numbers)]
    lost = int((~np.isin(known, column.spikes)).sum())
    if lost > _MOST_LOST * len(known) and lost >= k:
        raise DataError(
            f"column {name!r}: {lost} of {len(known)} values are too rare to be learned one by one, as the rule "
            "'combination' asks; leave the column out of the rule"
        )
    return column


def _tieable(train: TableData, rewriting: Rewriting, rules: tuple[Implies | Combination, ...]) -> dict[str, np.ndarray]:
    """The numbers that may be said to equal another column: of no chain, which has its differences, and of no mask."""
    ruled = {name for rule in rules for name in rule.columns}
    return {
        column.name: train.table[column.name].to_numpy(dtype=float)
        for column in train.schema.learned
        if column.kind in NUMERIC and column.name not in ruled and rewriting.chain_of(column.name) is None
    }


def _filled(start: np.ndarray) -> np.ndarray:
    """A start for rows that have none, from the others in turn: it is learned as if it did not depend on them."""
    gone, known = np.flatnonzero(np.isnan(start)), start[~np.isnan(start)]
    filled = start.copy()
    if len(known):
        filled[gone] = known[(np.arange(len(gone)) * _STRIDE) % len(known)]
    return filled


def _features(column: NumberColumn) -> np.ndarray:
    """Shape: -> (coarse * stride, 3) float32; zeros where there is no value."""
    centres, positions = column.centres.ravel(), column.positions.ravel()
    known = ~np.isnan(centres)
    scaled = centres / (np.abs(centres[known]).max() or 1.0)  # squares of huge numbers would overflow
    raw = np.clip((scaled - np.median(scaled[known])) / (scaled[known].std() or 1.0), -4, 4)
    quantile = norm.ppf(np.clip(np.where(known, positions, 0.5), 1e-4, 1 - 1e-4))
    return np.stack([quantile, np.where(known, raw, 0.0), known], axis=1).astype(np.float32)


def _numbers(values: pd.Series, date_unit: str | None) -> np.ndarray:
    if date_unit is None:
        return values.to_numpy(dtype=float)
    return microseconds(values) / (UNIT_SECONDS[date_unit] * 1e6)


__all__ = ["MISSING", "RARE", "Folded", "LevelColumn", "NumberColumn", "NumericInputs", "TableCodec"]

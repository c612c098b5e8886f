"""Whose are the synthetic images? Each has a record, drawn by a copula of those of train."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synthgen.data import TableData
from synthgen.errors import DataError, UsageError, suggest
from synthgen.generators.checkpoint import Model
from synthgen.generators.conditions import Balance
from synthgen.generators.copula import Copula
from synthgen.generators.tabular import FEW_PATIENTS
from synthgen.images import DESCRIPTION, GEOMETRY, ImageData, described
from synthgen.rng import Seed
from synthgen.schema import TableSchema

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = frozenset({"integer", "real"})
_PREFIX = "records."
_FEWEST = 30  # patients that a class of its own needs
_FEW = 8  # patients that a level needs: as for levels of tables
_BANDS = 4  # of a number
_NOT_DRAWN = frozenset({"modality", "bits", "window_center", "window_width", *(column.name for column in GEOMETRY)})


@dataclass(frozen=True)
class ImageColumn:
    """A column that images go by: its levels, or a number's bands."""

    name: str
    levels: tuple[str, ...]  # that enough patients have
    edges: tuple[float, ...]  # between the bands of a number

    @classmethod
    def fit(cls, name: str, values: pd.Series, patients: np.ndarray, *, number: bool) -> ImageColumn:
        """Levels of at least eight patients; bands with about as many images as each other, between rounded edges."""
        if number:
            inner = np.linspace(0, 1, _BANDS + 1)[1:-1]
            return cls(name, (), tuple(sorted({float(f"{edge:.2g}") for edge in values.dropna().quantile(inner)})))
        known = {(str(value), patient) for value, patient in zip(values, patients, strict=True) if value == value}
        counted = collections.Counter(level for level, _ in known if level != "None")
        return cls(name, tuple(sorted(level for level, n in counted.items() if n >= _FEW)), ())

    @property
    def size(self) -> int:
        """How many codes there are."""
        return 1 + (len(self.levels) or len(self.edges) + 1)

    def codes(self, values: pd.Series) -> np.ndarray:
        """From 1; 0 where a value is missing or rare. Shape: -> (rows,) int64."""
        if not self.levels:
            numbers = values.to_numpy(dtype=float)
            return np.where(np.isnan(numbers), 0, 1 + np.searchsorted(self.edges, numbers, side="right"))
        number = {level: i for i, level in enumerate(self.levels, start=1)}
        return np.array([number.get(str(value), 0) for value in values], dtype=np.int64)


@dataclass(frozen=True)
class ImageRecords:
    """Draws records, and says what an image goes by: a code in each of some columns, and the class of all together."""

    copula: Copula | None  # None: train has no column to learn
    columns: tuple[ImageColumn, ...]  # that images go by
    classes: tuple[tuple[int, ...], ...]  # codes that enough patients have, or the first of them; () is all others

    @classmethod
    def fit(cls, train: ImageData, *, condition_on: Sequence[str] | None, seed: Seed) -> ImageRecords:
        """From the records of train.

        Args:
            train: its columns of modality, depth and geometry are not drawn: every synthetic image has the same.
            condition_on: columns that images go by; None: the target, if there is one.
            seed: of the codec's ties.

        Raises:
            UsageError: an unknown column, or one of dates.
        """
        schema = train.records.schema
        drawn = tuple(column for column in schema.learned if column.name not in _NOT_DRAWN)
        target = (schema.target,) if schema.target is not None else ()
        chosen = tuple(condition_on) if condition_on is not None else target
        for name in chosen:
            if name not in {column.name for column in drawn}:
                raise UsageError(f"images cannot go by {name!r}: {suggest(name, [column.name for column in drawn])}")
            if schema[name].kind == "datetime":
                raise UsageError(f"images cannot go by {name!r}, a date: make an age of it first")
        if not drawn:
            return cls(None, (), ((),))
        owner = () if schema.patient is None else (schema[schema.patient],)
        kept = TableSchema((*owner, *drawn))  # what is rare is counted by patients, not by images
        table, patients = train.records.table[list(kept.names)], train.records.patients
        copula = Copula().fit(TableData(table, kept, train.records.backend), seed=seed.child("records"))
        numbers = {name: schema[name].kind in NUMBERS for name in chosen}
        columns = tuple(ImageColumn.fit(name, table[name], patients, number=numbers[name]) for name in chosen)
        return cls(copula, columns, ((), *sorted(_enough(_codes(columns, table), patients))))

    def codes(self, table: pd.DataFrame) -> np.ndarray:
        """Each record's codes. Shape: -> (rows, columns) int64."""
        return _codes(self.columns, table)

    def of(self, table: pd.DataFrame) -> np.ndarray:
        """The number of each record's class: by all of its codes, or by as many of the first as there is a class for.

        Shape: -> (rows,) int64.
        """
        number = {codes: i for i, codes in enumerate(self.classes)}
        depths = range(len(self.columns), -1, -1)
        found = [
            next(number[own[:d]] for d in depths if own[:d] in number) for own in map(tuple, self.codes(table).tolist())
        ]
        return np.array(found, dtype=np.int64)

    def draw(
        self,
        n: int,
        constants: Mapping[str, Any],
        *,
        seed: Seed,
        where: Mapping[str, Any] | None,
        given: pd.DataFrame | None,
        balance: Balance | None,
    ) -> TableData:
        """Records of n patients, each with one image.

        Raises:
            UsageError: n below 1, or conditions that no record can meet.
        """
        import pandas as pd

        if self.copula is None:
            if where or given is not None or balance is not None:
                raise UsageError("the images were learned without labels: there is no column to hold at a value")
            frame = pd.DataFrame(index=range(n))
            schema = TableSchema(())
        else:
            made = self.copula.sample(n, seed=seed, where=where, given=given, balance=balance)
            frame, schema = made.learned, TableSchema(made.schema.learned)
        fixed = {name: [value] * n for name, value in constants.items()}
        patients = [f"{i + 1}" for i in range(n)]
        head = pd.DataFrame({"patient": patients, "study": patients, "series": patients, **fixed}, index=range(n))
        known = {column.name: column for column in DESCRIPTION}
        columns = tuple(known[str(name)] for name in head) + schema.columns
        table = pd.concat([head, frame.reset_index(drop=True)], axis=1)
        return described(table, replace(schema, columns=columns))

    def model(self, base: Model) -> Model:
        """A model that holds these records beside what it holds."""
        facts = {"columns": [dataclasses.asdict(one) for one in self.columns], "classes": [*map(list, self.classes)]}
        codec: dict[str, Any] = {**(base.codec or {}), "records": facts}
        if self.copula is None:
            return replace(base, codec=codec)
        own = self.copula.model
        assert own is not None, "it is fitted"
        tensors = {f"{_PREFIX}{name}": tensor for name, tensor in own.tensors.items()}
        return dataclasses.replace(
            base,
            schema=own.schema,
            backend=own.backend,
            codec={**codec, "table": own.codec},
            tensors={**base.tensors, **tensors},
        )

    @classmethod
    def of_model(cls, model: Model) -> ImageRecords:
        """What `model` put there."""
        codec = model.codec or {}
        facts = codec["records"]
        if "table" not in codec:
            return cls(None, (), ((),))
        tensors = {
            name.removeprefix(_PREFIX): tensor for name, tensor in model.tensors.items() if name.startswith(_PREFIX)
        }
        copula = Copula()
        copula.model = replace(model, generator=Copula.name, settings={}, codec=codec["table"], tensors=tensors)
        columns = [ImageColumn(one["name"], tuple(one["levels"]), tuple(one["edges"])) for one in facts["columns"]]
        return cls(copula, tuple(columns), tuple(tuple(codes) for codes in facts["classes"]))


def _enough(codes: np.ndarray, patients: np.ndarray) -> set[tuple[int, ...]]:
    """The classes of these records: where too few patients share all codes, those that share the first ones.

    >>> codes = np.array([[1, 1]] * 30 + [[1, 2]] * 20 + [[1, 3]] * 20 + [[2, 1]] * 10)
    >>> sorted(_enough(codes, np.arange(80)))
    [(1,), (1, 1)]
    """
    left, found = [*zip(map(tuple, codes.tolist()), patients.tolist(), strict=True)], set[tuple[int, ...]]()
    for depth in range(codes.shape[1], 0, -1):
        counted = collections.Counter(own for own, _ in {(own[:depth], patient) for own, patient in left})
        found |= {own for own, n in counted.items() if n >= _FEWEST}
        left = [(own, patient) for own, patient in left if own[:depth] not in found]
    return found


def require_enough(train: ImageData, *, force: bool) -> None:
    """Few patients are copied rather than learned from.

    Raises:
        DataError: too few patients and not `force`.
    """
    if train.patient_count < (2 if force else FEW_PATIENTS):
        raise DataError(
            f"too few patients: {train.patient_count}, and at least {FEW_PATIENTS} are needed to learn from images "
            "without copying them (the setting force=true trains anyway)"
        )


def _codes(columns: Sequence[ImageColumn], table: pd.DataFrame) -> np.ndarray:
    """Shape: -> (rows, columns) int64."""
    found = np.zeros((len(table), len(columns)), dtype=np.int64)
    for place, column in enumerate(columns):
        found[:, place] = column.codes(table[column.name])
    return found

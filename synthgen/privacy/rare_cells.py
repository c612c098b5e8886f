"""Which values and combinations does one real patient alone have, and which of them does the synthetic table have?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from synthgen.privacy.neighbors import pooled_patients, shared_columns
from synthgen.privacy.precision import at_precision
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import ORDERED

FEW = 5  # patients: a level that so many or fewer have is rare
_TAIL = 0.005  # share of the pooled values at each end that are extremes
_COMBINATIONS = 150  # of two, and of three columns; of more a random part, chosen by the names alone
_COMBINED = 40  # columns of these combinations
_SURPRISING = 0.01  # synthetic rows that would have a combination if the synthetic columns were independent


@dataclass(frozen=True, eq=False)
class Cells:
    """One column: what each row has, at the schema's precision, and what each pooled row's value is as a number.

    Shape:
        codes (pool + synthetic,) int, -1 where missing; numbers (pool + synthetic,) float, None for categories
    """

    name: str
    codes: np.ndarray
    levels: int  # that the pool or the synthetic table has
    numbers: np.ndarray | None
    declared: bool  # its levels stand in the schema, so they are no secret
    bounds: tuple[float, ...] = ()  # of a number, that stand in the schema, at single precision


@dataclass(frozen=True, eq=False)
class Pool:
    """Who the rows of the pool belong to."""

    patients: np.ndarray  # of the pooled rows, train first
    train_rows: int

    @property
    def rows(self) -> int:
        """Pooled rows."""
        return len(self.patients)

    @property
    def is_train(self) -> np.ndarray:
        """Shape: (rows,) bool."""
        return np.arange(self.rows) < self.train_rows


def cells_of(evidence: Evidence) -> tuple[list[Cells], Pool]:
    """All learned columns that the three tables have, by name."""
    sets = (evidence.train, evidence.holdout, evidence.synthetic)
    pool = Pool(np.concatenate(pooled_patients(evidence.train, evidence.holdout)), len(evidence.train))
    found = []
    for name in shared_columns(evidence):
        column = evidence.train.schema[name]
        values = at_precision(pd.concat([data.table[name] for data in sets], ignore_index=True), column)
        codes, levels = pd.factorize(values, sort=True)
        numbers = _numbers(values) if column.kind in ORDERED else None
        declared = column.levels is not None or column.kind == "boolean"
        declared_bounds = (column.minimum, column.maximum)
        bounds = tuple(float(np.float32(bound)) for bound in declared_bounds if bound is not None)
        found.append(Cells(name, codes.astype(np.int64), len(levels), numbers, declared, bounds))
    return found, pool


def holders(codes: np.ndarray, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Which patient has which level, each pair once. Shape: -> (pairs,) levels, (pairs,) patients."""
    real = codes[: pool.rows]
    level, patient = real[real >= 0], pool.patients[real >= 0]
    people = int(pool.patients.max()) + 1
    if people == pool.rows:  # one row each, so no pair is there twice
        return level, patient
    pairs = np.unique(level * people + patient)
    return pairs // people, pairs % people


def extremes(cells: Cells, pool: Pool) -> np.ndarray:
    """Which levels of a number are extreme: beyond the outermost half percent of the pooled values at either end.

    A bound that the schema declares is no secret.
    """
    assert cells.numbers is not None
    present = np.flatnonzero(cells.codes[: pool.rows] >= 0)
    extreme = np.zeros(cells.levels, dtype=bool)
    if len(present):
        values = cells.numbers[present]
        low, high = np.quantile(values, [_TAIL, 1 - _TAIL], method="inverted_cdf")
        outer = ((values <= low) | (values >= high)) & ~np.isin(
            values.astype(np.float32), np.array(cells.bounds, np.float32)
        )
        extreme[cells.codes[present[outer]]] = True
    return extreme


def counts(columns: Sequence[Cells], pool: Pool) -> dict[str, np.ndarray]:
    """How many cells of each kind each patient has that nobody else of the pool has and a synthetic row has.

    Args:
        columns: from `cells_of`.
        pool: whose rows these are.

    Shape:
        each (patients,)
    """
    people = int(pool.patients.max()) + 1
    single = {name: np.zeros(people) for name in ("levels", "extremes", "shared rare levels")}
    for cells in columns:
        level, patient = holders(cells.codes, pool)
        many = np.bincount(level, minlength=cells.levels)
        again = np.bincount(_synthetic(cells.codes, pool), minlength=cells.levels) > 0
        if cells.numbers is None:
            np.add.at(single["levels"], patient[(many[level] == 1) & again[level]], 1)
            few = (many[level] > 1) & (many[level] <= FEW) & again[level]
            np.add.at(single["shared rare levels"], patient[few], 1 / many[level][few])
        else:
            outer = (many[level] == 1) & again[level] & extremes(cells, pool)[level]
            np.add.at(single["extremes"], patient[outer], 1)
    return {"levels and extremes": single["levels"] + single["extremes"], **single}


def combined(columns: Sequence[Cells], pool: Pool, roles: Sequence[str]) -> np.ndarray:
    """The same of combinations of two and three columns that a synthetic row has and its columns do not explain.

    Args:
        columns: from `cells_of`.
        pool: whose rows these are.
        roles: columns whose combinations come first, where there are too many.

    Shape:
        -> (patients,)
    """
    people = int(pool.patients.max()) + 1
    found: np.ndarray = sum((_combined(group, pool) for group in _chosen(columns, roles)), np.zeros(people))
    return found


def _combined(group: Sequence[Cells], pool: Pool) -> np.ndarray:
    """Combinations of these columns' levels that a synthetic row has though its columns alone do not explain it.

    Chance is that of the synthetic columns: a generator that learned no more than how often train has each value would
    repeat the combinations of train more often than those of the holdout.
    """
    people, rows = int(pool.patients.max()) + 1, len(group[0].codes)
    mixed, expected = np.zeros(rows, dtype=np.int64), np.full(rows, float(rows - pool.rows))
    for cells in group:
        size = cells.levels + 1
        mixed = mixed * size + cells.codes + 1
        share = np.bincount(cells.codes[pool.rows :] + 1, minlength=size) / (rows - pool.rows)
        expected *= share[cells.codes + 1]
    surprising = (expected > 0) & (expected < _SURPRISING)  # alike in all rows of a combination, so none is torn apart
    if not surprising.any():
        return np.zeros(people)
    patients = pool.patients[surprising[: pool.rows]]
    mixed = pd.factorize(mixed[surprising])[0]
    real, again = mixed[: len(patients)], np.zeros(int(mixed.max()) + 1, dtype=bool)
    again[mixed[len(patients) :]] = True
    owner, alone = np.full(len(again), -1), np.ones(len(again), dtype=bool)
    owner[real] = patients
    alone[real[owner[real] != patients]] = False
    return np.bincount(owner[alone & again & (owner >= 0)], minlength=people).astype(float)


def _chosen(columns: Sequence[Cells], roles: Sequence[str]) -> list[tuple[Cells, ...]]:
    """Pairs and triples of columns; of very many those with the most declared roles, then random ones."""
    chosen: list[tuple[Cells, ...]] = []
    order = Seed(0).child("rare", "columns").numpy().permutation(len(columns))
    first = sorted(sorted(order, key=lambda i: columns[i].name not in roles)[:_COMBINED])
    columns = [columns[i] for i in first]
    for size in (2, 3):
        groups = list(combinations(columns, size))
        shuffled = Seed(0).child("rare", "combinations", str(size)).numpy().permutation(len(groups))
        preferred = sorted(shuffled, key=lambda i: -sum(cells.name in roles for cells in groups[i]))
        chosen += [groups[i] for i in preferred[:_COMBINATIONS]]
    return chosen


def _synthetic(codes: np.ndarray, pool: Pool) -> np.ndarray:
    later = codes[pool.rows :]
    found: np.ndarray = later[later >= 0]
    return found


def _numbers(values: pd.Series) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.to_numpy().astype("datetime64[ns]").astype(np.int64).astype(float)
    return values.to_numpy(dtype=float)

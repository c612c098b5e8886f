"""Which descriptions can be made from a table, and which rows fit them? Predicates on one column and on several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.privacy.disclosure import Sides
from synthgen.privacy.precision import at_precision
from synthgen.privacy.space import as_floats
from synthgen.rng import Seed
from synthgen.schema import NUMERIC, TableSchema

MISSING = -np.inf  # so that a missing value equals itself and lies in no interval of numbers
_LOWEST = np.finfo(float).min  # of the numbers; an interval from here is open below
_WIDTH = 0.05  # share of a column's values that an interval holds
_MOST_COLUMNS = 8  # of a predicate
_ONE_COLUMN = 4  # of so many predicates one, at most, is about one column
_CANDIDATES = 4  # predicates made for each that is wanted
FEWEST = 100  # predicates that are kept even where none promises to isolate anybody


@dataclass(frozen=True, eq=False)
class Predicates:
    """For each predicate and column the lowest and the highest value that fit; -inf to inf says nothing of a column.

    Shape:
        low, high (predicates, columns)
    """

    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.low)

    @property
    def used(self) -> np.ndarray:
        """Which columns a predicate is about. Shape: (predicates, columns) bool."""
        return (self.low > -np.inf) | (self.high < np.inf)

    @property
    def several(self) -> np.ndarray:
        """Whether a predicate is about more than one column. Shape: (predicates,) bool."""
        several: np.ndarray = self.used.sum(axis=1) > 1
        return several

    def take(self, which: np.ndarray) -> Predicates:
        """These predicates, in this order."""
        return Predicates(self.low[which], self.high[which])


def coded(drawn: Sides, schema: TableSchema) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real and synthetic rows as numbers, at the schema's precision, levels by rank; synthetic rows once each, sorted.

    Shape:
        -> (real rows, columns), (different synthetic rows, columns), (columns,) bool: numbers and dates
    """
    ordered = np.array([name in drawn.space.numbers for name in drawn.names])
    together = pd.concat([drawn.real, drawn.synthetic], ignore_index=True)
    columns = [_codes(together[name], schema, name, drawn) for name in drawn.names]
    values = np.stack(columns, axis=1)
    real, synthetic = values[: len(drawn.real)], values[len(drawn.real) :]
    return real, np.unique(synthetic, axis=0), ordered


def codebook(drawn: Sides, schema: TableSchema, rows: int, seed: Seed) -> np.ndarray:
    """Rows invented from what values are possible: any level, any number between the smallest and the largest.

    Shape:
        -> (rows, columns), in the codes of `coded`
    """
    columns = []
    for name in drawn.names:
        rng = seed.child(name).numpy()
        if name in drawn.space.numbers:
            possible = as_floats(drawn.pool[name])
            drawn_numbers = pd.Series(rng.uniform(np.nanmin(possible), np.nanmax(possible), rows))
            columns.append(at_precision(drawn_numbers, schema[name]).to_numpy(dtype=float))
        else:
            together = pd.concat([drawn.real[name], drawn.synthetic[name]], ignore_index=True)
            columns.append(rng.choice(np.unique(_codes(together, schema, name, drawn)), rows))
    return np.stack(columns, axis=1)


def guessed(table: np.ndarray, ordered: np.ndarray, wanted: int, *, crowd: int, seed: Seed) -> Predicates:
    """Different predicates that promise to single somebody out of a crowd, up to a quarter of them about one column.

    A predicate promises to if it fits one row of the table, or no more than a crowd of the table's law would have one
    of. Where such predicates are few the next best ones make up a hundred.

    Shape:
        table (rows, columns) of different rows, ordered (columns,) bool

    >>> predicates = guessed(np.array([[1.0], [2.0], [2.5], [4.0]]), np.array([True]), 20, crowd=4, seed=Seed(1))
    >>> bool(((predicates.low == 2.5) & (predicates.high == 2.5)).any())
    True
    """
    rng = seed.numpy()
    single = _about_one(table, ordered, wanted // _ONE_COLUMN, rng)
    several = _distinct(_about_several(table, ordered, _CANDIDATES * wanted, rng))
    counts = np.array([len(rows) for rows in fitting(several, table)])
    order = rng.permutation(len(several))
    order = order[np.argsort(counts[order], kind="stable")]
    promising = int((counts <= max(1, len(table) / crowd)).sum())
    order = order[: min(max(promising, FEWEST - len(single)), wanted - len(single))]
    return Predicates(
        *(np.concatenate(pair) for pair in ((single.low, several.low[order]), (single.high, several.high[order])))
    )


def fitting(predicates: Predicates, table: np.ndarray) -> list[np.ndarray]:
    """Of each predicate the row numbers that fit it, by the column that leaves fewest and then the others.

    >>> forties = Predicates(low=np.array([[40.0, -np.inf]]), high=np.array([[49.0, np.inf]]))
    >>> fitting(forties, np.array([[44.0, 1.0], [50.0, 1.0], [MISSING, 2.0]]))
    [array([0])]
    """
    order = np.argsort(table, axis=0, kind="stable")
    ends = np.zeros((2, *predicates.low.shape), dtype=np.int64)
    for j in range(table.shape[1]):
        values = table[order[:, j], j]
        ends[0, :, j] = np.searchsorted(values, predicates.low[:, j], side="left")
        ends[1, :, j] = np.searchsorted(values, predicates.high[:, j], side="right")
    fewest, used, found = (ends[1] - ends[0]).argmin(axis=1), predicates.used, []
    for i, column in enumerate(fewest.tolist()):
        rows = order[ends[0, i, column] : ends[1, i, column], column]
        for other in np.flatnonzero(used[i]).tolist():
            if other != column:
                values = table[rows, other]
                rows = rows[(values >= predicates.low[i, other]) & (values <= predicates.high[i, other])]
        found.append(rows)
    return found


def _codes(values: pd.Series, schema: TableSchema, name: str, drawn: Sides) -> np.ndarray:
    if name not in drawn.space.numbers:
        ranks = pd.factorize(values, sort=True)[0].astype(float)
        return np.where(ranks < 0, MISSING, ranks)
    kept = at_precision(values, schema[name]) if schema[name].kind in NUMERIC else values
    numbers = as_floats(kept)
    return np.where(np.isnan(numbers), MISSING, numbers)


def _about_one(table: np.ndarray, ordered: np.ndarray, most: int, rng: np.random.Generator) -> Predicates:
    """Values that a column has once, and its extremes."""
    found = []  # of each column a list of (column, low, high)
    for j, column in enumerate(table.T):
        values, times = np.unique(column, return_counts=True)
        once, present = values[times == 1], values[values > MISSING]
        found.append(np.column_stack([np.full(len(once), float(j)), once, once]))
        if ordered[j] and len(present):
            found.append(np.array([[j, _LOWEST, present[0]], [j, present[-1], np.inf]]))
    listed = np.concatenate(found)
    chosen = listed[rng.permutation(len(listed))[:most]]
    low, high = np.full((len(chosen), table.shape[1]), -np.inf), np.full((len(chosen), table.shape[1]), np.inf)
    at = np.arange(len(chosen)), chosen[:, 0].astype(int)
    low[at], high[at] = chosen[:, 1], chosen[:, 2]
    return Predicates(low, high)


def _about_several(table: np.ndarray, ordered: np.ndarray, count: int, rng: np.random.Generator) -> Predicates:
    """Some columns of a random row, as they stand there or nearly so."""
    width = table.shape[1]
    rows = rng.integers(len(table), size=count)
    sizes = rng.integers(min(2, width), min(width, _MOST_COLUMNS) + 1, size=count)
    used = rng.random((count, width)).argsort(axis=1).argsort(axis=1) < sizes[:, None]
    low, high = _intervals(table, ordered)
    return Predicates(np.where(used, low[rows], -np.inf), np.where(used, high[rows], np.inf))


def _intervals(table: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Around each number the values that hold `_WIDTH` of its column, open at the ends. Shape: 2 x (rows, columns)."""
    low, high = table.copy(), table.copy()
    for j in np.flatnonzero(ordered):
        column = table[:, j]
        values = np.sort(column[column > MISSING])
        there, reach = column > MISSING, int(_WIDTH / 2 * len(values))
        first = np.searchsorted(values, column[there], side="left") - reach
        last = np.searchsorted(values, column[there], side="right") - 1 + reach
        low[there, j] = np.where(first <= 0, _LOWEST, values[np.maximum(first, 0)])
        high[there, j] = np.where(last >= len(values) - 1, np.inf, values[np.minimum(last, len(values) - 1)])
    return low, high


def _distinct(predicates: Predicates) -> Predicates:
    both = np.unique(np.hstack([predicates.low, predicates.high]), axis=0)
    return Predicates(*np.hsplit(both, 2))

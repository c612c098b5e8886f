"""Which descriptions can be made from a table, and which rows fit them? Predicates on one column and on several."""

from __future__ import annotations

from collections.abc import Iterator
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
_PAIRS = 1_000_000  # of a predicate and a row that are looked at together
_CANDIDATES = 4  # predicates made for each that is wanted
FEWEST = 100  # predicates that are kept even where none promises to isolate anybody


@dataclass(frozen=True, eq=False)
class Predicates:
    """Of each predicate the columns that it is about, ascending, and the lowest and the highest value that fit.

    After the last column come -1s, with bounds that everything fits.

    Shape:
        columns, low, high (predicates, most columns of one)
    """

    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def several(self) -> np.ndarray:
        """Whether a predicate is about more than one column. Shape: (predicates,) bool."""
        several: np.ndarray = (self.columns >= 0).sum(axis=1) > 1
        return several

    def take(self, which: np.ndarray) -> Predicates:
        """These predicates, in this order."""
        return Predicates(self.columns[which], self.low[which], self.high[which])


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
    counts = np.zeros(len(several), dtype=np.int64)
    for which, _ in fitting(several, table, most=len(table) // 2):
        counts += np.bincount(which, minlength=len(several))
    counts[counts == 0] = len(table)  # left out: all others fit the row that they are made from
    order = rng.permutation(len(several))
    order = order[np.argsort(counts[order], kind="stable")]
    promising = int((counts <= max(1, len(table) / crowd)).sum())
    order = order[: min(max(promising, FEWEST - len(single)), wanted - len(single))]
    return _stacked(single, several.take(order))


def fitting(
    predicates: Predicates, table: np.ndarray, *, most: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a predicate and a row that fits it, in parts; a predicate's pairs are in one part.

    Predicates that fit more than the most rows, which single nobody out, are left out where their columns alone show
    it: as many rows fit as there are, less those that each column excludes, or more. Of the others the column that
    leaves fewest rows is looked at first.

    Shape:
        table (rows, columns) -> (pairs,) and (pairs,) at a time

    >>> forties = Predicates(columns=np.array([[0]]), low=np.array([[40.0]]), high=np.array([[49.0]]))
    >>> list(fitting(forties, np.array([[44.0, 1.0], [50.0, 1.0], [MISSING, 2.0]])))
    [(array([0]), array([0]))]
    """
    order = np.argsort(table, axis=0, kind="stable")
    first, length = _ranges(predicates, table, order)
    if most is not None:
        length[len(table) - (len(table) - length).sum(axis=1) > most, 0] = 0
    narrow = np.argsort(length, axis=1, kind="stable")
    columns, low, high, first, length = (
        np.take_along_axis(each, narrow, axis=1)
        for each in (predicates.columns, predicates.low, predicates.high, first, length)
    )
    before = np.cumsum(length[:, 0]) - length[:, 0]
    for part in np.split(np.arange(len(predicates)), np.flatnonzero(np.diff(before // _PAIRS)) + 1):
        which = np.repeat(part, length[part, 0])
        rows = np.arange(len(which)) - (before[which] - before[part[0]]) + first[which, 0]
        rows = order[rows, columns[which, 0]]
        for column, lowest, highest in zip(columns.T[1:], low.T[1:], high.T[1:], strict=True):
            values = table[rows, column[which]]
            fits = (values >= lowest[which]) & (values <= highest[which])
            which, rows = which[fits], rows[fits]
        yield which, rows


def _ranges(predicates: Predicates, table: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in the order of each column the values that fit begin, and how many rows have them; all, of no column."""
    first = np.zeros(predicates.columns.shape, dtype=np.int64)
    length = np.full(predicates.columns.shape, len(table))
    for j in range(table.shape[1]):
        about, values = predicates.columns == j, table[order[:, j], j]
        first[about] = np.searchsorted(values, predicates.low[about], side="left")
        length[about] = np.searchsorted(values, predicates.high[about], side="right") - first[about]
    return first, length


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
    columns, low, high = listed[rng.permutation(len(listed))[:most]].T[:, :, None]
    return Predicates(columns.astype(int), low, high)


def _about_several(table: np.ndarray, ordered: np.ndarray, count: int, rng: np.random.Generator) -> Predicates:
    """Some columns of a random row, as they stand there or nearly so."""
    width = table.shape[1]
    most = min(width, _MOST_COLUMNS)
    rows = rng.integers(len(table), size=count)[:, None]
    sizes = rng.integers(min(2, width), most + 1, size=count)[:, None]
    columns = rng.random((count, width)).argpartition(most - 1, axis=1)[:, :most]
    columns = np.sort(np.where(rng.permuted(np.tile(np.arange(most), (count, 1)), axis=1) < sizes, columns, width))
    used, columns = columns < width, np.where(columns < width, columns, -1)
    low, high = _intervals(table, ordered)
    return Predicates(columns, np.where(used, low[rows, columns], -np.inf), np.where(used, high[rows, columns], np.inf))


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
    whole = np.hstack([predicates.columns, predicates.low, predicates.high])
    return predicates.take(np.sort(np.unique(whole, axis=0, return_index=True)[1]))


def _stacked(single: Predicates, several: Predicates) -> Predicates:
    """Both, one after the other."""
    gap = ((0, 0), (0, several.columns.shape[1] - 1))
    return Predicates(
        columns=np.concatenate([np.pad(single.columns, gap, constant_values=-1), several.columns]),
        low=np.concatenate([np.pad(single.low, gap, constant_values=-np.inf), several.low]),
        high=np.concatenate([np.pad(single.high, gap, constant_values=np.inf), several.high]),
    )

"""Where do rows of any set have comparable distances? Numbers as ranks, categories as mismatches, exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

_SCALE = math.sqrt(6)  # two independent uniform ranks then differ by 1 in the square mean


@dataclass(frozen=True, eq=False)
class Points:
    """Rows in the space. A code of -1 is a level that the pool does not have; it equals nothing.

    Shape:
        numbers (rows, coordinates) float64, codes (rows, categoricals) int32, extra (rows, numbers that the pool never
        misses) bool: where a row is missing nevertheless, which adds 1 to all its squared distances.
    """

    numbers: np.ndarray
    codes: np.ndarray
    extra: np.ndarray

    def __len__(self) -> int:
        return len(self.extra)

    @staticmethod
    def of(numbers: np.ndarray, codes: np.ndarray) -> Points:
        """Rows that miss nothing that the pool does not miss. Shape: (rows, coordinates), (rows, categoricals)."""
        return Points(numbers, codes, np.zeros((len(numbers), 0), dtype=bool))

    def take(self, rows: np.ndarray | slice) -> Points:
        """These rows, in this order."""
        return Points(self.numbers[rows], self.codes[rows], self.extra[rows])


@dataclass(frozen=True, eq=False)
class _Number:
    values: np.ndarray  # the pool's distinct values, ascending
    positions: np.ndarray  # of each its mid-rank, scaled and centred
    can_miss: bool


@dataclass(frozen=True, eq=False)
class _Category:
    levels: pd.Index  # of the pool, the most frequent first
    missing: int  # the code of missing: its place among them by frequency, which a sparse column begins with

    def codes(self, values: pd.Series) -> np.ndarray:
        cells = values.to_numpy()
        found: np.ndarray = self.levels.get_indexer(pd.Index(cells, dtype=cells.dtype)).astype(np.int32)
        found[found >= self.missing] += 1
        found[pd.isna(cells)] = self.missing
        return found


@dataclass(frozen=True, eq=False)
class Space:
    """Where rows of any set have comparable distances; fitted on train and holdout pooled, blind to which is which.

    The squared distance of two rows is the sum over columns of

    - numbers and dates: the squared difference of their mid-ranks in the pool, scaled so that two random rows of a
      column without ties differ by 1 on average. Ranks rather than a clipped interquartile range: they need no rule
      for columns that are mostly zero, an outlier cannot stretch the scale of everybody else, units do not matter,
      and a noisy copy of an extreme row stays next to it, where clipping would lump all extreme rows together;
    - missing against present: 1, and the number counts as the middle rank; both missing: 0;
    - categories, codes and booleans: 1 if they differ, whatever the number of levels; missing is a level.

    Positions lie on a binary grid so fine that all sums are exact in double precision: equal rows have distance zero,
    ties are ties, and no figure depends on the order of rows or columns or on how a matrix product is computed.
    """

    numbers: dict[str, _Number]
    categories: dict[str, _Category]
    grid: float

    @staticmethod
    def fit(pool: pd.DataFrame, numeric: frozenset[str]) -> Space:
        """Learn ranks and levels from the pooled real rows.

        Args:
            pool: canonical columns.
            numeric: those that have an order; the others are categories.

        >>> pool = pd.DataFrame({"age": [30.0, 40.0, 50.0, 60.0], "sex": ["F", "M", "F", "M"]})
        >>> points = Space.fit(pool, frozenset({"age"})).encode(pool)
        >>> squared_distances(points, points)[0].round(3)
        array([0.   , 1.375, 1.5  , 4.375])
        """
        names = sorted(map(str, pool.columns))
        ordered = [name for name in names if name in numeric]
        magnitude = math.ceil(math.log2(6 * len(ordered) + len(names) + 1))
        grid = 2.0 ** -((52 - magnitude) // 2)
        numbers = {name: _fit_number(as_floats(pool[name]), grid) for name in ordered}
        return Space(numbers, {name: _fit_category(pool[name]) for name in names if name not in numeric}, grid)

    def encode(self, rows: pd.DataFrame) -> Points:
        """Place rows of any set in the space."""
        n = len(rows)
        numbers, codes, extra = ([np.zeros((n, 0), dtype=kind)] for kind in (float, np.int32, bool))
        for name, number in self.numbers.items():
            values = as_floats(rows[name])
            absent = np.isnan(values)
            numbers.append(_place(values, absent, number, self.grid)[:, None])
            if number.can_miss:
                numbers.append(absent.astype(float)[:, None])
            else:
                extra.append(absent[:, None])
        codes += [category.codes(rows[name])[:, None] for name, category in self.categories.items()]
        return Points(np.hstack(numbers), np.hstack(codes), np.hstack(extra))

    def part(self, points: Points, names: Collection[str]) -> Points:
        """Rows of this space as somebody sees them who knows some of the columns and no others."""
        numbers = [(name in names, number.can_miss) for name, number in self.numbers.items()]
        kept = (
            [known for known, can_miss in numbers for _ in range(1 + can_miss)],
            [name in names for name in self.categories],
            [known for known, can_miss in numbers if not can_miss],
        )
        whole = (points.numbers, points.codes, points.extra)
        return Points(*(np.compress(some, each, axis=1) for some, each in zip(kept, whole, strict=True)))


def squared_distances(queries: Points, pool: Points) -> np.ndarray:
    """All squared distances, column by column: for small sets, and as the definition the fast search is tested by.

    Shape:
        -> (queries, pool)
    """
    total = np.repeat(queries.extra.sum(axis=1, keepdims=True, dtype=float), len(pool), axis=1)
    for x, y in zip(queries.numbers.T, pool.numbers.T, strict=True):
        total += (x[:, None] - y[None, :]) ** 2
    for x, y in zip(queries.codes.T, pool.codes.T, strict=True):
        total += (x[:, None] != y[None, :]) | (x[:, None] < 0)
    return total


def stacked(first: Points, second: Points) -> Points:
    """The rows of both, one after the other."""
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("numbers", "codes", "extra"))
    return Points(*(np.concatenate(pair) for pair in pairs))


def hashes(points: Points) -> np.ndarray:
    """64 bits per row from its contents. Shape: -> (rows,) uint64."""
    mixed = np.zeros(len(points), dtype=np.uint64)
    columns = [column.view(np.uint64) for column in np.ascontiguousarray(points.numbers.T)]
    columns += [column.astype(np.int64).view(np.uint64) for column in points.codes.T]
    for column in columns:  # the finaliser of SplitMix64, doi:10.1145/2714064.2660195, chained over the columns
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def as_floats(values: pd.Series) -> np.ndarray:
    """Numbers, or dates as nanoseconds; NaN where missing."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        numbers = values.to_numpy().astype("datetime64[ns]").astype(np.int64).astype(float)
        numbers[values.isna().to_numpy()] = np.nan
        return numbers
    return values.to_numpy(dtype=float)


def _fit_number(values: np.ndarray, grid: float) -> _Number:
    present = values[~np.isnan(values)]
    distinct, counts = np.unique(present, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / max(1, len(present))
    return _Number(distinct, _on_grid(_SCALE * (ranks - 0.5), grid), can_miss=len(present) < len(values))


def _on_grid(positions: np.ndarray, grid: float) -> np.ndarray:
    return np.round(positions / grid) * grid + 0.0  # + 0.0: no negative zero, which would hash apart from zero


def _place(values: np.ndarray, absent: np.ndarray, number: _Number, grid: float) -> np.ndarray:
    if not len(number.values):
        return np.zeros(len(values))
    position = _on_grid(np.interp(values, number.values, number.positions), grid)
    return np.where(absent, 0.0, position)


def _fit_category(values: pd.Series) -> _Category:
    counts = values.value_counts(sort=False)
    many, texts = counts.to_numpy(), [str(level) for level in counts.index]
    levels = pd.Index(counts.index[sorted(range(len(many)), key=lambda i: (-many[i], texts[i]))])
    return _Category(levels, missing=int((many >= max(1, len(values) - many.sum())).sum()))

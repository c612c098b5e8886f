"""Which two patients does each synthetic row come closest to? Exact search in bounded memory, shared by all checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.privacy.space import Points, Space, hashes, stacked
from synthgen.protocols import Evidence
from synthgen.rng import Seed

_PAIRS = 2.5e10  # of rows that a search compares: five minutes on two cores
_ATTACK_PAIRS = 1e10  # of attacked and synthetic rows that an attack compares
_FEWEST = 2_000  # rows that are searched for however large the pool
_COLUMNS_PER_CATEGORY = 32  # levels with a coordinate of their own; rarer ones are compared pair by pair
_OFTEN = 1 / 16  # of weighted levels, the share of the pool from which on one has a coordinate of its own
_BLOCK_CELLS = 2**21  # of a block of distances: 16 MB, which stays in the cache
_CHUNK_CELLS = 2**23  # of the expanded part of the pool: 64 MB
_CHUNK_ROWS = 2**13  # of that part; four times as many where lists of levels are walked, which pays in long parts


@dataclass(frozen=True, eq=False)
class Neighbors:
    """For each searched row its nearest row of the pool, and how far the nearest row of any other patient is.

    Shape:
        nearest (rows,) int, first (rows,), second (rows,) float; is_train (pool,) bool, patients (pool,) int.
    """

    nearest: np.ndarray
    first: np.ndarray
    second: np.ndarray
    is_train: np.ndarray
    patients: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """Distance to the nearest over distance to the second nearest patient; 0/0 counts as 0. Shape: (rows,)."""
        return np.divide(self.first, self.second, out=np.zeros(len(self.first)), where=self.first > 0)


@dataclass(frozen=True, eq=False)
class Sets:
    """The three sets in one space, with patients numbered across train and holdout."""

    train: Points
    holdout: Points
    synthetic: Points
    train_patients: np.ndarray
    holdout_patients: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """Of the pool's rows, train first. Shape: (train rows + holdout rows,)."""
        return np.concatenate([self.train_patients, self.holdout_patients])

    def pool(self) -> Pool:
        """Train and holdout, to be searched."""
        return Pool.of(self.train, self.holdout, self.patients)


def shared_columns(evidence: Evidence) -> list[str]:
    """The learned columns that all three tables have, by name.

    Raises:
        NotAssessable: there are none.
    """
    tables = (evidence.train.learned, evidence.holdout.learned, evidence.synthetic.table)
    names = sorted(set.intersection(*(set(table.columns) for table in tables)))
    if not names:
        raise NotAssessable("train, holdout and synthetic have no learned column in common")
    return names


def space_of(evidence: Evidence) -> Space:
    """The space of this audit: that of the columns in common, fitted once on train and holdout.

    Raises:
        NotAssessable: the tables have no learned column in common.
    """

    def fitted() -> Space:
        names = shared_columns(evidence)
        real = pd.concat([data.table[names] for data in (evidence.train, evidence.holdout)], ignore_index=True)
        return Space.fit(real, evidence.train.schema.ordered)

    return evidence.once("space", fitted)


def placed(evidence: Evidence) -> Sets:
    """The three sets in the space of this audit, made once.

    Raises:
        NotAssessable: the tables have no learned column in common, or one of them has no rows.
    """

    def place() -> Sets:
        for name in ("train", "holdout", "synthetic"):
            if not len(getattr(evidence, name)):
                raise NotAssessable(f"the {name} table has no rows")
        encode, owners = space_of(evidence).encode, pooled_patients(evidence.train, evidence.holdout)
        train, holdout, synthetic = evidence.train.table, evidence.holdout.table, evidence.synthetic.table
        return Sets(encode(train), encode(holdout), encode(synthetic), *owners)

    return evidence.once("placed", place)


def neighbors(evidence: Evidence) -> Neighbors:
    """The pooled nearest neighbours of the synthetic rows, searched once per audit.

    Where that would compare more than 2.5e10 pairs of rows, a random sample of the synthetic rows is searched for,
    always against the whole pool.

    Raises:
        NotAssessable: as for `placed`.
    """
    return evidence.once("neighbors", lambda: _neighbors(evidence))


def searched_rows(evidence: Evidence, *, pairs: float = _PAIRS, most: int | None = None) -> np.ndarray:
    """Which synthetic rows are searched for, ascending: all, or a random sample of very many.

    Args:
        evidence: the tables.
        pairs: of synthetic and pooled rows that may be compared.
        most: rows; None: as many as there are.

    >>> from synthgen.evidence import gathered
    >>> from synthgen.testing import invented_cohort
    >>> train, holdout = invented_cohort(200, seed=1).split_by_patient(seed=1)
    >>> evidence = gathered(train, holdout, train)
    >>> len(searched_rows(evidence)), len(searched_rows(evidence, most=50))
    (140, 50)
    """
    rows, pool = len(evidence.synthetic), len(evidence.train) + len(evidence.holdout)
    wanted = min(most or rows, max(_FEWEST, int(pairs / pool)))
    if rows <= wanted:
        return np.arange(rows)
    return np.sort(Seed(0).child("neighbors", "sample").numpy().choice(rows, wanted, replace=False))


def attackable(most: int, rows: int) -> int:
    """How many rows are attacked: at most so many, and fewer where the search among the synthetic rows would be long.

    >>> attackable(30_000, 100_000), attackable(30_000, 1_000_000)
    (30000, 10000)
    """
    return min(most, max(_FEWEST, int(_ATTACK_PAIRS / rows)))


@dataclass(frozen=True, eq=False)
class Pool:
    """Train and holdout rows to search in, in the order in which ties go.

    Shape:
        order (pool,): row numbers, train first; owners (pool,): patients in that order; is_train, patients (pool,): of
        the rows as they come
    """

    points: Points
    order: np.ndarray
    owners: np.ndarray
    is_train: np.ndarray
    patients: np.ndarray

    @staticmethod
    def of(train: Points, holdout: Points, patients: np.ndarray) -> Pool:
        """Ties go to the row that comes first in a random order that knows neither labels nor the order of the files.

        Args:
            train: rows of the pool, as the holdout's.
            holdout: the others.
            patients: dense numbers, train first.
        """
        points = stacked(train, holdout)
        is_train = np.arange(len(points)) < len(train)
        order = tie_order(points, is_train, patients)
        return Pool(points.take(order), order, patients[order], is_train, patients)

    def search(self, queries: Points, *, weights: Sequence[np.ndarray] | None = None) -> Neighbors:
        """The nearest row of each query, and the nearest of another patient; weights as for `nearest`."""
        if len(np.unique(self.patients)) == len(self.patients):
            index, distance = nearest(queries, self.points, 2, weights=weights)
            first, second = distance.T
        else:
            index, distance = nearest(queries, self.points, 1, weights=weights)
            apart = (self.owners[index[:, 0]], self.owners)
            first, second = distance[:, 0], nearest(queries, self.points, 1, apart=apart, weights=weights)[1][:, 0]
        return Neighbors(self.order[index[:, 0]], first, second, self.is_train, self.patients)


def nearest(
    queries: Points,
    pool: Points,
    k: int,
    *,
    apart: tuple[np.ndarray, np.ndarray] | None = None,
    weights: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest pool rows of each query, nearest first, and their distances: exact, in blocks.

    Ties go to the earlier pool row. Memory is that of one block, whatever the sizes; about 2e8 pairs per second and
    core. Where the pool has fewer than k rows the rest is at infinity.

    Args:
        queries: rows to search for.
        pool: rows to search in.
        k: how many neighbours.
        apart: groups of queries and of pool rows; rows of one group are no neighbours.
        weights: for each column of codes, what agreement on each of the pool's levels takes off the squared distance,
            and what disagreement adds is the largest of them; None: 1 for all.

    Shape:
        -> (queries, k) int, (queries, k) float
    """
    known = [np.ones(codes.max(initial=0) + 1) for codes in pool.codes.T] if weights is None else weights
    few = _COLUMNS_PER_CATEGORY
    most = [min(few, len(w)) for w in known] if weights is None else [_often(codes) for codes in pool.codes.T]
    best = np.full((len(queries), k), np.inf)
    where = np.zeros((len(queries), k), dtype=np.int64)
    for start, part in _chunks(pool, sum(most), _CHUNK_ROWS if weights is None else 4 * _CHUNK_ROWS):
        widths = np.minimum(part.codes.max(axis=0) + 1, np.array(most, dtype=int))
        right = _expanded(part, widths)
        lists = [_by_code(codes) for codes in part.codes.T]
        groups = _by_code(apart[1][start : start + len(part)]) if apart else None
        step = max(16, _BLOCK_CELLS // len(part))
        for low in range(0, len(queries), step):
            block = queries.take(slice(low, low + step))
            scores = _query_side(block, widths, known) @ right
            for codes, listed, limit, weight in zip(block.codes.T, lists, most, known, strict=True):
                rare = np.flatnonzero((codes >= limit) & (codes < len(weight)))
                _add_where_equal(scores, rare, codes[rare], listed, -weight[codes[rare]])
            if apart is not None and groups is not None:
                own = apart[0][low : low + step]
                _add_where_equal(scores, np.arange(len(block)), own, groups, np.full(len(block), np.inf))
            _keep_best(scores, start, best[low : low + step], where[low : low + step])
    offset = (queries.numbers**2).sum(axis=1) + queries.extra.sum(axis=1) + sum(float(weight.max()) for weight in known)
    return where, np.sqrt(best + offset[:, None])


def pooled_patients(train: TableData, holdout: TableData) -> tuple[np.ndarray, np.ndarray]:
    """Patient numbers of train and holdout rows, dense from 0 across both.

    Shape:
        -> (train rows,), (holdout rows,)
    """
    return train.patients, holdout.patients + train.patient_count


def _neighbors(evidence: Evidence) -> Neighbors:
    sets = placed(evidence)
    return sets.pool().search(sets.synthetic.take(searched_rows(evidence)))


def tie_order(pool: Points, is_train: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """A random order of the pool rows that depends on their contents alone, not on the order of the files.

    Rows are first sorted by contents; equal rows by label and by what else their patient has, so that equal files in
    another order give the same sequence. The permutation that follows is uniform and knows none of this: among equal
    rows either label is as likely to come first as its share.
    """
    contents = hashes(pool)
    canonical = np.lexsort((_of_patients(contents, patients), is_train, contents))
    return canonical[Seed(0).child("neighbors", "ties").numpy().permutation(len(pool))]


def content_order(points: Points, patients: np.ndarray) -> np.ndarray:
    """An order of one set's rows that owes nothing to the order of its file: equal files, equal sequences.

    Rows are sorted by their contents, and equal ones by what else their patient has.

    Shape:
        patients (rows,): dense numbers -> (rows,)
    """
    contents = hashes(points)
    return np.lexsort((_of_patients(contents, patients), contents))


def _of_patients(contents: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """For each row a number made of all that its patient has."""
    whole = np.zeros(patients.max() + 1, dtype=np.uint64)
    np.add.at(whole, patients, contents)
    found: np.ndarray = whole[patients]
    return found


def _chunks(pool: Points, coordinates: int, most: int) -> Iterator[tuple[int, Points]]:
    width = pool.numbers.shape[1] + 1 + coordinates
    size = max(64, min(most, _CHUNK_CELLS // width))
    for start in range(0, len(pool), size):
        yield start, pool.take(slice(start, start + size))


def _expanded(part: Points, widths: np.ndarray) -> np.ndarray:
    """Pool rows as columns of the matrix product: numbers, their squared length, one coordinate per frequent level.

    Shape:
        -> (coordinates, rows)
    """
    lengths = (part.numbers**2).sum(axis=1) + part.extra.sum(axis=1)
    return np.vstack([part.numbers.T, lengths[None, :], *_one_hot(part.codes, widths)])


def _often(codes: np.ndarray) -> int:
    """How many of a column's first levels each have so many rows that a coordinate is cheaper than a list."""
    share = np.bincount(codes[codes >= 0], minlength=1) / len(codes)
    return int(min((share >= _OFTEN).cumprod().sum(), _COLUMNS_PER_CATEGORY))


def _query_side(block: Points, widths: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Queries so that the product with `_expanded` is the squared distance up to a constant of the query."""
    known = zip(_one_hot(block.codes, widths), widths, weights, strict=True)
    hot = [-weight[:width, None] * level for level, width, weight in known]
    return np.ascontiguousarray(np.vstack([-2 * block.numbers.T, np.ones((1, len(block))), *hot]).T)


def _one_hot(codes: np.ndarray, widths: np.ndarray) -> list[np.ndarray]:
    return [
        (column[None, :] == np.arange(width)[:, None]).astype(float)
        for column, width in zip(codes.T, widths, strict=True)
    ]


def _by_code(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of their codes, and the codes in that order."""
    order = np.argsort(codes, kind="stable")
    return order, codes[order]


def _add_where_equal(
    scores: np.ndarray, rows: np.ndarray, codes: np.ndarray, listed: tuple[np.ndarray, np.ndarray], amounts: np.ndarray
) -> None:
    """Add to the cells whose query (in `rows`, with `codes`) and pool row have the same code; one amount per query."""
    if not len(rows):
        return
    order, sorted_codes = listed
    low, high = np.searchsorted(sorted_codes, codes, side="left"), np.searchsorted(sorted_codes, codes, side="right")
    for row, start, stop, amount in zip(rows.tolist(), low.tolist(), high.tolist(), amounts.tolist(), strict=True):
        if start < stop:
            scores[row][order[start:stop]] += amount


def _keep_best(scores: np.ndarray, start: int, best: np.ndarray, where: np.ndarray) -> None:
    """Merge a block's smallest scores into the best so far, in place; at ties the earlier rows stay."""
    better = np.flatnonzero(scores.min(axis=1) < best[:, -1])
    if not len(better):
        return
    rest, rows = scores[better], np.arange(len(better))
    values, places = [best[better]], [where[better]]
    for _ in range(min(best.shape[1], scores.shape[1])):
        at = rest.argmin(axis=1)
        values.append(rest[rows, at][:, None])
        places.append(at[:, None] + start)
        rest[rows, at] = np.inf
    merged = np.hstack(values)
    order = np.argsort(merged, axis=1, kind="stable")[:, : best.shape[1]]
    best[better] = np.take_along_axis(merged, order, axis=1)
    where[better] = np.take_along_axis(np.hstack(places), order, axis=1)

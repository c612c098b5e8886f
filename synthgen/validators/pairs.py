"""How are two columns related? Rank correlations, contingency tables and mutual information of all pairs at once.

Everything is a matrix product over rows, so that a bootstrap with row weights costs little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.findings import PairMap
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.validators.encoding import Bins, numbers, ordered

WHOLE = 64  # up to so many columns, every pair is looked at
MAPPED = 24  # columns of a picture of pairs
BLOCK = 32  # beyond, columns are dealt into groups of this size, and pairs within a group are looked at


def choose_blocks(count: int, seed: Seed) -> list[np.ndarray]:
    """Groups of columns within which every pair is compared; each column is in one.

    >>> [len(block) for block in choose_blocks(100, Seed(1))]
    [25, 25, 25, 25]
    """
    if count <= WHOLE:
        return [np.arange(count)]
    return [np.sort(block) for block in np.array_split(seed.numpy().permutation(count), -(-count // BLOCK))]


def mapped(names: Sequence[str], blocks: Sequence[np.ndarray], made: np.ndarray, real: np.ndarray) -> PairMap:
    """The differences of every pair of the worst columns; of several groups of columns, of the one with the worst pair.

    Shape: made, real (pairs,): group by group, as `PairTables.errors` gives them

    >>> found = mapped(["a", "b", "c"], [np.arange(3)], np.array([0.1, 0.2, 0.3]), np.zeros(3))
    >>> found.names, found.of("c", "b")
    (('a', 'b', 'c'), (0.3, 0.0))
    """
    sizes = [len(block) * (len(block) - 1) // 2 for block in blocks]
    starts = np.cumsum(sizes) - sizes
    worst = int(np.searchsorted(np.cumsum(sizes), int(np.argmax(made)), side="right"))
    block, start = blocks[worst], starts[worst]
    rows, columns = np.triu_indices(len(block), k=1)
    both = [np.zeros((len(block), len(block))) for _ in range(2)]
    for whole, part in zip(both, (made, real), strict=True):
        whole[rows, columns] = whole[columns, rows] = part[start : start + sizes[worst]]
    kept = np.sort(np.argsort(-both[0].max(axis=1), kind="stable")[:MAPPED])
    pairs = [(i, j) for i in range(len(kept)) for j in range(i + 1, len(kept))]
    return PairMap(
        tuple(names[block[place]] for place in kept),
        tuple((i, j, *(round(float(whole[kept[i], kept[j]]), 4) for whole in both)) for i, j in pairs),  # type: ignore[misc]
    )


@dataclass(frozen=True)
class PairSummary:
    """How the columns of one table hang together."""

    correlation: np.ndarray  # (columns, columns) Spearman; 0 where a column is not ordered or does not vary
    joint: np.ndarray  # (groups, groups) shares of rows that are in two groups of two columns
    information: np.ndarray  # (columns, columns) mutual information as a share of the smaller entropy


@dataclass(frozen=True)
class PairTables:
    """One table coded for comparisons of pairs, with groups and ranks learned from another."""

    groups: np.ndarray  # (rows, groups) float32, one 1 in each column's stretch
    starts: np.ndarray  # (columns,) where each column's stretch begins
    scores: np.ndarray  # (rows, columns) float32 mid-ranks from -1/2 to 1/2; 0 where missing
    present: np.ndarray  # (rows, columns) float32
    ordered: np.ndarray  # (columns,) bool

    @staticmethod
    def of(table: pd.DataFrame, columns: Sequence[Column], reference: pd.DataFrame, *, count: int = 5) -> PairTables:
        """Code a table with quantile groups and ranks of the reference.

        >>> table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [40.0, 30.0, 20.0, 10.0]})
        >>> columns = [Column("a", "real"), Column("b", "real")]
        >>> float(PairTables.of(table, columns, table).at(np.ones(4)).correlation[0, 1].round(6))
        -1.0
        """
        hot, sizes = [], []
        for column in columns:
            bins = Bins.of(column, reference, count=count)
            hot.append((bins.codes(table)[:, None] == np.arange(bins.size)).astype(np.float32))
            sizes.append(bins.size)
        line = np.array([ordered(column) for column in columns])
        scores = np.zeros((len(table), len(columns)), dtype=np.float32)
        present = np.zeros_like(scores)
        for place, column in enumerate(columns):
            if not ordered(column):
                continue
            found, known = numbers(table[column.name]), numbers(reference[column.name])
            known, here = np.sort(known[~np.isnan(known)]), ~np.isnan(found)
            ranks = np.searchsorted(known, found, "left") + np.searchsorted(known, found, "right")
            scores[:, place] = np.where(here, ranks / max(2 * len(known), 1) - 0.5, 0.0)
            present[:, place] = here
        return PairTables(np.concatenate(hot, axis=1), np.cumsum(sizes) - sizes, scores, present, line)

    def at(self, weights: np.ndarray) -> PairSummary:
        """Summarise the rows with these weights. Shape: weights (rows,)."""
        w = (weights / weights.sum()).astype(np.float32)[:, None]
        joint = ((self.groups * w).T @ self.groups).astype(float)
        return PairSummary(self._correlation(w), joint, self._information(joint))

    def errors(self, one: PairSummary, other: PairSummary) -> np.ndarray:
        """For each pair the difference of the relation, then of the information. Shape: -> (2, pairs), each 0 to 1.

        Between ordered columns it is half the difference of rank correlations; else the total variation distance of
        the contingency tables, in which missing values are a level.
        """
        variation = self._by_pair(np.abs(one.joint - other.joint)) / 2
        turned = np.abs(one.correlation - other.correlation) / 2
        both = self.ordered[:, None] & self.ordered[None, :]
        upper = np.triu_indices(len(self.starts), k=1)
        relation, information = np.where(both, turned, variation), np.abs(one.information - other.information)
        return np.stack([relation[upper], information[upper]])

    def _correlation(self, w: np.ndarray) -> np.ndarray:
        """Weighted correlation of scores over the rows in which both are present."""
        weighted = self.scores * w
        rows = np.maximum((self.present * w).T @ self.present, 1e-12)
        mean = weighted.T @ self.present / rows  # [i, j]: mean of i where j is present too
        spread = np.sqrt(np.maximum((weighted * self.scores).T @ self.present / rows - mean**2, 0.0))
        scale = spread * spread.T
        covariance = weighted.T @ self.scores / rows - mean * mean.T
        steady = scale < 1e-6  # a column that hardly varies is related to nothing
        return np.where(steady, 0.0, np.clip(covariance / np.where(steady, 1.0, scale), -1, 1))

    def _information(self, joint: np.ndarray) -> np.ndarray:
        entropy = self._by_pair(-joint * np.log(np.where(joint > 0, joint, 1.0)))
        own = np.diag(entropy)
        least = np.minimum(own[:, None], own[None, :])
        shared = own[:, None] + own[None, :] - entropy
        return np.where(least > 1e-3, np.clip(shared / np.maximum(least, 1e-3), 0.0, 1.0), 0.0)  # constant: nothing

    def _by_pair(self, cells: np.ndarray) -> np.ndarray:
        """Sums over the cells of each pair of columns. Shape: (groups, groups) -> (columns, columns)."""
        return np.add.reduceat(np.add.reduceat(cells, self.starts, axis=0), self.starts, axis=1)

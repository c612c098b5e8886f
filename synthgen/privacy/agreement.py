"""How telling is it that two rows agree, on whichever columns they do? Agreement weights of record linkage.

A copy of a part of a record is close to its source on the copied columns and anywhere on the others, so no distance
over all columns finds it, and nobody knows which part was copied. Record linkage counts instead where two rows agree:
agreement on a level that a share p of the real rows have adds log2(1/p) bits, disagreement adds nothing (the weights
of Fellegi and Sunter 1969, doi:10.1080/01621459.1969.10501049, with records that are right wherever they agree).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthgen.privacy.neighbors import Neighbors, Sets, pooled_patients
from synthgen.privacy.precision import at_precision
from synthgen.privacy.space import Points
from synthgen.protocols import Evidence

_BINS = 64  # of a number's ranks: agreement on the bin counts where the values differ
_GRID = 16  # weights are multiples of one sixteenth of a bit, so that sums are exact and ties are ties
Coded = tuple[np.ndarray, np.ndarray]  # codes of real and synthetic rows one after the other, bits of each level


def agreements(evidence: Evidence, names: list[str]) -> tuple[Sets, list[np.ndarray]]:
    """The three sets as levels of columns, and the bits that agreement on each level is worth.

    A number with many values is two columns: agreement on its bin of ranks, and what agreement on the value adds.
    """
    sets = (evidence.train, evidence.holdout, evidence.synthetic)
    ends = np.cumsum([len(data) for data in sets])
    columns: list[Coded] = []
    for name in sorted(names):
        values = pd.concat([data.table[name] for data in sets], ignore_index=True)
        columns += _coded(at_precision(values, evidence.train.schema[name]), int(ends[1]))
    codes = np.stack([code for code, _ in columns], axis=1).astype(np.int32)
    parts = [Points.of(np.zeros((len(part), 0)), part) for part in np.split(codes, ends[:-1])]
    placed = Sets(parts[0], parts[1], parts[2], *pooled_patients(evidence.train, evidence.holdout))
    return placed, [bits for _, bits in columns]


def most_agreeing(queries: Points, sets: Sets, weights: list[np.ndarray]) -> Neighbors:
    """For each query the real row with most bits of agreement.

    Its `ratio` is two to the minus half the bits by which it is ahead of any other patient: bits add up as squared
    distances do, and chance puts every tenth row four bits ahead.

    >>> train, holdout = (Points.of(np.zeros((1, 0)), np.array([[code]], np.int32)) for code in (0, 1))
    >>> sets = Sets(train, holdout, train, np.array([0]), np.array([1]))
    >>> most_agreeing(train, sets, [np.array([1.0, 1.0])]).ratio
    array([0.70710678])
    """
    found = sets.pool().search(queries, weights=weights)
    ahead = np.round(_GRID * (found.second**2 - found.first**2)) / _GRID
    return Neighbors(found.nearest, 2.0 ** (-ahead / 2), np.ones(len(ahead)), found.is_train, found.patients)


def _coded(values: pd.Series, real: int) -> list[Coded]:
    codes, bits = _levels(pd.factorize(values, sort=True)[0], real)
    if len(bits) <= _BINS or values.dtype == object:
        return [(codes, _on_grid(bits))]
    binned, of_bin = _levels(_bins(values, real), real)
    known = np.zeros(len(bits))
    known[codes[:real]] = of_bin[binned[:real]]
    return [(binned, _on_grid(of_bin)), (codes, _on_grid(np.maximum(bits - known, 0)))]


def _levels(found: np.ndarray, real: int) -> Coded:
    """Levels numbered from the most frequent among the real rows; -1 is one that they lack; missing is a level."""
    found = np.where(found < 0, found.max(initial=-1) + 1, found)
    counts = np.bincount(found[:real], minlength=int(found.max()) + 1)
    order = np.argsort(-counts, kind="stable")
    number = np.empty(len(counts), dtype=np.int64)
    number[order] = np.where(counts[order] > 0, np.arange(len(counts)), -1)
    return number[found], -np.log2(counts[order][counts[order] > 0] / real)


def _bins(values: pd.Series, real: int) -> np.ndarray:
    """The bin of each value's mid-rank among the real rows; -1 where missing."""
    numbers = values.rank(method="dense").to_numpy(dtype=float)  # any order-preserving numbers do; dates too
    present = numbers[:real][~np.isnan(numbers[:real])]
    distinct, counts = np.unique(present, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(present)
    at = np.interp(np.nan_to_num(numbers), distinct, ranks)
    found: np.ndarray = np.where(np.isnan(numbers), -1, np.minimum(at * _BINS, _BINS - 1).astype(int))
    return found


def _on_grid(bits: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.round(bits * _GRID) / _GRID
    return rounded

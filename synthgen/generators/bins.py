"""Where is a column of numbers cut into bins, and what lies inside them? Quantile bins, sub-bins and their pieces."""

from __future__ import annotations

import numpy as np

BINS, SUB_BINS = 64, 32
ROWS_PER_BIN, ROWS_PER_SUB_BIN = 60, 16  # small tables get fewer bins: a network would learn them by heart
FEWEST_SUB_BINS = 8  # a bin that has rows for fewer is not divided
ROWS_PER_PIECE = 12  # of the shape inside a bin, which is drawn and never learned from other columns
_FIELDS = ("edges", "first", "shares", "piece_bin", "piece_low", "piece_high", "piece_share")
WHOLE = ("first", "piece_bin")  # of the fields, those that hold whole numbers


def _cuts(ordered: np.ndarray, parts: int) -> np.ndarray:
    """Values midway between neighbours that cut an ascending sample into about equal parts; no tie is cut.

    Shape: (rows,) -> (at most parts - 1,) ascending.
    """
    starts = np.unique(ordered[(np.arange(1, parts) * len(ordered)) // parts])
    starts = starts[starts > ordered[0]] if len(ordered) else starts
    before = ordered[np.searchsorted(ordered, starts, side="left") - 1]
    return before / 2 + starts / 2


def fit_bins(x: np.ndarray, kept: np.ndarray, outer: tuple[float, float], rows: int) -> dict[str, np.ndarray]:
    """Edges, bins, shares and pieces of the values that are no spikes (see the fields of `NumberColumn`)."""
    if not len(x):
        return {name: np.zeros(0, dtype=np.int64 if name in WHOLE else float) for name in _FIELDS}
    ordered = np.sort(x)
    coarse = _cuts(ordered, int(np.clip(len(x) // ROWS_PER_BIN, 1, BINS)))
    parts, first = [np.array([outer[0]])], []
    for part in np.split(ordered, np.searchsorted(ordered, coarse)):
        first.append(sum(map(len, parts)) - 1)
        wanted = min(len(part) // ROWS_PER_SUB_BIN, SUB_BINS)
        inner = _cuts(part, wanted if wanted >= FEWEST_SUB_BINS else 1)
        parts += [inner, coarse[len(first) - 1 : len(first)]]
    edges = np.concatenate([*parts, [outer[1]]])
    sub = np.searchsorted(edges[1:-1], ordered, side="right")
    shares = np.round(np.bincount(sub, minlength=len(edges) - 1) / rows, 6)
    return {"edges": edges, "first": np.array(first), "shares": shares, **_pieces(ordered, sub, kept, edges)}


def _pieces(ordered: np.ndarray, sub: np.ndarray, kept: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Heaped values and the uniform rest of each sub-bin, with their shares of it."""
    heaped = np.isin(ordered, kept)
    values, start, count = np.unique(ordered[heaped], return_index=True, return_counts=True)
    rest = ordered[~heaped]
    ends = np.union1d(edges, _cuts(rest, len(rest) // ROWS_PER_PIECE))
    loose = np.bincount(np.searchsorted(ends[1:-1], rest, side="right"), minlength=len(ends) - 1)
    spread = np.flatnonzero(loose)
    bin_ = np.concatenate([sub[heaped][start], np.searchsorted(edges[1:-1], ends[spread], side="right")])
    low, high = np.concatenate([values, ends[spread]]), np.concatenate([values, ends[spread + 1]])
    mass = np.concatenate([count, loose[spread]])
    share = np.round(mass / np.bincount(bin_, weights=mass)[bin_], 6)
    order = np.lexsort((low, bin_))
    names = ("piece_bin", "piece_low", "piece_high", "piece_share")
    return dict(zip(names, (column[order] for column in (bin_, low, high, share)), strict=True))

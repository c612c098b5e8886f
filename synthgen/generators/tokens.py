"""How does one table column become tokens and back, without learning a rare level or a true extreme?

Token 0 is always "missing". A column of levels or codes has one token (see `levels`). A numeric column has a coarse
token (spikes, then quantile bins) and, where its bins are divided, a fine token (0: none, then sub-bins).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from synthgen.generators.bins import BINS, WHOLE, fit_bins
from synthgen.generators.levels import MISSING, RARE, Folded, LevelColumn, patients_in, patients_per
from synthgen.rng import Seed

HIDDEN = -1  # in token arrays: not known
FEW = 64  # a number with at most so many values has one token per value


def threshold(seed: Seed, name: str) -> int:
    """The number of patients that a level of this column needs: drawn, so that nobody knows it exactly.

    >>> threshold(Seed(1), "sex") in (5, 6, 7)
    True
    """
    return int(seed.child("k", name).numpy().integers(5, 8))


@dataclass(frozen=True, eq=False)
class NumberColumn:
    """A column of numbers: missing, spikes (single values of much mass) and quantile bins with sub-bins.

    A sub-bin is decoded into the values heaped in it (those of at least k patients) and a uniform rest between its
    edges, rounded to the column's precision. The bounds lie between the k-th extreme patient and the next.

    >>> values = np.array([0.0] * 50 + [1.0] * 30 + [99.0])
    >>> column = NumberColumn.fit("visits", values, np.arange(81), k=5, decimals=0)
    >>> column.spikes.tolist(), column.high, column.encode(values)[-1].tolist()
    ([0.0, 1.0], 1.0, [2])
    """

    name: str
    decimals: int | None
    low: float
    high: float
    has_missing: bool
    spikes: np.ndarray  # (spikes,) ascending
    spike_shares: np.ndarray  # (spikes,) of the rows with a value
    edges: np.ndarray  # (sub-bins of all bins + 1,) ascending; empty when there are no bins
    first: np.ndarray  # (bins,) the number of each bin's first sub-bin
    shares: np.ndarray  # (sub-bins of all bins,) of the rows with a value
    piece_bin: np.ndarray  # (pieces,) sub-bin of each piece, ascending
    piece_low: np.ndarray  # (pieces,) equal to piece_high for a heaped value
    piece_high: np.ndarray
    piece_share: np.ndarray  # (pieces,) of the rows of its sub-bin
    folded: Folded
    ties: tuple[str, ...] = ()  # columns before this one that it often equals: one token each, between spikes and bins
    apart: tuple[float, ...] = ()  # values that no bin gives

    @classmethod
    def fit(
        cls,
        name: str,
        values: np.ndarray,
        patients: np.ndarray,
        *,
        k: int,
        decimals: int | None,
        tokens: Literal["mixed", "values"] = "mixed",
        apart: tuple[float, ...] = (),
    ) -> Self:
        """Learn spikes, bins and heaped values.

        Args:
            name: of the column.
            values: NaN is missing. Shape: (rows,) float.
            patients: Shape: (rows,) int.
            k: patients that a value needs to be learned.
            decimals: digits after the point.
            tokens: with "values" there are no bins, but one token for each kept value.
            apart: values that no bin may give, since rules speak of them; those that are kept are spikes.
        """
        known = ~np.isnan(values)
        has_missing, x, patients = bool((~known).any()), values[known], patients[known]
        if patients_in(patients) < k:
            nothing = np.zeros(0)
            folded, bins = Folded(k, 0, len(x)), fit_bins(nothing, nothing, (0.0, 0.0), 0)
            learned = {"spikes": nothing, "spike_shares": nothing, **bins}
            return cls(name, decimals, 0.0, 0.0, True, folded=folded, ties=(), apart=apart, **learned)
        low, high = outermost(x, patients, k)
        if decimals is not None:
            low, high = round(low, decimals), round(high, decimals)
        clipped = np.clip(x, low, high)
        distinct, group = np.unique(clipped, return_inverse=True)
        own = (clipped == x) | (low == high)  # of a column that is left one value all patients have it
        support = patients_per(group[own], patients[own], len(distinct))
        rows, kept = np.bincount(group), support >= k
        spiky = kept if len(distinct) <= FEW or tokens == "values" else kept & (rows >= len(x) / BINS)
        spiky |= kept & np.isin(distinct, apart)
        rest = ~spiky[group]
        if spiky.any() and (tokens == "values" or patients_in(patients[rest]) < k):
            moved = clipped.copy()
            moved[rest] = _nearest(distinct[spiky], clipped[rest])
            clipped, rest = moved, np.zeros(len(x), dtype=bool)
        spikes = distinct[spiky]
        spike_rows = np.bincount(np.searchsorted(spikes, clipped[~rest]), minlength=len(spikes))
        margin = 0.5 * 10.0**-decimals if decimals is not None else 0.0
        inner = _folded_back(x[rest], low, high)
        bins = fit_bins(inner, distinct[kept], (low - margin, high + margin), len(x))
        folded = Folded(k, 0, int((clipped != x).sum()))
        shares = np.round(spike_rows / len(x), 6)
        learned = {"spikes": spikes, "spike_shares": shares, **bins}
        return cls(name, decimals, low, high, has_missing, folded=folded, ties=(), apart=apart, **learned)

    @property
    def bins(self) -> int:
        """Number of quantile bins."""
        return len(self.first)

    @property
    def first_tie(self) -> int:
        """The first coarse token that means "as another column"; the spikes come before."""
        return 1 + len(self.spikes)

    @property
    def first_bin(self) -> int:
        """The first coarse token that is a bin."""
        return self.first_tie + len(self.ties)

    @cached_property
    def sub_bins(self) -> np.ndarray:
        """Number of sub-bins of each bin. Shape: (bins,)."""
        return np.diff(self.first, append=len(self.shares))

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """Sizes of this column's tokens: the coarse one, and the fine one if any bin is divided."""
        coarse, finest = self.first_bin + self.bins, int(self.sub_bins.max(initial=1))
        return (coarse,) if finest == 1 else (coarse, 1 + finest)

    @property
    def fine_counts(self) -> np.ndarray:
        """For each coarse token, how many values its fine token may take beside 0, none. Shape: (coarse,)."""
        bins = self.sub_bins if len(self.vocabulary) == 2 else np.zeros(self.bins, dtype=np.int64)
        return np.concatenate([np.zeros(self.first_bin, dtype=np.int64), bins])

    @property
    def emittable(self) -> np.ndarray:
        """Which coarse tokens a sampler may emit. Shape: (coarse,) boolean."""
        allowed = np.ones(self.vocabulary[0], dtype=bool)
        allowed[MISSING] = self.has_missing or len(allowed) == 1
        return allowed

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Shape: (rows,) float with NaN -> (rows, 1 or 2); values out of range count as the nearest in range."""
        tokens = np.zeros((len(values), len(self.vocabulary)), dtype=np.int64)
        known = np.flatnonzero(~np.isnan(values)) if self.vocabulary[0] > 1 else np.empty(0, dtype=np.int64)
        x = np.clip(values[known], self.low, self.high)
        if not self.bins:
            tokens[known, 0] = 1 + _nearest_index(self.spikes, x)
            return tokens
        sub = np.searchsorted(self.edges[1:-1], x, side="right")
        coarse = np.searchsorted(self.first, sub, side="right") - 1
        spike = np.minimum(np.searchsorted(self.spikes, x), max(len(self.spikes) - 1, 0))
        is_spike = self.spikes[spike] == x if len(self.spikes) else np.zeros(len(x), dtype=bool)
        tokens[known, 0] = np.where(is_spike, 1 + spike, self.first_bin + coarse)
        if tokens.shape[1] == 2:
            tokens[known, 1] = np.where(is_spike, 0, 1 + sub - self.first[coarse])
        return tokens

    def unlearned(self, values: np.ndarray) -> np.ndarray:
        """Which numbers lie beyond the learned bounds, are none of a yes/no column, or are named by rules but too rare.

        Shape: (rows,) -> boolean.
        """
        if self.decimals == 0 and not self.bins and len(self.spikes) <= 2:
            return ~np.isnan(values) & ~np.isin(values, self.spikes)
        named = np.isin(values, self.apart) & ~np.isin(values, self.spikes)
        return (values < self.low) | (values > self.high) | named

    def decode(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shape: (rows, 1 or 2) -> (rows,) float with NaN, which ties are too as long as nobody resolves them."""
        coarse, u = tokens[:, 0].astype(np.int64), rng.random((2, len(tokens)))
        values = np.full(len(tokens), np.nan)
        spiky = (coarse > 0) & (coarse <= len(self.spikes))
        values[spiky] = self.spikes[coarse[spiky] - 1]
        binned = np.flatnonzero(coarse >= self.first_bin)
        if len(binned):
            sub = self._sub_bin(tokens[binned])
            piece = np.searchsorted(self._piece_ends, sub + u[0, binned], side="right")
            part, low, high = u[1, binned], self.piece_low[piece], self.piece_high[piece]
            drawn = np.where(low == high, low, low * (1 - part) + high * part)
            rounded = drawn if self.decimals is None else np.round(drawn, self.decimals)
            values[binned] = self._moved(np.clip(rounded, self.low, self.high))
        return values

    def _moved(self, values: np.ndarray) -> np.ndarray:
        """Values of bins, those that stay apart replaced by the nearest that need not. Shape: (rows,) -> (rows,)."""
        for wrong in self.apart:
            here = values == wrong
            if here.any():
                values[here] = self._beside(wrong)
        return values

    def _beside(self, value: float) -> float:
        """The nearest value in range that may come out of a bin; out of range where all in range are kept apart."""
        steps = np.repeat(np.arange(1, len(self.apart) + 2), 2) * np.tile([1, -1], len(self.apart) + 1)
        if self.decimals is None:
            near = value + steps * np.spacing(max(abs(value), 1e-300))
        else:
            near = np.round(value + steps * 10.0**-self.decimals, self.decimals)
        free = near[~np.isin(near, self.apart)]
        inside = free[(free >= self.low) & (free <= self.high)]
        return float(inside[0] if len(inside) else free[0])

    def _sub_bin(self, tokens: np.ndarray) -> np.ndarray:
        """Number of the sub-bin of each row of bin tokens; a fine token that its bin lacks counts as the nearest."""
        bin_ = tokens[:, 0].astype(np.int64) - self.first_bin
        fine = tokens[:, 1].astype(np.int64) - 1 if tokens.shape[1] == 2 else np.zeros(len(tokens), dtype=np.int64)
        return self.first[bin_] + np.clip(fine, 0, self.sub_bins[bin_] - 1)

    @cached_property
    def _piece_ends(self) -> np.ndarray:
        """End of each piece where sub-bin i covers [i, i + 1). Shape: (pieces,)."""
        running = np.cumsum(self.piece_share)
        last = np.flatnonzero(np.diff(self.piece_bin, append=-1))
        total = np.diff(running[last], prepend=0.0)
        before = np.concatenate([[0.0], running[last][:-1]]) if len(last) else np.zeros(0)
        ends = self.piece_bin + (running - before[self.piece_bin]) / total[self.piece_bin]
        ends[last] = self.piece_bin[last] + 1
        return ends

    @cached_property
    def centres(self) -> np.ndarray:
        """A typical value of each token pair; the last fine entry is for a fine token that is not known (yet).

        Shape: (coarse, fine + 1), with NaN for missing and for pairs that do not occur.
        """
        return self._grid(self.middles, self.spikes)

    @cached_property
    def positions(self) -> np.ndarray:
        """Where each token pair stands in the distribution, in (0, 1). Shape: as `centres`."""
        values = np.concatenate([self.spikes, self.middles])
        shares = np.concatenate([self.spike_shares, self.shares]) + 1e-9
        order = np.argsort(values, kind="stable")
        middle = np.empty(len(values))
        middle[order] = (np.cumsum(shares[order]) - shares[order] / 2) / shares.sum()
        return self._grid(middle[len(self.spikes) :], middle[: len(self.spikes)])

    @cached_property
    def middles(self) -> np.ndarray:
        """The middle of each sub-bin. Shape: (sub-bins of all bins,)."""
        return self.edges[:-1] / 2 + self.edges[1:] / 2

    def _grid(self, of_sub_bin: np.ndarray, of_spike: np.ndarray) -> np.ndarray:
        """Lay values per sub-bin and per spike out by token pair; NaN for missing and ties."""
        finest = int(self.sub_bins.max(initial=1))
        grid = np.full((self.vocabulary[0], finest + 2), np.nan)
        grid[1 : self.first_tie, 0] = grid[1 : self.first_tie, -1] = of_spike
        for number, (start, count) in enumerate(zip(self.first, self.sub_bins, strict=True), start=self.first_bin):
            inside, weights = of_sub_bin[start : start + count], self.shares[start : start + count] + 1e-9
            grid[number, 1 : 1 + count] = inside
            grid[number, -1] = np.average(inside, weights=weights)
        return grid


Column = LevelColumn | NumberColumn
_ARRAYS = ("spikes", "spike_shares", "edges", "first", "shares", "piece_bin", "piece_low", "piece_high", "piece_share")


def column_to_json(column: Column) -> dict[str, Any]:
    """A column as plain data for JSON."""
    body = {f.name: getattr(column, f.name) for f in fields(column)}
    plain = {
        key: v.tolist() if isinstance(v, np.ndarray) else list(v) if isinstance(v, tuple) else v
        for key, v in body.items()
    }
    folded = {f.name: getattr(column.folded, f.name) for f in fields(Folded)}
    return {**plain, "folded": folded, "type": "levels" if isinstance(column, LevelColumn) else "numbers"}


def column_from_json(data: Mapping[str, Any]) -> Column:
    """The inverse of `column_to_json`."""
    body = {key: value for key, value in data.items() if key != "type"}
    body["folded"] = Folded(**data["folded"])
    if data["type"] == "levels":
        return LevelColumn(**{**body, "levels": tuple(body["levels"]), "shares": tuple(body["shares"])})
    body["ties"] = tuple(body["ties"])
    body["apart"] = tuple(body["apart"])
    for key in _ARRAYS:
        body[key] = np.asarray(body[key], dtype=np.int64 if key in WHOLE else float)
    return NumberColumn(**body)


def outermost(x: np.ndarray, patients: np.ndarray, k: int) -> tuple[float, float]:
    """Halfway between the k-th and the next of the patients' minima and maxima: bounds that are nobody's value.

    Where both have the same value it is the bound, and a coarse grid may round to one of them.

    With fewer than 2k patients these would cross and reveal what they should hide: then both lie in the middle, halfway
    between the two patients around the median one.
    """
    rows = np.bincount(patients)
    lows, highs = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    np.minimum.at(lows, patients, x)
    np.maximum.at(highs, patients, x)
    lows, highs = lows[rows > 0], highs[rows > 0]
    if len(lows) < 2 * k:
        medians = np.sort(pd.Series(x).groupby(patients).median())
        lower = max((len(medians) - 1) // 2 - 1, 0)
        middle = float(medians[lower] / 2 + medians[len(medians) - 1 - lower] / 2)
        return middle, middle
    lows, highs = np.sort(lows)[k - 1 : k + 1], np.sort(highs)[-k - 1 :][:2]
    return float((lows / 2).sum()), float((highs / 2).sum())  # halves first, for numbers near the largest one


def _folded_back(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """The sample with as many of the outermost values within the bounds twice as lie beyond them.

    Clipped, these would be a spike at each bound, as high as the tail beyond it.
    """
    inside, below, above = np.sort(x[(x >= low) & (x <= high)]), int((x < low).sum()), int((x > high).sum())
    if len(inside) < below + above:
        return np.clip(x, low, high)
    return np.concatenate([inside[:below], inside, inside[len(inside) - above :]])


def _nearest_index(sorted_values: np.ndarray, x: np.ndarray) -> np.ndarray:
    middles = sorted_values[:-1] / 2 + sorted_values[1:] / 2
    return np.searchsorted(middles, x, side="right")


def _nearest(sorted_values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return sorted_values[_nearest_index(sorted_values, x)]


__all__ = [
    "HIDDEN",
    "MISSING",
    "RARE",
    "Column",
    "Folded",
    "LevelColumn",
    "NumberColumn",
    "column_from_json",
    "column_to_json",
    "outermost",
    "threshold",
]

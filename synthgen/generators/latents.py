"""Which normal axes lie behind the columns of a table, and how are they correlated?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from synthgen.generators.codec import TableCodec
from synthgen.generators.gaussian import covariances, ends_of, hermite, proper, shrunk, solve, step_means
from synthgen.generators.independent import Marginal, marginals
from synthgen.generators.tokens import HIDDEN, MISSING, NumberColumn


@dataclass(frozen=True, eq=False)
class Latents:
    """Where the tokens of each column lie on normal axes: one for the value, one more for being missing or not.

    The value axis of a column is cut into intervals, one per kind of value: numbers and dates in ascending order,
    levels so that those of similar patients are neighbours. On the missing axis, missing lies to the right.
    """

    values: tuple[Marginal, ...]  # of each column, in the order of its axis; without missing
    missing: np.ndarray  # (columns,) share of rows with a missing value

    @cached_property
    def cuts(self) -> tuple[np.ndarray, ...]:
        """For each axis its interval ends, from -inf to inf: the value axes, then the missing axes."""
        masses = [marginal.mass for marginal in self.values]
        masses += [np.array([1 - share, share]) for share in self.missing[self.sometimes]]
        return tuple(ends_of(mass) for mass in masses)

    @cached_property
    def sometimes(self) -> np.ndarray:
        """The columns that have a missing axis: those with both values and missing. Shape: (missing axes,)."""
        return np.flatnonzero((self.missing > 0) & (self.missing < 1))

    def intervals(
        self, codec: TableCodec, tokens: np.ndarray, *, never_missing: np.ndarray | None = None
    ) -> np.ndarray:
        """The number of the interval that each row has on each axis; -1 where the row says nothing about an axis.

        Shape: tokens (rows, tokens), HIDDEN where unknown; never_missing (tokens,) -> (rows, axes) int64.
        """
        found = np.full((len(tokens), len(self.cuts)), -1, dtype=np.int64)
        for c, (name, marginal) in enumerate(zip(codec.names, self.values, strict=True)):
            found[:, c] = _kinds(marginal.tokens, tokens[:, codec.tokens_of(name)[: marginal.tokens.shape[1]]])
        for axis, c in enumerate(self.sometimes, start=len(self.values)):
            place = codec.tokens_of(codec.names[c])[0]
            unknown = -1 if never_missing is None or not never_missing[place] else 0
            found[:, axis] = np.where(tokens[:, place] == HIDDEN, unknown, tokens[:, place] == MISSING)
        return found

    def tokens(self, codec: TableCodec, z: np.ndarray) -> np.ndarray:
        """The tokens at a point of the axes. Shape: (rows, axes) -> (rows, tokens) int64."""
        tokens = np.zeros((len(z), len(codec.owner)), dtype=np.int64)
        for c, (name, marginal) in enumerate(zip(codec.names, self.values, strict=True)):
            if self.missing[c] < 1:
                kind = np.searchsorted(self.cuts[c][1:-1], z[:, c], side="right")
                tokens[:, codec.tokens_of(name)] = marginal.tokens[kind]
        for axis, c in enumerate(self.sometimes, start=len(self.values)):
            gone = z[:, axis] > self.cuts[axis][1]
            for place in codec.tokens_of(codec.names[c]):
                tokens[gone, place] = MISSING  # and no fine token, which is 0 too
        return tokens


def fit_latents(codec: TableCodec, tokens: np.ndarray, *, coarse: bool = False) -> Latents:
    """The axes, with numbers in ascending order and levels by frequency; of coarse tokens alone, if asked for.

    A number that equals another column's (see `ties`) lies nowhere.
    """
    values, missing = [], []
    for column, marginal in zip(codec.columns, marginals(codec, tokens, coarse=coarse), strict=True):
        gone = marginal.tokens[:, 0] == MISSING
        missing.append(float(marginal.mass[gone].sum()))
        place = _positions(column, marginal.tokens) if isinstance(column, NumberColumn) else -marginal.mass
        order = np.argsort(place, kind="stable")
        order = order[~gone[order] & ~np.isnan(place[order])]
        if not len(order):
            order = np.arange(1)
        values.append(Marginal(marginal.tokens[order], marginal.mass[order] / marginal.mass[order].sum()))
    return Latents(tuple(values), np.array(missing))


def _positions(column: NumberColumn, tokens: np.ndarray) -> np.ndarray:
    """Where number tokens stand in the distribution. Shape: (kinds, 1 or 2) -> (kinds,)."""
    fine = tokens[:, 1] if tokens.shape[1] == 2 else np.full(len(tokens), -1)
    return column.positions[tokens[:, 0], fine]


def fit_correlation(codec: TableCodec, latents: Latents, tokens: np.ndarray) -> tuple[Latents, np.ndarray]:
    """The axes with levels put in their best order, and the correlation matrix of the axes. Shape: -> (axes, axes)."""
    latents = _ordered_levels(codec, latents, tokens)
    intervals = latents.intervals(codec, tokens)
    scores, seen = _scores(latents, intervals), intervals >= 0
    target, pairs = covariances(scores, seen)
    series = np.stack([hermite(ends) for ends in latents.cuts])
    return latents, proper(shrunk(solve(series, target), pairs))


def _ordered_levels(codec: TableCodec, latents: Latents, tokens: np.ndarray) -> Latents:
    """Levels ordered by the mean, over their rows, of what the other columns have in common."""
    values = list(latents.values)
    if len(latents.cuts) < 2:
        return latents
    for _ in range(4):  # each pass moves the levels of one column with the others where they are
        now = Latents(tuple(values), latents.missing)
        intervals = now.intervals(codec, tokens)
        scores = _scores(now, intervals)
        for c, column in enumerate(codec.columns):
            if isinstance(column, NumberColumn) or len(values[c].mass) < 3:
                continue
            rows = intervals[:, c] >= 0
            means = _level_means(intervals[rows, c], np.delete(scores[rows], c, axis=1), len(values[c].mass))
            order = np.argsort(_leading(means, values[c].mass), kind="stable")
            values[c] = Marginal(values[c].tokens[order], values[c].mass[order])
    return Latents(tuple(values), latents.missing)


def _level_means(level: np.ndarray, scores: np.ndarray, levels: int) -> np.ndarray:
    """Mean scores of the rows of each level. Shape: (rows,), (rows, axes) -> (levels, axes)."""
    rows = np.maximum(np.bincount(level, minlength=levels), 1)
    return np.stack(
        [np.bincount(level, weights=scores[:, a], minlength=levels) / rows for a in range(scores.shape[1])], 1
    )


def _leading(means: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Place of each level on the line along which the level means differ most. Shape: (levels, axes) -> (levels,)."""
    centred = means - mass @ means
    _, _, directions = np.linalg.svd(np.sqrt(mass)[:, None] * centred, full_matrices=False)
    line = centred @ directions[0] if len(directions) else np.zeros(len(mass))
    return line if line[np.argmax(mass)] <= 0 else -line  # the sign of a singular vector is arbitrary


def _scores(latents: Latents, intervals: np.ndarray) -> np.ndarray:
    """The mean of the axis inside each row's interval, 0 where the row says nothing. Shape: as intervals."""
    scores = np.zeros(intervals.shape)
    for axis, ends in enumerate(latents.cuts):
        known = intervals[:, axis] >= 0
        scores[known, axis] = step_means(ends)[intervals[known, axis]]
    return scores


def _kinds(ordered: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """For each row, which of the ordered token kinds it is; -1 for none. Shape: (kinds, w), (rows, w) -> (rows,)."""
    size = max(int(ordered.max(initial=0)), int(tokens.max(initial=0))) + 1
    weights = np.array([size, 1])[-ordered.shape[1] :]
    return pd.Index(ordered @ weights).get_indexer(pd.Index(tokens.astype(np.int64) @ weights))

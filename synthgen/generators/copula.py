"""How far does one matrix of correlations get? A Gaussian copula over the codec's tokens: an instant baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import Interrupted
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance, conditions
from synthgen.generators.gaussian import covariances, ends_of, hermite, proper, shrunk, solve, step_means, truncated
from synthgen.generators.imputation import impute
from synthgen.generators.independent import (
    QUIET,
    Marginal,
    decoded,
    described,
    fitted,
    learned_codec,
    marginals,
    positive,
)
from synthgen.generators.tokens import HIDDEN, MISSING, NumberColumn
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

_ROWS = 100_000  # the correlations of so many random rows are those of all rows to within .003; also a block of samples


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
            found[:, c] = _kinds(marginal.tokens, tokens[:, codec.tokens_of(name)])
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


@dataclass
class Copula:
    """Every column keeps its own distribution; one Gaussian correlation matrix ties them together.

    Dependence is as good as one number per pair of columns can be: no interactions, and levels without an order are
    put on a line. Correlations are those of the underlying normal variables, so that pairs of yes/no columns keep
    their strength.
    Whether a value is missing has its own axis: joint missingness, and missingness that depends on values, are kept to
    the same degree. Conditions hold exactly; how the other columns follow from them comes from a Gibbs sampler.

    Source: Nelsen, An Introduction to Copulas, 2006; Liu and Der Kiureghian, Prob. Eng. Mech. 1 (1986) 105, for
        correlations of discrete variables; Geweke, Interface 23 (1991) 571, for the truncated normal Gibbs sampler.

    >>> from synthgen.testing import invented_cohort
    >>> made = Copula().fit(invented_cohort(400), seed=1).sample(200, seed=2, where={"sex": "F"})
    >>> set(made.table["sex"]), made.table["psa"].isna().mean() > 0.8
    ({'F'}, np.True_)
    """

    name: ClassVar[str] = "copula"
    licence: ClassVar[str] = "Apache-2.0"
    sweeps: int = 30  # of the Gibbs sampler that meets conditions
    model: Model | None = field(default=None, init=False, repr=False)

    def fit(self, train: TableData, *, seed: int | Seed, run: Run = QUIET) -> Self:
        """Learn the marginals and one correlation matrix.

        Raises:
            DataError: no rows, or no column to learn.
            Interrupted: `run.stop` asked for it.
        """
        root = Seed.of(seed)
        codec = learned_codec(train, root)
        tokens = codec.encode(train)
        latents = _fit_latents(codec, tokens)
        run.progress(Progress("fit", 1, 2))
        if run.stop():
            raise Interrupted("fitting the copula was stopped; nothing was kept")
        chosen = root.child("rows").numpy().permutation(len(tokens))[:_ROWS]
        latents, correlation = _fit_correlation(codec, latents, tokens[np.sort(chosen)])
        run.progress(Progress("fit", 2, 2))
        tensors = {"correlation": correlation, "missing": latents.missing}
        for c, marginal in enumerate(latents.values):
            tensors |= {f"{c}.tokens": marginal.tokens, f"{c}.mass": marginal.mass}
        self.model = described(self, train, root, codec, tensors)
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        balance: Balance | None = None,
    ) -> TableData:
        """Draw rows, with fixed columns as asked for.

        Raises:
            UsageError: not fitted, or a condition that cannot be met.
        """
        model, root = fitted(self.model, self.name), Seed.of(seed)
        codec = TableCodec.from_json(model.codec or {})
        fixed = conditions(codec, model.schema, n=positive(n), seed=root, where=where, given=given, balance=balance)
        tokens = self._filled(model, codec, codec.clamp(fixed), seed=root)
        return decoded(model, codec, tokens, fixed, seed=root)

    def impute(
        self, frame: Any, *, seed: int | Seed, columns: Sequence[str] | None = None, draws: int | None = None
    ) -> Any:
        """Draw the missing cells of a frame, each row's given what is known of it (see `TableDiffusion.impute`).

        Raises:
            UsageError: not fitted, or a column that cannot be imputed.
            DataError: columns that the model does not know, or values that do not fit them.
        """
        model = fitted(self.model, self.name)
        codec = TableCodec.from_json(model.codec or {})

        def fill(tokens: np.ndarray, never_missing: np.ndarray, root: Seed) -> np.ndarray:
            return self._filled(model, codec, tokens, seed=root, never_missing=never_missing)

        return impute(codec, model.schema, frame, fill, seed=Seed.of(seed), columns=columns, draws=draws)

    def _filled(
        self,
        model: Model,
        codec: TableCodec,
        tokens: np.ndarray,
        *,
        seed: Seed,
        never_missing: np.ndarray | None = None,
    ) -> np.ndarray:
        """Shape: tokens (rows, tokens), HIDDEN where unknown; never_missing (tokens,) -> the same, all known."""
        latents, correlation, rng = _restored(model), model.tensors["correlation"], seed.child("latent").numpy()
        filled = []
        for start in range(0, len(tokens), _ROWS):
            part = tokens[start : start + _ROWS]
            intervals = latents.intervals(codec, part, never_missing=never_missing)
            z = _draw(latents, correlation, intervals, rng=rng, sweeps=self.sweeps)
            filled.append(np.where(part == HIDDEN, latents.tokens(codec, z), part))
        return np.concatenate(filled)

    def save(self, folder: str | Path) -> None:
        """Write the model folder.

        Raises:
            UsageError: not fitted.
        """
        save_model(folder, fitted(self.model, self.name))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder."""
        model = load_model(folder, generator=cls.name)
        generator = cls(**model.settings)
        generator.model = model
        return generator


def _restored(model: Model) -> Latents:
    missing = model.tensors["missing"]
    values = (Marginal(model.tensors[f"{c}.tokens"], model.tensors[f"{c}.mass"]) for c in range(len(missing)))
    return Latents(tuple(values), missing)


def _kinds(ordered: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """For each row, which of the ordered token kinds it is; -1 for none. Shape: (kinds, w), (rows, w) -> (rows,)."""
    size = max(int(ordered.max(initial=0)), int(tokens.max(initial=0))) + 1
    weights = np.array([size, 1])[-ordered.shape[1] :]
    return pd.Index(ordered @ weights).get_indexer(pd.Index(tokens.astype(np.int64) @ weights))


def _fit_latents(codec: TableCodec, tokens: np.ndarray) -> Latents:
    """The axes, with numbers in ascending order and levels by frequency."""
    values, missing = [], []
    for column, marginal in zip(codec.columns, marginals(codec, tokens), strict=True):
        gone = marginal.tokens[:, 0] == MISSING
        missing.append(float(marginal.mass[gone].sum()))
        rest = Marginal(marginal.tokens[~gone], marginal.mass[~gone] / (1 - missing[-1])) if (~gone).any() else marginal
        place = _positions(column, rest.tokens) if isinstance(column, NumberColumn) else -rest.mass
        order = np.argsort(place, kind="stable")
        values.append(Marginal(rest.tokens[order], rest.mass[order]))
    return Latents(tuple(values), np.array(missing))


def _positions(column: NumberColumn, tokens: np.ndarray) -> np.ndarray:
    """Where number tokens stand in the distribution. Shape: (kinds, 1 or 2) -> (kinds,)."""
    fine = tokens[:, 1] if tokens.shape[1] == 2 else np.full(len(tokens), -1)
    return column.positions[tokens[:, 0], fine]


def _fit_correlation(codec: TableCodec, latents: Latents, tokens: np.ndarray) -> tuple[Latents, np.ndarray]:
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


def _draw(
    latents: Latents, correlation: np.ndarray, intervals: np.ndarray, *, rng: np.random.Generator, sweeps: int
) -> np.ndarray:
    """Points of the axes inside each row's intervals, -1 for the whole axis. Shape: (rows, axes) -> (rows, axes)."""
    held = (intervals >= 0).any(axis=0)
    z = np.empty(intervals.shape)
    if held.any():
        ends = [latents.cuts[axis] for axis in np.flatnonzero(held)]
        low, high = _bounds(ends, intervals[:, held])
        z[:, held] = truncated(correlation[np.ix_(held, held)], low, high, rng=rng, sweeps=sweeps)
    free = ~held
    if free.any():
        weights = np.linalg.solve(correlation[np.ix_(held, held)], correlation[np.ix_(held, free)])
        rest = correlation[np.ix_(free, free)] - correlation[np.ix_(free, held)] @ weights
        noise = rng.standard_normal((len(z), int(free.sum()))) @ np.linalg.cholesky(rest).T
        z[:, free] = z[:, held] @ weights + noise
    return z


def _bounds(ends: list[np.ndarray], intervals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each row on each axis; the whole axis where it is -1. Shape: -> twice as intervals."""
    low, high = np.full(intervals.shape, -np.inf), np.full(intervals.shape, np.inf)
    for axis, cuts in enumerate(ends):
        known = intervals[:, axis] >= 0
        low[known, axis] = cuts[intervals[known, axis]]
        high[known, axis] = cuts[intervals[known, axis] + 1]
    return low, high

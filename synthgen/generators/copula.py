"""How far does one matrix of correlations get? A Gaussian copula over the codec's tokens: an instant baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import Interrupted
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance, conditions
from synthgen.generators.gaussian import truncated
from synthgen.generators.imputation import impute
from synthgen.generators.independent import (
    QUIET,
    Marginal,
    decoded,
    described,
    fitted,
    learned_codec,
    positive,
)
from synthgen.generators.latents import Latents, fit_correlation, fit_latents
from synthgen.generators.tokens import HIDDEN
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

_ROWS = 100_000  # the correlations of so many random rows are those of all rows to within .003; also a block of samples


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
        latents = fit_latents(codec, tokens)
        run.progress(Progress("fit", 1, 2))
        if run.stop():
            raise Interrupted("fitting the copula was stopped; nothing was kept")
        chosen = root.child("rows").numpy().permutation(len(tokens))[:_ROWS]
        latents, correlation = fit_correlation(codec, latents, tokens[np.sort(chosen)])
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

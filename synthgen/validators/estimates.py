"""Would an analyst find the same coefficients? The regressions that the schema declares, on synthetic and real rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.encoding import comparable_columns
from synthgen.validators.fidelity import equal_sides
from synthgen.validators.hazards import Sides, overlaps
from synthgen.validators.regression import Coefficients, Model, enough, fitted
from synthgen.validators.resampling import around, one_thread

REAL = " (real holdout)"
SHOWN = 40  # coefficients named in the details: the worst ones where there are more


@dataclass(frozen=True)
class Estimates:
    """Coefficients of each declared regression on synthetic rows beside those on train rows; on holdout rows as well.

    The statistic is the mean overlap of the 95 % intervals of one coefficient, 0 where they lie apart, over all
    coefficients of all regressions; a coefficient that cannot be estimated from the synthetic rows has an overlap of 0.
    In the details: the overlap of each, its difference in train's standard errors, and both coefficients. Only rows
    count in which no column of the regression is missing.

    >>> Estimates().name
    'utility.estimates'
    """

    name: ClassVar[str] = "utility.estimates"
    question: ClassVar[str] = "Would an analyst find the same coefficients in synthetic as in real records?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "estimates"})
    rows: int = 20_000
    draws: int = 1_000

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Fit every declared regression to each table and compare.

        Raises:
            NotAssessable: no regression is declared, or none can be fitted to train and holdout.
        """
        declared = evidence.schema.estimates
        if not declared:
            raise NotAssessable(
                "the schema declares no regression: add a line such as `estimates: [{outcome: died, predictors: "
                "[age, sex]}]` to the schema file"
            )
        comparable_columns(evidence)
        found: list[Agreement] = []
        reasons: list[str] = []
        for number, one in enumerate(declared):
            try:
                model = Model.of(one, evidence.train)
                found.append(self._agreement(model, evidence, seed.child("rows", str(number))))
            except NotAssessable as reason:
                reasons.append(str(reason))
        if not found:
            raise NotAssessable("; ".join(reasons))
        notes = [note for one in found for note in one.notes]
        return self._measurement(found, (*notes, *reasons), seed)

    def _agreement(self, model: Model, evidence: Evidence, seed: Seed) -> Agreement:
        """The three fits of one regression, to as many synthetic as holdout rows."""
        known = [model.complete(data) for data in (evidence.train, evidence.synthetic, evidence.holdout)]
        usable = enough(model, known[1])
        sides = equal_sides([known[0], known[1] if usable else known[2], known[2]], self.rows, len(model.names), seed)
        for side, data in (("train", sides[0]), ("holdout", sides[2])):
            if not enough(model, data):
                raise NotAssessable(
                    f"the regression of {model.outcome.name!r} needs ten complete {side} rows for each of its "
                    f"{len(model.names)} coefficients" + (", with either outcome" if model.logistic else "")
                )
        train, synthetic, holdout = (fitted(model, data) for data in sides)
        if not usable or not enough(model, sides[1]):
            synthetic = Coefficients.unknown(len(model.names))
        notes = _notes(model, (*sides[:1], sides[1] if usable else known[1], *sides[2:]), (train, synthetic, holdout))
        keep = np.flatnonzero(train.known & holdout.known)
        if not len(keep):
            raise NotAssessable(f"no coefficient of the regression of {model.outcome.name!r} can be estimated")
        names = tuple(f"{model.outcome.name}: {model.names[i]}" for i in keep)
        rows = (len(sides[0]), len(sides[1]) if usable else len(evidence.synthetic), len(sides[2]))
        return Agreement(names, train.take(keep), synthetic.take(keep), holdout.take(keep), rows, notes)

    def _measurement(self, found: Sequence[Agreement], notes: tuple[str, ...], seed: Seed) -> Measurement:
        made = [one.figures("synthetic", self.draws, seed.child("synthetic", str(i))) for i, one in enumerate(found)]
        real = [one.figures("holdout", self.draws, seed.child("holdout", str(i))) for i, one in enumerate(found)]
        names = [name for one in found for name in one.names]
        n, others = (min(one.rows[i] for one in found) for i in (1, 2))
        ours, theirs = _joined(made), _joined(real)
        statistic, control = ours.overlap(_mean, n), theirs.overlap(_mean, others)
        worst = np.argsort(ours.overlaps, kind="stable")
        details = {
            "least overlap of intervals": ours.overlap(_least, n),
            "least overlap of intervals" + REAL: theirs.overlap(_least, others),
            "largest standardised difference": ours.difference(_largest, n),
            "largest standardised difference" + REAL: theirs.difference(_largest, others),
        }
        for i in worst[:SHOWN]:
            details |= {
                f"overlap of intervals, {names[i]}": ours.overlap(_one(i), n),
                f"overlap of intervals, {names[i]}{REAL}": theirs.overlap(_one(i), others),
                f"standardised difference, {names[i]}": ours.difference(_one(i), n),
                f"standardised difference, {names[i]}{REAL}": theirs.difference(_one(i), others),
            }
        for one in found:
            details |= one.coefficients()
        return Measurement(
            check=self.name,
            label="mean overlap of the intervals of a coefficient on synthetic and on train rows",
            statistic=statistic,
            control=control,
            better="higher",
            answer=f"The 95 % intervals of {len(names)} coefficients overlap by {statistic.value:.0%} on average, "
            f"least for {names[worst[0]]!r}; those of real records overlap by {control.value:.0%}.",
            details={name: estimate for name, estimate in details.items() if np.isfinite(estimate.value)},
            notes=(
                *notes,
                "two samples of one law and size overlap by 71 % on average; wide intervals overlap more, so read the "
                "standardised differences (in train's standard errors) beside them",
                "intervals of coefficients are robust, by patient; those of overlaps come from normal draws of them",
            ),
            source="overlap of intervals: Karr et al. 2006, doi:10.1198/000313006X124640; standard errors by patient: "
            "Liang & Zeger 1986, doi:10.1093/biomet/73.1.13, by statsmodels",
        )


@dataclass(frozen=True)
class Agreement:
    """One regression fitted three times."""

    names: tuple[str, ...]  # of its coefficients
    train: Coefficients
    synthetic: Coefficients
    holdout: Coefficients
    rows: tuple[int, int, int]  # train, synthetic, holdout
    notes: tuple[str, ...]

    def figures(self, which: str, draws: int, seed: Seed) -> Figures:
        """Overlaps and standardised differences of one fit and train's, as they are and in draws of both."""
        other: Coefficients = getattr(self, which)
        rng = seed.numpy()
        pairs = ((other, self.train), (other.drawn(draws, rng), self.train.drawn(draws, rng)))
        return Figures(
            *(np.clip(np.nan_to_num(overlaps(one, train)), 0.0, 1.0) for one, train in pairs),
            *(np.abs(one.value - train.value) / self.train.error for one, train in pairs),
        )

    def coefficients(self) -> dict[str, Estimate]:
        """Both coefficients of each, in the units of the columns."""
        details = {}
        for i, name in enumerate(self.names):
            for mark, one, n in (("", self.synthetic, self.rows[1]), (" (train)", self.train, self.rows[0])):
                value, low, high = (float(x[i]) for x in (one.value, one.low, one.high))
                details[f"coefficient, {name}{mark}"] = Estimate(value, low, high, n, "normal, robust by patient")
        return details


@dataclass(frozen=True)
class Figures:
    """How two fits agree, coefficient by coefficient. Shape: (coefficients,) and (draws, coefficients)."""

    overlaps: np.ndarray
    drawn_overlaps: np.ndarray
    differences: np.ndarray
    drawn_differences: np.ndarray

    def overlap(self, take: Take, n: int) -> Estimate:
        """One figure of all overlaps."""
        return _figure(self.overlaps, self.drawn_overlaps, take, n, most=1.0)

    def difference(self, take: Take, n: int) -> Estimate:
        """One figure of all standardised differences."""
        return _figure(self.differences, self.drawn_differences, take, n, most=np.inf)


Take = Callable[[np.ndarray], np.ndarray]  # (..., coefficients) -> (...)


def _figure(value: np.ndarray, draws: np.ndarray, take: Take, n: int, *, most: float) -> Estimate:
    found = around(float(take(value)), take(draws), n=n, most=most)
    return replace(found, method="normal draws of the coefficients, centred")


def _mean(figures: np.ndarray) -> np.ndarray:
    return figures.mean(axis=-1)


def _least(figures: np.ndarray) -> np.ndarray:
    return figures.min(axis=-1)


def _largest(figures: np.ndarray) -> np.ndarray:
    """Of those that are known; minus infinity where none is."""
    return np.where(np.isnan(figures), -np.inf, figures).max(axis=-1)


def _one(place: int) -> Take:
    return lambda figures: figures[..., place]


def _joined(parts: Sequence[Figures]) -> Figures:
    return Figures(*(np.concatenate([getattr(p, f.name) for p in parts], axis=-1) for f in fields(Figures)))


def _notes(model: Model, sides: Sides, fits: Sequence[Coefficients]) -> tuple[str, ...]:
    name, kind = model.outcome.name, "logistic" if model.logistic else "linear"
    train, synthetic, holdout = (len(side) for side in sides)
    notes = [
        f"{kind} regression of {name!r}: {len(model.names)} coefficients beside the intercept, {train:,} train rows "
        f"without missing values, {synthetic:,} synthetic and {holdout:,} holdout rows"
    ]
    for side, one in zip(("train", "synthetic", "holdout"), fits, strict=True):
        unknown = [label for label, known in zip(model.names, one.known, strict=True) if not known]
        if unknown:
            lost = "counted as an overlap of 0" if side == "synthetic" else "left out"
            notes.append(
                f"coefficients of {name!r} that cannot be estimated from the {side} rows, {lost}: "
                + "; ".join(unknown[:5])
                + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            )
    return tuple(notes)

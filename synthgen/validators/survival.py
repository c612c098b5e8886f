"""Do synthetic patients survive as long as real ones, and for the same reasons? Kaplan-Meier, log-rank and Cox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.fidelity import compare, equal_sides
from synthgen.validators.hazards import Outcome, hazards
from synthgen.validators.resampling import one_thread

FEWEST_EVENTS = 20  # in each table
POINTS = 101  # of the time axis, from 0 to the horizon
FIGURES = (
    "restricted mean time, difference as a share of the horizon",
    "share with the event, difference",
    "largest distance of the censoring curve",
)
_EVENTS_APART = 10  # between two points of a curve that is shown
_AT_RISK = 0.1  # share of train that is still followed at the horizon


@dataclass(frozen=True)
class Survival:
    """Survival of synthetic and of holdout patients beside train's, up to where a tenth of train is still followed.

    The statistic is the largest distance of two Kaplan-Meier curves. In the details: the restricted mean survival time,
    the share of patients with the event, and, with the censoring taken for the event, how follow-up ends; log-rank
    tests; and a Cox model of the other columns, fitted to each table: how far the intervals of its hazard ratios
    overlap those of train (Karr et al. 2006), and its concordance on the real holdout.

    >>> Survival().name
    'utility.survival'
    """

    name: ClassVar[str] = "utility.survival"
    question: ClassVar[str] = "Do synthetic patients survive as long as real ones, and for the same reasons?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "survival"})
    rows: int = 20_000

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare survival curves, and the models of survival.

        Raises:
            NotAssessable: no columns with the roles time and event, an event that is not binary, or fewer than 20
                events in a table.
        """
        outcome, gone = Outcome.of(evidence)
        known = [outcome.known(getattr(evidence, side)) for side in ("train", "synthetic", "holdout")]
        sides = equal_sides(known, self.rows, 1, seed)
        followed = [Followed.of(outcome, side) for side in sides]
        _enough(followed)
        grid = np.linspace(0, float(np.quantile(followed[0].time, 1 - _AT_RISK)), POINTS)
        at = [_summary(one, grid) for one in followed]
        work = 50.0 * sum(len(one.time) for one in followed)
        found, control = compare(sides, at, _differences, seed=seed, work=work)
        distance, *parts = found.split(4)
        real_distance, *real = control.split(4)
        statistic = distance.summary(np.max)
        details: dict[str, Estimate] = {}
        for name, one, other in zip(FIGURES, parts, real, strict=True):
            details |= {name: one.summary(np.max), f"{name} (real holdout)": other.summary(np.max)}
        details["log-rank p"] = _log_rank(followed[0], followed[1])
        details["log-rank p (real holdout)"] = _log_rank(followed[0], followed[2])
        cox, notes = hazards(outcome, sides, seed=seed.child("cox"))
        curves = {
            name: _curve(one, grid) for name, one in zip(("train", "synthetic", "holdout"), followed, strict=True)
        }
        return Measurement(
            check=self.name,
            label="largest distance from train of the Kaplan-Meier curve",
            statistic=statistic,
            control=real_distance.summary(np.max),
            better="lower",
            answer=f"The share of synthetic patients who are still without the event differs from that of train "
            f"patients by up to {statistic.value:.1%} at any time.",
            details=details | cox,
            curves=curves,
            notes=(f"time {outcome.time.name!r}, event {outcome.event.name!r}", *gone, *notes, *found.notes),
            source="Kaplan & Meier 1958, doi:10.1080/01621459.1958.10501452; log-rank: Mantel 1966; Cox 1972, "
            "doi:10.1111/j.2517-6161.1972.tb00899.x; overlap of intervals: Karr et al. 2006, "
            "doi:10.1198/000313006X124640",
        )


@dataclass(frozen=True, eq=False)
class Followed:
    """Patients by the time at which their follow-up ended.

    Shape:
        order, time, event (rows,): ascending by time; order are rows of the table
    """

    order: np.ndarray
    time: np.ndarray
    event: np.ndarray

    @staticmethod
    def of(outcome: Outcome, data: TableData) -> Followed:
        """Sort a table by time."""
        time = outcome.times(data.table)
        order = np.argsort(time, kind="stable")
        return Followed(order, time[order], outcome.events(data.table)[order])

    def survival(self, weights: np.ndarray, grid: np.ndarray, *, censoring: bool = False) -> np.ndarray:
        """The Kaplan-Meier estimate at some times, of rows with weights; of remaining uncensored, if asked.

        Shape: weights (rows,) in the table's order, grid (times,) -> (times,)

        >>> one = Followed(np.arange(4), np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0, 1.0]))
        >>> one.survival(np.ones(4), np.array([0.0, 1.0, 2.5, 3.0])).tolist()
        [1.0, 0.75, 0.5, 0.0]
        """
        w, ends = weights[self.order], 1 - self.event if censoring else self.event
        starts = np.flatnonzero(np.r_[True, np.diff(self.time) > 0])
        at_risk = np.cumsum(w[::-1])[::-1][starts]
        happened = np.add.reduceat(w * ends, starts)
        steps = np.cumprod(1 - np.divide(happened, at_risk, out=np.zeros(len(starts)), where=at_risk > 0))
        place = np.searchsorted(self.time[starts], grid, side="right")
        found: np.ndarray = np.r_[1.0, steps][place]
        return found


Summary = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, float]]


def _summary(followed: Followed, grid: np.ndarray) -> Summary:
    share = np.empty(len(followed.time))
    share[followed.order] = followed.event

    def at(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        curves = (followed.survival(weights, grid, censoring=censoring) for censoring in (False, True))
        return (*curves, float(weights @ share / weights.sum()))  # type: ignore[return-value]

    return at


def _differences(one: Any, train: Any) -> np.ndarray:
    """Four figures: distance of the curves, of the means as a share of the horizon, of event rates, of censoring."""
    (survival, censoring, events), (real, real_censoring, real_events) = one, train
    means = abs(float(np.mean(survival[1:] - real[1:])))
    distance, censored = (float(np.abs(a - b).max()) for a, b in ((survival, real), (censoring, real_censoring)))
    return np.array([distance, means, abs(events - real_events), censored])


def _enough(followed: list[Followed]) -> None:
    for side, one in zip(("train", "synthetic", "holdout"), followed, strict=True):
        if one.event.sum() < FEWEST_EVENTS:
            raise NotAssessable(f"the {side} table has fewer than {FEWEST_EVENTS} events; survival needs as many")


def _log_rank(train: Followed, other: Followed) -> Estimate:
    from lifelines.statistics import logrank_test

    p = logrank_test(train.time, other.time, event_observed_A=train.event, event_observed_B=other.event).p_value
    return exactly(float(p), n=len(train.time) + len(other.time))


def _curve(followed: Followed, grid: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The curve at the start, and then at times between which at least ten events lie: no event can be read off it."""
    survival = followed.survival(np.ones(len(followed.time)), grid)
    happened = np.searchsorted(np.sort(followed.time[followed.event > 0]), grid, side="right")
    kept = [0]
    for place, events in enumerate(happened):
        if events - happened[kept[-1]] >= _EVENTS_APART:
            kept.append(place)
    return tuple((round(float(grid[i]), 4), round(float(survival[i]), 3)) for i in kept)

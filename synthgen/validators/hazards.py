"""What raises the hazard, in synthetic as in real patients? The outcome, and Cox models of the other columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, exactly
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.validators.encoding import Features, comparable_columns, numbers
from synthgen.validators.resampling import affordable_rows, sample_rows

EVENTS_PER_FEATURE = 10  # Peduzzi et al. 1995, doi:10.1016/0895-4356(95)00510-2
MOST_FEATURES = 20
_LEVELS = 5  # indicators of a column of categories
_RIDGE = 1e-4  # keeps the coefficients of a table in which the event never occurs at a level finite
_COLLINEAR = 0.95  # correlation of two features in train
_Z = 1.959964

Sides = tuple[TableData, TableData, TableData]  # train, synthetic, holdout


@dataclass(frozen=True)
class Outcome:
    """Which column holds the time of follow-up, which says whether it ended with the event, and what the event is."""

    time: Column
    event: Column
    happened: float  # the larger of its two values

    @staticmethod
    def of(evidence: Evidence) -> tuple[Outcome, tuple[str, ...]]:
        """Read it off the schema and the train table, with notes on rows that are left out.

        Raises:
            NotAssessable: a role is missing, or the event is not binary.
        """
        schema = evidence.schema
        columns = {role: schema.with_role(role) for role in ("time", "event")}  # type: ignore[arg-type]
        for role, names in columns.items():
            if not names:
                raise NotAssessable(f"no column has the role {role}: add `roles: [{role}]` to one in the schema")
        comparable_columns(evidence)
        time, event = (schema[names[0]] for names in columns.values())
        levels = np.unique(numbers(evidence.train.table[event.name]))
        levels = levels[~np.isnan(levels)]
        if len(levels) != 2:
            raise NotAssessable(
                f"the event column {event.name!r} is not binary: it must hold 0 and 1, of which 1 is the event"
            )
        outcome = Outcome(time, event, float(levels[1]))
        notes = []
        for side in ("train", "holdout", "synthetic"):
            data = getattr(evidence, side)
            gone = len(data) - len(outcome.known(data))
            if gone:
                notes.append(
                    f"{gone:,} of {len(data):,} {side} rows have no time, a negative one, or no event: left out"
                )
        return outcome, tuple(notes)

    def times(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) float64, in the column's unit."""
        return numbers(table[self.time.name])

    def events(self, table: pd.DataFrame) -> np.ndarray:
        """Whether follow-up ended with the event, NaN where nobody knows. Shape: -> (rows,) of 0.0 and 1.0."""
        values = numbers(table[self.event.name])
        return np.where(np.isnan(values), np.nan, (values == self.happened).astype(float))

    def known(self, data: TableData) -> TableData:
        """The rows whose follow-up is known."""
        return data.take((self.times(data.table) >= 0) & ~np.isnan(self.events(data.table)))


class Intervals(Protocol):
    """Lower and upper bounds of several figures."""

    @property
    def low(self) -> np.ndarray: ...

    @property
    def high(self) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Hazards:
    """A Cox model of standardised features. Shape: log_ratio, error (features,)."""

    log_ratio: np.ndarray
    error: np.ndarray

    @property
    def low(self) -> np.ndarray:
        """Lower 95 % bounds."""
        return self.log_ratio - _Z * self.error

    @property
    def high(self) -> np.ndarray:
        """Upper 95 % bounds."""
        return self.log_ratio + _Z * self.error

    @staticmethod
    def of(X: np.ndarray, time: np.ndarray, event: np.ndarray) -> Hazards:
        """Fit the model by lifelines, with a trace of ridge.

        Raises:
            lifelines.exceptions.ConvergenceError: the coefficients run away.
        """
        from lifelines import CoxPHFitter

        table = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]).assign(time=time, event=event)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lifelines: what it warns of shows in wide intervals
            model = CoxPHFitter(penalizer=_RIDGE).fit(table, "time", "event")
        return Hazards(model.params_.to_numpy(), model.standard_errors_.to_numpy())

    def concordance(self, X: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
        """The share of pairs of patients whose order of events is that of their predicted hazards."""
        from lifelines.utils import concordance_index

        return float(concordance_index(time, -(X @ self.log_ratio), event))


def hazards(outcome: Outcome, tables: Sides, *, seed: Seed) -> tuple[dict[str, Estimate], tuple[str, ...]]:
    """Hazard ratios of each table beside train's, the overlap of their intervals, and what they predict of the holdout.

    Features are those that say most about survival in train, none of which nearly is another, at most one for ten
    events of the table with the fewest.

    Args:
        outcome: time and event.
        tables: train, synthetic and holdout; of wide ones fewer rows are looked at.
        seed: chooses them.

    Returns:
        Named figures, and notes; no figures where a model cannot be fitted.
    """
    from lifelines.exceptions import ConvergenceError

    rows = max(map(len, tables))
    fewer = affordable_rows(rows, len(tables[0].schema.learned))
    sides = (
        sample_rows(tables[0], fewer, seed),
        sample_rows(tables[1], fewer, seed),
        sample_rows(tables[2], fewer, seed),
    )
    outcomes = [(outcome.times(side.table), outcome.events(side.table)) for side in sides]
    names, forms = _features(outcome, sides)
    in_train = np.ptp(forms[0], axis=0) > 0
    varying = np.all([np.ptp(form, axis=0) > 0 for form in forms], axis=0)
    most = min(MOST_FEATURES, int(min(event.sum() for _, event in outcomes)) // EVENTS_PER_FEATURE)
    chosen = _apart(forms[0], [i for i in _strongest(forms[0], *outcomes[0]) if varying[i]], most)
    if not chosen:
        return {}, ("no Cox model: no other column varies in every table",)
    X = [form[:, chosen] for form in forms]
    try:
        train, synthetic, holdout = (Hazards.of(x, *o) for x, o in zip(X, outcomes, strict=True))
    except (ConvergenceError, np.linalg.LinAlgError):
        return {}, ("no Cox model: its coefficients do not converge in one of the tables",)
    count = [len(side) for side in sides]
    found = {
        "overlap of the intervals of hazard ratios": exactly(overlap(synthetic, train), n=len(chosen)),
        "overlap of the intervals of hazard ratios (real holdout)": exactly(overlap(holdout, train), n=len(chosen)),
        "concordance on the holdout": exactly(synthetic.concordance(X[2], *outcomes[2]), n=count[2]),
        "concordance on the holdout (real)": exactly(train.concordance(X[2], *outcomes[2]), n=count[2]),
    }
    for place, feature in enumerate(chosen):
        name = f"hazard ratio, {names[feature]}"
        found |= {name: _ratio(synthetic, place, count[1]), f"{name} (train)": _ratio(train, place, count[0])}
    left = int(in_train.sum() - varying.sum())
    constant = (f"features that do not vary in every table, and are in no Cox model: {left}",) if left else ()
    bounded = (f"Cox models look at {fewer:,} rows of a table of so many columns",) if fewer < rows else ()
    return found, (
        f"Cox models of {len(chosen)} of {in_train.sum()} features; numbers per standard deviation",
        *bounded,
        *constant,
    )


def overlap(one: Hazards, other: Hazards) -> float:
    """The mean overlap of two models' intervals as a share of their lengths; below 0 where they lie apart.

    >>> same, apart = (Hazards(np.array([place]), np.array([0.1])) for place in (0.0, 1.0))
    >>> overlap(same, same), round(overlap(same, apart), 2)
    (1.0, -1.55)
    """
    return float(overlaps(one, other).mean())


def overlaps(one: Intervals, other: Intervals) -> np.ndarray:
    """The overlap of each two intervals as a share of their lengths, averaged; below 0 where they lie apart.

    >>> one = Hazards(np.array([0.0, 1.0]), np.array([0.1, 0.1]))
    >>> overlaps(one, one).tolist()
    [1.0, 1.0]

    Source: Karr et al. 2006, doi:10.1198/000313006X124640.
    """
    common = np.minimum(one.high, other.high) - np.maximum(one.low, other.low)
    shares: np.ndarray = (common / (one.high - one.low) + common / (other.high - other.low)) / 2
    return shares


def _ratio(model: Hazards, place: int, n: int) -> Estimate:
    value, low, high = (float(np.exp(x[place])) for x in (model.log_ratio, model.low, model.high))
    return Estimate(value, low, high, n, "Cox model, Wald")


def _features(outcome: Outcome, sides: Sides) -> tuple[list[str], list[np.ndarray]]:
    """Names of the other columns' features, and the features of each table. Levels go by their frequency in train."""
    train, others = sides[0], (outcome.time.name, outcome.event.name)
    names: list[str] = []
    forms: list[list[np.ndarray]] = [[] for _ in sides]
    for column in train.schema.learned:
        if column.name in others or column.kind == "datetime":
            continue
        features = Features.of([column], train.table)
        made = [features.linear(side.table, most_levels=_LEVELS) for side in sides]
        groups = len(features.levels[0][:_LEVELS])
        labels = [f"{column.name}, group {i + 2}" for i in range(groups)] if groups else [column.name]
        names += labels + [f"{column.name} missing"] * (made[0].shape[1] - len(labels))
        for form, one in zip(forms, made, strict=True):
            form.append(one)
    return names, [
        np.hstack(form) if form else np.zeros((len(side), 0)) for form, side in zip(forms, sides, strict=True)
    ]


def _apart(X: np.ndarray, ranked: Sequence[int], most: int) -> list[int]:
    """The first in this order, without those that an earlier one nearly is: both would have endless intervals."""
    kept: list[int] = []
    for i in ranked:
        if len(kept) == most:
            break
        if all(abs(np.corrcoef(X[:, i], X[:, j])[0, 1]) < _COLLINEAR for j in kept):
            kept.append(i)
    return kept


def _strongest(X: np.ndarray, time: np.ndarray, event: np.ndarray) -> Sequence[int]:
    """Features by their score statistic in a Cox model of one feature, without ties: the correlation with residuals.

    A martingale residual is the event minus the Nelson-Aalen cumulative hazard at its time (Therneau et al. 1990,
    doi:10.1093/biomet/77.1.147).
    """
    order = np.argsort(time, kind="stable")
    at_risk = len(time) - np.searchsorted(time[order], time[order], side="left")
    hazard = np.empty(len(time))
    hazard[order] = np.cumsum(event[order] / at_risk)
    residual = event - hazard
    centred = X - X.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    score = np.abs(np.divide(residual @ centred, spread, out=np.zeros(X.shape[1]), where=spread > 0))
    return [int(i) for i in np.argsort(-score.round(12), kind="stable")]

"""What does a declared regression say of one table? Its design, its coefficients, and their robust errors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.schema import NUMERIC, Column, Regression
from synthgen.validators.encoding import frequent_levels, level_codes, numbers, ordered

ROWS_PER_COEFFICIENT = 10  # Peduzzi et al. 1996, doi:10.1016/S0895-4356(96)00236-3; of each outcome, where it has two
FEWEST = 10  # train rows of a level with a coefficient of its own
MOST_LEVELS = 10  # of a column, with a coefficient of their own
_RUNAWAY = 15.0  # log-odds, of a standard deviation or of a level: separated
_DEPENDENT = 1e-6
_Z = 1.959964


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients without the intercept, NaN where they cannot be estimated.

    Shape: value (coefficients,) or (draws, coefficients), covariance (coefficients, coefficients)
    """

    value: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def unknown(count: int) -> Coefficients:
        """Of a table that tells nothing."""
        return Coefficients(np.full(count, np.nan), np.full((count, count), np.nan))

    @property
    def error(self) -> np.ndarray:
        """Standard errors. Shape: (coefficients,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def known(self) -> np.ndarray:
        """Which are estimated. Shape: (coefficients,) bool."""
        return np.isfinite(self.value) & (self.error > 0)

    @property
    def low(self) -> np.ndarray:
        """Lower 95 % bounds."""
        return self.value - _Z * self.error

    @property
    def high(self) -> np.ndarray:
        """Upper 95 % bounds."""
        return self.value + _Z * self.error

    def take(self, places: np.ndarray) -> Coefficients:
        """Some of them."""
        return Coefficients(self.value[places], self.covariance[np.ix_(places, places)])

    def drawn(self, count: int, rng: np.random.Generator) -> Coefficients:
        """As they could have come out, by their normal law. Shape: value (count, coefficients)."""
        draws = np.full((count, len(self.value)), np.nan)
        known = np.flatnonzero(self.known)
        if len(known):
            some = self.take(known)
            draws[:, known] = rng.multivariate_normal(some.value, some.covariance, count, method="eigh")
        return Coefficients(draws, self.covariance)


@dataclass(frozen=True)
class Term:
    """One predictor as train defines it: a number in standard deviations, or indicators of levels.

    The most frequent level is the base; those of few train rows share a coefficient, where together they are enough.
    """

    column: Column
    levels: tuple[str, ...]  # with a coefficient of their own, after the base; () of a number
    others: bool  # whether all other levels share one
    centre: float
    scale: float

    @staticmethod
    def of(column: Column, table: pd.DataFrame) -> Term:
        """Learn levels, or centre and scale."""
        values = table[column.name]
        if ordered(column):
            found = numbers(values)
            found = found[~np.isnan(found)]
            spread = float(found.std()) if len(found) else 0.0
            return Term(column, (), False, float(found.mean()) if len(found) else 0.0, spread or 1.0)
        every = frequent_levels(values)
        counts = np.bincount(level_codes(values, every), minlength=len(every))[: len(every)]
        own = min(int((counts >= FEWEST).sum()), MOST_LEVELS)
        return Term(column, every[: max(own, 1)], int(counts[own:].sum()) >= FEWEST, 0.0, 1.0)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its coefficients; a level goes by its rank in train, never by its own name."""
        if ordered(self.column):
            return (self.column.name,)
        labels = [f"group {i + 2}" for i in range(len(self.levels) - 1)] + (["other groups"] if self.others else [])
        return tuple(f"{self.column.name}, {label}" for label in labels)

    def form(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows, coefficients), NaN where missing."""
        values = table[self.column.name]
        if ordered(self.column):
            return (numbers(values) - self.centre)[:, None] / self.scale
        codes = level_codes(values, self.levels)
        made = (codes[:, None] == np.arange(1, len(self.levels) + self.others)).astype(float)
        return np.where(values.isna().to_numpy()[:, None], np.nan, made)


@dataclass(frozen=True)
class Model:
    """A declared regression as train defines it."""

    outcome: Column
    values: tuple[str, ...]  # of two: the other one, and the event: the larger number, or the rarer level; () if linear
    terms: tuple[Term, ...]

    @staticmethod
    def of(declared: Regression, train: TableData) -> Model:
        """Read it off train.

        Raises:
            NotAssessable: an outcome that is neither a number nor one of two levels.
        """
        outcome = train.schema[declared.outcome]
        values = frequent_levels(train.table[outcome.name])
        if len(values) == 2 and outcome.kind in NUMERIC:
            values = tuple(sorted(values, key=float))
        elif len(values) != 2 and not ordered(outcome):
            raise NotAssessable(
                f"the outcome {outcome.name!r} has {len(values)} levels: a regression needs a number, or two levels"
            )
        terms = tuple(Term.of(train.schema[name], train.table) for name in declared.predictors)
        return Model(outcome, values if len(values) == 2 else (), terms)

    @property
    def logistic(self) -> bool:
        """Whether the outcome has two values."""
        return bool(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coefficients beside the intercept."""
        return tuple(name for term in self.terms for name in term.names)

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """The outcome; of two values 1 for the event. NaN where missing or neither. Shape: -> (rows,)."""
        values = table[self.outcome.name]
        if not self.logistic:
            return numbers(values)
        codes = level_codes(values, self.values)
        return np.where(codes < 2, codes.astype(float), np.nan)

    def design(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows, coefficients), NaN where missing."""
        return np.column_stack([np.zeros((len(table), 0)), *(term.form(table) for term in self.terms)])

    def complete(self, data: TableData) -> TableData:
        """The rows in which no column of the regression is missing."""
        missing = np.isnan(self.truth(data.table))
        for term in self.terms:
            missing |= data.table[term.column.name].isna().to_numpy()
        return data.take(~missing)


def enough(model: Model, data: TableData) -> bool:
    """Whether complete rows, of each of two outcomes, are ten for each coefficient."""
    least = ROWS_PER_COEFFICIENT * max(len(model.names), 1)
    if not model.logistic:
        return len(data) >= least
    truth = model.truth(data.table)
    return min(float(truth.sum()), float(len(truth) - truth.sum())) >= least


def fitted(model: Model, data: TableData) -> Coefficients:
    """Fit the regression to complete rows, in the units of the columns (days for dates), with errors by patient.

    Coefficients that others determine, or that run away since the outcome is separated, are NaN.
    """
    from statsmodels.api import GLM, OLS, families

    X, y = model.design(data.table), model.truth(data.table)
    found = Coefficients.unknown(X.shape[1])
    full = np.column_stack([np.ones(len(X)), X])
    free = np.abs(np.diag(np.linalg.qr(full, mode="r"))) > _DEPENDENT * np.sqrt(len(X))  # of those before it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of statsmodels: a separated outcome shows in the coefficients
        regression = GLM(y, full[:, free], family=families.Binomial()) if model.logistic else OLS(y, full[:, free])
        fit = regression.fit(cov_type="cluster", cov_kwds={"groups": data.patients})
    value, covariance = fit.params[1:], fit.cov_params()[1:, 1:]
    if model.logistic:
        value = np.where(np.abs(value) > _RUNAWAY, np.nan, value)
    scale = np.concatenate([np.full(len(term.names), term.scale) for term in model.terms])[free[1:]]
    places = np.flatnonzero(free[1:])
    found.value[places] = value / scale
    found.covariance[np.ix_(places, places)] = covariance / np.outer(scale, scale)
    return found

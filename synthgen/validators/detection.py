"""Can a classifier tell synthetic records from real ones? Cross-fitted boosting, and a logistic propensity score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.stats import auc, bootstrap_pair, roc_curve_on_grid
from synthgen.validators.encoding import Features, boostable, boosting_bins, comparable_columns
from synthgen.validators.resampling import affordable_rows, around, bootstrap_figures, one_thread, sample_rows
from synthgen.validators.scoring import fit_logistic

FEWEST = 20  # patients on a side, below which an AUC says nothing
GRID = tuple(float(x) for x in np.linspace(0, 1, 51))


@dataclass(frozen=True)
class Detection:
    """Gradient boosting, cross-fitted by patient, tells the synthetic table from train (AUC .5: it cannot).

    >>> Detection(folds=5).folds
    5
    """

    name: ClassVar[str] = "fidelity.detection"
    question: ClassVar[str] = "Can a classifier tell synthetic records from real ones?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 20_000  # at most so many of each table
    folds: int = 3

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Judge synthetic against train, synthetic against holdout, and holdout against train.

        Raises:
            NotAssessable: fewer than 20 patients in a table.
        """
        columns = comparable_columns(evidence)
        train, holdout, synthetic = evidence.train, evidence.holdout, evidence.synthetic
        for side, data in (("train", train), ("holdout", holdout), ("synthetic", synthetic)):
            if data.patient_count < FEWEST:
                raise NotAssessable(f"the {side} table has {data.patient_count} patients; detection needs {FEWEST}")
        most = affordable_rows(self.rows, 2 * len(columns))
        headline = self._contest(synthetic, train, columns, most, seed.child("synthetic", "train"))
        sealed = self._contest(synthetic, holdout, columns, most, seed.child("synthetic", "holdout"))
        control = self._contest(holdout, train, columns, most, seed.child("holdout", "train"))
        statistic = headline.auc(seed.child("interval"))
        details = {"synthetic against holdout": sealed.auc(seed.child("interval", "holdout"))}
        pmse = _pmse_details(headline, control, seed.child("pmse"))
        details |= pmse
        notes = [f"{headline.rows:,} rows a side; the control has {control.rows:,}: chance is .5 at any number of rows"]
        if not pmse:
            notes.append("no pMSE ratio: a logistic model of so many columns needs more rows, ten for each feature")
        if statistic.high < 0.5:
            notes.append("an AUC below .5 means that rows of one table reappear in the other: see the copy checks")
        return Measurement(
            check=self.name,
            label="AUC of gradient boosting that tells synthetic from train records (.5: it cannot)",
            statistic=statistic,
            control=control.auc(seed.child("interval", "control")),
            better="lower",
            answer="Given a synthetic and a train record, a classifier picks the synthetic one "
            f"{statistic.value:.0%} of the time (guessing: 50%).",
            details=details,
            curves={"roc": headline.roc(), "roc (real holdout)": control.roc()},
            notes=tuple(notes),
            source="classifier two-sample test: Lopez-Paz & Oquab 2017, arXiv:1610.06545; "
            "interval: Nadeau & Bengio 2003, doi:10.1023/A:1024068626366; "
            "pMSE ratio: Snoke et al. 2018, doi:10.1111/rssa.12358",
        )

    def _contest(self, one: TableData, other: TableData, columns: Sequence[Column], most: int, seed: Seed) -> Contest:
        """Out-of-fold scores of equally many rows of two tables; higher means more like the first.

        Levels are numbered by their frequency in both tables together: by that of train alone, the levels that train
        happens to lack would tell any other table from it, a fresh real one too.
        """
        rows = min(len(one), len(other), most)
        pair = [sample_rows(data, rows, seed.child("rows", str(i))) for i, data in enumerate((one, other))]
        features = Features.of(columns, pd.concat([data.table for data in pair], ignore_index=True))
        X = np.concatenate([features.trees(data.table) for data in pair])
        y = np.repeat([1, 0], [len(data) for data in pair])
        fold = np.concatenate(
            [folds_by_patient(data, self.folds, seed.child("folds", str(i))) for i, data in enumerate(pair)]
        )
        scores = np.zeros(len(y))
        for k in range(self.folds):
            model = HistGradientBoostingClassifier(
                early_stopping=False,
                max_bins=boosting_bins(len(columns)),
                random_state=seed.child("model").integer() % 2**32,
            )
            inside = fold == k
            known, unseen = boostable(X[~inside], X[inside])
            model.fit(known, y[~inside])
            # Models of different folds differ in level; ranks within a fold do not.
            scores[inside] = rankdata(model.decision_function(unseen)) / inside.sum()
        return Contest((pair[0], pair[1]), features, scores[y == 1], scores[y == 0], self.folds)


@dataclass(frozen=True)
class Contest:
    """Two tables of equal length and the scores of their rows."""

    pair: tuple[TableData, TableData]
    features: Features
    first: np.ndarray
    second: np.ndarray
    folds: int

    @property
    def rows(self) -> int:
        """Rows on a side."""
        return len(self.first)

    def auc(self, seed: Seed) -> Estimate:
        """The AUC by DeLong, or by bootstrap where patients have several rows; widened, since folds share rows."""
        return cross_fitted_auc(self.first, self.second, self.pair, folds=self.folds, seed=seed)

    def roc(self) -> tuple[tuple[float, float], ...]:
        """The curve on a grid of false positive rates."""
        return roc_on_grid(self.first, self.second)


def cross_fitted_auc(
    first: np.ndarray, second: np.ndarray, pair: tuple[TableData, TableData], *, folds: int, seed: Seed
) -> Estimate:
    """The AUC of out-of-fold scores of two tables: DeLong, or a bootstrap where patients have several rows; widened."""
    one, other = pair
    if one.patient_count == len(one) and other.patient_count == len(other):
        return widened(auc(first, second), folds)
    found = bootstrap_pair(lambda i, j: auc(first[i], second[j]).value, one.patients, other.patients, seed=seed)
    return widened(found, folds)


def roc_on_grid(first: np.ndarray, second: np.ndarray) -> tuple[tuple[float, float], ...]:
    """True positive rates on a grid of false positive rates."""
    heights = roc_curve_on_grid(first, second, GRID)
    return tuple((x, float(y)) for x, y in zip(GRID, heights, strict=True))


def widened(estimate: Estimate, folds: int) -> Estimate:
    """The interval of a cross-fitted AUC, on the logit scale.

    The models of different folds are trained on mostly the same rows, so that their errors go together; an interval
    made as if scores were independent of each other is too narrow (in 50 pairs of equal samples by a fifth to a third).

    >>> print(widened(Estimate(value=0.5, low=0.47, high=0.53, n=900, method="DeLong"), 3))
    0.500 [0.453, 0.547]

    Source: Nadeau & Bengio 2003, doi:10.1023/A:1024068626366, section 5: variance times 1 + k / (k - 1).
    """
    if not 0 < estimate.low <= estimate.value <= estimate.high < 1:
        return estimate
    factor = float(np.sqrt(1 + folds / (folds - 1)))
    centre = logit(estimate.value)
    low, high = (float(expit(centre + factor * (logit(end) - centre))) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high, method=f"{estimate.method}, cross-fitted")


def folds_by_patient(data: TableData, folds: int, seed: Seed) -> np.ndarray:
    """The fold of each row; a patient's rows share one, and folds have equally many patients. Shape: -> (rows,)."""
    count = data.patient_count
    return (seed.numpy().permutation(count) * folds // count)[data.patients]


def _pmse_details(headline: Contest, control: Contest, seed: Seed) -> dict[str, Estimate]:
    details = {}
    for name, contest in (("pMSE ratio", headline), ("pMSE ratio (real holdout)", control)):
        found = _pmse_ratio(contest, seed.child(name))
        if found is not None:
            details[name] = found
    return details


def _pmse_ratio(contest: Contest, seed: Seed) -> Estimate | None:
    """The mean squared propensity of a logistic model as a multiple of what chance gives; None with too few rows.

    For a logistic model fitted in the sample the null expectation has a closed form; for trees there is none, so trees
    serve the AUC alone. Snoke et al. take the real table as fixed and the synthetic one as drawn from it; here the
    null is two samples of the same patients, whose expectation is 1 / (1 - c) times theirs: the holdout's is 1.
    """
    matrices = [contest.features.linear(data.table, most_levels=5) for data in contest.pair]
    X = np.column_stack([np.ones(2 * contest.rows), np.concatenate(matrices)])
    X = X[:, np.insert(X[:, 1:].std(axis=0) > 0, 0, True)]
    rank = int(np.linalg.matrix_rank(X.T @ X, hermitian=True))
    if rank < 2 or len(X) < 10 * rank:
        return None
    y = np.repeat([1.0, 0.0], contest.rows)
    chance = (rank - 1) / (4 * len(X))  # (k - 1) c (1 - c) / N with c = 1/2

    def ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        w = np.concatenate([one / one.mean(), other / other.mean()])
        return np.array([np.average((expit(X @ fit_logistic(X, y, w)) - 0.5) ** 2, weights=w) / chance])

    value, draws = bootstrap_figures(ratio, contest.pair, seed=seed, repeats=50 if X.size < 1e6 else 20)
    return around(float(value[0]), draws[:, 0], n=contest.rows, most=np.inf)

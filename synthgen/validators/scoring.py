"""How good are predictions? AUC, average precision, Brier score, calibration slope and R2 under row weights.

What does not depend on the weights is prepared once, so that a bootstrap costs a few sums per sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit

Metric = Callable[[np.ndarray], float]  # row weights -> figure


def binary_metrics(truth: np.ndarray, chance: np.ndarray) -> dict[str, Metric]:
    """Metrics of predicted chances of an event. Shape: truth (rows,) of 0 and 1, chance (rows,).

    >>> metrics = binary_metrics(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.6, 0.4, 0.9]))
    >>> {name: round(metric(np.ones(4)), 3) for name, metric in metrics.items() if name != "calibration_slope"}
    {'auc': 0.75, 'auprc': 0.833, 'brier': 0.185}
    """
    _, place = np.unique(chance, return_inverse=True)
    count = int(place.max()) + 1
    log_odds = np.log(np.clip(chance, 1e-6, 1 - 1e-6) / (1 - np.clip(chance, 1e-6, 1 - 1e-6)))

    def by_score(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.bincount(place, weights * truth, count), np.bincount(place, weights * (1 - truth), count)

    def auc(weights: np.ndarray) -> float:
        events, others = by_score(weights)
        total = events.sum() * others.sum()
        return float(events @ (np.cumsum(others) - others / 2) / total) if total > 0 else np.nan

    def auprc(weights: np.ndarray) -> float:
        events, others = (side[::-1] for side in by_score(weights))
        flagged = np.cumsum(events) + np.cumsum(others)
        precision = np.cumsum(events) / np.where(flagged > 0, flagged, 1.0)
        return float(precision @ events / events.sum()) if events.sum() > 0 else np.nan

    def brier(weights: np.ndarray) -> float:
        return float(np.average((chance - truth) ** 2, weights=weights))

    def calibration_slope(weights: np.ndarray) -> float:
        return _slope(log_odds, truth, weights)

    return {"auc": auc, "auprc": auprc, "brier": brier, "calibration_slope": calibration_slope}


def multiclass_metrics(truth: np.ndarray, chances: np.ndarray) -> dict[str, Metric]:
    """The mean AUC of each class against the rest. Shape: truth (rows,) int, chances (rows, classes).

    >>> metrics = multiclass_metrics(np.array([0, 1, 2]), np.eye(3))
    >>> metrics["auc"](np.ones(3))
    1.0
    """
    parts = [binary_metrics((truth == k).astype(float), chances[:, k])["auc"] for k in np.unique(truth)]

    def mean_auc(weights: np.ndarray) -> float:
        defined = [value for value in (part(weights) for part in parts) if np.isfinite(value)]
        return float(np.mean(defined)) if defined else np.nan

    return {"auc": mean_auc}


def regression_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Metric]:
    """The share of variance explained.

    >>> regression_metrics(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))["r2"](np.ones(3))
    0.0
    """

    def r2(weights: np.ndarray) -> float:
        spread = np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights)
        return float(1 - np.average((truth - predicted) ** 2, weights=weights) / spread) if spread > 0 else np.nan

    return {"r2": r2}


def _slope(log_odds: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Cox's calibration slope; NaN where predictions do not vary."""
    centred = log_odds - np.average(log_odds, weights=weights)
    spread = float(np.sqrt(np.average(centred**2, weights=weights)))
    if spread < 1e-6:
        return np.nan
    X = np.column_stack([np.ones(len(truth)), centred / spread])
    return float(fit_logistic(X, truth, weights)[1] / spread)


def fit_logistic(X: np.ndarray, y: np.ndarray, weights: np.ndarray, *, steps: int = 12) -> np.ndarray:
    """Coefficients of a weighted logistic regression by Newton's method, a trace of ridge keeping them finite.

    Steps are kept short, so that outlying rows cannot throw it off.

    Shape: X (rows, features) with a column of ones, y (rows,) of 0 and 1, weights (rows,) -> (features,)

    >>> X, y = np.ones((4, 1)), np.array([1.0, 1.0, 1.0, 0.0])
    >>> float(expit(fit_logistic(X, y, np.ones(4)))[0].round(4))
    0.75
    """
    beta, ridge = np.zeros(X.shape[1]), 1e-6 * weights.sum()
    for _ in range(steps):
        p = expit(X @ beta)
        slope = X.T @ (weights * (y - p)) - ridge * beta
        curve = (X * (weights * p * (1 - p))[:, None]).T @ X + ridge * np.eye(len(beta))
        step = np.linalg.solve(curve, slope)
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
    return beta

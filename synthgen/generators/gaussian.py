"""Which normal variables lie behind discrete ones? Their correlations, and draws of them inside boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

TERMS = 40  # of Mehler's series
SMALLEST = 1e-5  # eigenvalue of a correlation matrix, so that every conditional distribution exists


def ends_of(mass: np.ndarray) -> np.ndarray:
    """Normal interval ends of shares that sum to one. Shape: (kinds,) -> (kinds + 1,)."""
    return ndtri(np.concatenate([[0.0], np.minimum(np.cumsum(mass)[:-1], 1.0), [1.0]]))


def step_means(ends: np.ndarray) -> np.ndarray:
    """Mean of a standard normal variable inside each interval. Shape: (kinds + 1,) -> (kinds,)."""
    density = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
    return (density[:-1] - density[1:]) / np.maximum(np.diff(ndtr(ends)), 1e-12)


def hermite(ends: np.ndarray) -> np.ndarray:
    """Coefficients, in normalised Hermite polynomials, of the step function that gives each interval its mean score.

    Source: the integral of He_k times the normal density is -He_(k-1) times the density.

    Shape: (kinds + 1,) -> (terms,), for degrees 1 to terms.
    """
    means, inner = step_means(ends), ends[1:-1]
    density = np.exp(-(inner**2) / 2) / np.sqrt(2 * np.pi)
    jumps = np.diff(means) * density
    before, polynomial, found = np.zeros_like(inner), np.ones_like(inner), np.empty(TERMS)
    for k in range(1, TERMS + 1):  # polynomial: He_(k-1) / sqrt((k-1)!)
        found[k - 1] = (jumps * polynomial).sum() / np.sqrt(k)
        before, polynomial = polynomial, (inner * polynomial - np.sqrt(k - 1) * before) / np.sqrt(k)
    return found


def covariances(scores: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the scores of each pair of axes over the rows that have both, and how many those are.

    Rows that have both may differ from all rows in spread: the covariance is that of the same correlation at full
    spread. Shape: (rows, axes), (rows, axes) boolean -> (axes, axes), (axes, axes).
    """
    mask = seen.astype(float)
    pairs = mask.T @ mask
    count = np.maximum(pairs, 1)
    mean = (scores.T @ mask) / count  # [i, j]: of axis i where j is seen too
    spread = np.sqrt(np.maximum((scores**2).T @ mask / count - mean**2, 0))
    covariance = (scores.T @ scores) / count - mean * mean.T
    full = np.sqrt(np.diag(covariance))
    correlation = covariance / np.maximum(spread * spread.T, 1e-9)
    return np.where(pairs >= 10, np.clip(correlation, -1, 1), 0) * np.outer(full, full), pairs


def solve(series: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The normal correlation at which Mehler's series gives the wanted covariance of the scores, by bisection.

    Shape: series (axes, terms), target (axes, axes) -> (axes, axes).
    """
    low, high = np.full(target.shape, -0.99999), np.full(target.shape, 0.99999)
    for _ in range(24):
        middle = (low + high) / 2
        reached, power = np.zeros_like(target), np.ones_like(target)
        for k in range(TERMS):
            power = power * middle
            reached += np.outer(series[:, k], series[:, k]) * power
        low, high = np.where(reached < target, middle, low), np.where(reached < target, high, middle)
    flat = np.outer(np.abs(series).sum(axis=1) > 0, np.abs(series).sum(axis=1) > 0)  # a constant column has no axis
    return np.where(flat, (low + high) / 2, 0.0)


def shrunk(correlation: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Correlations drawn to zero as far as they are noise: a weak one of few rows is, one near 1 is not.

    Source: the normal empirical Bayes estimate of Efron and Morris, J. Am. Stat. Assoc. 70 (1975) 311; the variances
    are those of Schäfer and Strimmer, Stat. Appl. Genet. Mol. Biol. 4 (2005) 32.
    """
    outside = ~np.eye(len(correlation), dtype=bool) & (pairs >= 10)
    noise = (1 - correlation**2) ** 2 / np.maximum(pairs - 1, 1)
    signal = max(float((correlation**2 - noise)[outside].mean()), 0.0) if outside.any() else 0.0
    return correlation * signal / np.maximum(signal + noise, 1e-12)


def proper(correlation: np.ndarray) -> np.ndarray:
    """A near correlation matrix whose eigenvalues are positive. Shape: (axes, axes) -> (axes, axes)."""
    symmetric = (correlation + correlation.T) / 2
    np.fill_diagonal(symmetric, 1.0)
    roots, vectors = np.linalg.eigh(symmetric)
    lifted = (vectors * np.maximum(roots, SMALLEST)) @ vectors.T
    scale = np.sqrt(np.diag(lifted))
    return lifted / np.outer(scale, scale)


def truncated(
    correlation: np.ndarray, low: np.ndarray, high: np.ndarray, *, rng: np.random.Generator, sweeps: int
) -> np.ndarray:
    """Normal vectors inside a box, by Gibbs sweeps; every state lies inside. Shape: (rows, axes) -> (rows, axes)."""
    precision = np.linalg.inv(correlation)
    z = _inside(np.zeros_like(low), np.ones(low.shape[1]), low, high, rng.random(low.shape))
    for _ in range(sweeps if low.shape[1] > 1 else 0):
        for axis in range(low.shape[1]):
            spread = 1 / np.sqrt(precision[axis, axis])
            mean = z[:, axis] - (z @ precision[axis]) * spread**2
            z[:, axis] = _inside(mean, spread, low[:, axis], high[:, axis], rng.random(len(z)))
    return z


def _inside(mean: np.ndarray, spread: Any, low: np.ndarray, high: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A normal variable between two ends, by inversion in the nearer tail, where the digits are."""
    a, b = (low - mean) / spread, (high - mean) / spread
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    below, above = ndtr(a), ndtr(b)
    x = ndtri(below + u * (above - below))
    x = np.clip(np.where(np.isfinite(x), x, 0.0), a, b)
    return np.clip(mean + spread * np.where(flip, -x, x), low, high)

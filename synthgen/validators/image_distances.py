"""How far apart are two clouds of points? Frechet and kernel distances, and who lies among whom, under weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]  # (features,) and (features, features)


def moments(X: np.ndarray, weights: np.ndarray) -> Moments:
    """Mean and covariance of weighted rows. Shape: (rows, features), (rows,) -> (features,), (features, features)."""
    shares = weights / weights.sum()
    mean = shares @ X
    centred = (X - mean) * np.sqrt(shares)[:, None]
    return mean, centred.T @ centred


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance.

    >>> root(np.diag([4.0, 9.0])).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    values, vectors = np.linalg.eigh(covariance)
    found: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return found


def frechet(one: Moments, other: Moments, other_root: np.ndarray | None = None) -> float:
    """The squared Frechet distance of two Gaussians.

    Args:
        one: mean and covariance of the first.
        other: of the second.
        other_root: the root of the second covariance, where it is at hand.

    Source: Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X, equation 4.

    >>> frechet((np.zeros(2), np.eye(2)), (np.ones(2), 4 * np.eye(2)))
    4.0
    """
    half = root(other[1]) if other_root is None else other_root
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ one[1] @ half), 0.0)).sum()
    gap = float(((one[0] - other[0]) ** 2).sum())
    return max(0.0, gap + float(np.trace(one[1]) + np.trace(other[1]) - 2 * common))


def cubic(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """The polynomial kernel of degree three. Shape: (n, features), (m, features) -> (n, m).

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 4.

    >>> cubic(np.ones((1, 4)), np.ones((1, 4))).tolist()
    [[8.0]]
    """
    found: np.ndarray = (X @ Y.T / X.shape[1] + 1) ** 3
    return found


@dataclass(frozen=True, eq=False)
class Likeness:
    """The kernel within one set, between images of different patients: a patient is like himself in any set."""

    kernel: np.ndarray  # (rows, rows), zero between images of one patient
    patients: np.ndarray  # (rows,)

    @classmethod
    def of(cls, X: np.ndarray, patients: np.ndarray) -> Likeness:
        """Shape: (rows, features), (rows,)."""
        return cls(cubic(X, X) * (patients[:, None] != patients[None, :]), patients)

    def mean(self, weights: np.ndarray) -> float:
        """Over pairs of patients."""
        own = np.bincount(self.patients, weights)
        return float(weights @ self.kernel @ weights / max(weights.sum() ** 2 - (own**2).sum(), 1e-12))


def kernel_distance(one: Likeness, other: Likeness, cross: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    """The squared maximum mean discrepancy without bias: zero on average for two samples of one law, of any size.

    Shape: cross (rows of one, rows of other), w and v their weights.

    Source: Gretton et al. 2012, JMLR 13, equation 3; with the cubic kernel Binkowski et al. 2018, arXiv:1801.01401.
    """
    return one.mean(w) + other.mean(v) - 2 * float(w @ cross @ v / (w.sum() * v.sum()))


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """Who lies among whom: balls around each point that reach its k-th nearest fellow."""

    balls: np.ndarray  # (made,) how many real balls hold each made point
    covered: np.ndarray  # (real,) whether a made point lies in the ball of each real one
    recalled: np.ndarray  # (real,) whether each real point lies in a made ball
    nearest: np.ndarray  # (real,) which made point is nearest to each real one
    k: int

    @property
    def precise(self) -> np.ndarray:
        """Whether a real ball holds each made point. Shape: (made,)."""
        return self.balls > 0

    @property
    def density(self) -> np.ndarray:
        """Of each made point; 1 on average for two samples of one law. Shape: (made,)."""
        return self.balls / self.k


def neighborhood(real: np.ndarray, made: np.ndarray, *, k: int = 5) -> Neighborhood:
    """Density and coverage, precision and recall, point by point.

    Shape: (real, features), (made, features); more than k points each.

    Source: Naeem et al. 2020, arXiv:2002.09797, equations 4 and 5; Kynkaanniemi et al. 2019, arXiv:1904.06991.

    >>> X = 2.0 ** np.arange(20)[:, None]  # no two distances are equal
    >>> near = neighborhood(X, X)
    >>> bool(near.covered.all()), bool(near.precise.all()), float(near.density.mean())
    (True, True, 1.2)
    """
    across = _squares(real, made)
    inside = across <= _reach(real, k)[:, None]
    recalled = np.asarray((across <= _reach(made, k)[None, :]).any(axis=1))
    return Neighborhood(inside.sum(axis=0), np.asarray(inside.any(axis=1)), recalled, across.argmin(axis=1), k)


def _squares(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Squared distances. Shape: -> (n, m)."""
    found = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1)[None, :] - 2 * (X @ Y.T)
    return np.maximum(found, 0.0)


def _reach(X: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest fellow. Shape: -> (rows,)."""
    own = _squares(X, X)
    np.fill_diagonal(own, np.inf)
    found: np.ndarray = np.partition(own, k - 1, axis=1)[:, k - 1]
    return found

"""Which intervals and tests stand behind the numbers? Small functions of counts and arrays, free of data frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate
from synthgen.rng import Seed

if TYPE_CHECKING:
    import numpy as np


def clopper_pearson(successes: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """The exact interval of a share: it covers at least as often as it says, also near 0 and 1.

    >>> print(clopper_pearson(0, 100))
    0.000 [0.000, 0.036]

    Raises:
        NotAssessable: there are no trials.

    Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    from scipy import stats

    _needs_trials(n)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return Estimate(successes / n, low, high, n, "Clopper-Pearson", confidence)


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Estimate:
    """The score interval of a share: close to its nominal coverage on average, and never outside 0 to 1.

    Successes may be a fraction, where n is the number of independent trials that the data are worth.

    >>> print(wilson(50, 100))
    0.500 [0.404, 0.596]

    Raises:
        NotAssessable: there are no trials.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    _needs_trials(n)
    z2, share = _z(confidence) ** 2, successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Estimate(share, low, high, n, "Wilson score", confidence)


def difference(successes1: float, n1: int, successes2: float, n2: int, *, confidence: float = 0.95) -> Estimate:
    """The first share minus the second, with Newcombe's hybrid score interval; its n is the smaller one.

    >>> print(difference(56, 70, 48, 80))
    0.200 [0.052, 0.334]

    Raises:
        NotAssessable: one side has no trials.

    Source: Newcombe 1998, method 10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    first, second = wilson(successes1, n1, confidence=confidence), wilson(successes2, n2, confidence=confidence)
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, max(-1.0, low), min(1.0, high), min(n1, n2), "Newcombe score", confidence)


def widened(estimate: Estimate, alpha: float) -> Estimate:
    """The interval at a smaller level, each side stretched as that of a normal law; what has no error keeps none.

    >>> print(widened(Estimate(0.5, 0.46, 0.55, 400, "DeLong"), 0.01))
    0.500 [0.447, 0.566]
    """
    if estimate.confidence == 1.0:
        return estimate
    stretch = _z(1 - alpha) / _z(estimate.confidence)
    low = estimate.value - stretch * (estimate.value - estimate.low)
    high = estimate.value + stretch * (estimate.high - estimate.value)
    return replace(estimate, low=low, high=high, confidence=1 - alpha)


def poisson_upper(count: int, *, confidence: float = 0.95) -> float:
    """The largest expected count that a Poisson count does not contradict (one-sided, exact).

    >>> round(poisson_upper(0), 3)
    2.996
    """
    from scipy import stats

    return float(stats.chi2.ppf(confidence, 2 * (count + 1)) / 2)


def auc(positives: np.ndarray, negatives: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """The chance that a positive scores above a negative (ties count half), with DeLong's interval on the logit scale.

    Where the scores separate perfectly DeLong's variance is zero, which would claim certainty; there the interval is
    the Clopper-Pearson bound of as many successes as the smaller side has scores. Its n is the size of that side.

    Shape:
        positives (n1,), negatives (n2,)

    >>> import numpy as np
    >>> auc(np.array([3.0, 2.0, 1.0]), np.array([0.0, 2.0])).value
    0.75

    Raises:
        NotAssessable: fewer than two scores on one side.

    Source: DeLong et al. 1988, doi:10.2307/2531595; fast form: Sun and Xu 2014, doi:10.1109/LSP.2014.2337313.
    """
    n1, n2 = len(positives), len(negatives)
    if min(n1, n2) < 2:
        raise NotAssessable(f"an AUC needs two scores on each side; there are {n1} and {n2}")
    value, variance = _delong(positives, negatives)
    n = min(n1, n2)
    if variance <= 0 or not 0 < value < 1:
        bound = clopper_pearson(round(value * n), n, confidence=confidence)
        return Estimate(value, min(value, bound.low), max(value, bound.high), n, "Clopper-Pearson", confidence)
    half = _z(confidence) * math.sqrt(variance) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    return Estimate(value, _expit(centre - half), _expit(centre + half), n, "DeLong (logit)", confidence)


def roc_curve_on_grid(positives: np.ndarray, negatives: np.ndarray, grid: Sequence[float]) -> np.ndarray:
    """The true positive rate at each false positive rate of a grid, for pictures: tied scores are joined by a line.

    Shape:
        positives (n1,), negatives (n2,), grid (points,) -> (points,)

    >>> import numpy as np
    >>> roc_curve_on_grid(np.array([2.0, 3.0]), np.array([0.0, 1.0]), [0.0, 0.5, 1.0])
    array([1., 1., 1.])
    """
    import numpy as np

    cuts = np.unique(np.concatenate([positives, negatives]))[::-1]
    above = [1 - np.searchsorted(np.sort(side), cuts, side="left") / len(side) for side in (negatives, positives)]
    fpr, tpr = (np.concatenate([[0.0], rates]) for rates in above)
    last = np.append(np.diff(fpr) > 0, True)  # of a vertical stretch its top, so that a point has one height
    return np.interp(np.asarray(grid, dtype=float), fpr[last], tpr[last])


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    patients: np.ndarray,
    *,
    seed: int | Seed,
    repeats: int = 200,
    confidence: float = 0.95,
    method: Literal["percentile", "basic"] = "percentile",
) -> Estimate:
    """The interval of any statistic of rows, from samples of whole patients with replacement.

    Use `basic` for a statistic that noise pushes one way, such as a distance between distributions: the percentile
    interval would carry that push twice.

    Shape:
        patients (rows,) dense patient numbers; statistic takes row numbers (n,) and gives a float, NaN if undefined.

    >>> import numpy as np
    >>> age = np.array([61.0, 62.0, 48.0, 55.0, 70.0, 43.0])
    >>> visits_of = np.array([0, 0, 1, 2, 3, 4])
    >>> print(bootstrap(lambda rows: age[rows].mean(), visits_of, seed=1))
    56.500 [47.790, 63.000]

    Raises:
        NotAssessable: fewer than two patients, or undefined in the data or in more than a tenth of the samples.

    Source: Davison and Hinkley 1997, sections 3.8 and 5.2-5.3, doi:10.1017/CBO9780511802843.
    """
    import numpy as np

    rng = Seed.of(seed).child("bootstrap").numpy()
    groups = _by_patient(patients)
    draws = [statistic(_resample(groups, rng)) for _ in range(repeats)]
    return _interval(statistic(np.arange(len(patients))), draws, len(groups[1]), confidence, method)


def bootstrap_pair(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    patients1: np.ndarray,
    patients2: np.ndarray,
    *,
    seed: int | Seed,
    repeats: int = 200,
    confidence: float = 0.95,
    method: Literal["percentile", "basic"] = "percentile",
) -> Estimate:
    """As `bootstrap` for a statistic of two tables, say real and synthetic, each resampled by its own patients.

    Shape:
        patients1 (rows1,), patients2 (rows2,); statistic takes row numbers of both.

    >>> import numpy as np
    >>> a, b = np.arange(50.0), np.arange(50.0) + 10
    >>> gap = bootstrap_pair(lambda i, j: b[j].mean() - a[i].mean(), np.arange(50), np.arange(50), seed=1)
    >>> gap.value, gap.low < 10 < gap.high
    (10.0, True)

    Raises:
        NotAssessable: as for `bootstrap`.
    """
    import numpy as np

    rng = Seed.of(seed).child("bootstrap").numpy()
    one, two = _by_patient(patients1), _by_patient(patients2)
    draws = [statistic(_resample(one, rng), _resample(two, rng)) for _ in range(repeats)]
    value = statistic(np.arange(len(patients1)), np.arange(len(patients2)))
    return _interval(value, draws, min(len(one[1]), len(two[1])), confidence, method)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number: rejecting those below alpha keeps the chance of any false alarm below alpha.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979, doi:10.2307/4615733.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def permutation_p(observed: float, null: np.ndarray) -> float:
    """The share of permutations at least as large as what was observed, the observed one counted in: never zero.

    >>> import numpy as np
    >>> permutation_p(5.0, np.array([1.0, 2.0, 5.0]))
    0.5

    Source: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    import numpy as np

    return (1 + int(np.sum(np.asarray(null) >= observed))) / (1 + len(null))


def _needs_trials(n: int) -> None:
    if n < 1:
        raise NotAssessable("a share of nothing: there are no cases to count")


def _z(confidence: float) -> float:
    from scipy import stats

    return float(stats.norm.ppf((1 + confidence) / 2))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _delong(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """AUC and its variance from mid-ranks (Sun and Xu 2014, equations 5 to 7), in n log n."""
    import numpy as np
    from scipy.stats import rankdata

    n1, n2 = len(positives), len(negatives)
    together = rankdata(np.concatenate([positives, negatives]))
    above_negatives = (together[:n1] - rankdata(positives)) / n2
    below_positives = 1 - (together[n1:] - rankdata(negatives)) / n1
    variance = above_negatives.var(ddof=1) / n1 + below_positives.var(ddof=1) / n2
    return float(above_negatives.mean()), float(variance)


def _by_patient(patients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted by patient, and where each patient starts and how many rows it has."""
    import numpy as np

    _, counts = np.unique(patients, return_counts=True)
    if len(counts) < 2:
        raise NotAssessable(f"a bootstrap needs at least two patients; there are {len(counts)}")
    return np.argsort(patients, kind="stable"), np.cumsum(counts) - counts, counts


def _resample(groups: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Row numbers of as many patients as there are, drawn with replacement. Shape: -> (rows of the drawn patients,)."""
    import numpy as np

    rows, starts, counts = groups
    drawn = rng.integers(len(counts), size=len(counts))
    sizes = counts[drawn]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rows[np.repeat(starts[drawn], sizes) + within]


def _interval(value: float, draws: list[float], n: int, confidence: float, method: str) -> Estimate:
    import numpy as np

    defined = np.asarray(draws, dtype=float)
    defined = defined[np.isfinite(defined)]
    if not math.isfinite(value) or len(defined) < 0.9 * len(draws):
        raise NotAssessable(f"the statistic is undefined in {len(draws) - len(defined)} of {len(draws)} resamples")
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    if method == "basic":
        low, high = 2 * value - high, 2 * value - low
    return Estimate(float(value), low, high, n, f"bootstrap by patient ({method}, {len(draws)})", confidence)

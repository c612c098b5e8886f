"""How sure is a figure? Samples of equal size and intervals over patients, for any vector of figures at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
from scipy.stats import beta
from threadpoolctl import threadpool_limits

from synthgen.data import TableData
from synthgen.findings import Estimate
from synthgen.rng import Seed

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
CONFIDENCE = 0.95
CELLS = 3_000_000  # of one table that are looked at: wide tables are looked at on fewer rows
Figures = Callable[..., np.ndarray]  # row weights of each table -> (figures,)


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: linear algebra and trees keep to one thread while the function runs.

    Sums over several threads differ in their last digits with the number of threads, so that the same seed would not
    give the same bytes; and on the small problems of a check, threads mostly wait for each other.

    >>> one_thread(lambda: float(np.ones(3) @ np.ones(3)))()
    3.0
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1):
            return function(*args, **kwargs)

    return limited


def affordable_rows(most: int, columns: int) -> int:
    """At most so many rows, and fewer of a wide table: three million cells, but a thousand rows at least.

    >>> affordable_rows(20_000, 15), affordable_rows(20_000, 1_000), affordable_rows(20_000, 5_000)
    (20000, 3000, 1000)
    """
    return min(most, max(1_000, CELLS // columns))


def sample_rows(data: TableData, count: int, seed: Seed) -> TableData:
    """At most so many rows, patient by patient in random order, so that a patient's rows stay together.

    >>> from synthgen import datasets
    >>> sample_rows(datasets.load("actg175"), 500, Seed(1))
    TableData(500 rows of 500 patients, 27 columns)
    """
    if len(data) <= count:
        return data
    patients = data.patients
    order = seed.numpy().permutation(int(patients.max()) + 1)
    return data.take(np.sort(np.argsort(order[patients], kind="stable")[:count]))


def some_of(items: Sequence[T], most: int, seed: Seed) -> list[T]:
    """All items, or so many of them by chance, in their order.

    >>> some_of("abc", 5, Seed(1)), len(some_of(range(100), 5, Seed(1)))
    (['a', 'b', 'c'], 5)
    """
    chosen = np.sort(seed.numpy().permutation(len(items))[:most])
    return [items[i] for i in chosen]


def patient_weights(patients: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """How often each row is in one bootstrap sample of patients. Shape: (rows,) int -> (rows,) float64.

    >>> patient_weights(np.array([0, 0, 1]), Seed(3).numpy()).tolist()
    [0.0, 0.0, 2.0]
    """
    count = int(patients.max()) + 1
    return np.bincount(generator.integers(count, size=count), minlength=count)[patients].astype(float)


def bootstrap_figures(
    figures: Figures, tables: Sequence[TableData], *, seed: Seed, repeats: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """The figures on the tables as they are, and on bootstrap samples of each table's patients.

    Args:
        figures: takes one array of row weights for each table and returns a vector of figures.
        tables: the tables that it was made for.
        seed: equal seeds, equal samples.
        repeats: how many bootstrap samples.

    Shape: -> (figures,) and (repeats, figures)

    >>> from synthgen import datasets
    >>> data = datasets.load("actg175")
    >>> age = data.table["age"].to_numpy()
    >>> value, draws = bootstrap_figures(lambda w: np.array([w @ age / w.sum()]), [data], seed=Seed(1), repeats=50)
    >>> print(around(value[0], draws[:, 0], n=len(data), most=np.inf))
    35.248 [34.914, 35.644]

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 8: several samples.
    """
    patients = [table.patients for table in tables]
    value = figures(*(np.ones(len(rows)) for rows in patients))
    generator = seed.numpy()
    draws = [figures(*(patient_weights(rows, generator) for rows in patients)) for _ in range(repeats)]
    return value, np.stack(draws)


def around(value: float, draws: np.ndarray, *, n: int, least: float = 0.0, most: float = 1.0) -> Estimate:
    """The interval of a bootstrap with its centre moved to the estimate.

    A resampled table differs from another by its own noise and by that of the resampling, so distances between
    resampled tables lie above the distance of the tables themselves: the width is right, the place is not.

    >>> print(around(0.1, np.array([0.18, 0.2, 0.22]), n=50))
    0.100 [0.081, 0.119]
    """
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Estimate(float(value), least, most, n, "bootstrap by patient: no interval")
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail]) - np.median(draws) + value
    method = f"bootstrap by patient, {len(draws)} samples, centred"
    return Estimate(float(value), float(max(low, least)), float(min(high, most)), n, method, CONFIDENCE)


def share(flags: np.ndarray, patients: np.ndarray) -> Estimate:
    """The share of rows that are flagged, with an exact interval that knows that a patient's rows are alike.

    Units: rows; `n` is the number of rows.

    Source: Korn & Graubard, Survey Methodology 24 (1998): Clopper-Pearson at the effective sample size.

    >>> print(share(np.zeros(100, dtype=bool), np.arange(100)))
    0.000 [0.000, 0.036]
    """
    rows, rate = len(flags), float(np.mean(flags))
    effective = min(float(rows), rows / _design_effect(flags, patients))
    tail, hits = (1 - CONFIDENCE) / 2, rate * effective
    low = float(beta.ppf(tail, hits, effective - hits + 1)) if rate > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, effective - hits)) if rate < 1 else 1.0
    return Estimate(rate, low, high, rows, "Clopper-Pearson" + (", by patient" if effective < rows else ""), CONFIDENCE)


def _design_effect(flags: np.ndarray, patients: np.ndarray) -> float:
    """The variance of a share over patients as a multiple of that over independent rows; at least 1."""
    rows, count, rate = len(flags), int(patients.max()) + 1, float(np.mean(flags))
    if count == rows:
        return 1.0
    if rate in (0.0, 1.0) or count < 2:
        return rows / count  # nothing to estimate it from: as if all rows of a patient were one
    sums = np.bincount(patients, weights=flags - rate, minlength=count)
    variance = count / (count - 1) * float((sums**2).sum()) / rows**2
    return max(1.0, variance / (rate * (1 - rate) / rows))

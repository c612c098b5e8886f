"""What do generators make that learned a law and nobody's record? Controls on which no audit may raise an alarm."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthgen.data import TableData, assemble
from synthgen.rng import Seed
from synthgen.testing.simulated import Sizes, Tables, categories, numbers, split

_SCORES = 0.5  # added to counts of ranks
_FEW = 10  # patients: a level that fewer have is not learned
_CLASSES, _NOISE = 8, 1.0  # of a private histogram: cells, and the scale of its Laplace noise (epsilon 1 per column)


def copula(train: TableData, count: int, *, seed: Seed) -> TableData:
    """An under-fitted copula: normal or log-normal marginals by their moments, rank correlations, levels independent.

    Some thirty figures of the whole table are all it knows.

    >>> from synthgen.testing.simulated import simulated
    >>> len(copula(simulated(300, seed=1), 200, seed=Seed(2)))
    200
    """
    rng, names = seed.child("copula").numpy(), numbers(train.schema)
    ranks = train.table[names].rank(pct=True)
    correlation = ranks.corr().fillna(0).to_numpy()
    z = rng.multivariate_normal(np.zeros(len(names)), correlation, count, method="eigh")
    columns: dict[str, object] = {}
    for name, scores in zip(names, z.T, strict=True):
        new = _fitted(_known(train, name), scores)
        columns[name] = np.where(rng.random(count) < train.table[name].isna().mean(), np.nan, new)
    columns |= {name: _levels(train.table[name], count, rng) for name in categories(train.schema)}
    return assemble(columns, train.schema, n=count, seed=seed, backend="pandas")


def real_copula(sizes: Sizes, *, seed: Seed) -> Tables:
    """Real patients, and what a generator makes of them that is used: ACTG175 and the Gaussian copula of `synthgen`.

    Of 2,139 patients; where fewer are asked for, random ones.

    >>> made = real_copula(Sizes(200, 100, 150), seed=Seed(1))
    >>> len(made.train), len(made.holdout), len(made.synthetic)
    (200, 100, 150)
    """
    from synthgen.datasets import load
    from synthgen.generators.copula import Copula

    everyone = load("actg175")
    rows = seed.child("real").numpy().permutation(len(everyone))[: sizes.train + sizes.holdout]
    train, holdout = everyone.take(rows[: sizes.train]), everyone.take(rows[sizes.train :])
    return Tables(train, holdout, Copula().fit(train, seed=seed).sample(sizes.synthetic, seed=seed.child("drawn")))


def private_histograms(train: TableData, count: int, *, seed: Seed) -> TableData:
    """A differentially private generator of low fidelity: each column on its own, in a few cells with noisy counts."""
    rng, columns = seed.child("histograms").numpy(), {}
    for name in numbers(train.schema):
        values = _known(train, name)
        low, high = (float(edge) for edge in np.round(np.quantile(values, [0.02, 0.98])))
        edges = np.linspace(low, high, _CLASSES + 1)
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        cell = rng.choice(_CLASSES, count, p=_private(counts, rng))
        columns[name] = edges[cell] + rng.random(count) * np.diff(edges)[cell]
    for name in categories(train.schema):
        known = train.table[name].value_counts(dropna=False)
        known = known[known >= _FEW]
        columns[name] = known.index.to_numpy()[rng.choice(len(known), count, p=_private(known.to_numpy(), rng))]
    return assemble(columns, train.schema, n=count, seed=seed, backend="pandas")


def with_outlier(data: TableData) -> TableData:
    """The same with one record that somebody mistyped by orders of magnitude."""
    table = data.table.copy()
    table.loc[0, ["weight", "crp"]] = [84_000.0, 1e7]
    return TableData(table, data.schema)


def with_twins(everyone: TableData, sizes: Sizes, share: float, *, seed: Seed) -> Tables:
    """A split in which this share of the real patients are pairs with equal records, wherever they fall."""
    real = sizes.train + sizes.holdout
    rng = seed.child("twins").numpy()
    pairs = rng.choice(real, (round(share * real / 2), 2), replace=False)
    table = everyone.table.copy()
    for name in (column.name for column in everyone.schema.learned):
        values = table[name].to_numpy(copy=True)
        values[pairs[:, 1]] = values[pairs[:, 0]]
        table[name] = values
    return split(TableData(table, everyone.schema), sizes)


def _known(data: TableData, name: str) -> np.ndarray:
    found: np.ndarray = data.table[name].dropna().to_numpy(dtype=float)
    return found


def _fitted(values: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Normal scores at the scale of these values: log-normal where they are skewed, else inside their middle 98 %."""
    if values.min() > 0 and values.mean() > 1.05 * np.median(values):
        logs = np.log(values)
        return np.asarray(np.exp(logs.mean() + logs.std() * scores))
    low, high = np.quantile(values, [0.01, 0.99])
    return np.clip(values.mean() + values.std() * scores, low, high)


def _levels(values: pd.Series, count: int, rng: np.random.Generator) -> np.ndarray:
    known = values.value_counts(dropna=False)
    known = known[known >= _FEW]
    drawn: np.ndarray = known.index.to_numpy()[rng.choice(len(known), count, p=known / known.sum())]
    return drawn


def _private(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noisy = np.maximum(_SCORES, counts + rng.laplace(0, _NOISE, len(counts)))
    shares: np.ndarray = noisy / noisy.sum()
    return shares

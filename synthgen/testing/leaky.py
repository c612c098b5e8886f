"""What does a leaking generator do to the patients it was given? Copies, noisy copies, kernels, mixtures, parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from synthgen.data import TableData, canonical_column
from synthgen.rng import Seed
from synthgen.schema import TableSchema
from synthgen.testing.simulated import categories, numbers

_BLOCK = 1_000  # rows whose distances are held at a time


def with_rows(synthetic: TableData, rows: TableData, *, seed: Seed) -> TableData:
    """The synthetic table with random rows replaced; it keeps its own identifiers.

    >>> from synthgen.testing.simulated import simulated
    >>> fresh, others = simulated(50, seed=1), simulated(5, seed=2)
    >>> mixed = with_rows(fresh, others, seed=Seed(3))
    >>> len(mixed), int((mixed.table["weight"] != fresh.table["weight"]).sum())
    (50, 5)
    """
    at = seed.child("places").numpy().choice(len(synthetic), len(rows), replace=False)
    names = [column.name for column in synthetic.schema.learned]
    table = synthetic.table.copy()
    for name in names:
        values = table[name].to_numpy(copy=True)
        values[at] = rows.table[name].to_numpy()
        table[name] = values
    return TableData(table, synthetic.schema)


def drawn(data: TableData, count: int, *, seed: Seed, again: bool = False) -> TableData:
    """Random rows, each once unless it may come again."""
    return data.take(seed.child("drawn").numpy().choice(len(data), count, replace=again))


def noisy(data: TableData, sd: float, *, seed: Seed, scale: TableData) -> TableData:
    """Every number moved by normal noise of this share of its column's standard deviation in `scale`."""
    rng, table = seed.child("noise").numpy(), data.table.copy()
    for name in numbers(data.schema):
        moved = table[name] + rng.normal(0, sd * float(scale.table[name].std()), len(table))
        table[name] = canonical_column(moved, data.schema[name])
    return TableData(table, data.schema)


def rounded(data: TableData, *, scale: TableData) -> TableData:
    """Every number rounded to a step between a twentieth and a half of its column's standard deviation."""
    table = data.table.copy()
    for name in numbers(data.schema):
        step = 10 ** np.floor(np.log10(scale.table[name].std())) / 2
        table[name] = canonical_column(np.round(table[name] / step) * step, data.schema[name])
    return TableData(table, data.schema)


def flipped(data: TableData, share: float, *, seed: Seed, levels: TableData) -> TableData:
    """Each value of a category replaced, with this chance, by that of a random row of `levels`."""
    rng, table = seed.child("flipped").numpy(), data.table.copy()
    for name in categories(data.schema):
        other = levels.table[name].to_numpy()[rng.integers(0, len(levels), len(table))]
        table[name] = np.where(rng.random(len(table)) < share, other, table[name].to_numpy())
    return TableData(table, data.schema)


def kernel(data: TableData, count: int, bandwidth: float, *, seed: Seed) -> TableData:
    """Draws of a kernel density around single rows: noise on numbers, and categories redrawn with the same chance."""
    chosen = drawn(data, count, seed=seed, again=True)
    return flipped(noisy(chosen, bandwidth, seed=seed, scale=data), bandwidth, seed=seed, levels=data)


def between_neighbours(data: TableData, count: int, *, seed: Seed, k: int = 5) -> TableData:
    """SMOTE (Chawla et al. 2002): a random point between a row and one of its five nearest ones."""
    rng = seed.child("smote").numpy()
    first = rng.integers(0, len(data), count)
    places = embedded(data, data)
    near = nearest(places, places, k + 1)[0][:, 1:]
    second = near[first, rng.integers(0, k, count)]
    return _between(data, first, second, rng.random(count))


def mixed(data: TableData, count: int, *, seed: Seed, alpha: float = 0.2) -> TableData:
    """Mixup (Zhang et al. 2018): a point between two random rows, mostly near one of them."""
    rng = seed.child("mixup").numpy()
    first, second = rng.integers(0, len(data), (2, count))
    return _between(data, first, second, rng.beta(alpha, alpha, count))


def half_columns(hosts: TableData, sources: TableData, *, seed: Seed) -> TableData:
    """Hosts with a random half of the columns, another one in each row, from the source of the same row."""
    rng, names = seed.child("halves").numpy(), [column.name for column in hosts.schema.learned]
    table, width = hosts.table.copy(), len(names)
    taken = rng.permuted(np.tile(np.arange(width) < width // 2, (len(hosts), 1)), axis=1)
    for name, take in zip(names, taken.T, strict=True):
        table[name] = np.where(take, sources.table[name].to_numpy(), table[name].to_numpy())
    return TableData(table, hosts.schema)


def shifted(data: TableData) -> TableData:
    """Every number raised by one standard deviation, as a table in other units would be."""
    table = data.table.copy()
    for name in numbers(data.schema):
        table[name] = canonical_column(table[name] + table[name].std(), data.schema[name])
    return TableData(table, data.schema)


def with_cells(synthetic: TableData, train: TableData, count: int, names: list[str], *, seed: Seed) -> TableData:
    """The synthetic table with cells of single train patients: of categories rare levels, of numbers the largest ones.

    They are taken from the columns in turn, each to another row.
    """
    table = synthetic.table.copy()
    rows = seed.child("cells").numpy().choice(len(table), count, replace=False)
    for i, row in enumerate(rows):
        name = names[i % len(names)]
        values = table[name].to_numpy(copy=True)
        values[row] = _alone(train.table[name])[i // len(names)]
        table[name] = values
    return TableData(table, synthetic.schema)


def isolated(data: TableData, count: int, *, k: int = 5) -> np.ndarray:
    """The rows that are farthest from their k-th nearest neighbour. Shape: -> (count,)."""
    places = embedded(data, data)
    return np.argsort(-nearest(places, places, k + 1)[1][:, -1])[:count]


def far_from(data: TableData, made: TableData, holdout: TableData, quantile: float) -> np.ndarray:
    """Rows that a distance filter keeps: those farther from `data` than this quantile of the holdout rows."""
    places = embedded(data, data)
    limit = np.quantile(nearest(embedded(holdout, data), places, 1)[1][:, 0], quantile)
    return np.flatnonzero(nearest(embedded(made, data), places, 1)[1][:, 0] > limit)


def embedded(data: TableData, scale: TableData) -> np.ndarray:
    """Rows as points: ranks of numbers in `scale` as normal scores, levels and gaps as indicators.

    This is not the space of the audit, so that a leak is not planted where the audit looks.
    """
    from scipy.stats import norm

    parts = []
    for name in numbers(data.schema):
        known = np.sort(scale.table[name].dropna().to_numpy())
        values = data.table[name].to_numpy()
        rank = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / (2 * len(known))
        gap = np.isnan(values)
        parts += [np.where(gap, 0, norm.ppf(np.clip(rank, 0.001, 0.999)))[:, None], gap[:, None] * 1.0]
    for name in categories(data.schema):
        for level in sorted(scale.table[name].dropna().unique()):
            parts.append((data.table[name] == level).to_numpy(dtype=float)[:, None] / np.sqrt(2))
    return np.hstack(parts).astype(np.float32)


def nearest(queries: np.ndarray, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and distances of the k nearest points. Shape: -> (queries, k), (queries, k)."""
    found, squares = [], (points**2).sum(axis=1)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        distance = squares - 2 * block @ points.T + (block**2).sum(axis=1)[:, None]
        order = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(distance, order, axis=1)
        rank = np.argsort(near, axis=1, kind="stable")
        found.append((np.take_along_axis(order, rank, axis=1), np.take_along_axis(near, rank, axis=1)))
    return np.concatenate([i for i, _ in found]), np.sqrt(np.maximum(0, np.concatenate([d for _, d in found])))


def reordered(data: TableData) -> TableData:
    """The same table with its columns in the opposite order."""
    schema = replace(data.schema, columns=data.schema.columns[::-1])
    return TableData(data.table[list(schema.names)], schema)


def retyped(data: TableData) -> TableData:
    """The same table after a detour through single precision, 16-bit integers and pandas categories."""
    from synthgen.io import read

    types = {"real": "float32", "integer": "Int16", "boolean": "boolean", "categorical": "category", "code": "category"}
    frame = pd.DataFrame(
        {c.name: data.table[c.name].astype(types.get(c.kind, "object")) for c in data.schema.columns}  # type: ignore[call-overload]
    )
    return read(frame, schema=_untyped(data.schema))


def _untyped(schema: TableSchema) -> TableSchema:
    return replace(schema, columns=tuple(replace(column, dtype=None) for column in schema.columns))


def _between(data: TableData, first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> TableData:
    """Numbers between two rows; the other columns of the nearer one."""
    table = data.take(np.where(weight < 0.5, first, second)).table
    for name in numbers(data.schema):
        values = data.table[name].to_numpy()
        between = values[first] + weight * (values[second] - values[first])
        table[name] = canonical_column(np.where(np.isnan(between), table[name], between), data.schema[name])
    return TableData(table, data.schema)


def _alone(values: pd.Series) -> list[object]:
    """Values that one row alone has, the largest first; rare levels in the order of their names."""
    counts = values.dropna().value_counts()
    return sorted(counts[counts == 1].index, reverse=values.dtype != object)

"""The space and the search: against the definition, and blind to labels and order."""

import numpy as np
import pandas as pd
import pytest
from privacy_cases import SCHEMA, categories, evidence, population, table

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.privacy.neighbors import Pool, nearest, neighbors
from synthgen.privacy.space import Points, Space, squared_distances, stacked
from synthgen.schema import Column, TableSchema

NUMERIC = frozenset({"age", "creatinine", "glucose", "bmi", "weight"})


def encoded(*sets, numeric=NUMERIC):
    space = Space.fit(pd.concat([s.table for s in sets[:2]], ignore_index=True), numeric)
    return [space.encode(s.table) for s in sets]


def test_distance_of_missing_and_unknown_values():
    pool = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.nan], "c": ["a", "b", None, "a"]}).astype({"c": object})
    space = Space.fit(pool, frozenset({"x"}))
    points = space.encode(pool)
    other = space.encode(pd.DataFrame({"x": [np.nan, 2.0, 2.0], "c": ["a", "never seen", None]}))
    distances = squared_distances(other, points)
    assert distances[0, 3] == 0  # both missing, equal level
    assert distances[0, 1] == 1 + 1  # missing against the middle rank, and another level
    assert distances[1, 1] == 1  # a level that the pool does not have differs from all
    assert distances[1].min() == 1
    assert distances[2, 2] == pytest.approx(6 / 9)  # both levels missing; one rank of three apart
    assert np.array_equal(distances, distances.round(9)) is False  # ranks, not rounded numbers


def test_missing_where_the_pool_never_is_counts_too():
    pool = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    space = Space.fit(pool, frozenset({"x"}))
    index, distance = nearest(space.encode(pd.DataFrame({"x": [np.nan]})), space.encode(pool), 2)
    assert index[0, 0] == 1
    assert distance[0] == pytest.approx([1, np.sqrt(1 + 6 / 9)])


def test_what_is_missing_in_other_columns_does_not_count_in_a_part():
    pool = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1.0, np.nan, 2.0], "z": [4.0, 5.0, 6.0]})
    rows = pd.DataFrame({"x": [np.nan, 2.0], "y": [np.nan, 1.0], "z": [5.0, np.nan]})
    space = Space.fit(pool, frozenset(pool))
    for names in (["x"], ["y"], ["x", "z"], ["z", "y"]):
        alone = Space.fit(pool[names], frozenset(names))
        expected = squared_distances(alone.encode(rows), alone.encode(pool))
        part = space.part(space.encode(rows), names), space.part(space.encode(pool), names)
        np.testing.assert_allclose(squared_distances(*part), expected, atol=1e-6)


def test_random_rows_differ_by_one_in_a_numeric_column():
    points = encoded(*(table(pd.DataFrame({"x": np.arange(500.0)}), TableSchema((Column("x", "real"),))),) * 2)[0:1]
    distances = squared_distances(points[0], points[0])
    assert distances.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("make", [population, categories])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_search_equals_the_definition(make, k, monkeypatch):
    monkeypatch.setattr("synthgen.privacy.neighbors._CHUNK_CELLS", 64 * 40)  # several chunks and blocks
    monkeypatch.setattr("synthgen.privacy.neighbors._COLUMNS_PER_CATEGORY", 3)  # most levels compared pair by pair
    train, holdout, queries = (make(n, seed) for n, seed in ((150, 1), (90, 2), (120, 3)))
    numeric = NUMERIC & set(train.table)
    a, b, q = encoded(train, holdout, queries, numeric=numeric)
    pool = stacked(a, b)
    truth = squared_distances(q, pool)
    index, distance = nearest(q, pool, k)
    assert np.array_equal(index, np.argsort(truth, axis=1, kind="stable")[:, :k])
    assert distance**2 == pytest.approx(np.sort(truth, axis=1)[:, :k], abs=1e-12)


def test_five_thousand_levels():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"code": rng.integers(0, 5000, 4000).astype(str).astype(object), "x": rng.normal(size=4000)})
    space = Space.fit(frame, frozenset({"x"}))
    points = space.encode(frame)
    index, distance = nearest(points.take(slice(0, 300)), points, 2)
    truth = squared_distances(points.take(slice(0, 300)), points)
    assert np.array_equal(index, np.argsort(truth, axis=1, kind="stable")[:, :2])
    assert np.all(distance[:, 0] == 0)


def test_more_neighbours_than_rows_are_at_infinity():
    a, b = encoded(population(3, 1), population(3, 2))
    assert np.isinf(nearest(a, b, 5)[1][:, 3:]).all()


def test_second_neighbour_is_another_patient():
    a, b, q = encoded(population(60, 1), population(40, 2), population(50, 3))
    patients = np.repeat(np.arange(50), 2)
    found = Pool.of(a, b, patients).search(q)
    truth = squared_distances(q, stacked(a, b))
    assert found.first**2 == pytest.approx(truth.min(axis=1), abs=1e-12)
    for row, nearest_row in enumerate(found.nearest):
        others = truth[row, patients != patients[nearest_row]]
        assert found.second[row] ** 2 == pytest.approx(others.min(), abs=1e-12)


def test_ties_know_no_label():
    """Law: with every pool row equal, the chosen one is in train with its share; 300 pools, 4 standard errors."""
    columns = pd.DataFrame({"x": np.ones(30)})
    chosen = []
    for size in range(300):
        pool = Space.fit(columns, frozenset({"x"})).encode(pd.DataFrame({"x": np.ones(30 + size)}))
        sides = pool.take(slice(0, 10)), pool.take(slice(10, None))
        found = Pool.of(*sides, np.arange(30 + size)).search(pool.take(slice(0, 1)))
        chosen.append(found.is_train[found.nearest[0]] - 10 / (30 + size))
    assert abs(np.mean(chosen)) < 4 * 0.27 / np.sqrt(300)


def test_distances_ignore_the_order_of_rows_and_columns_and_units():
    train, holdout, synthetic = population(200, 1), population(100, 2), population(150, 3)
    before = neighbors(evidence(train, holdout, synthetic))
    rng = np.random.default_rng(1)
    names = list(rng.permutation(list(SCHEMA.names)))
    schema = TableSchema(tuple(SCHEMA[name] for name in names))
    orders = [rng.permutation(n) for n in (200, 100, 150)]

    def changed(factor):
        sets = []
        for data, rows in zip((train, holdout, synthetic), orders, strict=True):
            frame = data.table.iloc[rows][names].copy()
            frame["creatinine"] *= factor
            sets.append(TableData(frame.reset_index(drop=True), schema))
        return neighbors(evidence(*sets))

    shuffled, converted = changed(1.0), changed(88.4)  # mg/dl to umol/l
    assert np.array_equal(shuffled.first, before.first[orders[2]])
    assert np.array_equal(shuffled.second, before.second[orders[2]])
    assert np.array_equal(np.r_[orders[0], 200 + orders[1]][shuffled.nearest], before.nearest[orders[2]])
    assert converted.first == pytest.approx(shuffled.first, abs=1e-6)  # unseen values: one step of the grid


def test_no_common_column_is_refused():
    other = table(pd.DataFrame({"z": [1.0]}), TableSchema((Column("z", "real"),)))
    with pytest.raises(NotAssessable, match="no learned column"):
        neighbors(evidence(population(30, 1), population(30, 2), other))


def test_an_empty_table_is_refused():
    data = population(30, 1)
    with pytest.raises(NotAssessable, match="synthetic table has no rows"):
        neighbors(evidence(data, population(30, 2), data.take(np.arange(0))))


def test_weighted_agreement_equals_its_definition(monkeypatch):
    """Squared distances are the largest weights of all columns minus those of the levels that two rows share."""
    monkeypatch.setattr("synthgen.privacy.neighbors._OFTEN", 0.2)  # some levels with a coordinate, some in lists
    rng = np.random.default_rng(3)
    pool, queries = (
        Points.of(np.zeros((n, 0)), rng.integers(low, 6, (n, 3)).astype(np.int32)) for n, low in ((80, 0), (40, -1))
    )
    weights = [np.round(rng.uniform(0, 8, 6) * 16) / 16 for _ in range(3)]
    equal = queries.codes[:, None, :] == pool.codes[None, :, :]
    shared = np.where(equal, np.stack([w[c] for w, c in zip(weights, pool.codes.T, strict=True)], axis=1), 0.0)
    expected = np.sort(sum(w.max() for w in weights) - shared.sum(axis=2), axis=1)[:, :3]
    found = nearest(queries, pool, 3, weights=weights)[1]
    assert found**2 == pytest.approx(expected, abs=1e-9)

"""Rare codes and extremes of single train patients are found; clean tables raise no more alarms than stated."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from privacy_cases import SCHEMA, categories, evidence, noisy, population, table, visits, with_copies

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import to_json
from synthgen.privacy.coincidence import _at_least, _coincidence, extremes_p, levels_p
from synthgen.privacy.rare import RareValues
from synthgen.privacy.rare_cells import cells_of, combined, counts, extremes
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing import check_check

FINE = ("creatinine", "glucose", "bmi", "weight")


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr("synthgen.privacy.labels._MOST", 2000)


def measured(train, holdout, synthetic, seed=0):
    return RareValues().run(evidence(train, holdout, synthetic), seed=Seed(seed))


def sets_of(seed, train=2000, holdout=1000, synthetic=2000):
    return (population(n, 10 * seed + i) for i, n in enumerate((train, holdout, synthetic), start=1))


def with_extremes(train, holdout, synthetic, count, seed=0):
    """The outermost value that one train patient alone has, of some of the eight ends of four columns."""
    frame, rng = synthetic.table.copy(), np.random.default_rng(seed)
    for end in rng.choice(8, count, replace=False):
        name, sign = FINE[end % 4], 1 if end < 4 else -1
        pool = pd.concat([train.table[name], holdout.table[name]]).dropna()
        alone = train.table[name][train.table[name].map(pool.value_counts()) == 1]
        frame.loc[rng.integers(len(frame)), name] = sign * (sign * alone).max()
    return table(frame)


def with_codes(train, synthetic, count):
    """As many train patients have a ward of their own, and as many synthetic rows one of these wards."""
    frames = train.table.copy(), synthetic.table.copy()
    for i in range(count):
        frames[0].loc[i, "ward"] = frames[1].loc[7 * i, "ward"] = f"X{i}"
    return tuple(map(table, frames))


def with_codes_of(data, name, count):
    frame = data.table.copy()
    frame.loc[: count - 1, "ward"] = [f"{name}{i}" for i in range(count)]
    return table(frame)


def test_five_copied_extremes_are_found():
    """Law: at level 1 % in at least 9 of 10 runs (a power of 97 % is in 97 % of seeds)."""
    found = 0
    for seed in range(10):
        train, holdout, fresh = sets_of(seed)
        found += measured(train, holdout, with_extremes(train, holdout, fresh, 5, seed), seed).p_value < 0.01
    assert found >= 9


@pytest.mark.parametrize("seed", range(3))
def test_five_copied_codes_are_found(seed):
    """Found at level 1 %; the label test alone could not: five patients are in train by chance in 13 % of splits."""
    train, holdout, fresh = sets_of(seed)
    train, leaking = with_codes(train, fresh, 5)
    found = measured(train, holdout, leaking, seed)
    assert found.p_value < 0.01
    assert found.details["p, levels and extremes"].value > 0.01


def test_many_copied_codes_are_found_by_labels_too():
    train, holdout, fresh = sets_of(3)
    train, leaking = with_codes(train, fresh, 30)
    found = measured(train, with_codes_of(holdout, "Y", 15), leaking)
    assert found.p_value < 0.001
    assert found.details["p, levels"].value < 0.01
    assert found.details["levels"].low > 0
    assert found.details["levels"].value == pytest.approx(30 / 2000, rel=0.3)


def test_copied_records_show_in_combinations():
    train, holdout, fresh = sets_of(4)
    found = measured(train, holdout, with_copies(fresh, train.take(np.arange(40))))
    assert found.p_value < 0.01
    assert found.details["p, combinations"].value < 0.002


def test_a_table_that_knows_no_more_than_trains_columns_repeats_no_combinations():
    """It has each value as often as train has it, and so the combinations of train more often than the holdout's."""
    values = []
    for seed in range(5):
        train, holdout, _ = sets_of(seed)
        rng = np.random.default_rng(seed)
        frame = train.table.assign(**{name: rng.permutation(train.table[name].to_numpy()) for name in train.table})
        values.append(measured(train, holdout, table(frame), seed).details["p, combinations"].value)
    assert min(values) > 0.01
    assert max(values) > 0.2


def test_shared_numbers_are_told_from_crowded_ones():
    """Law: a tenth of all values is shared however few are near, or each pair in one cell of .001 is equal."""
    rng = np.random.default_rng(0)
    train, holdout = rng.exponential(1, 4000), rng.exponential(1, 4000)
    holdout[:400] = train[:400]
    of_near, of_all = _coincidence(train, holdout, 0.0, 0.5)
    assert of_all * len(holdout) == pytest.approx(0.1, rel=0.2)
    assert of_near * len(holdout) < 0.02
    crowded = (np.unique(np.round(rng.exponential(1, 4000), 3)) for _ in range(2))
    of_near, of_all = _coincidence(*crowded, 0.0, 0.5)
    assert of_near == pytest.approx(0.001, rel=0.3)  # one of the thousand cells within .5 of a value
    assert of_all * 2500 < 0.1


def test_declared_levels_are_no_secret():
    """A generator may know a level from the schema; the label test still compares train with holdout."""
    columns = [dataclasses.replace(c, levels=("W1",)) if c.name == "ward" else c for c in SCHEMA.columns]
    train, holdout, fresh = sets_of(5)
    train, leaking = with_codes(train, fresh, 5)
    sets = [table(data.table, TableSchema(tuple(columns))) for data in (train, holdout, leaking)]
    assert measured(*sets).details["p, levels of two people"].value == 1


def test_levels_against_their_closed_form():
    """Five levels that a train patient and a synthetic row have: 2 n m / (n + h + m)^2, to the fifth."""
    train, holdout, fresh = sets_of(6)
    columns, pool = cells_of(evidence(*with_codes(train, fresh, 5)[:1], holdout, with_codes(train, fresh, 5)[1]))
    assert levels_p(columns, pool) == pytest.approx((2 * 2000 * 2000 / 5000**2) ** 5)


def test_levels_that_new_patients_have_too_are_no_leak():
    """Rare codes of one law in all three sets: the generator is a fresh draw."""
    rng, sets = np.random.default_rng(1), []
    for data in sets_of(7):
        frame = data.table.copy()
        frame["ward"] = np.array([f"W{int(v)}" for v in rng.zipf(1.6, len(frame)) % 10**6], dtype=object)
        sets.append(table(frame))
    assert measured(*sets).p_value > 0.01


def test_sums_of_unequal_chances():
    assert _at_least(0, [0.2]) == 1
    assert _at_least(2, [0.1, 0.2, 0.3]) == pytest.approx(0.1 * 0.2 * 0.7 + 0.1 * 0.8 * 0.3 + 0.9 * 0.2 * 0.3 + 0.006)


def test_extremes_are_few_and_outermost():
    train, holdout, fresh = sets_of(8, 600, 400, 100)
    columns, pool = cells_of(evidence(train, holdout, fresh))
    weight = next(c for c in columns if c.name == "weight")
    extreme = extremes(weight, pool)[weight.codes[: pool.rows]]
    values = np.r_[train.table["weight"], holdout.table["weight"]]
    assert 10 <= extreme.sum() <= 14
    assert extreme[np.argmax(values)]
    assert extreme[np.argmin(values)]


def test_a_declared_bound_is_no_secret():
    train, holdout, fresh = sets_of(8, 300, 200, 100)
    most = float(np.r_[train.table["weight"], holdout.table["weight"]].max())
    columns = [dataclasses.replace(c, maximum=most) if c.name == "weight" else c for c in SCHEMA.columns]
    open_, bounded = (
        cells_of(evidence(*(table(data.table, schema) for data in (train, holdout, fresh))))[0]
        for schema in (SCHEMA, TableSchema(tuple(columns)))
    )
    pool = cells_of(evidence(train, holdout, fresh))[1]
    without, within = (next(extremes(c, pool) for c in columns if c.name == "weight") for columns in (open_, bounded))
    assert without.sum() == within.sum() + 1


def test_counts_of_a_table_made_by_hand():
    """One patient has a code, a code and a sex, that nobody else has; a shared code is no single patient's."""
    schema = TableSchema((Column("code", "code"), Column("sex", "categorical")))
    real = table(pd.DataFrame({"code": ["a", "b", "b", "c"], "sex": ["F", "F", "M", "M"]}, dtype=object), schema)
    synthetic = table(pd.DataFrame({"code": ["a", "b", "z"], "sex": ["F", "M", "M"]}, dtype=object), schema)
    columns, pool = cells_of(evidence(real.take(np.arange(2)), real.take(np.arange(2, 4)), synthetic))
    found = counts(columns, pool)
    assert found["levels"].tolist() == [1, 0, 0, 0]
    assert found["shared rare levels"].tolist() == [0.5, 1, 1, 0.5]
    assert combined(columns, pool, []).tolist() == [0, 0, 0, 0]  # a third of a row would have a and F by chance


def test_a_combination_counts_where_the_columns_do_not_explain_it():
    """Of 400 rows one has a and one is F: by chance .0025 rows would have both; b and M is what most rows have."""
    schema = TableSchema((Column("code", "code"), Column("sex", "categorical")))
    real = table(pd.DataFrame({"code": ["a", "a", "b", "b"], "sex": ["F", "M", "F", "M"]}, dtype=object), schema)
    rows = {"code": ["a", *["b"] * 399], "sex": ["F", *["M"] * 399]}
    synthetic = table(pd.DataFrame(rows, dtype=object), schema)
    columns, pool = cells_of(evidence(real.take(np.arange(2)), real.take(np.arange(2, 4)), synthetic))
    assert combined(columns, pool, []).tolist() == [1, 0, 0, 0]


KINDS = ("plain", "holdout a quarter of train", "holdout four times train", "heavy ties", "visits", "low fidelity")


def clean(kind, seed):
    if kind == "heavy ties":
        return tuple(categories(n, 10 * seed + i, columns=6) for i, n in enumerate((600, 300, 600)))
    if kind == "visits":
        return tuple(visits(n, 10 * seed + i) for i, n in enumerate((200, 120, 150)))
    sizes = {"holdout a quarter of train": (800, 200), "holdout four times train": (200, 800)}
    train, holdout, fresh = sets_of(seed, *sizes.get(kind, (600, 300)), 600)
    return train, holdout, noisy(fresh, 1.0, seed) if kind == "low fidelity" else fresh


def test_clean_tables_raise_few_alarms():
    """Law: 60 clean audits at level 1 %: at most 4 alarms (exceeded in 0.03 % of seeds)."""
    assert sum(measured(*clean(kind, seed), seed).p_value < 0.01 for kind in KINDS for seed in range(10)) <= 4


def test_roles_exchanged_show_in_the_mirror():
    train, holdout, fresh = sets_of(9)
    codes, leaking = with_codes(holdout, fresh, 40)
    found = measured(train, codes, leaking)
    assert found.details["mirror_p"].value < 0.001
    assert found.p_value > 0.01


def test_order_and_units_change_nothing():
    train, holdout, synthetic = sets_of(10, 300, 200, 250)
    rng, names = np.random.default_rng(1), list(SCHEMA.names)[::-1]
    schema = TableSchema(tuple(SCHEMA[name] for name in names))
    shuffled = []
    for data in (train, holdout, synthetic):
        frame = data.table[names].iloc[rng.permutation(len(data))].reset_index(drop=True)
        frame["age"] *= 4
        shuffled.append(TableData(frame, schema))
    before, after = measured(train, holdout, synthetic), measured(*shuffled)
    assert (after.p_value, after.statistic, after.details) == (before.p_value, before.statistic, before.details)


def test_repeated_rows_of_a_patient_are_one_holder():
    """What a patient has on every visit is that patient's alone."""
    train, holdout, fresh = (visits(n, i, most=1) for i, n in enumerate((150, 100, 120)))
    frame = train.table.copy()
    frame.loc[0, "ward"] = "X"
    repeated = table(pd.concat([frame] * 3), train.schema)
    leaking = fresh.table.copy()
    leaking.loc[5, "ward"] = "X"
    columns, pool = cells_of(evidence(repeated, holdout, table(leaking, fresh.schema)))
    found = counts(columns, pool)["levels"]
    assert found[0] == found.sum() == 1


def test_no_level_and_no_number_leaves():
    train, holdout, fresh = sets_of(11, 300, 200, 300)
    train, leaking = with_codes(train, fresh, 5)
    text = json.dumps(to_json(measured(train, holdout, leaking)))
    assert not any(f"X{i}" in text for i in range(5))


def test_no_numbers_at_all():
    sets = [categories(n, i) for i, n in enumerate((100, 80, 90))]
    assert extremes_p(*cells_of(evidence(*sets))) == 1
    assert measured(*sets).p_value > 0.01


def test_the_contract_of_checks():
    check_check(RareValues())


def test_bad_evidence_is_refused():
    with pytest.raises(NotAssessable, match="at least 20"):
        measured(population(100, 1), population(10, 2), population(100, 3))
    with pytest.raises(NotAssessable, match="no rows"):
        measured(population(100, 1), population(50, 2), population(10, 3).take(np.arange(0)))

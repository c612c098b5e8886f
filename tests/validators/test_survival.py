"""Survival: Kaplan-Meier as lifelines has it, hazard ratios that come back, faults that show, bad input refused."""

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from synthgen import datasets
from synthgen.errors import NotAssessable, SchemaError
from synthgen.evidence import gathered
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.schema import TableSchema
from synthgen.validators.hazards import Hazards
from synthgen.validators.survival import Followed, Survival


def patients(n, seed, *, ratio=2.0, slower=1.0):
    """Exponential survival: treatment divides the hazard, age raises it; uniform censoring, times in whole days."""
    rng = np.random.default_rng(seed)
    age, treated = rng.normal(60, 10, n).round(), rng.integers(0, 2, n)
    hazard = np.exp(0.03 * (age - 60)) * np.where(treated == 1, 1 / ratio, 1.0) / 300
    time, censored = slower * rng.exponential(1 / hazard), rng.uniform(100, 1500, n)
    event = (time <= censored).astype(int)
    return pd.DataFrame(
        {
            "age": age.astype(int),
            "treated": treated,
            "ward": rng.choice(list("abc"), n),
            "days": np.ceil(np.minimum(time, censored)).astype(int),
            "died": event,
        }
    )


def evidence(synthetic, *, seed=1, n=1500):
    train, holdout = (with_roles(read(patients(n, seed + i))) for i in (0, 1))
    return gathered(train, holdout, synthetic)


def with_roles(data, time="days", event="died"):
    from dataclasses import replace

    return replace(data, schema=data.schema.assign("time", time).assign("event", event))


def measured(synthetic, **settings):
    return Survival().run(evidence(synthetic, **settings), seed=Seed(1))


@pytest.mark.parametrize("censoring", [False, True])
def test_the_curve_is_that_of_lifelines(censoring):
    table = patients(300, 5)
    weights = np.random.default_rng(1).integers(0, 4, 300).astype(float)
    order = np.argsort(table["days"], kind="stable").to_numpy()
    one = Followed(order, table["days"].to_numpy(float)[order], table["died"].to_numpy(float)[order])
    grid = np.linspace(0, 1200, 77)
    happened = 1 - table["died"] if censoring else table["died"]
    known = weights > 0
    theirs = KaplanMeierFitter().fit(table["days"][known], happened[known], weights=weights[known])
    expected = theirs.survival_function_at_times(grid).to_numpy()
    np.testing.assert_allclose(one.survival(weights, grid, censoring=censoring), expected, atol=1e-9)


def test_a_fresh_draw_is_as_far_as_the_holdout_and_hazard_ratios_are_those_of_the_law():
    found = measured(patients(1500, 12))
    assert found.statistic.low <= found.control.high
    assert found.statistic.value < 0.06
    assert found.details["log-rank p"].value > 0.001
    assert found.details["overlap of the intervals of hazard ratios"].value > 0.5
    treated = found.details["hazard ratio, treated"]
    assert treated.low <= 0.5**0.5 <= treated.high  # a balanced indicator has a standard deviation of one half
    assert {"train", "synthetic", "holdout"} == set(found.curves)
    heights = [height for _, height in found.curves["train"]]
    assert heights == sorted(heights, reverse=True)


def test_longer_lives_show_in_the_curve():
    found = measured(patients(1500, 9, slower=1.5))
    assert found.statistic.low > 0.05 > found.control.value
    assert found.details["log-rank p"].value < 1e-4
    assert found.details["log-rank p (real holdout)"].value > 0.001


def test_lost_relations_show_in_the_hazards_and_not_in_the_curve():
    """Independent columns keep the curve and lose what explains it."""
    shuffled = patients(1500, 9)
    for column in ("age", "treated"):
        shuffled[column] = np.random.default_rng(3).permutation(shuffled[column])
    found = measured(shuffled)
    assert found.statistic.value < 0.06
    overlap = "overlap of the intervals of hazard ratios"
    assert found.details[overlap].value < found.details[f"{overlap} (real holdout)"].value - 0.2
    concordance = "concordance on the holdout"
    assert found.details[concordance].value < found.details[f"{concordance} (real)"].value - 0.05


def test_the_cox_model_is_that_of_the_law():
    table = patients(6000, 4)
    X = np.column_stack([(table["age"] - 60) / 10, table["treated"]])
    model = Hazards.of(X, table["days"].to_numpy(float), table["died"].to_numpy(float))
    assert np.all(model.low <= [0.3, -np.log(2)])
    assert np.all(model.high >= [0.3, -np.log(2)])


def test_a_shipped_trial_knows_its_time_and_event():
    data = datasets.load("actg175")
    train, holdout = data.split_by_patient(holdout=0.5, seed=1)
    found = Survival().run(gathered(train, holdout, train), seed=Seed(1))
    assert found.statistic.value == 0
    assert found.details["overlap of the intervals of hazard ratios"].value == pytest.approx(1)
    assert any("'days'" in note for note in found.notes)


def test_rows_without_a_time_or_with_a_negative_one_are_left_out_and_counted():
    table = patients(1500, 9)
    table["days"] = table["days"].astype(float)
    table.loc[:9, "days"] = np.nan
    table.loc[10:14, "days"] = -5
    assert any("15 of 1,500 synthetic rows" in note for note in measured(table).notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda train: train.assign(died=np.arange(len(train)) % 3), "not binary"),
        (lambda train: train.assign(died=np.where(train["died"] == 1, "dead", "alive")), "not binary"),
    ],
)
def test_an_event_that_is_not_binary_is_refused(change, words):
    sides = [with_roles(read(change(patients(300, i)))) for i in (1, 2)]
    with pytest.raises(NotAssessable, match=words):
        Survival().run(gathered(*sides, change(patients(300, 3))), seed=Seed(1))


def test_without_roles_the_message_says_what_to_add():
    sides = [read(patients(200, i)) for i in (1, 2)]
    with pytest.raises(NotAssessable, match=r"roles: \[time\]"):
        Survival().run(gathered(*sides, patients(200, 3)), seed=Seed(1))


def test_too_few_events_are_refused():
    table = patients(1500, 9)
    table["died"] = (np.arange(1500) < 5).astype(int)
    with pytest.raises(NotAssessable, match="synthetic table has fewer than 20 events"):
        measured(table)


def test_a_column_that_became_constant_is_told_and_left_out():
    found = measured(patients(1500, 9).assign(treated=1))
    assert any("do not vary in every table, and are in no Cox model: 1" in note for note in found.notes)
    assert not any("treated" in name for name in found.details)


def test_of_two_equal_columns_one_is_in_the_model():
    sides = [with_roles(read(patients(800, i).assign(years=lambda t: t["age"] + 0.5))) for i in (1, 2)]
    found = Survival().run(gathered(*sides, patients(800, 3).assign(years=lambda t: t["age"] + 0.5)), seed=Seed(1))
    assert sum(name in ("hazard ratio, age", "hazard ratio, years") for name in found.details) == 1


def test_two_columns_cannot_both_be_the_time():
    schema = read(patients(200, 1)).schema.to_mapping()
    for column in ("days", "age"):
        schema["columns"][column]["roles"] = ["time"]
    with pytest.raises(SchemaError, match="more than one column has the role 'time'"):
        TableSchema.from_mapping(schema)

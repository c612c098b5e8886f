"""Declared regressions: closed forms, errors by patient, faults that show, lost columns counted, bad input refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from validator_cases import evidence, table

from synthgen.data import TableData
from synthgen.errors import NotAssessable, SchemaError
from synthgen.rng import Seed
from synthgen.schema import Column, Regression, TableSchema, read_schema, schema_yaml
from synthgen.validators.estimates import Estimates
from synthgen.validators.regression import Model, fitted

DIED, PRESSURE = Regression("died", ("age", "ward")), Regression("pressure", ("age", "sex"))
COLUMNS = (
    ("age", "real"),
    ("sex", "categorical"),
    ("ward", "categorical"),
    ("pressure", "real"),
    ("died", "boolean"),
)


def patients(n, seed, *, slope=1.0, declared=(DIED, PRESSURE)):
    """Age raises pressure and the risk of dying, which is higher in one ward."""
    rng = np.random.default_rng(seed)
    age, ward = rng.normal(60, 10, n).round(), rng.choice(list("abc"), n, p=[0.5, 0.3, 0.2]).astype(object)
    sex = rng.choice(["F", "M"], n, p=[0.6, 0.4]).astype(object)
    pressure = 120 + slope * 0.5 * (age - 60) + 5 * (sex == "M") + rng.normal(0, 10, n)
    chance = 1 / (1 + np.exp(1 - slope * 0.05 * (age - 60) - 0.7 * (ward == "b")))
    died = (rng.random(n) < chance).astype(float)
    made = table(COLUMNS, age=age, sex=sex, ward=ward, pressure=pressure, died=died)
    return TableData(made.table, replace(made.schema, estimates=declared))


def measured(synthetic, *, n=1500, declared=(DIED, PRESSURE)):
    train, holdout = (patients(n, seed, declared=declared) for seed in (1, 2))
    return Estimates().run(evidence(train, holdout, synthetic), seed=Seed(1))


def test_a_fresh_draw_agrees_as_the_holdout_does():
    found = measured(patients(1500, 3))
    assert found.statistic.low < 0.71 < found.statistic.high, "the mean of two samples of one law"
    assert found.control.low < 0.71 < found.control.high
    age = found.details["coefficient, pressure: age"]
    assert age.low < 0.5 < age.high
    assert found == measured(patients(1500, 3)), "same seed, same result"


def test_an_effect_that_is_lost_is_named():
    found = measured(patients(1500, 3, slope=0.0))
    assert found.details["overlap of intervals, pressure: age"].value == 0
    assert found.details["overlap of intervals, died: age"].value == 0
    assert found.details["largest standardised difference"].low > 10
    assert found.details["overlap of intervals, pressure: sex, group 2"].value > 0.3
    assert found.statistic.value < found.control.value
    assert "age" in found.answer


def test_coefficients_are_those_of_the_closed_forms():
    """A table of four cells: log odds ratio and Woolf's error; a difference of means and White's error."""
    cells = [(0.0, 0.0, 40), (0.0, 1.0, 30), (1.0, 0.0, 20), (1.0, 1.0, 60)]
    exposed, died = (np.repeat([cell[i] for cell in cells], [cell[2] for cell in cells]) for i in (0, 1))
    lab = np.random.default_rng(1).normal(exposed * 3, 1 + exposed)
    data = table([("exposed", "boolean"), ("died", "boolean"), ("lab", "real")], exposed=exposed, died=died, lab=lab)
    odds = fitted(Model.of(Regression("died", ("exposed",)), data), data)
    correction = np.sqrt(150 / 149 * 149 / 148)
    woolf = np.sqrt(1 / 40 + 1 / 30 + 1 / 20 + 1 / 60)
    assert odds.value[0] == pytest.approx(np.log(40 * 60 / (30 * 20)), abs=1e-6)
    assert odds.error[0] == pytest.approx(woolf * correction, rel=1e-2)
    means = fitted(Model.of(Regression("lab", ("exposed",)), data), data)
    one, other = lab[exposed == 0], lab[exposed == 1]
    assert means.value[0] == pytest.approx(other.mean() - one.mean())
    white = np.sqrt(one.var() / len(one) + other.var() / len(other))
    assert means.error[0] == pytest.approx(white * correction, rel=1e-3)


def test_rows_that_are_repeated_for_a_patient_say_nothing_new():
    once = patients(400, 1)
    columns = (Column("who", "identifier", roles=("patient",)), *once.schema.columns)
    frame = pd.concat([once.table.assign(who=[f"p{i}" for i in range(400)])] * 3, ignore_index=True)
    thrice = TableData(frame[[c.name for c in columns]], TableSchema(columns, estimates=(PRESSURE,)))
    one, other = (fitted(Model.of(PRESSURE, data), data) for data in (once, thrice))
    assert other.value == pytest.approx(one.value)
    assert other.error == pytest.approx(one.error, rel=0.01)


def test_what_synthetic_rows_cannot_tell_counts_as_no_overlap():
    made = patients(1500, 3)
    one_sex = TableData(made.table.assign(sex="F"), made.schema)
    found = measured(one_sex)
    assert found.details["overlap of intervals, pressure: sex, group 2"].value == 0
    assert "coefficient, pressure: sex, group 2" not in found.details
    assert any("cannot be estimated from the synthetic rows" in note for note in found.notes)
    nobody_died = TableData(made.table.assign(died=0.0), made.schema)
    assert measured(nobody_died, declared=(DIED,)).statistic.value == 0
    assert measured(made.take(np.arange(12)), declared=(DIED,)).statistic.value == 0
    separated = TableData(made.table.assign(died=(made.table["age"] > 60).astype(float)), made.schema)
    assert measured(separated, declared=(Regression("died", ("age",)),)).statistic.value == 0


def test_rows_with_missing_values_are_left_out_and_columns_that_follow_from_others():
    def holed(seed):
        made = patients(1500, seed)
        age = np.where(np.arange(1500) < 500, np.nan, made.table["age"])
        schema = TableSchema(
            (*made.schema.columns, Column("again", "real")), estimates=(Regression("died", ("age", "again")),)
        )
        return TableData(made.table.assign(age=age, again=2 * age + 1), schema)

    found = Estimates().run(evidence(holed(1), holed(2), holed(3)), seed=Seed(1))
    assert found.statistic.n == 1000
    assert any("left out: again" in note for note in found.notes)


def test_what_cannot_be_asked_is_not_assessable():
    with pytest.raises(NotAssessable, match=r"estimates: \[\{outcome: died, predictors: \[age, sex\]\}\]"):
        measured(patients(1500, 3), declared=())
    with pytest.raises(NotAssessable, match="'ward' has 3 levels"):
        measured(patients(1500, 3), declared=(Regression("ward", ("age",)),))
    with pytest.raises(NotAssessable, match="ten complete train rows for each of its 3 coefficients, with either"):
        measured(patients(1500, 3), n=60, declared=(DIED,))
    some = measured(patients(1500, 3), declared=(DIED, Regression("ward", ("age",))))
    assert any("'ward' has 3 levels" in note for note in some.notes)


def test_a_schema_keeps_what_will_be_estimated(tmp_path):
    schema = patients(30, 1).schema
    (tmp_path / "s.yaml").write_text(schema_yaml(schema), encoding="utf-8")
    assert read_schema(tmp_path / "s.yaml") == schema
    assert schema.keeping(["age", "sex", "pressure"]).estimates == (PRESSURE,)
    assert "estimates" not in replace(schema, estimates=()).to_mapping()
    body = {"columns": {"age": {"kind": "real"}, "id": {"kind": "identifier"}, "died": {"kind": "boolean"}}}
    for entry, said in (
        ({"outcome": "died", "predictors": ["agee"]}, "did you mean 'age'"),
        ({"outcome": "died", "predictors": ["id"]}, "never learned"),
        ({"outcome": "died", "predictors": ["died"]}, "each column once"),
        ({"outcome": "died", "predictors": []}, "needs predictors"),
        ({"outcome": "died", "predictor": ["age"]}, "is a mapping"),
        ("died ~ age", "is a mapping"),
    ):
        with pytest.raises(SchemaError, match=said):
            TableSchema.from_mapping(body | {"estimates": [entry]})

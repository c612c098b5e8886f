"""Schema and rules: counts made by hand, and intervals that know that a patient's rows are alike."""

import numpy as np
import pandas as pd
import pytest
from validator_cases import changed, evidence, many_kinds, table

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.rules import Implies, Order, Range
from synthgen.schema import Column, TableSchema
from synthgen.stats import clopper_pearson
from synthgen.validators.resampling import share
from synthgen.validators.structure import RuleViolations, SchemaConformance

SEED = Seed(1)
COLUMNS = (
    Column("id", "identifier"),
    Column("age", "integer", minimum=0, maximum=120),
    Column("bmi", "real", decimals=1),
    Column("sex", "categorical"),
    Column("stage", "categorical", levels=("I", "II", "III")),
    Column("dead", "boolean"),
    Column("seen", "datetime"),
)


def cohort(n=10):
    return table(
        COLUMNS,
        id=[f"p{i}" for i in range(n)],
        age=np.arange(n, dtype=float) + 40,
        bmi=np.full(n, 22.5),
        sex=["F", "M"] * (n // 2),
        stage=["I", "II"] * (n // 2),
        dead=[0.0, 1.0] * (n // 2),
        seen=pd.Series(pd.Timestamp("2020-01-01")).repeat(n).to_numpy(),
    )


def conform(synthetic):
    return SchemaConformance().run(evidence(cohort(), synthetic=synthetic), seed=SEED)


def test_a_table_that_obeys_has_no_violation_and_an_interval():
    found = conform(cohort())
    assert found.statistic.value == 0
    assert found.statistic.high == pytest.approx(clopper_pearson(0, 10).high)
    assert found.control.value == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 121.0),
        ("age", -1.0),
        ("age", 40.5),
        ("bmi", 22.51),
        ("bmi", np.inf),
        ("sex", "X"),
        ("stage", "IV"),
        ("dead", 2.0),
        ("id", "p1"),
    ],
)
def test_each_kind_of_violation_is_counted_once(name, value):
    def change(frame):
        frame.loc[0, name] = value
        return frame

    found = conform(changed(cohort(), change))
    rows = 2 if name == "id" else 1  # a key that appears twice breaks both rows
    assert found.statistic.value == pytest.approx(rows / 10)
    assert found.details[name].value == pytest.approx(rows / 10)


def test_a_declared_level_that_train_lacks_is_no_violation_and_missing_cells_are_none():
    def change(frame):
        frame.loc[0, "stage"] = "III"
        frame.loc[1, ["age", "bmi", "dead"]] = np.nan
        frame.loc[2, ["sex", "stage"]] = None
        return frame

    assert conform(changed(cohort(), change)).statistic.value == 0


def test_rows_with_several_violations_count_once():
    def change(frame):
        frame.loc[0, ["age", "bmi"]] = [500.0, 1.234]
        return frame

    found = conform(changed(cohort(), change))
    assert found.statistic.value == pytest.approx(0.1)
    assert {"age", "bmi"} <= set(found.details)


def test_a_lacking_column_breaks_every_row_and_lacking_identifiers_none():
    data = cohort()
    for gone, expected in (("age", 1.0), ("id", 0.0)):
        schema = TableSchema(tuple(c for c in COLUMNS if c.name != gone))
        found = conform(TableData(data.table.drop(columns=gone), schema))
        assert found.statistic.value == expected
        assert found.details["columns lacking"].value == expected


def test_another_kind_breaks_every_row():
    data = cohort()
    texts = tuple(Column("seen", "categorical") if c.name == "seen" else c for c in COLUMNS)
    as_text = TableData(data.table.assign(seen=np.full(10, "2020-01-01", dtype=object)), TableSchema(texts))
    assert conform(as_text).details["seen"].value == 1
    as_date = tuple(Column("sex", "datetime") if c.name == "sex" else c for c in COLUMNS)
    assert conform(TableData(data.table.assign(sex=data.table["seen"]), TableSchema(as_date))).details["sex"].value == 1


def test_awkward_columns_conform_to_themselves():
    data = many_kinds()
    assert SchemaConformance().run(evidence(data), seed=SEED).statistic.value == 0


def test_an_empty_synthetic_table_is_not_assessable():
    with pytest.raises(NotAssessable, match="no rows"):
        conform(cohort().take(np.arange(0)))


def test_share_is_exact_for_single_rows_and_counts_patients_for_repeated_ones():
    flags = np.zeros(400, dtype=bool)
    flags[:40] = True
    alone, alike = share(flags, np.arange(400)), share(flags, np.repeat(np.arange(100), 4))
    exact, coarse = clopper_pearson(40, 400), clopper_pearson(10, 100)
    assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high))
    assert (alike.low, alike.high) == pytest.approx((coarse.low, coarse.high), abs=0.002)
    none = share(np.zeros(400, dtype=bool), np.repeat(np.arange(100), 4))
    assert none.high == pytest.approx(clopper_pearson(0, 100).high)


def ruled(rules, **values):
    schema = TableSchema(
        (
            Column("born", "integer"),
            Column("died", "integer"),
            Column("sex", "categorical"),
            Column("parity", "integer"),
        ),
        rules=rules,
    )
    return TableData(pd.DataFrame(values), schema)


def test_rules_are_counted_beside_the_real_rate():
    rules = (Order(("born", "died")), Range("parity", maximum=12), Implies({"sex": ("M",)}, {"parity": ("0",)}))
    real = ruled(
        rules, born=[1.0, 2.0, 3.0, 4.0], died=[5.0] * 4, sex=["F", "F", "M", "M"], parity=[1.0, 2.0, 0.0, 1.0]
    )
    fake = ruled(
        rules, born=[9.0, 9.0, 1.0, 1.0], died=[5.0] * 4, sex=["F", "F", "M", "F"], parity=[13.0, 0.0, 0.0, 1.0]
    )
    found = RuleViolations().run(evidence(real, synthetic=fake), seed=SEED)
    assert found.statistic.value == pytest.approx(0.5)
    assert found.control.value == pytest.approx(0.25)
    assert found.details["1. order: born, died"].value == pytest.approx(0.5)
    assert found.details["1. order: born, died (real)"].value == 0
    assert found.details["2. range: parity"].value == pytest.approx(0.25)
    assert found.details["3. implies: sex, parity (real)"].value == pytest.approx(0.25)
    worst = found.details["worst excess over real"]
    assert worst.value == pytest.approx(0.5)
    assert worst.low < worst.value < worst.high
    assert not any("M" in name.split() for name in found.details), "details name columns, never levels"


def test_rules_without_rules_or_columns_are_not_assessable():
    plain = ruled((), born=[1.0], died=[2.0], sex=["F"], parity=[0.0])
    with pytest.raises(NotAssessable, match="rules:"):
        RuleViolations().run(evidence(plain), seed=SEED)
    data = ruled((Order(("born", "died")),), born=[1.0], died=[2.0], sex=["F"], parity=[0.0])
    short = TableData(
        data.table.drop(columns="died"), TableSchema(tuple(c for c in data.schema.columns if c.name != "died"))
    )
    with pytest.raises(NotAssessable, match="died"):
        RuleViolations().run(Evidence(data, data, short, data.schema), seed=SEED)

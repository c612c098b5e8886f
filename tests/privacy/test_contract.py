"""Each way of breaking the contract is counted, and nothing else is."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from privacy_cases import categories, evidence, population, table, visits

from synthgen.data import TableData, assemble
from synthgen.privacy.contract import Contract
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing.invented import invented_cohort

CLEAN = "No patient, identifier or protected column is shared."


def measured(train, holdout, synthetic):
    return Contract().run(evidence(train, holdout, synthetic), seed=Seed(0))


def kinds(measurement):
    return {kind: estimate.value for kind, estimate in measurement.details.items() if estimate.value}


@pytest.fixture
def cohort():
    train, holdout = invented_cohort(400, seed=1).split_by_patient(seed=1)
    new = invented_cohort(300, seed=2)
    columns = {c.name: new.table[c.name].to_numpy() for c in new.schema.learned}
    return train, holdout, assemble(columns, new.schema, n=300, seed=Seed(3), backend="pandas")


def test_a_clean_audit_has_no_violation(cohort):
    found = measured(*cohort)
    assert (found.statistic.value, found.answer, kinds(found)) == (0, CLEAN, {})


def test_shared_patients_are_counted(cohort):
    train, holdout, synthetic = cohort
    both = TableData(pd.concat([holdout.table, train.table.iloc[:7]], ignore_index=True), holdout.schema)
    assert kinds(measured(train, both, synthetic)) == {"patients in train and holdout": 7}


def test_shared_visits_count_patients():
    train, synthetic = visits(50, 1), visits(50, 3)
    holdout = visits(40, 2)
    mixed = table(pd.concat([holdout.table, train.table[train.patients < 3]]), train.schema)
    assert kinds(measured(train, mixed, synthetic)) == {"patients in train and holdout": 3}


def test_without_a_patient_column_identifiers_speak():
    schema = TableSchema((Column("case", "identifier"), Column("x", "real")))
    frames = [
        pd.DataFrame({"case": names, "x": np.arange(3.0) + 10 * i})
        for i, names in enumerate((["a", "b", "c"], ["c", "d", "e"], ["f", "g", "h"]))
    ]
    assert kinds(measured(*(table(frame, schema) for frame in frames))) == {"patients in train and holdout": 1}


def test_real_identifiers_in_the_synthetic_table_are_counted(cohort):
    train, holdout, synthetic = cohort
    frame = synthetic.table.copy()
    frame.loc[:4, "patient"] = train.table.loc[:4, "patient"].to_numpy()
    frame.loc[5:6, "patient"] = holdout.table.loc[:1, "patient"].to_numpy()
    leaking = TableData(frame, synthetic.schema)
    found = measured(train, holdout, leaking)
    assert kinds(found) == {"identifiers of real patients in synthetic": 7}
    assert not any(str(name) in found.answer for name in train.table["patient"])


def test_numbers_and_texts_are_one_identifier():
    schema = TableSchema((Column("case", "identifier", roles=("patient",)), Column("x", "real")))
    cases = (["17", "18"], ["1", "2"], [17.0, 99.0])
    frames = [pd.DataFrame({"case": case, "x": [2.0 * i, 2.0 * i + 1]}) for i, case in enumerate(cases)]
    found = measured(*(table(frame, schema) for frame in frames))
    assert kinds(found) == {"identifiers of real patients in synthetic": 1}


def test_free_text_lacking_and_unknown_columns_are_counted(cohort):
    train, holdout, synthetic = cohort
    frame = synthetic.table.drop(columns=["bmi", "patient"]).assign(note="x", surprise=1.0)
    columns = tuple(c for c in synthetic.schema.columns if c.name in frame)
    schema = dataclasses.replace(
        synthetic.schema, columns=(*columns, Column("note", "text"), Column("surprise", "real"))
    )
    found = measured(train, holdout, TableData(frame, schema))
    assert kinds(found) == {
        "free-text columns in synthetic": 1,
        "columns lacking in synthetic": 1,
        "columns beyond the schema in synthetic": 1,
    }
    assert found.statistic.value == 3
    assert "columns, lacking: bmi" in found.notes


def test_a_holdout_that_repeats_train_is_found_and_twins_are_not():
    train, synthetic = population(300, 1), population(300, 3)
    shuffled = train.take(np.random.default_rng(1).permutation(300)[:200])
    assert kinds(measured(train, shuffled, synthetic)) == {"holdout rows that repeat train rows": 200}
    twins = table(pd.concat([train.table.iloc[:15], population(285, 2).table]))
    assert kinds(measured(train, twins, synthetic)) == {}
    assert kinds(measured(*(categories(300, seed, columns=3) for seed in (1, 2, 3)))) == {}


def test_a_row_index_names_no_patient():
    schema = TableSchema((Column("row", "identifier", dtype="int64"), Column("x", "real")))
    rng = np.random.default_rng(0)

    def numbered(first):
        rows = [str(number) for number in range(first, first + 60)]
        return TableData(pd.DataFrame({"row": rows, "x": rng.normal(size=60)}), schema)

    synthetic = TableData(pd.DataFrame({"x": rng.normal(size=60)}), schema=TableSchema(schema.columns[1:]))
    assert measured(numbered(0), numbered(0), synthetic).statistic.value == 0
    assert kinds(measured(numbered(500), numbered(530), synthetic)) == {"patients in train and holdout": 30}

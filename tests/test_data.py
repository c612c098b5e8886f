"""Tables: splits by patient, fingerprints, minted identifiers."""

import numpy as np
import pandas as pd
import pytest
from conftest import invented_patients

from synthgen.data import assemble
from synthgen.errors import DataError
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema


def visits(patients=200, seed=0):
    """Several rows per patient."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    frame = pd.DataFrame({"patient_id": numbers + 1000, "x": rng.normal(size=len(numbers)), "died": numbers % 5 == 0})
    return read(frame.sample(frac=1, random_state=1), patient="patient_id", target="died")


@pytest.mark.parametrize("holdout", [0.1, 0.3, 0.5])
def test_no_patient_is_on_both_sides(holdout):
    data = visits()
    train, sealed = data.split_by_patient(holdout=holdout, seed=3)
    assert not set(train.table["patient_id"]) & set(sealed.table["patient_id"])
    assert len(train) + len(sealed) == len(data)
    assert sealed.patient_count == round(holdout * 200)


def test_the_split_is_stratified_by_target():
    data = read(invented_patients(300), target="died")
    train, sealed = data.split_by_patient(holdout=0.3, seed=0)
    assert abs(train.table["died"].mean() - sealed.table["died"].mean()) < 0.02


def test_equal_seeds_equal_splits():
    first, again, other = (visits().split_by_patient(holdout=0.3, seed=s)[1].fingerprint() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("holdout", [0.0, 1.0, -1, 0.001])
def test_impossible_splits(holdout):
    with pytest.raises(DataError):
        visits(20).split_by_patient(holdout=holdout, seed=0)


def test_fingerprint_sees_values_names_and_order_of_rows_not_files():
    frame = pd.DataFrame({"age": [51, 60, None], "sex": ["F", None, "M"]})
    base = read(frame).fingerprint()
    assert read(frame.copy()).fingerprint() == base
    assert read(frame.astype({"sex": "category"})).fingerprint() == base
    assert read(frame.rename(columns={"age": "years"})).fingerprint() != base
    assert read(frame.iloc[::-1]).fingerprint() != base
    assert read(frame.assign(age=[51, 60, 1])).fingerprint() != base


def test_identifiers_are_minted_and_text_is_dropped_with_a_notice(caplog):
    schema = TableSchema(
        (
            Column("patient", "identifier", roles=("patient",), dtype="int64"),
            Column("visit", "identifier"),
            Column("age", "integer", dtype="int64"),
            Column("note", "text"),
        )
    )
    made = assemble({"age": [50.0, 61.0]}, schema, n=2, seed=Seed(1), backend="pandas")
    assert made.schema.names == ("patient", "visit", "age")
    assert "dropped from the synthetic table: note" in caplog.text
    assert made.frame["patient"].dtype == "int64"
    assert made.frame["patient"].is_unique
    assert made.table["visit"].str.startswith("SYN-").all()
    again = assemble({"age": [50.0, 61.0]}, schema, n=2, seed=Seed(1), backend="pandas")
    assert again.fingerprint() == made.fingerprint()


def test_shown_in_notebooks_without_rows():
    data = read(invented_patients(50))
    shown = data._repr_html_() + repr(data)
    assert "patient_id" in shown
    assert not any(value in shown for value in data.table["patient_id"])

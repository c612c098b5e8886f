"""Schema inference: kinds, roles and precision of known columns, and what never goes into a schema."""

import numpy as np
import pandas as pd
import pytest
from conftest import invented_patients, shared_table

from synthgen.errors import DataError
from synthgen.infer import canonical_table, infer_schema, with_observed
from synthgen.io import read, read_raw
from synthgen.schema import TableSchema, schema_yaml

LOINC = (
    "718-7 2345-7 2160-0 2951-2 2823-3 2075-0 17861-6 2885-2 1751-7 1975-2 6768-6 1742-6 1920-8 6690-2 789-8 4544-3 "
    "787-2 785-6 786-4 788-0 777-3"
)


def kind_of(values, name="x"):
    return infer_schema(pd.DataFrame({name: values}))[0].columns[0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3], "integer"),
        ([0, 1, 1], "boolean"),
        ([True, False], "boolean"),
        (["true", "FALSE"], "boolean"),
        ([1.5, 2.25], "real"),
        ([1.0, 2.0, np.nan], "integer"),
        (["1", "2", "?"], "integer"),
        (["1.50", "2.25"], "real"),
        (["007", "012"], "categorical"),
        (["2020-01-31", "2021-02-01"], "datetime"),
        (["2020-01-31 10:11", "2021-02-01 00:00"], "datetime"),
        (["31.01.2020", "01.02.2021"], "datetime"),
        (["F", "M"], "categorical"),
        (["1", "2", "3", "4+"], "categorical"),
        ([None, None], "categorical"),
        ([f"{i}.{i % 10}" for i in range(250, 290)] + ["V57", "E909"], "code"),
        ([f"K{i}-{i * 7 % 13}" for i in range(60)], "identifier"),
        ([f"the patient was seen on ward {i} and felt rather well" for i in range(40)], "text"),
    ],
)
def test_kinds(values, kind):
    assert kind_of(values).kind == kind


@pytest.mark.parametrize(
    ("codes", "system"),
    [
        ([f"E11.{i}" for i in range(30)], "icd10"),
        ([f"{i}.{i % 10}" for i in range(250, 290)] + ["V57", "E909"], "icd9"),
        ([f"C09A{letter}{i:02d}" for letter in "AB" for i in range(1, 12)], "atc"),
        (LOINC.split(), "loinc"),
        ([*(f"E11.{i}" for i in range(30)), "250.83"], None),
    ],
)
def test_the_system_of_codes_is_named_where_it_is_clear(codes, system):
    column = kind_of(codes * 2, name="dx")
    assert (column.kind, column.system) == ("code", system)


def test_identifiers_by_name_and_by_sequence():
    schema, remarks = infer_schema(invented_patients(60).assign(row=range(60), visit_id=np.arange(60) * 17 % 1009))
    assert schema["patient_id"].kind == "identifier"
    assert schema.patient == "patient_id"
    assert "patient" in remarks["patient_id"]
    assert schema["row"].kind == "identifier"
    assert schema["visit_id"].kind == "identifier"
    assert schema["age"].roles == ("quasi_identifier",)


def test_decimals():
    assert kind_of([0.1, 0.25]).decimals == 2
    assert kind_of(["3.125", "2"]).decimals == 3
    assert kind_of(list(np.random.default_rng(0).normal(size=50))).decimals is None


def test_a_schema_holds_no_extreme_and_no_level():
    frame = pd.DataFrame({"age": [*range(30, 70), 117], "ward": ["a", "b"] * 20 + ["rare-ward-x"]})
    schema, remarks = infer_schema(frame)
    text = schema_yaml(schema, comments=remarks)
    assert "117" not in text
    assert "rare-ward-x" not in text


def test_levels_and_bounds_only_by_name():
    frame = pd.DataFrame({"age": [30, 117], "sex": ["F", "M"]})
    schema = infer_schema(frame)[0]
    chosen = with_observed(schema, canonical_table(frame, schema), levels=("sex",), bounds=("age",))
    assert chosen["sex"].levels == ("F", "M")
    assert (chosen["age"].minimum, chosen["age"].maximum) == (30, 117)
    with pytest.raises(DataError, match="only categorical"):
        with_observed(schema, frame, levels=("age",), bounds=())


def test_yaml_round_trip():
    import yaml

    schema, remarks = infer_schema(invented_patients(60))
    text = schema_yaml(schema, comments=remarks)
    assert TableSchema.from_mapping(yaml.safe_load(text)) == schema


def test_mixed_columns_can_be_declared(tmp_path):
    values = [str(i) for i in range(60)] + ["<5"] * 3
    with pytest.raises(DataError, match="60 numbers with 3 other"):
        infer_schema(pd.DataFrame({"lab": values}))
    path = tmp_path / "s.yaml"
    path.write_text("columns:\n  lab: {kind: integer, missing: ['<5']}\n")
    assert read(pd.DataFrame({"lab": values}), schema=path).table["lab"].isna().sum() == 3


def test_diabetes130():
    schema, _ = infer_schema(read_raw(shared_table("diabetes130")).head(20_000))
    assert schema["patient_nbr"].roles == ("patient",)
    assert schema["encounter_id"].kind == "identifier"
    assert {(schema[f"diag_{i}"].kind, schema[f"diag_{i}"].system) for i in (1, 2, 3)} == {("code", "icd9")}


def test_adult():
    data = read(shared_table("adult_train"))
    assert len(data) == 32_561
    assert not data.schema.identifiers
    assert data.table["workclass"].isna().sum() == 1_836

"""What stands above a code: known answers of each system, and laws that every one obeys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.codes import ancestors, infer_system
from synthgen.errors import SchemaError
from synthgen.schema import Column, TableSchema, schema_yaml


@pytest.mark.parametrize(
    ("code", "system", "above"),
    [
        ("I10", "icd10", ()),
        ("E11.9", "icd10", ("E11",)),
        ("S72.001A", "icd10", ("S72.001", "S72.00", "S72.0", "S72")),
        ("W00.0XXA", "icd10", ("W00.0", "W00")),
        ("T07XXXA", "icd10", ("T07",)),
        ("C7A.010", "icd10", ("C7A.01", "C7A.0", "C7A")),
        ("E11.", "icd10", ()),
        ("250.83", "icd10", ()),
        ("250.83", "icd9", ("250.8", "250")),
        ("25083", "icd9", ("2508", "250")),
        ("8.45", "icd9", ("8.4", "8")),
        ("38", "icd9", ()),
        ("V45.81", "icd9", ("V45.8", "V45")),
        ("E8490", "icd9", ("E849",)),
        ("E11.9", "icd9", ()),
        ("A10BA02", "atc", ("A10BA", "A10B", "A10", "A")),
        ("A", "atc", ()),
        ("E10BA02", "atc", ()),
        ("2345-7", "loinc", ()),
        ("5-470.11", "separator", ("5-470", "5")),
        ("-1", "separator", ()),
        ("E11.9", "none", ()),
    ],
)
def test_known_codes(code, system, above):
    assert ancestors(code, system) == above


@settings(max_examples=300, derandomize=True)
@given(
    st.sampled_from(["icd9", "icd10", "atc", "loinc", "separator"]),
    st.one_of(
        st.from_regex(r"\A[A-Z0-9.\-/ ]{0,9}\Z"),
        st.from_regex(r"\A[A-TV-Z][0-9][0-9A-Z](\.?[0-9AXDS]{1,4})?\Z"),
        st.from_regex(r"\A([0-9]{1,3}|V[0-9]{2}|E[0-9]{3})(\.[0-9]{1,2})?\Z"),
        st.from_regex(r"\A[A-V][0-9]{2}[A-Z]{2}[0-9]{2}\Z"),
    ),
)
def test_above_a_code_stand_shorter_codes_and_above_those_the_same(system, code):
    above = ancestors(code, system)
    assert all(one and code.startswith(one) for one in above)
    assert list(above) == sorted(set(above), key=len, reverse=True)
    if above and system != "separator":
        assert ancestors(above[0], system) == above[1:]


def test_what_is_no_system_is_none():
    assert infer_system([]) is None
    assert infer_system(["V45", "E849"]) is None
    assert infer_system(["2345-6"]) is None  # a wrong check digit
    assert infer_system(["local 1", "E11.9"]) is None


def test_the_schema_says_the_system():
    schema = TableSchema((Column("dx", "code", system="icd10"),))
    assert TableSchema.from_mapping(schema.to_mapping()) == schema
    assert "system: icd10" in schema_yaml(schema)
    for wrong in (Column("dx", "code", system="icd11"), Column("dx", "categorical", system="icd10")):
        with pytest.raises(SchemaError, match="column 'dx': system is for code columns, one of icd9, icd10"):
            TableSchema((wrong,))

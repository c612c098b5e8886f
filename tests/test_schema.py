"""Schemas and rules: what a schema file may say, and what the rules find."""

import numpy as np
import pandas as pd
import pytest

from synthgen.errors import SchemaError
from synthgen.rules import Implies, Order, Range, Sum, rule_from_mapping, rule_to_mapping, violations
from synthgen.schema import Column, TableSchema, read_schema

COLUMNS = "columns:\n  age: {kind: integer}\n  sex: {kind: categorical}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {age: {kind: integr}}", "did you mean 'integer'"),
        ("columns: {age: {knd: integer}}", "at least its kind"),
        ("columns: {age: {kind: integer, untit: a}}", "did you mean 'unit'"),
        ("columms: {}", "'columns'"),
        (COLUMNS + "rule: []", "did you mean 'rules'"),
        (COLUMNS + "rules: [{range: {column: agee}}]", "lacks: 'agee'"),
        (COLUMNS + "rules: [{rnage: {column: age}}]", "did you mean 'range'"),
        (COLUMNS + "rules: [{range: {column: sex, minimum: 0}}]", "categorical, not a number"),
        (COLUMNS + "rules: [{order: [age, sex]}]", "compares numbers"),
        (COLUMNS + "rules: [{order: [age]}]", "at least two"),
        (COLUMNS + "rules: [{range: {minimum: 0}}]", "lacks a field"),
        (COLUMNS + "rules: [{range: {column: age, lowest: 0}}]", "no field 'lowest'"),
        ("columns: {a: {kind: real, roles: [target]}, b: {kind: real, roles: target}}", "more than one"),
        ("columns: {a: {kind: text, roles: [target]}}", "never learned"),
        ("columns: {a: {kind: real, roles: [traget]}}", "did you mean 'target'"),
        ("columns: {a: {kind: real, minimum: 3, maximum: 1}}", "above maximum"),
        ("columns: [", "not YAML at line"),
        ("3", "a schema is a mapping"),
    ],
)
def test_wrong_schema_files(tmp_path, text, message):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SchemaError, match=message):
        read_schema(path)


def test_missing_schema_file(tmp_path):
    with pytest.raises(SchemaError, match="cannot read"):
        read_schema(tmp_path / "none.yaml")


def test_synthetic_schema_drops_text_and_its_rules():
    schema = TableSchema(
        (Column("note", "text"), Column("sex", "categorical"), Column("pregnant", "boolean")),
        rules=(Implies({"note": ("x",)}, {"sex": ("F",)}), Implies({"sex": ("M",)}, {"pregnant": ("0",)})),
    )
    assert schema.synthetic().names == ("sex", "pregnant")
    assert len(schema.synthetic().rules) == 1


RULES = (
    (Order(("born", "seen")), [False, True, False, False]),
    (Range("age", 0, 120), [False, False, True, False]),
    (Implies({"sex": ("M",)}, {"pregnant": ("0",)}), [False, False, False, True]),
    (Sum("total", ("a", "b")), [False, False, True, False]),
)


def test_rules_on_a_table_made_by_hand():
    table = pd.DataFrame(
        {
            "born": pd.to_datetime(["2000-01-01", "2001-01-01", None, "2000-01-01"]),
            "seen": pd.to_datetime(["2000-01-01", "2000-01-01", "2000-01-01", "2020-01-01"]),
            "age": [0.0, 120.0, 121.0, np.nan],
            "sex": ["F", "M", "F", "M"],
            "pregnant": [1.0, 0.0, np.nan, 1.0],
            "total": [3.0, np.nan, 3.0, 0.0],
            "a": [1.0, 1.0, 1.0, 0.0],
            "b": [2.0, 1.0, 1.0, 0.0],
        }
    )
    found = violations([rule for rule, _ in RULES], table, train=table)
    assert [broken.tolist() for broken in found] == [expected for _, expected in RULES]


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=lambda rule: rule.keyword)
def test_rules_round_trip(rule):
    assert rule_from_mapping(rule_to_mapping(rule)) == rule

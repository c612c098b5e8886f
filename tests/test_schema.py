"""Schemas and rules: what a schema file may say, and what the rules find."""

import numpy as np
import pandas as pd
import pytest

from synthgen.errors import SchemaError
from synthgen.rules import (
    Combination,
    Formula,
    Implies,
    Order,
    Range,
    Sum,
    rule_from_mapping,
    rule_to_mapping,
    violations,
)
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
        (COLUMNS + "rules: [{combination: [sex]}]", "at least two"),
        (COLUMNS + "rules: [{combination: [sex, age, sex]}]", "names a column twice: sex, age, sex"),
        (COLUMNS + "rules: [{formula: {column: age, expression: ages + 1}}]", "lacks: 'ages'"),
        (COLUMNS + "rules: [{formula: {column: sex, expression: age + 1}}]", "'sex' is categorical"),
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


DERIVED = pd.DataFrame(
    {
        "bmi": [24.7, 24.8, np.nan, 20.0],
        "weight": [80.0, 80.0, 80.0, np.nan],
        "height": [180.0, 180.0, 0.0, 180.0],
        "drug": ["a", "b", None, "b"],
        "dose": [1.0, 2.0, np.nan, 1.0],
    }
)


def test_formulas_and_combinations_on_a_table_made_by_hand():
    rules = [Formula("bmi", "weight / (height / 100) ** 2"), Combination(("drug", "dose"))]
    found = violations(rules, DERIVED, train=DERIVED.iloc[:3])
    assert [broken.tolist() for broken in found] == [[False, True, False, False], [False, False, False, True]]
    assert Formula("bmi", "weight / (height / 100) ** 2", 0.2).violations(DERIVED).sum() == 0


def test_an_order_looks_over_missing_values():
    table = pd.DataFrame({"a": [3.0, 1.0], "b": [np.nan, np.nan], "c": [2.0, 2.0]})
    assert Order(("a", "b", "c")).violations(table).tolist() == [True, False]


@pytest.mark.parametrize(
    "rule",
    [Formula("a", "b + 1"), Formula("a", "b", 0.5), Combination(("a", "b")), Implies({"a": (None,)}, {"b": ("1",)})],
)
def test_new_rules_round_trip(rule):
    assert rule_from_mapping(rule_to_mapping(rule)) == rule


KINDS = {
    "x": Column("x", "real", decimals=1),
    "y": Column("y", "real", decimals=1),
    "n": Column("n", "integer", minimum=5, maximum=9),
    "m": Column("m", "integer", maximum=4),
    "sex": Column("sex", "categorical", levels=("F", "M")),
    "dx": Column("dx", "code"),
    "flag": Column("flag", "boolean"),
    "day": Column("day", "datetime"),
    "id": Column("id", "identifier"),
}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Order(("x", "y")), Order(("y", "x"))], "go in a circle: x, y"),
        ([Order(("x", "x"))], "in a circle"),
        ([Range("x", 3, 1)], "column 'x': its declared bounds"),
        ([Range("n", 0, 4)], "column 'n': its declared bounds"),
        ([Range("x", 1, 5), Range("x", 6, 9)], "leave no value"),
        ([Range("n", 7.2, 7.8)], "leave no value"),
        ([Order(("n", "x", "m"))], "no value of 'm' keeps its bounds and those of n, x"),
        ([Order(("x", "n", "y")), Range("x", 6.5, 8), Range("y", 6, 6.9)], "no value of 'y'"),
        ([Sum("x", ("y", "y2"))], "lacks: 'y2'"),
        ([Sum("x", ("y", "y"), 0.1), Formula("x", "y + 1")], "'x' is derived by 2 rules"),
        ([Formula("x", "y + 1"), Formula("y", "x - 1")], "in a circle: x, y"),
        ([Formula("x", "y + 1"), Order(("x", "y"))], "'x' is derived by rule 'formula', and rule 'order'"),
        ([Formula("x", "y + 1"), Range("x", 0, 9)], "rule 'range' cannot hold too: let it speak of y"),
        ([Formula("n", "y + 1")], "'n' is derived: declare bounds of y"),
        ([Formula("flag", "y + 1")], "'flag' is boolean"),
        ([Formula("x", "y + 1", 0.01)], "raise the tolerance to 0.05"),
        ([Implies({"sex": ("M",)}, {"dx": ()})], "'then' lists no level"),
        ([Implies({}, {"dx": ("a",)})], "'when' lists no level"),
        (
            [Implies({"sex": ("M",)}, {"dx": ("a",)}), Implies({"sex": ("M", "F")}, {"dx": ("b",)})],
            "leave 'dx' no level",
        ),
        ([Implies({"dx": ("a",)}, {"sex": ("X",)})], "leave 'sex' no level"),
        (
            [Implies({"dx": ("a",)}, {"sex": ("F",)}), Implies({"sex": ("F",)}, {"dx": ("b",)})],
            "where its 'when' is met, the rules 'implies' leave 'dx' no level",
        ),
        ([Implies({"flag": ("yes",)}, {"dx": ("b",)})], "'flag' is no number"),
        ([Implies({"flag": ("2",)}, {"dx": ("b",)})], "write 0 and 1"),
        ([Implies({"day": ("2020",)}, {"dx": ("b",)})], "'day' is datetime, not made of levels"),
        ([Implies({"m": ("1",)}, {"dx": ("b",)}), Order(("m", "x"))], "both in 'order' and in 'implies'"),
        ([Order(("id", "x"))], "'id' is minted anew"),
    ],
)
def test_contradictory_rules_are_named_when_the_schema_is_made(rules, message):
    with pytest.raises(SchemaError, match=message):
        TableSchema(tuple(KINDS.values()), tuple(rules))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("__import__('os')", "something else than arithmetic|no function"),
        ("weight.real + 1", "something else"),
        ("weight if height else 1", "something else"),
        ("'text' + weight", "something else"),
        ("weight[0]", "something else"),
        ("sin(weight)", "no function 'sin'"),
        ("max(weight)", "takes 2 values"),
        ("weight +", "cannot be read"),
        ("1 + 2", "names no column"),
        ("+" * 60 + "weight", "nested too deeply"),
        ("weight + " * 200 + "1", "at most 1000 characters"),
        ("max + weight", "something else"),
    ],
)
def test_formulas_are_arithmetic_and_nothing_else(expression, message):
    with pytest.raises(SchemaError, match=message):
        Formula("bmi", expression)


def test_formulas_follow_precedence_dates_and_odd_names():
    table = {
        "a b": pd.Series([2.0, np.nan, 3.0]),
        "c": pd.Series([3.0, 1.0, 0.0]),
        "from": pd.Series(pd.to_datetime(["2020-01-01", "2020-01-01", None])),
        "to": pd.Series(pd.to_datetime(["2020-01-02 12:00", "2020-01-01 00:00", "2020-01-01 00:00"])),
    }

    def value(expression):
        return Formula("x", expression).derived(table).tolist()

    assert value("-`a b` ** 2 + c * 2 - 1")[0] == -(2.0**2) + 3 * 2 - 1
    assert np.isnan(value("c ** 0 + `a b` * 0")[1])
    assert np.isnan(value("1 / c")[2])
    assert value("to - `from`")[:2] == [1.5, 0.0]
    assert value("max(floor(c / 2), min(c, 1))")[0] == 1.0

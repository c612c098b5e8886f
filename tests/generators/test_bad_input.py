"""Tables that break other generators: with each of ours, every one works or fails with a clear error."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.errors import DataError, UsageError
from synthgen.io import read
from synthgen.registry import create
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

QUICK = {
    "independent": {},
    "copula": {"sweeps": 3},
    "diffusion": {"max_steps": 6, "width": 32, "threads": 1},
    "gan": {"max_steps": 6, "width": 32, "threads": 1},
}
N = 300


def made(data, name, *, n=80, **conditions):
    return create("generators", name, QUICK[name]).fit(data, seed=1).sample(n, seed=2, **conditions)


def tables():
    """Name -> a frame of 300 rows."""
    rng = Seed(4).numpy()
    levels = rng.choice(np.array(["a", "b", "c"], dtype=object), (N, 6))
    numbers = rng.normal(50, 9, (N, 6)).round(1)
    gappy = pd.DataFrame({"x": numbers[:, 0], "n": rng.integers(0, 9, N), "c": levels[:, 0], "b": rng.random(N) < 0.4})
    return {
        "all categorical": pd.DataFrame(levels, columns=list("abcdef")),
        "all numeric": pd.DataFrame(numbers, columns=list("abcdef")),
        "one level column": pd.DataFrame({"c": levels[:, 0]}),
        "one number column": pd.DataFrame({"x": numbers[:, 0]}),
        "one date column": pd.DataFrame({"d": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N), unit="D")}),
        "sparse binary": pd.DataFrame((rng.random((N, 500)) < 0.04).astype(int)).add_prefix("flag"),
        "constant": pd.DataFrame({"x": 3.5, "n": 7, "c": "a", "b": True, "y": numbers[:, 1]}),
        "all missing": pd.DataFrame({"x": np.nan, "c": np.array([None] * N, dtype=object), "y": numbers[:, 1]}),
        "numbers as text": pd.DataFrame({"x": numbers[:, 0], "n": np.arange(N) % 9}).astype(str).astype(object),
        "30 % missing": gappy.astype({"b": "boolean"}).mask(rng.random(gappy.shape) < 0.3),
        "huge and tiny": pd.DataFrame({"x": numbers[:, 0] * 1e250, "y": numbers[:, 1] * 1e-250}),
    }


CASES = tables()
each_generator = pytest.mark.parametrize("name", QUICK)


@each_generator
@pytest.mark.parametrize("case", CASES)
def test_odd_tables_come_back_in_their_own_form(name, case):
    frame = CASES[case]
    synthetic = made(read(frame), name)
    assert len(synthetic) == 80
    if case != "numbers as text":
        assert synthetic.frame.dtypes.equals(frame.dtypes)
    for column in frame:
        share, real = synthetic.table[column].isna().mean(), frame[column].isna().mean()
        assert share == real if real in (0, 1) else 0.05 < share < 0.6  # 30 %: five standard errors of 80 rows


@each_generator
def test_numbers_written_as_text_are_numbers(name):
    frame = CASES["numbers as text"]
    synthetic = made(read(frame), name)
    assert [column.kind for column in synthetic.schema.columns] == ["real", "integer"]
    assert synthetic.frame.dtypes.tolist() == [np.float64, np.int64]
    assert synthetic.table["x"].between(*np.sort(frame["x"].astype(float))[[4, -5]]).all()


@each_generator
def test_a_constant_stays_constant(name):
    rows = made(read(CASES["constant"]), name).table
    assert (rows["x"] == 3.5).all()
    assert (rows["n"] == 7).all()
    assert (rows["c"] == "a").all()
    assert (rows["b"] == 1).all()


@each_generator
def test_one_value_per_row_is_no_level_but_may_be_an_identifier(name):
    each = np.array([f"value {i}" for i in range(N)], dtype=object)
    frame = pd.DataFrame({"c": each, "y": CASES["all numeric"]["a"]})
    minted = made(read(frame), name).table["c"]
    assert minted.is_unique
    assert not minted.isin(each).any()
    levels = TableData(frame, TableSchema((Column("c", "categorical"), Column("y", "real", decimals=1))))
    assert made(levels, name).table["c"].isna().all()  # nothing that a single patient has is learned
    with pytest.raises(DataError, match="learned"):
        made(read(frame[["c"]]), name)


@each_generator
def test_five_thousand_levels(name):
    rng = Seed(5).numpy()
    levels = np.array([f"level {i}" for i in range(5_000)], dtype=object)
    values = levels[np.minimum(rng.exponential(900, 20_000).astype(int), 4_999)]
    frame = pd.DataFrame({"c": values, "x": rng.normal(0, 1, 20_000)})
    schema = TableSchema((Column("c", "categorical"), Column("x", "real")))
    rows = made(TableData(frame, schema), name, n=500).table
    counts = frame["c"].value_counts()
    assert (counts[rows["c"]] >= 5).all()


@each_generator
def test_unknown_levels_in_conditions_are_refused_without_their_name(name):
    generator = create("generators", name, QUICK[name]).fit(read(CASES["30 % missing"]), seed=1)
    given = pd.DataFrame({"c": ["a", "SECRET", "SECRET"]})
    for asked in ({"where": {"c": "SECRET"}}, {"given": given}):
        with pytest.raises(UsageError, match=r"column 'c': [123] fixed values are none that the model") as caught:
            generator.sample(3, seed=1, **asked)
        assert "SECRET" not in str(caught.value)
    assert (generator.sample(3, seed=1, where={"c": "b"}).table["c"] == "b").all()


@each_generator
def test_twenty_patients(name):
    """Generators that could learn rows by heart refuse; baselines keep what five patients share."""
    few = read(CASES["30 % missing"].head(20))
    if "force" in {field.name for field in dataclasses.fields(create("generators", name))}:
        with pytest.raises(DataError, match="too few patients: 20, and at least 50"):
            made(few, name)
        rows = create("generators", name, {**QUICK[name], "force": True}).fit(few, seed=1).sample(10, seed=2)
    else:
        rows = made(few, name, n=10)
    assert len(rows) == 10


@each_generator
def test_a_table_without_rows_is_refused(name):
    data = read(CASES["all numeric"])
    with pytest.raises(DataError, match=r"(from 0 rows|too few patients: 0)"):
        made(data.take(np.arange(0)), name)


@each_generator
def test_a_rare_code_in_a_condition_counts_as_the_code_above_it(name):
    codes = np.array(["E11.9"] * 200 + ["E11.64"] * 4 + ["E11.65"] * 4 + ["I10"] * 92, dtype=object)
    schema = TableSchema((Column("dx", "code", system="icd10"), Column("x", "real")))
    data = TableData(pd.DataFrame({"dx": codes, "x": np.arange(float(N))}), schema)
    for asked in ("E11.64", "E11.69"):  # of four patients, of none: no difference is to be seen
        assert set(made(data, name, n=5, where={"dx": asked}).table["dx"]) == {asked}
    with pytest.raises(UsageError, match="column 'dx': 1 fixed values are none"):
        made(data, name, n=5, where={"dx": "C61"})

"""Do cells tell how a column is spread, and never of a few patients? Tables made by hand, and a search over many."""

import math

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.validators.cells import cells_of, missing_rates


def data(column, values, patients=None):
    schema = TableSchema((column, *((Column("id", "identifier", roles=("patient",)),) if patients is not None else ())))
    frame = pd.DataFrame({column.name: values} | ({"id": patients} if patients is not None else {}))
    return TableData(frame, schema)


def shares(column, one, other):
    found = cells_of([column], data(column, one), data(column, other)).get(column.name, ())
    return [(cell.label, round(cell.synthetic.value, 3), round(cell.holdout.value, 3)) for cell in found]


def test_whole_numbers_lie_in_cells_that_begin_at_round_ones():
    age = Column("age", "integer")
    one = [float(a) for a in (*range(20, 80),) * 4]
    other = [float(a) for a in (*range(20, 60),) * 6]
    assert shares(age, one, other) == [
        ("below 30", 0.167, 0.25),
        ("30 to 39", 0.167, 0.25),
        ("40 to 49", 0.167, 0.25),
        ("50 to 59", 0.167, 0.25),
        ("60 to 69", 0.167, 0.0),
        ("70 and above", 0.167, 0.0),
    ]


def test_small_cells_are_joined_and_a_gap_on_one_side_stays_visible():
    x = Column("x", "integer")
    one = [0.0] * 50 + [1.0] * 9 + [2.0] * 41
    other = [0.0] * 50 + [2.0] * 45 + [np.nan] * 5
    assert shares(x, one, other) == [("below 1", 0.5, 0.5), ("1 and above or missing", 0.5, 0.5)]
    assert shares(x, [*one, 1.0], other)[1] == ("1", round(10 / 101, 3), 0.0)
    assert shares(x, [0.0] * 95 + [1.0] * 5, [0.0] * 95 + [1.0] * 5) == [], "one cell says nothing"


def test_levels_are_numbered_and_the_rare_ones_counted_together():
    sex = Column("sex", "categorical")
    one = ["<b>f</b>"] * 60 + ["m"] * 30 + ["secret"] * 6 + ["other secret"] * 5
    other = ["<b>f</b>"] * 20 + ["m"] * 70 + ["third secret"] * 9 + [None] * 2
    assert [label for label, *_ in shares(sex, one, other)] == [
        "level 1",
        "level 2",
        "level 3 to level 4",
        "level 5 or missing",
    ]
    assert [label for label, *_ in shares(sex, one[:-5], other[:-11])] == ["level 1", "level 2 to level 3"]
    assert shares(Column("b", "boolean"), [1.0] * 30 + [0.0] * 10, [1.0] * 20 + [0.0] * 20) == [
        ("no", 0.25, 0.5),
        ("yes", 0.75, 0.5),
    ]


def test_dates_lie_between_turns_of_months_and_years():
    when = Column("when", "datetime")
    days = pd.Series(pd.date_range("2001-03-07", periods=1500, freq="D"))
    labels = [label for label, *_ in shares(when, days, days)]
    assert labels[0] == "before 2002"
    assert labels[-1] == "2005 and later"
    week = pd.Series([pd.Timestamp("2001-03-07")] * 40 + [pd.Timestamp("2001-03-09")] * 40)
    assert [label for label, *_ in shares(when, week, week)] == ["before 2001-03-09", "2001-03-09 and later"]


def test_patients_count_and_not_rows():
    x = Column("x", "integer")
    one = data(x, [0.0] * 40 + [1.0] * 40, [*range(40), *[99] * 40])
    assert cells_of([x], one, one) == {}, "forty rows of one patient are one patient"


@pytest.mark.parametrize("kind", ["real", "integer", "categorical", "datetime"])
def test_no_cell_is_small_and_all_together_are_everybody(kind):
    for number in range(30):
        rng = Seed(1).child(kind, str(number)).numpy()
        sizes, scale = rng.integers(20, 400, size=2), 10.0 ** rng.integers(-3, 6)
        values = [np.exp(rng.normal(size=size) * rng.uniform(0.1, 3)) * scale for size in sizes]
        if kind == "integer":
            values = [np.round(v) for v in values]
        columns = [pd.Series(np.where(rng.random(len(v)) < 0.05, np.nan, v)) for v in values]
        if kind == "categorical":
            columns = [v.map(lambda x: None if np.isnan(x) else f"{x:.0e}").astype(object) for v in columns]
        if kind == "datetime":
            days = [[pd.NaT if np.isnan(x) else pd.Timedelta(days=round(min(x, 9e4))) for x in v] for v in columns]
            columns = [pd.Timestamp("2001-01-01") + pd.Series(v, dtype="timedelta64[ns]") for v in days]
        found = shares_of(kind, columns)
        for side, size in zip(("synthetic", "holdout"), sizes, strict=True):
            counts = np.array([getattr(cell, side).value * size for cell in found])
            assert not len(found) or math.isclose(counts.sum(), size)
            assert ((counts < 0.5) | (counts > 9.5)).all()


def shares_of(kind, columns):
    column = Column("x", kind)
    return cells_of([column], *(data(column, values) for values in columns)).get("x", ())


def test_missing_rates_of_a_few_patients_are_not_told():
    x = Column("x", "real")
    one = data(x, [np.nan] * 30 + [1.0] * 70)
    for count, told in ((0, True), (9, False), (10, True), (95, False), (100, True)):
        rates = missing_rates(["x"], one, data(x, [np.nan] * count + [1.0] * (100 - count)))
        assert rates["missing rate, x"].value == 0.3
        assert math.isfinite(rates["missing rate, x (real holdout)"].value) == told

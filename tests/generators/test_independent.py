"""Independent marginals: each column as in train, nothing between them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ks_2samp

from synthgen.data import TableData
from synthgen.errors import DataError, UsageError
from synthgen.generators.codec import TableCodec
from synthgen.generators.independent import Independent, marginals
from synthgen.protocols import Run
from synthgen.schema import Column, TableSchema
from synthgen.testing import EXTREME, RARE_LEVEL, check_generator, invented_cohort

ODD = {
    "all missing": ("real", np.full(60, np.nan)),
    "constant": ("integer", np.full(60, 7.0)),
    "one value per row": ("categorical", np.array([f"level {i}" for i in range(60)], dtype=object)),
    "two levels": ("categorical", np.array(["a", "b"] * 30, dtype=object)),
    "almost all missing": ("boolean", np.array([1.0, 0.0] + [np.nan] * 58)),
    "dates": ("datetime", pd.date_range("2020-01-01", periods=60).to_numpy().astype("datetime64[ns]")),
}


def odd_table(*names):
    """A table of odd columns."""
    schema = TableSchema(tuple(Column(name, ODD[name][0]) for name in names))
    return TableData(pd.DataFrame({name: ODD[name][1] for name in names}), schema)


@pytest.fixture(scope="module")
def fitted():
    return Independent().fit(invented_cohort(2000), seed=1)


def test_each_column_keeps_its_distribution(fitted):
    """Three tests at level 1e-4, fixed seed: a right sampler fails one time in 3,300."""
    train, made = invented_cohort(2000), fitted.sample(2000, seed=2)
    women = int((made.table["sex"] == "F").sum())
    assert binomtest(women, 2000, float((train.table["sex"] == "F").mean())).pvalue > 1e-4
    assert ks_2samp(made.table["bmi"], train.table["bmi"]).pvalue > 1e-4
    gone = int(made.table["psa"].isna().sum())
    assert binomtest(gone, 2000, float(train.table["psa"].isna().mean())).pvalue > 1e-4


def test_columns_tell_nothing_about_each_other(fitted):
    """In train the gap is 0.95; the bound is four standard errors of a right sampler."""
    made = fitted.sample(4000, seed=3).table
    women = made["sex"] == "F"
    gap = made["psa"].isna()[women].mean() - made["psa"].isna()[~women].mean()
    assert abs(gap) < 0.063


def test_rare_levels_and_extremes_are_never_sampled(fitted):
    made = fitted.sample(20_000, seed=4).table
    assert RARE_LEVEL not in set(made["diagnosis"])
    assert made["psa"].max() < EXTREME


def test_marginals_are_the_shares_of_what_may_be_sampled():
    data = odd_table("two levels", "one value per row", "all missing")
    codec = Independent().fit(data, seed=0).model.codec
    restored = TableCodec.from_json(codec)
    two, each, nothing = marginals(restored, restored.encode(data))
    assert two.mass.tolist() == [0.5, 0.5]
    assert each.tokens.tolist() == nothing.tokens.tolist()[:1] == [[0]]  # nothing was learned: missing
    assert each.mass.tolist() == nothing.mass.tolist() == [1.0]


@pytest.mark.parametrize("names", [*[(name,) for name in ODD], tuple(ODD)], ids=str)
def test_odd_tables_come_back(names):
    data = odd_table(*names)
    made = Independent().fit(data, seed=1).sample(30, seed=2)
    assert made.schema.names == names
    if "all missing" in names:
        assert made.table["all missing"].isna().all()
    if "constant" in names:
        assert (made.table["constant"] == 7).all()


def test_the_battery_passes_on_a_table_of_levels_only():
    data = invented_cohort(600)
    schema = dataclasses.replace(data.schema, columns=(data.schema["sex"], data.schema["diagnosis"]), rules=())
    check_generator(Independent(), data=TableData(data.table[["sex", "diagnosis"]], schema))


def test_nothing_to_learn_is_an_error():
    schema = TableSchema((Column("id", "identifier"), Column("age", "integer")))
    empty = TableData(pd.DataFrame({"id": pd.Series(dtype=object), "age": pd.Series(dtype=float)}), schema)
    with pytest.raises(DataError, match="nothing to learn"):
        Independent().fit(empty, seed=0)
    only_ids = TableData(pd.DataFrame({"id": ["a", "b"]}, dtype=object), TableSchema((Column("id", "identifier"),)))
    with pytest.raises(DataError, match="0 learned columns"):
        Independent().fit(only_ids, seed=0)


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_the_number_of_rows_is_a_positive_whole_number(fitted, n):
    with pytest.raises(UsageError, match="at least 1"):
        fitted.sample(n, seed=0)


def test_given_rows_come_back_exactly(fitted):
    rows = invented_cohort(50, seed=9).table[["age", "bmi", "admitted", "diagnosis", "psa"]]
    rows = rows[rows["age"].between(30, 90) & (rows["diagnosis"] != RARE_LEVEL) & ~(rows["psa"] > 9)]
    rows = rows[rows["bmi"].between(19, 35)].reset_index(drop=True)
    made = fitted.sample(len(rows), seed=5, given=rows).table
    assert len(rows) > 30
    pd.testing.assert_frame_equal(made[list(rows.columns)], rows)


def test_the_end_of_the_fit_is_reported():
    told = []
    Independent().fit(invented_cohort(100), seed=0, run=Run(progress=told.append))
    assert [(event.done, event.total) for event in told] == [(1, 1)]

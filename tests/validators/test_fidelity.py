"""Missingness, columns and pairs: closed forms, laws on real patients, planted faults, awkward tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr
from sklearn.metrics import mutual_info_score
from validator_cases import changed, evidence, half_missing, many_kinds, permuted, real_thirds, table, visits

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.validators.encoding import Bins
from synthgen.validators.fidelity import Columns, Missingness, Pairs
from synthgen.validators.pairs import PairTables, choose_blocks

SEED = Seed(3)
CHECKS = (Missingness, Columns, Pairs)


@pytest.fixture(scope="module")
def thirds():
    return real_thirds()


def run(check, given):
    return check().run(given, seed=SEED)


def with_synthetic(given, synthetic):
    return Evidence(given.train, given.holdout, synthetic, given.schema)


@pytest.mark.parametrize("check", CHECKS)
def test_a_fresh_real_draw_lies_near_the_control(check, thirds):
    found = run(check, thirds)
    assert found.statistic.low <= found.control.high
    assert found.control.low <= found.statistic.high
    assert found.statistic.low <= found.statistic.value <= found.statistic.high
    assert found.statistic.n == found.control.n == 713


def test_permuted_columns_break_pairs_and_leave_columns(thirds):
    broken = with_synthetic(thirds, permuted(thirds.synthetic))
    assert run(Pairs, broken).statistic.low > 2 * run(Pairs, thirds).statistic.high
    assert run(Pairs, broken).details["mutual information"].low > run(Pairs, thirds).details["mutual information"].high
    assert run(Columns, broken).statistic.value == pytest.approx(run(Columns, thirds).statistic.value, abs=1e-9)
    assert run(Missingness, broken).statistic.low > 0.3, "missing at random instead of where follow-up ended"


def test_half_of_a_lab_column_made_missing_is_seen(thirds):
    found = run(Missingness, with_synthetic(thirds, half_missing(thirds.synthetic, "cd420")))
    assert found.statistic.value == pytest.approx(0.5, abs=0.05)
    assert found.statistic.low > 0.4
    assert found.control.high < 0.15
    assert found.details["cd420"].value == pytest.approx(0.5, abs=0.001)
    assert "cd420" in found.answer


@pytest.mark.parametrize("check", CHECKS)
def test_same_seed_same_result(check, thirds):
    assert run(check, thirds) == run(check, thirds)


@pytest.mark.parametrize("check", CHECKS)
def test_awkward_columns_are_measured(check):
    found = run(check, evidence(many_kinds(seed=1), many_kinds(seed=2), many_kinds(seed=3)))
    assert 0 <= found.statistic.low <= found.statistic.value <= found.statistic.high <= 1
    for estimate in found.details.values():
        assert estimate.low <= estimate.value <= estimate.high


@pytest.mark.parametrize("check", CHECKS)
def test_a_few_rows_and_several_rows_of_a_patient_are_measured(check):
    short = run(check, evidence(many_kinds(), many_kinds(seed=2), many_kinds(3, seed=3)))
    assert short.statistic.n == 3
    repeated = run(check, evidence(visits(seed=1), visits(seed=2), visits(seed=3)))
    assert repeated.statistic.n == 240


def test_intervals_know_that_rows_of_a_patient_are_alike():
    apart = [
        TableData(v.table[["lab", "bad"]], TableSchema(v.schema.columns[1:]))
        for v in (visits(seed=s) for s in (1, 2, 3))
    ]
    rows, patients = run(Columns, evidence(*apart)), run(Columns, evidence(*(visits(seed=s) for s in (1, 2, 3))))
    assert patients.statistic.value == pytest.approx(rows.statistic.value)
    assert patients.statistic.high - patients.statistic.low > 1.5 * (rows.statistic.high - rows.statistic.low)


def test_columns_are_ks_and_total_variation_with_missing_as_a_level():
    rng = np.random.default_rng(5)
    one = table([("x", "real"), ("s", "categorical")], x=rng.normal(size=80), s=["a"] * 40 + ["b"] * 40)
    two = table(
        [("x", "real"), ("s", "categorical")], x=rng.normal(0.5, size=80), s=["a"] * 20 + [None] * 20 + ["c"] * 40
    )
    found = run(Columns, evidence(one, one, two))
    assert found.details["x"].value == pytest.approx(ks_2samp(one.table["x"], two.table["x"]).statistic)
    assert found.details["s"].value == pytest.approx(0.75)
    assert found.control.value == 0
    gone = changed(one, lambda t: t.assign(x=np.where(np.arange(80) < 60, np.nan, t["x"])))
    assert run(Columns, evidence(one, one, gone)).details["x"].value >= 0.75


def test_missingness_given_another_column_is_seen_where_rates_agree():
    group = np.repeat(["F", "M"], 100).astype(object)
    lab = np.where(group == "F", np.nan, 1.0)
    truth = table([("sex", "categorical"), ("lab", "real")], sex=group, lab=lab)
    spread = table([("sex", "categorical"), ("lab", "real")], sex=group, lab=np.tile([np.nan, 1.0], 100))
    found = run(Missingness, evidence(truth, truth, spread))
    assert found.details["lab"].value == pytest.approx(0, abs=1e-6)
    assert found.statistic.value == pytest.approx(0.5)
    assert found.control.value == 0


def test_values_missing_together_are_compared():
    off = np.tile([np.nan, 1.0], 60)
    together = table([("a", "real"), ("b", "real")], a=off, b=off)
    apart = table([("a", "real"), ("b", "real")], a=off, b=off[::-1].copy())
    found = run(Missingness, evidence(together, together, apart))
    assert found.details["largest difference of a rate of two columns missing together"].value == pytest.approx(0.5)


def test_nothing_missing_is_said_with_a_bound():
    whole = table([("x", "real")], x=np.arange(50.0))
    found = run(Missingness, evidence(whole))
    assert found.statistic.value == 0 < found.statistic.high
    assert "No value is missing" in found.answer


def test_pairs_agree_with_scipy_and_sklearn():
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    data = table(
        [("x", "real"), ("y", "real"), ("s", "categorical")],
        x=x,
        y=np.exp(x + rng.normal(size=200)),
        s=np.where(x + rng.normal(size=200) > 0, "hi", "lo").astype(object),
    )
    summary = PairTables.of(data.table, data.schema.columns, data.table).at(np.ones(200))
    assert summary.correlation[0, 1] == pytest.approx(spearmanr(data.table["x"], data.table["y"]).statistic, abs=1e-5)
    bins = Bins.of(data.schema["x"], data.table, count=5).codes(data.table)
    information = mutual_info_score(bins, data.table["s"])
    share = data.table["s"].value_counts(normalize=True)
    assert summary.information[0, 2] == pytest.approx(information / -(share * np.log(share)).sum(), abs=1e-5)


def test_pairs_skip_missing_values_of_either_column():
    x, y = np.arange(20.0), np.arange(20.0)
    y[:5], x[15:] = np.nan, np.nan
    data = table([("x", "real"), ("y", "real")], x=x, y=y)
    assert PairTables.of(data.table, data.schema.columns, data.table).at(np.ones(20)).correlation[
        0, 1
    ] == pytest.approx(1)


def test_weights_are_repetitions():
    data = many_kinds(40)
    tables = PairTables.of(data.table, data.schema.columns, data.table)
    rows = np.random.default_rng(1).integers(0, 40, 40)
    again = PairTables.of(data.table.iloc[rows].reset_index(drop=True), data.schema.columns, data.table)
    weighted, repeated = tables.at(np.bincount(rows, minlength=40).astype(float)), again.at(np.ones(40))
    assert weighted.correlation == pytest.approx(repeated.correlation, abs=1e-4)
    assert weighted.information == pytest.approx(repeated.information, abs=1e-4)


def test_one_column_has_no_pairs():
    with pytest.raises(NotAssessable, match="two learned columns"):
        run(Pairs, evidence(table([("x", "real")], x=np.arange(30.0))))


def test_only_identifiers_and_lacking_columns_are_not_assessable():
    nobody = table([("id", "identifier")], id=["a", "b"])
    full = table([("x", "real"), ("y", "real")], x=np.arange(30.0), y=np.arange(30.0))
    part = table([("x", "real")], x=np.arange(30.0))
    for check in CHECKS:
        with pytest.raises(NotAssessable, match="no learned column"):
            run(check, evidence(nobody))
        with pytest.raises(NotAssessable, match="lacks 1 column"):
            run(check, evidence(full, synthetic=part))


def test_identifiers_of_the_synthetic_table_are_not_needed():
    train = visits(seed=1)
    bare = TableData(train.table[["lab", "bad"]], TableSchema(train.schema.columns[1:]))
    for check in CHECKS:
        assert run(check, evidence(train, visits(seed=2), bare)).statistic.n == 240


def test_heavy_tails_are_cut_at_quantiles():
    heavy = table([("x", "real")], x=np.concatenate([np.zeros(50), 10.0 ** np.arange(50)]))
    bins = Bins.of(Column("x", "real"), heavy.table, count=4)
    shares = np.bincount(bins.codes(heavy.table), minlength=bins.size) / 100
    assert shares == pytest.approx([0.5, 0.25, 0.25, 0], abs=0.02)


def test_wide_tables_are_bounded_and_say_so():
    n, width = 300, 500
    rng = np.random.default_rng(0)
    names = [f"flag {i}" for i in range(width)]
    schema = TableSchema(tuple(Column(name, "boolean") for name in names))
    sides = [
        TableData(pd.DataFrame((rng.random((n, width)) < 0.02).astype(float), columns=names), schema) for _ in range(3)
    ]
    found = run(Pairs, evidence(*sides))
    assert any("of 124,750 pairs" in note for note in found.notes)
    assert found.statistic.low <= found.control.high
    assert len(run(Columns, evidence(*sides)).details) <= 101
    assert sorted(np.concatenate(choose_blocks(width, SEED))) == list(range(width))

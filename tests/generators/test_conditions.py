"""Conditions, balance and imputation: exact where they fix, lawful where they draw, refused where they cannot hold."""

import dataclasses
import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from synthgen.data import TableData
from synthgen.errors import DataError, UsageError
from synthgen.generators.cells import with_drawn
from synthgen.generators.conditions import apportioned
from synthgen.generators.copula import Copula
from synthgen.generators.independent import Independent
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.table_gan import TableGan
from synthgen.registry import create, names
from synthgen.rng import Seed
from synthgen.rules import Formula
from synthgen.schema import Column, TableSchema

N = 2_000
KINDS = {
    "pid": "identifier",
    "a": "boolean",
    "b": "categorical",
    "c": "categorical",
    "g": "boolean",
    "x": "integer",
    "z": "real",
    "y": "real",
    "stage": "integer",
    "dx": "categorical",
    "seen": "datetime",
    "empty": "real",
    "note": "text",
}


@pytest.fixture(scope="module")
def cohort() -> TableData:
    """b follows a in 90 %, c always; x is missing exactly where g; y is three times z; dx has rare levels."""
    rng = Seed(5).numpy()
    a, g = rng.random(N) < 0.5, rng.random(N) < 0.3
    b, z = np.where(rng.random(N) < 0.9, a, ~a), rng.normal(50, 10, N).round(1)
    dx = rng.choice(np.array(["flu", "cold", None], dtype=object), N)
    dx[:2] = ["SECRET-1", "SECRET-2"]
    columns = {
        "pid": [f"P{i}" for i in range(N)],
        "a": a.astype(float),
        "b": np.where(b, "yes", "no"),
        "c": np.where(a, "up", "down"),
        "g": g.astype(float),
        "x": np.where(g, np.nan, rng.integers(0, 30, N)),
        "z": z,
        "y": (3 * z).round(1),
        "stage": rng.integers(1, 5, N).astype(float),
        "dx": dx,
        "seen": np.datetime64("2021-01-01", "ns") + rng.integers(0, 300, N).astype("timedelta64[D]"),
        "empty": np.full(N, np.nan),
        "note": ["seen in clinic"] * N,
    }
    types = {"categorical": object, "identifier": object, "text": object, "datetime": "datetime64[ns]"}
    table = pd.DataFrame({n: pd.Series(v, dtype=types.get(KINDS[n], float)) for n, v in columns.items()})
    described = [Column(n, k, decimals=1 if k == "real" else None) for n, k in KINDS.items()]
    return TableData(table, TableSchema(tuple(described)))


@pytest.fixture(scope="module")
def diffusion(cohort) -> TableDiffusion:
    return TableDiffusion(max_steps=1_000, threads=1).fit(cohort, seed=1)


@pytest.fixture(scope="module")
def copula(cohort) -> Copula:
    return Copula().fit(cohort, seed=1)


@pytest.fixture(scope="module")
def independent(cohort) -> Independent:
    return Independent().fit(cohort, seed=1)


@pytest.fixture(scope="module")
def gan(cohort) -> TableGan:
    return TableGan(max_steps=20, width=32, threads=1).fit(cohort, seed=1)


@pytest.fixture(params=["diffusion", "gan", "copula", "independent"])
def fitted(request):
    return request.getfixturevalue(request.param)


# --- balance


def test_balance_gives_exact_counts_in_random_order(fitted):
    made = fitted.sample(1_003, seed=2, balance="stage").table["stage"]
    assert made.value_counts().to_dict() == {1.0: 251, 2.0: 251, 3.0: 251, 4.0: 250}
    assert not made.is_monotonic_increasing
    again, other = (fitted.sample(1_003, seed=s, balance="stage").table["stage"] for s in (2, 3))
    assert made.equals(again)
    assert not made.equals(other)


@pytest.mark.parametrize(
    ("balance", "counts"),
    [
        ({"a": {0: 0.25, 1: 0.75}}, {0.0: 25, 1.0: 75}),
        ({"a": {"false": 0.25, True: 0.75}}, {0.0: 25, 1.0: 75}),
        ({"stage": {"2": 0.333, 4: 0.667}}, {2.0: 33, 4.0: 67}),
        ({"dx": {"flu": 0.5, None: 0.5}}, {"flu": 50, None: 50}),
        ("dx", {"flu": 50, "cold": 50}),  # neither missing nor a rare level gets a share unless asked
    ],
)
def test_balance_takes_shares_and_leaves_missing_out_unless_asked(independent, balance, counts):
    made = independent.sample(100, seed=2, balance=balance).table[
        balance if isinstance(balance, str) else next(iter(balance))
    ]
    assert made.astype(object).where(made.notna(), None).value_counts(dropna=False).to_dict() == counts


def test_balance_joins_where_and_given(fitted):
    given = pd.DataFrame({"z": np.linspace(40, 60, 90).round(1)})
    made = fitted.sample(90, seed=2, where={"g": 0}, given=given, balance={"a": {0: 1 / 3, 1: 2 / 3}}).table
    assert made["a"].sum() == 60
    assert (made["g"] == 0).all()
    np.testing.assert_array_equal(made["z"], given["z"])


def test_other_columns_follow_a_balanced_one_as_in_train(diffusion, cohort):
    """Standard error of each share .008; the rest of the tolerance is what a short training may miss."""
    made = diffusion.sample(3_000, seed=2, balance={"a": {0: 0.5, 1: 0.5}}).table
    for a in (0, 1):
        truth = (cohort.table["b"] == "yes")[cohort.table["a"] == a].mean()
        assert abs((made["b"] == "yes")[made["a"] == a].mean() - truth) < 0.04


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.1] * 10, [1 / 3, 1 / 3, 1 / 3], [0.0, 0.9, 0.1]])
@pytest.mark.parametrize("n", [1, 7, 100, 1_000_003])
def test_apportioned_counts_are_whole_and_off_by_less_than_one(shares, n):
    counts = apportioned(np.array(shares), n)
    assert counts.sum() == n
    assert (np.abs(counts - n * np.array(shares)) < 1 + 1e-6).all()


def test_every_own_generator_balances_and_imputes():
    own = [name for name in names("generators") if not name.startswith(("sdv", "image"))]
    for generator in (create("generators", name) for name in own):
        assert "balance" in generator.sample.__kwdefaults__
        with pytest.raises(UsageError, match="fit"):
            generator.impute(pd.DataFrame({"a": [None]}), seed=1)


# --- conditions that cannot hold


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"where": {"b": "SECRET"}}, "column 'b': 1 fixed values are none that the model has learned"),
        ({"where": {"dx": "SECRET-1"}}, "column 'dx': 1 fixed values are none"),
        ({"given": pd.DataFrame({"b": ["yes"] * 8 + ["SECRET"] * 2})}, "column 'b': 2 fixed values are none"),
        ({"where": {"z": 4711.0}}, "column 'z': 1 fixed values are outside what the model has learned"),
        ({"where": {"seen": "1999-04-07"}}, "column 'seen': 1 fixed values are outside"),
        ({"given": pd.DataFrame({"z": [50.0] * 7 + [-4711.0] * 3})}, "column 'z': 3 fixed values are outside"),
        ({"where": {"stage": 4711}}, "column 'stage': 1 fixed values are outside"),
        ({"where": {"stage": 1.5}}, "column 'stage' is integer, but 1 values have a fraction"),
        ({"where": {"a": 4711}}, "column 'a' is boolean, but 1 values are neither 0 nor 1"),
        ({"where": {"z": "SECRET"}}, "column 'z' is real, but 1 values are not numbers"),
        ({"where": {"seen": "SECRET"}}, "column 'seen' is datetime"),
        ({"where": {"empty": 4711.0}}, "column 'empty': no value was learned, so it is always missing: 1 fixed values"),
        ({"where": {"b": None}}, "column 'b': 1 fixed values are missing, but train has none missing"),
        ({"where": {"b": ["yes", "SECRET"]}}, "column 'b' is held at one value; for several"),
        ({"where": {"bb": "SECRET"}}, "'bb' is not a learned column: did you mean 'b'"),
        ({"where": {"pid": "SECRET"}}, r"column 'pid' \(identifier\) is never learned"),
        ({"where": {"note": "SECRET"}}, r"column 'note' \(text\) is never learned"),
        ({"given": pd.DataFrame({"pid": ["SECRET"] * 10})}, r"column 'pid' \(identifier\) is never learned"),
        ({"given": pd.DataFrame({"b": ["yes"]})}, "given has 1 rows, but 10"),
        ({"given": {"b": "SECRET"}}, "given: cannot read a dict"),
        (
            {"given": pd.DataFrame([["yes", "no"]] * 10, columns=["b", "b"])},
            "given: the table has columns of the same name",
        ),
        (
            {"where": {"b": "yes"}, "given": pd.DataFrame({"b": ["yes"] * 10})},
            "'b' is fixed twice: by where and by given",
        ),
        ({"where": {"b": "yes"}, "balance": "b"}, "'b' is fixed twice: by balance and by where or given"),
        ({"balance": "z"}, "column 'z' is continuous"),
        ({"balance": {"seen": {"2021-04-07": 1}}}, "column 'seen' is continuous"),
        ({"balance": "empty"}, "no value of column 'empty' was learned"),
        ({"balance": "pid"}, "never learned"),
        ({"balance": "bb"}, "did you mean 'b'"),
        ({"balance": {"b": {"yes": 0.5, "SECRET": 0.5}}}, "column 'b': 1 fixed values are none"),
        ({"balance": {"b": {"yes": 0.5, "no": 0.4}}}, "shares of column 'b' must be"),
        ({"balance": {"b": {"yes": 1.5, "no": -0.5}}}, "shares of column 'b' must be"),
        ({"balance": {"b": {"yes": "SECRET", "no": 0.4}}}, "shares of column 'b' must be"),
        ({"balance": {"b": {}}}, "shares of column 'b' must be"),
        ({"balance": {"a": {1: 0.5, "1": 0.5}}}, "1 levels of column 'a' stand there twice"),
        ({"balance": {"b": {"yes": 0.5, None: 0.5}}}, "'b': 1 fixed values are missing, but train has none"),
        ({"balance": {"a": {1: 1.0}, "b": {"yes": 1.0}}}, "balance names one column"),
        ({"balance": ["a"]}, "balance names one column"),
    ],
)
def test_impossible_conditions_say_why_and_name_no_value(independent, arguments, words):
    with pytest.raises(UsageError, match=words) as caught:
        independent.sample(10, seed=1, **arguments)
    for value in ("SECRET", "4711", "1999", "04-07", "1.5"):
        assert value not in str(caught.value)


def test_what_a_model_samples_is_a_condition_that_it_can_meet(fitted):
    made = fitted.sample(300, seed=4)
    learned = made.learned
    again = fitted.sample(300, seed=5, given=learned).learned
    pd.testing.assert_frame_equal(again, learned)


def test_given_shifts_each_row_as_in_train(diffusion, cohort):
    """Row by row, the conditional shares are those of train; standard errors .008 and .012."""
    given = cohort.table[["a", "g"]].iloc[:1_500].reset_index(drop=True)
    made = diffusion.sample(1_500, seed=6, given=given).table
    for a in (0, 1):
        truth = (cohort.table["b"] == "yes")[cohort.table["a"] == a].mean()
        assert abs((made["b"] == "yes")[given["a"] == a].mean() - truth) < 0.05
        assert ((made["c"] == "up") == (given["a"] == 1))[given["a"] == a].mean() > 0.98
    assert made["x"].isna()[given["g"] == 1].mean() > 0.95
    assert made["x"].isna()[given["g"] == 0].mean() < 0.05


# --- imputation: what is drawn


def gappy(cohort: TableData, *columns: str, rows: int = 1_200) -> pd.DataFrame:
    table = cohort.take(np.arange(2, rows + 2)).table.copy()
    table.loc[::2, list(columns)] = None
    return table


def test_imputation_recovers_what_other_columns_determine(diffusion, cohort):
    frame = gappy(cohort, "c", "y")
    whole = diffusion.impute(frame, seed=3)
    truth = cohort.table.iloc[2:1_202].reset_index(drop=True)
    assert (whole["c"] == truth["c"]).mean() > 0.98
    miss = np.abs(whole["y"] - truth["y"])[::2]
    assert miss.median() < 4  # of a column whose standard deviation is 30: bins of z are about one wide, of y three
    assert whole["dx"].notna().all()
    assert whole["empty"].isna().all()


def test_imputed_shares_are_the_conditional_ones_of_train(diffusion, cohort):
    """600 drawn cells: standard error of each share .017."""
    frame = gappy(cohort, "b")
    made = diffusion.impute(frame, seed=3)
    for a in (0, 1):
        truth = (cohort.table["b"] == "yes")[cohort.table["a"] == a].mean()
        drawn = (made["b"] == "yes")[frame["b"].isna() & (frame["a"] == a)]
        assert abs(drawn.mean() - truth) < 0.07


def test_the_copula_imputes_by_correlation(copula, cohort):
    frame = gappy(cohort, "c", "y")
    whole = copula.impute(frame, seed=3)
    truth = cohort.table.iloc[2:1_202].reset_index(drop=True)
    assert (whole["c"] == truth["c"]).mean() > 0.95
    assert np.corrcoef(whole["y"][::2], truth["z"][::2])[0, 1] > 0.95


def test_imputed_cells_are_never_missing_and_known_ones_never_change(fitted, cohort):
    frame = gappy(cohort, "b", "z", "seen", "stage", rows=400)
    whole = fitted.impute(frame, seed=3)
    learned = [name for name, kind in KINDS.items() if kind not in ("identifier", "text") and name != "empty"]
    assert frame["x"].isna().any()  # where g is true x is always missing in train, and drawn all the same
    assert whole[learned].notna().all(axis=None)
    assert list(whole.dtypes) == list(frame.dtypes)
    assert whole.where(frame.notna()).equals(frame.where(frame.notna()))
    assert whole["pid"].equals(frame["pid"])


def test_only_the_columns_asked_for_are_completed(fitted, cohort):
    frame = gappy(cohort, "b", "z", rows=100)
    whole = fitted.impute(frame, seed=3, columns=["z"])
    assert whole["z"].notna().all()
    pd.testing.assert_frame_equal(whole.drop(columns="z"), frame.drop(columns="z"))


def test_draws_are_reproducible_and_differ(fitted, cohort):
    frame = gappy(cohort, "z", rows=60)[["z", "b"]]  # any subset of the columns
    draws = fitted.impute(frame, seed=3, draws=3)
    assert len(draws) == 3
    assert not draws[0].equals(draws[1])
    assert draws[0].equals(fitted.impute(frame, seed=3))
    assert not draws[0].equals(fitted.impute(frame, seed=4))


def test_a_column_without_any_known_cell_is_drawn_whole(fitted, cohort):
    frame = cohort.table[["a", "dx", "b"]].head(200).assign(c=None, x=np.nan)
    whole = fitted.impute(frame, seed=3)
    assert set(whole["c"]) == {"up", "down"}
    assert whole["x"].between(0, 30).all()


def test_a_frame_without_gaps_comes_back_equal(independent, cohort):
    frame = cohort.table[["a", "b"]]
    pd.testing.assert_frame_equal(independent.impute(frame, seed=1), frame)


def test_unlearned_values_stay_and_are_counted_in_a_note_without_their_value(fitted, cohort, caplog):
    frame = gappy(cohort, "c", rows=40)
    frame.loc[[0, 2, 4], "dx"], frame.loc[6, "b"], frame.loc[4, "z"] = "SECRET-9", "SECRET-8", 4711.5
    whole = fitted.impute(frame, seed=3)
    assert (whole["dx"][[0, 2, 4]] == "SECRET-9").all()
    assert whole["b"][6] == "SECRET-8"
    assert whole["z"][4] == 4711.5
    assert whole["c"].notna().all()
    assert "'b' (1)" in caplog.text
    assert "'dx' (3)" in caplog.text
    assert "'z' (1)" in caplog.text
    assert "SECRET" not in caplog.text
    assert "4711" not in caplog.text


@pytest.mark.parametrize(
    ("frame", "arguments", "kind", "words"),
    [
        ({"a": [1.0, None], "bb": ["SECRET", None]}, {}, DataError, "does not know: 'bb'"),
        ({"a": [1.0, 4711.0]}, {}, DataError, "column 'a' is boolean, but 1 values"),
        ({"pid": ["SECRET"]}, {}, DataError, "nothing to impute in 1 rows and 0 learned"),
        ({"a": []}, {}, DataError, "nothing to impute in 0 rows"),
        ({"a": [1.0, None]}, {"columns": ["b"]}, UsageError, "'b' is to be imputed, but the frame lacks it"),
        ({"a": [1.0, None]}, {"columns": ["pid"]}, UsageError, r"'pid' \(identifier\) is never learned"),
        ({"empty": [None, 2.0]}, {"columns": ["empty"]}, UsageError, "'empty' cannot be imputed"),
        ({"a": [1.0, None]}, {"draws": 0}, UsageError, "at least 1"),
    ],
)
def test_what_cannot_be_imputed_is_refused(independent, frame, arguments, kind, words):
    with pytest.raises(kind, match=words) as caught:
        independent.impute(pd.DataFrame(frame), seed=1, **arguments)
    assert "SECRET" not in str(caught.value)
    assert "4711" not in str(caught.value)


# --- imputation: how it is stored


def test_polars_and_pyarrow_frames_keep_their_types(independent):
    days = [datetime.date(2021, 3, 1), None, datetime.date(2021, 4, 1)]
    frame = pl.DataFrame(
        {
            "pid": ["P1", "P2", "P3"],
            "a": [True, None, False],
            "b": pl.Series(["yes", None, "no"], dtype=pl.Categorical),
            "c": pl.Series(["up", None, "down"], dtype=pl.Enum(["down", "up"])),
            "x": pl.Series([1, None, 30 - 2], dtype=pl.Int16),
            "z": pl.Series([50.1, None, 49.9], dtype=pl.Float32),
            "dx": pl.Series([None, None, None], dtype=pl.Null),
            "seen": pl.Series(days, dtype=pl.Date),
        }
    )
    for given in (frame, frame.lazy()):
        whole = independent.impute(given, seed=2)
        assert isinstance(whole, pl.DataFrame)
        assert {n: t for n, t in whole.schema.items() if n != "dx"} == {
            n: t for n, t in frame.schema.items() if n != "dx"
        }
        assert whole.drop("pid").null_count().sum_horizontal()[0] == 0
        assert whole.select(pl.exclude("dx"))[[0, 2]].equals(frame.select(pl.exclude("dx"))[[0, 2]])
    table = frame.drop("dx").to_arrow()
    whole = independent.impute(table, seed=2)
    assert isinstance(whole, pa.Table)
    assert whole.schema == table.schema
    assert whole.take([0, 2]).to_pylist() == table.take([0, 2]).to_pylist()
    assert pl.from_arrow(whole)[[0, 2]].equals(frame.drop("dx")[[0, 2]])
    assert sum(column.null_count for column in whole.columns) == 0


def test_a_table_data_comes_back_as_one(independent, cohort):
    data = cohort.take(np.arange(50))
    whole = independent.impute(data, seed=2)
    assert whole.schema is data.schema
    assert whole.table["x"].notna().all()
    assert whole.table[["pid", "b", "z", "note"]].equals(data.table[["pid", "b", "z", "note"]])


def test_a_column_of_a_table_data_stays_canonical_when_it_is_drawn_whole(cohort):
    columns = [dataclasses.replace(c, dtype="category") if c.name == "c" else c for c in cohort.schema.columns]
    data = TableData(cohort.table, TableSchema(tuple(columns)))
    empty = TableData(data.table.assign(c=None), data.schema)
    whole = Independent().fit(data, seed=1).impute(empty, seed=1)
    assert whole.table["c"].dtype == object
    assert str(whole.frame["c"].dtype) == "category"


def test_derived_columns_are_computed_from_completed_terms(cohort):
    columns = (*cohort.schema.columns, Column("ratio", "real", decimals=2))
    schema = TableSchema(columns, rules=(Formula("ratio", "y / z"),))
    table = cohort.table.assign(ratio=(cohort.table["y"] / cohort.table["z"]).round(2))
    fitted = Independent().fit(TableData(table, schema), seed=1)
    frame = table[["y", "z", "ratio"]].head(40).copy()
    frame.loc[::2, ["y", "ratio"]] = None
    whole = fitted.impute(frame, seed=1)
    np.testing.assert_allclose(whole["ratio"], (whole["y"] / whole["z"]).round(2), atol=1e-9)
    assert whole["ratio"][1::2].equals(frame["ratio"][1::2])
    assert fitted.impute(frame.drop(columns="z"), seed=1)["ratio"].equals(frame["ratio"])  # a term is not there


def test_codes_that_mean_missing_are_filled_and_the_index_stays(cohort):
    schema = dataclasses.replace(cohort.schema, missing=("", "?", "-99"))
    fitted = Independent().fit(TableData(cohort.table, schema), seed=1)
    frame = pd.DataFrame({"stage": [1, -99, 3], "b": ["yes", "?", " no"]}, index=[7, 7, 9])
    whole = fitted.impute(frame, seed=1)
    assert str(whole["stage"].dtype) == "int64"
    assert whole["stage"].iloc[[0, 2]].tolist() == [1, 3]
    assert 1 <= whole["stage"].iloc[1] <= 4
    assert whole["b"].iloc[1] in ("yes", " no")
    assert list(whole.index) == [7, 7, 9]


DRAWN = {
    "boolean": pd.Series([1.0]),
    "integer": pd.Series([3.0]),
    "real": pd.Series([2.5]),
    "datetime": pd.Series(pd.to_datetime(["2021-05-06 07:08:09"])),
    "categorical": pd.Series(["2"], dtype=object),
}
MAY = pd.Timestamp("2021-05-06 07:08:09")


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("boolean", pd.Series([True, None, False], dtype=object), True),
        ("boolean", pd.Series(["no", None], dtype=object), "1"),
        ("boolean", pd.Series(["False", ""], dtype="string"), "True"),
        ("boolean", pd.Series([False, None], dtype="boolean"), True),
        ("boolean", pd.Series([0, None], dtype="Int8"), 1),
        ("integer", pd.Series(["1", ""], dtype=object), "3"),
        ("integer", pd.Series([1, None], dtype=object), 3),
        ("integer", pd.Series([1.0, None]), 3.0),
        ("integer", pd.Series([1, None], dtype="UInt16"), 3),
        ("integer", pd.Series([1, None], dtype="int32[pyarrow]"), 3),
        ("real", pd.Series([1.5, None], dtype="float32"), 2.5),
        ("real", pd.Series(["1.50", None], dtype=object), "2.5"),
        ("real", pd.Series([1, None], dtype=object), 2.5),
        ("real", pd.Series([decimal.Decimal("1.5"), None], dtype=object), decimal.Decimal("2.5")),
        ("datetime", pd.Series(["2021-01-01", None], dtype=object), "2021-05-06"),
        ("datetime", pd.Series(["2021-01-01T10:00:00Z", None], dtype=object), "2021-05-06T07:08:09Z"),
        ("datetime", pd.Series(["2021-01-01 10:00", None], dtype=object), "2021-05-06 07:08"),
        ("datetime", pd.Series(["31.01.2021", None], dtype=object), "06.05.2021"),
        ("datetime", pd.Series([datetime.date(2021, 1, 1), None], dtype=object), datetime.date(2021, 5, 6)),
        ("datetime", pd.Series(pd.to_datetime(["2021-01-01", None])), MAY),
        (
            "datetime",
            pd.Series(pd.to_datetime(["2021-01-01", None])).dt.tz_localize("Europe/Zurich"),
            MAY.tz_localize("Europe/Zurich"),
        ),
        ("categorical", pd.Series([1, None], dtype=object), 2),
        ("categorical", pd.Series([1.0, None]), 2.0),
        ("categorical", pd.Series(["1", None], dtype="category"), "2"),
        ("categorical", pd.Series([1, None], dtype="Int64").astype("category"), 2),
        ("categorical", pd.Series(["1", None], dtype="string[pyarrow]"), "2"),
    ],
)
def test_drawn_values_are_written_as_the_known_ones_are(kind, raw, expected):
    known = pd.Series([object()] * len(raw), dtype=object).where(raw.notna() & (raw.astype(object) != ""), None)
    whole = with_drawn(raw, known, DRAWN[kind].iloc[[0] * len(raw)], Column("v", kind))
    assert whole.iloc[1] == expected
    assert isinstance(whole.iloc[1], str) == isinstance(expected, str)
    assert whole.iloc[0] == raw.iloc[0]
    if not isinstance(raw.dtype, pd.CategoricalDtype):
        assert whole.dtype == raw.dtype


def test_storage_that_cannot_hold_a_value_is_an_error_without_the_value():
    raw, known = pd.Series([1, -99]), pd.Series([1.0, np.nan])
    with pytest.raises(DataError, match="column 'v' is stored as int64") as caught:
        with_drawn(raw, known, pd.Series([2.5, 2.5]), Column("v", "real"))
    assert "2.5" not in str(caught.value)


def test_a_level_that_no_token_stands_for_counts_as_unknown(cohort, caplog):
    """A yes/no column that was always no: a known yes is no 'no', and the other columns are drawn without it."""
    table = cohort.table.assign(g=0.0)
    fitted = Independent().fit(TableData(table, cohort.schema), seed=1)
    whole = fitted.impute(pd.DataFrame({"g": [1.0, None], "b": [None, "yes"]}), seed=1, columns="b")
    assert whole["g"].iloc[0] == 1
    assert whole["b"].notna().all()
    assert "'g' (1)" in caplog.text

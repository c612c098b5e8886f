"""Tokens: known answers, round trips, and that no rare level or true extreme is kept."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.data import TableData
from synthgen.generators.codec import TableCodec
from synthgen.generators.tokens import LevelColumn, NumberColumn, column_from_json, column_to_json
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

SEED = Seed(11)


def table(**columns: tuple[str, list]) -> TableData:
    """A TableData from name=(kind, values); reals have no declared precision unless the kind is "real:2"."""
    described, values = [], {}
    for name, (kind, cells) in columns.items():
        base, _, decimals = kind.partition(":")
        patient = ("patient",) if base == "identifier" else ()
        described.append(Column(name, base, roles=patient, decimals=int(decimals) if decimals else None))
        dtype = {"datetime": "datetime64[ns]"}.get(base, float if base in ("integer", "real", "boolean") else object)
        values[name] = pd.Series(cells, dtype=dtype)
    return TableData(pd.DataFrame(values), TableSchema(tuple(described)))


def round_trip(data: TableData) -> tuple[TableCodec, np.ndarray, dict[str, np.ndarray]]:
    codec = TableCodec.fit(data, seed=SEED)
    tokens = codec.encode(data)
    return codec, tokens, codec.decode(tokens, seed=SEED)


def test_levels_with_five_patients_stay_and_four_go():
    values = np.array(["a"] * 5 + ["b"] * 4 + [None], dtype=object)
    column = LevelColumn.fit("c", values, np.arange(10), k=5)
    assert column.levels == ("a",)
    assert (column.folded.k, column.folded.levels, column.folded.rows) == (5, 1, 4)
    assert column.encode(values)[:, 0].tolist() == [2] * 5 + [1] * 4 + [0]


def test_protection_counts_patients_not_rows():
    values = np.array(["a"] * 50 + ["b"] * 50, dtype=object)
    patients = np.concatenate([np.arange(50), np.full(50, 60)])  # level b: fifty rows of one patient
    assert LevelColumn.fit("c", values, patients, k=5).levels == ("a",)
    numbers = np.where(values == "a", np.arange(100) % 7, 1000.0)
    assert NumberColumn.fit("n", numbers, patients, k=5, decimals=0).high < 10


def test_rare_levels_decode_to_kept_levels_in_their_proportion():
    values = np.array(["a"] * 300 + ["b"] * 100, dtype=object)
    column = LevelColumn.fit("c", values, np.arange(400), k=5)
    decoded = column.decode(np.ones((10_000, 1), dtype=int), SEED.numpy())
    share = float(np.mean(decoded == "a"))  # standard error .0043: a false alarm at 4.6 of them, 4e-6
    assert abs(share - 0.75) < 0.02
    assert not column.emittable[1]


def test_a_column_of_only_rare_levels_decodes_to_missing():
    column = LevelColumn.fit("c", np.array(list("abcdefghij"), dtype=object), np.arange(10), k=5)
    assert column.levels == ()
    assert column.decode(np.array([[0], [1]]), SEED.numpy()).tolist() == [None, None]
    assert column.emittable.tolist() == [True, False]


def test_unseen_levels_are_rare_and_numbers_out_of_range_are_clipped():
    train = table(sex=("categorical", ["f", "m"] * 50), age=("integer", [float(i) for i in range(100)]))
    codec = TableCodec.fit(train, seed=SEED)
    other = table(sex=("categorical", ["x", None]), age=("integer", [-500.0, 500.0]))
    tokens = codec.encode(other)
    assert tokens[:, 0].tolist() == [1, 0]
    edge = codec.encode(table(sex=("categorical", ["f", "f"]), age=("integer", [0.0, 99.0])))
    assert (tokens[:, 1:] == edge[:, 1:]).all()


def test_few_valued_numbers_come_back_exactly():
    cells = [0.0, 1.0, 2.0, np.nan] * 25
    data = table(n=("integer", cells), b=("boolean", [0.0, 1.0] * 50))
    codec, tokens, values = round_trip(data)
    np.testing.assert_array_equal(values["n"], cells)
    np.testing.assert_array_equal(values["b"], data.table["b"])
    assert codec.vocabulary == (4, 3)
    assert tokens.dtype == np.int8


def test_spikes_are_exact_and_the_rest_stays_within_its_sub_bin():
    rng = SEED.numpy()
    x = np.where(rng.random(5_000) < 0.3, 0.0, np.round(rng.lognormal(3, 1, 5_000), 2))
    codec, _tokens, values = round_trip(table(x=("real:2", x.tolist())))
    column = codec.columns[0]
    assert column.spikes.tolist() == [0.0]
    assert ((values["x"] == 0) == (x == 0)).all()
    sub = np.searchsorted(column.edges[1:-1], x[x > 0])
    drawn = values["x"][x > 0]
    assert (drawn >= column.edges[sub] - 0.005).all()
    assert (drawn <= column.edges[sub + 1] + 0.005).all()
    np.testing.assert_array_equal(np.round(drawn, 2), drawn)


def test_heaped_values_come_back_as_often_as_in_train():
    rng = SEED.numpy()
    grid = rng.integers(1, 500, 20_000) * 50.0  # each value about 24 times: heaps, but no spikes
    loose = rng.uniform(50, 25_000, 20_000)
    x = np.where(rng.random(20_000) < 0.6, grid, loose)
    _codec, _tokens, values = round_trip(table(x=("real", x.tolist())))
    before, after = (float(np.mean(v % 50 == 0)) for v in (x, values["x"]))
    assert abs(before - after) < 0.03


def test_marginals_survive_the_round_trip():
    rng = SEED.numpy()
    x = rng.normal(100, 15, 4_000)
    values = round_trip(table(x=("real", x.tolist())))[2]["x"]
    quantiles = np.arange(0.02, 1, 0.02)
    assert np.abs(np.quantile(x, quantiles) - np.quantile(values, quantiles)).max() < 1.0
    assert np.corrcoef(x, values)[0, 1] > 0.995


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (pd.date_range("2020-01-01", periods=300, freq="D"), "days"),
        (pd.date_range("2020-01-01 00:00:07", periods=300, freq="17min"), "seconds"),
        (pd.date_range("1900-01-01", periods=300, freq="90min"), "minutes"),
    ],
)
def test_dates_keep_their_unit(cells, unit):
    stamps = [*cells, pd.NaT]
    codec, _tokens, values = round_trip(table(d=("datetime", stamps)))
    assert codec.dates == {"d": unit}
    assert values["d"].dtype == np.dtype("datetime64[ns]")
    assert np.isnat(values["d"][-1])
    gaps = np.abs(values["d"][10:-10] - np.array(cells, dtype="datetime64[ns]")[10:-9])
    assert gaps.max() < (cells[1] - cells[0]).to_timedelta64() * 80
    if unit == "days":
        assert (values["d"][:-1].astype("datetime64[D]") == values["d"][:-1]).all()


@pytest.mark.parametrize(
    "data",
    [
        table(c=("categorical", ["a", "b"] * 30)),
        table(x=("real", np.linspace(0, 1, 60).tolist())),
        table(x=("real", [3.0] * 60)),
        table(x=("real", [np.nan] * 60), c=("categorical", [None] * 60)),
        table(x=("real", [1.0, 2.0, np.nan, np.nan, np.nan])),
        table(b=("boolean", [0.0, 1.0] * 30)),
        table(x=("real", [1e308, -1e308] * 30)),
        table(x=("integer", [float(i) for i in range(12)])),
        table(**{f"c{i}": ("categorical", ["a", "b", None] * 20) for i in range(300)}),
    ],
    ids=["levels", "one", "constant", "missing", "few", "boolean", "huge", "dozen", "wide"],
)
def test_odd_tables(data):
    codec, tokens, values = round_trip(data)
    assert tokens.shape == (len(data), len(codec.vocabulary))
    assert (tokens >= 0).all()
    assert (tokens < np.array(codec.vocabulary)).all()
    assert np.isfinite(codec.numeric_inputs.table).all()
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.encode(data), tokens)
    for name, column in again.decode(tokens, seed=SEED).items():
        assert pd.Series(column).equals(pd.Series(values[name]))


def test_no_rare_level_or_extreme_is_kept():
    rng = SEED.numpy()
    levels = ["common-a", "common-b"] * 300 + ["UNIQUE-DIAGNOSIS"]
    weights = [*np.round(rng.normal(70, 10, 600), 1), 412.7]
    visits = [*rng.integers(0, 9, 600).astype(float), 98765.0]
    days = [*pd.date_range("2001-01-01", periods=600), pd.Timestamp("1911-02-03")]
    data = table(dx=("code", levels), weight=("real:1", weights), visits=("integer", visits), day=("datetime", days))
    codec = TableCodec.fit(data, seed=SEED)
    text = json.dumps(codec.to_json())
    for secret in ("UNIQUE", "412.7", "98765", str((pd.Timestamp("1911-02-03") - pd.Timestamp(0)).days)):
        assert secret not in text
    assert (codec.folded["dx"].levels, codec.folded["dx"].rows) == (1, 1)
    assert all(folded.rows >= 1 for folded in codec.folded.values())
    assert all(5 <= folded.k <= 7 for folded in codec.folded.values())


@pytest.mark.parametrize("n", [40, 300, 5000])
def test_no_number_of_a_single_patient_is_kept_or_drawn_and_no_bound_is_a_spike(n):
    """Law: a bound that is a patient's value would be one to the last digit, and as heavy as all that lies beyond."""
    x = SEED.numpy().lognormal(3, 1, n)
    column = NumberColumn.fit("x", x, np.arange(n), k=7, decimals=None)
    drawn = column.decode(np.repeat(column.encode(x), 20, axis=0), SEED.child("drawn").numpy())
    assert not np.isin(drawn, x).any()
    kept = [value for values in column_to_json(column).values() if isinstance(values, list) for value in values]
    assert not np.isin([column.low, column.high, *kept], x).any()
    assert np.unique(drawn, return_counts=True)[1].max() <= 2
    assert column.low <= drawn.min() < drawn.max() <= column.high


@pytest.mark.parametrize("n", range(5, 10))
def test_of_few_patients_one_value_is_kept_that_is_nobodys(n):
    x = SEED.numpy().lognormal(3, 1, n)
    column = NumberColumn.fit("x", x, np.arange(n), k=5, decimals=None)
    drawn = column.decode(column.encode(x), SEED.numpy())
    assert len(set(drawn)) == 1
    assert np.sort(x)[1] < drawn[0] < np.sort(x)[-2]
    assert not np.isin(drawn, x).any()


def test_whole_numbers_beyond_the_bounds_are_spread_over_the_tail_within():
    x = np.concatenate([np.repeat(np.arange(200.0), 10), [300.0, 310, 320, 330, 340, 350, 400, 500]])
    column = NumberColumn.fit("x", x, np.arange(len(x)), k=5, decimals=0)
    assert (column.low, column.high) == (0, 325)  # halfway between the fifth and the sixth: 330 and 320
    drawn = column.decode(np.repeat(column.encode(x), 50, axis=0), SEED.numpy())
    tail = drawn[drawn > 250]
    assert len(tail) > 100
    assert pd.Series(tail).value_counts().iloc[0] < len(tail) / 10


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(st.none(), st.integers(-50, 50), st.floats(-1e6, 1e6)), min_size=1, max_size=300),
    st.sampled_from([None, 0, 2]),
)
def test_any_numbers_decode_into_the_protected_range(cells, decimals):
    x = np.array([np.nan if cell is None else cell for cell in cells], dtype=float)
    x = x if decimals is None else np.round(x, decimals)
    column = NumberColumn.fit("x", x, np.arange(len(x)), k=5, decimals=decimals)
    tokens = column.encode(x)
    drawn = column.decode(tokens, SEED.numpy())
    if (~np.isnan(x)).sum() >= 5:
        assert (np.isnan(drawn) == np.isnan(x)).all()
        known = drawn[~np.isnan(drawn)]
        ordered = np.sort(x[~np.isnan(x)])
        if len(ordered) >= 10:
            assert known.min() >= ordered[4]
            assert known.max() <= ordered[-5]
    else:
        assert np.isnan(drawn).all()
    again = column_from_json(json.loads(json.dumps(column_to_json(column), allow_nan=False)))
    np.testing.assert_array_equal(again.encode(x), tokens)


def test_the_number_table_holds_quantiles_in_order():
    x = SEED.numpy().normal(0, 1, 20_000)
    data = table(x=("real", x.tolist()))
    codec = TableCodec.fit(data, seed=SEED)
    inputs, tokens = codec.numeric_inputs, codec.encode(data).astype(int)
    entry = inputs.start[0] + tokens[:, inputs.coarse[0]] * inputs.stride[0] + tokens[:, inputs.fine[0]]
    assert np.corrcoef(inputs.table[entry, 0], x)[0, 1] > 0.998  # the normal quantile of a normal is itself
    without_fine = inputs.start[0] + tokens[:, inputs.coarse[0]] * inputs.stride[0] + inputs.stride[0] - 1
    assert np.corrcoef(inputs.table[without_fine, 0], x)[0, 1] > 0.99


def coded(codes: dict[str, int], hierarchy: str) -> LevelColumn:
    """A column of one row per patient, five patients to a level."""
    values = np.repeat(np.array(list(codes), dtype=object), list(codes.values()))
    return LevelColumn.fit("dx", values, np.arange(len(values)), k=5, hierarchy=hierarchy)


def test_rare_codes_back_off_to_the_nearest_code_that_enough_patients_have():
    column = coded({"E11.9": 20, "E11.65": 2, "E11.64": 3, "E11.21": 1, "E11": 4, "I10": 6, "C61": 4}, "icd10")
    assert column.levels == ("E11", "E11.6", "E11.9", "I10")
    assert (column.folded.levels, column.folded.rows, column.folded.backed_off) == (4, 10, 6)
    codes = np.array(["E11.65", "E11.69", "E11.21", "E11", "E11.9", "C61", "Z99.8", None], dtype=object)
    decoded = column.decode(column.encode(codes), SEED.numpy())
    assert decoded[[0, 1, 2, 3, 4, 7]].tolist() == ["E11.6", "E11.6", "E11", "E11", "E11.9", None]
    assert column.encode(codes)[5:7, 0].tolist() == [1, 1]  # nothing above them is learned: RARE
    assert sum(column.shares) == pytest.approx(1, abs=1e-5)  # each is rounded to six digits


def test_a_code_counts_only_the_patients_who_back_off_to_it():
    assert coded({"E11.9": 20, "E11.65": 4, "I10": 9}, "icd10").levels == ("E11.9", "I10")  # E11 would be four patients
    values = np.array(["E11.65", "E11.64"] * 10 + ["I10"] * 9, dtype=object)  # twenty rows of four patients
    patients = np.concatenate([np.repeat(np.arange(4), 5), np.arange(4, 13)])
    assert LevelColumn.fit("dx", values, patients, k=5, hierarchy="icd10").levels == ("I10",)


def test_without_a_system_only_codes_that_enough_patients_have_stand_above():
    column = coded({"8500": 9, "8500/3": 2, "8140/3": 4, "8140/6": 4, "-1": 1}, "separator")
    assert column.levels == ("8500",)
    assert (column.folded.rows, column.folded.backed_off) == (11, 2)


def test_systems_back_off_by_their_own_levels():
    assert coded({"A10BA02": 3, "A10BB01": 3, "C09AA02": 4, "C09CA01": 1}, "atc").levels == ("A10B", "C09")
    assert coded({"2345-7": 4, "718-7": 9}, "loinc").levels == ("718-7",)
    assert coded({"250.83": 3, "250.81": 2, "V45.81": 2, "V45.82": 3, "8": 7}, "icd9").levels == ("250.8", "8", "V45.8")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.from_regex(r"\A[EI]1[01](\.[0-2][0-2]?)?\Z"), st.integers(0, 30)), min_size=1))
def test_every_learned_code_stands_for_k_patients_and_no_others(rows):
    values, patients = np.array([code for code, _ in rows], dtype=object), np.array([patient for _, patient in rows])
    column = LevelColumn.fit("dx", values, patients, k=5, hierarchy="icd10")
    tokens = column.encode(values)
    decoded = np.array([None, None, *column.levels], dtype=object)[tokens[:, 0]]
    for level in column.levels:
        assert len(set(patients[decoded == level])) >= 5
    for code, new in zip(values, decoded, strict=True):
        assert new is None or code.startswith(new)
    again = column_from_json(json.loads(json.dumps(column_to_json(column))))
    assert again.hierarchy == "icd10"
    np.testing.assert_array_equal(again.encode(values), tokens)


def test_a_schema_says_which_codes_back_off():
    codes = ["E11.9"] * 20 + ["E11.65"] * 4 + ["E11.21"] * 4
    table = pd.DataFrame({name: np.array(codes, dtype=object) for name in ("icd", "unknown", "levels")})
    columns = (Column("icd", "code", system="icd10"), Column("unknown", "code"), Column("levels", "categorical"))
    codec = TableCodec.fit(TableData(table, TableSchema(columns)), seed=SEED)
    assert [column.levels for column in codec.columns] == [("E11", "E11.9"), ("E11.9",), ("E11.9",)]
    assert [codec.folded[name].backed_off for name in table] == [8, 0, 0]


def test_encoding_in_chunks_and_in_another_order_gives_the_same_tokens(monkeypatch):
    rng = SEED.numpy()
    data = table(
        x=("real", rng.normal(size=12_000).tolist()),
        dx=("code", rng.choice(["a", "b", "c", None], 12_000).tolist()),
        day=("datetime", list(pd.date_range("2001-01-01", periods=12_000))),
    )
    codec = TableCodec.fit(data, seed=SEED)
    whole = codec.encode(data)
    assert whole.dtype == np.int8
    monkeypatch.setattr("synthgen.generators.codec._CHUNK", 1_700)
    np.testing.assert_array_equal(codec.encode(data), whole)
    order = np.array([4, 2, 0, 1, 3])
    np.testing.assert_array_equal(codec.encode(data, order=order), whole[:, order])


def test_fine_tokens_have_no_more_values_than_their_bin_has_sub_bins():
    rng = SEED.numpy()
    x = np.where(rng.random(20_000) < 0.3, 0.0, np.round(rng.exponential(5, 20_000), 2))
    data = table(x=("real:2", x.tolist()), y=("real", rng.normal(size=20_000).tolist()))
    codec = TableCodec.fit(data, seed=SEED)
    tokens = codec.encode(data)
    assert len(codec.fine_counts) == 2
    for token, counts in codec.fine_counts.items():
        assert len(counts) == codec.vocabulary[codec.fine_of[token]]
        assert counts.max() == codec.vocabulary[token] - 1
        assert (tokens[:, token] <= counts[tokens[:, codec.fine_of[token]]]).all()
        assert counts[: 1 + len(codec.columns[codec.owner[token]].spikes)].sum() == 0
    assert set(codec.fine_counts) == {token for token, coarse in enumerate(codec.fine_of) if coarse >= 0}

"""Rules of every kind hold in every sampled row, with conditions and without; dates keep their days."""

import json

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.errors import UsageError
from synthgen.generators.codec import TableCodec
from synthgen.generators.copula import Copula
from synthgen.generators.independent import Independent
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.table_gan import TableGan
from synthgen.rng import Seed
from synthgen.rules import Combination, Implies, Order, violations
from synthgen.schema import Column, TableSchema
from synthgen.testing import check_generator, ruled_cohort
from synthgen.testing.laws import numbers_of

QUICK = {"max_steps": 60, "width": 32, "threads": 1}
DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def cohort() -> TableData:
    return ruled_cohort(1_200, seed=3)


@pytest.fixture(scope="module")
def fitted(cohort) -> TableDiffusion:
    return TableDiffusion(**QUICK).fit(cohort, seed=1)


def broken(rows: TableData, cohort: TableData) -> dict[str, int]:
    """Broken rows by rule, and rows outside declared bounds."""
    found = violations(cohort.schema.rules, rows.table, train=cohort.table)
    counts = {f"{r.keyword} {r.columns}": int(b.sum()) for r, b in zip(cohort.schema.rules, found, strict=True)}
    for column in cohort.schema.columns:
        low = -np.inf if column.minimum is None else column.minimum
        high = np.inf if column.maximum is None else column.maximum
        if (low, high) != (-np.inf, np.inf):
            counts[column.name] = int(((rows.table[column.name] < low) | (rows.table[column.name] > high)).sum())
    return {name: count for name, count in counts.items() if count}


def test_no_rule_is_broken_in_20_000_rows_though_real_rows_break_most(cohort, fitted):
    real = violations(cohort.schema.rules, cohort.table, train=cohort.table)
    assert sum(rows.any() for rows in real) >= 10
    rows = fitted.sample(20_000, seed=2)
    assert broken(rows, cohort) == {}
    for column in cohort.schema.columns:
        if column.name not in ("menopausal", "pregnant", "pack_years"):  # the rules forbid what train has there
            assert abs(rows.table[column.name].isna().mean() - cohort.table[column.name].isna().mean()) < 0.04


def test_the_gan_breaks_no_rule_either(cohort):
    gan = TableGan(max_steps=20, width=32, threads=1).fit(cohort, seed=1)
    assert broken(gan.sample(5_000, seed=2), cohort) == {}
    for where in ({"sex": "M"}, {"ward": "ward 3"}, {"menopausal": "yes"}, {"weight": 70.0, "height": 175}):
        assert broken(gan.sample(400, seed=4, where=where), cohort) == {}
    known = np.any(violations(cohort.schema.rules, cohort.table, train=cohort.table), axis=0)
    whole = gan.impute(cohort, seed=2).table
    assert not (np.any(violations(cohort.schema.rules, whole, train=cohort.table), axis=0) & ~known).any()
    assert whole["menopausal"][(cohort.table["sex"] == "M") & ~known].isna().all()  # as a rule wants it


@pytest.mark.parametrize("generator", [Independent(), Copula()], ids=["independent", "copula"])
def test_all_but_rules_on_levels_hold_for_every_generator_with_a_codec(cohort, generator):
    rows = generator.fit(cohort, seed=1).sample(20_000, seed=2)
    assert {name.split()[0] for name in broken(rows, cohort)} <= {"implies", "combination"}


def test_the_battery_passes_on_a_table_with_rules(cohort):
    check_generator(TableDiffusion(**{**QUICK, "max_steps": 10}), data=cohort.take(np.arange(600)))


WHERES = [
    {"discharged": "2010-05-01 10:00"},
    {"followed_until": "2004-02-29"},
    {"born": "1950-01-01", "discharged": "2011-01-01 12:30"},
    {"systolic": 75},
    {"systolic": 95, "diastolic": 95},
    {"glucose_max": 9.07},
    {"glucose_min": 4.1, "glucose_max": 5.0},
    {"glucose_mean": None, "glucose_min": 7.3},
    {"admitted": None, "discharged": "2010-05-01 10:00"},
    {"diagnosis": "O80"},
    {"ward": "ward 3"},
    {"bed": 4, "sex": "M"},
    {"menopausal": "yes"},
    {"weight": 70.0, "height": 175},
    {"nodes_left": 0},
]


@pytest.mark.parametrize("where", WHERES, ids=lambda where: "+".join(where))
def test_conditions_come_back_exactly_and_break_no_rule(cohort, fitted, where):
    rows = fitted.sample(400, seed=4, where=where)
    assert broken(rows, cohort) == {}
    for name, value in where.items():
        values = rows.table[name]
        expected = pd.Timestamp(value) if cohort.schema[name].kind == "datetime" and value else value
        assert values.isna().all() if value is None else (values == expected).all()


def test_given_rows_come_back_exactly_and_break_no_rule(cohort, fitted):
    found = violations(cohort.schema.rules, cohort.table, train=cohort.table)
    codec = fitted._fitted.codec
    odd = [codec.unlearned(name, cohort.table[name]) for name in codec.originals]
    fine = cohort.take(~np.any([*found, *odd], axis=0)).table
    for names in (["operated", "followed_until", "sex"], ["born", "glucose_mean", "systolic"], ["discharged", "ward"]):
        given = fine[names].head(200)
        rows = fitted.sample(len(given), seed=5, given=given)
        assert broken(rows, cohort) == {}
        for name in names:
            same = (rows.table[name] == given[name].reset_index(drop=True)) | given[name].isna().reset_index(drop=True)
            assert same.all()
            assert (rows.table[name].isna() == given[name].isna().reset_index(drop=True)).all()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"bmi": 25.0}, "'bmi' is computed by rule 'formula': fix its terms instead: weight, height"),
        ({"nodes": 2}, "'nodes' is computed by rule 'sum'"),
        ({"heart_rate": 300}, "column 'heart_rate': 1 fixed values are outside what the model has learned"),
        (
            {"diastolic": 100, "systolic": 90},
            "columns diastolic, systolic: .* 10 of 10 rows contradict the rules of 'order'",
        ),
        ({"admitted": "2012-01-01 00:00", "discharged": "2010-01-01 00:00"}, "contradict the rules of 'order'"),
        ({"glucose_min": 9.0, "glucose_max": 8.0}, "contradict the rules of 'order'"),
        ({"sex": "M", "diagnosis": "O80"}, "sex, diagnosis, .*contradict the rules of 'implies'"),
        ({"diagnosis": "O80", "menopausal": "yes"}, "contradict the rules of 'implies'"),
        ({"hospital": "hospital 0", "ward": "ward 7"}, "hospital, ward, bed: .*'combination'"),
        ({"bed": 9_999}, "outside what the model has learned"),
    ],
)
def test_contradictory_conditions_are_refused_by_column_and_count(fitted, where, message):
    with pytest.raises(UsageError, match=message) as caught:
        fitted.sample(10, seed=1, where=where)
    assert "ward 7" not in str(caught.value)
    assert "O80" not in str(caught.value)


def test_imputed_cells_break_no_rule_that_the_known_cells_of_their_row_keep(cohort, fitted):
    whole = fitted.impute(cohort, seed=2).table
    known = np.any(violations(cohort.schema.rules, cohort.table, train=cohort.table), axis=0)
    for rule, flags in zip(
        cohort.schema.rules, violations(cohort.schema.rules, whole, train=cohort.table), strict=True
    ):
        assert not (flags & ~known).any(), rule.columns
    men = (cohort.table["sex"] == "M") & ~known
    assert whole["menopausal"][men].isna().all()  # as a rule wants it
    assert whole["systolic"].notna().all()
    computed = {rule.derives for rule in cohort.schema.derivations}
    for name in computed:
        given = cohort.table[name].notna()
        assert whole[name][given].equals(cohort.table[name][given])
        assert whole[name].notna().mean() > given.mean()


def test_a_later_date_that_is_fixed_takes_the_row_with_it(cohort, fitted):
    rows = fitted.sample(500, seed=6, where={"discharged": "2010-05-01 10:00"}).table
    stay = (pd.Timestamp("2010-05-01 10:00") - rows["admitted"].dropna()) / DAY
    real = ((cohort.table["discharged"] - cohort.table["admitted"]) / DAY).dropna()
    assert abs(stay.median() - real.median()) < 1.0
    assert stay.quantile(0.9) < 3 * real.quantile(0.9)


def table(**columns: tuple[str, object]) -> TableData:
    frame = pd.DataFrame({name: values for name, (_kind, values) in columns.items()})
    return TableData(frame, TableSchema(tuple(Column(name, kind) for name, (kind, _values) in columns.items())))


@pytest.fixture(scope="module")
def stays() -> TableData:
    """Admissions over twenty years, stays of a few days, births decades before; no rules."""
    rng = Seed(8).numpy()
    admitted = np.datetime64("2000-01-01", "ns") + rng.integers(0, 20 * 365, 3_000) * np.timedelta64(1, "D")
    discharged = admitted + rng.poisson(4, 3_000) * np.timedelta64(1, "D")
    born = admitted - rng.integers(20 * 365, 90 * 365, 3_000) * np.timedelta64(1, "D")
    seen = admitted + rng.integers(0, 1_440, 3_000) * np.timedelta64(1, "m")
    discharged[rng.random(3_000) < 0.1] = np.datetime64("NaT")
    seen[rng.random(3_000) < 0.05] = np.datetime64("NaT")
    return table(
        admitted=("datetime", admitted),
        discharged=("datetime", discharged),
        born=("datetime", born),
        seen=("datetime", seen),
    )


@pytest.mark.parametrize("generator", [Copula(), TableDiffusion(max_steps=250, width=64, threads=1)])
def test_the_length_of_stay_comes_back_though_dates_span_twenty_years(stays, generator):
    rows = generator.fit(stays, seed=1).sample(3_000, seed=2).table
    real, made = (((t["discharged"] - t["admitted"]) / DAY).dropna() for t in (stays.table, rows))
    assert (made == made.round()).all()
    assert abs(rows["discharged"].isna().mean() - 0.1) < 0.03
    shares = [x.value_counts(normalize=True).reindex(range(12), fill_value=0) for x in (real, made)]
    assert (shares[0] - shares[1]).abs().max() < 0.05
    assert rows["admitted"].dt.year.nunique() == 20
    for name in ("admitted", "discharged", "born"):
        assert (rows[name].dropna() == rows[name].dropna().dt.normalize()).all()
    seen = (rows["seen"] - rows["admitted"]).dropna()
    assert ((seen >= pd.Timedelta(0)) & (seen < DAY)).mean() > 0.99


def test_the_anchor_is_the_date_that_is_least_missing_and_nearest_to_the_others(stays):
    chain = TableCodec.fit(stays, seed=Seed(1)).rewriting.chains[0]
    assert (chain.start, chain.anchor.name) == ("admitted", "admitted")
    assert {m.name: m.date_unit for m in chain.members} == dict.fromkeys(("admitted", "discharged", "born"), "days") | {
        "seen": "minutes"
    }


def test_dates_that_are_all_missing_in_some_rows_keep_their_joint_missingness(stays):
    gone = stays.table.copy()
    gone.loc[:899] = pd.NaT
    gone.loc[900:1_499, "admitted"] = pd.NaT
    data = TableData(gone, stays.schema)
    codec = TableCodec.fit(data, seed=Seed(1))
    back = codec.decode(codec.encode(data), seed=Seed(2))
    for name in gone:
        np.testing.assert_array_equal(np.isnat(back[name]), gone[name].isna())
    rows = Independent().fit(data, seed=1).sample(5_000, seed=2).table
    for name in gone:
        assert abs(rows[name].isna().mean() - gone[name].isna().mean()) < 0.03


def test_single_cells_can_be_held_and_the_others_go_round_them(cohort):
    codec = TableCodec.fit(cohort, seed=Seed(1))
    tokens = codec.encode(cohort)
    names = ["admitted", "discharged", "followed_until", "glucose_min", "glucose_max", "heart_rate", "sex"]
    fixed = cohort.table[names]
    free = fixed.isna() | (Seed(4).numpy().random(fixed.shape) < 0.3)
    told = codec.clamp(fixed, free=free)
    assert (told[:, codec.tokens_of("sex")[0]] == -1).tolist() == free["sex"].tolist()
    shuffled = tokens[Seed(5).numpy().permutation(len(tokens))]  # what a network that learned nothing would fill in
    back = codec.decode(np.where(told < 0, shuffled, told), seed=Seed(2), fixed=fixed, free=free)
    for name in names:
        kept = ~free[name].to_numpy()
        assert pd.Series(back[name][kept]).equals(fixed[name][kept].reset_index(drop=True))
    frame = pd.DataFrame(back)
    held = pd.DataFrame({n: frame[n].mask(free[n] if n in names else frame[n].notna()) for n in frame})
    orders = [rule for rule in cohort.schema.rules if isinstance(rule, Order)]
    broken_, clash = (np.any([rule.violations(side) for rule in orders], axis=0) for side in (frame, held))
    assert 0 < clash.sum() < 100
    assert not (broken_ & ~clash).any()


def test_the_codec_comes_back_from_json_and_keeps_no_extreme_and_no_rare_level(cohort):
    planted = cohort.table.copy()
    planted.loc[5, ["admitted", "discharged"]] = pd.Timestamp("1911-02-03 04:05"), pd.Timestamp("2071-06-07 08:09")
    planted.loc[6, ["glucose_min", "glucose_max", "systolic"]] = 0.3, 4321.87, 298.0
    planted.loc[7, ["hospital", "ward"]] = "UNIQUE-HOSPITAL", "UNIQUE-WARD"
    data = TableData(planted, cohort.schema)
    codec = TableCodec.fit(data, seed=Seed(1))
    text = json.dumps(codec.to_json(), allow_nan=False)
    again = TableCodec.from_json(json.loads(text))
    tokens = codec.encode(data)
    np.testing.assert_array_equal(again.encode(data), tokens)
    for name, values in again.decode(tokens, seed=Seed(2)).items():
        assert pd.Series(values).equals(pd.Series(codec.decode(tokens, seed=Seed(2))[name]))
    span = (pd.Timestamp("2071-06-07 08:09") - pd.Timestamp("1911-02-03 04:05")) // pd.Timedelta(minutes=1)
    stamps = [pd.Timestamp(t) for t in ("1911-02-03 04:05", "2071-06-07 08:09")]
    numbers = [(t - pd.Timestamp(0)) // pd.Timedelta(minutes=1) for t in stamps]
    held = set(numbers_of(json.loads(text)))
    assert not held & {4321.87, 298.0, span, *numbers, *(number * 60e6 for number in numbers)}
    assert "UNIQUE" not in text


def test_a_table_without_dates_and_rules_is_learned_as_it_is():
    data = table(a=("real", np.linspace(0, 1, 300)), day=("datetime", pd.date_range("2020-01-01", periods=300)))
    codec = TableCodec.fit(data, seed=Seed(1))
    assert codec.names == codec.originals == ("a", "day")
    assert codec.rewriting.chains == ()
    assert codec.legal.components == ()


def test_rules_of_the_cohort_are_of_every_kind(cohort):
    kinds = {type(rule) for rule in cohort.schema.rules}
    assert {Implies, Combination, Order} < kinds
    assert len(kinds) == 6

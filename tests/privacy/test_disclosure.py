"""Copies are found by all three attacks, fresh draws leave them without excess, and known pitfalls are avoided."""

import numpy as np
import pandas as pd
import pytest
from privacy_cases import NUMBERS, SCHEMA, categories, evidence, population, table, visits, with_copies
from scipy.sparse import csr_array

from synthgen import stats
from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import to_json
from synthgen.privacy.disclosure import Attack, by_patient
from synthgen.privacy.inference import Inference
from synthgen.privacy.linkability import Linkability
from synthgen.privacy.predicates import MISSING, Predicates, fitting, guessed
from synthgen.privacy.singling_out import SinglingOut, _permuted
from synthgen.privacy.space import Space, squared_distances
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing import check_check

CHECKS = (SinglingOut(attacks=500), Linkability(), Inference())
IDS = [check.name for check in CHECKS]
every_check = pytest.mark.parametrize("check", CHECKS, ids=IDS)


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr("synthgen.privacy.labels._MOST", 2000)
    monkeypatch.setattr("synthgen.privacy.singling_out._MANY", 2000)
    monkeypatch.setattr("synthgen.privacy.singling_out._FEW", 500)


def measured(check, train, holdout, synthetic, seed=0):
    return check.run(evidence(train, holdout, synthetic), seed=Seed(seed))


def with_roles(data, roles):
    columns = tuple(Column(c.name, c.kind, roles=roles.get(c.name, c.roles)) for c in data.schema.columns)
    return TableData(data.table, TableSchema(columns))


def weak(found):
    return any("weak" in note for note in found.notes)


@every_check
def test_copies_of_all_rows_are_found(check):
    train = population(300, 1)
    found = measured(check, train, population(250, 2), train)
    assert found.statistic.low > 0.5
    assert found.p_value < 0.001
    assert found.control.low < 0 < found.control.high
    assert found.details["success_control"].high < 0.4
    assert not weak(found)


@every_check
def test_copies_of_some_rows_are_found_less(check):
    train, holdout, fresh = population(400, 1), population(400, 2), population(400, 3)
    excess = [
        measured(check, train, holdout, with_copies(fresh, train.take(np.arange(k)))).statistic.value
        for k in (0, 80, 200, 400)
    ]
    assert excess == sorted(excess)


@every_check
def test_fresh_draws_give_no_excess(check):
    """Law: of 25 clean audits at most 2 have p < 1 % (exceeded in .2 % of seeds) and at least 20 intervals include 0
    (95 % intervals do so in 99.9 % of seeds)."""
    alarms, covered = 0, 0
    for seed in range(25):
        found = measured(check, *(population(n, 10 * seed + i) for i, n in enumerate((220, 160, 200))), seed=seed)
        alarms += found.p_value < 0.01
        covered += found.statistic.low <= 0 <= found.statistic.high
    assert alarms <= 2
    assert covered >= 20


@pytest.mark.parametrize("sizes", [(200, 800), (600, 300)], ids=["holdout larger", "train larger"])
@every_check
def test_no_size_of_the_holdout_hides_or_invents_a_leak(check, sizes):
    """Anonymeter reports no risk of singling out where 30 % are copied and the holdout is four times train."""
    train, holdout, fresh = population(sizes[0], 1), population(sizes[1], 2), population(sizes[0], 3)
    copied = with_copies(fresh, train.take(np.arange(int(0.3 * sizes[0]))))
    found, clean = (measured(check, train, holdout, synthetic) for synthetic in (copied, fresh))
    assert 0.15 < found.statistic.value < 0.35
    assert found.statistic.low > 0.08
    assert found.p_value < 0.001 < clean.p_value
    assert clean.statistic.low < 0.03


@every_check
def test_repeated_copies_do_not_hide(check):
    train, fresh = population(300, 1), population(300, 3)
    repeated = table(pd.concat([train.table.iloc[:60]] * 3 + [fresh.table.iloc[180:]]))
    assert measured(check, train, population(300, 2), repeated).statistic.low > 0.05


@every_check
def test_rows_columns_storage_units_and_names_of_levels_change_nothing(check):
    train, holdout, synthetic = population(300, 1), population(220, 2), population(250, 3)
    synthetic = with_copies(synthetic, train.take(np.arange(50)))
    before = measured(check, train, holdout, synthetic)
    rng = np.random.default_rng(1)
    names = list(rng.permutation(list(SCHEMA.names)))
    schema = TableSchema(tuple(Column(name, SCHEMA[name].kind) for name in names))

    def changed(data):
        frame = data.table.iloc[rng.permutation(len(data))][names].copy()
        for name in NUMBERS:
            frame[name] = frame[name].astype(np.float32).astype(float) * 1024
        frame["ward"] = "ward " + frame["ward"]
        return table(frame, schema)

    after = measured(check, changed(train), changed(holdout), changed(synthetic))
    assert to_json(after.statistic) == pytest.approx(to_json(before.statistic))
    assert after.p_value == before.p_value
    assert after.details.keys() == before.details.keys()


@every_check
def test_same_seed_same_measurement(check):
    sets = population(150, 1), population(150, 2), population(100, 3)
    assert to_json(measured(check, *sets, seed=4)) == to_json(measured(check, *sets, seed=4))


@every_check
def test_the_contract(check):
    check_check(check)


@every_check
def test_a_patient_counts_once(check):
    """Visits of one law give no excess, and no more attacks than patients times questions."""
    train, holdout, synthetic = visits(200, 1), visits(150, 2), visits(150, 3)
    found = measured(check, train, holdout, synthetic)
    assert found.statistic.low <= 0 <= found.statistic.high
    assert any("150 patients were attacked on each side" in note for note in found.notes)
    assert measured(check, train, holdout, train).statistic.low > 0.3


def test_singling_out_isolates_patients_not_rows():
    """Each patient has the same row twice: no predicate fits exactly one row, and most fit exactly one patient."""

    def twice(n, seed):
        frame = pd.concat([population(n, seed).table] * 2)
        frame.insert(0, "patient", [f"P{seed}-{i}" for i in range(n)] * 2)
        return table(frame, TableSchema((Column("patient", "identifier", roles=("patient",)), *SCHEMA.columns)))

    train = twice(200, 1)
    assert measured(CHECKS[0], train, twice(200, 2), train).details["success_train"].low > 0.5


@every_check
@pytest.mark.parametrize(
    ("case", "needed"),
    [
        ("one column", "at least 2"),
        ("one column and an empty one", "at least 2"),
        ("one column and text", "at least 2"),
        ("no column in common", "no learned column in common"),
        ("few train patients", r"train has 99 patients.*at least 100"),
        ("few holdout patients", r"holdout has 99 patients.*at least 100"),
        ("few synthetic rows", r"19 rows; 20 are needed"),
    ],
)
def test_what_cannot_be_assessed(check, case, needed):
    sizes = {"few train patients": (99, 200, 200), "few holdout patients": (200, 99, 200)}
    sizes["few synthetic rows"] = (200, 200, 19)
    sets = [population(n, i) for i, n in enumerate(sizes.get(case, (200, 200, 200)))]
    if case == "no column in common":
        train, holdout, synthetic = (part(d, names) for d, names in zip(sets, (["age"], ["age"], ["sex"]), strict=True))
        with pytest.raises(NotAssessable, match=needed):
            measured(check, train, holdout, synthetic)
        return
    if case.startswith("one column"):
        sets = [part(data, ["bmi"]) for data in sets]
    if "empty" in case:
        sets = [beside(data, Column("empty", "real"), np.full(len(data), np.nan)) for data in sets]
    if "text" in case:
        sets = [beside(data, Column("letter", "text"), [f"Dear {i}" for i in range(len(data))]) for data in sets]
    with pytest.raises(NotAssessable, match=needed):
        measured(check, *sets)


def part(data, names):
    return table(data.table[names], TableSchema(tuple(data.schema[name] for name in names)))


def beside(data, column, values):
    return table(data.table.assign(**{column.name: values}), TableSchema((*data.schema.columns, column)))


def test_a_table_too_coarse_for_predicates_is_not_assessed():
    sets = [categories(200, seed, columns=2, levels=2) for seed in range(3)]
    with pytest.raises(NotAssessable, match="different predicates"):
        measured(CHECKS[0], *sets)


@every_check
def test_columns_that_hold_nothing_are_no_trouble(check):
    """An empty column, one that only the synthetic table lacks values of, and a constant."""
    sets = [population(200, seed) for seed in range(3)]
    sets = [beside(data, Column("empty", "real"), np.full(len(data), np.nan)) for data in sets]
    sets = [beside(data, Column("constant", "categorical"), ["C"] * len(data)) for data in sets]
    lost = [[None] * 200 if i == 2 else data.table["ward"] for i, data in enumerate(sets)]
    sets = [beside(data, Column("lost", "categorical"), v) for data, v in zip(sets, lost, strict=True)]
    found = measured(check, *sets)
    assert found.statistic.low <= 0 <= found.statistic.high


def shifted(data, amount):
    frame = data.table.copy()
    frame["bmi"] = frame["bmi"] + amount
    return table(frame)


def test_negative_secrets_are_secrets_like_others():
    """Anonymeter counts every guess of a negative secret as right."""
    sets = population(200, 1), population(200, 2), population(200, 3)
    sets = [with_roles(data, {"bmi": ("sensitive",)}) for data in sets]
    plain = measured(Inference(), *sets)
    negative = measured(Inference(), *(TableData(shifted(data, -1000).table, data.schema) for data in sets))
    assert negative.details == plain.details
    assert plain.details["success_control"].high < 0.5


def test_an_outlier_does_not_widen_the_tolerance():
    sets = [with_roles(population(200, seed), {"bmi": ("sensitive",)}) for seed in range(3)]
    plain = measured(Inference(), *sets).details["success_control"].value
    frame = sets[0].table.copy()
    frame.loc[0, "bmi"] = 1e9
    outlying = measured(Inference(), TableData(frame, sets[0].schema), *sets[1:])
    assert outlying.details["success_control"].value == pytest.approx(plain, abs=0.1)


def test_the_absolute_tolerance_is_in_the_unit_of_the_column():
    sets = [with_roles(population(200, seed), {"bmi": ("sensitive",)}) for seed in range(3)]
    everything = measured(Inference(absolute={"bmi": 1000.0}), *sets)
    nothing = measured(Inference(absolute={"bmi": 0.0}), *sets)
    assert everything.details["success_control"].value == 1
    assert everything.statistic.low < 0 < everything.statistic.high
    assert nothing.details["success_control"].value < 0.1


def test_the_leaking_secret_is_named():
    """Train records were copied, but with the sex of somebody else."""
    train, holdout = (
        with_roles(population(300, seed), {"sex": ("sensitive",), "ward": ("sensitive",)}) for seed in (1, 2)
    )
    copied = TableData(train.table.assign(sex=population(300, 3).table["sex"]), train.schema)
    found = measured(Inference(), train, holdout, copied)
    assert found.p_value < 0.001
    assert found.details["worst_secret"].low > 0.6
    assert found.details["worst_secret"].confidence == pytest.approx(0.975)
    assert any("'ward'" in note and "'sex'" not in note for note in found.notes)


def test_declared_secrets_are_attacked_and_others_are_not():
    sets = [with_roles(population(150, seed), {"ward": ("sensitive",), "sex": ("sensitive",)}) for seed in range(3)]
    found = measured(Inference(), *sets)
    assert found.statistic.n == 2 * 150
    assert any("of 2 secrets" in note for note in found.notes)
    few = measured(Inference(max_secrets=3), *(population(150, seed) for seed in range(3)))
    assert any("random 3 of 9" in note for note in few.notes)


def test_quasi_identifiers_are_one_half():
    roles = {"age": ("quasi_identifier",), "weight": ("quasi_identifier",), "sex": ("quasi_identifier",)}
    train, holdout = (with_roles(population(200, seed), roles) for seed in (1, 2))
    found = measured(Linkability(), train, holdout, train)
    assert found.statistic.n == 200
    assert found.statistic.low > 0.8
    assert any("quasi identifiers" in note for note in found.notes)


def test_coarse_quasi_identifiers_hide_no_copies():
    """Nobody is linked by sex alone, so random halves are tried as well."""
    train, holdout = (with_roles(population(200, seed), {"sex": ("quasi_identifier",)}) for seed in (1, 2))
    found = measured(Linkability(), train, holdout, train)
    assert found.statistic.high < 0.1
    assert found.details["random_halves"].low > 0.8
    assert found.p_value < 0.001


def test_more_neighbours_link_more():
    sets = population(200, 1), population(200, 2), population(200, 3)
    shares = [measured(Linkability(neighbours=k), *sets).details for k in (1, 5, 20)]
    for name in ("success_control", "success_naive"):
        values = [details[name].value for details in shares]
        assert values == sorted(set(values))


def test_blind_linking_is_a_draw_of_one_in_all_rows():
    found = measured(Linkability(), population(200, 1), population(200, 2), population(160, 3))
    assert found.details["success_naive"].value == 1 / 160


def test_part_of_a_space_is_the_space_of_a_table_that_has_only_these_columns():
    frame = population(100, 1).table
    numeric = frozenset(NUMBERS)
    space = Space.fit(frame, numeric)
    some = space.part(space.encode(frame), ["glucose", "ward"])
    alone = Space.fit(frame[["glucose", "ward"]], numeric).encode(frame)
    np.testing.assert_allclose(squared_distances(some, some), squared_distances(alone, alone), atol=1e-6)


def doubled(n, seed):
    """Two columns that tell each other, so that everybody can be inferred by anybody."""
    x = np.random.default_rng(seed).normal(size=n)
    frame = pd.DataFrame({"x": x, "y": 2 * x, "z": x + 1})
    return table(frame, TableSchema(tuple(Column(name, "real") for name in frame)))


def test_a_weak_attack_is_told_from_a_safe_table():
    safe = measured(Inference(), *(doubled(200, seed) for seed in range(3)))
    assert safe.details["success_control"].low > 0.8
    assert safe.statistic.high < 0.05
    assert not weak(safe)
    assert weak(measured(Inference(), *(categories(200, seed) for seed in range(3))))


def test_binary_scores_give_newcombes_interval():
    found = by_patient(np.repeat([1.0, 0, 1, 0], [56, 44, 48, 52]), 0.1, attacks=100).excess
    expected = stats.difference(56, 100, 48, 100)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 100


def test_nobody_found_is_no_certainty():
    """Rule of three: of 100 patients without success on either side the upper bound is near 4 %."""
    found = by_patient(np.zeros(200), 0.0, attacks=2000).excess
    assert found.value == 0
    assert 0.03 < found.high < 0.045


def test_answers_of_one_patient_are_not_independent_attacks():
    """A patient who is right in all of ten questions or in none is worth one attack."""
    scores = np.tile([1.0, 0.0], 100)
    assert by_patient(scores, 0.5, attacks=1000).worth == pytest.approx(100, abs=1)


def test_intervals_cover():
    """Law: 95 % intervals of excess and scaled risk cover the truth in 93 to 97.5 % of 2,000 simulations."""
    rng, n, t, c = np.random.default_rng(1), 300, 0.3, 0.2
    covered = np.zeros(2)
    for right, control in zip(rng.binomial(n, t, 2000), rng.binomial(n, c, 2000), strict=True):
        scores = np.repeat([1.0, 0, 1, 0], [right, n - right, control, n - control])
        attack = by_patient(scores, 0.0, attacks=n)
        truths = (attack.excess, t - c), (attack.details["scaled_risk"], (t - c) / (1 - c))
        covered += [estimate.low <= truth <= estimate.high for estimate, truth in truths]
    assert (covered >= 0.93 * 2000).all()
    assert (covered <= 0.975 * 2000).all()


def test_the_excess_is_scaled_up_to_those_who_could_not_be_attacked():
    part_of = Attack(train=0.3, control=0.1, naive=0.0, sd=0.02, attacks=2000, patients=500, reach=0.5)
    assert part_of.excess.value == pytest.approx(0.4)
    assert part_of.details["scaled_risk"].value == pytest.approx(2 * 0.2 / 0.9)
    assert Attack(train=0.9, control=0.0, naive=0.0, sd=0.02, attacks=9, patients=9, reach=0.5).excess.value == 1


def test_nothing_is_left_to_tell_where_the_control_is_known():
    assert "scaled_risk" not in by_patient(np.ones(200), 0.5, attacks=100).details


def test_predicates_fit_what_their_definition_says(monkeypatch):
    rng = np.random.default_rng(1)
    rows = np.where(rng.random((200, 5)) < 0.2, MISSING, rng.integers(0, 9, (200, 5)))
    ordered = np.array([True, True, False, True, False])
    predicates = guessed(np.unique(rows, axis=0), ordered, 300, crowd=100, seed=Seed(1))
    assert predicates.several.any()
    assert ((predicates.low == MISSING) & (predicates.high == MISSING)).any()
    monkeypatch.setattr("synthgen.privacy.predicates._PAIRS", 1000)
    parts = list(fitting(predicates, rows))
    assert len(parts) > 3
    which, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    for i, (columns, low, high) in enumerate(zip(predicates.columns, predicates.low, predicates.high, strict=True)):
        used = columns >= 0
        values = rows[:, columns[used]]
        expected = ((values >= low[used]) & (values <= high[used])).all(axis=1)
        assert sorted(found[which == i]) == list(np.flatnonzero(expected))


def test_predicates_are_different():
    predicates = guessed(np.unique(np.eye(4), axis=0), np.zeros(4, bool), 500, crowd=10, seed=Seed(1))
    whole = np.hstack([predicates.columns, predicates.low, predicates.high])
    assert len(np.unique(whole, axis=0)) == len(predicates)


def test_a_missing_value_lies_in_no_interval():
    everything = Predicates(np.array([[0]]), np.array([[np.finfo(float).min]]), np.array([[5.0]]))
    ((_, rows),) = fitting(everything, np.array([[MISSING], [3.0], [7.0]]))
    assert rows.tolist() == [1]


def test_only_predicates_that_fit_too_many_rows_are_left_out():
    """Each of ten columns is 0 in nine rows of ten; predicates say so of one to ten of them."""
    rows = (np.random.default_rng(2).random((300, 10)) < 0.1).astype(float)
    said = np.tril(np.ones((10, 10), bool))
    columns = np.where(said, np.arange(10), -1)
    predicates = Predicates(columns, np.where(said, 0, -np.inf), np.where(said, 0, np.inf))
    every, kept = (
        np.bincount(np.concatenate([which for which, _ in fitting(predicates, rows, most=most)]), minlength=10)
        for most in (None, 120)
    )
    assert every.tolist() == [int((rows[:, :n] == 0).all(axis=1).sum()) for n in range(1, 11)]
    left_out = kept == 0
    assert left_out.tolist() == (300 - rows.sum(axis=0).cumsum() > 120).tolist()
    assert 0 < left_out.sum() < 10
    assert (every[left_out] > 120).all()
    assert (kept[~left_out] == every[~left_out]).all()


def test_sides_drawn_by_lot_vary_as_a_hypergeometric_count_does():
    """Ninety predicates that fit one patient each, of 300: twice the number on one side, less ninety."""
    fits = csr_array((np.ones(90, dtype=np.float32), (np.arange(90), 3 * np.arange(90))), shape=(90, 300))
    drawn = _permuted(fits, 300, 20_000, 1000, Seed(1))
    assert len(drawn) == 20_000
    assert abs(drawn.mean()) < 4 * drawn.std() / 141
    assert drawn.var() == pytest.approx(90 * (300 - 90) / 299, rel=0.05)

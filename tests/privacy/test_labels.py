"""The label test against closed forms, and its level."""

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from synthgen.errors import NotAssessable
from synthgen.privacy.labels import _by_patient, label_test, patients_needed
from synthgen.rng import Seed


def test_p_equals_the_hypergeometric_tail():
    is_train = np.arange(90) < 60
    counts = np.zeros((90, 1))
    counts[np.r_[0:16, 60:62]] = 1  # 18 patients were hit, 16 of them in train
    test = label_test(counts, is_train, np.arange(90), seed=Seed(1))
    exact = hypergeom.sf(15, 90, 60, 18)
    assert test.p_more == pytest.approx(exact, abs=4 * np.sqrt(exact / test.permutations))
    assert test.excess[0] == pytest.approx(16 - 12)
    assert test.sd[0] == pytest.approx(hypergeom.std(90, 60, 18))


def test_both_ways_of_permuting_agree():
    """Few kinds of patients are drawn as counts, many are shuffled: one law."""
    rng = np.random.default_rng(1)
    is_train = np.arange(300) < 200
    few = rng.integers(0, 3, (300, 1)).astype(float)
    many = few + rng.uniform(0, 1e-6, (300, 1))
    a, b = (label_test(counts, is_train, np.arange(300), seed=Seed(2)) for counts in (few, many))
    assert a.spread == pytest.approx(b.spread, abs=2)
    assert a.p_more == pytest.approx(b.p_more, abs=0.03)


def test_a_popular_patient_is_one_patient():
    is_train = np.arange(60) < 30
    counts = np.zeros((60, 1))
    counts[0] = 500
    test = label_test(counts, is_train, np.arange(60), seed=Seed(1))
    assert test.p_more == pytest.approx(0.5, abs=0.02)


def test_more_rows_per_train_patient_are_no_leak():
    """Train patients have four rows, holdout patients one, and every row is hit once."""
    patients = np.r_[np.repeat(np.arange(40), 4), np.arange(40, 80)]
    is_train = patients < 40
    test = label_test(np.ones((200, 1)), is_train, patients, seed=Seed(1))
    assert test.excess[0] == pytest.approx(0)
    assert test.p_more > 0.5


def test_p_is_uniform_under_the_null(monkeypatch):
    """Law: 200 null p-values of three counts together; Kolmogorov-Smirnov at 0.1 % with a fixed seed."""
    monkeypatch.setattr("synthgen.privacy.labels._MOST", 2000)
    rng = np.random.default_rng(5)
    p_values = []
    for run in range(200):
        is_train = rng.permutation(150) < 100
        counts = np.stack([rng.poisson(rate, 150) for rate in (0.2, 0.5, 2.0)], axis=1).astype(float)
        p_values.append(label_test(counts, is_train, np.arange(150), seed=Seed(run)).p_more)
    assert kstest(p_values, "uniform").pvalue > 0.001


def test_size_rule():
    """Nothing but copies: as many are needed as the size rule says, and a few for testing several counts together."""
    is_train = np.arange(900) < 600
    test = label_test(np.zeros((900, 1)), is_train, np.arange(900), seed=Seed(1))
    assert test.smallest_seen(1000) == np.ceil(np.log(0.001) / np.log(2 / 3))
    counts = np.zeros((900, 1))
    counts[:18] = 1
    assert label_test(counts, is_train, np.arange(900), seed=Seed(1)).p_more < 0.0015
    assert test.smallest_seen(10) == np.inf


def test_patients_needed_makes_all_copies_visible():
    needed = patients_needed(10_000, 50)
    assert 50 * np.log(10_000 / (10_000 + needed)) <= np.log(0.001) < 50 * np.log(10_000 / (10_000 + needed - 1))


def test_interval_covers_the_share_of_copies(monkeypatch):
    """Law: 5 % of the rows copy, the others land by chance; the interval covers in at least 93 % of 200 runs."""
    monkeypatch.setattr("synthgen.privacy.labels._MOST", 2000)
    rng, covered = np.random.default_rng(9), 0
    for run in range(200):
        is_train = rng.permutation(600) < 400
        counts = np.bincount(rng.integers(0, 600, 380), minlength=600)
        counts += np.bincount(rng.choice(np.flatnonzero(is_train), 20, replace=False), minlength=600)
        test = label_test(counts[:, None].astype(float), is_train, np.arange(600), seed=Seed(run))
        estimate = test.leaked(0, 400)
        covered += estimate.low <= 0.05 <= estimate.high
    assert covered >= 186


def test_too_few_patients_are_refused_with_the_number():
    is_train = np.arange(50) < 40
    with pytest.raises(NotAssessable, match=r"holdout has 10 patients.*at least 20"):
        label_test(np.ones((50, 1)), is_train, np.arange(50), seed=Seed(1))


def test_same_seed_same_bytes():
    counts = np.random.default_rng(1).poisson(0.5, (100, 2)).astype(float)
    a, b, c = (label_test(counts, np.arange(100) < 50, np.arange(100), seed=Seed(s)) for s in (1, 1, 2))
    assert (a.p_more, a.spread.tobytes()) == (b.p_more, b.spread.tobytes())
    assert a.p_more != c.p_more


@pytest.mark.parametrize(
    ("people", "train", "copies", "strays"), [(3000, 2000, 60, 0), (3000, 2000, 60, 5), (900, 300, 30, 2)]
)
def test_a_p_value_that_no_permutation_reaches_is_bounded_by_the_exact_one(people, train, copies, strays):
    """Each counted once: the count on train is hypergeometric. The bound is at most ten times its tail."""
    counts = np.zeros(people)
    counts[:copies] = counts[train : train + strays] = 1
    test = label_test(counts[:, None], np.arange(people) < train, np.arange(people), seed=Seed(1))
    exact = hypergeom.sf(copies - 1, people, train, copies + strays)
    assert exact <= test.p_more <= 10 * exact
    assert exact < 1e-5


def test_each_count_has_a_p_of_its_own():
    """Adjusted for testing all: the smallest is that of the largest deviance, and a count without a leak keeps its."""
    is_train = np.arange(90) < 60
    counts = np.zeros((90, 2))
    counts[:30, 0] = 1
    counts[::3, 1] = 1
    test = label_test(counts, is_train, np.arange(90), seed=Seed(1))
    assert test.p_each.min() == test.p_more == test.p_each[0] < 0.001
    assert test.p_each[1] > 0.5


def test_the_largest_of_several_shares_has_a_lower_bound_for_all():
    counts = np.random.default_rng(1).poisson(1.0, (300, 2)).astype(float)
    counts[:60] += 1
    test = label_test(counts, np.arange(300) < 200, np.arange(300), seed=Seed(1))
    alone, among = test.leaked(0, 400), test.leaked(0, 400, among=8)
    assert 0 < among.low < alone.low
    assert (among.value, among.high) == (alone.value, alone.high)


def test_kinds_are_the_different_residuals_of_all_patients():
    """Law: patients without counts may stand for each other, and their rows need not be listed."""
    rng = np.random.default_rng(0)
    sizes, counts = rng.integers(1, 4, 500), rng.binomial(2, 0.05, (500, 3)).astype(float)
    rate = counts.sum(axis=0) / sizes.sum()
    expected, number = np.unique(counts - np.outer(sizes, rate), axis=0, return_counts=True)
    patients = np.repeat(np.arange(500), sizes)
    first = np.searchsorted(patients, np.arange(500))
    by_row = np.zeros((len(patients), 3))
    by_row[first] = counts
    is_train = patients < 300
    found = np.flatnonzero(counts.any(axis=1))
    for listed, rows in ((by_row, None), (counts[found], first[found]), (counts, first)):
        by_patient = _by_patient(listed, is_train, patients, rows)
        kinds, times = by_patient.residuals(rate)
        assert 3 < len(kinds) < 500
        assert kinds.tolist() == expected.tolist()
        assert times.tolist() == number.tolist()
        assert (by_patient.people, by_patient.train_people) == (500, 300)
        assert by_patient.counts[by_patient.train].sum() == counts[:300].sum()


def test_rows_without_counts_need_not_be_listed():
    rng = np.random.default_rng(1)
    counts = rng.binomial(1, 0.1, (400, 2)).astype(float)
    patients, rows = rng.permutation(400) // 2, np.flatnonzero(counts.any(axis=1))
    is_train = patients < 120
    whole = label_test(counts, is_train, patients, seed=Seed(3))
    part = label_test(counts[rows], is_train, patients, seed=Seed(3), rows=rows)
    assert (part.p_more, part.p_fewer, part.critical) == (whole.p_more, whole.p_fewer, whole.critical)
    assert part.excess.tolist() == whole.excess.tolist()

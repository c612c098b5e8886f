"""Intervals and tests against closed forms, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats as reference
from sklearn.metrics import roc_auc_score, roc_curve

from synthgen import stats
from synthgen.errors import NotAssessable


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 20), (7, 20), (20, 20), (13, 5000)])
def test_share_intervals_equal_scipys(successes, n):
    test = reference.binomtest(successes, n)
    for ours, method in ((stats.clopper_pearson, "exact"), (stats.wilson, "wilson")):
        theirs = test.proportion_ci(0.9, method=method)
        estimate = ours(successes, n, confidence=0.9)
        assert (estimate.low, estimate.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert (estimate.value, estimate.n, estimate.confidence) == (successes / n, n, 0.9)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(NotAssessable, match="no cases"):
        stats.clopper_pearson(0, 0)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 20), (0.6791, 1.0000)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
    ],
)
def test_difference_equals_newcombes_table(counts, expected):
    estimate = stats.difference(*counts)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=6e-5)
    mirrored = stats.difference(*counts[2:], *counts[:2])
    assert (-mirrored.high, -mirrored.low) == pytest.approx((estimate.low, estimate.high))


@pytest.mark.parametrize("count", [0, 1, 12])
def test_poisson_upper_leaves_five_percent_below(count):
    assert reference.poisson.cdf(count, stats.poisson_upper(count)) == pytest.approx(0.05)


def test_auc_equals_sklearn_with_ties():
    rng = np.random.default_rng(1)
    positives, negatives = rng.integers(0, 6, 80) + 1.0, rng.integers(0, 6, 120) + 0.0
    labels = np.r_[np.ones(80), np.zeros(120)]
    assert stats.auc(positives, negatives).value == pytest.approx(
        roc_auc_score(labels, np.r_[positives, negatives]), abs=1e-12
    )


def test_auc_variance_equals_delongs_definition():
    rng = np.random.default_rng(2)
    positives, negatives = np.round(rng.normal(0.5, 1, 40), 1), np.round(rng.normal(0, 1, 60), 1)
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    variance = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 60
    value, z = wins.mean(), reference.norm.ppf(0.975)
    half = z * np.sqrt(variance) / (value * (1 - value))
    logit = np.log(value / (1 - value))
    estimate = stats.auc(positives, negatives)
    assert (estimate.low, estimate.high) == pytest.approx(
        (1 / (1 + np.exp(half - logit)), 1 / (1 + np.exp(-half - logit)))
    )


def test_auc_interval_covers():
    """Law: of 400 intervals 93 to 97 % cover the true area (93 % of seeds do)."""
    rng, truth = np.random.default_rng(3), float(reference.norm.cdf(0.8 / np.sqrt(2)))
    intervals = (stats.auc(rng.normal(0.8, 1, 60), rng.normal(0, 1, 90)) for _ in range(400))
    assert 0.93 <= np.mean([e.low <= truth <= e.high for e in intervals]) <= 0.97


def test_auc_of_perfect_separation_does_not_claim_certainty():
    estimate = stats.auc(np.arange(30.0) + 100, np.arange(50.0))
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(stats.clopper_pearson(30, 30).low)
    with pytest.raises(NotAssessable, match="two scores"):
        stats.auc(np.array([1.0]), np.arange(5.0))


def test_roc_equals_sklearn():
    rng = np.random.default_rng(4)
    positives, negatives = rng.integers(0, 9, 70) + 2.0, rng.integers(0, 9, 50) + 0.0
    fpr, tpr, _ = roc_curve(np.r_[np.ones(70), np.zeros(50)], np.r_[positives, negatives], drop_intermediate=False)
    top = np.append(np.diff(fpr) > 0, True)
    grid = [0.0, 0.01, 0.13, 0.5, 0.77, 1.0]
    assert stats.roc_curve_on_grid(positives, negatives, grid) == pytest.approx(np.interp(grid, fpr[top], tpr[top]))


def test_bootstrap_of_a_mean_is_as_wide_as_the_closed_form():
    values = np.random.default_rng(5).normal(0, 1, 400)
    estimate = stats.bootstrap(lambda rows: values[rows].mean(), np.arange(400), seed=1, repeats=2000)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert estimate == stats.bootstrap(lambda rows: values[rows].mean(), np.arange(400), seed=1, repeats=2000)


def test_bootstrap_resamples_patients_not_rows():
    per_patient = np.random.default_rng(6).normal(0, 1, 50)
    patients = np.repeat(np.arange(50), 20)
    values = per_patient[patients]
    by_patient = stats.bootstrap(lambda rows: values[rows].mean(), patients, seed=1)
    by_row = stats.bootstrap(lambda rows: values[rows].mean(), np.arange(1000), seed=1)
    assert by_patient.n == 50
    assert (by_patient.high - by_patient.low) / (by_row.high - by_row.low) == pytest.approx(np.sqrt(20), rel=0.2)


def test_basic_bootstrap_corrects_what_noise_adds():
    """A distance between two samples of one law is above zero by noise alone; resampling adds it once more."""
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 30, 300), rng.integers(0, 30, 300)

    def distance(i, j):
        return float(np.abs(np.bincount(a[i], minlength=30) - np.bincount(b[j], minlength=30)).sum() / 600)

    rows = np.arange(300)
    percentile = stats.bootstrap_pair(distance, rows, rows, seed=1)
    basic = stats.bootstrap_pair(distance, rows, rows, seed=1, method="basic")
    assert percentile.low > percentile.value
    assert basic.high < basic.value


def test_bootstrap_refuses_what_is_undefined():
    with pytest.raises(NotAssessable, match="two patients"):
        stats.bootstrap(lambda rows: 1.0, np.zeros(9, dtype=int), seed=1)
    with pytest.raises(NotAssessable, match="200 of 200"):
        stats.bootstrap(lambda rows: float("nan"), np.arange(9), seed=1)


def test_holm_by_hand_and_as_a_law():
    assert stats.holm([0.02, 0.001, 0.5, 0.012]) == pytest.approx([0.04, 0.004, 0.5, 0.036])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
    assert stats.holm([]) == []
    rng = np.random.default_rng(8)  # family-wise error at 5 % over 2,000 families: within 3.5 standard errors
    alarms = np.mean([min(stats.holm(rng.random(5).tolist())) < 0.05 for _ in range(2000)])
    assert abs(alarms - 0.05) < 0.017


def test_permutation_p_counts_the_observed_one():
    null = np.arange(99.0)
    assert stats.permutation_p(1000.0, null) == 0.01
    assert stats.permutation_p(98.0, null) == 0.02
    assert stats.permutation_p(-1.0, null) == 1.0

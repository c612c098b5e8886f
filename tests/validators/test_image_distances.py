"""Distances of clouds of points against closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from synthgen.validators.image_distances import (
    Likeness,
    cubic,
    frechet,
    kernel_distance,
    moments,
    neighborhood,
)

rng = np.random.default_rng(5)


def test_frechet_distance_of_two_round_gaussians():
    mean = np.array([3.0, 4.0])
    assert frechet((np.zeros(2), np.eye(2)), (mean, 9 * np.eye(2))) == pytest.approx(25 + 2 * (3 - 1) ** 2)


def test_frechet_distance_agrees_with_the_matrix_root():
    A, B = (rng.normal(size=(5, 5)) for _ in range(2))
    one, other = (np.zeros(5), A @ A.T), (np.ones(5), B @ B.T)
    by_root = 5 + np.trace(one[1] + other[1] - 2 * sqrtm(one[1] @ other[1]).real)
    assert frechet(one, other) == pytest.approx(by_root, rel=1e-6)
    assert frechet(one, one) == pytest.approx(0.0, abs=1e-6)


def test_frechet_distance_where_a_covariance_is_singular():
    assert frechet((np.zeros(2), np.diag([4.0, 0.0])), (np.zeros(2), np.zeros((2, 2)))) == pytest.approx(4.0)


def test_weights_count_rows_as_often_as_they_say():
    X = rng.normal(size=(6, 3))
    weights = np.array([2.0, 0, 1, 1, 3, 0])
    mean, covariance = moments(X, weights)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    assert mean == pytest.approx(repeated.mean(axis=0))
    assert covariance == pytest.approx(np.cov(repeated.T, bias=True))


def kernel(X, Y, patients=None):
    one = Likeness.of(X, np.arange(len(X)) if patients is None else patients)
    other = Likeness.of(Y, np.arange(len(Y)))
    return kernel_distance(one, other, cubic(X, Y), np.ones(len(X)), np.ones(len(Y)))


def test_kernel_distance_has_no_bias():
    """300 pairs of samples of one law: the mean lies within four standard errors of zero (false alarm: 1 in 15,000)."""
    found = [kernel(rng.normal(size=(12, 4)), rng.normal(size=(20, 4))) for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)


def test_kernel_distance_of_a_shift_in_closed_form():
    """In one dimension (xy + 1)^3 weighs the squared differences of the first three moments with 3, 3 and 1."""
    m = 0.5
    ours, theirs = np.array([m, 1 + m**2, m**3 + 3 * m]), np.array([0.0, 1.0, 0.0])  # moments 1, 2 and 3
    expected = (np.array([3.0, 3.0, 1.0]) * (ours - theirs) ** 2).sum()
    found = [kernel(rng.normal(m, size=(200, 1)), rng.normal(size=(200, 1))) for _ in range(100)]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 10)


def test_images_of_one_patient_are_not_compared_with_each_other():
    X, Y = rng.normal(size=(50, 4)), rng.normal(size=(50, 4))
    twice, patients = np.repeat(X, 2, axis=0), np.repeat(np.arange(50), 2)
    assert kernel(twice, Y, patients) == pytest.approx(kernel(X, Y), abs=1e-9)
    assert kernel(twice, Y) > kernel(X, Y) + 0.01


def test_identical_sets_cover_each_other_and_distant_ones_do_not():
    X = rng.normal(size=(200, 3))
    same, apart = neighborhood(X, X), neighborhood(X, X + 100)
    assert same.covered.all()
    assert same.precise.all()
    assert same.recalled.all()
    assert same.density.mean() == pytest.approx(6 / 5), "each ball holds its centre and five more"
    assert not apart.covered.any()
    assert not apart.precise.any()
    assert not apart.recalled.any()
    assert apart.density.max() == 0


def test_two_samples_of_one_law_have_the_expected_coverage_and_density():
    """1 - (1/2)^5 = .969 in the limit, whatever the law; 1,000 points: a standard deviation of about .006."""
    near = neighborhood(rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2)))
    assert near.covered.mean() == pytest.approx(1 - 0.5**5, abs=0.02)
    assert near.density.mean() == pytest.approx(1, abs=0.1)


def test_collapse_to_one_place_keeps_precision_and_loses_coverage_and_recall():
    X = rng.normal(size=(300, 2))
    near = neighborhood(X, rng.normal(0, 0.01, size=(300, 2)))
    assert near.precise.mean() > 0.95
    assert near.covered.mean() < 0.2
    assert near.recalled.mean() < 0.1

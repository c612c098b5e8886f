"""Images in spaces of features: a perfect generator lies beside the control, planted faults move the right way."""

import dataclasses

import numpy as np
import pytest
from image_cases import blurred, brief_encoder, brighter, cohort, collapsed, evidence, noisy

from synthgen.errors import NotAssessable
from synthgen.image_features import RANDOM, TRAINED
from synthgen.rng import Seed
from synthgen.validators.image_fidelity import FeatureDistance, Manifold

SEED = Seed(3)
DISTANCE = FeatureDistance(extractors=(RANDOM,), repeats=40)
MANIFOLD = Manifold(extractors=(RANDOM,))


@pytest.fixture(scope="module")
def sets():
    return cohort(1), cohort(2), cohort(3)


@pytest.fixture(scope="module")
def perfect(sets):
    return DISTANCE.run(evidence(*sets), seed=SEED), MANIFOLD.run(evidence(*sets), seed=SEED)


def test_a_perfect_generator_lies_beside_the_control(perfect):
    for found in perfect:
        assert found.statistic.low <= found.control.high
        assert found.control.low <= found.statistic.high
    kernel = perfect[0].details[f"KD({RANDOM})"]
    assert kernel.low < 0 < kernel.high


@pytest.mark.parametrize("fault", [blurred, noisy, brighter, collapsed], ids=lambda fault: fault.__name__)
def test_faults_are_far_away(sets, perfect, fault):
    train, holdout, fresh = sets
    found = DISTANCE.run(evidence(train, holdout, fault(fresh)), seed=SEED)
    if fault is not brighter:  # a tenth of the range, to which these filters are nearly blind
        assert found.statistic.low > found.control.high
        assert found.details[f"KD({RANDOM})"].low > found.details[f"KD({RANDOM}) (real holdout)"].high
    assert found.statistic.value > perfect[0].statistic.value


@pytest.mark.parametrize("fault", [blurred, noisy, collapsed], ids=lambda fault: fault.__name__)
def test_faults_leave_real_images_uncovered(sets, fault):
    train, holdout, fresh = sets
    found = MANIFOLD.run(evidence(train, holdout, fault(fresh)), seed=SEED)
    assert found.statistic.high < found.control.low
    precision, real = found.details[f"precision({RANDOM})"], found.details[f"precision({RANDOM}) (real holdout)"]
    if fault is collapsed:
        assert precision.value > real.value - 0.15, "what is there looks real"
    else:
        assert precision.high < real.low


def test_copies_of_train_look_as_good_as_real_images(sets):
    train, holdout, _ = sets
    for check in (DISTANCE, MANIFOLD):
        found = check.run(evidence(train, holdout, train), seed=SEED)
        assert found.statistic.low <= found.control.value <= found.statistic.high
        assert any("copy checks" in note for note in found.notes) or check is MANIFOLD


def test_every_figure_names_its_extractor_and_has_its_control(sets):
    train, holdout, fresh = (data.take(np.arange(60)) for data in sets)
    for check in (FeatureDistance(repeats=5), Manifold()):
        found = check.run(brief_encoder(evidence(train, holdout, fresh)), seed=SEED)
        plain = [name for name in found.details if not name.endswith(" (real holdout)")]
        assert {name[name.index("(") :] for name in plain} == {f"({RANDOM})", f"({TRAINED})"}
        assert set(found.details) == {*plain, *(f"{name} (real holdout)" for name in plain)}
        assert not any("FID" in text for text in (found.label, found.answer, *found.details, *found.notes))


def test_sets_are_cut_to_the_size_of_the_smallest(sets):
    train, holdout, fresh = sets
    found = DISTANCE.run(evidence(train, holdout, fresh.take(np.arange(70))), seed=SEED)
    assert found.statistic.n == found.control.n == 70


def test_few_patients_and_tables_are_not_assessable(sets):
    train, holdout, fresh = sets
    with pytest.raises(NotAssessable, match="of 10 patients"):
        DISTANCE.run(evidence(train, holdout, fresh.take(np.arange(12))), seed=SEED)
    with pytest.raises(NotAssessable, match="no images"):
        MANIFOLD.run(dataclasses.replace(evidence(*sets), images=None), seed=SEED)

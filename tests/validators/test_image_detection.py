"""A network that tells synthetic images from the holdout: false alarms, planted faults, copies."""

import pytest
from image_cases import blurred, cohort, evidence, noisy

from synthgen.rng import Seed
from synthgen.validators.image_detection import ImageDetection

SEED = Seed(3)
DETECTION = ImageDetection(steps=25, folds=2)


@pytest.fixture(scope="module")
def sets():
    return cohort(1), cohort(2), cohort(3)


def against(check, sets, synthetic):
    return check.run(evidence(sets[0], sets[1], synthetic), seed=SEED)


def test_a_perfect_generator_is_not_told_and_faults_are(sets):
    fresh = against(DETECTION, sets, sets[2])
    assert fresh.statistic.low < 0.5
    assert fresh.control.low < 0.5 < fresh.control.high
    assert fresh.curves["roc"][-1] == fresh.curves["roc (real holdout)"][-1] == (1.0, 1.0)
    for fault in (blurred, noisy):
        found = against(DETECTION, sets, fault(sets[2]))
        assert found.statistic.low > max(0.6, found.control.high)
        assert found.details["synthetic against train"].low > 0.6
        assert found.control == fresh.control, "the control knows nothing of the synthetic images"


def test_copies_of_train_are_not_told_from_the_holdout(sets):
    found = against(DETECTION, sets, sets[0])
    assert found.statistic.low < 0.5 < found.statistic.high

"""Groups of patients: the one that is done badly is found, those that cannot be judged are counted."""

import dataclasses

import numpy as np
import pytest
from image_cases import cohort, evidence, noisy

from synthgen.errors import NotAssessable
from synthgen.images import ArrayPixels
from synthgen.rng import Seed
from synthgen.validators.image_subgroups import ImageSubgroups

SEED = Seed(3)
SUBGROUPS = ImageSubgroups(extractor="random convolutions", repeats=40)


@pytest.fixture(scope="module")
def sets():
    return cohort(1), cohort(2), cohort(3)


def against(check, sets, synthetic):
    return check.run(evidence(sets[0], sets[1], synthetic), seed=SEED)


def only_in(images, fault, chosen):
    """A fault in some images alone."""
    worse = fault(images)
    arrays = [(worse if hit else images).read(i) for i, hit in enumerate(chosen)]
    return dataclasses.replace(images, pixels=ArrayPixels(arrays), numbers=np.arange(len(arrays)))


def test_the_group_that_is_done_badly_is_found(sets):
    fresh = against(SUBGROUPS, sets, sets[2])
    assert fresh.statistic.low <= fresh.control.high
    women = (sets[2].records.table["sex"] == "F").to_numpy()
    found = against(SUBGROUPS, sets, only_in(sets[2], noisy, women))
    frequent = sets[0].records.table["sex"].mode()[0]
    theirs, others = ("group 1", "group 2") if frequent == "F" else ("group 2", "group 1")
    assert found.details[f"sex, {theirs}"].low > found.details[f"sex, {theirs} (real holdout)"].high
    assert found.details[f"sex, {theirs}"].value > 3 * abs(found.details[f"sex, {others}"].value)
    assert found.statistic.low > found.control.high


def test_groups_that_are_small_or_lost_are_counted(sets):
    men = sets[2].take(np.flatnonzero(sets[2].records.table["sex"] == "M"))
    found = against(SUBGROUPS, sets, men)
    assert found.details["groups that the synthetic images lack"].value >= 1
    assert sum(name.startswith("sex, group") and "real" not in name for name in found.details) == 1
    few = [data.take(np.arange(28)) for data in sets]
    with pytest.raises(NotAssessable, match="no group has 30 images"):
        SUBGROUPS.run(evidence(*few), seed=SEED)

"""Pairs of record and image: half of a patient in each is found by both together, and fresh pairs by nobody."""

import dataclasses

import numpy as np
import pytest

import synthgen as sg
from synthgen.errors import NotAssessable
from synthgen.evidence import gathered_by
from synthgen.phantom import phantom_cohort
from synthgen.privacy.cross_modal import IMAGE, RECORD, CrossModal
from synthgen.rng import Seed

PATIENTS = 150
SCRAMBLED = ("study_date", "temperature_c")


def cohort(seed):
    made = phantom_cohort(PATIENTS, seed=seed, size=32)
    pixels = [made.images.read(i) for i in range(PATIENTS)]
    return dataclasses.replace(made, images=sg.ImageData.of_arrays(pixels, made.images.records.table))


@pytest.fixture(scope="module")
def real():
    return cohort(1), cohort(2)


def leaking(train, *, noise, seed=0):
    """Of each train patient a part of the record is dealt anew, and the image is noisy."""
    rng, table = np.random.default_rng(seed), train.patients.table.copy()
    for name in SCRAMBLED:
        table[name] = table[name].to_numpy()[rng.permutation(PATIENTS)]
    pixels = [train.images.read(i) for i in range(PATIENTS)]
    noisy = [np.clip(p + rng.normal(0, noise * p.max(), p.shape), 0, None) for p in pixels]
    images = sg.ImageData.of_arrays(noisy, train.images.records.table)
    return dataclasses.replace(train, patients=dataclasses.replace(train.patients, table=table), images=images)


def measured(real, synthetic):
    return CrossModal().run(gathered_by(*real, synthetic)["cohort"], seed=Seed(3))


def test_half_of_a_patient_in_each_part_is_found_by_both_together(real):
    found = measured(real, leaking(real[0], noise=0.15))
    alone = [found.details[f"AUC, {name}"] for name in (RECORD, IMAGE)]
    assert found.statistic.value > max(one.value for one in alone) + 0.08
    assert found.statistic.low > 0.6
    assert found.p_value < 1e-4


def test_fresh_pairs_tell_nothing(real):
    found = measured(real, cohort(3))
    assert 0.4 < found.statistic.value < 0.6
    assert found.control.low < 0.5 < found.control.high
    assert "no more" in found.answer


def test_without_cohorts_nothing_can_be_said(real):
    with pytest.raises(NotAssessable):
        CrossModal().run(gathered_by(*real, cohort(3))["image"], seed=Seed(1))

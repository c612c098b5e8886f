"""Images as signals: spectra, pixel values and likeness of pairs against closed forms, and planted faults."""

import numpy as np
import pytest
import torch
from image_cases import blurred, brighter, cohort, collapsed, evidence, noisy, showing, with_table

from synthgen.images import ImageData
from synthgen.rng import Seed
from synthgen.validators.image_appearance import (
    Intensities,
    Spectrum,
    image_histograms,
    radial_power,
    rings,
    wasserstein,
)
from synthgen.validators.image_classes import classes_of
from synthgen.validators.image_diversity import Diversity, pairs_within, similarity

SEED = Seed(3)
CHECKS = Spectrum(repeats=40), Intensities(repeats=40), Diversity(pairs=600, repeats=40)


@pytest.fixture(scope="module")
def sets():
    return cohort(1), cohort(2), cohort(3)


def against(check, sets, synthetic):
    return check.run(evidence(sets[0], sets[1], synthetic), seed=SEED)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_perfect_generator_and_copies_lie_beside_the_control(sets, check):
    for synthetic in (sets[2], sets[0]):
        found = against(check, sets, synthetic)
        assert found.statistic.low <= found.control.high
        assert found.control.low <= found.statistic.high


@pytest.mark.parametrize("shape", [(32, 32), (16, 24), (16, 16, 16), (6, 16, 16)])
def test_the_spectrum_of_white_noise_is_flat(shape):
    noise = torch.randn(400, 1, *shape, generator=torch.Generator().manual_seed(1)) * 0.5
    power = radial_power(noise).mean(axis=0)
    assert len(power) == len(rings(shape)[0])
    assert power[1:] == pytest.approx(0.25, rel=0.1)


def test_a_wave_has_its_power_at_its_frequency():
    x = torch.arange(64) / 64
    wave = torch.cos(2 * np.pi * 16 * x).expand(1, 1, 64, 64)
    frequencies, _ = rings((64, 64))
    assert frequencies[radial_power(wave)[0].argmax()] == 16 / 64


def test_turning_an_image_does_not_change_its_spectrum():
    image = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    assert radial_power(image) == pytest.approx(radial_power(image.transpose(2, 3)))


def test_blur_takes_and_noise_adds_fine_detail(sets):
    fine = "fine detail (upper half of frequencies)"
    for fault, sign in ((blurred, -1), (noisy, 1)):
        found = against(CHECKS[0], sets, fault(sets[2]))
        assert found.statistic.low > found.control.high
        detail = found.details[fine]
        assert sign * detail.low > 0.1
        assert sign * detail.high > 0.1
        assert {"synthetic", "real holdout"} == set(found.curves)


def test_wasserstein_of_a_shift_is_the_shift():
    values = torch.linspace(-0.8, 0.2, 1024).view(1, 1, 32, 32)
    one, other = (image_histograms(images)[0] for images in (values, values + 0.25))
    gaps = wasserstein(one, other)
    assert gaps[0] == pytest.approx(0.125, abs=1e-3)  # .25 of a range of length two
    assert gaps[1] == pytest.approx(0.125, abs=1 / 64), "the brightness of the image"
    assert gaps[2] == pytest.approx(0.0, abs=1 / 64), "its contrast stays"


def test_histograms_count_every_pixel_of_every_channel():
    hist = image_histograms(torch.rand(3, 2, 8, 8) * 2 - 1)
    assert hist.shape == (3, 4, 64)
    assert hist.sum(axis=2) == pytest.approx(1.0)


def test_brightness_shows_in_intensities_by_its_size(sets):
    plain, bright = (against(CHECKS[1], sets, one) for one in (sets[2], brighter(sets[2], 0.1)))
    assert bright.statistic.low > bright.control.high
    shifted = bright.statistic.value - plain.statistic.value
    assert 0.02 < shifted < 0.12
    assert bright.details["brightness of an image"].low > bright.details["brightness of an image (real holdout)"].high


def test_similarity_is_one_for_equal_images_and_falls_with_noise():
    images = torch.rand(6, 1, 32, 32) * 2 - 1
    noise = torch.randn(6, 1, 32, 32)
    same, near, far = (similarity(images, images + s * noise) for s in (0.0, 0.1, 0.5))
    assert same == pytest.approx(1.0, abs=1e-5)
    assert (near > far).all()
    assert near.max() < 1
    assert similarity(torch.zeros(1, 1, 16, 16, 16), torch.zeros(1, 1, 16, 16, 16)) == pytest.approx(1.0, abs=1e-5)


def test_pairs_are_of_different_patients():
    patients = np.repeat(np.arange(5), 4)
    i, j = pairs_within(patients, 200, SEED.numpy())
    assert len(i) == 200
    assert (patients[i] != patients[j]).all()
    assert len(pairs_within(np.zeros(4, dtype=int), 20, SEED.numpy())[0]) == 0


def test_collapse_shows_as_alike_pairs(sets):
    same = "share of pairs nearly the same"
    perfect = against(CHECKS[2], sets, sets[2]).details[same]
    found = against(CHECKS[2], sets, collapsed(sets[2], 8))
    assert found.details[same].low > found.details[f"{same} (real holdout)"].high
    assert found.details[same].value > 0.05 > perfect.value
    assert against(CHECKS[2], sets, collapsed(sets[2], 1)).statistic.low > found.control.high


def test_pairs_stay_within_classes(sets):
    """Where every class has an image of its own, pairs of one class are all the same, and others are not."""

    def one_of_each(images: ImageData) -> ImageData:
        return showing(images, np.unique(images.records.table["finding"], return_inverse=True)[1])

    found = against(CHECKS[2], sets, one_of_each(sets[2]))
    assert found.statistic.value == pytest.approx(1.0, abs=1e-6)
    assert "5 of 5 classes" in found.notes[0]
    tables = [with_table(data, lambda t: t.assign(finding="one")) for data in sets]
    assert "1 of 1 classes" in CHECKS[2].run(evidence(*tables), seed=SEED).notes[0]


def test_classes_too_small_in_a_set_are_left_out(sets):
    train, holdout, _ = (data.records for data in sets)
    found = classes_of("finding", [train, holdout], [train, holdout.take(np.arange(30))], fewest=10)
    assert 1 <= found.count < found.known == 5
    assert set(np.unique(found.codes[0])) == {-1, *range(found.count)}

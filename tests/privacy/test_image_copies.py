"""Copies of images: exact, mirrored, inverted, moved, brightened, noisy, in part; and no alarm without a leak."""

import numpy as np
import pytest
import torch
from leaky_images import HOLDOUT, TRAIN, collection, evidence_of, fields, leaky, pool, shared_encoder, shifted

from synthgen.errors import DataError, NotAssessable
from synthgen.image_features import RANDOM, features, moved
from synthgen.image_views import own_views, thumbnails, together, views
from synthgen.images import ImageData
from synthgen.privacy import image_copies, registration
from synthgen.privacy.image_copies import ImageCopies, ImagePatches, points, symmetries
from synthgen.privacy.labels import label_test
from synthgen.privacy.registration import registered
from synthgen.rng import Seed

COPIED, MADE = 40, 250  # copies among the synthetic images


@pytest.fixture(autouse=True)
def few_planted(monkeypatch):
    monkeypatch.setattr(image_copies, "PLANTED", 20)


@pytest.fixture
def rough(monkeypatch):
    """Images are hardly laid over each other: that takes most of the time, and only moved copies need it."""
    monkeypatch.setattr(registration, "STEPS", 5)


def noisy(images):
    return (images + np.random.default_rng(0).normal(0, 0.02, images.shape)).clip(0, 1)


def glaring(images):
    changed = images.copy()
    changed[:, 5, 7] = 3
    return changed


LEAKS = {
    "exact": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
    "inverted": lambda images: 1 - images,
    "noisy": noisy,
    "gamma": lambda images: images**1.4,
    "darker": lambda images: 0.6 * images,
    "another unit": lambda images: 4095 * images - 1000,
    "glaring pixels": lambda images: glaring(images),
    "moved": shifted,
}


@pytest.mark.parametrize("leak", LEAKS)
def test_copies_are_found_whatever_was_done_to_them(leak):
    copies = LEAKS[leak](pool()[0][:COPIED])
    made = [*copies, *(fields(MADE - COPIED, 3) * np.ptp(copies) + copies.min())]
    synthetic = ImageData.of_arrays(made, {"patient": range(MADE)})
    found = ImageCopies().run(evidence_of(synthetic, encoder=shared_encoder()), seed=Seed(1))
    assert found.p_value < 0.001
    assert found.statistic.low > 0.01
    if leak not in ("noisy", "moved"):
        assert found.statistic.low <= COPIED / MADE <= found.statistic.high


def test_a_part_of_an_image_is_found():
    copied, hosts = pool()[0][:COPIED], fields(COPIED, 5)
    hosts[:, 8:24, 8:24] = copied[:, 8:24, 8:24]
    evidence = evidence_of(leaky(hosts, MADE), encoder=shared_encoder())
    whole, parts = (check.run(evidence, seed=Seed(1)) for check in (ImageCopies(), ImagePatches()))
    assert parts.p_value < 0.001
    assert parts.statistic.value == pytest.approx(COPIED / MADE, abs=0.04)
    assert whole.p_value > 0.001  # which is why there is a check of parts


@pytest.mark.parametrize("check", [ImageCopies(), ImagePatches()], ids=lambda check: check.name)
def test_no_alarm_without_a_leak(check, rough):
    """Fresh draws: at most one of four has p < .05, which chance breaks once in 70 times."""
    values = [
        check.run(evidence_of(fields(150, 100 + i), encoder=shared_encoder()), seed=Seed(i)).p_value for i in range(4)
    ]
    assert sum(p < 0.05 for p in values) <= 1
    assert min(values) > 0.001


def test_copies_of_the_holdout_are_no_leak_and_train_avoided_is_told(rough):
    evidence = evidence_of(leaky(pool()[1][:60], MADE), encoder=shared_encoder())
    found = ImageCopies().run(evidence, seed=Seed(1))
    assert found.p_value > 0.5
    assert found.details["mirror_p"].value < 0.001
    assert any("avoided" in note for note in found.notes)


def test_patients_are_permuted_not_images(rough):
    """Five images of each of 60 patients: copies of one patient's images are one coincidence, not five."""
    owners = [str(i // 5) for i in range(300)]
    images = fields(300, 6)
    train = collection(images, owners)
    one_patient = evidence_of(leaky(images[:5], 200), train=train, encoder=shared_encoder())
    many = evidence_of(leaky(images[::5][:30], 200), train=train, encoder=shared_encoder())
    assert ImageCopies().run(one_patient, seed=Seed(1)).p_value > 0.05
    assert ImageCopies().run(many, seed=Seed(1)).p_value < 0.001


def test_power_says_what_would_have_been_seen(rough):
    evidence = evidence_of(fields(400, 7), encoder=shared_encoder())
    found = ImageCopies().run(evidence, seed=Seed(1))
    share = found.power.value
    fewest = round(share * 400)
    assert np.log(0.001) / np.log(TRAIN / (TRAIN + HOLDOUT)) <= fewest <= 60
    planted = leaky(pool()[0][100 : 100 + fewest + 5])
    again = ImageCopies().run(evidence_of(planted, encoder=shared_encoder()), seed=Seed(1))
    assert again.p_value < 0.001
    assert "smallest share seen, moved" in found.details


def test_with_few_patients_nothing_is_claimed():
    with pytest.raises(NotAssessable, match="holdout"):
        ImageCopies().run(evidence_of(fields(5, 1), encoder=shared_encoder()), seed=Seed(1))


def test_hits_make_more_copies_necessary():
    counts = np.zeros((600, 2))
    test = label_test(counts + 1e-9, np.arange(600) < 400, np.arange(600), seed=Seed(1))
    fewest = [test.smallest_seen(400, hits=np.array([share])) for share in (1.0, 0.8, 0.4)]
    assert fewest == sorted(fewest)
    assert len(set(fewest)) == 3


def test_symmetries_are_those_of_the_square():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    made = {tuple(one.flatten().tolist()) for one in symmetries(image)}
    assert len(made) == 8
    assert tuple(image.flatten().tolist()) in made


def test_moving_by_nothing_changes_nothing():
    images = torch.from_numpy(fields(3, 1))[:, None]
    still = moved(images, torch.zeros(3), torch.zeros(3, 2), torch.ones(3))
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)
    volumes = torch.rand(2, 1, 8, 8, 8, generator=Seed(1).torch())
    torch.testing.assert_close(
        moved(volumes, torch.zeros(2), torch.zeros(2, 3), torch.ones(2)), volumes, atol=1e-5, rtol=0
    )


def test_moved_images_are_laid_over_their_source():
    """Forty moved copies: each finds its source, and fits it much better than anybody else's image."""
    seen = own_views(evidence_of(shifted(pool()[0][:COPIED]), encoder=shared_encoder()))
    embed = shared_encoder().embed
    lay = registered(seen, lambda images: points(embed(images)))
    found = lay(seen.synthetic)
    right = found.nearest == np.arange(COPIED)
    assert right.mean() > 0.9
    assert (found.ratio[right] < 0.6).mean() > 0.9
    strangers = registered(seen, lambda images: points(embed(images)))(
        torch.from_numpy(fields(40, 11))[:, None] * 2 - 1
    )
    assert (strangers.ratio < 0.6).mean() < 0.1


def test_volumes_and_colour_are_compared_too():
    rng = np.random.default_rng(0)
    volumes = [rng.normal(size=(n, 16, 16, 16)).astype("float32") for n in (60, 40, 50)]
    colour = [rng.integers(0, 255, (n, 32, 32, 3)).astype("uint8") for n in (60, 40, 50)]
    for train, holdout, made in (volumes, colour):
        made[:30] = train[:30]
        sets = [ImageData.of_arrays(one, {"patient": [str(i) for i in range(len(one))]}) for one in (train, holdout)]
        last = ImageData.of_arrays(made, {"patient": [str(i) for i in range(len(made))]})
        evidence = evidence_of(last, train=sets[0], holdout=sets[1])
        assert thumbnails(views(evidence).train).shape[1] == 1
        assert features(evidence, RANDOM).train.shape[0] == 60
        assert ImagePatches().run(evidence, seed=Seed(1)).p_value < 0.001


def test_patients_of_two_collections_stay_apart():
    one, other = collection(fields(4, 1), ["a", "a", "b", "c"]), collection(fields(3, 2), ["a", "b", "b"])
    both = together(one, other)
    assert both.patient_count == 5
    assert both.records.patients.tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert np.array_equal(both.read(4), other.read(0))


def broken(images, value):
    images = images.astype("float32").copy()
    images[0, 3, 3] = value
    return ImageData.of_arrays(images, {"patient": [str(i) for i in range(len(images))]})


@pytest.mark.parametrize(
    ("synthetic", "words"),
    [
        (broken(fields(30, 1), np.nan), "no numbers"),
        (ImageData.of_arrays(np.zeros((30, 32, 32, 3), "uint8"), {"patient": range(30)}), "another kind"),
        (ImageData.of_arrays(np.zeros((30, 32, 32, 4), "uint8"), {"patient": range(30)}), "another kind"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(synthetic, words):
    with pytest.raises(DataError, match=words):
        views(evidence_of(synthetic))

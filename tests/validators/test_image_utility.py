"""Networks that read images: they learn, and what they learn from synthetic images holds on real ones."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from image_cases import cohort, evidence, mislabelled, with_table

from synthgen.errors import NotAssessable
from synthgen.images import ImageData
from synthgen.report.content import paired
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.validators.image_networks import SmallNetwork, scores, trained
from synthgen.validators.image_utility import ALONE, MIXED, TUNED, ImageClassifier

SEED = Seed(3)
CLASSIFIER = ImageClassifier(steps=60, repeats=60)


@pytest.fixture(scope="module")
def sets():
    return cohort(1), cohort(2), cohort(3)


def against(check, sets, synthetic):
    return check.run(evidence(sets[0], sets[1], synthetic), seed=SEED)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 20), (1, 16, 16, 16)])
def test_networks_learn_grey_colour_and_volumes(shape):
    """A bright square or cube on one half of the images."""
    images = torch.randn(48, *shape, generator=torch.Generator().manual_seed(1)) * 0.3
    images[::2, :, 4:8, 4:8] += 1
    labels = np.arange(48) % 2
    state = torch.get_rng_state()
    network = trained(images, labels, classes=2, steps=40, seed=SEED)
    assert torch.equal(state, torch.get_rng_state())
    found = scores(network, images)
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert (found.argmax(axis=1) == labels).mean() > 0.9
    again = scores(trained(images, labels, classes=2, steps=40, seed=SEED), images)
    assert np.array_equal(found, again)


def test_going_on_from_a_network_leaves_it_as_it_was():
    images, labels = torch.randn(20, 1, 16, 16), np.arange(20) % 2
    start = trained(images, labels, classes=2, steps=3, seed=SEED)
    before = [tensor.clone() for tensor in start.state_dict().values()]
    other = trained(images, labels, classes=2, steps=3, seed=SEED, start=start)
    assert all(torch.equal(a, b) for a, b in zip(before, start.state_dict().values(), strict=True))
    assert not torch.equal(start.head.weight, other.head.weight)
    assert isinstance(other, SmallNetwork)


def plain(seed):
    """Two classes that a few steps tell apart: a bright patch on the left or on the right, in noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(100, 25, size=(160, 16, 16))
    labels = rng.integers(2, size=160)
    for image, label in zip(images, labels, strict=True):
        image[6:10, 2 + 8 * label : 6 + 8 * label] += 30
    schema = TableSchema(
        (Column("patient", "identifier", roles=("patient",)), Column("y", "categorical", roles=("target",)))
    )
    records = pd.DataFrame({"patient": [f"{i}" for i in range(160)], "y": np.where(labels, "right", "left")})
    return ImageData.of_arrays(images.clip(0, 255).astype(np.uint8), records, schema=schema)


@pytest.fixture(scope="module")
def patches():
    return plain(1), plain(2), plain(3)


def test_a_perfect_generator_trains_as_well_and_one_of_wrong_labels_does_not(patches):
    good = against(CLASSIFIER, patches, patches[2])
    assert good.details[f"auc_real.{ALONE}"].low > 0.8
    assert good.statistic.low <= max(0.0, good.control.high)
    assert good.statistic.value > -0.1
    order = np.random.default_rng(1).permutation(160)
    dealt = with_table(patches[2], lambda t: t.assign(y=t["y"].to_numpy()[order]))
    bad = against(CLASSIFIER, patches, dealt)
    assert bad.statistic.high < -0.1
    assert bad.details[f"auc_synthetic.{TUNED}"].value > bad.details[f"auc_synthetic.{ALONE}"].value + 0.1


def test_the_report_pairs_each_training_with_that_on_real_images(patches):
    found = against(dataclasses.replace(CLASSIFIER, steps=5), patches, patches[2])
    rows = [row.name for row in paired(found.details) if row.name.startswith("auc, ") and row.control]
    assert rows == [f"auc, {name}" for name in (ALONE, MIXED, TUNED)]
    assert found.label.split(" ")[0] == "AUC"


def test_several_classes_are_averaged(sets):
    found = against(ImageClassifier(steps=15, repeats=20), sets, mislabelled(sets[2]))
    assert "5 classes" in found.notes[0]
    assert found.statistic.n == len(sets[1])


def only(images, name):
    return images.take(np.flatnonzero(images.records.table["y"] == name))


def test_a_synthetic_set_that_lost_a_class_is_measured_not_excused(patches):
    found = against(ImageClassifier(steps=15, repeats=20), patches, only(patches[2], "left"))
    assert any("1 of 2 classes have fewer than 10 synthetic images" in note for note in found.notes)
    assert found.details[f"auc_real.{ALONE}"].value - found.details[f"auc_synthetic.{ALONE}"].value > 0.1


def test_targets_that_cannot_be_read_are_not_assessable(patches):
    train, holdout, fresh = patches
    with pytest.raises(NotAssessable, match="has 1 class"):
        CLASSIFIER.run(evidence(train, only(holdout, "left"), fresh), seed=SEED)
    numbered = [with_table(data, lambda t: t.assign(y=np.arange(len(t), dtype=float))) for data in patches]
    number = TableSchema((train.records.schema["patient"], Column("y", "real", roles=("target",))))
    numbered = [
        dataclasses.replace(data, records=dataclasses.replace(data.records, schema=number)) for data in numbered
    ]
    with pytest.raises(NotAssessable, match=r"is a number.*kind: categorical"):
        CLASSIFIER.run(evidence(*numbered), seed=SEED)
    bare = dataclasses.replace(evidence(*patches), schema=TableSchema((train.records.schema["patient"],)))
    with pytest.raises(NotAssessable, match=r"roles: \[target\]"):
        CLASSIFIER.run(bare, seed=SEED)

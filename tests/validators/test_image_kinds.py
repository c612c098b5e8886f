"""Colour, volumes and images that are not square go through every check."""

import math

import numpy as np
import pandas as pd
import pytest
from image_cases import evidence

from synthgen.images import ImageData
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.validators.image_appearance import Intensities, Spectrum
from synthgen.validators.image_detection import ImageDetection
from synthgen.validators.image_diversity import Diversity
from synthgen.validators.image_fidelity import FeatureDistance, Manifold
from synthgen.validators.image_subgroups import ImageSubgroups
from synthgen.validators.image_utility import ImageClassifier

SCHEMA = TableSchema(
    (Column("patient", "identifier", roles=("patient",)), Column("y", "categorical", roles=("target",)))
)
CHECKS = [
    FeatureDistance(extractors=("random convolutions",), repeats=5),
    Manifold(extractors=("random convolutions",)),
    Diversity(pairs=60, repeats=5),
    Spectrum(repeats=5),
    Intensities(repeats=5),
    ImageDetection(steps=3, folds=2),
    ImageClassifier(steps=3, repeats=5),
    ImageSubgroups(extractor="random convolutions", repeats=5),
]
SHAPES = {"colour": (20, 16, 3), "volume": (12, 16, 14), "wide": (16, 48)}


def smooth(shape, seed, noise):
    """90 images: a bright ball somewhere, and noise."""
    rng = np.random.default_rng(seed)
    places = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    images = []
    for _ in range(90):
        centre = rng.uniform(-0.4, 0.4, len(shape))
        ball = np.exp(-4 * sum((place - at) ** 2 for place, at in zip(places, centre, strict=True)))
        images.append((100 + 120 * ball + rng.normal(0, noise, shape)).clip(0, 255).astype(np.uint8))
    records = pd.DataFrame({"patient": [f"{i}" for i in range(90)], "y": np.arange(90) % 2}).astype({"y": str})
    return ImageData.of_arrays(images, records, schema=SCHEMA)


@pytest.fixture(scope="module", params=SHAPES)
def sets(request):
    return [smooth(SHAPES[request.param], seed, noise) for seed, noise in ((1, 5), (2, 5), (3, 40))]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_kind_of_image_is_measured_and_noise_is_seen(sets, check):
    found = check.run(evidence(*sets), seed=Seed(3))
    named = [found.statistic, found.control, *found.details.values()]
    assert all(math.isfinite(x) for one in named for x in (one.value, one.low, one.high))
    if check.name in ("fidelity.features", "fidelity.spectrum", "fidelity.intensities", "subgroups.images"):
        assert found.statistic.low > found.control.high
    elif check.name == "fidelity.manifold":
        assert found.statistic.high < found.control.low
    elif check.name == "fidelity.diversity":
        assert found.statistic.high < found.control.low, "noise makes images differ"

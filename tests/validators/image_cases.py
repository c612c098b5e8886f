"""Images for the tests of validators: phantom cohorts, and planted faults."""

import dataclasses

import numpy as np
from scipy.ndimage import gaussian_filter

from synthgen.data import TableData
from synthgen.image_features import trained_encoder
from synthgen.image_views import views
from synthgen.images import ArrayPixels, ImageData
from synthgen.phantom import phantom
from synthgen.protocols import Evidence, Images
from synthgen.rng import Seed


def cohort(seed, patients=200):
    """A phantom cohort whose images lie in memory."""
    images = phantom(patients, seed=seed, size=32)
    return ImageData(images.records, ArrayPixels([images.read(i) for i in range(len(images))]), np.arange(len(images)))


def evidence(train, holdout, synthetic):
    return Evidence(
        train.records,
        holdout.records,
        synthetic.records,
        train.records.schema,
        images=Images(train, holdout, synthetic),
    )


def brief_encoder(found):
    """Evidence whose encoder was trained for a moment only."""
    found.shared["image encoder"] = trained_encoder(views(found), seed=Seed(0), steps=12)
    return found


def changed(images, change):
    """Images on a scale from 0 to 1 changed one by one."""
    arrays = []
    for i in range(len(images)):
        most = 2 ** images.records.table["bits"][i] - 1
        arrays.append((np.clip(change(images.read(i) / most), 0, 1) * most).astype(np.float32))
    return ImageData(images.records, ArrayPixels(arrays), np.arange(len(arrays)))


def blurred(images):
    return changed(images, lambda image: gaussian_filter(image, 1.0))


def noisy(images, sigma=0.1):
    rng = np.random.default_rng(3)
    return changed(images, lambda image: image + rng.normal(0, sigma, image.shape))


def brighter(images, by=0.1):
    return changed(images, lambda image: image * (1 - by) + by)


def showing(images, rows):
    """Other images of the same collection, with the depth of theirs; whose they are and what is found stays."""
    shown = dataclasses.replace(images, numbers=images.numbers[rows])
    return with_table(shown, lambda table: table.assign(bits=table["bits"].to_numpy()[rows]))


def collapsed(images, to=8):
    """All images are one of a few."""
    return showing(images, np.arange(len(images)) % to)


def with_table(images, change):
    """The same images with a changed copy of their records."""
    records = images.records
    return dataclasses.replace(images, records=TableData(change(records.table.copy()), records.schema))


def mislabelled(images, seed=0):
    """Findings dealt anew."""
    order = np.random.default_rng(seed).permutation(len(images))
    return with_table(images, lambda table: table.assign(finding=table["finding"].to_numpy()[order]))

"""At which size and range are the images of an audit compared? At those of the pooled real images, or each at its own.

Fidelity is about values, so `views` has all images in the range of the pooled real ones. Copies must be found whatever
was done to the values, so in `own_views` each image spans its own range, without its outermost pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgen.data import TableData
from synthgen.errors import DataError, NotAssessable
from synthgen.image_codec import ImageCodec, resized_to
from synthgen.images import DESCRIPTION, ImageData
from synthgen.protocols import Evidence, Run
from synthgen.schema import TableSchema

SIDE = 64  # pixels of the longer side, at most
SLICE_SIDE = 32  # of volumes
THUMBNAIL = 32  # pixels of a thumbnail's sides
_VOLUME_THUMBNAIL = 16
_OUTSIDE = 0.5  # percent of an image's pixels at each end that do not count
_FEW_BITS = 12  # of the fraction of a view: equal images stay equal, and rounding decides nothing


@dataclass(frozen=True, eq=False)
class Views:
    """The three sets as tensors from -1 to 1, with patients numbered across train and holdout.

    Shape: images (images, channels, ...), patients (images,) int64.
    """

    train: Tensor
    holdout: Tensor
    synthetic: Tensor
    train_patients: np.ndarray
    holdout_patients: np.ndarray

    @property
    def sets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Train, holdout and synthetic."""
        return self.train, self.holdout, self.synthetic

    @property
    def pool(self) -> Tensor:
        """Train, then holdout."""
        return torch.cat([self.train, self.holdout])

    @property
    def patients(self) -> np.ndarray:
        """Of the pool. Shape: -> (images,)."""
        return np.concatenate([self.train_patients, self.holdout_patients])


@dataclass(frozen=True, eq=False)
class _Together:
    """Pixels of several collections, one after the other."""

    sets: Sequence[ImageData]
    places: np.ndarray  # (images, 2): which set, which of its images

    def read(self, number: int) -> np.ndarray:
        which, image = self.places[number]
        return self.sets[which].read(int(image))

    def digest(self, number: int) -> bytes:
        which, image = self.places[number]
        return self.sets[which].pixels.digest(int(self.sets[which].numbers[image]))


def views(evidence: Evidence) -> Views:
    """The images of this audit, read once.

    Raises:
        NotAssessable: the audit is about a table.
        DataError: images of several kinds, blank ones only, or pixels that are no numbers.
    """
    return evidence.once("image views", lambda: _views(evidence))


def own_views(evidence: Evidence) -> Views:
    """Thumbnails of this audit, grey and each in its own range, made once.

    A copy in other units, of another depth, or with a few glaring pixels looks like its source.

    Raises:
        NotAssessable: the audit is about a table.
        DataError: pixels that are no numbers.
    """
    return evidence.once("own views", lambda: _own_views(evidence))


def together(first: ImageData, second: ImageData) -> ImageData:
    """Two collections as one, with the columns that both have; patients of the two are different ones.

    >>> from synthgen.phantom import phantom
    >>> together(phantom(3, seed=1), phantom(4, seed=2)).patient_count
    7
    """
    patients = np.concatenate([first.records.patients, second.records.patients + first.patient_count])
    shared = [name for name in first.records.schema.names if name in second.records.schema and name != "patient"]
    tables = [one.records.table[shared] for one in (first, second)]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "patient", [str(number) for number in patients])
    sizes = (len(first), len(second))
    places = np.stack([np.repeat([0, 1], sizes), np.concatenate([*map(np.arange, sizes)])], axis=1)
    schema = TableSchema((DESCRIPTION[0], *(first.records.schema[name] for name in shared)))
    records = TableData(table, schema, first.records.backend)
    return ImageData(records, _Together((first, second), places), np.arange(len(table)))


def thumbnails(images: Tensor) -> Tensor:
    """Small and grey: what is compared pixel by pixel.

    Shape: (images, channels, ...) -> (images, 1, 32, 32); volumes -> (images, 1, 16, 16, 16).
    """
    flat = images.dim() == 4
    side = THUMBNAIL if flat else _VOLUME_THUMBNAIL
    return resized_to(images.mean(1, keepdim=True), (side,) * (images.dim() - 2))


def _views(evidence: Evidence) -> Views:
    if evidence.images is None:
        raise NotAssessable("there are no images")
    train, holdout, synthetic = evidence.images.train, evidence.images.holdout, evidence.images.synthetic
    pool = together(train, holdout)
    codec = ImageCodec.fit(pool, size=None, largest=SIDE if pool.read(0).ndim == 2 or _colour(pool) else SLICE_SIDE)
    real = _rounded(codec.tensor(pool, Run()))
    try:
        made = _rounded(codec.tensor(synthetic, Run()))
    except DataError as error:
        raise DataError(f"the synthetic images cannot be compared with the real ones: {error}") from error
    known = train.records.patients
    return Views(real[: len(train)], real[len(train) :], made, known, holdout.records.patients + train.patient_count)


def _own_views(evidence: Evidence) -> Views:
    seen = views(evidence)  # which refuses what cannot be compared
    assert evidence.images is not None, "it has views"
    sets = (evidence.images.train, evidence.images.holdout, evidence.images.synthetic)
    train, holdout, made = (_rounded(torch.cat([_own(one.read(i)) for i in range(len(one))])) for one in sets)
    return Views(train, holdout, made, seen.train_patients, seen.holdout_patients)


def _own(image: np.ndarray) -> Tensor:
    """One thumbnail, from -1 to 1. Shape: as `ImageData.read` gives it -> (1, 1, ...)."""
    grey = image.astype(np.float32)
    grey = grey.mean(axis=-1) if image.ndim == 3 and image.shape[-1] == 3 and image.dtype == np.uint8 else grey
    low, high = np.percentile(grey, [_OUTSIDE, 100 - _OUTSIDE])
    if not low < high:  # hardly anything in it
        low, high = float(grey.min()), max(float(grey.max()), float(grey.min()) + 1e-6)
    scaled = (np.clip(grey, low, high) - low) / (high - low) * 2 - 1
    return thumbnails(torch.from_numpy(scaled.astype(np.float32))[None, None])


def _colour(images: ImageData) -> bool:
    first = images.read(0)
    return first.ndim == 3 and first.shape[-1] == 3 and first.dtype == np.uint8


def _rounded(images: Tensor) -> Tensor:
    return (images * 2**_FEW_BITS).round() / 2**_FEW_BITS

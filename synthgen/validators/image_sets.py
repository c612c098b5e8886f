"""Which images are compared? Equally many of each set: what depends on their number is then fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.protocols import Evidence, Images
from synthgen.rng import Seed

IMAGES = frozenset({"train", "holdout", "synthetic", "images"})  # what checks of images need
FEWEST = 20  # patients of a set, below which its images say nothing


@dataclass(frozen=True, eq=False)
class ImageSides:
    """Rows of the three sets, as many of each, and their records."""

    rows: tuple[np.ndarray, np.ndarray, np.ndarray]  # of train, holdout and synthetic; (count,) int each
    records: tuple[TableData, TableData, TableData]

    @property
    def count(self) -> int:
        """Images of each set."""
        return len(self.rows[0])

    @property
    def patients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The patient of each image, numbered within its set. Shape: (count,) int each."""
        train, holdout, synthetic = (data.patients for data in self.records)
        return train, holdout, synthetic


def images_of(evidence: Evidence) -> Images:
    """The images of an audit.

    Raises:
        NotAssessable: the audit is about a table, or a set has fewer than 20 patients.
    """
    if evidence.images is None:
        raise NotAssessable("there are no images")
    found = evidence.images
    for side, data in (("train", found.train), ("holdout", found.holdout), ("synthetic", found.synthetic)):
        if data.patient_count < FEWEST:
            raise NotAssessable(f"the {side} images are of {data.patient_count} patients; this check needs {FEWEST}")
    return found


def equal_sides(evidence: Evidence, most: int, seed: Seed) -> ImageSides:
    """As many images of each set as the smallest has, `most` at most, whole patients in random order.

    Raises:
        NotAssessable: as `images_of`.

    >>> from synthgen.phantom import phantom
    >>> sets = Images(phantom(30, seed=1), phantom(20, seed=2), phantom(40, seed=3))
    >>> records = (sets.train.records, sets.holdout.records, sets.synthetic.records)
    >>> equal_sides(Evidence(*records, records[0].schema, images=sets), 100, Seed(1)).count
    24
    """
    found = images_of(evidence)
    records = [data.records for data in (found.train, found.holdout, found.synthetic)]
    count = min(most, *map(len, records))
    return sides_of(records, [np.arange(len(data)) for data in records], count, seed)


def sides_of(records: Sequence[TableData], rows: Sequence[np.ndarray], count: int, seed: Seed) -> ImageSides:
    """So many of given rows of each set; a patient's rows stay together."""
    names = ("train", "holdout", "synthetic")
    chosen = [
        own[some_rows(data.patients[own], count, seed.child("rows", name))]
        for data, own, name in zip(records, rows, names, strict=True)
    ]
    train, holdout, synthetic = (data.take(own) for data, own in zip(records, chosen, strict=True))
    return ImageSides((chosen[0], chosen[1], chosen[2]), (train, holdout, synthetic))


def some_rows(patients: np.ndarray, count: int, seed: Seed) -> np.ndarray:
    """So many rows, patient by patient in random order. Shape: (rows,) int -> (count,) int, sorted.

    >>> some_rows(np.array([0, 0, 1, 1]), 2, Seed(1)).tolist() in ([0, 1], [2, 3])
    True
    """
    if len(patients) <= count:
        return np.arange(len(patients))
    order = seed.numpy().permutation(int(patients.max()) + 1)
    return np.sort(np.argsort(order[patients], kind="stable")[:count])

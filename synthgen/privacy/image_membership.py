"""Can an attacker who holds a patient's image tell from the synthetic ones whether that patient was trained on?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from synthgen.findings import Measurement
from synthgen.image_features import encoder
from synthgen.image_views import Views, own_views
from synthgen.privacy.image_copies import points, standardised
from synthgen.privacy.membership import measured
from synthgen.privacy.neighbors import Sets
from synthgen.protocols import Evidence
from synthgen.rng import Seed


@dataclass(frozen=True)
class ImageMembership:
    """The attacks of `membership`, by distance and by density, in two spaces of images.

    Threat: the attacker holds images of some patients, and the synthetic images, and wants to know who was in the
    training data. The spaces are those of `images.copies`: pixels by normalised correlation, and the trained encoder.
    The density attack compares the distance to the synthetic images with that to images of other patients whom nobody
    trained on, so that common images are not mistaken for trained-on ones.

    >>> ImageMembership().name
    'images.membership'
    """

    name: ClassVar[str] = "images.membership"
    question: ClassVar[str] = "Can an attacker tell whose images were in the training data?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images"})

    max_patients: int = 10_000  # attacked on each side; of more a random sample stands in
    neighbours: int = 5  # k of the density attack

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Attack train and holdout patients alike and compare the scores.

        Raises:
            NotAssessable: fewer than 100 patients on a side, or fewer synthetic images than neighbours.
        """
        seen = own_views(evidence)
        spaces = {" in pixels": _sets(seen, standardised), " in the encoder": _sets(seen, encoder(evidence).embed)}
        return measured(self.name, spaces, evidence, seed=seed, most=self.max_patients, k=self.neighbours)


def _sets(seen: Views, space: Callable[[Tensor], np.ndarray]) -> Sets:
    train, holdout, synthetic = (points(space(images)) for images in seen.sets)
    return Sets(train, holdout, synthetic, seen.train_patients, seen.holdout_patients)

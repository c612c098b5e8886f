"""Do record and image together give away who was trained on, where neither does alone?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Measurement
from synthgen.image_views import own_views
from synthgen.privacy.image_copies import points, standardised
from synthgen.privacy.membership import measured
from synthgen.privacy.neighbors import Sets, placed
from synthgen.privacy.space import Points, squared_distances
from synthgen.protocols import Evidence
from synthgen.rng import Seed

RECORD, IMAGE, TOGETHER = "record alone", "image alone", "record and image"
_PAIRS = 500  # of the pool, from whom the scale of distances is taken


@dataclass(frozen=True)
class CrossModal:
    """The attacks of `membership` on synthetic pairs of record and image, beside the same on either alone.

    Threat: the attacker holds records and images of some patients, and the released cohort, and looks for the pair
    that is nearest to a patient in both. A generator that hides half of a patient in the record and half in the image
    could pass the checks of tables and those of images. Both parts count alike: image distances are scaled so that two
    random patients are as far apart in their images as in their records. Patients without images are not attacked.

    >>> CrossModal().name
    'disclosure.cross_modal'
    """

    name: ClassVar[str] = "disclosure.cross_modal"
    question: ClassVar[str] = "Do record and image together single out train patients better than either alone?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images", "cohort"})

    max_patients: int = 5_000  # attacked on each side
    neighbours: int = 5

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Attack by records, by images, and by both.

        Raises:
            NotAssessable: the audit is not of a cohort, or fewer than 100 imaged patients on a side.
        """
        records, images = _sets(evidence)
        spaces = {RECORD: records, IMAGE: images, TOGETHER: _together(records, images, seed)}
        found = {
            name: measured(
                self.name, {"": space}, evidence, seed=seed.child(name), most=self.max_patients, k=self.neighbours
            )
            for name, space in spaces.items()
        }
        both, alone = found[TOGETHER], {name: found[name].statistic for name in (RECORD, IMAGE)}
        best = max(alone, key=lambda name: alone[name].value)
        words = "more" if both.statistic.low > alone[best].high else "no more, as far as the intervals tell,"
        return replace(
            both,
            label="AUC of the best membership attack on record and image together (0.5 is guessing)",
            answer=f"Who holds a patient's record and image tells who was trained on in {both.statistic.value:.1%} of "
            f"cases, by the {best} in {alone[best].value:.1%}; guessing gives 50 %. Together they tell {words} than "
            "alone.",
            details={**both.details, **{f"AUC, {name}": estimate for name, estimate in alone.items()}},
            notes=(*both.notes, "attacked: patients who have images; each image counts beside its record"),
        )


def _sets(evidence: Evidence) -> tuple[Sets, Sets]:
    """Records and images in their spaces, one row for each image."""
    if evidence.cohorts is None:
        raise NotAssessable("this audit is not of a cohort")
    cohorts = (evidence.cohorts.train, evidence.cohorts.holdout, evidence.cohorts.synthetic)
    train, holdout, synthetic = (cohort.patients for cohort in cohorts)
    known = placed(Evidence(train, holdout, synthetic, train.schema))
    rows = [cohort.rows for cohort in cohorts]
    sides = [part.take(own) for part, own in zip((known.train, known.holdout, known.synthetic), rows, strict=True)]
    seen = own_views(evidence)
    pictures = [points(standardised(images)) for images in seen.sets]
    patients = (rows[0], rows[1] + len(train))
    return Sets(sides[0], sides[1], sides[2], *patients), Sets(pictures[0], pictures[1], pictures[2], *patients)


def _together(records: Sets, images: Sets, seed: Seed) -> Sets:
    """Both side by side, on one scale."""
    scale = (_spread(records, seed) / max(_spread(images, seed), 1e-9)) ** 0.5
    parts = [
        Points(np.hstack([r.numbers, points(i.numbers * scale).numbers]), r.codes, r.extra)
        for r, i in zip(
            (records.train, records.holdout, records.synthetic),
            (images.train, images.holdout, images.synthetic),
            strict=True,
        )
    ]
    return Sets(parts[0], parts[1], parts[2], records.train_patients, records.holdout_patients)


def _spread(sets: Sets, seed: Seed) -> float:
    """The mean squared distance of two rows of train."""
    rng = seed.child("spread").numpy()
    first, second = (rng.integers(len(sets.train), size=min(_PAIRS, len(sets.train))) for _ in range(2))
    return float(squared_distances(sets.train.take(first), sets.train.take(second)).mean())

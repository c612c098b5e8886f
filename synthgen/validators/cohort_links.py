"""Do synthetic records and images belong together? Each image has its record, and its header says the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from synthgen.cohort import CONTRADICTING, OF_NOBODY, Cohort, keys_of
from synthgen.dicom.pixels import DicomPixels
from synthgen.errors import NotAssessable
from synthgen.findings import SMALLEST_CELL, Measurement, exactly
from synthgen.images import identifier_text
from synthgen.protocols import Evidence
from synthgen.rng import Seed


@dataclass(frozen=True)
class CohortLinks:
    """Counts synthetic images without a record, and those whose label or DICOM header says something else.

    It also tells how records and images of the real cohort fit together: what was left out, and what lacks.
    """

    name: ClassVar[str] = "cohort.links"
    question: ClassVar[str] = "Does every synthetic image say what its record says?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images", "cohort"})

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:  # noqa: ARG002 - nothing is drawn
        """Read every header of the synthetic objects.

        Raises:
            NotAssessable: the audit is not of a cohort.
        """
        if evidence.cohorts is None:
            raise NotAssessable("this audit is not of a cohort")
        found = evidence.cohorts
        made = found.synthetic
        differing = {image for image, _ in header_differences(made)}
        wrong = len(differing) + sum(made.left_out.get(why, 0) for why in (OF_NOBODY, CONTRADICTING))
        total = len(made.images) + sum(made.left_out.values())
        details, notes = {f"synthetic: {why}": exactly(n, n=len(made)) for why, n in made.counts.items()}, []
        for side, cohort in (("train", found.train), ("holdout", found.holdout)):
            for why, n in cohort.counts.items():
                if 0 < n < SMALLEST_CELL:
                    notes.append(f"{side}: fewer than {SMALLEST_CELL} {why}")
                elif n:
                    details[f"{side}: {why}"] = exactly(n, n=len(cohort))
        return Measurement(
            check=self.name,
            label="synthetic images that lack their record or contradict it",
            statistic=exactly(wrong, n=max(1, total)),
            better="lower",
            answer=f"Of {total:,} synthetic images {wrong:,} lack their record or say something else.",
            details=details,
            notes=(
                "compared: identifier, sex, age, study date and finding of each header with the record",
                "images of train that have no record in the table, or contradict it, were left out before training",
                *notes,
            ),
        )


def header_differences(cohort: Cohort) -> Iterator[tuple[int, str]]:
    """Images of a synthetic cohort and the attributes of their DICOM headers that say what the record does not.

    Nothing comes where the images lie in no DICOM objects.
    """
    if not isinstance(cohort.images.pixels, DicomPixels):
        return
    keys, link, joined = keys_of(cohort.patients), cohort.link, cohort.joined().records.table
    dates = cohort.patients.table[link.headers["study_date"]] if "study_date" in link.headers else None
    findings = cohort.patients.table[link.finding] if link.finding else None
    files = cohort.images.pixels
    for image, row in enumerate(cohort.rows.tolist()):
        said = {"PatientID": keys[row]}
        if "sex" in joined:
            said["PatientSex"] = joined["sex"][image] or ""
        if "age_years" in joined and not np.isnan(joined["age_years"][image]):
            said["PatientAge"] = f"{int(joined['age_years'][image]):03d}Y"
        if dates is not None and dates[row] == dates[row]:
            said["StudyDate"] = f"{dates[row]:%Y%m%d}"
        if findings is not None:
            said["AdmittingDiagnosesDescription"] = identifier_text(findings[row])
        for file in sorted({file for file, _ in files.slices[int(cohort.images.numbers[image])]}):
            with files.entries[file].open() as stream:
                header = dcmread(stream, stop_before_pixels=True, specific_tags=[*said])
            yield from ((image, keyword) for keyword in _differing(header, said))


def _differing(header: Dataset, said: dict[str, str]) -> Iterator[str]:
    return (keyword for keyword, value in said.items() if str(header.get(keyword) or "") != value)

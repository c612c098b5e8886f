"""Do the images keep the rules without which no other check means anything? Patients, real images and names apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.dicom.header import ACCEPTABLE, Refused, read_header
from synthgen.dicom.names import Names, read_names
from synthgen.dicom.overlay import suspects_text
from synthgen.dicom.pixels import DicomPixels
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.image_views import own_views
from synthgen.images import ImageData
from synthgen.privacy.contract import level_values, row_numbers
from synthgen.protocols import Evidence, Images
from synthgen.rng import Seed
from synthgen.stats import clopper_pearson

_REPEATED = 0.05  # share of the holdout that is in train, above which it is no chance repetition of an exposure
_LOOKED_AT = 500  # images searched for text


@dataclass(frozen=True)
class ImageIdentifiers:
    """Counts what must not happen at all.

    - patients of train who are in the holdout: by the patient numbers of one reading, by the digests of DICOM patient
      IDs, or by the patients that a table of labels names;
    - images of the holdout that are in train, pixel by pixel, where they are more than one in twenty: archives hold a
      few exposures twice;
    - synthetic images that are a real image, pixel by pixel: as stored, or as the audit sees them, so that neither
      another depth nor another unit or file format hides them;
    - in DICOM: synthetic objects that do not say so, hold private elements, or hold a name, a date of birth, a number
      or a UID of a real object in any attribute.

    What looks like text in pixels is counted beside real images; the detector mistakes some edges for letters.

    >>> ImageIdentifiers().question
    'Are patients, real images and what names them kept out of the synthetic images?'
    """

    name: ClassVar[str] = "images.identifiers"
    question: ClassVar[str] = "Are patients, real images and what names them kept out of the synthetic images?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images"})

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:  # noqa: ARG002 - the protocol of checks
        """Compare pixels and headers; nothing here is random and no value of theirs is shown."""
        images = evidence.images
        assert images is not None, "the audit gives images to checks that need them"
        train, holdout, made = ([*_digests(data)] for data in (images.train, images.holdout, images.synthetic))
        known = {*train}
        n, repeated = len(images.synthetic), sum(one in known for one in holdout)
        counts = {
            "patients in train and holdout": (_shared_patients(images), images.holdout.patient_count),
            "holdout images that are in train": (
                repeated if repeated > _REPEATED * len(images.holdout) else 0,
                len(images.holdout),
            ),
            "synthetic images that are real images": (_real(evidence, known | {*holdout}, made), n),
            **{kind: (count, n) for kind, count in _headers(images).items()},
        }
        broken = {kind: count for kind, (count, _) in counts.items() if count}
        answer = "; ".join(f"{count:,} {kind}" for kind, count in broken.items())
        details = {kind: exactly(count, n=max(1, of)) for kind, (count, of) in counts.items()}
        return Measurement(
            check=self.name,
            label="violations of the audit's contract",
            statistic=exactly(sum(broken.values()), n=n),
            better="lower",
            answer=f"Found: {answer}." if broken else "No patient, real image or identifier is among them.",
            details=details | _text(images),
            notes=_notes(images, repeated),
            source="definition",
        )


def _shared_patients(images: Images) -> int:
    """Patients in both; where nothing names them in a way that both sets share, none is counted."""
    train, holdout = images.train, images.holdout
    if train.pixels is holdout.pixels:  # one reading: its numbers mean the same in both
        if "patient" not in train.records.schema:
            return len(np.intersect1d(train.numbers, holdout.numbers))
        return len(level_values(train.records, "patient") & level_values(holdout.records, "patient"))
    if isinstance(train.pixels, DicomPixels) and isinstance(holdout.pixels, DicomPixels):
        return len(_patient_ids(train.pixels) & _patient_ids(holdout.pixels))
    one, other = (level_values(data.records, "patient") for data in (train, holdout))
    return 0 if row_numbers(one) and row_numbers(other) else len(one & other)


def _patient_ids(pixels: DicomPixels) -> set[str]:
    found = set()
    for number in _files(pixels):
        entry = pixels.entries[number]
        try:
            with entry.open() as file:
                size = file.seek(0, 2)
                file.seek(0)
                found.add(read_header(file, size, accept=ACCEPTABLE).patient)
        except Refused:
            continue
    return found


def _files(pixels: DicomPixels) -> list[int]:
    """Numbers of the files that its images lie in."""
    return sorted({file for slices in pixels.slices for file, _ in slices})


def _digests(images: ImageData) -> Iterator[bytes]:
    """Of each image that is not of one value, whatever type its pixels have. Blank images are anybody's."""
    for image in range(len(images)):
        pixels = images.read(image).astype(np.float32)
        if pixels.min() < pixels.max():
            yield hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels + 0.0).tobytes()).digest()


def _real(evidence: Evidence, stored: set[bytes], made: list[bytes]) -> int:
    """Synthetic images equal to a train or holdout image as stored, or else as the audit sees them."""
    as_stored = sum(one in stored for one in made)
    seen = own_views(evidence)
    known = {_bytes(one) for one in seen.pool.numpy()}
    as_seen = sum(one.min() < one.max() and _bytes(one) in known for one in seen.synthetic.numpy())
    return max(as_stored, as_seen)


def _bytes(view: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(view + 0.0).tobytes()).digest()


def _headers(images: Images) -> dict[str, int]:
    """Counts over the synthetic set's objects, where it is of DICOM."""
    pixels = images.synthetic.pixels
    if not isinstance(pixels, DicomPixels):
        return {}
    made = [_names(pixels, number) for number in _files(pixels)]
    real = {name for data in (images.train, images.holdout) for name in _naming(data)}
    return {
        "synthetic objects not marked as such": sum(not names.marked for names in made),
        "synthetic objects with private elements": sum(names.private > 0 for names in made),
        "synthetic objects with an identifier of a real one": sum(bool(names.texts & real) for names in made),
    }


def _naming(data: ImageData) -> Iterator[str]:
    """What names the objects of a real set; those that say that they are synthetic, such as phantoms, name nobody."""
    if isinstance(data.pixels, DicomPixels):
        for number in _files(data.pixels):
            names = _names(data.pixels, number)
            yield from () if names.marked else names.naming


def _names(pixels: DicomPixels, number: int) -> Names:
    with pixels.entries[number].open() as file:
        return read_names(file)


def _text(images: Images) -> dict[str, Estimate]:
    """Images with what looks like text, as a share of those looked at."""
    found = {}
    sets = (("images with what looks like text", images.synthetic),)
    for name, data in (*sets, ("images with what looks like text (real)", images.holdout)):
        rows = np.linspace(0, len(data) - 1, min(len(data), _LOOKED_AT)).astype(int)
        flat = [image for image in map(data.read, rows.tolist()) if image.ndim == 2]
        if flat:
            found[name] = clopper_pearson(sum(map(suspects_text, flat)), len(flat))
    return found


def _notes(images: Images, repeated: int) -> tuple[str, ...]:
    notes = [f"{repeated:,} holdout images are also in train: archives hold some exposures twice"] if repeated else []
    if not isinstance(images.synthetic.pixels, DicomPixels):
        notes.append("the synthetic images are no DICOM objects, so there was no header to search")
    return tuple(notes)

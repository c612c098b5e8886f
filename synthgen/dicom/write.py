"""How do synthetic images become DICOM objects? From their records alone: no attribute of an input is copied."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from synthgen import __version__
from synthgen.dicom.directory import directory_entry, write_directory
from synthgen.dicom.header import quiet
from synthgen.dicom.objects import object_of
from synthgen.dicom.records import about_object, is_volume, records_of, uid
from synthgen.errors import DataError, UsageError
from synthgen.folders import appearing
from synthgen.images import ImageData
from synthgen.rng import Seed

Compression = Literal["none", "rle", "jpeg-ls", "jpeg-2000"]
MANIFEST = "manifest.json"
_WORDS = re.compile(r"[^\\\x00-\x1f\x7f]{1,64}")  # as VR LO
_SMALLEST_JPEG_2000 = 32  # pixels on a side
_SYNTAXES = {
    "rle": (RLELossless, "pylibjpeg"),
    "jpeg-ls": (JPEGLSLossless, "pyjpegls"),
    "jpeg-2000": (JPEG2000Lossless, "pylibjpeg"),
}


@dataclass(frozen=True)
class Beside:
    """What the synthetic records beside images say of each image, for its header."""

    patient_ids: Sequence[str]
    findings: Sequence[str]  # empty where there is none


@dataclass(frozen=True)
class Written:
    """What was written."""

    folder: Path
    patients: int
    studies: int
    series: int
    objects: int
    clipped_pixels: int  # whose values the bits of their object cannot hold
    text_suspected: int  # objects that may hold text, which are not stated to be free of it


def write_dicom(
    images: ImageData,
    folder: str | Path,
    *,
    seed: int | Seed,
    generator: str,
    modality: str | None = None,
    compression: Compression = "none",
    beside: Beside | None = None,
    force: bool = False,
) -> Written:
    """Write synthetic images as conformant DICOM objects with a DICOMDIR and a manifest; all or nothing.

    Columns of the records that are read, where they are there: those of `synthgen.images.DESCRIPTION`, and
    `study_date`; without one a date between 2000 and 2019 is drawn. Age and birth date agree at every study. Grey
    values are stored as they are, rounded: as Hounsfield units for CT, else in as many bits as the column `bits` says.

    Args:
        images: two-dimensional images, or volumes that become series of slices.
        folder: must not exist, unless `force` is set and it was written by this function.
        seed: of all UIDs, identifiers and dates; equal seeds give equal bytes.
        generator: what made the images; it is named in every object.
        modality: of all images: CT, MR, CR, DX, MG, US, or OT for Secondary Capture; None: as the record says, else OT.
        compression: of the pixels, without loss; RLE for ultrasound in colour, and in place of JPEG 2000 for images of
            less than 32 pixels.
        beside: identifiers and findings of synthetic records beside the images; a finding becomes the
            AdmittingDiagnosesDescription. None: identifiers are minted.
        force: replace a folder that this function wrote.

    Raises:
        UsageError: the folder exists, an unknown modality, or a modality that cannot hold such images.
        DataError: a record lacks what its modality needs, or contradicts itself.
        EnvironmentProblem: a full disk or an unwritable folder; nothing is left behind.

    >>> import tempfile
    >>> from synthgen.phantom import phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_dicom(phantom(5, seed=1), f"{folder}/cohort", seed=2, generator="phantom")
    >>> written.patients, written.objects
    (5, 6)
    """
    folder = Path(folder)
    if not len(images):
        raise UsageError("there is no image to write")
    if not _WORDS.fullmatch(generator):
        raise UsageError("the name of a generator has 1 to 64 characters, no backslash and no line break")
    if os.path.lexists(folder) and not _replaceable(folder, force=force):
        hint = "no DICOM folder of synthgen, so it is not replaced" if force else "name another folder, or use force"
        raise UsageError(f"the folder {folder.name!r} exists; {hint}")
    seed = Seed.of(seed).child("dicom", generator, images.fingerprint())  # no two cohorts share a UID
    records = records_of(images, modality, seed)
    if beside and (wrong := sum(not _WORDS.fullmatch(text or "-") for text in (*beside.findings, *beside.patient_ids))):
        raise DataError(f"{wrong:,} findings or identifiers are no text of 1 to 64 characters without a backslash")
    files: list[dict[str, Any]] = []
    heads: list[Dataset] = []
    written = collections.Counter[int]()  # objects of each series
    clipped = suspected = 0
    with appearing(folder, "the DICOM folder") as staging, quiet():
        for number, record in enumerate(records):
            image = images.read(number)
            volume = is_volume(image, record.kind)
            for place, pixels in enumerate(image if volume else image[None]):
                at = written[record.series]
                about = about_object(
                    record, pixels, seed, generator, at=at, place=place if volume else at, volume=volume
                )
                if beside:
                    person, finding = beside.patient_ids[number], beside.findings[number]
                    about = replace(about, patient_id=person, patient_name=f"Synthetic^{person}", diagnosis=finding)
                data, outside = object_of(pixels, about)
                clipped, suspected = clipped + outside, suspected + about.text_suspected
                _compress(data, compression)
                files.append(_saved(data, staging, record.path(at), number))
                heads.append(directory_entry(data, record.path(at)))
                written[record.series] += 1
        write_directory(heads, staging / "DICOMDIR", uid=uid(seed, "directory"))
        (staging / MANIFEST).write_text(_manifest(files, generator), encoding="utf-8", newline="\n")
    return Written(
        folder=folder,
        patients=len({record.patient for record in records}),
        studies=len({(record.patient, record.study) for record in records}),
        series=len(written),
        objects=len(files),
        clipped_pixels=clipped,
        text_suspected=suspected,
    )


def _replaceable(folder: Path, *, force: bool) -> bool:
    """Whether nothing is lost: it is empty, or force is set and this module wrote it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return not any(folder.iterdir()) or (force and (folder / MANIFEST).is_file())


def _compress(data: Dataset, compression: Compression) -> None:
    """Without loss. RLE takes the place of the others for ultrasound in colour (PS3.3 C.8.5.6.1.2), and of JPEG 2000
    for images that are smaller than the six resolutions of the encoder.
    """
    if compression == "none":
        return
    ultrasound = data.SamplesPerPixel == 3 and data.Modality == "US"
    small = compression == "jpeg-2000" and min(data.Rows, data.Columns) < _SMALLEST_JPEG_2000
    syntax, plugin = _SYNTAXES["rle" if ultrasound or small else compression]
    data.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)


def _saved(data: Dataset, folder: Path, name: tuple[str, ...], image: int) -> dict[str, Any]:
    path = folder.joinpath(*name)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    path.write_bytes(content := buffer.getvalue())
    return {
        "file": "/".join(name),
        "sha256": hashlib.sha256(content).hexdigest(),
        "image": image,
        "patient_id": str(data.PatientID),
        "study_instance_uid": str(data.StudyInstanceUID),
        "series_instance_uid": str(data.SeriesInstanceUID),
        "sop_instance_uid": str(data.SOPInstanceUID),
    }


def _manifest(files: list[dict[str, Any]], generator: str) -> str:
    """Which object came from which synthetic image, and what its bytes are."""
    facts = {"synthetic": True, "generator": generator, "synthgen": __version__, "objects": files}
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"

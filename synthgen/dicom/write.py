"""How do synthetic images become DICOM objects? From their records alone: no attribute of an input is copied.

Patient, study and series of a record are names of groups; what is written for them are digests that nobody can undo
without the seed.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from synthgen import __version__
from synthgen.dicom import terms
from synthgen.dicom.directory import directory_entry, write_directory
from synthgen.dicom.header import quiet
from synthgen.dicom.objects import KINDS, VOLUMES, About, Kind, object_of
from synthgen.dicom.overlay import suspects_text
from synthgen.errors import DataError, UsageError, suggest
from synthgen.folders import appearing
from synthgen.images import ImageData
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd

Compression = Literal["none", "rle", "jpeg-ls", "jpeg-2000"]
MANIFEST = "manifest.json"
_SYNTAXES = {
    "rle": (RLELossless, "pylibjpeg"),
    "jpeg-ls": (JPEGLSLossless, "pyjpegls"),
    "jpeg-2000": (JPEG2000Lossless, "pylibjpeg"),
}
_FIRST_DAY, _DAYS = date(2000, 1, 1), 7_305  # study dates that are drawn: twenty years
_NEEDS_SPACING = frozenset({"CT", "MR", "DX", "MG"})
_DEFAULT_BITS = 12


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
        compression: of the pixels, without loss.
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
    folder, seed = Path(folder), Seed.of(seed)
    if not len(images):
        raise UsageError("there is no image to write")
    if os.path.lexists(folder) and not (force and (folder / MANIFEST).is_file()):
        hint = "no DICOM folder of synthgen, so it is not replaced" if force else "name another folder, or use force"
        raise UsageError(f"the folder {folder.name!r} exists; {hint}")
    records = _records(images, modality, seed)
    files: list[dict[str, Any]] = []
    heads: list[Dataset] = []
    written = collections.Counter[int]()  # objects of each series
    clipped = suspected = 0
    with appearing(folder, "the DICOM folder") as staging, quiet():
        for number, record in enumerate(records):
            image = images.read(number)
            volume = _is_volume(image, record.kind)
            for place, pixels in enumerate(image if volume else image[None]):
                at = written[record.series]
                about = _about(record, pixels, seed, generator, at=at, place=place if volume else at, volume=volume)
                data, outside = object_of(pixels, about)
                clipped, suspected = clipped + outside, suspected + about.text_suspected
                _compress(data, compression)
                files.append(_saved(data, staging, record.path(at), number))
                heads.append(directory_entry(data, record.path(at)))
                written[record.series] += 1
        write_directory(heads, staging / "DICOMDIR", uid=_uid(seed, "directory"))
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


@dataclass(frozen=True)
class _Record:
    """One image's record, its groups numbered from 0."""

    kind: Kind
    values: Mapping[str, Any]
    patient: int
    study: int  # of the patient
    series: int  # of the cohort
    series_of_study: int
    study_date: date
    birth_date: date | None

    def get(self, name: str) -> Any:
        """A value, None where it is missing."""
        return _known(self.values.get(name))

    def path(self, at: int) -> tuple[str, ...]:
        """Names that a DICOMDIR may hold."""
        numbers = (self.patient, self.study, self.series_of_study, at)
        return ("DICOM", *(f"{letter}{number + 1:07d}" for letter, number in zip("PSEI", numbers, strict=True)))


def _records(images: ImageData, modality: str | None, seed: Seed) -> list[_Record]:
    """Every image's record; patients, studies and series in order of appearance.

    Raises:
        DataError: records that contradict themselves.
    """
    table = images.records.table
    patients = images.records.patients.tolist()
    studies: dict[tuple[Any, ...], int] = {}
    per_patient, per_study = collections.Counter[int](), collections.Counter[tuple[Any, ...]]()
    series: dict[tuple[Any, ...], tuple[int, int]] = {}
    days: dict[tuple[Any, ...], date] = {}
    births: dict[int, date | None] = {}
    found = []
    values_of: list[Any] = table.to_dict("records")
    rows = zip(values_of, patients, _kinds(table, modality), strict=True)
    for number, (values, patient, kind) in enumerate(rows):
        study = (patient, _known(values.get("study")))
        if study not in studies:
            studies[study] = per_patient[patient]
            per_patient[patient] += 1
        one = (*study, _known(values.get("series")) or number, kind)
        if one not in series:
            series[one] = (len(series), per_study[study])
            per_study[study] += 1
        if study not in days:
            days[study] = _study_date(values, births.get(patient), seed.child("day", str(patient), str(studies[study])))
        if patient not in births:
            births[patient] = _birth_date(values, days[study], seed.child("birth", str(patient)))
        found.append(_Record(kind, values, patient, studies[study], *series[one], days[study], births[patient]))
    sexes = {record.patient: record.get("sex") for record in reversed(found)}
    if wrong := sum(_contradicts(record, sexes[record.patient]) for record in found):
        raise DataError(
            f"{wrong:,} records contradict the sex, age or study date of an earlier record of their patient"
        )
    return found


def _kinds(table: pd.DataFrame, modality: str | None) -> list[Kind]:
    """The kind of object of each image.

    Raises:
        UsageError: a modality that is asked for and cannot be written.
    """
    if modality is not None and modality not in KINDS:
        raise UsageError(f"modality {modality!r} cannot be written: {suggest(modality, KINDS)}")
    if modality is None and "modality" in table:
        return [value if value in KINDS else "OT" for value in table["modality"]]
    return [modality or "OT"] * len(table)  # type: ignore[list-item]


def _is_volume(image: np.ndarray, kind: Kind) -> bool:
    """Slices, rows, columns: not rows, columns, colours.

    Raises:
        UsageError: this kind of object holds no such image.
    """
    volume = image.ndim == 3 and not (image.shape[2] == 3 and image.dtype == np.uint8)
    if volume and kind not in VOLUMES:
        raise UsageError(f"volumes can be written as {' or '.join(sorted(VOLUMES))}, not as {kind}")
    if image.ndim == 3 and not volume and kind not in ("US", "OT"):
        raise UsageError(f"colour images can be written as US or OT, not as {kind}")
    if image.ndim not in (2, 3):
        raise UsageError(f"an image has 2 or 3 dimensions, not {image.ndim}")
    return volume


def _known(value: Any) -> Any:
    """None where a table's value is missing."""
    return None if value is None or value != value else value


def _study_date(values: Mapping[str, Any], born: date | None, seed: Seed) -> date:
    """The record's, or one that is drawn: at the record's age, where the patient's birth date is known already."""
    stated = _known(values.get("study_date"))
    if stated is not None:
        day: date = stated.date()
        return day
    age = _known(values.get("age_years"))
    if born is not None and age is not None:
        return _years_after(born, int(age)) + timedelta(days=seed.integer() % 365)
    return _FIRST_DAY + timedelta(days=seed.integer() % _DAYS)


def _birth_date(values: Mapping[str, Any], study_date: date, seed: Seed) -> date | None:
    """A day on which the patient has the record's age at the study."""
    age = _known(values.get("age_years"))
    if age is None:
        return None
    if not 0 <= age <= 150:
        raise DataError("column 'age_years' holds ages below 0 or above 150")
    return _years_after(study_date, -int(age)) - timedelta(days=seed.integer() % 365)


def _years_after(day: date, years: int) -> date:
    """The same day of another year; the 28th for a 29th of February."""
    return day.replace(year=day.year + years, day=min(day.day, 28) if day.month == 2 else day.day)


def _age(born: date | None, day: date) -> int | None:
    """Whole years."""
    return None if born is None else day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _contradicts(record: _Record, sex: Any) -> bool:
    """Whether sex or date are not the patient's or the study's, or the age differs by more than rounding."""
    age, stated = _age(record.birth_date, record.study_date), record.get("age_years")
    aged = age is not None and (age < 0 or (stated is not None and abs(age - stated) > 1))
    dated = record.get("study_date") is not None and record.get("study_date").date() != record.study_date
    return aged or dated or record.get("sex") != sex


def _about(
    record: _Record, pixels: np.ndarray, seed: Seed, generator: str, *, at: int, place: int, volume: bool
) -> About:
    """What one object says."""
    numbers = (record.patient, record.study, record.series_of_study)
    names = [str(number) for number in numbers]
    person = f"{seed.child('patient', names[0]).integer() % 10**12:012d}"
    bits = record.get("bits")
    spacing = _pair(record, "row_spacing_mm", "column_spacing_mm")
    if spacing is None and record.kind in _NEEDS_SPACING:
        raise DataError(f"{record.kind} objects need the columns 'row_spacing_mm' and 'column_spacing_mm'")
    between = record.get("slice_spacing_mm")
    if volume and between is None:
        raise DataError("volumes need the column 'slice_spacing_mm'")
    default = 8 if pixels.dtype == np.uint8 else _DEFAULT_BITS
    return About(
        kind=record.kind,
        patient_id=f"SYN-{person}",
        patient_name=f"Synthetic^{person}",
        sex=_term(record.get("sex"), terms.SEXES),
        birth_date=record.birth_date,
        age_years=_age(record.birth_date, record.study_date),
        study_uid=_uid(seed, "study", *names[:2]),
        study_date=record.study_date,
        study_id=str(record.study + 1),
        series_uid=_uid(seed, "series", *names),
        series_number=record.series_of_study + 1,
        frame_of_reference_uid=_uid(seed, "frame of reference", *names),
        instance_uid=_uid(seed, "instance", *names, str(at)),
        instance_number=at + 1,
        body_part=_term(record.get("body_part"), terms.body_parts()),
        laterality=_term(record.get("laterality"), terms.LATERALITIES),
        view=_term(record.get("view"), terms.VIEWS),
        spacing_mm=spacing,
        slice_mm=None if between is None else float(between),
        place=place,
        in_volume=volume,
        bits=int(np.clip(default if bits is None else bits, 8, 16)),
        window=_pair(record, "window_center", "window_width"),
        generator=generator,
        text_suspected=suspects_text(pixels),
    )


def _pair(record: _Record, first: str, second: str) -> tuple[float, float] | None:
    values = record.get(first), record.get(second)
    return None if None in values else (float(values[0]), float(values[1]))


def _term(value: Any, known: Container[str]) -> str:
    """A word of the standard, or nothing: any other might be a name."""
    text = str(value or "").upper()
    return text if text in known else ""


def _uid(seed: Seed, *names: str) -> str:
    """A UID that is nobody's: of a digest (PS3.5 B.2), which only the seed leads to."""
    text = "\x1f".join((str(seed.child("uid").integer()), *names))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def _compress(data: Dataset, compression: Compression) -> None:
    """Without loss. Ultrasound in colour may not be JPEG 2000 of this kind (PS3.5 8.2): RLE in its place."""
    if compression == "none":
        return
    colour = data.SamplesPerPixel == 3
    syntax, plugin = _SYNTAXES["rle" if colour and data.Modality == "US" else compression]
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

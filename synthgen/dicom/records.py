"""What does each object of a cohort say? Groups, identifiers, dates and geometry, from the records alone.

Patient, study and series of a record are names of groups; what is written for them are digests that nobody can undo
without the seed.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from synthgen.dicom import terms
from synthgen.dicom.dates import age_at, patient_dates
from synthgen.dicom.objects import KINDS, VOLUMES, About, Kind
from synthgen.dicom.overlay import suspects_text
from synthgen.errors import DataError, UsageError, suggest
from synthgen.images import GEOMETRY, ImageData
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd

_NEEDS_SPACING = frozenset({"CT", "MR", "DX", "MG"})
_DEFAULT_BITS = 12


@dataclass(frozen=True)
class Record:
    """One image's record, its groups numbered from 0, and its dates."""

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
        return self.values.get(name)

    def path(self, at: int) -> tuple[str, ...]:
        """Names that a DICOMDIR may hold."""
        numbers = (self.patient, self.study, self.series_of_study, at)
        return ("DICOM", *(f"{letter}{number + 1:07d}" for letter, number in zip("PSEI", numbers, strict=True)))


def records_of(images: ImageData, modality: str | None, seed: Seed) -> list[Record]:
    """Every image's record; patients, studies and series in order of appearance.

    A series has one body part, side and view; images whose places cannot be told apart are series of their own.

    Raises:
        UsageError: a modality that is asked for and cannot be written.
        DataError: records that lack what their objects need, or contradict themselves.
    """
    table = images.records.table
    patients = images.records.patients.tolist()
    rows: list[dict[str, Any]] = [
        {str(name): _known(value) for name, value in row.items()} for row in table.to_dict("records")
    ]
    kinds = _kinds(table, modality)
    _require(rows, kinds)
    studies: dict[tuple[Any, ...], int] = {}
    series: dict[tuple[Any, ...], tuple[int, int]] = {}
    per_patient, per_study = collections.Counter[int](), collections.Counter[tuple[Any, ...]]()
    stated: dict[int, list[tuple[int | None, date | None]]] = collections.defaultdict(list)
    places = []
    for number, (row, patient, kind) in enumerate(zip(rows, patients, kinds, strict=True)):
        study = (patient, row.get("study"))
        if study not in studies:
            studies[study] = per_patient[patient]
            per_patient[patient] += 1
            stated[patient].append((_whole(row.get("age_years")), _day(row)))
        apart = number if kind in VOLUMES and row.get("slice_spacing_mm") is None else None
        shown = (kind, row.get("body_part"), row.get("laterality"), row.get("view"))
        one = (*study, row["series"] if row.get("series") is not None else number, *shown, apart)
        if one not in series:
            series[one] = (len(series), per_study[study])
            per_study[study] += 1
        places.append((patient, studies[study], *series[one]))
    dates = {patient: patient_dates(of, seed=seed.child("dates", str(patient))) for patient, of in stated.items()}
    found = []
    for row, kind, place in zip(rows, kinds, places, strict=True):
        born, days = dates[place[0]]
        found.append(Record(kind, row, *place, days[place[1]], born))
    sexes = {record.patient: record.get("sex") for record in reversed(found)}
    if wrong := sum(_contradicts(record, sexes[record.patient]) for record in found):
        raise DataError(f"{wrong:,} records contradict sex, age or study date of an earlier record of their patient")
    return found


def _require(rows: list[dict[str, Any]], kinds: list[Kind]) -> None:
    """What objects cannot do without, and nobody may invent."""
    for column in (column.name for column in GEOMETRY):
        if wrong := sum(row.get(column) is not None and not row[column] > 0 for row in rows):
            raise DataError(f"column {column!r} holds {wrong:,} distances that are not above 0")
    spacing = ("row_spacing_mm", "column_spacing_mm")
    for kind in sorted({*kinds}):
        of_kind = [row for row, own in zip(rows, kinds, strict=True) if own == kind]
        needed = spacing if kind in _NEEDS_SPACING else ()
        for column in needed:
            if lacking := sum(row.get(column) is None for row in of_kind):
                raise DataError(f"{kind} objects need the column {column!r}: {lacking:,} records lack it")
        if deep := sum((row.get("bits") or 8) > 8 for row in of_kind if kind == "US"):
            raise DataError(f"US objects hold 8 bits: column 'bits' says more for {deep:,} records")
        if kind == "MG":
            sided = sum(_term(row.get("laterality"), ("L", "R", "B")) == "" for row in of_kind)
            viewed = sum(_term(row.get("view"), terms.MAMMOGRAPHY) == "" for row in of_kind)
            for column, lacking in (("laterality", sided), ("view", viewed)):
                if lacking:
                    raise DataError(f"MG objects need a known {column!r}: {lacking:,} records lack it")


def _day(row: Mapping[str, Any]) -> date | None:
    stated = row.get("study_date")
    return None if stated is None else stated.date()


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _contradicts(record: Record, sex: Any) -> bool:
    """Whether sex or date are not the patient's or the study's, or the age differs by more than rounding."""
    age, stated = age_at(record.birth_date, record.study_date), record.get("age_years")
    aged = age is not None and (age < 0 or (stated is not None and abs(age - stated) > 1))
    dated = _day(record.values) not in (None, record.study_date)
    return aged or dated or record.get("sex") != sex


def _kinds(table: pd.DataFrame, modality: str | None) -> list[Kind]:
    """The kind of object of each image.

    Raises:
        UsageError: a modality that is asked for and cannot be written.
    """
    if modality is not None and modality not in KINDS:
        raise UsageError(f"modality {modality!r} cannot be written: {suggest(modality, KINDS)}")
    if modality is None and "modality" in table:
        return [_term(value, KINDS) or "OT" for value in table["modality"]]  # type: ignore[misc]
    return [modality or "OT"] * len(table)  # type: ignore[list-item]


def is_volume(image: np.ndarray, kind: Kind) -> bool:
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


def about_object(
    record: Record, pixels: np.ndarray, seed: Seed, generator: str, *, at: int, place: int, volume: bool
) -> About:
    """What one object says."""
    numbers = (record.patient, record.study, record.series_of_study)
    names = [str(number) for number in numbers]
    person = f"{seed.child('patients').integer() % 10**8:08d}{record.patient + 1:08d}"
    bits = record.get("bits")
    spacing = _pair(record, "row_spacing_mm", "column_spacing_mm")
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
        age_years=age_at(record.birth_date, record.study_date),
        study_uid=uid(seed, "study", *names[:2]),
        study_date=record.study_date,
        study_id=str(record.study + 1),
        series_uid=uid(seed, "series", *names),
        series_number=record.series_of_study + 1,
        frame_of_reference_uid=uid(seed, "frame of reference", *names),
        instance_uid=uid(seed, "instance", *names, str(at)),
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


def _pair(record: Record, first: str, second: str) -> tuple[float, float] | None:
    values = record.get(first), record.get(second)
    return None if None in values else (float(values[0]), float(values[1]))


def _term(value: Any, known: Container[str]) -> str:
    """A word of the standard, or nothing: any other might be a name."""
    text = str(value or "").upper()
    return text if text in known else ""


def uid(seed: Seed, *names: str) -> str:
    """A UID that is nobody's: of a digest (PS3.5 B.2), which only the seed leads to."""
    text = "\x1f".join((str(seed.child("uid").integer()), *names))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"

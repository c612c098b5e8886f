"""How do cohorts come in and go out? A table beside its images, and files in which records and headers say the same."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydicom import dcmread
from pydicom.dataset import Dataset

from synthgen.cohort import Cohort, Link, at_rows, keys_of
from synthgen.dicom.directory import directory_entry, write_directory
from synthgen.dicom.header import Reason
from synthgen.dicom.pixels import DicomPixels
from synthgen.dicom.write import MANIFEST, Beside, write_dicom
from synthgen.errors import UsageError
from synthgen.folders import appearing
from synthgen.image_io import Unit, read_images
from synthgen.images import identifier_text
from synthgen.io import read, write
from synthgen.marks import MARKS
from synthgen.protocols import Run
from synthgen.schema import Column, TableSchema

if TYPE_CHECKING:
    from synthgen.data import TableData
    from synthgen.images import ImageData
    from synthgen.rng import Seed

TABLE, IMAGES = "patients.parquet", "dicom"  # in a folder of synthetic files


def read_cohort(
    table: Any,
    images: str | Path,
    *,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    patient: str | None = None,
    encoding: str | None = None,
    link: Link | None = None,
    labels: Any = None,
    unit: Unit = "slice",
    accept: Collection[Reason] = (),
    run: Run | None = None,
) -> Cohort:
    """Read a table of patients, one row each, and the images that are theirs.

    DICOM objects find their record by PatientID; pictures by the column `patient` of their table of labels. How records
    and images fit together is counted: see `Cohort.counts`, and `synthgen.cohort.linked` for what is left out.

    Args:
        table: as for `synthgen.read`.
        images: as for `synthgen.read_images`.
        schema: of the table; inferred when absent.
        target: column of the table that a model would predict.
        patient: column of the table that holds the identifiers.
        encoding: of a text file.
        link: what images go by, and what their headers say; None: see `Link.of`.
        labels: of the images.
        unit: of DICOM.
        accept: reasons that put no DICOM object aside.
        run: told of progress.

    Raises:
        DataError: a table without identifiers or with several rows for a patient, or no image that fits.
        SchemaError: a link to columns that the table does not have.
    """
    patients = read(table, schema=schema, target=target, patient=patient, encoding=encoding)
    return of_images(patients, images, link=link, labels=labels, unit=unit, accept=accept, run=run)


def of_images(
    patients: TableData,
    images: str | Path,
    *,
    link: Link | None = None,
    labels: Any = None,
    unit: Unit = "slice",
    accept: Collection[Reason] = (),
    run: Run | None = None,
) -> Cohort:
    """A table that was read already, and its images; see `read_cohort`."""
    link = Link.of(patients.schema) if link is None else link
    keys = keys_of(patients)
    found = read_images(images, labels=labels, unit=unit, accept=accept, patients=keys, run=run)
    rows = found.records.table["patient"].to_numpy().astype(np.int64) - 1
    return at_rows(patients, found, rows, link)


def write_cohort(cohort: Cohort, folder: str | Path, *, seed: int | Seed, generator: str, modality: str | None) -> Path:
    """Write a synthetic cohort: its table, and DICOM objects whose headers say what the records say.

    Args:
        cohort: its identifiers were minted; they become the PatientID.
        folder: must not exist.
        seed: of UIDs and dates that no record states.
        generator: that made the images.
        modality: of the objects; None: as the images say.

    Raises:
        DataError: images that lack what their objects need.
        EnvironmentProblem: a full disk or an unwritable folder; nothing is left behind.
    """
    folder = Path(folder)
    with appearing(folder, "the cohort") as staging:
        write(cohort.patients, staging / TABLE)
        if len(cohort.images):
            beside = _beside(cohort)
            write_dicom(
                _dated(cohort), staging / IMAGES, seed=seed, generator=generator, modality=modality, beside=beside
            )
    return folder


def read_written(folder: Path, schema: TableSchema, link: Link, *, unit: Unit = "slice") -> Cohort:
    """The cohort that `write_cohort` put there, read as anybody would read it, by its schema."""
    from synthgen.dicom.header import ACCEPTABLE

    patients = read(folder / TABLE, schema=schema, partial=True, name="the synthetic patients")
    return of_images(patients, folder / IMAGES, link=link, unit=unit, accept=ACCEPTABLE)


def copy_cohort(cohort: Cohort, folder: Path) -> None:
    """Write a synthetic cohort for strangers: its table, its objects as they are with a DICOMDIR, and a manifest.

    Nothing else of the folder that the objects lie in is copied.

    Raises:
        UsageError: the images lie in no DICOM objects.
    """
    pixels = cohort.images.pixels
    if not isinstance(pixels, DicomPixels):
        raise UsageError("a cohort is released as DICOM: write it with write_cohort, and audit what was written")
    write(cohort.patients, folder / "patients.csv")
    write(cohort.patients, folder / TABLE, metadata=MARKS)
    series: dict[str, dict[str, Any]] = {}
    heads, total, placed = [], hashlib.sha256(), set()
    numbers: dict[tuple[str, ...], int] = {}
    for number, row in zip(cohort.images.numbers.tolist(), cohort.rows.tolist(), strict=True):
        for file in dict.fromkeys(file for file, _ in pixels.slices[number]):
            if file in placed:  # another frame of it
                continue
            placed.add(file)
            with pixels.entries[file].open() as stream:
                content = stream.read()
            head = dcmread(io.BytesIO(content), stop_before_pixels=True)
            place = _name(row, head, numbers)
            path = folder / IMAGES / Path(*place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            total.update(content)
            heads.append(directory_entry(head, place))
            _noted(series, head, row, "/".join((IMAGES, *place)))
    uid = f"2.25.{int.from_bytes(total.digest()[:16], 'big')}"
    write_directory(heads, folder / IMAGES / "DICOMDIR", uid=uid)
    facts = {"synthetic": True, "records": len(cohort.patients), "series": [*series.values()]}
    (folder / MANIFEST).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _name(row: int, head: Dataset, numbers: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """Where an object lies: by its record, study and series, numbered from 1, in names that a DICOMDIR may hold."""
    study, one = str(head.StudyInstanceUID), str(head.SeriesInstanceUID)
    levels = [("S", (str(row), study)), ("E", (str(row), study, one)), ("I", (str(row), study, one, "object"))]
    found = [f"P{row + 1:07d}"]
    for letter, key in levels:
        above = ("of", *key[:-1])
        if letter == "I" or key not in numbers:
            numbers[above] = numbers.get(above, 0) + 1
            numbers[key] = numbers[above]
        found.append(f"{letter}{numbers[key]:07d}")
    return ("DICOM", *found)


def _noted(series: dict[str, dict[str, Any]], head: Dataset, row: int, path: str) -> None:
    entry = series.setdefault(
        str(head.SeriesInstanceUID),
        {
            "record": row + 1,
            "patient_id": str(head.PatientID),
            "study_instance_uid": str(head.StudyInstanceUID),
            "series_instance_uid": str(head.SeriesInstanceUID),
            "files": [],
        },
    )
    entry["files"].append(path)


def _beside(cohort: Cohort) -> Beside:
    patient, finding = cohort.schema.patient, cohort.link.finding
    assert patient is not None, "a cohort has identifiers"
    table = cohort.patients.table.iloc[cohort.rows]
    said = table[finding] if finding else [None] * len(table)
    return Beside([identifier_text(v) for v in table[patient]], [identifier_text(value) for value in said])


def _dated(cohort: Cohort) -> ImageData:
    """The images with what headers say of their records: the date, too."""
    images, source = cohort.joined(), cohort.link.headers.get("study_date")
    if source is None:
        return images
    schema = replace(images.records.schema, columns=(*images.records.schema.columns, Column("study_date", "datetime")))
    dates = cohort.patients.table[source].to_numpy()[cohort.rows]
    table = images.records.table.assign(study_date=pd.Series(dates, dtype="datetime64[ns]"))
    return replace(images, records=replace(images.records, table=table, schema=schema))

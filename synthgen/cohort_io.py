"""How do cohorts come in and go out? A table beside its images, and files in which records and headers say the same."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthgen.cohort import Cohort, Link, at_rows, keys_of
from synthgen.dicom.header import Reason
from synthgen.dicom.write import MANIFEST, Beside, write_dicom
from synthgen.folders import appearing
from synthgen.image_io import Unit, read_images
from synthgen.images import identifier_text
from synthgen.io import read, write
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
    """Write a synthetic cohort: its table, DICOM objects whose headers say what the records say, and a manifest.

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
        (staging / MANIFEST).write_text(manifest_text(cohort, staging / IMAGES, generator), encoding="utf-8")
    return folder


def read_written(folder: Path, schema: TableSchema, link: Link, *, unit: Unit = "slice") -> Cohort:
    """The cohort that `write_cohort` put there, read as anybody would read it, by its schema."""
    from synthgen.dicom.header import ACCEPTABLE

    patients = read(folder / TABLE, schema=schema, partial=True, name="the synthetic patients")
    return of_images(patients, folder / IMAGES, link=link, unit=unit, accept=ACCEPTABLE)


def manifest_text(cohort: Cohort, folder: Path, generator: str) -> str:
    """Which series are of which record: rows count from 1, as they stand in the table."""
    objects = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["objects"] if folder.exists() else []
    series: dict[str, dict[str, Any]] = {}
    for one in objects:
        entry = series.setdefault(
            one["series_instance_uid"],
            {
                "record": int(cohort.rows[one["image"]]) + 1,
                "patient_id": one["patient_id"],
                "study_instance_uid": one["study_instance_uid"],
                "series_instance_uid": one["series_instance_uid"],
                "files": [],
            },
        )
        entry["files"].append(f"{folder.name}/{one['file']}")
    facts = {"synthetic": True, "generator": generator, "records": len(cohort.patients), "series": [*series.values()]}
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


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

"""Small data that may be released: a table with each kind of column, pictures and DICOM objects."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from example_audit import example_audit

import synthgen as sg
from synthgen.auditing import Audit
from synthgen.data import TableData
from synthgen.dicom.header import ACCEPTABLE
from synthgen.dicom.write import write_dicom
from synthgen.evidence import described_columns
from synthgen.image_output import objects_fingerprint, write_labels
from synthgen.phantom import phantom
from synthgen.schema import Column, TableSchema

ROWS = 12
SCHEMA = TableSchema(
    (
        Column("id", "identifier", roles=("patient",), dtype="int64"),
        Column("age", "integer", roles=("quasi_identifier",), unit="years", description="at baseline"),
        Column("cd4", "integer", dtype="float64", unit="cells/mm3"),
        Column("dose (mg)", "real"),
        Column("arm", "categorical", roles=("sensitive",)),
        Column("code", "code", dtype="string[python]"),
        Column("died", "boolean", dtype="int64"),
        Column("smoker", "boolean"),
        Column("pregnant", "boolean", dtype="float64"),
        Column("told", "boolean", dtype="string[python]"),
        Column("born", "datetime"),
        Column("seen", "datetime"),
        Column("_hidden", "real"),
    )
)


def table() -> TableData:
    """Each kind of column, with missing values, levels that readers of CSV take for missing ones, and leading zeros."""
    turn = np.arange(ROWS) % 3
    frame = pd.DataFrame(
        {
            "id": [str(7_000 + i) for i in range(ROWS)],
            "age": np.arange(30.0, 30 + ROWS),
            "cd4": np.where(turn == 0, np.nan, 100.0 + turn),
            "dose (mg)": np.where(turn == 1, np.nan, 1e-7 * (1 + turn)),
            "arm": np.array(["None", 'A, "B"', None], dtype=object)[turn],
            "code": np.array(["007", "1e5", None], dtype=object)[turn],
            "died": (turn == 1).astype(float),
            "smoker": np.where(turn == 2, np.nan, turn),
            "pregnant": np.where(turn == 0, np.nan, turn - 1.0),
            "told": np.array([0.0, 1.0, np.nan])[turn],
            "born": pd.to_datetime(np.where(turn == 0, "NaT", "1960-02-29")),
            "seen": pd.Timestamp("2020-01-02 10:30:00") + pd.to_timedelta(turn, unit="s"),
            "_hidden": np.arange(ROWS) / 7,
        }
    )
    frame = frame.astype({"id": object, "born": "datetime64[ns]", "seen": "datetime64[ns]"})
    return TableData(frame, SCHEMA)


def passed(data: TableData | sg.ImageData) -> Audit:
    """A RELEASE of these very data."""
    images = isinstance(data, sg.ImageData)
    example = example_audit("RELEASE", synthetic=data.fingerprint())
    objects = objects_fingerprint(data) if images else None
    return dataclasses.replace(
        example,
        columns=described_columns(data.records.schema if images else data.schema),
        fingerprints={**example.fingerprints, **({"synthetic objects": objects} if objects else {})},
        counts={**example.counts, "synthetic": {"rows": len(data), "patients": len(data)}},
        modality="image" if images else "table",
    )


def objects(folder):
    """Synthetic DICOM objects with their labels."""
    made = phantom(4, seed=3, size=32)
    write_dicom(made, folder, seed=4, generator="phantom")
    write_labels(made, folder)
    return sg.read_images(folder, accept=ACCEPTABLE)

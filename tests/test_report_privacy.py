"""Does a report hold anything of a patient? A search of all its forms for values planted into train and holdout."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from synthgen import report
from synthgen.auditing import audit
from synthgen.io import read
from synthgen.report.public import public
from synthgen.rng import Seed
from synthgen.schema import TableSchema

EXTREMES = (987654.25, -987654.25)
_SKIPPED = (
    "copies.blocks",
    "fidelity.detection",
    "disclosure.singling_out",
    "membership.vulnerable",
)  # slow, no picture


def patients(count: int, name: str) -> pd.DataFrame:
    """Each has a value that nobody else has; a few have a level or an extreme of their own."""
    rng = Seed(3).child(name).numpy()
    lab = rng.normal(50, 10, size=count).round(6)
    lab[:2] = EXTREMES
    code = np.array(["plenty-of-them", "quite-a-few"], dtype=object)[(rng.random(count) < 0.4).astype(int)]
    code[2:9] = [f"<i>only-{name}-{i}</i>" for i in range(7)]
    time = rng.exponential(400, size=count).round(6)
    return pd.DataFrame(
        {
            "lab": lab,
            "dose": np.where(rng.random(count) < 0.03, np.nan, rng.normal(7, 2, size=count).round(6)),
            "code": code,
            "seen": pd.Timestamp("1999-01-01") + pd.to_timedelta(rng.integers(0, 4000, size=count), unit="D"),
            "time": time,
            "died": (rng.random(count) < 0.5).astype(int),
            "sex": np.where(rng.random(count) < 0.5, "weiblich", "maennlich").astype(object),
        }
    )


def values_of(tables: dict[str, pd.DataFrame]) -> set[str]:
    """What no report may say, as it might be written."""
    planted = {f"{EXTREMES[0]:.6g}", "987,654", "9.88e+05", "9.9e+05"}
    for table in tables.values():
        for name in ("lab", "dose", "time"):
            planted |= {repr(float(value)) for value in table[name].dropna()}
        planted |= set(table["code"]) | set(table["sex"]) | {value[3:-4] for value in table["code"] if "<" in value}
        planted |= set(table["seen"].dt.strftime("%Y-%m-%d")) - {f"{year}-01-01" for year in range(1999, 2011)}
    return planted


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: patients(count, name) for name, count in (("train", 400), ("holdout", 250))}


@pytest.fixture(scope="module")
def found(tables):
    """The worst case: what is called synthetic is train itself, so that its figures are train's."""
    columns = {
        "lab": {"kind": "real"},
        "dose": {"kind": "real"},
        "seen": {"kind": "datetime"},
        "time": {"kind": "real", "roles": ["time"]},
        "died": {"kind": "boolean", "roles": ["event", "target"]},
        "sex": {"kind": "categorical", "roles": ["sensitive"]},
        "code": {"kind": "categorical"},
    }
    train, holdout = (read(frame, schema=TableSchema.from_mapping({"columns": columns})) for frame in tables.values())
    return audit(train=train, holdout=holdout, synthetic=train, seed=1, only=lambda name: name not in _SKIPPED)


def test_no_value_level_or_extreme_of_a_patient_is_in_any_form_of_the_report(tables, found):
    drawn = [finding for finding in found.findings if finding.measurement]
    assert {"fidelity.columns", "fidelity.pairs", "utility.survival", "power", "membership"} <= {f.check for f in drawn}
    assert found["fidelity.columns"].measurement.cells["lab"]
    texts = {
        "audit.json": json.dumps(found.to_json(), ensure_ascii=False),
        "public audit.json": json.dumps(public(found).to_json(), ensure_ascii=False),
        "report.html": report.render_html(found),
        "report.md": report.render_markdown(found).replace("\\", ""),
    }
    planted = values_of(tables)
    assert len(planted) > 1500
    for form, text in texts.items():
        assert [value for value in sorted(planted) if value in text] == [], form


def test_the_search_would_find_a_level_a_value_and_an_extreme(tables, found):
    table, planted = tables["train"], values_of(tables)
    for value in (f"{EXTREMES[0]:,.0f}", repr(float(table["lab"][300])), table["code"][5][3:-4]):
        answer = f"the worst is {value}"
        measured = dataclasses.replace(found.findings[0].measurement, answer=answer)
        told = dataclasses.replace(found, findings=(dataclasses.replace(found.findings[0], measurement=measured),))
        text = report.render_html(told, pictures=False)
        assert [v for v in planted if v in text]


def test_no_cell_of_a_picture_is_of_fewer_than_ten_patients(found):
    measured = found["fidelity.columns"].measurement
    for cells in measured.cells.values():
        for side in ("synthetic", "holdout"):
            counts = [getattr(cell, side).value * getattr(cell, side).n for cell in cells]
            assert all(count < 0.5 or count > 9.5 for count in counts)
    sizes = {"train": 400, "synthetic": 250, "holdout": 250}
    for name, curve in found["utility.survival"].measurement.curves.items():
        falls = -np.diff([height for _, height in curve])
        assert (falls * sizes[name] > 9).all(), (
            "at least ten events lie between two points; with censoring a fall is more"
        )

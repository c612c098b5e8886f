"""What may be shown where no real image may be? A procedural cohort of chest-like radiographs, drawn when read.

Nothing in it is learned from a patient. Finding, sex and age leave marks in the images that a model can learn; shape
and noise differ from patient to patient and from scanner to scanner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthgen.cohort import Cohort, Link, at_rows
from synthgen.data import TableData
from synthgen.errors import UsageError
from synthgen.images import DESCRIPTION, ImageData, array_digest, described
from synthgen.infer import canonical_table
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

if TYPE_CHECKING:
    import pandas as pd

FINDINGS = ("normal", "pneumonia", "effusion", "nodule", "cardiomegaly")
_SHARES = (0.45, 0.2, 0.12, 0.11, 0.12)  # at 60 years; younger patients are more often normal


@dataclass(frozen=True)
class _Scanner:
    name: str
    rows: float  # as a share of the size asked for
    columns: float
    bits: int
    noise: float  # standard deviation, as a share of the range
    gain: float  # how dark soft tissue comes out


_SCANNERS = (
    _Scanner("A", 1.0, 1.0, 12, 0.015, 1.0),
    _Scanner("B", 1.25, 1.0, 10, 0.03, 0.9),
    _Scanner("C", 0.875, 0.875, 14, 0.02, 1.1),
)
_CHEST_MM = 360.0  # that the columns span


def phantom(patients: int = 200, *, seed: int | Seed, size: int = 64) -> ImageData:
    """A cohort of chest-like radiographs (DX) with findings, sexes, ages, three scanners and their sizes.

    One patient in five has a second study. Write it as DICOM objects with `write_dicom`.

    Args:
        patients: how many.
        seed: equal seeds give equal cohorts.
        size: pixels on a side, of scanner A.

    Raises:
        UsageError: no patient, or fewer than 32 pixels.

    >>> images = phantom(50, seed=1)
    >>> images, images.read(0).shape[1], sorted(set(images.records.table["sex"]))
    (ImageData(60 images of 50 patients), 64, ['F', 'M'])
    """
    import pandas as pd

    if patients < 1 or size < 32:
        raise UsageError("the phantom cohort has at least one patient, and images of at least 32 pixels")
    seed = Seed.of(seed).child("phantom")
    rng = seed.child("records").numpy()
    records = [record for patient in range(patients) for record in _studies(patient, size, rng)]
    labels = (Column("finding", "categorical", roles=("target",)), Column("scanner", "categorical"))
    known = [column for column in DESCRIPTION if column.name in records[0]]
    table = described(pd.DataFrame(records), TableSchema((*known, *labels)))
    pixels = PhantomPixels(tuple(records), size, seed)
    return ImageData(table, pixels, np.arange(len(records)))


def phantom_cohort(patients: int = 200, *, seed: int | Seed, size: int = 64) -> Cohort:
    """Patients with records and one radiograph each, which shows what the record says: finding, sex and age.

    Args:
        patients: how many.
        seed: equal seeds give equal cohorts.
        size: pixels on a side, of scanner A.

    Raises:
        UsageError: no patient, or fewer than 32 pixels.

    >>> cohort = phantom_cohort(50, seed=1)
    >>> cohort, cohort.schema.target, cohort.link.condition_on
    (Cohort(50 patients, 50 images of 50 of them), 'died', ('finding', 'sex', 'age_years'))
    """
    import pandas as pd

    images = phantom(patients, seed=seed, size=size)
    first = np.flatnonzero(~images.records.table["patient"].duplicated())
    images = images.take(first)
    table = pd.DataFrame(_clinical(images.records.table, Seed.of(seed).child("phantom", "clinical").numpy()))
    columns = (
        Column("patient_id", "identifier", roles=("patient",)),
        Column("sex", "categorical", roles=("quasi_identifier",)),
        Column("age_years", "integer", roles=("quasi_identifier",), unit="years"),
        Column("study_date", "datetime"),
        Column("finding", "categorical", roles=("sensitive",)),
        Column("smoker", "boolean"),
        Column("temperature_c", "real", unit="Cel", decimals=1),
        Column("crp_mg_l", "real", unit="mg/L", decimals=1),
        Column("spo2_percent", "integer", unit="%"),
        Column("died", "boolean", roles=("target",)),
    )
    schema = TableSchema(columns)
    records = TableData(canonical_table(table, schema, name="the phantom cohort"), schema)
    link = Link.of(schema, finding="finding")
    return at_rows(records, images, np.arange(patients), link)


def _clinical(records: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """What a ward would write down about patients with these findings, sexes and ages."""
    n, finding, age = len(records), records["finding"].to_numpy(), records["age_years"].to_numpy(dtype=float)
    infected, ill = finding == "pneumonia", finding != "normal"
    smoker = rng.random(n) < np.where(finding == "nodule", 0.6, 0.25)
    crp = np.exp(rng.normal(1.2 + 2.6 * infected + 1.1 * (finding == "effusion"), 0.7))
    spo2 = np.clip(
        np.rint(rng.normal(97.5 - 4 * infected - 2.5 * (finding == "effusion") - 1.5 * smoker, 1.6)), 70, 100
    )
    risk = 1 / (1 + np.exp(-(-5.2 + 0.045 * age + 1.1 * ill + 0.5 * smoker)))
    days = rng.integers(0, 5 * 365, n)
    return {
        "patient_id": [f"PH-{number:06d}" for number in rng.permutation(n) + 1],
        "sex": records["sex"].to_numpy(),
        "age_years": age,
        "study_date": np.datetime64("2015-01-01") + days.astype("timedelta64[D]"),
        "finding": finding,
        "smoker": smoker.astype(int),
        "temperature_c": np.round(rng.normal(36.8 + 1.4 * infected, 0.5), 1),
        "crp_mg_l": np.where(rng.random(n) < 0.08, np.nan, np.round(crp, 1)),
        "spo2_percent": np.clip(np.rint(spo2), 70, 100),
        "died": (rng.random(n) < risk).astype(int),
    }


def _studies(patient: int, size: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The records of one patient's images."""
    sex, age = str(rng.choice(["F", "M"])), int(np.clip(rng.normal(58, 17), 18, 95))
    shares = np.array(_SHARES) * np.where(np.arange(len(_SHARES)) == 0, 60 / age, 1)
    found = []
    for study in range(2 if patient % 5 == 4 else 1):
        scanner = _SCANNERS[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
        columns = round(size * scanner.columns)
        found.append(
            {
                "patient": f"{patient + 1}",
                "study": f"{patient + 1}.{study + 1}",
                "series": f"{patient + 1}.{study + 1}.1",
                "modality": "DX",
                "body_part": "CHEST",
                "view": str(rng.choice(["PA", "AP"], p=[0.7, 0.3])),
                "sex": sex,
                "age_years": age,
                "row_spacing_mm": round(_CHEST_MM / columns, 4),
                "column_spacing_mm": round(_CHEST_MM / columns, 4),
                "bits": scanner.bits,
                "finding": str(rng.choice(FINDINGS, p=shares / shares.sum())),
                "scanner": scanner.name,
            }
        )
    return found


@dataclass(frozen=True, eq=False)
class PhantomPixels:
    """Images that are drawn when they are read."""

    records: tuple[Mapping[str, Any], ...]
    size: int
    seed: Seed

    def read(self, number: int) -> np.ndarray:
        """One radiograph on the scale of its bits. Shape: -> (rows, columns) float32."""
        record = self.records[number]
        scanner = next(one for one in _SCANNERS if one.name == record["scanner"])
        body = self.seed.child("patient", record["patient"]).numpy()
        study = self.seed.child("image", record["series"]).numpy()
        shape = (round(self.size * scanner.rows), round(self.size * scanner.columns))
        image = _chest(shape, record, body, study) ** scanner.gain
        image = np.clip(image + study.normal(0, scanner.noise, shape), 0, 1)
        return np.round(image * (2**scanner.bits - 1)).astype(np.float32)

    def digest(self, number: int) -> bytes:
        """Of what `read` gives."""
        return array_digest(self.read(number))


def _chest(
    shape: tuple[int, int], record: Mapping[str, Any], body: np.random.Generator, study: np.random.Generator
) -> np.ndarray:
    """Attenuation from 0 (air) to 1 of a frontal chest, head up, the patient's left on the right.

    Shape: -> shape. `body` draws what a patient keeps from study to study, `study` what changes.
    """
    tall, shift = shape[0] / shape[1], study.normal(0, 0.03, 2)
    y, x = np.meshgrid(np.linspace(-tall, tall, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    x, y = x - shift[0], y - shift[1]
    wide, high, lean = 0.86 + body.normal(0, 0.04), 0.62 + body.normal(0, 0.04), body.normal(0, 0.03)
    older = (record["age_years"] - 18) / 77
    trunk = _ellipse(x, y, 0, 0.3, wide, 1.25, 0.04)
    image = 0.62 * trunk
    image += 0.1 * _ellipse(x, y, 0, -1.1, 0.28, 0.4, 0.05)  # neck
    lungs = _ellipse(x, y, -0.42, -0.1 + lean, 0.3, high, 0.05) + _ellipse(x, y, 0.42, -0.1, 0.28, high, 0.05)
    lungs *= 1 - _ellipse(x, y, -0.42, 0.75 + lean, 0.42, 0.4, 0.04) - _ellipse(x, y, 0.44, 0.8, 0.42, 0.4, 0.04)
    lungs = np.clip(lungs, 0, 1)
    large = 0.1 if record["finding"] == "cardiomegaly" else 0
    heart = _ellipse(x, y, 0.1 + large / 2, 0.28, 0.26 + 0.03 * older + large, 0.24 + large / 2, 0.05)
    middle = np.clip(_ellipse(x, y, 0, 0, 0.13, 1.1, 0.05) + heart, 0, 1)
    image -= 0.46 * lungs * (1 - middle)
    image += 0.12 * middle + (0.2 - 0.08 * older) * _ellipse(x, y, 0, 0.1, 0.07, 1.3, 0.03)  # spine, fainter with age
    image += _ribs(x, y, body) * (0.11 - 0.04 * older) * trunk
    if record["sex"] == "F":
        image += 0.09 * (_ellipse(x, y, -0.45, 0.45, 0.3, 0.28, 0.08) + _ellipse(x, y, 0.45, 0.45, 0.3, 0.28, 0.08))
    image += _finding(x, y, lungs * (1 - middle), record["finding"], study)
    if record["view"] == "AP":
        image = 0.92 * image + 0.04
    return np.clip(image, 0, 1)


def _ribs(x: np.ndarray, y: np.ndarray, body: np.random.Generator) -> np.ndarray:
    """Nine pairs of arcs that fall away from the spine."""
    ribs, offset = np.zeros(x.shape), body.uniform(-0.03, 0.03)
    for i in range(9):
        middle = -0.85 + 0.17 * i + offset + 0.32 * np.abs(x) ** 1.6 - 0.06 * np.abs(x)
        ribs += np.exp(-(((y - middle) / 0.028) ** 2)) * (np.abs(x) < 0.78) * (np.abs(x) > 0.1)
    return ribs


def _finding(x: np.ndarray, y: np.ndarray, lungs: np.ndarray, finding: str, study: np.random.Generator) -> np.ndarray:
    """What a disease adds to the attenuation of the lungs."""
    side = study.choice([-1.0, 1.0])
    if finding == "pneumonia":
        cloud = np.zeros(x.shape)
        for _ in range(6):
            at = side * 0.42 + study.normal(0, 0.09), study.normal(0.1, 0.16)
            cloud += _ellipse(x, y, *at, study.uniform(0.07, 0.14), study.uniform(0.07, 0.14), 0.05)
        return 0.3 * np.clip(cloud, 0, 1) * lungs
    if finding == "effusion":
        level = study.uniform(0.1, 0.35) - 0.25 * np.abs(x - side * 0.42) ** 1.5  # fluid climbs the chest wall
        return 0.38 * _step((y - level) / 0.03) * (np.sign(x) == side) * lungs
    if finding == "nodule":
        at = side * study.uniform(0.3, 0.52), study.uniform(-0.4, 0.2)
        return 0.3 * _ellipse(x, y, *at, r := study.uniform(0.06, 0.1), r, 0.015) * lungs
    return np.zeros(x.shape)


def _ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float, soft: float) -> np.ndarray:
    """1 inside, 0 outside, a border as wide as `soft`."""
    return _step((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * min(rx, ry) / soft)


def _step(distance: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(2 * distance)))

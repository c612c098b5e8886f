"""Fixtures that many tests share: cohorts made from a seed, and real ones where they lie beside the checkout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def own_ledger(tmp_path, monkeypatch):
    """Audits by the command line are counted for one test alone, not in the user's folder."""
    monkeypatch.setenv("SYNTHGEN_LEDGER", str(tmp_path / "ledger" / "ledger.jsonl"))


@pytest.fixture
def patients_csv(tmp_path):
    """A CSV of 200 invented patients; returns its path."""
    path = tmp_path / "patients.csv"
    invented_patients(200).to_csv(path, index=False)
    return path


def invented_patients(n, *, seed=0):
    """Invented patients with an identifier, mixed kinds, informative missing values and an outcome."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    age = rng.integers(20, 90, n)
    glucose = np.round(rng.normal(5 + age / 50, 1.0, n), 1)
    glucose[(sex == "M") & (rng.random(n) < 0.3)] = np.nan
    return pd.DataFrame(
        {
            "patient_id": [f"HX-{number}" for number in rng.choice(10**6, n, replace=False)],
            "age": age,
            "sex": sex,
            "glucose": glucose,
            "smoker": rng.integers(0, 2, n),
            "admitted": pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D"),
            "died": (rng.random(n) < age / 150).astype(int),
        }
    )


def shared_table(name):
    """Path of a real table, or skip where it is absent."""
    path = SHARED / "tables" / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"real data {name!r} are not beside this checkout")
    return path

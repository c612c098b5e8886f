"""Which cohort do the batteries run on? An invented one with what makes patient tables hard."""

from __future__ import annotations

from synthgen.data import TableData, canonical_column
from synthgen.rng import Seed
from synthgen.rules import Range
from synthgen.schema import Column, TableSchema

RARE_LEVEL, EXTREME = "Q78.0", 987.65  # each planted in one patient of the cohort

_SCHEMA = TableSchema(
    (
        Column("patient", "identifier", roles=("patient",), dtype="object"),
        Column("age", "integer", roles=("quasi_identifier",), unit="years", dtype="int64", minimum=18, maximum=95),
        Column("sex", "categorical", roles=("quasi_identifier",), dtype="object"),
        Column("bmi", "real", unit="kg/m2", dtype="float64", decimals=1),
        Column("psa", "real", unit="ug/l", dtype="float64", decimals=2),
        Column("smoker", "boolean", dtype="bool"),
        Column("admitted", "datetime", dtype="datetime64[ns]"),
        Column("diagnosis", "code", roles=("sensitive",), dtype="object", system="icd10"),
        Column("died", "boolean", roles=("target",), dtype="bool"),
        Column("note", "text", dtype="object"),
    ),
    rules=(Range("age", minimum=0, maximum=120),),
)


def invented_cohort(n: int = 500, *, seed: int | Seed = 0) -> TableData:
    """A small invented cohort with what makes patient tables hard; equal seeds give equal cohorts.

    One row per patient. `psa` is missing for every woman and for some men; one patient has a diagnosis that nobody else
    has and one an extreme `psa`; identifiers and notes are unique.

    >>> data = invented_cohort(200, seed=1)
    >>> len(data), data.schema.target, data.table["psa"].isna().mean() > 0.4
    (200, 'died', np.True_)
    """
    import numpy as np
    import pandas as pd

    root = Seed.of(seed)
    rng = root.child("cohort").numpy()
    codes = np.array(["I10", "E11.9", "J44.1", "N40.1", "C61.0"], dtype=object)
    age = np.clip(np.round(rng.normal(60, 15, n)), 18, 95)
    sex = np.where(rng.random(n) < 0.52, "F", "M").astype(object)
    bmi = np.round(27 + 0.04 * (age - 60) + rng.normal(0, 4, n), 1)
    psa = np.round(np.exp(rng.normal(0.5 + 0.02 * (age - 60), 0.8, n)), 2)
    psa[(sex == "F") | (rng.random(n) < 0.05)] = np.nan
    diagnosis = codes[rng.choice(len(codes), n, p=[0.35, 0.3, 0.15, 0.1, 0.1])]
    diagnosis[(sex == "F") & (diagnosis >= "N40")] = "I10"
    diagnosis[0], psa[1], sex[1] = RARE_LEVEL, EXTREME, "M"
    risk = 1 / (1 + np.exp(-(-2 + 0.05 * (age - 60) + 1.2 * (diagnosis == "J44.1"))))
    numbers = 10_000_000 + root.child("identifier").numpy().choice(80_000_000, size=n, replace=False)
    columns = {
        "patient": [f"MRN{number}" for number in numbers],
        "age": age,
        "sex": sex,
        "bmi": bmi,
        "psa": psa,
        "smoker": (rng.random(n) < 0.25).astype(float),
        "admitted": np.datetime64("2021-01-01", "ns") + rng.integers(0, 525_600, n).astype("timedelta64[m]"),
        "diagnosis": diagnosis,
        "died": (rng.random(n) < risk).astype(float),
        "note": [f"Seen by Dr Ovid Example, callback {number * 7}." for number in numbers],
    }
    table = pd.DataFrame({c.name: canonical_column(columns[c.name], c) for c in _SCHEMA.columns})
    return TableData(table, _SCHEMA)

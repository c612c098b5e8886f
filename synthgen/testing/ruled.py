"""Which cohort declares every kind of rule, and breaks some of them as real records do?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from synthgen.data import TableData, canonical_column
from synthgen.rng import Seed
from synthgen.rules import Combination, Formula, Implies, Order, Range, Sum
from synthgen.schema import Column, TableSchema

_SCHEMA = TableSchema(
    (
        Column("sex", "categorical"),
        Column("diagnosis", "code"),
        Column("pregnant", "boolean"),
        Column("menopausal", "categorical"),
        Column("smoker", "boolean"),
        Column("pack_years", "integer"),
        Column("hospital", "categorical"),
        Column("ward", "categorical"),
        Column("bed", "integer"),
        Column("born", "datetime"),
        Column("admitted", "datetime"),
        Column("operated", "datetime"),
        Column("discharged", "datetime"),
        Column("followed_until", "datetime"),
        Column("age", "integer"),
        Column("days", "integer"),
        Column("diastolic", "integer", minimum=20, maximum=200),
        Column("systolic", "integer", minimum=40, maximum=300),
        Column("glucose_min", "real", decimals=1),
        Column("glucose_mean", "integer"),
        Column("glucose_max", "real", decimals=2),
        Column("heart_rate", "integer"),
        Column("saturation", "real", decimals=1, maximum=100),
        Column("weight", "real", decimals=1, minimum=30),
        Column("height", "integer", minimum=120),
        Column("bmi", "real", decimals=1),
        Column("nodes_left", "integer"),
        Column("nodes_right", "integer"),
        Column("nodes", "integer"),
    ),
    rules=(
        Implies({"sex": ("M",)}, {"diagnosis": ("I10", "E11", "J44", "N40", "C61"), "pregnant": ("0", None)}),
        Implies({"sex": ("F",)}, {"diagnosis": ("I10", "E11", "J44", "O80", "C53")}),
        Implies({"diagnosis": ("O80",)}, {"pregnant": ("1",)}),
        Implies({"pregnant": ("1",)}, {"menopausal": ("no",)}),
        Implies({"sex": ("M",)}, {"menopausal": (None,)}),
        Implies({"smoker": ("0",)}, {"pack_years": ("0", None)}),
        Combination(("hospital", "ward")),
        Combination(("ward", "bed")),
        Order(("born", "admitted", "discharged")),
        Order(("admitted", "operated", "discharged", "followed_until")),
        Order(("diastolic", "systolic")),
        Order(("glucose_min", "glucose_mean", "glucose_max")),
        Range("heart_rate", 20, 250),
        Formula("age", "floor((admitted - born) / 365.25)"),
        Formula("days", "floor(discharged) - floor(admitted)"),
        Formula("bmi", "weight / (height / 100) ** 2"),
        Sum("nodes", ("nodes_left", "nodes_right")),
    ),
)


def ruled_cohort(n: int = 1_500, *, seed: int | Seed = 0) -> TableData:
    """An invented cohort with all kinds of rules; some real rows break each kind but `combination`.

    >>> cohort = ruled_cohort(200, seed=1)
    >>> len(cohort), len(cohort.schema.rules)
    (200, 17)
    """
    rng = Seed.of(seed).child("ruled").numpy()
    columns = _levels(rng, n) | _dates(rng, n) | _numbers(rng, n)
    table = {c.name: canonical_column(columns[c.name], c) for c in _SCHEMA.columns if c.name in columns}
    for rule in _SCHEMA.derivations:
        noise = np.where(rng.random(n) < 0.02, 3.0, 0.0)
        table[rule.derives] = canonical_column(rule.derived(table) + noise, _SCHEMA[rule.derives])
    return TableData(pd.DataFrame(table)[list(_SCHEMA.names)], _SCHEMA)


def _levels(rng: np.random.Generator, n: int) -> dict[str, Any]:
    female = rng.random(n) < 0.5
    codes = np.array(["I10", "E11", "J44", "N40", "C61", "O80", "C53"], dtype=object)
    of_men, of_women = codes[rng.choice(5, n)], codes[rng.choice([0, 1, 2, 5, 6], n)]
    mistaken = rng.random(n) < 0.02
    diagnosis = np.where(female ^ mistaken, of_women, of_men)
    birth = diagnosis == "O80"
    pregnant = np.where(birth, 1.0, np.where(female, (rng.random(n) < 0.2) * 1.0, np.nan))
    menopausal = np.full(n, None, dtype=object)
    menopausal[female] = np.where((pregnant == 0) & (rng.random(n) < 0.5), "yes", "no")[female]
    smoker = (rng.random(n) < 0.4) * 1.0
    pack_years = np.where((smoker == 1) | (rng.random(n) < 0.03), rng.integers(1, 40, n), 0.0)
    pack_years[rng.random(n) < 0.1] = np.nan
    hospital = rng.choice(6, n)
    ward = (hospital * 2 + rng.choice(3, n)) % 12
    return {
        "sex": np.where(female, "F", "M").astype(object),
        "diagnosis": diagnosis,
        "pregnant": pregnant,
        "menopausal": menopausal,
        "smoker": smoker,
        "pack_years": pack_years,
        "hospital": np.array([f"hospital {h}" for h in hospital], dtype=object),
        "ward": np.array([f"ward {w}" for w in ward], dtype=object),
        "bed": ward + rng.choice(4, n) * 3,
    }


def _dates(rng: np.random.Generator, n: int) -> dict[str, Any]:
    minute, day = np.timedelta64(1, "m"), np.timedelta64(1, "D")
    admitted = np.datetime64("2000-01-01", "ns") + rng.integers(0, 20 * 365 * 1440, n) * minute
    stay = np.maximum(rng.lognormal(1.2, 0.8, n), 0.05) * np.where(rng.random(n) < 0.02, -1, 1)
    discharged = admitted + (stay * 1440).astype(int) * minute
    born = (admitted - (rng.normal(60, 14, n) * 365.25).astype(int) * day).astype("datetime64[D]")
    operated = admitted + (rng.random(n) * stay * 1440).astype(int) * minute
    followed = (discharged + rng.exponential(400, n).astype(int) * day).astype("datetime64[D]") + 1 * day
    columns = {"born": born, "admitted": admitted, "operated": operated, "discharged": discharged}
    columns = {
        name: stamps.astype("datetime64[ns]") for name, stamps in (columns | {"followed_until": followed}).items()
    }
    for name, share in (("operated", 0.6), ("discharged", 0.05), ("followed_until", 0.3), ("admitted", 0.01)):
        columns[name][rng.random(n) < share] = np.datetime64("NaT")
    columns["born"][rng.random(n) < 0.02] = np.datetime64("NaT")
    return columns


def _numbers(rng: np.random.Generator, n: int) -> dict[str, Any]:
    diastolic = rng.normal(80, 12, n)
    gap = np.abs(rng.normal(40, 20, n)) * np.where(rng.random(n) < 0.03, -1, 1)
    low = rng.lognormal(1.6, 0.3, n)
    mean, high = low * rng.uniform(1.0, 1.3, n), low * rng.uniform(1.2, 2.5, n)
    weight, height = rng.normal(78, 15, n).clip(31), rng.normal(170, 10, n)
    columns = {
        "diastolic": diastolic,
        "systolic": diastolic + gap,
        "glucose_min": low,
        "glucose_mean": mean,
        "glucose_max": high,
        "heart_rate": np.where(rng.random(n) < 0.02, 999, rng.normal(80, 20, n)),
        "saturation": rng.normal(98, 2, n),
        "weight": weight,
        "height": height,
        "nodes_left": rng.poisson(2, n).astype(float),
        "nodes_right": rng.poisson(2, n).astype(float),
    }
    for name in ("systolic", "glucose_min", "glucose_mean", "glucose_max", "weight", "nodes_left"):
        columns[name][rng.random(n) < 0.08] = np.nan
    return columns

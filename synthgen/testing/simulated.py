"""Which patients do planted leaks and clean controls start from? Simulated ones, of one law with all that is hard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from synthgen.data import TableData, canonical_column
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    (
        Column("patient", "identifier", roles=("patient",)),
        Column("age", "integer", roles=("quasi_identifier",), unit="years"),
        Column("sex", "categorical", roles=("quasi_identifier",)),
        Column("bmi", "real", unit="kg/m2", decimals=1),
        Column("weight", "real", unit="kg", decimals=1),
        Column("systolic", "integer", unit="mmHg"),
        Column("creatinine", "real", unit="mg/dl", decimals=2),
        Column("crp", "real", unit="mg/l", decimals=1),
        Column("pain", "integer"),
        Column("ward", "categorical", roles=("quasi_identifier",)),
        Column("stage", "categorical"),
        Column("diagnosis", "code"),
        Column("orphan", "code", roles=("sensitive",)),
        Column("died", "boolean"),
    )
)
RARE_WARD, RARE_SHARE = "W00", 0.02
_ORPHANS, _ORPHAN_SHARE = 20_000, 0.01  # codes of rare diseases, and patients who have one
_COARSE = 4  # values of a number in a table of heavy ties
_LOADINGS = np.array(  # of age, bmi, systolic, creatinine, crp, pain, stage, died on frailty, weight and inflammation
    [
        [0.8, 0, 0],
        [0.1, 0.8, 0],
        [0.5, 0.4, 0],
        [0.6, 0, 0.2],
        [0.1, 0.2, 0.8],
        [0.2, 0, 0.5],
        [0.4, 0, 0.6],
        [0.6, 0, 0.5],
    ]
)


class Sizes(NamedTuple):
    """Rows of the three tables."""

    train: int = 2_000
    holdout: int = 1_000
    synthetic: int = 2_000


@dataclass(frozen=True)
class Tables:
    """What an audit is given."""

    train: TableData
    holdout: TableData
    synthetic: TableData


def simulated(n: int, *, seed: int | Seed) -> TableData:
    """Fresh patients of one law, one row each: 13 columns that are correlated, skewed, tied, coded and missing.

    Numbers are normal (age, bmi, weight, systolic), skewed (creatinine, crp) and mostly one value (pain). 2 % lie on
    one ward (`RARE_WARD`); 1 % have the code of an orphan disease, nearly always another one.

    >>> data = simulated(500, seed=1)
    >>> len(data), len(data.schema.learned), data.table["orphan"].notna().mean() < 0.05
    (500, 13, np.True_)
    """
    root = Seed.of(seed).child("simulated")
    rng = root.numpy()
    factors = rng.normal(size=(n, _LOADINGS.shape[1]))
    z = (factors @ _LOADINGS.T + rng.normal(size=(n, len(_LOADINGS))) * np.sqrt(1 - (_LOADINGS**2).sum(axis=1))).T
    bmi = 27 + 4.5 * z[1]
    sex = rng.random(n) < 0.52
    levels = 1 / np.arange(1, 61)
    ward = np.where(rng.random(n) < RARE_SHARE, 0, 1 + np.minimum(10, rng.poisson(3.0 + (z[0] > 0), n)))
    orphan = np.full(n, None, dtype=object)
    rare = np.flatnonzero(rng.random(n) < _ORPHAN_SHARE)
    orphan[rare] = [f"ORPHA:{number}" for number in rng.integers(0, _ORPHANS, len(rare))]
    columns = {
        "patient": _numbers(n, root.child("identifiers")),
        "age": np.clip(60 + 15 * z[0], 18, 99),
        "sex": np.where(sex, "F", "M").astype(object),
        "bmi": bmi,
        "weight": bmi * (1.75 - 0.13 * sex + rng.normal(0, 0.06, n)) ** 2,
        "systolic": 130 + 18 * z[2],
        "creatinine": np.exp(0.45 * z[3]),
        "crp": np.exp(1.5 + 1.1 * z[4]),
        "pain": np.clip(np.floor(2.5 * z[5]), 0, 10),
        "ward": np.array([f"W{number:02d}" for number in ward], dtype=object),
        "stage": np.array(["I", "II", "III", "IV"], dtype=object)[np.digitize(z[6], [0, 0.8, 1.5])],
        "diagnosis": np.array([f"D{i:02d}" for i in rng.choice(60, n, p=levels / levels.sum())], dtype=object),
        "orphan": orphan,
        "died": (z[7] > 1).astype(float),
    }
    return with_missing(_table(columns), {"crp": 0.1, "systolic": 0.03, "stage": 0.05}, seed=root)


def three(sizes: Sizes, *, seed: Seed) -> Tables:
    """Train, holdout and a fresh draw in the place of the synthetic table, of which nobody is in two."""
    return split(simulated(sum(sizes), seed=seed), sizes)


def split(everyone: TableData, sizes: Sizes) -> Tables:
    """The first rows are train, the next ones holdout, the others synthetic."""
    first, second = sizes.train, sizes.train + sizes.holdout
    rows = np.arange(len(everyone))
    return Tables(*(everyone.take(part) for part in (rows[:first], rows[first:second], rows[second : sum(sizes)])))


def with_missing(data: TableData, shares: dict[str, float], *, seed: Seed) -> TableData:
    """The same with this share of each of these columns missing at random."""
    rng, table = seed.child("missing").numpy(), data.table.copy()
    for name, share in shares.items():
        gone = rng.random(len(table)) < share
        table[name] = table[name].mask(gone, np.nan if name in numbers(data.schema) else None)  # type: ignore[call-overload]
    return TableData(table, data.schema)


def coarse(data: TableData) -> TableData:
    """The same with heavy ties: numbers in four classes, ten codes, no orphan diseases and no weight."""
    gone = ("orphan", "weight", "systolic")
    schema = replace(data.schema, columns=tuple(column for column in data.schema.columns if column.name not in gone))
    table = data.table[list(schema.names)].copy()
    cuts: dict[str, list[float]] = {
        "age": [45, 60, 75],
        "bmi": [22, 27, 32],
        "creatinine": [0.7, 1.0, 1.5],
        "crp": [2, 5, 15],
        "pain": [1, 2, 4],
    }
    for name, edges in cuts.items():
        table[name] = table[name].where(table[name].isna(), np.digitize(table[name].to_numpy(), edges).astype(float))
    table["diagnosis"] = [f"D{int(code[1:]) % 10}" for code in table["diagnosis"]]
    return TableData(table, schema)


def visits(patients: int, *, seed: int | Seed) -> TableData:
    """One to six rows of each of some patients, which differ little from each other.

    >>> data = visits(200, seed=1)
    >>> data.patient_count, len(data) > 400
    (200, True)
    """
    root = Seed.of(seed).child("visits")
    rng, core = root.numpy(), simulated(patients, seed=root)
    table = core.table.loc[np.repeat(np.arange(patients), rng.integers(1, 7, patients))].reset_index(drop=True)
    for name, step in (("bmi", 0.3), ("weight", 1.0), ("systolic", 8.0), ("crp", 1.0)):
        table[name] = canonical_column(np.abs(table[name] + rng.normal(0, step, len(table))), core.schema[name])
    return TableData(table, core.schema)


def sparse(n: int, *, seed: Seed, columns: int = 500) -> TableData:
    """Rows of very many yes-or-no columns of which few are yes, in twenty groups that go together."""
    rng = seed.child("sparse").numpy()
    names = [f"item{i:03d}" for i in range(columns)]
    schema = TableSchema((SCHEMA["patient"], *(Column(name, "boolean") for name in names)))
    prevalence = 0.02 * np.exp(seed.child("prevalence").numpy().normal(0, 0.7, columns))
    groups = np.where(rng.random((n, 20)) < 0.15, 3.0, 0.6)[:, np.arange(columns) % 20]
    table = pd.DataFrame((rng.random((n, columns)) < np.minimum(0.5, prevalence * groups)).astype(float), columns=names)
    table.insert(0, "patient", _numbers(n, seed.child("identifiers")))
    return TableData(table, schema)


def numbers(schema: TableSchema) -> list[str]:
    """Names of the integer and real columns."""
    return [column.name for column in schema.learned if column.kind in ("integer", "real")]


def categories(schema: TableSchema) -> list[str]:
    """Names of the columns with levels."""
    return [column.name for column in schema.learned if column.kind not in ("integer", "real", "datetime")]


def _numbers(n: int, seed: Seed) -> np.ndarray:
    """Identifiers, each once."""
    drawn = seed.numpy().choice(900_000_000, n, replace=False) + 100_000_000
    return np.array([f"P{number}" for number in drawn], dtype=object)


def _table(columns: dict[str, np.ndarray]) -> TableData:
    table = pd.DataFrame({column.name: canonical_column(columns[column.name], column) for column in SCHEMA.columns})
    return TableData(table, SCHEMA)

"""Small invented populations with a known law, and ways in which a generator can leak them."""

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.protocols import Evidence
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    (
        Column("age", "integer"),
        Column("creatinine", "real", decimals=2),
        Column("glucose", "real", decimals=1),
        Column("bmi", "real", decimals=1),
        Column("weight", "real", decimals=1),
        Column("sex", "categorical"),
        Column("ward", "categorical"),
        Column("stage", "categorical"),
        Column("died", "boolean"),
    )
)
NUMBERS = ("age", "creatinine", "glucose", "bmi", "weight")


def population(n, seed):
    """n fresh patients of one law: correlated numbers, one skewed, with missing values, and categories."""
    rng = np.random.default_rng(seed)
    age = np.clip(np.round(rng.normal(60, 15, n)), 18, 99)
    bmi = np.round(rng.normal(27, 4, n), 1)
    glucose = np.round(90 + 0.8 * bmi + rng.normal(0, 15, n), 1)
    glucose[rng.random(n) < 0.1] = np.nan
    columns = {
        "age": age,
        "creatinine": np.round(np.exp(rng.normal(0.01 * (age - 60), 0.4, n)), 2),
        "glucose": glucose,
        "bmi": bmi,
        "weight": np.round(bmi * rng.normal(1.7, 0.1, n) ** 2, 1),
        "sex": rng.choice(["F", "M"], n).astype(object),
        "ward": rng.choice([f"W{i}" for i in range(12)], n).astype(object),
        "stage": np.where(rng.random(n) < 0.05, None, rng.choice(["I", "II", "III", "IV"], n)).astype(object),
        "died": (rng.random(n) < 0.2).astype(float),
    }
    return table(pd.DataFrame(columns))


def table(frame, schema=SCHEMA):
    return TableData(frame.reset_index(drop=True), schema)


def categories(n, seed, columns=8, levels=4):
    """n rows of categories alone: many ties, and rows that occur by chance."""
    rng = np.random.default_rng(seed)
    drawn = {
        f"c{i}": rng.choice(levels, n, p=np.arange(1, levels + 1) / np.arange(1, levels + 1).sum())
        for i in range(columns)
    }
    frame = pd.DataFrame({name: np.array([f"L{v}" for v in values], dtype=object) for name, values in drawn.items()})
    return table(frame, TableSchema(tuple(Column(name, "categorical") for name in frame)))


def evidence(train, holdout, synthetic):
    return Evidence(train, holdout, synthetic, train.schema)


def with_copies(synthetic, copied):
    """The synthetic table with its first rows replaced."""
    return table(pd.concat([copied.table, synthetic.table.iloc[len(copied) :]]), synthetic.schema)


def noisy(data, sd, seed):
    """Every number moved by normal noise of a share of its column's standard deviation."""
    rng, frame = np.random.default_rng(seed), data.table.copy()
    for name in NUMBERS:
        frame[name] = frame[name] + rng.normal(0, sd * frame[name].std(), len(frame))
    return table(frame)


def visits(patients, seed, most=6):
    """Repeated visits: a patient's rows differ little from each other; some patients come often."""
    rng = np.random.default_rng(seed)
    core = population(patients, seed).table
    times = rng.integers(1, most + 1, patients)
    frame = core.loc[np.repeat(np.arange(patients), times)].reset_index(drop=True)
    frame["bmi"] += np.round(rng.normal(0, 0.2, len(frame)), 1)
    frame.insert(0, "patient", np.repeat([f"P{seed}-{i}" for i in range(patients)], times).astype(object))
    schema = TableSchema((Column("patient", "identifier", roles=("patient",)), *SCHEMA.columns))
    return table(frame, schema)

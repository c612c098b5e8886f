"""Tables for the tests of validators: real patients cut in three, tables made by hand, and planted faults."""

import numpy as np
import pandas as pd

from synthgen import datasets
from synthgen.data import TableData
from synthgen.protocols import Evidence
from synthgen.schema import Column, TableSchema


def table(columns, **values):
    """A canonical table from columns (name to kind, or Column) and their values."""
    schema = TableSchema(tuple(c if isinstance(c, Column) else Column(*c) for c in columns))
    return TableData(pd.DataFrame(values, columns=list(schema.names)), schema)


def evidence(train, holdout=None, synthetic=None):
    """The evidence of an audit; what is not given is train itself."""
    return Evidence(
        train=train,
        holdout=train if holdout is None else holdout,
        synthetic=train if synthetic is None else synthetic,
        schema=train.schema,
    )


def real_thirds(seed=1):
    """ACTG175 as train, holdout and a fresh real draw in place of a synthetic table: 713 patients each."""
    rest, fresh = datasets.load("actg175").split_by_patient(holdout=1 / 3, seed=seed)
    train, holdout = rest.split_by_patient(holdout=0.5, seed=seed)
    return evidence(train, holdout, fresh)


def changed(data, change):
    """The same data with a changed copy of its table."""
    altered = change(data.table.copy())
    return TableData(altered, data.schema)


def permuted(data, seed=0):
    """Every column shuffled on its own: columns stay, relations go."""
    rng = np.random.default_rng(seed)
    return changed(data, lambda t: t.apply(lambda column: column.to_numpy()[rng.permutation(len(t))]))


def half_missing(data, name, seed=0):
    """Half of a column made missing."""
    rows = np.random.default_rng(seed).permutation(len(data))[: len(data) // 2]

    def change(frame):
        frame.loc[rows, name] = np.nan
        return frame

    return changed(data, change)


def many_kinds(n=120, seed=0):
    """A table of awkward columns: all missing, constant, dates, 5,000 possible levels, names with markup."""
    rng = np.random.default_rng(seed)
    dates = pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"))
    dates[rng.random(n) < 0.2] = pd.NaT
    score = rng.normal(size=n).round(2)
    columns = [
        ("empty", "real"),
        ("no text", "categorical"),
        ("constant", "integer"),
        ("seen", "datetime"),
        ("icd", "code"),
        ('<b>Größe & "Gewicht" 🩺</b>', "real"),
        ("died", "boolean"),
    ]
    values = [
        np.full(n, np.nan),
        np.full(n, None, dtype=object),
        np.ones(n),
        dates.astype("datetime64[ns]"),
        np.array([f"K{number}" for number in rng.integers(0, 5_000, n)], dtype=object),
        score,
        (score + rng.normal(size=n) > 0).astype(float),
    ]
    made = table(columns, **dict(zip([name for name, _ in columns], values, strict=True)))
    return TableData(made.table, made.schema.assign("target", "died"))


def visits(patients=60, each=4, seed=0):
    """Several rows of each patient, all of one patient alike."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), each)
    level = rng.normal(size=patients)[who]
    schema = TableSchema(
        (
            Column("patient", "identifier", roles=("patient",)),
            Column("lab", "real"),
            Column("bad", "boolean", roles=("target",)),
        )
    )
    frame = pd.DataFrame({"patient": [f"{seed}-{w}" for w in who], "lab": level, "bad": (level > 0).astype(float)})
    return TableData(frame, schema)

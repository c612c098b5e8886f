"""Tables that the network generators are tried on: one of known laws, and odd ones."""

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema


def known_law() -> TableData:
    """2,000 rows: b follows a in 90 %; x is missing exactly in group g = 1; y is three times z."""
    rng = Seed(5).numpy()
    a = rng.random(2_000) < 0.5
    b = np.where(rng.random(2_000) < 0.9, a, ~a)
    g = rng.random(2_000) < 0.3
    z = rng.normal(50, 10, 2_000).round(1)
    table = pd.DataFrame(
        {
            "a": a.astype(float),
            "b": np.where(b, "yes", "no").astype(object),
            "g": g.astype(float),
            "x": np.where(g, np.nan, rng.integers(0, 30, 2_000)),
            "z": z,
            "y": (3 * z).round(1),
        }
    )
    kinds = ("boolean", "categorical", "boolean", "integer", "real", "real")
    columns = (Column(n, k, decimals=1 if k == "real" else None) for n, k in zip(table, kinds, strict=True))
    return TableData(table, TableSchema(tuple(columns)))


def odd(columns: dict[str, tuple[str, list]]) -> TableData:
    described = tuple(Column(name, kind) for name, (kind, _) in columns.items())
    types = {"datetime": "datetime64[ns]", "categorical": object}
    values = {name: pd.Series(cells, dtype=types.get(kind, float)) for name, (kind, cells) in columns.items()}
    return TableData(pd.DataFrame(values), TableSchema(described))


ODD = {
    "level": odd({"c": ("categorical", ["a", "b"] * 40)}),
    "number": odd({"x": ("real", np.linspace(0, 1, 80).tolist())}),
    "empty": odd({"x": ("real", [2.0] * 80), "m": ("categorical", [None] * 80), "n": ("real", [np.nan] * 80)}),
    "date": odd({"d": ("datetime", list(pd.date_range("2020-01-01", periods=80))), "b": ("boolean", [0.0, 1.0] * 40)}),
    "wide": odd({f"c{i}": ("categorical", ["a", "b", None, "a"] * 20) for i in range(200)}),
    "all-rare": odd({"c": ("categorical", [f"level {i}" for i in range(80)]), "b": ("boolean", [0.0, 1.0] * 40)}),
}

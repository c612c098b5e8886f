"""When are two values of a column equal? At the precision of its schema."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthgen.schema import Column


def at_precision(values: pd.Series, column: Column) -> pd.Series:
    """Values so that equal ones are equal whatever their storage type: rounded, reals at single precision at most.

    >>> at_precision(pd.Series([0.1234, 0.12, -0.0]), Column("dose", "real", decimals=2)).nunique()
    2
    """
    if column.kind == "real":
        rounded = values.astype(float) if column.decimals is None else values.astype(float).round(column.decimals)
        return rounded.astype(np.float32) + np.float32(0)  # + 0: zero and negative zero are one value
    return values.astype(float).round() + 0.0 if column.kind == "integer" else values

"""Which class is an image of? The target's levels that enough images have, as numbers: their names stay in the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.protocols import Evidence
from synthgen.schema import NUMERIC
from synthgen.validators.encoding import frequent_levels, level_codes, ordered

FEWEST = 10  # images of a class in a set


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each image of several sets."""

    column: str
    codes: tuple[np.ndarray, ...]  # for each set (images,) int, most frequent first; -1: left out
    count: int  # classes with enough images
    known: int  # classes of train


def target_of(evidence: Evidence) -> str:
    """The declared target, which has classes.

    Raises:
        NotAssessable: there is none, it is a number or a date, or a set has no such column.
    """
    name = evidence.schema.target
    if name is None:
        raise NotAssessable("no column has the role target: declare one with `roles: [target]` in the schema")
    column, tables = evidence.schema[name], (evidence.train, evidence.holdout, evidence.synthetic)
    lacking = sum(name not in data.table for data in tables)
    if lacking:
        raise NotAssessable(f"{lacking} of the three sets have no column {name!r}")
    two = column.kind == "boolean" or evidence.train.table[name].nunique() <= 2
    if ordered(column) and not (two and column.kind in (*NUMERIC, "boolean")):
        raise NotAssessable(
            f"the target {name!r} is a number, and this check needs classes: declare it with `kind: categorical`, "
            "or choose another column with `target: COLUMN`"
        )
    return name


def classes_of(name: str, tables: Sequence[TableData], counted: Sequence[TableData], *, fewest: int) -> Classes:
    """Number the classes of a column by their frequency in the first table.

    Args:
        name: of the column.
        tables: whose images get a number.
        counted: in each of these a class needs enough images, or it is left out.
        fewest: what is enough.

    >>> import pandas as pd
    >>> from synthgen.schema import Column, TableSchema
    >>> data = TableData(pd.DataFrame({"y": ["b", "a", "a", "c"]}), TableSchema((Column("y", "categorical"),)))
    >>> found = classes_of("y", [data], [data.take(np.array([0, 1, 2]))], fewest=1)
    >>> found.codes[0].tolist(), found.count, found.known
    ([1, 0, 0, -1], 2, 3)
    """
    levels = frequent_levels(tables[0].table[name])
    counts = [np.bincount(level_codes(d.table[name], levels), minlength=len(levels) + 2)[:-2] for d in counted]
    kept = np.min(counts, axis=0) >= fewest
    place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), [-1, -1])  # unknown levels, and missing ones
    codes = tuple(place[level_codes(data.table[name], levels)] for data in tables)
    return Classes(name, codes, int(kept.sum()), len(levels))

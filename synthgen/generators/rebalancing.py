"""How many rows of each group are sampled? As many of each, or as many as somebody asks for; and what that changed.

Groups are cells of the columns that are named: those that enough patients of train have, since others were not learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthgen.errors import UsageError
from synthgen.generators.conditions import apportioned
from synthgen.rng import Seed
from synthgen.rules import level_text
from synthgen.schema import ORDERED

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.data import TableData

FEWEST = 10  # patients of train that a cell needs
_MOST_NUMBERS = 10  # that count as levels
ROWS = "rows"  # of an explicit cell: how many


def balanced(train: TableData, columns: Sequence[str], *, rows: int, seed: Seed) -> pd.DataFrame:
    """The columns of so many rows, as many in each cell that at least ten patients of train have, in random order.

    Shape: -> (rows, columns)

    Raises:
        UsageError: a column that has no levels, or no cell with enough patients, or more cells than rows.

    >>> from synthgen import datasets
    >>> given = balanced(datasets.load("actg175"), ["gender", "cens"], rows=100, seed=Seed(1))
    >>> given.value_counts().tolist()
    [25, 25, 25, 25]
    """
    counts = _cells(train, columns)
    kept = counts[counts >= FEWEST]
    if not len(kept) or len(kept) > rows:
        raise UsageError(
            f"balance: {len(kept)} cells of {', '.join(columns)} have {FEWEST} patients of train, and {rows:,} rows "
            "are sampled: name other columns, or ask for more rows"
        )
    return _filled(kept, apportioned(np.ones(len(kept)), rows), seed)


def counted(train: TableData, cells: Sequence[Mapping[str, Any]], *, seed: Seed) -> pd.DataFrame:
    """The columns of the rows that are asked for cell by cell, such as `{"sex": "F", "rows": 100}`, in random order.

    Raises:
        UsageError: cells of different columns, without a number of rows, or that stand there twice.
    """
    import pandas as pd

    columns = [name for name in cells[0] if name != ROWS]
    for cell in cells:
        if {*cell} != {*columns, ROWS} or not isinstance(cell[ROWS], int) or cell[ROWS] < 1 or not columns:
            raise UsageError(f"cells: each has the same columns and {ROWS}, a number above 0")
    values = [tuple(level_text(cell[name]) for name in columns) for cell in cells]
    if len({*values}) < len(values):
        raise UsageError(f"cells: {len(values) - len({*values})} cells stand there twice")
    _cells(train, columns)
    index = pd.MultiIndex.from_tuples(values, names=columns)
    return _filled(pd.Series(0, index=index), np.array([cell[ROWS] for cell in cells]), seed)


def asked(
    train: TableData, *, balance: Sequence[str], cells: Sequence[Mapping[str, Any]], rows: int, seed: Seed
) -> pd.DataFrame | None:
    """What a study fixes in its rows by `balance` or `cells`; None: nothing.

    Raises:
        UsageError: as `balanced` and `counted`.
    """
    if cells:
        return counted(train, cells, seed=seed)
    return balanced(train, balance, rows=rows, seed=seed) if balance else None


def before_and_after(train: TableData, synthetic: TableData, columns: Sequence[str]) -> dict[str, Any]:
    """For the record of an audit: the smallest and the largest cell of train and of the synthetic rows, unnamed.

    >>> from synthgen import datasets
    >>> data = datasets.load("actg175")
    >>> before_and_after(data, data, ["gender"])["smallest cell"]
    'before 17.2 % of 2,139 patients, after 17.2 % of 2,139'
    """
    shares = [_cells(data, columns) for data in (train, synthetic)]
    known = shares[0][shares[0] >= FEWEST].index
    sizes = [one.reindex(known, fill_value=0) for one in shares]
    facts: dict[str, Any] = {"columns": list(columns), "cells": len(known)}
    for word, which in (("smallest cell", "min"), ("largest cell", "max")):
        people = (train.patient_count, synthetic.patient_count)
        before, after = (getattr(one, which)() / count for one, count in zip(sizes, people, strict=True))
        text = f"before {before:.1%} of {people[0]:,} patients, after {after:.1%} of {people[1]:,}"
        facts[word] = text.replace("%", " %")
    return facts


def _cells(data: TableData, columns: Sequence[str]) -> pd.Series:
    """Patients of each cell whose values are all known; values as text."""
    import pandas as pd

    for name in columns:
        column = data.schema[name]
        many = column.kind in ORDERED and column.kind != "boolean" and data.table[name].nunique() > _MOST_NUMBERS
        if many or not column.learned:
            raise UsageError(f"column {name!r} has no levels to balance: it is a number, a date, or never learned")
    frame = pd.DataFrame({name: [level_text(value) for value in data.table[name]] for name in columns})
    frame["patient"] = data.patients
    return frame.drop_duplicates().dropna().groupby(list(columns), sort=True).size()


def _filled(cells: pd.Series, counts: np.ndarray, seed: Seed) -> pd.DataFrame:
    chosen = seed.numpy().permutation(np.repeat(np.arange(len(cells)), counts))
    frame: pd.DataFrame = cells.index.to_frame(index=False).iloc[chosen].reset_index(drop=True)
    return frame

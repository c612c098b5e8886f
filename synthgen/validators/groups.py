"""Which groups of patients does a cohort have, and which rows of each set are in them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.protocols import Evidence
from synthgen.schema import NUMERIC
from synthgen.validators.encoding import frequent_levels, level_codes, numbers, ordered

FEWEST = 30  # rows or images of a group in each set
FEWEST_PATIENTS = 10  # of a group in train and in the holdout, below which it is not even counted by number
MOST_GROUPS = 10  # of one column
BANDS = 3  # of a column of numbers or dates, by its quantiles in train
_ROLES = frozenset({"quasi_identifier", "sensitive", "target"})
_AGES = ((-np.inf, 18.0, "under 18"), (18.0, 40.0, "18 to 39"), (40.0, 65.0, "40 to 64"), (65.0, np.inf, "65 and over"))

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # of train, holdout and synthetic
SOURCES = "sex, age_years, the target, and columns with the role quasi_identifier or sensitive"


@dataclass(frozen=True)
class Group:
    """The rows of one group of patients."""

    column: str
    label: str  # "group 1": by frequency in train, never by the level's own name
    rows: Rows

    @property
    def name(self) -> str:
        """The column and which of its groups."""
        return f"{self.column}, {self.label}"


@dataclass(frozen=True)
class Groups:
    """Groups that are large enough, and how many are not."""

    kept: tuple[Group, ...]
    few: int  # too small in train or in the holdout
    lost: int  # that the synthetic set lacks

    @staticmethod
    def of(evidence: Evidence) -> Groups:
        """Groups by the columns that describe patients, with at least 30 rows in each set."""
        kept, few, lost = [], 0, 0
        sets = (evidence.train, evidence.holdout, evidence.synthetic)
        for group in _groups(evidence):
            patients = [len(np.unique(data.patients[own])) for data, own in zip(sets, group.rows, strict=True)]
            if min(patients[:2]) < FEWEST_PATIENTS or min(map(len, group.rows[:2])) < FEWEST:
                few += 1
            elif len(group.rows[2]) < FEWEST:
                lost += 1
            else:
                kept.append(group)
        return Groups(tuple(kept), few, lost)


def _groups(evidence: Evidence) -> Iterator[Group]:
    tables = [data.table for data in (evidence.train, evidence.holdout, evidence.synthetic)]
    for column in evidence.schema.learned:
        name = column.name
        if any(name not in table for table in tables):
            continue
        if name == "age_years":
            coded = _bands([numbers(table[name]) for table in tables])
        elif name == "sex" or _ROLES & set(column.roles):
            levels = frequent_levels(tables[0][name])
            many = ordered(column) and not (column.kind in NUMERIC and len(levels) <= 2)
            coded = _thirds(tables, name) if many else _levels(tables, name, levels)
        else:
            continue
        for label, codes in coded:
            train, holdout, synthetic = map(np.flatnonzero, codes)
            yield Group(name, label, (train, holdout, synthetic))


Coded = Iterator[tuple[str, list[np.ndarray]]]  # a group's label, and whether each row of each set is in it


def _bands(ages: list[np.ndarray]) -> Coded:
    for low, high, words in _AGES:
        yield words, [(own >= low) & (own < high) for own in ages]


def _levels(tables: list[pd.DataFrame], name: str, levels: tuple[str, ...]) -> Coded:
    codes = [level_codes(table[name], levels) for table in tables]
    for number in range(min(len(levels), MOST_GROUPS)):
        yield f"group {number + 1}", [own == number for own in codes]


def _thirds(tables: list[pd.DataFrame], name: str) -> Coded:
    values = [numbers(table[name]) for table in tables]
    edges = np.nanquantile(values[0], np.arange(1, BANDS) / BANDS)
    for number in range(BANDS):
        known = [np.where(np.isnan(own), -1, np.searchsorted(edges, own, side="left")) for own in values]
        yield f"third {number + 1}", [own == number for own in known]

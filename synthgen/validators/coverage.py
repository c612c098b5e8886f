"""Do synthetic records reach all kinds of real patients, and lie among them? Coverage, density, precision, recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.validators.encoding import (
    comparable_columns,
    frequent_levels,
    level_codes,
    most_indicators,
    numbers,
    ordered,
    texts,
)
from synthgen.validators.image_distances import Neighborhood, neighborhood
from synthgen.validators.resampling import affordable_rows, around, bootstrap_figures, one_thread, sample_rows, share

REAL = " (train)"
_LEVELS = 30  # of a category with a coordinate of their own; the others are one level
_GRID = 2.0**-20
_STEPS = 100  # of alpha and beta


@dataclass(frozen=True)
class Coverage:
    """Coverage of the holdout by synthetic rows; density, two kinds of precision and of recall beside it.

    A holdout row is covered if a synthetic row is as near as its own k-th nearest holdout row. Distances are Euclidean:
    ranks among train rows of numbers and dates, each level of a category at distance one from the others. The control
    takes as many train rows for synthetic ones. Copies of train rows cover as well as train does: this figure is about
    variety, the checks of privacy are about copies.

    >>> Coverage(k=3).k
    3
    """

    name: ClassVar[str] = "fidelity.coverage"
    question: ClassVar[str] = "Do synthetic records reach all kinds of real patients, and lie among them?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 3_000
    k: int = 5

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Look for neighbors of holdout rows among synthetic rows, and among as many of train.

        Raises:
            NotAssessable: too few rows.
        """
        columns = comparable_columns(evidence)
        tables = {"holdout": evidence.holdout, "synthetic": evidence.synthetic, "train": evidence.train}
        count = min(affordable_rows(self.rows, len(columns)), *map(len, tables.values()))
        if count <= self.k:
            raise NotAssessable(f"{self.k} neighbors need more than {self.k} rows in each table; there are {count}")
        sides = {name: sample_rows(data, count, seed.child("rows", name)) for name, data in tables.items()}
        places = placed(columns, evidence.train, sides)
        made = self._figures(places, sides, "synthetic", seed)
        real = self._figures(places, sides, "train", seed)
        statistic, control = made.pop("coverage"), real.pop("coverage")
        chance = 1 - float(np.prod([(count - i) / (2 * count - i) for i in range(1, self.k + 1)]))
        return Measurement(
            check=self.name,
            label="coverage: share of holdout rows with a synthetic row as near as their neighbors",
            statistic=statistic,
            control=control,
            better="higher",
            answer=f"{statistic.value:.1%} of holdout rows have a synthetic row within the distance of their {self.k} "
            f"nearest fellows; {control.value:.1%} have a train row there.",
            details=made | {name + REAL: estimate for name, estimate in real.items()},
            notes=(
                f"{count:,} rows of each table, {self.k} neighbors; two samples of one law give a coverage of "
                f"{chance:.3f}",
                "density above 1: synthetic rows crowd where real ones are dense; precision and recall: share of rows "
                "that lie in a neighborhood of the other table",
                "alpha-precision and beta-recall: 1 where the core with any share of one table holds that share of "
                "the other, 0 where it holds all or none",
                "the intervals are those of the patients counted; the other table is taken as it is",
                f"the {most_indicators(len(columns), _LEVELS)} most frequent levels of a column have coordinates",
            ),
            source="Naeem et al. 2020, arXiv:2002.09797; precision and recall: Kynkaanniemi et al. 2019, "
            "arXiv:1904.06991; alpha-precision and beta-recall: Alaa et al. 2022, arXiv:2102.08921",
        )

    def _figures(
        self, places: Mapping[str, np.ndarray], sides: Mapping[str, TableData], which: str, seed: Seed
    ) -> dict[str, Estimate]:
        near = neighborhood(places["holdout"], places[which], k=self.k)
        holdout, own = sides["holdout"].patients, sides[which].patients
        return {
            "coverage": share(near.covered, holdout),
            "density": _density(near, sides[which], seed.child("density", which)),
            "precision": share(near.precise, own),
            "recall": share(near.recalled, holdout),
            "alpha-precision": _alpha_precision(places["holdout"], places[which], sides[which], seed.child("a", which)),
            "beta-recall": _beta_recall(near, places[which], sides["holdout"], seed.child("b", which)),
        }


def placed(columns: Sequence[Column], train: TableData, sides: Mapping[str, TableData]) -> dict[str, np.ndarray]:
    """Rows as points: ranks of numbers in train, scaled so that two random rows differ by one; indicators of levels.

    Missing is a level, and lies one beside the numbers. Coordinates lie on a grid on which sums of squares are exact,
    so that equal rows have distance zero.

    Shape: -> for each side (rows, coordinates)
    """
    most = most_indicators(len(columns), _LEVELS)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    for column in columns:
        for name, found in _coordinates(column, train, sides, most).items():
            parts[name].append(found)
    return {name: np.round(np.hstack(found) / _GRID) * _GRID for name, found in parts.items()}


def _coordinates(
    column: Column, train: TableData, sides: Mapping[str, TableData], most: int
) -> Mapping[str, np.ndarray]:
    """Levels are those frequent in all tables: by train alone, train itself would lie apart in wide tables."""
    values = {name: side.table[column.name] for name, side in sides.items()}
    if not ordered(column):
        levels = frequent_levels(pd.Series(np.concatenate([texts(own).to_numpy() for own in values.values()])))[:most]
        places = np.arange(len(levels) + 2)
        return {name: np.sqrt(0.5) * (level_codes(own, levels)[:, None] == places) for name, own in values.items()}
    known = numbers(train.table[column.name])
    known = np.sort(known[~np.isnan(known)])
    return {name: _ranked(numbers(own), known) for name, own in values.items()}


def _ranked(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    ranks = (np.searchsorted(known, found, "left") + np.searchsorted(known, found, "right")) / max(2 * len(known), 1)
    missing = np.isnan(found)
    return np.column_stack([np.where(missing, 0.5, ranks) * np.sqrt(6), missing])


def _density(near: Neighborhood, made: TableData, seed: Seed) -> Estimate:
    def mean(weights: np.ndarray) -> np.ndarray:
        return np.array([weights @ near.density / weights.sum()])

    value, draws = bootstrap_figures(mean, [made], seed=seed)
    return around(float(value[0]), draws[:, 0], n=len(made), most=np.inf)


def _alpha_precision(real: np.ndarray, made: np.ndarray, data: TableData, seed: Seed) -> Estimate:
    """How evenly made points lie in the balls around the centre of real ones that hold a share alpha of these."""
    return _evenness(_depth(real, made, real.mean(axis=0)), np.ones(len(made), dtype=bool), data, seed)


def _beta_recall(near: Neighborhood, made: np.ndarray, holdout: TableData, seed: Seed) -> Estimate:
    """The same of real points that are covered, by how central their nearest made point is among made ones."""
    return _evenness(_depth(made, made, made.mean(axis=0))[near.nearest], near.covered, holdout, seed)


def _depth(known: np.ndarray, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The share of known points that are nearer to a centre than each point, ties counting half. Shape: (points,)."""
    reach, distance = (((X - centre) ** 2).sum(axis=1).round(9) for X in (known, points))
    reach = np.sort(reach)
    return (np.searchsorted(reach, distance, "left") + np.searchsorted(reach, distance, "right")) / (2 * len(reach))


def _evenness(depth: np.ndarray, counted: np.ndarray, data: TableData, seed: Seed) -> Estimate:
    """1 - 2 times the area between the share of rows that are counted up to each depth, and the depth."""
    place = np.minimum((depth * _STEPS).astype(int), _STEPS - 1)
    middle = (np.arange(_STEPS) + 0.5) / _STEPS

    def figure(weights: np.ndarray) -> np.ndarray:
        held = np.bincount(place, weights * counted, _STEPS)
        share_up_to = (np.cumsum(held) - held / 2) / weights.sum()
        return np.array([1 - 2 * np.abs(share_up_to - middle).mean()])

    value, draws = bootstrap_figures(figure, [data], seed=seed)
    return around(float(value[0]), draws[:, 0], n=len(data))

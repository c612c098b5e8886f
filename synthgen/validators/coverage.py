"""Do synthetic records reach all kinds of real patients, and lie among them? Coverage, density, precision, recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.validators.encoding import comparable_columns, frequent_levels, level_codes, numbers, ordered
from synthgen.validators.image_distances import Neighborhood, neighborhood
from synthgen.validators.resampling import around, bootstrap_figures, one_thread, sample_rows, share

REAL = " (train)"
_LEVELS = 30  # of a category with a coordinate of their own; the others are one level
_GRID = 2.0**-20


@dataclass(frozen=True)
class Coverage:
    """Coverage of the holdout by synthetic rows, and density; improved precision and recall beside them.

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
        count = min(self.rows, *map(len, tables.values()))
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
                "the intervals are those of the patients counted; the other table is taken as it is",
            ),
            source="Naeem et al. 2020, arXiv:2002.09797; precision and recall: Kynkaanniemi et al. 2019, "
            "arXiv:1904.06991",
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
        }


def placed(columns: Sequence[Column], train: TableData, sides: Mapping[str, TableData]) -> dict[str, np.ndarray]:
    """Rows as points: ranks of numbers in train, scaled so that two random rows differ by one; indicators of levels.

    Missing is a level, and lies one beside the numbers. Coordinates lie on a grid on which sums of squares are exact,
    so that equal rows have distance zero.

    Shape: -> for each side (rows, coordinates)
    """
    parts = {name: [_coordinates(column, train, side) for column in columns] for name, side in sides.items()}
    return {name: np.round(np.hstack(found) / _GRID) * _GRID for name, found in parts.items()}


def _coordinates(column: Column, train: TableData, side: TableData) -> np.ndarray:
    values = side.table[column.name]
    if not ordered(column):
        levels = frequent_levels(train.table[column.name])[:_LEVELS]
        return np.sqrt(0.5) * (level_codes(values, levels)[:, None] == np.arange(len(levels) + 2))
    known = numbers(train.table[column.name])
    known, found = np.sort(known[~np.isnan(known)]), numbers(values)
    ranks = (np.searchsorted(known, found, "left") + np.searchsorted(known, found, "right")) / max(2 * len(known), 1)
    missing = np.isnan(found)
    return np.column_stack([np.where(missing, 0.5, ranks) * np.sqrt(6), missing])


def _density(near: Neighborhood, made: TableData, seed: Seed) -> Estimate:
    def mean(weights: np.ndarray) -> np.ndarray:
        return np.array([weights @ near.density / weights.sum()])

    value, draws = bootstrap_figures(mean, [made], seed=seed)
    return around(float(value[0]), draws[:, 0], n=len(made), most=np.inf)

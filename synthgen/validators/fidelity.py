"""Do the synthetic records look like the real ones: missing values, single columns, pairs of columns?

Each figure compares a table with train. The synthetic table and the holdout take its place in turn, cut to the same
number of rows, so that what sampling alone does is the same in the statistic and in its control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column
from synthgen.stats import clopper_pearson
from synthgen.validators.cells import cells_of, missing_rates
from synthgen.validators.encoding import Bins, comparable_columns, ordered, pooled_codes
from synthgen.validators.pairs import PairTables, choose_blocks, mapped
from synthgen.validators.resampling import affordable_rows, around, bootstrap_figures, one_thread, sample_rows, some_of

Sides = tuple[TableData, TableData, TableData]  # train, synthetic, holdout; the last two of equal length
SHOWN = 100  # columns named in the details of one measurement; the worst ones where there are more
BUDGET = 2e11  # multiplications of one bootstrap, a few seconds on two cores: large tables get fewer samples


@dataclass(frozen=True)
class Missingness:
    """Missing rates, pairs missing together, and missing rates given the values of other columns.

    >>> Missingness().name
    'fidelity.missingness'
    """

    name: ClassVar[str] = "fidelity.missingness"
    question: ClassVar[str] = "Are values missing where, how often and together as in real records?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 20_000  # at most so many of each table are compared
    givens: int = 40  # at most so many columns are conditioned on, chosen by the seed

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare missing rates; the statistic is the largest difference of any of the three kinds."""
        columns = comparable_columns(evidence)
        sides = equal_sides((evidence.train, evidence.synthetic, evidence.holdout), self.rows, len(columns), seed)
        gaps = [c for c in columns if any(side.table[c.name].isna().any() for side in sides)]
        if not gaps:
            return self._nothing_missing(sides, len(columns))
        givens = some_of(columns, self.givens, seed.child("givens"))
        tables = [MissingTable.of(side.table, gaps, givens, sides[0].table) for side in sides]
        work = sum(t.missing.size * (len(gaps) + t.groups.shape[1]) for t in tables)
        found, control = compare(sides, [t.at for t in tables], missing_errors, seed=seed, work=work)
        names = (
            "missing rate of a column",
            "rate of two columns missing together",
            "missing rate given another column",
        )
        parts = found.split(3)
        details = {
            f"largest difference of a {name}": part.summary(np.max) for name, part in zip(names, parts, strict=True)
        }
        statistic = found.summary(np.max)
        worst = gaps[int(np.argmax(found.value)) % len(gaps)].name
        notes = (f"missing rates are conditioned on {len(givens)} of {len(columns)} columns",)
        return Measurement(
            check=self.name,
            label="largest difference of a missing rate from train: of a column, of a pair, or given another column",
            statistic=statistic,
            control=control.summary(np.max),
            better="lower",
            answer=f"Missing rates differ from train's by up to {statistic.value:.1%}, most in column {worst!r}.",
            details=details
            | parts[0].named([c.name for c in gaps], SHOWN)
            | missing_rates([gaps[i].name for i in np.argsort(-parts[0].value)[:SHOWN]], *sides[1:]),
            notes=notes + found.notes,
            source="definition: absolute differences of (conditional) missing rates, weighted by train's groups",
        )

    def _nothing_missing(self, sides: Sides, columns: int) -> Measurement:
        _, synthetic, holdout = sides
        return Measurement(
            check=self.name,
            label="largest difference of a missing rate from train",
            statistic=clopper_pearson(0, len(synthetic)),
            control=clopper_pearson(0, len(holdout)),
            better="lower",
            answer=f"No value is missing in any of {columns} columns, neither in real nor in synthetic records.",
            notes=("the interval is that of a missing rate of which no case was seen",),
            source="definition",
        )


@dataclass(frozen=True)
class Columns:
    """Each column's distribution: Kolmogorov-Smirnov for ordered columns, total variation for others.

    Missing is a level. Independent marginals win this figure, so it says nothing about records.

    >>> Columns().needs == {"train", "holdout", "synthetic"}
    True
    """

    name: ClassVar[str] = "fidelity.columns"
    question: ClassVar[str] = "Is each column, taken alone, distributed as in real records?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 20_000
    pictured: int = 50  # columns of which shares by cell are given, the worst ones

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare distributions column by column; the statistic is the mean distance."""
        columns = comparable_columns(evidence)
        sides = equal_sides((evidence.train, evidence.synthetic, evidence.holdout), self.rows, len(columns), seed)
        codes, sizes = _pooled(columns, sides)
        starts, total = (np.cumsum(sizes) - sizes).astype(np.int64), sum(sizes)
        line = np.array([ordered(column) for column in columns])

        def shares(table: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            flat = (table + starts).ravel()  # all columns in one count
            return lambda w: np.bincount(flat, np.repeat(w, len(columns)), minlength=total) / w.sum()

        def errors(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            gap = one - other  # sums to zero over each column, so that one running sum serves all
            steps = np.maximum.reduceat(np.abs(np.cumsum(gap)), starts).round(12)
            return np.where(line, steps, np.add.reduceat(np.abs(gap), starts) / 2)

        work = 400.0 * (sum(table.size for table in codes) + 3 * total)  # counting costs far more than multiplying
        found, control = compare(sides, [shares(table) for table in codes], errors, seed=seed, work=work)
        statistic, floor = found.summary(np.mean), control.summary(np.mean)
        worst = [columns[i] for i in np.argsort(-found.value, kind="stable")[: self.pictured]]
        return Measurement(
            check=self.name,
            label="mean distance of a column's distribution from train (Kolmogorov-Smirnov or total variation)",
            statistic=statistic,
            control=floor,
            better="lower",
            answer=f"A column differs from train by {statistic.value:.2%} on average; "
            f"real records do by {floor.value:.2%}.",
            details={"worst column": found.summary(np.max)} | found.named([c.name for c in columns], SHOWN),
            cells=cells_of(worst, *sides[1:]),
            notes=("missing values are a level", *found.notes),
            source="two-sample Kolmogorov-Smirnov distance; total variation distance",
        )


@dataclass(frozen=True)
class Pairs:
    """Relations between two columns: rank correlation, contingency, mutual information; quantile groups.

    >>> Pairs().question
    'Do pairs of columns hang together as in real records?'
    """

    name: ClassVar[str] = "fidelity.pairs"
    question: ClassVar[str] = "Do pairs of columns hang together as in real records?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 20_000

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare every pair, or many where there are too many; the statistic is the mean difference.

        Raises:
            NotAssessable: fewer than two columns.
        """
        columns = comparable_columns(evidence)
        if len(columns) < 2:
            raise NotAssessable("pairs need two learned columns; there is one")
        sides = equal_sides((evidence.train, evidence.synthetic, evidence.holdout), self.rows, len(columns), seed)
        blocks = choose_blocks(len(columns), seed.child("blocks"))
        coded = [[PairTables.of(s.table, [columns[i] for i in b], sides[0].table) for b in blocks] for s in sides]
        names = [
            f"{columns[b[i]].name} and {columns[b[j]].name}"
            for b in blocks
            for i in range(len(b))
            for j in range(i + 1, len(b))
        ]

        def errors(one: list[Any], other: list[Any]) -> np.ndarray:
            parts = [table.errors(a, b) for table, a, b in zip(coded[0], one, other, strict=True)]
            return np.concatenate(parts, axis=1).ravel()

        summaries = [_each_at(tables) for tables in coded]
        work = 2.0 * sum(t.groups.size * t.groups.shape[1] for tables in coded for t in tables)
        found, control = compare(sides, summaries, errors, seed=seed, work=work)
        (relation, information), floor = found.split(2), control.split(2)[0].summary(np.mean)
        statistic = relation.summary(np.mean)
        every = len(columns) * (len(columns) - 1) // 2
        some = (
            (f"{len(names):,} of {every:,} pairs, within groups of columns chosen by the seed",)
            if len(blocks) > 1
            else ()
        )
        return Measurement(
            check=self.name,
            label="mean difference from train of the relation of two columns (rank correlation or contingency table)",
            statistic=statistic,
            control=floor,
            better="lower",
            answer=f"The relation of two columns differs from train by {statistic.value:.2%} on average; "
            f"real records do by {floor.value:.2%}.",
            details={
                "worst pair": relation.summary(np.max),
                "mutual information": information.summary(np.mean),
                "mutual information (real holdout)": control.split(2)[1].summary(np.mean),
            }
            | relation.named(names, 10),
            pairs=mapped([c.name for c in columns], blocks, relation.value, control.split(2)[0].value),
            notes=(
                "half the difference of Spearman correlations, else total variation over quantile groups",
                *some,
                *found.notes,
            ),
            source="pair trends after Patki et al. 2016, doi:10.1109/DSAA.2016.49, on ranks and quantile groups",
        )


@dataclass(frozen=True)
class Errors:
    """Distances of one table from train, and the same in bootstrap samples."""

    value: np.ndarray  # (figures,)
    draws: np.ndarray  # (samples, figures)
    rows: int
    notes: tuple[str, ...] = ()

    def summary(self, take: Callable[..., Any]) -> Estimate:
        """One figure of all: their mean, or the largest."""
        return around(float(take(self.value)), take(self.draws, axis=1), n=self.rows)

    def split(self, parts: int) -> list[Errors]:
        """The figures in equal parts."""
        pairs = zip(np.split(self.value, parts), np.split(self.draws, parts, axis=1), strict=True)
        return [Errors(value, draws, self.rows, self.notes) for value, draws in pairs]

    def named(self, names: Sequence[str], most: int) -> dict[str, Estimate]:
        """The largest figures by name, largest first."""
        worst = np.argsort(-self.value, kind="stable")[:most]
        return {names[i]: around(float(self.value[i]), self.draws[:, i], n=self.rows) for i in worst}


def compare(
    sides: Sides,
    summaries: Sequence[Callable[[np.ndarray], Any]],
    errors: Callable[[Any, Any], np.ndarray],
    *,
    seed: Seed,
    work: float,
) -> tuple[Errors, Errors]:
    """Distances of synthetic and of holdout from train, bootstrapped with one resampled train for both.

    Args:
        sides: train, synthetic and holdout.
        summaries: for each side, what its rows come to under given weights.
        errors: distances between two summaries, the second being train's.
        seed: of the bootstrap.
        work: multiplications of one evaluation; decides how many samples are affordable.
    """

    def figures(*weights: np.ndarray) -> np.ndarray:
        train, synthetic, holdout = (make(w) for make, w in zip(summaries, weights, strict=True))
        return np.concatenate([errors(synthetic, train), errors(holdout, train)])

    repeats = int(np.clip(BUDGET / work, 20, 200))
    value, draws = bootstrap_figures(figures, sides, seed=seed.child("bootstrap"), repeats=repeats)
    notes = (f"{len(sides[1]):,} rows of the synthetic table and of the holdout against {len(sides[0]):,} of train",)
    found, control = np.split(value, 2), np.split(draws, 2, axis=1)
    return Errors(found[0], control[0], len(sides[1]), notes), Errors(found[1], control[1], len(sides[2]), notes)


@dataclass(frozen=True)
class MissingRates:
    """Where values of one table are missing."""

    alone: np.ndarray  # (columns,)
    together: np.ndarray  # (columns, columns)
    given: np.ndarray  # (columns, groups) NaN for empty groups
    groups: np.ndarray  # (groups,) shares of rows


@dataclass(frozen=True)
class MissingTable:
    """One table's missing cells beside the groups of other columns, as learned from train."""

    missing: np.ndarray  # (rows, columns) float32
    groups: np.ndarray  # (rows, groups) float32
    starts: np.ndarray  # (givens,) where each other column's groups begin

    @staticmethod
    def of(table: pd.DataFrame, gaps: Sequence[Column], givens: Sequence[Column], train: pd.DataFrame) -> MissingTable:
        """Code a table."""
        bins = [Bins.of(column, train, count=4, most_levels=5) for column in givens]
        groups = [(b.codes(table)[:, None] == np.arange(b.size)).astype(np.float32) for b in bins]
        sizes = np.array([b.size for b in bins])
        missing = table[[column.name for column in gaps]].isna().to_numpy(dtype=np.float32)
        return MissingTable(missing, np.concatenate(groups, axis=1), np.cumsum(sizes) - sizes)

    def at(self, weights: np.ndarray) -> tuple[MissingRates, np.ndarray]:
        """Missing rates under row weights, and where the groups of each other column begin."""
        w = (weights / weights.sum()).astype(np.float32)
        weighted, groups = self.missing * w[:, None], w @ self.groups
        given = weighted.T @ self.groups / np.where(groups > 0, groups, np.nan)
        together = weighted.T @ self.missing
        np.fill_diagonal(together, 0.0)
        return MissingRates(w @ self.missing, together, given, groups), self.starts


def missing_errors(one: tuple[MissingRates, np.ndarray], train: tuple[MissingRates, np.ndarray]) -> np.ndarray:
    """For each column: difference of its rate, largest with a partner, largest given another column.

    Given a column, differences within its groups are averaged with train's shares of the groups; groups that one side
    lacks are left out.

    Shape: -> (3 * columns,)
    """
    (a, starts), (b, _) = one, train
    alone = np.abs(a.alone - b.alone)
    together = np.abs(a.together - b.together).max(axis=1)
    gap = np.abs(a.given - b.given)
    shares = np.where(np.isnan(gap), 0.0, b.groups)
    covered = np.add.reduceat(shares, starts, axis=1)
    given = np.add.reduceat(np.nan_to_num(gap) * shares, starts, axis=1) / np.maximum(covered, 1e-12)
    return np.concatenate([alone, together, given.max(axis=1)]).astype(float)


def equal_sides(tables: Sequence[TableData], rows: int, columns: int, seed: Seed) -> Sides:
    """Train, and as many rows of the synthetic table as of the holdout, from tables in this order."""
    train, synthetic, holdout = tables
    most = affordable_rows(rows, columns)
    count = min(len(synthetic), len(holdout), most)
    return (
        sample_rows(train, most, seed.child("rows", "train")),
        sample_rows(synthetic, count, seed.child("rows", "synthetic")),
        sample_rows(holdout, count, seed.child("rows", "holdout")),
    )


def _pooled(columns: Sequence[Column], sides: Sides) -> tuple[list[np.ndarray], list[int]]:
    """Each side's cells as numbers of distinct values. Shape: -> (rows, columns) int for each side."""
    coded = [pooled_codes(column, [side.table for side in sides]) for column in columns]
    return [np.column_stack([codes[i] for codes, _ in coded]) for i in range(3)], [size for _, size in coded]


def _each_at(tables: list[PairTables]) -> Callable[[np.ndarray], list[Any]]:
    return lambda weights: [table.at(weights) for table in tables]

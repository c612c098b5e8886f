"""Are synthetic records as close to real ones, and as useful, for every group of patients?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.encoding import WIDE
from synthgen.validators.fidelity import Columns
from synthgen.validators.groups import FEWEST, FEWEST_PATIENTS, SOURCES, Group, Groups
from synthgen.validators.resampling import affordable_rows, around, bootstrap_figures, one_thread, sample_rows, some_of
from synthgen.validators.scoring import binary_metrics
from synthgen.validators.utility import Problem

REAL = " (real holdout)"
_TRAINED = " (real)"
MOST = 60  # groups that are looked at, beyond which they are chosen by chance
MOST_OF_WIDE = 20  # the same, where each has many columns


@dataclass(frozen=True)
class TableSubgroups:
    """The mean distance of a group's columns from train's, group by group; the worst group.

    In the details: how many patients a group has too many or too few, and, for a binary target, the AUC of a boosted
    model in each group of the holdout, trained on all synthetic or on as many real rows, and its equalised-odds gap:
    the largest difference between two groups of one column in true or in false positives, where the share of alarms is
    that of events.

    >>> TableSubgroups().name
    'subgroups.tables'
    """

    name: ClassVar[str] = "subgroups.tables"
    question: ClassVar[str] = "Are synthetic records as close to real ones, and as useful, for every group of patients?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})
    rows: int = 5_000  # of a group in each set, and to train on, at most
    repeats: int = 100

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare each group that is large enough; the statistic is the largest mean distance of any.

        Raises:
            NotAssessable: no column that makes groups, or no group with 30 rows in each set.
        """
        groups = Groups.of(evidence)
        if not groups.kept:
            raise NotAssessable(f"no group has {FEWEST} rows in each set: groups come from {SOURCES}")
        most = MOST if len(evidence.schema.learned) <= WIDE else MOST_OF_WIDE
        kept = some_of(groups.kept, most, seed.child("groups"))
        measured = {
            group.name: Columns(rows=self.rows, pictured=0).run(_within(evidence, group), seed=seed.child(group.name))
            for group in kept
        }
        worst = max(measured, key=lambda name: measured[name].statistic.value)
        controls = {name: one.control for name, one in measured.items() if one.control}
        control = max(controls.values(), key=lambda estimate: estimate.value)
        details: dict[str, Estimate] = {}
        for name, one in measured.items():
            details |= {name: one.statistic, name + REAL: controls[name]}
        fairness, notes = self._usefulness(evidence, set(measured), seed.child("utility"))
        if len(kept) < len(groups.kept):
            notes = (f"{len(kept)} of {len(groups.kept)} groups were looked at, chosen by the seed", *notes)
        return Measurement(
            check=self.name,
            label="largest mean distance of a group's columns from the same group in train",
            statistic=measured[worst].statistic,
            control=control,
            better="lower",
            answer=f"Of {len(measured)} groups, synthetic records are farthest from train in {worst}: a column differs "
            f"by {measured[worst].statistic.value:.2%} on average; real records do by at most {control.value:.2%} in "
            "any group.",
            details={
                **_shares(evidence, groups.kept),
                "groups that the synthetic table lacks": exactly(float(groups.lost), n=_seen(groups)),
                **fairness,
                **details,
            },
            notes=(
                "groups are numbered by their frequency in train, most frequent first; numbers by thirds of train",
                f"{groups.few} groups with fewer than {FEWEST_PATIENTS} patients or {FEWEST} rows in train or in the "
                f"holdout, and {groups.lost} with fewer than {FEWEST} synthetic rows, were left out",
                "the largest of several figures lies above their mean by chance: read it beside its control; the "
                "interval is that of the worst group alone",
                *notes,
            ),
            source="Kolmogorov-Smirnov or total variation distance; equalised odds: Hardt et al. 2016, "
            "arXiv:1610.02413",
        )

    def _usefulness(
        self, evidence: Evidence, chosen: Collection[str], seed: Seed
    ) -> tuple[dict[str, Estimate], tuple[str, ...]]:
        """AUC of each group and equalised-odds gap of a model trained on synthetic, and of one trained on real rows."""
        try:
            problem, _ = Problem.of(evidence)
            train, synthetic, test = (
                problem.labelled(data) for data in (evidence.train, evidence.synthetic, evidence.holdout)
            )
            problem.check(train, synthetic, test)
        except NotAssessable as reason:
            return {}, (f"usefulness by group: {reason}",)
        if problem.task != "binary":
            return {}, ("usefulness by group is looked at for a binary target only",)
        other = replace(evidence, holdout=test)
        kept = Groups.of(other).kept
        groups = [group for group in kept if group.name in chosen and group.column != problem.target.name]
        if not groups:
            return {}, ("usefulness by group: no group with 30 rows in each set",)
        count, found = min(len(train), len(synthetic), affordable_rows(self.rows, len(problem.columns))), {}
        for mark, data in (("", synthetic), (_TRAINED, train)):
            trained_on = sample_rows(data, count, seed.child("rows"))
            chance = problem.predicted(trained_on, test, "boosting", seed.child("model"))[:, 1]
            found[mark] = _fairness(problem.truth(test.table), chance, groups)
        names = ["equalised-odds gap", *(f"AUC, {group.name}" for group in groups)]
        return self._estimates(names, found, test, groups, seed), ()

    def _estimates(
        self,
        names: Sequence[str],
        found: dict[str, Callable[[np.ndarray], np.ndarray]],
        test: TableData,
        groups: Sequence[Group],
        seed: Seed,
    ) -> dict[str, Estimate]:
        estimates: dict[str, Estimate] = {}
        for mark, figures in found.items():
            value, draws = bootstrap_figures(figures, [test], seed=seed.child("bootstrap"), repeats=self.repeats)
            sizes = [len(test), *(len(group.rows[1]) for group in groups)]
            for i, name in enumerate(names):
                if np.isfinite(value[i]):
                    estimates[name + mark] = around(float(value[i]), draws[:, i], n=sizes[i])
        return {name: estimates[name] for base in names for name in (base, base + _TRAINED) if name in estimates}


def _fairness(truth: np.ndarray, chance: np.ndarray, groups: Sequence[Group]) -> Callable[[np.ndarray], np.ndarray]:
    """Row weights of the holdout -> equalised-odds gap, and the AUC of each group. Groups' rows are the holdout's."""
    alarms = chance >= np.quantile(chance, 1 - truth.mean())
    metric = [binary_metrics(truth[group.rows[1]], chance[group.rows[1]])["auc"] for group in groups]

    def figures(weights: np.ndarray) -> np.ndarray:
        rates = []
        for group in groups:
            own = group.rows[1]
            w, y, a = weights[own], truth[own], alarms[own]
            rates.append([_share(a, w * y), _share(a, w * (1 - y))])
        return np.array(
            [_gap(rates, groups), *(one(weights[g.rows[1]]) for one, g in zip(metric, groups, strict=True))]
        )

    return figures


def _gap(rates: Sequence[Sequence[float]], groups: Sequence[Group]) -> float:
    pairs = [(i, j) for i, j in combinations(range(len(groups)), 2) if groups[i].column == groups[j].column]
    gaps = [abs(rates[i][kind] - rates[j][kind]) for i, j in pairs for kind in (0, 1)]
    known = [gap for gap in gaps if np.isfinite(gap)]
    return max(known) if known else np.nan


def _share(flags: np.ndarray, weights: np.ndarray) -> float:
    total = float(weights.sum())
    return float(weights @ flags / total) if total > 0 else np.nan


def _within(evidence: Evidence, group: Group) -> Evidence:
    train, holdout, synthetic = (
        data.take(rows)
        for data, rows in zip((evidence.train, evidence.holdout, evidence.synthetic), group.rows, strict=True)
    )
    return replace(evidence, train=train, holdout=holdout, synthetic=synthetic, shared={})


def _shares(evidence: Evidence, groups: Sequence[Group]) -> dict[str, Estimate]:
    """The largest difference of a group's share of the rows from train's, of synthetic rows and of the holdout."""
    sizes = [len(data) for data in (evidence.train, evidence.holdout, evidence.synthetic)]
    shares = np.array([[len(rows) / size for rows, size in zip(g.rows, sizes, strict=True)] for g in groups])
    name = "largest difference of a group's share of the rows"
    return {
        name: exactly(float(np.abs(shares[:, 2] - shares[:, 0]).max()), n=sizes[2]),
        name + REAL: exactly(float(np.abs(shares[:, 1] - shares[:, 0]).max()), n=sizes[1]),
    }


def _seen(groups: Groups) -> int:
    return len(groups.kept) + groups.few + groups.lost

"""Does training again, with and without chosen patients, show which of them a synthetic table was made from?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from joblib import Parallel, delayed

from synthgen.errors import NotAssessable, UsageError
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.membership import highest, need_enough
from synthgen.privacy.neighbors import content_order, nearest, placed
from synthgen.privacy.space import stacked
from synthgen.privacy.strata import Exposure, exposed_patients
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import bootstrap, clopper_pearson, permutation_p, roc_curve_on_grid

_FEWEST_TARGETS = 20
_FALSE_ALARMS = 0.01
_PERMUTATIONS = 2_000
_CLOSEST = 1e-3  # smaller distances count as this one: a copy, exact or to the digit
_NARROWEST = 1e-3  # standard deviation of a score: a refit that gives the same table twice has none
_GRID = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SLACK = 1e-9


@dataclass(frozen=True)
class ShadowMembership:
    """The likelihood ratio attack on the most isolated train patients, by training again and again (LiRA).

    Threat: the strongest attacker of this audit. Besides some patients' complete records and the synthetic table, the
    attacker has the generator's code and settings and data like the training data, and so learns how a table looks
    with a patient and without. Targets are the most isolated train patients. The generator is trained again on random
    halves of the train patients, in pairs: a half and its complement, so that each target is in one of each pair. For
    each table a target's score is minus the log distance to the nearest synthetic row: up to a constant of the target
    the log ratio of a distance among real patients to it. Each table in turn is attacked: the tables of all other pairs
    give each target's scores with and without it a normal law (means by target, one variance for each side), and the
    log likelihood ratio of the two says "in" or "out".

    The statistic is the AUC of these ratios over all targets and tables; `tpr_at_1pct_fpr` the share of "in" cases
    above the 99th percentile of the "out" cases. Null: the generator's tables owe nothing to who is in its half; then
    the two halves of a pair can be exchanged for each target, which gives the p-value. Intervals: bootstrap by target,
    with threshold and all, widened to what as many coin flips as there are targets would have.

    What is attacked is the way of training on half of the patients, not the released table: half the data memorise
    more, so the figure is on the safe side.

    >>> ShadowMembership().name
    'membership.shadow'
    """

    name: ClassVar[str] = "membership.shadow"
    question: ClassVar[str] = "Would an attacker who can train the generator again see who was in the training data?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "refit"})

    refits: int = 16  # even: half of them with each target
    targets: int = 100  # the most isolated train patients
    neighbours: int = 5  # k of isolation
    max_patients: int = 30_000  # of the pool among whom targets are chosen; of more a random sample stands in
    n_jobs: int = 1  # processes that train; results do not depend on it

    def __post_init__(self) -> None:
        """Refuse settings from which nothing could be learned.

        Raises:
            UsageError: an odd number of refits, or fewer than 6; fewer than 20 targets.
        """
        if self.refits < 6 or self.refits % 2:
            raise UsageError("refits come in pairs, and at least three pairs are needed: set 6, 8, 10 ...")
        if self.targets < _FEWEST_TARGETS:
            raise UsageError(f"the attack needs at least {_FEWEST_TARGETS} targets")

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Train again, score the targets in each table, and attack each table with what the others taught.

        Raises:
            NotAssessable: nothing to train again with, or fewer than 100 patients on a side.
        """
        if evidence.refit is None:
            raise NotAssessable("there is nothing to train again with: pass `refit` to the audit")
        need_enough(evidence, self.neighbours)
        exposed = exposed_patients(evidence, k=self.neighbours, most=self.max_patients)
        targets, others = self._targets(evidence, exposed)
        halves = _halves(evidence, self.refits // 2, seed.child("halves"))
        tasks = [
            delayed(_scores)(replace(evidence, shared={}), one, targets, others, seed.child("refit", str(i)))
            for i, one in enumerate(one for pair in halves for one in (pair, ~pair))
        ]
        scores = np.stack(list(Parallel(n_jobs=self.n_jobs)(tasks)))
        cases = _sorted_out(scores[:, : len(targets)], halves[:, targets])
        coins = seed.child("others").numpy().random((len(halves), len(others))) < 0.5
        return self._measured(cases, _sorted_out(scores[:, len(targets) :], coins), seed)

    def _measured(self, cases: _Cases, others: _Cases, seed: Seed) -> Measurement:
        area, rate = _intervals(cases, seed.child("targets"))
        return Measurement(
            check=self.name,
            label="AUC of the likelihood ratio attack on the most isolated patients (0.5 is guessing)",
            statistic=area,
            better="lower",
            answer=f"Shown two synthetic tables, one made with an isolated patient and one without, an attacker who "
            f"trained the generator {self.refits} times names the right one in {area.value:.1%} of cases, where "
            f"guessing gives 50 %; with 1 % false alarms {rate.value:.1%} of the patients are found.",
            control=_intervals(others, seed.child("control"))[0],
            details={"tpr_at_1pct_fpr": rate},
            p_value=_p_value(cases, seed.child("exchanges")),
            curves={"roc": _curve(cases)},
            notes=(
                f"{cases.with_it.shape[1]} patients were attacked in {self.refits} tables, each made from half of the "
                "train patients",
            ),
            source="LiRA: Carlini et al. 2022, arXiv:2112.03570; isolated patients: arXiv:2011.07018; "
            "p-value: Phipson & Smyth 2010, doi:10.2202/1544-6115.1585",
        )

    def _targets(self, evidence: Evidence, exposed: Exposure) -> tuple[np.ndarray, np.ndarray]:
        """The most isolated patients of train, and of the holdout for the control; ties go by contents.

        Shape:
            -> (targets,), (holdout targets,): patient numbers of the pool
        """
        place = _places(evidence)
        order = np.lexsort([place, -exposed.isolation])
        order = order[exposed.attacked[order]]
        train = exposed.is_train[order]
        return np.sort(order[train][: self.targets]), np.sort(order[~train][: self.targets])


@dataclass(frozen=True, eq=False)
class _Cases:
    """Scores of targets in the table of each pair that was made with them, and in the one without.

    Shape:
        both (pairs, targets)
    """

    with_it: np.ndarray
    without: np.ndarray

    def taken(self, targets: np.ndarray) -> _Cases:
        """The cases of these targets."""
        return _Cases(self.with_it[:, targets], self.without[:, targets])


def _sorted_out(scores: np.ndarray, in_first: np.ndarray) -> _Cases:
    """Shape: scores (2 * pairs, targets), in_first (pairs, targets) bool: made with it was the first of the pair."""
    first, second = scores[0::2], scores[1::2]
    return _Cases(np.where(in_first, first, second), np.where(in_first, second, first))


def _places(evidence: Evidence) -> np.ndarray:
    """For each patient of the pool a place in an order of contents, whatever the order of the files."""
    sets = placed(evidence)
    places = []
    for points, patients in ((sets.train, sets.train_patients), (sets.holdout, sets.holdout_patients)):
        own = patients - patients.min()
        first = np.unique(own[content_order(points, own)], return_index=True)[1]
        places.append(np.argsort(np.argsort(first)))
    return np.concatenate(places)


def _halves(evidence: Evidence, pairs: int, seed: Seed) -> np.ndarray:
    """Which train patients are in the first half of each pair, not the second. Shape: (pairs, patients)."""
    patients = evidence.train.patient_count
    place, rng = _places(evidence)[:patients], seed.numpy()
    return np.stack([(rng.permutation(patients) < patients // 2)[place] for _ in range(pairs)])


def _scores(evidence: Evidence, half: np.ndarray, targets: np.ndarray, others: np.ndarray, seed: Seed) -> np.ndarray:
    """Train on half of the patients and see how close the table comes to each target.

    Shape:
        half (train patients,) bool -> (targets + others,)
    """
    assert evidence.refit is not None
    table = evidence.refit(evidence.train.take(half[evidence.train.patients]), seed)
    sets = placed(replace(evidence, synthetic=table, shared={}))
    points = stacked(sets.train, sets.holdout)
    owners = sets.patients
    wanted = np.concatenate([targets, others])  # ascending: train comes first
    rows = np.flatnonzero(np.isin(owners, wanted))
    distance = nearest(points.take(rows), sets.synthetic, 1)[1][:, 0]
    return highest(-np.log(np.maximum(distance, _CLOSEST)), np.searchsorted(wanted, owners[rows]), len(wanted))


def _ratios(cases: _Cases) -> _Cases:
    """Log likelihood ratios of "in" against "out", each pair judged by what the other pairs taught.

    Both tables of a pair are left out together: then the ratio of either is the same function of its score, and owes
    nothing to which of the two was made with the target.
    """
    laws = [_without_each(side) for side in (cases.with_it, cases.without)]

    def ratio(scores: np.ndarray) -> np.ndarray:
        logs = [-0.5 * np.log(variance) - (scores - mean) ** 2 / (2 * variance) for mean, variance in laws]
        difference: np.ndarray = logs[0] - logs[1]
        return difference

    return _Cases(ratio(cases.with_it), ratio(cases.without))


def _without_each(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means by target, and one variance for all targets, of the scores in all pairs but one.

    Shape:
        scores (pairs, targets) -> (pairs, targets), (pairs, 1)
    """
    left = len(scores) - 1
    mean = (scores.sum(axis=0) - scores) / left
    centred = scores - scores.mean(axis=0)  # sums of squares about one centre lose no digits
    shift = mean - scores.mean(axis=0)
    squares = (centred**2).sum(axis=0) - centred**2 - left * shift**2
    variance = squares.mean(axis=1, keepdims=True) / (left - 1)
    return mean, np.maximum(variance, _NARROWEST**2)


def _rates_of(ratios: _Cases) -> tuple[float, float]:
    """AUC, and the share of ratios with the target above a threshold that 1 % of those without exceed."""
    members, others = ratios.with_it.ravel(), np.sort(ratios.without.ravel())
    below = (np.searchsorted(others, members, "left") + np.searchsorted(others, members, "right")) / 2
    threshold = others[-max(1, int(_FALSE_ALARMS * (len(others) + 1)))]
    return float(below.mean() / len(others)), float((members > threshold).mean())


def _intervals(cases: _Cases, seed: Seed) -> tuple[Estimate, Estimate]:
    """AUC and rate with intervals from targets drawn with replacement, each with all its scores.

    A rate of 0 would have no width, so its upper bound is at least that of as many independent cases.
    """
    ratios = _ratios(cases)  # what the attacker learned stays fixed; the threshold is set anew in each sample
    targets = np.arange(cases.with_it.shape[1])
    area = bootstrap(lambda some: _rates_of(ratios.taken(some))[0], targets, seed=seed)
    rate = bootstrap(lambda some: _rates_of(ratios.taken(some))[1], targets, seed=seed)
    count = ratios.with_it.size
    most = clopper_pearson(round(rate.value * count), count).high
    return area, replace(rate, high=max(rate.high, most))


def _p_value(cases: _Cases, seed: Seed) -> float:
    """Exchange the two tables of a pair, target by target: twice the smaller p of the AUC and of the rate."""
    rng, observed = seed.numpy(), np.array(_rates_of(_ratios(cases)))
    null = np.zeros((_PERMUTATIONS, 2))
    for i in range(_PERMUTATIONS):
        swap = rng.random(cases.with_it.shape) < 0.5
        exchanged = _Cases(np.where(swap, cases.without, cases.with_it), np.where(swap, cases.with_it, cases.without))
        null[i] = _rates_of(_ratios(exchanged))
    return min(1.0, 2 * min(permutation_p(float(observed[j]) - _SLACK, null[:, j]) for j in (0, 1)))


def _curve(cases: _Cases) -> tuple[tuple[float, float], ...]:
    ratios = _ratios(cases)
    heights = roc_curve_on_grid(ratios.with_it.ravel(), ratios.without.ravel(), _GRID)
    return tuple((x, round(float(y), 4)) for x, y in zip(_GRID, heights, strict=True))

"""Can an attacker who holds a patient's record tell from the synthetic table whether that patient was trained on?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.neighbors import Sets, attackable, nearest, placed
from synthgen.privacy.space import Points
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import auc, clopper_pearson, roc_curve_on_grid

MINIMUM_PATIENTS = 100  # on each side
_GRID = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_FALSE_ALARMS = 0.01
_SMALL = 1e-6  # added to distances before their logarithm: below any difference that the space resolves


@dataclass(frozen=True)
class _Scores:
    """Attack scores of patients, higher for "was trained on".

    Shape:
        members (members,), others (holdout patients,), calibrates (holdout patients,) bool: the others that set the
        threshold; the rest measure its false alarms
    """

    members: np.ndarray
    others: np.ndarray
    calibrates: np.ndarray

    @property
    def threshold(self) -> float:
        """A score that a new patient who was not trained on exceeds with chance 1 % at most (2 % below 99 patients)."""
        known = np.sort(self.others[self.calibrates])[::-1]
        return float(known[max(1, int(_FALSE_ALARMS * (len(known) + 1))) - 1])


@dataclass(frozen=True)
class Membership:
    """Three attacks on membership, scored by patient and calibrated on holdout patients.

    Threat: the attacker holds complete records of some patients, and the synthetic table, and wants to know who was in
    the training data (which can itself be the secret: a trial, a ward, a diagnosis). No access to the generator.

    - `distance`: how close the nearest synthetic row is;
    - `ratio`: how much closer it is than the next one, which tells a copy among many alike from a dense place;
    - `density`: how much denser synthetic rows lie around the record than the rows of other patients whom nobody
      trained on, by the distances to the k-th nearest of each (DOMIAS). Half of the holdout serves the other half as
      these other patients, in turn, so that no patient is wasted.

    The data plagiarism index (share of synthetic rows among the 20 nearest, with reference rows) and a classifier of
    synthetic against reference rows were tried and left out: on over-fitted kernels, SMOTE and mixup they tell less
    than these (SMOTE: AUC .53 and .59, where distance has .80), and each further attack widens the bound.

    A patient with several rows has the score of the most telling one. The statistic is the larger AUC; its upper
    bound is the largest of all attacks' (so it bounds each), its lower bound the largest at a level corrected for the
    number of attacks.
    `tpr_at_1pct_fpr` is the share of members found by a threshold set on half of the holdout patients to raise 1 %
    false alarms; `fpr_at_threshold` is what it raises on the others. An AUC cannot see a few copies among many rows:
    the copy checks can.

    >>> Membership().name
    'membership'
    """

    name: ClassVar[str] = "membership"
    question: ClassVar[str] = "Can an attacker tell who was in the training data?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    max_patients: int = 10_000  # attacked on each side, fewer where the synthetic table is large; a random sample
    neighbours: int = 5  # k of the density attack

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Attack train and holdout patients alike and compare the scores.

        Raises:
            NotAssessable: fewer than 100 patients on a side, or fewer synthetic rows than neighbours.
        """
        spaces = {"": placed(evidence)}
        return measured(self.name, spaces, evidence, seed=seed, most=self.max_patients, k=self.neighbours)


def measured(
    check: str, spaces: Mapping[str, Sets], evidence: Evidence, *, seed: Seed, most: int, k: int
) -> Measurement:
    """Attack in each of some spaces by distance, by ratio and by density, and report the best attack.

    Args:
        check: its name.
        spaces: by name, which is part of the names of the attacks there.
        evidence: whose patients are attacked.
        seed: of folds and samples.
        most: patients attacked on each side, fewer where the synthetic table is large.
        k: neighbours of the density attack.

    Raises:
        NotAssessable: too few patients or synthetic rows.
    """
    need_enough(evidence, k)
    attacks: dict[str, _Scores] = {}
    for space, sets in spaces.items():
        attacked = _attacked(sets, most, seed)
        rows = _rows(attacked, k)
        attacks |= {f"{name}{space}": _scores(attacked, both) for name, both in rows.items()}
    areas = {name: auc(s.members, s.others) for name, s in attacks.items()}
    worst = max(areas, key=lambda name: areas[name].value)
    statistic = _worst(areas, attacks)
    found = {name: _found(s) for name, s in attacks.items()}
    tpr = _highest_bound(estimates[0] for estimates in found.values())
    return Measurement(
        check=check,
        label="AUC of the best membership attack (0.5 is guessing)",
        statistic=statistic,
        better="lower",
        answer=f"Shown one patient who was trained on and one who was not, the best attack ({worst}) points to the "
        f"right one in {statistic.value:.1%} of cases, where guessing gives 50 %; a threshold with about 1 % false "
        f"alarms finds {tpr.value:.1%} of the trained-on patients.",
        control=_control(attacked, rows["distance"][1]),
        details={
            "tpr_at_1pct_fpr": tpr,
            "fpr_at_threshold": _highest_bound(estimates[1] for estimates in found.values()),
            **{f"auc.{name}": area for name, area in areas.items()},
        },
        p_value=min(1.0, 2 * len(attacks) * min(_p_value(s) for s in attacks.values())),
        curves={"roc": _curve(attacks[worst])},
        notes=_notes(attacked, evidence, statistic),
        source="distance and ratio: doi:10.1145/3372297.3417238; density: DOMIAS, arXiv:2302.12580; "
        "AUC: DeLong 1988, doi:10.2307/2531595; rates: Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404",
    )


@dataclass(frozen=True, eq=False)
class _Attacked:
    """Who is attacked. Each patient belongs to one of two folds: the reference of fold 0 is fold 1 of the holdout.

    Shape:
        rows of `members` and `others`; member_of and other_of (rows,): dense patient numbers; folds (patients,) 0 or 1
    """

    members: Points
    others: Points
    synthetic: Points
    member_of: np.ndarray
    other_of: np.ndarray
    member_folds: np.ndarray
    other_folds: np.ndarray
    calibrates: np.ndarray  # (holdout patients,) bool


def need_enough(evidence: Evidence, neighbours: int) -> None:
    """Membership attacks need patients on both sides, and synthetic rows.

    Raises:
        NotAssessable: fewer than 100 patients on a side, or fewer synthetic rows than neighbours.
    """
    for name in ("train", "holdout"):
        count = getattr(evidence, name).patient_count
        if count < MINIMUM_PATIENTS:
            raise NotAssessable(f"{name} has {count} patients; membership attacks need at least {MINIMUM_PATIENTS}")
    if len(evidence.synthetic) < neighbours:
        raise NotAssessable(f"the synthetic table has {len(evidence.synthetic)} rows; {neighbours} are needed")


def _attacked(sets: Sets, most: int, seed: Seed) -> _Attacked:
    most = attackable(most, 2 * len(sets.synthetic))
    members, member_of = _sample(sets.train, sets.train_patients, most, seed.child("members"))
    others, other_of = _sample(sets.holdout, sets.holdout_patients, most, seed.child("others"))
    other_folds = _halves(other_of, seed.child("folds", "others"))
    within = _halves(np.arange(len(other_folds)), seed.child("calibrate"))
    member_folds = _halves(member_of, seed.child("folds", "members"))
    return _Attacked(members, others, sets.synthetic, member_of, other_of, member_folds, other_folds, within == 0)


def _sample(points: Points, patients: np.ndarray, most: int, seed: Seed) -> tuple[Points, np.ndarray]:
    """The rows of at most this many patients, and their patients numbered anew from 0."""
    known = np.unique(patients)
    chosen = known if len(known) <= most else np.sort(seed.numpy().choice(known, most, replace=False))
    rows = np.flatnonzero(np.isin(patients, chosen))
    return points.take(rows), np.searchsorted(chosen, patients[rows])


def _halves(patients: np.ndarray, seed: Seed) -> np.ndarray:
    """0 or 1 for each patient, at random, in halves. Shape: -> (patients,)."""
    folds: np.ndarray = seed.numpy().permutation(int(patients.max()) + 1) % 2
    return folds


def _rows(attacked: _Attacked, k: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Row scores of members and of others by each attack."""
    members = _of_side(attacked.members, attacked.member_folds[attacked.member_of], attacked, k)
    others = _of_side(attacked.others, attacked.other_folds[attacked.other_of], attacked, k)
    return {name: (members[name], others[name]) for name in members}


def _of_side(points: Points, folds: np.ndarray, attacked: _Attacked, k: int) -> dict[str, np.ndarray]:
    """Scores by each attack. The density's reference is the half of the holdout that a row's patient is not in."""
    synthetic = nearest(points, attacked.synthetic, max(k, 2))[1]
    reference, fold_of_row = np.zeros(len(points)), attacked.other_folds[attacked.other_of]
    for fold in (0, 1):
        rows = np.flatnonzero(folds == fold)
        pool = attacked.others.take(np.flatnonzero(fold_of_row != fold))
        reference[rows] = nearest(points.take(rows), pool, k)[1][:, -1]
    return {
        "distance": -synthetic[:, 0],
        "ratio": log_ratio(synthetic[:, 1], synthetic[:, 0]),
        "density": log_ratio(reference, synthetic[:, k - 1]),
    }


def log_ratio(reference: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """How much farther the reference is than the synthetic rows, finite also where one of them is equal to the record.

    >>> log_ratio(np.array([1.0, 2.0]), np.array([1.0, 1.0])).round(3)
    array([0.   , 0.693])
    """
    ratio: np.ndarray = np.log(reference + _SMALL) - np.log(synthetic + _SMALL)
    return ratio


def highest(scores: np.ndarray, owners: np.ndarray, patients: int) -> np.ndarray:
    """The highest score of each patient's rows; -inf for who has none. Shape: both (rows,) -> (patients,).

    >>> highest(np.array([0.2, 0.7, 0.1]), np.array([0, 0, 1]), 2)
    array([0.7, 0.1])
    """
    most = np.full(patients, -np.inf)
    np.maximum.at(most, owners, scores)
    return most


def _scores(attacked: _Attacked, rows: tuple[np.ndarray, np.ndarray]) -> _Scores:
    """Row scores to patient scores: the highest of a patient's rows."""
    members = highest(rows[0], attacked.member_of, len(attacked.member_folds))
    return _Scores(members, highest(rows[1], attacked.other_of, len(attacked.other_folds)), attacked.calibrates)


def _worst(areas: Mapping[str, Estimate], attacks: Mapping[str, _Scores]) -> Estimate:
    worst = max(areas.values(), key=lambda area: area.value)
    corrected = 1 - (1 - worst.confidence) / len(attacks)
    low = max(auc(s.members, s.others, confidence=corrected).low for s in attacks.values())
    high = max(area.high for area in areas.values())
    return replace(
        worst, low=min(low, worst.value), high=high, method=f"{worst.method}, largest of {len(attacks)} attacks"
    )


def _found(scores: _Scores) -> tuple[Estimate, Estimate]:
    """Members above the threshold, and holdout patients above it who did not set it."""
    others = scores.others[~scores.calibrates]
    hits, alarms = int((scores.members > scores.threshold).sum()), int((others > scores.threshold).sum())
    return clopper_pearson(hits, len(scores.members)), clopper_pearson(alarms, len(others))


def _highest_bound(estimates: Iterable[Estimate]) -> Estimate:
    return max(estimates, key=lambda estimate: (estimate.high, estimate.value))


def _p_value(scores: _Scores) -> float:
    """The smaller p of two one-sided tests: members score higher; members pass the threshold more often."""
    from scipy.stats import fisher_exact, mannwhitneyu

    higher = mannwhitneyu(scores.members, scores.others, alternative="greater", method="asymptotic").pvalue
    (members, others) = _found(scores)
    table = [[round(e.value * e.n), e.n - round(e.value * e.n)] for e in (members, others)]
    return float(min(higher, fisher_exact(table, alternative="greater").pvalue))


def _control(attacked: _Attacked, rows: np.ndarray) -> Estimate | None:
    """Guessing, measured: the same attack on two halves of the holdout, neither of which was trained on.

    Fold 0 plays the members and fold 1 the others; the distances are to the synthetic rows, as in the attack.
    """
    scores = highest(rows, attacked.other_of, len(attacked.other_folds))
    return auc(scores[attacked.other_folds == 0], scores[attacked.other_folds == 1])


def _curve(scores: _Scores) -> tuple[tuple[float, float], ...]:
    heights = roc_curve_on_grid(scores.members, scores.others, _GRID)
    return tuple((x, round(float(y), 4)) for x, y in zip(_GRID, heights, strict=True))


def _notes(attacked: _Attacked, evidence: Evidence, statistic: Estimate) -> tuple[str, ...]:
    notes = []
    for name, folds in (("train", attacked.member_folds), ("holdout", attacked.other_folds)):
        count = getattr(evidence, name).patient_count
        if len(folds) < count:
            notes.append(f"a random {len(folds):,} of the {count:,} {name} patients were attacked")
    if attacked.calibrates.sum() < 99:
        notes.append("fewer than 198 holdout patients: the 1 % threshold is the highest of their scores, about 2 %")
    if statistic.high < 0.5:
        notes.append("holdout patients look more trained on than train patients: was the holdout trained on?")
    return tuple(notes)

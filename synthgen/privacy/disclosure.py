"""What do the attacks on disclosure share? Sides of equal size, success patient by patient, and train beyond control.

The three risks are those of the European data protection authorities (WP216: singling out, linkability, inference),
measured as Giomi et al. 2022 propose, arXiv:2211.10459: an attack guesses with the help of the synthetic table, and its
success on patients who were trained on is compared with its success on patients who were not. What is right about the
latter too is what the table teaches about the population; only the rest is owed to having been trained on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.labels import label_test
from synthgen.privacy.neighbors import shared_columns
from synthgen.privacy.space import Points, Space, hashes
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import difference, wilson

ATTACKS = 2_000  # of each kind, where the tables have enough patients
MINIMUM_PATIENTS = 100  # on each side: halves of 50 make the control
_MINIMUM_ROWS, _MOST_ROWS = 20, 100_000  # of the synthetic table; the attacker uses a random sample of more
_SOURCE = (
    "Giomi et al. 2022, arXiv:2211.10459; the risks: WP216, Article 29 Working Party 2014; "
    "interval: Newcombe 1998, method 10; p-value: permutation of who was trained on"
)


@dataclass(frozen=True, eq=False)
class Sides:
    """Equally many patients of train and of the holdout, and the synthetic rows, in orders that no file decides.

    Shape:
        patients (rows of `real`,): 0 to count - 1 are train, the next count the control; attacked (2 * count,): of
        each patient a random row of `real`
    """

    names: tuple[str, ...]
    count: int
    real: pd.DataFrame
    patients: np.ndarray
    attacked: np.ndarray
    synthetic: pd.DataFrame
    pool: pd.DataFrame  # all train and holdout rows
    space: Space
    points: tuple[Points, Points]  # the attacked rows and the synthetic ones, in that space
    notes: tuple[str, ...]

    def seen(self, names: Collection[str]) -> tuple[Points, Points]:
        """The attacked rows, by patient, and the synthetic rows, as they appear in some of the columns."""
        return self.space.part(self.points[0], names), self.space.part(self.points[1], names)


@dataclass(frozen=True)
class Attack:
    """How often an attack was right on train, on the control, and without the synthetic rows.

    The standard deviation is that of train minus control if labels were exchangeable. It says how many independent
    attacks these are worth: fewer, where several hang on the same patient.

    >>> print(Attack(train=0.5, control=0.4, naive=0.1, sd=0.05, attacks=2000, patients=500).excess)
    0.100 [0.002, 0.195]
    """

    train: float
    control: float
    naive: float
    sd: float
    attacks: int  # on each side
    patients: int  # attacked on each side
    reach: float = 1.0  # share of the train patients at whom guesses may aim that were attacked

    @property
    def worth(self) -> int:
        """The number of independent attacks that would vary as much; of patients, where nothing varied at all."""
        if not self.sd:
            return min(self.attacks, self.patients)
        share = (self.train + self.control) / 2
        return max(1, min(self.attacks, round(2 * share * (1 - share) / self.sd**2)))

    @property
    def excess(self) -> Estimate:
        """Success on train beyond success on the control, as if all train patients had been attacked."""
        n = self.worth
        found = difference(self.train * n, n, self.control * n, n)
        return self._stated(found.value, found.low, found.high, f"Newcombe score, worth {n:,} independent attacks")

    @property
    def details(self) -> dict[str, Estimate]:
        """The shares behind the excess, and the share of what is not right on the control that train gives away."""
        shares = {"success_train": self.train, "success_control": self.control, "success_naive": self.naive}
        n = self.worth
        found = {name: replace(wilson(share * n, n), n=self.attacks) for name, share in shares.items()}
        return {**found, "scaled_risk": self._scaled(n)} if self.control < 1 else found

    @property
    def weak(self) -> bool:
        """Whether guessing without the synthetic rows does as well, up to chance."""
        n = self.worth
        return difference(self.train * n, n, self.naive * n, n).low <= 0

    def _scaled(self, n: int) -> Estimate:
        """(t - c) / (1 - c), which is 1 minus a ratio of two shares of failures.

        The interval is put together from the score intervals of both (Donner and Zou 2012,
        doi:10.1177/0962280210383082).
        """
        p, q = 1 - self.train, 1 - self.control
        first, second = wilson(p * n, n), wilson(q * n, n)

        def bound(mine: float, other: float) -> tuple[float, float, float]:
            one, two = mine * (2 * p - mine), other * (2 * q - other)
            return one, two, p * q + math.sqrt(max(0.0, (p * q) ** 2 - one * two))

        least, _, root = bound(first.low, second.high)
        smallest = least / root if root else 0.0
        _, most, root = bound(first.high, second.low)
        return self._stated(1 - p / q, 1 - root / most, 1 - smallest, "ratio of score intervals")

    def _stated(self, value: float, low: float, high: float, method: str) -> Estimate:
        """Scaled up to all train patients; a share of them lies between -1 and 1."""
        value, low, high = (min(1.0, max(-1.0, x / self.reach)) for x in (value, min(low, value), max(high, value)))
        return Estimate(value, low, high, self.attacks, method)


@dataclass(frozen=True)
class Words:
    """How a check puts its result."""

    label: str
    success: str  # "a guess made from the synthetic table {success} in 5 % of attacks on ..."
    notes: tuple[str, ...] = ()
    details: Mapping[str, Estimate] = field(default_factory=dict)


def measurement(check: str, attack: Attack, words: Words, *, p_value: float, control: Estimate | None) -> Measurement:
    """The result of an attack, in words, with a note where it says little."""
    weak = ("the attack is weak here, no better than guessing without the synthetic rows: this figure says little",)
    return Measurement(
        check=check,
        label=words.label,
        statistic=attack.excess,
        better="lower",
        answer=f"A guess made from the synthetic table {words.success} in {attack.train:.1%} of the attacks on "
        f"patients who were trained on, in {attack.control:.1%} of those on equally many who were not, and without the "
        f"synthetic rows in {attack.naive:.1%}. {attack.excess.value:.1%} are owed to having been trained on.",
        control=control,
        details={**attack.details, **words.details},
        p_value=p_value,
        notes=((*weak, *words.notes) if attack.weak else words.notes),
        source=_SOURCE,
    )


def sides(evidence: Evidence, *, most: int, seed: Seed) -> Sides:
    """Draw whom to attack: as many train as holdout patients, since a crowd hides its members better than a few do.

    Raises:
        NotAssessable: fewer than two columns that tell patients apart, 100 patients on a side or 20 synthetic rows.
    """
    shared = shared_columns(evidence)
    pool = pd.concat([data.table[shared] for data in (evidence.train, evidence.holdout)], ignore_index=True)
    names = [name for name in shared if pool[name].nunique(dropna=False) > 1]
    if len(names) < 2:
        raise NotAssessable(f"{len(names)} of the columns in common hold more than one value; attacks need at least 2")
    count = min(evidence.train.patient_count, evidence.holdout.patient_count, most)
    for name in ("train", "holdout"):
        found = getattr(evidence, name).patient_count
        if found < MINIMUM_PATIENTS:
            raise NotAssessable(f"{name} has {found} patients; attacks on disclosure need at least {MINIMUM_PATIENTS}")
    if len(evidence.synthetic) < _MINIMUM_ROWS:
        raise NotAssessable(f"the synthetic table has {len(evidence.synthetic)} rows; {_MINIMUM_ROWS} are needed")
    space = Space.fit(pool[names], evidence.train.schema.ordered)
    train, train_of = _drawn(evidence.train, space, count, seed.child("train"))
    control, control_of = _drawn(evidence.holdout, space, count, seed.child("control"))
    real = pd.concat([train[names], control[names]], ignore_index=True)
    patients = np.concatenate([train_of, control_of + count])
    known = space.encode(real)
    first = _mixed(known, seed.child("rows"))
    attacked = first[np.unique(patients[first], return_index=True)[1]]
    synthetic = evidence.synthetic.table[names]
    invented = space.encode(synthetic)
    chosen = _mixed(invented, seed.child("synthetic"))[:_MOST_ROWS]
    notes = _notes(count, min(most, ATTACKS), len(chosen), len(synthetic))
    points = known.take(attacked), invented.take(chosen)
    return Sides(
        tuple(names), count, real, patients, attacked, synthetic.iloc[chosen], pool[names], space, points, notes
    )


def by_patient(scores: np.ndarray, naive: float, *, attacks: int) -> Attack:
    """Success of one score per patient, train in the first half; of several questions to a patient their mean.

    Shape:
        scores (2 * patients,), from 0 to 1

    >>> attack = by_patient(np.repeat([1.0, 0.0, 1.0, 0.0], [60, 40, 50, 50]), naive=0.5, attacks=100)
    >>> print(attack.excess)
    0.100 [-0.037, 0.232]
    """
    train, control = np.split(scores, 2)
    sd = 2 * float(scores.std()) / math.sqrt(len(scores) - 1)
    return Attack(float(train.mean()), float(control.mean()), naive, sd, attacks, patients=len(train))


def excess_p(scores: np.ndarray, *, seed: Seed) -> float:
    """The chance that train patients have this much of the success, if who was trained on were drawn by lot.

    Several scores are tested together, by the largest of their excesses.

    Shape:
        scores (2 * patients, tests)

    >>> excess_p(np.repeat([1.0, 0.0], 50)[:, None], seed=Seed(1)) < 0.001
    True
    """
    people = np.arange(len(scores))
    return label_test(scores, people < len(scores) / 2, people, seed=seed).p_more


def control_excess(scores: np.ndarray, *, attacks: int) -> Estimate:
    """The same excess between two halves of the control, neither of which was trained on.

    Shape:
        scores (2 * patients,)

    >>> print(control_excess(np.repeat([1.0, 0.0, 1.0, 0.0], 50), attacks=100))
    1.000 [0.897, 1.000]
    """
    others = scores[len(scores) // 2 :]
    return by_patient(others[: len(others) // 2 * 2], 0.0, attacks=attacks // 2).excess


def _drawn(data: TableData, space: Space, count: int, seed: Seed) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of so many patients, drawn by what their rows hold, not by where they stand; numbered from 0."""
    whole = np.zeros(data.patient_count, dtype=np.uint64)
    np.add.at(whole, data.patients, hashes(space.encode(data.table)))
    chosen = np.argsort(whole, kind="stable")[seed.numpy().permutation(len(whole))[:count]]
    number = np.full(len(whole), -1)
    number[chosen] = np.arange(count)
    rows = number[data.patients] >= 0
    return data.table[rows], number[data.patients][rows]


def _mixed(points: Points, seed: Seed) -> np.ndarray:
    """Row numbers in a random order that depends on contents alone. Shape: -> (rows,)."""
    canonical: np.ndarray = np.argsort(hashes(points), kind="stable")
    return canonical[seed.numpy().permutation(len(canonical))]


def _notes(count: int, wanted: int, used: int, rows: int) -> tuple[str, ...]:
    fewer = f", fewer than the {wanted:,} wanted" if count < wanted else ""
    sampled = [f"the attacker used a random {used:,} of the {rows:,} synthetic rows"] if used < rows else []
    return (f"{count:,} patients were attacked on each side{fewer}", *sampled)

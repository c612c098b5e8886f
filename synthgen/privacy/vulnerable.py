"""Are the patients who stand out given away, though the average patient is not?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.copies import landed
from synthgen.privacy.labels import LabelTest, label_test
from synthgen.privacy.membership import need_enough
from synthgen.privacy.neighbors import neighbors, placed
from synthgen.privacy.strata import Exposure, Stratum, exposed_patients, strata
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import auc, permutation_p

_CUTOFFS = (0.1, 0.3, 0.5, 1.0)  # counted in each stratum
_DECIDING = 2  # of these: 0.5
_FEWEST, _MOST, _BATCH_CELLS = 2_000, 20_000, 4_000_000
_ENOUGH = 20  # exceedances from which on a p-value is known well enough (Besag and Clifford 1991)
_LISTED = 8  # strata in the details
_SLACK = 1e-9


@dataclass(frozen=True)
class VulnerableMembership:
    """Attacks on membership, and the test of copies, among patients who stand out, against holdout patients like them.

    Threat: as for `membership`, but the attacker looks for somebody conspicuous: a patient unlike all others, or one of
    the few with a rare diagnosis. Their records are the first that a generator memorises, and too few to move an
    average over all patients (Stadler et al. 2022). Strata are drawn from train and holdout pooled, blind to labels:

    - the 1 % and 5 % most isolated patients, by the distance to the k-th nearest row of another patient;
    - for each column of categories the patients with a level that 5 % or fewer have: of a column the three most
      frequent of these levels, if of enough patients, are strata of their own, all others are one together.

    In each stratum two things are compared between train and holdout patients: the scores of the distance and the
    density attack, and how many synthetic rows are conspicuously close to one of the patients, as in `copies.neighbor`
    (an area cannot see a few copies). Null: given the synthetic table, patients of train and holdout are exchangeable.
    Each of both families of tests is adjusted for all its strata by permuting who is in train, patient by patient
    (max-T); the p-value is twice the smaller one.

    The statistic is the AUC of the better attack in the worst stratum, the one with the smallest p, named by its
    column and never by the level. The lower bound holds for all strata and both attacks at once (from the law of the
    largest); the upper one is DeLong's for the stratum.

    >>> VulnerableMembership().name
    'membership.vulnerable'
    """

    name: ClassVar[str] = "membership.vulnerable"
    question: ClassVar[str] = "Can an attacker tell whether a patient who stands out was in the training data?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    neighbours: int = 5  # k of isolation and of the density attack
    max_patients: int = 30_000  # of the pool, fewer where the synthetic table is large; a random sample
    isolated: tuple[float, ...] = (0.01, 0.05)  # shares of the patients
    rare: float = 0.05  # share of the patients up to which a level is rare
    smallest: int = 10  # patients to be expected on each side of a stratum
    most_strata: int = 40  # the largest ones; more cost time and power
    alpha: float = 0.001  # level at which a note says how many copies would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Find the strata, score their patients and permute the labels.

        Raises:
            NotAssessable: fewer than 100 patients on a side, fewer synthetic rows than neighbours, or no stratum that
                is large enough; the message says how many holdout patients are needed.
        """
        need_enough(evidence, self.neighbours)
        exposed = exposed_patients(evidence, k=self.neighbours, most=self.max_patients)
        chosen, notes = self._chosen(evidence, exposed)
        ranks = _rank_test(exposed, chosen, seed.child("ranks"))
        copies = _copy_test(evidence, chosen, seed.child("copies"), self.alpha)
        smallest_p = np.minimum(ranks.p_each, copies.p_each.reshape(len(chosen), -1).min(axis=1))
        order = np.lexsort([-ranks.strongest, smallest_p])
        worst, rows = int(order[0]), len(neighbors(evidence).first)
        areas = {chosen[i].name: _area(exposed, chosen[i], ranks, i) for i in order[:_LISTED]}
        leaked = copies.leaked(worst * len(_CUTOFFS) + _DECIDING, rows, among=len(chosen))
        name = chosen[worst].name
        return Measurement(
            check=self.name,
            label="AUC of the better attack in the worst group of patients who stand out (0.5 is guessing)",
            statistic=areas[name],
            better="lower",
            answer=f"Of {len(chosen)} groups of patients who stand out, the one given away most is {name}: the better "
            f"attack tells its trained-on patients from others in {areas[name].value:.1%} of cases, where guessing "
            f"gives 50 %, and {leaked.value:.2%} of the synthetic rows are copies of them beyond chance.",
            control=_control(exposed, chosen[worst], ranks, worst, seed),
            details={
                "copied_in_worst_group": leaked,
                **{f"auc.{title}": area for title, area in areas.items()},
            },
            p_value=min(1.0, 2 * float(smallest_p[worst])),
            notes=(*notes, _seen_note(copies, worst, rows)),
            source="outliers are exposed: arXiv:2011.07018; max-T: Westfall & Young 1993; p-value: Phipson & Smyth "
            "2010, doi:10.2202/1544-6115.1585; AUC: DeLong 1988, doi:10.2307/2531595; density: arXiv:2302.12580",
        )

    def _chosen(self, evidence: Evidence, exposed: Exposure) -> tuple[list[Stratum], tuple[str, ...]]:
        """The strata that are large enough, of too many rare levels the most frequent, and what was left out."""
        share = float(exposed.is_train.mean())
        needed = self.smallest / min(share, 1 - share)
        found = strata(
            evidence, placed(evidence), exposed, shares=self.isolated, rare=self.rare, smallest=math.ceil(needed)
        )
        isolated, levels = (
            [one for one in part if one.patients.sum() >= needed]
            for part in (found[: len(self.isolated)], found[len(self.isolated) :])
        )
        if not isolated and not levels:
            raise NotAssessable(
                f"no group of patients who stand out can be expected to have {self.smallest} patients in train and in "
                f"holdout; with {math.ceil(self.smallest / max(self.isolated)):,} patients on each side one would"
            )
        levels.sort(key=lambda one: -one.patients.sum())  # stable: columns stay in the order of their names
        room = max(0, self.most_strata - len(isolated))
        small = [one for one in found if one.patients.sum() < needed]
        return isolated + levels[:room], self._left_out(small, len(levels[room:]), exposed.attacked)

    def _left_out(self, small: list[Stratum], too_many: int, who: np.ndarray) -> tuple[str, ...]:
        notes, attacked, patients = [], int(who.sum()), len(who)
        if attacked < patients:
            notes.append(f"a random {attacked:,} of the {patients:,} real patients were attacked")
        for one in small[:_LISTED]:
            enough = math.ceil(self.smallest * attacked / max(1, one.patients.sum()))
            notes.append(f"{one.name} are too few to be tested; about {enough:,} holdout patients would be needed")
        if len(small) > _LISTED:
            notes.append(f"{len(small) - _LISTED} more groups are too small to be tested")
        if too_many:
            notes.append(f"{too_many} groups with rare levels, the smallest, were left out; see `most_strata`")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class _RankTest:
    """What permuting the labels says of the attack scores in each stratum.

    Shape:
        z (strata, attacks): standardised excess of train ranks; p_each (strata,): adjusted for all strata and attacks
    """

    z: np.ndarray
    p_each: np.ndarray
    critical: float  # the largest z has this or more with chance 2.5 %

    @property
    def strongest(self) -> np.ndarray:
        """Shape: (strata,)."""
        most: np.ndarray = self.z.max(axis=1)
        return most


def _rank_test(exposed: Exposure, chosen: Sequence[Stratum], seed: Seed) -> _RankTest:
    """Wilcoxon's rank sum in every stratum by every attack, tested together by the largest (max-T).

    The ranks of a stratum are centred on their mean over both labels, so a stratum in which train happens to have more
    patients than its share is not taken for one that leaks.
    """
    ranks = _centred_ranks(exposed, chosen)
    order = np.lexsort([exposed.is_train, *ranks.T])  # the same to the last bit in any order of patients
    ranks, train = ranks[order], exposed.is_train[order]
    people, share = len(train), float(train.mean())
    sd = np.sqrt(share * (1 - share) * people / (people - 1) * (ranks**2).sum(axis=0))
    sd[sd == 0] = np.inf
    z = ranks[train].sum(axis=0) / sd
    largest = _largest_permuted(ranks / sd, int(train.sum()), float(z.max()), seed)
    p_each = np.array([permutation_p(float(one) - _SLACK, largest) for one in z]).reshape(len(chosen), -1)
    critical = float(np.quantile(largest, 0.975, method="higher"))
    return _RankTest(z.reshape(len(chosen), -1), p_each.min(axis=1), critical)


def _centred_ranks(exposed: Exposure, chosen: Sequence[Stratum]) -> np.ndarray:
    """Ranks within strata, 0 outside. Shape: -> (patients, strata * attacks)."""
    from scipy.stats import rankdata

    columns = []
    for stratum in chosen:
        members = np.flatnonzero(stratum.patients)
        for scores in exposed.scores.T:
            column = np.zeros(len(scores))
            column[members] = rankdata(scores[members]) / len(members)
            column[members] -= column[members].mean()
            columns.append(column)
    return np.stack(columns, axis=1)


def _largest_permuted(ranks: np.ndarray, train: int, observed: float, seed: Seed) -> np.ndarray:
    """The largest standardised excess under permuted labels. Shape: ranks (patients, tests) -> (permutations,).

    Patients of no stratum matter only by how many of the others get the label train.
    """
    rng, people = seed.numpy(), len(ranks)
    inside = ranks[np.any(ranks != 0, axis=1)].astype(np.float32)
    batch = max(1, min(_FEWEST, _BATCH_CELLS // max(1, len(inside))))
    drawn: list[np.ndarray] = []
    done = exceeded = 0
    while done < _FEWEST or (done < _MOST and exceeded < _ENOUGH):
        labelled = rng.hypergeometric(train, people - train, len(inside), size=batch)
        labels = (np.arange(len(inside)) < labelled[:, None]).astype(np.float32)
        drawn.append((rng.permuted(labels, axis=1) @ inside).max(axis=1).astype(float))
        exceeded += int((drawn[-1] >= observed - _SLACK).sum())
        done += batch
    return np.concatenate(drawn)


def _copy_test(evidence: Evidence, chosen: Sequence[Stratum], seed: Seed, alpha: float) -> LabelTest:
    """The label test of `copies.neighbor`, counted on the patients of each stratum, all tested together."""
    found = neighbors(evidence)
    rows = np.unique(found.nearest)
    counts, owners = landed(found, _CUTOFFS)[rows], found.patients[rows]
    columns = np.concatenate([counts * stratum.patients[owners][:, None] for stratum in chosen], axis=1)
    return label_test(columns, found.is_train, found.patients, seed=seed, alpha=alpha, rows=rows)


def _area(exposed: Exposure, stratum: Stratum, ranks: _RankTest, which: int) -> Estimate:
    """The AUC of the stratum's better attack; the lower bound holds for all strata and attacks together."""
    scores = exposed.scores[:, int(ranks.z[which].argmax())]
    members, others = (np.sort(scores[stratum.patients & side]) for side in (exposed.is_train, ~exposed.is_train))
    if min(len(members), len(others)) < 2:
        return Estimate(0.5, 0.0, 1.0, max(1, min(len(members), len(others))), "too few patients on a side")
    together = auc(members, others, confidence=2 * NormalDist().cdf(max(ranks.critical, 1.96)) - 1)
    area = auc(members, others)
    return replace(area, low=together.low, method=f"{area.method}, lower bound for the largest (permutation)")


def _control(exposed: Exposure, stratum: Stratum, ranks: _RankTest, which: int, seed: Seed) -> Estimate | None:
    """The same attack on two halves of the stratum's holdout patients, neither of which was trained on."""
    scores = exposed.scores[stratum.patients & ~exposed.is_train, int(ranks.z[which].argmax())]
    if len(scores) < 4:
        return None
    half = seed.child("control").numpy().permutation(len(scores)) % 2 == 0
    return auc(scores[half], scores[~half])


def _seen_note(copies: LabelTest, worst: int, rows: int) -> str:
    columns = slice(worst * len(_CUTOFFS), (worst + 1) * len(_CUTOFFS))
    one = replace(copies, total=copies.total[columns], sd=copies.sd[columns])
    fewest = one.smallest_seen(rows)
    if not math.isfinite(fewest):
        return "no number of copies of this group's patients would be seen with 90 % chance"
    return f"an exact copy of {fewest:.0f} different train patients of this group would be seen with 90 % chance"

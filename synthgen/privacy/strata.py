"""Which patients stand out so much that an attack on all patients would not show what happens to them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthgen.privacy.membership import highest, log_ratio
from synthgen.privacy.neighbors import Sets, attackable, nearest, placed, shared_columns
from synthgen.privacy.space import stacked
from synthgen.protocols import Evidence
from synthgen.rng import Seed

SCORES = ("distance", "density")
_LEVELS = 3  # strata of single levels of one column
_TIES = 1.5  # a stratum of the most isolated may be so much larger than asked for because of ties


@dataclass(frozen=True, eq=False)
class Exposure:
    """How exposed each patient of the pool is. Patients who are not attacked have -inf and zeros.

    Shape:
        all arrays (patients,) but scores (patients, 2): by distance and by density; train first
    """

    is_train: np.ndarray
    attacked: np.ndarray
    isolation: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Stratum:
    """Patients with something in common. The name holds no value of a patient.

    Shape:
        patients (patients of the pool,) bool
    """

    name: str
    patients: np.ndarray


def exposed_patients(evidence: Evidence, *, k: int, most: int) -> Exposure:
    """The exposure of the audit's patients, computed once for all checks with these settings."""
    seed = Seed(0).child("exposure")
    return evidence.once(f"exposure {k} {most}", lambda: exposure(placed(evidence), k=k, most=most, seed=seed))


def exposure(sets: Sets, *, k: int, most: int, seed: Seed) -> Exposure:
    """The isolation and the attack scores of each patient of the pool, blind to who is in train.

    Isolation is the distance to the k-th nearest row of other patients. The scores are those of `membership`, but the
    density attack's reference is the whole pool without the patient: so all figures are functions of the pool and of
    the synthetic table alone, and who is in train can be permuted. Of several rows of a patient the largest counts.

    Args:
        sets: the tables in one space.
        k: of the nearest rows.
        most: patients attacked, fewer where the synthetic table is large; of more a random sample stands in.
        seed: of the sample.
    """
    owners = sets.patients
    people = int(owners.max()) + 1
    attacked = np.arange(people) < people
    most = attackable(most, len(sets.synthetic))
    if people > most:
        attacked = np.zeros(people, dtype=bool)
        attacked[seed.child("sample").numpy().choice(people, most, replace=False)] = True
    rows = np.flatnonzero(attacked[owners])
    points, own = stacked(sets.train, sets.holdout).take(rows), owners[rows]
    around = nearest(points, points, k, apart=(own, own))[1][:, -1]
    synthetic = nearest(points, sets.synthetic, k)[1]
    isolation, distance, density = (
        highest(one, own, people) for one in (around, -synthetic[:, 0], log_ratio(around, synthetic[:, -1]))
    )
    is_train = np.arange(people) <= sets.train_patients.max()
    return Exposure(is_train, attacked, isolation, np.stack([distance, density], axis=1))


def strata(
    evidence: Evidence, sets: Sets, exposed: Exposure, *, shares: Sequence[float], rare: float, smallest: float
) -> list[Stratum]:
    """The most isolated patients, and those with rare levels of each column of categories.

    The most frequent rare levels of a column, if of enough patients, are strata of their own, at most three; the other
    rare levels of the column are one stratum together, which may be too small. Who is in train is not looked at.

    Args:
        evidence: the tables.
        sets: the same, in the space of the audit.
        exposed: their patients.
        shares: of the patients who are the most isolated, one stratum each.
        rare: a level is rare if this share of the patients, or fewer, has it.
        smallest: patients that are enough.
    """
    found = [
        Stratum(f"the {100 * share:.3g} % most isolated patients", _most_isolated(exposed, share)) for share in shares
    ]
    codes = np.concatenate([sets.train.codes, sets.holdout.codes])
    owners = sets.patients
    for name, column in zip(_category_names(evidence), codes.T, strict=True):
        found += _of_rare_levels(name, column, owners, exposed, rare, smallest)
    return found


def _of_rare_levels(
    name: str, codes: np.ndarray, owners: np.ndarray, exposed: Exposure, rare: float, smallest: float
) -> list[Stratum]:
    people = len(exposed.attacked)
    holders = np.stack(np.divmod(np.unique(codes.astype(np.int64) * people + owners), people))
    holders = holders[:, exposed.attacked[holders[1]]]
    counts = np.bincount(holders[0])
    listed = np.flatnonzero((counts > 0) & (counts <= rare * exposed.attacked.sum()))
    large = [int(code) for code in listed if counts[code] >= smallest][:_LEVELS]  # codes go by frequency
    groups = [(f"patients with a rare level of column {name!r}", [code]) for code in large]
    if len(large) > 1:
        groups = [(f"{title} ({i} of {len(large)})", code) for i, (title, code) in enumerate(groups, start=1)]
    if len(large) < len(listed):
        title = f"patients with one of the rarest levels of column {name!r}"
        groups.append((title, [int(code) for code in listed if code not in large]))
    return [Stratum(title, _having(holders, group, people)) for title, group in groups]


def _having(holders: np.ndarray, codes: Sequence[int], patients: int) -> np.ndarray:
    chosen = np.zeros(patients, dtype=bool)
    chosen[holders[1][np.isin(holders[0], codes)]] = True
    return chosen


def _most_isolated(exposed: Exposure, share: float) -> np.ndarray:
    """Patients whose isolation is among the largest; fewer where ties would add too many."""
    known = np.sort(exposed.isolation[exposed.attacked])[::-1]
    wanted = max(1, round(share * len(known)))
    limit = known[wanted - 1]
    chosen = exposed.attacked & (exposed.isolation >= limit)
    return chosen if chosen.sum() <= _TIES * wanted else exposed.attacked & (exposed.isolation > limit)


def _category_names(evidence: Evidence) -> list[str]:
    """The columns of the space's codes, in their order."""
    return [name for name in shared_columns(evidence) if name not in evidence.train.schema.ordered]

"""Does the synthetic table tell how to single a patient out, by a description that fits nobody else?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Measurement
from synthgen.privacy.disclosure import ATTACKS, Attack, Sides, Words, measurement, sides
from synthgen.privacy.predicates import FEWEST, Predicates, codebook, coded, fitting, guessed
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import permutation_p

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_CROWD = 20  # a predicate that fits more patients singles nobody out on either side, whoever was trained on
_MANY, _FEW, _BATCH = 20_000, 2_000, 500  # permutations: for a small p-value, for a standard deviation, at a time
_ENOUGH = 20  # permutations at least as extreme, from which on a p-value is known well enough


@dataclass(frozen=True)
class SinglingOut:
    """Makes descriptions from the synthetic table and counts how many fit exactly one patient.

    Threat: the attacker has the synthetic table alone and wants a predicate ("age 30 to 34, ward W3, no glucose
    measured") that isolates one person, with which to ask further questions of other files. Up to a quarter of the
    predicates are about one column, a value or an extreme that the synthetic column has once; the others about several
    columns of one synthetic record: categories by equality, numbers by an interval that holds a twentieth of the
    synthetic values and is open at the ends, missing as missing. Predicates that fit fewest synthetic records are tried
    first.

    The statistic is the share of predicates that fit exactly one of the train patients minus the share that fit
    exactly one of equally many holdout patients; a patient fits if one of its rows does. Sides of unequal size would
    not do: a predicate isolates more easily in a smaller crowd, which hides leaks where the holdout is larger. Where
    train is larger, predicates aim at patients who are not among the attacked ones: the excess is scaled up to all.

    The null is that train and holdout patients are exchangeable given the predicates; the p-value permutes who is on
    which side, and counts anew. The interval is Newcombe's, for as many independent attacks as these permutations vary
    by, scaled alike. The naive guess makes its predicates in the same way from records invented out of the code book:
    any level, any number between the smallest and the largest. Source: Giomi et al. 2022, arXiv:2211.10459.

    >>> SinglingOut().name
    'disclosure.singling_out'
    """

    name: ClassVar[str] = "disclosure.singling_out"
    question: ClassVar[str] = "Can patients be singled out by descriptions made from the synthetic table?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    attacks: int = 5_000  # different predicates
    max_patients: int = 200_000  # on each side

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Make predicates and try them on train and control patients.

        Raises:
            NotAssessable: fewer than 100 different predicates, fewer than two columns that tell patients apart, 100
                patients on a side or 20 synthetic rows.
        """
        drawn = sides(evidence, most=self.max_patients, seed=seed)
        real, synthetic, ordered = coded(drawn, evidence.schema)
        invented = codebook(drawn, evidence.schema, len(synthetic), seed.child("invented"))
        guesses = guessed(synthetic, ordered, self.attacks, crowd=drawn.count, seed=seed.child("predicates"))
        naive = guessed(invented, ordered, min(self.attacks, ATTACKS), crowd=drawn.count, seed=seed.child("naive"))
        if len(guesses) < FEWEST:
            raise NotAssessable(
                f"{len(guesses)} different predicates can be made from the synthetic table, and {FEWEST} are needed: "
                "more columns, or columns with more values"
            )
        train = np.arange(2 * drawn.count) < drawn.count
        by_chance = _share(_fits(naive, real, drawn), train) if len(naive) else 0.0
        reach = drawn.count / evidence.train.patient_count
        fits, several = _fits(guesses, real, drawn), guesses.several
        attack, p_value = _attack(
            fits, train, ~train, seed.child("all"), naive=by_chance, reach=reach, permutations=_MANY
        )
        parts = {"several_columns": np.flatnonzero(several), "one_column": np.flatnonzero(~several)}
        words = Words(
            "share of predicates that single out one patient, train minus control",
            "singles somebody out",
            notes=(*drawn.notes, *self._notes(len(guesses), reach)),
            details={
                part: _attack(fits[at], train, ~train, seed.child(part), reach=reach, permutations=_FEW)[0].excess
                for part, at in parts.items()
                if len(at)
            },
        )
        control, _ = _attack(fits, *_halves(drawn.count), seed.child("control"), permutations=_FEW)
        return measurement(self.name, attack, words, p_value=p_value, control=control.excess)

    def _notes(self, found: int, reach: float) -> tuple[str, ...]:
        fewer = f"{found:,} different predicates were found, of the {self.attacks:,} wanted"
        scaled = f"{reach:.0%} of the train patients were attacked; the excess is scaled up to all of them"
        return tuple(note for note, true in ((fewer, found < self.attacks), (scaled, reach < 1)) if true)


def _fits(predicates: Predicates, real: np.ndarray, drawn: Sides) -> csr_array:
    """Which patients each predicate fits. Shape: -> (predicates, 2 * patients) of 0 and 1."""
    from scipy.sparse import csr_array

    people = 2 * drawn.count
    most = _CROWD * int(np.bincount(drawn.patients).max())
    parts = fitting(predicates, real, most=most)
    found = [np.unique(which * people + drawn.patients[rows]) for which, rows in parts]
    which, patients = np.divmod(np.concatenate(found), people)
    few = (np.bincount(which, minlength=len(predicates)) <= _CROWD)[which]
    which, patients = which[few], patients[few]
    return csr_array((np.ones(len(which), dtype=np.float32), (which, patients)), shape=(len(predicates), people))


def _share(fits: csr_array, side: np.ndarray) -> float:
    return float((fits @ side.astype(np.float32) == 1).mean())


def _halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of the control, of equal size."""
    at, half = np.arange(2 * count) - count, count // 2
    return (at >= 0) & (at < half), (at >= half) & (at < 2 * half)


def _attack(
    fits: csr_array,
    one: np.ndarray,
    other: np.ndarray,
    seed: Seed,
    *,
    naive: float = 0.0,
    reach: float = 1.0,
    permutations: int,
) -> tuple[Attack, float]:
    """Success on two sides of equal size, how it varies when patients change sides, and its p-value."""
    there = np.flatnonzero(one | other)
    fits = fits[:, there]
    train, control = _share(fits, one[there]), _share(fits, other[there])
    observed = round((train - control) * fits.shape[0])
    null = _permuted(fits[np.flatnonzero(fits.sum(axis=1))], len(there), permutations, observed, seed)
    sd = float(null.std()) / fits.shape[0]
    return Attack(train, control, naive, sd, fits.shape[0], len(there) // 2, reach), permutation_p(observed, null)


def _permuted(fits: csr_array, people: int, permutations: int, observed: float, seed: Seed) -> np.ndarray:
    """Patients singled out on one side minus those on the other, with sides drawn by lot. Shape: -> (permutations,).

    Lots are drawn by the patients whom some predicate fits, however large the crowd around them. The most permutations
    are made only where fewer leave the p-value in doubt (Besag and Clifford 1991,
    doi:10.1093/biomet/78.2.301).
    """
    rng, total = seed.numpy(), np.asarray(fits.sum(axis=1)).ravel()[:, None]
    fits = fits[:, np.flatnonzero(fits.sum(axis=0))]
    among = np.arange(fits.shape[1])[:, None]
    drawn = np.empty(0)
    while len(drawn) < permutations and (len(drawn) < _FEW or (drawn >= observed).sum() < _ENOUGH):
        chosen = rng.hypergeometric(people // 2, people - people // 2, len(among), size=_BATCH)
        counts = fits @ rng.permuted((among < chosen).astype(np.float32), axis=0)
        drawn = np.concatenate([drawn, (counts == 1).sum(axis=0) - (total - counts == 1).sum(axis=0)])
    return drawn

"""Does the synthetic table tell which two halves of records, held in two files, belong to one patient?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.findings import Measurement
from synthgen.privacy.disclosure import ATTACKS, Sides, Words, by_patient, control_excess, excess_p, measurement, sides
from synthgen.privacy.neighbors import nearest
from synthgen.protocols import Evidence
from synthgen.rng import Seed


@dataclass(frozen=True)
class Linkability:
    """Links the two halves of a patient's record through the synthetic record that both halves are closest to.

    Threat: somebody holds two files about the same patients without a common key, say a register with age and sex and
    a research file with laboratory values, and the synthetic table. The halves are the quasi-identifiers and all other
    columns where the schema declares some, and otherwise random halves of the columns, drawn anew several times; a
    patient's score is the share of the draws in which the nearest synthetic records of both halves intersect.

    The statistic is the share of linked train patients minus that of equally many holdout patients. The null is that
    train and holdout patients are exchangeable given the synthetic table; the p-value permutes them. The interval is
    Newcombe's, for as many independent attacks as the scores of the patients are worth. The naive guess picks the
    neighbours of each half at random. Source: Giomi et al. 2022, arXiv:2211.10459.

    >>> Linkability().name
    'disclosure.linkability'
    """

    name: ClassVar[str] = "disclosure.linkability"
    question: ClassVar[str] = "Does the synthetic table link two halves of a patient's record better than it should?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    neighbours: int = 1  # k: synthetic records that are considered for each half
    max_patients: int = ATTACKS  # attacked on each side
    repeats: int = 5  # random halves, where no quasi-identifier is declared

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Link train and control patients alike.

        Raises:
            NotAssessable: fewer than two columns that tell patients apart, 100 patients on a side or 20 synthetic rows.
        """
        drawn = sides(evidence, most=self.max_patients, seed=seed)
        declared = set(evidence.schema.with_role("quasi_identifier"))
        halves = _halves(drawn.names, declared, self.repeats, seed.child("halves"))
        scores = np.mean([_linked(drawn, first, self.neighbours) for first in halves], axis=0)
        attacks = drawn.count * len(halves)
        attack = by_patient(scores, _by_chance(len(drawn.synthetic), self.neighbours), attacks=attacks)
        how = "quasi-identifiers and the rest" if len(halves) == 1 else f"{len(halves)} random halves of the columns"
        words = Words(
            "share of patients whose record's halves are linked, train minus control",
            "links the two halves of a record",
            notes=(*drawn.notes, f"halves: {how}"),
        )
        p_value = excess_p(scores[:, None], seed=seed)
        return measurement(self.name, attack, words, p_value=p_value, control=control_excess(scores, attacks=attacks))


def _halves(names: tuple[str, ...], declared: set[str], repeats: int, seed: Seed) -> list[set[str]]:
    """Of each split one half; with two or three columns random splits repeat, which costs time but misleads nobody."""
    known = declared & set(names)
    if known and known != set(names):
        return [known]
    rng = seed.numpy()
    return [set(rng.permutation(list(names))[: len(names) // 2]) for _ in range(repeats)]


def _linked(drawn: Sides, first: set[str], neighbours: int) -> np.ndarray:
    """Whether the nearest synthetic records of both halves intersect. Shape: -> (2 * patients,) float."""
    one, other = (nearest(*drawn.seen(half), neighbours)[0] for half in (first, set(drawn.names) - first))
    found: np.ndarray = (one[:, :, None] == other[:, None, :]).any(axis=(1, 2)).astype(float)
    return found


def _by_chance(rows: int, neighbours: int) -> float:
    """The chance that two random choices of k among the synthetic rows intersect.

    >>> _by_chance(100, 1)
    0.01
    """
    apart = np.prod([1 - neighbours / (rows - i) for i in range(neighbours)])
    return round(float(1 - apart), 12)

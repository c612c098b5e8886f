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
    columns, where the schema declares some, and otherwise random halves of the columns, drawn anew several times; a
    patient's score is the share of the draws in which the nearest synthetic records of both halves intersect. Two or
    three coarse quasi-identifiers link nobody, not even in a file of copies, because many synthetic records are equally
    near; so random halves are tried in any case, stand in the details, and count for the p-value.

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
        splits = self._splits(drawn, set(evidence.schema.with_role("quasi_identifier")), seed.child("halves"))
        by_chance = _by_chance(len(drawn.synthetic), self.neighbours)
        scores, found = [], {}
        for kind, halves in splits.items():
            scores.append(np.mean([_linked(drawn, half, self.neighbours) for half in halves], axis=0))
            found[kind] = by_patient(scores[-1], by_chance, attacks=drawn.count * len(halves))
        deciding, *others = splits
        words = Words(
            "share of patients whose record's halves are linked, train minus control",
            "links the two halves of a record",
            notes=(*drawn.notes, f"the two halves: {deciding.replace('_', ' ')}"),
            details={kind: found[kind].excess for kind in others},
        )
        p_value = excess_p(np.column_stack(scores), seed=seed)
        control = control_excess(scores[0], attacks=found[deciding].attacks)
        return measurement(self.name, found[deciding], words, p_value=p_value, control=control)

    def _splits(self, drawn: Sides, declared: set[str], seed: Seed) -> dict[str, list[set[str]]]:
        """Of each split one half; the first kind decides."""
        rng, names = seed.numpy(), list(drawn.names)
        known = declared & set(names)
        quasi = {"quasi_identifiers_and_the_rest": [known]} if known and known != set(names) else {}
        return {**quasi, "random_halves": [set(rng.permutation(names)[: len(names) // 2]) for _ in range(self.repeats)]}


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

"""Does the synthetic table reveal what somebody did not know yet about a patient?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.disclosure import ATTACKS, Sides, Words, by_patient, control_excess, excess_p, measurement, sides
from synthgen.privacy.neighbors import nearest
from synthgen.privacy.space import as_floats
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import difference

_ROUNDING = 1e-7  # relative: single precision, and tolerances that are not binary fractions


@dataclass(frozen=True)
class Inference:
    """Guesses what an attacker does not know of a patient from the synthetic record that is closest in the rest.

    Threat: a relative, colleague or insurer knows all but one column of a patient and looks the last one up. Secrets
    are the columns with the role `sensitive`; where none is declared, each learned column in turn. The guess is right
    if a category is the same, or if a number is off by at most a share of the span from the 5 % to the 95 % quantile of
    train and holdout together, which neither outliers nor signs change, or by the tolerance declared for its column.
    Patients whose secret is missing are not attacked for it.

    The average over the secrets is the statistic; the worst secret is named, and bounded for their number. On the 642
    holdout patients of ACTG175 the bound of the worst of two secrets exceeded .09 in 2 of 20 audits of real draws, of
    the worst of ten in 12 of 20, that of the average in none: a limit on the worst would refuse clean tables.

    The statistic is the share of right guesses on train patients minus that on equally many holdout patients. The null
    is that these are exchangeable given the synthetic table; the p-value permutes them, for the average and all secrets
    together (max-T). The interval is Newcombe's, for as many independent attacks as the patients' shares are worth. The
    naive guess is the value of a random real patient. Source: Giomi et al. 2022, arXiv:2211.10459.

    >>> Inference(tolerance=0.1).name
    'disclosure.inference'
    """

    name: ClassVar[str] = "disclosure.inference"
    question: ClassVar[str] = "Does the synthetic table reveal more about train patients than about others?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    max_patients: int = ATTACKS  # attacked on each side
    max_secrets: int = 10  # of more undeclared secrets a random choice is attacked
    tolerance: float = 0.05  # of a number, as a share of its span
    absolute: Mapping[str, float] = field(default_factory=dict)  # in the column's unit (dates: ns), instead

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Guess each secret of train and control patients alike.

        Raises:
            NotAssessable: no declared secret that varies, fewer than two columns that tell patients apart, 100 patients
                on a side or 20 synthetic rows.
        """
        drawn = sides(evidence, most=self.max_patients, seed=seed)
        secrets, notes = self._secrets(drawn, evidence, seed)
        right = {name: self._guesses(drawn, name, seed) for name in secrets}
        guesses, naive = (np.stack([pair[i] for pair in right.values()], axis=1) for i in (0, 1))
        scores, attacks = _mean(guesses), drawn.count * len(secrets)
        attack = by_patient(scores, float(_mean(naive)[: drawn.count].mean()), attacks=attacks)
        worst, bound = _worst(guesses, secrets)
        words = Words(
            "share of secrets guessed right, train minus control",
            "gives a secret away",
            notes=(*drawn.notes, *notes, f"of {len(secrets)} secrets the most exposed is {worst!r} (worst_secret)"),
            details={"worst_secret": bound},
        )
        filled = np.where(np.isnan(guesses), np.nanmean(guesses, axis=0), guesses)
        p_value = excess_p(np.column_stack([scores, filled]), seed=seed)
        return measurement(self.name, attack, words, p_value=p_value, control=control_excess(scores, attacks=attacks))

    def _secrets(self, drawn: Sides, evidence: Evidence, seed: Seed) -> tuple[list[str], tuple[str, ...]]:
        declared = evidence.schema.with_role("sensitive")
        names = [n for n in drawn.names if n in declared or not declared]
        attacked = drawn.real.iloc[drawn.attacked]
        train, control = attacked.iloc[: drawn.count], attacked.iloc[drawn.count :]
        names = [n for n in names if train[n].notna().any() and control[n].notna().any()]
        if not names:
            raise NotAssessable("no declared secret has more than one value, or is known of patients on both sides")
        if declared or len(names) <= self.max_secrets:
            return names, ()
        chosen = sorted(seed.child("secrets").numpy().choice(names, self.max_secrets, replace=False).tolist())
        return chosen, (f"no column is declared sensitive: a random {len(chosen)} of {len(names)} were attacked",)

    def _guesses(self, drawn: Sides, secret: str, seed: Seed) -> tuple[np.ndarray, np.ndarray]:
        """Which guesses are right, and which naive ones; NaN where there is no secret. Shape: (2 * patients,) each."""
        truth = drawn.real[secret].iloc[drawn.attacked]
        queries, synthetic = drawn.seen([name for name in drawn.names if name != secret])
        told = np.flatnonzero(drawn.synthetic[secret].notna())
        known = drawn.pool[secret].dropna().sort_values()
        drawn_at = seed.child("naive", secret).numpy().integers(len(known), size=len(truth))
        naive = self._right(drawn, secret, truth, known.iloc[drawn_at])
        if not len(told):
            return np.where(truth.isna(), np.nan, 0.0), naive
        at = nearest(queries, synthetic.take(told), 1)[0][:, 0]
        return self._right(drawn, secret, truth, drawn.synthetic[secret].iloc[told[at]]), naive

    def _right(self, drawn: Sides, secret: str, truth: pd.Series, guess: pd.Series) -> np.ndarray:
        missing = truth.isna().to_numpy()
        if secret not in drawn.space.numbers:
            return np.where(missing, np.nan, truth.to_numpy() == guess.to_numpy())
        low, high = np.nanquantile(as_floats(drawn.pool[secret]), [0.05, 0.95])
        tolerance = self.absolute.get(secret, self.tolerance * (high - low))
        true, guessed = as_floats(truth), as_floats(guess)
        return np.where(missing, np.nan, np.abs(true - guessed) <= tolerance + _ROUNDING * np.abs(true))


def _mean(guesses: np.ndarray) -> np.ndarray:
    """Of each patient the share of right guesses; 0 without secrets. Shape: (patients, secrets) -> (patients,)."""
    asked = ~np.isnan(guesses)
    shares: np.ndarray = np.where(asked, guesses, 0.0).sum(axis=1) / np.maximum(1, asked.sum(axis=1))
    return shares


def _worst(guesses: np.ndarray, secrets: list[str]) -> tuple[str, Estimate]:
    """The secret with the largest excess, at a level that holds for all of them together (Bonferroni)."""
    found = {}
    for name, column in zip(secrets, guesses.T, strict=True):
        train, control = (side[~np.isnan(side)] for side in np.split(column, 2))
        sides_of = (float(train.sum()), len(train), float(control.sum()), len(control))
        found[name] = difference(*sides_of, confidence=1 - 0.05 / len(secrets))
    worst = max(found, key=lambda name: found[name].value)
    return worst, found[worst]

"""Does the synthetic table give away what one train patient alone has: a rare code, an extreme, a combination?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.privacy.coincidence import extremes_p, levels_p
from synthgen.privacy.copies import half_of_holdout, mirror_note
from synthgen.privacy.labels import LabelTest, label_test
from synthgen.privacy.rare_cells import Pool, cells_of, combined, counts
from synthgen.protocols import Evidence
from synthgen.rng import Seed

_LABELS, _COINCIDENCES = 1 / 5, 2 / 5  # how the level is spent: the label test is the one that can spare it


@dataclass(frozen=True)
class RareValues:
    """Cells that exactly one patient of the pool has and that the synthetic table has too: of train, against holdout.

    Threat: somebody who knows that a patient has a rare diagnosis, an extreme value or an unusual combination looks
    for it in the synthetic table, and finds the patient there, or learns that the patient was in the training data. A
    cell is one to three columns and what a row has there, at the precision of the schema. Counted for each patient:

    - levels of categories and codes that this patient alone has, and that a synthetic row has;
    - extremes: numbers and dates beyond the outermost half percent of the pooled values, to the digit;
    - rare levels that two to five patients share;
    - combinations of two and three columns (of many columns, 150 pairs and 150 triples) that chance would not repeat:
      less than a hundredth of a synthetic row would have one if the synthetic columns were independent.

    Nulls: (1) train and holdout patients are exchangeable given the synthetic table: all counts are tested together by
    permuting who is in train, for any ratio of sizes. With two thirds of the pool in train this needs a dozen cells of
    different patients. So two more tests ask whether single cells are hit more often than new patients would hit them:
    (2) extremes, against how often train and holdout numbers of the same tail are equal; (3) undeclared levels,
    against the pairs of people on whom levels of two people fall. These see five extremes, or five levels of columns
    without other rare ones; they take a generator for leaking that reproduces rare values as single patients have them,
    which it cannot do without a patient. The p-value is the smallest of the three, the first five-fold, the others two
    and a half times.

    The statistic is the number of levels and extremes of single train patients that reappear beyond chance, as a share
    of the synthetic rows, with the interval of the label permutation. No level and no number leaves the check.

    >>> RareValues().name
    'disclosure.rare'
    """

    name: ClassVar[str] = "disclosure.rare"
    question: ClassVar[str] = "Does the synthetic table repeat what one train patient alone has?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    alpha: float = 0.001  # level at which `power` says what would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Count cells, permute the labels, and compare single hits with chance.

        Raises:
            NotAssessable: no columns in common, no synthetic rows, or fewer than 20 patients on a side.
        """
        rows = len(evidence.synthetic)
        if not rows:
            raise NotAssessable("the synthetic table has no rows")
        test, names, single = _tested(evidence, seed, self.alpha * _LABELS)
        shares = {name: test.leaked(i, rows) for i, name in enumerate(names)}
        statistic = shares.pop(names[0])
        fewest = replace(test, total=test.total[:1], sd=test.sd[:1]).smallest_seen(rows)
        p_value = min(1.0, test.p_more / _LABELS, *(p / _COINCIDENCES for p in single.values()))
        return Measurement(
            check=self.name,
            label="rare levels and extremes of single train patients that reappear beyond chance, per synthetic row",
            statistic=statistic,
            better="lower",
            answer=_answer(test, rows),
            control=_control(evidence, seed),
            details={
                **shares,
                **{f"p, {n}": exactly(float(test.p_each[i]), n=test.permutations) for i, n in enumerate(names)},
                **{f"p, {name}": exactly(p, n=rows) for name, p in single.items()},
                "mirror_p": exactly(test.p_fewer, n=test.permutations),
            },
            p_value=p_value,
            power=exactly(fewest / rows, n=rows) if np.isfinite(fewest) else None,
            notes=mirror_note(test),
            source="label permutation over cells that one patient has; max-T: Westfall & Young 1993; p-value: Phipson "
            "& Smyth 2010, doi:10.2202/1544-6115.1585; outliers survive post-hoc filters: arXiv:2312.05114",
        )


def _tested(evidence: Evidence, seed: Seed, alpha: float) -> tuple[LabelTest, list[str], dict[str, float]]:
    """The label test of all kinds of cells, their names, and the p-values of single hits."""
    columns, pool = cells_of(evidence)
    roles = [name for role in ("quasi_identifier", "sensitive") for name in evidence.schema.with_role(role)]  # type: ignore[arg-type]
    found = {**counts(columns, pool), "combinations": combined(columns, pool, roles)}
    test = _label_test(list(found.values()), pool, seed, alpha)
    single = {"extremes hit to the digit": extremes_p(columns, pool), "levels of two people": levels_p(columns, pool)}
    return test, list(found), single


def _label_test(by_patient: Sequence[np.ndarray], pool: Pool, seed: Seed, alpha: float) -> LabelTest:
    by_row = np.stack([_on_first_row(one, pool) for one in by_patient], axis=1)
    return label_test(by_row, pool.is_train, pool.patients, seed=seed, alpha=alpha)


def _on_first_row(by_patient: np.ndarray, pool: Pool) -> np.ndarray:
    people, first = np.unique(pool.patients, return_index=True)
    rows = np.zeros(pool.rows)
    rows[first] = by_patient[people]
    return rows


def _answer(test: LabelTest, rows: int) -> str:
    if not test.total[0]:
        return "No level or extreme that one real patient alone has is in the synthetic table."
    share = test.train[0] / test.total[0]
    return (
        f"Of the levels and extremes that one real patient alone has and the synthetic table has too, {share:.0%} are "
        f"of patients who were trained on, where {test.train_share:.1%} is chance: beyond chance, "
        f"{test.leaked(0, rows).value:.2%} of a cell per synthetic row."
    )


def _control(evidence: Evidence, seed: Seed) -> Estimate | None:
    """The same figure for half of the holdout patients in place of the synthetic rows, against all other real rows."""
    half = half_of_holdout(evidence, seed)
    if half is None:
        return None
    holdout = evidence.holdout
    other = replace(evidence, holdout=holdout.take(~half), synthetic=holdout.take(half), shared={})
    columns, pool = cells_of(other)
    together = counts(columns, pool)["levels and extremes"]
    return _label_test([together], pool, seed.child("control"), 0.001).leaked(0, len(other.synthetic))

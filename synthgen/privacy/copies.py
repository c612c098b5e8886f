"""Does the synthetic table copy train patients? Equal rows, and rows suspiciously close to one patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.privacy.labels import LabelTest, label_test, patients_needed
from synthgen.privacy.neighbors import Neighbors, Pool, neighbors, placed, pooled_patients, shared_columns
from synthgen.privacy.precision import at_precision
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import Column

CUTOFFS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
DECIDING = CUTOFFS.index(0.5)
_CONTROL_PATIENTS = 50  # in each half of the holdout, or there is no control
_CONTROL_MOST = 5_000  # in the half that is searched


@dataclass(frozen=True)
class NeighborCopies:
    """The pooled neighbour label test: do synthetic rows lie close to train patients more often than to holdout ones?

    Threat: somebody who knows a patient's record, in part or with errors, looks for a synthetic row that could only
    come from it. Train and holdout are pooled and each synthetic row is given to its nearest pooled row. For each of
    seven cut-offs of the ratio of its distances to the nearest and to the second nearest patient, rows below the
    cut-off are counted by where they landed; `label_test` asks whether train rows got more than their share. A copy,
    exact or noisy, is much closer to its source than to anybody else, so it counts at small cut-offs, where chance
    neighbours are few. The null needs no assumption on the tables, so a file of copies, a holdout of any size, ties and
    outliers are all judged right.

    The statistic is the share of synthetic rows that copy a train patient at the cut-off 0.5, chosen beforehand; the
    p-value is that of the largest standardised excess over all cut-offs. `mirror_p` is the same for too few train
    neighbours: a holdout that was trained on, or a filter that dropped rows close to train, which leaves a hole.

    >>> NeighborCopies().question
    'Does the synthetic table copy train patients, exactly or nearly?'
    """

    name: ClassVar[str] = "copies.neighbor"
    question: ClassVar[str] = "Does the synthetic table copy train patients, exactly or nearly?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    alpha: float = 0.001  # level at which `power` says what would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Search the pooled neighbours (shared with other checks) and permute the labels.

        Raises:
            NotAssessable: no columns in common, fewer than 20 patients on a side, or a holdout so small that even
                copies of all rows would not be seen; the message says how many patients are needed.
        """
        found = neighbors(evidence)
        rows, everything = len(found.first), len(evidence.synthetic)
        test = tested([found], seed, self.alpha)
        fewest = fewest_seen(test, evidence, rows)
        shares = [test.leaked(which, rows) for which in range(len(CUTOFFS))]
        notes = [f"an exact copy of {fewest:.0f} different train patients would be seen with 90 % chance"]
        notes += [f"a random {rows:,} of the {everything:,} synthetic rows were searched"] if rows < everything else []
        notes += mirror_note(test)
        return Measurement(
            check=self.name,
            label="share of synthetic rows that copy a train patient",
            statistic=shares[DECIDING],
            better="lower",
            answer=_neighbor_answer(test, shares[DECIDING]),
            control=_neighbor_control(evidence, seed),
            details={
                **{f"t={cutoff:g}": shares[i] for i, cutoff in enumerate(CUTOFFS) if i != DECIDING},
                "mirror_p": exactly(test.p_fewer, n=test.permutations),
            },
            p_value=test.p_more,
            power=exactly(fewest / rows, n=rows),
            notes=tuple(notes),
            source="label permutation over pooled neighbours; max-T: Westfall & Young 1993; "
            "p-value: Phipson & Smyth 2010, doi:10.2202/1544-6115.1585; "
            "why no plain distance comparison: arXiv:2505.01524, arXiv:2312.05114",
        )


@dataclass(frozen=True)
class ExactCopies:
    """Synthetic rows equal to a train row, against those equal to a holdout row, on learned columns.

    Threat: an insider finds a colleague's record in the table, to the last digit. Rows are compared at the precision
    of the schema (reals also at single precision, so that a change of storage type hides nothing). On a coarse table
    a clean generator produces many equal rows; equal holdout rows say how many to expect.

    The statistic looks at the records that only one patient of the pool has, because equality with a record that many
    share says little about any of them, and chance makes few of those. The p-value is of three counts tested together
    by permuting who is in train: unique records, the same with each record counted once, and all equal rows.

    >>> ExactCopies().name
    'copies.exact'
    """

    name: ClassVar[str] = "copies.exact"
    question: ClassVar[str] = "Are synthetic rows equal to train rows more often than to rows nobody trained on?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    alpha: float = 0.001  # level at which `power` says what would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare rows and permute the labels.

        Raises:
            NotAssessable: no columns in common, no synthetic rows, or fewer than 20 patients on a side.
        """
        train, holdout, synthetic = _records(evidence)
        rows = len(synthetic)
        if not rows:
            raise NotAssessable("the synthetic table has no rows")
        owners = np.concatenate(pooled_patients(evidence.train, evidence.holdout))
        pool, is_train = np.concatenate([train, holdout]), np.arange(len(train) + len(holdout)) < len(train)
        test = label_test(_equal_rows(synthetic, pool, owners), is_train, owners, seed=seed, alpha=self.alpha)
        unique, everything = test.leaked(0, rows), test.leaked(2, rows)
        fewest = test.smallest_seen(rows)
        to_train, to_holdout = (float(np.isin(synthetic, side).mean()) for side in (train, holdout))
        return Measurement(
            check=self.name,
            label="share of synthetic rows equal to one train patient's record, beyond chance",
            statistic=unique,
            better="lower",
            answer=f"{to_train:.2%} of the synthetic rows equal a train row and {to_holdout:.2%} a holdout row; "
            f"beyond chance, {unique.value:.2%} equal a record that one train patient alone has.",
            control=_exact_control(evidence, seed),
            details={
                "all equal rows, beyond chance": everything,
                "equal to a train row": exactly(to_train, n=rows),
                "equal to a holdout row": exactly(to_holdout, n=rows),
                "mirror_p": exactly(test.p_fewer, n=test.permutations),
            },
            p_value=test.p_more,
            power=exactly(fewest / rows, n=rows) if np.isfinite(fewest) else None,
            notes=mirror_note(test),
            source="label permutation over equal rows; p-value: Phipson & Smyth 2010, doi:10.2202/1544-6115.1585",
        )


def tested(found: Sequence[Neighbors], seed: Seed, alpha: float) -> LabelTest:
    """All spaces and cut-offs together; first, at each cut-off, the space in which a row is most conspicuous."""
    joint = found[0] if len(found) == 1 else sharpest(found)
    columns = [landed(joint), *(landed(one) for one in found if len(found) > 1)]
    counts = np.concatenate(columns, axis=1)
    return label_test(counts, joint.is_train, joint.patients, seed=seed, alpha=alpha)


def landed(found: Neighbors, cutoffs: Sequence[float] = CUTOFFS) -> np.ndarray:
    """How many queries landed on each pool row, at each cut-off. Shape: -> (pool, cut-offs)."""
    ratio, pool = found.ratio, len(found.is_train)
    return np.stack([np.bincount(found.nearest[ratio <= t], minlength=pool) for t in cutoffs], axis=1).astype(float)


def sharpest(found: Sequence[Neighbors]) -> Neighbors:
    """For each query the search in which the ratio of its distances is smallest."""
    best = np.argmin(np.stack([one.ratio for one in found]), axis=0)
    rows = np.arange(len(best))
    nearest, first, second = (
        np.stack([getattr(one, name) for one in found])[best, rows] for name in ("nearest", "first", "second")
    )
    return Neighbors(nearest, first, second, found[0].is_train, found[0].patients)


def fewest_seen(test: LabelTest, evidence: Evidence, rows: int) -> float:
    """How many exact copies would have been seen.

    Raises:
        NotAssessable: not even copies of all rows would; the message says how many patients are needed.
    """
    fewest = test.smallest_seen(rows)
    if not np.isfinite(fewest):
        needed = patients_needed(evidence.train.patient_count, rows, alpha=test.alpha)
        have = evidence.holdout.patient_count
        raise NotAssessable(
            f"even copies of all {rows:,} synthetic rows would not be seen: the holdout has {have:,} patients, "
            f"and at least {max(needed, have + 1):,} are needed, or more synthetic rows"
        )
    return fewest


def _neighbor_answer(test: LabelTest, leaked: Estimate) -> str:
    if not test.total[DECIDING]:
        return "No synthetic row is conspicuously closer to one patient than to all others."
    close, share = test.total[DECIDING] / leaked.n, test.train[DECIDING] / test.total[DECIDING]
    return (
        f"{close:.1%} of the synthetic rows are conspicuously close to one patient; {share:.1%} of these patients were "
        f"trained on, where {test.train_share:.1%} is chance: {leaked.value:.2%} of the synthetic rows are copies "
        f"beyond chance."
    )


def mirror_note(test: LabelTest) -> tuple[str, ...]:
    """What it means where train is avoided."""
    if test.p_fewer >= test.alpha:
        return ()
    return (
        f"train rows are avoided (p = {test.p_fewer:.2g}): the holdout may have been trained on, "
        "or rows close to train were filtered out, which itself tells where they were",
    )


def _neighbor_control(evidence: Evidence, seed: Seed) -> Estimate | None:
    """The same figure for half of the holdout patients in place of the synthetic rows, against all other real rows."""
    sets, half = placed(evidence), half_of_holdout(evidence, seed)
    if half is None:
        return None
    patients = np.concatenate([sets.train_patients, sets.holdout_patients[~half]])
    dense = np.unique(patients, return_inverse=True)[1]
    found = Pool.of(sets.train, sets.holdout.take(~half), dense).search(sets.holdout.take(half))
    return tested([found], seed.child("control"), 0.001).leaked(DECIDING, len(found.first))


def _exact_control(evidence: Evidence, seed: Seed) -> Estimate | None:
    half = half_of_holdout(evidence, seed)
    if half is None:
        return None
    train, holdout, _ = _records(evidence)
    owners = np.concatenate(pooled_patients(evidence.train, evidence.holdout.take(~half)))
    pool = np.concatenate([train, holdout[~half]])
    counts = _equal_rows(holdout[half], pool, owners)
    test = label_test(counts, np.arange(len(pool)) < len(train), owners, seed=seed.child("control"))
    return test.leaked(0, int(half.sum()))


def half_of_holdout(evidence: Evidence, seed: Seed, most: int = _CONTROL_MOST) -> np.ndarray | None:
    """Which holdout rows belong to a random half of its patients, or to `most` (5,000) of many; None if too small."""
    count = evidence.holdout.patient_count
    if count < 2 * _CONTROL_PATIENTS or evidence.train.patient_count < _CONTROL_PATIENTS:
        return None
    chosen = np.zeros(count, dtype=bool)
    chosen[seed.child("control", "half").numpy().permutation(count)[: min(count // 2, most, _CONTROL_MOST)]] = True
    half: np.ndarray = chosen[evidence.holdout.patients]
    return half


def _records(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A number for each row of train, holdout and synthetic: equal rows, equal numbers, across all three."""
    names = shared_columns(evidence)
    sets: tuple[TableData, ...] = (evidence.train, evidence.holdout, evidence.synthetic)
    tables = {name: pd.concat([data.table[name] for data in sets], ignore_index=True) for name in names}
    numbers = _record_numbers(tables, {name: evidence.train.schema[name] for name in names})
    ends = np.cumsum([len(data) for data in sets])
    train, holdout, synthetic = np.split(numbers, ends[:-1])
    return train, holdout, synthetic


def _record_numbers(tables: Mapping[str, pd.Series], columns: Mapping[str, Column]) -> np.ndarray:
    numbers = np.zeros(len(next(iter(tables.values()))), dtype=np.int64)
    for name, values in tables.items():
        codes = pd.factorize(at_precision(values, columns[name]))[0].astype(np.int64) + 1
        numbers = np.unique(numbers * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
    return numbers


def _equal_rows(synthetic: np.ndarray, pool: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Synthetic rows equal to each pool row, shared out over the pool rows that are equal to each other.

    Shape:
        -> (pool, 3): of records that one patient alone has; the same, each record once; of all records
    """
    kinds = int(max(synthetic.max(initial=0), pool.max(initial=0))) + 1
    times, among = np.bincount(synthetic, minlength=kinds), np.bincount(pool, minlength=kinds)
    holders = np.bincount(np.unique(np.stack([pool, owners]), axis=1)[0], minlength=kinds)
    weight, alone = times[pool] / among[pool], holders[pool] == 1
    once = np.minimum(times[pool], 1) / among[pool]
    return np.stack([weight * alone, once * alone, weight], axis=1)

"""How small a leak would the copy test have seen in this very table? Copies are planted and looked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.copies import CUTOFFS, tested
from synthgen.privacy.labels import patients_needed, signed_deviance, surely_called
from synthgen.privacy.neighbors import (
    Neighbors,
    Sets,
    content_order,
    nearest,
    neighbors,
    placed,
    shared_columns,
    space_of,
)
from synthgen.privacy.space import stacked
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import ORDERED, Column

_MOST = 400  # copies that are planted at most, and at most half of the synthetic rows
_ISOLATED = 2_000  # train rows among which the most isolated are looked for
_NOISE, _FLIPPED = 0.1, 0.05  # of a number's pooled standard deviation; share of categories
_CURVE = (1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 400)
_CHANCE = 0.9


@dataclass(frozen=True)
class Power:
    """The smallest leak that `copies.neighbor` would have seen, found by planting copies into the synthetic table.

    Nothing found means little where nothing could be found. So copies of train patients take the place of random
    synthetic rows, one after the other, and the label test of `copies.neighbor` is asked after each whether it sees
    them; that is repeated with other patients and other places. Planted are

    - exact copies of random patients;
    - noisy copies: each number moved by a tenth of its standard deviation, one category in twenty another level;
    - copies of the most isolated patients, whom a leak harms most.

    The statistic is the smallest share of synthetic rows whose replacement by exact copies is seen in 90 % of the
    draws, of random or of isolated patients, whichever is larger; its interval is that of a quantile, by order
    statistics. More copies never count as less: a number of copies is seen only if all larger ones are. How many noisy
    copies would be seen depends on the table: few columns or few patients leave other patients as close as the source.
    It stands in the answer and in the details.

    The test's critical value is that of the table without planted copies, but at least the deviance whose Chernoff
    bound is a p-value that the permutation test calls in spite of its own sampling error (see `surely_called`).
    With the named number of exact copies in other places the whole test, at an eighth of .001, saw 35 of 40 tables.

    What it does not say: how small a leak of parts of records would be seen (`copies.blocks` does), or of statistics of
    patients rather than copies (`membership`, `disclosure`).

    >>> Power().question
    'Copies of how many patients would the audit have seen in this table?'
    """

    name: ClassVar[str] = "power"
    question: ClassVar[str] = "Copies of how many patients would the audit have seen in this table?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    alpha: float = 0.001  # level at which the test calls a leak
    draws: int = 100

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Plant copies, more and more, until the test sees them.

        Raises:
            NotAssessable: not even copies in half of the rows, or 400, would be seen; the message says how many holdout
                patients would be needed.
        """
        found = neighbors(evidence)
        rows = len(found.first)
        most = min(_MOST, rows // 2, evidence.train.patient_count)
        bar = max(tested([found], seed, self.alpha).critical, math.sqrt(-2 * math.log(surely_called(self.alpha))))
        seen = {}
        for kind, planted in _planted(evidence, most, seed).items():
            scores = _scores(found, planted, most=most, draws=self.draws, seed=seed.child(kind))
            seen[kind] = first_seen(scores >= bar)
        shares = {kind: _share(counts, rows) for kind, counts in seen.items()}
        worst = max((shares[kind] for kind in ("exact", "isolated")), key=lambda share: (share.high, share.value))
        if not math.isfinite(worst.value):
            needed = patients_needed(evidence.train.patient_count, most // 2, alpha=self.alpha)
            raise NotAssessable(
                f"copies of {most} patients would not be seen: the holdout has {evidence.holdout.patient_count:,} "
                f"patients; with {max(needed, evidence.holdout.patient_count + 1):,} half as many copies could be"
            )
        finite = {kind: share for kind, share in shares.items() if math.isfinite(share.high)}
        noisy = f"{shares['noisy'].value * rows:.0f}" if "noisy" in finite else f"more than {most}"
        return Measurement(
            check=self.name,
            label="smallest share of synthetic rows that would have been seen to be copies",
            statistic=worst,
            better="lower",
            answer=f"Had {worst.value * rows:.0f} of the {rows:,} synthetic rows been copies of train patients, the "
            f"copy test would have seen them in 90 % of the cases; of copies with a little noise, {noisy}.",
            details={f"smallest share seen, {kind}": share for kind, share in finite.items()},
            power=worst,
            curves={kind: _curve(counts, rows, most) for kind, counts in seen.items()},
            source="label permutation over pooled neighbours, as copies.neighbor; interval of a quantile: David & "
            "Nagaraja 2003, section 7.1, doi:10.1002/0471722162",
        )


def first_seen(found: np.ndarray) -> np.ndarray:
    """From how many copies on each draw is seen, whatever is added; infinite if never.

    Shape:
        found (draws, copies) bool -> (draws,)

    >>> first_seen(np.array([[False, True, False, True, True], [False] * 5]))
    array([ 4., inf])
    """
    unseen = found.shape[1] - np.argmin(found[:, ::-1], axis=1)  # the last number that is not seen
    unseen = np.where(found.all(axis=1), 0, unseen)
    return np.where(unseen == found.shape[1], np.inf, unseen + 1.0)


def _share(counts: np.ndarray, rows: int) -> Estimate:
    """The 90 % point of the numbers of copies from which draws are seen, as a share of the rows."""
    from scipy.stats import binom

    ordered, n = np.sort(counts), len(counts)
    low, high = binom.ppf([0.025, 0.975], n, _CHANCE).astype(int)
    places = (math.ceil(_CHANCE * n) - 1, max(0, low - 1), min(n - 1, high))
    value, lowest, highest = (float(ordered[place]) / rows for place in places)
    return Estimate(value, lowest, highest, n, f"planted copies ({n} draws)")


def _curve(counts: np.ndarray, rows: int, most: int) -> tuple[tuple[float, float], ...]:
    """The share of draws that are seen, by the share of rows that are copies."""
    return tuple((k / rows, float((counts <= k).mean())) for k in _CURVE if k <= most)


def _planted(evidence: Evidence, most: int, seed: Seed) -> dict[str, Neighbors]:
    """Copies of each kind with their nearest pooled rows. Which patients are copied does not depend on their order."""
    sets, names = placed(evidence), shared_columns(evidence)
    order = content_order(sets.train, sets.train_patients)
    order = order[seed.child("sources").numpy().permutation(len(order))]
    firsts = order[np.sort(np.unique(sets.train_patients[order], return_index=True)[1])]  # one row of each patient
    sources = firsts[: max(most, min(2 * most, len(firsts)))]
    copies = evidence.train.table[names].iloc[sources].reset_index(drop=True)
    noisy = _noisy(copies, evidence, seed)
    isolated = _isolated(sets, firsts[:_ISOLATED])[:most]
    tables = {"exact": copies, "noisy": noisy, "isolated": evidence.train.table[names].iloc[isolated]}
    space, pool = space_of(evidence), sets.pool()
    return {kind: pool.search(space.encode(table)) for kind, table in tables.items()}


def _isolated(sets: Sets, rows: np.ndarray) -> np.ndarray:
    """These train rows, the ones farthest from any other patient first."""
    pool = stacked(sets.train, sets.holdout)
    owners = sets.patients
    distance = nearest(sets.train.take(rows), pool, 1, apart=(sets.train_patients[rows], owners))[1][:, 0]
    return rows[np.argsort(-distance, kind="stable")]


def _noisy(copies: pd.DataFrame, evidence: Evidence, seed: Seed) -> pd.DataFrame:
    noisy = {}
    for name in copies:
        rng = seed.child("noise", str(name)).numpy()
        pool = pd.concat([data.table[name] for data in (evidence.train, evidence.holdout)], ignore_index=True)
        column = evidence.train.schema[str(name)]
        noisy[name] = (_moved if column.kind in ORDERED else _flipped)(copies[name], pool, column, rng)
    return pd.DataFrame(noisy)


def _moved(values: pd.Series, pool: pd.Series, column: Column, rng: np.random.Generator) -> pd.Series:
    """Numbers or dates plus noise, at the precision of the schema."""
    steps = _NOISE * rng.normal(size=len(values))
    if column.kind == "datetime":
        spread = float(pool.dropna().to_numpy().astype("datetime64[ns]").astype(np.int64).std())
        return values + pd.to_timedelta((steps * spread).astype(np.int64))
    moved = values.astype(float) + steps * float(pool.astype(float).std(ddof=0))
    decimals = 0 if column.kind == "integer" else column.decimals
    return moved if decimals is None else moved.round(decimals)


def _flipped(values: pd.Series, pool: pd.Series, _column: Column, rng: np.random.Generator) -> pd.Series:
    """Levels, of which one in twenty is that of a random patient."""
    other = pool.sort_values(kind="stable").iloc[rng.integers(len(pool), size=len(values))].set_axis(values.index)
    return values.where(rng.random(len(values)) >= _FLIPPED, other)


def _scores(found: Neighbors, planted: Neighbors, *, most: int, draws: int, seed: Seed) -> np.ndarray:
    """The statistic of the label test after each planted copy. Shape: -> (draws, copies)."""
    order = np.lexsort((found.nearest, found.ratio))  # of synthetic rows, whatever the order of their file
    closeness = [_below(one) for one in (found, planted)]
    growing = _Growing.of(found, closeness[0])
    scores = []
    for draw in range(draws):
        rng = seed.child("draw", str(draw)).numpy()
        replaced = order[rng.choice(len(order), most, replace=False)]
        chosen = rng.permutation(len(planted.first))[:most]
        scores.append(
            growing.scores(
                (found.patients[found.nearest[replaced]], closeness[0][replaced]),
                (planted.patients[planted.nearest[chosen]], closeness[1][chosen]),
            )
        )
    shortest = min(map(len, scores))
    return np.stack([one[:shortest] for one in scores])


def _below(found: Neighbors) -> np.ndarray:
    """Which rows count at which cut-off. Shape: -> (rows, cut-offs) of 0 or 1."""
    return (found.ratio[:, None] <= np.array(CUTOFFS)).astype(float)


@dataclass(frozen=True, eq=False)
class _Growing:
    """What the label test's statistic is made of, so that a row can be exchanged without counting all again.

    Shape:
        counts (patients, cut-offs), sizes (patients,), is_train (patients,) bool
    """

    counts: np.ndarray
    sizes: np.ndarray
    is_train: np.ndarray
    train_share: float  # of the pool's rows

    @staticmethod
    def of(found: Neighbors, below: np.ndarray) -> _Growing:
        people = int(found.patients.max()) + 1
        counts = np.zeros((people, len(CUTOFFS)))
        np.add.at(counts, found.patients[found.nearest], below)
        is_train = np.zeros(people, dtype=bool)
        is_train[found.patients[found.is_train]] = True
        sizes = np.bincount(found.patients, minlength=people).astype(float)
        return _Growing(counts, sizes, is_train, float(found.is_train.mean()))

    def scores(self, removed: tuple[np.ndarray, np.ndarray], added: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The largest signed deviance after each exchange of a row. Shape: patients and cut-offs of rows -> (rows,)."""
        steps = min(len(removed[0]), len(added[0]))
        people = np.stack([removed[0][:steps], added[0][:steps]], axis=1).ravel()
        change = np.stack([-removed[1][:steps], added[1][:steps]], axis=1).reshape(2 * steps, -1)
        before = self.counts[people] + _earlier(people, change)  # what the patient has when the change comes
        squares = (self.counts**2).sum(axis=0) + np.cumsum(2 * before * change + change**2, axis=0)
        crossed = self.sizes @ self.counts + np.cumsum(self.sizes[people, None] * change, axis=0)
        total = self.counts.sum(axis=0) + np.cumsum(change, axis=0)
        onto = self.counts[self.is_train].sum(axis=0) + np.cumsum(self.is_train[people, None] * change, axis=0)
        return self._largest(squares[1::2], crossed[1::2], total[1::2], onto[1::2])

    def _largest(self, squares: np.ndarray, crossed: np.ndarray, total: np.ndarray, onto: np.ndarray) -> np.ndarray:
        rows, people, train = self.sizes.sum(), len(self.sizes), int(self.is_train.sum())
        rate, ratio = total / rows, train / people
        spread = squares - 2 * rate * crossed + rate**2 * (self.sizes**2).sum()
        sd = np.sqrt(np.maximum(spread, 0) * ratio * (1 - ratio) * people / (people - 1))
        excess = onto - rate * self.sizes[self.is_train].sum()
        largest: np.ndarray = signed_deviance(excess, sd, total, self.train_share).max(axis=1)
        return largest


def _earlier(people: np.ndarray, change: np.ndarray) -> np.ndarray:
    """For each change the sum of the earlier changes of the same patient. Shape: as change."""
    order = np.argsort(people, kind="stable")
    sums = np.cumsum(change[order], axis=0)
    starts = np.flatnonzero(np.r_[True, np.diff(people[order]) > 0])
    base = np.repeat(np.where(starts[:, None] > 0, sums[starts - 1], 0), np.diff(np.r_[starts, len(order)]), axis=0)
    earlier = np.empty_like(change)
    earlier[order] = sums - change[order] - base
    return earlier

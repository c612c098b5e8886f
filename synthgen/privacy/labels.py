"""Do synthetic rows prefer train to holdout? The label test: who is in train is permuted, patient by patient.

If the generator learned the law of the patients and nothing about the ones it trained on, then train and holdout
patients are exchangeable given the synthetic table: which of them the synthetic rows resemble owes nothing to their
label. This holds for any size of either set, any ties, outliers and missing values, and however popular single
patients are. Methods of Phipson and Smyth 2010, doi:10.2202/1544-6115.1585, and Westfall and Young 1993 (max-T).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate
from synthgen.rng import Seed
from synthgen.stats import permutation_p

MINIMUM_PATIENTS = 20  # on each side
_FEWEST, _MOST = 2_000, 20_000  # permutations; with fewer than the most, no p would outlast a correction for many tests
_BATCH_CELLS = 2_000_000
_DRAWS = 20_000_000  # random numbers that are spent whether or not a result is in doubt: a few seconds
_ENOUGH = 20  # exceedances from which on a p-value is known well enough (Besag and Clifford 1991)
_SLACK = 1e-9  # sums of permuted counts are equal up to rounding


@dataclass(frozen=True, eq=False)
class LabelTest:
    """What the label test found for each of several counts, tested together.

    Shape:
        all arrays (counts,)
    """

    train_share: float  # of the pool's rows
    total: np.ndarray  # S: synthetic rows counted
    train: np.ndarray  # T: of these, how many belong to train rows
    excess: np.ndarray  # T minus what exchangeable labels give
    sd: np.ndarray  # of the excess, under exchangeable labels
    spread: np.ndarray  # (counts, 2): the permuted excess's 2.5 % and 97.5 % points
    p_more: float  # of the largest signed deviance: train preferred
    p_fewer: float  # of the smallest: train avoided
    p_each: np.ndarray  # of each count's own deviance against the largest of all: adjusted for testing all of them
    critical: float  # the largest signed deviance has this or more with chance alpha
    alpha: float
    permutations: int

    def leaked(self, which: int, rows: int, *, among: int = 1) -> Estimate:
        """The share of synthetic rows that owe their place to a train patient.

        A row that copies always counts for train, any other one with the chance of the train share f: so k copies
        raise the count by (1 - f) k. The interval is that of the permuted counts around the estimate; it is cut at
        0, below which no share lies, and at the counted train rows, of which the copies are a part.

        Args:
            which: of the counts.
            rows: synthetic rows.
            among: of how many counts this one is picked because it is large; the lower bound then holds for all.
        """
        scale = (1 - self.train_share) * rows
        low, high = self.spread[which]
        if among > 1:
            high *= _normal_quantile(1 - 0.025 / among) / _normal_quantile(0.975)
        most = self.train[which] / rows
        value, lowest, highest = (
            float(np.clip((self.excess[which] - shift) / scale, 0, most)) for shift in (0.0, high, low)
        )
        return Estimate(value, lowest, highest, rows, f"label permutation by patient ({self.permutations:,})")

    def smallest_seen(self, rows: int, *, chance: float = 0.9, hits: np.ndarray | None = None) -> float:
        """How many copies of different train patients would have been seen with this chance at level alpha.

        At least the size rule ln(p) / ln(train share), with the p-value that is called in spite of its own sampling
        error (see `surely_called`); more where chance neighbours are many already, or where
        copies are changed so much that not all of them count. Infinite if no number up to all rows would do.

        Args:
            rows: synthetic rows.
            chance: of being seen.
            hits: the share of the copies that count where they should, for each of the first counts; None: all.
        """
        copies = np.arange(1, rows + 1)
        rule = math.log(surely_called(self.alpha, chance=chance)) / math.log(self.train_share)
        z = 1.2816 if chance == 0.9 else _normal_quantile(chance)
        known = np.ones(len(self.total)) if hits is None else hits
        fewest, share = math.inf, self.train_share
        for total, sd, hit in zip(self.total, self.sd, known, strict=False):
            counted = copies * hit
            background = total * (1 - copies / rows)  # a copy takes the place of some other row
            excess = counted * (1 - share) - z * np.sqrt(sd**2 + counted * (1 - hit) * (1 - share) ** 2)
            variance = sd**2 + counted * share * (1 - share)
            deviance = signed_deviance(excess, np.sqrt(variance), background + counted, share)
            enough = counted - z * np.sqrt(counted * (1 - hit)) >= rule
            seen = np.flatnonzero((deviance >= self.critical) & enough)
            fewest = min(fewest, float(copies[seen[0]]) if len(seen) else math.inf)
        return fewest


def label_test(
    counts: np.ndarray,
    is_train: np.ndarray,
    patients: np.ndarray,
    *,
    seed: Seed,
    alpha: float = 0.001,
    rows: np.ndarray | None = None,
) -> LabelTest:
    """Test whether counts fall on train rows more (or less) often than exchangeable labels allow.

    Several counts (cut-offs, strata) are tested together by the largest of their standardised excesses, under the
    same permutations. Excesses are standardised by the signed root of the deviance of the train share, not by the
    standard deviation: with more than half of the pool in train the upper tail of a count is short, and the standard
    deviation would ask for thirty exact copies where chance already rules out twenty.

    With several rows per patient whole patients change sides, and a count is compared with the patient's share of
    rows, so that a side with more rows per patient is not mistaken for one with more neighbours.

    Args:
        counts: how many synthetic rows fell on each pool row, one column per count.
        is_train: which pool rows are train rows.
        patients: dense patient numbers of the pool rows.
        seed: of the permutations.
        alpha: the level that `critical` refers to.
        rows: the pool rows that the counts are of, where all others have none; None: all.

    Shape:
        counts (rows, tests), is_train (pool,) bool, patients (pool,) int, rows (rows,) int

    >>> is_train = np.arange(60) < 40
    >>> onto_train = np.where(is_train & (np.arange(60) < 20), 1.0, 0.0)[:, None]
    >>> test = label_test(onto_train, is_train, np.arange(60), seed=Seed(0))
    >>> test.p_more < 0.001, test.leaked(0, rows=100).value
    (True, 0.2)

    Raises:
        NotAssessable: fewer than 20 patients on a side.
    """
    by_patient = _by_patient(counts, is_train, patients, rows)
    people, train_people = by_patient.people, by_patient.train_people
    _need_patients(train_people, people - train_people)
    total, share = by_patient.counts.sum(axis=0), float(is_train.mean())
    on_train = by_patient.counts[by_patient.train].sum(axis=0)
    ratio = train_people / people
    kinds, times = by_patient.residuals(total / len(patients))
    sd = np.sqrt(ratio * (1 - ratio) * people / (people - 1) * (times @ kinds**2))
    observed = on_train - share * total
    score = signed_deviance(observed, sd, total, share)
    null = _permuted(kinds, times, train_people, sd, total, share, score, seed)
    largest = signed_deviance(null, sd, total, share)
    largest, smallest = largest.max(axis=1), largest.min(axis=1)
    p_each = np.array([permutation_p(float(one) - _SLACK, largest) for one in score])
    if largest.max() < score.max() - _SLACK:  # rarer than the permutations can tell
        p_each[score.argmax()] = min(p_each.min(), _tail(kinds, times, ratio, float(score.max()), sd, total, share))
    return LabelTest(
        train_share=share,
        total=total,
        train=on_train,
        excess=observed,
        sd=sd,
        spread=np.quantile(null, [0.025, 0.975], axis=0).T,
        p_more=float(p_each.min()),
        p_fewer=permutation_p(float(-score.min()) - _SLACK, -smallest),
        p_each=p_each,
        critical=float(np.quantile(largest, 1 - alpha, method="higher")),
        alpha=alpha,
        permutations=len(null),
    )


def surely_called(alpha: float, *, chance: float = 0.9) -> float:
    """The p-value that a permutation test, which only estimates it, puts at or below alpha with this chance.

    With n permutations p is (1 + exceedances) / (1 + n), and exceedances are Poisson: at small alpha few may occur, so
    the true p must be well below.

    >>> round(surely_called(0.001), 6), round(surely_called(0.000125), 7)
    (0.000726, 2.66e-05)
    """
    from scipy.stats import chi2

    allowed = max(0, math.floor(alpha * (1 + _MOST) + 1e-9) - 1)
    return min(alpha, float(chi2.ppf(1 - chance, 2 * (allowed + 1))) / 2 / _MOST)


def patients_needed(train_patients: int, rows: int, *, alpha: float = 0.001) -> int:
    """The fewest holdout patients with which copies of all synthetic rows would be significant (size rule).

    >>> patients_needed(1000, 10)
    996
    """
    share = alpha ** (1 / max(1, rows))
    return max(MINIMUM_PATIENTS, math.ceil(train_patients * (1 - share) / share))


def _need_patients(train: int, holdout: int) -> None:
    for name, found in (("train", train), ("holdout", holdout)):
        if found < MINIMUM_PATIENTS:
            raise NotAssessable(f"{name} has {found} patients; this test needs at least {MINIMUM_PATIENTS}")


@dataclass(frozen=True, eq=False)
class _ByPatient:
    """Counts, rows and label of each patient who has counts; of the many others how many have so many rows.

    Shape:
        counts (patients, tests), sizes and train (patients,); other_sizes, other_times (different sizes,)
    """

    counts: np.ndarray
    sizes: np.ndarray
    train: np.ndarray
    other_sizes: np.ndarray
    other_times: np.ndarray
    train_people: int

    @property
    def people(self) -> int:
        return len(self.counts) + int(self.other_times.sum())

    def residuals(self, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The different values of a patient's counts beyond a rate per row, in order, and how many patients have each.

        Shape:
            rate (tests,) -> (kinds, tests), (kinds,) int
        """
        some = np.concatenate([self.counts - np.outer(self.sizes, rate), -np.outer(self.other_sizes, rate)])
        times = np.concatenate([np.ones(len(self.counts)), self.other_times])
        kinds, which = np.unique(some, axis=0, return_inverse=True)
        return kinds, np.bincount(which, times).astype(np.int64)


def _by_patient(counts: np.ndarray, is_train: np.ndarray, patients: np.ndarray, rows: np.ndarray | None) -> _ByPatient:
    """Patients are sorted, so that sums, and all that follows, are the same to the last bit in any order of rows."""
    if rows is None:
        rows = np.flatnonzero(counts.any(axis=1))
        counts = counts[rows]
    sizes = np.bincount(patients)
    train = np.zeros(len(sizes), dtype=bool)
    train[patients[is_train]] = True
    who, number = np.unique(patients[rows], return_inverse=True)
    sums = [np.bincount(number, weights=column, minlength=len(who)) for column in counts.T]
    order = np.lexsort([train[who], sizes[who], *sums])
    others = np.bincount(np.delete(sizes, who))
    return _ByPatient(
        counts=np.stack(sums, axis=1)[order],
        sizes=sizes[who][order],
        train=train[who][order],
        other_sizes=np.flatnonzero(others),
        other_times=others[others > 0],
        train_people=int(train.sum()),
    )


def signed_deviance(excess: np.ndarray, sd: np.ndarray, total: np.ndarray, share: float) -> np.ndarray:
    """The signed root of the binomial deviance of a train share against the expected one; 0 where nothing was counted.

    The effective number of counted rows is the one at which a binomial would have the given standard deviation: one
    popular patient with many neighbours counts about once.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(sd > 0, share * (1 - share) * (total / sd) ** 2, 0.0)
        found = np.clip(share + np.where(total > 0, excess / total, 0.0), 0, 1)
        gain = np.where(found > 0, found * np.log(found / share), 0.0)
        gain = gain + np.where(found < 1, (1 - found) * np.log((1 - found) / (1 - share)), 0.0)
    return np.sign(excess) * np.sqrt(2 * effective * np.maximum(gain, 0))


def _tail(
    kinds: np.ndarray, times: np.ndarray, ratio: float, score: float, sd: np.ndarray, total: np.ndarray, share: float
) -> float:
    """At most so likely is it that any count's permuted deviance reaches a score: Chernoff's bound, summed over counts.

    The permuted excess is the sum of fixed weights over the patients who got the label train. Such labels are
    negatively associated (Joag-Dev and Proschan 1983, doi:10.1214/aos/1176346079), so for weights that are not negative
    the moments of the sum are at most those with independent labels. A constant added to all weights adds a constant
    to the sum, so weights can be made so.
    """
    train_people, bound = round(ratio * times.sum()), 0.0
    for weights, spread, counted in zip(kinds.T, sd, total, strict=True):
        excess = _excess_at(score, spread, counted, share)
        lift = -weights.min()
        most = weights.max() + lift
        if not np.isfinite(excess) or most <= 0:
            continue
        values, which = np.unique(weights + lift, return_inverse=True)
        slopes = np.geomspace(0.01, 100, 200) / most
        moments = np.logaddexp(np.log1p(-ratio), np.log(ratio) + np.outer(slopes, values)) @ np.bincount(which, times)
        needed = excess + lift * train_people
        bound += math.exp(min(0.0, float((moments - slopes * needed).min())))
    return min(1.0, bound)


def _excess_at(score: float, sd: float, total: float, share: float) -> float:
    """The excess at which the signed deviance is this; infinite where none is so large."""
    low, high = 0.0, total * (1 - share)

    def deviance(excess: float) -> float:
        return float(signed_deviance(np.array([excess]), np.array([sd]), np.array([total]), share)[0])

    if total <= 0 or sd <= 0 or deviance(high) < score - _SLACK:
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if deviance(middle) < score else (low, middle)
    return low


def _permuted(
    kinds: np.ndarray,
    sizes: np.ndarray,
    train: int,
    sd: np.ndarray,
    total: np.ndarray,
    share: float,
    score: np.ndarray,
    seed: Seed,
) -> np.ndarray:
    """The excess under permuted labels. Shape: -> (permutations, tests).

    Patients with equal counts are interchangeable, so a permutation is a draw of how many of each kind are in train:
    the same law at a fraction of the work where kinds are few. The most permutations are made where they are cheap, or
    where fewer leave the result in doubt.
    """
    rng, people = seed.child("permutations").numpy(), int(sizes.sum())
    shuffle = len(kinds) * 8 > people
    width = people if shuffle else len(kinds)
    batch = max(1, min(_FEWEST, _BATCH_CELLS // width))
    drawn: list[np.ndarray] = []
    done, extremes = 0, np.zeros(2)
    while done < _MOST:
        if shuffle:
            labels = np.zeros((batch, people), dtype=np.float32)
            labels[:, :train] = 1
            drawn.append(rng.permuted(labels, axis=1) @ np.repeat(kinds, sizes, axis=0))
        else:
            drawn.append(rng.multivariate_hypergeometric(sizes, train, size=batch, method="marginals") @ kinds)
        null = signed_deviance(drawn[-1], sd, total, share)
        extremes += (null.max(axis=1) >= score.max() - _SLACK).sum(), (null.min(axis=1) <= score.min() + _SLACK).sum()
        done += batch
        if done >= _FEWEST and done * width > _DRAWS and extremes.min() >= _ENOUGH:
            break
    return np.concatenate(drawn)


def _normal_quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))

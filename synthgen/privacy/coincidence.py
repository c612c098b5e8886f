"""Do synthetic values hit those of single train patients more often than values of new patients would?

The label test needs about a dozen copies before it can tell train from holdout at all (its size rule), and a handful of
rare codes or extremes is fewer. Two tests know more, and assume more: that synthetic values are at most as likely to
hit a given real one as the values of new patients are.

- Numbers: two patients in the same tail have the very same number because few digits are written, the more often the
  more values are near, or because some numbers are shared (a weight of a census stratum, a price), however few are
  near. Train and holdout show how often either is. A copied extreme is hit to the digit, though next to nothing else is
  near it.
- Levels: rare levels that two of all people have fall on pairs of people by chance. Which share of pairs joins a train
  patient and a synthetic row, and which share of shared levels does?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthgen.privacy.rare_cells import Cells, Pool, extremes, holders
from synthgen.rng import Seed
from synthgen.stats import permutation_p

_OUTER = 0.1  # share of the values at each end that show how often numbers coincide
_OUTERMOST = (1, 3, 10)  # cells of each tail
_COPIED = 0.2  # share of the cells that a leaking generator copies, which hits are weighted for
_BATCH_CELLS = 4_000_000
_DRAWS = 20_000
_STEPS = 200  # of expectation maximisation
_FEWEST_PAIRS = 30  # of train and holdout values close to each other, or the rate is unknown


def extremes_p(columns: Sequence[Cells], pool: Pool) -> float:
    """The chance that synthetic values hit the extremes of single train patients so often, to the digit, or more.

    Each cell is hit with the chance that a synthetic value is it, on its own. A hit counts for as much as it speaks for
    copies of a fifth of the cells (its log likelihood ratio): the more, the smaller its chance was. The outermost cell
    of each tail, the three and the ten outermost ones are tested together.
    """
    parts = [
        _tail(cells, sign * cells.numbers, pool)
        for cells in columns
        if cells.numbers is not None
        for sign in (-1.0, 1.0)
    ]
    hit, chance, place = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else [np.zeros(0)] * 3
    known = (chance > 0) & (chance < 1) & (place < max(_OUTERMOST))
    if not (hit[known] > 0).any():
        return 1.0
    chance, place = chance[known], place[known]
    gain = np.log(_COPIED / chance + 1 - _COPIED)
    weights = np.stack([gain * (place < most) for most in _OUTERMOST], axis=1)
    rng, batch = Seed(0).child("rare", "hits").numpy(), max(1, _BATCH_CELLS // len(chance))
    sizes = [min(batch, _DRAWS - start) for start in range(0, _DRAWS, batch)]
    null = np.concatenate([(rng.random((size, len(chance))) < chance) @ weights for size in sizes])
    found = hit[known] @ weights
    mean, sd = chance @ weights, np.maximum(np.sqrt((chance * (1 - chance)) @ weights**2), 1e-9)
    return permutation_p(float(((found - mean) / sd).max()) - 1e-9, ((null - mean) / sd).max(axis=1))


def levels_p(columns: Sequence[Cells], pool: Pool) -> float:
    """The chance of so many levels that one train patient and synthetic rows alone have, among all that two have.

    Levels that the schema declares are left out: no generator needs a patient to know them.
    """
    with_synthetic, others = 0, 0
    train, holdout = len(np.unique(pool.patients[pool.is_train])), len(np.unique(pool.patients[~pool.is_train]))
    patient_in_train = np.zeros(train + holdout, dtype=bool)
    patient_in_train[pool.patients[pool.is_train]] = True
    synthetic = len(columns[0].codes) - pool.rows
    for cells in columns:
        if cells.numbers is not None or cells.declared:
            continue
        level, patient = holders(cells.codes, pool)
        size = cells.levels
        in_train = np.bincount(level[patient_in_train[patient]], minlength=size)
        in_holdout = np.bincount(level[~patient_in_train[patient]], minlength=size)
        later = cells.codes[pool.rows :]
        in_synthetic = np.bincount(later[later >= 0], minlength=size)
        real = in_train + in_holdout
        with_synthetic += int(((in_train == 1) & (real == 1) & (in_synthetic > 0)).sum())
        others += int(((in_holdout == 1) & (real == 1) & (in_synthetic > 0)).sum())
        others += int((real == 2).sum()) + int(((real == 0) & (in_synthetic == 2)).sum())
    everybody = (train + holdout + synthetic) ** 2 / 2
    share = train * synthetic / everybody
    return _at_least(with_synthetic, [share] * (with_synthetic + others))


def _tail(cells: Cells, numbers: np.ndarray, pool: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper extremes of single train patients: whether each is hit, with which chance, and how many are further out.

    Shape:
        (cells,) each
    """
    nothing = (np.zeros(0), np.zeros(0), np.zeros(0))
    real, later = numbers[: pool.rows], np.unique(numbers[pool.rows :])
    later, present = later[~np.isnan(later)], real[~np.isnan(real)]
    if len(present) < 2 * _FEWEST_PAIRS:
        return nothing
    start = np.quantile(present, 1 - _OUTER, method="inverted_cdf")
    width = float(np.subtract(*np.quantile(present[present >= start], [0.75, 0.25])))
    law = _coincidence(real[pool.is_train], real[~pool.is_train], start, width)
    values = _own(cells, real, pool)
    values = np.sort(values[values >= start])[::-1]
    if law is None or not len(values):
        return nothing
    chance = -np.expm1(-law[0] * _near(values, later, width) - law[1] * (later >= start).sum())
    return np.isin(values, later).astype(float), chance, np.arange(float(len(values)))


def _own(cells: Cells, real: np.ndarray, pool: Pool) -> np.ndarray:
    """The extreme values that one train patient has and nobody else of the pool."""
    level, patient = holders(cells.codes, pool)
    from_train = np.zeros(int(pool.patients.max()) + 1, dtype=bool)
    from_train[pool.patients[pool.is_train]] = True
    alone = np.bincount(level, minlength=cells.levels)[level] == 1
    own = level[alone & extremes(cells, pool)[level] & from_train[patient]]
    value = np.full(cells.levels, np.nan)
    value[cells.codes[: pool.rows][~np.isnan(real)]] = real[~np.isnan(real)]
    found: np.ndarray = value[own]
    return found


def _coincidence(train: np.ndarray, holdout: np.ndarray, start: float, width: float) -> tuple[float, float] | None:
    """How often distinct train values in a tail equal a holdout value: for each one near, and for each one of the tail.

    Maximum likelihood of Poisson rates that add up, by expectation maximisation; one more coincidence than there was
    goes to the values near.
    """
    one, other = (np.unique(side[side >= start]) for side in (train, holdout))
    if width <= 0 or not len(one) or not len(other):
        return None
    near, equal = _near(one, other, width), np.isin(one, other)
    pairs = near.sum()
    if pairs < _FEWEST_PAIRS:
        return None
    of_near, of_all = np.array([0.5, 0.5]) * (equal.sum() + 1) / np.array([pairs, len(one) * len(other)])
    for _ in range(_STEPS):
        expected = of_near * near[equal] + of_all * len(other)
        of_near *= (near[equal] / expected).sum() / pairs
        of_all *= (1 / expected).sum() / len(one)
    return of_near + 1 / (pairs + 1), of_all


def _near(values: np.ndarray, others: np.ndarray, width: float) -> np.ndarray:
    """How many of the others, ascending, lie within this distance of each value."""
    return np.searchsorted(others, values + width, side="right") - np.searchsorted(others, values - width, side="left")


def _at_least(hits: int, chances: Sequence[float]) -> float:
    """The chance of so many independent events or more, each with its own chance.

    >>> round(_at_least(2, [0.5, 0.5, 0.5]), 3)
    0.5
    """
    law = np.zeros(len(chances) + 1)
    law[0] = 1
    for chance in chances:
        law[1:] = law[1:] * (1 - chance) + law[:-1] * chance
        law[0] *= 1 - chance
    return float(min(1.0, law[hits:].sum()))

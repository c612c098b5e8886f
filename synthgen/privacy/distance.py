"""How close are synthetic rows to train and to holdout rows? Described only: distances prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.privacy.copies import half_of_holdout
from synthgen.privacy.neighbors import content_order, nearest, placed
from synthgen.privacy.space import Points
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.stats import bootstrap

MINIMUM_PATIENTS = 20  # on each side, and synthetic rows
_STEP = 0.05  # to which distances and ratios are rounded, so that none is a record's
_CURVE = tuple(round(0.25 * i, 2) for i in range(1, 17))  # distances at which a curve counts rows
_DECIMALS = 2  # of the shares on a curve
Scores = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DistanceProfile:
    """DCR, NNDR and NNAA of the synthetic rows against train and against holdout, on samples of one size.

    It never decides. Distances to the closest record do not tell safe from unsafe tables: generators that leak by any
    membership attack have inconspicuous distances (arXiv:2505.01524, The DCR Delusion). Readers expect these figures,
    so they are shown beside the tests that do decide, and beside the real holdout.

    Threat: none in particular; an attacker who looks only at how close the nearest synthetic row is.

    As many patients of train as of holdout are drawn, one row of each, and as many synthetic rows: nearest distances
    shrink as a set grows, so sets of different sizes cannot be compared.

    - DCR: distance of a synthetic row to the closest train (holdout) row; how many are closer to train, ties one half;
    - NNDR: its ratio to the distance of the second closest;
    - NNAA, nearest neighbour adversarial accuracy: how often a real row is closer to another real one than to any
      synthetic one, and a synthetic row to another synthetic one, on average; one half is ideal, ties count one half.

    The statistic is the privacy loss, NNAA of holdout minus NNAA of train: above zero where synthetic rows are closer
    to train. Null: none is tested. Intervals are bootstraps by patient of the scores, with the neighbours as they are,
    so they are too narrow by what other samples would do to the neighbours. Quantiles of distances and ratios are
    rounded to one twentieth and their bounds outwards; curves are shares of rows on a coarse grid.

    >>> DistanceProfile().name
    'distance'

    Source: Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136.
    """

    name: ClassVar[str] = "distance"
    question: ClassVar[str] = "How close are synthetic rows to train rows, and how close to holdout rows?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    max_patients: int = 2_000  # of each set

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Draw samples of one size and compare distances.

        Raises:
            NotAssessable: no columns in common, or fewer than 20 patients on a side or synthetic rows.
        """
        scores, distances = _scored(evidence, self.max_patients, seed)
        loss, closer = _loss(scores, seed), _share(scores["closer to train"], seed)
        return Measurement(
            check=self.name,
            label="privacy loss: adversarial accuracy of holdout minus that of train (0: no closer to train)",
            statistic=loss,
            better="lower",
            answer=f"{closer.value:.0%} of the synthetic rows are closer to train than to as many holdout rows, where "
            "50 % is chance; distances are shown for comparison and prove nothing.",
            control=_control(evidence, self.max_patients, seed),
            details={
                "synthetic rows closer to train": closer,
                "NNAA train": _accuracy(scores, "train", seed),
                "NNAA holdout": _accuracy(scores, "holdout", seed),
                **_quantiles(scores, seed),
            },
            curves={name: _curve(found) for name, found in distances.items()},
            notes=("descriptive: it never decides, since distances do not tell safe from unsafe tables",),
            source="DCR: arXiv:2505.01524; NNAA: Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136",
        )


def _scored(evidence: Evidence, most: int, seed: Seed) -> tuple[Scores, Scores]:
    """Scores of sampled rows, and the distances of synthetic rows to both sides; all of one length."""
    train, holdout, synthetic = _samples(evidence, most, seed)
    to = {"train": nearest(synthetic, train, 2)[1], "holdout": nearest(synthetic, holdout, 2)[1]}
    among = _others(synthetic)
    scores = {"closer to train": _larger(to["holdout"][:, 0], to["train"][:, 0])}
    for name, side in (("train", train), ("holdout", holdout)):
        scores[f"real, {name}"] = _larger(nearest(side, synthetic, 1)[1][:, 0], _others(side))
        scores[f"synthetic, {name}"] = _larger(to[name][:, 0], among)
        scores[f"DCR {name}"] = to[name][:, 0]
        first, second = to[name].T
        scores[f"NNDR {name}"] = np.divide(first, second, out=np.zeros(len(among)), where=first > 0)
    return scores, {f"synthetic to {name}": found[:, 0] for name, found in to.items()}


def _samples(evidence: Evidence, most: int, seed: Seed) -> list[Points]:
    """One random row of each of as many random patients of train as of holdout, and as many synthetic rows."""
    sets = placed(evidence)
    sides = (
        ("train", sets.train, evidence.train.patients),
        ("holdout", sets.holdout, evidence.holdout.patients),
        ("synthetic", sets.synthetic, np.arange(len(sets.synthetic))),
    )
    sizes = {name: int(patients.max()) + 1 for name, _, patients in sides}
    for name, size in sizes.items():
        if size < MINIMUM_PATIENTS:
            raise NotAssessable(f"{name} has {size} patients or rows; distances need at least {MINIMUM_PATIENTS}")
    size = min(most, *sizes.values())
    drawn = []
    for name, points, patients in sides:
        order = content_order(points, patients)[seed.child("sample", name).numpy().permutation(len(points))]
        first = np.sort(np.unique(patients[order], return_index=True)[1])[:size]
        drawn.append(points.take(order[first]))
    return drawn


def _others(points: Points) -> np.ndarray:
    """Distance of each row to the nearest other row of its set."""
    own = np.arange(len(points))
    return nearest(points, points, 1, apart=(own, own))[1][:, 0]


def _larger(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where the first is larger, one half at ties."""
    return (one > other) + 0.5 * (one == other)


def _share(scores: np.ndarray, seed: Seed) -> Estimate:
    return bootstrap(lambda rows: float(scores[rows].mean()), np.arange(len(scores)), seed=seed)


def _accuracy(scores: Scores, side: str, seed: Seed) -> Estimate:
    """Nearest neighbour adversarial accuracy; the sets are independent, so their units may be drawn in pairs."""
    return _share((scores[f"real, {side}"] + scores[f"synthetic, {side}"]) / 2, seed)


def _loss(scores: Scores, seed: Seed) -> Estimate:
    both = [(scores[f"real, {side}"] + scores[f"synthetic, {side}"]) / 2 for side in ("holdout", "train")]
    return _share(both[0] - both[1], seed)


def _quantiles(scores: Scores, seed: Seed) -> dict[str, Estimate]:
    found = {}
    for what in ("DCR", "NNDR"):
        for share, name in ((0.05, "5 %"), (0.5, "median")):
            for side in ("train", "holdout"):
                found[f"{what} to {side}, {name}"] = _rounded(scores[f"{what} {side}"], share, seed)
    return found


def _rounded(values: np.ndarray, share: float, seed: Seed) -> Estimate:
    """A quantile on the grid; the bounds outwards."""
    exact = bootstrap(lambda rows: float(np.quantile(values[rows], share)), np.arange(len(values)), seed=seed)
    value = round(round(exact.value / _STEP) * _STEP, 2)
    low, high = (round(float(way(x / _STEP)) * _STEP, 2) for way, x in ((np.floor, exact.low), (np.ceil, exact.high)))
    return replace(exact, value=value, low=min(low, value), high=max(high, value))


def _curve(distances: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((at, round(float((distances <= at).mean()), _DECIMALS)) for at in _CURVE)


def _control(evidence: Evidence, most: int, seed: Seed) -> Estimate | None:
    """The same figure for half of the holdout patients in place of the synthetic rows."""
    half = half_of_holdout(evidence, seed)
    if half is None:
        return None
    holdout = evidence.holdout
    other = replace(evidence, holdout=holdout.take(~half), synthetic=holdout.take(half), shared={})
    return _loss(_scored(other, most, seed.child("control"))[0], seed.child("control"))

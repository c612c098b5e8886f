"""Can a network tell synthetic images from real ones? Cross-fitted by patient, against the holdout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from synthgen.data import TableData
from synthgen.findings import Estimate, Measurement
from synthgen.image_views import views
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.detection import cross_fitted_auc, folds_by_patient, roc_on_grid
from synthgen.validators.image_networks import batch_size, normalised, scores, trained
from synthgen.validators.image_sets import IMAGES, equal_sides
from synthgen.validators.resampling import one_thread

_FEWEST_STEPS = 150


@dataclass(frozen=True)
class ImageDetection:
    """A small network, cross-fitted by patient, tells synthetic images from the holdout (AUC .5: it cannot).

    >>> ImageDetection(steps=100).steps
    100
    """

    name: ClassVar[str] = "fidelity.image_detection"
    question: ClassVar[str] = "Can a network tell synthetic images from real ones?"
    needs: ClassVar[frozenset[str]] = IMAGES
    images: int = 3_000  # of each set, at most
    folds: int = 3
    steps: int = 400  # of the training of each fold, at most
    epochs: int = 25  # at most, but 150 steps

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Judge synthetic against holdout, as many of train against holdout, and synthetic against train.

        Raises:
            NotAssessable: no images, or fewer than 20 patients in a set.
        """
        sides = equal_sides(evidence, self.images, seed)
        real = views(evidence).pool
        sets = [normalised(one[own], real) for one, own in zip(views(evidence).sets, sides.rows, strict=True)]
        train, holdout, synthetic = zip(sets, sides.records, strict=True)
        headline = self._contest(synthetic, holdout, seed.child("synthetic", "holdout"))
        control = self._contest(train, holdout, seed.child("train", "holdout"))
        known = self._contest(synthetic, train, seed.child("synthetic", "train"))
        statistic = headline.auc(seed.child("interval"))
        notes = [f"{sides.count:,} images a side; {self.folds} folds, at most {self.steps} steps each"]
        if statistic.high < 0.5:
            notes.append("an AUC below .5: images of one set reappear in the other, see the copy checks")
        return Measurement(
            check=self.name,
            label="AUC of a small network that tells synthetic images from the holdout (.5: it cannot)",
            statistic=statistic,
            control=control.auc(seed.child("interval", "control")),
            better="lower",
            answer=f"Given a synthetic and a real image, a network picks the synthetic one {statistic.value:.0%} of "
            "the time (guessing: 50%).",
            details={"synthetic against train": known.auc(seed.child("interval", "train"))},
            curves={"roc": headline.roc(), "roc (real holdout)": control.roc()},
            notes=tuple(notes),
            source="classifier two-sample test: Lopez-Paz & Oquab 2017, arXiv:1610.06545; "
            "interval: Nadeau & Bengio 2003, doi:10.1023/A:1024068626366",
        )

    def _contest(self, one: tuple[Tensor, TableData], other: tuple[Tensor, TableData], seed: Seed) -> ImageContest:
        """Out-of-fold scores of the images of two sets; higher means more like the first."""
        X, y = torch.cat([one[0], other[0]]), np.repeat([1, 0], [len(one[0]), len(other[0])])
        fold = np.concatenate(
            [
                folds_by_patient(data, self.folds, seed.child("folds", str(i)))
                for i, (_, data) in enumerate((one, other))
            ]
        )
        found = np.zeros(len(y))
        for k in range(self.folds):
            inside = fold == k
            outside = torch.from_numpy(np.flatnonzero(~inside))
            steps = min(self.steps, max(_FEWEST_STEPS, self.epochs * len(outside) // batch_size(X)))
            network = trained(X[outside], y[~inside], classes=2, steps=steps, seed=seed.child("network", str(k)))
            # Networks of different folds differ in level; ranks within a fold do not.
            found[inside] = rankdata(scores(network, X[torch.from_numpy(np.flatnonzero(inside))])[:, 1]) / inside.sum()
        return ImageContest((one[1], other[1]), found[y == 1], found[y == 0], self.folds)


@dataclass(frozen=True, eq=False)
class ImageContest:
    """The records of two sets and the scores of their images."""

    pair: tuple[TableData, TableData]
    first: np.ndarray
    second: np.ndarray
    folds: int

    def auc(self, seed: Seed) -> Estimate:
        """With its interval."""
        return cross_fitted_auc(self.first, self.second, self.pair, folds=self.folds, seed=seed)

    def roc(self) -> tuple[tuple[float, float], ...]:
        """The curve on a grid of false positive rates."""
        return roc_on_grid(self.first, self.second)

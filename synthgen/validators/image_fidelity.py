"""Do synthetic images lie where real ones lie? Distances and neighbors in spaces of features, each named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.image_features import Features, features
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.image_distances import (
    Likeness,
    Neighborhood,
    cubic,
    frechet,
    kernel_distance,
    moments,
    neighborhood,
    root,
)
from synthgen.validators.image_sets import IMAGES, ImageSides, equal_sides
from synthgen.validators.resampling import around, bootstrap_figures, one_thread, share

Extractor = Literal["random convolutions", "trained encoder"]
Spaces = tuple[Extractor, ...]
REAL = " (real holdout)"


@dataclass(frozen=True)
class FeatureDistance:
    """Frechet and kernel distance of synthetic images from the holdout, in several spaces.

    It is no FID: that name belongs to the features of one network trained on photographs.

    >>> FeatureDistance().name
    'fidelity.features'
    """

    name: ClassVar[str] = "fidelity.features"
    question: ClassVar[str] = "Are the features of synthetic images distributed as those of real ones?"
    needs: ClassVar[frozenset[str]] = IMAGES
    extractors: Spaces = ("random convolutions", "trained encoder")  # the statistic is in the first
    images: int = 2_000  # of each set, at most
    repeats: int = 100

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Measure synthetic against holdout, and as many images of train against holdout.

        Raises:
            NotAssessable: no images, or fewer than 20 patients in a set.
        """
        sides = equal_sides(evidence, self.images, seed)
        named: dict[str, Estimate] = {}
        for extractor in self.extractors:
            space = of_sides(standardised(features(evidence, extractor)), sides)
            named |= self._distances(extractor, space, sides, seed.child(extractor))
        first = f"FD({self.extractors[0]})"
        statistic, control = named[first], named[first + REAL]
        return Measurement(
            check=self.name,
            label=f"{first} of synthetic images from the holdout (Frechet distance, features in units of their spread)",
            statistic=statistic,
            control=control,
            better="lower",
            answer=f"In the space of {self.extractors[0]} synthetic images lie {statistic.value:.3g} from the holdout; "
            f"as many train images lie {control.value:.3g} from it.",
            details=named,
            notes=(
                f"{sides.count:,} images of each set: a Frechet distance depends on their number",
                "FD: Frechet distance; KD: squared maximum mean discrepancy with a cubic kernel, without bias, so "
                "that it is zero on average for real images and may be negative",
                "copies of train images look as good as real ones here: see the copy checks",
            ),
            source="Frechet distance: Heusel et al. 2017, arXiv:1706.08500; kernel distance: Binkowski et al. 2018, "
            "arXiv:1801.01401; random convolutions: Saxe et al. 2011; encoder: Chen et al. 2020, arXiv:2002.05709",
        )

    def _distances(self, extractor: str, space: Features, sides: ImageSides, seed: Seed) -> dict[str, Estimate]:
        """Both distances, of synthetic and of train, with one resampled holdout for both."""
        value, draws = bootstrap_figures(_both(space, sides), sides.records, seed=seed, repeats=self.repeats)
        names = [f"FD({extractor})", f"FD({extractor}){REAL}", f"KD({extractor})", f"KD({extractor}){REAL}"]
        return {
            name: around(float(value[i]), draws[:, i], n=sides.count, least=0.0 if i < 2 else -np.inf, most=np.inf)
            for i, name in enumerate(names)
        }


@dataclass(frozen=True)
class Manifold:
    """Coverage of the holdout by synthetic images, and density; improved precision and recall beside them.

    >>> Manifold(k=3).k
    3
    """

    name: ClassVar[str] = "fidelity.manifold"
    question: ClassVar[str] = "Do synthetic images reach all kinds of real images, and lie among them?"
    needs: ClassVar[frozenset[str]] = IMAGES
    extractors: Spaces = ("trained encoder", "random convolutions")  # the statistic is in the first
    images: int = 2_000
    k: int = 5

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Look for neighbors of holdout images among synthetic ones, and among as many of train.

        Raises:
            NotAssessable: no images, or too few.
        """
        sides = equal_sides(evidence, self.images, seed)
        if sides.count <= self.k:
            raise NotAssessable(f"{self.k} neighbors need more than {self.k} images in each set")
        named: dict[str, Estimate] = {}
        for extractor in self.extractors:
            space = of_sides(standardised(features(evidence, extractor)), sides)
            named |= self._figures(extractor, space, sides, seed.child(extractor))
        first = f"coverage({self.extractors[0]})"
        statistic, control = named[first], named[first + REAL]
        chance = 1 - float(np.prod([(sides.count - i) / (2 * sides.count - i) for i in range(1, self.k + 1)]))
        return Measurement(
            check=self.name,
            label=f"{first}: share of holdout images with a synthetic one as near as their neighbors",
            statistic=statistic,
            control=control,
            better="higher",
            answer=f"{statistic.value:.1%} of holdout images have a synthetic image within the distance of their "
            f"{self.k} nearest fellows; {control.value:.1%} have a train image there.",
            details=named,
            notes=(
                f"{sides.count:,} images of each set, {self.k} neighbors; two samples of one law give a coverage of "
                f"{chance:.3f}",
                "density above 1: synthetic images crowd where real ones are dense; precision and recall: share of "
                "images that lie in a neighborhood of the other set",
                "the intervals are those of the patients counted; the other set is taken as it is",
            ),
            source="Naeem et al. 2020, arXiv:2002.09797; precision and recall: Kynkaanniemi et al. 2019, "
            "arXiv:1904.06991",
        )

    def _figures(self, extractor: str, space: Features, sides: ImageSides, seed: Seed) -> dict[str, Estimate]:
        """All four figures of synthetic images and of train."""
        _, holdout, _ = sides.patients
        made = (("", space.synthetic, 2), (REAL, space.train, 0))
        named: dict[str, Estimate] = {}
        for mark, points, place in made:
            near, own = neighborhood(space.holdout, points, k=self.k), sides.patients[place]
            shares = {
                "coverage": share(near.covered, holdout),
                "density": _density(near, sides, place, seed.child("density", mark)),
                "precision": share(near.precise, own),
                "recall": share(near.recalled, holdout),
            }
            named |= {f"{name}({extractor}){mark}": estimate for name, estimate in shares.items()}
        return named


def standardised(found: Features) -> Features:
    """Features in units of their spread over train and holdout, so that no single one drowns the others."""
    pool = np.concatenate([found.train, found.holdout])
    centre, spread = pool.mean(axis=0), pool.std(axis=0)
    spread = np.where(spread > 1e-9 * max(float(spread.max()), 1e-12), spread, 1.0)
    train, holdout, synthetic = ((X - centre) / spread for X in (found.train, found.holdout, found.synthetic))
    return Features(train, holdout, synthetic)


def of_sides(found: Features, sides: ImageSides) -> Features:
    """The features of the images that are compared."""
    train, holdout, synthetic = sides.rows
    return Features(found.train[train], found.holdout[holdout], found.synthetic[synthetic])


def kernel_distances(space: Features, sides: ImageSides) -> Callable[..., np.ndarray]:
    """Row weights of train, holdout and synthetic -> kernel distance of synthetic, then of train, from the holdout."""
    sets = (space.train, space.holdout, space.synthetic)
    train, holdout, synthetic = (Likeness.of(X, own) for X, own in zip(sets, sides.patients, strict=True))
    made, real = cubic(space.synthetic, space.holdout), cubic(space.train, space.holdout)

    def figures(t: np.ndarray, h: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.array([kernel_distance(synthetic, holdout, made, s, h), kernel_distance(train, holdout, real, t, h)])

    return figures


def _both(space: Features, sides: ImageSides) -> Callable[..., np.ndarray]:
    """Row weights of train, holdout and synthetic -> Frechet distances and kernel distances."""
    kernels = kernel_distances(space, sides)

    def figures(t: np.ndarray, h: np.ndarray, s: np.ndarray) -> np.ndarray:
        sealed = moments(space.holdout, h)
        half = root(sealed[1])
        distances = [frechet(moments(X, w), sealed, half) for X, w in ((space.synthetic, s), (space.train, t))]
        return np.concatenate([distances, kernels(t, h, s)])

    return figures


def _density(near: Neighborhood, sides: ImageSides, place: int, seed: Seed) -> Estimate:
    def mean(weights: np.ndarray) -> np.ndarray:
        return np.array([weights @ near.density / weights.sum()])

    value, draws = bootstrap_figures(mean, [sides.records[place]], seed=seed)
    return around(float(value[0]), draws[:, 0], n=sides.count, most=np.inf)


def with_real(named: Mapping[str, tuple[Estimate, Estimate]]) -> dict[str, Estimate]:
    """Details in which each figure is followed by the same for the real holdout.

    >>> one = Estimate(value=0.1, low=0.0, high=0.2, n=90, method="bootstrap")
    >>> list(with_real({"mean": (one, one)}))
    ['mean', 'mean (real holdout)']
    """
    return {name + mark: pair[i] for name, pair in named.items() for i, mark in enumerate(("", REAL))}

"""Are synthetic images of one class as different from each other as real ones? Structural similarity of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from monai.metrics.regression import compute_ssim_and_cs  # here, not when used: it moves Python's random state
from torch import Tensor

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Measurement
from synthgen.image_views import thumbnails, views
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.image_classes import FEWEST, classes_of, target_of
from synthgen.validators.image_fidelity import with_real
from synthgen.validators.image_sets import IMAGES, ImageSides, equal_sides
from synthgen.validators.resampling import around, bootstrap_figures, one_thread

_ALIKE = 0.99  # share of real pairs that are less alike than what counts as nearly the same
_CHUNK = 250  # pairs at a time

Pairs = tuple[np.ndarray, np.ndarray]  # two (pairs,) arrays of image numbers


@dataclass(frozen=True)
class Diversity:
    """The mean structural similarity of random pairs of one class, and the share of pairs that are nearly the same.

    >>> Diversity(pairs=500).pairs
    500
    """

    name: ClassVar[str] = "fidelity.diversity"
    question: ClassVar[str] = "Do synthetic images differ from each other as much as real ones?"
    needs: ClassVar[frozenset[str]] = IMAGES
    images: int = 2_000  # of each set, at most
    pairs: int = 2_000  # of each set
    repeats: int = 200

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare pairs of different patients, within classes of the target if it has classes.

        Raises:
            NotAssessable: no images, or fewer than 20 patients in a set.
        """
        sides = equal_sides(evidence, self.images, seed)
        classes, note = _classes(evidence, sides)
        seen = [thumbnails(one[rows]) for one, rows in zip(views(evidence).sets, sides.rows, strict=True)]
        chosen = _all_pairs(classes, sides, self.pairs, seed.child("pairs"))
        alike = [similarity(one[i], one[j]) for one, (i, j) in zip(seen, chosen, strict=True)]
        cut = float(np.quantile(alike[0], _ALIKE))

        def figures(*weights: np.ndarray) -> np.ndarray:
            found = []
            for w, (i, j), ssim in zip(weights, chosen, alike, strict=True):
                both = w[i] * w[j]
                total = max(float(both.sum()), 1e-12)
                found += [both @ ssim / total, both @ (ssim > cut) / total]
            return np.array(found)

        value, draws = bootstrap_figures(figures, sides.records, seed=seed.child("bootstrap"), repeats=self.repeats)
        bounds = (-1.0, 0.0) * 3
        train, _, real, real_same, made, made_same = (
            around(float(value[i]), draws[:, i], n=sides.count, least=bounds[i]) for i in range(6)
        )
        within = "of one class " if classes is not None else ""
        return Measurement(
            check=self.name,
            label=f"mean structural similarity (SSIM) of two synthetic images {within}(1: the same)",
            statistic=made,
            control=real,
            better="lower",
            answer=f"Two synthetic images {within}have a structural similarity of {made.value:.3f} on average, two "
            f"holdout images {real.value:.3f}; {made_same.value:.1%} of synthetic pairs are more alike than all but "
            f"1% of train pairs, and {real_same.value:.1%} of holdout pairs.",
            details={"similarity of train images": train}
            | with_real({"share of pairs nearly the same": (made_same, real_same)}),
            notes=(
                note,
                f"{len(alike[2]):,} pairs of different patients in each set, on small grey versions",
                "noise makes images differ, too: a low figure alone is no praise",
            ),
            source="SSIM: Wang et al. 2004, doi:10.1109/TIP.2003.819861; of pairs within a class: Odena et al. 2017, "
            "arXiv:1610.09585, section 4.2",
        )


def similarity(one: Tensor, other: Tensor) -> np.ndarray:
    """Structural similarity of pairs of images, 1 for equal ones.

    Shape: (pairs, channels, ...) from -1 to 1, twice -> (pairs,) float64.

    >>> similarity(torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)).round(3).tolist()
    [1.0, 1.0]
    """
    dims = one.dim() - 2
    side = min(11, 2 * (min(one.shape[2:]) // 4) + 1)  # of the window; smaller in volumes
    found = []
    for left, right in zip(one.split(_CHUNK), other.split(_CHUNK), strict=True):
        ssim, _ = compute_ssim_and_cs(
            (left + 1) / 2, (right + 1) / 2, dims, kernel_size=[side] * dims, kernel_sigma=[1.5] * dims, data_range=1.0
        )
        found.append(ssim.flatten(1).mean(1).double())
    return torch.cat(found).numpy() if found else np.empty(0)


def pairs_within(patients: np.ndarray, count: int, generator: np.random.Generator) -> Pairs:
    """Random pairs of images of different patients. Shape: patients (images,) -> two (pairs,) arrays.

    >>> i, j = pairs_within(np.array([0, 0, 1]), 50, Seed(1).numpy())
    >>> bool((i != j).all()), {2} <= set(i) | set(j)
    (True, True)
    """
    i, j = generator.integers(len(patients), size=(2, 3 * count))
    apart = np.flatnonzero(patients[i] != patients[j])[:count]
    return i[apart], j[apart]


def _classes(evidence: Evidence, sides: ImageSides) -> tuple[Sequence[np.ndarray] | None, str]:
    """The class of each compared image, -1 where it is left out; None: all are one."""
    try:
        name = target_of(evidence)
    except NotAssessable:
        return None, "no target with classes: pairs are drawn from all images"
    found = classes_of(name, sides.records, sides.records, fewest=FEWEST)
    if not found.count:
        return None, f"no class of {name!r} has {FEWEST} images in each set: pairs are drawn from all images"
    return found.codes, f"{found.count} of {found.known} classes of {name!r} have {FEWEST} images in each set"


def _all_pairs(classes: Sequence[np.ndarray] | None, sides: ImageSides, count: int, seed: Seed) -> list[Pairs]:
    """Pairs of each set, with the holdout's shares of the classes in all three."""
    names = ("train", "holdout", "synthetic")
    if classes is None:
        return [
            pairs_within(own, count, seed.child(name).numpy()) for own, name in zip(sides.patients, names, strict=True)
        ]
    sealed = classes[1][classes[1] >= 0]
    sizes = np.bincount(sealed)
    wanted = {int(k): max(1, round(count * sizes[k] / len(sealed))) for k in np.flatnonzero(sizes)}
    return [
        _pairs_by_class(codes, data, wanted, seed.child(name).numpy())
        for codes, data, name in zip(classes, sides.records, names, strict=True)
    ]


def _pairs_by_class(
    codes: np.ndarray, data: TableData, wanted: dict[int, int], generator: np.random.Generator
) -> Pairs:
    found: list[Sequence[np.ndarray]] = []
    for number, count in wanted.items():
        rows = np.flatnonzero(codes == number)
        i, j = pairs_within(data.patients[rows], count, generator)
        found.append((rows[i], rows[j]))
    first, second = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    if not len(first):
        raise NotAssessable("no class has images of two patients in each set")
    return first, second

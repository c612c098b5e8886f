"""Are synthetic images as good for every group of patients? The distance from the holdout, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.image_features import Features, features
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.groups import FEWEST, FEWEST_PATIENTS, SOURCES, Group, Groups
from synthgen.validators.image_fidelity import Extractor, kernel_distances, of_sides, standardised, with_real
from synthgen.validators.image_sets import IMAGES, ImageSides, images_of, sides_of
from synthgen.validators.resampling import around, bootstrap_figures, one_thread


@dataclass(frozen=True)
class ImageSubgroups:
    """The kernel distance of a group's synthetic images from its holdout images; the worst group.

    The kernel distance does not depend on the number of images on average, which groups differ in.

    >>> ImageSubgroups().name
    'subgroups.images'
    """

    name: ClassVar[str] = "subgroups.images"
    question: ClassVar[str] = "Are synthetic images as close to real ones in every group of patients?"
    needs: ClassVar[frozenset[str]] = IMAGES
    extractor: Extractor = "trained encoder"  # a few random filters rule the other space: intervals five times as wide
    images: int = 1_000  # of a group in each set, at most
    repeats: int = 100

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare each group that is large enough; the statistic is the largest distance of any.

        Raises:
            NotAssessable: no images, no column that makes groups, or no group with 30 images in each set.
        """
        images_of(evidence)
        found = Groups.of(evidence)
        groups, few, lost = found.kept, found.few, found.lost
        if not groups:
            raise NotAssessable(f"no group has {FEWEST} images in each set: groups come from {SOURCES}")
        space = standardised(features(evidence, self.extractor))
        named, values, draws, sizes = self._distances(evidence, groups, space, seed)
        (made, made_draws), (real, real_draws) = ((values[:, i], draws[:, :, i]) for i in (0, 1))
        smallest = min(sizes)
        statistic, control, gap = (
            _largest(one, many, smallest)
            for one, many in ((made, made_draws), (real, real_draws), (made - real, made_draws - real_draws))
        )
        worst = groups[int(np.argmax(made))].name
        return Measurement(
            check=self.name,
            label=f"largest kernel distance ({self.extractor}) of a group's synthetic images from its holdout images",
            statistic=statistic,
            control=control,
            better="lower",
            answer=f"Of {len(groups)} groups, synthetic images are farthest from the holdout in {worst}: "
            f"{statistic.value:.3g}; train images are at most {control.value:.3g} from it.",
            details={
                "largest gap between synthetic and train": gap,
                "groups that the synthetic images lack": exactly(float(lost), n=len(groups) + few + lost),
                **named,
            },
            notes=(
                "groups are numbered by their frequency in train, most frequent first; ages by fixed bands; each is "
                "compared with as many images of all three sets",
                f"{few} groups with fewer than {FEWEST_PATIENTS} patients or {FEWEST} images in train or in the "
                f"holdout, and {lost} with fewer than {FEWEST} synthetic images, were left out",
                "the largest of several figures lies above their mean by chance: read it beside its control",
            ),
            source="kernel distance: Binkowski et al. 2018, arXiv:1801.01401",
        )

    def _distances(
        self, evidence: Evidence, groups: Sequence[Group], space: Features, seed: Seed
    ) -> tuple[dict[str, Estimate], np.ndarray, np.ndarray, list[int]]:
        """Details; values (groups, 2) of synthetic and of train; draws (repeats, groups, 2); images of each group."""
        details: dict[str, tuple[Estimate, Estimate]] = {}
        values, draws, sizes = [], [], []
        records = (evidence.train, evidence.holdout, evidence.synthetic)
        for group in groups:
            own = seed.child(group.name)
            sides: ImageSides = sides_of(records, group.rows, min(self.images, *map(len, group.rows)), own)
            figures = kernel_distances(of_sides(space, sides), sides)
            value, found = bootstrap_figures(figures, sides.records, seed=own.child("bootstrap"), repeats=self.repeats)
            made, real = (
                around(float(value[i]), found[:, i], n=sides.count, least=-np.inf, most=np.inf) for i in (0, 1)
            )
            details[group.name] = (made, real)
            values.append(value)
            draws.append(found)
            sizes.append(sides.count)
        return with_real(details), np.array(values), np.stack(draws, axis=1), sizes


def _largest(values: np.ndarray, draws: np.ndarray, n: int) -> Estimate:
    """Shape: values (groups,), draws (repeats, groups)."""
    return around(float(values.max()), draws.max(axis=1), n=n, least=-np.inf, most=np.inf)

"""Are synthetic images as good for every group of patients? The distance from the holdout, group by group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.image_features import Features, features
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import NUMERIC
from synthgen.validators.encoding import frequent_levels, level_codes, numbers
from synthgen.validators.image_fidelity import Extractor, kernel_distances, of_sides, standardised, with_real
from synthgen.validators.image_sets import IMAGES, ImageSides, images_of, sides_of
from synthgen.validators.resampling import around, bootstrap_figures, one_thread

FEWEST_IMAGES = 30  # of a group in each set
FEWEST_PATIENTS = 10  # of a group in train and in the holdout, below which it is not even counted by number
MOST_GROUPS = 10  # of one column
_ROLES = frozenset({"quasi_identifier", "sensitive", "target"})
_AGES = ((-np.inf, 18.0, "under 18"), (18.0, 40.0, "18 to 39"), (40.0, 65.0, "40 to 64"), (65.0, np.inf, "65 and over"))

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # of train, holdout and synthetic


@dataclass(frozen=True)
class Group:
    """The images of one group of patients."""

    name: str  # "sex, group 1": by frequency in train, never by the level's own name
    rows: Rows


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
        groups, few, lost = _groups(evidence)
        if not groups:
            raise NotAssessable(
                f"no group has {FEWEST_IMAGES} images in each set: groups come from sex, age_years, the target, and "
                "columns with the role quasi_identifier or sensitive"
            )
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
                f"{few} groups with fewer than {FEWEST_PATIENTS} patients or {FEWEST_IMAGES} images in train or in the "
                f"holdout, and {lost} with fewer than {FEWEST_IMAGES} synthetic images, were left out",
                "the largest of several figures lies above their mean by chance: read it beside its control",
            ),
            source="kernel distance: Binkowski et al. 2018, arXiv:1801.01401",
        )

    def _distances(
        self, evidence: Evidence, groups: list[Group], space: Features, seed: Seed
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


def _groups(evidence: Evidence) -> tuple[list[Group], int, int]:
    """Groups that are large enough; how many are too small in real sets; how many the synthetic images lack."""
    kept, few, lost = [], 0, 0
    tables = (evidence.train, evidence.holdout, evidence.synthetic)
    for name, codes in _coded(evidence):
        train, holdout, synthetic = map(np.flatnonzero, codes)
        rows = (train, holdout, synthetic)
        patients = [len(np.unique(data.patients[own])) for data, own in zip(tables, rows, strict=True)]
        if min(patients[:2]) < FEWEST_PATIENTS or min(map(len, rows[:2])) < FEWEST_IMAGES:
            few += 1
        elif len(rows[2]) < FEWEST_IMAGES:
            lost += 1
        else:
            kept.append(Group(name, rows))
    return kept, few, lost


def _coded(evidence: Evidence) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Each group's name, and which images of each set are in it."""
    tables = [data.table for data in (evidence.train, evidence.holdout, evidence.synthetic)]
    for column in evidence.schema.learned:
        name = column.name
        if any(name not in table for table in tables):
            continue
        if name == "age_years":
            ages = [numbers(table[name]) for table in tables]
            for low, high, words in _AGES:
                yield f"{name}, {words}", [(own >= low) & (own < high) for own in ages]
        elif name == "sex" or _ROLES & set(column.roles):
            levels = frequent_levels(tables[0][name])
            if column.kind in NUMERIC and len(levels) > 2:
                continue  # a number has no groups
            codes = [level_codes(table[name], levels) for table in tables]
            for number in range(min(len(levels), MOST_GROUPS)):
                yield f"{name}, group {number + 1}", [own == number for own in codes]


def _largest(values: np.ndarray, draws: np.ndarray, n: int) -> Estimate:
    """Shape: values (groups,), draws (repeats, groups)."""
    return around(float(values.max()), draws.max(axis=1), n=n, least=-np.inf, most=np.inf)

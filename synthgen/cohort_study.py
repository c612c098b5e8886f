"""How is a cohort of patients and their images made? Records are drawn first, then an image for each record."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthgen import registry, stages
from synthgen.cohort import Cohort, Link
from synthgen.cohort_io import read_written, write_cohort
from synthgen.config import Study
from synthgen.errors import DataError, UsageError
from synthgen.generators.cohort_levels import CohortLevels
from synthgen.metrics import METRICS, recorded
from synthgen.protocols import Generator, Progress, Run
from synthgen.rng import Seed

SYNTHETIC, IMAGE_MODEL = "synthetic", "image-model"  # in a run folder


def image_generator(study: Study, link: Link) -> Generator:
    """The generator of a cohort's images, told what they go by.

    Raises:
        UsageError: it learns tables.
    """
    name = study.image_generator_name
    kind: Any = registry.find("generators", name)
    settings = dict(study.images.generator.settings)
    if "condition_on" in {field.name for field in dataclasses.fields(kind)}:
        settings["condition_on"] = tuple(link.name(column) for column in link.condition_on)
    generator: Generator = registry.create("generators", name, settings)
    if registry.learns(generator) != "image":
        raise UsageError(f"{name} learns no images: see synthgen list generators")
    return generator


def drawn(
    table: Generator, images: Generator, levels: CohortLevels, train: Cohort, study: Study, *, seed: Seed, run: Run
) -> Cohort:
    """A synthetic cohort: records by one generator, and by the other an image for each record that can have one."""
    patients: Any = stages.sampled(table, study, train, seed=seed.child("records"), run=run)
    coded = levels.coded(patients.table)
    chosen = np.flatnonzero(levels.drawable(coded))
    if not len(chosen):
        raise DataError("no synthetic record has what the images of train go by: leave columns out of condition_on")
    asked = coded.iloc[chosen].reset_index(drop=True) if levels.columns else None
    run.progress(Progress("sample images", 0, len(chosen)))
    made: Any = images.sample(len(chosen), seed=seed.child("images"), given=asked)
    run.progress(Progress("sample images", len(chosen), len(chosen)))
    return levels.of_records(replace(train, patients=patients), made, chosen)


def made_cohort(study: Study, train: Cohort, folder: Path, *, keep_best: bool = False, run: Run) -> Cohort:
    """Fit both generators and sample them; what a resumed run finds in the folder is not made again.

    Args:
        study: of a cohort.
        train: what they may learn from.
        folder: gets metrics.jsonl, model/ and image-model/, their checkpoints, and synthetic/ (table, DICOM objects and
            manifest).
        keep_best: of the training that was interrupted take the best weights; another one trains as usual.
        run: progress and stop flag; whether to go on with what the folder holds.

    Returns:
        The synthetic cohort as it would leave the house: written, and read again.

    Raises:
        DataError: no image of train, or no synthetic record, has what images go by.
    """
    seed, written = Seed(study.seed), folder / SYNTHETIC
    levels = CohortLevels.fit(train)
    run = replace(run, folder=folder / "checkpoints", progress=recorded(folder / METRICS, run.progress))
    table = _fitted(
        stages.generator_of(study),
        train.patients,
        folder / "model",
        seed=seed.child("fit"),
        keep_best=keep_best,
        run=run,
    )
    run, images = replace(run, folder=folder / "checkpoints" / "images"), image_generator(study, train.link)
    material = levels.material(train)
    images = _fitted(images, material, folder / IMAGE_MODEL, seed=seed.child("images"), keep_best=keep_best, run=run)
    if not written.exists():  # it appears whole or not at all
        cohort = drawn(table, images, levels, train, study, seed=seed.child("sample"), run=run)
        write_cohort(cohort, written, seed=seed.child("dicom"), generator=images.name, modality=study.sample.modality)
    return read_written(written, train.schema, train.link, unit=study.data.unit)


def image_facts(study: Study, train: Cohort, folder: Path) -> dict[str, Any]:
    """What an audit of a cohort records beside the generator of its records."""
    return {"images": stages.generator_facts(image_generator(study, train.link), folder / IMAGE_MODEL)}


def _fitted(generator: Generator, train: Any, model: Path, *, seed: Seed, keep_best: bool, run: Run) -> Generator:
    """As `synthgen.stages.fitted`; the best so far is kept of the training that was interrupted, and of no other."""
    kept = keep_best and run.folder is not None and any(run.folder.glob("*.safetensors"))
    run = replace(run, stop=lambda: True, on_stop="keep") if kept else run
    return stages.fitted(generator, train, model, seed=seed, run=run)

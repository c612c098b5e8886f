"""How does a study of patients and their images go? Records are drawn first, then an image for each record."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthgen import registry, stages
from synthgen.auditing import audit
from synthgen.cohort import Cohort, Link
from synthgen.cohort_io import read_written, write_cohort
from synthgen.config import Study
from synthgen.errors import DataError, UsageError
from synthgen.generators.cohort_levels import CohortLevels
from synthgen.metrics import METRICS, recorded
from synthgen.policy import load_policy
from synthgen.protocols import Generator, Progress, Run
from synthgen.releasing import release
from synthgen.report import write as write_report
from synthgen.rng import Seed
from synthgen.study import Outcome

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


def run_cohort(
    study: Study,
    folder: Path,
    *,
    data: Any = None,
    resume: bool = False,
    keep_best: bool = False,
    ledger: str | Path | None = None,
    run: Run | None = None,
) -> Outcome:
    """Do the whole job for a cohort; see `synthgen.study.run_study`.

    The folder gets model/ and image-model/, their checkpoints, synthetic/ (table, DICOM objects, manifest), audit/ and,
    if the decision is RELEASE, release/. A resumed run makes none of these again, but the audit.
    """
    folder, run, seed = Path(folder), run or Run(), Seed(study.seed)
    policy = load_policy(study.policy)
    policy.about("cohort")
    table = stages.generator_of(study)
    sets: Any = data or stages.read_study_data(study, run=run)
    train, holdout = sets
    images = image_generator(study, train.link)
    levels = CohortLevels.fit(train)
    stages.open_folder(folder, study, policy, train, holdout, resume=resume)
    run = replace(run, folder=folder / "checkpoints", resume=resume, progress=recorded(folder / METRICS, run.progress))
    made = folder / SYNTHETIC
    table = _fitted(table, train.patients, folder / "model", seed=seed.child("fit"), keep_best=keep_best, run=run)
    run = replace(run, folder=folder / "checkpoints" / "images")
    material = levels.material(train)
    images = _fitted(images, material, folder / IMAGE_MODEL, seed=seed.child("images"), keep_best=keep_best, run=run)
    if not made.exists():  # it appears whole or not at all
        cohort = drawn(table, images, levels, train, study, seed=seed.child("sample"), run=run)
        write_cohort(cohort, made, seed=seed.child("dicom"), generator=images.name, modality=study.sample.modality)
    synthetic = read_written(made, train.schema, train.link, unit=study.data.unit)
    facts = stages.generator_facts(table, folder / "model")
    about_images = stages.generator_facts(images, folder / IMAGE_MODEL)
    result = audit(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        seed=seed.child("audit"),
        policy=policy,
        generator={**facts, "images": about_images, **stages.rebalanced(study, train, synthetic)},
        ledger=ledger,
        run=run,
    )
    result.save(folder / "audit")
    report = write_report(result, folder / "audit")
    released = None
    if result.decision.outcome == "RELEASE":
        released = release(result, synthetic, folder / "release", force=resume, licence=study.licence)
    return Outcome(result, report, released)


def _fitted(generator: Generator, train: Any, model: Path, *, seed: Seed, keep_best: bool, run: Run) -> Generator:
    """As `synthgen.study.fitted`; the best so far is kept of the training that was interrupted, and of no other."""
    kept = keep_best and run.folder is not None and any(run.folder.glob("*.safetensors"))
    run = replace(run, stop=lambda: True, on_stop="keep") if kept else run
    return stages.fitted(generator, train, model, seed=seed, run=run)

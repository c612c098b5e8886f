"""What are the steps of a study? Read and split, open the run folder, fit and sample, audit: each leaves its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from synthgen import registry
from synthgen.auditing import Audit, audit, versions
from synthgen.config import Study
from synthgen.cost import COST, measured
from synthgen.data import TableData
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.evidence import require_patients
from synthgen.images import ImageData
from synthgen.io import read, write
from synthgen.metrics import METRICS, recorded
from synthgen.policy import Modality, Policy
from synthgen.protocols import Generator, Progress, Run
from synthgen.report import write as write_report
from synthgen.rng import Seed

Data = TableData | ImageData


def records_of(data: Data) -> TableData:
    """A table itself, or the records of images."""
    return data if isinstance(data, TableData) else data.records


def read_study_data(study: Study, *, run: Run | None = None) -> tuple[Data, Data]:
    """Read a study's table or images and split them: train, and the holdout that stays sealed until the audit."""
    data = study.data
    cohort: Data
    if data.images:
        from synthgen.image_io import read_images

        cohort = read_images(data.images, labels=data.labels, target=data.target, unit=data.unit, run=run)
    else:
        assert data.table is not None, "a study has a table or images"
        cohort = read(
            data.table, schema=data.table_schema, target=data.target, patient=data.patient, encoding=data.encoding
        )
    train, holdout = cohort.split_by_patient(holdout=study.split.holdout, seed=study.seed)
    require_patients(train, "train")
    require_patients(holdout, "holdout")
    return train, holdout


def generator_of(study: Study) -> Generator:
    """The generator that a study names, with its settings, not yet fitted.

    Raises:
        UsageError: no such generator or setting, or one that learns another kind of data.
    """
    name = study.generator_name
    generator: Generator = registry.create("generators", name, study.generator_settings)
    if registry.learns(generator) != modality_of(study):
        about = "images" if study.data.images else "a table"
        raise UsageError(f"{name} learns another kind of data, and this study is about {about}: see synthgen list")
    return generator


def modality_of(study: Study) -> Modality:
    """What a study is about."""
    return "image" if study.data.images else "table"


def open_folder(
    folder: Path,
    study: Study,
    policy: Policy,
    train: Data,
    holdout: Data,
    *,
    resume: bool,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Begin a run folder, or make sure that the one being resumed is of the same study, policy and data.

    The policy's hash is written before any result exists, so that thresholds cannot follow the results; so is what
    else the manifest is to hold.
    """
    manifest: Mapping[str, Any] = {
        "study": study.hash(),
        "policy": {"name": policy.name, "hash": policy.hash},
        "fingerprints": {"train": train.fingerprint(), "holdout": holdout.fingerprint()},
        "seed": study.seed,
        "versions": versions(),
        **(more or {}),
    }
    path = folder / "manifest.json"
    if path.exists():
        if not resume:
            raise UsageError(
                f"{folder.name!r} already holds a run: add --resume to go on with it, or choose another folder"
            )
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["study"] != manifest["study"]:
            raise UsageError(
                f"{folder.name!r} holds the run of another study; resume with the same study file and --set"
            )
        if before["policy"] != manifest["policy"]:
            raise UsageError("the policy was changed after the run had begun: begin a new run under the new policy")
        if before["fingerprints"] != manifest["fingerprints"]:
            raise DataError("the data are not those of the run being resumed: their fingerprint differs")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder.name!r} is not empty and holds no run: choose another folder")
        settings = yaml.safe_dump(study.resolved(), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write into {folder.name!r}: {error.strerror}") from error
    write_json(path, manifest)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data into a file of a run folder, whole or not at all.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path.name!r}: {error.strerror}") from error


def made(study: Study, train: Data, folder: Path, *, keep_best: bool = False, run: Run) -> Data:
    """Fit the study's generator and sample it; what a resumed run finds in the folder is not made again.

    Args:
        study: with one generator.
        train: what it may learn from.
        folder: gets metrics.jsonl, checkpoints/, model/ and synthetic.parquet, or of images a folder synthetic/.
        keep_best: do not train on, but take the best weights that the interrupted training had.
        run: progress and stop flag; whether to go on with what the folder holds.

    Returns:
        The synthetic data as they would leave the house.
    """
    seed = Seed(study.seed)
    run = replace(run, folder=folder / "checkpoints", progress=recorded(folder / METRICS, run.progress))
    training = replace(run, stop=lambda: True, on_stop="keep") if keep_best else run
    generator = _fitted(generator_of(study), train, folder / "model", seed=seed.child("fit"), run=training)
    synthetic = _sampled(generator, study, len(train), seed=seed.child("sample"), run=run)
    if isinstance(synthetic, TableData):
        write(synthetic, folder / "synthetic.parquet")
        return synthetic
    return _written(synthetic, study, folder / "synthetic", seed=seed.child("dicom"), run=run)


def audited(
    study: Study,
    sets: tuple[Data, Data, Data],
    folder: Path,
    *,
    policy: Policy,
    ledger: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    run: Run,
) -> tuple[Audit, Path]:
    """Audit what `made` left in a folder, which gets audit/ with audit.json and the report.

    Args:
        study: with one generator.
        sets: train, holdout and synthetic data.
        folder: where the model is.
        policy: that of the study.
        ledger: file that counts the audits of each holdout.
        about: further facts about the generator, for the record.
        run: progress and stop flag.

    Returns:
        The audit and the path of its report.
    """
    train, holdout, synthetic = sets
    result = audit(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        seed=Seed(study.seed).child("audit"),
        policy=policy,
        generator={**generator_facts(generator_of(study), folder / "model"), **(about or {})},
        ledger=ledger,
        run=run,
    )
    result.save(folder / "audit")
    return result, write_report(result, folder / "audit")


def generator_facts(generator: Generator, model: Path) -> dict[str, Any]:
    """What an audit records about the generator: from its manifest and what it cost, never from the data."""
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    facts = {key: manifest[key] for key in ("settings", "training") if key in manifest}
    if (model / COST).exists():
        facts["cost"] = json.loads((model / COST).read_text(encoding="utf-8"))
    if "checksum" in manifest:
        facts["manifest"] = manifest["checksum"]
    return {"name": generator.name, "licence": generator.licence, **facts}


def _written(images: ImageData, study: Study, folder: Path, *, seed: Seed, run: Run) -> ImageData:
    """Synthetic images as the files that leave the house, read again: what is audited is what is released."""
    from synthgen.dicom.header import ACCEPTABLE
    from synthgen.dicom.write import write_dicom
    from synthgen.image_io import read_images
    from synthgen.image_output import write_labels, write_pictures

    if folder.exists():  # of a run that was interrupted; it holds nothing else
        shutil.rmtree(folder)
    if study.sample.form == "png":
        write_pictures(images, folder)
    else:
        write_dicom(images, folder, seed=seed, generator=study.generator_name, modality=study.sample.modality)
        write_labels(images, folder)
    return read_images(folder, unit=study.data.unit, accept=ACCEPTABLE, run=run)


def _fitted(generator: Generator, train: Any, model: Path, *, seed: Seed, run: Run) -> Generator:
    pickled = getattr(generator, "needs_trust", False)  # trained again rather than trusted
    if run.resume and (model / "manifest.json").exists() and not pickled:
        return type(generator).load(model)
    run.progress(Progress("fit", 0, 1))
    cost = model.with_name("checkpoints") / COST
    with measured(cost, threads=getattr(generator, "threads", None)):
        fitted = generator.fit(train, seed=seed, run=run)
    fitted.save(model)
    cost.replace(model / COST)
    run.progress(Progress("fit", 1, 1))
    return fitted


def _sampled(generator: Generator, study: Study, train_rows: int, *, seed: Seed, run: Run) -> Data:
    rows = study.sample.rows or train_rows
    run.progress(Progress("sample", 0, rows))
    synthetic: Data = generator.sample(rows, seed=seed, where=study.sample.where or None)
    run.progress(Progress("sample", rows, rows))
    return synthetic

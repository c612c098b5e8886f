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
from synthgen.cohort import Cohort, Link
from synthgen.config import Study
from synthgen.cost import COST, measured
from synthgen.data import TableData
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.evidence import require_patients
from synthgen.findings import Modality
from synthgen.generators import rebalancing
from synthgen.images import ImageData
from synthgen.io import read, write
from synthgen.metrics import METRICS, recorded
from synthgen.policy import Policy
from synthgen.protocols import Generator, Progress, Run
from synthgen.report import write as write_report
from synthgen.rng import Seed

Data = TableData | ImageData | Cohort


def records_of(data: Data) -> TableData:
    """A table itself, or the records of images, or those of a cohort's patients."""
    return data if isinstance(data, TableData) else data.patients if isinstance(data, Cohort) else data.records


def read_study_data(study: Study, *, run: Run | None = None) -> tuple[Data, Data]:
    """Read a study's table or images and split them: train, and the holdout that stays sealed until the audit."""
    data = study.data
    cohort: Data
    if study.is_cohort:
        cohort = _cohort(study, run)
    elif data.images:
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


def _cohort(study: Study, run: Run | None) -> Cohort:
    """The table and the images of a study, linked."""
    from synthgen.cohort_io import of_images

    data, images = study.data, study.images
    assert data.images, "a cohort has both"
    patients = read(
        data.table, schema=data.table_schema, target=data.target, patient=data.patient, encoding=data.encoding
    )
    condition_on = None if images.condition_on is None else tuple(images.condition_on)
    link = Link.of(patients.schema, condition_on=condition_on, finding=images.finding, headers=images.headers)
    return of_images(patients, data.images, link=link, labels=data.labels, unit=data.unit, run=run)


def relinked(study: Study, cohort: Cohort) -> Cohort:
    """A cohort that came linked, its images going by what the study says where the study says something.

    Raises:
        SchemaError: a link to columns that the table does not have.
    """
    said, own = study.images, cohort.link
    link = Link.of(
        cohort.schema,
        condition_on=own.condition_on if said.condition_on is None else tuple(said.condition_on),
        finding=said.finding or own.finding,
        headers={**own.headers, **said.headers},
    )
    return replace(cohort, link=link)


def generator_of(study: Study) -> Generator:
    """The generator that a study names, with its settings, not yet fitted; of a cohort that of its records.

    Raises:
        UsageError: no such generator or setting, or one that learns another kind of data.
    """
    name = study.generator_name
    generator: Generator = registry.create("generators", name, study.generator_settings)
    if registry.learns(generator) != ("table" if study.data.table else "image"):
        about = "a table" if study.data.table else "images"
        raise UsageError(f"{name} learns another kind of data, and this study is about {about}: see synthgen list")
    return generator


def modality_of(study: Study) -> Modality:
    """What a study is about."""
    return "cohort" if study.is_cohort else "image" if study.data.images else "table"


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
    generator = fitted(generator_of(study), train, folder / "model", seed=seed.child("fit"), run=training)
    synthetic = sampled(generator, study, train, seed=seed.child("sample"), run=run)
    if isinstance(synthetic, TableData):
        write(synthetic, folder / "synthetic.parquet")
        return synthetic
    assert isinstance(synthetic, ImageData), "a cohort has its own pipeline"
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
        generator={
            **generator_facts(generator_of(study), folder / "model"),
            **rebalanced(study, train, synthetic),
            **(about or {}),
        },
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


def fitted(generator: Generator, train: Any, model: Path, *, seed: Seed, run: Run) -> Generator:
    """The generator fitted on train and saved, or as a resumed run finds it."""
    pickled = getattr(generator, "needs_trust", False)  # trained again rather than trusted
    if run.resume and (model / "manifest.json").exists() and not pickled:
        return type(generator).load(model)
    run.progress(Progress("fit", 0, 1))
    cost = model.with_name("checkpoints") / COST
    with measured(cost, threads=getattr(generator, "threads", None)):
        learned = generator.fit(train, seed=seed, run=run)
    learned.save(model)
    cost.replace(model / COST)
    run.progress(Progress("fit", 1, 1))
    return learned


def sampled(generator: Generator, study: Study, train: Data, *, seed: Seed, run: Run) -> Data:
    """As many rows, or images, as the study asks for, and of the kinds that it asks for."""
    asked, known = study.sample, records_of(train)
    rows = sum(cell.get("rows", 0) for cell in asked.cells) or asked.rows or len(train)
    run.progress(Progress("sample", 0, rows))
    given = rebalancing.asked(known, balance=asked.balance, cells=asked.cells, rows=rows, seed=seed.child("cells"))
    more = {} if given is None else {"given": given}
    rows = rows if given is None else len(given)
    synthetic: Data = generator.sample(rows, seed=seed, where=asked.where or None, **more)
    run.progress(Progress("sample", rows, rows))
    return synthetic


def rebalanced(study: Study, train: Data, synthetic: Data) -> dict[str, Any]:
    """For the record of an audit: what `balance` or `cells` changed; nothing where the study has neither."""
    columns = study.sample.balance or [name for name in (study.sample.cells or [{}])[0] if name != rebalancing.ROWS]
    if not columns:
        return {}
    return {"rebalanced": rebalancing.before_and_after(records_of(train), records_of(synthetic), columns)}

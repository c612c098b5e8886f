"""How does the whole job go? Read, split, fit, sample, audit, decide, release: the pipeline as one function."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from synthgen import registry
from synthgen.auditing import Audit, audit, versions
from synthgen.cohort import Cohort
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
from synthgen.policy import Policy, load_policy
from synthgen.protocols import Generator, Progress, Run
from synthgen.releasing import release
from synthgen.report import write as write_report
from synthgen.rng import Seed

log = logging.getLogger(__name__)
Data = TableData | ImageData | Cohort


@dataclass(frozen=True)
class Outcome:
    """What a study left behind."""

    audit: Audit
    report: Path
    release: Path | None  # None unless the decision was RELEASE


@dataclass(frozen=True)
class Plan:
    """What a study would do, without doing it."""

    study: Study
    train: Data
    holdout: Data
    parameters: int | None  # of the network; None where there is none
    memory_mb: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--dry-run`."""
        unit = "rows" if self.study.data.table else "images"
        both = (
            {
                "images": {"train": len(self.train.images), "holdout": len(self.holdout.images)},
                "linked": dict(self.train.counts),
            }
            if isinstance(self.train, Cohort) and isinstance(self.holdout, Cohort)
            else {}
        )
        schema = records_of(self.train).schema
        return {
            "study": self.study.resolved(),
            unit: {"train": len(self.train), "holdout": len(self.holdout)},
            **both,
            "patients": {"train": self.train.patient_count, "holdout": self.holdout.patient_count},
            "columns": {"all": len(schema.columns), "learned": len(schema.learned)},
            "not_learned": [c.name for c in schema.columns if not c.learned],
            "parameters": self.parameters,
            "memory_mb": self.memory_mb,
            "checks": list(load_policy(self.study.policy).about(_modality(self.study)).checks),
        }


def records_of(data: Data) -> TableData:
    """A table itself, or the records of images, or those of a cohort's patients."""
    return data if isinstance(data, TableData) else data.patients if isinstance(data, Cohort) else data.records


def read_study_data(study: Study, *, run: Run | None = None) -> tuple[Data, Data]:
    """Read a study's table or images and split them: train, and the holdout that stays sealed until the audit."""
    data = study.data
    cohort: Data
    if study.is_cohort:
        from synthgen.cohort_study import read_cohort_of

        cohort = read_cohort_of(study, run=run)
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


def plan_study(study: Study) -> Plan:
    """Resolve a study and estimate what it takes.

    The estimate adds what Python and torch take, the tables with their copies, and the network with gradients,
    moments and averages.
    """
    generator = generator_of(study)
    load_policy(study.policy).about(_modality(study))
    train, holdout = read_study_data(study)
    count = getattr(generator, "parameter_count", None)
    parameters = int(count(records_of(train) if study.is_cohort else train, seed=study.seed)) if count else None
    cells = (2 * len(train) + len(holdout)) * _cells(train)
    memory = 450 + cells * 8 * 12 / 1e6 + (parameters or 0) * 4 * 6 / 1e6
    return Plan(study, train, holdout, parameters, round(memory))


def run_study(
    study: Study,
    folder: Path,
    *,
    data: tuple[Data, Data] | None = None,
    resume: bool = False,
    keep_best: bool = False,
    ledger: str | Path | None = None,
    run: Run | None = None,
) -> Outcome:
    """Do the whole job in a folder; every finished stage is kept, so an interrupted run can be resumed.

    Args:
        study: what to do.
        folder: gets config.yaml, manifest.json, metrics.jsonl, checkpoints/, model/, synthetic.parquet (of images a
            folder synthetic/), audit/ and, if the decision is RELEASE, release/.
        data: train and holdout, where they do not come from the study's file.
        resume: go on with what the folder holds; the study and its data must be the same.
        keep_best: with `resume`, do not train on, but take the best weights that the interrupted training had.
        ledger: file that counts the audits of each holdout.
        run: progress and stop flag.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, or holds another study's run.
    """
    if study.is_cohort:
        from synthgen.cohort_study import run_cohort

        return run_cohort(study, folder, data=data, resume=resume, keep_best=keep_best, ledger=ledger, run=run)
    folder, run, seed = Path(folder), run or Run(), Seed(study.seed)
    policy, generator = load_policy(study.policy), generator_of(study)
    policy.about(_modality(study))
    train, holdout = data or read_study_data(study, run=run)
    open_folder(folder, study, policy, train, holdout, resume=resume)
    run = replace(run, folder=folder / "checkpoints", resume=resume, progress=recorded(folder / METRICS, run.progress))

    training = replace(run, stop=lambda: True, on_stop="keep") if keep_best else run
    generator = fitted(generator, train, folder / "model", seed=seed.child("fit"), run=training)
    synthetic = sampled(generator, study, train, seed=seed.child("sample"), run=run)
    if isinstance(synthetic, TableData):
        write(synthetic, folder / "synthetic.parquet")
    else:
        assert isinstance(synthetic, ImageData), "a cohort has its own pipeline"
        synthetic = _written(synthetic, study, folder / "synthetic", seed=seed.child("dicom"), run=run)
    result = audit(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        seed=seed.child("audit"),
        policy=policy,
        generator={**generator_facts(generator, folder / "model"), **rebalanced(study, train, synthetic)},
        ledger=ledger,
        run=run,
    )
    result.save(folder / "audit")
    report = write_report(result, folder / "audit")
    released = None
    if result.decision.outcome == "RELEASE":
        released = release(result, synthetic, folder / "release", force=resume, licence=study.licence)
    return Outcome(result, report, released)


def generator_facts(generator: Generator, model: Path) -> dict[str, Any]:
    """What an audit records about the generator: from its manifest, never from the data."""
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    facts = {key: manifest[key] for key in ("settings", "training") if key in manifest}
    return {"name": generator.name, "licence": generator.licence, **facts}


def generator_of(study: Study) -> Generator:
    """The generator that a study names, with its settings; of a cohort that of its table.

    Raises:
        UsageError: no such generator or setting, or one that learns another kind of data.
    """
    name = study.generator_name
    generator: Generator = registry.create("generators", name, study.generator.settings)
    if registry.learns(generator) != ("table" if study.data.table else "image"):
        about = "a table" if study.data.table else "images"
        raise UsageError(f"{name} learns another kind of data, and this study is about {about}: see synthgen list")
    return generator


def _modality(study: Study) -> Modality:
    return "cohort" if study.is_cohort else "image" if study.data.images else "table"


def _cells(data: Data) -> int:
    """Numbers that a row or an image has, or both together."""
    if isinstance(data, Cohort):
        return _cells(data.patients) + _cells(data.images)
    return len(data.schema.columns) if isinstance(data, TableData) else int(data.read(0).size)


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
        made = generator.fit(train, seed=seed, run=run)
    made.save(model)
    cost.replace(model / COST)
    run.progress(Progress("fit", 1, 1))
    return made


def sampled(generator: Generator, study: Study, train: Data, *, seed: Seed, run: Run) -> Data:
    """As many rows, or images, as the study asks for, and of the kinds that it asks for."""
    asked = study.sample
    rows = sum(cell.get("rows", 0) for cell in asked.cells) or asked.rows or len(train)
    run.progress(Progress("sample", 0, rows))
    known = records_of(train)
    given = rebalancing.asked(known, balance=asked.balance, cells=asked.cells, rows=rows, seed=seed.child("cells"))
    more = {} if given is None else {"given": given}
    synthetic: Data = generator.sample(
        len(given) if given is not None else rows, seed=seed, where=asked.where or None, **more
    )
    run.progress(Progress("sample", rows, rows))
    return synthetic


def rebalanced(study: Study, train: Data, synthetic: Data) -> dict[str, Any]:
    """For the record of an audit: what `balance` or `cells` changed; nothing where the study has neither."""
    columns = study.sample.balance or [name for name in (study.sample.cells or [{}])[0] if name != rebalancing.ROWS]
    if not columns:
        return {}
    return {"rebalanced": rebalancing.before_and_after(records_of(train), records_of(synthetic), columns)}


def open_folder(
    folder: Path,
    study: Study,
    policy: Policy,
    train: Data,
    holdout: Data,
    *,
    resume: bool,
) -> None:
    """Begin a run folder, or make sure that the one being resumed is of the same study, policy and data.

    The policy's hash is written before any result exists, so that thresholds cannot follow the results.
    """
    manifest: Mapping[str, Any] = {
        "study": study.hash(),
        "policy": {"name": policy.name, "hash": policy.hash},
        "fingerprints": {"train": train.fingerprint(), "holdout": holdout.fingerprint()},
        "seed": study.seed,
        "versions": versions(),
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
        part = path.with_suffix(".part")
        part.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write into {folder.name!r}: {error.strerror}") from error

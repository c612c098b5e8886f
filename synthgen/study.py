"""How does the whole job go? Read, split, fit, sample, audit, decide, release: the pipeline as one function."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from synthgen.io import read, write
from synthgen.metrics import METRICS, recorded
from synthgen.policy import Policy, load_policy
from synthgen.protocols import Generator, Progress, Run
from synthgen.releasing import release
from synthgen.report import write as write_report
from synthgen.rng import Seed

log = logging.getLogger(__name__)


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
    train: TableData
    holdout: TableData
    parameters: int | None  # of the network; None where there is none
    memory_mb: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--dry-run`."""
        return {
            "study": self.study.resolved(),
            "rows": {"train": len(self.train), "holdout": len(self.holdout)},
            "patients": {"train": self.train.patient_count, "holdout": self.holdout.patient_count},
            "columns": {"all": len(self.train.schema.columns), "learned": len(self.train.schema.learned)},
            "not_learned": [c.name for c in self.train.schema.columns if not c.learned],
            "parameters": self.parameters,
            "memory_mb": self.memory_mb,
            "checks": list(load_policy(self.study.policy).checks),
        }


def read_study_data(study: Study) -> tuple[TableData, TableData]:
    """Read a study's table and split it: train, and the holdout that stays sealed until the audit."""
    data = study.data
    cohort = read(
        data.table, schema=data.table_schema, target=data.target, patient=data.patient, encoding=data.encoding
    )
    train, holdout = cohort.split_by_patient(holdout=study.split.holdout, seed=study.seed)
    require_patients(train, "train")
    require_patients(holdout, "holdout")
    return train, holdout


def plan_study(study: Study, *, data: tuple[TableData, TableData] | None = None) -> Plan:
    """Resolve a study and estimate what it takes.

    The estimate adds what Python and torch take, the tables with their copies, and the network with gradients,
    moments and averages.
    """
    train, holdout = data or read_study_data(study)
    generator = _generator(study)
    load_policy(study.policy)
    count = getattr(generator, "parameter_count", None)
    parameters = int(count(train, seed=study.seed)) if count else None
    cells = (2 * len(train) + len(holdout)) * len(train.schema.columns)
    memory = 450 + cells * 8 * 12 / 1e6 + (parameters or 0) * 4 * 6 / 1e6
    return Plan(study, train, holdout, parameters, round(memory))


def run_study(
    study: Study,
    folder: Path,
    *,
    data: tuple[TableData, TableData] | None = None,
    resume: bool = False,
    keep_best: bool = False,
    run: Run | None = None,
) -> Outcome:
    """Do the whole job in a folder; every finished stage is kept, so an interrupted run can be resumed.

    Args:
        study: what to do.
        folder: gets config.yaml, manifest.json, metrics.jsonl, checkpoints/, model/, synthetic.parquet, audit/ and,
            if the decision is RELEASE, release/.
        data: train and holdout, where they do not come from the study's file.
        resume: go on with what the folder holds; the study and its data must be the same.
        keep_best: with `resume`, do not train on, but take the best weights that the interrupted training had.
        run: progress and stop flag.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, or holds another study's run.
    """
    folder, run, seed = Path(folder), run or Run(), Seed(study.seed)
    policy, generator = load_policy(study.policy), _generator(study)
    train, holdout = data or read_study_data(study)
    _open_folder(folder, study, policy, train, holdout, resume=resume)
    run = replace(run, folder=folder / "checkpoints", resume=resume, progress=recorded(folder / METRICS, run.progress))

    training = replace(run, stop=lambda: True, on_stop="keep") if keep_best else run
    generator = _fitted(generator, train, folder / "model", seed=seed.child("fit"), run=training)
    synthetic = _sampled(generator, study, len(train), seed=seed.child("sample"), run=run)
    write(synthetic, folder / "synthetic.parquet")
    result = audit(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        seed=seed.child("audit"),
        policy=policy,
        generator=generator_facts(generator, folder / "model"),
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


def _generator(study: Study) -> Generator:
    generator: Generator = registry.create("generators", study.generator.name, study.generator.settings)
    if registry.learns(generator) != "table":
        raise UsageError(f"{study.generator.name} learns images, and a study is about a table: see synthgen fit")
    return generator


def _fitted(generator: Generator, train: TableData, model: Path, *, seed: Seed, run: Run) -> Generator:
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


def _sampled(generator: Generator, study: Study, train_rows: int, *, seed: Seed, run: Run) -> TableData:
    rows = study.sample.rows or train_rows
    run.progress(Progress("sample", 0, rows))
    synthetic = generator.sample(rows, seed=seed, where=study.sample.where or None)
    run.progress(Progress("sample", rows, rows))
    return synthetic


def _open_folder(
    folder: Path, study: Study, policy: Policy, train: TableData, holdout: TableData, *, resume: bool
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
            raise DataError("the data are not those of the run being resumed: the table's fingerprint differs")
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

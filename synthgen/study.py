"""How does the whole job go? Read, split, fit, sample, audit, decide, release: the pipeline as one function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthgen.auditing import Audit
from synthgen.config import Study
from synthgen.data import TableData
from synthgen.policy import load_policy
from synthgen.protocols import Run
from synthgen.releasing import release
from synthgen.stages import Data, audited, generator_of, made, modality_of, open_folder, read_study_data, records_of


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
        unit = "images" if self.study.data.images else "rows"
        schema = records_of(self.train).schema
        return {
            "study": self.study.resolved(),
            unit: {"train": len(self.train), "holdout": len(self.holdout)},
            "patients": {"train": self.train.patient_count, "holdout": self.holdout.patient_count},
            "columns": {"all": len(schema.columns), "learned": len(schema.learned)},
            "not_learned": [c.name for c in schema.columns if not c.learned],
            "parameters": self.parameters,
            "memory_mb": self.memory_mb,
            "checks": list(load_policy(self.study.policy).about(modality_of(self.study)).checks),
        }


def plan_study(study: Study) -> Plan:
    """Resolve a study and estimate what it takes.

    The estimate adds what Python and torch take, the tables with their copies, and the network with gradients,
    moments and averages.
    """
    generator = generator_of(study)
    load_policy(study.policy).about(modality_of(study))
    train, holdout = read_study_data(study)
    count = getattr(generator, "parameter_count", None)
    parameters = int(count(train, seed=study.seed)) if count else None
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
    folder, run, policy = Path(folder), run or Run(), load_policy(study.policy)
    policy.about(modality_of(study))
    generator_of(study)
    train, holdout = data or read_study_data(study, run=run)
    open_folder(folder, study, policy, train, holdout, resume=resume)
    run = replace(run, resume=resume)
    synthetic = made(study, train, folder, keep_best=keep_best, run=run)
    result, report = audited(study, (train, holdout, synthetic), folder, policy=policy, ledger=ledger, run=run)
    released = None
    if result.decision.outcome == "RELEASE":
        released = release(result, synthetic, folder / "release", force=resume, licence=study.licence)
    return Outcome(result, report, released)


def _cells(data: Data) -> int:
    """Numbers that a row or an image has."""
    return len(data.schema.columns) if isinstance(data, TableData) else int(data.read(0).size)

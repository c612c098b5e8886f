"""How does the whole job go? Read, split, fit, sample, audit, decide, release: the pipeline as one function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthgen.auditing import Audit
from synthgen.cohort import Cohort
from synthgen.cohort_study import image_facts, image_generator, made_cohort
from synthgen.config import Study
from synthgen.data import TableData
from synthgen.findings import Decision
from synthgen.policy import load_policy
from synthgen.protocols import Run
from synthgen.releasing import release
from synthgen.selection import COMPARISON, RANKED_BY, Selection, planned, select, without_validation
from synthgen.stages import (
    Data,
    audited,
    generator_of,
    made,
    modality_of,
    open_folder,
    read_study_data,
    records_of,
    relinked,
)


@dataclass(frozen=True)
class Outcome:
    """What a study left behind."""

    audit: Audit  # of several generators that of the released one, or of the best where none passes
    report: Path  # of several generators the page that compares them
    release: Path | None  # None unless the decision was RELEASE
    selection: Selection | None = None  # of several generators

    @property
    def decision(self) -> Decision:
        """That of the audit, or of all audits together."""
        return self.selection.decision if self.selection else self.audit.decision


@dataclass(frozen=True)
class Plan:
    """What a study would do, without doing it."""

    study: Study
    train: Data
    holdout: Data
    parameters: Mapping[str, int | None]  # of each generator's network; None where there is none
    memory_mb: int
    validation: Data | None = None  # held back from train, where several generators are ranked

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--dry-run`."""
        unit = "rows" if self.study.data.table else "images"
        schema = records_of(self.train).schema
        sets = {"train": self.train, "validation": self.validation, "holdout": self.holdout}
        several = {"ranked_by": RANKED_BY[modality_of(self.study)].words} if self.study.several else {}
        return {
            "study": self.study.resolved(),
            unit: {name: len(data) for name, data in sets.items() if data is not None},
            "patients": {name: data.patient_count for name, data in sets.items() if data is not None},
            **self._images(),
            "columns": {"all": len(schema.columns), "learned": len(schema.learned)},
            "not_learned": [c.name for c in schema.columns if not c.learned],
            **several,
            "parameters": dict(self.parameters) if self.study.several else next(iter(self.parameters.values())),
            "memory_mb": self.memory_mb,
            "checks": list(load_policy(self.study.policy).about(modality_of(self.study)).checks),
        }

    def _images(self) -> dict[str, Any]:
        """Of a cohort: how many images there are, and how records and images of train fit together."""
        if not (isinstance(self.train, Cohort) and isinstance(self.holdout, Cohort)):
            return {}
        counts = {"train": len(self.train.images), "holdout": len(self.holdout.images)}
        return {"images": counts, "linked": dict(self.train.counts)}


def plan_study(study: Study) -> Plan:
    """Resolve a study and estimate what it takes.

    The estimate adds what Python and torch take, the tables with their copies, and the network with gradients,
    moments and averages.
    """
    generators = {label: generator_of(one) for label, one in study.generators.items()}
    load_policy(study.policy).about(modality_of(study))
    train, holdout = read_study_data(study)
    known, validation = without_validation(study, train) if study.several else (train, None)
    learned = records_of(known) if study.is_cohort else known
    counts = {label: getattr(generator, "parameter_count", None) for label, generator in generators.items()}
    parameters = {label: int(count(learned, seed=study.seed)) if count else None for label, count in counts.items()}
    synthetic = len(generators) * len(known)
    cells = (len(train) + synthetic + len(holdout)) * _cells(train)
    memory = 450 + cells * 8 * 12 / 1e6 + max(count or 0 for count in parameters.values()) * 4 * 6 / 1e6
    return Plan(study, known, holdout, parameters, round(memory), validation)


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

    Of several generators the first that passes is released, in an order that patients held back from train decide:
    see `synthgen.selection`.

    Args:
        study: what to do.
        folder: gets config.yaml, manifest.json, metrics.jsonl, checkpoints/, model/, synthetic.parquet (of images a
            folder synthetic/; of a cohort that and image-model/), audit/ and, if the decision is RELEASE, release/. Of
            several generators each has its own metrics.jsonl to audit/ in generators/NAME/, with validation.json
            beside; the run has selection.json, compare.html and, where no ledger is given, ledger.jsonl.
        data: train and holdout, where they do not come from the study's file; cohorts keep their link where the study's
            section images says nothing.
        resume: go on with what the folder holds; the study and its data must be the same.
        keep_best: with `resume`, do not train on, but take the best weights that the interrupted training had.
        ledger: file that counts the audits of each holdout.
        run: progress and stop flag.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, or holds another study's run.
    """
    folder, run, policy = Path(folder), run or Run(), load_policy(study.policy)
    policy.about(modality_of(study))
    for one in study.generators.values():
        generator_of(one)
    train, holdout = data or read_study_data(study, run=run)
    if isinstance(train, Cohort) and isinstance(holdout, Cohort):
        train, holdout = relinked(study, train), relinked(study, holdout)
        image_generator(study, train.link)
    more = planned(study, train) if study.several else {}
    open_folder(folder, study, policy, train, holdout, resume=resume, more=more)
    run = replace(run, resume=resume)
    if study.several:
        selection, synthetic = select(
            study, train, holdout, folder, policy=policy, ledger=ledger, keep_best=keep_best, run=run
        )
        shown = selection.released or selection.candidates[0]
        outcome = Outcome(shown.audit, folder / COMPARISON, None, selection)
    else:
        about = {}
        if isinstance(train, Cohort):
            synthetic = made_cohort(study, train, folder, keep_best=keep_best, run=run)
            about = image_facts(study, train, folder)
        else:
            synthetic = made(study, train, folder, keep_best=keep_best, run=run)
        sets = (train, holdout, synthetic)
        outcome = Outcome(*audited(study, sets, folder, policy=policy, ledger=ledger, about=about, run=run), None)
    if synthetic is None or outcome.decision.outcome != "RELEASE":
        return outcome
    released = release(outcome.audit, synthetic, folder / "release", force=resume, licence=study.licence)
    return replace(outcome, release=released)


def _cells(data: Data) -> int:
    """Numbers that a row or an image has, or both together."""
    if isinstance(data, Cohort):
        return _cells(data.patients) + _cells(data.images)
    return len(data.schema.columns) if isinstance(data, TableData) else int(data.read(0).size)

"""Which of several generators is released? The first to pass the policy, in an order fixed without the holdout.

Patients held back from train, whom no generator saw, rank the generators by one figure. Then each is audited in that
order, as the next audit of the holdout in the ledger, and the first that passes is released. The audits choose nothing
but pass or not: whoever chose by them would need another holdout to know how good the choice is.

Each audit is another chance that an interval misses the truth. The levels are those of `synthgen.ledger.spent`: the
k-th has alpha * 2 / (k (k + 1)), so that over any number of generators they sum to less than 2 alpha. As the order is
fixed before the holdout is opened, the best may have the largest share, and listing further generators costs it
nothing. Equal shares (Bonferroni) would make it pay for all; Holm orders by p-values, and a verdict over many checks
has none. Within an audit nothing is adjusted for the number of checks: all that are required must pass.

Source: fixed sequence with unequal levels: Wiens 2003, doi:10.1002/pst.64; all must pass: Berger 1982,
doi:10.1080/00401706.1982.10487790.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from synthgen import registry
from synthgen.auditing import Audit
from synthgen.comparison import Comparison, compare
from synthgen.config import Study
from synthgen.evidence import gathered, require_patients
from synthgen.findings import Decision, Estimate, Modality, to_json
from synthgen.policy import Policy
from synthgen.protocols import Check, Run
from synthgen.report import write as write_report
from synthgen.report import write_comparison
from synthgen.report.public import interval, rounded
from synthgen.rng import Seed
from synthgen.stages import Data, audited, made, modality_of, write_json

GENERATORS, VALIDATION, SELECTION = "generators", "validation.json", "selection.json"
LEDGER, COMPARISON = "ledger.jsonl", "compare.html"


class Figure(NamedTuple):
    """By what generators are ranked: a named figure of a check, with validation patients for the holdout."""

    check: str
    detail: str | None  # None: the statistic itself
    words: str


RANKED_BY: Mapping[Modality, Figure] = {
    "table": Figure(
        "fidelity.detection", "synthetic against holdout", "AUC of a classifier, synthetic against validation rows"
    ),
    "image": Figure("fidelity.image_detection", None, "AUC of a small network, synthetic against validation images"),
}


@dataclass(frozen=True)
class Candidate:
    """One of the generators, and what became of it."""

    label: str
    rank: int  # 1: its figure is the lowest
    figure: Estimate  # on the validation patients
    audit: Audit
    report: Path


@dataclass(frozen=True)
class Selection:
    """The generators of a study, best first on the validation patients."""

    ranked_by: str
    candidates: tuple[Candidate, ...]

    @property
    def released(self) -> Candidate | None:
        """The first that passes."""
        return next((one for one in self.candidates if one.audit.decision.outcome == "RELEASE"), None)

    @property
    def decision(self) -> Decision:
        """RELEASE if one passes; else, with the reasons of all, REVIEW if a person is to look at one, or REFUSE."""
        chosen = self.released
        if chosen:
            place = f"{chosen.label}: rank {chosen.rank} of {len(self.candidates)} generators tried"
            return Decision("RELEASE", (place, *chosen.audit.decision.reasons))
        outcomes = {one.audit.decision.outcome for one in self.candidates}
        reasons = [f"{one.label}: {reason}" for one in self.candidates for reason in one.audit.decision.reasons]
        return Decision("REVIEW" if "REVIEW" in outcomes else "REFUSE", tuple(reasons))

    @property
    def comparison(self) -> Comparison:
        """The audits side by side, best rank first."""
        return compare({one.label: one.audit for one in self.candidates})

    def to_json(self) -> dict[str, Any]:
        """Plain data for selection.json."""
        decision = {"verdict": self.decision.outcome, "reasons": list(self.decision.reasons)}
        return {
            "decision": decision,
            "ranked_by": self.ranked_by,
            "tried": len(self.candidates),
            "released": self.released.label if self.released else None,
            "generators": [
                {
                    "label": one.label,
                    "rank": one.rank,
                    "validation": to_json(one.figure),
                    "audit_number": one.audit.audit_number,
                    "decision": {"verdict": one.audit.decision.outcome, "reasons": list(one.audit.decision.reasons)},
                }
                for one in self.candidates
            ],
        }


def select(
    study: Study,
    train: Data,
    holdout: Data,
    folder: Path,
    *,
    policy: Policy,
    ledger: str | Path | None = None,
    keep_best: bool = False,
    run: Run,
) -> tuple[Selection, Data | None]:
    """Fit, sample and rank each generator, audit each in that order; what a resumed run finds is not made again.

    Args:
        study: with several generators.
        train: is split into what they learn from and the validation patients.
        holdout: sealed until the audits.
        folder: of the run; gets generators/LABEL/ with what `made` and `audited` leave and validation.json, then
            selection.json and compare.html.
        policy: that of the study.
        ledger: file that counts the audits of each holdout; by default ledger.jsonl in the folder.
        keep_best: of a training that was interrupted take the best weights; the others train as usual.
        run: progress and stop flag; whether to go on with what the folder holds.

    Returns:
        What was chosen, and the synthetic data to be released; None where none passes.
    """
    known, validation = without_validation(study, train)
    studies, homes = study.generators, {label: folder / GENERATORS / label for label in study.generators}

    @cache
    def synthetic(label: str) -> Data:
        home = homes[label]
        best = keep_best and (home / "checkpoints").exists() and not (home / "model").exists()
        return made(studies[label], known, home, keep_best=best, run=_told_as(label, run))

    def figure(label: str) -> Estimate:
        return _validated(studies[label], known, validation, lambda: synthetic(label), homes[label], run=run)

    def audit(label: str, about: Mapping[str, Any]) -> tuple[Audit, Path]:
        if run.resume and (homes[label] / "audit" / "audit.json").exists():
            found, report = Audit.load(homes[label] / "audit"), homes[label] / "audit" / "report.html"
            return found, report if report.exists() else write_report(found, report.parent)
        sets, told = (known, holdout, synthetic(label)), _told_as(label, run)
        counted = ledger or folder / LEDGER
        return audited(studies[label], sets, homes[label], policy=policy, ledger=counted, about=about, run=told)

    figures = {label: figure(label) for label in studies}
    ranked_by = RANKED_BY[modality_of(study)].words
    candidates = []
    for rank, label in enumerate(sorted(figures, key=lambda label: figures[label].value), start=1):
        found = f"{interval(rounded(figures[label]))}, n = {figures[label].n:,}"
        about = {"tried": len(figures), "rank": rank, "ranked_by": ranked_by, "validation": found}
        candidates.append(Candidate(label, rank, figures[label], *audit(label, {"selection": about})))
    selection = Selection(ranked_by, tuple(candidates))
    write_json(folder / SELECTION, selection.to_json())
    write_comparison(selection.comparison, folder / COMPARISON)
    return selection, synthetic(selection.released.label) if selection.released else None


def planned(study: Study, train: Data) -> dict[str, Any]:
    """What the manifest of a run says before there is any result: who competes, and by what they are ranked."""
    _, validation = without_validation(study, train)
    ranked_by = RANKED_BY[modality_of(study)].words
    fingerprint = validation.fingerprint()
    return {"selection": {"generators": list(study.generators), "ranked_by": ranked_by, "validation": fingerprint}}


def without_validation(study: Study, train: Data) -> tuple[Data, Data]:
    """Train without the validation patients, and these.

    Raises:
        DataError: fewer than 20 patients in either.

    >>> from synthgen import datasets
    >>> from synthgen.config import study_from_mapping
    >>> study = study_from_mapping({"data": {"table": "actg175"}, "generator": ["copula", "independent"]})
    >>> train, holdout = datasets.load("actg175").split_by_patient(seed=1)
    >>> [len(part) for part in without_validation(study, train)]
    [1198, 299]
    """
    known, validation = train.split_by_patient(
        holdout=study.split.validation, seed=Seed(study.seed).child("validation")
    )
    require_patients(known, "train without validation")
    require_patients(validation, "validation")
    return known, validation


def _validated(
    study: Study, known: Data, validation: Data, synthetic: Callable[[], Data], home: Path, *, run: Run
) -> Estimate:
    """The figure that ranks a generator. All get the same seed, so that they meet the same rows in the same folds."""
    path = home / VALIDATION
    if run.resume and path.exists():
        return Estimate(**json.loads(path.read_text(encoding="utf-8")))
    by = RANKED_BY[modality_of(study)]
    check: Check = registry.create("checks", by.check)
    measured = check.run(gathered(known, validation, synthetic()), seed=Seed(study.seed).child("validation", "figure"))
    found = measured.details[by.detail] if by.detail else measured.statistic
    write_json(path, to_json(found))
    return found


def _told_as(label: str, run: Run) -> Run:
    """The run whose events say which generator they are about."""
    return replace(run, progress=lambda event: run.progress(replace(event, stage=f"{label} {event.stage}")))

"""How does an audit run? Checks measure the evidence, the policy judges, and one record holds all of it."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen import registry
from synthgen.errors import DataError, EnvironmentProblem, Interrupted, NotAssessable, UsageError
from synthgen.evidence import counted, described_columns, gathered_by
from synthgen.findings import Decision, Finding, Measurement, Modality, finding_from_json, to_json
from synthgen.ledger import audit_number
from synthgen.policy import Policy, decide, judge_all, load_policy, not_run
from synthgen.protocols import Check, Evidence, Progress, Run
from synthgen.rng import Seed
from synthgen.schema import TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.data import TableData
    from synthgen.report.plot import Plot

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
OBJECTS = "synthetic objects"  # the fingerprint of files that are released as they are
PRIVACY_FAMILIES = ("contract", "copies", "distance", "membership", "disclosure", "power", "images")

NOT_ASSESSED = (
    "Attackers with side knowledge beyond the audited columns: notes, images, genomes, social media.",
    "Attackers who know the generator and train copies of it (shadow models), unless the audit shows that check.",
    "Repeated releases from the same patients: each audit speaks of one synthetic table.",
    "Confidentiality of hospitals, clinicians and groups; only the patient is protected as a unit.",
)
NOT_ASSESSED_OF_IMAGES = (
    "Attackers with side knowledge beyond the images: reports, records, other examinations.",
    "Parts of images that were moved or warped, and parts of less than half the side that hold no whole window.",
    "The records beside the images: audit them as a table.",
    *NOT_ASSESSED[1:],
)
_NOT_ASSESSED: Mapping[Modality, tuple[str, ...]] = {
    "table": NOT_ASSESSED,
    "image": NOT_ASSESSED_OF_IMAGES,
    "cohort": (NOT_ASSESSED[0], NOT_ASSESSED_OF_IMAGES[1], *NOT_ASSESSED[1:]),
}


@dataclass(frozen=True, repr=False)
class Audit:
    """One audit: what was looked at, what was found, what was decided. It holds no row of any table."""

    decision: Decision
    policy: Mapping[str, str]  # name, hash, description
    fingerprints: Mapping[str, str]  # of train, holdout, synthetic, and of synthetic DICOM objects
    counts: Mapping[str, Mapping[str, int]]  # rows and patients of each
    columns: tuple[Mapping[str, Any], ...]  # name, kind, roles, storage type, decimals: what reading needs
    findings: tuple[Finding, ...]
    seed: int
    versions: Mapping[str, str]
    created: str  # ISO 8601 date
    seconds: float
    generator: Mapping[str, Any] | None = None  # name, settings, licence, training facts; None: unknown
    not_assessed: tuple[str, ...] = NOT_ASSESSED
    audit_number: int | None = None  # among the audits of this holdout; None: no ledger counts them
    modality: Modality = "table"
    samples: Mapping[str, str] = field(default_factory=dict)  # caption -> PNG of synthetic images, in base64
    schema_version: int = SCHEMA_VERSION

    def __getitem__(self, check: str) -> Finding:
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise UsageError(f"this audit has no finding for {check!r}")

    def __repr__(self) -> str:
        found = len(self.findings)
        return (
            f"Audit({self.decision.outcome} by policy {self.policy['name']!r}, {found} findings: .frame(), .plot(NAME))"
        )

    def _repr_html_(self) -> str:
        from synthgen.report.notebook import audit_html

        return audit_html(self)

    def frame(self) -> pd.DataFrame:
        """The findings as a pandas frame, one row each, in the order in which the checks ran.

        Columns: check, family, question, label (what the estimate is), estimate, low, high, confidence, n, method,
        better, control (the same for the real holdout), control_low, control_high, control_n, p_value, power (the
        smallest leak it would have seen), threshold, verdict, required, because, answer, seconds. Figures are those of
        the record, as in `audit.json`; the report rounds them and leaves small cells out.

        >>> from synthgen import datasets
        >>> train, holdout = datasets.load("gbsg2").split_by_patient(seed=1)
        >>> found = audit(train=train, holdout=holdout, synthetic=train, seed=2, only=lambda name: name == "contract")
        >>> found.frame()[["check", "estimate", "n", "threshold", "required"]].to_dict("records")
        [{'check': 'contract', 'estimate': 0.0, 'n': 480, 'threshold': '<= 0', 'required': True}]
        """
        from synthgen.report.notebook import findings_frame

        return findings_frame(self)

    def plot(self, name: str, *, column: str | None = None) -> Plot:
        """One of the report's pictures: a notebook shows it, `save` writes it, `figure` is matplotlib's.

        Args:
            name: of a check that was run, such as "fidelity.columns", or its last part: "columns", "pairs",
                "missingness", "detection", "membership", "train_on_synthetic"; "pairs.map", "training", "time".
            column: of "columns", the one whose values are shown, synthetic over real holdout.

        Raises:
            UsageError: no picture has that name; the message lists those that this audit has.
        """
        from synthgen.report.plots import plot

        return plot(self, name, column=column)

    @property
    def schema(self) -> TableSchema:
        """The audited columns: by it the synthetic file is read again for a release."""
        columns = {column["name"]: {k: v for k, v in column.items() if k != "name"} for column in self.columns}
        return TableSchema.from_mapping({"columns": columns})

    def to_json(self) -> dict[str, Any]:
        """Plain data with `schema_version`; NaN becomes null."""
        data: dict[str, Any] = to_json(self)
        for entry, finding in zip(data["findings"], self.findings, strict=True):
            entry["family"] = finding.family
        data["decision"] = {"verdict": self.decision.outcome, "reasons": list(self.decision.reasons)}
        return data

    @staticmethod
    def from_json(data: Any) -> Audit:
        """The inverse of `to_json`.

        Raises:
            DataError: not an audit, or one of another schema version.
        """
        if not isinstance(data, Mapping) or data.get("schema_version") != SCHEMA_VERSION:
            raise DataError(f"not an audit.json of schema version {SCHEMA_VERSION}")
        try:
            values = {f.name: data[f.name] for f in fields(Audit) if f.name in data or f.default is MISSING}
            values["findings"] = tuple(finding_from_json(entry) for entry in values["findings"])
            values["decision"] = Decision(data["decision"]["verdict"], tuple(data["decision"]["reasons"]))
        except (KeyError, TypeError) as error:
            raise DataError("audit.json lacks a field, or one is of the wrong type") from error
        values["columns"] = tuple(values["columns"])
        values["not_assessed"] = tuple(values.get("not_assessed", NOT_ASSESSED))
        return Audit(**values)

    def save(self, folder: Path) -> Path:
        """Write `audit.json` into a folder, whole or not at all."""
        path = Path(folder) / "audit.json"
        text = json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_text(text + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise EnvironmentProblem(f"cannot write audit.json: {error.strerror}") from error
        return path

    @staticmethod
    def load(path: Path) -> Audit:
        """Read an `audit.json`, or the one in a folder.

        Raises:
            DataError: no such file, or not an audit.
        """
        path = Path(path) / "audit.json" if Path(path).is_dir() else Path(path)
        try:
            return Audit.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"cannot read {path.name!r}: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path.name!r} is not JSON") from error


def audit(
    *,
    train: Any,
    holdout: Any,
    synthetic: Any,
    seed: int | Seed,
    policy: str | Path | Policy = "research-share",
    only: Callable[[str], bool] | None = None,
    generator: Mapping[str, Any] | None = None,
    refit: Callable[[TableData, Seed], TableData] | None = None,
    ledger: str | Path | None = None,
    private: str | Path | None = None,
    run: Run | None = None,
) -> Audit:
    """Attack and measure synthetic records, images, or a cohort of both, judge them by a policy, and decide.

    Args:
        train: what the generator learned from: TableData, ImageData or Cohort, or any frame or file that `read` takes.
        holdout: patients that nobody trained on; sealed.
        synthetic: what is to be shared, whoever made it.
        seed: equal seeds give equal audits.
        policy: a shipped name, a file, or a Policy.
        only: which of the policy's checks to run, by name; the rest counts as not run.
        generator: facts about the generator for the record, if known.
        refit: trains the generator again on other rows and samples from it, for the checks that need that.
        ledger: file that counts the audits of each holdout, so that the intervals of this one grow accordingly.
        private: file for the suspicious pairs of synthetic rows and patients (CSV, row numbers only): for the data
            controller, never to be shared.
        run: progress and stop flag.

    Raises:
        DataError: sets that do not match, empty ones, or fewer than 20 patients on a side.
        ConfigError: a policy that says nothing about images, or about cohorts.

    >>> from synthgen import datasets
    >>> train, holdout = datasets.load("actg175").split_by_patient(seed=1)
    >>> copied = audit(train=train, holdout=holdout, synthetic=train, seed=2, only=lambda name: name == "copies.exact")
    >>> copied["copies.exact"].verdict, copied.decision.outcome
    ('FAIL', 'REFUSE')
    """
    started, seed, run = time.monotonic(), Seed.of(seed), run or Run()
    chosen = policy if isinstance(policy, Policy) else load_policy(policy)
    found = {about: replace(one, refit=refit) for about, one in gathered_by(train, holdout, synthetic).items()}
    modality: Modality = "cohort" if "cohort" in found else next(iter(found))
    evidence, together = found.get("table", found[modality]), found[modality]
    chosen = chosen.about(modality)
    for name in chosen.checks:
        registry.find("checks", name)
    sets = together.cohorts or together.images or together
    fingerprints = {name: getattr(sets, name).fingerprint() for name in ("train", "holdout", "synthetic")}
    number = audit_number(Path(ledger), fingerprints) if ledger else None
    chosen = chosen.at_audit(number or 1)
    if private:
        _write_private(Path(private), evidence)
    names = [name for name in chosen.checks if only is None or only(name)]
    findings = _run_checks(names, found, chosen, seed.child("audit"), run)
    decision = decide(findings, chosen)
    return Audit(
        decision=decision,
        policy={"name": chosen.name, "hash": chosen.hash, "description": chosen.description},
        fingerprints=fingerprints | _objects(together),
        counts={k: counted(getattr(sets, k)) for k in ("train", "holdout", "synthetic")},
        columns=described_columns(evidence.schema),
        findings=tuple(findings),
        seed=seed.root,
        versions=versions() | registry.plugin_versions("checks", names),
        created=time.strftime("%Y-%m-%d", time.gmtime()),
        seconds=round(time.monotonic() - started, 1),
        generator=generator,
        not_assessed=_NOT_ASSESSED[modality],
        audit_number=number,
        modality=modality,
        samples=_samples(together, decision),
    )


def _write_private(path: Path, evidence: Evidence) -> None:
    """Whole or not at all, for the owner alone to read; before the checks, so that a bad path costs no audit."""
    from synthgen.privacy.pairs import suspicious_pairs

    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        suspicious_pairs(evidence).to_csv(part, index=False)
        part.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write the private report: {error.strerror}") from error


def versions() -> dict[str, str]:
    """Versions of synthgen, Python and the libraries that shape results."""
    packages = ("synthgen-health", "numpy", "pandas", "scikit-learn", "scipy", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _run_checks(
    names: list[str], evidence: Mapping[Modality, Evidence], policy: Policy, seed: Seed, run: Run
) -> list[Finding]:
    about = {name: policy.subject(name) if "cohort" in evidence else next(iter(evidence)) for name in names}
    measured: dict[str, Measurement] = {}
    reasons: dict[str, str] = {}
    questions: dict[str, str] = {}
    for done, name in enumerate(names):
        if run.stop():
            raise Interrupted(f"stopped after {done} of {len(names)} checks; a resumed run audits again")
        run.progress(Progress(f"check {name}", done, len(names)))
        check: Check = registry.create("checks", name, _settings(name, policy))
        questions[name] = check.question
        started = time.monotonic()
        try:
            measurement = check.run(_for(check, evidence[about[name]]), seed=seed.child(name))
        except NotAssessable as reason:
            reasons[name] = str(reason)
        else:
            if not isinstance(measurement, Measurement) or measurement.check != name:
                raise EnvironmentProblem(f"the check {name!r} gives no measurement of that name: ask its authors")
            measured[name] = replace(measurement, seconds=round(time.monotonic() - started, 2))
    run.progress(Progress("checks", len(names), len(names)))
    judged = {f.check: f for f in judge_all(list(measured.values()), policy, questions)}
    absent = {name: not_run(name, reasons[name], policy, question=questions[name]) for name in reasons}
    return [replace({**judged, **absent}[name], modality=about[name]) for name in names]


def _settings(name: str, policy: Policy) -> dict[str, Any]:
    """The level at which the policy calls a leak, for a check that says what it would have seen at a level."""
    levels = policy.alpha
    if not levels or not hasattr(registry.find("checks", name), "alpha"):
        return {}
    return {"alpha": levels.get(name, min(levels.values()))}


def _for(check: Check, evidence: Evidence) -> Evidence:
    """The evidence, once what the check says it needs is known to be there."""
    if "refit" in check.needs and evidence.refit is None:
        raise NotAssessable("needs a generator that can be trained again")
    if "cohort" in check.needs and evidence.cohorts is None:
        raise NotAssessable("is about records and images together, and this audit is not of a cohort")
    if "target" in check.needs:
        if evidence.schema.target is None:
            raise NotAssessable("no column has the role target: declare one with `roles: [target]` in the schema")
        if evidence.images and evidence.schema.target not in evidence.synthetic.schema:
            raise NotAssessable("the synthetic images come without the column that has the role target")
    if "rules" in check.needs and not evidence.schema.rules:
        raise NotAssessable("the schema declares no rules")
    return evidence


def _objects(evidence: Evidence) -> dict[str, str]:
    """The fingerprint of synthetic DICOM objects with their headers, which equal pixels and records say nothing of."""
    if evidence.images is None:
        return {}
    from synthgen.image_output import objects_fingerprint

    found = objects_fingerprint(evidence.images.synthetic)
    return {OBJECTS: found} if found else {}


def _samples(evidence: Evidence, decision: Decision) -> dict[str, str]:
    """Some synthetic images to look at, once it is decided that anybody may: refused ones could be copies."""
    if evidence.images is None or decision.outcome != "RELEASE":
        return {}
    from synthgen.image_sheet import sheet_of_views

    return sheet_of_views(evidence)

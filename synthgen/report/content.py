"""What does the report say? Its words and figures, once, for HTML and Markdown alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthgen.findings import Estimate, Finding
from synthgen.report.public import figure, interval, shown

if TYPE_CHECKING:
    from synthgen.auditing import Audit

HEADLINES = {
    "RELEASE": "The policy is met: the synthetic {what} may be released.",
    "REFUSE": "The policy is not met: the synthetic {what} must not be released.",
    "REVIEW": "Not settled: a person must decide, and until then nothing is released.",
}
FOLDED_HEAD = ("column", "levels too rare to learn", "rows whose value was replaced", "of these, by the code above")
FOLDED = (
    "Values that too few patients have were never learned: rare levels became common ones, rare codes the code above "
    "them, and numbers and dates beyond the outermost patients were moved to where several patients are."
)
CELLS_HEAD = ("column", "cell", "synthetic [interval]", "real holdout [interval]")
CELLS = (
    "Shares of the rows in cells of at least ten patients, or of none; smaller cells were joined with their neighbors, "
    "and the outermost are open. Levels are numbered by how frequent they are in the synthetic table."
)
VERDICT_WORDS = {
    "PASS": "PASS",
    "FAIL": "FAIL",
    "INCONCLUSIVE": "INCONCLUSIVE",
    "NOT_RUN": "NOT RUN",
    "NOT_JUDGED": "NOT JUDGED",
}
READING = {
    "PASS": "The whole interval keeps the policy's limit, and where the policy asks for it the check showed that it "
    "would have seen a leak of the size that matters.",
    "FAIL": "The test found a leak or, where the policy asks for no test, the whole interval breaks the limit.",
    "INCONCLUSIVE": "The interval does not keep the limit, the test is in doubt, or the check could not have seen a "
    "leak of the size that matters. It never counts as a pass: more holdout patients narrow the interval.",
    "NOT_RUN": "The evidence could not answer the question. If the policy requires the check, this is inconclusive.",
    "NOT_JUDGED": "Shown for information; the policy sets no limit.",
}
NOTES_ON_READING = (
    "Figures stand beside their control where there is one: the same figure with real holdout patients, whom the "
    "generator never saw, in place of the synthetic data. It shows what sampling alone produces.",
    "Intervals are rounded outwards; figures of fewer than ten records are not shown; the report holds no record of a "
    "patient and no distance of one.",
    "A pass is evidence against the attacks that were run, on these columns, with these data. It is not a proof of "
    "anonymity.",
)
_WHAT = {  # what may be released, what was audited, and what there is one of for each record
    "table": ("table", "a synthetic table", "rows"),
    "image": ("images", "synthetic images", "images"),
    "cohort": ("cohort", "a synthetic cohort of patients and their images", "records"),
}
_PARTS = {"table": "records", "image": "images", "cohort": "records and images together"}  # of a cohort
_SHOWN_ELSEWHERE = ("folded", "history")  # facts of a training with a table or a picture of their own
_GROUPS = {
    "Privacy": ("contract", "copies", "membership", "disclosure", "power", "distance", "images"),
    "Fidelity": ("structure", "fidelity", "dicom", "cohort"),
    "Usefulness": ("utility", "subgroups"),
}
_CONTROL = re.compile(r"(.+) \((?:real|holdout|real holdout|control)\)$")
_MODEL = re.compile(r"(?P<metric>\w+)_(?P<source>synthetic|real|resampled)\.(?P<kind>\w+)$")


@dataclass(frozen=True)
class Figure:
    """A named estimate and, where the check gives one, the same for the real holdout."""

    name: str
    estimate: Estimate
    control: Estimate | None = None


@dataclass(frozen=True)
class Group:
    """Findings about one matter."""

    name: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Reason:
    """One reason of the decision, and the place of the finding it comes from, if it comes from one."""

    text: str
    question: str = ""
    place: int | None = None


def headline(audit: Audit) -> str:
    """The decision as a sentence."""
    return HEADLINES[audit.decision.outcome].format(what=_WHAT[audit.modality][0])


def subject(audit: Audit) -> str:
    """What was audited."""
    return _WHAT[audit.modality][1]


def unit(audit: Audit) -> str:
    """What there is one of for each record."""
    return _WHAT[audit.modality][2]


def reasons(audit: Audit) -> tuple[Reason, ...]:
    """The reasons with the question in place of the check's name."""
    places = {finding.check: place for place, finding in enumerate(audit.findings)}
    found = []
    for reason in audit.decision.reasons:
        check, colon, text = reason.partition(": ")
        if colon and check in places:
            place = places[check]
            found.append(Reason(_signs(shown(text)), shown(audit.findings[place].question), place))
        else:
            found.append(Reason(shown(reason)))
    return tuple(found)


def limits(finding: Finding) -> tuple[str, ...]:
    """Each limit of the policy on this check, in its own words."""
    return tuple(_signs(shown(part)) for part in finding.threshold.split(", ")) if finding.threshold else ()


def groups(findings: tuple[Finding, ...]) -> tuple[Group, ...]:
    """The findings by matter, privacy first; families that nobody foresaw come last."""
    known = {family: name for name, families in _GROUPS.items() for family in families}
    of = [known.get(finding.family, "Other") for finding in findings]
    names = [*_GROUPS, "Other"]
    if len({finding.modality for finding in findings}) > 1:  # of a cohort
        of = [f"{name}: {_PARTS[finding.modality]}" for name, finding in zip(of, findings, strict=True)]
        names = [f"{name}: {part}" for name in names for part in _PARTS.values()]
    chosen = ((name, tuple(f for f, n in zip(findings, of, strict=True) if n == name)) for name in names)
    return tuple(Group(name, members) for name, members in chosen if members)


def paired(details: Mapping[str, Estimate]) -> tuple[Figure, ...]:
    """Named figures, each with its control where the details hold one.

    The control of `NAME` is `NAME (real)` or `NAME (real holdout)`; that of `METRIC_synthetic.MODEL` is
    `METRIC_real.MODEL`.

    >>> one = Estimate(value=0.1, low=0.0, high=0.2, n=90, method="bootstrap")
    >>> names = ("age", "age (real)", "sex", "auc_real.logistic", "auc_synthetic.logistic")
    >>> [(row.name, row.control is not None) for row in paired(dict.fromkeys(names, one))]
    [('age', True), ('sex', False), ('auc, logistic', True)]
    """
    base = {name: _base(name, details) for name in details}
    controls = {target: name for name, target in base.items() if target}
    return tuple(
        Figure(_figure_name(name), estimate, details[controls[name]] if name in controls else None)
        for name, estimate in details.items()
        if not base[name]
    )


def estimate_of(finding: Finding) -> str:
    """The estimate with its interval, or nothing where the check did not run."""
    return interval(finding.measurement.statistic) if finding.measurement else ""


def control_of(finding: Finding) -> str:
    """The same figure for the real holdout, where there is one."""
    return interval(finding.measurement.control) if finding.measurement and finding.measurement.control else ""


def answer_of(finding: Finding) -> str:
    """The answer in words; for a check that did not run, why."""
    if finding.measurement and finding.measurement.answer:
        return shown(finding.measurement.answer)
    return because_of(finding)


def because_of(finding: Finding) -> str:
    """What the verdict rests on."""
    return _signs(shown(finding.because))


def basis(estimate: Estimate) -> str:
    """What an estimate rests on: its number of units and how its interval was made."""
    if estimate.method == "exact" or estimate.confidence == 1.0:
        return f"exact, n = {estimate.n:,}"
    return f"{estimate.confidence:.0%} interval by {estimate.method}, n = {estimate.n:,}"


def facts(audit: Audit) -> tuple[tuple[str, str], ...]:
    """How to find the same result again: hashes, seeds, versions, time."""
    rows = [("Policy", f"{audit.policy['name']}, SHA-256 {audit.policy['hash']}")]
    rows += [(f"Fingerprint of {name}", f"SHA-256 {value}") for name, value in audit.fingerprints.items()]
    rows += [("Audit of this holdout", counted(audit)), ("Seed", str(audit.seed))]
    rows += [("Date", audit.created), ("Time of the audit", duration(audit.seconds)), ("Training", cost_words(audit))]
    rows += [("Versions", ", ".join(f"{name} {value}" for name, value in audit.versions.items()))]
    rows += [(f"Generator: {name}", shown(value)) for name, value in generator_facts(audit)]
    return tuple(rows)


def counted(audit: Audit) -> str:
    """Which audit of its holdout this is, as far as anybody counted."""
    if audit.audit_number is None:
        return "not counted: no ledger was kept"
    return f"number {audit.audit_number}"


def generator_facts(audit: Audit) -> tuple[tuple[str, str], ...]:
    """What is known about the generator, flattened to name and text; what it folded has its own table."""
    if not audit.generator:
        return (("name", "not recorded"),)
    rest = {key: value for key, value in audit.generator.items() if key != "cost"}
    return tuple(_flat(_in_a_table(rest)))


def _in_a_table(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a generator, and of a cohort those of its images, without what is shown elsewhere."""
    found = {key: value for key, value in facts.items() if key != "training"}
    if "images" in facts:
        found["images"] = _in_a_table(facts["images"])
    training = {key: value for key, value in facts.get("training", {}).items() if key not in _SHOWN_ELSEWHERE}
    return found | ({"training": training} if training else {})


def cost_of(audit: Audit) -> Mapping[str, Any]:
    """What the training cost, as far as it was recorded: seconds, energy, device, threads."""
    cost = (audit.generator or {}).get("cost")
    return cost if isinstance(cost, Mapping) else {}


def cost_words(audit: Audit) -> str:
    """What the training cost, in words."""
    cost = cost_of(audit)
    seconds, energy, threads = cost.get("seconds"), cost.get("energy_kwh"), cost.get("threads")
    if not isinstance(seconds, int | float):
        return "The time and the energy of the training are not recorded."
    where = f" on {shown(str(cost['device']))}" if cost.get("device") else ""
    where += f" with {threads} thread{'s' if threads != 1 else ''}" if threads else ""
    if isinstance(energy, int | float):
        return f"The training took {duration(seconds)}{where}, and about {figure(_three(energy))} kWh, an estimate."
    return f"The training took {duration(seconds)}{where}; its energy was not measured: that needs the extra energy."


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(0.25), duration(31.2), duration(300), duration(7300)
    ('0.2 s', '31 s', '5 min', '2.0 h')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def cell_rows(audit: Audit) -> tuple[tuple[str, str, str, str], ...]:
    """Each cell of each column that is drawn: column, cell, share of the synthetic and of the real holdout rows."""
    return tuple(
        (shown(column), cell.label, interval(cell.synthetic), interval(cell.holdout))
        for finding in audit.findings
        if finding.measurement
        for column, cells in finding.measurement.cells.items()
        for cell in cells
    )


def folded_rows(audit: Audit) -> tuple[tuple[str, ...], ...]:
    """Columns from which value protection took something: name, rare levels, rows changed, rows that backed off."""
    folded = (audit.generator or {}).get("training", {}).get("folded", {})
    return tuple(
        (shown(str(name)), *(_count(counts.get(key, 0)) for key in ("levels", "rows", "backed_off")))
        for name, counts in folded.items()
        if counts.get("rows")
    )


def generator_name(audit: Audit) -> str:
    """The generator's name, or that it is unknown; of a cohort both; where it was one of several, its rank."""
    facts = audit.generator or {}
    name, place = shown(str(facts.get("name", "not recorded"))), facts.get("selection")
    if "images" in facts:
        name = f"{name}, and {shown(str(facts['images']['name']))} of images"
    return f"{name} (rank {place['rank']} of {place['tried']} tried)" if place else name


def column_rows(audit: Audit) -> tuple[tuple[str, str, str], ...]:
    """Each audited column: name, kind, roles."""
    return tuple((shown(str(c["name"])), str(c["kind"]), ", ".join(c.get("roles", ()))) for c in audit.columns)


def _count(count: int | str) -> str:
    return count if isinstance(count, str) else f"{count:,}"


def _three(value: float) -> float:
    return float(f"{value:.3g}")


def _signs(text: str) -> str:
    return text.replace("<=", "≤").replace(">=", "≥")


def _base(name: str, details: Mapping[str, Estimate]) -> str | None:
    """The name of the figure that this one is the control of."""
    match = _CONTROL.match(name)
    target = match[1] if match else None
    model = _MODEL.match(name)
    if model and model["source"] == "real":
        target = f"{model['metric']}_synthetic.{model['kind']}"
    return target if target in details else None


def _figure_name(name: str) -> str:
    model = _MODEL.match(name)
    if not model:
        return name
    source = {"synthetic": "", "real": " (real)", "resampled": " (a second real table)"}[model["source"]]
    return f"{model['metric']}, {model['kind']}{source}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            rows += _flat(item, f"{name}.")
        elif isinstance(item, list | tuple):
            rows.append((name, ", ".join(str(entry) for entry in item)))
        else:
            rows.append((name, figure(item) if isinstance(item, float) else str(item)))
    return rows

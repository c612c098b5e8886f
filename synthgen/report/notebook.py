"""How does an audit show itself in a notebook? The decision, its reasons, one line for each finding; or a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthgen.markup import badge, foreign, items, table
from synthgen.report import content
from synthgen.report.public import public

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.auditing import Audit
    from synthgen.findings import Estimate, Finding

HEAD = ("question", "estimate [interval]", "n", "real holdout", "the policy asks", "verdict")


def audit_html(audit: Audit) -> str:
    """The first screen of the report as HTML for a notebook, with the report's rounding and suppression."""
    audit = public(audit)
    policy = f"{audit.policy['name']} ({audit.policy['hash'][:12]})"
    about = f"{content.headline(audit)} Policy {policy}; {_counts(audit)}; seed {audit.seed}; audit of this holdout: "
    reasons = [
        (f"{foreign(reason.question)} " if reason.question else "") + foreign(reason.text)
        for reason in content.reasons(audit)
    ]
    rows: list[tuple[str, ...]] = []
    for group in content.groups(audit.findings):
        rows += [(group.name,), *map(_row, group.findings)]
    said = foreign(f"{about}{content.counted(audit)}.")
    return f"<p>{badge(audit.decision.outcome)} {said}</p>" + items(reasons) + table(HEAD, rows, what="findings")


def findings_frame(audit: Audit) -> pd.DataFrame:
    """One row for each finding, with the figures as the checks gave them: see `Audit.frame`."""
    import pandas as pd

    frame = pd.DataFrame([_record(finding) for finding in audit.findings], columns=list(COLUMNS))
    return frame.astype({name: kind for name, kind in COLUMNS.items() if kind != "object"})


COLUMNS = {
    "check": "object", "family": "object", "question": "object", "label": "object", "estimate": "float64",
    "low": "float64", "high": "float64", "confidence": "float64", "n": "Int64", "method": "object",
    "better": "object", "control": "float64", "control_low": "float64", "control_high": "float64",
    "control_n": "Int64", "p_value": "float64", "power": "float64", "threshold": "object", "verdict": "object",
    "required": "bool", "because": "object", "answer": "object", "seconds": "float64",
}  # fmt: skip


def _record(finding: Finding) -> dict[str, Any]:
    known = {name: getattr(finding, name) for name in COLUMNS if hasattr(finding, name)}
    measured = finding.measurement
    if measured is None:
        return known
    known |= {name: getattr(measured, name) for name in ("label", "better", "p_value", "answer", "seconds")}
    known |= _figures(measured.statistic, ("estimate", "low", "high", "n"))
    known |= {"confidence": measured.statistic.confidence, "method": measured.statistic.method}
    known |= _figures(measured.control, ("control", "control_low", "control_high", "control_n"))
    return known | {"power": measured.power.value if measured.power else None}


def _figures(estimate: Estimate | None, names: tuple[str, str, str, str]) -> dict[str, Any]:
    if estimate is None:
        return {}
    return dict(zip(names, (estimate.value, estimate.low, estimate.high, estimate.n), strict=True))


def _counts(audit: Audit) -> str:
    unit = content.unit(audit)
    return ", ".join(f"{audit.counts[name]['rows']:,} {name} {unit}" for name in ("train", "holdout", "synthetic"))


def _row(finding: Finding) -> tuple[str, ...]:
    question = f"<strong>{foreign(finding.question)}</strong><br><small>{foreign(content.answer_of(finding))}</small>"
    measured = finding.measurement
    n = f"{measured.statistic.n:,}" if measured and measured.statistic.n else ""
    figures = (content.estimate_of(finding), n, content.control_of(finding), ", ".join(content.limits(finding)))
    return question, *map(foreign, figures), badge(finding.verdict)

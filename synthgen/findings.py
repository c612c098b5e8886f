"""What did a check measure, and what did the policy make of it? Frozen values, JSON in and out."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN", "NOT_JUDGED"]
Outcome = Literal["RELEASE", "REFUSE", "REVIEW"]
Modality = Literal["table", "image", "cohort"]  # of a finding of a cohort: its records, its images, or both together

EXIT_CODES: Mapping[Outcome, int] = {"RELEASE": 0, "REFUSE": 3, "REVIEW": 4}


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, its sample size and how the interval was made.

    >>> print(Estimate(value=0.51, low=0.48, high=0.54, n=900, method="DeLong"))
    0.510 [0.480, 0.540]
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{_number(self.value)} [{_number(self.low)}, {_number(self.high)}]"


def exactly(value: float, *, n: int) -> Estimate:
    """An estimate without sampling error: a count, or a property of the files themselves."""
    return Estimate(value=value, low=value, high=value, n=n, method="exact", confidence=1.0)


@dataclass(frozen=True)
class Measurement:
    """What one check found. `control` is the same figure for the real holdout in place of the synthetic data."""

    check: str
    label: str  # what the statistic is, in words: "share of synthetic rows that copy a train row"
    statistic: Estimate
    better: Literal["lower", "higher"]
    answer: str = ""  # one plain sentence, written by the check, without a verdict
    control: Estimate | None = None
    details: Mapping[str, Estimate] = field(default_factory=dict)  # further named figures; a policy may limit them
    p_value: float | None = None  # of a test whose null is "no leak"; Holm-adjusted by the policy
    power: Estimate | None = None  # the smallest leak this check would have seen, in units of the statistic
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)  # for pictures, on a grid
    notes: tuple[str, ...] = ()
    source: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A measurement judged by a policy."""

    check: str
    question: str
    verdict: Verdict
    because: str
    required: bool
    threshold: str = ""  # the limit in words: "<= 0.05"; empty where the policy sets none
    measurement: Measurement | None = None  # None when the check did not run
    modality: Modality = "table"

    @property
    def family(self) -> str:
        """The part of the check's name before the dot: `copies`, `membership`, `fidelity` ..."""
        return self.check.split(".")[0]

    def _repr_html_(self) -> str:
        return findings_html((self,))


@dataclass(frozen=True)
class Decision:
    """All findings together."""

    outcome: Outcome
    reasons: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        return EXIT_CODES[self.outcome]

    def _repr_html_(self) -> str:
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        return f"<p><strong>{self.outcome}</strong></p><ul>{reasons}</ul>"


def to_json(value: Any) -> Any:
    """Turn a frozen record into what `json.dumps(allow_nan=False)` takes; NaN and infinities become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def finding_from_json(data: Mapping[str, Any]) -> Finding:
    """The inverse of `to_json` for a finding."""
    fields = {f.name: data[f.name] for f in dataclasses.fields(Finding) if f.name in data or f.name != "modality"}
    if fields["measurement"] is not None:
        fields["measurement"] = _measurement_from_json(fields["measurement"])
    return Finding(**fields)


def _measurement_from_json(data: Mapping[str, Any]) -> Measurement:
    fields = {f.name: data[f.name] for f in dataclasses.fields(Measurement)}
    for name in ("statistic", "control", "power"):
        fields[name] = _estimate_from_json(fields[name]) if fields[name] is not None else None
    fields["details"] = {name: _estimate_from_json(item) for name, item in fields["details"].items()}
    fields["curves"] = {name: tuple((x, y) for x, y in curve) for name, curve in fields["curves"].items()}
    fields["notes"] = tuple(fields["notes"])
    return Measurement(**fields)


def _estimate_from_json(data: Mapping[str, Any]) -> Estimate:
    numbers = {name: math.nan if data[name] is None else data[name] for name in ("value", "low", "high")}
    return Estimate(**{**data, **numbers})


def findings_html(findings: tuple[Finding, ...]) -> str:
    """A small HTML table of findings, for notebooks: question, estimate, threshold, verdict."""
    head = "<tr><th>question</th><th>estimate</th><th>threshold</th><th>verdict</th></tr>"
    rows = []
    for finding in findings:
        estimate = str(finding.measurement.statistic) if finding.measurement else ""
        cells = (finding.question, estimate, finding.threshold, finding.verdict)
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _number(value: float) -> str:
    """Three decimals, or three significant digits below a thousandth."""
    return f"{value:.2e}" if value and abs(value) < 0.0005 else f"{value:.3f}"

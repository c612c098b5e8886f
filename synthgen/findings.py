"""What did a check measure, and what did the policy make of it? Frozen values, JSON in and out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from synthgen.markup import badge, foreign, items, table

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN", "NOT_JUDGED"]
Outcome = Literal["RELEASE", "REFUSE", "REVIEW"]
Modality = Literal["table", "image", "cohort"]  # of a finding of a cohort: its records, its images, or both together

SMALLEST_CELL = 10  # figures of fewer records are not shown to people
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
class Cell:
    """Which share of the rows lies in one cell of a column: of synthetic rows, and of as many real holdout rows."""

    label: str  # "20 to 30", "level 2", "missing"; never a level's own name
    synthetic: Estimate
    holdout: Estimate


@dataclass(frozen=True)
class PairMap:
    """By how much the relations of some columns differ from train's: of synthetic rows, and of real holdout rows.

    >>> PairMap(("age", "bmi"), ((0, 1, 0.1, 0.02),)).of("age", "bmi")
    (0.1, 0.02)
    """

    names: tuple[str, ...]
    differences: tuple[tuple[int, int, float, float], ...]  # places of two columns, synthetic, holdout

    def of(self, one: str, other: str) -> tuple[float, float]:
        """The differences of one pair."""
        sought = {self.names.index(one), self.names.index(other)}
        return next((made, real) for i, j, made, real in self.differences if {i, j} == sought)


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
    cells: Mapping[str, tuple[Cell, ...]] = field(default_factory=dict)  # by column, for pictures
    pairs: PairMap | None = None  # for a picture
    notes: tuple[str, ...] = ()
    source: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)  # the whole one would tell, in a saved notebook, what the HTML leaves out
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

    def __repr__(self) -> str:
        return f"Finding({self.check!r}: {self.verdict}, {self.because})"

    def _repr_html_(self) -> str:
        return f"<p>{badge(self.verdict)} {foreign(self.question)}</p>" + table((), _facts(self))


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
        return f"<p>{badge(self.outcome)}</p>" + items(map(foreign, self.reasons))


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
    data = {"cells": {}, "pairs": None, **data}  # an older audit has neither
    fields = {f.name: data[f.name] for f in dataclasses.fields(Measurement)}
    for name in ("statistic", "control", "power"):
        fields[name] = _estimate_from_json(fields[name]) if fields[name] is not None else None
    fields["details"] = {name: _estimate_from_json(item) for name, item in fields["details"].items()}
    fields["curves"] = {name: tuple((x, y) for x, y in curve) for name, curve in fields["curves"].items()}
    fields["cells"] = {name: tuple(map(_cell_from_json, cells)) for name, cells in fields["cells"].items()}
    if fields["pairs"] is not None:
        known = fields["pairs"]
        fields["pairs"] = PairMap(tuple(known["names"]), tuple(map(tuple, known["differences"])))
    fields["notes"] = tuple(fields["notes"])
    return Measurement(**fields)


def _cell_from_json(data: Mapping[str, Any]) -> Cell:
    return Cell(data["label"], _estimate_from_json(data["synthetic"]), _estimate_from_json(data["holdout"]))


def _estimate_from_json(data: Mapping[str, Any]) -> Estimate:
    numbers = {name: math.nan if data[name] is None else data[name] for name in ("value", "low", "high")}
    return Estimate(**{**data, **numbers})


def _facts(finding: Finding) -> list[tuple[str, str]]:
    """What a finding rests on, as rows of HTML; empty ones are left out."""
    measured = finding.measurement
    facts = {"check": finding.check, "because": finding.because, "the policy asks": finding.threshold}
    if not finding.required:
        facts["required"] = "no: this check cannot refuse"
    if measured:
        facts |= {"answer": measured.answer, measured.label: _described(measured.statistic)}
        facts |= {"the same for the real holdout": _described(measured.control)}
        facts |= {"smallest leak it would have seen": _described(measured.power)}
        if measured.p_value is not None:
            facts["p-value of its test, unadjusted"] = f"{measured.p_value:.2g}"
        facts |= {"notes": " ".join(measured.notes), "source": measured.source}
    return [(foreign(name), foreign(text)) for name, text in facts.items() if text]


def _described(estimate: Estimate | None) -> str:
    """An estimate with its n and the method of its interval."""
    if estimate is None:
        return ""
    if math.isnan(estimate.value) or (estimate.n < SMALLEST_CELL and estimate.confidence < 1):
        return f"not shown: fewer than {SMALLEST_CELL} records, or none"
    if estimate.confidence == 1.0 and estimate.low == estimate.high:
        return f"{estimate.value:,.4g}, n = {estimate.n:,}"
    return f"{estimate}, n = {estimate.n:,}, {estimate.confidence:.0%} interval by {estimate.method}"


def _number(value: float) -> str:
    """Three decimals, or three significant digits below a thousandth."""
    return f"{value:.2e}" if value and abs(value) < 0.0005 else f"{value:.3f}"

"""What may leave the house? The audit with rounded bounds, coarse curves and without small cells."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthgen.findings import SMALLEST_CELL, Cell, Estimate, Finding, Measurement, PairMap

if TYPE_CHECKING:
    from synthgen.auditing import Audit

CURVE_POINTS = 101
_REORDERING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x2068))}  # marks that turn text around
ISOLATES = "\u2068\u2069"  # what keeps foreign words from turning the text around them
_RTL = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_RIGHT_TO_LEFT = re.compile(f"[{_RTL}](?:[^A-Za-z'\":;,%=]*[{_RTL}])?")
_UNSAFE = _REORDERING | {"\ufffe", "\uffff"}


def public(audit: Audit) -> Audit:
    """The audit as strangers may see it: what the report shows and what the release holds as `audit.json`.

    Figures keep three decimals (two significant digits below .01), bounds are rounded away from the estimate, figures
    of fewer than ten rows are suppressed, curves keep at most 101 points, and how many patients a level needed to be
    learned is left out.

    >>> print(rounded(Estimate(value=0.50049, low=0.48091, high=0.52011, n=900, method="DeLong")))
    0.500 [0.480, 0.521]
    """
    return replace(
        audit, findings=tuple(_finding(finding) for finding in audit.findings), generator=_generator(audit.generator)
    )


def rounded(estimate: Estimate) -> Estimate:
    """An estimate for the public: the value rounded, the interval rounded outwards, small cells suppressed."""
    if suppressed(estimate):
        return replace(estimate, value=math.nan, low=math.nan, high=math.nan, n=0, method=f"fewer than {SMALLEST_CELL}")
    if _is_exact(estimate):
        value = round(estimate.value, _places(estimate))
        return replace(estimate, value=value, low=value, high=value)
    once = _at(estimate, _places(estimate))
    return _at(estimate, _places(once))  # a bound may have grown into fewer decimals: .0009951 into .0010


def suppressed(estimate: Estimate) -> bool:
    """Whether an estimate speaks of so few rows that it is not shown; exact counts of a contract have no such base."""
    return estimate.n < SMALLEST_CELL and estimate.confidence < 1.0


def decimals(value: float) -> int:
    """How many decimals a public figure keeps: three, or two significant digits below a hundredth.

    >>> decimals(0.51), decimals(12.0), decimals(0.0034), decimals(0.0)
    (3, 3, 4, 3)
    """
    if not math.isfinite(value) or value == 0 or abs(value) >= 0.01:
        return 3
    return min(1 - math.floor(math.log10(abs(value))), 12)


def figure(value: float) -> str:
    """A figure as people read it: whole numbers as such, else with the decimals that a public figure keeps.

    >>> figure(0.5), figure(2139.0), figure(0.00085), figure(0.0), figure(float("nan"))
    ('0.500', '2,139', '0.00085', '0', 'not shown')
    """
    if math.isnan(value):
        return "not shown"
    if not math.isfinite(value):
        return "unbounded"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.{decimals(value)}f}"


def interval(estimate: Estimate) -> str:
    """An estimate with its interval; a count without sampling error stands alone.

    >>> interval(Estimate(value=0.512, low=0.48, high=0.55, n=900, method="DeLong"))
    '0.512 [0.480, 0.550]'
    """
    if math.isnan(estimate.value):
        return f"not shown ({estimate.method})" if estimate.method.startswith("fewer than") else "not shown"
    if _is_exact(estimate):
        return figure(estimate.value)
    value, low, high = (_fixed(bound, _places(estimate)) for bound in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def shown(text: str) -> str:
    r"""Foreign text, such as a column name, without control characters and without marks that reorder its neighbours.

    Words that are read from right to left are set apart, so that a number after them stays after them.

    >>> shown("age\x00\u202eyears\n") == "age\ufffd\ufffdyears "
    True
    >>> shown("\u0639\u0645\u0631: 30 %") == "\u2068\u0639\u0645\u0631\u2069: 30 %"
    True
    """
    safe = "".join(_safe(character) for character in text)
    return _RIGHT_TO_LEFT.sub(rf"{ISOLATES[0]}\g<0>{ISOLATES[1]}", safe)


def _safe(character: str) -> str:
    if character in ISOLATES:
        return ""  # ours are set anew
    if character in "\n\r\t":
        return " "
    unsafe = character in _UNSAFE or unicodedata.category(character) in ("Cc", "Cs")
    return "\ufffd" if unsafe else character


def _is_exact(estimate: Estimate) -> bool:
    return estimate.confidence == 1.0 and estimate.low == estimate.high


def _at(estimate: Estimate, places: int) -> Estimate:
    low, high = _outward(estimate.low, -1, places), _outward(estimate.high, 1, places)
    return replace(estimate, value=round(estimate.value, places), low=low, high=high)


def _places(estimate: Estimate) -> int:
    """The decimals of all three figures of an interval, so that they can be compared at a glance."""
    finite = [abs(v) for v in (estimate.value, estimate.low, estimate.high) if math.isfinite(v)]
    return decimals(max(finite, default=0.0))


def _fixed(value: float, places: int) -> str:
    if not math.isfinite(value):
        return figure(value)
    return "0" if round(value, places) == 0 else f"{value:,.{places}f}"


def _nearest(value: float) -> float:
    return round(value, decimals(value))


def _outward(value: float, direction: int, places: int) -> float:
    """Round away from the estimate; a bound that already is a round number stays."""
    if not math.isfinite(value) or abs(round(value, places) - value) < 1e-12:
        return value if not math.isfinite(value) else round(value, places)
    scaled = value * 10**places
    return (math.ceil(scaled) if direction > 0 else math.floor(scaled)) / 10**places


def _generator(facts: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What is known of the generator, with coarse counts of what value protection folded."""
    if facts and "images" in facts:  # of a cohort
        facts = {**facts, "images": _generator(facts["images"])}
    training = (facts or {}).get("training")
    if facts is None or not training:
        return facts
    coarse: dict[str, Any] = {}
    if "history" in training:
        coarse["history"] = [list(row) for row in history_of(facts)]
    if folded := training.get("folded"):
        coarse["folded"] = {
            name: {key: _cell(n) for key, n in counts.items() if key != "k"} for name, counts in folded.items()
        }
    return {**facts, "training": {**training, **coarse}}


def history_of(facts: Mapping[str, Any] | None) -> tuple[tuple[float, float, float], ...]:
    """Step, train loss and validation loss of each evaluation of a training, rounded; of very many a few.

    >>> history_of({"training": {"history": [[10, 1.23456, 1.5], [20, 1.1, "?"]]}})
    ((10, 1.235, 1.5),)
    """
    rows = ((facts or {}).get("training") or {}).get("history") or ()
    known = [
        (row[0], *(_nearest(float(loss)) for loss in row[1:]))
        for row in rows
        if len(row) == 3 and all(isinstance(value, int | float) and math.isfinite(value) for value in row)
    ]
    return tuple(known[:: max(1, math.ceil(len(known) / CURVE_POINTS))])  # type: ignore[arg-type]


def _cell(count: int | str) -> int | str:
    return f"fewer than {SMALLEST_CELL}" if isinstance(count, int) and 0 < count < SMALLEST_CELL else count


def _finding(finding: Finding) -> Finding:
    if finding.measurement is None:
        return finding
    return replace(finding, measurement=_measurement(finding.measurement))


def _measurement(measurement: Measurement) -> Measurement:
    return replace(
        measurement,
        statistic=rounded(measurement.statistic),
        control=rounded(measurement.control) if measurement.control else None,
        power=rounded(measurement.power) if measurement.power else None,
        details={name: rounded(estimate) for name, estimate in measurement.details.items()},
        curves={name: _coarse(curve) for name, curve in measurement.curves.items()},
        cells={name: tuple(map(_rounded_cell, cells)) for name, cells in measurement.cells.items()},
        pairs=_rounded_pairs(measurement.pairs) if measurement.pairs else None,
        p_value=None if measurement.p_value is None else _nearest(measurement.p_value),
    )


def _rounded_cell(cell: Cell) -> Cell:
    return replace(cell, synthetic=rounded(cell.synthetic), holdout=rounded(cell.holdout))


def _rounded_pairs(pairs: PairMap) -> PairMap:
    rows = tuple((i, j, _nearest(made), _nearest(real)) for i, j, made, real in pairs.differences)
    return replace(pairs, differences=rows)


def _coarse(curve: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """At most CURVE_POINTS points, evenly taken, the last one kept, each rounded like a figure."""
    step = max(1, math.ceil((len(curve) - 1) / (CURVE_POINTS - 1))) if curve else 1
    kept = list(curve[::step])
    if curve and kept[-1] != curve[-1]:
        kept.append(curve[-1])
    points = [(_nearest(x), _nearest(y)) for x, y in kept]
    return tuple(point for i, point in enumerate(points) if i == 0 or point != points[i - 1])

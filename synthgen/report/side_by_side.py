"""How do several audits look side by side in a browser? One file in the style of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from synthgen.report import content
from synthgen.report.html import rendered
from synthgen.report.public import public

if TYPE_CHECKING:
    from synthgen.comparison import Comparison, Row


def render_comparison(comparison: Comparison) -> str:
    """The comparison as one HTML page without scripts and without requests.

    Figures are rounded and small cells are suppressed as in the report of each audit.
    """
    shown = replace(comparison, audits={label: public(audit) for label, audit in comparison.audits.items()})
    rows = {row.check: row for row in shown.rows}
    one_of_each = tuple(next(f for f in row.findings.values() if f) for row in rows.values())
    groups = [(group.name, [rows[f.check] for f in group.findings]) for group in content.groups(one_of_each)]
    return rendered("compare.html.j2", comparison=shown, groups=groups, common_limits=common_limits)


def common_limits(row: Row) -> tuple[str, ...] | None:
    """The limits of a check, where all audits that ran it were judged by the same."""
    found = {content.limits(finding) for finding in row.findings.values() if finding}
    return found.pop() if len(found) == 1 else None

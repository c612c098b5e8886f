"""How does the report read as text? The content of the HTML page in Markdown, without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from synthgen.report import content
from synthgen.report.public import figure, interval, public, shown

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.findings import Finding, Measurement

_INTERVAL = r"\[-?[\d.,e-]+, -?[\d.,e-]+\](?![\[(:])"  # no link can start with it, so it stays as it is
_SPECIAL = re.compile(rf"{_INTERVAL}|(?<=\w)_(?=\w)|([\\`*_{{}}\[\]<>#|!~$&^])")
_AT_START = re.compile(r"^(|\d+)([-+=.)])(?=[\s=-]|$)")  # of a line: lists and underlined headings


def render_markdown(audit: Audit) -> str:
    """The public report as Markdown.

    >>> from synthgen.auditing import Audit
    >>> from synthgen.findings import Decision
    >>> nobody = {"rows": 0, "patients": 0}
    >>> policy = {"name": "public", "hash": "0", "description": "For anybody."}
    >>> empty = Audit(decision=Decision("REVIEW", ("nothing ran",)), policy=policy, fingerprints={}, columns=(),
    ...               counts={"train": nobody, "holdout": nobody, "synthetic": nobody}, findings=(), seed=1,
    ...               versions={}, created="2026-01-01", seconds=0.0)
    >>> render_markdown(empty).splitlines()[0]
    '# REVIEW: audit of a synthetic table'
    """
    audit = public(audit)
    lines = [*_first_screen(audit), *_questions(audit), "", *_pictures(audit), "## Findings in detail", ""]
    for finding in audit.findings:
        lines += _finding(finding)
    lines += ["## What was not assessed", "", *_list(audit.not_assessed), "", "## How to read a verdict", ""]
    lines += [f"- **{content.VERDICT_WORDS[verdict]}**: {meaning}" for verdict, meaning in content.READING.items()]
    lines += ["", *(line for note in content.NOTES_ON_READING for line in (note, ""))]
    lines += ["## Columns", "", *markdown_table(("column", "kind", "roles"), content.column_rows(audit)), ""]
    if cells := content.cell_rows(audit):
        lines += ["## Columns: synthetic beside real", "", content.CELLS, ""]
        lines += [*markdown_table(content.CELLS_HEAD, cells), ""]
    if folded := content.folded_rows(audit):
        lines += ["## What was folded to protect patients", "", content.FOLDED, ""]
        lines += [*markdown_table(content.FOLDED_HEAD, folded), ""]
    lines += ["## To find the same result again", "", *markdown_table(("what", "value"), content.facts(audit))]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, be it markup, a table's edge or a link.

    >>> print(escaped("<b>a|b</b> [x](y)"))
    \<b\>a\|b\</b\> \[x\](y)
    """
    marked = _SPECIAL.sub(lambda match: f"\\{match[1]}" if match[1] else match[0], shown(text).strip())
    return _AT_START.sub(r"\1\\\2", marked)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    r"""The lines of a Markdown table; cells are escaped, the head is ours.

    >>> print(*markdown_table(("column",), [("a|b",)]), sep="\n")
    | column |
    |---|
    | a\|b |
    """
    body = ["| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def _first_screen(audit: Audit) -> list[str]:
    unit = content.unit(audit)
    counts = ", ".join(
        f"{name} {c['rows']:,} {unit}"
        + (f" of {c['patients']:,} patients" if c["patients"] != c["rows"] else "")
        + (f" and {c['images']:,} images" if "images" in c else "")
        for name, c in audit.counts.items()
    )
    policy, generator = audit.policy, escaped(content.generator_name(audit))
    return [
        f"# {audit.decision.outcome}: audit of {content.subject(audit)}",
        "",
        f"**{content.headline(audit)}**",
        "",
        *(_reason(reason) for reason in content.reasons(audit)),
        "",
        f"Policy **{escaped(policy['name'])}** (SHA-256 `{policy['hash']}`): {escaped(policy['description'])}",
        "",
        f"{counts}; {len(audit.columns)} columns; generator: {generator}; {audit.created}.",
        "",
    ]


def _questions(audit: Audit) -> list[str]:
    head = ("question", "answer", "estimate [interval]", "real holdout", "limit", "verdict")
    lines = ["## What was asked, and what was found"]
    for group in content.groups(audit.findings):
        rows = [
            (
                finding.question,
                content.answer_of(finding),
                content.estimate_of(finding) or "–",
                content.control_of(finding) or "–",
                ", ".join(content.limits(finding)) or "none",
                content.VERDICT_WORDS[finding.verdict] + ("" if finding.required else " (informs only)"),
            )
            for finding in group.findings
        ]
        lines += ["", f"### {group.name}", "", *markdown_table(head, rows)]
    return lines


def _finding(finding: Finding) -> list[str]:
    role = "required by the policy" if finding.required else "informs only"
    verdict = content.VERDICT_WORDS[finding.verdict]
    lines = [f"### {escaped(finding.question)} {verdict}", "", f"`{finding.check}`, {role}.", ""]
    lines += [escaped(content.answer_of(finding)), ""]
    if finding.measurement is None:
        return lines
    if finding.verdict != "NOT_JUDGED":
        lines += [f"Because: {escaped(content.because_of(finding))}", ""]
    return lines + _measurement(finding.measurement)


def _measurement(measurement: Measurement) -> list[str]:
    named = {
        f"{measurement.label} ({measurement.better} is better)": measurement.statistic,
        "the same for the real holdout": measurement.control,
        "smallest leak this check would have seen": measurement.power,
    }
    rows = [(name, interval(e), content.basis(e)) for name, e in named.items() if e is not None]
    if measurement.p_value is not None:
        rows.append(
            ("p-value of its test, before adjustment for several tests", figure(measurement.p_value), "null: no leak")
        )
    lines = [*markdown_table(("figure", "estimate [interval]", "basis"), rows), ""]
    if measurement.details:
        further = [
            (row.name, interval(row.estimate), interval(row.control) if row.control else "–", f"{row.estimate.n:,}")
            for row in content.paired(measurement.details)
        ]
        lines += [*markdown_table(("further figure", "estimate [interval]", "real holdout", "n"), further), ""]
    lines += [line for note in measurement.notes for line in (escaped(note), "")]
    return lines + ([f"Source: {escaped(measurement.source)}", ""] if measurement.source else [])


def _pictures(audit: Audit) -> list[str]:
    """What the page draws, in words."""
    from synthgen.report.plots import pictures

    told = [f"- {escaped(picture.alt)}" for picture in pictures(audit)]
    return ["## Pictures, in words", "", *told, ""] if told else []


def _reason(reason: content.Reason) -> str:
    return (
        f"- **{escaped(reason.question)}** {escaped(reason.text)}" if reason.question else f"- {escaped(reason.text)}"
    )


def _list(sentences: Iterable[str]) -> list[str]:
    return [f"- {escaped(sentence)}" for sentence in sentences]

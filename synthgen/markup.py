"""How does a value show itself in a notebook? As a little HTML in the notebook's own colours, whichever these are."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

FOLDED_FROM = 40  # longer tables are folded

# Each pair can be read on itself, so that a badge needs no idea of what is dark around it.
_TONES = {
    "PASS": ("#15603a", "#e2f3e8", "✓"),
    "RELEASE": ("#15603a", "#e2f3e8", "✓"),
    "FAIL": ("#9b1c1c", "#fbe6e4", "✕"),
    "REFUSE": ("#9b1c1c", "#fbe6e4", "✕"),
    "INCONCLUSIVE": ("#7a4b00", "#fdf0d5", "?"),
    "REVIEW": ("#7a4b00", "#fdf0d5", "?"),
}
_NEUTRAL = ("#4d5b69", "#eceff2", "–")
_LEFT = ' style="text-align:left"'
# Control characters, halves of characters, and marks that turn the text around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def foreign(text: str) -> str:
    r"""Text of others, such as a column name, as HTML: escaped, and set apart where it is read from right to left.

    >>> foreign("<b>age\u202e</b>") == "<bdi>&lt;b&gt;age\ufffd&lt;/b&gt;</bdi>"
    True
    """
    return f"<bdi>{html.escape(_UNSAFE.sub(chr(0xFFFD), text))}</bdi>"


def badge(word: str) -> str:
    """A verdict or a decision: a word and a sign, so that its colour is never all that says it.

    >>> "✓ PASS" in badge("PASS"), "– NOT RUN" in badge("NOT_RUN")
    (True, True)
    """
    ink, paper, sign = _TONES.get(word, _NEUTRAL)
    style = f"color:{ink};background:{paper};padding:1px 7px;border-radius:3px;white-space:nowrap"
    return f'<strong style="{style}">{sign} {html.escape(word.replace("_", " "))}</strong>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, what: str = "rows") -> str:
    """Rows of HTML as a table whose first column names the row; a row of one cell heads those below it.

    Args:
        head: names of the columns; empty for none.
        rows: cells of each row.
        what: there are so many of, where a long table is folded.

    >>> table(("column", "kind"), [(foreign("age"), "integer")])[-33:]
    'integer</td></tr></tbody></table>'
    """
    body = [_row(row, len(head)) for row in rows]
    heads = "".join(f'<th scope="col"{_LEFT}>{html.escape(name)}</th>' for name in head)
    made = f"<table>{f'<thead><tr>{heads}</tr></thead>' if head else ''}<tbody>{''.join(body)}</tbody></table>"
    if len(body) <= FOLDED_FROM:
        return made
    return f"<details><summary>{len(body):,} {html.escape(what)}</summary>{made}</details>"


def items(texts: Iterable[str]) -> str:
    """Pieces of HTML as a list.

    >>> items(["a", "b"])
    '<ul><li>a</li><li>b</li></ul>'
    """
    return "<ul>" + "".join(f"<li>{text}</li>" for text in texts) + "</ul>"


def _row(cells: Sequence[str], width: int) -> str:
    first, *rest = cells
    if not rest:
        return f'<tr><th scope="rowgroup" colspan="{width}"{_LEFT}>{first}</th></tr>'
    others = "".join(f"<td{_LEFT}>{cell}</td>" for cell in rest)
    return f'<tr><th scope="row" style="text-align:left;font-weight:normal">{first}</th>{others}</tr>'

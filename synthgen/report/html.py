"""How does the report look in a browser? One file without scripts and without a single request."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from synthgen.report import content
from synthgen.report.public import figure, interval, public, shown

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.report.plots import Picture

FOLDED_FROM = 8  # a table of more rows is folded
MOST_OVERLAYS = 12  # pictures of single columns beyond so many are folded


def render_html(audit: Audit, *, pictures: bool = True) -> str:
    """The public report as one HTML page.

    Args:
        audit: what was found; its figures are rounded and small cells are suppressed here.
        pictures: False leaves the pictures out, for a quick look.

    >>> from synthgen.auditing import Audit
    >>> from synthgen.findings import Decision
    >>> nobody = {"rows": 0, "patients": 0}
    >>> policy = {"name": "public", "hash": "0", "description": "For anybody."}
    >>> empty = Audit(decision=Decision("REVIEW", ("nothing ran",)), policy=policy, fingerprints={}, columns=(),
    ...               counts={"train": nobody, "holdout": nobody, "synthetic": nobody}, findings=(), seed=1,
    ...               versions={}, created="2026-01-01", seconds=0.0)
    >>> "<script" in render_html(empty, pictures=False)
    False
    """
    audit = public(audit)
    drawn, columns = _pictures(audit) if pictures else ((), ())
    return rendered(
        "report.html.j2",
        audit=audit,
        reasons=content.reasons(audit),
        groups=content.groups(audit.findings),
        pictures=drawn,
        overlays=columns,
        svg={picture.name: Markup(picture.svg) for picture in (*drawn, *columns)},  # noqa: S704  (escaped by the XML writer)
        headline=content.headline(audit),
        folded_from=FOLDED_FROM,
        most_overlays=MOST_OVERLAYS,
    )  # fmt: skip


def rendered(template: str, **values: Any) -> str:
    """A page of the house from a template: with the style, its hash for the security policy, and the words."""
    style = _style()
    return _environment().get_template(template).render(
        style=Markup(style),  # noqa: S704  (our own file)
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        content=content,
        **values,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("synthgen.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"shown": shown, "interval": interval, "figure": figure, "basis": content.basis}
    return environment


@cache
def _style() -> str:
    return files("synthgen.report").joinpath("templates", "report.css").read_text(encoding="utf-8")


def _pictures(audit: Audit) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Pictures of the audit, and of single columns."""
    from synthgen.report.plots import overlays, pictures

    return pictures(audit), tuple(overlays(audit).values())

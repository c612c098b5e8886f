"""What was found, for people: one HTML file and the same in Markdown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.errors import EnvironmentProblem

if TYPE_CHECKING:
    from synthgen.auditing import Audit

__all__ = ["render_html", "render_markdown", "write"]


def render_html(audit: Audit, *, pictures: bool = True) -> str:
    """The public report as one HTML page without scripts and without requests; see `synthgen.report.html`."""
    from synthgen.report.html import render_html as render

    return render(audit, pictures=pictures)


def render_markdown(audit: Audit) -> str:
    """The public report as Markdown; see `synthgen.report.markdown`."""
    from synthgen.report.markdown import render_markdown as render

    return render(audit)


def write(audit: Audit, folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into a folder, each whole or not at all; returns the path of the page.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    folder = Path(folder)
    pages = {"report.html": render_html(audit), "report.md": render_markdown(audit)}
    parts = {name: folder / f".{name}.{os.getpid()}.part" for name in pages}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            parts[name].write_text(page, encoding="utf-8", newline="\n")
        for name, part in parts.items():
            part.replace(folder / name)
    except OSError as error:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise EnvironmentProblem(f"cannot write the report: {error.strerror or type(error).__name__}") from error
    return folder / "report.html"

"""What was found, for people: one HTML file and the same in Markdown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.errors import EnvironmentProblem

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.comparison import Comparison

__all__ = ["render_comparison", "render_html", "render_markdown", "write", "write_comparison"]


def render_html(audit: Audit, *, pictures: bool = True) -> str:
    """The public report as one HTML page without scripts and without requests; see `synthgen.report.html`."""
    from synthgen.report.html import render_html as render

    return render(audit, pictures=pictures)


def render_markdown(audit: Audit) -> str:
    """The public report as Markdown; see `synthgen.report.markdown`."""
    from synthgen.report.markdown import render_markdown as render

    return render(audit)


def render_comparison(comparison: Comparison) -> str:
    """Several audits side by side as one HTML page; see `synthgen.report.side_by_side`."""
    from synthgen.report.side_by_side import render_comparison as render

    return render(comparison)


def write(audit: Audit, folder: str | Path) -> Path:
    """Write `report.html` and `report.md` into a folder, each whole or not at all; returns the path of the page.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    folder = Path(folder)
    _write_all({"report.html": render_html(audit), "report.md": render_markdown(audit)}, folder)
    return folder / "report.html"


def write_comparison(comparison: Comparison, path: str | Path) -> Path:
    """Write the page of a comparison, whole or not at all; returns its path.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    path = Path(path)
    _write_all({path.name: render_comparison(comparison)}, path.parent)
    return path


def _write_all(pages: dict[str, str], folder: Path) -> None:
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

"""How does a picture of the report stand alone? As SVG that brings its own colours, for a notebook or a file."""

from __future__ import annotations

import io
import textwrap
import warnings
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.errors import EnvironmentProblem, UsageError
from synthgen.figures import DARK, INK
from synthgen.report.public import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from synthgen.report.picture import Picture

KINDS = (".svg", ".png", ".pdf")
_LETTER = 0.6  # width of a bold letter of the title, as a share of its size, in the widest of the fonts below
_SMALL = 300  # a narrower picture is of one column, a panel among many in the report: it is shown twice as large


@dataclass(frozen=True, repr=False)
class Plot:
    """One picture of an audit: a notebook shows it, `save` writes it, `figure` is matplotlib's, to go on from.

    On its own background in the colours of a light or of a dark screen, so that it can be read on either.
    """

    name: str  # of the check it is of, and where that has several, of the kind
    picture: Picture

    def __repr__(self) -> str:
        return f"Plot({self.name!r}: {self.picture.alt})"

    def _repr_svg_(self) -> str:
        return self.svg

    @property
    def svg(self) -> str:
        """The picture with its title as one SVG document, which asks for no file, font or script."""
        width, height = self.picture.width, self.picture.height
        scale, font = (2, 9) if width < _SMALL else (1, 14)
        lines = textwrap.wrap(shown(self.picture.title), int((width - 24) / (_LETTER * font)))
        above = 12 + (font + 5) * len(lines)
        spans = "".join(
            f'<text class="f-ink" x="12" y="{(font + 5) * (i + 1)}" font-size="{font}" font-weight="600">'
            f"{escape(line)}</text>"
            for i, line in enumerate(lines)
        )
        size = f'width="{scale * width}" height="{scale * (height + above)}" viewBox="0 0 {width} {height + above}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="synthgen" {size}><style>{_STYLE}</style>'
            f'<rect class="f-paper" width="100%" height="100%" rx="4"/>{spans}'
            f'<svg y="{above}" width="{width}" height="{height}"{self.picture.svg.removeprefix("<svg")}</svg>'
        )

    @property
    def figure(self) -> Canvas:
        """The picture as a matplotlib figure, without its title."""
        return self.picture.figure

    def save(self, path: str | Path) -> Path:
        """Write the picture; what is there under this name is replaced.

        Args:
            path: ends in .svg, .png or .pdf; the title is in the first alone.

        Raises:
            UsageError: another ending.
            EnvironmentProblem: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in KINDS:
            raise UsageError(f"a picture is saved as {', '.join(KINDS)}, not as {path.suffix!r}")
        content = self.svg.encode() if path.suffix.lower() == ".svg" else self._rendered(path.suffix.lower()[1:])
        try:
            path.write_bytes(content)
        except OSError as error:
            raise EnvironmentProblem(f"cannot write the picture: {error.strerror}") from error
        return path

    def _rendered(self, kind: str) -> bytes:
        target = io.BytesIO()
        about: dict[str, Any] = {"Creator": None, "CreationDate": None, "Producer": None} if kind == "pdf" else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Glyph.*")  # a box stands for it
            self.figure.savefig(target, format=kind, dpi=200, metadata=about or None)
        return target.getvalue()


def _rules(palette: dict[str, str]) -> str:
    return "".join(f".synthgen .f-{name}{{fill:{c}}}.synthgen .s-{name}{{stroke:{c}}}" for name, c in palette.items())


_STYLE = (
    ".synthgen{color-scheme:light dark;font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif}"
    f"{_rules(INK)}@media (prefers-color-scheme:dark){{{_rules(DARK)}}}"
)

"""What is a picture of the report? How it is drawn, what it shows, and the same in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas

from synthgen.report.public import ISOLATES, shown
from synthgen.report.rendering import WIDTH, Palette, as_figure, as_svg

NAME_LENGTH = 24


@dataclass(frozen=True)
class Picture:
    """One picture, and what it says for those who do not see it."""

    name: str  # an identifier in the page
    title: str
    caption: str
    alt: str
    height: int  # SVG units
    draw: Callable[[Canvas, Palette], None]
    width: int = WIDTH

    @property
    def svg(self) -> str:
        """As a piece of the report's page."""
        size = (self.width, self.height)
        return as_svg(self.draw, name=self.name, title=self.title, alt=self.alt, size=size)

    @property
    def figure(self) -> Canvas:
        """As a matplotlib figure, for a notebook."""
        return as_figure(self.draw, title=self.title, size=(self.width, self.height))


def short(name: str, length: int = NAME_LENGTH) -> str:
    """A name that fits beside an axis; a picture's texts stand alone, so nothing need keep them apart.

    >>> short("haemoglobin, first of the stay")
    'haemoglobin, first of t…'
    """
    name = "".join(character for character in shown(name) if character not in ISOLATES)
    return name if len(name) <= length else name[: length - 1] + "…"


def identifier(check: str, *more: str) -> str:
    """An identifier in the page, of letters, digits and hyphens.

    >>> identifier("fidelity.columns", "7")
    'picture-fidelity-columns-7'
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("picture", check.lower(), *more)))

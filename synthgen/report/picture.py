"""What is a picture of the report? How it is drawn, what it shows, and the same in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from unicodedata import east_asian_width

from matplotlib.figure import Figure as Canvas

from synthgen.report.public import ISOLATES, shown
from synthgen.report.rendering import WIDTH, Palette, as_figure, as_svg

NAME_LENGTH = 22


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

    >>> short("haemoglobin, first of the stay"), short("ab漢字", 5)
    ('haemoglobin, first of…', 'ab漢…')
    """
    name = "".join(character for character in shown(name) if character not in ISOLATES)
    wide = [2 if east_asian_width(c) in "WF" else 1.3 if c.isupper() or c in "mw@%" else 1 for c in name]
    if sum(wide) <= length:
        return name
    kept = sum(1 for width in accumulate(wide) if width < length)
    return name[:kept] + "…"


def spoken(title: str, *more: str) -> str:
    """A title and what is said after it, as sentences.

    >>> spoken("Who was in it?", "hits at 1 %: 2 %"), spoken("Training", "a", "b")
    ('Who was in it? Hits at 1 %: 2 %.', 'Training. A; b.')
    """
    rest = "; ".join(more)
    return f"{title}{'' if title.endswith('?') else '.'} {rest[:1].upper()}{rest[1:]}."


def identifier(check: str, *more: str) -> str:
    """An identifier in the page, of letters, digits and hyphens.

    >>> identifier("fidelity.columns", "7")
    'picture-fidelity-columns-7'
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("picture", check.lower(), *more)))

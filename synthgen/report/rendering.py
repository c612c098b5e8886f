"""How does a drawing become a picture? As inline SVG in the page's colours and fonts, or as a figure in a notebook."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from synthgen.figures import INK, blank

Palette = Mapping[str, str]  # ink, faint, line, ours, real, third -> colour
Draw = Callable[[Canvas, Palette], None]

WIDTH = 410  # SVG units; a picture fills a phone's width without shrinking its text much
# Placeholders that become CSS classes, so that one picture serves the light and the dark page.
PLACEHOLDERS: Palette = {
    "ink": "#010101",
    "faint": "#020202",
    "line": "#030303",
    "ours": "#040404",
    "real": "#050505",
    "third": "#060606",
}
_PLACES = frozenset({"d", "x", "y", "width", "height", "transform"})
_CLASS = {colour: name for name, colour in PLACEHOLDERS.items()}


def as_svg(draw: Draw, *, name: str, title: str, alt: str, size: tuple[int, int]) -> str:
    """Draw and turn matplotlib's SVG into a piece of the page: classes for colours, the page's fonts, unique ids."""
    with matplotlib.rc_context({**_style(PLACEHOLDERS), "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*")  # the browser has the glyph, or shows a box
        canvas = Canvas(figsize=(size[0] / 72, size[1] / 72))
        canvas.patch.set_visible(False)
        draw(canvas, PLACEHOLDERS)
        for axes in canvas.axes:
            axes.patch.set_visible(False)
        target = io.StringIO()
        FigureCanvasSVG(canvas).print_svg(
            target, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    root = ElementTree.fromstring(target.getvalue())  # noqa: S314  (matplotlib wrote it a line ago)
    _plain(root, name)
    root.attrib = {"viewBox": f"0 0 {size[0]} {size[1]}", "role": "img", "aria-labelledby": f"{name}-t {name}-d"}
    for position, (tag, text) in enumerate((("title", title), ("desc", alt))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag[0]}"})
        element.text = text
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _plain(element: ElementTree.Element, name: str) -> None:
    """Drop what a page does not need, and rewrite what it must own: namespaces, ids, styles."""
    element.tag = element.tag.split("}")[-1]
    for child in list(element):
        if child.tag.split("}")[-1] in ("metadata", "style"):
            element.remove(child)
        else:
            _plain(child, name)
    _unwrap(element)
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        key = key.split("}")[-1]
        if key == "style":
            attributes |= _presentation(value)
        elif key == "id" and element.tag in ("g", "svg"):
            continue  # matplotlib's group names; nothing refers to them
        elif key in ("id", "href", "clip-path"):
            attributes[key] = re.sub(r"^(url\(#|#)?", rf"\g<1>{name}-", value)
        elif key in _PLACES:
            short = " ".join(re.sub(r"\d+\.\d+", _rounded, value).split())
            attributes |= {} if short.startswith("rotate(-0 ") else {key: short}
        else:
            attributes[key] = value
    element.attrib = attributes
    if element.tail is not None and not element.tail.strip():
        element.tail = "\n"


def _unwrap(element: ElementTree.Element) -> None:
    """Take out groups that say nothing, and keep what they hold."""
    held: list[ElementTree.Element] = []
    for child in list(element):
        held += child if child.tag == "g" and not child.attrib else [child]
        element.remove(child)
    element.extend(held)


def _rounded(number: re.Match[str]) -> str:
    """A hundredth of a unit is finer than any screen."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _presentation(style: str) -> dict[str, str]:
    """A style as classes for colours and attributes for the rest; the page's policy forbids inline styles."""
    classes: list[str] = []
    attributes: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in style.split(";"))):
        key, _, value = (text.strip() for text in part.partition(":"))
        if key in ("fill", "stroke") and value in _CLASS:
            classes.append(f"{key[0]}-{_CLASS[value]}")
        elif key in ("font", "font-size"):
            size = re.search(r"([\d.]+)px", value)
            attributes |= {"font-size": size[1]} if size else {}
        elif not key.startswith("font"):
            attributes[key] = value
    return attributes | ({"class": " ".join(classes)} if classes else {})


def as_figure(draw: Draw, *, title: str, size: tuple[int, int]) -> Canvas:
    """Draw on a figure of its own, which a notebook shows."""
    with matplotlib.rc_context(_style(INK)):
        canvas = blank(width=size[0] / 72, height=size[1] / 72)
        draw(canvas, INK)
        canvas.set_label(title)  # the layout has no room for more: a page and a notebook say it themselves
    return canvas


def _style(palette: Palette) -> dict[Any, Any]:
    return {
        "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 11.5, "text.parse_math": False,
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": palette["line"],
        "axes.labelcolor": palette["ink"], "axes.linewidth": 0.8, "axes.labelsize": 11.5, "text.color": palette["ink"],
        "xtick.color": palette["faint"], "ytick.color": palette["faint"], "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5, "grid.color": palette["line"], "grid.linewidth": 0.6, "legend.frameon": False,
        "legend.fontsize": 11, "figure.dpi": 72, "svg.image_inline": True,
    }  # fmt: skip

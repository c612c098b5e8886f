"""How do the values of columns and their relations look? Shares by cell, synthetic over real, and a map of pairs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Canvas
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from synthgen.findings import Cell, PairMap
from synthgen.report.picture import Picture, identifier, short, spoken
from synthgen.report.public import figure, interval, shown
from synthgen.report.rendering import WIDTH, Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from synthgen.auditing import Audit

PANEL = (172, 104)  # SVG units
_TOPS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
_SHADES = ((0.02, 0.2), (0.05, 0.4), (0.1, 0.7), (0.2, 1.0))  # from which difference on, how opaque
_NAME_LENGTH = 16  # letters of a name beside a map
_GUTTER = 34  # SVG units for the share beside a small picture
_LETTER = 5.8  # SVG units of a letter, about


def overlays(audit: Audit) -> dict[str, Picture]:
    """A small picture for each column of which shares by cell are known, worst first."""
    found = {}
    for finding in audit.findings:
        measured = finding.measurement.cells if finding.measurement else {}
        for number, (column, cells) in enumerate(measured.items()):
            if all(math.isfinite(e.value) for cell in cells for e in (cell.synthetic, cell.holdout)):
                found[column] = _overlay(column, cells, name=identifier(finding.check, "cells", str(number)))
    return found


def _overlay(column: str, cells: Sequence[Cell], *, name: str) -> Picture:
    worst = max(cells, key=lambda cell: abs(cell.synthetic.value - cell.holdout.value))
    alt = (
        f"Largest difference: {worst.label}, synthetic {interval(worst.synthetic)}, "
        f"real holdout {interval(worst.holdout)}."
    )
    width, height = PANEL
    return Picture(
        name, shown(column), "", alt, height, lambda canvas, palette: _draw_overlay(canvas, cells, palette), width
    )


def _draw_overlay(canvas: Canvas, cells: Sequence[Cell], palette: Palette) -> None:
    width, height = PANEL
    axes = canvas.add_axes((_GUTTER / width, 18 / height, 1 - (_GUTTER + 3) / width, 1 - 22 / height))
    made, real = [cell.synthetic.value for cell in cells], [cell.holdout.value for cell in cells]
    edges = range(len(cells) + 1)
    free: Any = {"clip_on": False}
    most = max(*made, *real)
    top = next((top for top in _TOPS if top <= most), most)
    axes.axhline(top, color=palette["line"], linewidth=0.8, **free)
    axes.stairs(made, edges, fill=True, color=palette["ours"], alpha=0.35, **free)
    axes.stairs(made, edges, baseline=None, color=palette["ours"], linewidth=1.0, **free)
    axes.stairs(real, edges, baseline=None, color=palette["real"], linewidth=1.6, **free)
    whiskers = [(at + 0.5, bound) for at, e in enumerate(cells) for bound in (e.holdout.low, e.holdout.high, math.nan)]
    axes.plot(*zip(*whiskers, strict=True), color=palette["real"], linewidth=0.9, **free)
    axes.set_xlim(0, len(cells))
    axes.set_ylim(0, 1.04 * max(most, *(cell.holdout.high for cell in cells)))
    axes.set_xticks([])
    axes.set_yticks([top], [f"{100 * top:.3g} %"], fontsize=9.5)
    axes.tick_params(length=0, pad=3)
    axes.spines["left"].set_visible(False)
    _write_ticks(axes, cells, palette)


def _write_ticks(axes: Axes, cells: Sequence[Cell], palette: Palette) -> None:
    """What cells are, below the axis, as far as there is room: words first, then from the left."""
    inside = PANEL[0] - _GUTTER - 3
    unit, taken = inside / len(cells), list[tuple[float, float]]()
    whole = any(cell.label.replace(",", "").lstrip("-").isdigit() for cell in cells)
    ticks = [_tick(at, cell.label.removesuffix(" or missing"), whole=whole) for at, cell in enumerate(cells)]
    below = axes.get_xaxis_transform()
    for place, words in sorted(ticks, key=lambda tick: (tick[1] not in ("missing", "other"), tick[0])):
        half = len(words) * _LETTER / 2
        middle = min(max(place * unit, half - _GUTTER), inside - half)
        if not words or any(abs(middle - other) < half + reach + 3 for other, reach in taken):
            continue
        taken.append((middle, half))
        if float(place).is_integer():
            axes.plot([place, place], [0, -0.04], color=palette["faint"], linewidth=0.8, clip_on=False, transform=below)
        axes.text(
            middle / unit, -0.05, words, color=palette["faint"], fontsize=9.5, va="top", ha="center", transform=below
        )


def _tick(at: int, label: str, *, whole: bool) -> tuple[float, str]:
    """Where a cell's tick is, and what it says: where the cell begins, or in its middle what the whole of it is.

    >>> _tick(2, "20 to 29", whole=False), _tick(2, "level 3", whole=False), _tick(2, "5 and above", whole=True)
    ((2, '20'), (2.5, '3'), (2.5, '5+'))
    """
    if named := re.match(r"level (\d+)(?: to (?:level )?(\d+|other))?", label):
        return at + 0.5, "–".join(filter(None, named.groups()))
    if outer := re.match(r"(?:below|before) (.+)", label):
        return (at + 0.5, f"<{outer[1]}") if whole else (at, "")
    if begins := re.match(r"(.+?) (to|and) ", label):
        return (at + 0.5, begins[1] + ("+" if begins[2] == "and" else "…")) if whole else (at, begins[1])
    return at + 0.5, {"any value": ""}.get(label, label.removesuffix(" levels"))


def pair_map(pairs: PairMap, *, name: str, title: str) -> Picture | None:
    """Which relations between columns are off: synthetic above the diagonal, the real holdout below it."""
    if len(pairs.names) < 3:
        return None
    worst = sorted(pairs.differences, key=lambda pair: -pair[2])[:5]
    told = "; ".join(
        f"{shown(pairs.names[i])} and {shown(pairs.names[j])} {figure(made)}, real holdout {figure(real)}"
        for i, j, made, real in worst
    )
    caption = (
        "By how much the relation of two columns differs from train's: above the diagonal that of synthetic rows, "
        "below it that of as many real holdout rows. What is as strong below as above, sampling alone does."
    )
    height = round(WIDTH + 24)
    alt = spoken(title, f"worst pairs: {told}")
    return Picture(name, title, caption, alt, height, lambda canvas, palette: _draw_map(canvas, pairs, palette))


def _draw_map(canvas: Canvas, pairs: PairMap, palette: Palette) -> None:
    count, height = len(pairs.names), canvas.get_figheight() * 72
    names = [short(name, _NAME_LENGTH) for name in pairs.names]
    beside = 12 + _LETTER * max(map(len, names))
    side = WIDTH - beside - 6
    axes = canvas.add_axes((beside / WIDTH, 1 - (beside + side) / height, side / WIDTH, side / height))
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    squares: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for i, j, made, real in pairs.differences:
        for value, colour, place in ((made, "ours", (j, i)), (real, "real", (i, j))):
            shade = max((opacity for least, opacity in _SHADES if value >= least), default=0.0)
            if shade:
                squares.setdefault((colour, shade), []).append(place)
    squares["line", 1.0] = [(i, i) for i in range(count)]
    for (colour, shade), places in squares.items():
        outline = Path.make_compound_path(*(_square(x, y) for x, y in places))
        axes.add_patch(PathPatch(outline, facecolor=palette[colour], alpha=shade, linewidth=0))
    lines = range(1, count)
    axes.hlines(lines, 0, count, colors=palette["line"], linewidth=0.3)
    axes.vlines(lines, 0, count, colors=palette["line"], linewidth=0.3)
    size = min(10.5, 0.85 * side / count)
    middles = [i + 0.5 for i in range(count)]
    axes.set_yticks(middles, names, fontsize=size)
    axes.set_xticks(middles, names, fontsize=size, rotation=90)
    axes.tick_params(length=0, labelcolor=palette["ink"], pad=3, top=False, labeltop=True, bottom=False,
                     labelbottom=False)  # fmt: skip
    axes.spines[:].set_visible(False)
    _shade_legend(canvas, palette)


def _square(x: int, y: int) -> Path:
    corners = [(x + 0.06, y + 0.06), (x + 0.94, y + 0.06), (x + 0.94, y + 0.94), (x + 0.06, y + 0.94), (0.0, 0.0)]
    return Path(corners, [Path.MOVETO, *(3 * (Path.LINETO,)), Path.CLOSEPOLY])


def _shade_legend(canvas: Canvas, palette: Palette) -> None:
    """Which difference which shade stands for, in both colours."""
    height = canvas.get_figheight() * 72
    axes = canvas.add_axes((0, 0, 1, 24 / height))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, 24)
    axes.text(0, 12, "difference from", color=palette["ink"], fontsize=10.5, va="center")
    for place, (least, shade) in enumerate(_SHADES):
        left = 100 + place * 74
        axes.fill_between([left, left + 13], 7, 18, color=palette["ours"], alpha=shade, linewidth=0)
        axes.fill_between([left + 14, left + 27], 7, 18, color=palette["real"], alpha=shade, linewidth=0)
        axes.text(left + 32, 12, f"{least:g}", color=palette["ink"], fontsize=10.5, va="center")

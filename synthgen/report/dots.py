"""How do named figures look beside their controls? As dots with intervals, one line for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure as Canvas

from synthgen.findings import Estimate
from synthgen.report.content import Figure
from synthgen.report.picture import Picture, short, spoken
from synthgen.report.public import interval, shown
from synthgen.report.rendering import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 17
MOST_ROWS = 40


@dataclass(frozen=True)
class Dots:
    """What a dot plot shows: named figures, what they are, and what stands beside them."""

    rows: Sequence[Figure]
    title: str
    label: str
    better: Literal["lower", "higher", "neither"]  # "neither": rows stand as they come
    axis: str = ""  # what the axis says, where the label is too long
    most: int = MOST_ROWS
    ours: str = "synthetic"
    real: str = "real holdout"
    overall: float | None = None  # the control of the whole, where single figures have none


def dot_plot(dots: Dots, *, name: str) -> Picture | None:
    """Named figures with intervals beside their controls, worst first; None where nothing can be shown.

    >>> one = Figure("age", Estimate(value=0.1, low=0.0, high=0.2, n=90, method="bootstrap"))
    >>> dot_plot(Dots((one,), "Columns", "distance", "lower"), name="columns").alt
    'Columns. Worst first: age 0.100 [0, 0.200].'
    """
    known = [row for row in dots.rows if math.isfinite(row.estimate.value)]
    if not known:
        return None
    if dots.better != "neither":
        known.sort(key=lambda row: row.estimate.value, reverse=dots.better == "lower")
    cut = replace(dots, rows=known[: dots.most])
    caption = f"{dots.label[:1].upper()}{dots.label[1:]}" + (
        "." if dots.better == "neither" else f"; {dots.better} is better."
    )
    if len(cut.rows) < len(known):
        caption += f" The worst {len(cut.rows)} of {len(known)} are drawn; all stand in the details."
    order = "Largest differences first" if dots.better == "neither" else "Worst first"
    alt = spoken(dots.title, f"{order}: " + "; ".join(_spoken(row, dots.real) for row in cut.rows[:5]))
    height = 74 + ROW * len(cut.rows)
    return Picture(name, dots.title, caption, alt, height, lambda canvas, palette: _draw(canvas, cut, palette))


def _draw(canvas: Canvas, dots: Dots, palette: Palette) -> None:
    height = canvas.get_figheight() * 72
    axes = canvas.add_axes((0.37, 42 / height, 0.60, 1 - 74 / height))
    rows, places = dots.rows, range(len(dots.rows), 0, -1)
    axes.hlines([*places], 0, 1, transform=axes.get_yaxis_transform(), colors=palette["line"], linewidth=0.4)
    if dots.overall is not None and math.isfinite(dots.overall):
        words = f"{dots.real}, all together"
        axes.axvline(dots.overall, color=palette["real"], linewidth=1.4, linestyle=(0, (5, 2)), label=words)
    controls = [
        (row.control, place + 0.18)
        for row, place in zip(rows, places, strict=True)
        if row.control is not None and math.isfinite(row.control.value)
    ]
    ours = [(row.estimate, place - 0.12) for row, place in zip(rows, places, strict=True)]
    if controls:
        _draw_intervals(axes, controls, "D", palette["real"], label=dots.real, markersize=4.5, markerfacecolor="none")
    _draw_intervals(axes, ours, "o", palette["ours"], label=dots.ours, markersize=5.5)
    axes.set_yticks([*places], [short(row.name) for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=palette["ink"])
    axes.set_ylim(0.3, len(rows) + 0.7)
    axes.margins(x=0.04)
    if dots.better != "higher" and min(row.estimate.value for row in rows) >= 0:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(short(dots.axis or dots.label.split(" (")[0].split(": ")[0], 60), x=0.96, ha="right")
    canvas.legend(loc="upper right", ncols=2, borderaxespad=0.2, columnspacing=1.2, handletextpad=0.4)


def _draw_intervals(
    axes: Axes, figures: Sequence[tuple[Estimate, float]], marker: str, colour: str, **style: Any
) -> None:
    places = [place for _, place in figures]
    lows, highs = [e.low for e, _ in figures], [e.high for e, _ in figures]
    axes.hlines(places, lows, highs, colors=colour, linewidth=1.6)
    axes.plot([e.value for e, _ in figures], places, marker, color=colour, **style)


def _spoken(row: Figure, real: str) -> str:
    control = f", {real} {interval(row.control)}" if row.control else ""
    return f"{shown(row.name)} {interval(row.estimate)}{control}"

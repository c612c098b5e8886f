"""How do curves look? Receiver operating characteristics, and any other curve that a check gives."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Canvas

from synthgen.report.picture import Picture, short, spoken
from synthgen.report.public import figure, shown
from synthgen.report.rendering import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST_RATE = 1e-3  # of the logarithmic axes of an attack
_FIRST = ("synthetic", "validation")  # the series that a picture is about, drawn in its main colour
_REAL = (0, (5, 2))
_SERIES = (("ours", "-"), ("third", (0, (1, 1.5))), ("ink", (0, (5, 1, 1, 1))), ("faint", (0, (3, 3))))

Curves = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Look:
    """What the axes of a picture of curves say, and how."""

    x: str = ""
    y: str = ""
    caption: str = ""  # instead of the measurement's label
    logarithmic: bool = False  # the horizontal axis
    shares: str = ""  # "x", "y" or "xy": axes that are written in percent
    words: Mapping[str, str] = field(default_factory=dict)  # what curves are called, where their name says too little
    mark: tuple[float, str] | None = None  # a place on the horizontal axis, and what is there


def roc_plot(curves: Curves, *, name: str, title: str, caption: str, log: bool) -> Picture:
    """Receiver operating characteristics: true positives against false positives, on logarithmic axes for attacks."""
    alt = spoken(title, *(_spoken_roc(shown(_series(key, log=log)), curve, log=log) for key, curve in curves.items()))
    height = 370 + 16 * len(curves)
    return Picture(
        name, title, caption, alt, height, lambda canvas, palette: _draw_roc(canvas, curves, palette, log=log)
    )


def line_plot(curves: Curves, *, name: str, title: str, caption: str, look: Look) -> Picture:
    """Curves that a check gives beside its figures."""
    curves = {look.words.get(key, key): curve for key, curve in curves.items()}
    written = _percent if "y" in look.shares else figure
    told = [f"{shown(key)} from {written(curve[0][1])} to {written(curve[-1][1])}" for key, curve in curves.items()]
    if look.mark:
        told.append(f"{look.mark[1]} at {_written(look.mark[0], look)}")
    alt = spoken(title, *told)
    height = 300 + 16 * (len(curves) + (look.mark is not None))
    return Picture(name, title, caption, alt, height, lambda canvas, palette: _draw(canvas, curves, look, palette))


def _draw_roc(canvas: Canvas, curves: Curves, palette: Palette, *, log: bool) -> None:
    axes = _frame(canvas, len(curves) + 1)
    least = SMALLEST_RATE if log else 0.0
    axes.plot([least, 1], [least, 1], color=palette["faint"], linewidth=1, linestyle=(0, (1, 3)), label="guessing")
    _plot_series(axes, {_series(name, log=log): curve for name, curve in curves.items()}, least, palette)
    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        ticks = [0.001, 0.01, 0.1, 1.0]
        axes.set_xticks(ticks, ["0.1 %", "1 %", "10 %", "100 %"])
        axes.set_yticks(ticks, ["0.1 %", "1 %", "10 %", "100 %"])
    else:
        axes.xaxis.set_major_formatter(_tick_percent)
        axes.yaxis.set_major_formatter(_tick_percent)
    axes.set_xlim(least, 1)
    axes.set_ylim(least, 1.02)
    axes.grid(visible=True)
    axes.set_xlabel("false alarms")
    axes.set_ylabel("hits")
    _legend(canvas)


def _draw(canvas: Canvas, curves: Curves, look: Look, palette: Palette) -> None:
    axes = _frame(canvas, len(curves) + (look.mark is not None))
    _plot_series(axes, curves, -math.inf, palette)
    if look.mark:
        place, words = look.mark
        axes.axvline(place, color=palette["faint"], linewidth=1.2, linestyle=(0, (1, 2)), label=words)
    if look.logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=5)
    for axis, letter in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        if letter in look.shares:
            axis.set_major_formatter(_tick_percent)
    axes.set_xlabel(look.x)
    axes.set_ylabel(look.y)
    axes.grid(visible=True)
    _legend(canvas)


def _frame(canvas: Canvas, series: int) -> Axes:
    """Axes below a legend of one line per series."""
    height = canvas.get_figheight() * 72
    bottom, top = 46 / height, 1 - (10 + 17 * series) / height
    return canvas.add_axes((0.17, bottom, 0.79, top - bottom))


def _plot_series(axes: Axes, curves: Curves, least: float, palette: Palette) -> None:
    """The picture's own series first, the real holdout last and always in one colour."""
    order = sorted(curves, key=lambda name: (_is_real(name), name not in _FIRST))
    for index, name in enumerate(order):
        colour, dashes = ("real", _REAL) if _is_real(name) else _SERIES[index % len(_SERIES)]
        points = [(max(x, least), max(y, least)) for x, y in curves[name] if math.isfinite(x) and math.isfinite(y)]
        axes.plot(
            *zip(*points, strict=True),
            color=palette[colour],
            linestyle=dashes,
            linewidth=1.8,
            label=short(name, 48),
        )


def _series(name: str, *, log: bool) -> str:
    """The name of a curve without the word that says what kind of curve it is."""
    rest = re.sub(r"^roc\b[\s:]*", "", name, flags=re.IGNORECASE).strip("() ")
    return rest or ("the attacker" if log else "synthetic")


def _is_real(name: str) -> bool:
    return name.startswith("real") or name.endswith(("holdout", "(real holdout)"))


def _legend(canvas: Canvas) -> None:
    canvas.legend(loc="upper left", borderaxespad=0.2, labelspacing=0.25, handlelength=2.6)


def _tick_percent(value: float, _place: float) -> str:
    return _percent(value)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _written(value: float, look: Look) -> str:
    return _percent(value) if "x" in look.shares else figure(value)


def _spoken_roc(name: str, curve: Sequence[tuple[float, float]], *, log: bool) -> str:
    at = 0.01 if log else 0.1
    hits = max((y for x, y in curve if x <= at), default=0.0)
    return f"{name}: {hits:.1%} hits at {at:.0%} false alarms"

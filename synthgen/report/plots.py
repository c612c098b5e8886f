"""What can be seen at a glance? Pictures of an audit, for the report's page and for notebooks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Canvas

from synthgen.errors import UsageError, suggest
from synthgen.findings import Estimate
from synthgen.report.content import Figure, paired
from synthgen.report.public import figure, interval, public, shown
from synthgen.report.rendering import Palette, as_figure, as_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from synthgen.auditing import Audit
    from synthgen.findings import Finding, Measurement

ROW = 17
MOST_ROWS = 40
NAME_LENGTH = 24
SMALLEST_RATE = 1e-3  # of the logarithmic axes
_SERIES = (("ours", "-"), ("real", (0, (5, 2))), ("third", (0, (1, 1.5))), ("ink", (0, (5, 1, 1, 1))))


@dataclass(frozen=True)
class Picture:
    """One picture: how it is drawn, what it shows, and the same in words for those who do not see it."""

    name: str
    title: str
    caption: str
    alt: str
    height: int  # SVG units
    draw: Callable[[Canvas, Palette], None]

    @property
    def svg(self) -> str:
        """As a piece of the report's page."""
        return as_svg(self.draw, name=self.name, title=self.title, alt=self.alt, height=self.height)


def pictures(audit: Audit) -> tuple[Picture, ...]:
    """All pictures that the audit's figures and curves allow, privacy first."""
    return tuple(_named(audit).values())


def plot(audit: Audit, name: str) -> Canvas:
    """One of the report's pictures as a matplotlib figure: the same figures, rounded in the same way.

    Args:
        audit: with the checks that were run.
        name: of the check, such as "fidelity.columns", or its last part, "columns".

    Raises:
        UsageError: no picture has that name.
    """
    known = _named(public(audit))
    found = [key for key in known if name in (key, key.partition(".")[2])]
    if len(found) != 1:
        raise UsageError(f"no picture {name!r}: {suggest(name, known) if known else 'this audit has none'}")
    picture = known[found[0]]
    return as_figure(picture.draw, title=picture.title, height=picture.height)


def _named(audit: Audit) -> dict[str, Picture]:
    """Pictures by check; by check and kind where a check has several."""
    columns, named = {str(column["name"]) for column in audit.columns}, {}
    for finding in audit.findings:
        drawn = _of(finding, columns)
        for picture in drawn:
            kind = picture.name.removeprefix(_identifier(finding.check)) or "-figures"
            named[finding.check if len(drawn) == 1 else finding.check + "." + kind[1:]] = picture
    return named


@dataclass(frozen=True)
class Dots:
    """What a dot plot shows: named figures, what they are, and what stands beside them."""

    rows: Sequence[Figure]
    title: str
    label: str
    better: str
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
    known.sort(key=lambda row: row.estimate.value, reverse=dots.better == "lower")
    cut = replace(dots, rows=known[: dots.most])
    caption = f"{dots.label}; {dots.better} is better."
    if len(cut.rows) < len(known):
        caption += f" The worst {len(cut.rows)} of {len(known)} are drawn; all stand in the details."
    alt = f"{dots.title}. Worst first: " + "; ".join(_spoken(row) for row in cut.rows[:5]) + "."
    height = 74 + ROW * len(cut.rows)
    return Picture(name, dots.title, caption, alt, height, lambda canvas, palette: _draw_dots(canvas, cut, palette))


def roc_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, name: str, title: str, caption: str, log: bool
) -> Picture:
    """Receiver operating characteristics: true positives against false positives, on logarithmic axes for attacks."""
    alt = f"{title}. " + " ".join(
        _spoken_roc(shown(_series(key, log=log)), curve, log=log) for key, curve in curves.items()
    )
    height = 370 + 16 * len(curves)
    return Picture(
        name, title, caption, alt, height, lambda canvas, palette: _draw_roc(canvas, curves, palette, log=log)
    )


def line_plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    name: str,
    title: str,
    caption: str,
    axes: tuple[str, str] = ("", ""),
) -> Picture:
    """Curves that a check gives beside its figures, and what the axes show."""
    spoken = (f"{shown(key)} ends at {figure(curve[-1][1])}" for key, curve in curves.items() if curve)
    alt = f"{title}. " + "; ".join(spoken) + "."
    height = 300 + 16 * len(curves)
    return Picture(
        name, title, caption, alt, height, lambda canvas, palette: _draw_lines(canvas, curves, axes, palette)
    )


_TITLES = {
    "fidelity.columns": "Columns: how far each distribution is off",
    "fidelity.missingness": "Missing values, column by column",
    "fidelity.pairs": "Pairs of columns: how far relations are off",
    "utility.train_on_synthetic": "Models trained on synthetic data, tested on real patients",
    "utility.estimates": "Coefficients of the declared regressions: how far intervals overlap",
    "utility.survival": "Survival of train, holdout and synthetic patients",
    "structure.rules": "Broken clinical rules",
    "fidelity.detection": "Can a classifier tell synthetic from real?",
    "membership": "Who was in the training data? The attacker's hits",
    "images.copies": "How close images come to one patient alone",
    "images.patches": "How close parts of images come to one patient alone",
    "images.membership": "Whose images were in the training data? The attacker's hits",
    "fidelity.image_detection": "Can a network tell synthetic from real?",
    "fidelity.spectrum": "Power by spatial frequency: blur is too little on the right, noise too much",
    "fidelity.intensities": "Pixel values",
    "utility.image_classifier": "Classifiers of images, tested on real patients",
    "subgroups.tables": "Records of groups of patients",
    "subgroups.images": "Images of groups of patients",
}
_DOTTED = frozenset({"fidelity", "utility", "subgroups", "structure"})
_NOT_DOTTED = frozenset({"fidelity.detection", "fidelity.image_detection", "fidelity.features"})  # or in many units
_SUMMARIES = ("worst ", "largest ", "mean ", "mutual ", "groups ", "equalised", "AUC, ")  # or of another unit
_PRIVATE = frozenset({"membership", "copies", "disclosure", "images"})
_AXES = {  # of curves that are no ROC
    "utility.survival": ("time, in the unit of its column", "share without the event"),
    "images.copies": ("distance to the nearest patient, as a share of that to the second", "share of the images"),
    "images.patches": ("distance to the nearest patient, as a share of that to the second", "share of the images"),
    "fidelity.spectrum": ("spatial frequency, cycles per pixel", "power, log10"),
    "fidelity.intensities": ("pixel value, from the darkest to the brightest", "share of the pixels"),
}


def _of(finding: Finding, columns: Collection[str]) -> list[Picture]:
    measurement = finding.measurement
    if measurement is None:
        return []
    title = _TITLES.get(finding.check, shown(finding.question))
    drawn = []
    if finding.family in _DOTTED and finding.check not in _NOT_DOTTED:
        dots = _dots(finding, measurement, title, columns)
        if len(dots.rows) > 1:
            drawn.append(dot_plot(dots, name=_identifier(finding.check)))
    drawn += _curve_pictures(finding, measurement, title)
    return [picture for picture in drawn if picture is not None]


def _dots(finding: Finding, measurement: Measurement, title: str, columns: Collection[str]) -> Dots:
    rows, label = paired(measurement.details), shown(measurement.label)
    if finding.check == "utility.estimates":
        prefix = "overlap of intervals, "
        overlaps = [replace(row, name=row.name.removeprefix(prefix)) for row in rows if row.name.startswith(prefix)]
        return Dots(overlaps, title, "overlap with train's interval, of a coefficient", measurement.better)
    if finding.family == "utility":
        metric = label.split(" ")[0]  # that of the statistic; the others have other units
        chosen = [row for row in rows if row.name.startswith(f"{metric.lower()}, ") and row.control]
        label = f"{metric} on real patients, by kind of model"
        return Dots(chosen, title, label, measurement.better, ours="trained on synthetic", real="trained on real")
    chosen = _without_summaries(rows, columns)
    single = any(row.control for row in chosen)
    overall = None if single or measurement.control is None else measurement.control.value
    most = 20 if finding.check == "fidelity.pairs" else MOST_ROWS
    return Dots(chosen, title, label, measurement.better, most, overall=overall)


def _without_summaries(rows: Sequence[Figure], columns: Collection[str]) -> list[Figure]:
    """Figures of single columns or pairs, without the means and maxima over them, which stand in the tables."""
    by_column = [row for row in rows if row.name in columns]
    if by_column:
        return by_column
    return [row for row in rows if not row.name.startswith(_SUMMARIES)]


def _curve_pictures(finding: Finding, measurement: Measurement, title: str) -> list[Picture | None]:
    curves = {name: curve for name, curve in measurement.curves.items() if len(curve) > 1}
    rocs = {name: curve for name, curve in curves.items() if "roc" in name.lower()}
    others = {name: curve for name, curve in curves.items() if name not in rocs}
    drawn: list[Picture | None] = []
    if rocs:
        log = finding.family in _PRIVATE
        caption = (
            "Both axes are logarithmic: the lower left shows attackers who accept few false alarms. On the dotted line "
            "they do no better than guessing."
            if log
            else "On the dotted line the classifier does no better than guessing; nearer to it is better."
        )
        drawn.append(roc_plot(rocs, name=_identifier(finding.check, "roc"), title=title, caption=caption, log=log))
    if others:
        caption = shown(measurement.label)
        name, axes = _identifier(finding.check, "curves"), _AXES.get(finding.check, ("", ""))
        drawn.append(line_plot(others, name=name, title=title, caption=caption, axes=axes))
    return drawn


def _draw_dots(canvas: Canvas, dots: Dots, palette: Palette) -> None:
    height = canvas.get_figheight() * 72
    axes = canvas.add_axes((0.37, 42 / height, 0.60, 1 - 74 / height))
    rows, places = dots.rows, range(len(dots.rows), 0, -1)
    axes.hlines([*places], 0, 1, transform=axes.get_yaxis_transform(), colors=palette["line"], linewidth=0.4)
    if dots.overall is not None and math.isfinite(dots.overall):
        words = f"{dots.real}, all together"
        axes.axvline(dots.overall, color=palette["real"], linewidth=1.4, linestyle=(0, (5, 2)), label=words)
    controls = [(row.control, p + 0.18) for row, p in zip(rows, places, strict=True) if row.control is not None]
    ours = [(row.estimate, p - 0.12) for row, p in zip(rows, places, strict=True)]
    if controls:
        _draw_intervals(axes, controls, "D", palette["real"], label=dots.real, markersize=4.5, markerfacecolor="none")
    _draw_intervals(axes, ours, "o", palette["ours"], label=dots.ours, markersize=5.5)
    axes.set_yticks([*places], [_short(row.name) for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=palette["ink"])
    axes.set_ylim(0.3, len(rows) + 0.7)
    axes.margins(x=0.04)
    if dots.better == "lower" and min(row.estimate.value for row in rows) >= 0:
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(_short(dots.label.split(" (")[0].split(": ")[0], 60), x=0.96, ha="right")
    canvas.legend(loc="upper right", ncols=2, borderaxespad=0.2, columnspacing=1.2, handletextpad=0.4)


def _draw_intervals(
    axes: Axes, figures: Sequence[tuple[Estimate, float]], marker: str, colour: str, **style: Any
) -> None:
    places = [place for _, place in figures]
    lows, highs = [e.low for e, _ in figures], [e.high for e, _ in figures]
    axes.hlines(places, lows, highs, colors=colour, linewidth=1.6)
    axes.plot([e.value for e, _ in figures], places, marker, color=colour, **style)


def _draw_roc(
    canvas: Canvas, curves: Mapping[str, Sequence[tuple[float, float]]], palette: Palette, *, log: bool
) -> None:
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
    axes.set_xlim(least, 1)
    axes.set_ylim(least, 1.02)
    axes.grid(visible=True)
    axes.set_xlabel("false alarms")
    axes.set_ylabel("hits")
    _legend(canvas)


def _draw_lines(
    canvas: Canvas, curves: Mapping[str, Sequence[tuple[float, float]]], labels: tuple[str, str], palette: Palette
) -> None:
    axes = _frame(canvas, len(curves))
    _plot_series(axes, curves, -math.inf, palette)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(visible=True)
    axes.locator_params(nbins=5)
    _legend(canvas)


def _frame(canvas: Canvas, series: int) -> Axes:
    """Axes below a legend of one line per series."""
    height = canvas.get_figheight() * 72
    bottom, top = 46 / height, 1 - (10 + 17 * series) / height
    return canvas.add_axes((0.15, bottom, 0.81, top - bottom))


def _plot_series(
    axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], least: float, palette: Palette
) -> None:
    for index, (name, curve) in enumerate(sorted(curves.items(), key=lambda item: _is_real(item[0]))):
        colour, dashes = _SERIES[1] if _is_real(name) else _SERIES[index % len(_SERIES)]
        points = [(max(x, least), max(y, least)) for x, y in curve if math.isfinite(x) and math.isfinite(y)]
        axes.plot(
            *zip(*points, strict=True),
            color=palette[colour],
            linestyle=dashes,
            linewidth=1.8,
            label=_short(name, 48),
        )


def _series(name: str, *, log: bool) -> str:
    """The name of a curve without the word that says what kind of curve it is."""
    rest = re.sub(r"^roc\b[\s:]*", "", name, flags=re.IGNORECASE).strip("() ")
    return rest or ("the attacker" if log else "synthetic")


def _is_real(name: str) -> bool:
    return name.startswith("real") or name.endswith("(real holdout)")


def _legend(canvas: Canvas) -> None:
    canvas.legend(loc="upper left", borderaxespad=0.2, labelspacing=0.25, handlelength=2.6)


def _short(name: str, length: int = NAME_LENGTH) -> str:
    name = shown(name)
    return name if len(name) <= length else name[: length - 1] + "…"


def _identifier(check: str, *more: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("picture", check.lower(), *more)))


def _spoken(row: Figure) -> str:
    control = f", real holdout {interval(row.control)}" if row.control else ""
    return f"{shown(row.name)} {interval(row.estimate)}{control}"


def _spoken_roc(name: str, curve: Sequence[tuple[float, float]], *, log: bool) -> str:
    at = 0.01 if log else 0.1
    hits = max((y for x, y in curve if x <= at), default=0.0)
    return f"{name}: {hits:.1%} hits at {at:.0%} false alarms."

"""What did it take? The losses of the training, and the time and energy of training and audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Canvas

from synthgen.report.content import cost_of, cost_words, duration
from synthgen.report.lines import Look, line_plot
from synthgen.report.picture import Picture, short
from synthgen.report.public import history_of
from synthgen.report.rendering import Palette

if TYPE_CHECKING:
    from synthgen.auditing import Audit

ROW = 17
_MOST = 12  # parts of the work that are named


def training_plot(audit: Audit) -> Picture | None:
    """Train and validation loss over the steps; None where the generator has no loss or it is unknown."""
    history = history_of(audit.generator)
    if len(history) < 2:
        return None
    steps, train, validation = zip(*history, strict=True)
    curves = {"validation": [*zip(steps, validation, strict=True)], "train": [*zip(steps, train, strict=True)]}
    best = (audit.generator or {})["training"].get("best_step")
    mark = (float(best), "step of the weights that were kept") if isinstance(best, int | float) else None
    look = Look("step", "loss", mark=mark)
    caption = (
        "The loss of train rows, and of rows set aside from train: where this rises while that falls, the generator "
        "learns patients by heart. The upright line marks the weights that were kept."
    )
    return line_plot(curves, name="picture-training", title="Training", caption=caption, look=look)


def time_plot(audit: Audit) -> Picture | None:
    """Seconds of the training and of the longest checks; None where no time is known."""
    parts = _parts(audit)
    if not parts:
        return None
    title = "Time and energy"
    told = "; ".join(f"{name} {duration(value)}" for name, value in parts.items())
    caption = f"{cost_words(audit)} The audit took {duration(audit.seconds)}."
    height = 24 + ROW * len(parts)
    alt = f"{title}. {caption} {told[:1].upper()}{told[1:]}."
    return Picture("picture-time", title, caption, alt, height, lambda canvas, palette: _draw(canvas, parts, palette))


def _parts(audit: Audit) -> dict[str, float]:
    checks = {f.check: f.measurement.seconds for f in audit.findings if f.measurement and f.measurement.seconds > 0}
    longest = sorted(checks, key=lambda name: -checks[name])
    parts = {name: checks[name] for name in longest[:_MOST]}
    if rest := longest[_MOST:]:
        parts[f"{len(rest)} other checks"] = sum(checks[name] for name in rest)
    trained = cost_of(audit).get("seconds")
    return ({"training": float(trained)} if isinstance(trained, int | float) else {}) | parts


def _draw(canvas: Canvas, parts: Mapping[str, float], palette: Palette) -> None:
    height = canvas.get_figheight() * 72
    axes = canvas.add_axes((0.37, 6 / height, 0.48, 1 - 12 / height))
    places, values = range(len(parts), 0, -1), [*parts.values()]
    axes.barh([*places], values, height=0.6, color=palette["ours"])
    for place, value in zip(places, values, strict=True):
        axes.annotate(duration(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center",
                      color=palette["faint"], fontsize=10.5)  # fmt: skip
    axes.set_yticks([*places], [short(name) for name in parts])
    axes.tick_params(axis="y", length=0, labelcolor=palette["ink"])
    axes.set_xticks([])
    axes.set_ylim(0.3, len(parts) + 0.7)
    axes.set_xlim(left=0)
    axes.spines["bottom"].set_visible(False)

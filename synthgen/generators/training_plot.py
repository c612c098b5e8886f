"""How did a training go? Its losses and the gap between them, over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synthgen.errors import UsageError
from synthgen.figures import INK, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_training(facts: Mapping[str, Any]) -> Figure:
    """Train and validation loss above, and below how much more the training rows are known than others.

    Args:
        facts: of a generator that has a loss: its `facts` after a fit.

    Raises:
        UsageError: the training was never evaluated.

    >>> facts = {"history": [(10, 2.0, 2.2), (20, 1.0, 1.2)], "best_step": 20, "first_ratio": 1.0,
    ...          "memorisation_gap": 0.05}
    >>> [axes.get_ylabel() for axes in plot_training(facts).axes]
    ['loss', 'memorisation gap']
    """
    if not facts.get("history"):
        raise UsageError("there is nothing to plot: the training was not evaluated once")
    steps, train, validation = zip(*facts["history"], strict=True)
    gap = [v / t / facts["first_ratio"] - 1 for t, v in zip(train, validation, strict=True)]
    figure = blank(width=6.4, height=4.8)
    figure.set_layout_engine("constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    above.plot(steps, train, color=INK["faint"], linestyle="--", label="train")
    above.plot(steps, validation, color=INK["ours"], label="validation")
    above.set_ylabel("loss")
    below.plot(steps, gap, color=INK["ours"], label="_gap")
    if max(gap) > 0.2 * facts["memorisation_gap"]:  # else the limit is far away and would flatten the line
        below.axhline(facts["memorisation_gap"], color=INK["real"], linestyle=":", label="limit: training stops")
    below.set_ylabel("memorisation gap")
    below.yaxis.set_major_formatter("{x:.1%}")
    below.set_xlabel("step")
    _finish(above, facts["best_step"], "kept weights")
    _finish(below, facts["best_step"], "_kept")
    return figure


def _finish(axes: Axes, best_step: int, label: str) -> None:
    axes.axvline(best_step, color=INK["third"], linewidth=1, label=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=INK["line"], linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)

"""What is a figure drawn on, and in which colours? On a matplotlib figure that a notebook shows and no window opens."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = {
    "paper": "#ffffff",
    "ink": "#17212b",
    "faint": "#4d5b69",
    "line": "#ccd4dc",
    "ours": "#0b5fa5",
    "real": "#a64b00",
    "third": "#6b3fa0",
}
DARK = {  # the same on a dark screen
    "paper": "#12181e",
    "ink": "#e6ebf0",
    "faint": "#a5b2bf",
    "line": "#3a4651",
    "ours": "#74b6f5",
    "real": "#f0a35e",
    "third": "#c4a4f0",
}


def blank(*, width: float, height: float) -> Figure:
    """An empty figure; it belongs to no window and to nobody's list of open figures, so it need not be closed.

    Units:
        width, height: inches.

    >>> figure = blank(width=4, height=3)
    >>> figure._repr_png_()[1:4]
    b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")

    def png() -> bytes:
        target = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Glyph.*")  # a box stands for it
            figure.savefig(target, format="png")
        return target.getvalue()

    figure._repr_png_ = png  # type: ignore[attr-defined]  # a notebook that never imported pyplot asks for it
    return figure

"""How far has a training come? A sheet of a few synthetic images now and then, always from the same noise.

No image of train is on a sheet. The images are synthetic, but no audit has seen them: they stay in the run's folder,
beside the checkpoint that they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from synthgen.generators.checkpoint import replace_file, writing
from synthgen.image_sheet import png, sheet

FOLDER = "samples"
IMAGES = 16
_EVERY = 4  # evaluations: sheets take about a hundredth of the time


def sheets(folder: Path | None, draw: Callable[[nn.Module], Sequence[np.ndarray]]) -> Callable[..., None] | None:
    """What a training calls at each evaluation to write `samples/000400.png` for step 400; None without a folder.

    Args:
        folder: of the run.
        draw: a network's images, as `ImageCodec.decode` gives them.
    """
    if folder is None:
        return None

    def write(network: nn.Module, *, step: int, evaluation: int) -> None:
        if evaluation % _EVERY == 1:
            path = Path(folder) / FOLDER / f"{step:06d}.png"
            with writing("the run's folder of samples", path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, png(sheet(draw(network))))

    return write

"""How far has a training come? A sheet of a few synthetic images now and then, always from the same noise.

No image of train is on a sheet. The images are synthetic, but no audit has seen them: they stay in the run's folder,
beside the checkpoint that they come from.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from synthgen.generators.checkpoint import replace_file, writing

FOLDER = "samples"
IMAGES = 16
_EVERY = 4  # evaluations: sheets take about a hundredth of the time
_LARGEST = 128  # pixels of a side on the sheet
_GAP = 2


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


def sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images side by side, each from black to white between its ends; of a volume, the middle slice.

    Shape: images (rows, columns), (slices, rows, columns) or (rows, columns, 3) of uint8 -> (rows, columns[, 3]) uint8.

    >>> sheet([np.arange(64.0).reshape(8, 8)] * 4).shape
    (18, 18)
    """
    tiles = [_tile(image) for image in images]
    across = int(np.ceil(len(tiles) ** 0.5))
    rows, columns = tiles[0].shape[:2]
    down = -(-len(tiles) // across)
    shape = (down * (rows + _GAP) - _GAP, across * (columns + _GAP) - _GAP, *tiles[0].shape[2:])
    found = np.zeros(shape, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        row, column = place // across * (rows + _GAP), place % across * (columns + _GAP)
        found[row : row + rows, column : column + columns] = tile
    return found


def png(image: np.ndarray) -> bytes:
    """Shape: image (rows, columns[, 3]) uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def _tile(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        flat = image[len(image) // 2] if image.ndim == 3 else image
        low, high = np.percentile(flat, [0.5, 99.5])
        image = np.rint((flat - low) / max(high - low, 1e-9) * 255).clip(0, 255).astype(np.uint8)
    thin = -(-max(image.shape[:2]) // _LARGEST)
    return image[::thin, ::thin]

"""How do many images look at once? Side by side in one small picture."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synthgen.protocols import Evidence

_COLUMNS, _ROWS = 8, 4
_GAP = 2  # pixels between images
_LARGEST = 128  # pixels of a side on the sheet


def sheet_of_views(evidence: Evidence) -> dict[str, str]:
    """Random synthetic images of an audit; by class of the target in rows, where there is one. Caption -> base64."""
    from synthgen.image_views import views
    from synthgen.rng import Seed

    made, target = views(evidence).synthetic, evidence.schema.target
    order = Seed(0).child("sheet").numpy().permutation(len(made))
    caption = "Synthetic images, drawn at random"
    if target is not None and target in evidence.synthetic.table:
        codes = evidence.synthetic.table[target].iloc[order].astype(str).to_numpy()
        levels = sorted(set(codes.tolist()))[:_ROWS]
        chosen = [order[codes == level][: _COLUMNS * max(1, _ROWS // len(levels))] for level in levels]
        if all(len(rows) % _COLUMNS == 0 and len(rows) for rows in chosen):
            order, caption = np.concatenate(chosen), f"{caption} within each level of {target}"
    pixels = ((made[order[: _COLUMNS * _ROWS]].clamp(-1, 1) + 1) * 127.5).round().byte()
    flat = pixels if pixels.dim() == 4 else pixels[:, :, pixels.shape[2] // 2]
    images = [*(flat[:, 0] if flat.shape[1] == 1 else flat.movedim(1, -1)).numpy()]
    return {caption: base64.b64encode(png(sheet(images, across=_COLUMNS))).decode()}


def sheet(images: Sequence[np.ndarray], *, across: int | None = None) -> np.ndarray:
    """Images side by side, each from black to white between its ends; of a volume, the middle slice.

    Args:
        images: of one size; those of uint8 are shown as they are.
        across: images in a row; None: as many as rows.

    Shape: images (rows, columns), (slices, rows, columns) or (rows, columns, 3) of uint8 -> (rows, columns[, 3]) uint8.

    >>> sheet([np.arange(64.0).reshape(8, 8)] * 4).shape
    (18, 18)
    """
    tiles = [_tile(image) for image in images]
    across = across or int(np.ceil(len(tiles) ** 0.5))
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
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _tile(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        flat = image[len(image) // 2] if image.ndim == 3 else image
        low, high = np.percentile(flat, [0.5, 99.5])
        image = np.rint((flat - low) / max(high - low, 1e-9) * 255).clip(0, 255).astype(np.uint8)
    thin = -(-max(image.shape[:2]) // _LARGEST)
    return image[::thin, ::thin]

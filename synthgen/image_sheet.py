"""How do many images look at once? Side by side in one small picture."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from synthgen.protocols import Evidence

_COLUMNS, _ROWS = 8, 4
_GAP = 2  # pixels between images


def sheet(images: Tensor, *, columns: int = _COLUMNS) -> bytes:
    """A PNG of images side by side; of volumes the slice in the middle.

    Shape: images (images, channels, ...) from -1 to 1.

    >>> import torch
    >>> sheet(torch.zeros(3, 1, 8, 8))[1:4]
    b'PNG'
    """
    from PIL import Image

    flat = images if images.dim() == 4 else images[:, :, images.shape[2] // 2]
    pixels = ((flat.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    page = np.full((channels, rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        page[:, top : top + height, left : left + width] = image
    target = io.BytesIO()
    Image.fromarray(page[0] if channels == 1 else np.moveaxis(page, 0, -1)).save(target, format="PNG", optimize=True)
    return target.getvalue()


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
    picture = sheet(made[order[: _COLUMNS * _ROWS]])
    return {caption: base64.b64encode(picture).decode()}

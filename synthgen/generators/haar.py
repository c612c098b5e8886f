"""How are images laid out for a network? As orthonormal Haar coefficients: fewer places, more channels, nothing lost.

Source: Haar 1910; Mallat, A Wavelet Tour of Signal Processing, 2009, section 7.7.1. In d dimensions one level halves
each side and makes 2^d channels of one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def haar(images: Tensor, levels: int = 1) -> Tensor:
    """Coefficients of images of two or three dimensions, coarse ones first.

    Shape: (batch, channels, ...) -> (batch, channels * 2^(d * levels), ... / 2^levels), sides divisible by 2^levels.

    >>> images = torch.randn(2, 1, 8, 12)
    >>> haar(images, 2).shape, bool(torch.allclose(inverse_haar(haar(images, 2), 2), images, atol=1e-6))
    (torch.Size([2, 16, 2, 3]), True)
    """
    for _ in range(levels):
        for axis in range(images.dim() - 1, 1, -1):
            even, odd = (images.index_select(axis, _places(images, axis, first)) for first in (0, 1))
            images = torch.cat([even + odd, even - odd], dim=1) * 0.5**0.5
    return images


def inverse_haar(coefficients: Tensor, levels: int = 1) -> Tensor:
    """The images that have these coefficients. Shape: as `haar`, the other way round."""
    for _ in range(levels):
        for axis in range(2, coefficients.dim()):
            total, difference = coefficients.chunk(2, dim=1)
            pair = torch.stack([total + difference, total - difference], dim=axis + 1) * 0.5**0.5
            coefficients = pair.flatten(axis, axis + 1)
    return coefficients


def _places(images: Tensor, axis: int, first: int) -> Tensor:
    return torch.arange(first, images.shape[axis], 2, device=images.device)

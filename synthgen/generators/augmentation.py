"""How may an image be changed and still be one of a patient? Shifted, turned, scaled and made brighter, a little.

Never flipped: a mirrored chest has its heart on the other side. What was changed is told to the network, which then
gives unchanged images where it is told of no change, so that the changes do not leak into what is sampled.

On 300 images of PneumoniaMNIST at 32 px, 130 steps and one seed, the Frechet distance of 200 samples to the holdout is
2.60 without and 1.38 with changes. The gap between validation and train loss had not begun to grow in either (-.009),
and the mean distance to the nearest train image was above the holdout's (5.46) in both: 5.65 and 5.61. So changes help
few images; that they prevent learning by heart in longer trainings is not shown; on thousands they are not measured.

Source: Karras et al. 2020 (arXiv:2006.06676), section 2.2, on leaking; Karras et al. 2022 (arXiv:2206.00364), appendix
F.2, on telling the network.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_CHANGED = 0.5  # share of the images
_SHIFT = 0.06  # of a side; all at strength 1
_TURN = 0.09  # radians, five degrees
_SCALE = 0.06
_CONTRAST = 0.1
_BRIGHTNESS = 0.06  # in the range from -1 to 1


def kinds_of_change(dims: int) -> int:
    """How many numbers say what was changed: a shift along each axis, turns, scale, contrast, brightness.

    >>> kinds_of_change(2), kinds_of_change(3)
    (6, 9)
    """
    return dims + _turns(dims) + 3


def changes(count: int, dims: int, *, generator: torch.Generator) -> Tensor:
    """How much to change each image, from -1 to 1 in each way; half of them not at all.

    Shape: -> (count, kinds of change), on the generator's device.
    """
    device = generator.device
    drawn = torch.rand(count, kinds_of_change(dims), generator=generator, device=device) * 2 - 1
    return drawn * (torch.rand(count, 1, generator=generator, device=device) < _CHANGED)


def changed(images: Tensor, by: Tensor, *, strength: float = 1.0) -> Tensor:
    """Images, each changed by its own numbers; what comes in from outside repeats the edge.

    An image that is not moved keeps its pixels: interpolation, which blurs, touches the others alone.

    Shape: images (batch, channels, ...) of two or three dimensions from -1 to 1, by (batch, kinds of change) -> images.

    >>> images = torch.rand(2, 1, 8, 8) * 2 - 1
    >>> nothing = torch.zeros(2, kinds_of_change(2))
    >>> bool((changed(images, nothing) == images).all())
    True
    """
    dims = images.dim() - 2
    geometry, contrast, brightness = (by * strength).split([kinds_of_change(dims) - 2, 1, 1], dim=1)
    moved = geometry.abs().amax(1) > 0
    found = images.clone()
    if moved.any():
        found[moved] = _moved(images[moved], geometry[moved])
    gain, offset = (part.view(-1, *[1] * (dims + 1)) for part in (1 + _CONTRAST * contrast, _BRIGHTNESS * brightness))
    return (found * gain + offset).clamp(-1, 1)


def _moved(images: Tensor, by: Tensor) -> Tensor:
    """Shape: by (batch, shifts, turns and scale) -> images."""
    dims = images.dim() - 2
    shift, turn, scale = by.split([dims, _turns(dims), 1], dim=1)
    sides = torch.tensor(images.shape[:1:-1], dtype=images.dtype, device=images.device)  # affine_grid has x first
    matrix = _rotation(_TURN * turn, dims) * (1 + _SCALE * scale)[..., None]
    matrix = matrix * sides / sides[:, None]  # its coordinates go from -1 to 1 along each side, however long
    theta = torch.cat([matrix, 2 * _SHIFT * shift[..., None]], dim=2)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    mode = "bicubic" if dims == 2 else "bilinear"  # bicubic blurs less, and there is none for volumes
    return grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def _rotation(angles: Tensor, dims: int) -> Tensor:
    """In each plane of two axes in turn. Shape: angles (batch, turns) -> (batch, dims, dims)."""
    planes = [(0, 1)] if dims == 2 else [(0, 1), (0, 2), (1, 2)]
    found = torch.eye(dims, device=angles.device).expand(len(angles), dims, dims)
    for angle, (a, b) in zip(angles.T, planes, strict=True):
        plane = torch.eye(dims, device=angles.device).repeat(len(angles), 1, 1)
        plane[:, a, a] = plane[:, b, b] = angle.cos()
        plane[:, a, b], plane[:, b, a] = -angle.sin(), angle.sin()
        found = found @ plane
    return found


def _turns(dims: int) -> int:
    return dims * (dims - 1) // 2

"""What is the exact velocity of a flow between noise and Gaussian classes? What a network need not learn.

The flow x(t) = (1 - t) x0 + t e leads from images (t = 0) to noise (t = 1). For x0 ~ N(m, U diag(l) U^T) the velocity
towards the images, the mean of x0 - e given x(t), is
m + U diag(((1-t) l - t) / ((1-t)^2 l + t^2)) U^T (x - (1-t) m); its variance has the diagonal l / ((1-t)^2 l + t^2).

Source: Liu et al. 2023 (arXiv:2209.03003) for the flow; Bishop, Pattern Recognition and Machine Learning, 2006,
equation 2.81 for the conditional of jointly normal variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.image_pca import gaussian

_SMALLEST = 1e-6  # variance of a direction


class GaussianAnchor(nn.Module):
    """Gaussians of numbered classes, each with some directions and equal variance in all others.

    Shape: x (batch, ...), t (batch,), classes (batch,) -> velocity (batch, ...), and (batch,) the root mean square of
    what is left.
    """

    def __init__(self, means: Tensor, directions: list[Tensor], variances: list[Tensor], rest: Tensor) -> None:
        """Shape: means (classes, places), directions (components, places) of length one, variances (components,), rest
        (classes,).
        """
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("rest", rest)
        for number, (axes, along) in enumerate(zip(directions, variances, strict=True)):
            self.register_buffer(f"directions_{number}", axes)
            self.register_buffer(f"variances_{number}", along)

    @classmethod
    def fit(cls, images: Tensor, classes: np.ndarray, *, count: int, components: int) -> GaussianAnchor:
        """From the images of each class; class 0 is that of all images.

        A quarter as many directions as a class has images, at most: fewer images would be told apart by them.

        Shape: images (images, ...), classes (images,).
        """
        flat = images.flatten(1).numpy()
        means, axes, along, rest = [], [], [], []
        for number in range(count):
            chosen = flat if number == 0 else flat[classes == number]
            mean, directions, noise = gaussian(chosen, min(components, max(1, len(chosen) // 4)))
            lengths = np.linalg.norm(directions, axis=1, keepdims=True)
            means.append(torch.from_numpy(mean))
            axes.append(torch.from_numpy(directions / np.maximum(lengths, 1e-12)))
            along.append(torch.from_numpy(lengths[:, 0] ** 2).clamp(min=_SMALLEST))
            rest.append(max(_SMALLEST, float(noise[0]) ** 2))
        return cls(torch.stack(means), axes, along, torch.tensor(rest))

    @classmethod
    def like(cls, tensors: Mapping[str, np.ndarray], prefix: str) -> GaussianAnchor:
        """An empty one, of the size of one that was saved."""
        means = torch.from_numpy(tensors[f"{prefix}means"].copy())
        sizes = [tensors[f"{prefix}variances_{number}"].shape[0] for number in range(len(means))]
        axes = [torch.zeros(size, means.shape[1]) for size in sizes]
        return cls(means, axes, [torch.ones(size) for size in sizes], torch.ones(len(means)))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(1)
        velocity, left = torch.empty_like(flat), torch.empty(len(x), device=x.device)
        for number in classes.unique().tolist():
            rows = (classes == number).nonzero()[:, 0]
            axes, along = self.get_buffer(f"directions_{number}"), self.get_buffer(f"variances_{number}")
            mean, rest = self.get_buffer("means")[number], self.get_buffer("rest")[number]
            time = t[rows][:, None]
            centred = flat[rows] - (1 - time) * mean
            outer = _gain(rest, time)
            velocity[rows] = mean + outer * centred + ((centred @ axes.T) * (_gain(along, time) - outer)) @ axes
            others = flat.shape[1] - len(along)
            left[rows] = (_left(along, time).sum(1) + others * _left(rest, time)[:, 0]) / flat.shape[1]
        return velocity.view_as(x), left.sqrt()


def _gain(variance: Tensor, t: Tensor) -> Tensor:
    return ((1 - t) * variance - t) / ((1 - t) ** 2 * variance + t**2)


def _left(variance: Tensor, t: Tensor) -> Tensor:
    return variance / ((1 - t) ** 2 * variance + t**2)

"""What is the exact velocity of a flow between noise and Gaussian classes? What a network need not learn.

The flow x(t) = (1 - t) x0 + t e leads from images (t = 0) to noise (t = 1). For x0 ~ N(m, U diag(l) U^T) the velocity
towards the images, the mean of x0 - e given x(t), is
m + U diag(((1-t) l - t) / ((1-t)^2 l + t^2)) U^T (x - (1-t) m); its variance has the diagonal l / ((1-t)^2 l + t^2).

Source: Liu et al. 2023 (arXiv:2209.03003) for the flow; Bishop, Pattern Recognition and Machine Learning, 2006,
equation 2.81 for the conditional of jointly normal variables; Friedman 1989 (doi:10.1080/01621459.1989.10478752) for
covariances between a class's own and that within all classes; Halko et al. 2011 (doi:10.1137/090771806), algorithm 4.4,
for the main directions of large matrices.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.rng import Seed

_SMALLEST = 1e-6  # variance of a direction
_BORROWED = 300  # images that the covariance within all classes counts for in each class's own
_MOST_IMAGES = 10_000  # that the covariances are taken from
_EXACT = 2_048  # rows of the largest matrix whose eigenvectors are all found
_MORE = 64  # directions than are asked for, and
_ROUNDS = 3  # of the method for larger ones


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

        A class has its own mean, and a covariance between its own and that within all classes: of few images alone, the
        directions in which they hardly differ cannot be told. A quarter as many directions as there are images, at
        most: fewer images would be told apart by them.

        Shape: images (images, ...), classes (images,).
        """
        rows = torch.linspace(0, len(images) - 1, min(len(images), _MOST_IMAGES)).long()
        flat, shown = images[rows].flatten(1), torch.from_numpy(classes)[rows]
        most = min(components, max(1, len(flat) // 4))
        centred = torch.empty_like(flat)
        own = [(shown == number).nonzero()[:, 0] for number in range(count)]
        means = torch.stack([flat.mean(0), *(flat[mine].mean(0) if len(mine) else flat.mean(0) for mine in own[1:])])
        found = [_directions((flat - means[0]) * len(flat) ** -0.5, most)]
        for number, mine in enumerate(own):
            centred[mine] = flat[mine] - means[number]
        for mine in own[1:]:
            weights = torch.full((len(flat), 1), _BORROWED / len(flat))
            weights[mine] += 1
            found.append(_directions(centred * (weights / (len(mine) + _BORROWED)).sqrt(), most))
        axes, along, rest = zip(*found, strict=True)
        return cls(means, list(axes), list(along), torch.tensor(rest))

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


def _directions(rows: Tensor, most: int) -> tuple[Tensor, Tensor, float]:
    """Main directions of the covariance that is the sum of the rows' squares, and the variance in any other.

    Shape: rows (images, places) -> (directions, places) of length one, (directions,), a number.
    """
    smaller = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    if len(smaller) > max(_EXACT, 2 * most):
        del smaller
        values, axes = _sketched(rows, most)
    else:
        values, vectors = (part.flip(-1) for part in torch.linalg.eigh(smaller.double()))
        kept = int((values[:most] > 1e-9 * values[0].clamp(min=1e-12)).sum())
        values = values[: max(1, kept)].clamp(min=_SMALLEST)
        axes = vectors[:, : len(values)].T.to(rows.dtype)
        axes = torch.nn.functional.normalize(axes @ rows if len(rows) <= rows.shape[1] else axes)
    total, places = float(rows.square().sum()), rows.shape[1]
    rest = max(_SMALLEST, (total - float(values.sum())) / max(1, places - len(values)))
    return axes.contiguous(), values.to(rows.dtype), rest


def _sketched(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues and their vectors, from what the matrix makes of random directions."""
    generator = Seed(1).child("directions").torch()  # of the method: another one gives the same directions
    basis = torch.randn(rows.shape[1], most + _MORE, generator=generator)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(rows.T @ (rows @ torch.linalg.qr(basis).Q)).Q
    seen = rows @ basis
    values, vectors = (part.flip(-1)[..., :most] for part in torch.linalg.eigh((seen.T @ seen).double()))
    return values.clamp(min=_SMALLEST), (basis @ vectors.to(rows.dtype)).T


def _gain(variance: Tensor, t: Tensor) -> Tensor:
    return ((1 - t) * variance - t) / ((1 - t) ** 2 * variance + t**2)


def _left(variance: Tensor, t: Tensor) -> Tensor:
    return variance / ((1 - t) ** 2 * variance + t**2)

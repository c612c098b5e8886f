"""In which spaces are images near each other? Two extractors without downloads: random filters, and a trained encoder.

Every figure names its extractor. A space of one extractor alone has blind spots of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, affine_grid, cross_entropy, grid_sample
from torch.nn.functional import normalize as of_length_one

from synthgen.image_views import Views, own_views, views
from synthgen.protocols import Evidence
from synthgen.rng import Seed

RANDOM, TRAINED = "random convolutions", "trained encoder"

_FILTERS = 32  # of each layer of random convolutions
_SCALES = 3
_CHUNK = 256  # images at a time
_WIDTH = 128  # of the trained encoder's embedding
STEPS, _BATCH = 300, 256  # of the encoder's training
_PEAK = 2e-3  # learning rate
_TEMPERATURE = 0.1
_TURN, _MOVE, _GROW = 12.0, 0.25, 0.12  # degrees, share of half a side, share: what the encoder learns to overlook


@dataclass(frozen=True, eq=False)
class Features:
    """The three sets in one space. Shape: (images, features) float64 each."""

    train: np.ndarray
    holdout: np.ndarray
    synthetic: np.ndarray


def features(evidence: Evidence, extractor: str) -> Features:
    """The images of this audit in the space of an extractor, `RANDOM` or `TRAINED`; made once."""
    seen = views(evidence) if extractor == RANDOM else own_views(evidence)
    extract = random_convolutions if extractor == RANDOM else encoder(evidence).embed
    return evidence.once(f"features: {extractor}", lambda: Features(*(extract(one) for one in seen.sets)))


def random_convolutions(images: Tensor) -> np.ndarray:
    """Mean and spread of two layers of fixed random filters at three scales: texture and coarse shape, no training.

    Shape: images (images, channels, ...) -> (images, features) float64.

    >>> random_convolutions(torch.zeros(2, 1, 32, 32)).shape
    (2, 288)

    Source: Rahimi and Recht 2007 for random features; Saxe et al. 2011 for pooled random convolutions.
    """
    with torch.inference_mode():
        return np.concatenate([_random(part).double().numpy() for part in images.split(_CHUNK)])


def encoder(evidence: Evidence) -> Encoder:
    """The encoder of this audit, trained once, on the pooled real images and blind to which of them are train.

    A space that only train had shaped would treat train and holdout differently, and no test could tell that from a
    leak.
    """
    seed = Seed(0).child("encoder")
    return evidence.once("image encoder", lambda: trained_encoder(own_views(evidence), seed=seed, steps=STEPS))


class Encoder(nn.Module):
    """An embedding in which an image stays near its moved, turned, scaled, brightened and noisy versions.

    Shape: (images, 1, ...) thumbnails -> (images, 128), of length one.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        kind: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dims == 2 else nn.Conv3d
        layers: list[nn.Module] = []
        for into, out, stride in ((1, 32, 2), (32, 64, 2), (64, 128, 2), (128, 128, 1)):
            layers += [kind(into, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.SiLU()]
        side = 4 if dims == 2 else 2
        self.body, self.head = nn.Sequential(*layers), nn.Linear(128 * side**dims, _WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        centred = images - images.flatten(1).mean(1).view(-1, *[1] * (images.dim() - 1))
        spread = centred.flatten(1).std(1).clamp(min=1e-3).view(-1, *[1] * (images.dim() - 1))
        return of_length_one(self.head(self.body(centred / spread).flatten(1)), dim=1)

    def embed(self, images: Tensor) -> np.ndarray:
        """Shape: thumbnails (images, 1, ...) -> (images, 128) float64."""
        with torch.inference_mode():
            parts = [self(part).double().numpy() for part in images.split(_CHUNK)]
        return np.concatenate(parts)


def trained_encoder(seen: Views, *, seed: Seed, steps: int) -> Encoder:
    """Train an encoder to find an image again among all others of a batch after both were moved and changed.

    Source: Chen et al. 2020 (arXiv:2002.05709), equation 1; Pizzi et al. 2022 (arXiv:2202.10261) for its use against
    copies.
    """
    pool = seen.pool
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global state
        torch.set_rng_state(seed.child("weights").torch().get_state())
        network = Encoder(pool.dim() - 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK, weight_decay=1e-4)
    generator = seed.child("training").torch()
    batch = min(_BATCH, len(pool))
    answers = torch.cat([torch.arange(batch) + batch, torch.arange(batch)])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _PEAK * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randperm(len(pool), generator=generator)[:batch]
        pair = [network(_changed(pool[rows], generator)) for _ in range(2)]
        both = torch.cat(pair)
        likeness = (both @ both.T / _TEMPERATURE).fill_diagonal_(-math.inf)
        loss = cross_entropy(likeness, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def moved(images: Tensor, turn: Tensor, shift: Tensor, grow: Tensor) -> Tensor:
    """Turned in the plane of the slice, then moved and scaled; what was outside continues the edge.

    Shape: images (images, channels, ...), turn (images,) in degrees, shift (images, dims) as a share of half a side,
    grow (images,) as a factor -> same as images.

    >>> bright = torch.zeros(1, 1, 8, 8).index_fill(3, torch.tensor([1]), 1.0)
    >>> moved(bright, torch.zeros(1), torch.tensor([[0.25, 0.0]]), torch.ones(1))[0, 0, 0].argmax()
    tensor(0)
    """
    dims = images.dim() - 2
    sine, cosine = torch.sin(torch.deg2rad(turn)), torch.cos(torch.deg2rad(turn))
    matrix = torch.eye(dims).repeat(len(images), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = cosine
    matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
    theta = torch.cat([matrix / grow.view(-1, 1, 1), shift[:, :, None]], dim=2)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def between(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform numbers."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def _changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Versions of images that a reader would call the same."""
    n, dims = len(images), images.dim() - 2
    turn, grow = between(-_TURN, _TURN, (n,), generator), between(1 - _GROW, 1 + _GROW, (n,), generator)
    images = moved(images, turn, between(-_MOVE, _MOVE, (n, dims), generator), grow)
    one = (n, *[1] * (dims + 1))
    bent = ((images + 1) / 2).clamp(1e-3, 1) ** torch.exp(between(-0.5, 0.5, one, generator)) * 2 - 1
    bent = bent * between(0.7, 1.1, one, generator) + between(-0.2, 0.2, one, generator)
    return bent + between(0, 0.1, one, generator) * torch.randn(images.shape, generator=generator)


def _random(images: Tensor) -> Tensor:
    """Shape: (images, channels, ...) -> (images, features)."""
    dims = images.dim() - 2
    pool = adaptive_avg_pool2d if dims == 2 else adaptive_avg_pool3d
    generator, found = Seed(0).child("random convolutions").torch(), []
    for scale in range(_SCALES):
        size = tuple(max(4, side // 2**scale) for side in images.shape[2:])
        layer = pool(images, size)
        for depth in range(2):
            kernel = torch.randn(_FILTERS, layer.shape[1], *[3] * dims, generator=generator)
            kernel = kernel - kernel.flatten(2).mean(2).view(*kernel.shape[:2], *[1] * dims)  # blind to brightness
            kernel = kernel / kernel.flatten(1).norm(dim=1).view(-1, *[1] * (dims + 1))
            convolve = torch.nn.functional.conv2d if dims == 2 else torch.nn.functional.conv3d
            layer = convolve(layer, kernel, padding=1).abs()
            found.append(layer.flatten(2).mean(2))
            if depth:
                found.append(layer.flatten(2).std(2))
    return torch.cat(found, dim=1)

"""Which class is an image of, says a small network? Trained for a fixed number of steps, 2D or 3D, grey or colour."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from synthgen.rng import Seed

PEAK = 2e-3  # learning rate
_WIDTHS = (16, 32, 64)
_BATCH, _PLACES = 64, 64 * 64 * 64  # images of a batch, and places of all of them together
_FEWEST = 16  # images of a batch of volumes
_WARM = 20  # steps
_CHUNK = 256
_MOVE = 1 / 16  # of a side: how far a batch is moved


class SmallNetwork(nn.Module):
    """Three convolutions, each halving the sides, then what each channel holds on average and at most.

    Batches are normalised, not images: how bright an image is stays visible.

    Shape: (images, channels, ...) -> (images, classes) logits.

    >>> SmallNetwork(dims=2, channels=1, classes=3)(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 3])
    """

    def __init__(self, *, dims: int, channels: int, classes: int) -> None:
        super().__init__()
        convolution: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if dims == 2 else nn.Conv3d
        normalise: type[nn.BatchNorm2d] | type[nn.BatchNorm3d] = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        layers: list[nn.Module] = []
        for into, out in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
            layers += [convolution(into, out, 3, 2, 1, bias=False), normalise(out), nn.ReLU()]
        layers += [convolution(_WIDTHS[-1], _WIDTHS[-1], 3, 1, 1, bias=False), normalise(_WIDTHS[-1]), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * _WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        found = self.body(images).flatten(2)
        logits: Tensor = self.head(torch.cat([found.mean(2), found.amax(2)], dim=1))
        return logits


def trained(
    images: Tensor,
    labels: np.ndarray,
    *,
    classes: int,
    steps: int,
    seed: Seed,
    start: SmallNetwork | None = None,
    peak: float = PEAK,
) -> SmallNetwork:
    """A network after so many steps of cross-entropy; batches are drawn at random and moved by some pixels.

    Args:
        images: shape (images, channels, ...), normalised.
        labels: shape (images,) int.
        classes: how many there are, also of those that no label names.
        steps: of up to 64 images each.
        seed: of weights and batches.
        start: a network to go on from; it is not changed.
        peak: learning rate.

    >>> bright = torch.linspace(-1, 1, 64).view(64, 1, 1, 1).expand(64, 1, 8, 8)
    >>> network = trained(bright, np.repeat([0, 1], 32), classes=2, steps=30, seed=Seed(1))
    >>> bool((scores(network, bright)[:, 1] > 0.5)[[0, -1]].tolist() == [False, True])
    True
    """
    network = copy.deepcopy(start) if start is not None else _fresh(images, classes, seed.child("weights"))
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-2)
    generator, truth = seed.child("batches").torch(), torch.from_numpy(np.asarray(labels, dtype=np.int64))
    batch = batch_size(images)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / _WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(images), (batch,), generator=generator)
        loss = cross_entropy(network(_shifted(images[rows], generator)), truth[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def batch_size(images: Tensor) -> int:
    """How many images a step of training sees: fewer of large ones.

    >>> batch_size(torch.zeros(2, 1, 32, 32)), batch_size(torch.zeros(2, 1, 32, 32, 32))
    (64, 16)
    """
    return max(_FEWEST, min(_BATCH, _PLACES // int(np.prod(images.shape[2:]))))


def scores(network: SmallNetwork, images: Tensor) -> np.ndarray:
    """The chance of each class. Shape: (images, channels, ...) -> (images, classes) float64."""
    with torch.inference_mode():
        parts = [network(part).double().softmax(1).numpy() for part in images.split(_CHUNK)]
    return np.concatenate(parts)


def normalised(images: Tensor, reference: Tensor) -> Tensor:
    """Centred on and scaled by all pixels of a reference."""
    return (images - reference.mean()) / reference.std().clamp(min=1e-6)


def _fresh(images: Tensor, classes: int, seed: Seed) -> SmallNetwork:
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global state
        torch.set_rng_state(seed.torch().get_state())
        return SmallNetwork(dims=images.dim() - 2, channels=images.shape[1], classes=classes)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """A batch moved by a few pixels, all of it alike; what was outside continues the edge."""
    sides = images.shape[2:]
    most = [max(1, round(side * _MOVE)) for side in sides]
    wide = pad(images, [margin for margin in reversed(most) for _ in range(2)], mode="replicate")
    for axis, (side, margin) in enumerate(zip(sides, most, strict=True), start=2):
        at = int(torch.randint(2 * margin + 1, (1,), generator=generator))
        wide = wide.narrow(axis, at, side)
    return wide

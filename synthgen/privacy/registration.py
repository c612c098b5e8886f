"""Which real image does a synthetic one match best once it is laid over it? Turned, moved and scaled until it fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from synthgen.image_features import moved
from synthgen.image_views import Views
from synthgen.privacy.neighbors import Neighbors, nearest, tie_order
from synthgen.privacy.space import Points, stacked

_CANDIDATES = 8  # of each image, nearest in the space of the encoder
STEPS, _RATE = 40, 0.1  # of Adam
_DEGREES, _SHIFT, _GROWTH = 10.0, 0.2, 0.1  # what 1 means: degrees, share of half a side, logarithm of a factor
_MARGIN = 3  # pixels of a 32 x 32 thumbnail that are left out at each edge, where a moved image shows nothing
_TOGETHER = 64  # images at a time


def registered(seen: Views, place: Callable[[Tensor], Points]) -> Callable[[Tensor], Neighbors]:
    """A search that lays each image over those that it is near, and looks how well it fits.

    An image is turned, moved and scaled by gradient ascent on its normalised correlation with each candidate.
    Candidates are found without regard to who is in train. What has no contrast matches nobody.

    Args:
        seen: two-dimensional thumbnails.
        place: puts images into the space in which candidates are near.

    Returns:
        From images to what `Pool.search` gives.

    Source: Evangelidis and Psarakis 2008, doi:10.1109/TPAMI.2008.113, for the criterion.
    """
    pool = stacked(place(seen.train), place(seen.holdout))
    is_train = np.arange(len(pool)) < len(seen.train)
    order = tie_order(pool, is_train, seen.patients)
    pool, owners, images = pool.take(order), seen.patients[order], seen.pool[torch.from_numpy(order)]
    count = min(_CANDIDATES, len(pool))

    def search(queries: Tensor) -> Neighbors:
        near = nearest(place(queries), pool, count)[0]
        parts = zip(queries.split(_TOGETHER), torch.from_numpy(near).split(_TOGETHER), strict=True)
        distances = np.concatenate([_distances(part, images[rows]) for part, rows in parts])
        rows, best = np.arange(len(near)), distances.argmin(axis=1)
        own = owners[near[rows, best]]
        others = np.where(owners[near] == own[:, None], np.inf, distances)
        second = np.minimum(others.min(axis=1), 2.0)  # no distance is larger
        return Neighbors(order[near[rows, best]], distances[rows, best], second, is_train, seen.patients)

    return search


def _distances(queries: Tensor, candidates: Tensor) -> np.ndarray:
    """Shape: queries (images, 1, side, side), candidates (images, k, 1, side, side) -> (images, k)."""
    count, k = candidates.shape[:2]
    laid, under = _smooth(queries).repeat_interleave(k, dim=0), _standardised(_smooth(candidates.flatten(0, 1)))
    way = torch.zeros(count * k, 4, requires_grad=True)
    optimizer = torch.optim.Adam([way], lr=_RATE)
    best = torch.full((count * k,), -1.0)
    for _ in range(STEPS):
        there = moved(laid, way[:, 0] * _DEGREES, way[:, 1:3] * _SHIFT, torch.exp(way[:, 3] * _GROWTH))
        likeness = (_standardised(there) * under).sum(1)
        best = torch.maximum(best, likeness.detach())
        optimizer.zero_grad()
        (-likeness.sum()).backward()
        optimizer.step()
    distances: np.ndarray = (2 - 2 * best.clamp(max=1)).sqrt().double().view(count, k).numpy()
    return distances


def _smooth(images: Tensor) -> Tensor:
    """So that there is a slope to follow, and interpolation shows less."""
    return avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _standardised(images: Tensor) -> Tensor:
    """Without edges, brightness and contrast, of length one; what has no contrast is 0. Shape: -> (images, pixels)."""
    pixels = images[:, 0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].flatten(1)
    return normalize(pixels - pixels.mean(1, keepdim=True), dim=1, eps=1e-2)

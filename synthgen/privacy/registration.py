"""Which real image does a synthetic one match once it is laid over it? Turned, scaled and moved a little at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad, unfold

from synthgen.image_features import moved
from synthgen.image_views import Views
from synthgen.privacy.neighbors import Neighbors, nearest, tie_order
from synthgen.privacy.space import Points, stacked

_CANDIDATES = 8  # of each image, nearest in the space of the encoder
_TURNS = (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0)  # degrees
_SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
_MARGIN = 4  # pixels of a 32 x 32 thumbnail by which an image may be moved
_TOGETHER = 32  # images at a time: each takes the windows of its candidates, about 2 MB


def registered(seen: Views, place: Callable[[Tensor], Points]) -> Callable[[Tensor], Neighbors]:
    """A search that lays each image over those that it is near, and takes the best place.

    The middle of an image, turned and scaled in steps, is compared by normalised correlation with all places in each of
    its candidates. Candidates and places are found without regard to who is in train. Images without contrast in the
    middle match nobody.

    Args:
        seen: two-dimensional thumbnails.
        place: puts images into the space in which candidates are near.

    Returns:
        From images to what `search` gives.
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
    queries, candidates = _smooth(queries), _smooth(candidates.flatten(0, 1))
    middles = torch.stack([_middle(queries, turn, scale) for turn in _TURNS for scale in _SCALES], dim=1)
    side = queries.shape[-1] - 2 * _MARGIN
    windows = unfold(candidates, side).transpose(1, 2)  # (images * k, places, pixels)
    windows = _standardised(windows).reshape(count, -1, side * side)
    likeness = windows @ _standardised(middles).transpose(1, 2)  # (images, k * places, versions)
    best = likeness.view(count, k, -1).amax(dim=2).clamp(max=1)
    distances: np.ndarray = (2 - 2 * best).sqrt().double().numpy()
    return distances


def _middle(images: Tensor, turn: float, scale: float) -> Tensor:
    """Shape: -> (images, pixels)."""
    n = len(images)
    changed = moved(images, torch.full((n,), turn), torch.zeros(n, 2), torch.full((n,), scale))
    return changed[:, 0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].flatten(1)


def _smooth(images: Tensor) -> Tensor:
    """Without what a step of the grid is too coarse for."""
    return avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _standardised(pixels: Tensor) -> Tensor:
    """Of length one without brightness and contrast; what has no contrast is 0. Shape: (..., pixels) -> same."""
    return normalize(pixels - pixels.mean(-1, keepdim=True), dim=-1, eps=1e-2)

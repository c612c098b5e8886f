"""Invented images of patients who differ, and ways in which a generator can leak them."""

from functools import cache

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from synthgen.image_features import moved, trained_encoder
from synthgen.image_views import own_views
from synthgen.images import ImageData
from synthgen.protocols import Evidence, Images
from synthgen.rng import Seed

TRAIN, HOLDOUT = 400, 200


def fields(n, seed, side=32):
    """Smooth random fields around a common shape, from 0 to 1: as alike as organs, and no two of them equal."""
    noise = torch.randn(n, 1, side + 8, side + 8, generator=Seed(seed).child("fields").torch())
    rough = avg_pool2d(noise, 5, 1, padding=2)[:, 0, 4:-4, 4:-4]
    smooth = avg_pool2d(noise, 9, 1, padding=4)[:, 0, 4:-4, 4:-4]
    rows = torch.linspace(-1, 1, side)
    common = torch.exp(-2 * (rows[:, None] ** 2 + rows[None, :] ** 2))
    return (0.2 + 0.4 * common + 0.35 * rough + 0.7 * smooth).clamp(0, 1).numpy()


def collection(images, patients=None, **labels):
    """Images from 0 to 1 as a scanner of eight bits stores them."""
    records = {"patient": [str(i) for i in range(len(images))] if patients is None else patients, **labels}
    return ImageData.of_arrays(np.round(images * 255).astype("uint8"), records)


@cache
def pool():
    return fields(TRAIN, 1), fields(HOLDOUT, 2)


@cache
def shared_encoder():
    return trained_encoder(own_views(evidence_of(fields(20, 9))), seed=Seed(0).child("encoder"), steps=60)


def evidence_of(synthetic, *, train=None, holdout=None, encoder=None):
    """Evidence whose encoder, if one is given, need not be trained."""
    one, other = pool()
    sets = [
        data if isinstance(data, ImageData) else collection(data)
        for data in (one if train is None else train, other if holdout is None else holdout, synthetic)
    ]
    shared = {} if encoder is None else {"image encoder": encoder}
    records = [data.records for data in sets]
    return Evidence(*records, records[0].schema, images=Images(*sets), shared=shared)


def leaky(copies, n=400, seed=3):
    """Fresh images, the first of which are replaced."""
    made = fields(n, seed)
    made[: len(copies)] = copies
    return made


def shifted(images, seed=4):
    generator = Seed(seed).torch()
    n = len(images)
    shift = 0.3 * torch.rand(n, 2, generator=generator) - 0.15
    turn = 12 * torch.rand(n, generator=generator) - 6
    return moved(torch.from_numpy(images)[:, None], turn, shift, torch.ones(n))[:, 0].numpy()

"""What do all networks that learn images do before the training, and after it? One room for what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthgen.data import TableData
from synthgen.generators import tabular
from synthgen.generators.checkpoint import Model
from synthgen.generators.image_records import ImageRecords
from synthgen.generators.passes import Passes
from synthgen.image_codec import ImageCodec
from synthgen.images import ArrayPixels, ImageData
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

VALIDATION = 500  # images at most that decide when to stop
_SAMPLED = 2**18, 250  # pixels, and images, of one pass at most
_SMALL = 40  # pixels of the longer side up to which one level of Haar coefficients is enough


@dataclass(frozen=True, eq=False)
class Material:
    """Train as a network sees it."""

    pixels: Tensor  # (images, channels, ...), from -1 to 1
    classes: np.ndarray  # (images,)
    codes: np.ndarray  # (images, columns)
    held: Tensor  # (images,) boolean: the validation slice

    @classmethod
    def of(cls, train: ImageData, codec: ImageCodec, records: ImageRecords, *, seed: Seed, run: Run) -> Material:
        """Read all images, and set aside a slice of the patients."""
        table = train.records.table
        held = tabular.validation_rows(train.records, seed.child("validation"), most=VALIDATION)
        return cls(codec.tensor(train, run), records.of(table), records.codes(table), torch.from_numpy(held))


def together(codec: ImageCodec) -> int:
    """How many images one pass makes at most."""
    pixels, most = _SAMPLED
    return max(1, min(most, pixels // int(np.prod(codec.shape))))


def haar_levels(longest: int) -> int:
    """How many levels suit images of so many pixels on the longer side."""
    return 1 if longest <= _SMALL else 2


def image_model(
    name: str,
    train: ImageData,
    codec: ImageCodec,
    records: ImageRecords,
    network: torch.nn.Module,
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    seed: Seed,
    fingerprint: str,
) -> Model:
    """A fitted network of images as values."""
    base = Model(
        generator=name,
        settings=settings,
        schema=train.records.schema.synthetic(),
        backend=train.records.backend,
        seed=seed,
        fingerprint=fingerprint,
        codec={"image": codec.to_json()},
        facts=facts,
        tensors={f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()},
    )
    return records.model(base)


def network_tensors(model: Model) -> dict[str, np.ndarray]:
    """The weights that `image_model` put there."""
    prefix = "network."
    return {name.removeprefix(prefix): value for name, value in model.tensors.items() if name.startswith(prefix)}


def images_of(
    table: TableData,
    codec: ImageCodec,
    records: ImageRecords,
    make: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    shape: tuple[int, ...],
    device: torch.device,
    seed: Seed,
    run: Run,
) -> ImageData:
    """An image for each record.

    Args:
        table: the records.
        codec: says what an image looks like.
        records: say what each image goes by.
        make: noise (batch, *shape), classes (batch,), codes (batch, columns) -> images (batch, channels, ...).
        shape: of one image's noise.
        device: where `make` computes.
        seed: of the noise.
        run: told of progress.
    """
    found = (records.of(table.table), records.codes(table.table))
    classes, codes = (torch.from_numpy(array).to(device) for array in found)
    images: list[np.ndarray] = []
    passes = Passes(most=together(codec))
    with torch.inference_mode():
        for i, part in enumerate(torch.arange(len(classes), device=device).split(passes.most)):
            generator = seed.child("noise", str(i)).torch(device.type)
            noise = torch.randn(len(part), *shape, generator=generator, device=device)
            parts = noise, classes[part], codes[part]
            images += codec.decode(passes(_some(make, *parts), torch.arange(len(part), device=device)))
            run.progress(Progress("sampling", len(images), len(classes)))
    return ImageData(table, ArrayPixels(images), np.arange(len(classes)))


def _some(
    make: Callable[[Tensor, Tensor, Tensor], Tensor], noise: Tensor, classes: Tensor, codes: Tensor
) -> Callable[[Tensor], Tensor]:
    """Images of some rows of a part."""
    return lambda rows: make(noise[rows], classes[rows], codes[rows])

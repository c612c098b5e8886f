"""How far do mean and covariance get? A Gaussian for each class of images: an instant baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from synthgen.errors import Interrupted
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.conditions import Balance
from synthgen.generators.image_records import ImageRecords, require_enough
from synthgen.generators.independent import fitted, positive
from synthgen.image_codec import ImageCodec
from synthgen.images import ArrayPixels, ImageData
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd

_IMAGES_PER_DIRECTION = 10


@dataclass
class ImagePca:
    """Each class of images has its mean, its main directions, and as much noise as the rest of its variance.

    Every comparison prints it: a network that is not better has learned nothing but brightness and blur. Classes are
    the levels of the columns that images go by; those with few images share the Gaussian of all. A class of n images
    has n/10 directions at most: images drawn along as many directions as there were images are mixtures of those of
    train, which images.patches sees.

    Source: Jolliffe, Principal Component Analysis, 2002, section 6.1; Tipping and Bishop 1999 for the noise.

    >>> from synthgen.phantom import phantom
    >>> generator = ImagePca(size=32).fit(phantom(80, seed=1), seed=1)
    >>> images = generator.sample(3, seed=2, where={"finding": "effusion"})
    >>> images, images.read(0).shape, set(images.records.table["finding"])
    (ImageData(3 images of 3 patients), (32, 32), {'effusion'})
    """

    name: ClassVar[str] = "image-pca"
    licence: ClassVar[str] = "Apache-2.0"
    modality: ClassVar[str] = "image"

    size: int | None = None  # pixels of the longer side; None: as most images of train, 128 at most
    condition_on: tuple[str, ...] | None = None  # columns that images go by; None: the target
    components: int = 256  # directions of each class, at most: and one for every ten images of it
    force: bool = False  # learn from fewer than 50 patients: the audit can hardly clear the result
    model: Model | None = field(default=None, init=False, repr=False)

    def fit(self, train: ImageData, *, seed: int | Seed, run: Run | None = None) -> Self:
        """Learn means and covariances.

        Raises:
            DataError: too few patients, or images of several kinds.
            UsageError: a column that images cannot go by.
            Interrupted: `run.stop` asked for it.
        """
        run, root = run or Run(), Seed.of(seed)
        require_enough(train, force=self.force)
        codec = ImageCodec.fit(train, size=self.size)
        records = ImageRecords.fit(train, condition_on=self.condition_on, seed=root)
        pixels = codec.tensor(train, run).flatten(1).numpy()
        classes = records.of(train.records.table)
        tensors: dict[str, np.ndarray] = {}
        for number in range(len(records.classes)):
            chosen = pixels if number == 0 else pixels[classes == number]
            directions = min(self.components, max(1, len(chosen) // _IMAGES_PER_DIRECTION))
            parts = zip(("mean", "directions", "noise"), gaussian(chosen, directions), strict=True)
            tensors |= {f"{number}.{part}": array for part, array in parts}
            if run.stop():
                raise Interrupted("fitting image-pca was stopped; nothing was kept")
        base = Model(
            generator=self.name,
            settings={f.name: getattr(self, f.name) for f in fields(self) if f.init},
            schema=train.records.schema.synthetic(),
            backend=train.records.backend,
            seed=root,
            fingerprint=train.fingerprint(),
            codec={"image": codec.to_json()},
            facts={"images": len(train), "shape": list(codec.shape)},
            tensors=tensors,
        )
        self.model = records.model(base)
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        balance: Balance | None = None,
    ) -> ImageData:
        """Draw n records as asked for, and an image for each.

        Raises:
            UsageError: not fitted, n below 1, or conditions that no record can meet.
        """
        model, root = fitted(self.model, self.name), Seed.of(seed)
        n = positive(n)
        codec, records = ImageCodec.from_json((model.codec or {})["image"]), ImageRecords.of_model(model)
        table = records.draw(n, codec.constants, seed=root, where=where, given=given, balance=balance)
        classes, rng = records.of(table.table), root.child("pixels").numpy()
        pixels = np.empty((n, codec.channels * int(np.prod(codec.shape))), dtype=np.float32)
        for number in np.unique(classes):
            rows = np.flatnonzero(classes == number)
            mean, directions, noise = (model.tensors[f"{number}.{part}"] for part in ("mean", "directions", "noise"))
            weights = rng.standard_normal((len(rows), len(directions)), dtype=np.float32)
            rest = rng.standard_normal((len(rows), len(mean)), dtype=np.float32) * noise
            pixels[rows] = mean + weights @ directions + rest
        images = codec.decode(torch.from_numpy(pixels).reshape(n, codec.channels, *codec.shape))
        return ImageData(table, ArrayPixels(images), np.arange(n))

    def save(self, folder: str | Path) -> None:
        """Write the model folder.

        Raises:
            UsageError: not fitted.
        """
        save_model(folder, fitted(self.model, self.name))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder.

        Raises:
            DataError: not such a folder, or one that is broken or was altered.
        """
        model = load_model(folder, generator=cls.name)
        generator = cls(**model.settings)
        generator.model = model
        return generator


def gaussian(pixels: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, main directions as long as the standard deviation along each, and that of the rest, equal everywhere.

    Shape: pixels (images, places) -> (places,), (components, places), (1,); float32.
    """
    mean = pixels.mean(axis=0)
    centred = pixels - mean
    count, places = centred.shape
    if count <= places:  # the smaller of two matrices with the same eigenvalues
        values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64) / count)
    else:
        values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / count)
    kept = np.argsort(values)[::-1][: min(components, max(1, min(count, places) - 1))]
    kept = kept[values[kept] > 1e-9 * max(values.max(), 1e-12)]
    if count <= places:
        directions = (vectors[:, kept] / np.sqrt(count)).T @ centred
    else:
        directions = (vectors[:, kept] * np.sqrt(values[kept])).T
    rest = max(0.0, float(values.sum() - values[kept].sum())) / max(1, places - len(kept))
    return mean.astype(np.float32), directions.astype(np.float32), np.array([rest**0.5], dtype=np.float32)

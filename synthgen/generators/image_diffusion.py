"""How does a flow learn images, and sample them? The network generator of images.

Licence of the generator: Apache-2.0. The U-Net is MONAI's; flow and loss are in `flow`, the loop in `training`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.errors import DataError, UsageError
from synthgen.generators import contact_sheet, tabular, training
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.augmentation import changed, changes
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.conditions import Balance
from synthgen.generators.flow import FlowNetwork, FlowObjective, heun
from synthgen.generators.haar import haar, inverse_haar
from synthgen.generators.image_fitting import VALIDATION, image_model, images_of, network_tensors, together
from synthgen.generators.image_presets import multiple, preset
from synthgen.generators.image_records import ImageRecords, require_enough
from synthgen.generators.independent import fitted, positive
from synthgen.generators.passes import Passes
from synthgen.generators.training_plot import plot_training
from synthgen.image_codec import ImageCodec
from synthgen.images import ImageData
from synthgen.interrupts import keeping_the_best
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)

_SHEET_STEPS = 8  # of Heun's method, for images to look at while it trains
_FEW = 2_000  # images below which they are changed while it trains, unless settings say otherwise


@dataclass
class ImageDiffusion:
    """A flow from noise to images in Haar space, anchored at a Gaussian per class: settings, and state after `fit`.

    What mean and covariance say is computed, and a U-Net learns the rest. Images go by the columns of `condition_on`:
    their levels, or a number's bands. Levels together that few images have share the Gaussian of all.

    >>> from synthgen.phantom import phantom
    >>> generator = ImageDiffusion(size=16, widths=(16, 32), max_steps=5).fit(phantom(60, seed=1), seed=1)
    >>> images = generator.sample(2, seed=2, where={"finding": "normal"})
    >>> images, images.read(0).shape
    (ImageData(2 images of 2 patients), (16, 16))
    """

    name: ClassVar[str] = "image-diffusion"
    licence: ClassVar[str] = "Apache-2.0"
    modality: ClassVar[str] = "image"

    max_seconds: float = 300.0  # budget of the training loop; turned into a number of steps
    max_steps: int | None = None  # a number of steps instead: the same bytes on every run
    size: int | None = None  # pixels of the longer side; None: as most images of train, 128 at most
    condition_on: tuple[str, ...] | None = None  # columns that images go by; None: the target
    levels: int | None = None  # of the Haar transform; this and what else is None: as suits size, number and device
    widths: tuple[int, ...] | None = None  # channels of the U-Net's levels
    blocks: int | None = None  # residual blocks on each level
    components: int = 1_024  # directions of each class's Gaussian, at most
    batch: int | None = None  # images per step
    learning_rate: float | None = None  # peak of the schedule
    augmentation: float | None = None  # how much half of the images is changed; None: 1 below 2,000 images, else 0
    sampling_steps: int = 14  # of Heun's method
    guidance: float = 1.0  # above 1: images are more as their columns say than real ones are, and less diverse
    memorisation_gap: float = 0.05  # stop at this growth of validation/train loss
    bfloat16: bool | None = None  # matrix products of the training in that precision; None: on a GPU
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # learn from fewer than 50 patients: the audit can hardly clear the result
    model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = ("max_steps", "levels", "blocks", "components", "batch", "sampling_steps")
        for name in ("max_seconds", *counts, "learning_rate", "guidance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"image-diffusion: {name} must be above 0")
        if self.augmentation is not None and not self.augmentation >= 0:
            raise UsageError("image-diffusion: augmentation must be 0 or above")
        for name in ("widths", "condition_on"):  # as JSON and the command line give them
            if getattr(self, name) is not None:
                setattr(self, name, tuple(getattr(self, name)))
        if any(width < 16 or width % 16 for width in self.widths or ()):
            raise UsageError("image-diffusion: widths must be multiples of 16")

    def fit(self, train: ImageData, *, seed: int | Seed, run: Run | None = None) -> Self:
        """Learn from train; a slice of its patients is set aside to decide when to stop.

        Ctrl-C ends the training at the next step, and the best weights so far are kept.

        Raises:
            DataError: too few patients, or images of several kinds.
            UsageError: a column that images cannot go by.
            Interrupted: stopped to be resumed, or before anything was learned.
        """
        run, seed = run or Run(), Seed.of(seed)
        require_enough(train, force=self.force)
        device = tabular.device_of(self.device, self.name)
        codec, settings = self._suited(train, device)
        records = ImageRecords.fit(train, condition_on=self.condition_on, seed=seed)
        network, objective = settings._prepared(train, codec, records, device, seed=seed, run=run)
        fingerprint = train.fingerprint()
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        built = settings._built()
        draw = functools.partial(settings._few, codec, records, seed.child("sheet"))
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            outcome = training.train(
                network,
                objective,
                objective.evaluate,
                rows=len(objective.train),
                recipe=settings._recipe(),
                seed=seed.child("training"),
                run=run,
                identity={
                    "generator": self.name,
                    "data": fingerprint,
                    "shape": list(codec.shape),
                    **built,
                    "components": self.components,
                    "augmentation": settings.augmentation,
                    "bfloat16": settings.bfloat16,
                    "classes": [*map(list, records.classes)],
                },
                on_evaluation=contact_sheet.sheets(run.folder, draw),
            )
        training.require_learned(outcome)
        facts = {**outcome.to_json(), **built, "batch": settings.batch, "augmentation": settings.augmentation}
        facts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        self.model = image_model(
            self.name,
            train,
            codec,
            records,
            network,
            settings=own,
            facts=facts,
            seed=seed,
            fingerprint=fingerprint,
        )
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        balance: Balance | None = None,
        run: Run | None = None,
    ) -> ImageData:
        """Draw n records as asked for, and an image for each.

        Raises:
            UsageError: not fitted, n below 1, or conditions that no record can meet.
        """
        model, root, run = fitted(self.model, self.name), Seed.of(seed), run or Run()
        n = positive(n)
        codec, records = ImageCodec.from_json((model.codec or {})["image"]), ImageRecords.of_model(model)
        network, levels = self._restored(model, codec, records)
        table = records.draw(n, codec.constants, seed=root, where=where, given=given, balance=balance)
        device, shape = network.power.device, _coefficients(codec, levels)
        make = functools.partial(self._drawn, network, levels, self.sampling_steps)
        with training.threads(self.threads):
            return images_of(table, codec, records, make, shape=shape, device=device, seed=root, run=run)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the training did: steps, losses, notes, and the network's size."""
        return fitted(self.model, self.name).facts

    def plot_training(self) -> Figure:
        """Train and validation loss over the steps, the step whose weights were kept, and the memorisation gap."""
        return plot_training(self.facts)

    def save(self, folder: str | Path) -> None:
        """Write `manifest.json` and `weights.safetensors`.

        Raises:
            UsageError: not fitted.
        """
        save_model(folder, fitted(self.model, self.name))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            DataError: not such a folder, or one that is broken or was altered.
        """
        model = load_model(folder, generator=cls.name)
        generator = cls(**model.settings)
        generator.model = model
        codec, records = ImageCodec.from_json((model.codec or {})["image"]), ImageRecords.of_model(model)
        generator._restored(model, codec, records)
        return generator

    def _suited(self, train: ImageData, device: str) -> tuple[ImageCodec, ImageDiffusion]:
        """The codec, and these settings with what suits size, number of images and device in place of None."""
        codec = ImageCodec.fit(train, size=self.size, multiple=8)
        suits = preset(codec.shape, images=len(train), cuda=device == "cuda")
        names = ("levels", "widths", "blocks", "batch", "learning_rate")
        chosen: dict[str, Any] = {name: getattr(suits, name) for name in names if getattr(self, name) is None}
        if self.augmentation is None:
            chosen["augmentation"] = 1.0 if len(train) < _FEW else 0.0
        if self.bfloat16 is None:
            chosen["bfloat16"] = device == "cuda"
        settings = dataclasses.replace(self, **chosen)
        sides = multiple(settings.levels or 1, settings.widths or ())
        if any(side % sides for side in codec.shape):
            codec = ImageCodec.fit(train, size=self.size, multiple=sides)
        return codec, settings

    def _prepared(
        self, train: ImageData, codec: ImageCodec, records: ImageRecords, device: str, *, seed: Seed, run: Run
    ) -> tuple[FlowNetwork, FlowObjective]:
        """The network with its anchor fitted, and what it is to learn."""
        levels = self.levels or 1
        images = _in_haar_space(codec.tensor(train, run), levels)
        known, codes = (
            torch.from_numpy(a) for a in (records.of(train.records.table), records.codes(train.records.table))
        )
        held = torch.from_numpy(tabular.validation_rows(train.records, seed.child("validation"), most=VALIDATION))
        rows = (~held).nonzero()[:, 0]
        anchor = self._anchor(images[rows], known[rows], levels, len(records.classes), seed.child("anchor"))
        sizes = tuple(column.size for column in records.columns)
        network = self._network(anchor, images.shape[1], images.dim() - 2, sizes, seed.child("network"))
        axes = tuple(range(2, images.dim()))
        power = torch.stack([part.square().mean(dim=axes).sum(0) for part in images[rows].split(256)]).sum(0)
        network.power.copy_((power / len(rows)).view_as(network.power))
        objective = FlowObjective(
            images.to(device),
            known.to(device),
            codes.to(device),
            held.to(device),
            seed.child("evaluation"),
            levels=levels,
            augmentation=self.augmentation or 0.0,
        )
        return network.to(device), objective

    def _anchor(self, images: Tensor, classes: Tensor, levels: int, count: int, seed: Seed) -> GaussianAnchor:
        """Of the images, and of changed ones where the network will see such: it would be far from them."""
        components = min(self.components, max(1, len(images) // 4))
        if self.augmentation:
            by = changes(len(images), images.dim() - 2, generator=seed.torch())
            pixels = changed(inverse_haar(images, levels), by, strength=self.augmentation)
            images, classes = torch.cat([images, haar(pixels, levels)]), classes.repeat(2)
        return GaussianAnchor.fit(images, classes.numpy(), count=count, components=components)

    def _network(
        self, anchor: GaussianAnchor, channels: int, dims: int, sizes: tuple[int, ...], seed: Seed
    ) -> FlowNetwork:
        return FlowNetwork(
            anchor,
            channels=channels,
            widths=self.widths or (),
            sizes=sizes,
            dims=dims,
            seed=seed,
            blocks=self.blocks or 1,
            bfloat16=bool(self.bfloat16),
        )

    def _built(self) -> dict[str, Any]:
        """What a network is built from, for a manifest."""
        return {"levels": self.levels, "widths": list(self.widths or ()), "blocks": self.blocks}

    def _few(self, codec: ImageCodec, records: ImageRecords, seed: Seed, network: nn.Module) -> list[np.ndarray]:
        """A few images of each class in turn, always from the same noise: to look at while it trains."""
        assert isinstance(network, FlowNetwork)
        device, count = network.power.device, contact_sheet.IMAGES
        first = min(1, len(records.classes) - 1)  # class 0 has what is rare
        classes = torch.arange(count) % (len(records.classes) - first) + first
        known = [records.classes[number] for number in classes.tolist()]
        nothing = (0,) * len(records.columns)
        codes = torch.tensor([(*own, *nothing[len(own) :]) for own in known], dtype=torch.int64)
        noise = torch.randn(count, *_coefficients(codec, self.levels or 1), generator=seed.torch())
        noise, classes, codes = (part.to(device) for part in (noise, classes, codes))
        passes = Passes(most=min(count, together(codec)))

        def draw(rows: Tensor) -> Tensor:
            return self._drawn(network, self.levels or 1, _SHEET_STEPS, noise[rows], classes[rows], codes[rows])

        return codec.decode(passes(draw, torch.arange(count, device=device)))

    def _drawn(
        self, network: FlowNetwork, levels: int, steps: int, noise: Tensor, classes: Tensor, codes: Tensor
    ) -> Tensor:
        """Images from noise. Shape: noise (batch, channels, ...) -> (batch, channels, ...)."""
        flow = functools.partial(network.flow, classes=classes, codes=codes, guidance=self.guidance)
        return inverse_haar(heun(flow, noise, steps=steps), levels)

    def _restored(self, model: Model, codec: ImageCodec, records: ImageRecords) -> tuple[FlowNetwork, int]:
        """The network of a model, and the levels of its Haar transform.

        Raises:
            DataError: its parts do not fit together.
        """
        try:
            levels, blocks = int(model.facts["levels"]), int(model.facts["blocks"])
            settings = dataclasses.replace(self, levels=levels, widths=tuple(model.facts["widths"]), blocks=blocks)
            tensors = network_tensors(model)
            anchor = GaussianAnchor.like(tensors, "anchor.")
            sizes = tuple(column.size for column in records.columns)
            channels, dims = _coefficients(codec, levels)[0], len(codec.shape)
            network = settings._network(anchor, channels, dims, sizes, model.seed)
            network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError("the model folder is broken: its parts do not fit together") from error
        return network.to(tabular.device_of(self.device, self.name)).eval(), levels

    def _recipe(self) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            batch=self.batch or 64,
            learning_rate=self.learning_rate or 1e-3,
            weight_decay=1e-2,
            ema=0.995,
            memorisation_gap=self.memorisation_gap,
            checkpoint_seconds=self.checkpoint_seconds,
        )


def _coefficients(codec: ImageCodec, levels: int) -> tuple[int, ...]:
    """Channels and sides of an image in Haar space."""
    channels = codec.channels * 2 ** (len(codec.shape) * levels)
    return channels, *(side // 2**levels for side in codec.shape)


def _in_haar_space(images: Tensor, levels: int) -> Tensor:
    """In the memory of the images, of which there is not twice as much. Shape: (images, channels, ...) -> the same."""
    parts = images.split(256)
    found = images.view(len(images), *haar(images[:1], levels).shape[1:])
    for part, to in zip(parts, found.split(256), strict=True):
        to.copy_(haar(part, levels))
    return found

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

from synthgen.errors import DataError, UsageError
from synthgen.generators import tabular, training
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.conditions import Balance
from synthgen.generators.flow import FlowNetwork, FlowObjective, heun
from synthgen.generators.haar import haar, inverse_haar
from synthgen.generators.image_records import ImageRecords, require_enough
from synthgen.generators.independent import fitted, positive
from synthgen.generators.training_plot import plot_training
from synthgen.image_codec import ImageCodec
from synthgen.images import ArrayPixels, ImageData
from synthgen.interrupts import keeping_the_best
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)

_SMALL = 40  # pixels of the longer side up to which one level of Haar coefficients is enough
_SAMPLED = 250  # images in one pass
_VALIDATION = 500  # images at most that decide when to stop


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
    levels: int | None = None  # of the Haar transform; None: 1 up to 40 pixels, else 2
    widths: tuple[int, ...] | None = None  # channels of the U-Net's levels; None: (32, 64), or (64, 96) above 40 pixels
    components: int = 1_024  # directions of each class's Gaussian, at most
    batch: int = 64  # images per step
    learning_rate: float = 1e-3  # peak of the schedule
    sampling_steps: int = 14  # of Heun's method
    guidance: float = 1.0  # above 1: images are more as their columns say than real ones are, and less diverse
    memorisation_gap: float = 0.05  # stop at this growth of validation/train loss
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # learn from fewer than 50 patients: the audit can hardly clear the result
    model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = ("max_steps", "levels", "components", "batch", "sampling_steps")
        for name in ("max_seconds", *counts, "learning_rate", "guidance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"image-diffusion: {name} must be above 0")
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
        codec = ImageCodec.fit(train, size=self.size, multiple=8)
        settings = self._resolved(max(codec.shape))
        records = ImageRecords.fit(train, condition_on=self.condition_on, seed=seed)
        device = tabular.device_of(self.device, self.name)
        images = haar(codec.tensor(train, run), settings.levels or 1)
        classes = records.of(train.records.table)
        chosen = ~tabular.validation_rows(train.records, seed.child("validation"), most=_VALIDATION)
        held = torch.from_numpy(~chosen)
        anchor = GaussianAnchor.fit(
            images[~held], classes[chosen], count=len(records.classes), components=self.components
        )
        sizes = tuple(column.size for column in records.columns)
        network = settings._network(anchor, images, sizes, seed.child("network")).to(device)
        axes = tuple(range(2, images.dim()))
        network.power.copy_(images[~held].square().mean(dim=(0, *axes)).view_as(network.power))
        known, codes = (torch.from_numpy(a).to(device) for a in (classes, records.codes(train.records.table)))
        objective = FlowObjective(images.to(device), known, codes, held.to(device), seed.child("evaluation"))
        fingerprint = train.fingerprint()
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            outcome = training.train(
                network,
                objective,
                objective.evaluate,
                rows=len(objective.train),
                recipe=self._recipe(),
                seed=seed.child("training"),
                run=run,
                identity={
                    "generator": self.name,
                    "data": fingerprint,
                    "shape": list(codec.shape),
                    "levels": settings.levels,
                    "widths": list(settings.widths or ()),
                    "components": self.components,
                    "classes": [*map(list, records.classes)],
                },
            )
        training.require_learned(outcome)
        facts = {**outcome.to_json(), "levels": settings.levels, "widths": list(settings.widths or ())}
        facts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        base = Model(
            generator=self.name,
            settings=own,
            schema=train.records.schema.synthetic(),
            backend=train.records.backend,
            seed=seed,
            fingerprint=fingerprint,
            codec={"image": codec.to_json()},
            facts=facts,
            tensors={f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()},
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
        device = network.power.device
        classes, codes = (torch.from_numpy(a).to(device) for a in (records.of(table.table), records.codes(table.table)))
        images: list[np.ndarray] = []
        shape = haar(torch.empty(1, codec.channels, *codec.shape), levels).shape[1:]
        with training.threads(self.threads), torch.inference_mode():
            for i, part in enumerate(torch.arange(n, device=device).split(_SAMPLED)):
                generator = root.child("noise", str(i)).torch(device.type)
                noise = torch.randn(len(part), *shape, generator=generator, device=device)
                flow = functools.partial(network.flow, classes=classes[part], codes=codes[part], guidance=self.guidance)
                made = inverse_haar(heun(flow, noise, steps=self.sampling_steps), levels)
                images += codec.decode(made)
                run.progress(Progress("sampling", len(images), n))
        return ImageData(table, ArrayPixels(images), np.arange(n))

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

    def _resolved(self, longest: int) -> ImageDiffusion:
        """These settings with what suits the size in place of None."""
        small = longest <= _SMALL
        return dataclasses.replace(
            self, levels=self.levels or (1 if small else 2), widths=self.widths or ((32, 64) if small else (64, 96))
        )

    def _network(self, anchor: GaussianAnchor, images: torch.Tensor, sizes: tuple[int, ...], seed: Seed) -> FlowNetwork:
        """Shape: images (images, channels, ...), Haar coefficients."""
        channels, dims = images.shape[1], images.dim() - 2
        return FlowNetwork(anchor, channels=channels, widths=self.widths or (), sizes=sizes, dims=dims, seed=seed)

    def _restored(self, model: Model, codec: ImageCodec, records: ImageRecords) -> tuple[FlowNetwork, int]:
        """The network of a model, and the levels of its Haar transform.

        Raises:
            DataError: its parts do not fit together.
        """
        levels = int(model.facts["levels"])
        settings = dataclasses.replace(self, levels=levels, widths=tuple(model.facts["widths"]))
        tensors = {
            name.removeprefix("network."): value for name, value in model.tensors.items() if name.startswith("network.")
        }
        try:
            anchor = GaussianAnchor.like(tensors, "anchor.")
            empty = haar(torch.empty(1, codec.channels, *codec.shape), levels)
            sizes = tuple(column.size for column in records.columns)
            network = settings._network(anchor, empty, sizes, model.seed)
            network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError("the model folder is broken: its parts do not fit together") from error
        return network.to(tabular.device_of(self.device, self.name)).eval(), levels

    def _recipe(self) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=1e-2,
            ema=0.995,
            memorisation_gap=self.memorisation_gap,
            checkpoint_seconds=self.checkpoint_seconds,
        )

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

import torch

from synthgen.errors import DataError, UsageError
from synthgen.generators import tabular, training
from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.conditions import Balance
from synthgen.generators.flow import FlowNetwork, FlowObjective, heun
from synthgen.generators.haar import haar, inverse_haar
from synthgen.generators.image_codec import ImageCodec
from synthgen.generators.image_fitting import Material, haar_levels, image_model, images_of, network_tensors
from synthgen.generators.image_records import ImageRecords, require_enough
from synthgen.generators.independent import fitted, positive
from synthgen.generators.training_plot import plot_training
from synthgen.images import ImageData
from synthgen.interrupts import keeping_the_best
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)


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
        material = Material.of(train, codec, records, seed=seed, run=run)
        images, held = haar(material.pixels, settings.levels or 1), material.held
        chosen = material.classes[~held.numpy()]
        anchor = GaussianAnchor.fit(images[~held], chosen, count=len(records.classes), components=self.components)
        sizes = tuple(column.size for column in records.columns)
        network = settings._network(anchor, images, sizes, seed.child("network")).to(device)
        axes = tuple(range(2, images.dim()))
        network.power.copy_(images[~held].square().mean(dim=(0, *axes)).view_as(network.power))
        known, codes = (torch.from_numpy(array).to(device) for array in (material.classes, material.codes))
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
        device = network.power.device
        shape = haar(torch.empty(1, codec.channels, *codec.shape), levels).shape[1:]

        def make(classes: torch.Tensor, codes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            noise = torch.randn(len(classes), *shape, generator=generator, device=device)
            flow = functools.partial(network.flow, classes=classes, codes=codes, guidance=self.guidance)
            return inverse_haar(heun(flow, noise, steps=self.sampling_steps), levels)

        with training.threads(self.threads):
            return images_of(table, codec, records, make, device=device, seed=root, run=run)

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
        suited = haar_levels(longest)
        widths = self.widths or ((32, 64) if suited == 1 else (64, 96))
        return dataclasses.replace(self, levels=self.levels or suited, widths=widths)

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
        tensors = network_tensors(model)
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

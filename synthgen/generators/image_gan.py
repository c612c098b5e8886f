"""How does a GAN learn images, and sample them? One pass through a network makes an image.

It needs a GPU to compete: in the minutes that a CPU gives it, `image-diffusion` is better.

Licence of the generator: Apache-2.0. Networks in `image_gan_networks`, losses in `image_gan_objective`, the loop in
`training`.
"""

from __future__ import annotations

import dataclasses
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
from synthgen.generators.haar import haar
from synthgen.generators.image_fitting import Material, haar_levels, image_model, images_of, network_tensors
from synthgen.generators.image_gan_networks import ImageCritic, ImageMaker, Players
from synthgen.generators.image_gan_objective import ImageGanObjective
from synthgen.generators.image_records import ImageRecords, require_enough
from synthgen.generators.independent import fitted, positive
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
_ALIKE = 0.7  # of the mean distance between real images: made ones closer to each other have lost modes
_NEAR = 0.9  # of the distance to images that were not learned from: learned ones that are nearer are copied


@dataclass
class ImageGan:
    """A maker of images that a critic cannot tell from real ones: settings, and state after `fit`.

    The maker begins at draws from a Gaussian per class and learns what they lack. Images go by the columns of
    `condition_on`. A few hundred steps on a CPU say little: a GAN needs a GPU to compete with `image-diffusion`. The
    critic stays behind after training: a model folder holds the maker alone.

    >>> from synthgen.phantom import phantom
    >>> generator = ImageGan(size=16, widths=(16, 32), max_steps=5).fit(phantom(60, seed=1), seed=1)
    >>> images = generator.sample(2, seed=2, where={"finding": "normal"})
    >>> images, images.read(0).shape
    (ImageData(2 images of 2 patients), (16, 16))
    """

    name: ClassVar[str] = "image-gan"
    licence: ClassVar[str] = "Apache-2.0"
    modality: ClassVar[str] = "image"

    max_seconds: float = 300.0  # budget of the training loop; turned into a number of steps
    max_steps: int | None = None  # a number of steps instead: the same bytes on every run
    size: int | None = None  # pixels of the longer side; None: as most images of train, 128 at most
    condition_on: tuple[str, ...] | None = None  # columns that images go by; None: the target
    start: Literal["gaussian", "latent"] = "gaussian"  # what the maker begins at: a draw of each class, or noise
    levels: int | None = None  # of the Haar transform; None: 1 up to 40 pixels, else 2
    widths: tuple[int, ...] | None = None  # channels at each size, which halves; None: (32, 64), or (64, 96, 128)
    blocks: int = 1  # residual blocks at each size, of both networks
    latent: int = 64  # numbers that the maker begins at where `start` says so
    components: int = 1_024  # directions of each class's Gaussian, at most
    penalty: float | None = None  # on the critic's gradient; None: .23 at 32 pixels, 2 at 64, 150 at 256
    annealed: float = 0.1  # what is left of the penalty at the end
    augment: float = 0.1  # chance of each change that the critic sees images through
    batch: int = 32  # images per step
    learning_rate: float = 1e-3  # peak of the schedule, of both networks
    patience: int = 40  # evaluations (of 40) without a lower distance before stopping: it may get worse before better
    memorisation_gap: float = 1.0  # stop at this growth of the distance to validation over that to train images
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # learn from fewer than 50 patients: the audit can hardly clear the result
    model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counts = ("max_steps", "levels", "blocks", "latent", "components", "batch", "patience", "threads")
        for name in ("max_seconds", *counts, "learning_rate", "annealed", "memorisation_gap"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"image-gan: {name} must be above 0")
        for name in ("widths", "condition_on"):  # as JSON and the command line give them
            if getattr(self, name) is not None:
                setattr(self, name, tuple(getattr(self, name)))
        if self.widths is not None and not (self.widths and all(width > 0 for width in self.widths)):
            raise UsageError("image-gan: widths must be above 0")
        if not ((self.penalty or 0.0) >= 0 and self.annealed <= 1 and 0 <= self.augment <= 1):
            raise UsageError("image-gan: penalty must be at least 0, annealed and augment shares")
        if (self.levels or 1) > 3:
            raise UsageError("image-gan: levels must be 1, 2 or 3: sides are multiples of 8 pixels")
        if self.start not in ("gaussian", "latent"):
            raise UsageError("image-gan: start must be 'gaussian' or 'latent'")

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
        material = Material.of(train, codec, records, seed=seed, run=run)
        players = settings._started(material, records, seed).to(tabular.device_of(self.device, self.name))
        fingerprint = train.fingerprint()
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        objective = settings._objective(material, players, seed)
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            outcome = training.train(
                players,
                objective,
                objective.evaluate,
                rows=len(objective.train),
                recipe=self._recipe(),
                seed=seed.child("training"),
                run=run,
                identity=settings._identity(fingerprint, codec, records),
                schedule=objective.schedule,
            )
            alarms = objective.alarms(players.maker.eval())
        training.require_learned(outcome)
        facts = {**outcome.to_json(), **alarms, "levels": settings.levels, "widths": list(settings.widths or ())}
        facts["notes"] += settings._warnings(outcome, alarms)
        facts["parameters"] = sum(parameter.numel() for parameter in players.parameters())
        self.model = image_model(
            self.name,
            train,
            codec,
            records,
            players.maker,
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
        model, root, n = fitted(self.model, self.name), Seed.of(seed), positive(n)
        codec, records = ImageCodec.from_json((model.codec or {})["image"]), ImageRecords.of_model(model)
        maker = self._restored(model, codec, records)
        table = records.draw(n, codec.constants, seed=root, where=where, given=given, balance=balance)
        device = maker.scale.device
        run, shape = run or Run(), maker.noise_shape
        with training.threads(self.threads):
            return images_of(table, codec, records, maker, shape=shape, device=device, seed=root, run=run)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the training did: steps, distances, notes, and the networks' size."""
        return fitted(self.model, self.name).facts

    def plot_training(self) -> Figure:
        """Distances over the steps, the step whose weights were kept, and how they part."""
        return plot_training(self.facts)

    def save(self, folder: str | Path) -> None:
        """Write `manifest.json` and `weights.safetensors`: the maker, without the critic.

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

    def _resolved(self, longest: int) -> ImageGan:
        """These settings with what suits the size in place of None."""
        suited = haar_levels(longest)
        widths = self.widths or ((32, 64) if suited == 1 else (64, 96, 128))
        usual = max(0.1, 2 * (longest / 64) ** 3.1)  # through the values of R3GAN at 64 and at 256 pixels
        penalty = usual if self.penalty is None else self.penalty
        return dataclasses.replace(self, levels=self.levels or suited, widths=widths, penalty=penalty)

    def _started(self, material: Material, records: ImageRecords, seed: Seed) -> Players:
        """Both networks before training."""
        coefficients = haar(material.pixels[~material.held], self.levels or 1)
        anchor = None
        if self.start == "gaussian":
            classes = material.classes[~material.held.numpy()]
            anchor = GaussianAnchor.fit(coefficients, classes, count=len(records.classes), components=self.components)
        players = self._players(anchor, tuple(coefficients.shape[1:]), records, seed.child("network"))
        axes = (0, *range(2, coefficients.dim()))
        scale = (coefficients - coefficients.mean(0)).square().mean(dim=axes).sqrt().clamp(min=1e-3)
        players.maker.scale.copy_(scale.view_as(players.maker.scale))
        players.critic.scale.fill_(float(scale.square().mean().sqrt()))  # one for all: levelled details swing more
        return players

    def _players(
        self, anchor: GaussianAnchor | None, shape: tuple[int, ...], records: ImageRecords, seed: Seed
    ) -> Players:
        """Shape: of an image's coefficients, channels first."""
        sizes, levels, widths = tuple(column.size for column in records.columns), self.levels or 1, self.widths or ()
        with torch.random.fork_rng(devices=[]):  # layers draw weights from the global state, then from the seed
            maker = ImageMaker(
                anchor, shape=shape, levels=levels, widths=widths, blocks=self.blocks, latent=self.latent, sizes=sizes
            )
            critic = ImageCritic(shape=shape, levels=levels, widths=widths, blocks=self.blocks, sizes=sizes)
            return Players(maker, critic, seed)

    def _objective(self, material: Material, players: Players, seed: Seed) -> ImageGanObjective:
        device = players.maker.scale.device
        classes, codes = (torch.from_numpy(array).to(device) for array in (material.classes, material.codes))
        return ImageGanObjective(
            material.pixels.to(device),
            classes,
            codes,
            material.held.to(device),
            seed.child("evaluation"),
            penalty=self.penalty or 0.0,
            annealed=self.annealed,
            augment=self.augment,
        )

    def _warnings(self, outcome: training.Training, alarms: Mapping[str, float]) -> list[str]:
        """What went wrong, in words; logged too: a GAN fails without an error."""
        found = []
        if outcome.best_step == 0:
            found.append("nothing was learned: no step made better images than the first weights, which are kept")
        if alarms["diversity"] < _ALIKE:
            found.append(f"mode collapse warning: made images differ {alarms['diversity']:.0%} as much as real ones")
        if alarms["nearness"] < _NEAR:
            away = f"{alarms['nearness']:.0%} as far from train images as from validation images"
            found.append(f"memorisation warning: made images are {away}")
        for note in found:
            log.warning("%s", note)
        return found

    def _identity(self, fingerprint: str, codec: ImageCodec, records: ImageRecords) -> dict[str, Any]:
        """What makes a training this one."""
        names = ("start", "levels", "widths", "blocks", "latent", "components", "penalty", "annealed", "augment")
        return {
            "generator": self.name,
            "data": fingerprint,
            "shape": list(codec.shape),
            "classes": [*map(list, records.classes)],
            **{name: getattr(self, name) for name in names},
        }

    def _restored(self, model: Model, codec: ImageCodec, records: ImageRecords) -> ImageMaker:
        """The maker of a model.

        Raises:
            DataError: its parts do not fit together.
        """
        levels, tensors = int(model.facts["levels"]), network_tensors(model)
        settings = dataclasses.replace(self, levels=levels, widths=tuple(model.facts["widths"]))
        shape = tuple(haar(torch.empty(1, codec.channels, *codec.shape), levels).shape[1:])
        try:
            anchor = GaussianAnchor.like(tensors, "anchor.") if self.start == "gaussian" else None
            maker = settings._players(anchor, shape, records, model.seed).maker
            maker.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError("the model folder is broken: its parts do not fit together") from error
        return maker.to(tabular.device_of(self.device, self.name)).eval()

    def _recipe(self) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            betas=(0.0, 0.99),
            ema=0.998,
            patience=self.patience,
            memorisation_gap=self.memorisation_gap,
            checkpoint_seconds=self.checkpoint_seconds,
        )

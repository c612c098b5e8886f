"""What do maker and critic of the image GAN minimise? And by which figure is the best maker chosen?

Every real image is paired with a made one that goes by the same columns, and the critic says which of the two is more
real (relativistic loss). Its gradient at both is penalised (R1 and R2); a quarter of each batch stands for all of it,
which costs what a penalty at every fourth step costs, and every step has it. Both see images through the same random
changes, none of which moves left to right.

Both players move in one step: the critic's gradient at the made images, turned round, is the maker's.

A GAN's loss says nothing about its images. What decides is the Frechet distance between made and real images in fixed
features: means of random convolutions at three sizes, and coarse pixels.

Source: Huang et al. 2024 (arXiv:2501.05441), equations 2 to 4; Karras et al. 2020 (arXiv:1912.04958), appendix B, for
penalties that are not taken everywhere; Zhao et al. 2020 (arXiv:2006.10738) for changes that both networks see;
Heusel et al. 2017 (arXiv:1706.08500), equation 6, for the distance.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool2d,
    avg_pool3d,
    conv2d,
    conv3d,
    softplus,
)

from synthgen.generators.flow import UNLABELLED
from synthgen.generators.image_gan_networks import ImageMaker, Players
from synthgen.rng import Seed

_PENALISED = 0.25  # share of the batch whose gradients are penalised
_SHIFT, _BRIGHTER, _CONTRAST, _CUT = 0.125, 0.2, 0.3, 0.3  # of a side; of the range from -1 to 1; of one; of a side
_FILTERS = 16  # of the features
_FLOOR = 0.1  # of a feature's mean: what varies less than this is not looked at more closely
_PART = 250  # images in one pass


class ImageGanObjective:
    """The loss of a batch, and the Frechet distance of made images to the validation slice and to train images."""

    def __init__(
        self,
        images: Tensor,
        classes: Tensor,
        codes: Tensor,
        held: Tensor,
        seed: Seed,
        *,
        penalty: float,
        annealed: float,
        augment: float,
    ) -> None:
        """`penalty` goes down to `annealed` of it.

        Shape: images (images, channels, ...), classes (images,), codes (images, columns), held (images,) boolean.
        """
        self.images, self.classes, self.codes, self.seed = images, classes, codes, seed
        self.first_penalty, self.annealed, self.augment = penalty, annealed, augment
        self.penalty = penalty
        self.train = (~held).nonzero()[:, 0]
        pick = torch.randperm(len(self.train), generator=seed.child("rows").torch())[: int(held.sum())]
        self.slices = (held.nonzero()[:, 0], self.train[pick.to(self.train.device)])
        self.features = Features(images[self.train], seed.child("features"))
        self.laws = [Law.of(self.features(images[rows])) for rows in self.slices]

    def schedule(self, share: float) -> None:
        """Lower the penalty, evenly on a logarithmic scale, as this share of the steps is behind."""
        self.penalty = self.first_penalty * self.annealed**share

    def __call__(self, players: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One step's loss of both players; the gradient of each reaches its own weights only."""
        assert isinstance(players, Players), "this objective trains two networks"
        maker, critic, rows = players.maker, players.critic, self.train[rows]
        real, codes = self.images[rows], self._shown(rows, generator)
        noise = torch.randn(len(rows), *maker.noise_shape, generator=generator, device=real.device)
        made = maker(noise, self.classes[rows], codes)
        seen_real = augmented(real, generator, self.augment)
        seen = augmented(made, generator, self.augment)
        count = max(1, round(len(rows) * _PENALISED))
        slopes = penalty(critic, torch.cat([seen_real[:count], seen[:count].detach()]), codes[:count].repeat(2, 1))
        value: Tensor = relativistic(critic, seen_real, seen, codes) + self.penalty / 2 * slopes / count
        return value

    def evaluate(self, players: nn.Module) -> tuple[Tensor, Tensor]:
        """Distance of the same made images to the validation slice, and to as many train images."""
        made = self.features(self.made(players.maker))  # type: ignore[arg-type]
        if not bool(made.isfinite().all()):
            return (made.sum(), made.sum())  # the loop says what to do
        law = Law.of(made)
        return law.distance(self.laws[0]), law.distance(self.laws[1])

    def made(self, maker: ImageMaker) -> Tensor:
        """As many images as the validation slice has, and that go by the same. Shape: -> (images, channels, ...)."""
        rows, device = self.slices[0], self.images.device
        noise = torch.randn(
            len(rows), *maker.noise_shape, generator=self.seed.child("noise").torch(device.type), device=device
        )
        parts = [
            maker(noise[part], self.classes[rows[part]], self.codes[rows[part]]).clamp(-1, 1)
            for part in torch.arange(len(rows), device=device).split(_PART)
        ]
        return torch.cat(parts)

    def alarms(self, maker: ImageMaker) -> dict[str, float]:
        """How far made images are from each other, and from train images, beside real ones: both about 1 at best.

        "diversity" is low where modes are lost. "nearness" is the distance from a made image to the nearest of some
        train images, over that to the nearest of as many validation images: low where train images are copied.
        """
        with torch.no_grad():
            made = self.made(maker).flatten(1)
        held, train = (self.images[rows].flatten(1) for rows in self.slices)
        spread = [torch.pdist(images).mean().item() if len(images) > 1 else 1.0 for images in (made, held)]
        nearest = [torch.cdist(made, images).min(1).values.mean().item() for images in (train, held)]
        return {"diversity": spread[0] / max(spread[1], 1e-9), "nearness": nearest[0] / max(nearest[1], 1e-9)}

    def _shown(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Codes with some columns hidden, and sometimes all."""
        codes = self.codes[rows]
        chance = torch.rand(len(codes), 1 + codes.shape[1], generator=generator, device=codes.device) < UNLABELLED
        return codes.masked_fill(chance[:, :1] | chance[:, 1:], 0)


def relativistic(critic: nn.Module, real: Tensor, made: Tensor, codes: Tensor) -> Tensor:
    """The critic's loss; by the made images its gradient is turned into that of the maker's loss.

    With margin m = critic(real) - critic(made) the critic minimises softplus(-m), the maker softplus(m): their
    gradients by the made images are s(-m) g and -s(m) g for the same g, and s(m) / s(-m) = exp(m).

    Shape: real, made (batch, channels, ...), codes (batch, columns) -> scalar.
    """
    margins: list[Tensor] = []
    through = made.view_as(made)
    if through.requires_grad:
        through.register_hook(lambda slope: -slope * _as(margins[0].clamp(-30, 30).exp(), slope))
    scores = critic(torch.cat([real, through]), codes.repeat(2, 1))
    margin = scores[: len(real)] - scores[len(real) :]
    margins.append(margin.detach())
    return softplus(-margin, threshold=40).mean()


def penalty(critic: nn.Module, images: Tensor, codes: Tensor) -> Tensor:
    """The squared length of the critic's gradient by the images, summed over them: R1 at real ones, R2 at made ones.

    Shape: images (batch, channels, ...), codes (batch, columns) -> scalar.
    """
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(images, codes).sum(), images, create_graph=True)
    return slope.square().sum()


def augmented(images: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Each image shifted, brighter or with another contrast, or with a piece cut out, each with this chance.

    No change turns or mirrors: the heart stays on its side. Gradients pass.

    Shape: images (batch, channels, ...) -> same.
    """
    if not chance:
        return images
    count, device = len(images), images.device

    def uniform() -> Tensor:
        """From -1 to 1, and 0 where an image stays as it is. Shape: -> (batch,)."""
        drawn, chosen = torch.rand(2, count, generator=generator, device=device)
        return (2 * drawn - 1) * (chosen < chance)

    mean = images.mean(dim=tuple(range(1, images.dim())), keepdim=True)
    images = mean + (images - mean) * _as(1 + _CONTRAST * uniform(), images) + _as(_BRIGHTER * uniform(), images)
    kept = torch.zeros_like(images[:, :1], dtype=torch.bool)
    chosen = torch.rand(count, generator=generator, device=device) < chance
    for axis in range(2, images.dim()):
        side = images.shape[axis]
        places = torch.arange(side, device=device)
        moved = (places + (uniform() * _SHIFT * side).round()[:, None].long()).clamp(0, side - 1)
        images = images.gather(axis, _along(moved, images, axis).expand_as(images))
        centre = torch.rand(count, generator=generator, device=device)[:, None] * side
        kept = kept | _along((places + 0.5 - centre).abs() > _CUT * side / 2, images, axis)
    return images * (kept | ~_as(chosen, images).bool())


class Features:
    """Fixed features of images, about one in size: random convolutions at three sizes, and coarse pixels.

    Shape: images (images, channels, ...) -> (images, features).
    """

    def __init__(self, images: Tensor, seed: Seed) -> None:
        """Their size is that at these images."""
        channels, self.dims = images.shape[1], images.dim() - 2
        kernels = torch.randn(_FILTERS, channels, *[3] * self.dims, generator=seed.torch())
        kernels -= kernels.mean(dim=tuple(range(2, kernels.dim())), keepdim=True)  # brightness is in the coarse pixels
        self.kernels = kernels.to(images.device)
        found = self._of(images[:2_000])
        self.mean = found.mean(0)
        self.std = (found.var(0) + (_FLOOR * self.mean).square()).sqrt().clamp(min=1e-4)

    def __call__(self, images: Tensor) -> Tensor:
        return (self._of(images) - self.mean) / self.std

    def _of(self, images: Tensor) -> Tensor:
        return torch.cat([self._part(part) for part in images.split(_PART)])

    def _part(self, images: Tensor) -> Tensor:
        flat = self.dims == 2
        convolved = conv2d if flat else conv3d
        found = [(adaptive_avg_pool2d(images, 4) if flat else adaptive_avg_pool3d(images, 2)).flatten(1)]
        for _ in range(3):
            found.append(convolved(images, self.kernels, padding=1).abs().flatten(2).mean(2))
            images = (avg_pool2d if flat else avg_pool3d)(images, 2, ceil_mode=True)
        return torch.cat(found, 1)


class Law:
    """Mean and covariance of features, and how far two such are from each other."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance

    @classmethod
    def of(cls, features: Tensor) -> Law:
        """Shape: (images, features)."""
        features = features.double()
        return cls(features.mean(0), torch.cov(features.T, correction=0))

    def distance(self, other: Law) -> Tensor:
        """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). Shape: -> scalar."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        both = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
        apart = (self.mean - other.mean).square().sum()
        return (apart + self.covariance.trace() + other.covariance.trace() - 2 * both).clamp(min=0)


def _as(values: Tensor, images: Tensor) -> Tensor:
    """Shape: values (batch,) -> (batch, 1, ...), as many axes as the images."""
    return values.view(-1, *[1] * (images.dim() - 1))


def _along(values: Tensor, images: Tensor, axis: int) -> Tensor:
    """Shape: values (batch, side) -> (batch, 1, ..., side, ...), the side at this axis of the images."""
    return values.view(len(values), *[1] * (axis - 1), -1, *[1] * (images.dim() - axis - 1))

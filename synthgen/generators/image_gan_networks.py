"""What do the two networks of the image GAN look like? A maker of images, and a critic of them.

Both work on Haar coefficients, where an image has a quarter of the places. The maker begins at a draw from a Gaussian
per class, which mean and covariance give without training, and a U-shaped network changes it; at first it changes
nothing. Or it begins at a latent vector, as GANs do. The critic is a stack of residual blocks. No layer normalises.

Source: Huang et al. 2024 (arXiv:2501.05441), section 3, for networks without normalisation; Zhang et al. 2019
(arXiv:1901.09321), section 3, for their first weights; Miyato and Koyama 2018 (arXiv:1802.05637), equation 3, for how
the critic is told what an image goes by.
"""

from __future__ import annotations

import itertools
import math

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, avg_pool3d, interpolate, leaky_relu

from synthgen.generators.anchor import GaussianAnchor
from synthgen.generators.flow import ColumnEmbedding
from synthgen.generators.haar import haar, inverse_haar
from synthgen.rng import Seed

_SLOPE = 0.2  # of the leaky rectifiers
_GENTLE = 0.25  # of what is added to a Gaussian draw: the critic knows little at first
_QUIET = 0.2  # of the critic's first opinion


class ImageMaker(nn.Module):
    """An image from noise and from what it goes by.

    Shape: noise (batch, *noise_shape), classes (batch,) for the Gaussian, codes (batch, columns) for the network
    -> images (batch, channels, ...).
    """

    scale: Tensor

    def __init__(
        self,
        anchor: GaussianAnchor | None,
        *,
        shape: tuple[int, ...],
        levels: int,
        widths: tuple[int, ...],
        blocks: int,
        latent: int,
        sizes: tuple[int, ...],
    ) -> None:
        """`shape`: of an image's coefficients, channels first. `sizes`: how many codes each column has."""
        super().__init__()
        self.anchor, self.levels, known = anchor, levels, 2 * widths[0]
        self.sides, dims = halved(shape[1:], len(widths)), len(shape) - 1
        self.register_buffer("scale", torch.ones(1, shape[0], *[1] * dims))
        self.embedding = ColumnEmbedding(sizes, 0, known)
        if anchor is None:
            self.noise_shape: tuple[int, ...] = (latent,)
            self.start = nn.Linear(latent + known, widths[-1] * math.prod(self.sides[-1]))
        else:
            self.noise_shape = shape
            self.down = Encoder(dims, shape[0], widths, blocks, known)
        self.narrow = nn.ModuleList(_convolution(dims, b, a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(Stage(dims, width, blocks, known) for width in widths[:-1])
        self.out = _convolution(dims, widths[0], shape[0])

    def forward(self, noise: Tensor, classes: Tensor, codes: Tensor) -> Tensor:
        known = self.embedding((codes, None))
        if self.anchor is None:
            x = self.start(torch.cat([noise, known], 1)).view(len(noise), -1, *self.sides[-1])
            return inverse_haar(self._grown(x, [], known) * self.scale, self.levels)
        start = drawn(self.anchor, noise, classes)
        *skips, x = self.down(start / self.scale, known)
        return inverse_haar(start + _GENTLE * self._grown(x, skips, known) * self.scale, self.levels)

    def _grown(self, x: Tensor, skips: list[Tensor], known: Tensor) -> Tensor:
        """From the coarsest places to all. Shape: -> (batch, channels, ...) coefficients."""
        for level in reversed(range(len(self.up))):
            x = interpolate(self.narrow[level](x), size=self.sides[level], mode="nearest")
            x = self.up[level](x + skips[level] if skips else x, known)
        found: Tensor = self.out(leaky_relu(x, _SLOPE))
        return found


class ImageCritic(nn.Module):
    """How real an image looks, given what it goes by.

    Shape: images (batch, channels, ...), codes (batch, columns) -> (batch,).
    """

    scale: Tensor

    def __init__(
        self, *, shape: tuple[int, ...], levels: int, widths: tuple[int, ...], blocks: int, sizes: tuple[int, ...]
    ) -> None:
        """As the maker's."""
        super().__init__()
        self.levels, dims = levels, len(shape) - 1
        self.register_buffer("scale", torch.ones(1, shape[0], *[1] * dims))
        self.down = Encoder(dims, shape[0], widths, blocks, None)
        self.places = nn.Parameter(torch.ones(widths[-1], *halved(shape[1:], len(widths))[-1]))
        self.score = nn.Linear(widths[-1], 1)
        self.embedding = ColumnEmbedding(sizes, 0, widths[-1])

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        x = self.down(haar(images, self.levels) / self.scale, None)[-1]
        features = (leaky_relu(x, _SLOPE) * self.places).flatten(2).sum(2)
        found: Tensor = self.score(features)[:, 0] + (features * self.embedding((codes, None))).sum(1)
        return found


class Players(nn.Module):
    """Both networks in one, for a loop that trains one."""

    def __init__(self, maker: ImageMaker, critic: ImageCritic, seed: Seed) -> None:
        """All first weights come from the seed."""
        super().__init__()
        self.maker, self.critic = maker, critic
        generator = seed.torch()
        for network in (maker, critic):
            _initialise(network, generator)
        with torch.no_grad():
            if maker.anchor is not None:
                maker.out.get_parameter("weight").zero_()  # begins as the Gaussian
            critic.score.weight.mul_(_QUIET)
            for column in critic.embedding.columns:
                column.get_parameter("weight").mul_(_QUIET * critic.score.in_features**-0.5)


class Encoder(nn.Module):
    """Residual blocks at each size, which halves from level to level. Shape: x (batch, channels, ...) -> each level."""

    def __init__(self, dims: int, channels: int, widths: tuple[int, ...], blocks: int, known: int | None) -> None:
        super().__init__()
        self.pool = avg_pool2d if dims == 2 else avg_pool3d
        self.first = _convolution(dims, channels, widths[0])
        self.widen = nn.ModuleList(_convolution(dims, a, b, 1) for a, b in itertools.pairwise(widths))
        self.stages = nn.ModuleList(Stage(dims, width, blocks, known) for width in widths)

    def forward(self, x: Tensor, known: Tensor | None) -> list[Tensor]:
        found = [self.stages[0](self.first(x), known)]
        for widen, stage in zip(self.widen, list(self.stages)[1:], strict=True):
            found.append(stage(widen(self.pool(found[-1], 2, ceil_mode=True)), known))
        return found


class Stage(nn.Module):
    """Residual blocks of one size. Shape: x (batch, width, ...), known (batch, known) or None -> as x."""

    def __init__(self, dims: int, width: int, blocks: int, known: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dims, width, known) for _ in range(blocks))

    def forward(self, x: Tensor, known: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, known)
        return x


class Block(nn.Module):
    """Two convolutions beside the identity, which is all that it is at first."""

    def __init__(self, dims: int, width: int, known: int | None) -> None:
        super().__init__()
        self.one, self.two = _convolution(dims, width, width), _convolution(dims, width, width)
        self.known = None if known is None else nn.Linear(known, width)

    def forward(self, x: Tensor, known: Tensor | None) -> Tensor:
        inner = self.one(leaky_relu(x, _SLOPE))
        if self.known is not None:
            told = self.known(known)
            inner = inner + told.view(*told.shape, *[1] * (x.dim() - 2))
        found: Tensor = x + self.two(leaky_relu(inner, _SLOPE))
        return found


def drawn(anchor: GaussianAnchor, noise: Tensor, classes: Tensor) -> Tensor:
    """Draws from the Gaussians of these classes: white noise, stretched along the directions of each.

    Shape: noise (batch, ...), classes (batch,) -> as noise.
    """
    flat = noise.flatten(1)
    found = torch.empty_like(flat)
    for number in classes.unique().tolist():
        rows = (classes == number).nonzero()[:, 0]
        axes, along = anchor.get_buffer(f"directions_{number}"), anchor.get_buffer(f"variances_{number}")
        mean, rest = anchor.get_buffer("means")[number], anchor.get_buffer("rest")[number]
        white = flat[rows]
        found[rows] = mean + rest.sqrt() * white + ((white @ axes.T) * (along.sqrt() - rest.sqrt())) @ axes
    return found.view_as(noise)


def halved(sides: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    """The sides at each level.

    >>> halved((8, 6), 3)
    [(8, 6), (4, 3), (2, 2)]
    """
    found = [tuple(sides)]
    for _ in range(levels - 1):
        found.append(tuple(-(-side // 2) for side in found[-1]))
    return found


def _convolution(dims: int, into: int, out: int, size: int = 3) -> nn.Module:
    """A bare convolution that keeps the places."""
    return Convolution(dims, into, out, kernel_size=size, conv_only=True).get_submodule("conv")


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from the generator: torch's own initialisation uses the global one.

    Blocks begin as the identity, and the first convolution of each is as much smaller as there are blocks.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                inputs = module.weight[0].numel()
                module.weight.normal_(0, inputs**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0, 1, generator=generator)
        for block in blocks:
            block.one.get_parameter("weight").mul_((2 / len(blocks)) ** 0.5)
            block.two.get_parameter("weight").zero_()
        for module in network.modules():
            if isinstance(module, ImageCritic):
                module.places.normal_(0, module.places[0].numel() ** -0.5, generator=generator)

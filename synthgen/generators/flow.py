"""What does the network of the image diffusion learn, and how does it sample? What the Gaussian anchor leaves open.

With v the anchor's velocity and s the root mean square of what it leaves open, the network F predicts
(x0 - e - v) / s, and the flow is v + s F.

Source: Liu et al. 2023 (arXiv:2209.03003), equation 1; Karras et al. 2022 (arXiv:2206.00364), sections 3 (Heun) and 5
(scaling of inputs and outputs); Ho and Salimans 2022 (arXiv:2207.12598) for what is trained without its class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from synthgen.generators.anchor import GaussianAnchor
from synthgen.rng import Seed

UNLABELLED = 0.1  # share of the images that are shown without any column, and of those without each
_TIMES_AT = -0.3  # centre of the logit of the training times, a little nearer to the images
_TIME_SCALE = 1_000.0  # the network's time embedding is made for steps of a thousand


class ColumnEmbedding(nn.Module):
    """What an image goes by: a sum of vectors, one for each column. Shape: codes (batch, columns) -> (batch, width)."""

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.anything = nn.Parameter(torch.zeros(width))

    def forward(self, codes: Tensor) -> Tensor:
        found = self.anything.expand(len(codes), -1)
        for place, column in enumerate(self.columns):
            found = found + column(codes[:, place])
        return found


class FlowNetwork(nn.Module):
    """The anchor, and a U-Net for what it leaves open.

    Shape: x (batch, channels, ...), t (batch,), classes (batch,) for the anchor, codes (batch, columns) for the network
    -> the anchor's velocity, what it leaves open (batch,), and the network's output.
    """

    power: Tensor

    def __init__(
        self,
        anchor: GaussianAnchor,
        *,
        channels: int,
        widths: tuple[int, ...],
        sizes: tuple[int, ...],
        dims: int,
        seed: Seed,
    ) -> None:
        """`sizes`: how many codes each column has that images go by; code 0 says nothing."""
        super().__init__()
        self.anchor = anchor
        with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global state
            torch.set_rng_state(seed.torch().get_state())
            self.unet = DiffusionModelUNet(
                spatial_dims=dims,
                in_channels=channels,
                out_channels=channels,
                channels=widths,
                attention_levels=tuple(i == len(widths) - 1 for i in range(len(widths))),
                num_res_blocks=1,
                norm_num_groups=16,
                num_head_channels=32,
                num_class_embeds=1,  # in whose place is the embedding of columns
            )
            self.unet.class_embedding = ColumnEmbedding(sizes, 4 * widths[0])  # type: ignore[assignment]
        self.register_buffer("power", torch.ones(1, channels, *[1] * dims))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        velocity, left = self.anchor(x, t, classes)
        time = _as(t, x)
        scaled = x / ((1 - time) ** 2 * self.power + time**2).sqrt()  # about one, whatever the time
        return velocity, left, self.unet(scaled, t * _TIME_SCALE, class_labels=codes)

    def flow(self, x: Tensor, t: float, classes: Tensor, codes: Tensor, *, guidance: float) -> Tensor:
        """The velocity towards the images, and beyond what the codes say where `guidance` is above 1.

        Shape: x (batch, channels, ...) -> same.
        """
        time = torch.full((len(x),), t, device=x.device)
        velocity, left, found = self(x, time, classes, codes)
        if guidance != 1:
            plain = self(x, time, classes, torch.zeros_like(codes))[2]
            found = plain + guidance * (found - plain)
        flow: Tensor = velocity + _as(left, x) * found
        return flow


class FlowObjective:
    """The loss of a batch, and of the validation slice beside as many train images."""

    def __init__(self, images: Tensor, classes: Tensor, codes: Tensor, held: Tensor, seed: Seed) -> None:
        """Shape: images (images, channels, ...), classes (images,), codes (images, columns), held (images,) boolean."""
        self.images, self.classes, self.codes, self.seed = images, classes, codes, seed
        self.train = (~held).nonzero()[:, 0]
        pick = torch.randperm(len(self.train), generator=seed.child("rows").torch())[: int(held.sum())]
        self.slices = (held.nonzero()[:, 0], self.train[pick.to(self.train.device)])

    def __call__(self, network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        return self._loss(network, self.train[rows], generator, UNLABELLED)

    def evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """On fixed times and noise, with all classes shown: validation loss, train loss."""
        found = []
        for rows in self.slices:
            generator = self.seed.child("noise").torch(self.images.device.type)
            losses = [self._loss(network, part, generator, 0.0) * len(part) for part in rows.split(128)]
            found.append(torch.stack(losses).sum() / len(rows))
        return found[0], found[1]

    def _loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, unlabelled: float) -> Tensor:
        x0, codes, device = self.images[rows], self.codes[rows], self.images.device
        t = torch.sigmoid(torch.randn(len(x0), generator=generator, device=device) + _TIMES_AT)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        chance = torch.rand(len(x0), 1 + codes.shape[1], generator=generator, device=device) < unlabelled
        shown = codes.masked_fill(chance[:, :1] | chance[:, 1:], 0)
        x = (1 - _as(t, x0)) * x0 + _as(t, x0) * noise
        velocity, left, found = network(x, t, self.classes[rows], shown)
        return (found - (x0 - noise - velocity) / _as(left, x0)).square().mean()


def heun(flow: Callable[[Tensor, float], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Follow a flow from noise to images by Heun's method, whose last step is Euler's.

    Shape: noise (batch, channels, ...) -> same.
    """
    times = torch.linspace(1, 0, steps + 1).tolist()
    x = noise
    for now, then in itertools.pairwise(times):
        first = flow(x, now)
        ahead = x + (now - then) * first
        x = ahead if then == 0 else x + (now - then) * 0.5 * (first + flow(ahead, then))
    return x


def _as(values: Tensor, x: Tensor) -> Tensor:
    """Shape: values (batch,) -> (batch, 1, ...), as many axes as x."""
    return values.view(-1, *[1] * (x.dim() - 1))

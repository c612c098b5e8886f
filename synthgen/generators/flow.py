"""What does the network of the image diffusion learn, and how does it sample? What the Gaussian anchor leaves open.

With v the anchor's velocity and s the root mean square of what it leaves open, the network F predicts
(x0 - e - v) / s, and the flow is v + s F.

Source: Liu et al. 2023 (arXiv:2209.03003), equation 1; Karras et al. 2022 (arXiv:2206.00364), sections 3 (Heun) and 5
(scaling of inputs and outputs); Ho and Salimans 2022 (arXiv:2207.12598) for what is trained without its class.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from synthgen.generators.anchor import GaussianAnchor
from synthgen.rng import Seed

UNLABELLED = 0.1  # share of the images that are shown without their class
_TIMES_AT = -0.3  # centre of the logit of the training times, a little nearer to the images
_TIME_SCALE = 1_000.0  # the network's time embedding is made for steps of a thousand


class FlowNetwork(nn.Module):
    """The anchor, and a U-Net for what it leaves open.

    Shape: x (batch, channels, ...), t (batch,), classes (batch,), shown (batch,), the class that the network is told or
    `unlabelled` -> the anchor's velocity, what it leaves open (batch,), and the network's output.
    """

    power: Tensor

    def __init__(
        self, anchor: GaussianAnchor, *, channels: int, widths: tuple[int, ...], dims: int, seed: Seed
    ) -> None:
        super().__init__()
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        self.anchor = anchor
        self.unlabelled = len(anchor.get_buffer("means"))
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
                num_class_embeds=self.unlabelled + 1,
            )
        self.register_buffer("power", torch.ones(1, channels, *[1] * dims))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        velocity, left = self.anchor(x, t, classes)
        time = _as(t, x)
        scaled = x / ((1 - time) ** 2 * self.power + time**2).sqrt()  # about one, whatever the time
        return velocity, left, self.unet(scaled, t * _TIME_SCALE, class_labels=shown)

    def flow(self, x: Tensor, t: float, classes: Tensor) -> Tensor:
        """The velocity towards the images. Shape: x (batch, channels, ...) -> same."""
        velocity, left, found = self(x, torch.full((len(x),), t, device=x.device), classes, classes)
        flow: Tensor = velocity + _as(left, x) * found
        return flow


class FlowObjective:
    """The loss of a batch, and of the validation slice beside as many train images."""

    def __init__(self, images: Tensor, classes: Tensor, held: Tensor, seed: Seed) -> None:
        """Shape: images (images, channels, ...), classes (images,), held (images,) boolean: for validation."""
        self.images, self.classes, self.seed = images, classes, seed
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
        x0, classes, device = self.images[rows], self.classes[rows], self.images.device
        t = torch.sigmoid(torch.randn(len(x0), generator=generator, device=device) + _TIMES_AT)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        hidden = torch.rand(len(x0), generator=generator, device=device) < unlabelled
        x = (1 - _as(t, x0)) * x0 + _as(t, x0) * noise
        none: int = network.unlabelled  # type: ignore[assignment]
        velocity, left, found = network(x, t, classes, torch.where(hidden, none, classes))
        return (found - (x0 - noise - velocity) / _as(left, x0)).square().mean()


def heun(network: FlowNetwork, noise: Tensor, classes: Tensor, *, steps: int) -> Tensor:
    """Follow the flow from noise to images by Heun's method, whose last step is Euler's.

    Shape: noise (batch, channels, ...), classes (batch,) -> as noise.
    """
    times = torch.linspace(1, 0, steps + 1).tolist()
    x = noise
    for now, then in itertools.pairwise(times):
        first = network.flow(x, now, classes)
        ahead = x + (now - then) * first
        x = ahead if then == 0 else x + (now - then) * 0.5 * (first + network.flow(ahead, then, classes))
    return x


def _as(values: Tensor, x: Tensor) -> Tensor:
    """Shape: values (batch,) -> (batch, 1, ...), as many axes as x."""
    return values.view(-1, *[1] * (x.dim() - 1))

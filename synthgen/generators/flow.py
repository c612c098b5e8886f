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
from synthgen.generators.augmentation import changed, changes, kinds_of_change
from synthgen.generators.haar import haar, inverse_haar
from synthgen.rng import Seed

UNLABELLED = 0.1  # share of the images that are shown without any column, and of those without each
_TIMES_AT = -0.3  # centre of the logit of the training times, a little nearer to the images
_DENSER = 1.5  # power of equal steps that gives the times of sampling
_TIME_SCALE = 1_000.0  # the network's time embedding is made for steps of a thousand


class ColumnEmbedding(nn.Module):
    """What an image goes by: a sum of vectors, one for each column, and one for how it was changed.

    Shape: codes (batch, columns), changes (batch, kinds) or None for none -> (batch, width).
    """

    def __init__(self, sizes: tuple[int, ...], kinds: int, width: int) -> None:
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.anything = nn.Parameter(torch.zeros(width))
        # No empty parameter: torch's fused optimiser crashes on the state of one.
        self.changes = nn.Parameter(torch.zeros(kinds, width)) if kinds else None

    def forward(self, known: tuple[Tensor, Tensor | None]) -> Tensor:
        codes, by = known
        found = self.anything.expand(len(codes), -1)
        for place, column in enumerate(self.columns):
            found = found + column(codes[:, place])
        return found if by is None or self.changes is None else found + by @ self.changes


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
        blocks: int = 1,
        bfloat16: bool = False,
    ) -> None:
        """A network with random weights.

        Args:
            anchor: of the images.
            channels: of x.
            widths: channels of the U-Net's levels, multiples of 16.
            sizes: how many codes each column has that images go by; code 0 says nothing.
            dims: 2 or 3.
            seed: of the weights.
            blocks: residual blocks on each level.
            bfloat16: matrix products of the U-Net in that precision.
        """
        super().__init__()
        self.anchor, self.low_precision = anchor, bfloat16
        with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global state
            torch.set_rng_state(seed.torch().get_state())
            self.unet = DiffusionModelUNet(
                spatial_dims=dims,
                in_channels=2 * channels,  # x, and the anchor's guess of the image
                out_channels=channels,
                channels=widths,
                attention_levels=tuple(i == len(widths) - 1 for i in range(len(widths))),
                num_res_blocks=blocks,
                norm_num_groups=16,
                num_head_channels=16 if widths[-1] % 32 else 32,
                resblock_updown=len(widths) > 3,  # large images
                use_flash_attention=True,
                num_class_embeds=1,  # in whose place is the embedding of columns
            )
            self.unet.class_embedding = ColumnEmbedding(sizes, kinds_of_change(dims), 4 * widths[0])  # type: ignore[assignment]
        self.register_buffer("power", torch.ones(1, channels, *[1] * dims))

    def forward(
        self, x: Tensor, t: Tensor, classes: Tensor, codes: Tensor, by: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`by`: how the images were changed, (batch, kinds of change); None: not at all."""
        velocity, left = self.anchor(x, t, classes)
        time = _as(t, x)
        scaled = x / ((1 - time) ** 2 * self.power + time**2).sqrt()  # about one, whatever the time
        guess = (x + time * velocity) / self.power.sqrt()  # of the image: it sees as far as the covariance does
        scaled = torch.cat([scaled, guess], dim=1)
        if x.is_cuda:  # its convolutions are faster so
            layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
            scaled = scaled.contiguous(memory_format=layout)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.low_precision):
            found = self.unet(scaled, t * _TIME_SCALE, class_labels=(codes, by))
        return velocity, left, found.float()

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

    def __init__(
        self,
        images: Tensor,
        classes: Tensor,
        codes: Tensor,
        held: Tensor,
        seed: Seed,
        *,
        levels: int = 1,
        augmentation: float = 0.0,
    ) -> None:
        """What is learned, with images changed by so much in training (0: not at all), never in validation.

        Shape: images (images, channels, ...) as Haar coefficients of `levels`, classes (images,), codes (images,
        columns), held (images,) boolean.
        """
        self.images, self.classes, self.codes, self.seed = images, classes, codes, seed
        self.levels, self.augmentation = levels, augmentation
        self.train = (~held).nonzero()[:, 0]
        pick = torch.randperm(len(self.train), generator=seed.child("rows").torch())[: int(held.sum())]
        self.slices = (held.nonzero()[:, 0], self.train[pick.to(self.train.device)])

    def __call__(self, network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        rows = self.train[rows]
        x0, by = self.images[rows], None
        if self.augmentation > 0:
            by = changes(len(x0), x0.dim() - 2, generator=generator)
            pixels = changed(inverse_haar(x0, self.levels), by, strength=self.augmentation)
            x0 = haar(pixels, self.levels)
        return self._loss(network, x0, rows, generator, by=by, unlabelled=UNLABELLED)

    def evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """On fixed times and noise, with all classes shown: validation loss, train loss."""
        found = []
        for rows in self.slices:
            generator = self.seed.child("noise").torch(self.images.device.type)
            losses = [
                self._loss(network, self.images[part], part, generator, by=None, unlabelled=0.0) * len(part)
                for part in rows.split(128)
            ]
            found.append(torch.stack(losses).sum() / len(rows))
        return found[0], found[1]

    def _loss(
        self,
        network: nn.Module,
        x0: Tensor,
        rows: Tensor,
        generator: torch.Generator,
        *,
        by: Tensor | None,
        unlabelled: float,
    ) -> Tensor:
        codes, device = self.codes[rows], x0.device
        t = torch.sigmoid(torch.randn(len(x0), generator=generator, device=device) + _TIMES_AT)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        chance = torch.rand(len(x0), 1 + codes.shape[1], generator=generator, device=device) < unlabelled
        shown = codes.masked_fill(chance[:, :1] | chance[:, 1:], 0)
        x = (1 - _as(t, x0)) * x0 + _as(t, x0) * noise
        velocity, left, found = network(x, t, self.classes[rows], shown, by)
        return (found - (x0 - noise - velocity) / _as(left, x0)).square().mean()


def heun(flow: Callable[[Tensor, float], Tensor], noise: Tensor, *, steps: int) -> Tensor:
    """Follow a flow from noise to images by Heun's method, whose last step is Euler's.

    Steps are shorter near the images: with equal ones, directions of a variance of .003 keep a third of it, and most
    directions of an image of 32 pixels have less.

    Shape: noise (batch, channels, ...) -> same.
    """
    times = (torch.linspace(1, 0, steps + 1) ** _DENSER).tolist()
    x = noise
    for now, then in itertools.pairwise(times):
        first = flow(x, now)
        ahead = x + (now - then) * first
        x = ahead if then == 0 else x + (now - then) * 0.5 * (first + flow(ahead, then))
    return x


def _as(values: Tensor, x: Tensor) -> Tensor:
    """Shape: values (batch,) -> (batch, 1, ...), as many axes as x."""
    return values.view(-1, *[1] * (x.dim() - 1))

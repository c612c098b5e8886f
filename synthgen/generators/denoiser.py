"""What does the network of the table diffusion look like, and what is its loss?

Masked (absorbing-state) diffusion over tokens, in two stages that factorise the table exactly: first the coarse
tokens of all columns in any order, each given those that are known; then the fine tokens in any order, given all
coarse tokens and the fine ones that are known. In both stages the number of hidden tokens is uniform, which makes the
loss the order-agnostic likelihood bound.

Source: Uria et al. 2014 (arXiv 1310.1757), Hoogeboom et al. 2022 (arXiv 2110.02037), Shi et al. 2024
(arXiv 2406.04329).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.codec import TableCodec
from synthgen.generators.layout import Layout, Stage
from synthgen.generators.prior import GaussianPrior
from synthgen.generators.tokens import HIDDEN

PERIODS = 8  # learned periodic features of each number
SMOOTH_AT = 4  # half waves over a column's bins, from which on smooth logits are held back
_EMBEDDED = 0.1  # scale of the embeddings of bins where logits are smooth: numbers speak through their features
_CAP = 30.0  # of logits
_DENSE_CELLS = 4_000_000  # above this, sums over vocabularies are scattered and not multiplied


class NumberFeatures(nn.Module):
    """Numbers enter as numbers: normal quantile, standardised value and learned waves of each known numeric column.

    Shape: tokens (batch, tokens) -> (batch, numeric columns * (3 + 2 * PERIODS)); zeros where the number is unknown.
    """

    coarse: Tensor
    fine: Tensor
    has_fine: Tensor
    start: Tensor
    stride: Tensor
    table: Tensor

    def __init__(self, codec: TableCodec, layout: Layout, generator: torch.Generator) -> None:
        super().__init__()
        inputs, place = codec.numeric_inputs, np.argsort(layout.order)
        self.columns = len(inputs.coarse)
        self.register_buffer("coarse", torch.from_numpy(place[inputs.coarse]), persistent=False)
        fine = np.where(inputs.fine >= 0, place[inputs.fine], place[inputs.coarse])
        self.register_buffer("fine", torch.from_numpy(fine), persistent=False)
        self.register_buffer("has_fine", torch.from_numpy(inputs.fine >= 0), persistent=False)
        self.register_buffer("start", torch.from_numpy(inputs.start), persistent=False)
        self.register_buffer("stride", torch.from_numpy(inputs.stride), persistent=False)
        self.register_buffer("table", torch.from_numpy(inputs.table), persistent=False)
        scale = 2.0 ** torch.linspace(-1, 3, PERIODS)
        self.frequencies = nn.Parameter(scale * (1 + 0.1 * torch.randn(self.columns, PERIODS, generator=generator)))

    @property
    def width(self) -> int:
        """Features in all."""
        return self.columns * (3 + 2 * PERIODS)

    def forward(self, tokens: Tensor, columns: slice | list[int] = slice(None)) -> Tensor:
        coarse = tokens[:, self.coarse[columns]].clamp(min=0)  # hidden: as missing, whose features are zeros
        fine, stride = tokens[:, self.fine[columns]], self.stride[columns]
        unknown = (fine == HIDDEN) | ~self.has_fine[columns]
        fine = torch.where(unknown, stride - 1, fine)
        features = self.table[self.start[columns] + coarse * stride + fine]  # (batch, columns, 3)
        angle = features[..., :1] * self.frequencies[columns]  # (batch, columns, PERIODS)
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1) * features[..., 2:]
        return torch.cat([features, waves], dim=-1).flatten(1)


class Block(nn.Module):
    """A residual layer: norm, two linear maps, dropout from the step's own generator. Shape: (batch, width) -> same."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        hidden = nn.functional.silu(self.up(self.norm(x)))
        if generator is not None and self.dropout:
            kept = torch.rand(hidden.shape, generator=generator, device=hidden.device) >= self.dropout
            hidden = hidden * kept / (1 - self.dropout)
        return x + self.down(hidden)


class SmoothHead(nn.Module):
    """Logits that are smooth over the bins of each number: a cosine series whose high frequencies are held back.

    Bins are an ordered scale, and a free output per bin learns small tables by heart. The series is complete, so sharp
    shapes can still be learned, only later. Levels, spikes and "missing" keep an output of their own.

    Shape: (batch, width) -> (batch, vocabulary of the stage).
    """

    basis: Tensor

    def __init__(self, bins: list[tuple[int, int]], width: int) -> None:
        """`bins`: for each token of the stage its size and the first of its values that is a bin."""
        super().__init__()
        basis = torch.block_diag(*(_cosines(size, first) for size, first in bins))
        self.register_buffer("basis", basis, persistent=False)
        self.coefficients = nn.Linear(width, len(basis), bias=False)
        self.bias = nn.Parameter(torch.zeros(len(basis)))

    @property
    def weight(self) -> Tensor:
        """As a plain linear layer has it. Shape: (vocabulary, width)."""
        return self.basis @ self.coefficients.weight

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def soft_cap(logits: Tensor) -> Tensor:
    """Keep logits in (-30, 30), so that exp never overflows and needs no maximum."""
    return _CAP * torch.tanh(logits / _CAP)


def _embedding_scale(size: int, first: int, scale: float) -> Tensor:
    """Shape: -> (size + 1,); the last is "hidden"."""
    factors = torch.ones(size + 1)
    factors[first:size] = scale
    return factors


def _cosines(size: int, first: int) -> Tensor:
    """The basis of one token's logits; unit vectors for values below `first`. Shape: -> (size, size)."""
    basis, bins = torch.eye(size), size - first
    if bins > 1:
        place, wave = (torch.arange(bins) + 0.5) / bins, torch.arange(bins)
        held = (1 + wave / SMOOTH_AT) ** -2.0
        basis[first:, first:] = torch.cos(torch.pi * place[:, None] * wave) * held * 2**0.5
    return basis


class Denoiser(nn.Module):
    """Predicts every hidden token from those that are known.

    Shape: tokens (batch, tokens) in the order of the layout, -1 where hidden -> (batch, width); `logits` makes
    (batch, vocabulary) of that for one stage.
    """

    hidden_token: Tensor
    offsets: Tensor
    scale: Tensor
    group: Tensor

    def __init__(
        self,
        codec: TableCodec,
        *,
        width: int,
        blocks: int,
        embedding: int,
        dropout: float,
        smooth: bool,
        generator: torch.Generator,
        prior: GaussianPrior | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout = Layout.of(codec)
        self.prior = prior
        sizes = torch.from_numpy(layout.sizes) + 1  # the last of each is "hidden"
        self.register_buffer("hidden_token", torch.from_numpy(layout.sizes), persistent=False)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("group", torch.arange(len(sizes)))  # places of one number are drawn together
        self.embed = nn.Embedding(int(sizes.sum()), embedding)
        self.numbers = NumberFeatures(codec, layout, generator)
        self.into = nn.Linear(len(sizes) * embedding + self.numbers.width, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        bins = [(int(size), int(first)) for size, first in zip(layout.sizes, layout.bins_from, strict=True)]
        scale = [_embedding_scale(size, first, _EMBEDDED if smooth else 1.0) for size, first in bins]
        self.register_buffer("scale", torch.cat(scale)[:, None], persistent=False)
        parts: dict[Stage, list[tuple[int, int]]] = {"coarse": bins[: layout.coarse], "fine": bins[layout.coarse :]}
        self.heads = nn.ModuleDict(
            {
                stage: SmoothHead(part, width) if smooth else nn.Linear(width, sum(size for size, _ in part))
                for stage, part in parts.items()
                if part
            }
        )
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw all weights from the generator: torch's own initialisation uses the global one."""
        with torch.no_grad():
            self.embed.weight.normal_(0, 0.5, generator=generator)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    module.weight.normal_(0, module.in_features**-0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
            for block in self.blocks:
                block.down.weight.mul_(0.1)  # type: ignore[union-attr, operator]
            for head in self.heads.values():  # beside a prior: what it says, and nothing else
                scale = 0.1 if self.prior is None else 0.0
                (head.coefficients if isinstance(head, SmoothHead) else head).weight.mul_(scale)  # type: ignore[operator]

    def start_from(self, marginals: dict[Stage, np.ndarray]) -> None:
        """Set the output biases to the log marginals of train. Shape: (vocabulary of the stage,) each."""
        with torch.no_grad():
            for stage, shares in marginals.items():
                if stage in self.heads:
                    self.heads[stage].bias.copy_(torch.from_numpy(np.log(shares)))  # type: ignore[union-attr, operator]

    def forward(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.trunk(self.first(tokens), generator)

    def first(self, tokens: Tensor) -> Tensor:
        """The first layer, which is a sum over tokens. Shape: (batch, tokens) -> (batch, width)."""
        indices = torch.where(tokens == HIDDEN, self.hidden_token, tokens) + self.offsets
        embedded = nn.functional.embedding(indices, self.embed.weight * self.scale)
        first: Tensor = self.into(torch.cat([embedded.flatten(1), self.numbers(tokens)], dim=1))
        return first

    def trunk(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The rest. Shape: (batch, width) -> (batch, width)."""
        for block in self.blocks:
            x = block(x, generator)
        return self.norm(x)

    def logits(self, x: Tensor, stage: Stage, tokens: Tensor) -> Tensor:
        """Shape: (batch, width), tokens (batch, tokens) as `forward` saw them -> (batch, vocabulary of the stage)."""
        logits = self.heads[stage](x).float()
        if self.prior is not None and stage == "coarse":
            with torch.autocast(tokens.device.type, enabled=False):  # it inverts matrices
                logits = logits + self.prior(tokens)
        return soft_cap(logits)


class StageLoss(nn.Module):
    """Cross-entropy of a stage's hidden tokens. Shape: logits (batch, vocabulary), tokens (batch, tokens of the stage),
    weights (batch, tokens of the stage) -> scalar, the mean over rows of weighted sums.
    """

    starts: Tensor
    segment: Tensor
    members: Tensor

    def __init__(self, layout: Layout, stage: Stage) -> None:
        super().__init__()
        places = layout.places(stage)
        self.register_buffer("starts", torch.from_numpy(layout.starts[places]), persistent=False)
        segment = torch.from_numpy(np.repeat(np.arange(len(layout.sizes[places])), layout.sizes[places]))
        self.register_buffer("segment", segment, persistent=False)
        self.dense = len(segment) * len(layout.sizes[places]) <= _DENSE_CELLS
        if self.dense:
            self.register_buffer("members", torch.eye(len(layout.sizes[places]))[segment], persistent=False)

    def forward(self, logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        return self.cells(logits, tokens, weights).sum() / len(tokens)

    def cells(self, logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        """Of each token. Shape: -> (batch, tokens of the stage)."""
        scores = logits.float().exp()
        if self.dense:
            sums = scores @ self.members
        else:
            sums = torch.zeros(tokens.shape, device=scores.device).index_add(1, self.segment, scores)
        chosen = logits.float().gather(1, tokens + self.starts)
        return (sums.log() - chosen) * weights


def hide(eligible: Tensor, generator: torch.Generator, *, alone: bool = False) -> tuple[Tensor, Tensor]:
    """Choose what to hide: for each row a uniform number of tokens, spread evenly over the batch, then which ones.

    With `alone` the number is drawn for each row on its own.

    Shape: eligible (batch, tokens) boolean -> hidden (batch, tokens) boolean, and weights (batch, tokens) that make
    the weighted loss an unbiased estimate of the likelihood bound, per token.
    """
    batch, tokens = eligible.shape
    device = eligible.device
    grid = torch.rand(batch if alone else 1, generator=generator, device=device)
    if not alone:  # low discrepancy: one in each 1/batch
        grid = (torch.arange(batch, device=device) / batch + grid) % 1
    count = (1 + (grid * tokens).long()).clamp(max=tokens)[:, None]
    ranks = torch.rand(batch, tokens, generator=generator, device=device).argsort(1).argsort(1)
    hidden = (ranks < count) & eligible
    return hidden, hidden / count

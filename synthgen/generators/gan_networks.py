"""What do the two networks of the table GAN look like? A maker of rows, and a critic of packs of rows.

The maker gets what is known of a row, and noise, and gives the logits of every token; the critic sees whole rows. Both
know the number behind a token.

Source: Xu et al. 2019 (arXiv:1907.00503) for the conditional maker, Lin et al. 2018 (arXiv:1712.04086) for packs,
Huang et al. 2024 (arXiv:2501.05441) for a critic without normalisation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import Block
from synthgen.generators.layout import Layout
from synthgen.generators.tokens import HIDDEN

_CAP = 15.0  # logits are softly limited, so that exp never overflows and needs no maximum
_WAVES = (1.0, 2.0, 4.0)  # frequencies of the sines of a number's normal quantile
_FEATURES = 2 + 2 * len(_WAVES)


class Vocabulary(nn.Module):
    """The coarse tokens of all columns side by side in one vocabulary: softmax, draws, one-hot rows."""

    starts: Tensor
    ends: Tensor
    owner: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in layout.sizes[: layout.coarse])
        self.tokens, self.values = len(self.sizes), sum(self.sizes)
        ends = torch.tensor(self.sizes).cumsum(0)
        self.register_buffer("starts", ends - torch.tensor(self.sizes), persistent=False)
        self.register_buffer("ends", ends - 1, persistent=False)  # the last value of each token
        owner = torch.arange(self.tokens).repeat_interleave(torch.tensor(self.sizes))
        self.register_buffer("owner", owner, persistent=False)

    def sums(self, x: Tensor) -> Tensor:
        """Sum over the values of each token. Shape: (batch, values) -> (batch, tokens)."""
        running = x.double().cumsum(1)[:, self.ends]
        return torch.diff(running, dim=1, prepend=running.new_zeros(len(x), 1)).to(x.dtype)

    def shares(self, logits: Tensor) -> Tensor:
        """The softmax of each token. Shape: (batch, values) -> same."""
        scores = logits.exp()
        return scores / self.sums(scores)[:, self.owner]

    def draw(self, shares: Tensor, uniform: Tensor) -> Tensor:
        """Draw every token. Shape: shares (batch, values), uniform (batch, tokens) -> (batch, tokens) int64."""
        running = shares.double().cumsum(1)
        last = running[:, self.ends]
        before = torch.cat([last.new_zeros(len(last), 1), last[:, :-1]], 1)
        place = torch.searchsorted(running, before + uniform * (last - before), right=True)
        return place.clamp(self.starts, self.ends) - self.starts

    def one_hot(self, tokens: Tensor) -> Tensor:
        """Shape: (batch, tokens) int64 -> (batch, values) float."""
        return torch.zeros(len(tokens), self.values, device=tokens.device).scatter_(1, tokens + self.starts, 1.0)


class Values(nn.Module):
    """One vector for each value of each token: learned, plus a linear map of the number behind the value.

    Shape: -> (values, width)
    """

    numbers: Tensor
    owner: Tensor

    def __init__(self, codec: TableCodec, layout: Layout, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(int(layout.sizes[: layout.coarse].sum()), width))
        numbers, column = _numbers(codec, layout)
        self.slopes = nn.Parameter(torch.empty(int(column.max(initial=0)) + 1, _FEATURES, width))
        self.register_buffer("numbers", torch.from_numpy(numbers), persistent=False)
        self.register_buffer("owner", torch.from_numpy(column), persistent=False)

    def forward(self) -> Tensor:
        return self.weight + torch.einsum("vf,vfw->vw", self.numbers, self.slopes[self.owner])

    def spread(self) -> Tensor:
        """The numbers in places of their own by column; `weight + spread @ slopes`, slopes flat, is `forward`.

        Shape: -> (values, columns * features)
        """
        features = self.numbers.shape[1]
        spread = self.numbers.new_zeros(len(self.numbers), len(self.slopes), features)
        spread[torch.arange(len(spread), device=spread.device), self.owner] = self.numbers
        return spread.flatten(1)

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Draw the vectors, with entries of about this size."""
        with torch.no_grad():
            self.weight.normal_(0, scale, generator=generator)
            self.slopes.normal_(0, scale * _FEATURES**-0.5, generator=generator)


class Maker(nn.Module):
    """Logits of every coarse token from the known ones and noise; fine tokens follow their coarse one by frequency."""

    fine: Tensor

    def __init__(self, codec: TableCodec, *, width: int, blocks: int, noise: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = Layout.of(codec)
        self.vocabulary, self.noise = Vocabulary(self.layout), noise
        self.known = Values(codec, self.layout, width)
        self.into = nn.Linear(noise + self.vocabulary.tokens, width)
        self.blocks = nn.ModuleList(Block(width, 0.0) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = Values(codec, self.layout, width)
        self.bias = nn.Parameter(torch.zeros(self.vocabulary.values))
        fine = self.layout.sizes[self.layout.coarse :]
        self.register_buffer("fine", torch.zeros(len(fine), self._parents(), int(fine.max(initial=0))))
        _initialise(self, generator)
        self.known.initialise(self.vocabulary.tokens**-0.5, generator)
        self.head.initialise(0.3 * width**-0.5, generator)

    def forward(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """Shape: coarse tokens (batch, tokens) with -1 where hidden, noise (batch, noise) -> (batch, values)."""
        hidden, vectors = tokens == HIDDEN, self.known()
        places = torch.where(hidden, len(vectors), tokens + self.vocabulary.starts)
        known = nn.functional.embedding_bag(
            places, nn.functional.pad(vectors, (0, 0, 0, 1)), mode="sum", padding_idx=len(vectors)
        )
        x = known + self.into(torch.cat([noise, (~hidden).float()], 1))
        for block in self.blocks:
            x = block(x, None)
        return _CAP * torch.tanh((self.norm(x) @ self.head().T + self.bias) / _CAP)

    def start_from(self, tokens: np.ndarray) -> None:
        """Learn what needs no training: log marginals, and fine tokens given their coarse one.

        Shape: tokens of train (rows, tokens), in the order of the layout.
        """
        coarse, shares = self.layout.coarse, []
        for place, size in enumerate(self.vocabulary.sizes):
            counts = np.bincount(tokens[:, place], minlength=size) + 0.1
            shares.append(np.log(counts / counts.sum()))
        fine = np.zeros(tuple(self.fine.shape), dtype=np.float32)
        for i, parent in enumerate(self.layout.parent):
            np.add.at(fine[i], (tokens[:, parent], tokens[:, coarse + i]), 1.0)
        with torch.no_grad():
            self.bias.copy_(torch.from_numpy(np.concatenate(shares)))
            self.fine.copy_(torch.from_numpy(fine / np.maximum(fine.sum(2, keepdims=True), 1.0)))

    def _parents(self) -> int:
        return int(self.layout.sizes[self.layout.parent].max(initial=0))


class Critic(nn.Module):
    """How real a pack of rows looks. Shape: rows (batch, values), known (batch, tokens) -> (batch / pack,)."""

    def __init__(
        self, codec: TableCodec, *, width: int, blocks: int, pack: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        layout = Layout.of(codec)
        self.pack, self.dropout = pack, dropout
        self.values = Values(codec, layout, width)
        self.known = nn.Linear(layout.coarse, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.join = nn.Linear(pack * width, width)
        self.out = nn.Linear(width, 1)
        _initialise(self, generator)
        self.values.initialise((2 * layout.coarse) ** -0.5, generator)

    def forward(self, rows: Tensor, known: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.judged(rows @ self.values(), known, generator)

    def judged(self, x: Tensor, known: Tensor, generator: torch.Generator | None) -> Tensor:
        """From the sum of each row's vectors on. Shape: x (batch, width), known as above -> (batch / pack,)."""
        x = x + self.known(known.float())
        for block in self.blocks:
            x = x + self._dropped(block(_bent(x)), generator)
        x = self._dropped(_bent(x), generator).reshape(len(x) // self.pack, -1)
        score: Tensor = self.out(_bent(self.join(x)))[:, 0]
        return score

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or not self.dropout:
            return x
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
        return x * kept / (1 - self.dropout)


class Players(nn.Module):
    """Both networks in one, for a loop that trains one."""

    def __init__(self, maker: Maker, critic: Critic) -> None:
        super().__init__()
        self.maker, self.critic = maker, critic


def _bent(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu(x, 0.2)


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from the generator: torch's own initialisation uses the global one."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5, generator=generator)
                module.bias.zero_()


def _numbers(codec: TableCodec, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The numbers behind each value of the coarse tokens, and the numeric column that each belongs to.

    Shape: -> (values, features) float32, zeros where there is no number; (values,) int64.
    """
    inputs, place = codec.numeric_inputs, np.argsort(layout.order)
    values = int(layout.sizes[: layout.coarse].sum())
    table, column = np.zeros((values, _FEATURES), dtype=np.float32), np.zeros(values, dtype=np.int64)
    for i, token in enumerate(inputs.coarse):
        size, start = codec.vocabulary[token], int(layout.starts[place[token]])
        rows = inputs.start[i] + np.arange(size) * inputs.stride[i] + inputs.stride[i] - 1
        quantile, value, known = inputs.table[rows].T
        waves = [wave(quantile * frequency) * known for frequency in _WAVES for wave in (np.sin, np.cos)]
        table[start : start + size] = np.stack([quantile, value, *waves], 1)
        column[start : start + size] = i
    return table, column

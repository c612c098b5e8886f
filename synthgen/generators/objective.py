"""What does the masked diffusion minimise? Its loss on a batch of tokens, and on the validation slice.

Source: Austin et al. 2021 (arXiv:2107.03006), the absorbing-state case; Shi et al. 2024 (arXiv:2406.04329) for the
weights.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.denoiser import StageLoss, hide
from synthgen.generators.layout import Layout, Stage
from synthgen.generators.tokens import HIDDEN
from synthgen.rng import Seed

GROUPING_ROWS = 50_000  # at most, to see which places are related
MOST_CORRELATION = 0.003  # squared, summed over the pairs of places that are drawn together
EVALUATION_CELLS = 30_000  # tokens looked at in one evaluation, by repeating small validation slices


class Objective(nn.Module):
    """The loss of a batch, and of the validation slice beside as many train rows, per token."""

    first_bin: Tensor
    parent: Tensor

    def __init__(self, layout: Layout, tokens: Tensor, held: Tensor, seed: Seed, *, bfloat16: bool = False) -> None:
        """`bfloat16`: matrix products of the network in that precision; weights, sums and the loss keep float32."""
        super().__init__()
        self.layout, self.seed, self.tokens, self.low_precision = layout, seed, tokens, bfloat16
        self.losses = nn.ModuleDict({"coarse": StageLoss(layout, "coarse"), "fine": StageLoss(layout, "fine")})
        repeats = max(1, EVALUATION_CELLS // max(1, held.numel()))
        pick = torch.randperm(len(tokens), generator=seed.child("rows").torch())[: len(held)]
        self.slices = [part.repeat(repeats, 1) for part in (held, tokens[pick.to(tokens.device)])]
        first, parent = torch.from_numpy(layout.first_bin), torch.from_numpy(layout.parent)
        self.register_buffer("first_bin", first, persistent=False)
        self.register_buffer("parent", parent, persistent=False)

    def forward(self, network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The two stages share a batch in proportion to their tokens."""
        tokens = self.tokens[rows].long()
        fine = len(self.layout.order) - self.layout.coarse
        split = len(tokens) - len(tokens) * fine // len(self.layout.order)
        split = min(split, len(tokens) - 1) if fine else len(tokens)
        return self._loss(network, tokens[:split], tokens[split:], generator, generator)

    def evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """On fixed masks and without dropout: validation loss, train loss."""
        losses = []
        for rows in self.slices:
            generator = self.seed.child("masks").torch(rows.device.type)
            parts = rows.split(4_096)
            values = [self._loss(network, part.long(), part.long(), generator, None) * len(part) for part in parts]
            losses.append(torch.stack(values).sum() / len(rows))
        return losses[0], losses[1]

    def _loss(
        self, network: nn.Module, first: Tensor, second: Tensor, masks: torch.Generator, dropout: torch.Generator | None
    ) -> Tensor:
        """Nats per token: coarse tokens from the first rows, fine ones from the second."""
        coarse, total = self.layout.coarse, len(self.layout.order)
        hidden, weights = hide(torch.ones_like(first[:, :coarse], dtype=torch.bool), masks)
        seen = torch.cat([first[:, :coarse].masked_fill(hidden, HIDDEN), torch.full_like(first[:, coarse:], HIDDEN)], 1)
        if total > coarse:
            binned = second[:, self.parent] >= self.first_bin
            fine_hidden, fine_weights = hide(binned, masks)
            seen_second = torch.cat([second[:, :coarse], second[:, coarse:].masked_fill(fine_hidden, HIDDEN)], 1)
            seen = torch.cat([seen, seen_second])
        split, fine_logits = len(first), None
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=self.low_precision):
            x = network(seen, dropout)
            logits = network.logits(x[:split], "coarse", seen[:split])  # type: ignore[operator]
            if total > coarse:
                fine_logits = network.logits(x[split:], "fine", seen[split:])  # type: ignore[operator]
        loss: Tensor = self.losses["coarse"](logits, first[:, :coarse], weights) * coarse
        if fine_logits is not None:
            loss = loss + self.losses["fine"](fine_logits, second[:, coarse:], fine_weights) * (total - coarse)
        return loss / total


class RowLoss(nn.Module):
    """The loss of single rows in both stages, with what is hidden drawn beforehand: see `hidden_tokens`."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.layout = network, layout
        self.coarse, self.fine = StageLoss(layout, "coarse"), StageLoss(layout, "fine")

    def forward(self, row: Tensor, hidden: Tensor, weights: Tensor) -> Tensor:
        """Nats per token. Shape: (tokens,) each -> scalar."""
        return self.rows(row[None], hidden[None], weights[None])[0]

    def rows(self, rows: Tensor, hidden: Tensor, weights: Tensor) -> Tensor:
        """Nats per token of each row. Shape: (rows, tokens) each, as `hidden_tokens` gives them -> (rows,)."""
        coarse, total = self.layout.coarse, len(self.layout.order)
        known, later = rows[:, :coarse], rows[:, coarse:]
        first = torch.cat([known.masked_fill(hidden[:, :coarse], HIDDEN), torch.full_like(later, HIDDEN)], 1)
        second = torch.cat([known, later.masked_fill(hidden[:, coarse:], HIDDEN)], 1)
        seen = torch.cat([first, second])
        x = self.network(seen)
        logits = self.network.logits(x[: len(rows)], "coarse", first)  # type: ignore[operator]
        loss: Tensor = self.coarse.cells(logits, known, weights[:, :coarse]).sum(1) * coarse
        if total > coarse:
            logits = self.network.logits(x[len(rows) :], "fine", second)  # type: ignore[operator]
            loss = loss + self.fine.cells(logits, later, weights[:, coarse:]).sum(1) * (total - coarse)
        return loss / total


def hidden_tokens(tokens: Tensor, layout: Layout, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What is hidden in each row, drawn for each row alone: of its coarse tokens, and apart from that of its fine ones.

    Shape: tokens (rows, tokens) -> tokens int64, hidden boolean and weights, all (rows, tokens).
    """
    tokens, coarse = tokens.long(), layout.coarse
    parent, first_bin = (torch.from_numpy(a).to(tokens.device) for a in (layout.parent, layout.first_bin))
    parts = [hide(torch.ones_like(tokens[:, :coarse], dtype=torch.bool), generator, alone=True)]
    parts.append(hide(tokens[:, parent] >= first_bin, generator, alone=True))
    hidden, weights = (torch.cat(pair, 1) for pair in zip(*parts, strict=True))
    return tokens, hidden, weights


def marginals(tokens: Tensor, layout: Layout) -> dict[Stage, np.ndarray]:
    """Smoothed shares of each value of each token, in the order of the logits."""
    values = tokens.cpu().numpy()
    shares = []
    for place, size in enumerate(layout.sizes):
        counts = np.bincount(values[:, place], minlength=size) + 0.1
        shares.append((counts / counts.sum()).astype(np.float32))
    empty = np.zeros(0, dtype=np.float32)
    return {
        "coarse": np.concatenate(shares[: layout.coarse]),
        "fine": np.concatenate([empty, *shares[layout.coarse :]]),
    }


def groups(tokens: Tensor, layout: Layout) -> np.ndarray:
    """Which places a sampler draws together: fine ones whose sub-bins are hardly correlated, given all bins.

    Coarse places are drawn one by one. Small mutual information would not do: given a third column two may depend on
    each other strongly, as two drugs do when a therapy was changed.

    Shape: tokens (rows, tokens) -> (tokens,) int64, the number of each place's group.
    """
    values, coarse = tokens[:GROUPING_ROWS].cpu().numpy().astype(np.int64), layout.coarse
    related = _correlations(values[:, coarse:]) ** 2
    members: list[list[int]] = []
    for place in np.argsort(-related.sum(1), kind="stable").tolist():
        together = ((group, np.ix_([*group, place], [*group, place])) for group in members)
        group = next((group for group, pairs in together if related[pairs].sum() / 2 < MOST_CORRELATION), None)
        if group is None:
            members.append(group := [])
        group.append(place)
    found = np.arange(len(layout.order))
    for group in members:
        found[coarse + np.array(group)] = coarse + min(group)
    return found


def _correlations(values: np.ndarray) -> np.ndarray:
    """Of each pair of fine places, over the rows where both have a sub-bin. Shape: -> (places, places)."""
    places = values.shape[1]
    found = np.zeros((places, places))
    for a, b in itertools.combinations(range(places), 2):
        x, y = values[(values[:, a] > 0) & (values[:, b] > 0)][:, [a, b]].T
        if len(x) > 2 and x.std() > 0 and y.std() > 0:
            found[a, b] = found[b, a] = np.corrcoef(x, y)[0, 1]
    return found

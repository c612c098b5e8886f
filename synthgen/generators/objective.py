"""What does the masked diffusion minimise? Its loss on a batch of tokens, and on the validation slice.

Source: Austin et al. 2021 (arXiv:2107.03006), the absorbing-state case; Shi et al. 2024 (arXiv:2406.04329) for the
weights.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.denoiser import Layout, Stage, StageLoss, hide
from synthgen.generators.tabular import HIDDEN
from synthgen.rng import Seed

GROUPING_ROWS = 50_000  # at most, to see which places are related
MOST_INFORMATION, MOST_CORRELATION = 0.005, 0.05  # of places that are drawn together: nats, and a correlation
EVALUATION_CELLS = 30_000  # tokens looked at in one evaluation, by repeating small validation slices


class Objective(nn.Module):
    """The loss of a batch, and of the validation slice beside as many train rows, per token."""

    first_bin: Tensor
    parent: Tensor

    def __init__(self, layout: Layout, tokens: Tensor, held: Tensor, seed: Seed) -> None:
        super().__init__()
        self.layout, self.seed, self.tokens = layout, seed, tokens
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
        x = network(seen, dropout)
        loss = self._stage(network, "coarse", x[: len(first)], first[:, :coarse], weights) * coarse
        if total > coarse:
            loss = loss + self._stage(network, "fine", x[len(first) :], second[:, coarse:], fine_weights) * (
                total - coarse
            )
        return loss / total

    def _stage(self, network: nn.Module, stage: Stage, x: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        value: Tensor = self.losses[stage](network.logits(x, stage), tokens, weights)  # type: ignore[operator]
        return value


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
    """Which places a sampler draws together, given all that is known: those that say next to nothing of each other.

    Coarse places by their mutual information, fine ones by the correlation of sub-bins inside their bins, each below a
    limit for every pair of a group. Shape: tokens (rows, tokens) -> (tokens,) int64, the number of each place's group.
    """
    values = tokens[:GROUPING_ROWS].cpu().numpy().astype(np.int64)
    coarse, total = layout.coarse, len(layout.order)
    related = np.zeros((total, total))
    related[:coarse, :coarse] = _information(values[:, :coarse], layout.sizes[:coarse]) / MOST_INFORMATION
    related[coarse:, coarse:] = np.abs(_correlations(values[:, coarse:])) / MOST_CORRELATION
    found = np.full(total, -1, dtype=np.int64)
    for stage in (range(coarse), range(coarse, total)):
        members: list[list[int]] = []
        for place in sorted(stage, key=lambda p: -related[p].sum()):
            free = (group for group in members if related[place, group].max() < 1)
            group = next(free, None)
            if group is None:
                members.append(group := [])
            group.append(place)
        for group in members:
            found[group] = min(group)
    return found


def _information(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mutual information of pairs in nats, less what chance gives unrelated places. Shape: -> (places, places)."""
    rows, places = values.shape
    found = np.zeros((places, places))
    for a, b in itertools.combinations(range(places), 2):
        joint = np.bincount(values[:, a] * sizes[b] + values[:, b], minlength=sizes[a] * sizes[b])
        joint = joint.reshape(sizes[a], sizes[b]) / rows
        of_a, of_b = joint.sum(1), joint.sum(0)
        seen = joint > 0
        information = (joint[seen] * np.log(joint[seen] / np.outer(of_a, of_b)[seen])).sum()
        chance = (np.count_nonzero(of_a) - 1) * (np.count_nonzero(of_b) - 1) / (2 * rows)
        found[a, b] = found[b, a] = information - chance
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

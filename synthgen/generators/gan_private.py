"""How does the table GAN learn with differential privacy? The critic by DP-SGD, the maker from the critic alone.

Only the critic sees patients. The loss of one patient is the critic's whole game for that row: the row, a made row that
shares its known tokens, and the penalty at both; its gradient is cut as one. The maker never sees them: what is known
of the rows that it completes are tokens of rows that it made itself, so that all it learns follows from the critic.
Joint tables of real rows, and drawing real rows by their levels, would look at the data again, and are left out.

Source: Xie et al. 2018 (arXiv:1802.06739) for private critics; Bie et al. 2023 (arXiv:2302.02936) for several of their
steps to each of the maker's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthgen.generators.gan_networks import Critic, Maker, Players
from synthgen.generators.gan_sampling import fill_coarse
from synthgen.generators.tokens import HIDDEN
from synthgen.generators.training import Recipe, learning_rate
from synthgen.rng import Seed

CRITIC_STEPS = 4  # to each step of the maker
_ROWS = 512  # of the maker in a step
_PASSES = 4  # in which the maker makes the rows that it then completes
_DECAY = 0.99  # of the averaged weights


class CriticLoss(nn.Module):
    """The critic's loss on one patient. Its trained weights are the critic's.

    Shape: rows (2, values), the real one before the made one, known (tokens,) -> scalar.
    """

    spread: Tensor

    def __init__(self, critic: Critic, *, penalty: float) -> None:
        super().__init__()
        self.critic, self.penalty = critic, penalty
        self.register_buffer("spread", critic.values.spread(), persistent=False)

    def forward(self, rows: Tensor, known: Tensor) -> Tensor:
        values, both = self.critic.values, known.repeat(2, 1)
        vectors = values.weight + self.spread @ values.slopes.flatten(0, 1)  # as they are, with smaller gradients
        x = rows @ vectors
        scores = self.critic.judged(x, both, None)
        loss: Tensor = nn.functional.softplus(scores[1] - scores[0])
        if self.penalty:
            slope = torch.func.grad(lambda x: self.critic.judged(x, both, None).sum())(x) @ vectors.T
            loss = loss + self.penalty / 2 * slope.square().sum()
        return loss


def pairs(maker: Maker, real: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row beside one that the maker made from its known tokens; nothing is shared between patients.

    Shape: (rows, tokens) -> (rows, 2, values) and known (rows, tokens) boolean.
    """
    real = real.long()
    with torch.no_grad():
        known = known_tokens(real, generator)
        made, _ = _completed(maker, real, known, generator)
        one_hot = maker.vocabulary.one_hot
        return torch.stack([one_hot(real), one_hot(made)], 1), known


def known_tokens(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Which tokens are known: none to all but one, drawn for each row alone. Shape: (rows, tokens) -> boolean."""
    tokens = rows.shape[1]
    ranks = torch.rand(rows.shape, generator=generator, device=rows.device).argsort(1).argsort(1)
    count = (torch.rand(len(rows), 1, generator=generator, device=rows.device) * tokens).long()
    return ranks < count.clamp(max=tokens - 1)


class MakerSteps:
    """The maker's side: a step after every few of the critic's, and its averaged weights."""

    def __init__(self, players: Players, *, steps: int, recipe: Recipe, seed: Seed) -> None:
        self.maker, self.critic, self.batch, self.recipe, self.seed = players.maker, players.critic, _ROWS, recipe, seed
        self.steps, self.weights = steps, list(players.maker.parameters())
        self.averages = [p.detach().clone() for p in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=recipe.learning_rate, weight_decay=0.0, betas=recipe.betas)

    def __call__(self, step: int) -> None:
        """After step `step` of the critic."""
        if (step + 1) % CRITIC_STEPS:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps, self.recipe)
        self.optimizer.zero_grad()
        self.loss(self.seed.child("step", str(step)).torch()).backward()
        self.optimizer.step()
        decay = min(_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.weights], 1 - decay)

    def loss(self, generator: torch.Generator) -> Tensor:
        """Its gradient raises the critic's score of rows completed from known tokens; no patient's row is needed."""
        maker, vocabulary = self.maker, self.maker.vocabulary
        hidden = torch.full((self.batch, vocabulary.tokens), HIDDEN, device=maker.bias.device)
        with torch.no_grad():
            rows = fill_coarse(maker, hidden, passes=_PASSES, generator=generator)
        known = known_tokens(rows, generator)
        made, logits = _completed(maker, rows, known, generator)
        one_hot = vocabulary.one_hot(made).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(one_hot, known, None).sum(), one_hot)
        shares = vocabulary.shares(logits.detach())
        wanted = -slope / self.batch * (~known)[:, vocabulary.owner]
        through = shares * (wanted - vocabulary.sums(shares * wanted)[:, vocabulary.owner])  # of the softmax
        return (logits * through).sum()

    def finish(self) -> None:
        """Leave the averaged weights in the maker."""
        with torch.no_grad():
            torch._foreach_copy_([p.detach() for p in self.weights], self.averages)


def _completed(maker: Maker, rows: Tensor, known: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows with their unknown tokens drawn anew, and the logits they were drawn by."""
    noise = torch.randn(len(rows), maker.noise, generator=generator, device=rows.device)
    logits = maker(torch.where(known, rows, HIDDEN), noise)
    uniform = torch.rand(rows.shape, generator=generator, device=rows.device)
    drawn = maker.vocabulary.draw(maker.vocabulary.shares(logits.detach()), uniform)
    return torch.where(known, rows, drawn), logits

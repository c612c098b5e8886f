"""What do maker and critic of the table GAN minimise? And by which figure is the best maker chosen?

Every real row is paired with a made one that shares its known tokens, and the critic says which of the two is more
real (relativistic loss, with a penalty on its gradient at both: R1 and R2). Which columns are known is drawn anew for
each row, from none to all but one; a share of the rows is drawn by one level of one column, by its log frequency.

Beside the critic's word, the maker is led by the joint tables of all pairs of tokens in the batch, real and made.

Both players move in one step. The maker's gradient needs no second pass through the critic: the critic's gradient at
the made rows, needed for the penalty, is its direction; drawn tokens pass it on straight through to their softmax.

Source: Huang et al. 2024 (arXiv:2501.05441), equations 2 to 4; Xu et al. 2019 (arXiv:1907.00503) section 4.3 for
training by sampling; Jang et al. 2017 (arXiv:1611.01144) section 2.2, straight-through; Salimans et al. 2016
(arXiv:1606.03498) section 3.1, feature matching, with pairs as the features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.gan_networks import Players, Vocabulary
from synthgen.generators.gan_sampling import fill_coarse
from synthgen.generators.tokens import HIDDEN
from synthgen.rng import Seed

EVALUATION_ROWS = 4_000  # made for one evaluation
_GROUPS = 10  # of the values of a token, about as large as each other, in the evaluation
_PAIRED = 100  # tokens at most whose pairs are looked at


class GanObjective(nn.Module):
    """The loss of a batch, and the pair error of made rows against the validation slice and as many train rows."""

    order: Tensor
    counts: Tensor
    first: Tensor
    level_shares: Tensor

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokens: Tensor,
        held: Tensor,
        seed: Seed,
        *,
        penalty: float,
        matching: float,
        balanced: float,
        passes: int,
    ) -> None:
        super().__init__()
        self.vocabulary, self.tokens, self.seed = vocabulary, tokens, seed
        self.penalty, self.matching, self.balanced, self.passes = penalty, matching, balanced, passes
        counts = torch.bincount((tokens.long() + vocabulary.starts).flatten(), minlength=vocabulary.values)
        log_counts = counts.float().log1p()[None]
        self.register_buffer("order", tokens.argsort(dim=0, stable=True), persistent=False)  # rows by value
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("first", (counts.cumsum(0) - counts) % len(tokens), persistent=False)
        shares = log_counts / vocabulary.sums(log_counts)[:, vocabulary.owner]
        self.register_buffer("level_shares", shares, persistent=False)
        self.pairs = PairError(vocabulary, tokens, seed.child("pairs"))
        pick = torch.randperm(len(tokens), generator=seed.child("rows").torch())[: len(held)].to(tokens.device)
        self.slices = [self.pairs.table(part.long()) for part in (held, tokens[pick])]

    def forward(self, players: Players, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One step's loss of both players; the gradient of each reaches its own weights only."""
        maker, critic, vocabulary = players.maker, players.critic, self.vocabulary
        packs = len(rows) // critic.pack
        rows, known = self.choose(rows[: packs * critic.pack], generator)
        real = self.tokens[rows].long()
        noise = torch.randn(len(real), maker.noise, generator=generator, device=real.device)
        logits = maker(torch.where(known, real, HIDDEN), noise)
        shares = vocabulary.shares(logits.detach())
        uniform = torch.rand(real.shape, generator=generator, device=real.device)
        made = torch.where(known, real, vocabulary.draw(shares, uniform))
        both = vocabulary.one_hot(torch.cat([real, made])).requires_grad_()
        scores = critic(both, known.repeat(2, 1), generator)
        (slope,) = torch.autograd.grad(scores.sum(), both, create_graph=True)
        margin = scores[:packs] - scores[packs:]
        critic_loss = nn.functional.softplus(-margin).mean() + self.penalty / 2 * slope.square().sum() / packs
        push = torch.sigmoid(margin.detach()).repeat_interleave(critic.pack)[:, None] / packs
        hidden = (~known)[:, vocabulary.owner]
        wanted = self._matched(both.detach(), hidden) - push * slope[len(real) :].detach()
        wanted = wanted * hidden
        through = shares * (wanted - vocabulary.sums(shares * wanted)[:, vocabulary.owner])  # of the softmax
        value: Tensor = critic_loss + (logits * through).sum()
        return value

    def _matched(self, both: Tensor, hidden: Tensor) -> Tensor:
        """The gradient, by made rows, of the squared difference of the joint tables of token pairs in the batch.

        Pairs of a known and a hidden token are counted apart from pairs of two hidden ones: in one table, too strong a
        relation there would make up for too weak a relation here.

        Shape: both (2 * batch, values), real rows before made ones, hidden (batch, values) -> (batch, values).
        """
        real, made = (both * hidden.repeat(2, 1)).chunk(2)
        known = both[: len(real)] * ~hidden
        across, within = known.T @ (made - real), made.T @ made - real.T @ real
        scale = 4 * self.matching / len(real) ** 2 / self.vocabulary.tokens
        return (known @ across + made @ within) * scale

    def choose(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which rows a batch holds, and which tokens are known: none to all but one, spread evenly over the batch.

        Shape: rows (batch,) -> rows (batch,), known (batch, tokens) boolean.
        """
        batch, tokens, device = len(rows), self.vocabulary.tokens, rows.device
        ranks = torch.rand(batch, tokens, generator=generator, device=device).argsort(1).argsort(1)
        grid = torch.arange(batch, device=device) / batch + torch.rand(1, generator=generator, device=device)
        count = (grid % 1 * tokens).long().clamp(max=tokens - 1)[:, None]
        by_level = torch.rand(batch, generator=generator, device=device) < (self.balanced if tokens > 1 else 0.0)
        column = ranks.argmin(1)  # the first to be known, or the only one
        uniform = torch.rand(batch, tokens, generator=generator, device=device)
        levels = self.vocabulary.draw(self.level_shares.expand(batch, -1), uniform) + self.vocabulary.starts
        level = levels.gather(1, column[:, None])[:, 0]
        nth = torch.rand(batch, generator=generator, device=device, dtype=torch.float64) * self.counts[level]
        other = self.order[self.first[level] + nth.long(), column]
        return torch.where(by_level, other, rows), ranks < torch.maximum(count, by_level[:, None].long())

    def evaluate(self, players: nn.Module) -> tuple[Tensor, Tensor]:
        """Pair error of the same made rows against the validation slice, and against train rows."""
        maker, made = players.maker, []
        device = self.tokens.device
        for number in range(EVALUATION_ROWS // 1_000):
            hidden = torch.full((1_000, self.vocabulary.tokens), HIDDEN, device=device)
            generator = self.seed.child("noise", str(number)).torch()
            made.append(fill_coarse(maker, hidden, passes=self.passes, generator=generator))  # type: ignore[arg-type]
        table = self.pairs.table(torch.cat(made))
        return self.pairs.error(table, self.slices[0]), self.pairs.error(table, self.slices[1])


class PairError(nn.Module):
    """The mean total variation between the joint tables of two token pairs, values taken in groups."""

    group: Tensor
    chosen: Tensor

    def __init__(self, vocabulary: Vocabulary, tokens: Tensor, seed: Seed) -> None:
        super().__init__()
        self.vocabulary, self.groups = vocabulary, 0
        chosen = torch.randperm(vocabulary.tokens, generator=seed.torch())[:_PAIRED].sort().values
        self.register_buffer("chosen", chosen.to(tokens.device), persistent=False)
        groups = []
        for place, size in enumerate(vocabulary.sizes):
            counts = np.bincount(tokens[:, place].cpu().numpy(), minlength=size)
            middle = (counts.cumsum() - counts / 2) / counts.sum()
            own = np.arange(size) if size <= _GROUPS else np.minimum((middle * _GROUPS).astype(int), _GROUPS - 1)
            groups.append(own + self.groups)
            self.groups += int(own.max()) + 1
        self.register_buffer("group", torch.from_numpy(np.concatenate(groups)).to(tokens.device), persistent=False)

    def table(self, tokens: Tensor) -> Tensor:
        """Shares of all pairs of groups. Shape: (rows, tokens) int64 -> (groups, groups)."""
        grouped = self.group[tokens + self.vocabulary.starts][:, self.chosen]
        rows = torch.zeros(len(tokens), self.groups, device=tokens.device).scatter_(1, grouped, 1.0)
        return rows.T @ rows / max(len(rows), 1)

    def error(self, left: Tensor, right: Tensor) -> Tensor:
        """Shape: two tables -> scalar."""
        return (left - right).abs().sum() / 2 / len(self.chosen) ** 2

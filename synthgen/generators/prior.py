"""What does a Gaussian copula say about the tokens that a network has yet to guess?

A few hundred patients teach a network no correlations that a matrix of them does not hold better. So the network of a
small cohort starts from the copula's conditional distributions and learns what these lack.

A known value tells that a normal variable lies in an interval. Taken as a noisy observation of the variable, with the
interval's mean as best guess, it gives all hidden variables a joint normal distribution in closed form. The one known
variable whose place within its interval matters most for a hidden one is then integrated over that interval: so a
single known value gives the copula's conditional exactly, and what follows from a value for certain stays certain.

Source: Nelsen, An Introduction to Copulas, 2006; Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, equations 2.22 to 2.24 for the conditional and 3.56 for the distribution without one observation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from synthgen.generators.codec import TableCodec
from synthgen.generators.gaussian import step_means
from synthgen.generators.latents import Latents, fit_correlation, fit_latents
from synthgen.generators.layout import Layout
from synthgen.generators.tokens import HIDDEN, MISSING

SMALLEST = 1e-5  # variance that the known values leave open
FLOOR = 1e-5  # share of the marginal that stays possible whatever is known
NODES = 8  # of equal probability, for the integral over one interval


class GaussianPrior(nn.Module):
    """Log ratios of the copula's conditional to its marginal probability, for each value of each coarse token.

    Shape: tokens (batch, tokens), HIDDEN where unknown -> (batch, values of the coarse tokens); what it says about
    known tokens has no meaning.
    """

    correlation: Tensor
    noise: Tensor
    cuts: Tensor
    cut_axis: Tensor
    axis: Tensor
    ends: Tensor
    guess: Tensor
    starts: Tensor

    def __init__(self, layout: Layout, axes: int, cuts: int) -> None:
        """An empty one: axes as many as coarse tokens, and one for each that may be missing; cuts on all of them."""
        super().__init__()
        self.axes, self.columns = axes, layout.coarse
        self.stops = np.cumsum(layout.sizes[: layout.coarse]).tolist()
        values = self.stops[-1] if self.stops else 0
        self.register_buffer("starts", torch.from_numpy(layout.starts[: layout.coarse]), persistent=False)
        self.register_buffer("correlation", torch.eye(axes))
        self.register_buffer("noise", torch.ones(axes))  # variance of a guess around the variable it is for
        # a value lies in an interval of its column's axis, and of the axis of being missing; number `axes`: of neither
        self.register_buffer("axis", torch.full((2, values), axes))
        self.register_buffer("guess", torch.zeros(2, values))
        self.register_buffer("ends", torch.tensor([0, cuts - 1])[:, None, None].repeat(1, 2, values))  # in `cuts`
        self.register_buffer("cuts", torch.zeros(cuts))
        self.register_buffer("cut_axis", torch.zeros(cuts, dtype=torch.int64))

    @classmethod
    def fit(cls, codec: TableCodec, layout: Layout, rows: Tensor) -> GaussianPrior:
        """The copula of rows of tokens. Shape: rows (rows, tokens), in the layout's order."""
        tokens = rows.cpu().numpy()[:, np.argsort(layout.order)]
        latents, correlation = fit_correlation(codec, fit_latents(codec, tokens, coarse=True), tokens)
        prior = cls(layout, len(correlation), 2 + sum(len(ends) - 2 for ends in latents.cuts))
        prior.correlation.copy_(torch.from_numpy(correlation))
        prior._lay_out(latents)
        return prior

    @classmethod
    def like(cls, layout: Layout, tensors: Mapping[str, np.ndarray]) -> GaussianPrior:
        """An empty one, of the size of one that was saved."""
        return cls(layout, len(tensors["prior.correlation"]), len(tensors["prior.cuts"]))

    def _lay_out(self, latents: Latents) -> None:
        """Write down where each value lies.

        With means s of the intervals, whose variance is V, the best guess of z is s, as if z + noise = s / V had been
        observed with a noise of variance 1 / V - 1.
        """

        def put(kind: int, value: int, axis: int, interval: int) -> None:
            self.axis[kind, value] = axis
            self.ends[:, kind, value] = torch.tensor(numbers[axis][interval : interval + 2])
            self.guess[kind, value] = float(means[axis][interval] / explained[axis])

        means = [step_means(ends) for ends in latents.cuts]
        explained = [
            float(np.clip(np.diff(ndtr(ends)) @ mean**2, 1e-6, 1 - 1e-4))
            for ends, mean in zip(latents.cuts, means, strict=True)
        ]
        self.noise.copy_(1 / torch.tensor(explained) - 1)
        inner = [ends[1:-1] for ends in latents.cuts]  # between the two ends that all axes share
        self.cuts.copy_(torch.from_numpy(np.concatenate([[-np.inf], *inner, [np.inf]])))
        self.cut_axis[1:-1] = torch.from_numpy(np.repeat(np.arange(len(inner)), [len(part) for part in inner]))
        before = np.cumsum([1, *map(len, inner)]).tolist()
        numbers = [[0, *range(start, stop), len(self.cuts) - 1] for start, stop in itertools.pairwise(before)]
        starts = self.starts.tolist()
        for column, marginal in enumerate(latents.values):
            if latents.missing[column] < 1:
                for interval, token in enumerate(marginal.tokens[:, 0].tolist()):
                    put(0, starts[column] + token, column, interval)
        for axis, column in enumerate(latents.sometimes.tolist(), start=len(latents.values)):
            for value in range(starts[column], self.stops[column]):
                put(1, value, axis, int(value - starts[column] == MISSING))

    def forward(self, tokens: Tensor) -> Tensor:
        return self._log_ratio(*self._predicted(tokens), slice(None))

    def of(self, tokens: Tensor, place: int) -> Tensor:
        """For the values of one coarse place. Shape: tokens (batch, tokens) -> (batch, size)."""
        return self._log_ratio(*self._predicted(tokens), slice(int(self.starts[place]), self.stops[place]))

    def _predicted(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and spread of every hidden axis, given what is known. Shape: (batch, axes, NODES), (batch, axes)."""
        coarse = tokens[:, : self.columns]
        values, known = coarse.clamp(min=0) + self.starts, (coarse != HIDDEN).float()
        guess = known.new_zeros(len(known), self.axes + 1)
        seen, low, high = torch.zeros_like(guess), torch.zeros_like(guess), torch.zeros_like(guess)
        for kind in (0, 1):
            axis = self.axis[kind][values]
            seen.scatter_(1, axis, known)
            guess.scatter_(1, axis, self.guess[kind][values] * known)
            low.scatter_(1, axis, self.cuts[self.ends[0, kind]][values])
            high.scatter_(1, axis, self.cuts[self.ends[1, kind]][values])
        seen, guess, low, high = (part[:, : self.axes] for part in (seen, guess, low, high))
        patterns, which = torch.unique(seen, dim=0, return_inverse=True)  # when sampling: few
        weights, covariance = self._conditional(patterns)
        one = len(patterns) == 1
        mean = guess @ weights[0].T if one else torch.bmm(weights[which], guess[:, :, None])[:, :, 0]
        variance = covariance.diagonal(dim1=1, dim2=2).clamp(min=SMALLEST)
        explains = covariance**2 / variance[:, None, :] * patterns[:, None, :]
        gain, partner = explains.max(dim=2)  # (patterns, axes)
        slope = covariance.gather(2, partner[:, :, None])[:, :, 0] / variance.gather(1, partner) * (gain > 0)
        spread = (variance - gain).clamp(min=SMALLEST).sqrt()
        inside = _inside(mean, variance[which], guess, self.noise, low, high) * seen[:, :, None]
        moved = (inside - mean[:, :, None]).gather(1, partner[which][:, :, None].expand(-1, -1, NODES))
        return mean[:, :, None] + slope[which][:, :, None] * moved, spread[which]

    def _conditional(self, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """For each set of known axes how guesses weigh in the means of all axes, and what covariance is left.

        Shape: patterns (patterns, axes) of 0 and 1 -> (patterns, axes, axes) twice.
        """
        among = (self.correlation + torch.diag(self.noise)) * patterns[:, :, None] * patterns[:, None, :]
        towards = self.correlation * patterns[:, :, None]
        root = torch.linalg.cholesky(among + torch.diag_embed(1 - patterns))
        weights = torch.cholesky_solve(towards, root)
        return weights.mT, self.correlation - towards.mT @ weights

    def _log_ratio(self, nodes: Tensor, spread: Tensor, values: slice) -> Tensor:
        numbers, ends = torch.unique(self.ends[:, :, values], return_inverse=True)
        cuts, axis = self.cuts[numbers], self.cut_axis[numbers]
        at = nodes.index_select(1, axis)
        below = _ndtr((cuts[:, None] - at) / spread.index_select(1, axis)[:, :, None]).mean(2)
        given, before = below[:, ends[1]] - below[:, ends[0]], _ndtr(cuts)[ends[1]] - _ndtr(cuts)[ends[0]]
        return (given / before.clamp(min=1e-9) * (1 - FLOOR) + FLOOR).log().sum(1)


def _ndtr(x: Tensor) -> Tensor:
    """The normal distribution function, four times faster than torch's, which keeps more digits in the tails."""
    return torch.erf(x * 0.5**0.5) * 0.5 + 0.5


def _inside(mean: Tensor, variance: Tensor, guess: Tensor, noise: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Nodes of equal probability of each known axis within its interval, given the other known axes.

    Their normal distribution is that of all, less the observation of the axis itself; then the interval cuts it.

    Shape: (batch, axes) each, noise (axes,) -> (batch, axes, NODES).
    """
    precision = (1 / variance - 1 / noise).clamp(min=1.0)
    centre, width = (mean / variance - guess / noise) / precision, precision.rsqrt()
    below, above = torch.special.ndtr((low - centre) / width), torch.special.ndtr((high - centre) / width)
    part = (torch.arange(NODES, device=mean.device) + 0.5) / NODES
    share = (below[:, :, None] + part * (above - below)[:, :, None]).clamp(1e-6, 1 - 1e-6)
    nodes = centre[:, :, None] + width[:, :, None] * torch.special.ndtri(share)
    return torch.minimum(torch.maximum(nodes, low[:, :, None]), high[:, :, None])

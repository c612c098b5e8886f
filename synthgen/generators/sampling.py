"""How are the hidden tokens of new rows filled? Chunk by chunk, a place or a few at a time for all rows of a chunk.

The first layer of the network is a sum over tokens, so each row keeps its sum and a drawn token only changes it: what
is left to compute for a draw are the blocks and the logits of one token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.generators.chunks import in_chunks
from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import Denoiser, SmoothHead, soft_cap
from synthgen.generators.layout import Layout
from synthgen.generators.tokens import HIDDEN, MISSING
from synthgen.protocols import Run
from synthgen.rng import Seed

Mask = Callable[[Tensor], Tensor]  # rows (rows, tokens), HIDDEN where not known -> (rows, values) boolean
CHUNKS = 16  # at least, each with an order of its own: what one order does worse than another averages out
FEWEST, MOST = 256, 2_048  # rows of a chunk
_BELOW_ONE = 1 - 1e-6  # a uniform number times a total must stay below the total, in single precision too


def sample_tokens(
    network: Denoiser,
    codec: TableCodec,
    clamped: np.ndarray,
    *,
    seed: Seed,
    run: Run,
    never_missing: np.ndarray | None = None,
) -> np.ndarray:
    """Fill the hidden tokens: chunk by chunk, each in its own random column order, coarse tokens before fine ones.

    Shape: clamped (rows, tokens) in the codec's order, -1 where hidden -> (rows, tokens) without hidden ones;
    never_missing (tokens,) boolean: where a hidden token may not come out missing.
    """
    layout, laid = network.layout, _Laid.out(network)
    allowed = [_allowed(codec, token) for token in range(len(codec.owner))]
    for token in () if never_missing is None else np.flatnonzero(never_missing):
        allowed[token][MISSING] = False  # of a fine token: beside a missing coarse one, where it is not drawn
    allowed = [allowed[token] for token in layout.order]
    ruled = rule_masks(codec, layout)
    place = np.argsort(layout.order)

    def fill(number: int, part: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(part[:, layout.order].astype(np.int64))
        return _fill(laid, rows, allowed, ruled, seed.child("chunk", str(number))).numpy()[:, place]

    size = int(np.clip(len(clamped) // CHUNKS, FEWEST, MOST))
    return in_chunks(fill, clamped, size=size, device=network.embed.weight.device, run=run)


def _allowed(codec: TableCodec, token: int) -> Tensor:
    """Which values may be drawn. Shape: -> (size,) boolean; of a fine token (coarse size, size), by its coarse one."""
    coarse = codec.fine_of[token]
    if coarse < 0:
        return torch.from_numpy(codec.emittable[token].copy())
    values = np.arange(codec.vocabulary[token])
    return torch.from_numpy((values > 0) & (values <= codec.fine_counts[token][:, None]))


def rule_masks(codec: TableCodec, layout: Layout) -> dict[int, Mask]:
    """For each place of which rules speak, what they allow there beside the other tokens of a row."""
    place = np.argsort(layout.order)
    places = {n: int(place[codec.tokens_of(n)[0]]) for component in codec.legal.components for n in component.names}

    def mask(name: str, names: tuple[str, ...]) -> Mask:
        def allowed(rows: Tensor) -> Tensor:
            known = {other: rows[:, places[other]].cpu().numpy() for other in names}
            return torch.from_numpy(codec.legal.allowed(name, known)).to(rows.device)

        return allowed

    return {places[n]: mask(n, component.names) for component in codec.legal.components for n in component.names}


@dataclass(frozen=True, eq=False)
class _Laid:
    """A network laid out for sampling."""

    network: Denoiser
    embedded: Tensor  # (values of all tokens, width): what each adds to the first layer
    numbers: Tensor  # (numeric columns, features, width): what features add to it
    numeric: dict[int, int]  # place -> its numeric column
    heads: list[tuple[Tensor, Tensor]]  # for each place the weight (size, width) and bias (size,) of its logits

    @staticmethod
    def out(network: Denoiser) -> _Laid:
        layout, into = network.layout, network.into.weight
        tokens, width = len(layout.order), network.embed.embedding_dim
        sizes = (layout.sizes + 1).tolist()
        parts = (network.embed.weight * network.scale).split(sizes)
        weights = into[:, : tokens * width].split(width, dim=1)
        embedded = torch.cat([part @ weight.T for part, weight in zip(parts, weights, strict=True)])
        columns = network.numbers.columns
        numbers = into[:, tokens * width :].T.reshape(columns, -1, len(into)) if columns else into.new_zeros(0, 0, 0)
        coarse, fine = network.numbers.coarse.tolist(), network.numbers.fine.tolist()
        numeric = {place: c for places in (coarse, fine) for c, place in enumerate(places)}
        places = zip(layout.starts.tolist(), layout.sizes.tolist(), strict=True)
        stage_of = ["coarse"] * layout.coarse + ["fine"] * (tokens - layout.coarse)
        cut = [(slice(s, s + z), stage) for (s, z), stage in zip(places, stage_of, strict=True)]
        dense = {stage: _dense(head) for stage, head in network.heads.items()}
        heads = [(dense[stage][0][rows], dense[stage][1][rows]) for rows, stage in cut]
        return _Laid(network, embedded, numbers, numeric, heads)

    def replace(self, sums: Tensor, rows: Tensor, places: list[int], drawn: Tensor) -> None:
        """Write drawn tokens into the rows and their difference into the sums. Shape: drawn (rows, places)."""
        network = self.network
        columns = sorted({self.numeric[place] for place in places if place in self.numeric})
        before = network.numbers(rows, columns) if columns else None
        for number, place in enumerate(places):
            offset = network.offsets[place]
            was = torch.where(rows[:, place] == HIDDEN, network.hidden_token[place], rows[:, place]) + offset
            sums += self.embedded[drawn[:, number] + offset] - self.embedded[was]
            rows[:, place] = drawn[:, number]
        if before is not None:
            sums += (network.numbers(rows, columns) - before) @ self.numbers[columns].flatten(0, 1)


def _dense(head: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(head, nn.Linear | SmoothHead)
    return head.weight, head.bias


@dataclass(frozen=True, eq=False)
class _Alike:
    """Which rows are the same so far, so that the network needs to see one of each kind only."""

    kind: Tensor  # (rows,)
    kinds: int

    @staticmethod
    def of(rows: Tensor) -> _Alike:
        """Shape: rows (rows, tokens)."""
        return _Alike.none(rows) if (rows != HIDDEN).any() else _Alike(rows.new_zeros(len(rows)), 1)

    @staticmethod
    def none(rows: Tensor) -> _Alike:
        """Every row is of its own kind: not worth looking closer."""
        return _Alike(torch.arange(len(rows), device=rows.device), len(rows))

    def split(self, drawn: Tensor, sizes: list[int]) -> _Alike:
        """After further tokens are known. Shape: drawn (rows, places)."""
        if 2 * self.kinds > len(self.kind):
            return _Alike.none(drawn)
        kind, kinds = self.kind, self.kinds
        for values, size in zip(drawn.T, sizes, strict=True):
            distinct, kind = torch.unique(kind * size + values, return_inverse=True)
            kinds = len(distinct)
        return _Alike(kind, kinds)

    def apply(self, network: Denoiser, sums: Tensor) -> Tensor:
        """The trunk of every row. Shape: (rows, width) -> (rows, width)."""
        if 2 * self.kinds > len(sums):
            return network.trunk(sums)
        one = torch.empty(self.kinds, dtype=torch.int64, device=sums.device)
        one[self.kind] = torch.arange(len(sums), device=sums.device)
        return network.trunk(sums[one])[self.kind]


def _fill(laid: _Laid, rows: Tensor, allowed: list[Tensor], ruled: dict[int, Mask], seed: Seed) -> Tensor:
    """Shape: rows (chunk, tokens) in the layout's order -> the same, all known."""
    network, generator = laid.network, seed.torch()
    layout, device = network.layout, network.embed.weight.device
    known_fine, rows = rows[:, layout.coarse :].clone(), rows.to(device)
    rows[:, layout.coarse :] = HIDDEN  # fine tokens that are clamped join in the second stage
    sums, alike = network.first(rows), _Alike.of(rows)
    for places in _groups(network, range(layout.coarse), generator):
        alike = _draw(laid, sums, rows, alike, places, allowed, ruled, generator)
    coarse = rows[:, torch.from_numpy(layout.parent)]
    rows[:, layout.coarse :] = torch.where(
        coarse >= torch.from_numpy(layout.first_bin).to(device), known_fine.to(device), 0
    )
    sums, alike = network.first(rows), _Alike.none(rows)
    for places in _groups(network, range(layout.coarse, len(layout.order)), generator):
        alike = _draw(laid, sums, rows, alike, places, allowed, ruled, generator)
    return rows.cpu()


def _groups(network: Denoiser, places: range, generator: torch.Generator) -> list[list[int]]:
    """Places that are drawn together, in random order."""
    groups: dict[int, list[int]] = {}
    for place, group in zip(places, network.group[places.start : places.stop].tolist(), strict=True):
        groups.setdefault(group, []).append(place)
    return [list(groups.values())[number] for number in torch.randperm(len(groups), generator=generator).tolist()]


def _draw(
    laid: _Laid,
    sums: Tensor,
    rows: Tensor,
    alike: _Alike,
    places: list[int],
    allowed: list[Tensor],
    ruled: dict[int, Mask],
    generator: torch.Generator,
) -> _Alike:
    """Draw the tokens of some places, in place, where they are hidden."""
    uniform = torch.rand(len(rows), len(places), generator=generator)  # all rows: conditions do not shift the stream
    hidden = rows[:, places] == HIDDEN
    if not hidden.any():
        return alike
    x, drawn = alike.apply(laid.network, sums), rows[:, places]
    for number, place in enumerate(places):
        weight, bias = laid.heads[place]
        logits = nn.functional.linear(x, weight, bias)
        if laid.network.prior is not None and place < laid.network.layout.coarse:
            logits = logits + laid.network.prior.of(rows, place)
        shares = soft_cap(logits).exp()
        refused = ~allowed[place].to(shares.device)
        if refused.ndim == 2:
            refused = refused[rows[:, laid.network.layout.parent[place - laid.network.layout.coarse]]]
        if place in ruled:
            refused = _with_rules(refused, ruled[place], rows, places[:number], drawn)
        ends = shares.masked_fill_(refused, 0).cumsum(1)
        target = uniform[:, number : number + 1].to(ends.device).clamp(max=_BELOW_ONE) * ends[:, -1:]
        values = torch.searchsorted(ends, target, right=True)[:, 0]
        drawn[:, number] = torch.where(hidden[:, number], values, drawn[:, number])
    laid.replace(sums, rows, places, drawn)
    return alike.split(drawn, [len(laid.heads[place][1]) for place in places])


def _with_rules(refused: Tensor, mask: Mask, rows: Tensor, places: list[int], drawn: Tensor) -> Tensor:
    """What rules refuse too, beside the places of this draw that come first; rules alone where nothing would be left.

    So a cell that is to be imputed stays missing where a rule wants it so.

    Shape: refused (size,), drawn (rows, places and more) -> (rows, size).
    """
    seen = rows.clone() if places else rows
    seen[:, places] = drawn[:, : len(places)]
    by_rules = ~mask(seen)
    both = refused | by_rules
    return torch.where(both.all(1, keepdim=True), by_rules, both)

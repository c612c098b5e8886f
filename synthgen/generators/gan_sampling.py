"""How does the maker of the table GAN fill the hidden tokens of new rows? In passes, each given the one before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from synthgen.generators.chunks import in_chunks
from synthgen.generators.codec import TableCodec
from synthgen.generators.gan_networks import Maker
from synthgen.generators.sampling import Mask, rule_masks
from synthgen.generators.tokens import HIDDEN, MISSING
from synthgen.protocols import Run
from synthgen.rng import Seed

_CHUNK = 1_024


def sample_tokens(
    maker: Maker,
    codec: TableCodec,
    clamped: np.ndarray,
    *,
    passes: int,
    seed: Seed,
    run: Run,
    never_missing: np.ndarray | None = None,
) -> np.ndarray:
    """Fill the hidden tokens, chunk by chunk.

    Shape: clamped (rows, tokens) in the codec's order, -1 where hidden -> (rows, tokens) without hidden ones;
    never_missing (tokens,) boolean: where a hidden token may not come out missing.
    """
    layout, vocabulary = maker.layout, maker.vocabulary
    emitted = torch.from_numpy(np.concatenate([codec.emittable[token] for token in layout.order[: layout.coarse]]))
    if never_missing is not None:
        told = torch.from_numpy(never_missing[layout.order[: layout.coarse]])
        emitted[vocabulary.starts.cpu()[told] + MISSING] = False
    emitted, ruled = emitted.to(maker.bias.device), rule_masks(codec, layout)
    place = np.argsort(layout.order)

    def fill(number: int, part: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(part[:, layout.order].astype(np.int64))
        generator = seed.child("chunk", str(number)).torch()
        coarse, fine = rows[:, : layout.coarse].to(emitted.device), rows[:, layout.coarse :]
        coarse = fill_coarse(maker, coarse, passes=passes, generator=generator, emitted=emitted, ruled=ruled).cpu()
        return torch.cat([coarse, _fine(maker, coarse, fine, generator)], 1).numpy()[:, place]

    return in_chunks(fill, clamped, size=_CHUNK, device=emitted.device, run=run)


def fill_coarse(
    maker: Maker,
    rows: Tensor,
    *,
    passes: int,
    generator: torch.Generator,
    emitted: Tensor | None = None,
    ruled: Mapping[int, Mask] | None = None,
) -> Tensor:
    """Draw the hidden tokens of each row in an order of its own, an equal part in each pass.

    Args:
        maker: trained.
        rows: (batch, tokens) coarse tokens, -1 where hidden.
        passes: how many; as many as there are tokens at most.
        generator: of everything random.
        emitted: (values,) which values may be drawn; None: all.
        ruled: for each place of which rules speak, what they allow there beside the other tokens of a row.

    Shape: -> (batch, tokens) without hidden ones.
    """
    hidden, device, ruled = rows == HIDDEN, rows.device, ruled or {}
    order = torch.rand(rows.shape, generator=generator).to(device).masked_fill(~hidden, 2.0).argsort(1).argsort(1)
    passes = min(passes, rows.shape[1])
    for done in range(1, passes + 1):
        noise = torch.randn(len(rows), maker.noise, generator=generator).to(device)
        uniform = torch.rand(rows.shape, generator=generator).to(device)
        shares = maker.vocabulary.shares(maker(rows, noise))
        drawable = shares if emitted is None else shares * emitted
        now = (order < torch.ceil(hidden.sum(1, keepdim=True) * done / passes)) & (rows == HIDDEN)
        apart = now.clone()
        apart[:, list(ruled)] = False
        rows = torch.where(apart, maker.vocabulary.draw(drawable, uniform), rows)
        for place, mask in ruled.items():
            values = slice(int(maker.vocabulary.starts[place]), int(maker.vocabulary.ends[place]) + 1)
            allowed, own = mask(rows), uniform[:, place : place + 1]
            drawn = _under_rules(drawable[:, values], shares[:, values] * allowed, allowed, own)
            rows[:, place] = torch.where(now[:, place], drawn, rows[:, place])
    return rows


def _under_rules(drawable: Tensor, legal: Tensor, allowed: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token among what rules allow of what is drawable; where nothing would be left, by the rules alone.

    Shape: drawable, legal and allowed (batch, size), uniform (batch, 1) -> (batch,).
    """
    both = drawable * allowed
    running = torch.where((both > 0).any(1, keepdim=True), both, legal).double().cumsum(1)
    return torch.searchsorted(running, uniform * running[:, -1:], right=True)[:, 0].clamp(max=running.shape[1] - 1)


def _fine(maker: Maker, coarse: Tensor, fine: Tensor, generator: torch.Generator) -> Tensor:
    """Draw hidden fine tokens by their frequency in train given the coarse one; 0 where that has none.

    Shape: coarse (batch, coarse tokens), fine (batch, fine tokens) -> (batch, fine tokens).
    """
    uniform = torch.rand(fine.shape, generator=generator, dtype=torch.float64)
    drawn = torch.empty_like(fine)
    for i, parent in enumerate(maker.layout.parent):
        running = maker.fine[i].cpu().double().cumsum(1)[coarse[:, parent]]
        target = uniform[:, i : i + 1] * running[:, -1:]
        drawn[:, i] = torch.searchsorted(running, target, right=True)[:, 0].clamp(max=running.shape[1] - 1)
    has_fine = coarse[:, torch.from_numpy(maker.layout.parent)] >= torch.from_numpy(maker.layout.first_bin)
    return torch.where(has_fine, torch.where(fine == HIDDEN, drawn, fine), 0)

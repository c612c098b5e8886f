"""How does the maker of the table GAN fill the hidden tokens of new rows? In passes, each given the one before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from synthgen.generators.codec import TableCodec
from synthgen.generators.gan_networks import Maker, Vocabulary
from synthgen.generators.sampling import Mask, masks_of_rules
from synthgen.generators.tabular import HIDDEN
from synthgen.generators.tokens import MISSING
from synthgen.protocols import Progress, Run
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
    layout, emittable = maker.layout, [mask.copy() for mask in codec.emittable]
    for token in () if never_missing is None else np.flatnonzero(never_missing):
        emittable[token][MISSING] = False
    allowed = np.concatenate([emittable[token] for token in layout.order[: layout.coarse]])
    emitted, ruled = torch.from_numpy(allowed).to(maker.bias.device), masks_of_rules(codec, layout)
    filled = np.empty_like(clamped)
    for number, start in enumerate(range(0, len(clamped), _CHUNK)):
        rows = torch.from_numpy(clamped[start : start + _CHUNK][:, layout.order].astype(np.int64))
        generator = seed.child("chunk", str(number)).torch()
        coarse, fine = rows[:, : layout.coarse].to(emitted.device), rows[:, layout.coarse :]
        coarse = fill_coarse(maker, coarse, passes=passes, generator=generator, emitted=emitted, ruled=ruled).cpu()
        filled[start : start + _CHUNK, layout.order] = torch.cat([coarse, _fine(maker, coarse, fine, generator)], 1)
        run.progress(Progress("sampling", min(start + _CHUNK, len(clamped)), len(clamped)))
    return filled


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

    Places of which rules speak are drawn one after the other, so that each sees what the one before became.

    Shape: rows (batch, tokens) coarse tokens, -1 where hidden; emitted (values,) which values may be drawn
    -> (batch, tokens) without hidden ones.
    """
    hidden, device = rows == HIDDEN, rows.device
    order = torch.rand(rows.shape, generator=generator).to(device).masked_fill(~hidden, 2.0).argsort(1).argsort(1)
    passes = min(passes, rows.shape[1])
    for done in range(1, passes + 1):
        noise = torch.randn(len(rows), maker.noise, generator=generator).to(device)
        uniform = torch.rand(rows.shape, generator=generator).to(device)
        shares = maker.vocabulary.shares(maker(rows, noise))
        drawn = maker.vocabulary.draw(shares if emitted is None else shares * emitted, uniform)
        upto = torch.ceil(hidden.sum(1, keepdim=True) * done / passes)
        chosen = (order < upto) & (rows == HIDDEN)
        before = rows
        rows = torch.where(chosen, drawn, rows)
        rows[:, list(ruled or ())] = before[:, list(ruled or ())]
        for place, mask in (ruled or {}).items():
            values = _ruled(maker.vocabulary, shares, emitted, mask(rows), uniform, place)
            rows[:, place] = torch.where(chosen[:, place], values, rows[:, place])
    return rows


def _ruled(
    vocabulary: Vocabulary, shares: Tensor, emitted: Tensor | None, legal: Tensor, uniform: Tensor, place: int
) -> Tensor:
    """Draw one token among what rules allow beside the rest of its row. Shape: legal (rows, size) -> (rows,)."""
    part = slice(int(vocabulary.starts[place]), int(vocabulary.ends[place]) + 1)
    free = shares[:, part].double() * (1.0 if emitted is None else emitted[part])
    kept = free * legal
    ends = torch.where(kept.sum(1, keepdim=True) > 0, kept, free).cumsum(1)
    target = uniform[:, place : place + 1] * ends[:, -1:]
    return torch.searchsorted(ends, target, right=True)[:, 0].clamp(max=ends.shape[1] - 1)


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

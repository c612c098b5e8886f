"""How are the hidden tokens of new rows filled? Chunk by chunk, one column at a time for all rows of a chunk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import Denoiser
from synthgen.generators.tabular import HIDDEN
from synthgen.generators.tokens import MISSING
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed


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
    layout, chunk = network.layout, 1_024
    allowed = [torch.from_numpy(mask.copy()) for mask in codec.emittable]
    for token in () if never_missing is None else np.flatnonzero(never_missing):
        allowed[token][MISSING] = False  # of a fine token that value is never drawn anyway
    allowed = [allowed[token] for token in layout.order]
    filled = np.empty_like(clamped)
    for number, start in enumerate(range(0, len(clamped), chunk)):
        rows = torch.from_numpy(clamped[start : start + chunk][:, layout.order].astype(np.int64))
        part = _fill(network, rows, allowed, seed.child("chunk", str(number)))
        filled[start : start + chunk, layout.order] = part.numpy()
        run.progress(Progress("sampling", min(start + chunk, len(clamped)), len(clamped)))
    return filled


def _fill(network: Denoiser, rows: Tensor, allowed: list[Tensor], seed: Seed) -> Tensor:
    """Shape: rows (chunk, tokens) in the layout's order -> the same, all known."""
    layout, generator = network.layout, seed.torch()
    device = network.embed.weight.device
    known_fine, rows = rows[:, layout.coarse :].clone(), rows.to(device)
    rows[:, layout.coarse :] = HIDDEN  # fine tokens that are clamped join in the second stage
    for place in torch.randperm(layout.coarse, generator=generator).tolist():
        _draw(network, rows, place, allowed[place], generator)
    coarse = rows[:, torch.from_numpy(layout.parent)]
    fine = torch.where(coarse >= torch.from_numpy(layout.first_bin).to(device), known_fine.to(device), 0)
    rows[:, layout.coarse :] = fine
    for place in (layout.coarse + torch.randperm(len(layout.order) - layout.coarse, generator=generator)).tolist():
        _draw(network, rows, place, allowed[place], generator, from_=1)
    return rows.cpu()


def _draw(
    network: Denoiser, rows: Tensor, place: int, allowed: Tensor, generator: torch.Generator, *, from_: int = 0
) -> None:
    """Draw one token, in place, for the rows where it is hidden; values below `from_` are not drawn."""
    uniform = torch.rand(len(rows), 1, generator=generator)  # drawn for all rows: conditions do not shift the stream
    which = (rows[:, place] == HIDDEN).nonzero()[:, 0]
    if not len(which):
        return
    logits = network.token_logits(network(rows[which]), place).double()
    refused = ~allowed
    refused[:from_] = True
    shares = logits.masked_fill(refused.to(logits.device), -torch.inf).softmax(1).cumsum(1)
    target = uniform.to(logits.device)[which].double() * shares[:, -1:]
    rows[which, place] = torch.searchsorted(shares, target, right=True).clamp(max=shares.shape[1] - 1)[:, 0]

"""In which order does a network see a table's tokens, and where do their values lie in its logits?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthgen.generators.codec import TableCodec
from synthgen.generators.tokens import NumberColumn

Stage = Literal["coarse", "fine"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each token's vocabulary lies in the logits: all coarse tokens first, then all fine ones.

    `order` lists token numbers in that sequence; `sizes` and `starts` follow it.
    """

    order: np.ndarray  # (tokens,)
    coarse: int  # how many of them are coarse
    sizes: np.ndarray  # (tokens,)
    starts: np.ndarray  # (tokens,) within the logits of the token's stage
    parent: np.ndarray  # (fine tokens,) place of the coarse token in `order`
    first_bin: np.ndarray  # (fine tokens,) coarse values from here on have a fine value
    bins_from: np.ndarray  # (tokens,) values from here on are bins or sub-bins in ascending order; the size for none

    @staticmethod
    def of(codec: TableCodec) -> Layout:
        """The layout of a codec's tokens."""
        fine_of = np.array(codec.fine_of)
        order = np.concatenate([np.flatnonzero(fine_of < 0), np.flatnonzero(fine_of >= 0)])
        coarse = int((fine_of < 0).sum())
        sizes = np.array(codec.vocabulary)[order]
        starts = np.concatenate([np.cumsum(part) - part for part in (sizes[:coarse], sizes[coarse:])])
        place = np.argsort(order)
        parents = fine_of[order[coarse:]]
        columns = [codec.columns[codec.owner[token]] for token in order]
        spikes = [c.first_bin if isinstance(c, NumberColumn) else size for c, size in zip(columns, sizes, strict=True)]
        bins_from = np.array(spikes[:coarse] + [1] * (len(order) - coarse), dtype=np.int64)
        return Layout(order, coarse, sizes, starts, place[parents], bins_from[place[parents]], bins_from)

    def places(self, stage: Stage) -> slice:
        """The places of a stage's tokens in `order`."""
        return slice(0, self.coarse) if stage == "coarse" else slice(self.coarse, len(self.order))

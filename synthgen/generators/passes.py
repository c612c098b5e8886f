"""How does sampling go on where the memory of the device runs out? In smaller passes, with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from synthgen.errors import EnvironmentProblem

log = logging.getLogger(__name__)


class Passes:
    """Makes rows a few at a time, from now on half as many wherever memory runs out.

    >>> passes = Passes(most=100)
    >>> passes(lambda rows: rows * 2, torch.arange(3))
    tensor([0, 2, 4])
    """

    def __init__(self, *, most: int) -> None:
        """`most`: rows in one pass, at first."""
        self.most = most

    def __call__(self, make: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """What `make` gives for all row numbers together.

        Shape: rows (rows,) -> (rows, ...).

        Raises:
            EnvironmentProblem: not even one row fits.
        """
        made: list[Tensor] = []
        left = rows
        while len(left):
            try:
                made.append(make(left[: self.most]))
                left = left[self.most :]
                continue
            except torch.cuda.OutOfMemoryError:
                pass  # the next try begins outside of this clause, which holds on to the memory that ran out
            if self.most == 1:
                raise EnvironmentProblem("the device has too little memory for one image: sample on the CPU")
            self.most = min(self.most, len(left)) // 2 or 1
            torch.cuda.empty_cache()
            log.warning("out of memory: from now on sampling goes in passes of %d", self.most)
        return torch.cat(made)

"""Do several processes train together? `accelerate launch` starts them; each takes its slice of every batch.

All of them hold the same weights and take the same decisions: gradients are summed over the slices, and what depends on
a clock, a signal or a floating-point comparison is what the main process found.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from synthgen.errors import EnvironmentProblem


@dataclass(frozen=True)
class Team:
    """The processes of one training, as one of them sees it; by default there is only one."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # where messages are kept

    @property
    def leads(self) -> bool:
        """Is this the main process, the only one that writes and prints?"""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's slice of a batch; maybe empty.

        >>> Team(rank=1, size=2).share(torch.arange(5))
        tensor([3, 4])
        """
        return rows.tensor_split(self.size)[self.rank]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])

    def agree(self, *values: float) -> tuple[float, ...]:
        """What the main process says.

        >>> Team().agree(0.5, 2.0)
        (0.5, 2.0)
        """
        if self.size == 1:
            return values
        message = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(message, 0)
        return tuple(message.tolist())

    def meet(self) -> None:
        """Wait until all are here."""
        self.any(False)

    def any(self, flag: bool) -> bool:
        """Does one of them say so?"""
        if self.size == 1:
            return flag
        message = torch.tensor([float(flag)], device=self.device)
        distributed.all_reduce(message)
        return bool(message.item())


@functools.cache
def team() -> Team:
    """The processes that `accelerate launch` started this one with; sets the CUDA device that is this process's.

    Raises:
        EnvironmentProblem: there are several, but accelerate is not installed.

    >>> team().size
    1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise EnvironmentProblem("training in several processes needs accelerate: pip install accelerate") from error
    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    state = PartialState(cpu=on_cpu)
    return Team(state.process_index, state.num_processes, str(state.device))

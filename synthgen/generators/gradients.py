"""What is the gradient of a batch? Taken in as few parts as fit into the memory, and summed over the processes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synthgen.errors import EnvironmentProblem
from synthgen.generators.team import Team
from synthgen.rng import Seed

log = logging.getLogger(__name__)

StepLoss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]  # network, row numbers (batch,), randomness -> scalar


@dataclass(frozen=True)
class Gradient:
    """What `gradient` found besides the gradients themselves."""

    loss: Tensor  # mean over the batch
    parts: int  # in which the batch went through


def gradient(network: nn.Module, loss: StepLoss, rows: Tensor, *, parts: int, team: Team, seed: Seed) -> Gradient:
    """Leave the gradient of a batch's mean loss in the parameters; halve the parts' size where memory runs out.

    The sum over the parts is the gradient of the whole batch, so that neither learning rate nor schedule change.

    Args:
        network: gets the gradients.
        loss: mean over the rows that it is given.
        rows: the batch of all processes.
        parts: in which this process's slice goes through.
        team: the processes that share the batch.
        seed: of this step.

    Raises:
        EnvironmentProblem: not even one row fits.
    """
    mine = team.share(rows)
    while True:
        try:
            value = _in_parts(network, loss, mine, len(rows), parts, seed.child(*_own(team)))
            break
        except torch.cuda.OutOfMemoryError:
            pass  # the next try begins outside of this clause, which holds on to the memory that ran out
        if parts >= len(mine):
            raise EnvironmentProblem("the device has too little memory for one row: train on the CPU, or fewer columns")
        parts = min(2 * parts, len(mine))
        torch.cuda.empty_cache()
        log.warning(
            "out of memory: from now on a batch goes through in %d parts of %d rows", parts, -(-len(mine) // parts)
        )
    if team.size > 1:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        team.add([value, *(p.grad for p in network.parameters() if p.grad is not None)])
    return Gradient(value, parts)


def _own(team: Team) -> tuple[str, ...]:
    """The main process draws what a single one would draw."""
    return () if team.leads else ("process", str(team.rank))


def _in_parts(network: nn.Module, loss: StepLoss, mine: Tensor, total: int, parts: int, seed: Seed) -> Tensor:
    network.zero_grad(set_to_none=True)
    generator = seed.torch(mine.device.type)
    value = torch.zeros((), device=mine.device)
    for part in mine.tensor_split(parts):
        if len(part) == 0:
            continue
        share = loss(network, part, generator) * (len(part) / total)
        share.backward()
        value += share.detach()
    return value

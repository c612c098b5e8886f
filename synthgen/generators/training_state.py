"""What lives between the steps of a training, and how does it get into a checkpoint and back, bit for bit?"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.errors import DataError
from synthgen.generators.checkpoint import load_state, save_state
from synthgen.generators.team import team

if TYPE_CHECKING:
    from synthgen.generators.training import Recipe
    from synthgen.protocols import Run
    from synthgen.rng import Seed

STATE = "training.safetensors"
_GROUPS = ("network", "ema", "best", "exp_avg", "exp_avg_sq")
_COUNTS = ("steps", "interval", "step", "best_step", "waited", "parts", "first_steps", "most_steps")
_FIGURES = (
    "lowest_loss",
    "best_loss",
    "best_train_loss",
    "first_ratio",
    "gap",
    "seconds",
    "max_seconds",
)  # JSON lacks infinity


@dataclass
class State:
    """What lives between steps, and in a checkpoint."""

    network: nn.Module
    optimizer: torch.optim.AdamW
    ema: list[Tensor]
    best: list[Tensor]
    steps: int  # planned
    interval: int  # steps between evaluations
    step: int = 0
    best_step: int = 0
    lowest_loss: float = math.inf  # on the validation rows, so far
    best_loss: float = math.inf  # of the weights that are kept
    best_train_loss: float = math.inf
    first_ratio: float = 1.0  # validation to train loss before any training: how much harder one slice is
    gap: float = 0.0  # how much larger that ratio is now
    waited: int = 0
    parts: int = 1  # in which a batch goes through: more once memory ran out
    seconds: float = 0.0  # that the steps and evaluations took so far
    max_seconds: float = math.inf  # that they may take
    first_steps: int = 0  # planned at first, before the pace changed
    most_steps: int = 0  # that a plan may grow to
    marked: tuple[int, float] | None = None  # step and seconds from which on the pace is measured; in no checkpoint
    history: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())


def fresh(network: nn.Module, recipe: Recipe, steps: int, interval: int) -> State:
    """The state before the first step."""
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=recipe.betas, fused=True
    )
    ema, best = ([p.detach().clone() for p in parameters] for _ in range(2))
    network.train()
    return State(network, optimizer, ema, best, steps, interval, first_steps=steps, most_steps=steps)


def copy_to(to: list[Any], source: list[Tensor]) -> None:
    """Copy values in place."""
    with torch.no_grad():
        torch._foreach_copy_(to, source)


@contextmanager
def averaged(state: State) -> Iterator[None]:
    """Lend the averaged weights to the network."""
    own = [p.detach().clone() for p in state.parameters]
    was_training = state.network.training
    copy_to(state.parameters, state.ema)
    state.network.eval()
    try:
        yield
    finally:
        copy_to(state.parameters, own)
        state.network.train(was_training)


def description(identity: Mapping[str, Any] | None, seed: Seed, recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must share with the training that goes on from it, as plain data by name."""
    settings = {k: v for k, v in dataclasses.asdict(recipe).items() if k != "checkpoint_seconds"}
    plain = {**(identity or {}), **settings, "seed": [seed.root, *seed.path]}
    return json.loads(json.dumps(plain, sort_keys=True))  # type: ignore[no-any-return]


def write_checkpoint(state: State, run: Run, described: Mapping[str, Any]) -> None:
    """Write everything into the run's folder, where it has one and this is the main process."""
    if run.folder is None or not team().leads:
        return
    moments = [state.optimizer.state.get(p, {}) for p in state.parameters]
    lists: dict[str, list[Any]] = {
        "network": state.parameters,
        "ema": state.ema,
        "best": state.best,
        "exp_avg": [m["exp_avg"] for m in moments if m],
        "exp_avg_sq": [m["exp_avg_sq"] for m in moments if m],
    }
    tensors = {f"{group}.{i}": _array(t) for group, items in lists.items() for i, t in enumerate(items)}
    facts = {"training": described, "history": state.history, **{name: getattr(state, name) for name in _COUNTS}}
    figures = np.array([getattr(state, name) for name in _FIGURES])
    save_state(Path(run.folder) / STATE, {**tensors, "figures": figures}, facts)


def read_checkpoint(network: nn.Module, recipe: Recipe, run: Run, described: Mapping[str, Any]) -> State | None:
    """The state that the newest checkpoint holds; None when there is nothing to resume.

    Raises:
        DataError: the checkpoint is broken or of another training.
    """
    stored = load_state(Path(run.folder) / STATE) if run.folder and run.resume else None
    if stored is None:
        return None
    tensors, facts = stored
    _require_same(facts.get("training", {}), described)
    state = fresh(network, recipe, facts["steps"], facts["interval"])
    loaded = {group: _group(tensors, group, state.ema[0].device) for group in _GROUPS}
    for to, group in ((state.parameters, "network"), (state.ema, "ema"), (state.best, "best")):
        copy_to(to, loaded[group])
    for i, (mean, square) in enumerate(zip(loaded["exp_avg"], loaded["exp_avg_sq"], strict=True)):
        state.optimizer.state[state.parameters[i]] = {
            "step": torch.tensor(float(facts["step"]), device=mean.device),
            "exp_avg": mean,
            "exp_avg_sq": square,
        }
    for name in _COUNTS:
        setattr(state, name, int(facts[name]))
    for name, figure in zip(_FIGURES, tensors["figures"], strict=True):
        setattr(state, name, float(figure))
    state.history = [(int(step), float(a), float(b)) for step, a, b in facts["history"]]
    return state


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Names what differs; a fingerprint is not shown, for it says nothing to a reader."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        raise DataError(
            f"the checkpoint is of another training, which differs in: {', '.join(sorted(names))}. Give what was given "
            "then, or start without resume"
        )


def _group(tensors: Mapping[str, np.ndarray], group: str, device: torch.device) -> list[Tensor]:
    count = sum(name.startswith(f"{group}.") for name in tensors)
    return [torch.from_numpy(tensors[f"{group}.{i}"].copy()).to(device) for i in range(count)]


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())

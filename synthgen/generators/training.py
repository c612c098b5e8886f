"""How is a network trained? One loop for every modality: time budget, validation, best weights, checkpoints.

The loop sees a network, a number of rows and two callbacks. Everything random in step i comes from the seed's child
"step", i, and the order of rows in epoch e from "epoch", e; so a run that was killed and resumed takes the same steps
as one that was not, and its weights have the same bytes.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.errors import DataError, Interrupted, SynthgenError
from synthgen.generators.checkpoint import load_state, save_state
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

log = logging.getLogger(__name__)
STATE = "training.safetensors"
_GROUPS = ("network", "ema", "best", "exp_avg", "exp_avg_sq")

StepLoss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]  # network, row numbers (batch,), randomness -> scalar
EvaluationLoss = Callable[
    [nn.Module], tuple[Tensor, Tensor]
]  # network -> (loss on validation rows, loss on train rows)


@dataclass(frozen=True)
class Recipe:
    """How long and how to train."""

    max_seconds: float = 120.0  # turned into a number of steps by timing a few; not used when max_steps is given
    max_steps: int | None = None
    batch: int = 512
    learning_rate: float = 3e-3
    warm_up: int = 200  # steps of rising learning rate, a tenth of the steps at most; then a cosine down to zero
    weight_decay: float = 1e-4
    ema: float = 0.999  # decay of the averaged weights, less during the first steps
    evaluations: int = 40  # over the whole run, evenly; fewer where they would take a tenth of the time budget
    patience: int = 8  # evaluations without a better validation loss before stopping
    memorisation_gap: float = 0.05  # stop when the ratio of validation to train loss has grown by so much
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True)
class Training:
    """What a training did; the network holds the best averaged weights afterwards."""

    steps: int  # taken
    planned_steps: int
    best_step: int
    validation_loss: float
    train_loss: float  # of the same weights, on as many train rows
    notes: tuple[str, ...]
    history: tuple[tuple[int, float, float], ...]  # (step, train loss, validation loss)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


@dataclass
class _State:
    """What lives between steps, and in a checkpoint."""

    network: nn.Module
    optimizer: torch.optim.AdamW
    ema: list[Tensor]
    best: list[Tensor]
    steps: int  # planned
    interval: int  # steps between evaluations
    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    best_train_loss: float = math.inf
    first_ratio: float = 1.0  # validation to train loss before any training: how much harder one slice is
    gap: float = 0.0  # how much larger that ratio is now
    waited: int = 0
    history: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())


def train(
    network: nn.Module,
    loss: StepLoss,
    evaluate: EvaluationLoss,
    *,
    rows: int,
    recipe: Recipe,
    seed: Seed,
    run: Run | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Training:
    """Train a network in place and leave the best averaged weights in it.

    Args:
        network: its parameters are trained; buffers are left alone.
        loss: of a batch, given by row numbers below `rows`.
        evaluate: deterministic; called without gradients on the averaged weights.
        rows: number of training rows.
        recipe: how long and how.
        seed: of everything random in the training.
        run: told of progress, asked to stop, and holds the checkpoint folder.
        identity: what makes this training this one (settings, train fingerprint); a checkpoint of another is refused.

    Raises:
        Interrupted: `run.stop()` said so; a checkpoint was written if there is a folder.
        DataError: the checkpoint is broken or of another training.
        SynthgenError: the loss became infinite.
    """
    run = run or Run()
    key = _key(identity, seed, recipe)
    state = _resumed(network, recipe, run, key)
    if state is None:
        if recipe.max_steps is None:
            steps, evaluations = _budget(network, loss, evaluate, rows=rows, recipe=recipe, seed=seed)
        else:
            steps, evaluations = recipe.max_steps, recipe.evaluations
        state = _fresh(network, recipe, steps, max(min(10, steps), steps // evaluations))
        _begin(state, evaluate)
        _checkpoint(state, run, key)
    batches, saved_at, losses = _Batches(rows, recipe.batch, seed), time.monotonic(), list[Tensor]()
    while state.step < state.steps and state.waited < recipe.patience and state.gap <= recipe.memorisation_gap:
        if run.stop():
            _checkpoint(state, run, key)
            raise Interrupted(f"stopped at step {state.step} of {state.steps}; " + _kept(run))
        losses.append(_step(state, loss, batches, recipe, seed))
        if state.step % state.interval == 0 or state.step == state.steps:
            _evaluate(state, evaluate, recipe, run, float(torch.stack(losses).mean()))
            losses = []
        if time.monotonic() - saved_at > recipe.checkpoint_seconds:
            _checkpoint(state, run, key)
            saved_at = time.monotonic()
    run.progress(Progress("training", state.step, state.step))  # done, also where it stopped early
    _checkpoint(state, run, key)
    _copy(state.parameters, state.best)
    return _summary(state, recipe)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Run with so many torch threads, and set the number back afterwards; None changes nothing.

    >>> before = torch.get_num_threads()
    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to zero.

    >>> recipe = Recipe(learning_rate=1.0, warm_up=10)
    >>> [round(learning_rate(step, 1_000, recipe), 2) for step in (0, 9, 10, 505, 999)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    warm_up = min(recipe.warm_up, steps // 10)
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class _Batches:
    """Row numbers of each step: slices of one permutation per epoch, found again from the step alone."""

    def __init__(self, rows: int, batch: int, seed: Seed) -> None:
        self.rows, self.batch, self.seed = rows, min(batch, rows), seed
        self.per_epoch = max(1, rows // self.batch)
        self.epoch, self.order = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self.order = torch.randperm(self.rows, generator=self.seed.child("epoch", str(epoch)).torch())
            self.epoch = epoch
        return self.order[position * self.batch : (position + 1) * self.batch]


def _step(state: _State, loss: StepLoss, batches: _Batches, recipe: Recipe, seed: Seed) -> Tensor:
    device = state.ema[0].device
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, state.steps, recipe)
    rows = batches[state.step].to(device)
    generator = seed.child("step", str(state.step)).torch(device.type)
    value = loss(state.network, rows, generator)
    state.optimizer.zero_grad(set_to_none=True)
    value.backward()
    state.optimizer.step()
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(state.ema, [p.detach() for p in state.parameters], 1 - decay)
    state.step += 1
    return value.detach()


def _evaluate(state: _State, evaluate: EvaluationLoss, recipe: Recipe, run: Run, running: float) -> None:
    """Evaluate the averaged weights; keep them if they are the best so far and memorise little."""
    validation, train_ = _losses(state, evaluate)
    if not math.isfinite(validation):
        raise SynthgenError(f"the training diverged at step {state.step}: lower learning_rate")
    state.history.append((state.step, train_, validation))
    state.gap = _ratio(validation, train_) / state.first_ratio - 1
    state.waited += 1
    if validation < state.best_loss and state.gap <= recipe.memorisation_gap:
        state.best_loss, state.best_train_loss, state.best_step, state.waited = validation, train_, state.step, 0
        _copy(state.best, state.ema)
    metrics = {"batch_loss": running, "train_loss": train_, "validation_loss": validation}
    run.progress(Progress("training", state.step, state.steps, metrics))
    log.debug("step %d of %d: %s", state.step, state.steps, metrics)


def _begin(state: _State, evaluate: EvaluationLoss) -> None:
    """The untrained weights are the best so far, and show how much harder one slice is than the other."""
    state.best_loss, state.best_train_loss = _losses(state, evaluate)
    state.first_ratio = _ratio(state.best_loss, state.best_train_loss)


def _losses(state: _State, evaluate: EvaluationLoss) -> tuple[float, float]:
    """Validation and train loss of the averaged weights."""
    with _averaged(state), torch.no_grad():
        validation, train_ = evaluate(state.network)
    return float(validation), float(train_)


def _ratio(validation: float, train_: float) -> float:
    return max(validation, 1e-9) / max(train_, 1e-9)


@contextmanager
def _averaged(state: _State) -> Iterator[None]:
    """Lend the averaged weights to the network."""
    own = [p.detach().clone() for p in state.parameters]
    was_training = state.network.training
    _copy(state.parameters, state.ema)
    state.network.eval()
    try:
        yield
    finally:
        _copy(state.parameters, own)
        state.network.train(was_training)


def _copy(to: list[Any], source: list[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(to, source)


def _fresh(network: nn.Module, recipe: Recipe, steps: int, interval: int) -> _State:
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99), fused=True
    )
    ema, best = ([p.detach().clone() for p in parameters] for _ in range(2))
    network.train()
    return _State(network, optimizer, ema, best, steps, interval)


def _budget(
    network: nn.Module, loss: StepLoss, evaluate: EvaluationLoss, *, rows: int, recipe: Recipe, seed: Seed
) -> tuple[int, int]:
    """How many steps and evaluations fit into the time budget, by timing some on a copy that is thrown away."""
    started, trial = time.monotonic(), _fresh(copy.deepcopy(network), recipe, 1_000, 1)
    batches = _Batches(rows, recipe.batch, seed)

    def one_step() -> None:
        float(_step(trial, loss, batches, recipe, seed))  # float: waits for a device

    def one_evaluation() -> None:
        _losses(trial, evaluate)

    for _ in range(3):  # the first steps are slow: memory is allocated, kernels are chosen
        one_step()
    one_evaluation()
    evaluation_seconds, step_seconds = _seconds(one_evaluation), [_seconds(one_step) for _ in range(5)]
    while sum(step_seconds) < min(0.03 * recipe.max_seconds, 5.0):
        step_seconds.append(_seconds(one_step))
    evaluations = int(np.clip(0.1 * recipe.max_seconds / evaluation_seconds, 5, recipe.evaluations))
    left = recipe.max_seconds - (time.monotonic() - started) - evaluations * evaluation_seconds
    return max(10, int(left / np.median(step_seconds))), evaluations


def _seconds(action: Callable[[], None]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _summary(state: _State, recipe: Recipe) -> Training:
    notes = []
    if state.gap > recipe.memorisation_gap:
        words = f"memorisation warning: the validation loss grew {state.gap:.1%} against the train loss"
        notes.append(
            f"{words} by step {state.step} of {state.steps} planned; the weights of step {state.best_step} are kept"
        )
    elif state.waited >= recipe.patience:
        notes.append(f"stopped early: no better validation loss after step {state.best_step} of {state.steps} planned")
    return Training(
        steps=state.step,
        planned_steps=state.steps,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        train_loss=state.best_train_loss,
        notes=tuple(notes),
        history=tuple(state.history),
    )


def _key(identity: Mapping[str, Any] | None, seed: Seed, recipe: Recipe) -> str:
    ignored = {"checkpoint_seconds"}
    plan = {k: v for k, v in dataclasses.asdict(recipe).items() if k not in ignored}
    text = json.dumps(
        {"identity": dict(identity or {}), "seed": [seed.root, *seed.path], "recipe": plan}, sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(run: Run) -> str:
    return "a checkpoint was written, resume goes on from it" if run.folder else "no checkpoint folder was given"


def _checkpoint(state: _State, run: Run, key: str) -> None:
    if run.folder is None:
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
    names = ("steps", "interval", "step", "best_step", "waited", "history")
    facts = {"key": key, **{name: getattr(state, name) for name in names}}
    losses = np.array(
        [state.best_loss, state.best_train_loss, state.first_ratio, state.gap]
    )  # may be infinite, which JSON lacks
    save_state(Path(run.folder) / STATE, {**tensors, "losses": losses}, facts)


def _resumed(network: nn.Module, recipe: Recipe, run: Run, key: str) -> _State | None:
    """The state that the newest checkpoint holds; None when there is nothing to resume."""
    stored = load_state(Path(run.folder) / STATE) if run.folder and run.resume else None
    if stored is None:
        return None
    tensors, facts = stored
    if facts.get("key") != key:
        raise DataError("the checkpoint is of another training (data, settings or seed differ): start without resume")
    state = _fresh(network, recipe, facts["steps"], facts["interval"])
    loaded = {group: _group(tensors, group, state.ema[0].device) for group in _GROUPS}
    for to, group in ((state.parameters, "network"), (state.ema, "ema"), (state.best, "best")):
        _copy(to, loaded[group])
    for i, (mean, square) in enumerate(zip(loaded["exp_avg"], loaded["exp_avg_sq"], strict=True)):
        state.optimizer.state[state.parameters[i]] = {
            "step": torch.tensor(float(facts["step"]), device=mean.device),
            "exp_avg": mean,
            "exp_avg_sq": square,
        }
    state.step, state.best_step, state.waited = facts["step"], facts["best_step"], facts["waited"]
    state.best_loss, state.best_train_loss, state.first_ratio, state.gap = map(float, tensors["losses"])
    state.history = [(int(step), float(a), float(b)) for step, a, b in facts["history"]]
    return state


def _group(tensors: Mapping[str, np.ndarray], group: str, device: torch.device) -> list[Tensor]:
    count = sum(name.startswith(f"{group}.") for name in tensors)
    return [torch.from_numpy(tensors[f"{group}.{i}"].copy()).to(device) for i in range(count)]


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())

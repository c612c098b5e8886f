"""How is a network trained? One loop for every modality: time budget, validation, best weights, checkpoints.

The loop sees a network, a number of rows and two callbacks. Everything random in step i comes from the seed's child
"step", i, and the order of rows in epoch e from "epoch", e; so a run that was killed and resumed takes the same steps
as one that was not, and its weights have the same bytes.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from synthgen.errors import Interrupted, SynthgenError
from synthgen.generators.budget import affordable
from synthgen.generators.training_state import (
    State,
    averaged,
    copy_to,
    fresh,
    read_checkpoint,
    training_key,
    write_checkpoint,
)
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

log = logging.getLogger(__name__)

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
    key = training_key(identity, seed, recipe)
    state = read_checkpoint(network, recipe, run, key)
    if state is None:
        if recipe.max_steps is None:
            steps, evaluations = _planned(network, loss, evaluate, rows=rows, recipe=recipe, seed=seed)
        else:
            steps, evaluations = recipe.max_steps, recipe.evaluations
        state = fresh(network, recipe, steps, max(min(10, steps), steps // evaluations))
        _begin(state, evaluate)
        write_checkpoint(state, run, key)
    batches, saved_at, losses = _Batches(rows, recipe.batch, seed), time.monotonic(), list[Tensor]()
    while state.step < state.steps and state.waited < recipe.patience and state.gap <= recipe.memorisation_gap:
        if run.stop():
            write_checkpoint(state, run, key)
            raise Interrupted(f"stopped at step {state.step} of {state.steps}; " + _kept(run))
        losses.append(_step(state, loss, batches, recipe, seed))
        if state.step % state.interval == 0 or state.step == state.steps:
            _evaluate(state, evaluate, recipe, run, float(torch.stack(losses).mean()))
            losses = []
        if time.monotonic() - saved_at > recipe.checkpoint_seconds:
            write_checkpoint(state, run, key)
            saved_at = time.monotonic()
    run.progress(Progress("training", state.step, state.step))  # done, also where it stopped early
    write_checkpoint(state, run, key)
    copy_to(state.parameters, state.best)
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


def _step(state: State, loss: StepLoss, batches: _Batches, recipe: Recipe, seed: Seed) -> Tensor:
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


def _evaluate(state: State, evaluate: EvaluationLoss, recipe: Recipe, run: Run, running: float) -> None:
    """Evaluate the averaged weights; keep them if they are the best so far and memorise little."""
    validation, train_ = _losses(state, evaluate)
    if not math.isfinite(validation):
        raise SynthgenError(f"the training diverged at step {state.step}: lower learning_rate")
    state.history.append((state.step, train_, validation))
    state.gap = _ratio(validation, train_) / state.first_ratio - 1
    state.waited += 1
    if validation < state.best_loss and state.gap <= recipe.memorisation_gap:
        state.best_loss, state.best_train_loss, state.best_step, state.waited = validation, train_, state.step, 0
        copy_to(state.best, state.ema)
    metrics = {"batch_loss": running, "train_loss": train_, "validation_loss": validation}
    run.progress(Progress("training", state.step, state.steps, metrics))
    log.debug("step %d of %d: %s", state.step, state.steps, metrics)


def _begin(state: State, evaluate: EvaluationLoss) -> None:
    """The untrained weights are the best so far, and show how much harder one slice is than the other."""
    state.best_loss, state.best_train_loss = _losses(state, evaluate)
    state.first_ratio = _ratio(state.best_loss, state.best_train_loss)


def _losses(state: State, evaluate: EvaluationLoss) -> tuple[float, float]:
    """Validation and train loss of the averaged weights."""
    with averaged(state), torch.no_grad():
        validation, train_ = evaluate(state.network)
    return float(validation), float(train_)


def _ratio(validation: float, train_: float) -> float:
    return max(validation, 1e-9) / max(train_, 1e-9)


def _planned(
    network: nn.Module, loss: StepLoss, evaluate: EvaluationLoss, *, rows: int, recipe: Recipe, seed: Seed
) -> tuple[int, int]:
    """How many steps and evaluations fit into the time budget, by timing some on a copy that is thrown away."""
    trial, batches = fresh(copy.deepcopy(network), recipe, 1_000, 1), _Batches(rows, recipe.batch, seed)
    return affordable(
        lambda: float(_step(trial, loss, batches, recipe, seed)),  # float: waits for a device
        lambda: _losses(trial, evaluate),
        max_seconds=recipe.max_seconds,
        evaluations=recipe.evaluations,
    )


def _summary(state: State, recipe: Recipe) -> Training:
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


def _kept(run: Run) -> str:
    return "a checkpoint was written, resume goes on from it" if run.folder else "no checkpoint folder was given"

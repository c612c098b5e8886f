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
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from synthgen.errors import Interrupted, SynthgenError
from synthgen.generators import budget
from synthgen.generators.gradients import StepLoss, gradient
from synthgen.generators.team import team
from synthgen.generators.training_state import (
    State,
    averaged,
    copy_to,
    description,
    fresh,
    read_checkpoint,
    write_checkpoint,
)
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

log = logging.getLogger(__name__)
SECONDS_BETWEEN_SIGNS = 0.5  # of life, between evaluations

EvaluationLoss = Callable[
    [nn.Module], tuple[Tensor, Tensor]
]  # network -> (loss on validation rows, loss on train rows)


class OnEvaluation(Protocol):
    """Is shown the averaged weights at each evaluation, without gradients; it must leave them and the state alone."""

    def __call__(self, network: nn.Module, *, step: int, evaluation: int) -> None: ...


@dataclass(frozen=True)
class Recipe:
    """How long and how to train."""

    max_seconds: float = 120.0  # turned into a number of steps by timing a few; planned anew when the pace changes
    max_steps: int | None = None  # a number of steps instead
    max_epochs: float | None = (
        None  # passes over the rows that a time budget buys at most: the rest would learn by heart
    )
    batch: int = 512
    learning_rate: float = 3e-3
    warm_up: int = 200  # steps of rising learning rate, a tenth of the steps at most; then a cosine down to zero
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    ema: float = 0.999  # decay of the averaged weights, less during the first steps
    evaluations: int = 40  # over the whole run, evenly; fewer where they would take a tenth of the time budget
    patience: int = 8  # evaluations without a better validation loss before stopping
    tolerance: float = 0.0  # a validation loss above the best by this share is as good, and the later weights are kept
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
    first_ratio: float  # of validation to train loss before any training
    memorisation_gap: float  # growth of that ratio at which training stops
    stopped: bool  # by the user, before its end
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
    on_evaluation: OnEvaluation | None = None,
) -> Training:
    """Train a network in place and leave the best averaged weights in it.

    Args:
        network: its parameters are trained; buffers are left alone.
        loss: of a batch, given by row numbers below `rows`.
        evaluate, on_evaluation: called without gradients on the averaged weights; the first is deterministic, the
            second is called in the main process alone.
        rows, recipe, seed: how many there are; how long and how to train; of everything random.
        run: told of progress, asked to stop, and holds the checkpoint folder.
        identity: what makes this training this one (settings, train fingerprint); a checkpoint of another is refused.

    Raises:
        Interrupted: `run.stop()` said so and `run.on_stop` is "resume"; a checkpoint was written if there is a folder.
        DataError: the checkpoint is broken or of another training.
        SynthgenError: the loss became infinite.
    """
    run = run or Run()
    described = description(identity, seed, recipe)
    team().meet()  # what was written before is there
    state = read_checkpoint(network, recipe, run, described)
    team().meet()  # and is not replaced before all have read it
    if state is None:
        state = _started(network, loss, evaluate, rows=rows, recipe=recipe, seed=seed)
        write_checkpoint(state, run, described)
    batches, losses, stopped = _Batches(rows, recipe.batch, seed), list[Tensor](), False
    saved_at = told_at = budget.clock()
    started = saved_at - state.seconds
    while not _is_over(state, recipe):
        if stopped := team().any(run.stop()):
            break
        plan = (state.steps, state.parts)
        losses.append(_step(state, loss, batches, recipe, seed))
        state.seconds = budget.clock() - started
        if state.step % state.interval == 0 or state.step == state.steps:
            _evaluate(state, evaluate, recipe, run, float(torch.stack(losses).mean()), on_evaluation)
            losses, told_at = [], budget.clock()
        if budget.clock() - told_at > SECONDS_BETWEEN_SIGNS:
            run.progress(Progress("training", state.step, state.steps))
            told_at = budget.clock()
        if plan != (state.steps, state.parts) or budget.clock() - saved_at > recipe.checkpoint_seconds:
            write_checkpoint(state, run, described)
            saved_at = budget.clock()
    write_checkpoint(state, run, described)
    if stopped and run.on_stop == "resume":
        raise Interrupted(f"stopped at step {state.step} of {state.steps}; " + _kept(run))
    run.progress(Progress("training", state.step, state.step))  # done, also where it stopped early
    copy_to(state.parameters, state.best)
    return _summary(state, recipe, stopped=stopped)


def require_learned(outcome: Training) -> None:
    """Nobody wants to keep weights that have learned nothing.

    Raises:
        Interrupted: stopped before the first improvement.
    """
    if outcome.stopped and outcome.best_step == 0:
        raise Interrupted("stopped before anything was learned: no weights are worth keeping yet")


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
    found = gradient(
        state.network, loss, rows, parts=state.parts, team=team(), seed=seed.child("step", str(state.step))
    )
    state.parts = found.parts
    state.optimizer.step()
    decay = min(recipe.ema, (1 + state.step) / (10 + state.step))
    torch._foreach_lerp_(state.ema, [p.detach() for p in state.parameters], 1 - decay)
    state.step += 1
    return found.loss


def _evaluate(
    state: State,
    evaluate: EvaluationLoss,
    recipe: Recipe,
    run: Run,
    running: float,
    on_evaluation: OnEvaluation | None,
) -> None:
    """Evaluate the averaged weights; keep them if they are the best so far and memorise little; look at the clock."""
    validation, train_ = _losses(state, evaluate)
    if not math.isfinite(validation):
        raise SynthgenError(f"the training diverged at step {state.step}: lower learning_rate")
    state.history.append((state.step, train_, validation))
    state.gap = _ratio(validation, train_) / state.first_ratio - 1
    state.waited += 1
    if validation < state.lowest_loss * (1 + recipe.tolerance) and state.gap <= recipe.memorisation_gap:
        state.best_loss, state.best_train_loss, state.best_step, state.waited = validation, train_, state.step, 0
        copy_to(state.best, state.ema)
    state.lowest_loss = min(state.lowest_loss, validation)
    losses = {"validation_loss": validation, "train_loss": train_, "batch_loss": running}
    metrics = {**losses, "seconds": round(state.seconds, 2), "seconds_left": round(_seconds_left(state), 2)}
    run.progress(Progress("training", state.step, state.steps, metrics))
    log.debug("step %d of %d: %s", state.step, state.steps, metrics)
    if on_evaluation is not None and team().leads:
        with averaged(state), torch.no_grad():
            on_evaluation(state.network, step=state.step, evaluation=len(state.history))


def _seconds_left(state: State) -> float:
    """By the pace since the first evaluation in this process, after which the plan may be another."""
    (state.seconds,) = team().agree(state.seconds)
    if state.marked is None:  # the steps before were slow: memory is allocated, kernels are compiled
        state.marked = (state.step, state.seconds)
        return state.seconds / state.step * (state.steps - state.step)
    step, seconds = state.marked
    pace = max(state.seconds - seconds, 1e-9) / (state.step - step)
    state.steps = budget.replanned(
        planned=state.steps,
        done=state.step,
        most=state.most_steps,
        seconds=state.seconds,
        pace=pace,
        max_seconds=state.max_seconds,
    )
    return pace * (state.steps - state.step)


def _begin(state: State, evaluate: EvaluationLoss) -> None:
    """The untrained weights are the best so far, and show how much harder one slice is than the other."""
    state.best_loss, state.best_train_loss = _losses(state, evaluate)
    state.lowest_loss = state.best_loss
    state.first_ratio = _ratio(state.best_loss, state.best_train_loss)


def _losses(state: State, evaluate: EvaluationLoss) -> tuple[float, float]:
    """Validation and train loss of the averaged weights."""
    with averaged(state), torch.no_grad():
        validation, train_ = evaluate(state.network)
    agreed = team().agree(float(validation), float(train_))
    return agreed[0], agreed[1]


def _ratio(validation: float, train_: float) -> float:
    return max(validation, 1e-9) / max(train_, 1e-9)


def _started(
    network: nn.Module, loss: StepLoss, evaluate: EvaluationLoss, *, rows: int, recipe: Recipe, seed: Seed
) -> State:
    """The state before the first step, its number of steps found by timing some on a copy that is thrown away."""
    if recipe.max_steps is None:
        (began,) = team().agree(budget.clock())
        trial, batches = fresh(copy.deepcopy(network), recipe, 1_000, 1), _Batches(rows, recipe.batch, seed)
        steps, evaluations = budget.affordable(
            lambda: float(_step(trial, loss, batches, recipe, seed)),  # float: waits for a device
            lambda: _losses(trial, evaluate),
            max_seconds=recipe.max_seconds,
            evaluations=recipe.evaluations,
            now=lambda: team().agree(budget.clock())[0],
        )
        most = sys.maxsize if recipe.max_epochs is None else math.ceil(recipe.max_epochs * batches.per_epoch)
        steps = min(steps, most)
        parts, max_seconds = trial.parts, recipe.max_seconds - (team().agree(budget.clock())[0] - began)
    else:
        steps, evaluations, parts, max_seconds = recipe.max_steps, recipe.evaluations, 1, math.inf
        most = steps
    state = fresh(network, recipe, steps, max(min(10, steps), steps // evaluations))
    state.parts, state.max_seconds, state.most_steps = parts, max_seconds, most
    _begin(state, evaluate)
    return state


def _is_over(state: State, recipe: Recipe) -> bool:
    return state.step >= state.steps or state.waited >= recipe.patience or state.gap > recipe.memorisation_gap


def _summary(state: State, recipe: Recipe, *, stopped: bool) -> Training:
    """What happened; what a person should know is logged too."""
    notes, at = [], f"step {state.step} of {state.steps} planned; the weights of step {state.best_step} are kept"
    if state.gap > recipe.memorisation_gap:
        growth = f"the validation loss grew {state.gap:.1%} against the train loss by"
        notes.append(f"memorisation warning: {growth} {at}")
    if stopped:
        notes.append(f"stopped by the user at {at}")
    if state.steps < state.first_steps:
        notes.append(f"the machine got slower than it was at first: {state.steps} steps instead of {state.first_steps}")
    if state.parts > 1:
        notes.append(f"out of memory: each batch went through the device in {state.parts} parts, with the same result")
    for note in notes:
        log.warning("%s", note)
    if state.waited >= recipe.patience and not stopped:
        notes.append(f"stopped early: no better validation loss after step {state.best_step} of {state.steps} planned")
    return Training(
        steps=state.step,
        planned_steps=state.steps,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        train_loss=state.best_train_loss,
        first_ratio=state.first_ratio,
        memorisation_gap=recipe.memorisation_gap,
        stopped=stopped,
        notes=tuple(notes),
        history=tuple(state.history),
    )


def _kept(run: Run) -> str:
    if run.folder is None:
        return "no checkpoint folder was given"
    return "a checkpoint was written: resume goes on from it, or keeps the best weights so far (--keep-best)"

"""How is a network trained with differential privacy? DP-SGD: each patient's gradient is cut, the sum gets noise.

Every patient takes part in a step with the same probability, on its own (Poisson). What a patient's loss draws, such
as which tokens are hidden, is drawn for that patient alone: were it spread evenly over the batch, as elsewhere, one
patient more would change the gradients of the others, and the accounting would be wrong. The loop looks at no loss, for
each look would have to be paid for: it takes the planned steps and keeps the averaged weights.

Gradients of single patients come from torch.func; Opacus cuts them, adds the noise and steps.

Source: Abadi et al. 2016 (arXiv:1607.00133), algorithm 1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from synthgen.errors import Interrupted, SynthgenError
from synthgen.generators import budget
from synthgen.generators.dp import Plan, Privacy, patients_per_step, plan
from synthgen.generators.training import Recipe, learning_rate
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

    from synthgen.generators.dp_tables import Prepared

log = logging.getLogger(__name__)
_NUMBERS = 2**24  # of gradients of single patients that are held at once
_DECAY = 0.99  # of the averaged weights
_TIMED = 3  # steps, to see how many the time allows
_STEPS = 1_500  # at most, where their number is not set: more need more noise each

Draw = Callable[[Tensor, torch.Generator], tuple[Tensor, ...]]  # row numbers -> what the loss needs, patients first
Loss = Callable[..., Tensor]  # what `Draw` gave for one patient -> scalar


class Beside(Protocol):
    """A second network that learns from the one that is trained, and never from the data."""

    def __call__(self, step: int) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True)
class Examples:
    """The loss of single patients. `loss` is a module whose trained weights are those of the network in it."""

    loss: nn.Module
    draw: Draw
    patients: int


def fit_privately(
    loss: nn.Module,
    draw: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, ...]],
    *,
    made: Tensor,
    tokens: Tensor,
    prepared: Prepared,
    privacy: Privacy,
    batch: int | None,
    max_steps: int | None,
    recipe: Recipe,
    run: Run,
    beside: Callable[[int], Beside] | None = None,
) -> dict[str, Any]:
    """Plan, train in place, and give the facts for the manifest.

    Args:
        loss: of one patient.
        draw: from tokens and row numbers what the loss needs.
        made: of the stand-in: its rows are what steps are timed on. Shape: (rows, tokens)
        tokens: of the patients. Shape: (patients, tokens)
        prepared, privacy: what was promised, and what the counts have cost.
        batch, max_steps: as set; None: chosen here.
        recipe: for learning rate, weight decay, betas and the time budget.
        run: told of progress and asked to stop.
        beside: given the number of steps, what takes steps of its own beside these, without the data.

    Raises:
        ConfigError: no noise would keep the promise.
    """
    batch = patients_per_step(batch, len(tokens))
    if max_steps is None:
        public = Examples(loss, lambda rows, generator: draw(made, rows, generator), len(made))
        max_steps = affordable_steps(public, batch=batch, most=_STEPS, max_seconds=recipe.max_seconds)
    planned = plan(privacy, counts_noise=prepared.counts_noise, steps=max_steps, batch=batch)
    log.info("%s; noise multiplier %.3g", planned.to_json()["claim"], planned.gradient_noise)
    examples = Examples(loss, lambda rows, generator: draw(tokens, rows, generator), len(tokens))
    other = None if beside is None else beside(planned.steps)
    taken = train(examples, plan=planned, recipe=recipe, seed=prepared.secret, run=run, after=other)
    if other is not None:
        other.finish()
    facts: dict[str, Any] = {"steps": taken, "planned_steps": planned.steps, "privacy": planned.to_json()}
    if taken < planned.steps:
        note = f"stopped by the user at step {taken} of {planned.steps} planned, all of which are counted"
        log.warning(note)
        facts["notes"] = [note]
    return facts


def train(
    examples: Examples,
    *,
    plan: Plan,
    recipe: Recipe,
    seed: Seed,
    run: Run,
    after: Callable[[int], None] | None = None,
) -> int:
    """Train in place, leave the averaged weights, and say how many steps were taken.

    Args:
        examples: whose gradients are taken; all weights of their loss that need a gradient are trained.
        plan: steps, sampling rate, clipping norm and noise.
        recipe: learning rate, weight decay and betas.
        seed: of the choice of patients and of the noise: a secret.
        run: told of progress and asked to stop; no checkpoint is written.
        after: called after each step with its number; it must not look at the data.

    Raises:
        Interrupted: `run.stop()` said so and `run.on_stop` is "resume".
        SynthgenError: the weights became infinite.
    """
    trained = {name: p for name, p in examples.loss.named_parameters() if p.requires_grad}
    optimizer = _optimizer(list(trained.values()), plan, recipe)
    averages = [p.detach().clone() for p in trained.values()]
    examples.loss.eval()
    step = 0
    while step < plan.steps:
        if run.stop():
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan.steps, recipe)
        _step(optimizer, examples, trained, plan, seed.child("step", str(step)))
        decay = min(_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, [p.detach() for p in trained.values()], 1 - decay)
        if after is not None:
            after(step)
        step += 1
        if step % 20 == 0 or step == plan.steps:
            run.progress(Progress("training", step, plan.steps))
    if step < plan.steps and run.on_stop == "resume":
        raise Interrupted("stopped: a training with differential privacy writes no checkpoint, and begins anew")
    if not all(bool(torch.isfinite(average).all()) for average in averages):
        raise SynthgenError("the training diverged: lower learning_rate")
    with torch.no_grad():
        torch._foreach_copy_(list(trained.values()), averages)
        for p in trained.values():
            p.grad = p.grad_sample = p.summed_grad = None  # type: ignore[attr-defined]
    return step


def affordable_steps(examples: Examples, *, batch: int, most: int, max_seconds: float) -> int:
    """How many steps the time allows, by timing some without effect; examples of made-up patients do.

    >>> examples = Examples(nn.Module(), lambda rows, generator: (), 5)
    >>> affordable_steps(examples, batch=5, most=0, max_seconds=1.0)
    0
    """
    trained, took = dict(examples.loss.named_parameters()), []
    for number in range(_TIMED if most else 0):
        began = budget.clock()
        rows = torch.arange(batch) % examples.patients
        for part in rows.split(_chunk(trained)):
            gradients(examples, trained, part, Seed(number).torch())
        took.append(budget.clock() - began)
    return max(1, min(most, int(max_seconds / max(min(took), 1e-6)))) if most else 0


def gradients(
    examples: Examples, trained: dict[str, nn.Parameter], rows: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """The gradient of each patient's loss. Shape: rows (patients,) -> for each weight (patients, *its shape)."""
    if len(rows) == 0:
        return {name: p.new_zeros((0, *p.shape)) for name, p in trained.items()}
    inputs = examples.draw(rows, generator)

    def loss(weights: dict[str, Tensor], *one: Tensor) -> Any:
        return torch.func.functional_call(examples.loss, weights, one)

    single = torch.func.vmap(torch.func.grad(loss), in_dims=(None, *(0 for _ in inputs)))
    found: dict[str, Tensor] = single({name: p.detach() for name, p in trained.items()}, *inputs)
    return found


def poisson(patients: int, rate: float, generator: torch.Generator) -> Tensor:
    """Each patient or not, on its own. Shape: -> (chosen,) int64.

    >>> len(poisson(100, 1.0, Seed(1).torch())), len(poisson(100, 0.0, Seed(1).torch()))
    (100, 0)
    """
    return torch.nonzero(torch.rand(patients, generator=generator, dtype=torch.float64) < rate)[:, 0]


def _optimizer(weights: list[nn.Parameter], plan: Plan, recipe: Recipe) -> DPOptimizer:
    from opacus.optimizers import DPOptimizer

    inner = torch.optim.AdamW(
        weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=recipe.betas, foreach=True
    )
    return DPOptimizer(
        inner,
        noise_multiplier=plan.gradient_noise,
        max_grad_norm=plan.privacy.clip,
        expected_batch_size=plan.batch,
    )


def _step(optimizer: DPOptimizer, examples: Examples, trained: dict[str, nn.Parameter], plan: Plan, seed: Seed) -> None:
    """One step on a Poisson sample; an empty one is a step too, on noise alone."""
    device = next(iter(trained.values())).device
    chosen = poisson(examples.patients, plan.rate, seed.child("patients").torch()).to(device)
    generator = seed.child("inputs").torch(device.type)
    optimizer.generator = seed.child("noise").torch(device.type)
    parts = chosen.split(_chunk(trained)) or (chosen,)
    for number, part in enumerate(parts, start=1):
        for name, found in gradients(examples, trained, part, generator).items():
            trained[name].grad_sample = found  # type: ignore[attr-defined]
        optimizer.signal_skip_step(do_skip=number < len(parts))
        optimizer.step()
        optimizer.zero_grad()


def _chunk(trained: dict[str, nn.Parameter]) -> int:
    """Patients whose gradients are held at once."""
    return max(1, _NUMBERS // max(1, sum(p.numel() for p in trained.values())))

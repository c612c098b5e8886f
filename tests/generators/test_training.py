"""The training loop: known optimum, early stop, time budget, and that stopping and killing change no byte."""

import math
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from synthgen.errors import DataError, EnvironmentProblem, Interrupted, SynthgenError
from synthgen.generators import budget
from synthgen.generators.checkpoint import load_state, save_state
from synthgen.generators.training import Recipe, Training, train
from synthgen.generators.training_state import STATE
from synthgen.protocols import Run
from synthgen.rng import Seed

X = torch.randn(400, 3, generator=Seed(1).torch())
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(400, generator=Seed(2).torch())


def loss(network: nn.Module, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    noise = 0.01 * torch.randn(len(rows), 3, generator=generator)
    return ((network(X[rows] + noise)[:, 0] - Y[rows]) ** 2).mean()


def evaluate(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    error = (network(X)[:, 0] - Y) ** 2
    return error[300:].mean(), error[:300].mean()


def linear() -> nn.Module:
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
    return network


def fit(run: Run | None = None, **recipe) -> tuple[nn.Module, Training]:
    network = linear()
    defaults = {
        "max_steps": 400,
        "batch": 32,
        "learning_rate": 0.05,
        "ema": 0.98,
        "patience": 99,
        "memorisation_gap": 9.0,
    }
    settings = Recipe(**{**defaults, **recipe})
    return network, train(network, loss, evaluate, rows=300, recipe=settings, seed=Seed(3), run=run)


def test_finds_the_least_squares_answer():
    network, outcome = fit()
    assert np.allclose(network.weight.detach().numpy(), [[1.0, -2.0, 0.5]], atol=0.05)
    assert outcome.steps == outcome.planned_steps == 400
    assert outcome.validation_loss < 0.02


def test_same_seed_same_bytes():
    assert fit()[0].weight.detach().numpy().tobytes() == fit()[0].weight.detach().numpy().tobytes()


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    asked = iter(range(10_000))
    with pytest.raises(Interrupted, match="step 137 of 400"):
        fit(Run(folder=tmp_path, stop=lambda: next(asked) >= 137))
    network, outcome = fit(Run(folder=tmp_path, resume=True))
    whole, expected = fit()
    assert network.weight.detach().numpy().tobytes() == whole.weight.detach().numpy().tobytes()
    assert outcome == expected


def test_resuming_a_finished_training_changes_nothing(tmp_path):
    first, outcome = fit(Run(folder=tmp_path))
    again, same = fit(Run(folder=tmp_path, resume=True))
    assert outcome == same
    assert first.weight.detach().numpy().tobytes() == again.weight.detach().numpy().tobytes()


def test_a_killed_process_resumes_to_the_same_bytes(tmp_path):
    code = """
        import sys, time
        sys.path.insert(0, sys.argv[1])
        import test_training as t
        from pathlib import Path
        slow = lambda: time.sleep(0.01) or False
        t.fit(t.Run(folder=Path(sys.argv[2]), stop=slow), checkpoint_seconds=0.0)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(arguments) as child:
        while child.poll() is None and _step(tmp_path) < 50:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert 50 <= _step(tmp_path) < 400
    network, outcome = fit(Run(folder=tmp_path, resume=True))
    whole, expected = fit()
    assert network.weight.detach().numpy().tobytes() == whole.weight.detach().numpy().tobytes()
    assert outcome == expected


def _step(folder) -> int:
    state = load_state(folder / STATE)
    return state[1]["step"] if state else 0


class Clock:
    """A clock that only training moves: a step takes .1 s, and .3 s from `slower_from` to `faster_from`."""

    def __init__(self, monkeypatch, slower_from: float = math.inf, faster_from: float = math.inf) -> None:
        self.seconds, self.slower_from, self.faster_from = 0.0, slower_from, faster_from
        monkeypatch.setattr(budget, "clock", lambda: self.seconds)

    def loss(self, network, rows, generator):
        self.seconds += 0.3 if self.slower_from < self.seconds < self.faster_from else 0.1
        return loss(network, rows, generator)

    def fit(self, run: Run | None = None, **recipe) -> Training:
        settings = Recipe(batch=32, learning_rate=0.05, ema=0.98, patience=99, memorisation_gap=9.0, **recipe)
        return train(linear(), self.loss, evaluate, rows=300, recipe=settings, seed=Seed(3), run=run)


def test_a_time_budget_becomes_a_number_of_steps(monkeypatch):
    clock = Clock(monkeypatch)
    outcome = clock.fit(max_seconds=60.0)
    assert outcome.steps == outcome.planned_steps == pytest.approx(600 - 8 - 13, abs=8)  # less those that were timed
    assert clock.seconds == pytest.approx(60.0, abs=1.0)
    assert outcome.notes == ()


def test_a_machine_that_gets_slower_gets_fewer_steps(monkeypatch):
    clock = Clock(monkeypatch, slower_from=30.0)
    outcome = clock.fit(max_seconds=60.0)
    assert 60.0 <= clock.seconds <= 66.1  # it would have been 120
    assert outcome.steps == outcome.planned_steps < 450
    assert outcome.history[-1][0] == outcome.steps  # the last weights were looked at
    assert "the machine got slower" in outcome.notes[0]


def test_a_resumed_training_follows_the_plan_that_was_cut(monkeypatch, tmp_path):
    clock = Clock(monkeypatch, slower_from=30.0)
    with pytest.raises(Interrupted):
        clock.fit(Run(folder=tmp_path, stop=lambda: clock.seconds > 60.0), max_seconds=60.0)
    stored = load_state(tmp_path / STATE)[1]
    assert stored["steps"] < stored["first_steps"]
    resumed = Clock(monkeypatch).fit(Run(folder=tmp_path, resume=True), max_seconds=60.0)
    assert resumed.planned_steps == stored["steps"]


def test_a_machine_that_was_busy_at_first_gets_the_steps_that_the_budget_buys(monkeypatch):
    clock = Clock(monkeypatch, slower_from=0.0, faster_from=10.0)
    outcome = clock.fit(max_seconds=60.0)
    assert clock.seconds == pytest.approx(60.0, abs=6.1)  # it would have been 30
    assert outcome.steps == outcome.planned_steps > 400
    assert outcome.notes == ()


def test_a_plan_does_not_grow_beyond_the_passes_it_may_take(monkeypatch):
    clock = Clock(monkeypatch, slower_from=0.0, faster_from=10.0)
    assert clock.fit(max_seconds=60.0, max_epochs=25.0).planned_steps == 25 * (300 // 32)


def test_a_number_of_steps_is_never_cut(monkeypatch):
    assert Clock(monkeypatch, slower_from=10.0).fit(max_steps=400, max_seconds=1.0).steps == 400


def test_a_time_budget_buys_at_most_so_many_passes():
    _, outcome = fit(max_steps=None, max_seconds=60, max_epochs=3.0)
    assert outcome.planned_steps == outcome.steps == 3 * (300 // 32)


def test_weights_as_good_as_the_best_are_kept_from_the_end_of_the_schedule():
    """The validation loss turns upwards a little after its minimum: only within the tolerance later weights count."""
    losses = [1.0, 0.5, 0.501, 0.502, 0.6]

    def kept(tolerance: float) -> Training:
        told = iter(losses)

        def scripted(_network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.tensor(next(told)), torch.tensor(0.5)

        recipe = Recipe(max_steps=40, evaluations=4, memorisation_gap=9.0, tolerance=tolerance, batch=32)
        return train(linear(), loss, scripted, rows=300, recipe=recipe, seed=Seed(3))

    assert (kept(0.0).best_step, kept(0.0).validation_loss) == (10, 0.5)
    assert kept(0.01).best_step == 30
    assert math.isclose(kept(0.01).validation_loss, 0.502, rel_tol=1e-6)
    assert kept(0.003).best_step == 20  # measured from the lowest, not from the one that was kept last


def test_memory_that_runs_out_halves_the_parts_of_a_batch(tmp_path, caplog):
    """As if the device held no more than nine rows: 32 go through as four times eight, with the same gradients."""

    def plain(network, rows, generator):
        return ((network(X[rows])[:, 0] - Y[rows]) ** 2).mean()

    def small(network, rows, generator):
        if len(rows) > 9:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return plain(network, rows, generator)

    def learn(loss, run=None):
        network, recipe = linear(), Recipe(max_steps=100, batch=32, learning_rate=0.05, patience=99)
        return network, train(network, loss, evaluate, rows=300, recipe=recipe, seed=Seed(3), run=run)

    expected, _ = learn(plain)
    network, outcome = learn(small, Run(folder=tmp_path))
    torch.testing.assert_close(network.weight, expected.weight)
    assert "in 4 parts" in outcome.notes[0]
    assert "out of memory" in caplog.text
    assert load_state(tmp_path / STATE)[1]["parts"] == 4

    def none(network, rows, generator):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(EnvironmentProblem, match="too little memory for one row"):
        learn(none)


def test_a_run_that_lost_memory_resumes_to_the_same_bytes(tmp_path):
    def learn(run=None, *, room=9, **more):
        def small(network, rows, generator):
            if len(rows) > room:
                raise torch.cuda.OutOfMemoryError
            return loss(network, rows, generator)

        network, recipe = linear(), Recipe(max_steps=100, batch=32, learning_rate=0.05, patience=99)
        train(network, small, evaluate, rows=300, recipe=recipe, seed=Seed(3), run=run)
        return network.weight.detach().numpy().tobytes()

    asked = iter(range(1_000))
    with pytest.raises(Interrupted):
        learn(Run(folder=tmp_path, stop=lambda: next(asked) >= 50))
    assert learn(Run(folder=tmp_path, resume=True), room=1_000) == learn()  # the rest goes through in parts too


def test_stopped_to_keep_returns_the_best_so_far(tmp_path):
    asked = iter(range(10_000))
    _, outcome = fit(Run(folder=tmp_path, stop=lambda: next(asked) >= 137, on_stop="keep"))
    assert outcome.stopped
    assert (outcome.steps, outcome.planned_steps) == (137, 400)
    assert 0 < outcome.best_step <= 130
    assert outcome.notes == (
        f"stopped by the user at step 137 of 400 planned; the weights of step {outcome.best_step} are kept",
    )
    network, again = fit(Run(folder=tmp_path, resume=True, stop=lambda: True, on_stop="keep"))
    assert again == outcome
    assert evaluate(network)[0].item() == pytest.approx(outcome.validation_loss)
    whole, expected = fit(Run(folder=tmp_path, resume=True))  # and it can still be gone on with
    assert whole.weight.detach().numpy().tobytes() == fit()[0].weight.detach().numpy().tobytes()
    assert not expected.stopped


def by_heart(**recipe) -> Training:
    """Learn rows by heart: nothing carries over to other rows."""
    memory = nn.Embedding(300, 1)
    nn.init.zeros_(memory.weight)

    def remembered(network, rows, generator):
        return ((network(rows)[:, 0] - Y[rows]) ** 2).mean()

    def judged(network):
        seen = ((network(torch.arange(100))[:, 0] - Y[:100]) ** 2).mean()
        unseen = ((network(torch.arange(100))[:, 0] - Y[300:]) ** 2).mean()
        return unseen, seen

    settings = Recipe(max_steps=4_000, batch=300, learning_rate=0.05, weight_decay=0.0, **recipe)
    return train(memory, remembered, judged, rows=300, recipe=settings, seed=Seed(3))


def test_stops_when_validation_stops_improving_and_says_so():
    outcome = by_heart(patience=4, memorisation_gap=1e9)
    assert outcome.steps == 400  # four evaluations, none better than the untrained weights
    assert outcome.best_step == 0
    assert "stopped early" in outcome.notes[0]


def test_stops_at_memorisation_and_says_so(caplog):
    outcome = by_heart(patience=40)
    assert outcome.steps == 100
    assert "memorisation warning" in outcome.notes[0]
    assert outcome.notes[0] in caplog.text


def test_progress_reports_train_and_validation_loss_not_at_every_step():
    events = []
    fit(Run(progress=events.append))
    assert len([event for event in events if event.metrics]) == 40
    assert events[-1].done == events[-1].total == 400
    assert set(events[0].metrics) == {"batch_loss", "train_loss", "validation_loss", "seconds", "seconds_left"}
    assert events[0].metrics["seconds_left"] > events[-2].metrics["seconds_left"] == 0


def test_divergence_is_an_error():
    with pytest.raises(SynthgenError, match="diverged"):
        fit(learning_rate=1e38)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    fit(Run(folder=tmp_path), max_steps=20)
    with pytest.raises(DataError, match=r"another training, which differs in: max_steps\."):
        fit(Run(folder=tmp_path, resume=True), max_steps=30)
    with pytest.raises(DataError, match="differs in: max_seconds, max_steps"):
        fit(Run(folder=tmp_path, resume=True), max_steps=None, max_seconds=5.0)


def test_broken_checkpoints_are_refused_and_a_failed_write_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_state(path, {"a": np.arange(3.0)}, {"step": 1})

    def full(self, *arguments, **more):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", full)
        with pytest.raises(EnvironmentProblem, match="the disk is full"):
            save_state(path, {"a": np.arange(4.0)}, {"step": 2})
    tensors, facts = load_state(path)
    assert (tensors["a"].tolist(), facts) == ([0.0, 1.0, 2.0], {"step": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="broken"):
        load_state(path)

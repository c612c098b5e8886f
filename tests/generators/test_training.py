"""The training loop: known optimum, early stop, time budget, and that stopping and killing change no byte."""

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


def test_a_time_budget_becomes_a_recorded_number_of_steps(tmp_path):
    with pytest.raises(Interrupted):
        fit(Run(folder=tmp_path, stop=lambda: True), max_steps=None, max_seconds=0.5)
    planned = load_state(tmp_path / STATE)[1]["steps"]
    assert planned >= 10
    _, outcome = fit(Run(folder=tmp_path, resume=True), max_steps=None, max_seconds=0.5)
    assert outcome.steps == outcome.planned_steps == planned


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


def test_stops_at_memorisation_and_says_so():
    outcome = by_heart(patience=40)
    assert outcome.steps == 100
    assert "memorisation warning" in outcome.notes[0]


def test_progress_reports_train_and_validation_loss_not_at_every_step():
    events = []
    fit(Run(progress=events.append))
    assert len([event for event in events if event.metrics]) == 40
    assert events[-1].done == events[-1].total == 400
    assert set(events[0].metrics) == {"batch_loss", "train_loss", "validation_loss"}


def test_divergence_is_an_error():
    with pytest.raises(SynthgenError, match="diverged"):
        fit(learning_rate=1e38)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    fit(Run(folder=tmp_path), max_steps=20)
    with pytest.raises(DataError, match="another training"):
        fit(Run(folder=tmp_path, resume=True), max_steps=30)


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

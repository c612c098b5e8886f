"""Several processes under `accelerate launch`: the same weights as one process, one checkpoint, one model."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from synthgen.generators.gradients import gradient
from synthgen.generators.image_diffusion import ImageDiffusion
from synthgen.generators.team import Team
from synthgen.rng import Seed

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed: pip install accelerate"
)
LAUNCH = (
    "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port 0"
)


def launch(folder: Path, *arguments: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *LAUNCH.split(), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_slices_of_a_batch_sum_to_its_gradient():
    """What the processes add up is the gradient of the whole batch, also where a slice is empty."""
    x, network = torch.randn(5, 3, generator=Seed(1).torch()), nn.Linear(3, 1)

    def loss(network, rows, generator):
        return (network(x[rows]) ** 2).mean()

    def found(members: list[Team]) -> torch.Tensor:
        total = torch.zeros_like(network.weight)
        for member in members:
            alone = member.share(torch.arange(5))
            if len(alone):
                gradient(network, loss, alone, parts=2, team=Team(), seed=Seed(2))
                total += network.weight.grad * len(alone) / 5
        return total

    expected = found([Team()])
    for size in (2, 3, 7):
        torch.testing.assert_close(found([Team(rank, size) for rank in range(size)]), expected)


@needs_accelerate
def test_two_processes_find_the_weights_that_one_finds(tmp_path):
    script = """
        import os
        import sys
        from pathlib import Path

        sys.path.extend(sys.argv[1:2])
        import torch
        from test_training import X, Y, evaluate, linear

        from synthgen.generators.team import team
        from synthgen.generators.training import Recipe, train
        from synthgen.protocols import Run
        from synthgen.rng import Seed

        def plain(network, rows, generator):
            return ((network(X[rows])[:, 0] - Y[rows]) ** 2).mean()

        def fit(run=None, **budget):
            network, recipe = linear(), Recipe(batch=32, learning_rate=0.05, ema=0.98, **budget)
            outcome = train(network, plain, evaluate, rows=300, recipe=recipe, seed=Seed(3), run=run)
            return network.weight.detach(), outcome

        if __name__ == "__main__":
            assert team().size == 2
            folder = Path(sys.argv[2])
            weight, outcome = fit(Run(folder=folder), max_steps=100)
            again, _ = fit(Run(folder=folder, resume=True), max_steps=100)
            assert torch.equal(weight, again)
            fit(max_seconds=0.5)  # both agree on a number of steps
            both = [torch.zeros_like(weight) for _ in range(2)]
            torch.distributed.all_gather(both, weight)
            assert torch.equal(*both)
            if team().leads:
                (folder / "weight.txt").write_text(str(weight.flatten().tolist()))
            team().meet()
            os._exit(0)  # on a busy machine torch's own threads may abort an interpreter that tidies up
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    launch(tmp_path, "script.py", Path(__file__).parent, tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        import script as alone
    finally:
        sys.path.remove(str(tmp_path))
    weight, _ = alone.fit(max_steps=100)
    found = torch.tensor(json.loads((tmp_path / "weight.txt").read_text()))
    torch.testing.assert_close(found, weight.flatten(), rtol=1e-4, atol=1e-5)


@needs_accelerate
def test_two_processes_fit_images(tmp_path):
    """The command line under `accelerate launch`: one model, as good as that of one process, whose noise is another."""
    rng = Seed(1).numpy()
    labels = rng.integers(0, 2, (60, 1)).astype(np.uint8)
    arrays = (rng.integers(0, 100, (60, 16, 16)) + 100 * labels[:, :, None]).astype(np.uint8)
    np.savez(tmp_path / "cohort.npz", train_images=arrays, train_labels=labels)
    settings = {"max_steps": 30, "threads": 1, "size": 16, "widths": "[16, 32]"}
    fit = ["-m", "synthgen", "fit", "cohort.npz", "--generator", "image-diffusion", "--seed", "1"]
    fit += [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    launch(tmp_path, *fit, "-o", "two")
    subprocess.run([sys.executable, *fit, "-o", "one"], cwd=tmp_path, capture_output=True, timeout=300, check=True)
    one, two = (ImageDiffusion.load(tmp_path / name) for name in ("one", "two"))
    assert (one.facts["steps"], two.facts["steps"]) == (30, 30)
    assert two.facts["validation_loss"] == pytest.approx(one.facts["validation_loss"], rel=0.1)
    assert len(two.sample(4, seed=1)) == 4

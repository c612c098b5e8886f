"""Do weights leave the house only with a promise that covers them, and does their card say what it is?"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from release_cases import passed, table

from synthgen.errors import DataError, ReleaseRefused
from synthgen.generators.checkpoint import Model, save_model
from synthgen.generators.dp import Plan, Privacy
from synthgen.model_release import MOST_EPSILON
from synthgen.releasing import release, verify
from synthgen.rng import Seed
from synthgen.stages import generator_facts


class Generator:
    name, licence = "diffusion", "Apache-2.0"


def model(folder: Path, *, epsilon: float | None = 3.0, seeded: bool = False) -> Path:
    """A model folder as a training with differential privacy leaves it, with figures of the training beside it."""
    pytest.importorskip("opacus", reason="the manifest names the version of its accountant")
    data = table()
    facts = {"steps": 5}
    if epsilon is not None:
        privacy = Privacy(epsilon, 1e-3, 1.0, 0.1, seeded, 100)
        facts["privacy"] = Plan(privacy, 5, 20, None, 1.0, epsilon).to_json()
    settings = {"max_steps": 5, "dp_epsilon": epsilon, "dp_seeded": seeded}
    save_model(
        folder,
        Model(
            "diffusion",
            settings,
            data.schema,
            "pandas",
            Seed(1),
            "a" * 64,
            None,
            facts,
            {"w": Seed(2).numpy().random(9)},
        ),
    )
    (folder / "metrics.jsonl").write_text('{"loss": 0.5}\n')
    return folder


def audited(data, folder: Path):
    return dataclasses.replace(passed(data), generator=generator_facts(Generator(), folder))


def test_a_private_model_leaves_with_its_card(tmp_path):
    data, weights = table(), model(tmp_path / "made")
    folder = release(audited(data, weights), data, tmp_path / "out", model=weights)
    verify(folder)
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["manifest.json", "weights.safetensors"]
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.index("**Weights can leak what samples do not.**") < card.index("## Model")
    for told in (
        "epsilon 3, delta 0.001",
        "did not attack the weights",
        "Not covered: the audit and its gate",
        "1,497",
    ):
        assert told in card
    (folder / "MODEL_CARD.md").unlink()
    with pytest.raises(DataError, match=r"lacks 'MODEL_CARD.md'"):
        verify(folder)


def test_by_default_no_weights_leave(tmp_path):
    data, weights = table(), model(tmp_path / "made")
    folder = release(audited(data, weights), data, tmp_path / "out")
    assert not (folder / "model").exists()
    assert not (folder / "MODEL_CARD.md").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": None}, "trained without differential privacy"),
        ({"seeded": True}, "noise came from the seed"),
        ({"epsilon": MOST_EPSILON + 0.1}, "an epsilon of 10.1 promises little"),
    ],
)
def test_weights_without_a_promise_stay(tmp_path, changes, words):
    data, weights = table(), model(tmp_path / "made", **changes)
    with pytest.raises(ReleaseRefused, match=f"stay in the house.*{words}"):
        release(audited(data, weights), data, tmp_path / "out", model=weights)
    assert not (tmp_path / "out").exists()


def test_another_model_than_the_audited_one_stays(tmp_path):
    data, weights, other = table(), model(tmp_path / "made"), model(tmp_path / "other", epsilon=2.0)
    for audit in (audited(data, weights), passed(data)):
        with pytest.raises(ReleaseRefused, match="not the model of this audit"):
            release(audit, data, tmp_path / "out", model=other)
    swapped = Path(shutil.copytree(weights, tmp_path / "swapped"))
    content = (swapped / "weights.safetensors").read_bytes()
    (swapped / "weights.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="broken"):
        release(audited(data, weights), data, tmp_path / "out", model=swapped)
    claims = json.loads((swapped / "manifest.json").read_text())
    claims["training"]["privacy"]["epsilon"] = 0.1
    (swapped / "manifest.json").write_text(json.dumps(claims))
    with pytest.raises(DataError, match="altered"):
        release(audited(data, weights), data, tmp_path / "out", model=swapped)
    assert not (tmp_path / "out").exists()

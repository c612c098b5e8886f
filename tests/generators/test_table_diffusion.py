"""The masked diffusion: known joint laws, conditions, same bytes, protection, and what a model folder holds."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch
from generator_cases import ODD, known_law

from synthgen.data import TableData
from synthgen.datasets import load
from synthgen.errors import DataError, Interrupted, UsageError
from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import StageLoss, hide
from synthgen.generators.layout import Layout
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.tokens import HIDDEN
from synthgen.protocols import Generator, Run
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

QUICK = {"max_steps": 60, "width": 32, "threads": 1}


@pytest.fixture(scope="module")
def law() -> TableData:
    return known_law()


@pytest.fixture(scope="module")
def fitted(law) -> TableDiffusion:
    return TableDiffusion(max_steps=2_000, threads=1).fit(law, seed=1)


@pytest.fixture(scope="module")
def sampled(fitted) -> pd.DataFrame:
    return fitted.sample(4_000, seed=2).table


def test_is_a_generator():
    assert isinstance(TableDiffusion(), Generator)


def test_learns_the_joint_law_of_two_columns(law, sampled):
    agree = float(np.mean(sampled["a"] == (sampled["b"] == "yes")))
    truth = float(np.mean(law.table["a"] == (law.table["b"] == "yes")))
    assert abs(agree - truth) < 0.03  # standard error .005; the rest is what a short training may miss
    assert abs(sampled["a"].mean() - law.table["a"].mean()) < 0.04


def test_conditional_missingness_comes_back_within_two_points(sampled):
    group = sampled["g"] == 1
    assert sampled["x"][group].isna().mean() >= 0.98
    assert sampled["x"][~group].isna().mean() <= 0.02
    assert abs(group.mean() - 0.3) < 0.04


def test_learns_a_relation_between_numbers(sampled):
    assert np.corrcoef(sampled["z"], sampled["y"])[0, 1] > 0.95
    assert (sampled["y"] == sampled["y"].round(1)).all()


def test_where_holds_in_every_row_and_shifts_the_rest(fitted):
    rows = fitted.sample(1_500, seed=3, where={"b": "yes", "z": 61.3}).table
    assert (rows["b"] == "yes").all()
    assert (rows["z"] == 61.3).all()
    assert rows["a"].mean() > 0.8  # 90 % by the law
    assert abs(rows["y"].median() - 183.9) < 6


def test_given_holds_row_by_row(fitted):
    given = pd.DataFrame({"g": [0, 1] * 150, "z": np.linspace(30.0, 70.0, 300).round(1)})
    rows = fitted.sample(300, seed=4, given=given).table
    np.testing.assert_array_equal(rows["z"], given["z"])
    np.testing.assert_array_equal(rows["g"], given["g"])
    assert rows["x"][given["g"] == 1].isna().mean() > 0.95


def test_where_missing(fitted):
    rows = fitted.sample(200, seed=5, where={"x": None}).table
    assert rows["x"].isna().all()
    assert rows["g"].mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"where": {"sx": "f"}}, "'sx' is not a learned column"),
        ({"where": {"b": "SECRET"}}, "column 'b': 1 fixed values are none that the model has learned"),
        ({"where": {"z": "SECRET"}}, "column 'z'"),
        ({"where": {"b": None}}, "train has none missing"),
        ({"given": pd.DataFrame({"b": ["yes"]})}, "given has 1 rows, but 10"),
        ({"where": {"b": "yes"}, "given": pd.DataFrame({"b": ["yes"] * 10})}, "fixed twice"),
    ],
)
def test_impossible_conditions_are_refused_without_their_value(fitted, arguments, words):
    with pytest.raises(UsageError, match=words) as caught:
        fitted.sample(10, seed=1, **arguments)
    assert "SECRET" not in str(caught.value)


def test_same_seed_same_bytes(law, tmp_path):
    for name in ("one", "two"):
        generator = TableDiffusion(**QUICK).fit(law, seed=7)
        generator.save(tmp_path / name)
        generator.sample(500, seed=8).table.to_csv(tmp_path / f"{name}.csv")
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    other = TableDiffusion(**QUICK).fit(law, seed=9)
    assert not other.sample(500, seed=8).table.equals(generator.sample(500, seed=8).table)


def test_loaded_equals_saved(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = TableDiffusion.load(tmp_path)
    assert loaded == fitted
    assert loaded.sample(300, seed=1).table.equals(fitted.sample(300, seed=1).table)
    assert {p.name for p in tmp_path.iterdir()} == {"manifest.json", "weights.safetensors"}


def test_altered_and_foreign_folders_are_refused(fitted, tmp_path):
    with pytest.raises(DataError, match="not a model folder"):
        TableDiffusion.load(tmp_path)
    fitted.save(tmp_path)
    weights, manifest = tmp_path / "weights.safetensors", tmp_path / "manifest.json"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is not the file"):
        TableDiffusion.load(tmp_path)
    fitted.save(tmp_path)
    manifest.write_text(manifest.read_text().replace('"diffusion"', '"copula"'))
    with pytest.raises(DataError, match="altered"):
        TableDiffusion.load(tmp_path)
    manifest.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        TableDiffusion.load(tmp_path)


@pytest.mark.parametrize("moment", [5, 18, 59])
def test_stopped_at_any_moment_and_resumed_gives_the_same_bytes(law, whole, tmp_path, moment):
    asked = iter(range(1_000))
    with pytest.raises(Interrupted):
        TableDiffusion(**QUICK).fit(law, seed=7, run=Run(folder=tmp_path, stop=lambda: next(asked) >= moment))
    resumed = TableDiffusion(**QUICK).fit(law, seed=7, run=Run(folder=tmp_path, resume=True))
    resumed.save(tmp_path / "resumed")
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "resumed" / file).read_bytes() == (whole / file).read_bytes()


class Killed(BaseException):
    """Nothing is written any more, as when the process is killed."""


@pytest.mark.parametrize("seconds", [30.0, 0.0])
def test_killed_and_resumed_gives_the_same_bytes(law, whole, tmp_path, seconds):
    def kill(event):
        if event.metrics and event.done >= 10:
            raise Killed

    with pytest.raises(Killed):
        TableDiffusion(**QUICK, checkpoint_seconds=seconds).fit(law, seed=7, run=Run(folder=tmp_path, progress=kill))
    resumed = TableDiffusion(**QUICK).fit(law, seed=7, run=Run(folder=tmp_path, resume=True))
    resumed.save(tmp_path / "resumed")
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "resumed" / file).read_bytes() == (whole / file).read_bytes()


@pytest.fixture(scope="module")
def whole(law, tmp_path_factory):
    """The model folder of a fit that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    TableDiffusion(**QUICK).fit(law, seed=7).save(folder)
    return folder


def test_ctrl_c_leaves_a_generator_fitted_with_the_best_so_far(law, caplog):
    before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it

    def press(event):
        if event.metrics and event.done >= 10:
            signal.raise_signal(signal.SIGINT)

    generator = TableDiffusion(**QUICK).fit(law, seed=7, run=Run(progress=press))
    assert len(generator.sample(20, seed=1)) == 20
    assert generator.facts["stopped"]
    assert "stopped by the user at step 10 of 60 planned" in generator.facts["notes"][0]
    assert "press Ctrl-C again" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_pressed_twice_stops_at_once_and_before_anything_was_learned_nothing_is_kept(law):
    def twice(event):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        TableDiffusion(**QUICK).fit(law, seed=7, run=Run(progress=twice))
    with pytest.raises(Interrupted, match="before anything was learned"):
        TableDiffusion(**QUICK, prior=False).fit(law, seed=7, run=Run(stop=lambda: True, on_stop="keep"))


def test_what_it_started_from_is_worth_keeping(law, caplog):
    generator = TableDiffusion(**QUICK).fit(law, seed=7, run=Run(stop=lambda: True, on_stop="keep"))
    assert "it samples the Gaussian copula that it started from" in generator.facts["notes"][-1]
    assert generator.facts["notes"][-1] in caplog.text
    drawn = generator.sample(2_000, seed=1).table
    assert np.corrcoef(drawn["z"], drawn["y"])[0, 1] > 0.9


def test_no_planted_rare_level_or_extreme_in_any_byte_of_the_model(tmp_path):
    rng = Seed(6).numpy()
    table = pd.DataFrame(
        {
            "dx": np.array(["common-a", "common-b"] * 200 + ["UNIQUE-DIAGNOSIS"], dtype=object),
            "weight": [*rng.normal(70, 10, 400).round(1), 41276.3],
            "visits": [*rng.integers(0, 9, 400).astype(float), 98765.0],
        }
    )
    columns = (Column("dx", "categorical"), Column("weight", "real", decimals=1), Column("visits", "integer"))
    generator = TableDiffusion(**QUICK).fit(TableData(table, TableSchema(columns)), seed=1)
    generator.save(tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for number in (41276.3, 98765.0):
        for packed in (np.float64(number).tobytes(), np.float32(number).tobytes(), str(number).encode()):
            assert packed not in content
    assert b"UNIQUE" not in content
    assert b"98765" not in content
    folded = generator.facts["folded"]["dx"]
    assert folded == {"k": folded["k"], "levels": 1, "rows": 1, "backed_off": 0}
    rows = generator.sample(2_000, seed=2).table
    assert rows["weight"].max() < 150
    assert set(rows["dx"]) == {"common-a", "common-b"}


@pytest.mark.parametrize("prior", [False, True])
def test_bfloat16_is_used_where_asked_for_and_changes_the_training_by_its_rounding_alone(law, prior):
    asked = {"threads": 1, "max_steps": 200, "prior": prior}
    whole = TableDiffusion(**asked).fit(law, seed=1)
    half = TableDiffusion(**asked, bfloat16=True).fit(law, seed=1)
    losses = [generator.facts["validation_loss"] for generator in (whole, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert {parameter.dtype for parameter in half._fitted.network.parameters()} == {torch.float32}


def test_few_patients_are_refused_unless_forced(law):
    few = law.take(np.arange(40))
    with pytest.raises(DataError, match="too few patients: 40"):
        TableDiffusion(**QUICK).fit(few, seed=1)
    assert len(TableDiffusion(**QUICK, force=True).fit(few, seed=1).sample(5, seed=1)) == 5


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_tables(data):
    rows = TableDiffusion(**{**QUICK, "max_steps": 4}).fit(data, seed=1).sample(30, seed=2)
    assert len(rows) == 30
    assert rows.table.dtypes.tolist() == data.table.dtypes.tolist()
    for name in data.table:
        if not data.table[name].isna().any() and data.table[name].value_counts().max() > 7:
            assert rows.table[name].notna().all()


def test_fits_frames_and_gives_their_type_back():
    frame = load("gbsg2").frame
    rows = TableDiffusion(**QUICK).fit(frame, seed=1).sample(20, seed=1).frame
    assert rows.dtypes.equals(frame.dtypes)


def test_settings_are_checked():
    for wrong in ({"max_steps": 0}, {"width": -1}, {"dropout": 1.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            TableDiffusion(**wrong)
    with pytest.raises(UsageError, match="call fit first"):
        TableDiffusion().sample(3, seed=1)


def test_the_loss_is_the_cross_entropy_of_each_token(law):
    codec = TableCodec.fit(law, seed=Seed(1))
    layout = Layout.of(codec)
    generator = Seed(2).torch()
    sizes = layout.sizes[: layout.coarse]
    logits = torch.randn(7, int(sizes.sum()), generator=generator, requires_grad=True)
    tokens = torch.stack([torch.randint(int(size), (7,), generator=generator) for size in sizes], dim=1)
    weights = torch.rand(tokens.shape, generator=generator)
    weights[:, 0] = 0
    value = StageLoss(layout, "coarse")(logits, tokens, weights)
    parts = logits.split(sizes.tolist(), dim=1)
    losses = [torch.nn.functional.cross_entropy(p, tokens[:, i], reduction="none") for i, p in enumerate(parts)]
    torch.testing.assert_close(value, (torch.stack(losses, 1) * weights).sum(1).mean())
    value.backward()
    assert (logits.grad[:, : sizes[0]] == 0).all()  # a token without weight teaches nothing
    sparse = StageLoss(layout, "coarse")
    sparse.dense = False
    torch.testing.assert_close(sparse(logits, tokens, weights), value)


def test_hidden_counts_are_uniform_and_the_weights_are_unbiased():
    eligible = torch.ones(5_000, 4, dtype=torch.bool)
    hidden, weights = hide(eligible, Seed(3).torch())
    counts = torch.bincount(hidden.sum(1), minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 1_250).abs().max() <= 1  # low discrepancy: exact up to rounding
    torch.testing.assert_close(weights.sum(1), torch.ones(5_000))
    partly = eligible.clone()
    partly[:, 0] = False
    assert not hide(partly, Seed(3).torch())[0][:, 0].any()


def test_hidden_tokens_do_not_reach_the_network(fitted):
    network = fitted._fitted.network
    tokens = torch.zeros(2, len(network.layout.order), dtype=torch.long)
    tokens[1, 0] = 1
    assert not torch.allclose(network(tokens)[0], network(tokens)[1])
    tokens[:, 0] = HIDDEN
    torch.testing.assert_close(network(tokens)[0], network(tokens)[1])

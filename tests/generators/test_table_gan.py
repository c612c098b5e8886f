"""The conditional GAN: known joint laws, conditions, same bytes, protection, its gradients, what a folder holds."""

import numpy as np
import pandas as pd
import pytest
import torch
from generator_cases import ODD, known_law

from synthgen.data import TableData
from synthgen.errors import DataError, Interrupted, UsageError
from synthgen.generators.codec import TableCodec
from synthgen.generators.gan_networks import Vocabulary
from synthgen.generators.gan_objective import GanObjective
from synthgen.generators.gan_sampling import fill_coarse
from synthgen.generators.layout import Layout
from synthgen.generators.table_gan import TableGan
from synthgen.generators.tokens import HIDDEN
from synthgen.protocols import Generator, Run
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

QUICK = {"max_steps": 20, "width": 32, "threads": 1}


@pytest.fixture(scope="module")
def law() -> TableData:
    return known_law()


@pytest.fixture(scope="module")
def fitted(law) -> TableGan:
    return TableGan(max_steps=300, width=64, dropout=0.0, learning_rate=4e-3, threads=1).fit(law, seed=1)


@pytest.fixture(scope="module")
def sampled(fitted) -> pd.DataFrame:
    return fitted.sample(4_000, seed=2).table


def test_is_a_generator():
    assert isinstance(TableGan(), Generator)


def test_learns_the_joint_law_of_two_columns(law, sampled):
    agree = float(np.mean(sampled["a"] == (sampled["b"] == "yes")))
    truth = float(np.mean(law.table["a"] == (law.table["b"] == "yes")))
    assert abs(agree - truth) < 0.05  # standard error .005; the rest is what a short training may miss
    assert abs(sampled["a"].mean() - law.table["a"].mean()) < 0.05


def test_learns_conditional_missingness(sampled):
    group = sampled["g"] == 1
    assert sampled["x"][group].isna().mean() >= 0.9
    assert sampled["x"][~group].isna().mean() <= 0.06
    assert abs(group.mean() - 0.3) < 0.05


def test_learns_a_relation_between_numbers(sampled):
    assert np.corrcoef(sampled["z"], sampled["y"])[0, 1] > 0.8
    assert (sampled["y"] == sampled["y"].round(1)).all()


def test_where_holds_in_every_row_and_shifts_the_rest(fitted):
    rows = fitted.sample(1_500, seed=3, where={"b": "yes", "z": 61.3}).table
    assert (rows["b"] == "yes").all()
    assert (rows["z"] == 61.3).all()
    assert rows["a"].mean() > 0.8  # 90 % by the law
    assert abs(rows["y"].median() - 183.9) < 10


def test_given_holds_row_by_row(fitted):
    given = pd.DataFrame({"g": [0, 1] * 150, "z": np.linspace(30.0, 70.0, 300).round(1)})
    rows = fitted.sample(300, seed=4, given=given).table
    np.testing.assert_array_equal(rows["z"], given["z"])
    np.testing.assert_array_equal(rows["g"], given["g"])
    assert rows["x"][given["g"] == 1].isna().mean() > 0.85


def test_impossible_conditions_are_refused_without_their_value(fitted):
    for arguments in ({"where": {"sx": "f"}}, {"where": {"b": "SECRET"}}, {"given": pd.DataFrame({"b": ["yes"]})}):
        with pytest.raises(UsageError) as caught:
            fitted.sample(10, seed=1, **arguments)
        assert "SECRET" not in str(caught.value)


def test_same_seed_same_bytes(law, tmp_path):
    for name in ("one", "two"):
        generator = TableGan(**QUICK).fit(law, seed=7)
        generator.save(tmp_path / name)
        generator.sample(500, seed=8).table.to_csv(tmp_path / f"{name}.csv")
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    other = TableGan(**QUICK).fit(law, seed=9)
    assert not other.sample(500, seed=8).table.equals(generator.sample(500, seed=8).table)


def test_loaded_equals_saved_and_the_critic_stays_behind(fitted, tmp_path):
    from safetensors import safe_open

    fitted.save(tmp_path)
    loaded = TableGan.load(tmp_path)
    assert loaded == fitted
    assert loaded.sample(300, seed=1).table.equals(fitted.sample(300, seed=1).table)
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        assert set(file.keys()) == set(fitted._fitted.network.state_dict())
        assert not any("critic" in name or "join" in name for name in file.keys())  # noqa: SIM118


def test_stopped_and_resumed_fit_equals_an_uninterrupted_one(law, tmp_path):
    asked = iter(range(1_000))
    with pytest.raises(Interrupted):
        TableGan(**QUICK).fit(law, seed=7, run=Run(folder=tmp_path, stop=lambda: next(asked) >= 13))
    resumed = TableGan(**QUICK).fit(law, seed=7, run=Run(folder=tmp_path, resume=True))
    whole = TableGan(**QUICK).fit(law, seed=7)
    resumed.save(tmp_path / "resumed")
    whole.save(tmp_path / "whole")
    for file in ("manifest.json", "weights.safetensors"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_few_patients_are_refused_unless_forced(law):
    few = law.take(np.arange(40))
    with pytest.raises(DataError, match="too few patients: 40"):
        TableGan(**QUICK).fit(few, seed=1)
    assert len(TableGan(**QUICK, force=True).fit(few, seed=1).sample(5, seed=1)) == 5


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_tables(data):
    rows = TableGan(**{**QUICK, "max_steps": 3}).fit(data, seed=1).sample(30, seed=2)
    assert len(rows) == 30
    assert rows.table.dtypes.tolist() == data.table.dtypes.tolist()
    for name in data.table:
        if not data.table[name].isna().any() and data.table[name].value_counts().max() > 7:
            assert rows.table[name].notna().all()


def test_packs_of_rows(law):
    assert len(TableGan(**QUICK, pack=4).fit(law, seed=1).sample(10, seed=1)) == 10


def test_settings_are_checked():
    for wrong in ({"max_steps": 0}, {"passes": 0}, {"balanced": 1.5}, {"penalty": -1.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            TableGan(**wrong)
    with pytest.raises(UsageError, match="call fit first"):
        TableGan().sample(3, seed=1)


@pytest.fixture(scope="module")
def parts(law):
    """A codec's vocabulary, its coarse tokens of the law, and an objective on them."""
    codec = TableCodec.fit(law, seed=Seed(1))
    layout = Layout.of(codec)
    vocabulary = Vocabulary(layout)
    tokens = torch.from_numpy(codec.encode(law)[:, layout.order[: layout.coarse]].astype(np.int32))
    settings = {"penalty": 0.1, "matching": 1.0, "balanced": 0.5, "passes": 2}
    return codec, vocabulary, tokens, GanObjective(vocabulary, tokens, tokens[:50], Seed(2), **settings)


def test_draws_follow_the_softmax_of_each_token(parts):
    _, vocabulary, _, _ = parts
    generator = Seed(3).torch()
    logits = 2 * torch.randn(1, vocabulary.values, generator=generator)
    shares = vocabulary.shares(logits)
    expected = [part.softmax(1) for part in logits.split(list(vocabulary.sizes), 1)]
    torch.testing.assert_close(shares, torch.cat(expected, 1))
    uniform = torch.rand(20_000, vocabulary.tokens, generator=generator)
    drawn = vocabulary.one_hot(vocabulary.draw(shares.expand(20_000, -1), uniform)).mean(0)
    assert (drawn - shares[0]).abs().max() < 5 * (0.25 / 20_000) ** 0.5  # five standard errors at most


def test_known_columns_range_from_none_to_all_but_one(parts):
    _, vocabulary, tokens, objective = parts
    rows, known = objective.choose(torch.arange(1_200), Seed(4).torch())
    counts = known.sum(1)
    assert counts.min() == 0
    assert counts.max() == vocabulary.tokens - 1
    assert rows.min() >= 0
    assert rows.max() < len(tokens)


def test_rows_drawn_by_level_have_rare_levels_more_often(law):
    rare = pd.DataFrame({"r": np.where(np.arange(2_000) % 100 == 0, "rare", "usual").astype(object), "c": 1.0})
    data = TableData(rare, TableSchema((Column("r", "categorical"), Column("c", "boolean"))))
    codec = TableCodec.fit(data, seed=Seed(1))
    tokens = torch.from_numpy(codec.encode(data).astype(np.int32))
    settings = {"penalty": 0.1, "matching": 1.0, "balanced": 1.0, "passes": 1}
    objective = GanObjective(Vocabulary(Layout.of(codec)), tokens, tokens[:50], Seed(2), **settings)
    rows, known = objective.choose(torch.arange(2_000), Seed(4).torch())
    share = np.mean(data.table["r"].to_numpy()[rows[known[:, 0]].numpy()] == "rare")
    assert abs(share - np.log1p(20) / (np.log1p(20) + np.log1p(1_980))) < 0.06  # four standard errors of 1,000 draws
    assert known.any(1).all()


def test_each_player_gets_its_own_gradient(law, parts):
    """The maker's gradient equals that of its relativistic loss, with draws straight through to their softmax."""
    codec, vocabulary, tokens, _ = parts
    players = TableGan(width=16, dropout=0.0)._resolved(2_000)._players(codec, Seed(5))
    settings = {"penalty": 0.3, "matching": 0.0, "balanced": 0.0, "passes": 1}
    objective = GanObjective(vocabulary, tokens, tokens[:50], Seed(2), **settings)
    batch = torch.arange(64)
    objective(players, batch, Seed(6).torch()).backward()
    generator = Seed(6).torch()
    rows, known = objective.choose(batch, generator)
    real = tokens[rows].long()
    logits = players.maker(torch.where(known, real, HIDDEN), torch.randn(64, players.maker.noise, generator=generator))
    shares = torch.cat([part.softmax(1) for part in logits.split(list(vocabulary.sizes), 1)], 1)
    drawn = vocabulary.draw(shares.detach(), torch.rand(real.shape, generator=generator))
    made = vocabulary.one_hot(torch.where(known, real, drawn))
    through = made + (shares - shares.detach()) * (~known)[:, vocabulary.owner]
    facts = vocabulary.one_hot(real).requires_grad_()
    margin = players.critic(facts, known, None) - players.critic(through, known, None)
    wanted = torch.autograd.grad(torch.nn.functional.softplus(margin).mean(), list(players.maker.parameters()))
    for parameter, gradient in zip(players.maker.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)
    fixed = made.requires_grad_()
    margin = players.critic(facts, known, None) - players.critic(fixed, known, None)
    slopes = torch.autograd.grad(margin.sum(), (facts, fixed), create_graph=True)
    loss = torch.nn.functional.softplus(-margin).mean() + 0.15 * sum(s.square().sum() for s in slopes) / 64
    wanted = torch.autograd.grad(loss, list(players.critic.parameters()), allow_unused=True)
    for parameter, gradient in zip(players.critic.parameters(), wanted, strict=True):
        expected = torch.zeros_like(parameter) if gradient is None else gradient
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)


def test_matching_leads_towards_the_joint_tables_of_the_batch(parts):
    _, vocabulary, tokens, objective = parts
    real = vocabulary.one_hot(tokens[:300].long())
    hidden = (torch.rand(300, vocabulary.tokens, generator=Seed(3).torch()) < 0.5)[:, vocabulary.owner]
    made = torch.where(hidden, vocabulary.one_hot(tokens[300:600].long()), real).requires_grad_()
    (new, old), known = (made * hidden, real * hidden), real * ~hidden
    within, across = (new.T @ new - old.T @ old) / 300, (known.T @ new - known.T @ old) / 300
    loss = (within.square().sum() + 2 * across.square().sum()) / vocabulary.tokens
    (gradient,) = torch.autograd.grad(loss, made)
    got = objective._matched(torch.cat([real, made.detach()]), hidden)
    torch.testing.assert_close(got * hidden, gradient)


def test_passes_keep_what_is_known_and_leave_nothing_hidden(fitted):
    maker = fitted._fitted.network
    rows = torch.full((500, maker.vocabulary.tokens), HIDDEN)
    rows[:, 0] = 1
    rows[:250, 1] = 2
    for passes in (1, 3, 99):
        filled = fill_coarse(maker, rows, passes=passes, generator=Seed(1).torch())
        assert (filled[rows != HIDDEN] == rows[rows != HIDDEN]).all()
        assert ((filled >= 0) & (filled < torch.tensor(maker.vocabulary.sizes))).all()

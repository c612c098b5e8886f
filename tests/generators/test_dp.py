"""Differential privacy: what it costs, what a patient may do to a step, and that nothing else looks at the records."""

import dataclasses
import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from synthgen.data import TableData
from synthgen.errors import ConfigError, EnvironmentProblem, Interrupted, UsageError
from synthgen.generators import dp, dp_training
from synthgen.generators.codec import TableCodec
from synthgen.generators.dp_tables import one_row_each, require_declared, sensitivity, stand_in
from synthgen.generators.gan_private import CriticLoss
from synthgen.generators.layout import Layout
from synthgen.generators.objective import hidden_tokens
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.table_gan import TableGan
from synthgen.protocols import Run
from synthgen.rng import Seed
from synthgen.rules import Order
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    (
        Column("id", "identifier", roles=("patient",)),
        Column("a", "boolean"),
        Column("b", "categorical", levels=("no", "yes", "never used")),
        Column("x", "integer", minimum=0, maximum=40),
        Column("z", "real", decimals=1, minimum=0, maximum=120),
        Column("g", "integer", minimum=0, maximum=99_999),
    )
)
GENERATORS = [TableDiffusion, TableGan]


@pytest.fixture(scope="module", autouse=True)
def _opacus():
    pytest.importorskip("opacus", reason="Opacus is not installed: pip install 'synthgen-health[dp]'")


def cohort(rows: int = 1_000, *, seed: int = 5, turned: bool = False) -> TableData:
    """b follows a in 90 %, or in 10 % if turned; x is missing in 20 %; g is zero in 80 %."""
    rng = Seed(seed).numpy()
    a = rng.random(rows) < 0.5
    b = np.where(rng.random(rows) < (0.1 if turned else 0.9), a, ~a)
    columns = {
        "id": [f"p{i}" for i in range(rows)],
        "a": a.astype(float),
        "b": np.where(b, "yes", "no").astype(object),
        "x": np.where(rng.random(rows) < 0.2, np.nan, rng.integers(0, 30, rows)),
        "z": rng.normal(50, 10, rows).round(1).clip(0, 120),
        "g": np.where(rng.random(rows) < 0.8, 0.0, rng.integers(1, 50_000, rows)),
    }
    return TableData(pd.DataFrame(columns), SCHEMA)


def private(kind, **changes):
    settings = {"max_steps": 4, "batch": 50, "width": 32, "threads": 1, "dp_epsilon": 5.0, "dp_seeded": True}
    return kind(**{**settings, **changes})


def planned(**changes) -> dp.Plan:
    privacy = dp.Privacy(3.0, 1e-3, 1.0, 0.1, True, 100)
    return dataclasses.replace(dp.Plan(privacy, 5, 20, None, 1.0, 3.0), **changes)


def analytic_delta(epsilon: float, noise: float) -> float:
    """Of one Gaussian mechanism: Balle and Wang 2018 (arXiv:1805.06530), theorem 8."""
    half = 1 / (2 * noise)
    return norm.cdf(half - epsilon * noise) - math.exp(epsilon) * norm.cdf(-half - epsilon * noise)


@pytest.mark.parametrize("noise", [0.7, 2.0, 10.0])
def test_one_gaussian_costs_what_its_closed_form_says(noise):
    epsilon = dp.epsilon_of([(noise, 1.0, 1)], 1e-5)
    assert analytic_delta(epsilon, noise) <= 1e-5  # an upper bound of epsilon
    assert analytic_delta(epsilon - 0.02, noise) > 1e-5


@pytest.mark.parametrize(
    "mechanisms", [[(1.0, 0.02, 500)], [(4.0, 1.0, 1), (0.9, 0.03, 300)], [(12.0, 1.0, 1), (2.0, 0.1, 200)]]
)
def test_the_accountant_of_google_agrees_within_two_percent(mechanisms):
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed: pip install dp-accounting")
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    other = PLDAccountant(value_discretization_interval=1e-3)
    for noise, rate, times in mechanisms:
        one = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
        other.compose(dp_event.SelfComposedDpEvent(one, times))
    assert dp.epsilon_of(mechanisms, 1e-5) == pytest.approx(other.get_epsilon(1e-5), rel=0.02)


def test_no_noise_is_no_privacy():
    assert dp.epsilon_of([(0.0, 0.1, 10)], 1e-5) == math.inf
    assert dp.epsilon_of([(5.0, 1.0, 1), (0.0, 0.1, 10)], 1e-5) == math.inf


def test_a_plan_spends_what_was_promised_and_no_more():
    noises = []
    for epsilon in (1.0, 4.0):
        privacy = dp.Privacy.of(
            "gan", epsilon=epsilon, delta=1e-5, clip=1.0, marginals=0.2, seeded=True, patients=2_000
        )
        counts = dp.noise_of_counts(privacy)
        plan = dp.plan(privacy, counts_noise=counts, steps=100, batch=100)
        assert 0.95 * epsilon < plan.epsilon <= epsilon
        assert plan.rate == 0.05
        together = [(counts, 1.0, 1), (plan.gradient_noise, 0.05, 100)]
        assert dp.epsilon_of(together, 1e-5) == plan.epsilon
        assert dp.epsilon_of([(counts, 1.0, 1)], 1e-5) == pytest.approx(0.2 * epsilon, rel=0.05)
        noises.append((plan.gradient_noise, counts))
    assert noises[0] > noises[1]
    alone = dataclasses.replace(privacy, marginals=0.0)
    assert dp.noise_of_counts(alone) is None
    assert dp.plan(alone, counts_noise=None, steps=100, batch=100).gradient_noise < noises[1][0]
    assert dp.plan(alone, counts_noise=None, steps=5, batch=5_000).rate == 1.0


def test_promises_that_promise_nothing_are_refused():
    settings = {"epsilon": 1.0, "delta": None, "clip": 1.0, "marginals": 0.2, "seeded": False, "patients": 100}
    for wrong in ({"epsilon": 0.0}, {"epsilon": math.inf}, {"clip": 0.0}, {"marginals": 1.0}, {"delta": 0.0}):
        with pytest.raises(UsageError, match="dp_epsilon"):
            dp.Privacy.of("gan", **{**settings, **wrong})
    with pytest.raises(ConfigError, match="whole records"):
        dp.Privacy.of("gan", **{**settings, "delta": 0.01})
    with pytest.raises(UsageError, match="pack=1"):
        private(TableGan, pack=2).fit(cohort(100), seed=1)


def test_every_patient_takes_part_with_the_same_probability_on_its_own():
    taken = [dp_training.poisson(200, 0.1, Seed(i).torch()) for i in range(2_000)]
    sizes = np.array([len(rows) for rows in taken])
    assert sizes.mean() == pytest.approx(20, abs=0.4)  # sd of the mean .095
    assert sizes.var() == pytest.approx(18, rel=0.15)  # binomial: batches of one size would have 0
    shares = np.bincount(torch.cat(taken), minlength=200) / 2_000
    assert np.abs(shares - 0.1).max() < 5 * math.sqrt(0.09 / 2_000)


def test_what_is_hidden_in_a_row_does_not_depend_on_the_rest_of_the_batch():
    """Spread evenly over the batch, each number of hidden tokens would occur the same number of times."""
    codec = TableCodec.fit(cohort(), seed=Seed(1))
    layout = Layout.of(codec)
    tokens = torch.from_numpy(codec.encode(cohort(), order=layout.order))
    _, hidden, _ = hidden_tokens(tokens, layout, Seed(1).torch())
    counts = np.bincount(hidden[:, : layout.coarse].sum(1), minlength=layout.coarse + 1)[1:]
    assert counts.sum() == 1_000
    assert counts.std() > 3  # of a multinomial about 12; evenly spread: below 1
    assert np.abs(counts - 200).max() < 5 * math.sqrt(160)


class Toy(torch.nn.Module):
    """The loss of patient i is weight . x_i: its gradient is x_i."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * x).sum()


def toy(x: torch.Tensor) -> dp_training.Examples:
    return dp_training.Examples(Toy(), lambda rows, generator: (x[rows],), len(x))


def summed(monkeypatch, x: torch.Tensor, *, noise: float, seed: int = 1, rate: float = 1.0, numbers: int = 2**24):
    """What one step hands to the optimizer, times the expected batch."""
    found = []
    kept = lambda self: found.append(self.param_groups[0]["params"][0].grad.clone())  # noqa: E731
    monkeypatch.setattr(torch.optim.AdamW, "step", kept)
    monkeypatch.setattr(dp_training, "_NUMBERS", numbers)
    privacy = dp.Privacy(1.0, 1e-5, 1.0, 0.0, True, max(1, len(x)))
    plan = dp.Plan(privacy, 1, max(1, round(rate * len(x))), None, noise, 1.0)
    examples = toy(x)
    optimizer = dp_training._optimizer(list(examples.loss.parameters()), plan, dp_training.Recipe())
    dp_training._step(optimizer, examples, dict(examples.loss.named_parameters()), plan, Seed(seed))
    (gradient,) = found
    return gradient * plan.batch


def test_a_patient_moves_the_sum_by_the_clipping_norm_at_most(monkeypatch):
    x = torch.randn(40, 3, generator=Seed(1).torch()) * 0.1
    before = summed(monkeypatch, x, noise=0.0)
    torch.testing.assert_close(before, x.sum(0))  # all are short: nothing is cut
    extreme = torch.cat([x, torch.tensor([[1e6, 0.0, 0.0]])])
    torch.testing.assert_close(summed(monkeypatch, extreme, noise=0.0) - before, torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(
        summed(monkeypatch, extreme, noise=0.0, numbers=9), summed(monkeypatch, extreme, noise=0.0)
    )


def test_the_noise_has_the_planned_size_also_where_nobody_takes_part(monkeypatch):
    nobody = torch.zeros(1, 3)
    monkeypatch.setattr(dp_training, "poisson", lambda patients, rate, generator: torch.zeros(0, dtype=torch.int64))
    draws = torch.cat([summed(monkeypatch, nobody, noise=2.5, seed=i) for i in range(400)])
    assert float(draws.std()) == pytest.approx(2.5, rel=0.1)  # 1,200 draws: sd 2 %
    assert float(draws.mean()) == pytest.approx(0, abs=0.3)


def test_one_row_of_each_patient_takes_part():
    data = cohort(300)
    data = TableData(data.table.assign(id=[f"p{i // 3}" for i in range(300)]), SCHEMA)
    picks = [one_row_each(data, Seed(i)) for i in range(60)]
    assert all(len(pick) == pick.patient_count == 100 for pick in picks)
    first = [float(pick.table["z"][0]) for pick in picks]
    counts = [first.count(float(z)) for z in data.table["z"][:3]]
    assert sum(counts) == 60
    assert min(counts) >= 8  # 20 each but for chance; sd 3.7


def test_what_is_not_declared_is_refused_and_named():
    columns = (Column("age", "integer"), Column("sex", "categorical"), Column("dose", "real", minimum=0.0))
    with pytest.raises(ConfigError, match="minimum and maximum of 'age', 'dose'; levels of 'sex'"):
        require_declared(TableSchema(columns))
    with pytest.raises(ConfigError, match="dates yet: 'seen'"):
        require_declared(TableSchema((Column("seen", "datetime"),)))
    ends = (Column("s", "integer", minimum=0, maximum=9), Column("t", "integer", minimum=0, maximum=9))
    with pytest.raises(ConfigError, match="'order' and 'combination'"):
        require_declared(TableSchema(ends, (Order(("s", "t")),)))
    require_declared(SCHEMA)


def test_the_counts_of_a_patient_are_few():
    """a 1 depth, b 1, x 41 values 2, z 1,201 values 3, g 100,000 values 5; and one for known or missing each."""
    assert sensitivity(SCHEMA) == pytest.approx(math.sqrt(1 + 1 + 2 + 3 + 5 + 5))


def test_from_the_schema_alone_nothing_is_learned_about_the_records():
    made = [stand_in(data, noise=None, seed=Seed(1)) for data in (cohort(), cohort(seed=6, turned=True))]
    assert made[0].fingerprint() == made[1].fingerprint()
    assert set(made[0].table["b"].dropna()) == {"no", "yes", "never used"}
    assert made[0].table["g"].max() > 99_000


def test_noisy_counts_keep_the_columns_and_nothing_that_is_not_declared():
    data = cohort(4_000)
    odd = data.table["b"].where(np.arange(4_000) > 20, "a secret")
    data = TableData(data.table.assign(b=odd, x=data.table["x"].where(np.arange(4_000) > 0, 7e5)), SCHEMA)
    made = stand_in(data, noise=2.0, seed=Seed(1)).table  # sd 8.2 of each count
    assert set(made["b"].dropna()) == {"no", "yes"}
    assert made["x"].isna().mean() == pytest.approx(0.2, abs=0.03)
    assert (made["g"] == 0).mean() == pytest.approx(0.8, abs=0.03)
    assert made["z"].mean() == pytest.approx(50, abs=1)
    assert made["x"].max() <= 40
    assert abs(np.corrcoef(made["a"], made["b"] == "yes")[0, 1]) < 0.05  # columns are drawn on their own


def test_noise_that_drowns_the_counts_leaves_even_columns():
    made = stand_in(cohort(), noise=1e4, seed=Seed(2)).table
    assert made["g"].median() > 10_000


@pytest.mark.parametrize("kind", GENERATORS)
def test_nothing_but_counts_and_gradients_looks_at_the_records(kind, monkeypatch):
    """Without counts and with gradients of zero two very different tables give the same model, byte for byte."""

    def zeros(examples, trained, rows, generator):
        return {name: p.new_zeros((len(rows), *p.shape)) for name, p in trained.items()}

    real, models = dp_training.gradients, {}
    for name, taken in {"blind": zeros, "seeing": real}.items():
        monkeypatch.setattr(dp_training, "gradients", taken)
        models[name] = []
        for data in (cohort(200), cohort(200, seed=8, turned=True)):
            generator = private(kind, dp_marginals=0.0).fit(data, seed=1)
            models[name].append(generator.sample(50, seed=2).fingerprint())
            weights = torch.cat([p.detach().flatten() for p in generator._fitted.network.parameters()])
            models[name][-1] += str(float(weights.double().sum()))
    assert models["blind"][0] == models["blind"][1]
    assert models["seeing"][0] != models["seeing"][1]


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_gradient_of_a_patient_is_that_of_its_loss_alone(kind, monkeypatch):
    seen = []
    monkeypatch.setattr(dp_training, "train", lambda examples, **_: seen.append(examples) or 1)
    private(kind, max_steps=1).fit(cohort(100), seed=1)
    (examples,) = seen
    trained = dict(examples.loss.named_parameters())
    rows, inputs = torch.arange(5), examples.draw(torch.arange(5), Seed(3).torch())
    monkeypatch.setattr(examples.loss, "training", False)
    found = dp_training.gradients(examples, trained, rows, Seed(3).torch())
    for i in range(5):
        alone = torch.autograd.grad(examples.loss(*(part[i] for part in inputs)), list(trained.values()))
        for name, gradient in zip(trained, alone, strict=True):
            torch.testing.assert_close(found[name][i], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_manifest_says_what_is_claimed_and_what_is_not_covered(kind, tmp_path):
    generator = private(kind).fit(cohort(200), seed=1)
    generator.save(tmp_path / "model")
    told = json.loads((tmp_path / "model" / "manifest.json").read_text())["training"]["privacy"]
    assert told["epsilon"] <= 5.0
    assert told["delta"] == 0.1 / 200
    assert told["claim"].startswith("epsilon ")
    assert (told["sampling"], told["sampling_rate"], told["steps"], told["clip"]) == ("Poisson", 0.25, 4, 1.0)
    assert any("settings" in text for text in told["not_covered"])
    assert "nothing is protected" in told["noise"]
    again = kind.load(tmp_path / "model").sample(30, seed=2)
    assert again.fingerprint() == generator.sample(30, seed=2).fingerprint()


def test_noise_is_a_secret_unless_it_is_asked_for_from_the_seed():
    weights = []
    for seeded in (True, True, False, False):
        generator = private(TableDiffusion, dp_seeded=seeded, max_steps=1).fit(cohort(100), seed=1)
        weights.append(generator._fitted.network.into.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[2], weights[3])
    assert "thrown away" in generator.facts["privacy"]["noise"]


def test_the_report_shows_the_claim():
    from synthgen.report.content import _flat

    privacy = planned().to_json()
    shown = dict(_flat({"training": {"privacy": privacy}}))
    assert shown["training.privacy.claim"] == privacy["claim"]
    assert "floating point" in shown["training.privacy.not_covered"]


@pytest.mark.parametrize("kind", GENERATORS)
def test_with_a_large_budget_pairs_of_columns_are_learned(kind):
    changes = {"max_steps": 120, "batch": 200, "width": 64, "dp_epsilon": 10.0}
    made = private(kind, **changes).fit(cohort(1_500), seed=1).sample(2_000, seed=2).table
    agree = ((made["a"] == 1) == (made["b"] == "yes")).mean()
    assert agree > 0.7  # 0.9 in the records, 0.5 in the stand-in
    assert (made["g"] == 0).mean() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("on_stop", ["keep", "resume"])
def test_a_stopped_training_keeps_its_claim_or_begins_anew(on_stop):
    asked = iter([False, False] + [True] * 9)
    run = Run(stop=lambda: next(asked), on_stop=on_stop)
    if on_stop == "resume":
        with pytest.raises(Interrupted, match="writes no checkpoint"):
            private(TableDiffusion).fit(cohort(100), seed=1, run=run)
        return
    facts = private(TableDiffusion).fit(cohort(100), seed=1, run=run).facts
    assert (facts["steps"], facts["planned_steps"], facts["privacy"]["steps"]) == (2, 4, 4)
    assert "stopped by the user" in facts["notes"][0]


def test_the_time_budget_limits_the_steps():
    slow = toy(torch.ones(5, 3))
    assert dp_training.affordable_steps(slow, batch=5, most=7, max_seconds=1e6) == 7
    assert dp_training.affordable_steps(slow, batch=5, most=7, max_seconds=1e-9) == 1


def test_without_opacus_the_error_says_what_to_install(monkeypatch):
    for name in ["opacus", *(module for module in sys.modules if module.startswith("opacus."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentProblem, match=r"synthgen-health\[dp\]"):
        private(TableDiffusion).fit(cohort(100), seed=1)


def test_the_critic_in_the_private_loss_is_the_critic():
    """Its vectors are summed in another way there, so that gradients of single patients stay small."""
    players = private(TableGan)._resolved(100)._players(TableCodec.fit(cohort(), seed=Seed(1)), Seed(2))
    vocabulary, critic = players.maker.vocabulary, players.critic
    rows = torch.zeros(2, vocabulary.tokens, dtype=torch.int64)
    rows[1] = 1
    rows, known = vocabulary.one_hot(rows).requires_grad_(), torch.arange(vocabulary.tokens) < 2
    scores = critic(rows, known.repeat(2, 1), None)
    (slope,) = torch.autograd.grad(scores.sum(), rows)
    expected = torch.nn.functional.softplus(scores[1] - scores[0]) + 0.5 * slope.square().sum()
    torch.testing.assert_close(CriticLoss(critic, penalty=1.0)(rows, known), expected)

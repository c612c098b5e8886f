"""The lower bound of epsilon: closed forms, how often it is wrong, and a training that claims more than it does."""

import dataclasses
import importlib.util
import math

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.errors import NotAssessable, UsageError
from synthgen.privacy.canaries import (
    CanaryAudit,
    by_synthetic,
    canary_audit,
    epsilon_bound,
    made_up,
    p_value,
)
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing import invented_cohort

needs_opacus = pytest.mark.skipif(
    importlib.util.find_spec("opacus") is None, reason="Opacus is not installed: pip install 'synthgen-health[dp]'"
)
LEVELS = tuple("abcdefgh")
SCHEMA = TableSchema(tuple(Column(f"c{i}", "categorical", levels=LEVELS) for i in range(8)))


def letters(rows: int, seed: int) -> TableData:
    rng = Seed(seed).numpy()
    cells = {name: np.array(LEVELS, dtype=object)[rng.integers(8, size=rows)] for name in SCHEMA.names}
    return TableData(pd.DataFrame(cells), SCHEMA)


@pytest.mark.parametrize("count", [20, 100, 1_000])
def test_all_right_guesses_have_a_closed_form(count):
    """Each falls right with q = e^eps / (1 + e^eps), and q^n = .05 is the limit: for many, log(n / 3)."""
    q = 0.05 ** (1 / count)
    assert epsilon_bound(count, count, count, delta=0.0) == pytest.approx(math.log(q / (1 - q)), abs=1e-3)
    assert epsilon_bound(count, count, count, delta=0.0) == pytest.approx(math.log(count / 3), abs=0.08)


def test_the_p_value_is_a_binomial_tail_and_what_delta_adds():
    assert p_value(8, 10, 30, epsilon=0.0, delta=0.0) == pytest.approx(56 / 1024)
    # tails of 10 coins: P(>= 8) 56, P(>= 7) 176, P(>= 6) 386, P(>= 5) 638, P(>= 4) 848 and more of 1,024
    best = max((176 - 56) / 1, (386 - 56) / 2, (638 - 56) / 3, (848 - 56) / 4) / 1024
    assert p_value(8, 10, 30, epsilon=0.0, delta=1e-3) == pytest.approx(56 / 1024 + 2 * 30 * 1e-3 * best)
    assert p_value(0, 10, 30, epsilon=0.0, delta=1e-3) == 1.0
    assert p_value(10, 10, 10, epsilon=0.0, delta=0.5) == 1.0


def test_more_right_guesses_refute_more_and_delta_refutes_less():
    bounds = [epsilon_bound(correct, 100, 200, delta=1e-5) for correct in range(101)]
    assert bounds == sorted(bounds)
    assert bounds[50] == 0.0 < bounds[65] < bounds[100]
    assert epsilon_bound(95, 100, 200, delta=1e-3) < epsilon_bound(95, 100, 200, delta=0.0)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_bound_is_above_the_truth_in_one_of_twenty_at_most(epsilon):
    """Coins that are told truthfully with e^eps / (1 + e^eps), the worst that pure epsilon allows: 1,000 audits."""
    right = 1 / (1 + math.exp(-epsilon))
    correct = Seed(1).numpy().binomial(200, right, size=1_000)
    wrong = sum(epsilon_bound(int(c), 200, 200, delta=0.0) > epsilon for c in correct)
    assert 20 <= wrong <= 70  # 50 but for what is discrete; three standard deviations are 21


def test_an_attacker_who_knows_nothing_shows_nothing_and_one_who_knows_all_shows_much():
    train, canaries = letters(30, 1), letters(200, 2)
    rng = Seed(3).numpy()
    blind = canary_audit(train, canaries, lambda _t, c, _s: rng.random(len(c)), delta=1e-6, seed=4)
    assert blind.epsilon_low < 0.5

    def reads(table: TableData, rows: TableData, _seed: Seed) -> np.ndarray:
        known = set(map(tuple, table.table.to_numpy()))
        return np.array([tuple(row) in known for row in rows.table.to_numpy()], dtype=float)

    told = canary_audit(train, canaries, reads, delta=1e-6, seed=4)
    assert (told.correct, told.guesses, told.canaries) == (100, 100, 200)
    assert told.epsilon_low == pytest.approx(math.log(100 / 3), abs=0.1)
    assert told.refutes(1.0)
    assert not told.refutes(4.0)


def test_the_synthetic_table_alone_gives_copies_away():
    train, canaries = letters(30, 1), letters(100, 2)
    copied = canary_audit(train, canaries, by_synthetic(lambda table, _seed: table), delta=1e-6, seed=4)
    fresh = canary_audit(train, canaries, by_synthetic(lambda _t, _s: letters(200, 9)), delta=1e-6, seed=4)
    assert copied.correct == copied.guesses
    assert fresh.epsilon_low < 0.5


def test_half_of_the_canaries_are_trained_on_and_all_of_train():
    train, canaries, seen = letters(30, 1), letters(200, 2), []

    def looks(table: TableData, rows: TableData, _seed: Seed) -> np.ndarray:
        seen.append(table)
        return np.zeros(len(rows))

    for _ in range(2):
        canary_audit(train, canaries, looks, delta=0.0, seed=4)
    pd.testing.assert_frame_equal(seen[0].table.iloc[:30], train.table)
    assert 75 <= len(seen[0]) - 30 <= 125
    assert seen[0].fingerprint() == seen[1].fingerprint()


def test_made_up_patients_are_new_and_their_cells_are_from_the_table():
    cohort = invented_cohort(300)
    canaries = made_up(cohort, 50, seed=1)
    assert canaries.patient_count == len(canaries) == 50
    patient = cohort.schema.patient
    if patient is not None:
        assert not set(canaries.table[patient]) & set(cohort.table[patient])
    for column in cohort.schema.learned:
        assert canaries.table[column.name].isin([*cohort.table[column.name], None, np.nan]).all()
    rows = set(map(tuple, cohort.learned.astype(str).to_numpy()))
    assert not rows & set(map(tuple, canaries.learned.astype(str).to_numpy()))


def test_too_few_canaries_are_refused():
    with pytest.raises(NotAssessable, match="refute nothing"):
        canary_audit(letters(30, 1), letters(9, 2), lambda _t, c, _s: np.zeros(len(c)), delta=0.0, seed=1)
    with pytest.raises(UsageError, match="can be guessed about"):
        canary_audit(letters(30, 1), letters(20, 2), lambda _t, c, _s: np.zeros(len(c)), delta=0.0, seed=1, guesses=21)


def audited_diffusion() -> CanaryAudit:
    """A private diffusion that claims epsilon 1, attacked through the loss of its model."""
    from synthgen.generators.table_diffusion import TableDiffusion

    def attack(train: TableData, canaries: TableData, seed: Seed) -> np.ndarray:
        settings = {"max_steps": 150, "batch": 64, "width": 64, "learning_rate": 1e-2, "threads": 1}
        private = {"dp_epsilon": 1.0, "dp_delta": 1e-3, "dp_marginals": 0.0, "dp_seeded": True}
        generator = TableDiffusion(**settings, **private).fit(train, seed=seed)
        assert generator.facts["privacy"]["epsilon"] <= 1.0
        return -generator.losses(canaries, seed=seed)

    return canary_audit(letters(40, 1), letters(80, 2), attack, delta=1e-3, seed=3)


@needs_opacus
def test_a_claim_of_epsilon_one_with_noise_zero_is_refuted(monkeypatch):
    from synthgen.generators import dp_training

    planned = dp_training.plan
    monkeypatch.setattr(dp_training, "plan", lambda *a, **k: dataclasses.replace(planned(*a, **k), gradient_noise=0.0))
    found = audited_diffusion()
    assert found.epsilon_low > 1.5
    assert found.refutes(1.0)


@needs_opacus
def test_a_claim_of_epsilon_one_with_its_noise_is_not_refuted():
    assert not audited_diffusion().refutes(1.0)

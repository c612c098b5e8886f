"""The attacks guess on fresh data and win on copies; the unit is the patient."""

import numpy as np
import pytest
from privacy_cases import evidence, noisy, population, visits, with_copies

from synthgen.errors import NotAssessable
from synthgen.findings import to_json
from synthgen.privacy.membership import Membership
from synthgen.rng import Seed


def measured(train, holdout, synthetic, seed=0, **settings):
    return Membership(**settings).run(evidence(train, holdout, synthetic), seed=Seed(seed))


def test_fresh_draws_leave_the_attacker_guessing():
    """Law: of 40 clean audits the upper and lower bounds include one half in at least 34, and p < 1 % at most twice."""
    covered, alarms, rates = 0, 0, []
    for seed in range(40):
        found = measured(population(400, 3 * seed), population(400, 3 * seed + 1), population(400, 3 * seed + 2))
        covered += found.statistic.low <= 0.5 <= found.statistic.high
        alarms += found.p_value < 0.01
        rates.append(found.details["tpr_at_1pct_fpr"].value)
    assert covered >= 34
    assert alarms <= 2
    assert np.mean(rates) < 0.025  # the largest of three attacks' rates at a threshold of 1 %


def test_copies_give_members_away():
    train = population(500, 1)
    found = measured(train, population(400, 2), train)
    assert found.statistic.low > 0.95
    assert found.details["tpr_at_1pct_fpr"].low > 0.95
    assert found.details["fpr_at_threshold"].high < 0.05
    assert found.p_value < 1e-6
    assert found.control.low < 0.5 < found.control.high


def test_noisy_copies_give_members_away():
    train = population(500, 1)
    assert measured(train, population(400, 2), noisy(train, 0.1, 3)).statistic.low > 0.7


def test_few_copies_show_in_the_tail_not_in_the_area():
    train, holdout = population(1500, 1), population(1500, 2)
    found = measured(train, holdout, with_copies(population(1500, 3), train.take(np.arange(60))))
    assert found.statistic.high < 0.57
    assert found.p_value < 0.01
    assert found.details["tpr_at_1pct_fpr"].value > 2 * found.details["fpr_at_threshold"].value


def test_a_holdout_that_was_trained_on_is_noted():
    holdout = population(400, 2)
    found = measured(population(500, 1), holdout, holdout)
    assert found.statistic.high < 0.5
    assert any("holdout" in note for note in found.notes)


def test_the_roc_is_on_a_fixed_grid_and_rises():
    curve = measured(population(300, 1), population(300, 2), population(300, 3)).curves["roc"]
    x, y = zip(*curve, strict=True)
    assert x[0] == 0
    assert (x[-1], y[-1]) == (1, 1)
    assert list(y) == sorted(y)


def test_a_patient_counts_once():
    """The n of the area and of the rates are patients, and visits of one law leave the attacker guessing."""
    train, holdout, synthetic = visits(250, 1), visits(220, 2), visits(200, 3)
    found = measured(train, holdout, synthetic)
    assert found.statistic.n == 220
    assert found.details["tpr_at_1pct_fpr"].n == 250
    assert found.statistic.low <= 0.5 <= found.statistic.high


def test_large_tables_are_sampled_and_say_so():
    found = measured(population(400, 1), population(300, 2), population(300, 3), max_patients=200)
    assert found.statistic.n == 200
    assert [note for note in found.notes if "200 of the 400 train" in note]
    assert [note for note in found.notes if "200 of the 300 holdout" in note]


def test_same_seed_same_measurement():
    sets = population(300, 1), population(200, 2), population(200, 3)
    assert to_json(measured(*sets, seed=4)) == to_json(measured(*sets, seed=4))
    assert measured(*sets, seed=4).details != measured(*sets, seed=5).details


def test_too_few_patients_are_refused_with_the_number():
    with pytest.raises(NotAssessable, match=r"holdout has 99 patients.*at least 100"):
        measured(population(200, 1), population(99, 2), population(200, 3))
    with pytest.raises(NotAssessable, match="5 are needed"):
        measured(population(200, 1), population(150, 2), population(4, 3))

"""Distances are described as published, on samples of one size, and nothing of a single record is returned."""

import numpy as np
import pandas as pd
import pytest
from privacy_cases import categories, evidence, noisy, population, table, visits

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import to_json
from synthgen.privacy.distance import DistanceProfile
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing import check_check


def measured(train, holdout, synthetic, seed=0, **settings):
    return DistanceProfile(**settings).run(evidence(train, holdout, synthetic), seed=Seed(seed))


def line(*values):
    """One number per patient."""
    return table(pd.DataFrame({"x": np.array(values, dtype=float)}), TableSchema((Column("x", "real"),)))


def test_adversarial_accuracy_of_separate_sets_is_one_and_of_copies_zero():
    """Closed forms of Yale et al.: no real row is closest to a synthetic one, or every one equals one."""
    train, holdout = population(100, 1), population(100, 2)
    copied = measured(train, holdout, train)
    assert copied.details["NNAA train"].value == 0
    assert copied.details["synthetic rows closer to train"].value > 0.99
    assert copied.statistic.low > 0.2
    one = np.arange(40.0)
    apart = measured(line(*one), line(*(one + 0.5)), line(*(one + 1e6)))
    assert apart.details["NNAA train"].value > 0.95  # but for the real row at the edge


def test_a_fresh_draw_is_as_close_to_both():
    """Law: of 12 fresh draws the interval of the privacy loss holds 0 in at least 9 (99.9 % of seeds)."""
    covered = 0
    for seed in range(12):
        found = measured(*(population(n, 10 * seed + i) for i, n in enumerate((600, 300, 500))), seed=seed)
        covered += found.statistic.low <= 0 <= found.statistic.high
    assert covered >= 9


@pytest.mark.parametrize("sizes", [(1200, 300), (300, 1200)])
def test_sizes_do_not_matter(sizes):
    """SDMetrics' comparison of distances takes the larger set for the closer one."""
    found = measured(*(population(n, 7 + i) for i, n in enumerate((*sizes, 600))))
    assert found.details["synthetic rows closer to train"].n == 300
    assert found.details["synthetic rows closer to train"].value == pytest.approx(0.5, abs=0.08)


def test_an_overfitted_table_is_closer_to_train():
    train, holdout = population(500, 1), population(400, 2)
    found = measured(train, holdout, noisy(train, 0.1, 3))
    assert found.statistic.low > 0.1
    assert found.control.low < 0.1
    assert found.details["DCR to train, median"].value < found.details["DCR to holdout, median"].value


def test_it_neither_tests_nor_returns_what_a_record_has():
    """No p and no power; every distance lies on the grid, and no curve starts at a minimum."""
    found = measured(*(population(n, i) for i, n in enumerate((300, 200, 200))))
    assert found.p_value is None
    assert found.power is None
    for name, one in found.details.items():
        if name.startswith(("DCR", "NNDR")):
            assert all(x == pytest.approx(round(x / 0.05) * 0.05) for x in (one.value, one.low, one.high))
    for curve in found.curves.values():
        assert [x for x, _ in curve] == [0.25 * i for i in range(1, 17)]
        assert all(share == round(share, 2) for _, share in curve)
    assert "never decides" in DistanceProfile.__doc__
    assert "2505.01524" in DistanceProfile.__doc__


def test_order_and_units_change_nothing():
    train, holdout, synthetic = (population(n, i) for i, n in enumerate((200, 150, 180)))
    rng, names = np.random.default_rng(1), list(train.schema.names)[::-1]
    schema = TableSchema(tuple(train.schema[name] for name in names))
    shuffled = []
    for data in (train, holdout, synthetic):
        frame = data.table[names].iloc[rng.permutation(len(data))].reset_index(drop=True)
        frame["bmi"] *= 4  # an exact change of unit
        shuffled.append(TableData(frame, schema))
    before, after = measured(train, holdout, synthetic), measured(*shuffled)
    assert to_json(after.statistic) == to_json(before.statistic)
    assert to_json(after.details) == to_json(before.details)
    assert after.curves == before.curves


def test_a_patient_counts_once():
    """Repeated rows of train patients bring no synthetic row closer to train."""
    train, holdout, fresh = (visits(n, i, most=1) for i, n in enumerate((150, 150, 200)))
    repeated = table(pd.concat([train.table] * 5), train.schema)
    assert measured(repeated, holdout, fresh).details["synthetic rows closer to train"].n == 150
    assert measured(repeated, holdout, fresh).statistic.value == pytest.approx(0, abs=0.1)


def test_ties_count_one_half():
    """Three small categories: nearly every row has an equal one on both sides."""
    found = measured(*(categories(n, i, columns=3) for i, n in enumerate((400, 300, 400))))
    assert found.details["synthetic rows closer to train"].value == pytest.approx(0.5, abs=0.02)
    assert found.details["NNAA train"].value == pytest.approx(0.5, abs=0.02)


def test_large_sets_are_sampled():
    found = measured(*(population(300, i) for i in range(3)), max_patients=50)
    assert found.statistic.n == 50


def test_the_contract_of_checks():
    check_check(DistanceProfile())


def test_bad_evidence_is_refused():
    with pytest.raises(NotAssessable, match="holdout has 15"):
        measured(population(100, 1), population(15, 2), population(100, 3))
    with pytest.raises(NotAssessable, match="no rows"):
        measured(population(100, 1), population(50, 2), population(10, 3).take(np.arange(0)))

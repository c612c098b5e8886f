"""The classifier two-sample test: false alarms, planted faults, copies, and statistics against closed forms."""

import numpy as np
import pytest
from conftest import invented_patients
from sklearn.linear_model import LogisticRegression
from validator_cases import evidence, half_missing, many_kinds, permuted, real_thirds, visits

from synthgen.errors import NotAssessable
from synthgen.io import read
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.detection import Detection
from synthgen.validators.scoring import fit_logistic

SEED = Seed(3)
SMALL = Detection(rows=400)


@pytest.fixture(scope="module")
def thirds():
    return real_thirds()


def against(thirds, synthetic):
    return SMALL.run(Evidence(thirds.train, thirds.holdout, synthetic, thirds.schema), seed=SEED)


def test_a_fresh_real_draw_cannot_be_told(thirds):
    found = SMALL.run(thirds, seed=SEED)
    assert found.statistic.low < 0.5
    assert found.control.low < 0.5 < found.control.high
    assert found.details["pMSE ratio"].low < 1.5
    assert found.curves["roc"][0][0] == 0
    assert found.curves["roc"][-1] == (1.0, 1.0)
    assert SMALL.run(thirds, seed=SEED) == found, "same seed, same result"


def test_permuted_columns_are_told_at_once_though_each_column_is_right(thirds):
    found = against(thirds, permuted(thirds.synthetic))
    assert found.statistic.low > 0.9
    assert found.details["synthetic against holdout"].low > 0.9


def test_half_of_a_column_made_missing_is_told(thirds):
    assert against(thirds, half_missing(thirds.synthetic, "cd420")).statistic.low > 0.5


def test_copies_of_train_rows_fall_below_chance_and_the_note_says_why(thirds):
    found = SMALL.run(Evidence(thirds.train, thirds.holdout, thirds.train, thirds.schema), seed=SEED)
    assert found.statistic.high < 0.5
    assert any("copy checks" in note for note in found.notes)
    assert found.details["synthetic against holdout"].low < 0.5 < found.details["synthetic against holdout"].high


def test_false_alarms_on_equal_samples_are_rare():
    """Alarm rate 2.5 % each: more than 3 of 20 happen by chance in fewer than one seed in 500."""
    alarms, ratios = 0, []
    for seed in range(20):
        data = read(invented_patients(240, seed=seed))
        parts = [data.take(np.arange(start, start + 80)) for start in (0, 80, 160)]
        found = Detection().run(evidence(*parts), seed=Seed(seed))
        alarms += found.statistic.low > 0.5
        ratios.append(found.details["pMSE ratio"].value)
    assert alarms <= 3
    assert 0.6 < np.mean(ratios) < 1.4, "the null expectation of the pMSE ratio is 1"


def test_awkward_columns_and_repeated_rows_are_judged():
    awkward = Detection().run(evidence(many_kinds(seed=1), many_kinds(seed=2), many_kinds(seed=3)), seed=SEED)
    assert awkward.statistic.low < 0.6
    repeated = Detection().run(evidence(visits(seed=1), visits(seed=2), visits(seed=3)), seed=SEED)
    assert "bootstrap by patient" in repeated.statistic.method


def test_folds_by_patient_keep_a_patients_rows_together():
    """With four equal rows of each patient, folds by row would look the rows up and tell the tables apart."""
    found = Detection().run(evidence(visits(seed=1), visits(seed=2), visits(seed=3)), seed=SEED)
    assert found.statistic.low < 0.5


def test_too_few_patients_are_not_assessable():
    with pytest.raises(NotAssessable, match="19 patients"):
        Detection().run(evidence(many_kinds(), synthetic=many_kinds(19)), seed=SEED)


def test_logistic_regression_agrees_with_sklearn():
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(300), rng.normal(size=(300, 3))])
    y = (rng.random(300) < 1 / (1 + np.exp(-X @ [0.5, 1.0, -2.0, 0.0]))).astype(float)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000).fit(X[:, 1:], y)
    assert fit_logistic(X, y, np.ones(300)) == pytest.approx([*theirs.intercept_, *theirs.coef_[0]], abs=1e-3)


def test_levels_that_train_lacks_by_chance_do_not_tell_a_fresh_real_table():
    """With thousands of levels every table has its own; numbering them by train alone told them apart (AUC .995)."""
    found = Detection().run(evidence(many_kinds(seed=1), many_kinds(seed=2), many_kinds(seed=3)), seed=SEED)
    assert found.statistic.low < 0.5 < found.statistic.high
    assert found.control.low < 0.5 < found.control.high

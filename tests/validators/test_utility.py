"""Trained on synthetic, tested on real: laws on real patients, every kind of target, metrics against sklearn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, r2_score, roc_auc_score
from validator_cases import changed, evidence, many_kinds, permuted, real_thirds, table, visits

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.scoring import binary_metrics, multiclass_metrics, regression_metrics
from synthgen.validators.utility import TrainOnSynthetic

SEED = Seed(3)
CHECK = TrainOnSynthetic(repeats=50, halves=3)
HALVES = {"difference of halves, least of 3", "difference of halves, most of 3"}


@pytest.fixture(scope="module")
def thirds():
    return real_thirds()


def for_target(given, name):
    schema = given.schema.assign("target", name)
    sides = (
        TableData(side.table, replace(side.schema, columns=schema.columns))
        for side in (given.train, given.holdout, given.synthetic)
    )
    return Evidence(*sides, schema)


def test_a_fresh_real_draw_trains_as_good_a_model(thirds):
    found = CHECK.run(thirds, seed=SEED)
    assert found.better == "higher"
    assert found.statistic.high > -0.01
    assert abs(found.statistic.value) < 0.04
    assert -0.05 < found.control.value < 0.02
    assert found.details["auc_real.boosting"].value > 0.85
    assert {
        f"{m}_{s}.{k}"
        for m in ("auc", "auprc", "brier", "calibration_slope")
        for s in ("real", "synthetic")
        for k in ("logistic", "boosting")
    } | HALVES == set(found.details)
    assert CHECK.run(thirds, seed=SEED) == found, "same seed, same result"


def test_train_itself_loses_nothing(thirds):
    found = CHECK.run(Evidence(thirds.train, thirds.holdout, thirds.train, thirds.schema), seed=SEED)
    assert (found.statistic.low, found.statistic.value, found.statistic.high) == (0, 0, 0)


def test_the_interval_knows_that_another_draw_would_have_trained_another_model():
    """With 60 rows to train on and 3,000 to test on, chance lies in the training: test patients alone hardly vary."""

    def make(n, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 8))
        died = (rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
        names = [f"x{i}" for i in range(8)]
        made = table(
            [*((name, "real") for name in names), ("died", "boolean")], died=died, **dict(zip(names, x.T, strict=True))
        )
        return TableData(made.table, made.schema.assign("target", "died"))

    holdout, held, alone = make(3000, 100), 0, 0
    for seed in range(0, 16, 2):
        given = evidence(make(60, seed), holdout, make(60, seed + 1))
        found = replace(CHECK, halves=5).run(given, seed=SEED)
        held += found.statistic.low <= 0 <= found.statistic.high
        alone += abs(found.statistic.value) <= (found.control.high - found.control.low) / 2
    assert held >= 7, "two draws of one law differ by nothing"
    assert alone <= 4, "what the test patients alone would have held"


def test_permuted_columns_train_nothing(thirds):
    found = CHECK.run(Evidence(thirds.train, thirds.holdout, permuted(thirds.synthetic), thirds.schema), seed=SEED)
    assert found.statistic.high < -0.2
    assert 0.35 < found.details["auc_synthetic.boosting"].value < 0.65


def test_numbers_are_regressed_and_levels_told_apart(thirds):
    number = CHECK.run(for_target(thirds, "cd420"), seed=SEED)
    kinds = {f"r2_{s}.{k}" for s in ("real", "synthetic") for k in ("linear", "boosting")}
    assert set(number.details) == kinds | HALVES
    assert max(number.details[f"r2_real.{k}"].value for k in ("linear", "boosting")) > 0.3
    assert abs(number.statistic.value) < 0.15
    data = [
        changed(side, lambda t: t.assign(arms=t["arms"].map(lambda a: f"arm {a:.0f}")))
        for side in (thirds.train, thirds.holdout, thirds.synthetic)
    ]
    columns = tuple(
        replace(c, kind="categorical", decimals=None) if c.name == "arms" else c for c in thirds.schema.columns
    )
    schema = replace(thirds.schema, columns=columns).assign("target", "arms")
    classes = CHECK.run(Evidence(*(TableData(d.table, schema) for d in data), schema), seed=SEED)
    assert classes.details["auc_real.boosting"].value > 0.6
    kinds = {f"auc_{s}.{k}" for s in ("real", "synthetic") for k in ("logistic", "boosting")}
    assert set(classes.details) == kinds | HALVES


def test_awkward_columns_and_repeated_rows():
    awkward = CHECK.run(evidence(many_kinds(seed=1), many_kinds(seed=2), many_kinds(seed=3)), seed=SEED)
    assert awkward.details["auc_real.logistic"].value > 0.6
    repeated = CHECK.run(evidence(visits(seed=1), visits(seed=2), visits(seed=3)), seed=SEED)
    assert repeated.details["auc_real.boosting"].value > 0.95


def test_a_synthetic_table_that_lost_a_class_is_measured_not_excused():
    one_class = changed(many_kinds(seed=3), lambda t: t.assign(died=0.0))
    found = CHECK.run(evidence(many_kinds(seed=1), many_kinds(seed=2), one_class), seed=SEED)
    assert found.details["auc_synthetic.logistic"].value == 0.5
    assert found.statistic.value < 0


def test_rows_without_a_target_are_left_out_and_counted():
    holed = changed(many_kinds(seed=2), lambda t: t.assign(died=np.where(np.arange(len(t)) < 30, np.nan, t["died"])))
    found = CHECK.run(evidence(many_kinds(seed=1), holed, many_kinds(seed=3)), seed=SEED)
    assert any(note.startswith("30 of 120 holdout rows") for note in found.notes)
    assert found.statistic.n == 90


def test_what_cannot_be_asked_is_not_assessable():
    data = many_kinds()
    bare = TableData(data.table, replace(data.schema, columns=tuple(replace(c, roles=()) for c in data.schema.columns)))
    with pytest.raises(NotAssessable, match="target: COLUMN"):
        CHECK.run(evidence(bare), seed=SEED)
    single = changed(data, lambda t: t.assign(died=1.0))
    with pytest.raises(NotAssessable, match="single value in the train"):
        CHECK.run(evidence(single, data, data), seed=SEED)
    with pytest.raises(NotAssessable, match="single value in the holdout"):
        CHECK.run(evidence(data, single, data), seed=SEED)
    with pytest.raises(NotAssessable, match="5 rows with a target"):
        CHECK.run(evidence(data, data, many_kinds(5)), seed=SEED)
    alone = table([("y", "boolean")], y=np.tile([0.0, 1.0], 30))
    with pytest.raises(NotAssessable, match="nothing to predict"):
        CHECK.run(evidence(TableData(alone.table, alone.schema.assign("target", "y"))), seed=SEED)


def test_a_date_and_a_level_of_many_can_be_targets():
    rng = np.random.default_rng(1)

    def make(n):
        code = rng.integers(0, 40, n)
        made = table(
            [("code", "code"), ("day", "datetime")],
            code=np.array([f"C{c}" for c in code], dtype=object),
            day=pd.Timestamp("2020-01-01") + pd.to_timedelta(code * 10 + rng.integers(0, 5, n), unit="D"),
        )
        return TableData(made.table.astype({"day": "datetime64[ns]"}), made.schema)

    sides = [make(300) for _ in range(3)]
    dated = CHECK.run(for_target(evidence(*sides), "day"), seed=SEED)
    assert max(dated.details[f"r2_real.{k}"].value for k in ("linear", "boosting")) > 0.4
    coded = CHECK.run(for_target(evidence(*sides), "code"), seed=SEED)
    assert coded.details["auc_real.boosting"].value > 0.8


def test_metrics_agree_with_sklearn_and_weights_are_repetitions():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 300).astype(float)
    chance = np.clip(0.3 * truth + rng.random(300) * 0.7, 0.01, 0.99).round(2)
    weights = rng.integers(0, 4, 300).astype(float)
    rows = np.repeat(np.arange(300), weights.astype(int))
    found = {name: metric(weights) for name, metric in binary_metrics(truth, chance).items()}
    y, p = truth[rows], chance[rows]
    slope = LogisticRegression(C=np.inf, tol=1e-10).fit(np.log(p / (1 - p))[:, None], y).coef_[0, 0]
    assert found["auc"] == pytest.approx(roc_auc_score(y, p))
    assert found["auprc"] == pytest.approx(average_precision_score(y, p))
    assert found["brier"] == pytest.approx(brier_score_loss(y, p))
    assert found["calibration_slope"] == pytest.approx(slope, abs=1e-3)
    r2 = regression_metrics(truth + chance, chance)["r2"]
    assert r2(weights) == pytest.approx(r2_score((truth + chance)[rows], p))
    classes, chances = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), 300)
    theirs = roc_auc_score(classes, chances, multi_class="ovr")
    assert multiclass_metrics(classes, chances)["auc"](np.ones(300)) == pytest.approx(theirs)

"""The Gaussian copula: closed forms of its mathematics, and what it keeps of a table."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm, truncnorm

from synthgen.data import TableData
from synthgen.errors import Interrupted
from synthgen.generators import copula, gaussian
from synthgen.generators.copula import Copula
from synthgen.protocols import Run
from synthgen.schema import Column, TableSchema
from synthgen.testing import check_generator, invented_cohort


def table(**columns):
    """Canonical columns with their kinds: name=(kind, values)."""
    schema = TableSchema(tuple(Column(name, kind) for name, (kind, _) in columns.items()))
    return TableData(pd.DataFrame({name: values for name, (_, values) in columns.items()}), schema)


def normal_pair(n, rho, *, seed=0):
    return np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
def test_mehlers_series_inverts_the_arcsine_law(rho):
    """Of two halves of a normal pair: E[s s] = (2/pi)^2 asin(rho) with scores s = +-sqrt(2/pi)."""
    ends = gaussian.ends_of(np.array([0.5, 0.5]))
    target = (2 / np.pi) ** 2 * np.arcsin(rho)
    series = np.stack([gaussian.hermite(ends)] * 2)
    found = gaussian.solve(series, np.array([[1, target], [target, 1]]))[0, 1]
    assert found == pytest.approx(rho, abs=0.02 if abs(rho) > 0.9 else 0.005)


def test_mehlers_series_agrees_with_the_bivariate_normal_integral():
    ends, rho = gaussian.ends_of(np.array([0.9, 0.1])), 0.6
    low, high = gaussian.step_means(ends)
    both = multivariate_normal.cdf([-ends[1]] * 2, mean=[0, 0], cov=[[1, rho], [rho, 1]])  # both in the upper tail
    target = both * high**2 + 2 * (0.1 - both) * low * high + (0.8 + both) * low**2
    found = gaussian.solve(np.stack([gaussian.hermite(ends)] * 2), np.full((2, 2), target))
    assert found[0, 1] == pytest.approx(rho, abs=0.01)


def test_scores_are_truncated_normal_means():
    ends = gaussian.ends_of(np.array([0.2, 0.5, 0.3]))
    assert gaussian.step_means(ends) == pytest.approx([truncnorm.mean(a, b) for a, b in itertools.pairwise(ends)])
    assert gaussian.ends_of(np.array([1.0])).tolist() == [-np.inf, np.inf]
    assert not gaussian.hermite(gaussian.ends_of(np.array([1.0]))).any()


def test_an_impossible_matrix_becomes_the_near_possible_one():
    wild = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    assert np.linalg.eigvalsh(wild).min() < 0
    proper = gaussian.proper(wild)
    assert np.linalg.eigvalsh(proper).min() > 0
    assert np.diag(proper) == pytest.approx(1)
    sound = np.array([[1.0, 0.4], [0.4, 1.0]])
    assert gaussian.proper(sound) == pytest.approx(sound)


def test_noise_is_shrunk_away_and_signal_is_kept():
    rng = np.random.default_rng(0)
    noise = np.corrcoef(rng.normal(size=(30, 20)), rowvar=False)
    drawn = gaussian.shrunk(noise, np.full((20, 20), 30.0))
    outside = ~np.eye(20, dtype=bool)
    assert np.abs(drawn[outside]).mean() < 0.3 * np.abs(noise[outside]).mean()
    strong = np.array([[1, 0.8], [0.8, 1]])
    assert gaussian.shrunk(strong, np.full((2, 2), 5000.0))[0, 1] == pytest.approx(0.8, abs=0.001)


def test_truncated_draws_lie_in_their_box_and_have_the_known_mean():
    """z1 > 1 and z2 free: E[z1] is the inverse Mills ratio, E[z2] rho times it; 20,000 draws, six standard errors."""
    n, rho, mills = 20_000, 0.7, norm.pdf(1) / norm.sf(1)
    low, high = np.tile([1.0, -np.inf], (n, 1)), np.full((n, 2), np.inf)
    correlation = np.array([[1, rho], [rho, 1]])
    z = gaussian.truncated(correlation, low, high, rng=np.random.default_rng(1), sweeps=20)
    assert (z[:, 0] >= 1).all()
    assert z[:, 0].mean() == pytest.approx(mills, abs=6 * 0.45 / np.sqrt(n))
    assert z[:, 1].mean() == pytest.approx(rho * mills, abs=6 * 0.8 / np.sqrt(n))


def test_draws_stay_in_boxes_far_out_in_the_tails():
    low, high = np.array([[8.0, -9.0], [-12.0, 11.0]]), np.array([[8.1, -8.5], [-11.0, np.inf]])
    correlation = np.array([[1, 0.9], [0.9, 1]])
    z = gaussian.truncated(correlation, low, high, rng=np.random.default_rng(2), sweeps=5)
    assert np.isfinite(z).all()
    assert ((z >= low) & (z <= high)).all()


def test_a_linear_correlation_comes_back():
    """Standard error of a correlation of .7 from 6,000 rows, twice: .009; the bound is five of them."""
    x, y = normal_pair(6000, 0.7).T
    made = Copula().fit(table(x=("real", x), y=("real", np.exp(y))), seed=1).sample(6000, seed=2).table
    assert np.corrcoef(made["x"], np.log(made["y"]))[0, 1] == pytest.approx(0.7, abs=0.045)


def test_yes_no_columns_keep_the_strength_of_their_relation():
    """Random ranks inside each level, as naive copulas draw them, would halve this correlation."""
    x, y = (normal_pair(6000, 0.8, seed=1) > [0.3, 1.0]).T.astype(float)
    made = Copula().fit(table(x=("boolean", x), y=("boolean", y)), seed=1).sample(6000, seed=2).table
    assert np.corrcoef(made["x"], made["y"])[0, 1] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=0.06)


def test_levels_follow_a_number_whatever_their_names():
    rng = np.random.default_rng(3)
    x = rng.normal(size=4000)
    level = np.array(["b", "d", "a", "c"], dtype=object)[np.digitize(x + 0.3 * rng.normal(size=4000), [-1, 0, 1])]
    made = Copula().fit(table(x=("real", x), level=("categorical", level)), seed=1).sample(4000, seed=2).table
    real, synthetic = (pd.Series(v).groupby(k).mean() for v, k in ((x, level), (made["x"], made["level"])))
    assert (real - synthetic).abs().max() < 0.15


def test_missing_values_keep_their_pattern():
    """Missing for all women and 5 % of men; two columns that are missing together."""
    data = invented_cohort(4000)
    both = data.table["psa"].where(data.table["psa"].isna(), 1.0)
    schema = dataclasses.replace(data.schema, columns=(*data.schema.columns, Column("second", "real")))
    data = TableData(data.table.assign(second=both * data.table["age"]), schema)
    made = Copula().fit(data, seed=1).sample(4000, seed=2).table
    women, gone = made["sex"] == "F", made["psa"].isna()
    assert gone[women].mean() > 0.95
    assert gone[~women].mean() < 0.12
    assert (gone == made["second"].isna()).mean() > 0.95


def test_conditions_agree_with_rows_chosen_afterwards():
    """The same law by two ways, each of about 1,000 rows; bounds of five standard errors."""
    fitted = Copula().fit(invented_cohort(3000), seed=1)
    free = fitted.sample(8000, seed=2).table
    chosen = free[(free["diagnosis"] == "J44.1") & (free["sex"] == "M")]
    n = len(chosen)
    asked = fitted.sample(n, seed=3, where={"diagnosis": "J44.1", "sex": "M"}).table
    assert n > 300
    assert abs(asked["died"].mean() - chosen["died"].mean()) < 5 * np.sqrt(0.5 / n)
    assert abs(asked["age"].mean() - chosen["age"].mean()) < 5 * 15 * np.sqrt(2 / n)
    assert abs(asked["psa"].isna().mean() - chosen["psa"].isna().mean()) < 5 * np.sqrt(0.5 / n)


def test_given_numbers_pull_the_rest_along():
    x, y = normal_pair(4000, 0.9, seed=4).T
    fitted = Copula().fit(table(x=("real", x), y=("real", y)), seed=1)
    made = fitted.sample(2000, seed=2, given=pd.DataFrame({"x": [-1.0, 1.0] * 1000})).table
    assert made["x"].tolist() == [-1.0, 1.0] * 1000
    means = made["y"].groupby(made["x"]).mean()
    assert means.to_numpy() == pytest.approx([-0.9, 0.9], abs=0.1)


def test_given_rows_with_missing_values_come_back_exactly():
    fitted = Copula().fit(invented_cohort(1000), seed=1)
    rows = invented_cohort(80, seed=5).table[["age", "sex", "psa", "admitted"]]
    rows = rows[rows["age"].between(30, 90) & ~(rows["psa"] > 9) & (rows["admitted"] < "2021-12-20")]
    rows = rows[rows["admitted"] > "2021-01-10"].reset_index(drop=True)
    assert rows["psa"].isna().any()
    assert rows["psa"].notna().any()
    made = fitted.sample(len(rows), seed=2, given=rows).table
    pd.testing.assert_frame_equal(made[list(rows.columns)], rows)


def test_more_rows_than_a_block(monkeypatch):
    fitted = Copula().fit(invented_cohort(500), seed=1)
    monkeypatch.setattr(copula, "_ROWS", 64)
    made = fitted.sample(150, seed=2, where={"sex": "M"})
    assert len(made) == 150
    assert (made.table["sex"] == "M").all()
    assert not made.table["bmi"].iloc[:64].equals(made.table["bmi"].iloc[64:128].reset_index(drop=True))


@pytest.mark.parametrize(
    "keep", [["bmi"], ["sex"], ["sex", "diagnosis", "smoker"], ["age", "psa"], ["admitted"]], ids=str
)
def test_the_battery_passes_on_parts_of_a_table(keep):
    data = invented_cohort(600)
    schema = dataclasses.replace(data.schema, columns=tuple(data.schema[name] for name in keep), rules=())
    check_generator(Copula(), data=TableData(data.table[keep], schema))


def test_the_battery_passes_with_constant_and_empty_columns():
    data = invented_cohort(500)
    check_generator(Copula(), data=dataclasses.replace(data, table=data.table.assign(bmi=np.nan, smoker=1.0)))


def test_a_stop_is_obeyed():
    with pytest.raises(Interrupted):
        Copula().fit(invented_cohort(100), seed=0, run=Run(stop=lambda: True))

"""The Gaussian prior of the diffusion network: closed forms of its conditionals, and a network that starts from it."""

import numpy as np
import pandas as pd
import pytest
import torch
from generator_cases import ODD
from scipy.stats import multivariate_normal, norm

from synthgen.data import TableData
from synthgen.generators.codec import TableCodec
from synthgen.generators.layout import Layout
from synthgen.generators.objective import marginals
from synthgen.generators.prior import GaussianPrior
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.tokens import HIDDEN
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema
from synthgen.testing import invented_cohort


def prior_of(data: TableData) -> tuple[TableCodec, Layout, torch.Tensor, GaussianPrior]:
    codec = TableCodec.fit(data, seed=Seed(1), ties=True)
    layout = Layout.of(codec)
    rows = torch.from_numpy(codec.encode(data, order=layout.order))
    return codec, layout, rows, GaussianPrior.fit(codec, layout, rows)


def numbers(values: np.ndarray, kind: str = "real") -> TableData:
    frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
    columns = tuple(Column(name, kind, decimals=3 if kind == "real" else None) for name in frame)
    return TableData(frame, TableSchema(columns))


def conditional(layout: Layout, rows: torch.Tensor, prior: GaussianPrior, known: dict[int, int], place: int):
    """The probabilities of a place's values, given tokens of other places."""
    tokens = torch.full((1, len(layout.order)), HIDDEN)
    for other, value in known.items():
        tokens[0, other] = value
    start, size = layout.starts[place], layout.sizes[place]
    share = marginals(rows, layout)["coarse"][start : start + size]
    return share * prior.of(tokens, place)[0].exp().numpy()


def test_a_known_number_moves_another_as_the_normal_regression_does():
    """Of a standard normal pair with correlation rho, one given the other is N(rho z, 1 - rho^2)."""
    rho = 0.8
    values = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], 4_000)
    codec, layout, rows, prior = prior_of(numbers(values))
    column, (first, second) = (
        codec.columns[1],
        (int(np.argsort(layout.order)[codec.tokens_of(n)[0]]) for n in codec.names),
    )
    ends = norm.ppf(np.concatenate([[0], np.cumsum(column.shares) / column.shares.sum()]).clip(0, 1))
    bins = codec.columns[0]
    middle = np.concatenate([[0], np.cumsum(bins.shares) / bins.shares.sum()])
    for bin_ in (3, 30, 55):
        z = norm.ppf((middle[bin_] + middle[bin_ + 1]) / 2)
        found = conditional(layout, rows, prior, {first: bins.first_bin + bin_}, second)[column.first_bin :]
        expected = np.diff(norm.cdf(ends, rho * z, np.sqrt(1 - rho**2)))
        assert found.sum() == pytest.approx(1, abs=0.01)
        assert np.abs(found - expected).sum() < 0.06  # 64 bins; rho itself is estimated


def test_yes_and_no_answers_follow_the_bivariate_normal_closely():
    rng, rho = np.random.default_rng(1), 0.5
    z = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 20_000)
    _, layout, rows, prior = prior_of(numbers((z > norm.ppf(0.7)).astype(float), kind="boolean"))
    both = multivariate_normal.cdf([-norm.ppf(0.7)] * 2, mean=[0, 0], cov=[[1, rho], [rho, 1]])
    found = conditional(layout, rows, prior, {0: 2}, 1)
    assert found[2] == pytest.approx(both / 0.3, abs=0.02)  # rho is estimated


def test_where_nothing_is_known_it_says_nothing_and_probabilities_stay_whole():
    _, layout, rows, prior = prior_of(invented_cohort(400))
    nothing = torch.full((2, len(layout.order)), HIDDEN)
    assert prior(nothing).abs().max() < 1e-3
    rng = Seed(3).torch()
    seen = rows.long().masked_fill(torch.rand(rows.shape, generator=rng) < 0.5, HIDDEN)
    shares = torch.from_numpy(marginals(rows, layout)["coarse"]) * prior(seen).exp()
    for place in range(layout.coarse):
        part = slice(layout.starts[place], layout.starts[place] + layout.sizes[place])
        hidden = seen[:, place] == HIDDEN
        assert (shares[hidden, part].sum(1) - 1).abs().max() < 0.05  # counts are smoothed
        torch.testing.assert_close(prior.of(seen, place), prior(seen)[:, part])


def test_missing_together_is_expected_together():
    gone = np.random.default_rng(2).random(1_000) < 0.3
    x = np.random.default_rng(3).normal(size=(1_000, 2))
    x[gone] = np.nan
    _, layout, rows, prior = prior_of(numbers(x))
    known = int(rows[~torch.from_numpy(gone), 0][0])
    assert conditional(layout, rows, prior, {0: 0}, 1)[0] > 0.98
    assert conditional(layout, rows, prior, {0: known}, 1)[0] < 0.02


def test_a_network_before_its_first_step_keeps_the_correlations():
    values = np.random.default_rng(4).multivariate_normal(
        [0, 0, 0], [[1, 0.9, 0.5], [0.9, 1, 0.4], [0.5, 0.4, 1]], 1_000
    )
    data = numbers(values)
    generator = TableDiffusion(max_steps=1, threads=1).fit(data, seed=1)
    drawn = generator.sample(4_000, seed=2).table
    assert np.abs(drawn.corr("spearman") - data.table.corr("spearman")).to_numpy().max() < 0.06
    without = TableDiffusion(max_steps=1, threads=1, prior=False).fit(data, seed=1).sample(4_000, seed=2).table
    assert np.abs(np.triu(without.corr("spearman"), 1)).max() < 0.2


def test_the_prior_is_saved_with_the_network(tmp_path):
    data = invented_cohort(300)
    generator = TableDiffusion(max_steps=5, threads=1).fit(data, seed=1)
    generator.save(tmp_path)
    again = TableDiffusion.load(tmp_path)
    pd.testing.assert_frame_equal(again.sample(50, seed=3).table, generator.sample(50, seed=3).table)


@pytest.mark.parametrize("data", [data for name, data in ODD.items() if name != "wide"])
def test_odd_tables_have_a_prior_too(data):
    _, layout, rows, prior = prior_of(data)
    found = prior(torch.where(torch.arange(len(layout.order)) == 0, HIDDEN, rows.long()))
    assert torch.isfinite(found).all()


def test_small_tables_of_few_columns_start_from_it_and_others_do_not():
    rng = np.random.default_rng(5)
    half = rng.normal(size=(300, 60))
    half[:, :30][rng.random((300, 30)) < 0.3] = np.nan

    def starts(values: np.ndarray) -> bool:
        return TableDiffusion(max_steps=1, threads=1).fit(numbers(values), seed=1).facts["network"]["prior"]

    assert starts(half)  # 60 columns, 30 of them sometimes missing
    assert not starts(np.hstack([half, half]))
    assert not starts(rng.normal(size=(5_000, 2)))

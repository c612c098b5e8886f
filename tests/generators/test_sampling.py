"""The sampler's short cuts change nothing: running sums, rows that are alike, logits by place; what goes together."""

import numpy as np
import pandas as pd
import pytest
import torch
from generator_cases import known_law

from synthgen.data import TableData
from synthgen.generators import sampling, training
from synthgen.generators.codec import TableCodec
from synthgen.generators.denoiser import Denoiser, SmoothHead
from synthgen.generators.objective import groups
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.tokens import HIDDEN
from synthgen.protocols import Run
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema


@pytest.fixture(scope="module")
def table() -> TableData:
    """12,000 rows, enough for fine tokens: two numbers, one of them sometimes missing, and three other columns."""
    rng, n = Seed(5).numpy(), 12_000
    x, flag = rng.normal(size=n), rng.random(n) < 0.3
    frame = pd.DataFrame(
        {
            "x": x,
            "y": np.where(flag, np.nan, x + rng.normal(size=n)),
            "flag": flag.astype(float),
            "level": rng.choice(np.array(["a", "b", "c"], dtype=object), n),
            "count": rng.integers(0, 9, n).astype(float),
        }
    )
    kinds = ("real", "real", "boolean", "categorical", "integer")
    return TableData(frame, TableSchema(tuple(Column(n, k) for n, k in zip(frame, kinds, strict=True))))


@pytest.fixture(scope="module")
def codec(table) -> TableCodec:
    return TableCodec.fit(table, seed=Seed(1))


@pytest.fixture(scope="module", params=[False, True], ids=["free", "smooth"])
def network(request, codec) -> Denoiser:
    settings = {"width": 24, "blocks": 2, "embedding": 5, "dropout": 0.0}
    network = Denoiser(codec, **settings, smooth=request.param, generator=Seed(2).torch()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=Seed(3).torch()))
    return network


@pytest.fixture
def whole(table, codec, network) -> torch.Tensor:
    return torch.from_numpy(codec.encode(table.take(np.arange(64)), order=network.layout.order).astype(np.int64))


@torch.inference_mode()
def test_running_sums_equal_the_first_layer(network, whole):
    rows = torch.full_like(whole, HIDDEN)
    laid, sums = sampling._Laid.out(network), network.first(rows)
    assert (len(network.layout.order), network.layout.coarse) == (7, 5)
    for places in ([3, 0], [1], [2, 4], [5, 6]):
        laid.replace(sums, rows, places, whole[:, places])
        torch.testing.assert_close(sums, network.first(rows), rtol=1e-4, atol=1e-4)
    assert torch.equal(rows, whole)
    for place, (weight, bias) in enumerate(laid.heads):
        stage = "coarse" if place < network.layout.coarse else "fine"
        start, x = int(network.layout.starts[place]), network.trunk(sums)
        expected = network.logits(x, stage, rows)[:, start : start + len(bias)]
        torch.testing.assert_close(sampling.soft_cap(x @ weight.T + bias), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_rows_that_are_alike_get_what_each_would_get(network, whole):
    rows = torch.full_like(whole, HIDDEN)
    alike = sampling._Alike.of(rows)
    assert alike.kinds == 1
    drawn = whole[:, [2, 3]]
    rows[:, [2, 3]] = drawn
    alike = alike.split(drawn, network.layout.sizes[[2, 3]].tolist())
    assert 1 < alike.kinds == len(torch.unique(drawn, dim=0)) <= 32
    sums = network.first(rows)
    torch.testing.assert_close(alike.apply(network, sums), network.trunk(sums), rtol=1e-4, atol=1e-4)
    assert sampling._Alike.of(rows).kinds == 64  # conditions: nothing is assumed


def test_smooth_logits_favour_neighbours_but_can_take_any_shape():
    head = SmoothHead([(40, 3)], 8)
    assert torch.linalg.matrix_rank(head.basis.double()) == 40
    assert torch.equal(head.basis[:3, :3], torch.eye(3))
    assert not head.basis[:3, 3:].any()
    steps = (head.basis[4:] - head.basis[3:-1]).square().sum(1)
    apart = (head.basis[3] - head.basis[-1]).square().sum()
    assert steps.max() < 0.05 * apart  # a random weight moves the logit of the next bin little, of a far one much
    x = torch.randn(6, 8, generator=Seed(1).torch())
    torch.testing.assert_close(head(x), x @ head.weight.T + head.bias)


def test_only_fine_places_that_are_hardly_correlated_are_drawn_together(network):
    layout, rng = network.layout, Seed(4).numpy()
    assert len(layout.order) - layout.coarse == 2
    tokens = np.ones((4_000, len(layout.order)), dtype=np.int64)
    tokens[:, layout.coarse :] = 1 + rng.integers(0, 9, (4_000, 2))
    apart = groups(torch.from_numpy(tokens), layout)
    assert apart[: layout.coarse].tolist() == list(range(layout.coarse))
    assert apart[-1] == apart[-2] == layout.coarse
    tokens[:2_000, -1] = tokens[:2_000, -2]
    assert len(set(groups(torch.from_numpy(tokens), layout).tolist())) == len(layout.order)


def test_orders_differ_between_chunks_and_equal_seeds_give_equal_rows(codec, network):
    clamped = np.full((2 * sampling.FEWEST, len(codec.owner)), HIDDEN, dtype=np.int32)
    one, two = (sampling.sample_tokens(network, codec, clamped, seed=Seed(s), run=Run()) for s in (7, 7))
    assert np.array_equal(one, two)
    assert not np.array_equal(one[: sampling.FEWEST], one[sampling.FEWEST :])


def test_rows_do_not_depend_on_the_number_of_threads(codec, network):
    clamped = np.full((5 * sampling.FEWEST, len(codec.owner)), HIDDEN, dtype=np.int32)

    def drawn(number: int) -> np.ndarray:
        with training.threads(number):
            return sampling.sample_tokens(network, codec, clamped, seed=Seed(7), run=Run())

    assert np.array_equal(drawn(1), drawn(3))


def test_groups_are_saved_with_the_weights(tmp_path):
    generator = TableDiffusion(max_steps=5, width=16, threads=1).fit(known_law(), seed=1)
    generator.save(tmp_path)
    assert torch.equal(TableDiffusion.load(tmp_path)._fitted.network.group, generator._fitted.network.group)

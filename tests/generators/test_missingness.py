"""Missingness is data: which values are missing together, and in whom, comes back from the diffusion."""

import numpy as np
import pandas as pd
import pytest
from conftest import shared_table

from synthgen.data import TableData
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

BLOCK, PAIR = ["crp", "lactate", "troponin"], ["height", "weight"]


@pytest.fixture(scope="module")
def sampled() -> pd.DataFrame:
    """A block of labs is missing in all outpatients and in nobody else; height and weight together, in 40 %."""
    rng, n = Seed(8).numpy(), 2_000
    outpatient = rng.random(n) < 0.35
    table = {"outpatient": outpatient.astype(float)}
    for name in BLOCK:
        table[name] = np.where(outpatient, np.nan, rng.lognormal(1, 0.5, n).round(1))
    gone = rng.random(n) < 0.4
    table["height"] = np.where(gone, np.nan, rng.normal(170, 9, n).round())
    table["weight"] = np.where(gone, np.nan, (table["height"] - 100 + rng.normal(0, 8, n)).round())
    kinds = {"outpatient": "boolean"} | dict.fromkeys(BLOCK, "real") | dict.fromkeys(PAIR, "integer")
    columns = tuple(Column(c, kind, decimals=1 if kind == "real" else None) for c, kind in kinds.items())
    data = TableData(pd.DataFrame(table), TableSchema(columns))
    return TableDiffusion(max_steps=1_200, threads=1).fit(data, seed=1).sample(4_000, seed=2).table


def test_a_block_of_labs_missing_in_one_group_comes_back_within_two_points(sampled):
    group = sampled["outpatient"] == 1
    assert abs(group.mean() - 0.35) < 0.04
    for name in BLOCK:
        assert sampled[name][group].isna().mean() >= 0.98
        assert sampled[name][~group].isna().mean() <= 0.02
    missing = sampled[BLOCK].isna().sum(axis=1)
    assert missing.isin([0, len(BLOCK)]).mean() >= 0.98


def test_what_is_missing_together_without_a_reason_comes_back_so(sampled):
    height, weight = (sampled[name].isna() for name in PAIR)
    assert (height == weight).mean() >= 0.98
    assert abs(height.mean() - 0.4) < 0.05
    assert sampled[PAIR].corr().iloc[0, 1] > 0.4  # .75 in train; a short training learns part of it


def test_support2_keeps_its_joint_missingness():
    """Within two points, and three standard errors of the rates of 4,000 rows, which are .008 at most."""
    train = read(shared_table("support2"), target="event").take(np.arange(3_000))
    rows = TableDiffusion(max_steps=600, threads=1).fit(train, seed=1).sample(4_000, seed=2)
    names = [name for name in train.learned if 0.02 < train.table[name].isna().mean() < 0.98]
    assert len(names) >= 10
    real, made = (data.table[names].isna().to_numpy(dtype=float) for data in (train, rows))
    assert np.abs(real.mean(axis=0) - made.mean(axis=0)).max() < 0.044
    together, apart = real.T @ real / len(real), np.outer(real.mean(axis=0), real.mean(axis=0))
    error, of_independent = np.abs(together - made.T @ made / len(made)), np.abs(together - apart)
    assert error.mean() < of_independent.mean() / 3

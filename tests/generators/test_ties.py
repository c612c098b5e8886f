"""Numbers that equal another column: found in train, kept in samples, harmless where the other is missing."""

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.generators.codec import TableCodec
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema


@pytest.fixture(scope="module")
def bills() -> TableData:
    """3,000 bills with cents: 40 % are paid in full, the others by any amount; 10 % of the bills are missing."""
    rng = Seed(8).numpy()
    bill = rng.gamma(2, 500, 3_000).round(2)
    paid = np.where(rng.random(3_000) < 0.4, bill, rng.gamma(2, 300, 3_000).round(2))
    bill[rng.random(3_000) < 0.1] = np.nan
    columns = (Column("bill", "real", decimals=2), Column("paid", "real", decimals=2), Column("other", "real"))
    table = pd.DataFrame({"bill": bill, "paid": paid, "other": rng.normal(size=3_000)})
    return TableData(table, TableSchema(columns))


def test_only_columns_that_are_often_equal_are_tied(bills):
    codec = TableCodec.fit(bills, seed=Seed(1), ties=True)
    assert [column.ties for column in codec.columns] == [(), ("bill",), ()]
    assert [column.ties for column in TableCodec.fit(bills, seed=Seed(1)).columns] == [(), (), ()]


def test_equal_values_come_back_equal_from_their_tokens(bills):
    codec = TableCodec.fit(bills, seed=Seed(1), ties=True)
    codec = TableCodec.from_json(codec.to_json())
    values = codec.decode(codec.encode(bills), seed=Seed(2))
    equal = (bills.table["bill"] == bills.table["paid"]).to_numpy()
    inside = equal & (bills.table["paid"] <= codec.columns[1].high).to_numpy()
    inside &= (bills.table["paid"] >= codec.columns[1].low).to_numpy()
    np.testing.assert_array_equal(values["bill"][inside], values["paid"][inside])
    assert (values["bill"][~equal] == values["paid"][~equal]).mean() < 0.01


def test_a_tie_to_a_missing_value_becomes_some_value(bills):
    codec = TableCodec.fit(bills, seed=Seed(1), ties=True)
    tokens = codec.encode(bills)
    bill, paid = codec.tokens_of("bill"), codec.tokens_of("paid")
    tokens[:, bill], tokens[:, paid] = 0, 0
    tokens[:, paid[0]] = codec.columns[1].first_tie
    assert np.isfinite(codec.decode(tokens, seed=Seed(3))["paid"]).all()


def test_samples_have_as_many_equal_values_as_train(bills):
    rows = TableDiffusion(max_steps=400, threads=1).fit(bills, seed=1).sample(3_000, seed=2).table
    known = bills.table.dropna()
    truth = (known["bill"] == known["paid"]).mean()
    made = rows.dropna()
    assert abs((made["bill"] == made["paid"]).mean() - truth) < 0.06  # standard error .01; the rest is short training

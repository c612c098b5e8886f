"""Frame types and storage types: what a table went in as, its synthetic table comes out as."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from synthgen.errors import DataError
from synthgen.generators.independent import Independent
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.schema import TableSchema

ROWS = 150
RNG = Seed(3).numpy()
WHOLE, REAL, FLAG = RNG.integers(0, 7, ROWS), RNG.normal(5, 2, ROWS).round(2), RNG.random(ROWS) < 0.5
DAYS = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 300, ROWS), unit="D")
TEXT = np.array(["a", "b", "c"], dtype=object)[RNG.integers(0, 3, ROWS)]
GAPS = np.arange(ROWS) % 4 == 0


def sampled(frame):
    """A synthetic table of 400 rows, through the written form of the schema."""
    data = read(frame)
    assert TableSchema.from_mapping(data.schema.to_mapping()) == data.schema
    return Independent().fit(data, seed=1).sample(400, seed=2).frame


def stored(dtype):
    """150 values of a storage type."""
    kind = dtype.lower()
    plain = FLAG if "bool" in kind else REAL if "float" in kind or "double" in kind else WHOLE
    plain = TEXT if "str" in kind or kind in ("object", "category") else DAYS if "time" in kind else plain
    return pd.Series(plain).astype(dtype)


NUMPY = ["int8", "int64", "uint16", "float32", "float64", "bool", "object", "category"]
NUMPY += ["datetime64[s]", "datetime64[us]", "datetime64[ns]"]
NULLABLE = ["Int8", "Int64", "UInt32", "Float32", "Float64", "boolean", "string[python]", "string[pyarrow]"]
ARROW = ["int8[pyarrow]", "int64[pyarrow]", "uint16[pyarrow]", "float[pyarrow]", "double[pyarrow]", "bool[pyarrow]"]
ARROW += ["large_string[pyarrow]", "timestamp[s][pyarrow]", "timestamp[ns][pyarrow]"]


@pytest.mark.parametrize("dtype", NUMPY + NULLABLE + ARROW)
def test_storage_types_come_back(dtype):
    values = stored(dtype)
    out = sampled(pd.DataFrame({"x": values}))["x"]
    assert out.dtype == values.dtype
    assert out.notna().all()
    assert set(map(type, out)) == set(map(type, values))


@pytest.mark.parametrize(
    "dtype", [*NULLABLE, *ARROW, "object", "category", "float64", "datetime64[ns]", "datetime64[us]"]
)
def test_storage_types_with_missing_values_come_back(dtype):
    values = stored(dtype)
    values[GAPS] = None
    out = sampled(pd.DataFrame({"x": values}))["x"]
    assert out.dtype == values.dtype
    assert 0.1 < out.isna().mean() < 0.4  # a quarter; the standard error is .02
    assert set(map(type, out[out.isna()])) == set(map(type, values[GAPS]))


@pytest.mark.parametrize("dtype", ["int64", "float64", "bool", "datetime64[ns]"])
def test_categories_keep_the_type_of_their_values(dtype):
    plain = pd.Series(DAYS).dt.to_period("Q").dt.to_timestamp() if dtype.startswith("date") else stored(dtype).round(-1)
    values = (plain if dtype != "bool" else pd.Series(FLAG)).astype("category")
    out = sampled(pd.DataFrame({"x": values}))["x"]
    assert isinstance(out.dtype, pd.CategoricalDtype)
    assert out.cat.categories.dtype == values.cat.categories.dtype
    assert set(out.cat.categories) <= set(values.cat.categories)


def test_time_zones_come_back():
    zoned = pd.Series(DAYS).dt.tz_localize("Europe/Berlin")
    assert sampled(pd.DataFrame({"x": zoned}))["x"].dtype == zoned.dtype


ARROW_TYPES = [
    pa.int16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.date32(), pa.timestamp("ms"),
    pa.timestamp("us", tz="Europe/Berlin"), pa.decimal128(10, 2), pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.uint8(), pa.large_string(), ordered=True),
]  # fmt: skip


def of_arrow(kind):
    if pa.types.is_dictionary(kind):
        coded = of_arrow(kind.value_type).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            coded.indices.cast(kind.index_type), coded.dictionary, ordered=kind.ordered
        )
    plain = FLAG if pa.types.is_boolean(kind) else REAL if pa.types.is_floating(kind) else WHOLE
    if pa.types.is_decimal(kind):
        plain = [decimal.Decimal(str(number)) for number in REAL]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        plain = TEXT
    if pa.types.is_temporal(kind):
        plain = [day.date() if pa.types.is_date(kind) else day.to_pydatetime() for day in DAYS]
    return pa.array([None if gap else value for gap, value in zip(GAPS, list(plain), strict=True)], type=kind)


def test_arrow_tables_come_back_as_they_were():
    table = pa.table({str(i): of_arrow(kind) for i, kind in enumerate(ARROW_TYPES)})
    out = sampled(table)
    assert isinstance(out, pa.Table)
    assert [str(field.type) for field in out.schema] == [str(kind) for kind in ARROW_TYPES]
    as_pandas = table.to_pandas(types_mapper=pd.ArrowDtype)
    assert sampled(as_pandas).dtypes.equals(as_pandas.dtypes)


def test_polars_tables_come_back_as_they_were():
    stamps = [day.to_pydatetime() for day in DAYS]
    columns = {
        "whole": pl.Series([None if gap else int(n) for gap, n in zip(GAPS, WHOLE, strict=True)], dtype=pl.Int8),
        "real": pl.Series(REAL, dtype=pl.Float32),
        "flag": pl.Series([None if gap else bool(n) for gap, n in zip(GAPS, FLAG, strict=True)]),
        "text": pl.Series(list(TEXT)),
        "level": pl.Series(list(TEXT), dtype=pl.Categorical),
        "day": pl.Series([stamp.date() for stamp in stamps]),
        "stamp": pl.Series(stamps, dtype=pl.Datetime("ms")),
        "zoned": pl.Series(stamps, dtype=pl.Datetime("us", "UTC")),
        "money": pl.Series([decimal.Decimal(str(number)) for number in REAL], dtype=pl.Decimal(10, 2)),
    }
    frame = pl.DataFrame(columns)
    out = sampled(frame)
    assert isinstance(out, pl.DataFrame)
    assert out.schema == frame.schema
    assert out["money"].to_numpy().astype(float).round(2).tolist() == out["money"].to_numpy().astype(float).tolist()


def test_decimals_are_those_of_all_values():
    small, large = np.arange(30_000) / 10, 5_000 + np.arange(100) / 1_000
    data = read(pd.DataFrame({"x": np.concatenate([small, large])}))
    assert data.schema["x"].decimals == 3
    assert data.table["x"].max() == large.max()


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2]] * 30,
        [{"a": 1}] * 30,
        [1j] * 30,
        [datetime.timedelta(hours=3)] * 30,
        pd.arrays.ArrowExtensionArray(pa.array([[1]] * 30)),
        pd.arrays.ArrowExtensionArray(pa.array([{"a": 1}] * 30)),
        pd.arrays.ArrowExtensionArray(pa.array([b"a"] * 30)),
        pd.arrays.ArrowExtensionArray(pa.array([datetime.timedelta(hours=3)] * 30)),
    ],
    ids=["list", "record", "complex", "duration", "arrow list", "arrow record", "arrow bytes", "arrow duration"],
)
def test_what_cannot_be_modelled_is_refused_by_column(values):
    with pytest.raises(DataError, match="column 'x' holds lists, records"):
        read(pd.DataFrame({"x": values}))

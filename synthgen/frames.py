"""How do frames come in and go out? pandas, polars and pyarrow at the edge; the same type and dtypes come back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from synthgen.errors import DataError
from synthgen.schema import NUMERIC, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from synthgen.data import Backend, TableData


_ARROW = "arrow:"  # before the names of types that pandas takes for others, or cannot read
_ARROW_ONLY = re.compile(r"(string|decimal|dictionary)\b|decimal\d")
_DECIMAL = re.compile(r"(decimal\d+)\((\d+), (-?\d+)\)")
_DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>")
_NULLABLE = {"bool": "boolean"} | {
    f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def from_native(frame: Any) -> tuple[pd.DataFrame, Backend]:
    """Turn a pandas, polars or pyarrow table into pandas without losing column types; name the type it came in.

    Raises:
        DataError: something that is not a table, or has two columns of one name.
    """
    import narwhals as nw

    try:
        wrapped = nw.from_native(frame)
    except TypeError as error:
        raise DataError(
            f"cannot read a {type(frame).__name__}: give a file, or a pandas, polars or pyarrow table"
        ) from error
    except nw.exceptions.DuplicateError as error:
        raise DataError("the table has columns of the same name") from error
    if isinstance(wrapped, nw.LazyFrame):
        wrapped = wrapped.collect()
    if wrapped.implementation.is_pandas():
        return wrapped.to_native(), "pandas"
    backend: Backend = "polars" if wrapped.implementation.is_polars() else "pyarrow"
    import pandas as pd

    return wrapped.to_arrow().to_pandas(types_mapper=pd.ArrowDtype), backend


def dtype_name(dtype: Any) -> str:
    """The name by which a schema remembers a storage type, so that `restored` can give it back.

    >>> import pandas as pd, pyarrow as pa
    >>> dtype_name(pd.Series([1]).dtype), dtype_name(pd.Series([1, 2]).astype("category").dtype)
    ('int64', 'category:int64')
    >>> dtype_name(pd.ArrowDtype(pa.decimal128(8, 2))), dtype_name(pd.ArrowDtype(pa.bool_()))
    ('arrow:decimal128(8, 2)', 'bool[pyarrow]')
    """
    import pandas as pd

    if isinstance(dtype, pd.StringDtype):
        return f"string[{dtype.storage}]"
    if isinstance(dtype, pd.CategoricalDtype):
        base = str(dtype.categories.dtype)
        return "category" if base in ("object", "str") or base.startswith("interval") else f"category:{base}"
    if isinstance(dtype, pd.ArrowDtype) and _ARROW_ONLY.match(str(dtype)):
        return f"{_ARROW}{dtype.pyarrow_dtype}"
    return str(dtype)


def with_columns(frame: Any, changed: Mapping[str, pd.Series]) -> Any:
    """A pandas, polars or pyarrow table with these columns in place of its own; the others are not touched.

    A column keeps its type, unless that cannot hold the new values.

    >>> import pandas as pd
    >>> with_columns(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), {"b": pd.Series([5, 6])}).columns.tolist()
    ['a', 'b']
    """
    import narwhals as nw

    wrapped = nw.from_native(frame)
    native = (wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped).to_native()
    if wrapped.implementation.is_pandas():
        result = native.copy()
        for name in native.columns:
            if str(name) in changed:
                result[name] = changed[str(name)]
        return result
    put = _put_in_polars if wrapped.implementation.is_polars() else _put_in_arrow
    for name, values in changed.items():
        native = put(native, name, values)
    return native


def _arrow_column(name: str, values: pd.Series) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.Table.from_pandas(values.to_frame(name), preserve_index=False).column(0)


def _put_in_arrow(table: pa.Table, name: str, values: pd.Series) -> pa.Table:
    import pyarrow as pa

    column, place = _arrow_column(name, values), table.schema.get_field_index(name)
    dtype = table.schema.field(place).type
    try:
        if pa.types.is_dictionary(dtype):
            coded = column.combine_chunks()  # in the order of the table's own dictionary, which indices refer to
            column = pa.DictionaryArray.from_arrays(
                coded.indices.cast(dtype.index_type), coded.dictionary.cast(dtype.value_type), ordered=dtype.ordered
            )
        else:
            column = column.cast(dtype)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return table.set_column(place, name, column)
    return table.set_column(place, table.schema.field(place), column)


def _put_in_polars(frame: pl.DataFrame, name: str, values: pd.Series) -> pl.DataFrame:
    import polars as pl

    series = pl.Series(name, _arrow_column(name, values))
    try:
        return frame.with_columns(series.cast(frame.schema[name]))
    except pl.exceptions.PolarsError:
        return frame.with_columns(series)


def to_native(data: TableData) -> Any:
    """A canonical table in the frame type and dtypes that its schema and backend remember."""
    import pandas as pd

    columns = {c.name: restored(data.table[c.name], c) for c in data.schema.columns}
    frame = pd.DataFrame(columns, columns=list(data.schema.names), index=range(len(data)))
    if data.backend == "pandas":
        return frame
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    if data.backend == "pyarrow":
        return table
    import polars as pl

    return pl.from_arrow(table)


def restored(values: pd.Series, column: Column) -> pd.Series:
    """One canonical column in its storage type: integers stay integers, booleans booleans, categories categories."""
    dtype = column.dtype or {"integer": "int64", "boolean": "bool"}.get(column.kind)
    if dtype is None:
        return values
    if dtype.startswith(_ARROW):
        return _as_arrow(values, _arrow_type(dtype.removeprefix(_ARROW)))
    category, _, base = dtype.partition(":")
    if category == "category":
        return (_typed(values, base) if base else values).astype("category")
    if column.kind not in NUMERIC and dtype == "object":
        return values
    return _typed(values, dtype)


def _typed(values: pd.Series, dtype: Any) -> pd.Series:
    """Cast; where missing values do not fit the type, its nullable form is used."""
    import numpy as np
    import pandas as pd

    zoned = pd.api.types.pandas_dtype(dtype)
    if isinstance(zoned, pd.DatetimeTZDtype):  # a sampled hour may be one that the change of clocks skips or repeats
        first = np.ones(len(values), dtype=bool)
        return values.dt.tz_localize(zoned.tz, ambiguous=first, nonexistent="shift_forward").astype(zoned)
    nullable: Any = dtype
    if values.isna().any() and "pyarrow" not in dtype:
        nullable = _NULLABLE.get(dtype, dtype)
    if values.dtype == object and nullable.lower().lstrip("u").startswith("int"):  # text levels of an integer column
        values = pd.to_numeric(values)
    if nullable.startswith(("bool", "boolean")):
        named = values.map({"True": True, "False": False}) if values.dtype == object else values  # levels of a category
        values = named.astype("boolean")
    elif "int" in nullable.lower() and values.dtype.kind == "f":
        values = values.astype("Int64")
    return values.astype(nullable)


def _arrow_type(name: str) -> pa.DataType:
    """The Arrow type that writes itself like this."""
    import pyarrow as pa

    if match := _DECIMAL.fullmatch(name):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    if match := _DICTIONARY.fullmatch(name):
        return pa.dictionary(_arrow_type(match[2]), _arrow_type(match[1]), match[3] == "1")
    return pa.type_for_alias(name)


def _as_arrow(values: pd.Series, kind: pa.DataType) -> pd.Series:
    """Cells, or levels as text, in an Arrow type; those of a dictionary are listed as they come."""
    import pandas as pd
    import pyarrow as pa

    cells = pa.array(values, from_pandas=True)
    if not pa.types.is_dictionary(kind):
        return pd.Series(pd.arrays.ArrowExtensionArray(cells.cast(kind)))
    coded = cells.cast(kind.value_type).dictionary_encode()
    parts = (coded.indices.cast(kind.index_type), coded.dictionary)
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.DictionaryArray.from_arrays(*parts, ordered=kind.ordered)))

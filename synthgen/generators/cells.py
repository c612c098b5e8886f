"""How does a drawn value look in somebody else's column? Stored and written as the column's known cells are."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from synthgen.errors import DataError
from synthgen.frames import dtype_name, restored
from synthgen.infer import date_layout
from synthgen.rules import level_text
from synthgen.schema import NUMERIC, Column


def with_drawn(raw: pd.Series, known: pd.Series, drawn: pd.Series, column: Column) -> pd.Series:
    """The raw column with drawn values in its missing cells; known cells and the storage type stay as they are.

    Only a column without any known cell, of a type that says nothing or cannot hold the values, gets the schema's type.

    Args:
        raw: as the caller keeps it.
        known: the same in canonical form; its missing cells are the ones to fill.
        drawn: a canonical value for each row; where it is missing, so stays the cell.
        column: what the column is.

    >>> raw = pd.Series(["yes", None, "no"], dtype=object)
    >>> with_drawn(raw, raw, pd.Series(["no"] * 3, dtype=object), Column("smoker", "categorical")).tolist()
    ['yes', 'no', 'no']

    Raises:
        DataError: the column's type cannot hold the values.
    """
    if "dictionary" in str(raw.dtype):  # pandas cannot set a cell of Arrow's; as a category it keeps its order
        raw = pd.Series(raw.array.__arrow_array__().to_pandas().array, index=raw.index)
    if known.isna().all() and _says_nothing(raw.dtype, column):
        return restored(drawn.reset_index(drop=True), column).set_axis(raw.index)
    gaps, result = np.flatnonzero(known.isna().to_numpy() & drawn.notna().to_numpy()), raw.copy()
    if not len(gaps):
        return result
    drawn = drawn.iloc[gaps].reset_index(drop=True)
    try:
        if isinstance(raw.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(raw.dtype) or raw.dtype == object:
            present = known.notna().to_numpy()
            cells: Any = _written(drawn, raw[present].astype(object).tolist(), known[present].tolist(), column)
            if isinstance(raw.dtype, pd.CategoricalDtype):
                result = result.cat.add_categories(
                    [cell for cell in dict.fromkeys(cells) if cell not in raw.cat.categories]
                )
        else:
            cells = restored(drawn, replace(column, dtype=dtype_name(raw.dtype))).array
        result.iloc[gaps] = cells
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"column {column.name!r} is stored as {raw.dtype}, which cannot hold {len(drawn)} imputed values"
        ) from error
    return result


def _says_nothing(dtype: Any, column: Column) -> bool:
    """Whether the storage type of a column without known cells is an accident: object, null, or float for levels."""
    return str(dtype) in ("object", "null[pyarrow]") or (str(dtype) == "float64" and column.kind not in NUMERIC)


def _written(drawn: pd.Series, raw: list[Any], known: list[Any], column: Column) -> list[Any]:
    """Drawn values as Python objects like the raw ones: the cell that a known value has, or one of the same type."""
    example = raw[0] if raw else ""
    if column.kind == "datetime":
        return _written_dates(drawn, raw, example)
    seen = {} if column.kind in ("integer", "real") else dict(zip(reversed(known), reversed(raw), strict=True))
    return [seen[value] if value in seen else _like(example, str(level_text(value))) for value in drawn]


def _like(example: Any, text: str) -> Any:
    if isinstance(example, str):
        words = example.lower() in ("true", "false") and text in ("0", "1")
        return str(text == "1") if words else text
    if isinstance(example, bool | np.bool_):
        return text == "1"
    if isinstance(example, int | np.integer) and not text.lstrip("-").isdigit():
        return float(text)
    return type(example)(text)


def _written_dates(drawn: pd.Series, raw: list[Any], example: Any) -> list[Any]:
    if not isinstance(example, str):
        whole = isinstance(example, datetime.date) and not isinstance(example, datetime.datetime)
        return [moment.date() if whole else moment for moment in drawn]
    texts = pd.Series(raw, dtype=object).str.strip()
    layout = date_layout(texts) if raw else None
    if layout in (None, "ISO8601"):
        longest = max(texts, key=len, default="0000-00-00")
        time = longest[10:11] + ("%H:%M:%S" if len(longest) > 16 else "%H:%M") if len(longest) > 10 else ""
        layout = "%Y-%m-%d" + time + ("Z" if longest.endswith("Z") else "")
    return drawn.dt.strftime(layout).tolist()

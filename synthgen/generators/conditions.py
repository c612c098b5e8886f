"""What does a caller fix in the sampled rows? `where` and `given` as canonical columns, checked against the codec.

Usable by every generator that has a codec: clamp the tokens of `conditions(...)`, and after decoding put its numbers
back with `restore_numbers`, so that a given number comes back exactly and not as one of its sub-bin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthgen.errors import DataError, UsageError
from synthgen.frames import from_native
from synthgen.generators.codec import TableCodec
from synthgen.generators.tokens import MISSING, RARE, LevelColumn
from synthgen.infer import canonical_table

if TYPE_CHECKING:
    from synthgen.schema import TableSchema


def conditions(
    codec: TableCodec,
    schema: TableSchema,
    *,
    n: int,
    where: Mapping[str, Any] | None = None,
    given: Any = None,
) -> pd.DataFrame:
    """The fixed columns of n rows in canonical form; no columns when nothing is fixed.

    Args:
        codec: fitted on train.
        schema: of train.
        n: how many rows are sampled.
        where: column -> the level or number that all rows have; None: missing.
        given: a frame with some of the learned columns, one row for each sampled row.

    Raises:
        UsageError: a column that is not learned or given twice, a wrong number of rows, or values that the model
            cannot give; the message names the column and a count.
    """
    fixed = pd.DataFrame(index=range(n))
    if given is not None:
        frame, _ = from_native(given)
        if len(frame) != n:
            raise UsageError(f"given has {len(frame)} rows, but {n} rows are sampled: one row each is needed")
        fixed = _canonical(codec, schema, frame.reset_index(drop=True))
    for name, value in (where or {}).items():
        if name in fixed:
            raise UsageError(f"column {name!r} is fixed twice: by where and by given")
        one = pd.DataFrame({name: pd.Series([value], dtype=object)})
        fixed[name] = _canonical(codec, schema, one)[name].iloc[np.zeros(n, dtype=int)].to_numpy()
    return fixed


def restore_numbers(values: dict[str, np.ndarray], fixed: pd.DataFrame, codec: TableCodec) -> dict[str, np.ndarray]:
    """Decoded values with every fixed column exactly as it was fixed."""
    return {name: fixed[name].to_numpy() if name in fixed else values[name] for name in codec.names}


def _canonical(codec: TableCodec, schema: TableSchema, frame: pd.DataFrame) -> pd.DataFrame:
    for name in frame.columns:
        codec.tokens_of(str(name))  # refuses columns that are not learned
    described = replace(schema, columns=tuple(schema[str(name)] for name in frame.columns), rules=())
    try:
        table = canonical_table(frame, described, name="the condition")
    except DataError as error:
        raise UsageError(str(error)) from error
    for name in table.columns:
        _check(codec, name, table[name])
    return table


def _check(codec: TableCodec, name: str, values: pd.Series) -> None:
    """Refuse what no sampled row can have: unknown levels, and missing values where train has none."""
    column, tokens = codec.columns[codec.names.index(name)], codec.encode_column(name, values)[:, 0]
    present = ~values.isna().to_numpy()
    if isinstance(column, LevelColumn):
        unknown = tokens == RARE
    else:
        unknown = present & (tokens == MISSING)
        if column.decimals == 0 and not column.bins and len(column.spikes) <= 2:  # a boolean, in effect
            unknown |= present & ~values.isin(column.spikes).to_numpy()
    if unknown.any():
        raise UsageError(f"column {name!r}: {int(unknown.sum())} fixed values are none that the model has learned")
    if not (present.all() or column.has_missing):
        raise UsageError(
            f"column {name!r}: {int((~present).sum())} fixed values are missing, but train has none missing"
        )

"""How are the missing cells of a caller's own frame drawn, while every known cell stays as it is?

Usable by every generator that has a codec and can fill hidden tokens row by row. The result holds real patients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthgen.data import TableData, canonical_column
from synthgen.errors import DataError, UsageError
from synthgen.frames import from_native, with_columns
from synthgen.generators.cells import with_drawn
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import has_values, require_learned
from synthgen.generators.tokens import Column, LevelColumn
from synthgen.infer import canonical_table
from synthgen.schema import Column as SchemaColumn
from synthgen.schema import TableSchema

if TYPE_CHECKING:
    from synthgen.rng import Seed

log = logging.getLogger(__name__)

# tokens (rows, tokens), HIDDEN where unknown; which tokens (tokens,) may not come out missing; seed -> all known
GapFiller = Callable[[np.ndarray, np.ndarray, "Seed"], np.ndarray]


def impute(
    codec: TableCodec,
    schema: TableSchema,
    frame: Any,
    fill: GapFiller,
    *,
    seed: Seed,
    columns: Iterable[str] | None,
    draws: int | None,
) -> Any:
    """The frame with its missing cells drawn: one frame, or a list of `draws` of them.

    Raises:
        UsageError: a column that is not in the frame or cannot be drawn, or fewer than one draw.
        DataError: the frame has columns that the model does not know, or values that do not fit.
    """
    if draws is not None and draws < 1:
        raise UsageError("draws is the number of completed frames, at least 1")
    raw = frame.table if isinstance(frame, TableData) else from_native(frame)[0]
    raw = raw.set_axis([str(name) for name in raw.columns], axis=1)
    known = _learned_part(codec, schema, raw)
    wanted = _wanted(codec, schema, known, columns)
    rows = np.flatnonzero(known[wanted].isna().any(axis=1))
    some = known.iloc[rows]
    tokens = _tokens(codec, some)
    never_missing = np.isin(codec.owner, [codec.names.index(name) for name in wanted])
    made = []
    for number in range(draws or 1):
        root, complete = seed.child("draw", str(number)), known.copy()
        if len(rows):
            filled = fill(tokens, never_missing, root)
            drawn = codec.decode(filled, seed=root.child("decode"), fixed=some, free=some.isna())
            for name in wanted:
                values = canonical_column(drawn[name], schema[name]).set_axis(rows).reindex(range(len(known)))
                complete[name] = known[name].where(known[name].notna(), values)
        if columns is None:
            complete = _with_derived(schema, raw, complete)
        made.append(_completed(frame, raw, known, complete, schema))
    return made[0] if draws is None else made


def _with_derived(schema: TableSchema, raw: pd.DataFrame, complete: pd.DataFrame) -> pd.DataFrame:
    """Completed columns and, beside them, those that rules derive from them."""
    for rule in schema.derivations:
        if rule.derives in raw and set(rule.terms) <= set(complete):
            values = canonical_column(rule.derived(complete), schema[rule.derives])
            complete = complete.assign(**{rule.derives: values})
    return complete


def _learned_part(codec: TableCodec, schema: TableSchema, raw: pd.DataFrame) -> pd.DataFrame:
    """The learned columns of a frame in canonical form."""
    names = list(raw.columns)
    unknown = [name for name in names if name not in schema]
    if unknown:
        raise DataError(f"the frame has columns that the model does not know: {', '.join(map(repr, unknown[:10]))}")
    learned = tuple(schema[name] for name in codec.originals if name in set(names))
    if not learned or not len(raw):
        raise DataError(f"nothing to impute in {len(raw)} rows and {len(learned)} learned columns")
    return canonical_table(raw, TableSchema(learned, missing=schema.missing), name="the frame")


def _wanted(codec: TableCodec, schema: TableSchema, known: pd.DataFrame, columns: Iterable[str] | None) -> list[str]:
    """The columns whose missing cells are drawn."""
    drawable = {column.name for column in codec.columns if has_values(column)}
    if columns is None:
        left = [str(name) for name in known if name not in drawable and known[name].isna().any()]
        if left:
            log.warning("left missing, since no value was learned: %s", ", ".join(left))
        return [str(name) for name in known if name in drawable]
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        require_learned(codec, schema, name)
        if name not in known:
            raise UsageError(f"column {name!r} is to be imputed, but the frame lacks it")
        if name not in drawable:
            raise UsageError(f"column {name!r} cannot be imputed: no value of it was learned")
    return [str(name) for name in known if name in names]


def _tokens(codec: TableCodec, known: pd.DataFrame) -> np.ndarray:
    """Tokens of the known cells, hidden everywhere else. Shape: -> (rows, tokens) int32.

    A known level that was not learned is RARE where training had rare levels, and a number beyond the learned bounds is
    the nearest. Where neither means anything to the model, the cell counts as unknown.
    """
    free, notes = known.isna(), []
    for name in map(str, known):
        strange = codec.unlearned(name, known[name])
        if _blind(codec.columns[codec.names.index(name)]):
            free[name] |= strange
        if strange.any():
            notes.append(f"{name!r} ({int(strange.sum())})")
    if notes:
        log.warning(
            "known values that were not learned; they stay, and count as rare, nearest or unknown: %s", ", ".join(notes)
        )
    return codec.clamp(known, free=free)


def _blind(column: Column) -> bool:
    """Whether no token stands for values that were not learned: no rare level was seen, or it is a yes/no column."""
    if isinstance(column, LevelColumn):
        return column.folded.rows == column.folded.backed_off  # codes that backed off were not seen as rare
    return not column.bins and len(column.spikes) <= 2


def _completed(frame: Any, raw: pd.DataFrame, known: pd.DataFrame, complete: pd.DataFrame, schema: TableSchema) -> Any:
    """The caller's frame with the values of complete columns in its missing cells."""
    changed = {}
    for name in map(str, complete):
        column = schema[name]
        own = known[name] if name in known else _canonical(raw, column, schema)
        if (own.isna() & complete[name].notna()).any():
            stored = replace(column, dtype=None) if isinstance(frame, TableData) else column
            changed[name] = with_drawn(raw[name], own, complete[name], stored)
    if isinstance(frame, TableData):
        return TableData(frame.table.assign(**changed), frame.schema, frame.backend)
    return with_columns(frame, changed)


def _canonical(raw: pd.DataFrame, column: SchemaColumn, schema: TableSchema) -> pd.Series:
    """A derived column of the frame as it is, in canonical form."""
    described = TableSchema((column,), missing=schema.missing)
    return canonical_table(raw, described, name="the frame")[column.name]

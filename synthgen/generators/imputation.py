"""How are the missing cells of a caller's own frame drawn, while every known cell stays as it is?

Usable by every generator that has a codec and can fill hidden tokens row by row. The result holds real patients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
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

if TYPE_CHECKING:
    from synthgen.rng import Seed
    from synthgen.schema import TableSchema

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
    gaps = known[wanted].isna()
    rows = np.flatnonzero(gaps.any(axis=1))
    tokens = _tokens(codec, known.iloc[rows])
    never_missing = np.isin(codec.owner, [codec.names.index(name) for name in wanted])
    made = []
    for number in range(draws or 1):
        root, changed = seed.child("draw", str(number)), {}
        if len(rows):
            filled, some = fill(tokens, never_missing, root), known.iloc[rows]
            drawn = codec.decode(filled, seed=root.child("decode"), fixed=some, free=some.isna())
            for name in gaps.columns[gaps.any()]:
                values = canonical_column(drawn[name], schema[name])[gaps[name].to_numpy()[rows]]
                column = replace(schema[name], dtype=None) if isinstance(frame, TableData) else schema[name]
                changed[name] = with_drawn(raw[name], known[name], values, column)
        made.append(_completed(frame, changed))
    return made[0] if draws is None else made


def _learned_part(codec: TableCodec, schema: TableSchema, raw: pd.DataFrame) -> pd.DataFrame:
    """The learned columns of a frame in canonical form."""
    names = list(raw.columns)
    unknown = [name for name in names if name not in schema]
    if unknown:
        raise DataError(f"the frame has columns that the model does not know: {', '.join(map(repr, unknown[:10]))}")
    learned = tuple(schema[name] for name in codec.originals if name in set(names))
    if not learned or not len(raw):
        raise DataError(f"nothing to impute in {len(raw)} rows and {len(learned)} learned columns")
    return canonical_table(raw, type(schema)(learned, missing=schema.missing), name="the frame")


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


def _completed(frame: Any, changed: Mapping[str, pd.Series]) -> Any:
    if isinstance(frame, TableData):
        return TableData(frame.table.assign(**changed), frame.schema, frame.backend)
    return with_columns(frame, changed)

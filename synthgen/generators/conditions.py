"""What does a caller fix in sampled rows? `where`, `given` and `balance` as canonical columns, checked by the codec.

Usable by every generator that has a codec: fill the hidden tokens of `codec.clamp(conditions(...))`, and decode with
`codec.decode(..., fixed=...)`, so that a given number comes back exactly and the others keep the rules beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthgen.data import canonical_column
from synthgen.errors import DataError, UsageError, suggest
from synthgen.frames import from_native
from synthgen.generators.codec import TableCodec
from synthgen.generators.rewriting import held_by
from synthgen.generators.tokens import MISSING, Column, LevelColumn
from synthgen.infer import canonical_table
from synthgen.schema import NUMERIC, TableSchema

if TYPE_CHECKING:
    from synthgen.rng import Seed

Balance = str | Mapping[str, Mapping[Any, float]]  # a column, or a column and the share of each of its levels


def conditions(
    codec: TableCodec,
    schema: TableSchema,
    *,
    n: int,
    seed: Seed,
    where: Mapping[str, Any] | None = None,
    given: Any = None,
    balance: Balance | None = None,
) -> pd.DataFrame:
    """The fixed columns of n rows in canonical form; no columns when nothing is fixed.

    Args:
        codec: fitted on train.
        schema: of train.
        n: how many rows are sampled.
        seed: of the order in which the levels of `balance` come.
        where: column -> the level or number that all rows have; None: missing.
        given: a frame with some of the learned columns, one row for each sampled row. A missing cell is fixed as
            missing; to have missing cells drawn, use `impute`.
        balance: a column whose learned levels get equal numbers of rows; or that column -> {level: share}, where
            shares sum to 1 and None is missing. Counts are exact: what rounding leaves over goes to the largest
            fractions.

    Raises:
        UsageError: a column that is not learned or is fixed twice, a wrong number of rows, shares that are none, or
            values that the model cannot give or that contradict a rule of the schema; the message names columns and a
            count.
    """
    fixed = {} if given is None else _given(codec, schema, given, n)
    for name, value in (where or {}).items():
        _once(name, fixed, "where", "given")
        if not pd.api.types.is_scalar(value):
            raise UsageError(f"where: column {name!r} is held at one value; for several, use balance or given")
        fixed[name] = _canonical(codec, schema, {name: [value]}).iloc[np.zeros(n, dtype=int)]
    if balance is not None:
        name, levels, shares = _shares(codec, schema, balance)
        _once(name, fixed, "balance", "where or given")
        chosen = np.repeat(np.arange(len(levels)), apportioned(shares, n))
        fixed[name] = levels.iloc[seed.child("balance").numpy().permutation(chosen)]
    table = pd.DataFrame({name: values.to_numpy() for name, values in fixed.items()}, index=range(n))
    _check_rules(codec, table)
    return table


def restore_numbers(values: dict[str, np.ndarray], fixed: pd.DataFrame, codec: TableCodec) -> dict[str, np.ndarray]:
    """Decoded values with every fixed column exactly as it was fixed."""
    return {name: fixed[name].to_numpy() if name in fixed else values[name] for name in codec.originals}


def apportioned(shares: np.ndarray, n: int) -> np.ndarray:
    """Split n into whole numbers in these shares: what is left over goes to the largest remainders, first ones first.

    Shape: shares (levels,) -> (levels,) int64.

    >>> apportioned(np.array([0.5, 0.3, 0.2]), 9)
    array([4, 3, 2])
    """
    exact = n * shares / shares.sum()
    counts = np.floor(exact + 1e-9).astype(np.int64)
    left = np.argsort(counts - exact, kind="stable")[: n - counts.sum()]
    counts[left] += 1
    return counts


def has_values(column: Column) -> bool:
    """Whether a sample can hold anything but missing in this column."""
    return bool(column.emittable[MISSING + 1 :].any())


def require_learned(codec: TableCodec, schema: TableSchema, name: str) -> None:
    """Refuse a column that no condition can name.

    Raises:
        UsageError: unknown, or never learned.
    """
    if name in codec.originals:
        return
    for rule in schema.derivations:
        if rule.derives == name:
            terms = ", ".join(rule.terms)
            raise UsageError(f"column {name!r} is computed by rule {rule.keyword!r}: fix its terms instead: {terms}")
    if name in schema and not schema[name].learned:
        kind = "the patient column" if name == schema.patient else schema[name].kind
        raise UsageError(f"column {name!r} ({kind}) is never learned: it can be neither fixed nor drawn")
    raise UsageError(f"{name!r} is not a learned column: {suggest(name, codec.originals)}")


def _given(codec: TableCodec, schema: TableSchema, given: Any, n: int) -> dict[str, pd.Series]:
    try:
        frame, _ = from_native(given)
    except DataError as error:
        raise UsageError(f"given: {error}") from error
    if len(frame) != n:
        raise UsageError(f"given has {len(frame)} rows, but {n} rows are sampled: one row each is needed")
    return {str(name): _canonical(codec, schema, {str(name): frame[name]}) for name in frame.columns}


def _once(name: str, fixed: Mapping[str, Any], *by: str) -> None:
    if name in fixed:
        raise UsageError(f"column {name!r} is fixed twice: by {' and by '.join(by)}")


def _canonical(codec: TableCodec, schema: TableSchema, cells: Mapping[str, Any]) -> pd.Series:
    """The cells of one column in canonical form, if the model can give them."""
    name, values = next(iter(cells.items()))
    require_learned(codec, schema, name)
    raw = values if isinstance(values, pd.Series) else pd.Series(values, dtype=object)
    described = TableSchema((schema[name],), missing=schema.missing)
    try:
        table = canonical_table(pd.DataFrame({name: raw.reset_index(drop=True)}), described, name="the condition")
    except DataError as error:
        raise UsageError(str(error)) from error
    if schema[name].kind in NUMERIC:
        table[name] = canonical_column(table[name], schema[name])
    _check(codec, name, table[name])
    return table[name]


def _check(codec: TableCodec, name: str, values: pd.Series) -> None:
    """Refuse what no sampled row can have: values that were not learned, and missing ones where train has none.

    A code that is not learned counts as the learned code above it, whether or not a patient of train has it.
    """
    column, present = codec.columns[codec.names.index(name)], ~values.isna().to_numpy()
    if not has_values(column) and present.any():
        raise UsageError(f"column {name!r}: no value was learned, so it is always missing: {_fixed(present)} are not")
    unknown = codec.unlearned(name, values)
    if unknown.any():
        reason = "none that" if isinstance(column, LevelColumn) else "outside what"
        raise UsageError(f"column {name!r}: {_fixed(unknown)} are {reason} the model has learned")
    if not (present.all() or column.has_missing):
        raise UsageError(f"column {name!r}: {_fixed(~present)} are missing, but train has none missing")


def _check_rules(codec: TableCodec, fixed: pd.DataFrame) -> None:
    """Refuse fixed values that no row can have beside each other under the rules of the schema."""
    for chain in codec.rewriting.chains:
        held = held_by(chain, fixed)
        if held:
            names = ", ".join(member.name for member in chain.members)
            _refuse(chain.contradictions(held, len(fixed)), names, "contradict the rules of 'order'")
    for component in codec.legal.components:
        known = {name: codec.encode_column(name, fixed[name])[:, 0] for name in component.names if name in fixed}
        if known:
            why = "contradict the rules of 'implies' or 'combination', given what was learned"
            _refuse(codec.legal.impossible(component, known, len(fixed)), ", ".join(component.names), why)


def _refuse(broken: np.ndarray, columns: str, why: str) -> None:
    if broken.any():
        raise UsageError(f"columns {columns}: the fixed values of {int(broken.sum())} of {len(broken)} rows {why}")


def _fixed(which: np.ndarray) -> str:
    return f"{int(which.sum())} fixed values"


def _shares(codec: TableCodec, schema: TableSchema, balance: Any) -> tuple[str, pd.Series, np.ndarray]:
    """The balanced column, its levels in canonical form, and the share of each. Shape: (levels,), (levels,)."""
    if isinstance(balance, str):
        name, wanted = balance, None
    elif isinstance(balance, Mapping) and len(balance) == 1 and isinstance(next(iter(balance.values())), Mapping):
        name, wanted = next(iter(balance.items()))
    else:
        raise UsageError("balance names one column, or maps one column to the share of each of its levels")
    require_learned(codec, schema, name)
    column = codec.columns[codec.names.index(name)]
    if not isinstance(column, LevelColumn) and (column.bins or name in codec.dates or codec.rewriting.chain_of(name)):
        raise UsageError(f"balance: column {name!r} is continuous: it has no levels to balance")
    if not has_values(column):
        raise UsageError(f"balance: no value of column {name!r} was learned")
    if wanted is None:
        if isinstance(column, LevelColumn):
            return name, pd.Series(column.levels, dtype=object), np.ones(len(column.levels))
        return name, pd.Series(column.spikes), np.ones(len(column.spikes))
    levels = _canonical(codec, schema, {name: list(wanted)})
    if levels.duplicated().any():
        raise UsageError(f"balance: {int(levels.duplicated().sum())} levels of column {name!r} stand there twice")
    return name, levels, _checked_shares(name, list(wanted.values()))


def _checked_shares(name: str, given: list[Any]) -> np.ndarray:
    try:
        shares = np.array([float(share) for share in given])
    except (TypeError, ValueError):
        shares = np.array([np.nan])
    if not (np.isfinite(shares).all() and (shares >= 0).all() and abs(shares.sum() - 1) < 1e-6):
        raise UsageError(f"balance: the shares of column {name!r} must be numbers of at least 0 that sum to 1")
    return shares

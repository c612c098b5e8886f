"""Which numbers often equal another column of their row, and how is that said in tokens?

A bill that is paid in full, a laboratory value carried forward: equality is a fact of its own that no distribution of
values expresses. A tied number has the token "as column c" instead of a bin. Dates have differences instead (`chains`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from synthgen.generators.tokens import Column, NumberColumn

SHARE = 0.01  # of the rows where both have a value that is no spike: fewer equal ones may be chance
MOST = 3  # columns that one column may be tied to
_ROWS = 20_000  # looked at to find candidates


def tied(
    columns: Sequence[Column], numbers: Mapping[str, np.ndarray], patients: np.ndarray, *, k: Mapping[str, int]
) -> list[Column]:
    """The columns, each with the earlier columns that it equals in many rows.

    Args:
        columns: fitted.
        numbers: the values of each column of numbers. Shape: (rows,) each.
        patients: Shape: (rows,).
        k: for each column, how many patients must show an equality.

    >>> x = np.arange(400.0)
    >>> a = NumberColumn.fit("bill", x, np.arange(400), k=5, decimals=0)
    >>> b = NumberColumn.fit("paid", np.where(x % 4, x, x[::-1]), np.arange(400), k=5, decimals=0)
    >>> numbers = {"bill": x, "paid": np.where(x % 4, x, x[::-1])}
    >>> [c.ties for c in tied([a, b], numbers, np.arange(400), k={"bill": 5, "paid": 5})]
    [(), ('bill',)]
    """
    binned = {c.name: c for c in columns if isinstance(c, NumberColumn) and c.bins and c.name in numbers}
    inner = {name: np.where(np.isin(numbers[name], c.spikes), np.nan, numbers[name]) for name, c in binned.items()}
    step = max(1, len(patients) // _ROWS)
    found: dict[str, list[tuple[float, str]]] = {name: [] for name in binned}
    for source, name in itertools.combinations(binned, 2):
        if _share(inner[name][::step], inner[source][::step]) < SHARE:
            continue
        share, equal = _share(inner[name], inner[source]), inner[name] == inner[source]
        if share >= SHARE and len(np.unique(patients[equal])) >= k[name]:
            found[name].append((-share, source))
    ties = {name: tuple(source for _, source in sorted(pairs)[:MOST]) for name, pairs in found.items()}
    return [replace(c, ties=ties[c.name]) if isinstance(c, NumberColumn) and c.name in ties else c for c in columns]


def tie(column: NumberColumn, tokens: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tokens with a tie's token where the value of a bin equals that of its source.

    Shape: tokens (rows, 1 or 2), values (rows,) of the column and of those it may be tied to -> as tokens.
    """
    tokens = tokens.copy()
    binned = tokens[:, 0] >= column.first_bin
    for number, name in reversed(list(enumerate(column.ties))):  # the strongest comes last and stays
        equal = binned & (values[column.name] == values[name])
        tokens[equal] = 0
        tokens[equal, 0] = column.first_tie + number
    return tokens


def untie(
    column: NumberColumn,
    tokens: np.ndarray,
    values: np.ndarray,
    sources: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """The values with each tie resolved; where its source is missing, the middle of a sub-bin by frequency.

    Shape: tokens (rows, 1 or 2), values (rows,) -> (rows,).
    """
    found = (tokens[:, 0] >= column.first_tie) & (tokens[:, 0] < column.first_bin)
    if not found.any():
        return values
    source = np.full(len(values), np.nan)
    for number, name in enumerate(column.ties):
        here = tokens[:, 0] == column.first_tie + number
        source[here] = sources[name][here]
    other = rng.choice(column.middles, size=len(values), p=column.shares / column.shares.sum())
    resolved = np.where(np.isnan(source), other, source)
    resolved = resolved if column.decimals is None else np.round(resolved, column.decimals)
    return np.where(found, resolved, values)


def _share(a: np.ndarray, b: np.ndarray) -> float:
    """Of the rows where both are numbers, how many are equal."""
    both = ~(np.isnan(a) | np.isnan(b))
    return float((a == b).sum() / max(both.sum(), 1))

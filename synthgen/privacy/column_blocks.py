"""Which columns should be compared on their own? Groups that belong together, and those that identify or harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthgen.privacy.neighbors import placed, shared_columns, space_of
from synthgen.privacy.space import Points, hashes, stacked
from synthgen.protocols import Evidence

_GROUP, _MOST_GROUPS = 4, 6  # columns of a group, unless there would be more groups than this
_ROWS = 10_000  # on which association is measured
_LEVELS = 8  # of a category that count for its association
_ALONE = 20  # patients, and 1 % of them: fewer with a combination of their own make a block too coarse
_NAMED = 4  # columns that the name of a block lists


@dataclass(frozen=True)
class Block:
    """Columns and the way in which rows are compared on them.

    `distance`: by distance. `agreement`: wherever they agree. `ranks`: by distance between ranks within each set.
    """

    name: str
    columns: tuple[str, ...]
    how: Literal["distance", "agreement", "ranks"] = "distance"


def column_blocks(evidence: Evidence) -> tuple[list[Block], list[Block]]:
    """Blocks of the columns that all tables have, and those left out because hardly anybody is alone in them.

    - groups of associated columns, chosen on the pooled real rows, blind to which are train;
    - the declared quasi-identifiers, and sensitive columns together with them;
    - all columns, where rows agree on some of them (from four columns on);
    - all columns in own ranks (where there are numbers).

    Raises:
        NotAssessable: the tables have no learned column in common.
    """
    names = shared_columns(evidence)
    groups = [group for group in associated(evidence, names) if len(group) > 1]
    found = [Block(f"group {i} ({listed(group)})", tuple(group)) for i, group in enumerate(groups, start=1)]
    quasi, sensitive = (
        [name for name in names if name in evidence.schema.with_role(role)]  # type: ignore[arg-type]
        for role in ("quasi_identifier", "sensitive")
    )
    if quasi:
        found.append(Block(f"quasi-identifiers ({listed(quasi)})", tuple(quasi)))
    if sensitive:
        both = sorted({*quasi, *sensitive})
        found.append(Block(f"sensitive columns and quasi-identifiers ({listed(both)})", tuple(both)))
    space, sets = space_of(evidence), placed(evidence)
    real = stacked(sets.train, sets.holdout)
    fine = {
        block: _identifies(space.part(real, block.columns), sets.patients) for block in _different(found, len(names))
    }
    kept = [block for block, enough in fine.items() if enough]
    if len(names) >= _GROUP:
        kept.append(Block("any part of the columns", tuple(names), "agreement"))
    if evidence.train.schema.ordered & set(names):
        kept.append(Block("all columns in own ranks", tuple(names), "ranks"))
    return kept, [block for block, enough in fine.items() if not enough]


def associated(evidence: Evidence, names: list[str]) -> list[list[str]]:
    """Groups of about four columns, at most six groups, neighbours in a hierarchical clustering by association.

    The association of two columns is the root of the RV coefficient (Escoufier 1973) of their ranks or indicators of
    levels: of two numbers it is the absolute rank correlation.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    number = min(_MOST_GROUPS, round(len(names) / _GROUP))
    if number < 2:
        return []
    sets = placed(evidence)
    real = stacked(sets.train, sets.holdout)
    some = real.take(np.argsort(hashes(real), kind="stable")[:_ROWS])
    parts = [_features(space_of(evidence).part(some, {name})) for name in names]
    distance = np.round(1 - _association(parts), 6)
    np.fill_diagonal(distance, 0)
    order = leaves_list(linkage(squareform(distance, checks=False), "average"))
    return [sorted(names[i] for i in chunk) for chunk in np.array_split(order, number)]


def listed(columns: Sequence[str]) -> str:
    """The first columns, and how many more there are.

    >>> listed(["age", "bmi", "sex", "stage", "ward", "weight"])
    'age, bmi, sex, stage and 2 more'
    """
    named = ", ".join(name[:40] for name in columns[:_NAMED])
    return named + (f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else "")


def _different(blocks: list[Block], everything: int) -> list[Block]:
    """Without blocks that hold all columns, which copies.neighbor compares, or the same ones as an earlier block."""
    first = {frozenset(block.columns): block for block in reversed(blocks)}
    return [b for b in blocks if first[frozenset(b.columns)] is b and len(b.columns) < everything]


def _identifies(real: Points, patients: np.ndarray) -> bool:
    """Whether enough patients have a combination of values that nobody else has."""
    contents = np.unique(hashes(real), return_inverse=True)[1]
    held = np.unique(np.stack([contents, patients]), axis=1)
    alone = np.bincount(held[0])[held[0]] == 1
    return len(np.unique(held[1][alone])) >= max(_ALONE, 0.01 * (patients.max() + 1))


def _features(column: Points) -> np.ndarray:
    """Ranks, or indicators of frequent levels, of one column. Shape: -> (rows, coordinates)."""
    if column.numbers.shape[1]:
        return column.numbers[:, :1]
    codes = column.codes[:, 0]
    return (codes[:, None] == np.arange(min(_LEVELS, codes.max() + 1))).astype(float)


def _association(parts: list[np.ndarray]) -> np.ndarray:
    """Shape: -> (columns, columns), from 0 to 1."""
    centred = np.hstack([part - part.mean(axis=0) for part in parts])
    starts = np.cumsum([0, *(part.shape[1] for part in parts[:-1])])
    squares = np.square(centred.T @ centred / len(centred))
    squares = np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)
    own = np.sqrt(np.maximum(np.diag(squares), 1e-30))
    found: np.ndarray = np.sqrt(np.clip(squares / np.outer(own, own), 0, 1))
    return found

"""Which levels of a column may be learned, and what becomes of the others? Rare ones fold, rare codes back off.

Token 0 is "missing", 1 is RARE, then come the levels that at least k patients have. A code that fewer have counts as
the nearest code above it that k patients have, their own and those that backed off to it together, and comes back as
that code: `E11.65` as `E11.6`, or as `E11`. So all that is ever said of a code is true of at least k patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from synthgen.codes import Hierarchy, ancestors

MISSING, RARE = 0, 1


@dataclass(frozen=True)
class Folded:
    """What protection took away from one column: `levels` rare levels, and `rows` whose value was replaced."""

    k: int
    levels: int
    rows: int
    backed_off: int = 0  # of these rows, those that kept a code above their own


def patients_per(group: np.ndarray, patients: np.ndarray, groups: int) -> np.ndarray:
    """How many different patients each group has. Shape: (rows,) int, (rows,) int -> (groups,).

    >>> patients_per(np.array([0, 0, 1]), np.array([4, 4, 5]), 2)
    array([1, 1])
    """
    if len(patients) == patients_in(patients):  # one row each: nobody counts twice
        return np.bincount(group, minlength=groups)
    count = int(patients.max()) + 1
    pairs = np.sort(group.astype(np.int64) * count + patients)
    return np.bincount(pairs[np.diff(pairs, prepend=-1) > 0] // count, minlength=groups)


def patients_in(patients: np.ndarray) -> int:
    """How many different patients there are. Shape: (rows,) int.

    >>> patients_in(np.array([3, 0, 3]))
    2
    """
    return int(np.count_nonzero(np.bincount(patients)))


@dataclass(frozen=True, eq=False)
class LevelColumn:
    """A column of levels: missing, RARE, then the levels that at least k patients have, in order of their text.

    >>> values = np.array(["f"] * 9 + ["m"] * 8 + ["x", None], dtype=object)
    >>> column = LevelColumn.fit("sex", values, np.arange(19), k=5)
    >>> column.levels, column.folded, column.encode(values)[-3:, 0].tolist()
    (('f', 'm'), Folded(k=5, levels=1, rows=1, backed_off=0), [3, 1, 0])
    >>> values = np.array(["E11.9"] * 9 + ["E11.65"] * 2 + ["E11.64"] * 3, dtype=object)
    >>> LevelColumn.fit("diagnosis", values, np.arange(14), k=5, hierarchy="icd10").levels
    ('E11.6', 'E11.9')
    """

    name: str
    levels: tuple[str, ...]
    shares: tuple[float, ...]  # of the rows with a kept level
    has_missing: bool
    hierarchy: Hierarchy
    folded: Folded

    @classmethod
    def fit(cls, name: str, values: np.ndarray, patients: np.ndarray, *, k: int, hierarchy: Hierarchy = "none") -> Self:
        """Keep the levels of at least k patients. Shape: values (rows,) str or None, patients (rows,) int."""
        codes, levels = pd.factorize(values, sort=True)
        known = codes >= 0
        learned = _learned(list(levels), codes[known], patients[known], k, hierarchy)
        rows = np.bincount(codes[known], minlength=len(levels))
        kept: dict[str, int] = {}
        for level, count in zip(learned, rows, strict=True):
            if level is not None:
                kept[level] = kept.get(level, 0) + int(count)
        total, ordered = max(sum(kept.values()), 1), sorted(kept)
        replaced = np.array([new != old for new, old in zip(learned, levels, strict=True)], dtype=bool)
        gone = np.array([new is None for new in learned], dtype=bool)
        folded = Folded(k, int(replaced.sum()), int(rows[replaced].sum()), int(rows[replaced & ~gone].sum()))
        shares = tuple(round(kept[level] / total, 6) for level in ordered)
        return cls(name, tuple(ordered), shares, bool((~known).any()), hierarchy, folded)

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """Sizes of this column's tokens."""
        return (2 + len(self.levels),)

    @property
    def emittable(self) -> np.ndarray:
        """Which tokens a sampler may emit: never RARE. Shape: (vocabulary,) boolean."""
        allowed = np.ones(2 + len(self.levels), dtype=bool)
        allowed[MISSING] = self.has_missing or not self.levels
        allowed[RARE] = False
        return allowed

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Shape: (rows,) str or None -> (rows, 1); unseen levels are RARE, unseen codes the one above."""
        index = pd.Index(self.levels, dtype=object)
        tokens = index.get_indexer(pd.Index(values, dtype=object)) + 2
        missing = pd.isna(values)
        unseen = np.flatnonzero((tokens == 1) & ~missing)
        if len(unseen) and self.hierarchy != "none":
            codes, levels = pd.factorize(values[unseen])
            above = [next((a for a in ancestors(x, self.hierarchy) if a in index), None) for x in levels]
            nearest = index.get_indexer(pd.Index(above, dtype=object)) + 2
            tokens[unseen] = nearest[codes]
        tokens[tokens == 1] = RARE
        tokens[missing] = MISSING
        return tokens[:, None]

    def decode(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shape: (rows, 1) -> (rows,) str or None; RARE becomes a kept level by frequency, missing if there is none."""
        token = tokens[:, 0].astype(np.int64)
        rare = np.flatnonzero(token == RARE)
        if self.levels:
            shares = np.asarray(self.shares) + 1e-9
            token[rare] = 2 + rng.choice(len(self.levels), size=len(rare), p=shares / shares.sum())
        return np.array([None, None, *self.levels], dtype=object)[token]


def _learned(
    levels: list[str], group: np.ndarray, patients: np.ndarray, k: int, hierarchy: Hierarchy
) -> list[str | None]:
    """For each level what is learned of it: itself, the nearest code above with k patients, or nothing.

    Shape: group (rows,) the number of the level, patients (rows,) -> (levels,).
    """
    strong = patients_per(group, patients, len(levels)) >= k
    if hierarchy == "none" or strong.all():
        return [level if good else None for level, good in zip(levels, strong, strict=True)]
    known = {level for level, good in zip(levels, strong, strict=True) if good}
    above = {level: ancestors(level, hierarchy) for level in levels}
    if hierarchy == "separator":  # nobody vouches for what stands before a separator but the patients who have it
        above = {level: tuple(a for a in codes if a in known) for level, codes in above.items()}
    path = [(level, *above[level], "") for level in levels]  # the end stands for: nothing is learned
    rank = np.zeros(len(levels), dtype=np.int64)  # how far each level has backed off
    for depth in range(max(map(len, path)), 1, -1):  # the deepest codes first: those above gather them
        now = [codes[place] for codes, place in zip(path, rank, strict=True)]
        node, nodes = pd.factorize(np.array(now, dtype=object))
        weak = patients_per(node[group], patients, len(nodes)) < k
        left = np.array([len(codes) for codes in path]) - rank
        rank[weak[node] & (left == depth)] += 1
    return [codes[place] or None for codes, place in zip(path, rank, strict=True)]

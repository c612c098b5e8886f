"""How are the values of a column spread, synthetic beside real? Shares of rows in cells that hold nobody alone.

A cell has at least ten patients of each side, or none of it; smaller ones are joined with their neighbours. Cells of
numbers begin and end at round numbers, cells of dates at the turn of a month or year, and the outermost are open, so
that neither a patient's value nor an extreme is told. Levels are numbered, never named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.findings import SMALLEST_CELL, Cell, Estimate
from synthgen.schema import Column
from synthgen.validators.encoding import frequent_levels, level_codes, numbers, ordered
from synthgen.validators.resampling import share

_CELLS = 8  # of a column of numbers or dates, about
_LEVELS = 8  # with a cell of their own, at most
_TAIL = 0.05  # share of the values beyond the first and beyond the last edge, about
_TURNS = (("D", 1), ("D", 7), ("M", 1), ("M", 3), ("Y", 1), ("Y", 2), ("Y", 5), ("Y", 10), ("Y", 20), ("Y", 50))
_TOO_FEW = Estimate(math.nan, 0.0, 1.0, 0, f"fewer than {SMALLEST_CELL}")
_WORDS = {"0": "no", "1": "yes"}


def cells_of(columns: Sequence[Column], synthetic: TableData, holdout: TableData) -> Mapping[str, tuple[Cell, ...]]:
    """The cells of each column, without columns of which only one cell is left.

    >>> from synthgen import datasets
    >>> one, other = datasets.load("actg175").split_by_patient(seed=1)
    >>> [cell.label for cell in cells_of([one.schema["karnof"]], one, other)["karnof"]]
    ['below 90', '90 to 99', '100 and above']
    """
    found = {column.name: _cells(column, (synthetic, holdout)) for column in columns}
    return {name: cells for name, cells in found.items() if len(cells) > 1}


def missing_rates(names: Sequence[str], synthetic: TableData, holdout: TableData) -> dict[str, Estimate]:
    """The share of rows without a value, of both sides; not where one to nine patients lack it, or have it.

    >>> from synthgen import datasets
    >>> one, other = datasets.load("actg175").split_by_patient(seed=1)
    >>> print(missing_rates(["cd496"], one, other)["missing rate, cd496 (real holdout)"])
    0.405 [0.367, 0.444]
    """
    found = {}
    for name in names:
        for mark, side in (("", synthetic), (" (real holdout)", holdout)):
            gone = side.table[name].isna().to_numpy()
            parts = [len(np.unique(side.patients[flags])) for flags in (gone, ~gone)]
            shown = all(part == 0 or part >= SMALLEST_CELL for part in parts)
            found[f"missing rate, {name}{mark}"] = share(gone, side.patients) if shown else _TOO_FEW
    return found


@dataclass(frozen=True)
class _Coded:
    """A column as places in a row of cells: of values in their order, then missing."""

    codes: tuple[np.ndarray, ...]  # (rows,) of each side
    starts: tuple[str, ...]  # where the cells of values begin; the first one is open where they are numbers
    ends: tuple[str, ...]  # where they end; the last one is open where they are numbers
    numeric: bool
    open_ends: tuple[str, str] = ("", "")

    def label(self, first: int, last: int) -> str:
        """What the cells from one place to another are called together."""
        values = len(self.starts)
        if first == values:
            return "missing"
        end = " or missing" if last == values else ""
        last = min(last, values - 1)
        if self.numeric and first == 0:
            return (self.open_ends[0].format(self.starts[last + 1]) if last + 1 < values else "any value") + end
        if self.numeric and last == values - 1:
            return self.open_ends[1].format(self.starts[first]) + end
        start, stop = self.starts[first], self.ends[last]
        return (start if start == stop else f"{start} to {stop}") + end


def _cells(column: Column, sides: Sequence[TableData]) -> tuple[Cell, ...]:
    values = [side.table[column.name] for side in sides]
    coded = _numbers(column, values) if ordered(column) and column.kind != "boolean" else _levels(column, values)
    cells = []
    for first, last in _joined(coded, sides):
        inside = [(codes >= first) & (codes <= last) for codes in coded.codes]
        made, real = (share(flags, side.patients) for flags, side in zip(inside, sides, strict=True))
        cells.append(Cell(coded.label(first, last), made, real))
    return tuple(cells)


def _joined(coded: _Coded, sides: Sequence[TableData]) -> list[tuple[int, int]]:
    """Neighbouring cells, joined until each has at least ten patients of a side, or none of that side alone."""
    places = len(coded.starts) + any((codes == len(coded.starts)).any() for codes in coded.codes)
    present = np.zeros((len(sides), places, max(side.patient_count for side in sides)), dtype=bool)
    for who, codes, side in zip(present, coded.codes, sides, strict=True):
        who[codes, side.patients] = True
    groups = [(place, place) for place in range(places)]
    while len(groups) > 1:
        counts = np.array([present[:, low : high + 1].any(axis=1).sum(axis=1) for low, high in groups])
        few = np.flatnonzero(((counts > 0) & (counts < SMALLEST_CELL)).any(axis=1) | (counts == 0).all(axis=1))
        if not len(few):
            return groups
        i, total = int(few[0]), counts.sum(axis=1)
        left = i > 0 and (i + 1 == len(groups) or total[i] == 0 or total[i - 1] <= total[i + 1])
        low = i - 1 if left else i
        groups[low : low + 2] = [(groups[low][0], groups[low + 1][1])]
    return groups


def _levels(column: Column, values: Sequence[pd.Series]) -> _Coded:
    """Levels by their frequency in the synthetic table, which anybody may count there; the rarer ones together."""
    known = frequent_levels(values[0])
    known += tuple(level for level in frequent_levels(values[1]) if level not in set(known))
    kept = known[:_LEVELS]
    names = tuple(f"level {i + 1}" for i in range(len(kept)))
    if column.kind == "boolean" and set(known) <= set(_WORDS):
        kept = tuple(_WORDS)
        names = tuple(_WORDS.values())
    names += ("other levels",) if len(known) > len(kept) else ()
    codes = [level_codes(one, kept) for one in values]  # other levels after those kept, missing last
    if len(names) == len(kept):
        codes = [np.minimum(one, len(kept)) for one in codes]
    return _Coded(tuple(codes), names, names, numeric=False)


def _numbers(column: Column, values: Sequence[pd.Series]) -> _Coded:
    found = [numbers(one) for one in values]
    pooled = np.concatenate(found)
    pooled, whole = pooled[~np.isnan(pooled)], column.kind == "integer"
    edges, starts = _dates(pooled) if column.kind == "datetime" else _round(pooled, whole=whole)
    codes = [np.where(np.isnan(one), len(edges) + 1, np.searchsorted(edges, one, side="right")) for one in found]
    ends = tuple(_written(edge - 1, 0) for edge in edges) if whole else starts
    words = ("before {}", "{} and later") if column.kind == "datetime" else ("below {}", "{} and above")
    return _Coded(tuple(codes), ("", *starts), (*ends, ""), numeric=True, open_ends=words)


def _round(values: np.ndarray, *, whole: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Round numbers between the tails, and how they are written."""
    low, high = _middle(values)
    if whole and len(values) and np.ptp(values) <= _CELLS + 1:
        low, high = float(values.min()) + 1, float(values.max())
    if high < low or (high == low and not whole):
        return np.empty(0), ()
    raw = max((high - low) / _CELLS, 1.0 if whole else np.finfo(float).tiny)
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(s * scale for s in (1.0, 2.0, 5.0, 10.0) if s * scale >= raw * (1 - 1e-9))
    places = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    edges = np.round(places * step, decimals) + 0.0  # no minus zero
    return edges, tuple(_written(edge, decimals) for edge in edges)


def _written(edge: float, decimals: int) -> str:
    return f"{edge:,.{decimals}f}" if abs(edge) < 1e7 and decimals < 7 else f"{edge:g}"


def _dates(days: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns of days, weeks, months or years between the tails."""
    low, high = _middle(days)
    if not low < high:
        return np.empty(0), ()
    ends = np.array([math.ceil(low), math.floor(high)], dtype="datetime64[D]")
    for unit, step in _TURNS:
        first, last = ends.astype(f"datetime64[{unit}]").astype(int) + (1970 if unit == "Y" else 0)
        places = np.arange(-(-first // step) * step, last + 1, step) - (1970 if unit == "Y" else 0)
        edges = places.astype(f"datetime64[{unit}]")
        edges = edges[(edges >= ends[0]) & (edges <= ends[1])]
        if len(edges) <= _CELLS + 1:
            break
    return edges.astype("datetime64[D]").astype(float), tuple(str(edge) for edge in edges)


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Where most values lie; where nearly all are equal, where most distinct ones lie."""
    if not len(values):
        return 0.0, 0.0
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    if low == high:
        low, high = np.quantile(np.unique(values), [_TAIL, 1 - _TAIL])
    return float(low), float(high)

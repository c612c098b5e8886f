"""How do columns that are compared with each other become one anchor and differences, and come back in order?

A chain is a set of dates, or of numbers under rules of 'order'. Its columns are placed one after the other, the anchor
first, then what must not exceed the anchor (downwards), then all others (upwards). A column is coded as its distance
from the nearest column placed before it that an order ties it to, which is never negative; where the row has none, as
the signed difference to the row's start: the anchor, or the first column of the placement that the row has. Distances
are taken from values rounded to the column's own grid, so that whole days stay whole days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from synthgen.grids import Grid

UNIT_SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


def microseconds(dates: pd.Series) -> np.ndarray:
    """Dates as microseconds since 1970, NaN for missing. Shape: (rows,) -> (rows,) float.

    >>> microseconds(pd.Series(pd.to_datetime(["1970-01-02", None]))).tolist()
    [86400000000.0, nan]
    """
    whole = dates.to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(whole), np.nan, whole.astype(np.int64).astype(float))


def stamps(values: np.ndarray) -> np.ndarray:
    """The inverse of `microseconds`. Shape: (rows,) float -> (rows,) datetime64[ns].

    >>> stamps(np.array([86400e6]))
    array(['1970-01-02T00:00:00.000000000'], dtype='datetime64[ns]')
    """
    found, known = np.full(len(values), np.datetime64("NaT", "ns")), ~np.isnan(values)
    found[known] = np.round(values[known]).astype(np.int64).astype("datetime64[us]").astype("datetime64[ns]")
    return found


@dataclass(frozen=True)
class Member:
    """One column of a chain. Its values are numbers, or microseconds since 1970."""

    name: str
    date_unit: str | None  # of dates: what their coded differences count
    decimals: int | None  # of the coded differences; None: full precision
    low: float  # declared
    high: float
    least: float  # learned, without true extremes; NaN: nothing is learned
    greatest: float
    has_missing: bool
    offset: float = 0.0  # typical difference to the start of the row
    distance: float = 0.0  # typical coded difference

    @property
    def scale(self) -> float:
        """The size of one coded unit."""
        return 1.0 if self.date_unit is None else UNIT_SECONDS[self.date_unit] * 1e6

    @property
    def grid(self) -> Grid:
        """The values that the column can have."""
        if self.date_unit is None:
            return Grid.of_decimals(self.decimals)
        return Grid(step=1 if self.decimals is None else UNIT_SECONDS[self.date_unit] * 1_000_000)

    def coded(self, values: np.ndarray) -> np.ndarray:
        """Differences in the units that the codec learns."""
        numbers = values / self.scale
        return numbers if self.decimals is None else np.round(numbers, self.decimals)

    def unlearned(self, series: pd.Series) -> np.ndarray:
        """Which values lie beyond the learned bounds. Shape: (rows,) -> boolean."""
        values = self.values(series)
        return ~np.isnan(values) & ~((values >= self.least) & (values <= self.greatest))

    def values(self, series: pd.Series) -> np.ndarray:
        """A canonical column as numbers."""
        return series.to_numpy(dtype=float) if self.date_unit is None else microseconds(series)

    def series(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `values`."""
        return values if self.date_unit is None else stamps(values)


@dataclass(frozen=True)
class Held:
    """What a caller fixes in one column: in which rows, and the value (NaN: missing). Shape: (rows,) each."""

    rows: np.ndarray
    values: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Rows where a value is fixed."""
        return self.rows & ~np.isnan(self.values)


@dataclass(frozen=True)
class Chain:
    """Columns in the order of their placement.

    >>> from dataclasses import replace
    >>> born = Member("born", None, 0, -math.inf, math.inf, 0.0, 99.0, has_missing=False)
    >>> chain = Chain("born", (born, replace(born, name="died")), below=1, before=((), (0,)))
    >>> coded = chain.forward({"born": np.array([10.0, 20.0]), "died": np.array([15.0, 19.0])})
    >>> coded["died"].tolist(), chain.inverse(coded, {})["died"].tolist()
    ([5.0, 0.0], [15.0, 20.0])
    """

    start: str  # the name of the coded start; the anchor's own where no row lacks the anchor
    members: tuple[Member, ...]
    below: int  # so many of the first members are the anchor and what must not exceed it
    before: tuple[tuple[int, ...], ...]  # for each member, those that must not exceed it, directly or through others

    @property
    def anchor(self) -> Member:
        """The member that is placed first."""
        return self.members[0]

    def member(self, name: str) -> Member:
        """The member of this name."""
        return next(member for member in self.members if member.name == name)

    @property
    def coded(self) -> tuple[tuple[str, int | None], ...]:
        """Names and decimals of the coded columns: the start, then each member's difference."""
        differences = self.members[self.start == self.anchor.name :]
        return ((self.start, self.anchor.decimals), *((member.name, member.decimals) for member in differences))

    def forward(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Shape: (rows,) for each member -> (rows,) for each coded column, NaN for missing."""
        x = [np.clip(values[member.name], member.low, member.high) for member in self.members]
        stacked = np.stack(x)
        first = np.argmax(~np.isnan(stacked), axis=0)
        start = self.anchor.grid.down(np.take_along_axis(stacked, first[None], axis=0)[0])
        coded = {}
        for i, member in enumerate(self.members):
            near = self._nearest(i, x)
            difference = np.maximum(self._sign(i) * (x[i] - near), 0.0)
            coded[member.name] = member.coded(np.where(np.isnan(near), x[i] - member.grid.down(start), difference))
        return coded | {self.start: self.anchor.coded(start)}

    def inverse(self, coded: Mapping[str, np.ndarray], held: Mapping[str, Held]) -> dict[str, np.ndarray]:
        """Values in order and on their grids; what is held comes back exactly, and the others go round it.

        Where no more than the start is known of a row before what is held, the whole row moves to meet the first held
        value. Shape: as `forward`.
        """
        start = coded[self.start] * self.anchor.scale
        differences = []
        for i, member in enumerate(self.members):
            own = np.zeros(len(start)) if not i and self.start == member.name else coded[member.name] * member.scale
            if member.name in held:
                fixed = held[member.name]
                own = np.where(fixed.present & np.isnan(own), member.distance, own)
                own = np.where(fixed.rows & ~fixed.present, np.nan, own)
                start = np.where(np.isnan(start) & fixed.present, fixed.values - member.offset, start)
            differences.append(own)
        differences = [np.where(np.isnan(start), np.nan, own) for own in differences]
        if held:
            start = start + self._shift(self._placed(start, differences, {}), held)
        placed = self._placed(start, differences, held)
        return {member.name: values for member, values in zip(self.members, placed, strict=True)}

    def known(self, held: Mapping[str, Held], rows: int) -> dict[str, Held]:
        """What held values say of the coded columns; a start that they do not fix is where it typically would be."""
        nothing = Held(np.zeros(rows, dtype=bool), np.full(rows, np.nan))
        fixed = [held.get(member.name, nothing) for member in self.members]
        x = [np.where(one.rows, one.values, np.nan) for one in fixed]
        open_, exact, start = np.ones(rows, dtype=bool), np.zeros(rows, dtype=bool), np.full(rows, np.nan)
        for member, one, values in zip(self.members, fixed, x, strict=True):
            exact |= open_ & one.present
            typical = values - np.where(open_, 0.0, member.offset)
            start = np.where(np.isnan(start), self.anchor.grid.down(typical), start)
            open_ &= one.rows & ~one.present
        found = {self.start: Held(~np.isnan(start), self.anchor.coded(start))}
        for i, member in enumerate(self.members[self.start == self.anchor.name :], self.start == self.anchor.name):
            tied = [fixed[j].rows for j in self._tied(i)]
            near = self._nearest(i, x)
            sure = fixed[i].rows & np.all([np.ones(rows, dtype=bool), *tied], axis=0) & (exact | ~np.isnan(near))
            difference = np.where(
                np.isnan(near), x[i] - member.grid.down(start), np.maximum(self._sign(i) * (x[i] - near), 0.0)
            )
            gone = fixed[i].rows & ~fixed[i].present
            found[member.name] = Held(sure | gone, member.coded(difference))
        return found

    def contradictions(self, held: Mapping[str, Held], rows: int) -> np.ndarray:
        """Rows in which no values of the others fit between those that are held. Shape: -> (rows,) boolean."""
        present, broken = [], np.zeros(rows, dtype=bool)
        for member in self.members:
            free = np.full(rows, not member.has_missing)
            one = held.get(member.name)
            present.append(free if one is None else np.where(one.rows, one.present, free))
        for low, high, here in zip(*self._limits(present, held), present, strict=True):
            broken |= here & (low > high)
        return broken

    def _tied(self, i: int) -> list[int]:
        """The members placed before member i that an order ties it to."""
        if i < self.below:
            return [j for j in range(i) if i in self.before[j]]
        return list(self.before[i])

    def _sign(self, i: int) -> int:
        return -1 if i < self.below else 1

    def _nearest(self, i: int, x: list[np.ndarray]) -> np.ndarray:
        """The bound that the placed members set for member i, on its grid; NaN where they set none."""
        tied = [x[j] for j in self._tied(i)]
        if not tied:
            return np.full(len(x[0]), np.nan)
        grid = self.members[i].grid
        return grid.down(np.fmin.reduce(tied)) if i < self.below else grid.up(np.fmax.reduce(tied))

    def _placed(self, start: np.ndarray, differences: list[np.ndarray], held: Mapping[str, Held]) -> list[np.ndarray]:
        present = [~np.isnan(own) for own in differences]
        lows, highs = self._limits(present if held else [np.True_] * len(present), held)
        x: list[np.ndarray] = []
        first = np.ones(len(start), dtype=bool)  # rows in which nothing is placed yet
        for i, member in enumerate(self.members):
            near, grid = self._nearest(i, x) if x else np.full(len(start), np.nan), member.grid
            step = (self.anchor.grid.step / self.anchor.grid.parts) if i and self.anchor.grid.parts else 0.0
            own = np.where(first, np.clip(differences[i], 0.0, step), differences[i])
            free = np.isnan(near)
            values = np.where(free, grid.down(start) + own, near + self._sign(i) * np.maximum(own, 0.0))
            values = np.clip(grid.near(values), member.least, member.greatest)
            if i < self.below:
                values = np.maximum(np.minimum(np.fmin(values, near), highs[i]), lows[i])
                impossible = (values > near) | (lows[i] > highs[i])
            else:
                values = np.minimum(np.maximum(np.fmax(values, near), lows[i]), highs[i])
                impossible = (values < near) | (lows[i] > highs[i])
            values = np.where(impossible | ~present[i], np.nan, values)
            if member.name in held:
                values = np.where(held[member.name].rows, held[member.name].values, values)
            first = first & np.isnan(values)
            x.append(values)
        return x

    def _limits(self, present: list[Any], held: Mapping[str, Held]) -> tuple[list[Any], list[Any]]:
        """The least and greatest value that leaves room for all others. Shape: (rows,) or () for each member."""
        lows: list[Any] = [np.float64(member.low) for member in self.members]
        highs: list[Any] = [np.float64(member.high) for member in self.members]
        fixed: list[Any] = [np.False_] * len(self.members)
        for i, member in enumerate(self.members):
            if member.name in held:
                fixed[i], values = held[member.name].present, held[member.name].values
                lows[i], highs[i] = np.where(fixed[i], values, lows[i]), np.where(fixed[i], values, highs[i])
        upwards = [*reversed(range(self.below)), *range(self.below, len(self.members))]
        for i in upwards:
            for j in self.before[i]:
                bound = np.where(present[j], lows[j], -math.inf)
                lows[i] = np.maximum(lows[i], np.where(fixed[i], bound, self.members[i].grid.up(bound)))
        for i in reversed(upwards):
            for j in self.before[i]:
                bound = np.where(present[i], highs[i], math.inf)
                highs[j] = np.minimum(highs[j], np.where(fixed[j], bound, self.members[j].grid.down(bound)))
        return lows, highs

    def _shift(self, placed: list[np.ndarray], held: Mapping[str, Held]) -> np.ndarray:
        """How far each row is from the first value that is held in it; 0 where none is."""
        shift = np.full(len(placed[0]), np.nan)
        for member, values in zip(self.members, placed, strict=True):
            if member.name in held:
                gap = np.where(held[member.name].present, held[member.name].values - values, np.nan)
                shift = np.where(np.isnan(shift), gap, shift)
        return np.where(np.isnan(shift), 0.0, shift)

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; infinite bounds are null."""
        members = [
            {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(member).items()}
            for member in self.members
        ]
        return {"start": self.start, "below": self.below, "before": self.before, "members": members}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        absent = {"low": -math.inf, "high": math.inf, "least": math.nan, "greatest": math.nan}
        members = []
        for member in data["members"]:
            infinite = {key: value for key, value in absent.items() if member[key] is None}
            members.append(Member(**{**member, **infinite}))
        return cls(data["start"], tuple(members), data["below"], tuple(tuple(earlier) for earlier in data["before"]))

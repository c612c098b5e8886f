"""How is a table written down for learning, so that rules between its columns hold in whatever is sampled?

Dates, and numbers under rules of 'order', become chains (see `chains`). Declared bounds clip. Columns that a rule
computes are left out. Every other column stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from synthgen.consistency import bounds_of, orders
from synthgen.generators.chains import UNIT_SECONDS, Chain, Held, Member
from synthgen.generators.tokens import outermost, threshold
from synthgen.grids import Grid
from synthgen.rng import Seed

if TYPE_CHECKING:
    from synthgen.data import TableData
    from synthgen.schema import TableSchema

_ROWS = 50_000  # that say which date is the anchor


@dataclass(frozen=True)
class Bounds:
    """The least and greatest declared value of a column, on its grid."""

    low: float
    high: float
    decimals: int | None

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Values rounded as the column's are, and within the bounds."""
        return np.clip(Grid.of_decimals(self.decimals).near(values), self.low, self.high)


@dataclass(frozen=True)
class Rewriting:
    """The chains of a table, and the bounds of its other columns.

    >>> from synthgen.testing import invented_cohort
    >>> Rewriting.fit(invented_cohort(100), seed=Seed(1)).bounds["age"]
    Bounds(low=18.0, high=95.0, decimals=0)
    """

    chains: tuple[Chain, ...] = ()
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    @classmethod
    def fit(cls, train: TableData, *, seed: Seed) -> Self:
        """Find the chains of the learned columns, their anchors and their protected ranges."""
        schema = train.schema.synthetic()
        before = orders(schema.rules)
        declared = bounds_of({column.name: column for column in schema.columns}, schema.rules)
        chains = [_fitted(names, train, before, declared, seed) for names in _groups(schema, before)]
        chained = {member.name for chain in chains for member in chain.members}
        derived = {rule.derives for rule in schema.derivations}
        bounds = {
            name: Bounds(low, high, schema[name].decimals if schema[name].kind == "real" else 0)
            for name, (low, high) in declared.items()
            if schema[name].kind != "boolean" and (math.isfinite(low) or math.isfinite(high))
            if name not in chained | derived and schema[name].learned
        }
        return cls(tuple(chains), bounds)

    def chain_of(self, name: str) -> Chain | None:
        """The chain that a column of the table belongs to."""
        return next((chain for chain in self.chains if name in {member.name for member in chain.members}), None)

    def names(self, originals: tuple[str, ...]) -> tuple[str, ...]:
        """The coded columns, where the table's are `originals`: a chain's start stands before its first column."""
        found: list[str] = []
        for name in originals:
            chain = self.chain_of(name)
            if chain is None:
                found.append(name)
            else:
                coded = dict(chain.coded)
                first = chain.start not in found
                found += [chain.start] * first + [name] * (name in coded and name != chain.start)
        return tuple(found)

    @property
    def coded(self) -> dict[str, int | None]:
        """Names and decimals of the numbers that stand for chains."""
        return {name: decimals for chain in self.chains for name, decimals in chain.coded}

    @property
    def starts(self) -> frozenset[str]:
        """The coded columns that say where the rows of a chain begin: known to each row that has any of its columns."""
        return frozenset(chain.start for chain in self.chains)

    def forward(self, table: pd.DataFrame) -> dict[str, np.ndarray]:
        """Columns of a canonical table as coded columns, for those that are not coded as they are."""
        found: dict[str, np.ndarray] = {}
        for chain in self.chains:
            found |= chain.forward({member.name: member.values(table[member.name]) for member in chain.members})
        for name, bounds in self.bounds.items():
            found[name] = bounds.clip(table[name].to_numpy(dtype=float))
        return found

    def inverse(
        self, coded: Mapping[str, np.ndarray], fixed: pd.DataFrame, free: pd.DataFrame | None = None
    ) -> dict[str, np.ndarray]:
        """Coded columns as columns of the table that keep all orders and bounds; fixed cells come back exactly."""
        found = dict(coded)
        for chain in self.chains:
            placed = chain.inverse(coded, held_by(chain, fixed, free))
            found |= {member.name: member.series(placed[member.name]) for member in chain.members}
        for name, bounds in self.bounds.items():
            found[name] = bounds.clip(coded[name])
        for name in map(str, fixed):
            found[name] = exactly(found[name], fixed, free, name)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON; infinite bounds are null."""
        bounds = {
            name: [_finite(bound.low), _finite(bound.high), bound.decimals] for name, bound in self.bounds.items()
        }
        return {"chains": [chain.to_json() for chain in self.chains], "bounds": bounds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        bounds = {
            name: Bounds(-math.inf if low is None else low, math.inf if high is None else high, decimals)
            for name, (low, high, decimals) in data["bounds"].items()
        }
        return cls(tuple(Chain.from_json(chain) for chain in data["chains"]), bounds)


def exactly(drawn: np.ndarray, fixed: pd.DataFrame, free: pd.DataFrame | None, name: str) -> np.ndarray:
    """The values of a column, with those that are fixed in the place of those that were drawn.

    >>> fixed = pd.DataFrame({"a": [1.0, 2.0]})
    >>> exactly(np.array([8.0, 9.0]), fixed, pd.DataFrame({"a": [False, True]}), "a").tolist()
    [1.0, 9.0]
    """
    values = fixed[name].to_numpy()
    return values if free is None else np.where(free[name].to_numpy(), drawn, values)


def held_by(chain: Chain, fixed: pd.DataFrame, free: pd.DataFrame | None = None) -> dict[str, Held]:
    """What fixed columns hold of a chain; `free` says of their cells which are not fixed after all."""
    held = {}
    for member in chain.members:
        if member.name in fixed:
            rows = np.ones(len(fixed), dtype=bool) if free is None else ~free[member.name].to_numpy()
            held[member.name] = Held(rows, member.values(fixed[member.name]))
    return held


def date_unit(values: pd.Series) -> tuple[str, int | None]:
    """The largest unit that all dates are whole in, and the digits after its point that they have.

    >>> date_unit(pd.Series(pd.to_datetime(["2020-01-01 10:00", None])))
    ('hours', 0)
    """
    whole = values.dropna().to_numpy().astype("datetime64[us]").astype(np.int64)
    for name, seconds in UNIT_SECONDS.items():
        if not np.any(whole % (seconds * 1_000_000)):
            return name, 0
    return "seconds", None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _groups(schema: TableSchema, before: Mapping[str, frozenset[str]]) -> list[tuple[str, ...]]:
    """Columns that are written as one chain: all dates, and numbers tied by orders, in the schema's order."""
    learned = [column.name for column in schema.learned]
    dates = [name for name in learned if schema[name].kind == "datetime"]
    groups = [set(dates)] if len(dates) > 1 else []
    for later, earlier in before.items():
        if schema[later].kind != "datetime":
            tied = {later, *earlier}
            groups = [group for group in groups if not group & tied] + [
                tied.union(*(group for group in groups if group & tied))
            ]
    return [tuple(name for name in learned if name in group) for group in groups]


def _fitted(
    names: tuple[str, ...],
    train: TableData,
    before: Mapping[str, frozenset[str]],
    declared: Mapping[str, tuple[float, float]],
    seed: Seed,
) -> Chain:
    members = {name: _member(name, train, declared.get(name, (-math.inf, math.inf)), seed) for name in names}
    values = {name: member.values(train.table[name]) for name, member in members.items()}
    anchor = _anchor(values)
    depth = {name: len(before.get(name, ())) for name in names}  # those before it come before it here too
    below = [anchor, *sorted(before.get(anchor, ()), key=lambda name: (-depth[name], names.index(name)))]
    above = sorted((name for name in names if name not in below), key=lambda name: (depth[name], names.index(name)))
    placed = [*below, *above]
    earlier = tuple(tuple(placed.index(name) for name in sorted(before.get(later, ()))) for later in placed)
    start = anchor
    if members[anchor].has_missing:
        start = f"start of {', '.join(names)}"
        while start in train.schema:
            start += "'"
    chain = Chain(start, tuple(members[name] for name in placed), len(below), earlier)
    return replace(chain, members=_typical(chain, values, train.patients, seed))


def _member(name: str, train: TableData, declared: tuple[float, float], seed: Seed) -> Member:
    column, series = train.schema[name], train.table[name]
    unit, decimals = date_unit(series) if column.kind == "datetime" else (None, None)
    if unit is None:
        decimals = column.decimals if column.kind == "real" else 0
    member = Member(name, unit, decimals, *declared, math.nan, math.nan, has_missing=bool(series.isna().any()))
    values = np.clip(member.grid.near(member.values(series)), *declared)
    known, k = ~np.isnan(values), threshold(seed, name)
    if len(np.unique(train.patients[known])) < k:
        return replace(member, has_missing=True)
    least, greatest = outermost(values[known], train.patients[known], k)
    return replace(member, least=float(member.grid.near(least)), greatest=float(member.grid.near(greatest)))


def _anchor(values: Mapping[str, np.ndarray]) -> str:
    """The column with the fewest missing values; of several, the one nearest to all others."""
    missing = {name: int(np.isnan(x).sum()) for name, x in values.items()}
    best = [name for name in values if missing[name] == min(missing.values())]
    return min(best, key=lambda name: sum(_typical_distance(values[name], x) for x in values.values()))


def _typical_distance(one: np.ndarray, other: np.ndarray) -> float:
    gaps = np.abs(one[:_ROWS] - other[:_ROWS])
    return float(np.median(gaps[~np.isnan(gaps)])) if (~np.isnan(gaps)).any() else math.inf


def _typical(chain: Chain, values: Mapping[str, np.ndarray], patients: np.ndarray, seed: Seed) -> tuple[Member, ...]:
    """The members with their median differences, where enough patients have one."""
    coded = chain.forward(values)
    start, members = coded[chain.start] * chain.anchor.scale, []
    for member in chain.members:
        known, k = ~np.isnan(values[member.name]), threshold(seed, member.name)
        if len(np.unique(patients[known])) < 2 * k:
            members.append(member)
            continue
        offset = float(member.grid.near(np.median((values[member.name] - start)[known])))
        distance = float(np.median(coded[member.name][known])) * member.scale
        members.append(replace(member, offset=offset, distance=float(member.grid.near(distance))))
    return tuple(members)

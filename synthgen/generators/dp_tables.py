"""From what may a codec learn when the records are not free to look at? From a stand-in that costs a known budget.

A stand-in is a table with the columns of train, each drawn on its own: from noisy counts of declared levels and of
cells between declared bounds, or evenly from the schema alone. Codec, starting weights and network size come from it.

Numbers are counted in cells at several depths, and a cell is looked into only where it clearly holds something. So a
heap at zero keeps its place in a column that reaches far.

Source: Dwork and Roth 2014 (doi:10.1561/0400000042) for the Gaussian mechanism; Hay et al. 2010 (arXiv:0904.0942) for
counts at several depths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import ConfigError, UsageError
from synthgen.generators.codec import TableCodec
from synthgen.generators.dp import Privacy, noise_of_counts, require_opacus
from synthgen.generators.team import team
from synthgen.rng import Seed
from synthgen.rules import Combination, Order
from synthgen.schema import Column, TableSchema

ROWS = 20_000  # of a stand-in: enough for every level that noise leaves to be learned
_FANOUT = 16  # cells that a cell is divided into, at most
_DEPTH = 5  # how often, at most
_STEPS = _FANOUT**4  # between the bounds of a number without declared decimals
_CLEARLY = 2.0  # standard deviations of the noise that a count must exceed
_MISSING_SHARE = 0.05  # where nothing was counted: every column may have missing values


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a training with differential privacy begins from."""

    rows: TableData  # one of each patient: for the gradients alone
    made: TableData  # a stand-in that nobody need protect
    codec: TableCodec  # learned from it
    counts_noise: float | None  # its noise multiplier; None: nothing was counted
    secret: Seed  # of all noise

    @staticmethod
    def of(train: TableData, privacy: Privacy, *, seed: Seed) -> Prepared:
        """Choose a row of each patient, count them with noise, and learn a codec from what comes out.

        Raises:
            EnvironmentProblem: Opacus is not installed.
            ConfigError: the schema does not declare what would have to be looked up.
            UsageError: several processes train.
        """
        require_opacus()
        if team().size > 1:
            raise UsageError("differential privacy is trained in one process: start it without accelerate")
        require_declared(train.schema)
        noise, secret = noise_of_counts(privacy), privacy.secret(seed)
        rows = one_row_each(train, secret.child("rows"))
        made = stand_in(rows, noise=noise, seed=secret)
        return Prepared(rows, made, TableCodec.fit(made, seed=seed.child("codec")), noise, secret)


def one_row_each(train: TableData, seed: Seed) -> TableData:
    """One row of each patient, chosen at random: so much of a patient takes part, and no more.

    >>> from synthgen.schema import TableSchema
    >>> schema = TableSchema((Column("id", "identifier", roles=("patient",)), Column("x", "integer")))
    >>> data = TableData(pd.DataFrame({"id": ["a", "a", "b"], "x": [1.0, 2.0, 3.0]}), schema)
    >>> one_row_each(data, Seed(1)).table["id"].tolist()
    ['a', 'b']
    """
    if train.patient_count == len(train):
        return train
    order = seed.numpy().permutation(len(train))
    _, first = np.unique(train.patients[order], return_index=True)
    return train.take(np.sort(order[first]))


def require_declared(schema: TableSchema) -> None:
    """A codec that may not look at the records must be told what is in them.

    Raises:
        ConfigError: bounds or levels are not declared, or a column or rule that would need the data.
    """
    derived = {rule.derives for rule in schema.derivations}
    told = [column for column in schema.learned if column.name not in derived]
    dates = [column.name for column in told if column.kind == "datetime"]
    if dates:
        raise ConfigError(
            f"differential privacy cannot learn dates yet: {_listed(dates)}; give the days since a fixed date instead"
        )
    if any(isinstance(rule, Order | Combination) for rule in schema.rules):
        raise ConfigError(
            "differential privacy cannot keep the rules 'order' and 'combination', which are learned from the records; "
            "remove them from the schema"
        )
    bare = [c.name for c in told if c.kind in ("integer", "real") and None in (c.minimum, c.maximum)]
    unlisted = [c.name for c in told if c.kind in ("categorical", "code") and not c.levels]
    if bare or unlisted:
        wanted = [f"minimum and maximum of {_listed(bare)}"] * bool(bare)
        wanted += [f"levels of {_listed(unlisted)}"] * bool(unlisted)
        raise ConfigError(
            f"differential privacy may not look them up in the records: declare in the schema {'; '.join(wanted)}. "
            "They must be known without these data"
        )


def stand_in(train: TableData, *, noise: float | None, seed: Seed) -> TableData:
    """A table of independent columns, drawn from noisy counts, or evenly from the schema.

    Args:
        train: one row of each patient; not looked at without noise.
        noise: noise multiplier of all counts together, as one Gaussian mechanism; None: nothing is counted.
        seed: of the noise, which must stay a secret, and of the draws.

    Raises:
        ConfigError: the schema does not declare what would have to be looked up.
    """
    schema = train.schema
    require_declared(schema)
    derived = {rule.derives for rule in schema.derivations}
    columns = {c.name: _Scale.of(c) for c in schema.learned if c.name not in derived}
    deviation = None if noise is None else noise * sensitivity(schema)
    table: dict[str, pd.Series] = {}
    for column in schema.columns:
        if column.name not in columns:
            table[column.name] = _untold(column)
            continue
        scale, rng = columns[column.name], seed.child("counts", column.name).numpy()
        places = None if deviation is None else scale.places(train.table[column.name])
        cells, known = _counted(places, scale, deviation, rng)
        table[column.name] = scale.values(_drawn(cells, rng), rng.random(ROWS) < known, rng)
    return TableData(pd.DataFrame(table, columns=list(schema.names), index=range(ROWS)), schema, train.backend)


def sensitivity(schema: TableSchema) -> float:
    """By how much one patient with one row can move all counts together, as a Euclidean distance.

    A row adds one to a count at every depth of every column, and one to its known or missing values.
    """
    derived = {rule.derives for rule in schema.derivations}
    return math.sqrt(sum(1 + _Scale.of(column).depth for column in schema.learned if column.name not in derived))


@dataclass(frozen=True)
class _Scale:
    """The places that a column's values can take: its levels, or equal steps between its bounds."""

    column: Column
    levels: tuple[str | float, ...]  # empty for numbers
    step: float
    count: int  # of places
    fanout: int  # cells in a cell
    depth: int
    leaf: int  # places in a cell of the last depth

    @staticmethod
    def of(column: Column) -> _Scale:
        """From what the schema declares."""
        if column.kind not in ("integer", "real"):
            levels = (0.0, 1.0) if column.kind == "boolean" else tuple(column.levels or ())
            return _Scale(column, levels, 1.0, len(levels), len(levels), 1, 1)
        low, high = float(column.minimum or 0.0), float(column.maximum or 0.0)
        decimals = 0 if column.kind == "integer" else column.decimals
        step = (high - low) / _STEPS or 1.0 if decimals is None else 10.0**-decimals
        count = round((high - low) / step) + 1
        depth = min(_DEPTH, max(1, math.ceil(math.log(count, _FANOUT) - 1e-9)))
        leaf = math.ceil(count / _FANOUT**depth)
        return _Scale(column, (), step, count, math.ceil((count / leaf) ** (1 / depth) - 1e-9), depth, leaf)

    def places(self, values: pd.Series) -> np.ndarray:
        """Shape: (rows,) -> (rows,) int64; -1 for missing, -2 for levels that are not declared."""
        if self.levels:
            places = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(values, dtype=object))
            return np.where(values.isna(), -1, np.where(places < 0, -2, places))
        numbers = values.to_numpy(dtype=float)
        places = np.round((numbers - float(self.column.minimum or 0.0)) / self.step)
        return np.where(np.isnan(numbers), -1, np.clip(np.nan_to_num(places), 0, self.count - 1)).astype(np.int64)

    def values(self, places: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> pd.Series:
        """Shape: places (rows,) int64, known (rows,) boolean -> (rows,) of the canonical table."""
        if self.levels:
            values = np.array(self.levels, dtype=object)[places]
            values[~known] = np.nan if self.column.kind == "boolean" else None
            return pd.Series(values, dtype=float if self.column.kind == "boolean" else object)
        low, decimals = float(self.column.minimum or 0.0), self.column.decimals
        if self.column.kind == "real" and decimals is None:
            numbers = low + (places + rng.random(len(places)) - 0.5) * self.step
        else:
            numbers = np.round(low + places * self.step, 0 if self.column.kind == "integer" else decimals or 0)
        clipped = np.clip(numbers, low, self.column.maximum)
        return pd.Series(np.where(known, clipped, np.nan))


@dataclass(frozen=True)
class _Cells:
    """Runs of places with their mass. Shape: (cells,) each."""

    first: np.ndarray
    size: np.ndarray
    mass: np.ndarray


def _counted(
    places: np.ndarray | None, scale: _Scale, deviation: float | None, rng: np.random.Generator
) -> tuple[_Cells, float]:
    """Cells with their noisy mass, and the noisy share of known values."""
    if places is None or deviation is None:
        everything = _Cells(np.zeros(1, dtype=np.int64), np.array([scale.count]), np.ones(1))
        return everything, 1 - _MISSING_SHARE
    whole = np.maximum(np.array([(places != -1).sum(), (places == -1).sum()]) + rng.normal(0, deviation, 2), 0.0)
    whole[whole < _CLEARLY * deviation] = 0.0
    known = whole[0] / whole.sum() if whole.sum() else 1.0
    counted = places[places >= 0]
    open_, done = _Cells(np.zeros(1, dtype=np.int64), np.array([scale.count]), np.ones(1)), list[_Cells]()
    rows = max(whole[0], deviation)  # what a mass of one stands for
    for depth in range(scale.depth):
        width = scale.leaf * scale.fanout ** (scale.depth - 1 - depth)
        open_, closed = _opened(open_, counted, width, deviation / rows, rows, rng)
        done.append(closed)
    cells = [*done, open_]
    return _Cells(*(np.concatenate([getattr(c, name) for c in cells]) for name in ("first", "size", "mass"))), known


def _opened(
    cells: _Cells,
    counted: np.ndarray,
    width: int,
    deviation: float,
    rows: float,
    rng: np.random.Generator,
) -> tuple[_Cells, _Cells]:
    """The cells within each cell that holds clearly something, and the cells that stay whole."""
    worth = cells.mass > _CLEARLY * deviation
    closed = _Cells(cells.first[~worth], cells.size[~worth], cells.mass[~worth])
    firsts, sizes, masses = [], [], []
    for first, size, mass in zip(cells.first[worth], cells.size[worth], cells.mass[worth], strict=True):
        starts = np.arange(first, first + size, width)
        lengths = np.minimum(width, first + size - starts)
        inside = counted[(counted >= first) & (counted < first + size)]
        counts = np.bincount((inside - first) // width, minlength=len(starts)) / rows
        noisy = counts + rng.normal(0, deviation, len(starts))
        noisy[noisy < _CLEARLY * deviation] = 0.0
        shares = noisy / noisy.sum() if noisy.sum() else lengths / size
        kept = shares > 0
        firsts.append(starts[kept])
        sizes.append(lengths[kept])
        masses.append(shares[kept] * mass)
    empty = np.zeros(0, dtype=np.int64)
    return _Cells(*(np.concatenate([empty, *parts]) for parts in (firsts, sizes, masses))), closed


def _drawn(cells: _Cells, rng: np.random.Generator) -> np.ndarray:
    """Places, even within each cell. Shape: -> (ROWS,) int64."""
    chosen = rng.choice(len(cells.mass), size=ROWS, p=cells.mass / cells.mass.sum())
    return (cells.first[chosen] + np.floor(rng.random(ROWS) * cells.size[chosen])).astype(np.int64)


def _untold(column: Column) -> pd.Series:
    """What is not learned: each row of a stand-in is a patient of its own, and has nothing else."""
    if "patient" in column.roles:
        numbers = pd.Series(np.arange(ROWS))
        return numbers.astype(float) if column.kind in ("integer", "real") else numbers.astype(str).astype(object)
    if column.kind == "datetime":
        return pd.Series(pd.NaT, index=range(ROWS), dtype="datetime64[ns]")
    if column.kind in ("integer", "real", "boolean"):
        return pd.Series(np.nan, index=range(ROWS), dtype=float)
    return pd.Series([None] * ROWS, dtype=object)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))

"""Which leaks must an audit find, and on which clean tables may it raise no alarm? Cases with a name, made by seed.

For authors of audits: a case makes train, holdout and synthetic tables of simulated patients. A leak says which checks
promise to find it and how often they have to; a clean control says neither.

>>> case = find("exact copies of 1 %")
>>> tables = case.tables(seed=1)
>>> len(tables.train), len(tables.holdout), len(tables.synthetic), case.demand
(2000, 1000, 2000, 0.99)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from synthgen.data import TableData
from synthgen.errors import UsageError, suggest
from synthgen.rng import Seed
from synthgen.schema import TableSchema
from synthgen.testing import clean, leaky
from synthgen.testing.simulated import (
    RARE_SHARE,
    RARE_WARD,
    Sizes,
    Tables,
    categories,
    coarse,
    numbers,
    simulated,
    sparse,
    split,
    three,
    visits,
    with_missing,
)

EXACT, NEIGHBOR, BLOCKS, RARE = "copies.exact", "copies.neighbor", "copies.blocks", "disclosure.rare"
MEMBERSHIP, VULNERABLE, CONTRACT = "membership", "membership.vulnerable", "contract"
Make = Callable[[Sizes, Seed], Tables]
USUAL, LARGE, SUBGROUP = Sizes(), Sizes(10_000, 5_000, 10_000), Sizes(20_000, 10_000, 20_000)


@dataclass(frozen=True)
class Case:
    """One way in which a synthetic table came about.

    `shows` says where a leak shows: in the p-value of a check, in its `mirror_p` (train is avoided), or as a count.
    """

    name: str
    make: Make
    sizes: Sizes = USUAL
    found_by: tuple[str, ...] = ()  # checks that promise to find it; of a clean control none
    demand: float | None = None  # share of runs in which it must be found; None: a documented blind spot
    shows: Literal["p", "mirror", "count"] = "p"

    def tables(self, *, seed: int | Seed, sizes: Sizes | None = None) -> Tables:
        """Equal seeds give equal tables. `sizes` are those of the case unless given."""
        return self.make(sizes or self.sizes, Seed.of(seed).child("case", self.name))


def find(name: str) -> Case:
    """A case by name.

    Raises:
        UsageError: no such case; the message suggests the nearest one.
    """
    known = {case.name: case for case in (*NULLS, *FITTED, *LEAKS, *PEERS)}
    if name not in known:
        raise UsageError(f"no case {name!r}: {suggest(name, known)}")
    return known[name]


def _fresh(sizes: Sizes, seed: Seed) -> Tables:
    return three(sizes, seed=seed)


def _clean(change: Callable[[TableData, Seed], TableData]) -> Make:
    """Fresh draws of a changed law."""
    return lambda sizes, seed: split(change(simulated(sum(sizes), seed=seed), seed), sizes)


def _made(generator: Callable[[TableData, int, Seed], TableData]) -> Make:
    """A synthetic table made from train, whole; identifiers are always new ones."""

    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        rows = generator(sets.train, sizes.synthetic, seed)
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, rows, seed=seed))

    return make


def _mixed(share: float, change: Callable[[TableData, TableData, Seed], TableData], *, of: str = "random") -> Make:
    """A fresh draw in which a share of the rows are changed train rows: random ones, or the most isolated ones."""

    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        count = round(share * sizes.synthetic)
        rows = leaky.isolated(sets.train, count) if of == "isolated" else np.arange(count)
        copied = change(sets.train.take(rows), sets.train, seed)
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, copied, seed=seed))

    return make


def _same(rows: TableData, _train: TableData, _seed: Seed) -> TableData:
    return rows


def _noise(rows: TableData, train: TableData, seed: Seed) -> TableData:
    return leaky.noisy(rows, 0.1, seed=seed, scale=train)


def _rounded(rows: TableData, train: TableData, _seed: Seed) -> TableData:
    return leaky.rounded(rows, scale=train)


def _flipped(rows: TableData, train: TableData, seed: Seed) -> TableData:
    return leaky.flipped(rows, 1 / 20, seed=seed, levels=train)


def _thrice(rows: TableData, _train: TableData, _seed: Seed) -> TableData:
    return rows.take(np.repeat(np.arange(len(rows) // 3), 3))


def _kernel(bandwidth: float) -> Make:
    return _made(lambda train, count, seed: leaky.kernel(train, count, bandwidth, seed=seed))


def _filtered(quantile: float) -> Make:
    """A kernel, of which rows are drawn again until they are as far from train as this quantile of the holdout is."""

    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        many = leaky.kernel(sets.train, 4 * sizes.synthetic, 0.5, seed=seed)
        kept = leaky.far_from(sets.train, many, sets.holdout, quantile)[: sizes.synthetic]
        rows = many.take(kept)
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, rows, seed=seed))

    return make


def _halves(sizes: Sizes, seed: Seed) -> Tables:
    sets = three(sizes, seed=seed)
    count = sizes.synthetic // 10
    rows = leaky.half_columns(simulated(count, seed=seed.child("hosts")), sets.train.take(np.arange(count)), seed=seed)
    return replace(sets, synthetic=leaky.with_rows(sets.synthetic, rows, seed=seed))


def _shifted(share: float) -> Make:
    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        rows = leaky.drawn(leaky.shifted(sets.train), round(share * sizes.synthetic), seed=seed, again=share == 1)
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, rows, seed=seed))

    return make


def _subgroup(share: float) -> Make:
    """Copies of as many patients of one small ward as a share of its expected size, which is 2 % of train."""

    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        members = np.flatnonzero(sets.train.table["ward"] == RARE_WARD)
        copied = sets.train.take(members[: round(share * RARE_SHARE * sizes.train)])
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, copied, seed=seed))

    return make


def _cells(*names: str, count: int = 5) -> Make:
    def make(sizes: Sizes, seed: Seed) -> Tables:
        sets = three(sizes, seed=seed)
        return replace(sets, synthetic=leaky.with_cells(sets.synthetic, sets.train, count, list(names), seed=seed))

    return make


def _shared(sizes: Sizes, seed: Seed) -> Tables:
    """A tenth of the holdout's rows belong to patients of train."""
    sets = three(sizes, seed=seed)
    table, count = sets.holdout.table.copy(), sizes.holdout // 10
    table.loc[: count - 1, "patient"] = sets.train.table["patient"].to_numpy()[:count]
    return replace(sets, holdout=TableData(table, sets.holdout.schema))


def _trained_on(which: Literal["holdout", "both"]) -> Make:
    """A kernel around the patients of the holdout, alone or beside those of train."""

    def make(sizes: Sizes, seed: Seed) -> Tables:
        everyone = simulated(sum(sizes), seed=seed)
        sets = split(everyone, sizes)
        seen = sets.holdout if which == "holdout" else everyone.take(np.arange(sizes.train + sizes.holdout))
        rows = leaky.kernel(seen, sizes.synthetic, 0.3, seed=seed)
        return replace(sets, synthetic=leaky.with_rows(sets.synthetic, rows, seed=seed))

    return make


def _outlier(make: Make) -> Make:
    def changed(sizes: Sizes, seed: Seed) -> Tables:
        sets = make(sizes, seed)
        return replace(sets, holdout=clean.with_outlier(sets.holdout))

    return changed


def _missing(data: TableData, seed: Seed) -> TableData:
    return with_missing(data, dict.fromkeys((*numbers(data.schema), *categories(data.schema)), 0.2), seed=seed)


def _visits(sizes: Sizes, seed: Seed) -> Tables:
    people = tuple(max(1, round(rows / 3.5)) for rows in sizes)
    return Tables(*(visits(n, seed=seed.child(name)) for n, name in zip(people, Sizes._fields, strict=True)))


def _levels_alone(make: Make) -> Make:
    """Categories and codes alone, without those that identify."""

    def changed(sizes: Sizes, seed: Seed) -> Tables:
        return Tables(*(_without_numbers(coarse(data)) for data in _each(make(sizes, seed))))

    return changed


def _without_numbers(data: TableData) -> TableData:
    """Classes of numbers become levels."""
    columns = tuple(
        replace(column, kind="categorical", decimals=None, unit=None) if column.name in numbers(data.schema) else column
        for column in data.schema.columns
    )
    table = data.table.copy()
    for name in numbers(data.schema):
        table[name] = [None if np.isnan(value) else f"K{value:.0f}" for value in table[name]]
    return TableData(table, TableSchema(columns))


def _below_zero(data: TableData, _seed: Seed) -> TableData:
    """With a secret whose values are mostly negative."""
    return TableData(data.table.assign(weight=data.table["weight"] - 100), data.schema)


def _each(sets: Tables) -> tuple[TableData, TableData, TableData]:
    return sets.train, sets.holdout, sets.synthetic


_COPIES, _ANY_COPIES = (EXACT, NEIGHBOR), (NEIGHBOR, BLOCKS, MEMBERSHIP)

NULLS: tuple[Case, ...] = (
    Case("fresh real draw", _fresh),
    Case("under-fitted copula", _made(lambda train, count, seed: clean.copula(train, count, seed=seed))),
    Case("heavy ties", _clean(lambda data, _: coarse(data))),
    Case("holdout a quarter of train", _fresh, Sizes(2_000, 500, 2_000)),
    Case("holdout four times train", _fresh, Sizes(1_000, 4_000, 2_000)),
    Case("one gross outlier in the holdout", _outlier(_fresh)),
    Case("20 % missing", _clean(_missing)),
    Case(
        "5 % natural twins",
        lambda sizes, seed: clean.with_twins(simulated(sum(sizes), seed=seed), sizes, 0.05, seed=seed),
    ),
    Case("500 sparse binary columns", lambda sizes, seed: split(sparse(sum(sizes), seed=seed), sizes)),
    Case(
        "private generator of low fidelity",
        _made(lambda train, count, seed: clean.private_histograms(train, count, seed=seed)),
    ),
    Case("correlated visits, split by patient", _visits),
)

FITTED: tuple[Case, ...] = (  # generators in use, whose fit to train tells a little of it: how often is that refused?
    Case("copula of synthgen, ACTG175", lambda s, seed: clean.real_copula(s, seed=seed), Sizes(1_426, 713, 1_426)),
)

LEAKS: tuple[Case, ...] = (
    Case("exact copies of 1 %", _mixed(0.01, _same), found_by=_COPIES, demand=0.99),
    Case("copies of all rows, in train's order", _made(lambda train, *_: train), found_by=_COPIES, demand=1),
    Case(
        "copies of all rows, in any order",
        _made(lambda train, count, seed: leaky.drawn(train, count, seed=seed)),
        found_by=_COPIES,
        demand=1,
    ),
    Case(
        "copies of 1 %, columns in another order",
        lambda sizes, seed: _on_synthetic(_mixed(0.01, _same)(sizes, seed), leaky.reordered),
        found_by=_COPIES,
        demand=1,
    ),
    Case(
        "copies of 1 %, in other storage types",
        lambda sizes, seed: _on_synthetic(_mixed(0.01, _same)(sizes, seed), leaky.retyped),
        found_by=_COPIES,
        demand=1,
    ),
    Case("copies of 1 %, each three times", _mixed(0.03, _thrice), found_by=_COPIES, demand=1),
    Case("noisy copies of 1 % (0.1 sd)", _mixed(0.01, _noise), LARGE, (NEIGHBOR,), 0.95),
    Case("rounded copies of 1 %", _mixed(0.01, _rounded), LARGE, (NEIGHBOR,), 0.95),
    Case("copies of 1 %, one category in 20 flipped", _mixed(0.01, _flipped), LARGE, (NEIGHBOR,), 0.95),
    Case("only the 20 most isolated rows, exact", _mixed(0.01, _same, of="isolated"), found_by=_COPIES, demand=0.99),
    Case(
        "only the 20 most isolated rows, noisy",
        _mixed(0.01, _noise, of="isolated"),
        found_by=(NEIGHBOR, VULNERABLE),
        demand=0.9,
    ),
    Case("over-fitted kernel, bandwidth .1", _kernel(0.1), found_by=_ANY_COPIES, demand=1),
    Case("over-fitted kernel, bandwidth .3", _kernel(0.3), found_by=_ANY_COPIES, demand=1),
    Case("over-fitted kernel, bandwidth .5", _kernel(0.5), found_by=_ANY_COPIES, demand=0.95),
    Case(
        "over-fitted, filtered at the holdout's median",
        _filtered(0.5),
        found_by=_ANY_COPIES,
        demand=0.95,
    ),
    Case("over-fitted, filtered at the holdout's 5 %", _filtered(0.05), found_by=_ANY_COPIES, demand=0.95),
    Case(
        "SMOTE of train rows",
        _made(lambda train, count, seed: leaky.between_neighbours(train, count, seed=seed)),
        found_by=_ANY_COPIES,
        demand=1,
    ),
    Case(
        "mixup of train rows",
        _made(lambda train, count, seed: leaky.mixed(train, count, seed=seed)),
        found_by=_ANY_COPIES,
        demand=1,
    ),
    Case("half of the columns of 10 % of the rows", _halves, found_by=(BLOCKS,), demand=0.95),
    Case("all rows shifted by one sd", _shifted(1), found_by=(BLOCKS,), demand=0.99),
    Case("5 % of the rows shifted by one sd", _shifted(0.05), found_by=(BLOCKS,)),
    Case("one rare subgroup, 5 % of it copied", _subgroup(0.05), SUBGROUP, (*_COPIES, VULNERABLE), 0.9),
    Case("one rare subgroup, half of it copied", _subgroup(0.5), found_by=(*_COPIES, VULNERABLE), demand=0.9),
    Case("five rare codes", _cells("orphan"), found_by=(RARE,), demand=0.95),
    Case("five rare codes, holdout twice train", _cells("orphan"), Sizes(2_000, 4_000, 2_000), (RARE,), 0.95),
    Case("ten rare codes", _cells("orphan", count=10), found_by=(RARE,), demand=0.95),
    Case("five extremes", _cells("creatinine", "crp", "weight"), found_by=(RARE,), demand=0.95),
    Case("ten extremes", _cells("creatinine", "crp", "weight", count=10), found_by=(RARE,), demand=0.95),
    Case("patients shared by train and holdout", _shared, found_by=(CONTRACT,), demand=1, shows="count"),
    Case("trained on the holdout alone", _trained_on("holdout"), found_by=(NEIGHBOR,), demand=0.95, shows="mirror"),
    Case("trained on train and holdout alike", _trained_on("both"), found_by=(NEIGHBOR,), shows="mirror"),
)

PEERS: tuple[Case, ...] = (  # on which other audits went wrong
    Case(
        "noisy copies of all rows, one outlier in the holdout", _outlier(_kernel(0.1)), found_by=_ANY_COPIES, demand=1
    ),
    Case(
        "copies of all rows of categories alone",
        _levels_alone(_made(lambda train, *_: train)),
        found_by=_ANY_COPIES,
        demand=1,
    ),
    Case(
        "30 % copied, holdout four times train",
        _mixed(0.15, _same),
        Sizes(1_000, 4_000, 2_000),
        (*_COPIES, "disclosure.singling_out"),
        1,
    ),
    Case("a secret below zero", _clean(_below_zero)),
)


def _on_synthetic(sets: Tables, change: Callable[[TableData], TableData]) -> Tables:
    return replace(sets, synthetic=change(sets.synthetic))

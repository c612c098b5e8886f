"""Which tokens may a row still take, given those it has, so that the rules on levels hold? Masks without dead ends.

Columns that rules of 'implies' and 'combination' tie together form a component. The tokens of each column fall into
classes that no rule tells apart, and each rule becomes a table of legal classes. Tables are joined until they form a
join tree, on which passing messages finds exactly what some completion of the row allows.

Source: Beeri, Fagin, Maier and Yannakakis, J. ACM 30 (1983) 479, for acyclic schemes and their join trees.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from synthgen.errors import DataError
from synthgen.generators.levels import patients_per
from synthgen.generators.tokens import Column, LevelColumn, threshold
from synthgen.rng import Seed
from synthgen.rules import Combination, Implies, Rule, level_text

if TYPE_CHECKING:
    from synthgen.data import TableData

_LARGEST = 200_000  # rows of a table of legal classes


@dataclass(frozen=True, eq=False)
class Table:
    """Legal classes of some columns, one combination a row."""

    columns: tuple[int, ...]
    rows: np.ndarray  # (combinations, columns) int64

    def join(self, other: Table) -> Table:
        """The combinations that agree with both tables.

        Raises:
            DataError: too many of them.
        """
        shared = [c for c in self.columns if c in other.columns]
        new = [i for i, c in enumerate(other.columns) if c not in shared]
        left, right = _keys(self, other, shared)
        order, ends = np.argsort(right, kind="stable"), np.sort(right)
        low, high = np.searchsorted(ends, left, "left"), np.searchsorted(ends, left, "right")
        if int((high - low).sum()) > _LARGEST:
            raise _too_large()
        here = np.repeat(np.arange(len(left)), high - low)
        there = order[np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)] or [low])]
        rows = np.concatenate([self.rows[here], other.rows[there][:, new]], axis=1)
        return Table((*self.columns, *(other.columns[i] for i in new)), rows)


@dataclass(frozen=True, eq=False)
class Component:
    """Columns that rules tie together, and the join tree of their tables."""

    names: tuple[str, ...]
    classes: tuple[np.ndarray, ...]  # for each column, the class of each token; -1: a sampler never emits it
    tables: tuple[Table, ...]
    edges: tuple[tuple[int, int], ...]  # of the join tree

    def consistent(self, column: int, known: np.ndarray) -> np.ndarray:
        """Which classes of a column some legal completion has.

        Shape: known (patterns, columns) int, -1 where not known -> (patterns, classes of the column) boolean.
        """
        root = next(i for i, table in enumerate(self.tables) if column in table.columns)
        alive = self._alive(root, None, known)
        classes = self.tables[root].rows[:, self.tables[root].columns.index(column)]
        return _any_by(alive, classes, int(self.classes[column].max()) + 1)

    def _alive(self, number: int, towards: int | None, known: np.ndarray) -> np.ndarray:
        """Which rows of a table agree with what is known on its side of the tree. Shape: -> (patterns, rows)."""
        table = self.tables[number]
        alive = np.ones((len(known), len(table.rows)), dtype=bool)
        for place, column in enumerate(table.columns):
            told = known[:, column, None]
            alive &= (told == -1) | (told == table.rows[None, :, place])
        for edge, (one, other) in enumerate(self.edges):
            if number in (one, other) and towards not in (one, other):
                neighbour = other if number == one else one
                theirs = self._alive(neighbour, number, known)
                keys = self._edge_keys[edge] if number == one else self._edge_keys[edge][::-1]
                alive &= _any_by(theirs, keys[1], int(max(k.max(initial=0) for k in keys)) + 1)[:, keys[0]]
        return alive

    @cached_property
    def _edge_keys(self) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for one, other in self.edges:
            left, right = self.tables[one], self.tables[other]
            found.append(_keys(left, right, [c for c in left.columns if c in right.columns]))
        return found


@dataclass(frozen=True, eq=False)
class Legal:
    """The components of a codec's columns; the tokens of a column that rules name are one per value.

    >>> from synthgen.generators.tokens import LevelColumn
    >>> values = [np.array(["f", "m"] * 9, dtype=object), np.array(["yes", "no"] * 9, dtype=object)]
    >>> sex, pregnant = (LevelColumn.fit(n, v, np.arange(18), k=5) for n, v in zip(("s", "p"), values))
    >>> legal = Legal.of([Implies({"s": ("m",)}, {"p": ("no",)})], {"s": sex, "p": pregnant}, {})
    >>> legal.allowed("p", {"s": np.array([2, 3, -1])})[:, 2:].tolist()  # no, yes
    [[True, True], [True, False], [True, True]]
    """

    components: tuple[Component, ...] = ()

    @staticmethod
    def of(
        rules: Sequence[Implies | Combination], columns: Mapping[str, Column], seen: Mapping[Combination, np.ndarray]
    ) -> Legal:
        """Components of the rules.

        Args:
            rules: on levels.
            columns: of the codec, by name.
            seen: for each combination rule, the tokens that enough patients have. Shape: (combinations, columns).

        Raises:
            DataError: nothing that was learned keeps the rules, or they tie too many columns together.
        """
        return Legal(tuple(_component(group, columns, seen) for group in _tied(rules)))

    def component_of(self, name: str) -> Component | None:
        """The component of a column, if rules on levels name it."""
        return next((component for component in self.components if name in component.names), None)

    def allowed(self, name: str, known: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Which tokens of a column each row may take; None where no rule on levels names the column.

        A row whose known tokens break the rules already may take whatever a sampler may emit.

        Args:
            name: the column that is drawn next.
            known: tokens of the other columns of its component, -1 where not known; absent ones are not known.

        Shape: known (rows,) each -> (rows, vocabulary) boolean.
        """
        component = self.component_of(name)
        if component is None:
            return None
        number = component.names.index(name)
        rows = len(next(iter(known.values()), np.zeros(1)))
        patterns, which = _patterns(component, {n: tokens for n, tokens in known.items() if n != name}, rows)
        classes, possible = component.classes[number], component.consistent(number, patterns)
        possible[~possible.any(axis=1)] = True
        found = possible[:, np.maximum(classes, 0)]
        found[:, classes < 0] = False
        return found[which]

    def impossible(self, component: Component, known: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Rows whose known tokens no legal row has. Shape: known (rows,) each -> (rows,) boolean."""
        patterns, which = _patterns(component, known, rows)
        number = component.tables[0].columns[0]
        return ~np.asarray(component.consistent(number, patterns).any(axis=1))[which]


def level_rules(rules: Iterable[Rule]) -> tuple[Implies | Combination, ...]:
    """The rules that speak of levels.

    >>> level_rules([Combination(("ward", "bed"))])[0].columns
    ('ward', 'bed')
    """
    return tuple(rule for rule in rules if isinstance(rule, Implies | Combination))


def told_apart(name: str, rules: Sequence[Implies | Combination]) -> tuple[float, ...]:
    """The values of a column of numbers that rules of 'implies' speak of.

    >>> told_apart("packs", [Implies({"smoker": ("0",)}, {"packs": ("0", None)})])
    (0.0,)
    """
    sides = [side for rule in rules if isinstance(rule, Implies) for side in (rule.when, rule.then)]
    return tuple(sorted({float(level) for side in sides for level in side.get(name, ()) if level is not None}))


def observed(
    rules: Sequence[Implies | Combination], columns: Sequence[Column], train: TableData, *, seed: Seed
) -> tuple[np.ndarray, ...]:
    """For each combination rule, the tokens that enough patients have, of values that were learned as they are.

    Shape: -> (combinations, columns) int64 each.
    """
    named = {column.name: column for column in columns}
    return tuple(_observed(rule, named, train, seed) for rule in rules if isinstance(rule, Combination))


def _observed(rule: Combination, columns: Mapping[str, Column], train: TableData, seed: Seed) -> np.ndarray:
    k, patients = threshold(seed, ", ".join(rule.columns)), train.patients
    tokens, exact = [], np.ones(len(patients), dtype=bool)
    for name in rule.columns:
        column, values = columns[name], train.table[name]
        tokens.append(column.encode(values.to_numpy())[:, 0].astype(np.int64))
        texts = np.array(texts_of(column), dtype=object)[tokens[-1]]
        exact &= column.emittable[tokens[-1]] & (texts == values.map(level_text).to_numpy(dtype=object))
    kinds, group = np.unique(np.stack(tokens, axis=1)[exact], axis=0, return_inverse=True)
    return kinds[patients_per(group.ravel(), patients[exact], len(kinds)) >= k]


def texts_of(column: Column) -> list[str | None]:
    """The level that each token stands for, as a schema file writes it; of bins, a text that no level has."""
    if isinstance(column, LevelColumn):
        return [None, "\x00", *column.levels]
    return [
        None,
        *(level_text(value) for value in column.spikes.tolist()),
        *["\x00"] * (len(column.ties) + column.bins),
    ]


def _tied(rules: Sequence[Implies | Combination]) -> list[list[Implies | Combination]]:
    """Rules in groups that share no column."""
    groups: list[list[Implies | Combination]] = []
    for rule in rules:
        touched = [group for group in groups if any(set(rule.columns) & set(other.columns) for other in group)]
        groups = [group for group in groups if group not in touched] + [[*itertools.chain(*touched), rule]]
    return groups


def _component(
    rules: list[Implies | Combination], columns: Mapping[str, Column], seen: Mapping[Combination, np.ndarray]
) -> Component:
    names = tuple(dict.fromkeys(name for rule in rules for name in rule.columns))
    combined = {name for rule in rules if isinstance(rule, Combination) for name in rule.columns}
    classes = tuple(_classes(columns[name], _sets(name, rules), every=name in combined) for name in names)
    tables = []
    for rule in rules:
        if isinstance(rule, Combination):
            places = tuple(names.index(name) for name in rule.columns)
            rows = np.stack([classes[c][seen[rule][:, i]] for i, c in enumerate(places)], axis=1)
            tables.append(Table(places, rows.reshape(-1, len(places))))
        else:
            tables.append(_implied(rule, names, [columns[name] for name in names], classes))
    tables, edges = _join_tree(tables)
    component = Component(names, classes, tuple(tables), tuple(edges))
    if Legal().impossible(component, {}, 1).any():
        raise DataError(f"no learned levels of {', '.join(names)} keep the rules between these columns")
    return component


def _sets(name: str, rules: list[Implies | Combination]) -> list[frozenset[str | None]]:
    """The sets of levels by which rules tell the levels of a column apart."""
    sides = [side for rule in rules if isinstance(rule, Implies) for side in (rule.when, rule.then)]
    return list(dict.fromkeys(frozenset(side[name]) for side in sides if name in side))


def _classes(column: Column, sets: list[frozenset[str | None]], *, every: bool) -> np.ndarray:
    """The class of each token; tokens that no rule tells apart share one. Shape: -> (vocabulary,) int64."""
    texts, emittable = texts_of(column), column.emittable
    found: dict[tuple[object, ...], int] = {}
    classes = np.full(len(texts), -1, dtype=np.int64)
    for token in np.flatnonzero(emittable):
        kind = (int(token),) if every else tuple(texts[token] in levels for levels in sets)
        classes[token] = found.setdefault(kind, len(found))
    return classes


def _implied(rule: Implies, names: tuple[str, ...], columns: list[Column], classes: tuple[np.ndarray, ...]) -> Table:
    """All combinations of the rule's columns that keep it."""
    places = tuple(dict.fromkeys(names.index(name) for name in rule.columns))
    sizes = [int(classes[c].max()) + 1 for c in places]
    if np.prod(sizes, dtype=float) > _LARGEST:
        raise _too_large()
    rows = np.stack(np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij"), axis=-1).reshape(-1, len(places))
    met = []
    for side in (rule.when, rule.then):
        holds = np.ones(len(rows), dtype=bool)
        for name, levels in side.items():
            c = names.index(name)
            texts = texts_of(columns[c])
            inside = np.zeros(int(classes[c].max()) + 1, dtype=bool)
            for token in np.flatnonzero(classes[c] >= 0):
                inside[classes[c][token]] |= texts[token] in levels
            holds &= inside[rows[:, places.index(c)]]
        met.append(holds)
    return Table(places, rows[~met[0] | met[1]])


def _join_tree(tables: list[Table]) -> tuple[list[Table], list[tuple[int, int]]]:
    """Tables and the edges of a join tree, after joining as many of them as a tree needs."""
    while True:
        pairs = list(itertools.combinations(range(len(tables)), 2))
        shared = {(i, j): len(set(tables[i].columns) & set(tables[j].columns)) for i, j in pairs}
        edges, root = [], list(range(len(tables)))
        for i, j in sorted(pairs, key=lambda pair: -shared[pair]):  # a spanning tree of greatest weight (Kruskal)
            if shared[i, j] and root[i] != root[j]:
                edges.append((i, j))
                root = [root[i] if r == root[j] else r for r in root]
        torn = _torn(tables, edges)
        if not torn:
            return tables, edges
        i, j = max((p for p in pairs if set(p) <= torn and shared[p]), key=lambda pair: shared[pair])
        tables = [table for number, table in enumerate(tables) if number not in (i, j)] + [tables[i].join(tables[j])]


def _torn(tables: list[Table], edges: list[tuple[int, int]]) -> set[int]:
    """The tables of a column that the edges do not connect through that column; none in a join tree."""
    for column in {c for table in tables for c in table.columns}:
        holding = {i for i, table in enumerate(tables) if column in table.columns}
        if sum({i, j} <= holding for i, j in edges) < len(holding) - 1:
            return holding
    return set()


def _keys(left: Table, right: Table, shared: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """For the rows of both tables, a number for what they hold in the shared columns."""
    sides = [table.rows[:, [table.columns.index(c) for c in shared]] for table in (left, right)]
    keys = np.unique(np.concatenate(sides), axis=0, return_inverse=True)[1].ravel()
    return keys[: len(left.rows)], keys[len(left.rows) :]


def _any_by(flags: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Whether any flag of each group is set. Shape: (patterns, flags), (flags,) -> (patterns, groups) boolean."""
    order = np.argsort(group, kind="stable")
    kinds, starts = np.unique(group[order], return_index=True)
    found = np.zeros((len(flags), groups), dtype=bool)
    if len(kinds):
        found[:, kinds] = np.logical_or.reduceat(flags[:, order], starts, axis=1)
    return found


def _patterns(component: Component, known: Mapping[str, np.ndarray], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The different classes that rows have, and which of them each row has; a token of no class agrees with nothing.

    Shape: known (rows,) each -> (patterns, columns) int64, (rows,) int64.
    """
    found = np.full((rows, len(component.names)), -1, dtype=np.int64)
    for number, name in enumerate(component.names):
        if name in known:
            tokens, classes = known[name], component.classes[number]
            told = classes[np.maximum(tokens, 0)]
            found[:, number] = np.where(tokens < 0, -1, np.where(told < 0, len(classes), told))
    sizes = [len(classes) + 2 for classes in component.classes]
    if math.prod(sizes) >= 2**62:
        patterns, which = np.unique(found, axis=0, return_inverse=True)
        return patterns, which.ravel()
    code = np.zeros(rows, dtype=np.int64)  # one number is compared faster than a row
    for number, size in enumerate(sizes):
        code = code * size + found[:, number] + 1
    first, which = np.unique(code, return_index=True, return_inverse=True)[1:]
    return found[first], which


def _too_large() -> DataError:
    return DataError("rules 'implies' and 'combination' tie too many levels together: declare fewer of them")

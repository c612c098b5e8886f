"""Can the rules of a schema all hold at once? Contradictions are named when a schema is made, not in sampling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from synthgen.errors import SchemaError
from synthgen.grids import Grid
from synthgen.rules import NUMERIC, Combination, Derivation, Formula, Implies, Order, Range, Rule, Sum, derivations

if TYPE_CHECKING:
    from synthgen.schema import Column

Domain = frozenset[str | None]
_MOST_CASES = 1_000  # of one rule that are followed through the others


def check_rules(columns: Mapping[str, Column], rules: Iterable[Rule]) -> None:
    """Refuse rules that name what is not there, or that contradict each other where that can be seen without data.

    >>> from synthgen.schema import Column
    >>> check_rules({"a": Column("a", "real"), "b": Column("b", "real")}, [Order(("a", "b"))])

    Raises:
        SchemaError: naming the rule and its columns.
    """
    rules = tuple(rules)
    for rule in rules:
        _check_columns(columns, rule)
    before, bounds = orders(rules), bounds_of(columns, rules)
    for name, (low, high) in bounds.items():
        if low > high:
            raise SchemaError(f"column {name!r}: its declared bounds and rules of 'range' leave no value")
    _check_order_bounds(columns, before, bounds)
    _check_derived(columns, rules)
    _check_implications(columns, [rule for rule in rules if isinstance(rule, Implies)])
    leveled = {name for rule in rules if isinstance(rule, Implies | Combination) for name in rule.columns}
    both = sorted(leveled & (set(before) | set().union(*before.values())))
    if both:
        raise SchemaError(f"columns stand both in 'order' and in 'implies' or 'combination': {', '.join(both)}")


def orders(rules: Iterable[Rule]) -> dict[str, frozenset[str]]:
    """For each column that comes after others: all that must not exceed it, directly or through others.

    >>> sorted(orders([Order(("a", "b")), Order(("b", "c"))])["c"])
    ['a', 'b']

    Raises:
        SchemaError: an order in a circle.
    """
    before: dict[str, frozenset[str]] = {}
    pairs = [pair for rule in rules if isinstance(rule, Order) for pair in itertools.pairwise(rule.columns)]
    for _ in range(len(pairs) + 1):  # each pass follows the pairs one step further
        for earlier, later in pairs:
            before[later] = before.get(later, frozenset()) | {earlier} | before.get(earlier, frozenset())
    circle = sorted(name for name, earlier in before.items() if name in earlier)
    if circle:
        raise SchemaError(f"rules 'order' go in a circle: {', '.join(circle)}")
    return before


def bounds_of(columns: Mapping[str, Column], rules: Iterable[Rule]) -> dict[str, tuple[float, float]]:
    """The declared least and greatest value of each number, on the grid of its decimals; infinite where none is.

    >>> from synthgen.schema import Column
    >>> bounds_of({"n": Column("n", "integer", minimum=0)}, [Range("n", maximum=9.5)])
    {'n': (0.0, 9.0)}
    """
    found = {}
    for name, column in columns.items():
        if column.kind not in NUMERIC:
            continue
        declared = [(column.minimum, column.maximum)] + ([(0.0, 1.0)] if column.kind == "boolean" else [])
        declared += [(rule.minimum, rule.maximum) for rule in rules if isinstance(rule, Range) and rule.column == name]
        low = max([-math.inf, *(low for low, _ in declared if low is not None)])
        high = min([math.inf, *(high for _, high in declared if high is not None)])
        grid = grid_of(column)
        found[name] = float(grid.up(low)), float(grid.down(high))
    return found


def grid_of(column: Column) -> Grid:
    """The values that a column of numbers can have.

    >>> from synthgen.schema import Column
    >>> grid_of(Column("weight", "real", decimals=1)).parts
    10
    """
    return Grid.of_decimals(column.decimals if column.kind == "real" else 0)


def _check_order_bounds(
    columns: Mapping[str, Column], before: Mapping[str, frozenset[str]], bounds: Mapping[str, tuple[float, float]]
) -> None:
    """Each column of an order has a value between the least values of all before it and its own greatest one."""
    least = {name: low for name, (low, _) in bounds.items()}
    for name in sorted((name for name in before if name in bounds), key=lambda name: len(before[name])):
        for earlier in before[name]:
            least[name] = max(least[name], float(grid_of(columns[name]).up(least[earlier])))
        if least[name] > bounds[name][1]:
            others = ", ".join(sorted(before[name]))
            raise SchemaError(f"rule 'order': no value of {name!r} keeps its bounds and those of {others}")


def _check_columns(columns: Mapping[str, Column], rule: Rule) -> None:
    """Every column of a rule is there and of a kind that the rule can speak of."""
    label = f"rule {rule.keyword!r}"
    for name in rule.columns:
        if name not in columns:
            raise SchemaError(f"{label} names a column that the schema lacks: {name!r}")
        if columns[name].kind == "identifier" or "patient" in columns[name].roles:
            raise SchemaError(f"{label}: {name!r} is minted anew for every synthetic table, so that no rule can hold")
    kinds = {name: columns[name].kind for name in rule.columns}
    if isinstance(rule, Range | Sum):
        _all_of(label, kinds, NUMERIC, "not a number")
    if isinstance(rule, Formula):
        _all_of(label, kinds, NUMERIC | {"datetime"}, "neither a number nor a date")
        _all_of(label, {rule.column: kinds[rule.column]}, NUMERIC, "not a number")
    if isinstance(rule, Implies | Combination):
        _all_of(label, kinds, NUMERIC | {"categorical", "code", "text"}, "not made of levels")
    if isinstance(rule, Order):
        sorts = {"date" if kind == "datetime" else "number" for kind in kinds.values()}
        if set(kinds.values()) - NUMERIC - {"datetime"} or len(sorts) > 1:
            raise SchemaError(f"{label} compares numbers with numbers or dates with dates: {', '.join(rule.columns)}")
    if isinstance(rule, Combination) and len(kinds) < len(rule.columns):
        raise SchemaError(f"{label} names a column twice: {', '.join(rule.columns)}")


def _all_of(label: str, kinds: Mapping[str, str], allowed: frozenset[str], otherwise: str) -> None:
    for name, kind in kinds.items():
        if kind not in allowed:
            raise SchemaError(f"{label}: column {name!r} is {kind}, {otherwise}")


def _check_derived(columns: Mapping[str, Column], rules: tuple[Rule, ...]) -> None:
    """A derived column is computed from its terms alone: nothing else can be asked of it."""
    computed = derivations(rules)
    names = [rule.derives for rule in computed]
    for rule in computed:
        name, column = rule.derives, columns[rule.derives]
        terms = ", ".join(rule.terms)
        if names.count(name) > 1:
            raise SchemaError(f"column {name!r} is derived by {names.count(name)} rules; leave one of them")
        if column.kind == "boolean":
            raise SchemaError(f"rule {rule.keyword!r}: the derived column {name!r} is boolean, not a number")
        if (column.minimum, column.maximum) != (None, None):
            raise SchemaError(f"column {name!r} is derived: declare bounds of {terms} instead of its own")
        _check_tolerance(columns, rule)
        for other in rules:
            if not isinstance(other, Derivation) and name in other.columns:
                raise SchemaError(
                    f"column {name!r} is derived by rule {rule.keyword!r}, and rule {other.keyword!r} cannot hold too: "
                    f"let it speak of {terms}"
                )


def _check_tolerance(columns: Mapping[str, Column], rule: Derivation) -> None:
    """Rounding a derived value to the decimals of its column must not break its own rule."""
    decimals = _decimals(columns[rule.derives])
    if decimals is None or rule.tolerance is None or rule.tolerance >= 0.5 * 10.0**-decimals:
        return
    finest = [_decimals(columns[name]) for name in rule.terms]
    if isinstance(rule, Formula) or None in finest or max(finest) > decimals:  # type: ignore[type-var, operator]
        raise SchemaError(
            f"rule {rule.keyword!r}: the tolerance is below half a unit of the last decimal of {rule.derives!r}, so "
            f"that rounding breaks it: raise the tolerance to {0.5 * 10.0**-decimals:g}, or the decimals"
        )


def _decimals(column: Column) -> int | None:
    return column.decimals if column.kind == "real" else 0


def _check_implications(columns: Mapping[str, Column], rules: list[Implies]) -> None:
    """No condition of a rule may lead, through all rules together, to a column that is left no level."""
    declared = {name: _levels(column) for name, column in columns.items()}
    for rule in rules:
        label = f"rule 'implies' on {', '.join(rule.columns)}"
        for side, sets in (("when", rule.when), ("then", rule.then)):
            if not sets or not all(sets.values()):
                raise SchemaError(f"{label}: {side!r} lists no level")
            for name, levels in sets.items():
                _check_literals(columns[name], levels, label)
        cases = itertools.islice(itertools.product(*rule.when.values()), _MOST_CASES)
        for case in cases:
            known: dict[str, Domain] = {name: frozenset({level}) for name, level in zip(rule.when, case, strict=True)}
            empty = _followed(known, declared, rules)
            if empty:
                raise SchemaError(f"{label}: where its 'when' is met, the rules 'implies' leave {empty!r} no level")


def _check_literals(column: Column, levels: Iterable[str | None], label: str) -> None:
    try:
        numbers = {float(level) for level in levels if level is not None} if column.kind in NUMERIC else set()
    except ValueError as error:
        raise SchemaError(f"{label}: a level of the {column.kind} column {column.name!r} is no number") from error
    if column.kind == "boolean" and not numbers <= {0.0, 1.0}:
        raise SchemaError(f"{label}: write 0 and 1 for the levels of the boolean column {column.name!r}")


def _levels(column: Column) -> Domain | None:
    """All levels that a column can have, if they are known."""
    if column.kind == "boolean":
        return frozenset({"0", "1", None})
    return frozenset({*column.levels, None}) if column.levels else None


def _followed(known: dict[str, Domain], declared: Mapping[str, Domain | None], rules: list[Implies]) -> str | None:
    """The first column that the rules leave no level, given what is known of some columns."""
    changed = True
    while changed:
        changed = False
        for rule in rules:
            if not all(name in known and known[name] <= set(levels) for name, levels in rule.when.items()):
                continue
            for name, levels in rule.then.items():
                before = known.get(name, declared[name])
                after = frozenset(levels) if before is None else before & set(levels)
                if not after:
                    return name
                changed |= after != known.get(name)
                known[name] = after
    return None

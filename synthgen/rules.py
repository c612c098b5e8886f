"""Which relations between columns must hold in every row? Declared in the schema, checked on any table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from synthgen.errors import SchemaError, suggest
from synthgen.expressions import evaluate, names_in

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Order:
    """The named columns never decrease from left to right (numbers or dates); missing values obey every order."""

    keyword: ClassVar[str] = "order"
    columns: tuple[str, ...]

    def violations(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) boolean."""
        import numpy as np

        broken, highest = np.zeros(len(table), dtype=bool), table[self.columns[0]]
        for name in self.columns[1:]:
            broken |= (highest > table[name]).to_numpy()
            highest = table[name].where(table[name].notna(), highest)
        return broken


@dataclass(frozen=True)
class Range:
    """A column stays within bounds that somebody declared (never observed ones)."""

    keyword: ClassVar[str] = "range"
    column: str
    minimum: float | None = None
    maximum: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule speaks of."""
        return (self.column,)

    def violations(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) boolean."""
        import numpy as np

        values, broken = table[self.column].to_numpy(dtype=float), np.zeros(len(table), dtype=bool)
        if self.minimum is not None:
            broken |= values < self.minimum
        if self.maximum is not None:
            broken |= values > self.maximum
        return broken


@dataclass(frozen=True)
class Implies:
    """Where a column takes one of some levels, another takes one of some levels: a sex-specific code, say.

    Missing is a level too, written as null: `then` allows a missing value only where it lists null.
    """

    keyword: ClassVar[str] = "implies"
    when: Mapping[str, tuple[str | None, ...]]
    then: Mapping[str, tuple[str | None, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule speaks of."""
        return (*self.when, *self.then)

    def violations(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) boolean."""
        return _all_of(table, self.when) & ~_all_of(table, self.then)


@dataclass(frozen=True)
class Sum:
    """A total equals the sum of its parts, within a tolerance; rows with a missing term obey."""

    keyword: ClassVar[str] = "sum"
    total: str
    parts: tuple[str, ...]
    tolerance: float = 1e-6

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule speaks of."""
        return (self.total, *self.parts)

    def violations(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) boolean."""
        import numpy as np

        expected = self.derived(table)
        slack = self.tolerance + _SLACK * np.abs(expected)
        return np.abs(table[self.total].to_numpy(dtype=float) - expected) > slack

    @property
    def derives(self) -> str:
        """The column that follows from the others."""
        return self.total

    @property
    def terms(self) -> tuple[str, ...]:
        """The columns that it follows from."""
        return self.parts

    def derived(self, table: pd.DataFrame | Mapping[str, pd.Series]) -> np.ndarray:
        """The total, missing where a part is missing. Shape: -> (rows,) float."""
        import numpy as np

        parts = np.stack([table[part].to_numpy(dtype=float) for part in self.parts])
        total: np.ndarray = parts.sum(axis=0)
        return np.where(np.isfinite(total), total, np.nan)


@dataclass(frozen=True)
class Formula:
    """A number follows from others, as the body mass index from weight and height; rows with a missing term obey.

    In the expression dates count days, so that `(admitted - born) / 365.25` is an age. Without a tolerance, half a unit
    of the last decimal that the column has is allowed.

    >>> Formula("bmi", "weight / (height / 100) ** 2").columns
    ('bmi', 'weight', 'height')
    """

    keyword: ClassVar[str] = "formula"
    column: str
    expression: str
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not self.terms:
            raise SchemaError(f"the formula of {self.column!r} names no column")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule speaks of."""
        return (self.column, *self.terms)

    @property
    def derives(self) -> str:
        """The column that follows from the others."""
        return self.column

    @property
    def terms(self) -> tuple[str, ...]:
        """The columns that it follows from."""
        return names_in(self.expression)

    def derived(self, table: pd.DataFrame | Mapping[str, pd.Series]) -> np.ndarray:
        """The value of the expression, missing where a term is missing. Shape: -> (rows,) float."""
        return evaluate(self.expression, table)

    def violations(self, table: pd.DataFrame) -> np.ndarray:
        """Shape: -> (rows,) boolean."""
        import numpy as np

        values, expected = table[self.column].to_numpy(dtype=float), self.derived(table)
        tolerance = _half_a_unit(values) if self.tolerance is None else self.tolerance
        return np.abs(values - expected) > tolerance + _SLACK * np.abs(expected)


@dataclass(frozen=True)
class Combination:
    """The named columns take only combinations that train has: a ward and its hospital, a drug and its dose.

    Generators learn those that enough patients have; missing counts as a level.
    """

    keyword: ClassVar[str] = "combination"
    columns: tuple[str, ...]

    def violations(self, table: pd.DataFrame, *, train: pd.DataFrame) -> np.ndarray:
        """Which rows have a combination that train lacks. Shape: -> (rows,) boolean."""
        seen, found = (_joined([side[name] for name in self.columns]) for side in (train, table))
        return (~found.isin(set(seen))).to_numpy()


Rule = Order | Range | Implies | Sum | Formula | Combination
Derivation = Sum | Formula
NUMERIC: frozenset[str] = frozenset({"boolean", "integer", "real"})
_RULES = {rule.keyword: rule for rule in (Order, Range, Implies, Sum, Formula, Combination)}
_LISTS = {rule.keyword: rule for rule in (Order, Combination)}
_SLACK = 1e-12  # of a value: what floats lose when it is computed in another order
_MOST_DECIMALS = 10


def derivations(rules: Iterable[Rule]) -> tuple[Derivation, ...]:
    """The rules that compute a column, each after those that compute its terms.

    >>> [rule.derives for rule in derivations([Formula("c", "b + 1"), Sum("b", ("a", "a2"))])]
    ['b', 'c']

    Raises:
        SchemaError: they go in a circle.
    """
    waiting, ordered = [rule for rule in rules if isinstance(rule, Derivation)], []
    while waiting:
        open_ = {rule.derives for rule in waiting}
        ready = [rule for rule in waiting if not open_ & set(rule.terms)]
        if not ready:
            raise SchemaError("columns are derived from each other in a circle: " + ", ".join(sorted(open_)))
        ordered += ready
        waiting = [rule for rule in waiting if rule not in ready]
    return tuple(ordered)


def rule_from_mapping(entry: Any) -> Rule:
    """Read one rule of a schema file: a mapping with the rule's keyword and its fields.

    >>> rule_from_mapping({"order": ["birth_date", "admission_date"]})
    Order(columns=('birth_date', 'admission_date'))
    >>> rule_from_mapping({"range": {"column": "age", "minimum": 0, "maximum": 120}}).maximum
    120

    Raises:
        SchemaError: an unknown keyword or field, with the nearest known one.
    """
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise SchemaError("a rule is a mapping with one keyword: " + ", ".join(_RULES))
    keyword, body = next(iter(entry.items()))
    if keyword not in _RULES:
        raise SchemaError(f"unknown rule {keyword!r}: {suggest(str(keyword), _RULES)}")
    if keyword in _LISTS:
        if not isinstance(body, list) or len(body) < 2:
            raise SchemaError(f"rule {keyword!r} takes a list of at least two columns")
        return _LISTS[keyword](tuple(str(name) for name in body))
    kind = _RULES[keyword]
    if not isinstance(body, Mapping):
        raise SchemaError(f"rule {keyword!r} takes a mapping of: " + ", ".join(f.name for f in fields(kind)))
    for key in body:
        if key not in {f.name for f in fields(kind)}:
            raise SchemaError(
                f"rule {keyword!r} has no field {key!r}: {suggest(str(key), [f.name for f in fields(kind)])}"
            )
    try:
        return kind(**{key: _frozen(value) for key, value in body.items()})
    except TypeError as error:
        raise SchemaError(f"rule {keyword!r} lacks a field: " + ", ".join(f.name for f in fields(kind))) from error


def rule_to_mapping(rule: Rule) -> dict[str, Any]:
    """The inverse of `rule_from_mapping`."""
    if isinstance(rule, Order | Combination):
        return {rule.keyword: list(rule.columns)}
    body = {f.name: _thawed(getattr(rule, f.name)) for f in fields(rule) if getattr(rule, f.name) is not None}
    return {rule.keyword: body}


def violations(rules: Iterable[Rule], table: pd.DataFrame, *, train: pd.DataFrame) -> list[np.ndarray]:
    """For each rule, which rows of a canonical table break it. Shape: [(rows,) boolean].

    Args:
        rules: of the schema.
        table: the rows that are judged.
        train: the table whose combinations are allowed.
    """
    return [
        rule.violations(table, train=train) if isinstance(rule, Combination) else rule.violations(table)
        for rule in rules
    ]


def _joined(columns: list[pd.Series]) -> pd.Series:
    """The levels of each row as one text."""
    import pandas as pd

    texts = [column.map(level_text).astype(object) for column in columns]
    joined = pd.Series("", index=texts[0].index, dtype=object)
    for text in texts:
        joined = joined + "\x1f" + text.where(text.notna(), "\x00")
    return joined


def _half_a_unit(values: np.ndarray) -> float:
    """Half a unit of the last decimal that any value has; 0 where they have more than anybody would write."""
    import numpy as np

    known = values[np.isfinite(values)]
    for decimals in range(_MOST_DECIMALS + 1):
        if np.array_equal(np.round(known, decimals), known):
            return 0.5 * 10.0**-decimals * (1 + 1e-9)
    return 0.0


def _all_of(table: pd.DataFrame, levels: Mapping[str, tuple[str | None, ...]]) -> np.ndarray:
    import numpy as np

    met = np.ones(len(table), dtype=bool)
    for column, allowed in levels.items():
        met &= table[column].map(level_text).isin(allowed).to_numpy()
    return met


def level_text(value: Any) -> str | None:
    """A level as a schema file writes it: 1.0 and 1 are the same level, "1"; missing is None."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): tuple(level_text(v) for v in (item if isinstance(item, list) else [item]))
            for key, item in value.items()
        }
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: list(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value

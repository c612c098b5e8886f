"""Which relations between columns must hold in every row? Declared in the schema, checked on any table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from synthgen.errors import SchemaError, suggest

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

        broken = np.zeros(len(table), dtype=bool)
        for left, right in zip(self.columns, self.columns[1:], strict=False):
            broken |= (table[left] > table[right]).to_numpy()
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
    """Where a column takes one of some levels, another takes one of some levels: a sex-specific code, say."""

    keyword: ClassVar[str] = "implies"
    when: Mapping[str, tuple[str, ...]]
    then: Mapping[str, tuple[str, ...]]

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

        gap = table[self.total].to_numpy(dtype=float) - table[list(self.parts)].to_numpy(dtype=float).sum(axis=1)
        return np.abs(gap) > self.tolerance


Rule = Order | Range | Implies | Sum
_RULES = {rule.keyword: rule for rule in (Order, Range, Implies, Sum)}
NUMERIC_RULES = (Range, Sum)


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
    if keyword == "order":
        if not isinstance(body, list) or len(body) < 2:
            raise SchemaError("rule 'order' takes a list of at least two columns")
        return Order(tuple(str(name) for name in body))
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
    if isinstance(rule, Order):
        return {"order": list(rule.columns)}
    body = {f.name: _thawed(getattr(rule, f.name)) for f in fields(rule) if getattr(rule, f.name) is not None}
    return {rule.keyword: body}


def violations(rules: Iterable[Rule], table: pd.DataFrame) -> list[np.ndarray]:
    """For each rule, which rows of a canonical table break it. Shape: [(rows,) boolean]."""
    return [rule.violations(table) for rule in rules]


def _all_of(table: pd.DataFrame, levels: Mapping[str, tuple[str, ...]]) -> np.ndarray:
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

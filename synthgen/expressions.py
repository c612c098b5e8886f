"""What does a formula of a schema say, and what does it give for each row? Arithmetic on columns, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from synthgen.errors import SchemaError, suggest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LONGEST = 1_000  # characters
_DEEPEST = 50  # operations inside operations
_OPERATORS: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}
_SIGNS: dict[type, str] = {ast.USub: "negative", ast.UAdd: "positive"}
_FUNCTIONS = {"min": ("minimum", 2), "max": ("maximum", 2)} | {
    name: (numpy_name, 1)
    for name, numpy_name in (
        ("abs", "absolute"), ("round", "rint"), ("floor", "floor"), ("log", "log"), ("exp", "exp"), ("sqrt", "sqrt"),
    )
}  # fmt: skip


def names_in(expression: str) -> tuple[str, ...]:
    """The columns that an expression speaks of, in order of appearance.

    >>> names_in("weight / (`height (cm)` / 100) ** 2")
    ('weight', 'height (cm)')

    Raises:
        SchemaError: not an expression of + - * / ** ( ), numbers, columns and the known functions.
    """
    tree, quoted = _parsed(expression)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in _FUNCTIONS]
    found.sort(key=lambda node: node.col_offset)
    return tuple(dict.fromkeys(quoted.get(node.id, node.id) for node in found))


def evaluate(expression: str, table: pd.DataFrame | Mapping[str, pd.Series]) -> np.ndarray:
    """The value of an expression in each row; dates count days, and NaN is wherever a term or the result is not finite.

    >>> import pandas as pd
    >>> evaluate("weight / (height / 100) ** 2", pd.DataFrame({"weight": [80.0, 1.0], "height": [200.0, 0.0]}))
    array([20., nan])

    Shape: -> (rows,) float.
    """
    import numpy as np

    tree, quoted = _parsed(expression)
    columns = {name: _numbers(table[name]) for name in names_in(expression)}
    with np.errstate(all="ignore"):
        found = _value(tree.body, lambda name: columns[quoted.get(name, name)])
        known = np.ones(np.shape(found), dtype=bool)
        for values in columns.values():  # a power of zero would make a number of a missing term
            known = known & np.isfinite(values)
        return np.where(known & np.isfinite(found), found, np.nan)


def _numbers(values: pd.Series) -> np.ndarray:
    import numpy as np

    if values.dtype.kind != "M":
        return values.to_numpy(dtype=float)
    stamps = values.to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 86_400e6)


def _value(node: ast.expr, column: Callable[[str], np.ndarray]) -> Any:
    import numpy as np

    if isinstance(node, ast.BinOp):
        operation = getattr(np, _OPERATORS[type(node.op)])
        return operation(_value(node.left, column), _value(node.right, column))
    if isinstance(node, ast.UnaryOp):
        return getattr(np, _SIGNS[type(node.op)])(_value(node.operand, column))
    if isinstance(node, ast.Call):
        name = node.func.id  # type: ignore[attr-defined]
        return getattr(np, _FUNCTIONS[name][0])(*(_value(part, column) for part in node.args))
    if isinstance(node, ast.Name):
        return column(node.id)
    return np.float64(node.value)  # type: ignore[attr-defined]


@lru_cache(maxsize=256)
def _parsed(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """The tree of an expression, and what stands for each name in backquotes."""
    quoted: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        word = f"quoted_{len(quoted)}_"
        while word in expression:
            word += "_"
        quoted[word] = found[1]
        return word

    if not isinstance(expression, str) or len(expression) > LONGEST:
        raise SchemaError(f"a formula is a text of at most {LONGEST} characters")
    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", plain, expression).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SchemaError(f"a formula cannot be read: {_ALLOWED}") from error
    _check(tree.body, 0)
    return tree, quoted


_ALLOWED = "it may hold + - * / ** ( ), numbers, columns (odd names in `backquotes`) and " + ", ".join(
    sorted(_FUNCTIONS)
)


def _check(node: ast.AST, depth: int) -> None:
    """Refuse everything that is not arithmetic."""
    if depth > _DEEPEST:
        raise SchemaError("a formula is nested too deeply")
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise SchemaError(f"a formula has no function {node.func.id!r}: {suggest(node.func.id, _FUNCTIONS)}")
        if len(node.args) != _FUNCTIONS[node.func.id][1]:
            raise SchemaError(f"the function {node.func.id!r} of a formula takes {_FUNCTIONS[node.func.id][1]} values")
        parts = node.args
    elif not (_is_number(node) or (isinstance(node, ast.Name) and node.id not in _FUNCTIONS)):
        raise SchemaError(f"a formula holds something else than arithmetic: {_ALLOWED}")
    for part in parts:
        _check(part, depth + 1)


def _is_number(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300

"""What is each table column, and what may it hold? Written as YAML that a person can correct."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from synthgen.codes import System
from synthgen.consistency import check_rules
from synthgen.errors import SchemaError, suggest
from synthgen.rules import NUMERIC as NUMERIC
from synthgen.rules import Derivation, Rule, derivations, rule_from_mapping, rule_to_mapping

Kind = Literal["categorical", "boolean", "integer", "real", "datetime", "code", "identifier", "text"]
Role = Literal["patient", "target", "time", "event", "quasi_identifier", "sensitive"]

NEVER_LEARNED: frozenset[str] = frozenset({"identifier", "text"})
ORDERED: frozenset[str] = frozenset({"integer", "real", "datetime"})  # kinds whose values lie on a scale
DEFAULT_MISSING = ("", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>")


@dataclass(frozen=True)
class Column:
    """One column of a table. Bounds and levels stand here only if a person declared them or asked for them by name."""

    name: str
    kind: Kind
    roles: tuple[Role, ...] = ()
    unit: str | None = None
    dtype: str | None = None  # storage type that samples come back in: "int64", "category", "string[pyarrow]"
    decimals: int | None = None  # of a real column; None: full precision
    minimum: float | None = None
    maximum: float | None = None
    levels: tuple[str, ...] | None = None
    system: System | None = None  # of a code column; None: unknown, then only codes that stand there back off
    missing: tuple[str, ...] = ()  # further codes of this column that mean "missing"
    description: str | None = None

    @property
    def learned(self) -> bool:
        """Whether generators and fidelity checks look at this column at all."""
        return self.kind not in NEVER_LEARNED and "patient" not in self.roles


@dataclass(frozen=True)
class Regression:
    """A regression that the data are meant for; a check compares its coefficients (`utility.estimates`).

    Logistic where the outcome has two values, else linear; the effects of the predictors add up.

    >>> Regression("died", ("age", "sex")).columns
    ('died', 'age', 'sex')
    """

    outcome: str
    predictors: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it names."""
        return (self.outcome, *self.predictors)


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table in order, the rules between them, and the codes that mean "missing" everywhere.

    >>> schema = TableSchema((Column("age", "integer"), Column("sex", "categorical", roles=("quasi_identifier",))))
    >>> schema["sex"].kind, schema.patient, [column.name for column in schema.learned]
    ('categorical', None, ['age', 'sex'])
    """

    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    missing: tuple[str, ...] = DEFAULT_MISSING
    estimates: tuple[Regression, ...] = ()  # what will be estimated from the data

    def __post_init__(self) -> None:
        _validate(self)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"no column {name!r}: {suggest(name, self.names)}")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def learned(self) -> tuple[Column, ...]:
        """The columns that generators learn: no identifiers, no free text, no patient column."""
        return tuple(column for column in self.columns if column.learned)

    @property
    def ordered(self) -> frozenset[str]:
        """The names of numbers and dates, whose values have an order."""
        return frozenset(column.name for column in self.columns if column.kind in ORDERED)

    @property
    def derivations(self) -> tuple[Derivation, ...]:
        """The rules that compute a column from others, in the order in which they can be applied."""
        return derivations(self.rules)

    @property
    def identifiers(self) -> tuple[Column, ...]:
        """The columns that are minted anew in every synthetic table."""
        return tuple(c for c in self.columns if c.kind == "identifier" or "patient" in c.roles)

    @property
    def patient(self) -> str | None:
        """The column that says which rows belong to one patient; None: each row is a patient."""
        return next(iter(self.with_role("patient")), None)

    @property
    def target(self) -> str | None:
        """The column that a model trained on the data would predict."""
        return next(iter(self.with_role("target")), None)

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Names of the columns that have a role."""
        return tuple(column.name for column in self.columns if role in column.roles)

    def assign(self, role: Role, name: str) -> TableSchema:
        """This schema with a role moved to one column (and taken from any other).

        >>> TableSchema((Column("age", "integer"), Column("died", "boolean"))).assign("target", "died").target
        'died'
        """
        self[name]
        columns = []
        for column in self.columns:
            roles = tuple(r for r in column.roles if r != role) + ((role,) if column.name == name else ())
            columns.append(replace(column, roles=roles))
        return replace(self, columns=tuple(columns))

    def synthetic(self) -> TableSchema:
        """The schema of a synthetic table: the same without free text."""
        return self.keeping([column.name for column in self.columns if column.kind != "text"])

    def keeping(self, names: Collection[str]) -> TableSchema:
        """This schema with some columns only, and the rules and regressions that name no others.

        >>> schema = TableSchema((Column("age", "integer"), Column("died", "boolean")))
        >>> replace(schema, estimates=(Regression("died", ("age",)),)).keeping(["age"]).estimates
        ()
        """
        known = set(names)
        return replace(
            self,
            columns=tuple(column for column in self.columns if column.name in known),
            rules=tuple(rule for rule in self.rules if set(rule.columns) <= known),
            estimates=tuple(one for one in self.estimates if set(one.columns) <= known),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain data for YAML and JSON; defaults are left out."""
        columns = {}
        for column in self.columns:
            body = {f.name: getattr(column, f.name) for f in fields(column) if f.name != "name"}
            kept = {key: list(v) if isinstance(v, tuple) else v for key, v in body.items() if v not in (None, ())}
            columns[column.name] = kept
        rules = [rule_to_mapping(rule) for rule in self.rules]
        declared = [{"outcome": one.outcome, "predictors": list(one.predictors)} for one in self.estimates]
        estimates = {"estimates": declared} if declared else {}
        return {"missing": list(self.missing), "columns": columns, "rules": rules, **estimates}

    @staticmethod
    def from_mapping(data: Any) -> TableSchema:
        """The inverse of `to_mapping`; unknown keys are errors that name the nearest known one.

        Raises:
            SchemaError: anything that is not a schema.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("columns"), Mapping):
            raise SchemaError("a schema is a mapping with 'columns', a mapping of column name to its description")
        _known(data, ("columns", "rules", "missing", "estimates"), "the schema")
        columns = tuple(_column(str(name), body) for name, body in data["columns"].items())
        rules = tuple(rule_from_mapping(entry) for entry in data.get("rules") or ())
        missing = tuple(str(code) for code in data.get("missing", DEFAULT_MISSING))
        estimates = tuple(_regression(entry) for entry in data.get("estimates") or ())
        return TableSchema(columns, rules, missing, estimates)


def read_schema(path: str | Path) -> TableSchema:
    """Read a schema file (YAML).

    Raises:
        SchemaError: no such file, or not a schema.
    """
    import yaml

    try:
        return TableSchema.from_mapping(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"cannot read the schema file {Path(path).name!r}: {type(error).__name__}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise SchemaError(f"the schema file {Path(path).name!r} is not YAML{where}") from error


def schema_yaml(schema: TableSchema, *, comments: Mapping[str, str] | None = None) -> str:
    """The schema as commented YAML for a person to correct; `comments` puts a remark beside a column."""
    import yaml

    data = schema.to_mapping()
    lines = [
        "# What each column is. Correct what is wrong; unknown keys are errors.",
        "# kind:  " + " | ".join(get_args(Kind)),
        "# roles: " + " | ".join(get_args(Role)) + "   (a list; patient: rows with one value belong together)",
        "# also:  unit, decimals, minimum, maximum, levels, missing (codes of this column), description,",
        "#        system (of a code column): " + " | ".join(get_args(System)),
        "# Observed extremes and levels are not written here; declare bounds or levels yourself where they are public.",
        yaml.safe_dump({"missing": data["missing"]}, default_flow_style=True, allow_unicode=True, width=1000).strip(
            "{}\n"
        ),
        "columns:",
    ]
    for name, body in data["columns"].items():
        entry = yaml.safe_dump({name: body}, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
        remark = (comments or {}).get(name)
        lines.append("  " + entry.strip()[1:-1] + (f"  # {remark}" if remark else ""))
    lines += [
        "# Rules that hold in every row, one per line; generators keep them by construction. For example:",
        "#   - order: [birth_date, admission_date]                      (missing values obey)",
        "#   - range: {column: age, minimum: 0, maximum: 120}",
        "#   - implies: {when: {sex: [M]}, then: {pregnant: [0]}}       (missing is a level too: null)",
        "#   - combination: [hospital, ward]                            (only combinations that enough patients have)",
        "#   - sum: {total: total, parts: [a, b]}                       (the total is computed, not learned)",
        "#   - formula: {column: bmi, expression: weight / (height / 100) ** 2}   (computed; dates count days)",
        yaml.safe_dump({"rules": data["rules"]}, allow_unicode=True, sort_keys=False).rstrip(),
        "# Regressions that the data are meant for; the audit compares their coefficients. For example:",
        "#   - {outcome: died, predictors: [age, sex]}   (logistic: two values; linear: a number)",
        yaml.safe_dump({"estimates": data.get("estimates", [])}, allow_unicode=True, sort_keys=False).rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _column(name: str, body: Any) -> Column:
    if not isinstance(body, Mapping) or "kind" not in body:
        raise SchemaError(f"column {name!r}: give at least its kind")
    _known(body, [f.name for f in fields(Column) if f.name != "name"], f"column {name!r}")
    values = dict(body)
    for key in ("roles", "levels", "missing"):
        if key in values and values[key] is not None:
            listed = values[key] if isinstance(values[key], list) else [values[key]]
            values[key] = tuple(str(item) for item in listed)
    return Column(name=name, **values)


def _regression(entry: Any) -> Regression:
    if not isinstance(entry, Mapping) or not {"outcome", "predictors"} <= set(entry):
        raise SchemaError("an entry of 'estimates' is a mapping: {outcome: COLUMN, predictors: [COLUMN, ...]}")
    _known(entry, ("outcome", "predictors"), "an entry of 'estimates'")
    listed = entry["predictors"] if isinstance(entry["predictors"], list) else [entry["predictors"]]
    return Regression(str(entry["outcome"]), tuple(str(name) for name in listed))


def _known(data: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in data:
        if key not in set(known):
            raise SchemaError(f"{where} has no key {key!r}: {suggest(str(key), known)}")


def _validate(schema: TableSchema) -> None:
    names = schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(f"column names appear twice: {', '.join(map(repr, twice))}")
    for column in schema.columns:
        if column.kind not in get_args(Kind):
            raise SchemaError(
                f"column {column.name!r}: no kind {column.kind!r}: {suggest(str(column.kind), get_args(Kind))}"
            )
        for role in column.roles:
            if role not in get_args(Role):
                raise SchemaError(f"column {column.name!r}: no role {role!r}: {suggest(role, get_args(Role))}")
        if column.system is not None and (column.kind != "code" or column.system not in get_args(System)):
            raise SchemaError(
                f"column {column.name!r}: system is for code columns, one of {', '.join(get_args(System))}"
            )
        if None not in (column.minimum, column.maximum) and column.minimum > column.maximum:  # type: ignore[operator]
            raise SchemaError(f"column {column.name!r}: minimum is above maximum")
    for role in ("patient", "target", "time", "event"):
        if len(schema.with_role(role)) > 1:
            raise SchemaError(f"more than one column has the role {role!r}: {', '.join(schema.with_role(role))}")
    if schema.target and not schema[schema.target].learned:
        raise SchemaError(f"the target {schema.target!r} is an identifier or text, which is never learned")
    for one in schema.estimates:
        _validate_regression(one, schema)
    check_rules({column.name: column for column in schema.columns}, schema.rules)


def _validate_regression(one: Regression, schema: TableSchema) -> None:
    if not one.predictors or len(set(one.columns)) < len(one.columns):
        raise SchemaError(f"the regression of {one.outcome!r} needs predictors, and each column once")
    for name in one.columns:
        if not schema[name].learned:
            raise SchemaError(f"the regression of {one.outcome!r} names {name!r}, which is never learned")

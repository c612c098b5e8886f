"""Are the synthetic records well formed: what the schema says of each column, and the rules between columns?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.codes import hierarchy, with_ancestors
from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.rules import Rule, level_text, violations
from synthgen.schema import NUMERIC, Column, TableSchema
from synthgen.validators.encoding import texts
from synthgen.validators.resampling import share


@dataclass(frozen=True)
class SchemaConformance:
    """Kinds, declared bounds, levels, precision and keys, row by row.

    A level counts as known if the schema declares it, or, where it declares none, if the train table has it.

    >>> SchemaConformance().name
    'structure.schema'
    """

    name: ClassVar[str] = "structure.schema"
    question: ClassVar[str] = "Does every synthetic row obey the schema: kinds, bounds, levels, precision, keys?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:  # noqa: ARG002 - the protocol of checks
        """Count rows with any violation; nothing here is random."""
        if not len(evidence.synthetic):
            raise NotAssessable("the synthetic table has no rows")
        known = _known_levels(evidence)
        keys = _keys(evidence.train)
        broken = _broken_cells(evidence.synthetic, evidence.schema, known, keys)
        control = _broken_cells(evidence.holdout, evidence.schema, known, keys)
        lacking = [c.name for c in evidence.schema.learned if c.name not in evidence.synthetic.table]
        statistic = _any_share(broken, evidence.synthetic, everywhere=bool(lacking))
        details = {name: share(flags, evidence.synthetic.patients) for name, flags in broken.items() if flags.any()}
        notes = [f"the synthetic table lacks {len(lacking)} column(s): {', '.join(lacking)}"] if lacking else []
        extra = [name for name in evidence.synthetic.table if name not in evidence.schema]
        notes += (
            [f"columns that the schema does not know, not looked at: {', '.join(map(str, extra))}"] if extra else []
        )
        count = len(details) + len(lacking)
        return Measurement(
            check=self.name,
            label="share of synthetic rows that break the schema",
            statistic=statistic,
            control=_any_share(control, evidence.holdout) if len(evidence.holdout) else None,
            better="lower",
            answer=f"{statistic.value:.2%} of synthetic rows break the schema, in {count} column(s).",
            details=details | {"columns lacking": exactly(len(lacking), n=len(evidence.schema.columns))},
            notes=tuple(notes),
            source="definition; interval: Korn & Graubard, Survey Methodology 24 (1998)",
        )


@dataclass(frozen=True)
class RuleViolations:
    """The schema's clinical rules, against how often real records break them.

    >>> RuleViolations().question
    'How often do synthetic rows break the rules of the schema, and how often do real ones?'
    """

    name: ClassVar[str] = "structure.rules"
    question: ClassVar[str] = "How often do synthetic rows break the rules of the schema, and how often do real ones?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "rules"})

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:  # noqa: ARG002 - the protocol of checks
        """Apply every rule to synthetic and to real rows (train and holdout); nothing here is random."""
        rules = _assessable_rules(evidence)
        synthetic, *parts = (
            np.stack(violations(rules, side.table, train=evidence.train.table))
            for side in (evidence.synthetic, evidence.train, evidence.holdout)
        )
        real = np.concatenate(parts, axis=1)
        who = np.concatenate([evidence.train.patients, evidence.holdout.patients + evidence.train.patient_count])
        statistic = share(np.any(synthetic, axis=0), evidence.synthetic.patients)
        control = share(np.any(real, axis=0), who)
        details: dict[str, Estimate] = {}
        for number, rule in enumerate(rules):
            label = f"{number + 1}. {rule.keyword}: {', '.join(rule.columns)}"
            details[label] = share(synthetic[number], evidence.synthetic.patients)
            details[f"{label} (real)"] = share(real[number], who)
        excess = synthetic.mean(axis=1) - real.mean(axis=1)
        worst = int(np.argmax(excess))
        details["worst excess over real"] = _difference(*list(details.values())[2 * worst : 2 * worst + 2])
        left_out = len(evidence.schema.rules) - len(rules)
        return Measurement(
            check=self.name,
            label="share of synthetic rows that break any rule of the schema",
            statistic=statistic,
            control=control,
            better="lower",
            answer=f"{statistic.value:.2%} of synthetic rows and {control.value:.2%} of real rows break a rule.",
            details=details,
            notes=("the control is train and holdout together",)
            + ((f"{left_out} rule(s) name free text, which synthetic tables do not hold",) if left_out else ()),
            source="definition; intervals: Korn & Graubard 1998 (shares), doi:10.1002/(SICI)1097-0258(19980430)17:8<873"
            "::AID-SIM779>3.0.CO;2-I (difference: Newcombe 1998, square and add)",
        )


def _known_levels(evidence: Evidence) -> Mapping[str, frozenset[str]]:
    """The levels that each column may take, for the columns that have levels at all: of codes, also those above."""
    known = {}
    for column in evidence.schema.learned:
        if column.levels is not None:
            known[column.name] = frozenset(column.levels)
        elif column.kind in ("categorical", "code") and column.name in evidence.train.table:
            levels = texts(evidence.train.table[column.name]).dropna().unique()
            known[column.name] = with_ancestors(levels, hierarchy(column.kind, column.system))
    return known


def _keys(train: TableData) -> tuple[str, ...]:
    """Identifier columns that name each train row once, so that every table's should."""
    return tuple(
        c.name
        for c in train.schema.identifiers
        if len(train) > 1 and not train.table[c.name].isna().any() and train.table[c.name].is_unique
    )


def _broken_cells(
    data: TableData, schema: TableSchema, known: Mapping[str, frozenset[str]], keys: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """For each column that a table shares with the schema, which rows break what is said of it."""
    broken = {}
    for column in schema.learned:
        if column.name in data.table:
            broken[column.name] = _broken(data.table[column.name], column, known.get(column.name))
    for name in keys:
        if name in data.table:
            broken[name] = (data.table[name].duplicated(keep=False) | data.table[name].isna()).to_numpy()
    return broken


def _broken(values: pd.Series, column: Column, known: frozenset[str] | None) -> np.ndarray:
    """Which cells of a column are not what the schema says; missing cells never are. Shape: -> (rows,) boolean."""
    present = values.notna().to_numpy()
    dates = pd.api.types.is_datetime64_any_dtype(values)
    if column.kind == "datetime" or dates:
        return present & (not dates or column.kind != "datetime")
    broken = np.zeros(len(values), dtype=bool)
    if column.kind in NUMERIC:
        found = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        broken |= ~np.isfinite(found) | _off_grid(found, column)
        broken |= found < (-np.inf if column.minimum is None else column.minimum)
        broken |= found > (np.inf if column.maximum is None else column.maximum)
    if known is not None:
        broken |= ~values.map(level_text).isin(known).to_numpy()
    return present & broken


def _off_grid(found: np.ndarray, column: Column) -> np.ndarray:
    """Numbers with more decimals than the column has, and booleans that are neither 0 nor 1."""
    if column.kind == "boolean":
        return ~np.isin(found, (0.0, 1.0))
    decimals = column.decimals if column.kind == "real" else 0
    if decimals is None:
        return np.zeros(len(found), dtype=bool)
    finite = np.where(np.isfinite(found), found, 0.0)
    return np.abs(np.round(finite, decimals) - finite) > 1e-9 * np.maximum(1.0, np.abs(finite))


def _any_share(broken: Mapping[str, np.ndarray], data: TableData, *, everywhere: bool = False) -> Estimate:
    flags = np.full(len(data), everywhere)
    for column in broken.values():
        flags |= column
    return share(flags, data.patients)


def _assessable_rules(evidence: Evidence) -> tuple[Rule, ...]:
    if not evidence.schema.rules:
        raise NotAssessable("the schema declares no rules; add lines under 'rules:' in the schema file")
    rules = evidence.schema.synthetic().rules
    if not rules:
        raise NotAssessable("every rule of the schema names free text, which synthetic tables do not hold")
    sides = {"train": evidence.train, "holdout": evidence.holdout, "synthetic": evidence.synthetic}
    for side, data in sides.items():
        if not len(data):
            raise NotAssessable(f"the {side} table has no rows")
        lacking = sorted({name for rule in rules for name in rule.columns if name not in data.table})
        if lacking:
            raise NotAssessable(f"the {side} table lacks columns that rules name: {', '.join(lacking)}")
        odd = sorted(
            {n for rule in rules for n in rule.columns if _storage(data.schema[n]) != _storage(evidence.schema[n])}
        )
        if odd:
            raise NotAssessable(f"columns of the {side} table that rules name are of another kind: {', '.join(odd)}")
    return rules


def _storage(column: Column) -> str:
    return "number" if column.kind in NUMERIC else "date" if column.kind == "datetime" else "text"


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two independent rates from their own intervals (Newcombe's square-and-add)."""
    value = one.value - other.value
    low = value - float(np.hypot(one.value - one.low, other.high - other.value))
    high = value + float(np.hypot(one.high - one.value, other.value - other.low))
    return Estimate(
        value, max(-1.0, low), min(1.0, high), min(one.n, other.n), "Newcombe, square and add", one.confidence
    )

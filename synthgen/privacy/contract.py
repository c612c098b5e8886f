"""Do the three tables keep the rules without which no other check means anything?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthgen.data import TableData
from synthgen.findings import Measurement, exactly
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.rules import level_text


@dataclass(frozen=True)
class Contract:
    """Counts what must not happen at all: shared patients, identifiers that came back, columns that must not be there.

    - patients that are in train and in holdout, by the patient column, or else by equal values of an identifier column
      (a row index, 0 or 1 to n in both files, is none);
    - holdout rows that repeat train rows, where that cannot be chance: most of the holdout does, though rows of train
      hardly ever repeat each other;
    - identifiers or patient numbers of the synthetic table that a train or holdout patient has;
    - free-text columns in the synthetic table;
    - columns that the synthetic table lacks, or has beyond the schema. Identifier columns may be absent.

    >>> Contract().question
    'Are patients, identifiers and protected columns kept apart?'
    """

    name: ClassVar[str] = "contract"
    question: ClassVar[str] = "Are patients, identifiers and protected columns kept apart?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:  # noqa: ARG002 - the protocol of checks
        """Compare the files; nothing here is random and no value of theirs is shown."""
        counts = {
            "patients in train and holdout": (_shared_patients(evidence), evidence.holdout.patient_count),
            "holdout rows that repeat train rows": (_repeated_rows(evidence), len(evidence.holdout)),
            "identifiers of real patients in synthetic": (_reused_identifiers(evidence), len(evidence.synthetic)),
            "free-text columns in synthetic": (len(_texts(evidence)), len(evidence.schema.names)),
            "columns lacking in synthetic": (len(_lacking(evidence)), len(evidence.schema.names)),
            "columns beyond the schema in synthetic": (len(_beyond(evidence)), len(evidence.schema.names)),
        }
        broken = {kind: count for kind, (count, _) in counts.items() if count}
        answer = "; ".join(f"{count:,} {kind}" for kind, count in broken.items())
        named = {"free text": _texts(evidence), "lacking": _lacking(evidence), "unknown": _beyond(evidence)}
        return Measurement(
            check=self.name,
            label="violations of the audit's contract",
            statistic=exactly(sum(broken.values()), n=len(evidence.synthetic)),
            better="lower",
            answer=f"Found: {answer}." if broken else "No patient, identifier or protected column is shared.",
            details={kind: exactly(count, n=max(1, n)) for kind, (count, n) in counts.items()},
            notes=tuple(f"columns, {kind}: {', '.join(names)}" for kind, names in named.items() if names),
            source="definition",
        )


def level_values(data: TableData, name: str) -> set[str]:
    """The distinct values of a column as text, so that 17, 17.0 and "17" are one identifier."""
    if name not in data.table:
        return set()
    texts = {level_text(value) for value in data.table[name].dropna().unique()}
    return {text.strip() for text in texts if text is not None}


def _shared_patients(evidence: Evidence) -> int:
    patient = evidence.schema.patient
    if patient:
        return len(level_values(evidence.train, patient) & level_values(evidence.holdout, patient))
    shared = []
    for name in (column.name for column in evidence.schema.identifiers):
        train, holdout = level_values(evidence.train, name), level_values(evidence.holdout, name)
        if not (row_numbers(train) and row_numbers(holdout)):
            shared.append(len(train & holdout))
    return max(shared, default=0)


def row_numbers(values: set[str]) -> bool:
    """Whether these are the numbers 0 or 1 to n: a file's row index names no patient, and every file has the same."""
    numbers = {int(value) for value in values if value.isdecimal()}
    return (
        len(numbers) == len(values)
        and (max(numbers, default=0) - min(numbers, default=0) + 1 == len(numbers))
        and (min(numbers, default=2) <= 1)
    )


def _repeated_rows(evidence: Evidence) -> int:
    """Holdout rows with an equal train row, or 0 where natural twins can explain them."""
    names = [
        c.name for c in evidence.schema.learned if c.name in evidence.train.table and c.name in evidence.holdout.table
    ]
    if not names or not len(evidence.train) or not len(evidence.holdout):
        return 0
    train, holdout = _row_keys(evidence.train, names), _row_keys(evidence.holdout, names)
    keys, times = np.unique(train, return_counts=True)
    alone = times[np.searchsorted(keys, train)] == 1
    across = np.isin(holdout, keys)
    return int(across.sum()) if across.mean() > 0.5 and alone.mean() > 0.9 else 0


def _row_keys(data: TableData, names: list[str]) -> np.ndarray:
    import pandas as pd

    keys: np.ndarray = pd.util.hash_pandas_object(data.table[names], index=False, categorize=False).to_numpy()
    return keys


def _reused_identifiers(evidence: Evidence) -> int:
    names = [column.name for column in evidence.schema.identifiers]
    reused = 0
    for name in names:
        real = level_values(evidence.train, name) | level_values(evidence.holdout, name)
        reused += len(level_values(evidence.synthetic, name) & real)
    return reused


def _texts(evidence: Evidence) -> list[str]:
    return _present(evidence, (column.name for column in evidence.schema.columns if column.kind == "text"))


def _lacking(evidence: Evidence) -> list[str]:
    return [c.name for c in evidence.schema.learned if c.name not in evidence.synthetic.table]


def _beyond(evidence: Evidence) -> list[str]:
    return [str(name) for name in evidence.synthetic.table if name not in evidence.schema]


def _present(evidence: Evidence, names: Iterable[str]) -> list[str]:
    return [name for name in names if name in evidence.synthetic.table]

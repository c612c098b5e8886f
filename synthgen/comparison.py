"""How do several audits of one holdout differ? Checks in rows, audits in columns, and what to know beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.auditing import Audit
from synthgen.errors import DataError, UsageError
from synthgen.findings import Finding, to_json
from synthgen.markup import foreign, table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Row:
    """One check in every audit."""

    check: str
    question: str
    findings: Mapping[str, Finding | None]  # by the audit's label; None: its policy does not ask this


@dataclass(frozen=True)
class Comparison:
    """Several audits of one holdout side by side; it decides nothing."""

    audits: Mapping[str, Audit]  # by label
    notes: tuple[str, ...] = ()  # where they differ in more than the synthetic data

    @property
    def rows(self) -> tuple[Row, ...]:
        """Each check that any of the audits ran, in the order in which they ran."""
        questions = {f.check: f.question for audit in self.audits.values() for f in audit.findings}
        found = {label: {f.check: f for f in audit.findings} for label, audit in self.audits.items()}
        return tuple(
            Row(check, question, {label: findings.get(check) for label, findings in found.items()})
            for check, question in questions.items()
        )

    @property
    def facts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What stands above the checks: name, and for each audit a text."""
        from synthgen.report import content

        about: dict[str, Callable[[Audit], str]] = {
            "generator": content.generator_name,
            "policy": lambda audit: f"{audit.policy['name']} ({audit.policy['hash'][:8]})",
            "audit of this holdout": content.counted,
            "synthetic": lambda audit: f"{audit.counts['synthetic']['rows']:,} {content.unit(audit)}",
        }
        chosen = [(audit.generator or {}).get("selection", {}) for audit in self.audits.values()]
        for name in sorted({str(one["ranked_by"]) for one in chosen if one}):
            about[name] = _ranked_by(name)
        return tuple((name, tuple(map(text, self.audits.values()))) for name, text in about.items())

    def frame(self) -> pd.DataFrame:
        """One row for each check of each audit: verdict, estimate with interval and n, limit."""
        import pandas as pd

        rows = []
        for row in self.rows:
            for label, finding in row.findings.items():
                if finding is None:
                    continue
                statistic = finding.measurement.statistic if finding.measurement else None
                rows.append(
                    {
                        "check": row.check,
                        "audit": label,
                        "verdict": finding.verdict,
                        **{name: getattr(statistic, name, None) for name in ("value", "low", "high", "n")},
                        "threshold": finding.threshold,
                        "required": finding.required,
                    }
                )
        return pd.DataFrame(rows).astype({"n": "Int64", "value": float, "low": float, "high": float})

    def to_json(self) -> dict[str, Any]:
        """Plain data: each audit's decision and origin, the notes, and each check with its finding in every audit."""
        kept = ("policy", "fingerprints", "counts", "audit_number", "generator", "created")
        return {
            "audits": {
                label: {
                    "decision": {"verdict": audit.decision.outcome, "reasons": list(audit.decision.reasons)},
                    **{name: to_json(getattr(audit, name)) for name in kept},
                }
                for label, audit in self.audits.items()
            },
            "notes": list(self.notes),
            "checks": [
                {
                    "check": row.check,
                    "question": row.question,
                    "audits": {label: _as_json(finding) for label, finding in row.findings.items()},
                }
                for row in self.rows
            ],
        }

    def _repr_html_(self) -> str:
        lines = [("decision", [audit.decision.outcome for audit in self.audits.values()]), *self.facts]
        lines += [(row.question, [in_words(finding) for finding in row.findings.values()]) for row in self.rows]
        rows = [tuple(map(foreign, (name, *texts))) for name, texts in lines]
        return table(("", *self.audits), rows) + "".join(f"<p>{foreign(note)}</p>" for note in self.notes)


def compare(audits: Sequence[Audit | str | Path] | Mapping[str, Audit | str | Path]) -> Comparison:
    """Put audits of one holdout side by side.

    Audits of different train data can be compared where the holdout is the same: the notes then say what still can.

    Args:
        audits: each an Audit, an `audit.json` or a folder with one. A mapping gives them labels; else those from files
            are called by their folder, the others by their generator.

    Raises:
        UsageError: fewer than two audits.
        DataError: other holdouts, tables beside images, or no audit.

    >>> from synthgen import datasets
    >>> from synthgen.auditing import audit
    >>> train, holdout = datasets.load("actg175").split_by_patient(seed=1)
    >>> made = {"copies": train, "fresh": holdout.take(range(400))}
    >>> sides = {"holdout": holdout.take(range(400, 600)), "train": train, "seed": 2}
    >>> exact = lambda name: name == "copies.exact"
    >>> compared = compare({k: audit(synthetic=v, only=exact, **sides) for k, v in made.items()})
    >>> compared.frame()[["audit", "verdict"]].values.tolist()
    [['copies', 'FAIL'], ['fresh', 'PASS']]
    """
    if isinstance(audits, Mapping):
        named = [(str(label), given) for label, given in audits.items()]
    else:
        named = [(_label(given), given) for given in audits]
    labels = _numbered([label for label, _ in named])
    loaded = {label: _loaded(label, given) for label, (_, given) in zip(labels, named, strict=True)}
    if len(loaded) < 2:
        raise UsageError(f"a comparison takes two audits or more, not {len(loaded)}")
    _require_one_holdout(loaded)
    return Comparison(loaded, _notes(loaded))


def in_words(finding: Finding | None) -> str:
    """A cell of the table: the verdict and the estimate with its interval.

    >>> in_words(None)
    'not asked'
    """
    if finding is None:
        return "not asked"
    verdict = finding.verdict.replace("_", " ")
    return f"{verdict} {finding.measurement.statistic}" if finding.measurement else verdict


def _loaded(label: str, given: Audit | str | Path) -> Audit:
    if isinstance(given, Audit):
        return given
    try:
        return Audit.load(Path(given))
    except DataError as error:
        raise DataError(f"{label!r}: {error}") from error


def _ranked_by(figure: str) -> Callable[[Audit], str]:
    """What an audit's generator had for the figure that ranked it, if that one did."""

    def found(audit: Audit) -> str:
        about = (audit.generator or {}).get("selection", {})
        return str(about["validation"]) if about.get("ranked_by") == figure else "not measured"

    return found


def _label(given: Audit | str | Path) -> str:
    """The name of an audit: of a file its folder's, unless that is just called audit; else its generator's."""
    if isinstance(given, Audit):
        return str((given.generator or {}).get("name", "audit"))
    path = Path(given).resolve()
    names = [name for name in reversed(path.parts) if name not in ("audit.json", "audit")]
    return names[0].removesuffix(".json")


def _numbered(labels: list[str]) -> list[str]:
    """Labels that occur twice get a number; the first keeps its name."""
    found: list[str] = []
    for label in labels:
        numbers = (label if number == 1 else f"{label} ({number})" for number in count(1))
        found.append(next(name for name in numbers if name not in found))
    return found


def _require_one_holdout(audits: Mapping[str, Audit]) -> None:
    first, *others = audits
    for label in others:
        if audits[label].modality != audits[first].modality:
            raise DataError(f"{first!r} and {label!r} cannot be compared: they are about different kinds of data")
        if audits[label].fingerprints["holdout"] != audits[first].fingerprints["holdout"]:
            raise DataError(
                f"{first!r} and {label!r} have different holdouts, so that the same data would get other figures: "
                "audit both against one holdout"
            )


def _notes(audits: Mapping[str, Audit]) -> tuple[str, ...]:
    def differ(value: Callable[[Audit], Any]) -> bool:
        return len({value(audit) for audit in audits.values()}) > 1

    found = {
        "Different policies: a verdict holds under the policy of its column alone; estimates can be compared.": differ(
            lambda audit: audit.policy["hash"]
        ),
        "Different train data: attacks, and figures against train, speak of the patients that each learned from; "
        "figures against the holdout alone can be compared.": differ(lambda audit: audit.fingerprints["train"]),
        "Not the same number among the audits of this holdout: later ones are judged by wider intervals than those "
        "shown.": differ(lambda audit: audit.audit_number or 1),
        "Made by different versions of synthgen: a check may have changed between them.": differ(
            lambda audit: audit.versions.get("synthgen-health")
        ),
    }
    return tuple(note for note, holds in found.items() if holds)


def _as_json(finding: Finding | None) -> dict[str, Any] | None:
    if finding is None:
        return None
    measured = finding.measurement
    return {
        "verdict": finding.verdict,
        "statistic": to_json(measured.statistic) if measured else None,
        "threshold": finding.threshold,
        "required": finding.required,
        "because": finding.because,
    }

"""What must a stranger know before using the data? A datasheet, filled from the audit and the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthgen.report import content
from synthgen.report.markdown import escaped, markdown_table
from synthgen.report.public import public

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.schema import Column, TableSchema

TO_FILL = "*To be filled in by the publisher.*"
FIT = "writing and testing programs, teaching, trying out analyses."
UNFIT = (
    "clinical decisions about a person",
    "conclusions about patients that were not checked on real data",
    "rare subgroups and rare events, which a generator smooths",
    "any attempt to re-identify somebody.",
)
BIAS = "Bias in the real data is carried over, and may be made worse for small groups."
MISSING = "Empty cells are missing values; which values are missing is synthetic too."


def datasheet(audit: Audit, schema: TableSchema, *, licence: str | None = None) -> str:
    """A datasheet for a released table, in Markdown; what only the publisher knows is marked as such.

    Source:
        Gebru et al., Datasheets for Datasets, CACM 64(12), 2021, doi:10.1145/3458723.

    >>> from synthgen.auditing import Audit
    >>> from synthgen.findings import Decision
    >>> from synthgen.schema import Column, TableSchema
    >>> counts = {name: {"rows": 100, "patients": 100} for name in ("train", "holdout", "synthetic")}
    >>> passed = Audit(decision=Decision("RELEASE", ()), policy={"name": "public", "hash": "0"}, fingerprints={},
    ...                counts=counts, columns=(), findings=(), seed=1, versions={}, created="2026-01-01", seconds=0.0)
    >>> text = datasheet(passed, TableSchema((Column("age", "integer"),)), licence="CC BY 4.0")
    >>> [line for line in text.splitlines() if line.startswith("## ")][:3]
    ['## Motivation', '## Composition', '## How the data were made']
    """
    audit = public(audit)
    parts = (_head(audit, licence), _motivation(audit), _composition(audit, schema), _making(audit), _judging(audit))
    rest = (_uses(audit), _distribution(licence), _maintenance(audit))
    return "\n\n".join("\n".join(part) for part in (*parts, *rest)) + "\n"


def _head(audit: Audit, licence: str | None) -> list[str]:
    synthetic = audit.counts["synthetic"]
    return [
        f"# Datasheet of {content.subject(audit)}",
        "",
        f"**These data are synthetic.** The {synthetic['rows']:,} {content.unit(audit)} were generated, not recorded: "
        "they were drawn from a model of real patients, so they may still carry information about them. The findings "
        "below say how much was found.",
        "",
        f"Licence: {escaped(licence) if licence else TO_FILL}",
        "",
        "The sections follow Gebru et al., *Datasheets for Datasets* (2021), doi:10.1145/3458723.",
    ]


def _motivation(audit: Audit) -> list[str]:
    what = {
        "table": "table stands in for records",
        "image": "images stand in for those of patients",
        "cohort": "records and images stand in for those of patients",
    }[audit.modality]
    return [
        "## Motivation",
        "",
        f"The {what} that cannot be shared: to write and test programs, to teach, and to prepare analyses that are "
        "then run on the real data.",
        "",
        f"Who made it, for which purpose, funded by whom: {TO_FILL}",
    ]


def _composition(audit: Audit, schema: TableSchema) -> list[str]:
    rows, patients = audit.counts["synthetic"]["rows"], audit.counts["synthetic"]["patients"]
    unit = "one synthetic patient" if rows == patients else f"one record of {patients:,} synthetic patients"
    named = ", ".join(escaped(column.name) for column in schema.identifiers)
    types = "`croissant.json` (Croissant 1.1) and `data.csv-metadata.json` (CSV on the Web) do so in standard words."
    texts = ", ".join(escaped(column.name) for column in schema.columns if column.kind == "text")
    files = "files `data.csv` and `data.parquet` hold the same table. `schema.yaml` describes the columns for programs."
    if audit.modality == "image":
        files = "the images lie in `images`, their labels in `images/labels.csv`."
        types = "`croissant.json` (Croissant 1.1) and `images/labels.csv-metadata.json` (CSV on the Web) describe them."
    if audit.modality == "cohort":
        files = (
            f"{audit.counts['synthetic']['images']:,} images. `patients.csv` and `patients.parquet` hold the same "
            "table, which `schema.yaml` describes for programs. The DICOM objects lie in `dicom`, and its DICOMDIR "
            "lists them: headers say what the records say. `manifest.json` names the series of each record."
        )
        types = "`croissant.json` (Croissant 1.1) and `patients.csv-metadata.json` (CSV on the Web) describe the table."
    return [
        "## Composition",
        "",
        f"{rows:,} {content.unit(audit)}, each {unit}; {len(schema.columns)} columns; {files} {types}",
        "",
        f"Identifiers, made up: {named}." if named else "There are no identifiers.",
        f"Free text, not audited: {texts}." if texts else "There is no free text.",
        MISSING,
        "",
        *markdown_table(
            ("column", "kind", "roles", "unit", "description"), [_column(column) for column in schema.columns]
        ),
    ]


def _making(audit: Audit) -> list[str]:
    real, folded, unit = audit.counts, content.folded_rows(audit), content.unit(audit)
    return [
        "## How the data were made",
        "",
        f"The model, called generator here, was trained on {real['train']['rows']:,} {unit} of "
        f"{real['train']['patients']:,} patients. {real['holdout']['rows']:,} {unit} of "
        f"{real['holdout']['patients']:,} other patients were sealed as a holdout: "
        "declared never to have been seen by the generator, and used only to judge.",
        "",
        *markdown_table(("generator", "value"), content.generator_facts(audit)),
        "",
        *([content.FOLDED, "", *markdown_table(content.FOLDED_HEAD, folded), ""] if folded else []),
        f"How, where, when and with whose consent the real data were collected, how they were cleaned: {TO_FILL}",
    ]


def _judging(audit: Audit) -> list[str]:
    rows = [
        (f.question, content.answer_of(f), content.estimate_of(f) or "–", content.VERDICT_WORDS[f.verdict])
        for f in audit.findings
    ]
    return [
        "## How the data were attacked and judged",
        "",
        f"Decision: **{audit.decision.outcome}** under the policy {escaped(audit.policy['name'])} "
        f"(SHA-256 `{audit.policy['hash']}`), whose limits were fixed before. Audit of this "
        f"holdout: {content.counted(audit)}. `report.html` and `audit.json` hold every figure with its interval.",
        "",
        *markdown_table(("question", "answer", "estimate [interval]", "verdict"), rows),
        "",
        "Not assessed:",
        "",
        *(f"- {escaped(sentence)}" for sentence in audit.not_assessed),
    ]


def _uses(audit: Audit) -> list[str]:
    useful = [f for f in audit.findings if f.family == "utility" and f.measurement]
    found = [f"- {escaped(f.question)} {escaped(content.answer_of(f))}" for f in useful]
    return [
        "## Uses",
        "",
        f"Fit for: {FIT}",
        *(["", "What was measured of its use:", "", *found] if found else []),
        "",
        f"Not fit for: {'; '.join(UNFIT)}",
        BIAS,
    ]


def _distribution(licence: str | None) -> list[str]:
    return [
        "## Distribution",
        "",
        f"Licence: {escaped(licence) if licence else TO_FILL}",
        "",
        f"To whom, from when on, under which further terms: {TO_FILL}",
        "",
        "`CHECKSUMS.sha256` names every file: `sha256sum -c CHECKSUMS.sha256`, or `synthgen verify` on the folder, "
        "which also checks the decision. Where `CHECKSUMS.sha256.sig` lies beside it, that is an Ed25519 signature of "
        "it, which `synthgen verify --public-key` checks with the publisher's public key.",
    ]


def _maintenance(audit: Audit) -> list[str]:
    made = ", ".join(f"{name} {value}" for name, value in audit.versions.items())
    return [
        "## Maintenance",
        "",
        f"Audited on {audit.created} with {escaped(made)}; seed {audit.seed}.",
        "",
        f"Who keeps it, whom to ask, how errors and concerns are reported, when it is withdrawn: {TO_FILL}",
    ]


def _column(column: Column) -> tuple[str, ...]:
    return (column.name, column.kind, ", ".join(column.roles), column.unit or "", column.description or "")

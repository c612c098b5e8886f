"""What does a CSV file hold, for programs that know nothing of synthgen? A sidecar after CSV on the Web."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synthgen.marks import DIGITAL_SOURCE, STATEMENT
from synthgen.report.columns import Written

SUFFIX = "-metadata.json"  # of the sidecar, where programs look for it


def csvw(name: str, columns: Sequence[Written], *, licence: str | None = None) -> dict[str, Any]:
    """The metadata of a CSV file: that it is synthetic, its licence, and each column's datatype, unit and words.

    Args:
        name: of the CSV file, beside which the metadata will lie.
        columns: of the file, in its order.
        licence: a name, or the address of its text.

    Source:
        W3C, Metadata Vocabulary for Tabular Data, https://www.w3.org/TR/tabular-metadata.

    >>> made = csvw("data.csv", [Written("age", "integer", whole=True, unit="years")], licence="CC BY 4.0")
    >>> made["dc:license"], made["tableSchema"]["columns"][0]["datatype"]
    ('CC BY 4.0', 'integer')
    """
    return {
        "@context": "http://www.w3.org/ns/csvw",
        "url": name,
        "dc:title": f"Synthetic data: {name}",
        "dc:description": STATEMENT,
        "schema:digitalSourceType": {"@id": DIGITAL_SOURCE},
        **({"dc:license": {"@id": licence} if "://" in licence else licence} if licence else {}),
        "tableSchema": {"columns": [_column(column) for column in columns]},
    }


def _column(column: Written) -> dict[str, Any]:
    told = {"dc:description": column.description, "schema:unitText": column.unit}
    return {
        "name": column.identifier,
        "titles": column.name,
        "datatype": _datatype(column),
        **{key: value for key, value in told.items() if value},
    }


def _datatype(column: Written) -> str | dict[str, str]:
    if column.datatype == "integer":
        return "integer" if column.whole else "number"  # storage as floats writes 51.0
    if column.datatype in ("number", "text"):
        return {"number": "number", "text": "string"}[column.datatype]
    return {"base": column.datatype, "format": column.layout or ""}

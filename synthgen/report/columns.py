"""What do the columns of a released CSV file hold, for programs? Their types as written, their units and words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.schema import Column, TableSchema

Datatype = Literal["integer", "number", "boolean", "date", "datetime", "text"]

_KEPT_AS_TEXT = ("str", "object", "category", "arrow:string", "arrow:dictionary")  # storage types
_WHOLE = r"-?\d+"
_BOOLEANS = ("1|0", "1.0|0.0", "True|False")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?(\.\d+)?([+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class Written:
    """One column of a CSV file."""

    name: str
    datatype: Datatype
    layout: str | None = None  # of dates, as CSVW writes layouts; of booleans, how true and false are written
    whole: bool = False  # whether each number is written without a decimal point
    unit: str | None = None
    description: str | None = None

    @property
    def identifier(self) -> str:
        """The name as part of an IRI: letters, digits and underscores stay, all else is percent-encoded.

        >>> Written("weight (kg)", "number").identifier, Written("_id", "text").identifier
        ('weight%20%28kg%29', '%5Fid')
        """
        kept = "".join(c if re.match(r"[A-Za-z0-9_]", c) else _encoded(c) for c in self.name)
        return _encoded("_") + kept[1:] if kept.startswith("_") else kept


def written_columns(path: Path, schema: TableSchema) -> tuple[Written, ...]:
    r"""The columns of a CSV file that synthgen wrote, in their order; those that the schema lacks are text.

    >>> import tempfile
    >>> from synthgen.schema import Column, TableSchema
    >>> path = Path(tempfile.mkdtemp()) / "data.csv"
    >>> _ = path.write_text("age,seen,ward\n51,2020-01-02 10:30:00,A\n,,B\n")
    >>> schema = TableSchema((Column("age", "integer", unit="years"), Column("seen", "datetime")))
    >>> [(c.name, c.datatype, c.layout, c.unit) for c in written_columns(path, schema)]
    [('age', 'integer', None, 'years'), ('seen', 'datetime', 'yyyy-MM-dd HH:mm:ss', None), ('ward', 'text', None, None)]
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return tuple(
        _written(table[name], schema[name]) if name in schema else Written(name, "text") for name in table.columns
    )


def _written(values: pd.Series, column: Column) -> Written:
    datatype, layout = _type(values, column)
    whole = datatype == "integer" and bool(values.str.fullmatch(_WHOLE + "|").all())
    return Written(column.name, datatype, layout, whole, column.unit, column.description)


def _type(values: pd.Series, column: Column) -> tuple[Datatype, str | None]:
    if column.dtype and column.dtype.startswith(_KEPT_AS_TEXT):
        return "text", None
    present = values[values != ""]
    if column.kind == "integer":
        return "integer", None
    if column.kind == "real":
        return "number", None
    if column.kind == "boolean":
        layout = next((pair for pair in _BOOLEANS if present.isin(pair.split("|")).all()), None)
        return ("boolean", layout) if layout else ("text", None)
    if column.kind == "datetime":
        match = _MOMENT.fullmatch(present.iloc[0]) if len(present) else None
        return _moment(match) if match else ("text", None)
    return "text", None


def _moment(match: re.Match[str]) -> tuple[Datatype, str]:
    time, fraction, zone = match[1], match[2], match[3]
    if not time:
        return "date", "yyyy-MM-dd"
    seconds = f".{'S' * (len(fraction) - 1)}" if fraction else ""
    return "datetime", f"yyyy-MM-dd HH:mm:ss{seconds}{'XXX' if zone else ''}"


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", errors="replace"))

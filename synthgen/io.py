"""How do tables come in and go out? CSV, Parquet, Arrow and Excel files, and frames in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.data import TableData
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.frames import from_native
from synthgen.infer import canonical_table, infer_schema
from synthgen.schema import TableSchema, read_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

_DELIMITERS = (",", ";", "\t", "|")
_DECIMAL_COMMA = r"^-?\d+(,\d+)?$"
READ_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet", ".arrow", ".feather", ".xlsx")


def read(
    source: Any,
    *,
    schema: TableSchema | str | Path | None = None,
    target: str | None = None,
    patient: str | None = None,
    encoding: str | None = None,
    partial: bool = False,
    name: str | None = None,
) -> TableData:
    """Read patient records from a file or a frame.

    Args:
        source: a path (CSV, TSV, Parquet, Arrow, Excel), or a pandas, polars or pyarrow table.
        schema: what the columns are; inferred when absent.
        target: the column that gets the role target, whatever the schema says.
        patient: the column that gets the role patient, likewise.
        encoding: of a text file; UTF-8, and UTF-16 with a byte-order mark, are recognised.
        partial: accept a table that lacks identifier and text columns, as synthetic tables do.
        name: how messages call the table; by default the file's name.

    Raises:
        DataError: anything that makes the table unusable, by column and count.
        SchemaError: the schema does not fit the table.

    >>> import pandas as pd
    >>> data = read(pd.DataFrame({"age": [51, None, 47], "died": [0, 1, 0]}), target="died")
    >>> data, data.schema.target
    (TableData(3 rows of 3 patients, 2 columns), 'died')
    """
    if isinstance(source, str | Path):
        raw, backend = _read_file(Path(source), encoding), "pandas"
        name = name or Path(source).name
    else:
        raw, backend = from_native(source)
        name = name or "the table"
    raw = _named(raw, name)
    chosen = _schema(raw, schema, partial, name)
    for role, column in (("target", target), ("patient", patient)):
        if column is not None:
            chosen = chosen.assign(role, column)  # type: ignore[arg-type]
    return TableData(canonical_table(raw, chosen, name=name), chosen, backend)  # type: ignore[arg-type]


def read_raw(source: str | Path, *, encoding: str | None = None) -> pd.DataFrame:
    """A file's table before any schema: what `infer_schema` looks at."""
    return _named(_read_file(Path(source), encoding), Path(source).name)


def write(data: TableData | pd.DataFrame, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table by the path's suffix: .csv, .tsv, .parquet, .arrow, .feather or .xlsx. Missing values are empty.

    Args:
        data: patient records, or a pandas frame to be written as it is.
        path: of the file.
        metadata: keys and values about the file, which Parquet and Arrow files can carry.

    Raises:
        UsageError: another suffix, or metadata for a file that cannot carry them.
        EnvironmentProblem: a full disk or an unwritable folder; no partial file is left.
    """
    path = Path(path)
    frame = replace(data, backend="pandas").frame if isinstance(data, TableData) else data
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    writers = {
        ".csv": lambda: frame.to_csv(part, index=False),
        ".tsv": lambda: frame.to_csv(part, index=False, sep="\t"),
        ".parquet": lambda: _write_arrow(frame, part, metadata),
        ".arrow": lambda: _write_arrow(frame, part, metadata),
        ".feather": lambda: _write_arrow(frame, part, metadata),
        ".xlsx": lambda: frame.to_excel(part, index=False),
    }
    if path.suffix not in writers:
        raise UsageError(f"cannot write {path.suffix or 'a file without suffix'}: known are {', '.join(writers)}")
    if metadata and path.suffix in (".csv", ".tsv", ".xlsx"):
        raise UsageError(f"a {path.suffix} file carries no metadata: write Parquet or Arrow")
    try:
        writers[path.suffix]()
        part.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path.name!r}: {error.strerror or type(error).__name__}") from error
    finally:
        part.unlink(missing_ok=True)


def _write_arrow(frame: pd.DataFrame, path: Path, metadata: Mapping[str, str] | None) -> None:
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **(metadata or {})})
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, path)


def _schema(raw: pd.DataFrame, schema: TableSchema | str | Path | None, partial: bool, name: str) -> TableSchema:
    if schema is None:
        return infer_schema(raw)[0]
    chosen = schema if isinstance(schema, TableSchema) else read_schema(schema)
    present = set(raw.columns)
    extra = [column for column in raw.columns if column not in chosen]
    needed = [c.name for c in chosen.columns if c.learned or not partial]
    lacking = [column for column in needed if column not in present]
    if extra or lacking:
        parts = [f"lacks {lacking}" if lacking else "", f"has {extra}, which the schema lacks" if extra else ""]
        raise DataError(f"{name} does not fit its schema: it " + " and ".join(part for part in parts if part))
    return chosen.keeping(present)


def _named(raw: pd.DataFrame, name: str) -> pd.DataFrame:
    """Column names as text, each once, and at least one row."""
    names = [str(column).strip() for column in raw.columns]
    if not names:
        raise DataError(f"{name} has no columns")
    twice = sorted({column for column in names if names.count(column) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{name} has columns of the same name: {', '.join(map(repr, twice[:10]))}")
    if len(raw) == 0:
        raise DataError(f"{name} has a header but no rows")
    return raw.set_axis([column or f"unnamed_{i}" for i, column in enumerate(names)], axis=1).reset_index(drop=True)


def _read_file(path: Path, encoding: str | None) -> pd.DataFrame:
    if path.is_dir():
        raise DataError(f"{path.name!r} is a folder, not a table; known files: {', '.join(READ_SUFFIXES)}")
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path.name} is empty")
        suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
        if suffix in (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz"):
            return _read_text(path, encoding)
        return _read_binary(path, suffix)
    except OSError as error:
        raise DataError(f"cannot read {path.name!r}: {error.strerror or 'damaged file'}") from error


def _read_binary(path: Path, suffix: str) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix in (".arrow", ".feather"):
            return pd.read_feather(path)
        if suffix == ".xlsx":
            return pd.read_excel(path, dtype=object)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise DataError(f"{path.name!r} is not a readable {suffix} file") from error
    raise DataError(f"{path.name!r}: unknown kind of file; known: {', '.join(READ_SUFFIXES)}")


def _read_text(path: Path, encoding: str | None) -> pd.DataFrame:
    """A delimited text file, all cells as text; rows of another width than the header are an error."""
    import pyarrow as pa
    from pyarrow import csv

    encoding, delimiter, header = _layout(path, encoding)
    ragged: list[int] = []

    def note(row: Any) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    positions = [f"{i}" for i in range(len(header))]
    try:
        table = csv.read_csv(
            pa.input_stream(str(path), compression="detect"),
            read_options=csv.ReadOptions(encoding=encoding, column_names=positions, skip_rows=0),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path.name} cannot be read as delimited text in {encoding}") from error
    if ragged:
        raise DataError(
            f"{path.name}: {len(ragged)} rows have another number of fields than the header's {len(header)} "
            f"(delimiter {delimiter!r}); quote fields that hold the delimiter"
        )
    frame = table.to_pandas()
    frame = frame.iloc[1:].set_axis([str(cell) for cell in frame.iloc[0]], axis=1).reset_index(drop=True)
    return _without_decimal_commas(frame) if delimiter == ";" else frame


def _layout(path: Path, encoding: str | None) -> tuple[str, str, list[str]]:
    """Encoding, delimiter and header fields, from the first bytes."""
    import csv as text_csv

    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(1 << 20)
        encoding = encoding or _encoding(start)
        try:
            first = start.decode(encoding, errors="ignore" if len(start) == 1 << 20 else "strict")
            while encoding == "utf-8" and (more := stream.read(1 << 22)):
                more.decode("utf-8", errors="strict") if more[-1] < 128 else None
        except (UnicodeDecodeError, LookupError) as error:
            raise DataError(
                f"{path.name} is not {encoding} text; save it as UTF-8, or name its encoding (for example latin-1)"
            ) from error
    if "\x00" in first:
        raise DataError(f"{path.name} is not text")
    line = next((text for text in first.lstrip("\ufeff").splitlines() if text.strip()), "")
    delimiter = max(_DELIMITERS, key=line.count)
    header = next(text_csv.reader([line], delimiter=delimiter), [])
    if not header:
        raise DataError(f"{path.name} has no header")
    return encoding, delimiter, header


def _encoding(start: bytes) -> str:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "utf-8"


def _without_decimal_commas(frame: pd.DataFrame) -> pd.DataFrame:
    """Files with semicolons often write 3,14: such columns become 3.14."""
    for column in frame.columns:
        values = frame[column]
        present = values[~values.isin(["", "NA", "?"])] if isinstance(values, type(frame.iloc[:, 0])) else values
        if len(present) and present.str.match(_DECIMAL_COMMA).all() and present.str.contains(",", regex=False).any():
            frame[column] = values.str.replace(",", ".", regex=False)
    return frame

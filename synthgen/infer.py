"""What is each column of an unknown table? A first schema, for a person to correct; and values made canonical by it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthgen.codes import infer_system
from synthgen.errors import DataError
from synthgen.frames import dtype_name
from synthgen.rules import level_text
from synthgen.schema import DEFAULT_MISSING, NUMERIC, Column, Role, TableSchema

if TYPE_CHECKING:
    import pandas as pd

MAXIMUM_COLUMNS = 2_000
MAXIMUM_DECIMALS = 10
_CODES = 20  # fewer levels are no list of codes
_MIXED_LEVELS = 50  # so many distinct values, some numbers and some not: not a list of levels but a mixture

_PATIENT = re.compile(
    r"(^|[_\W])(patients?|subjects?|persons?|participants?)([_\W]?(id|nbr|num|number|no|key))?$|^pid|^mrn$|^usubjid$",
    re.I,
)
_IDENTIFIER = re.compile(
    r"(^|[_\W])(id|ids|mrn|ssn|nhs|uuid|guid|nbr|num|number|no|key|code)$|[a-z]I[dD]$|^pid|id$|^unnamed|^index$", re.I
)
_PERSONAL = re.compile(r"name|mail|phone|address|street|passport|insurance", re.I)
_QUASI = re.compile(
    r"^(age|sex|gender|race|ethnicity|ethnic|zip|zipcode|postcode|birth.*|date_of_birth|dob|marital.*|nationality|"
    r"native.country|country|region|occupation|education|religion|language)$",
    re.I,
)
_ICD = re.compile(r"^(?:[A-TV-Z]\d[0-9A-Z]|\d{1,3}|[VE]\d{1,3})(?:\.?[0-9A-Z]{1,4})?$")
_UNMODELLED = re.compile(r"timedelta|duration|complex|(large_|fixed_size_)?(list|binary)|struct|map")
_ISO_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z?)?$")
_DATE_FORMATS = ((re.compile(r"^\d{2}\.\d{2}\.\d{4}$"), "%d.%m.%Y"), (re.compile(r"^\d{4}/\d{2}/\d{2}$"), "%Y/%m/%d"))


def infer_schema(raw: pd.DataFrame) -> tuple[TableSchema, dict[str, str]]:
    """Infer kinds, roles, storage types and precision of a raw table; remarks say what was guessed from what.

    Raises:
        DataError: a mixture of numbers and text, infinities, dates out of range, or too many columns.

    >>> import pandas as pd
    >>> schema, remarks = infer_schema(pd.DataFrame({"age": [51, 60, 47], "sex": ["F", "M", "F"]}))
    >>> [(column.name, column.kind, column.roles) for column in schema.columns]
    [('age', 'integer', ('quasi_identifier',)), ('sex', 'categorical', ('quasi_identifier',))]
    """
    if raw.shape[1] > MAXIMUM_COLUMNS:
        raise DataError(
            f"{raw.shape[1]:,} columns; at most {MAXIMUM_COLUMNS:,} can be modelled: choose the ones you need"
        )
    columns, remarks = [], {}
    for name in raw.columns:
        column, remark = _infer_column(str(name), raw[name])
        columns.append(column)
        if remark:
            remarks[str(name)] = remark
    candidates = [c.name for c in columns if c.kind == "identifier" and _PATIENT.search(c.name)]
    schema = TableSchema(tuple(columns))
    if candidates:
        schema = schema.assign("patient", candidates[0])
        remarks[candidates[0]] = "patient: guessed from the name; rows with one value belong together"
    return schema, remarks


def canonical_table(raw: pd.DataFrame, schema: TableSchema, *, name: str = "the table") -> pd.DataFrame:
    """A raw table made canonical by its schema (see `TableData`).

    Raises:
        DataError: values that do not fit their column's kind, by column and count; a patient column with missing ids.
    """
    import pandas as pd

    table = {c.name: _canonical(raw[c.name], c, schema.missing, name) for c in schema.columns}
    if schema.patient in table:
        absent = int(table[schema.patient].isna().sum())
        if absent:
            raise DataError(f"{name}: the patient column {schema.patient!r} is missing in {absent} rows")
    return pd.DataFrame(table, columns=list(schema.names), index=range(len(raw)))


def _infer_column(name: str, values: pd.Series) -> tuple[Column, str]:
    import pandas as pd

    dtype = dtype_name(values.dtype)
    if _UNMODELLED.match(dtype):
        raise DataError(_unmodelled(name))
    present = values[~missing_mask(values, DEFAULT_MISSING)]
    roles: tuple[Role, ...] = ("quasi_identifier",) if _QUASI.match(name) else ()
    if len(present) == 0:
        return Column(
            name, "categorical", dtype=None if dtype in ("object", "str") else dtype
        ), "every value is missing"
    if dtype.startswith(("category", "arrow:dictionary")):
        return Column(name, "categorical", roles, dtype=dtype), ""
    if pd.api.types.is_bool_dtype(values.dtype):
        return Column(name, "boolean", roles, dtype=dtype), ""
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or dtype.startswith(("timestamp", "date")):
        return Column(name, "datetime", roles, dtype=dtype), ""
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _infer_number(name, present, dtype, roles)
    return _infer_text(name, _texts(present), roles, None if dtype in ("object", "str") else dtype)


def _infer_number(name: str, present: pd.Series, dtype: str | None, roles: tuple[Role, ...]) -> tuple[Column, str]:
    import numpy as np
    import pandas as pd

    numbers = present.to_numpy(dtype=float)
    if np.isinf(numbers).any():
        raise DataError(
            f"column {name!r} holds {int(np.isinf(numbers).sum())} infinities; declare them missing or remove them"
        )
    distinct = np.sort(pd.unique(numbers))
    if (distinct == np.floor(distinct)).all():
        if len(distinct) <= 2 and set(distinct) <= {0.0, 1.0}:
            return Column(name, "boolean", roles, dtype=dtype or "int64"), ""
        if _looks_minted(name, numbers, len(distinct)):
            return Column(name, "identifier", dtype=dtype or "int64"), "identifier: minted anew, never learned"
        return Column(name, "integer", roles, dtype=dtype or "int64"), ""
    return Column(name, "real", roles, dtype=dtype, decimals=_decimals(distinct)), ""


def _looks_minted(name: str, numbers: Any, distinct: int) -> bool:
    import numpy as np

    if len(numbers) < 20:
        return False
    if distinct == len(numbers):
        return bool(_IDENTIFIER.search(name)) or bool((np.diff(np.sort(numbers)) == 1).all())
    return bool(_PATIENT.search(name)) and distinct > 0.05 * len(numbers)


def _decimals(distinct: Any) -> int | None:
    """The number of decimals that all values keep; None when it is more than a person would write."""
    import numpy as np

    some = distinct[:: max(1, len(distinct) // 1_000)]  # most wrong answers are seen on a few values
    for decimals in range(1, MAXIMUM_DECIMALS + 1):
        if all(np.allclose(np.round(values, decimals), values, rtol=1e-12, atol=0) for values in (some, distinct)):
            return decimals
    return None


def _infer_text(name: str, present: pd.Series, roles: tuple[Role, ...], dtype: str | None) -> tuple[Column, str]:
    """Infer from text cells; patterns are tried once per distinct value, and weighted by how often it occurs."""
    import numpy as np
    import pandas as pd

    counts = present.value_counts(sort=False)
    levels = pd.Series(counts.index.to_numpy(dtype=object))
    if len(levels) <= 2 and {level.lower() for level in levels} <= {"true", "false"}:
        return Column(name, "boolean", roles, dtype=dtype or "bool"), ""
    numbers = pd.to_numeric(levels, errors="coerce")
    numeric, padded = numbers.notna(), bool(levels.str.match(r"^0\d").any())
    if numeric.all() and not padded:
        stored = "float64" if levels.str.contains(".", regex=False).any() else "int64"
        return _infer_number(name, pd.Series(np.repeat(numbers.to_numpy(dtype=float), counts)), stored, roles)
    if date_layout(levels) is not None:
        _dates(levels, name)
        return Column(name, "datetime", roles), ""
    if len(levels) >= _CODES and not numeric.all():
        system = infer_system(levels)
        if system or levels[~numeric].str.match(_ICD).all():
            said = {"icd9": "ICD-9", "icd10": "ICD-10", "atc": "ATC", "loinc": "LOINC", None: "ICD of several versions"}
            return Column(name, "code", roles, dtype=dtype, system=system), f"code: looks like {said[system]}"
    count = int(counts.to_numpy()[numeric].sum())
    if not padded and count > 0.5 * len(present) and len(levels) > _MIXED_LEVELS:
        raise DataError(
            f"column {name!r} mixes {count} numbers with {len(present) - count} other values: "
            "list the other values under `missing` of the column in a schema, or declare its kind there"
        )
    words = float((levels.str.count(" ") + 1).mul(counts.to_numpy()).sum() / len(present))
    return _infer_words(
        name, share=len(levels) / len(present), levels=len(levels), words=words, roles=roles, dtype=dtype
    )


def _infer_words(
    name: str, *, share: float, levels: int, words: float, roles: tuple[Role, ...], dtype: str | None
) -> tuple[Column, str]:
    """Levels, an identifier or free text, by the share of distinct values and the mean number of words."""
    if words > 5 and (share > 0.2 or levels > _MIXED_LEVELS):
        return Column(name, "text", dtype=dtype), "text: never learned, dropped from synthetic tables"
    many = levels >= 20 and share > 0.95
    personal = bool(_PERSONAL.search(name)) and share > 0.5 and levels >= 20
    if many or personal or (_PATIENT.search(name) and share > 0.05 and levels >= 20):
        return Column(name, "identifier", dtype=dtype), "identifier: minted anew, never learned"
    return Column(name, "categorical", roles, dtype=dtype), ""


def missing_mask(values: pd.Series, codes: tuple[str, ...]) -> pd.Series:
    """Which values are missing: nulls, and texts or numbers written as one of the codes. Shape: (rows,) boolean."""
    import pandas as pd

    mask = values.isna()
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        numbers = [float(code) for code in codes if re.fullmatch(r"-?\d+(\.\d+)?", code)]
        return mask | values.isin(numbers) if numbers else mask
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return mask
    return mask | _texts(values).isin(codes)


def _texts(values: pd.Series) -> pd.Series:
    """Each cell as stripped text, missing as None; the work is done once per distinct value. Shape: (rows,) object."""
    import numpy as np
    import pandas as pd

    try:
        codes, distinct = pd.factorize(values.astype(object))
    except TypeError as error:
        raise DataError(_unmodelled(values.name)) from error
    texts = [text.strip() if (text := level_text(value)) is not None else None for value in distinct]
    return pd.Series(np.array([*texts, None], dtype=object)[codes], index=values.index)  # code -1 is missing


def _unmodelled(name: object) -> str:
    return (
        f"column {name!r} holds lists, records, bytes, durations or complex numbers, which cannot be modelled: "
        "turn it into numbers or text (hours, say), or leave it out"
    )


def _canonical(values: pd.Series, column: Column, codes: tuple[str, ...], table: str) -> pd.Series:
    import numpy as np
    import pandas as pd

    values = values.reset_index(drop=True)
    missing = missing_mask(values, codes + column.missing)
    if column.kind in NUMERIC:
        numbers = _numbers(values, missing, column, table)
        if column.kind == "real" and column.decimals is not None:
            numbers = numbers.round(column.decimals)
        return numbers
    if column.kind == "datetime":
        if pd.api.types.is_datetime64_any_dtype(values.dtype) or str(values.dtype).startswith(("timestamp", "date")):
            moments = pd.Series(pd.to_datetime(values)).dt.tz_localize(None).astype("datetime64[ns]")
            return moments.mask(missing)
        result = pd.Series(np.full(len(values), np.datetime64("NaT"), dtype="datetime64[ns]"))
        if not missing.all():
            result[~missing] = _dates(_texts(values[~missing]), column.name)
        return result
    return _texts(values).where(~missing, None)


def _numbers(values: pd.Series, missing: pd.Series, column: Column, table: str) -> pd.Series:
    import numpy as np
    import pandas as pd

    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        numbers = values.mask(missing).astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    else:
        texts = _texts(values).mask(missing)
        codes, distinct = pd.factorize(texts)
        if column.kind == "boolean":
            distinct = pd.Index([{"true": "1", "false": "0"}.get(text.lower(), text) for text in distinct])
        valid = pd.to_numeric(pd.Series(distinct, dtype=object), errors="coerce").notna()
        parsed = [float(text) if good else np.nan for text, good in zip(distinct, valid, strict=True)]
        numbers = np.array([*parsed, np.nan])[codes]  # code -1 is missing
    bad = np.isnan(numbers) & ~missing.to_numpy()
    if bad.any():
        raise DataError(
            f"{table}: column {column.name!r} is {column.kind}, but {int(bad.sum())} values are not numbers"
        )
    if np.isinf(numbers).any():
        raise DataError(f"{table}: column {column.name!r} holds {int(np.isinf(numbers).sum())} infinities")
    if column.kind != "real":
        fractions = int((numbers[~np.isnan(numbers)] % 1 != 0).sum())
        if fractions:
            raise DataError(f"{table}: column {column.name!r} is {column.kind}, but {fractions} values have a fraction")
    if column.kind == "boolean" and (~np.isin(numbers[~np.isnan(numbers)], (0.0, 1.0))).any():
        count = int((~np.isin(numbers[~np.isnan(numbers)], (0.0, 1.0))).sum())
        raise DataError(f"{table}: column {column.name!r} is boolean, but {count} values are neither 0 nor 1")
    return pd.Series(numbers)


def date_layout(present: pd.Series) -> str | None:
    """The one layout that all these texts have as dates: "ISO8601" or a format of `strftime`; None: none."""
    if present.str.match(_ISO_DATE).all():
        return "ISO8601"
    for pattern, layout in _DATE_FORMATS:
        if present.str.match(pattern).all():
            return layout
    return None


def _dates(present: pd.Series, name: str) -> pd.Series:
    import pandas as pd

    layout = date_layout(present)
    if layout is None:
        raise DataError(
            f"column {name!r} is datetime, but its values are not dates of one layout (YYYY-MM-DD[ HH:MM[:SS]])"
        )
    parsed = pd.to_datetime(present, format=layout, errors="coerce")
    bad = int(parsed.isna().sum())
    if bad:
        raise DataError(
            f"column {name!r} holds {bad} dates out of range (1678 to 2261) or impossible; declare them missing"
        )
    if getattr(parsed.dt, "tz", None) is not None:
        parsed = parsed.dt.tz_localize(None)
    return parsed.astype("datetime64[ns]")


def with_observed(
    schema: TableSchema, table: pd.DataFrame, *, levels: tuple[str, ...], bounds: tuple[str, ...]
) -> TableSchema:
    """Write observed levels or bounds of columns into the schema: only those that a person asked for by name."""
    for name in levels:
        if schema[name].kind not in ("categorical", "code"):
            raise DataError(f"column {name!r} is {schema[name].kind}; only categorical columns have levels")
    for name in bounds:
        if schema[name].kind not in NUMERIC:
            raise DataError(f"column {name!r} is {schema[name].kind}; only numbers have bounds")
    columns = []
    for column in schema.columns:
        if column.name in levels:
            column = replace(column, levels=tuple(sorted(table[column.name].dropna().unique())))
        if column.name in bounds:
            column = replace(column, minimum=float(table[column.name].min()), maximum=float(table[column.name].max()))
        columns.append(column)
    return replace(schema, columns=tuple(columns))

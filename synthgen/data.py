"""What is a data set? A canonical table with its schema, split by patient and named by a fingerprint."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from synthgen.errors import DataError
from synthgen.findings import SMALLEST_CELL
from synthgen.markup import foreign, table
from synthgen.rng import Seed
from synthgen.rules import level_text
from synthgen.schema import NUMERIC, ORDERED, Column, TableSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd

log = logging.getLogger(__name__)

Backend = Literal["pandas", "polars", "pyarrow"]


@dataclass(frozen=True, eq=False, repr=False)
class TableData:
    """Patient records: a canonical pandas table, its schema, and the frame type they came in.

    In `table`, booleans, integers and reals are float64 with NaN for missing (booleans 0/1); datetimes are
    datetime64[ns] with NaT; all other kinds are str with None. Columns stand in the schema's order and the index is
    0..rows-1. Treat it as read-only.
    """

    table: pd.DataFrame
    schema: TableSchema
    backend: Backend = "pandas"

    def __post_init__(self) -> None:
        assert tuple(self.table.columns) == self.schema.names, "a canonical table has exactly the schema's columns"

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"TableData({len(self):,} rows of {self.patient_count:,} patients, {len(self.schema.columns)} columns)"

    def _repr_html_(self) -> str:
        return self.described(repr(self))

    def described(self, heading: str) -> str:
        """The columns, as HTML below a heading: what each is and how often it is missing; no row and no level.

        >>> from synthgen.datasets import load
        >>> "<bdi>age</bdi>" in load("actg175").described("A trial")
        True
        """
        rows = [
            (*map(foreign, (c.name, c.kind, c.unit or "", ", ".join(c.roles))), self._missing(c.name))
            for c in self.schema.columns
        ]
        head = ("column", "kind", "unit", "roles", "missing")
        return f"<p>{foreign(heading)}</p>" + table(head, rows, what="columns")

    def _missing(self, column: str) -> str:
        """The share of a column that is missing, coarse where it would tell of a few patients."""
        count, rows = int(self.table[column].isna().sum()), len(self)
        if 0 < count < SMALLEST_CELL:
            return f"fewer than {SMALLEST_CELL}"
        if 0 < rows - count < SMALLEST_CELL:
            return f"all but fewer than {SMALLEST_CELL}"
        return f"{count / max(rows, 1):.1%}"

    @property
    def learned(self) -> pd.DataFrame:
        """The canonical table without identifiers, free text and the patient column."""
        return self.table[[column.name for column in self.schema.learned]]

    @cached_property
    def patients(self) -> np.ndarray:
        """For each row, the number of its patient. Shape: (rows,) int64, dense from 0 in order of appearance."""
        import numpy as np
        import pandas as pd

        if self.schema.patient is None or self.schema.patient not in self.table:
            return np.arange(len(self), dtype=np.int64)
        return pd.factorize(self.table[self.schema.patient])[0].astype(np.int64)

    @property
    def patient_count(self) -> int:
        """How many patients there are."""
        return int(self.patients.max()) + 1 if len(self) else 0

    @property
    def frame(self) -> Any:
        """The records in the frame type and the column types they came in."""
        from synthgen.frames import to_native

        return to_native(self)

    def take(self, rows: np.ndarray) -> TableData:
        """These rows, in this order. Shape: rows (n,) int or (rows,) boolean."""
        return TableData(self.table.iloc[rows].reset_index(drop=True), self.schema, self.backend)

    def fingerprint(self) -> str:
        """A SHA-256 over column names, kinds and values: equal tables, equal fingerprints, whatever their file."""
        import pandas as pd

        digest = hashlib.sha256()
        for column in self.schema.columns:
            values = self.table[column.name]
            digest.update(f"{column.name}\x1f{column.kind}\x1f".encode())
            hashed = pd.util.hash_array(values.to_numpy(), categorize=False) if len(values) else values.to_numpy()
            digest.update(hashed.tobytes())
        return digest.hexdigest()

    def split_by_patient(self, *, holdout: float = 0.3, seed: int | Seed) -> tuple[TableData, TableData]:
        """Split into train and sealed holdout; no patient is in both; stratified by the declared target.

        Args:
            holdout: share of patients that are set aside, strictly between 0 and 1.
            seed: equal seeds give equal splits.

        Raises:
            DataError: fewer than two patients, or a share that leaves one side empty.
        """
        sealed = self.holdout_rows(holdout=holdout, seed=seed)
        return self.take(~sealed), self.take(sealed)

    def holdout_rows(self, *, holdout: float, seed: int | Seed) -> np.ndarray:
        """Which rows `split_by_patient` seals. Shape: -> (rows,) boolean."""
        import numpy as np

        if not 0 < holdout < 1:
            raise DataError(f"holdout is a share between 0 and 1, not {holdout}")
        patients, rng = self.patients, Seed.of(seed).child("split").numpy()
        count = self.patient_count
        wanted = round(holdout * count)
        if count < 2 or not 0 < wanted < count:
            raise DataError(f"{count} patients cannot be split into train and a holdout of {holdout:.0%}")
        strata = _strata(self)
        order = np.lexsort((rng.random(count), strata))  # by stratum, random within
        sealed = np.zeros(count, dtype=bool)  # every stratum gives its share: positions at even steps
        sealed[order[np.floor((np.arange(wanted) + 0.5) * count / wanted).astype(int)]] = True
        found: np.ndarray = sealed[patients]
        return found


def canonical_column(values: Any, column: Column) -> Any:
    """Generated values of one column as its canonical series: rounded to the column's precision, levels as text."""
    import numpy as np
    import pandas as pd

    if column.kind in NUMERIC:
        numbers = np.asarray(values, dtype=float)
        decimals = column.decimals if column.kind == "real" else 0
        return pd.Series(numbers if decimals is None else np.round(numbers, decimals))
    if column.kind == "datetime":
        return pd.Series(pd.to_datetime(np.asarray(values)).astype("datetime64[ns]"))
    return pd.Series([level_text(value) for value in values], dtype=object)


def assemble(columns: Mapping[str, Any], schema: TableSchema, *, n: int, seed: Seed, backend: Backend) -> TableData:
    """Make a synthetic table from generated learned columns: identifiers are minted, free text is dropped.

    Args:
        columns: for each learned column its n values (numbers with NaN, datetime64, or text with None); those that
            a rule of the schema computes are computed here, from the others as they were rounded.
        schema: the schema of the training table.
    """
    import pandas as pd

    synthetic = schema.synthetic()
    texts = [column.name for column in schema.columns if column.name not in synthetic]
    if texts:
        log.warning("free text is never learned; dropped from the synthetic table: %s", ", ".join(texts))
    table: dict[str, pd.Series] = {}
    derived = {rule.derives for rule in synthetic.derivations}
    for column in synthetic.columns:
        if column.name in derived:
            continue
        if column.learned:
            table[column.name] = canonical_column(columns[column.name], column)
        else:
            table[column.name] = _minted(column, n, seed.child("identifier", column.name))
    for rule in synthetic.derivations:
        table[rule.derives] = canonical_column(rule.derived(table), synthetic[rule.derives])
    return TableData(pd.DataFrame(table, columns=list(synthetic.names), index=range(n)), synthetic, backend)


def _minted(column: Column, n: int, seed: Seed) -> pd.Series:
    """New identifiers, unique in the table, that no hospital uses: 15-digit numbers, or text that says what it is."""
    import pandas as pd

    numbers = 100_000_000_000_000 + seed.numpy().choice(8 * 10**14, size=n, replace=False, shuffle=False)
    if column.kind in NUMERIC:
        return pd.Series(numbers, dtype=float)
    if column.dtype and "int" in column.dtype.lower():
        return pd.Series([str(number) for number in numbers], dtype=object)
    return pd.Series([f"SYN-{number}" for number in numbers], dtype=object)


def _strata(data: TableData) -> np.ndarray:
    """For each patient a stratum number from the target of the patient's first row. Shape: (patients,) int."""
    import numpy as np
    import pandas as pd

    patients = data.patients
    first = np.unique(patients, return_index=True)[1]
    if data.schema.target is None:
        return np.zeros(len(first), dtype=int)
    values = data.table[data.schema.target].iloc[first]
    if data.schema[data.schema.target].kind in ORDERED and values.nunique() > 10:
        values = pd.qcut(values.rank(method="first"), 10, labels=False)
    return pd.factorize(values)[0]

"""What is a cohort of patients and their images? A table, one row for each patient, and images that know their row."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from synthgen.data import TableData
from synthgen.errors import DataError, SchemaError
from synthgen.images import DESCRIPTION, ImageData, described, identifier_text
from synthgen.schema import NUMERIC, Column, TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.rng import Seed

SEXES = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M", "O": "O", "OTHER": "O"}  # words of tables -> of DICOM
HEADERS = ("sex", "age_years", "study_date")  # what a header says of a record
# Why something is counted. Images of the second and third kind are left out.
WITHOUT_IMAGES = "patients without images"
OF_NOBODY = "images of no patient of the table"
CONTRADICTING = "images that contradict their record"
SEVERAL = "patients with several images"
UNKNOWN = "images whose record lacks what images go by"
NEVER = "patients with a level that no image shows"


@dataclass(frozen=True)
class Link:
    """How the images of a cohort follow from its records.

    >>> Link(condition_on=("gender", "diagnosis"), finding="diagnosis", headers={"sex": "gender"}).name("gender")
    'sex'
    """

    condition_on: tuple[str, ...] = ()  # columns of the table that an image is drawn for
    finding: str | None = None  # the one that images show; it goes into headers and is what classifiers learn
    headers: Mapping[str, str] = field(default_factory=dict)  # of HEADERS: column of the table

    @classmethod
    def of(
        cls,
        schema: TableSchema,
        *,
        condition_on: tuple[str, ...] | None = None,
        finding: str | None = None,
        headers: Mapping[Any, str] | None = None,
    ) -> Link:
        """What is meant where something is not said: columns that are called as in a header, and the target.

        Raises:
            SchemaError: no such column, a date or an identifier to go by, or an age that is no number.
        """
        finding = finding if finding is not None else schema.target
        found = {name: name for name in HEADERS if name in schema} | dict(headers or {})
        by_default = (*([finding] if finding else ()), *(found[name] for name in HEADERS[:2] if name in found))
        link = cls(tuple(dict.fromkeys(by_default if condition_on is None else condition_on)), finding, found)
        for name in (*link.condition_on, *([finding] if finding else ()), *found.values()):
            column = schema[name]
            if not column.learned:
                raise SchemaError(f"images cannot go by {name!r}: an identifier or free text is never learned")
            if column.kind == "datetime" and name in link.condition_on:
                raise SchemaError(f"images cannot go by {name!r}, a date: make an age of it first")
        if (age := found.get("age_years")) and schema[age].kind not in NUMERIC:
            raise SchemaError(f"column {age!r} cannot be the age of a header: it is no number")
        if (date := found.get("study_date")) and schema[date].kind != "datetime":
            raise SchemaError(f"column {date!r} cannot be the study date of a header: it is no date")
        if unknown := sorted({*found} - {*HEADERS}):
            raise SchemaError(f"headers say {', '.join(HEADERS)} of a record, not {', '.join(unknown)}")
        return link

    def name(self, column: str) -> str:
        """How images call a column of the table."""
        return next((own for own, theirs in self.headers.items() if theirs == column), column)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that images have beside them."""
        said = [self.headers[name] for name in HEADERS[:2] if name in self.headers]
        return tuple(dict.fromkeys([*self.condition_on, *([self.finding] if self.finding else []), *said]))


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Patients and their images, which are split together.

    >>> import pandas as pd
    >>> from synthgen.io import read
    >>> table = {"id": ["a", "b", "c"], "sex": ["F", "M", "M"], "ill": ["no", "yes", "no"]}
    >>> patients = read(pd.DataFrame(table), patient="id")
    >>> own = {"patient": ["a", "b", "b", "z"], "sex": ["F", "M", "F", "M"]}
    >>> cohort = linked(patients, ImageData.of_arrays(np.zeros((4, 8, 8), "uint8"), own), Link.of(patients.schema))
    >>> cohort, {why: n for why, n in cohort.counts.items() if n}
    (Cohort(3 patients, 2 images of 2 of them),
     {'patients without images': 1, 'images of no patient of the table': 1, 'images that contradict their record': 1})
    """

    patients: TableData
    images: ImageData
    rows: np.ndarray  # of each image's patient in the table; shape (images,) int64
    link: Link
    left_out: Mapping[str, int] = field(default_factory=dict)  # images that could not be linked, by reason

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        imaged = f"{len(self.images):,} images of {len(np.unique(self.rows)):,} of them"
        return f"Cohort({len(self.patients):,} patients, {imaged})"

    def _repr_html_(self) -> str:
        counts = "".join(f"<li>{html.escape(why)}: {n:,}</li>" for why, n in self.counts.items())
        return f"<p>{html.escape(repr(self))}</p><ul>{counts}</ul>{self.patients._repr_html_()}"

    @property
    def patient_count(self) -> int:
        """How many patients there are."""
        return self.patients.patient_count

    @property
    def schema(self) -> TableSchema:
        """Of the patients."""
        return self.patients.schema

    @property
    def counts(self) -> Mapping[str, int]:
        """How records and images fit together: how many there are of each kind that a reader should know of."""
        images = np.bincount(self.rows, minlength=len(self.patients))
        given = self.patients.table[list(self.link.condition_on)].isna().any(axis=1).to_numpy()
        return {
            WITHOUT_IMAGES: int((images == 0).sum()),
            SEVERAL: int((images > 1).sum()),
            UNKNOWN: int(given[self.rows].sum()),
            NEVER: int(self._never_imaged().sum()),
            **{why: self.left_out.get(why, 0) for why in (OF_NOBODY, CONTRADICTING)},
        }

    def _never_imaged(self) -> np.ndarray:
        """Which patients have a level of a column that images go by, and no image shows it. Shape: -> (patients,)."""
        found = np.zeros(len(self.patients), dtype=bool)
        for name in self.link.condition_on:
            if self.schema[name].kind not in NUMERIC:
                values = self.patients.table[name]
                found |= (values.notna() & ~values.isin(values.iloc[self.rows].unique())).to_numpy()
        return found

    def take(self, patients: np.ndarray) -> Cohort:
        """These patients, in this order, and their images. Shape: patients (n,) int or (patients,) boolean."""
        chosen = np.arange(len(self.patients))[patients]
        place = np.full(len(self.patients), -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        rows = place[self.rows]
        kept = np.flatnonzero(rows >= 0)
        kept = kept[np.argsort(rows[kept], kind="stable")]
        return replace(self, patients=self.patients.take(chosen), images=self.images.take(kept), rows=rows[kept])

    def split_by_patient(self, *, holdout: float = 0.3, seed: int | Seed) -> tuple[Cohort, Cohort]:
        """Split into train and sealed holdout: a patient's record and all images are on one side.

        Counts of images that could not be linked stay with train.

        Raises:
            DataError: fewer than two patients, or a share that leaves one side empty.
        """
        sealed = self.patients.holdout_rows(holdout=holdout, seed=seed)
        return self.take(~sealed), replace(self.take(sealed), left_out={})

    def fingerprint(self) -> str:
        """A SHA-256 over records, pixels and which belongs to which; it reads every image."""
        digest = hashlib.sha256(self.patients.fingerprint().encode() + self.rows.astype("<i8").tobytes())
        for number in self.images.numbers:
            digest.update(self.images.pixels.digest(int(number)))
        return digest.hexdigest()

    def joined(self) -> ImageData:
        """The images, each beside what its record says in the columns of the link, under the names that images use.

        The patient of an image is called as the images call it.
        """
        own, schema = self.images.records, self.patients.schema
        said = {*HEADERS, *(self.link.name(column) for column in self.link.columns)}
        columns = [column for column in own.schema.columns if column.name not in said]
        table: dict[str, Any] = {column.name: own.table[column.name].to_numpy() for column in columns}
        beside = []
        for column in self.link.columns:
            name, values = self.link.name(column), self.patients.table[column]
            roles = ("target",) if column == self.link.finding else ()
            beside.append(_described(name, schema[column], roles))
            table[name] = _said(name, values).to_numpy()[self.rows]
        import pandas as pd

        frame = pd.DataFrame(table, index=range(len(self.rows)))
        records = described(frame, TableSchema((*columns, *beside)))
        return replace(self.images, records=records)


def linked(patients: TableData, images: ImageData, link: Link) -> Cohort:
    """A cohort of a table and images whose column `patient` holds the table's identifiers.

    Patients without images stay: the table is learned from all. An image of nobody in the table is left out, and so is
    one whose own sex, finding or other label is not what the record says: one of the two is wrong, and nobody can tell
    which. Ages are not compared, since images are taken at any time. Labels of images that the table does not have are
    not used: put into the table what is to be learned.

    Raises:
        DataError: a table without a patient column or with several rows for a patient, or not one image that fits.
    """
    keys = keys_of(patients)
    if "patient" not in images.records.schema:
        raise DataError("the images do not say whose they are: they need a column 'patient', or a PatientID")
    place = {key: row for row, key in enumerate(keys) if key}
    rows = [place.get(identifier_text(value), -1) for value in images.records.table["patient"]]
    return at_rows(patients, images, np.array(rows, dtype=np.int64), link)


def keys_of(patients: TableData) -> list[str]:
    """The identifiers of a table of patients, as headers write them.

    Raises:
        DataError: no column has the role patient, or a patient has several rows.
    """
    if patients.schema.patient is None:
        raise DataError("the table of a cohort needs a column with the role patient, by which images find their record")
    if patients.patient_count < len(patients):
        raise DataError(
            f"the table of a cohort has one row for each patient, and this one has {len(patients):,} rows of "
            f"{patients.patient_count:,}: make one of them, or audit visits as a table of their own"
        )
    return [identifier_text(value) for value in patients.table[patients.schema.patient]]


def at_rows(patients: TableData, images: ImageData, rows: np.ndarray, link: Link) -> Cohort:
    """A cohort of images whose row in the table is known, -1 where there is none. Shape: rows (images,) int.

    Raises:
        DataError: not one image fits.
    """
    nobody = rows < 0
    wrong = np.zeros(len(images), dtype=bool)
    for column in patients.schema.learned:
        name = link.name(column.name)
        if name in images.records.schema and name != "age_years" and name not in HEADERS[2:]:
            said = _text(_said(name, patients.table[column.name]))[np.maximum(rows, 0)]
            own = _text(_said(name, images.records.table[name]))
            wrong |= ~nobody & (own != "") & (said != "") & (own != said)
    kept = np.flatnonzero(~nobody & ~wrong)
    if not len(kept):
        raise DataError(
            f"no image belongs to a patient of the table: {int(nobody.sum()):,} images are of nobody in it, "
            f"{int(wrong.sum()):,} contradict their record"
        )
    kept = kept[np.argsort(rows[kept], kind="stable")]
    known = {column.name for column in DESCRIPTION}
    records = images.records
    columns = tuple(replace(c, roles=()) if c.name != "patient" else c for c in records.schema.columns)
    schema = replace(records.schema, columns=tuple(c for c in columns if c.name in known), rules=())
    images = replace(images, records=TableData(records.table[list(schema.names)], schema, records.backend))
    left_out = {OF_NOBODY: int(nobody.sum()), CONTRADICTING: int(wrong.sum())}
    return Cohort(patients, images.take(kept), rows[kept], link, left_out)


def _described(name: str, column: Column, roles: tuple[Any, ...]) -> Column:
    """A column of the table as images have it."""
    known = {own.name: own for own in DESCRIPTION}
    own = known.get(name, column)
    return replace(own, name=name, roles=roles, dtype=None)


def _said(name: str, values: pd.Series) -> pd.Series:
    """What a header can say: the standard's words for a sex, whole years."""
    if name == "sex":
        return values.map(lambda value: None if value is None else SEXES.get(str(value).strip().upper()))
    return np.floor(values) if name == "age_years" else values


def _text(values: pd.Series) -> np.ndarray:
    """For comparing: a number as one, nothing where missing. Shape: -> (rows,) str."""
    return np.array([identifier_text(value) for value in values], dtype=object)

"""What does the image of a record go by? Its levels and bands, as far as enough imaged patients of train have them.

Any generator of images can learn these: they are plain levels. A record whose level was never imaged gets no image,
as in train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthgen.cohort import Cohort, Link
from synthgen.errors import DataError
from synthgen.generators.image_records import ImageColumn
from synthgen.images import ImageData, described
from synthgen.schema import ORDERED, Column, TableSchema

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 10  # imaged patients that a level needs; the codecs of images ask for fewer
OTHER = "(other)"  # what is missing, and what is rare, where that is enough


@dataclass(frozen=True)
class CohortLevels:
    """The columns of a table that images go by, learned from train.

    >>> from synthgen.phantom import phantom_cohort
    >>> cohort = phantom_cohort(200, seed=1, size=32)
    >>> levels = CohortLevels.fit(cohort)
    >>> levels.coded(cohort.patients.table).iloc[0].tolist()
    ['normal', 'M', 'band 3']
    """

    link: Link
    columns: tuple[ImageColumn, ...]
    codes: tuple[tuple[int, ...], ...]  # of each column: those that enough imaged patients have

    @classmethod
    def fit(cls, train: Cohort) -> CohortLevels:
        """From the records of the imaged patients of train."""
        imaged = np.unique(train.rows)
        table = train.patients.table.iloc[imaged]
        columns, codes = [], []
        for name in train.link.condition_on:
            kind = train.schema[name].kind
            column = ImageColumn.fit(name, table[name], imaged, number=kind in ORDERED and kind != "boolean")
            found = np.bincount(column.codes(table[name]), minlength=column.size)
            found[0] += found[1:][found[1:] < FEWEST].sum()
            columns.append(column)
            codes.append(tuple(code for code in range(column.size) if found[code] >= FEWEST))
        return cls(train.link, tuple(columns), tuple(codes))

    def coded(self, table: pd.DataFrame) -> pd.DataFrame:
        """What the image of each record goes by, under the names of images; None where no such image was seen."""
        import pandas as pd

        found = {}
        for column, codes in zip(self.columns, self.codes, strict=True):
            own = column.codes(table[column.name])
            own = np.where(np.isin(own, codes), own, 0)
            words = [OTHER, *(column.levels or (f"band {i + 1}" for i in range(len(column.edges) + 1)))]
            words = [word if code in codes else None for code, word in enumerate(words)]  # type: ignore[misc]
            found[self.link.name(column.name)] = pd.Series([words[code] for code in own], dtype=object)
        return pd.DataFrame(found, index=range(len(table)))

    def drawable(self, coded: pd.DataFrame) -> np.ndarray:
        """Which records can have an image. Shape: -> (rows,) boolean."""
        return ~coded.isna().any(axis=1).to_numpy(dtype=bool)

    def material(self, train: Cohort) -> ImageData:
        """The images of train beside what each goes by, for a generator of images.

        Raises:
            DataError: no image has levels that enough patients have.
        """
        import pandas as pd

        joined, coded = train.joined(), self.coded(train.patients.table).iloc[train.rows].reset_index(drop=True)
        rows = np.flatnonzero(self.drawable(coded))
        if not len(rows):
            raise DataError(f"no image has levels of condition_on that at least {FEWEST} imaged patients have")
        said = {*coded.columns, *(self.link.name(name) for name in self.link.columns)}
        own = [column for column in joined.records.schema.columns if column.name not in said]
        finding = self.link.finding
        roles = {self.link.name(finding): ("target",)} if finding else {}
        beside = [Column(str(name), "categorical", roles=roles.get(str(name), ())) for name in coded]  # type: ignore[arg-type]
        frame = pd.concat([joined.records.table[[column.name for column in own]], coded], axis=1)
        records = described(frame, TableSchema((*own, *beside)))
        return replace(joined, records=records).take(rows)

    def of_records(self, records: Cohort, images: ImageData, rows: np.ndarray) -> Cohort:
        """A synthetic cohort of records and of the images that were drawn for some of them.

        Shape: rows (images,), of each image's record.
        """
        said = {*(self.link.name(name) for name in self.link.columns)}
        own = images.records
        schema = replace(own.schema, columns=tuple(column for column in own.schema.columns if column.name not in said))
        kept = replace(own, table=own.table[list(schema.names)], schema=schema)
        return replace(
            records, images=replace(images, records=kept), rows=np.asarray(rows, dtype=np.int64), left_out={}
        )

"""What may the checks of an audit look at? Three tables, or three sets of images, in the columns of train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthgen.errors import DataError
from synthgen.findings import Modality
from synthgen.protocols import Cohorts, Evidence, Images
from synthgen.schema import DEFAULT_MISSING, TableSchema

if TYPE_CHECKING:
    from synthgen.cohort import Cohort
    from synthgen.data import TableData
    from synthgen.images import ImageData

MINIMUM_PATIENTS = 20  # below this no check can answer anything


def require_patients(data: TableData | ImageData | Cohort, name: str) -> None:
    """Stop early, before hours of training, where no check could answer anything.

    Raises:
        DataError: fewer than 20 patients.
    """
    if data.patient_count < MINIMUM_PATIENTS:
        raise DataError(
            f"too few patients: {name} has {data.patient_count}, and an audit needs at least {MINIMUM_PATIENTS}"
        )


def gathered(train: Any, holdout: Any, synthetic: Any) -> Evidence:
    """The evidence of an audit of tables, or of images, in the columns of train.

    Raises:
        DataError: sets that do not match, empty ones, or fewer than 20 patients on a side.
    """
    from synthgen.data import TableData
    from synthgen.images import ImageData
    from synthgen.io import read

    pictured = [isinstance(one, ImageData) for one in (train, holdout, synthetic)]
    if any(pictured):
        if not all(pictured):
            raise DataError("an audit is about three tables or about three sets of images, not about some of each")
        return _of_images(train, holdout, synthetic)
    train = train if isinstance(train, TableData) else read(train)
    holdout = _aligned(holdout, train, "holdout")
    synthetic = _aligned(synthetic, train, "synthetic")
    require_patients(train, "train")
    require_patients(holdout, "holdout")
    if len(synthetic) == 0:
        raise DataError("the synthetic table has no rows")
    if not train.schema.learned:
        raise DataError("no column can be audited: all are identifiers or free text")
    return Evidence(train=train, holdout=holdout, synthetic=synthetic, schema=train.schema)


def gathered_by(train: Any, holdout: Any, synthetic: Any) -> Mapping[Modality, Evidence]:
    """The evidence of an audit by what it is about: of a cohort its records, its images, and both together.

    Raises:
        DataError: as `gathered`; or cohorts of which one has no images.
    """
    from synthgen.cohort import Cohort

    sets = (train, holdout, synthetic)
    if not any(isinstance(one, Cohort) for one in sets):
        evidence = gathered(*sets)
        return {"image" if evidence.images else "table": evidence}
    if not all(isinstance(one, Cohort) for one in sets):
        raise DataError("an audit of a cohort is about three cohorts, not about some of each kind")
    records = gathered(train.patients, holdout.patients, synthetic.patients)
    tables = (records.train, records.holdout, records.synthetic)
    found = Cohorts(*(replace(c, patients=t, link=train.link) for c, t in zip(sets, tables, strict=True)))
    images = gathered(found.train.joined(), found.holdout.joined(), found.synthetic.joined())
    return {"table": records, "image": images, "cohort": replace(images, cohorts=found)}


def _of_images(train: ImageData, holdout: ImageData, synthetic: ImageData) -> Evidence:
    """Records of all three have the kinds of train's columns: a label that a file holds as 0 is the level "0"."""
    require_patients(train, "train")
    require_patients(holdout, "holdout")
    if len(synthetic) == 0:
        raise DataError("there are no synthetic images")
    known = train.records.schema
    holdout, synthetic = (in_columns_of(known, images) for images in (holdout, synthetic))
    sets = Images(train, holdout, synthetic)
    return Evidence(train.records, holdout.records, synthetic.records, known, images=sets)


def in_columns_of(known: TableSchema, images: ImageData) -> ImageData:
    """Images whose records have the columns of a schema that they share with it, in its kinds, and no others."""
    from synthgen.data import TableData
    from synthgen.infer import canonical_table

    columns = tuple(column for column in known.columns if column.name in images.records.schema)
    schema = TableSchema(columns, missing=known.missing)
    table = canonical_table(images.records.table[list(schema.names)], schema, name="the records of the images")
    return replace(images, records=TableData(table, schema, images.records.backend))


def _aligned(data: Any, train: TableData, name: str) -> TableData:
    """Read a table by the training table's schema, whatever the order of its columns."""
    from synthgen.data import TableData
    from synthgen.io import read

    if not isinstance(data, TableData):
        return read(data, schema=train.schema, partial=name == "synthetic", name=name)
    ours, theirs = [c.name for c in train.schema.learned], [c.name for c in data.schema.learned]
    missing, extra = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if missing or extra:
        raise DataError(f"{name} differs from train in its columns: lacks {missing}, has besides {extra}")
    schema = train.schema.keeping(data.schema.names)
    return TableData(data.table[list(schema.names)], schema, data.backend)


def described_columns(schema: TableSchema) -> tuple[Mapping[str, Any], ...]:
    """What a reader of the synthetic file must know, without declared levels and bounds."""
    columns = []
    for column in schema.columns:
        codes = [*column.missing, *(code for code in schema.missing if code not in DEFAULT_MISSING)]
        facts = {"dtype": column.dtype, "decimals": column.decimals, "missing": codes}
        facts |= {"unit": column.unit, "description": column.description}
        known = {key: value for key, value in facts.items() if value not in (None, [])}
        columns.append({"name": column.name, "kind": column.kind, "roles": list(column.roles), **known})
    return tuple(columns)


def counted(data: TableData | ImageData | Cohort) -> dict[str, int]:
    """How many rows or images there are, and of how many patients; of a cohort, how many of each."""
    from synthgen.cohort import Cohort

    images = {"images": len(data.images)} if isinstance(data, Cohort) else {}
    return {"rows": len(data), "patients": data.patient_count, **images}

"""How do catalogues and loaders of machine learning find and read a release? By Croissant metadata, with RAI fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.folders import sha256_of
from synthgen.marks import DIGITAL_SOURCE, STATEMENT
from synthgen.report import content
from synthgen.report.columns import Written
from synthgen.report.datasheet import BIAS, FIT, MISSING, UNFIT
from synthgen.report.public import public, shown

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.findings import Finding
    from synthgen.schema import TableSchema

CROISSANT = "croissant.json"

_OWN = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty"),
    *("fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)
_CONTEXT: Mapping[str, Any] = {  # the specification's own, without which readers complain
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _OWN},
}
_TYPES = {
    "integer": "sc:Integer",
    "number": "sc:Float",
    "boolean": "sc:Boolean",
    "date": "sc:Date",
    "datetime": "sc:DateTime",
    "text": "sc:Text",
}
_FORMATS = {
    ".csv": "text/csv",
    ".parquet": "application/x-parquet",
    ".png": "image/png",
    ".dcm": "application/dicom",
    ".npy": "application/x-npy",
}


_IMAGES_OF_COHORTS: Mapping[str, Any] = {
    "@type": "cr:FileSet",
    "@id": "dicom",
    "name": "dicom",
    "description": "The synthetic images, whose PatientID names a row.",
    "encodingFormat": "application/dicom",
    "includes": "dicom/DICOM/*/*/*/*",
}
_TABLES = {  # name of the records, and the file that they come from
    "table": ("rows", "data.parquet"),
    "image": ("labels", "images/labels.csv"),
    "cohort": ("rows", "patients.parquet"),
}


def croissant(
    audit: Audit, schema: TableSchema, columns: Sequence[Written], folder: Path, *, licence: str | None = None
) -> dict[str, Any]:
    """Croissant 1.1 metadata of a release, with the fields of its RAI vocabulary, from what audit and schema know.

    What only the publisher knows (address, creator, date of publication, citation) is left out: a reader warns of it.

    Args:
        audit: of the released data.
        schema: of the table, or of the records of images.
        columns: of `data.csv`, or of `images/labels.csv`.
        folder: that holds the data files.
        licence: a name, or the address of its text.

    Source:
        https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html and croissant-rai-spec.html, 1.0.
    """
    audit = public(audit)
    records, unit = audit.counts["synthetic"]["rows"], content.unit(audit)
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": f"{records:,} synthetic {unit}",
        "description": f"{STATEMENT} {records:,} {unit}, released under the policy {shown(audit.policy['name'])} after "
        "attacks on them. DATASHEET.md, report.html and audit.json say what was found.",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        **({"license": licence} if licence else {}),
        "keywords": ["synthetic data", "health", f"synthgen policy {shown(audit.policy['name'])}"],
        "dateCreated": audit.created,
        "isLiveDataset": False,
        "digitalSourceType": DIGITAL_SOURCE,
        **_responsible(audit, schema),
        "distribution": _distribution(folder),
        "recordSet": [_record_set(audit, columns)],
    }


def _responsible(audit: Audit, schema: TableSchema) -> dict[str, Any]:
    real, unit = audit.counts["train"], content.unit(audit)
    usefulness = [f for f in audit.findings if f.family == "utility"]
    return {
        "rai:dataCollection": f"Not collected: drawn from a generator ({content.generator_name(audit)}) that was "
        f"trained on {real['rows']:,} {unit} of {real['patients']:,} real patients.",
        "rai:dataCollectionType": ["Others: synthetic, drawn from a trained generator"],
        "rai:dataCollectionRawData": "The real records are not part of the release.",
        "rai:dataCollectionMissingData": MISSING,
        **({"rai:dataPreprocessingProtocol": [content.FOLDED]} if content.folded_rows(audit) else {}),
        "rai:dataBiases": [BIAS, *_told(f for f in audit.findings if f.family == "subgroups")],
        "rai:dataLimitations": [
            *(f"Not fit for: {use.rstrip('.')}." for use in UNFIT),
            *(f"Not assessed: {shown(sentence)}" for sentence in audit.not_assessed),
        ],
        "rai:dataUseCases": [f"Fit for: {FIT}", *_told(usefulness)],
        "rai:personalSensitiveInformation": _sensitive(audit, schema),
    }


def _sensitive(audit: Audit, schema: TableSchema) -> list[str]:
    """What the columns are, and what the attacks found."""
    named = {
        "Identifiers, made up": [column.name for column in schema.identifiers],
        "Quasi-identifiers": schema.with_role("quasi_identifier"),
        "Sensitive": schema.with_role("sensitive"),
    }
    privacy = next((group.findings for group in content.groups(audit.findings) if group.name.startswith("Privacy")), ())
    return [
        "The records were generated from a model of real patients, so they may still carry information about them.",
        *(f"{what}: {', '.join(map(shown, names))}." for what, names in named.items() if names),
        *_told(privacy),
    ]


def _told(findings: Iterable[Finding]) -> list[str]:
    """Question, answer and estimate, with its interval and what that rests on, of each check that ran."""
    told = []
    for finding in findings:
        if finding.measurement:
            statistic = finding.measurement.statistic
            basis = "" if math.isnan(statistic.value) else f" ({content.basis(statistic)})"
            answer, estimate = content.answer_of(finding), content.estimate_of(finding)
            told.append(f"{shown(finding.question)} {answer} Estimate: {estimate}{basis}.")
    return told


def _distribution(folder: Path) -> list[dict[str, Any]]:
    """Each table as a file with its checksum, and the images, which CHECKSUMS.sha256 names one by one, as a set."""
    tables = sorted(path for path in folder.rglob("*") if path.suffix in (".csv", ".parquet"))
    objects = [_file(path, path.relative_to(folder).as_posix()) for path in tables]
    suffixes = sorted({path.suffix for path in folder.rglob("*")} & {".png", ".dcm", ".npy"})
    if (folder / "dicom").is_dir():  # objects of a cohort have names that a DICOMDIR can hold
        objects.append({**_IMAGES_OF_COHORTS})
    return objects + [
        {
            "@type": "cr:FileSet",
            "@id": f"images{suffix}",
            "name": f"images{suffix}",
            "description": "The synthetic images.",
            "encodingFormat": _FORMATS[suffix],
            "includes": f"images/*{suffix}",
        }
        for suffix in suffixes
    ]


def _file(path: Path, name: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.suffix],
        "sha256": sha256_of(path),
        **({"sameAs": name.replace("parquet", "csv")} if path.suffix == ".parquet" else {}),
    }


def _record_set(audit: Audit, columns: Sequence[Written]) -> dict[str, Any]:
    """A table's rows come from Parquet, which knows types: a reader of CSV takes the level None for a missing value."""
    name, file = _TABLES[audit.modality]
    same = file.replace("parquet", "csv")
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": "The labels of the images." if name == "labels" else f"The rows; {same} holds the same ones.",
        "field": [_field(column, name, file) for column in columns],
    }


def _field(column: Written, records: str, file: str) -> dict[str, Any]:
    words = [column.description or "", f"unit: {column.unit}" if column.unit else ""]
    described = shown("; ".join(word for word in words if word))
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column.identifier}",
        "name": shown(column.name),
        **({"description": described} if described else {}),
        "dataType": _TYPES[column.datatype],
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }

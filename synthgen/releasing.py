"""What leaves the house, and only when it may? A release folder: written whole or not at all, verified byte by byte."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.cohort import Cohort
from synthgen.data import TableData
from synthgen.errors import DataError, ReleaseRefused, UsageError
from synthgen.folders import appearing, sha256_of
from synthgen.marks import MARKS
from synthgen.model_release import MODEL, MODEL_FILES, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from synthgen.auditing import Audit
    from synthgen.images import ImageData
    from synthgen.schema import TableSchema

CHECKSUMS = "CHECKSUMS.sha256"
SIGNATURE = "CHECKSUMS.sha256.sig"  # where a key was given
IMAGES = "images"
PAPERS = ("DATASHEET.md", "audit.json", "croissant.json", "report.html", "report.md")
FILES = (*PAPERS, "data.csv", "data.csv-metadata.json", "data.parquet", "schema.yaml")  # of a table
TABLES = {"table": "data", "image": f"{IMAGES}/labels", "cohort": "patients"}  # what the table is called
COHORT_FILES = (
    *(*PAPERS, "patients.csv", "patients.csv-metadata.json", "patients.parquet", "schema.yaml"),
    *("manifest.json", "dicom/DICOMDIR"),
)
IMAGE_FILES = (*PAPERS, f"{IMAGES}/labels.csv", f"{IMAGES}/labels.csv-metadata.json")  # and the images themselves

_LINE = re.compile(r"([0-9a-f]{64})  ((?:[^/\\\n]+/)*[^/\\\n]+)")
_SCHEMA_HEAD = (
    "# SYNTHETIC DATA: the rows of data.csv and data.parquet were generated, not recorded. See DATASHEET.md.\n"
)


def release(
    audit: Audit,
    data: TableData | ImageData | Cohort,
    folder: str | Path,
    *,
    force: bool = False,
    licence: str | None = None,
    sign_key: str | Path | None = None,
    model: str | Path | None = None,
) -> Path:
    """Write the release folder of an audited synthetic table, of images, or of a cohort; it never exists half-written.

    Args:
        audit: its decision must be RELEASE.
        data: the synthetic table, images or cohort, the very ones that were audited. Of DICOM objects the files are
            copied; other images are written as pictures, and are no release of a cohort.
        folder: must not exist, unless `force` is set and it is an earlier release.
        force: replace an earlier release.
        licence: under which the data may be used, by name or address; None leaves it to the publisher.
        sign_key: PEM file of an Ed25519 private key, with which the checksums are signed (extra `sign`).
        model: folder of the model that made the data, to be released with them. Weights can leak more than samples, so
            only one that was trained with differential privacy goes (see `synthgen.model_release`).

    Raises:
        ReleaseRefused: the decision is not RELEASE, these are not the audited data, a DICOM object among them does
            not say that it is synthetic, or the model may not go.
        UsageError: the folder exists, or the key cannot be used.
        EnvironmentProblem: a full disk or an unwritable folder, of which nothing is left behind, or a missing extra.

    >>> from synthgen.auditing import Audit
    >>> from synthgen.findings import Decision
    >>> refused = Decision("REFUSE", ("copies.exact: 20 copies",))
    >>> unsafe = Audit(decision=refused, policy={"name": "public"}, fingerprints={}, counts={}, columns=(), findings=(),
    ...                seed=1, versions={}, created="2026-01-01", seconds=0.0)
    >>> release(unsafe, data=None, folder="never-written")
    Traceback (most recent call last):
    synthgen.errors.ReleaseRefused: the decision is REFUSE under policy 'public': copies.exact: 20 copies
    """
    folder = Path(folder)
    _require_released(audit)
    audited: TableData | ImageData | Cohort
    if isinstance(data, TableData):
        audited = _audited(audit, data)
    else:
        audited = _audited_cohort(audit, data) if isinstance(data, Cohort) else _audited_images(audit, data)
    if os.path.lexists(folder) and not (force and _replaceable(folder)):
        hint = "it is not a release, so it is not replaced" if force else "name another folder, or use force"
        raise UsageError(f"the folder {folder.name!r} exists; {hint}")
    sign = _signer(sign_key) if sign_key is not None else None
    with appearing(folder, "the release") as staging:
        if isinstance(audited, TableData):
            _fill_table(staging, audited)
            _write_papers(staging, audit, audited.schema, licence)
        elif isinstance(audited, Cohort):
            _fill_cohort(staging, audited)
            _write_papers(staging, audit, audited.schema, licence)
        else:
            _fill_images(staging / IMAGES, audited)
            _write_papers(staging, audit, audited.records.schema, licence)
        if model is not None:
            write_model(audit, model, staging)
        _seal(staging, sign)
    return folder


def verify(folder: str | Path, *, public_key: str | Path | None = None) -> None:
    """Check a release: every file is there and unchanged, nothing was added, and the decision was RELEASE.

    Checksums alone tell of accidents: who changes a file can write them again. Only a signature tells who released it.

    Args:
        folder: of the release.
        public_key: PEM file with the publisher's public key; then the release must bear its signature. None: a
            signature that is there is not checked.

    Raises:
        DataError: a file differs, is missing or is not listed, the signature is absent or another's, or this is not a
            release; the message names the file.
        UsageError: the public key cannot be used.
        EnvironmentProblem: the extra `sign` is missing.
        ReleaseRefused: the files are as written, but the decision in audit.json is not RELEASE.

    >>> verify("no-such-folder")
    Traceback (most recent call last):
    synthgen.errors.DataError: 'no-such-folder' is not a release: it has no CHECKSUMS.sha256
    """
    from synthgen.auditing import Audit

    folder = Path(folder)
    listed = _listed(folder)
    _check_signature(folder, public_key)
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    present = {path.relative_to(folder).as_posix() for path in found} - {CHECKSUMS, SIGNATURE}
    weights = MODEL_FILES if any(name.startswith(f"{MODEL}/") for name in listed) else ()
    for name in sorted({*_expected(listed), *weights, *listed} - present):
        raise DataError(f"the release lacks {name!r}")
    for name in sorted(present - listed.keys()):
        raise DataError(f"the release holds {name!r}, which {CHECKSUMS} does not list")
    for name, digest in listed.items():
        if sha256_of(folder / name) != digest:
            raise DataError(f"{name!r} is not the file that was released: its checksum differs")
    decision = Audit.load(folder / "audit.json").decision
    if decision.outcome != "RELEASE":
        raise ReleaseRefused(f"the decision in audit.json is {decision.outcome}, not RELEASE")


def _expected(names: Iterable[str]) -> tuple[str, ...]:
    """What a release of these files has beside its images."""
    folders = {name.split("/")[0] for name in names if "/" in name}
    return IMAGE_FILES if IMAGES in folders else COHORT_FILES if "dicom" in folders else FILES


def _require_released(audit: Audit) -> None:
    if audit.decision.outcome != "RELEASE":
        reasons = "; ".join(audit.decision.reasons)
        raise ReleaseRefused(
            f"the decision is {audit.decision.outcome} under policy {audit.policy['name']!r}: {reasons}"
        )
    unmet = [finding.check for finding in audit.findings if finding.required and finding.verdict != "PASS"]
    if unmet:
        raise ReleaseRefused(f"the record contradicts itself: it says RELEASE, but did not pass {', '.join(unmet)}")


def _audited_images(audit: Audit, images: ImageData) -> ImageData:
    """The images with the audited columns alone, once it is sure that they may go."""
    from synthgen.auditing import OBJECTS
    from synthgen.evidence import in_columns_of
    from synthgen.image_output import objects_fingerprint

    images = in_columns_of(audit.schema, images)
    same = images.fingerprint() == audit.fingerprints["synthetic"]
    if not same or objects_fingerprint(images) != audit.fingerprints.get(OBJECTS):
        raise ReleaseRefused("not the audited images: their fingerprint differs from the audit's; audit these images")
    return images


def _audited_cohort(audit: Audit, cohort: Cohort) -> Cohort:
    """The cohort with its columns in the audit's order, once it is sure that it may go."""
    from synthgen.auditing import OBJECTS
    from synthgen.image_output import objects_fingerprint

    cohort = replace(cohort, patients=_in_order(audit, cohort.patients))
    same = cohort.fingerprint() == audit.fingerprints["synthetic"]
    if not same or objects_fingerprint(cohort.images) != audit.fingerprints.get(OBJECTS):
        raise ReleaseRefused("not the audited cohort: its fingerprint differs from the audit's; audit this cohort")
    return cohort


def _audited(audit: Audit, data: TableData) -> TableData:
    """The data in the audit's order of columns, once it is sure that they may go."""
    data = _in_order(audit, data)
    if data.fingerprint() != audit.fingerprints["synthetic"]:
        raise ReleaseRefused("not the audited table: its fingerprint differs from the audit's; audit this table")
    return data


def _in_order(audit: Audit, data: TableData) -> TableData:
    """The data in the audit's order of columns."""
    order = {str(column["name"]): place for place, column in enumerate(audit.columns)}
    unknown = [name for name in data.schema.names if name not in order]
    if unknown:
        raise ReleaseRefused(
            f"not the audited table: {len(unknown)} columns were not audited: {', '.join(unknown[:10])}"
        )
    columns = tuple(sorted(data.schema.columns, key=lambda column: order[column.name]))
    return replace(
        data, table=data.table[[column.name for column in columns]], schema=replace(data.schema, columns=columns)
    )


def _replaceable(folder: Path) -> bool:
    """Whether a folder is an earlier release and nothing else: force must not delete a home directory."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = {path.name for path in folder.iterdir()}
    return not inside or {CHECKSUMS, "audit.json"} <= inside


def _fill_table(staging: Path, data: TableData) -> None:
    from synthgen.io import write
    from synthgen.schema import schema_yaml

    write(data, staging / "data.csv")
    write(data, staging / "data.parquet", metadata=MARKS)
    _write_text(staging / "schema.yaml", _SCHEMA_HEAD + schema_yaml(data.schema))


def _fill_cohort(staging: Path, cohort: Cohort) -> None:
    from synthgen.cohort_io import copy_cohort
    from synthgen.schema import schema_yaml

    copy_cohort(cohort, staging)
    head = _SCHEMA_HEAD.replace("data.", "patients.")
    _write_text(staging / "schema.yaml", head + schema_yaml(cohort.schema))


def _fill_images(folder: Path, images: ImageData) -> None:
    from synthgen.dicom.pixels import DicomPixels
    from synthgen.image_output import copy_objects, write_pictures

    if isinstance(images.pixels, DicomPixels):
        copy_objects(images, folder)
    else:
        write_pictures(images, folder)


def _write_papers(staging: Path, audit: Audit, schema: TableSchema, licence: str | None) -> None:
    from synthgen import report
    from synthgen.report.columns import written_columns
    from synthgen.report.croissant import CROISSANT, croissant
    from synthgen.report.csvw import SUFFIX, csvw
    from synthgen.report.datasheet import datasheet
    from synthgen.report.public import public

    public(audit).save(staging)
    report.write(audit, staging)
    _write_text(staging / "DATASHEET.md", datasheet(audit, schema, licence=licence))
    table = staging / f"{TABLES[audit.modality]}.csv"
    columns = written_columns(table, schema)
    _write_json(table.with_name(table.name + SUFFIX), csvw(table.name, columns, licence=licence))
    _write_json(staging / CROISSANT, croissant(audit, schema, columns, staging, licence=licence))


def _seal(staging: Path, sign: Callable[[bytes], bytes] | None) -> None:
    """Name every file with its checksum; where there is a key, sign that."""
    written = {path.relative_to(staging).as_posix(): sha256_of(path) for path in staging.rglob("*") if path.is_file()}
    assert set(_expected(written)) <= written.keys(), "a release holds the files that verify asks for"
    text = _checksum_text(written)
    _write_text(staging / CHECKSUMS, text)
    if sign:
        (staging / SIGNATURE).write_bytes(sign(text.encode()))


def _signer(key: str | Path) -> Callable[[bytes], bytes]:
    from synthgen.signing import signer

    return signer(key)


def _check_signature(folder: Path, public_key: str | Path | None) -> None:
    from synthgen.signing import LENGTH, check_signature

    path = folder / SIGNATURE
    if not path.is_file():
        if public_key is not None:
            raise DataError(f"{folder.name!r} is not signed: it has no {SIGNATURE}")
        return
    signature = path.read_bytes()
    if len(signature) != LENGTH:
        raise DataError(f"{SIGNATURE!r} is no signature: it has {len(signature):,} bytes, not {LENGTH}")
    if public_key is not None:
        check_signature(signature, (folder / CHECKSUMS).read_bytes(), public_key=public_key)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _checksum_text(digests: Mapping[str, str]) -> str:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _listed(folder: Path) -> dict[str, str]:
    """The checksums of a release; a file that is not exactly as `release` writes it was tampered with."""
    path = folder / CHECKSUMS
    if not path.is_file():
        raise DataError(f"{folder.name!r} is not a release: it has no {CHECKSUMS}")
    text = path.read_bytes().decode("utf-8", errors="replace")
    matches = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    listed = {match[2]: match[1] for match in matches if match}
    if None in matches or text != _checksum_text(listed):
        raise DataError(f"{CHECKSUMS!r} is not as a release writes it")
    return listed

"""What leaves the house, and only when it may? A release folder: written whole or not at all, verified byte by byte."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.errors import DataError, ReleaseRefused, UsageError
from synthgen.folders import appearing

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.data import TableData

CHECKSUMS = "CHECKSUMS.sha256"
FILES = ("DATASHEET.md", "audit.json", "data.csv", "data.parquet", "report.html", "report.md", "schema.yaml")

_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\n]+)")
_SCHEMA_HEAD = (
    "# SYNTHETIC DATA: the rows of data.csv and data.parquet were generated, not recorded. See DATASHEET.md.\n"
)


def release(
    audit: Audit, data: TableData, folder: str | Path, *, force: bool = False, licence: str | None = None
) -> Path:
    """Write the release folder of an audited synthetic table; it never exists half-written.

    Args:
        audit: its decision must be RELEASE.
        data: the synthetic table, the very one that was audited.
        folder: must not exist, unless `force` is set and it is an earlier release.
        force: replace an earlier release.
        licence: under which the data may be used; None leaves it to the publisher, who fills in the datasheet.

    Raises:
        ReleaseRefused: the decision is not RELEASE, or these are not the audited data.
        UsageError: the folder exists.
        EnvironmentProblem: a full disk or an unwritable folder; nothing is left behind.

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
    data = _audited(audit, data)
    if os.path.lexists(folder) and not (force and _replaceable(folder)):
        hint = "it is not a release, so it is not replaced" if force else "name another folder, or use force"
        raise UsageError(f"the folder {folder.name!r} exists; {hint}")
    with appearing(folder, "the release") as staging:
        _fill(staging, audit, data, licence)
    return folder


def verify(folder: str | Path) -> None:
    """Check a release: every file is there and unchanged, nothing was added, and the decision was RELEASE.

    Raises:
        DataError: a file differs, is missing or is not listed, or this is not a release; the message names the file.
        ReleaseRefused: the files are as written, but the decision in audit.json is not RELEASE.

    >>> verify("no-such-folder")
    Traceback (most recent call last):
    synthgen.errors.DataError: 'no-such-folder' is not a release: it has no CHECKSUMS.sha256
    """
    from synthgen.auditing import Audit

    folder = Path(folder)
    listed = _listed(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {CHECKSUMS}
    for name in sorted({*FILES, *listed} - present):
        raise DataError(f"the release lacks {name!r}")
    for name in sorted(present - listed.keys()):
        raise DataError(f"the release holds {name!r}, which {CHECKSUMS} does not list")
    for name, digest in listed.items():
        if _digest(folder / name) != digest:
            raise DataError(f"{name!r} is not the file that was released: its checksum differs")
    decision = Audit.load(folder / "audit.json").decision
    if decision.outcome != "RELEASE":
        raise ReleaseRefused(f"the decision in audit.json is {decision.outcome}, not RELEASE")


def _audited(audit: Audit, data: TableData) -> TableData:
    """The data in the audit's order of columns, once it is sure that they may go."""
    if audit.decision.outcome != "RELEASE":
        reasons = "; ".join(audit.decision.reasons)
        raise ReleaseRefused(
            f"the decision is {audit.decision.outcome} under policy {audit.policy['name']!r}: {reasons}"
        )
    unmet = [finding.check for finding in audit.findings if finding.required and finding.verdict != "PASS"]
    if unmet:
        raise ReleaseRefused(f"the record contradicts itself: it says RELEASE, but did not pass {', '.join(unmet)}")
    order = {str(column["name"]): place for place, column in enumerate(audit.columns)}
    unknown = [name for name in data.schema.names if name not in order]
    if unknown:
        raise ReleaseRefused(
            f"not the audited table: {len(unknown)} columns were not audited: {', '.join(unknown[:10])}"
        )
    columns = tuple(sorted(data.schema.columns, key=lambda column: order[column.name]))
    data = replace(
        data, table=data.table[[column.name for column in columns]], schema=replace(data.schema, columns=columns)
    )
    if data.fingerprint() != audit.fingerprints["synthetic"]:
        raise ReleaseRefused("not the audited table: its fingerprint differs from the audit's; audit this table")
    return data


def _replaceable(folder: Path) -> bool:
    """Whether a folder is an earlier release and nothing else: force must not delete a home directory."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    inside = {path.name for path in folder.iterdir()}
    return not inside or {CHECKSUMS, "audit.json"} <= inside


def _fill(staging: Path, audit: Audit, data: TableData, licence: str | None) -> None:
    from synthgen import report
    from synthgen.io import write
    from synthgen.report.datasheet import datasheet
    from synthgen.report.public import public
    from synthgen.schema import schema_yaml

    for name in ("data.csv", "data.parquet"):
        write(data, staging / name)
    public(audit).save(staging)
    report.write(audit, staging)
    _write_text(staging / "schema.yaml", _SCHEMA_HEAD + schema_yaml(data.schema))
    _write_text(staging / "DATASHEET.md", datasheet(audit, data.schema, licence=licence))
    written = {path.name: _digest(path) for path in staging.iterdir()}
    assert sorted(written) == sorted(FILES), "a release holds exactly the files that verify asks for"
    _write_text(staging / CHECKSUMS, _checksum_text(written))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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

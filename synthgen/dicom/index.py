"""What does a folder or archive of DICOM objects hold? Series to learn from, and what was put aside and why."""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from synthgen.dicom.files import Entry, files
from synthgen.dicom.header import ACCEPTABLE, Header, Reason, Refused, read_header
from synthgen.dicom.series import Series, grouped
from synthgen.errors import UsageError, suggest
from synthgen.protocols import Progress, Run


@dataclass(frozen=True, eq=False, repr=False)
class Index:
    """Headers of all images of a source, by the number of their file; pixels are not held.

    Files are numbered from 0 in the order of their names, which stay in `entries`, in memory.
    """

    entries: tuple[Entry, ...]
    headers: Mapping[int, Header]
    quarantine: Mapping[int, Reason]  # every other file

    def __repr__(self) -> str:
        images = sum(header.frames for header in self.headers.values())
        return f"Index({images:,} images in {len(self.series):,} series; {len(self.quarantine):,} files put aside)"

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """Grouped by patient, study, series, size and geometry."""
        return grouped(list(self.headers.items()))

    @property
    def reasons(self) -> dict[Reason, int]:
        """How many files were put aside for each reason, most frequent first."""
        return dict(collections.Counter(self.quarantine.values()).most_common())

    def without(self, refused: Mapping[int, Reason]) -> Index:
        """This index with more files put aside."""
        headers = {number: header for number, header in self.headers.items() if number not in refused}
        return replace(self, headers=headers, quarantine=dict(sorted({**self.quarantine, **refused}.items())))


def index(source: str | Path, *, accept: Collection[Reason] = (), run: Run | None = None) -> Index:
    """Read the headers of all DICOM objects in a folder, DICOMDIR, zip or tar.

    Args:
        source: it is only read.
        accept: those of `ACCEPTABLE` that do not count. Where no patient is named, the study stands for one.
        run: told of progress, and asked to stop.

    Raises:
        UsageError: there is no such source, or a reason that cannot be accepted.
        DataError: the source is neither folder nor DICOM file nor archive.
        EnvironmentProblem: it may not be read.

    >>> from pydicom.data import get_testdata_file
    >>> index(get_testdata_file("CT_small.dcm"))
    Index(1 images in 1 series; 0 files put aside)
    """
    run = run or Run()
    if strange := set(accept) - set(ACCEPTABLE):
        raise UsageError(f"{min(strange)!r} cannot be accepted: {suggest(min(strange), ACCEPTABLE)}")
    entries = files(Path(source))
    headers: dict[int, Header] = {}
    quarantine: dict[int, Reason] = {}
    instances: set[str] = set()
    for number, entry in enumerate(entries):
        try:
            header = _header(entry, accept)
            if header.instance in instances:
                raise Refused("duplicate instance")
        except Refused as refused:
            quarantine[number] = refused.reason
        else:
            instances.add(header.instance)
            headers[number] = header
        if number % 100 == 0:
            run.progress(Progress("reading headers", number, len(entries)))
    run.progress(Progress("reading headers", len(entries), len(entries)))
    return Index(entries, headers, quarantine)


def _header(entry: Entry, accept: Collection[Reason]) -> Header:
    with entry.open() as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            return read_header(file, size, accept=accept)
        except OSError as error:
            raise Refused("may not be read") from error

"""Which files does a source hold? A folder, a DICOMDIR, a zip or a tar archive: by content, in a fixed order."""

from __future__ import annotations

import functools
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from synthgen.dicom.header import Reason, Refused, directory_records
from synthgen.errors import DataError, EnvironmentProblem, UsageError

_MOST_RATIO = 200  # of a member's size to its compressed size; noise-free pixels reach 100
_LARGEST = 2**31  # bytes of a tar's member, which is read in whole
_SMALL = 2**26  # bytes, below which a member may be as repetitive as it likes


@dataclass(frozen=True)
class Entry:
    """A file that may be opened, where it is: in a folder, or a member of an archive."""

    root: Path  # folder or archive
    name: str  # below the root; stays in memory, for the people in the house
    refused: Reason | None = None  # known before it was opened
    span: tuple[int, int] | None = None  # where in a tar it begins, and how many bytes it has

    def open(self) -> BinaryIO:
        """The file at its start; seeking works.

        Raises:
            Refused: it is no regular file, or may not be read.
        """
        if self.refused:
            raise Refused(self.refused)
        try:
            if self.span:
                with self.root.open("rb") as tar:
                    tar.seek(self.span[0])
                    return io.BytesIO(tar.read(self.span[1]))
            if self.root.is_dir():
                path = self.root / self.name
                if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
                    raise Refused("not a regular file")
                return path.open("rb")
            archive = _zip(self.root, self.root.stat().st_mtime_ns)
            return cast(BinaryIO, archive.open(self.name))
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise Refused("may not be read") from error


def files(source: Path) -> tuple[Entry, ...]:
    """All files of a source, sorted by name; links to folders are not followed.

    Raises:
        UsageError: there is no such source.
        DataError: it is neither folder, DICOMDIR, zip nor tar, or a compressed tar.
        EnvironmentProblem: it may not be read.
    """
    if not source.exists():
        raise UsageError("there is no such folder or file to read images from")
    try:
        if source.is_dir():
            return tuple(_below(source))
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                members = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda i: i.filename)
                return tuple(Entry(source, info.filename, _bomb(info)) for info in members)
        if tarfile.is_tarfile(source):
            return tuple(_tar_members(source))
        with source.open("rb") as file:
            records = directory_records(file)
    except OSError as error:
        raise EnvironmentProblem(f"the folder or file to read images from may not be read: {error.strerror}") from error
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError("the archive is broken") from error
    if records is None:
        return (Entry(source.parent, source.name),)
    return tuple(_listed(source.parent, records))


def _below(root: Path) -> Iterator[Entry]:
    """Every file below a folder; a folder that may not be listed is an entry of its own."""
    closed: list[str] = []
    found: list[str] = []

    def note(error: OSError) -> None:
        closed.append(os.path.relpath(error.filename, root))

    for folder, _, names in os.walk(root, onerror=note, followlinks=False):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]  # noqa: PTH118 - any bytes
    for name in sorted({*found, *closed}):
        yield Entry(root, name, "may not be read" if name in closed else None)


def _listed(root: Path, records: list[tuple[str, ...]]) -> Iterator[Entry]:
    """The files of a DICOMDIR; none outside its folder."""
    for parts in sorted(set(records)):
        name = os.path.join(*parts)  # noqa: PTH118
        inside = not any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts)
        there = inside and (root / name).is_file()
        yield Entry(root, name, None if there else "listed in the DICOMDIR, but not there")


def _tar_members(source: Path) -> Iterator[Entry]:
    """Each with its place, so that opening one is no search through all."""
    try:
        with tarfile.open(source, "r:") as archive:
            members = sorted(archive.getmembers(), key=lambda member: member.name)
    except tarfile.ReadError as error:
        raise DataError("a compressed tar cannot be read file by file: decompress it, or pack it as zip") from error
    for member in members:
        if not member.isdir():
            refused: Reason | None = None if member.isreg() else "not a regular file"
            large: Reason | None = "image too large" if member.size > _LARGEST else None
            yield Entry(source, member.name, refused or large, (member.offset_data, member.size))


def _bomb(info: zipfile.ZipInfo) -> Reason | None:
    too_good = info.file_size > max(_SMALL, _MOST_RATIO * info.compress_size)
    return "compressed beyond reason" if too_good else None


@functools.lru_cache(maxsize=4)
def _zip(source: Path, _changed: int) -> zipfile.ZipFile:
    """Kept open: reading its directory anew for each member would take the square of their number."""
    return zipfile.ZipFile(source)

"""Where do fetched objects lie? In files with numbers, each there whole or not at all, whose names tell nothing."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from synthgen.errors import EnvironmentProblem, UsageError

_FILE = re.compile(r"(\d{6,})\.dcm")
_PART = re.compile(r"\.\d{6,}\.part")


class Shelf:
    """A folder that is filled object by object; what lies in it is known by the digests of UIDs.

    Raises:
        UsageError: the folder is not empty, and no pull is to be resumed; or other files lie in it.
        EnvironmentProblem: it may not be read or written.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.folder = folder
        self.fetched = self.already = self.contradictory = 0
        self._here: set[str] = set()
        self._last = 0
        try:
            names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
            self._take_stock(names, resume=resume)
        except OSError as error:
            raise _unusable(folder, error) from error

    def has(self, instance: str) -> bool:
        """Is the object with this UID here?"""
        return _digest(instance) in self._here

    def strange(self) -> None:
        """Count an answer that contradicts the query."""
        self.contradictory += 1

    def keep(self, instance: str, content: bytes) -> None:
        """Write an object.

        Raises:
            EnvironmentProblem: it cannot be written.
        """
        if self.has(instance):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f".{self._last + 1:06}.part"
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.folder / f"{self._last + 1:06}.dcm")
        except OSError as error:
            raise _unusable(self.folder, error) from error
        self._last += 1
        self._here.add(_digest(instance))
        self.fetched += 1

    def _take_stock(self, names: list[str], *, resume: bool) -> None:
        if names and not resume:
            raise UsageError(
                f"{self.folder.name!r} is not empty: choose another, or go on with a broken-off pull by --resume"
            )
        for name in names:
            if _PART.fullmatch(name):
                (self.folder / name).unlink()
            elif not (numbered := _FILE.fullmatch(name)):
                raise UsageError(f"{self.folder.name!r} holds files of others: choose another folder")
            else:
                self._last = max(self._last, int(numbered[1]))
                try:
                    found = dcmread(self.folder / name, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
                except InvalidDicomError:
                    raise UsageError(f"{self.folder.name!r} holds files of others: choose another folder") from None
                self._here.add(_digest(str(found.get("SOPInstanceUID"))))


def _digest(instance: str) -> str:
    return hashlib.sha256(instance.encode()).hexdigest()


def _unusable(folder: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(f"the folder {folder.name!r} cannot be used: {error.strerror or type(error).__name__}")

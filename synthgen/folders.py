"""How does a folder appear whole or not at all? It is filled beside its place, synced, and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from synthgen.errors import EnvironmentProblem


@contextlib.contextmanager
def appearing(folder: Path, what: str) -> Iterator[Path]:
    """A new folder beside `folder`, on the same disk, that takes its place at the end; a former one is replaced.

    Where anything fails nothing is left behind, parents that were made for it included, and a former folder stays.

    Args:
        folder: where it is to appear.
        what: it is, for messages.

    Raises:
        EnvironmentProblem: a full disk or an unwritable folder.
    """
    parents = [parent for parent in folder.absolute().parents if not parent.exists()]
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        staging.mkdir(parents=True)
        yield staging
        for path in sorted(staging.rglob("*")):
            _sync(path)
        _sync(staging)
        _put(staging, folder)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in parents:
                parent.rmdir()
        if isinstance(error, OSError):
            raise EnvironmentProblem(f"cannot write {what}: {error.strerror or type(error).__name__}") from error
        raise


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put(staging: Path, folder: Path) -> None:
    """Rename into place; a former folder is put back if that fails."""
    if not os.path.lexists(folder):
        staging.rename(folder)
    else:
        former = staging.with_suffix(".former")
        folder.rename(former)
        try:
            staging.rename(folder)
        except OSError:
            former.rename(folder)
            raise
        shutil.rmtree(former, ignore_errors=True)
    _sync(folder.absolute().parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # other systems cannot open a folder
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

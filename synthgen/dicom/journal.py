"""Which objects did an archive acknowledge? A file that survives kill -9, and tells nothing to who finds it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from synthgen.errors import EnvironmentProblem, UsageError

NAME = "push.jsonl"


def acknowledged(path: Path, archive: str) -> set[str]:
    """Digests of the objects that an archive has.

    Args:
        path: of a journal; it need not be there.
        archive: its digest.

    Raises:
        EnvironmentProblem: it may not be read.
        UsageError: it is something else.
    """
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise EnvironmentProblem(f"the journal may not be read: {error.strerror}") from error
    records = [record for line in lines if (record := _record(line))]
    if lines and not records and len(lines) > 1:
        raise UsageError(f"{path.name!r} is no journal of a push: name another with --journal")
    return {object_ for object_, to in records if to == archive}


@contextmanager
def noting(path: Path, archive: str) -> Iterator[Callable[[str], None]]:
    """A function that notes an object's digest, which is on the disk when it returns.

    Raises:
        EnvironmentProblem: the journal cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        _end_line(descriptor)
    except OSError as error:
        raise _unwritable(path, error) from error

    def note(digest: str) -> None:
        line = json.dumps({"object": digest, "archive": archive}) + "\n"
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        except OSError as error:
            raise _unwritable(path, error) from error

    try:
        yield note
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the journal {path.name!r} cannot be written ({error.strerror}): name another with --journal"
    )


def _end_line(descriptor: int) -> None:
    """After a line that was cut off, the next one must not become its end."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size:
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        if os.read(descriptor, 1) != b"\n":
            os.write(descriptor, b"\n")


def _record(line: bytes) -> tuple[str, str] | None:
    try:
        record = json.loads(line)
        return str(record["object"]), str(record["archive"])
    except (ValueError, KeyError, TypeError):  # cut off
        return None

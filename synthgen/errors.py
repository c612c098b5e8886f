"""What can go wrong, and which exit code the command line gives for it.

    SynthgenError            1   unexpected: a crash never reads as a verdict
    |-- UsageError           2   the call is wrong: unknown name, bad option
    |-- ReleaseRefused       3   the decision was not RELEASE, or the data are not the audited ones
    |-- DataError            5   the data cannot be used as they are
    |   |-- SchemaError      5   the schema is wrong, or does not fit the data
    |   |-- ConfigError      5   a study or policy file is wrong
    |   `-- NotAssessable    5   a check cannot run on this evidence (recorded as NOT_RUN, never as a pass)
    |-- EnvironmentProblem   6   a missing extra, a full disk, an unwritable folder
    `-- Interrupted        130   stopped by the user; a checkpoint was written

Messages say what is wrong, where, and what to do next. They name columns and counts, never a data value,
a patient identifier or a level.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class SynthgenError(Exception):
    """The root of everything synthgen raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(SynthgenError):
    """The call is wrong: an unknown name, a bad option, an output that already exists."""

    exit_code = 2


class ReleaseRefused(SynthgenError):
    """A release was asked for without a RELEASE decision, or for data other than the audited ones."""

    exit_code = 3


class DataError(SynthgenError):
    """The data cannot be used as they are."""

    exit_code = 5


class SchemaError(DataError):
    """A schema is wrong in itself, or does not fit the data."""


class ConfigError(DataError):
    """A study or policy file is wrong."""


class NotAssessable(DataError):
    """A check cannot answer its question on this evidence; the audit records NOT_RUN with this reason."""


class EnvironmentProblem(SynthgenError):
    """The environment lacks something: an extra, disk space, a writable folder."""

    exit_code = 6


class Interrupted(SynthgenError):
    """The user stopped the job; what was done so far is kept."""

    exit_code = 130


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a clause naming the nearest known name, or the known names.

    >>> suggest("difusion", ["diffusion", "copula"])
    "did you mean 'diffusion'?"
    >>> suggest("xyz", ["a", "b"])
    'known: a, b'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(names)

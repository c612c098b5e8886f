"""How often was this holdout looked at? A file that counts audits and outlives the process, and what each may spend.

Every audit of one holdout is another chance to be lucky: whoever tries generators until one passes has chosen by the
holdout. So the intervals on which a pass rests grow with an audit's number, and the chance that any of them misses
the truth stays bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from synthgen.errors import DataError, EnvironmentProblem


def spent(alpha: float, number: int) -> float:
    """The level of the k-th audit of a holdout when the first has alpha: alpha * 2 / (k (k + 1)).

    Over any number of audits the levels sum to 2 alpha, which bounds the chance that any of the intervals misses.

    >>> spent(0.05, 1), round(spent(0.05, 4), 6), round(sum(spent(0.05, k) for k in range(1, 1000)), 3)
    (0.05, 0.005, 0.1)

    Source: alpha spending, Lan and DeMets 1983, doi:10.1093/biomet/70.3.659; the series 1 / (k (k + 1)) sums to one.
    """
    if number < 1:
        raise ValueError("audits are counted from 1")
    return alpha * 2 / (number * (number + 1))


def audit_number(ledger: Path, fingerprints: Mapping[str, str]) -> int:
    """Enter an audit into a ledger and return its number among those of the same holdout.

    The same three sets audited again are the same audit and keep their number. The entry is on disk before this
    returns, so an audit that is killed is counted; entries of several processes do not mix. It holds fingerprints only.

    Args:
        ledger: the file; made when absent, its folder too.
        fingerprints: of train, holdout and synthetic.

    Raises:
        DataError: a line of the file is not an entry; the message names it.
        EnvironmentProblem: it cannot be read or written.
    """
    entry = {name: fingerprints[name] for name in ("holdout", "train", "synthetic")}
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a+", encoding="utf-8") as file, _locked(file):
            file.seek(0)
            known = [_entry(line, place, ledger) for place, line in enumerate(file.read().splitlines(), start=1)]
            known = [one for one in known if one["holdout"] == entry["holdout"]]
            if entry in known:
                return known.index(entry) + 1
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
            return len(known) + 1
    except OSError as error:
        raise EnvironmentProblem(f"cannot keep the ledger of audits {ledger.name!r}: {error.strerror}") from error


def _entry(line: str, place: int, ledger: Path) -> dict[str, str]:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        data = json.loads(line)
        return {name: str(data[name]) for name in ("holdout", "train", "synthetic")}
    raise DataError(
        f"line {place} of the ledger {ledger.name!r} is not an entry: restore the file; "
        "an audit that cannot be counted is not run"
    )


@contextlib.contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    """The file for this process alone, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # not POSIX
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)

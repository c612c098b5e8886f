"""Where is a DICOM archive, how may it be reached, and what keeps identifiers and secrets out of logs and messages?"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import unquote, urlsplit

from synthgen.errors import EnvironmentProblem, UsageError

USER, PASSWORD, TOKEN = "SYNTHGEN_PACS_USER", "SYNTHGEN_PACS_PASSWORD", "SYNTHGEN_PACS_TOKEN"
_LONGEST_WAIT = 60.0  # seconds
_TITLE_LENGTH = 16  # of an AE title
_TALKATIVE = {"pynetdicom", "pydicom", "dicomweb_client", "urllib3", "requests", "charset_normalizer"}
_FORMS = "write https://host/dicom-web, dimse://CALLED_TITLE@host:port or dimse+tls://CALLED_TITLE@host:port"

T = TypeVar("T")


class Transient(Exception):
    """What may pass at the next try, in words that hold no value of an object."""


class Rejected(Exception):
    """The archive refuses this one object or query, in words that hold no value of it."""


@dataclass(frozen=True)
class Archive:
    """A DICOMweb server or a DIMSE node."""

    kind: Literal["dicomweb", "dimse"]
    host: str
    port: int
    tls: bool
    title: str = ""  # called AE title, of a DIMSE node
    path: str = ""  # below the host, of a DICOMweb server

    @property
    def netloc(self) -> str:
        """Host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Of a DICOMweb server."""
        return f"{'https' if self.tls else 'http'}://{self.netloc}{self.path}"

    @property
    def name(self) -> str:
        """What messages call it: neither path nor title, which may be a hospital's secret."""
        scheme = {"dicomweb": ("http", "https"), "dimse": ("dimse", "dimse+tls")}[self.kind][self.tls]
        return f"{scheme}://{self.netloc}"

    @property
    def digest(self) -> str:
        """What stands for it in a journal."""
        return hashlib.sha256(f"{self.name}\0{self.title}\0{self.path}".encode()).hexdigest()


@dataclass(frozen=True)
class Access:
    """How to reach an archive.

    User and password, or a bearer token, are for DICOMweb. They come from the environment variables
    `SYNTHGEN_PACS_USER` and `SYNTHGEN_PACS_PASSWORD`, or `SYNTHGEN_PACS_TOKEN`, when a connection is made; a token may
    come from a file, too. They are kept nowhere.

    >>> Access(attempts=5).waits
    (1.0, 2.0, 4.0, 8.0)
    """

    calling: str = "SYNTHGEN"  # AE title of this side
    ca_file: Path | None = None  # whose certificates are trusted, in place of the system's
    certificate: Path | None = None  # of this side, PEM
    key: Path | None = None  # of the certificate, where it is a file of its own
    token_file: Path | None = None
    timeout_seconds: float = 30.0
    attempts: int = 5  # of a request, where the connection fails or the archive is busy
    first_wait_seconds: float = 1.0  # doubled at each further attempt, up to a minute
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    @property
    def waits(self) -> tuple[float, ...]:
        """Seconds before each further attempt."""
        return tuple(min(self.first_wait_seconds * 2.0**n, _LONGEST_WAIT) for n in range(self.attempts - 1))


def archive(text: str) -> Archive:
    """The archive that a URL names.

    Raises:
        UsageError: it is no such URL, or holds a password.

    >>> archive("dimse://ORTHANC@pacs.example:4242").title
    'ORTHANC'
    >>> archive("https://pacs.example/dicom-web/").url
    'https://pacs.example:443/dicom-web'
    >>> archive("pacs.example")
    Traceback (most recent call last):
    synthgen.errors.UsageError: this is no URL of an archive: write https://host/dicom-web, ...
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(f"this is no URL of an archive: {_FORMS}") from None
    title, path = unquote(parts.username or ""), parts.path.rstrip("/")
    if parts.password is not None or (title and parts.scheme in ("http", "https")):
        raise UsageError(f"the URL holds a user or password, which others can read: set {USER} and {PASSWORD} instead")
    if parts.query or parts.fragment or not host:
        raise UsageError(f"this is no URL of an archive: {_FORMS}")
    if parts.scheme in ("http", "https"):
        tls = parts.scheme == "https"
        return Archive("dicomweb", host, port or (443 if tls else 80), tls, path=path)
    if parts.scheme not in ("dimse", "dimse+tls") or not port or path:
        raise UsageError(f"this is no URL of an archive: {_FORMS}")
    return Archive("dimse", host, port, parts.scheme == "dimse+tls", title=_title(title, "called"))


def checked(at: Archive, access: Access) -> None:
    """Find what cannot work before anything is sent.

    Raises:
        UsageError: a file that is not there, certificates without TLS, an AE title that is none.
    """
    _title(access.calling, "calling")
    if access.attempts < 1 or access.timeout_seconds <= 0:
        raise UsageError("there must be at least one attempt, and a timeout above 0")
    named = {"CA file": access.ca_file, "certificate": access.certificate, "key": access.key}
    given = {name: path for name, path in named.items() if path}
    for name, path in {**given, "token file": access.token_file}.items():
        if path and not path.is_file():
            raise UsageError(f"there is no {name} {path.name!r}")
    if given and not at.tls:
        secure = "https" if at.kind == "dicomweb" else "dimse+tls"
        raise UsageError(f"a {min(given)} is for a connection with TLS: write {secure}:// in the URL")
    if access.key and not access.certificate:
        raise UsageError("a key goes with a certificate: give both")


def token(access: Access) -> str:
    """The bearer token, empty where there is none.

    Raises:
        EnvironmentProblem: its file may not be read, or it is no token.
    """
    try:
        text = access.token_file.read_text(encoding="ascii") if access.token_file else os.environ.get(TOKEN, "")
    except (OSError, UnicodeDecodeError):
        raise EnvironmentProblem("the token file may not be read, or is no text") from None
    text = text.strip()
    if not (text.isascii() and text.isprintable()) or " " in text:  # no library may quote it in a message of its own
        raise EnvironmentProblem("the token has characters that no token has: give the token alone")
    if access.token_file and not text:
        raise EnvironmentProblem("the token file is empty")
    return text


def retried(action: Callable[[], T], access: Access) -> T:
    """What the action returns, tried again while it says that the next try may pass.

    Raises:
        Transient: the last try failed, too.
    """
    for wait in access.waits:
        try:
            return action()
        except Transient:
            access.sleep(wait)
    return action()


@contextmanager
def silenced() -> Iterator[None]:
    """Keep log lines and warnings of the libraries below, which quote UIDs, names and queries, out of every log."""

    def mute(_record: logging.LogRecord) -> bool:  # a new one each time: the end of one job leaves others silent
        return False

    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _TALKATIVE]
    loggers = [logging.getLogger(name) for name in {*names, *_TALKATIVE}]
    for logger in loggers:
        logger.addFilter(mute)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(mute)


def missing_extra() -> EnvironmentProblem:
    """The error where the libraries are not installed."""
    return EnvironmentProblem("archives need an extra: pip install 'synthgen-health[pacs]'")


def _title(text: str, whose: str) -> str:
    if not (text.strip() and len(text) <= _TITLE_LENGTH and text.isascii() and text.isprintable()):
        raise UsageError(f"the {whose} AE title must have 1 to {_TITLE_LENGTH} plain characters: {_FORMS}")
    if "\\" in text:
        raise UsageError(f"the {whose} AE title may hold no backslash")
    return text

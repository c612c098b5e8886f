"""How does one speak with a DICOMweb server? STOW-RS, QIDO-RS and WADO-RS through dicomweb-client."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.datadict import tag_for_keyword

from synthgen.dicom.archives import PASSWORD, TOKEN, USER, Access, Archive, Rejected, Transient, missing_extra, token
from synthgen.dicom.query import IDENTIFIERS, KEYWORDS, Level, Object
from synthgen.errors import EnvironmentProblem

_log = logging.getLogger(__name__)
_PAGE = 200  # answers asked for at a time
_ONE_PIECE = 2**30  # bytes, above which a request is sent in chunks: not all proxies take them
_PERMANENT = {501, 505}  # of the 5xx
_LEVELS = {"study": "studies", "series": "series", "instance": "instances"}
_FAILED, _REASON = "00081198", "00081197"  # FailedSOPSequence and FailureReason
_STORED, _WARNING, _INSTANCE = "00081199", "00081196", "00081155"  # ReferencedSOPSequence, WarningReason, its UID
_NEEDLESS = {"%2A": "*", "%2C": ",", "%3F": "?", "%3A": ":"}  # escapes in a query, which Orthanc 1.10 does not undo
_OUT_OF_RESOURCES = 0xA7


@dataclass(frozen=True)
class Web:
    """An open connection, and the answers to its last request."""

    at: Archive
    client: Any
    answers: list[Any] = field(repr=False)


def libraries() -> None:
    """Load dicomweb-client.

    Raises:
        EnvironmentProblem: the extra is missing.
    """
    try:
        import dicomweb_client.web  # noqa: F401
        import requests  # noqa: F401
    except ImportError:
        raise missing_extra() from None


@contextmanager
def opened(at: Archive, access: Access) -> Iterator[Web]:
    """A connection to a DICOMweb server.

    Raises:
        EnvironmentProblem: the token is none.
    """
    import requests
    from dicomweb_client.web import DICOMwebClient

    answers: list[Any] = []
    with requests.Session() as session:
        session.max_redirects = 0  # a POST that is sent on becomes a GET, whose success would pass for storage
        session.auth = _authentication(at, access)
        if access.ca_file:
            session.verify = str(access.ca_file)
            session.proxies = dict(requests.utils.get_environ_proxies(at.url))
            session.trust_env = False  # REQUESTS_CA_BUNDLE would take the file's place
        if access.certificate:
            session.cert = (str(access.certificate), str(access.key or access.certificate))
        client = DICOMwebClient(
            at.url,
            session=session,
            headers={"Accept": "application/dicom+json"},
            callback=lambda answer, *_, **__: answers.append(answer),
            chunk_size=_ONE_PIECE,
            permissive_uid=True,
            timeout=access.timeout_seconds,
        )
        client.host = at.netloc  # it would leave the port out of the Host field
        client.set_http_retry_params(retry=False)  # attempts are made in one place only
        yield Web(at, client, answers)


def store(web: Web, data: Dataset) -> bool:
    """Send an object; was it changed by the server?

    Raises:
        Transient: no connection, or the server is busy.
        Rejected: it refuses the object, or does not confirm it.
        EnvironmentProblem: it refuses everything.
    """
    web.answers.clear()
    with suppress(Rejected), _explained(web.at):  # what the server answered says more
        web.client.store_instances([data])
    return _judge(web.answers, str(data.SOPInstanceUID))


def find(web: Web, level: Level, asked: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The answers to a query, page by page; a server that knows no pages sends all at once.

    Raises:
        Transient: no connection, or the server is busy.
        Rejected: it refuses the query.
        EnvironmentProblem: it refuses everything.
    """
    place = list(IDENTIFIERS.values())[: list(IDENTIFIERS).index(level)]
    key, inside = IDENTIFIERS[level], [asked[keyword] for keyword in place]
    filters = {keyword: value.replace("\\", ",") for keyword, value in asked.items() if keyword not in place}
    search = getattr(web.client, f"search_for_{_LEVELS[level]}")
    seen: set[str] = set()
    while True:
        with _explained(web.at):
            page = search(*inside, limit=_PAGE, offset=len(seen), search_filters=filters)
        answers = [_plain(answer) for answer in page]
        fresh = [answer for answer in answers if answer.get(key) and answer[key] not in seen]
        seen.update(answer[key] for answer in fresh)
        yield from fresh
        if not fresh:  # nothing more, or a server that sends the same page for ever
            return


def fetch(web: Web, objects: Sequence[Object], keep: Callable[[str, bytes], None]) -> None:
    """Fetch objects one by one, as they are stored, and give each with its UID to `keep`; one refused is left out.

    Raises:
        Transient: no connection, or the server is busy.
        EnvironmentProblem: it refuses everything.
    """
    for wanted in objects:
        with suppress(Rejected), _explained(web.at, missing="object"):
            web.answers.clear()
            data = web.client.retrieve_instance(wanted.study, wanted.series, wanted.instance)
            if str(data.get("SOPInstanceUID")) == wanted.instance:
                buffer = io.BytesIO()
                dcmwrite(buffer, data)
                keep(wanted.instance, buffer.getvalue())


@contextmanager
def _explained(at: Archive, *, missing: str = "") -> Iterator[None]:
    """Say what went wrong in words that hold neither URL nor answer, which may quote patients."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        raise _problem(at, error.response.status_code if error.response is not None else 0, missing=missing) from None
    except requests.exceptions.SSLError:
        raise EnvironmentProblem(
            f"no trusted TLS connection to {at.name}: give the CA file, and a certificate and key if it asks for them"
        ) from None
    except requests.TooManyRedirects:
        raise EnvironmentProblem(f"{at.name} sends requests on to another URL: give that one") from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise Transient("no connection") from None
    except requests.RequestException as error:
        if isinstance(error, ValueError):  # an answer that is not what it says it is; `_judge` looks at it
            raise Rejected("an answer that cannot be read") from None
        raise EnvironmentProblem(f"{type(error).__name__} in a request to {at.name}") from None
    except (EnvironmentProblem, MemoryError):
        raise
    except OSError as error:  # of a certificate's file
        raise EnvironmentProblem(f"{type(error).__name__} in a request to {at.name}: see its certificates") from None
    except Exception:  # the client raises whatever an answer leads it to
        raise Rejected("an answer that cannot be read") from None


def _problem(at: Archive, code: int, *, missing: str) -> Exception:
    if code in (401, 403):
        return EnvironmentProblem(
            f"{at.name} refuses the login (HTTP {code}): set {USER} and {PASSWORD}, or {TOKEN} or a token file"
        )
    if code == 404 and not missing:
        return EnvironmentProblem(f"there is no DICOMweb service at this path of {at.name} (HTTP 404)")
    if code in (408, 429) or (code >= 500 and code not in _PERMANENT):
        return Transient(f"HTTP {code}")
    return Rejected(f"HTTP {code}")


def _judge(answers: list[Any], instance: str) -> bool:
    """Was the object stored, and changed? Only an answer that names it counts: a login page has status 200, too."""
    if not answers:
        raise Rejected("cannot be encoded")
    body: Any = {}
    with suppress(ValueError):
        body = answers[-1].json()
    body = body[0] if isinstance(body, list) and body else body
    for item in _items(body, _STORED):
        if instance in item.get(_INSTANCE, {}).get("Value", []):
            return _WARNING in item
    for item in _items(body, _FAILED):
        for code in item.get(_REASON, {}).get("Value", []):
            if int(code) >> 8 == _OUT_OF_RESOURCES:
                raise Transient("out of resources")
            raise Rejected(f"status {int(code):04X}")
    if answers[-1].status_code not in (200, 202):
        raise Rejected(f"HTTP {answers[-1].status_code}")
    raise Rejected("not confirmed by the archive")


def _items(body: Any, tag: str) -> list[dict[str, Any]]:
    found = body.get(tag, {}).get("Value", []) if isinstance(body, dict) else []
    return [item for item in found if isinstance(item, dict)]


def _plain(answer: Mapping[str, Any]) -> dict[str, str]:
    """Keyword and first value of each attribute that a query or a request may need."""
    plain = {}
    for keyword in KEYWORDS:
        values = answer.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
        value = values[0].get("Alphabetic", "") if isinstance(values[0], dict) else values[0]
        plain[keyword] = str(value if value is not None else "").strip()
    return {keyword: value for keyword, value in plain.items() if value}


def _authentication(at: Archive, access: Access) -> Callable[[Any], Any]:
    """A function that signs requests: for a token in a field requests would prefer the password of a .netrc file."""
    from requests.auth import HTTPBasicAuth

    bearer = token(access)
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if (bearer or user) and not at.tls and at.host not in ("localhost", "127.0.0.1", "::1"):
        _log.warning("the login is sent to the archive in the clear: use https")

    def sign(request: Any) -> Any:
        path, mark, question = request.url.partition("?")
        for escape, plain in _NEEDLESS.items():
            question = question.replace(escape, plain)
        request.url = path + mark + question
        if bearer:
            request.headers["Authorization"] = f"Bearer {bearer}"
        return HTTPBasicAuth(user.encode(), password.encode())(request) if user and not bearer else request

    return sign

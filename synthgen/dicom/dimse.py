"""How does one speak with a DIMSE archive? C-STORE, C-FIND and C-GET through pynetdicom; no port is listened at."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword

from synthgen.dicom.archives import Access, Archive, Rejected, Transient, missing_extra
from synthgen.dicom.query import IDENTIFIERS, KEYWORDS, Level, Object
from synthgen.errors import EnvironmentProblem, UsageError

Kind = tuple[str, str]  # SOP class and transfer syntax

_MOST_CONTEXTS = 128  # of an association
_FIND, _GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"  # of the Study Root
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_STORED_AS = (  # transfer syntaxes in which an archive may hold images, each asked for by itself, so that none changes
    _EXPLICIT,
    _IMPLICIT,
    "1.2.840.10008.1.2.4.50",  # JPEG
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big endian
)
_MOST_CLASSES = (_MOST_CONTEXTS - 1) // len(_STORED_AS)
_USUAL_CLASSES = (  # where an archive does not say which it holds
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.1",  # CR
    "1.2.840.10008.5.1.4.1.1.1.1",  # DX
    "1.2.840.10008.5.1.4.1.1.1.2",  # MG
    "1.2.840.10008.5.1.4.1.1.6.1",  # US
    "1.2.840.10008.5.1.4.1.1.7",  # SC
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
)
_PENDING, _SUCCESS, _SOME_FAILED = (0xFF00, 0xFF01), 0x0000, 0xB000
_OUT_OF_RESOURCES, _WARNINGS, _CANNOT_STORE = 0xA7, 0xB, 0xA700
_LATER = 2  # result of an association that is rejected for now


class Sender:
    """Sends objects over an association that is made when needed, for kinds of objects known beforehand."""

    def __init__(self, at: Archive, access: Access, kinds: Sequence[Kind]) -> None:
        self._at, self._access = at, access
        ordered = sorted(set(kinds))
        self._groups = [ordered[n : n + _MOST_CONTEXTS] for n in range(0, len(ordered), _MOST_CONTEXTS)]
        self._group: list[Kind] = []
        self._association: Any = None

    def store(self, data: Dataset) -> bool:
        """Send an object; was it changed by the archive?

        Raises:
            Transient: no connection, or the archive is busy.
            Rejected: it refuses the object.
            EnvironmentProblem: it refuses everything.
        """
        kind = (str(data.SOPClassUID), str(data.file_meta.TransferSyntaxUID))
        association = self._for(kind)
        accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        if kind not in accepted:
            raise Rejected("SOP class or transfer syntax not accepted")
        try:
            answer = association.send_c_store(data)
        except RuntimeError:  # the other side went away since the last object
            raise Transient("no connection") from None
        except (ValueError, AttributeError):
            raise Rejected("cannot be encoded") from None
        if "Status" not in answer:
            raise Transient("connection lost")
        return _stored(int(answer.Status))

    def close(self) -> None:
        """End the association, if there is one."""
        if self._association is not None:
            _end(self._association)
            self._association = None

    def _for(self, kind: Kind) -> Any:
        alive = self._association is not None and self._association.is_established
        if not alive or kind not in self._group:
            self.close()
            self._group = next(group for group in self._groups if kind in group)
            self._association = _associated(self._at, self._access, self._group)
        return self._association


def find(at: Archive, access: Access, level: Level, asked: Mapping[str, str]) -> list[dict[str, str]]:
    """All answers to a C-FIND.

    Raises:
        Transient: no connection, or the archive is busy.
        Rejected: it refuses the query.
        EnvironmentProblem: it refuses everything.
        UsageError: a value that its attribute cannot have.
    """
    wanted = {IDENTIFIERS[level]: "", **({"SOPClassUID": ""} if level == "instance" else {}), **asked}
    identifier = _identifier(level, wanted)
    found = []
    with _association(at, access, [(_FIND, _EXPLICIT), (_FIND, _IMPLICIT)]) as association:
        for status, answer in association.send_c_find(identifier, _FIND):
            if "Status" not in status:
                raise Transient("connection lost")
            code = int(status.Status)
            if code in _PENDING and answer is not None:
                found.append(_plain(answer))
            elif code not in (*_PENDING, _SUCCESS):
                raise _refusal(code)
    return found


def fetch(at: Archive, access: Access, wanted: Sequence[Object], keep: Callable[[str, bytes], None]) -> None:
    """Fetch objects of one series, as they are stored, and give each with its UID to `keep` as it comes.

    Raises:
        Transient: no connection, or the archive is busy.
        Rejected: it refuses the request.
        EnvironmentProblem: it refuses everything; or what `keep` raises.
    """
    from pynetdicom import build_role

    asked = {item.instance for item in wanted}
    failures: list[BaseException] = []

    def receive(event: Any) -> int:
        instance = str(event.request.AffectedSOPInstanceUID)
        if failures or instance not in asked:
            return _CANNOT_STORE
        try:
            keep(instance, event.encoded_dataset())
        except BaseException as error:  # pynetdicom would keep it to itself
            failures.append(error)
            return _CANNOT_STORE
        return _SUCCESS

    classes = sorted({item.sop_class for item in wanted if item.sop_class}) or list(_USUAL_CLASSES)
    for start in range(0, len(classes), _MOST_CLASSES):
        some = classes[start : start + _MOST_CLASSES]
        instances = [item.instance for item in wanted if item.sop_class in some or not item.sop_class]
        kinds = [(_GET, _EXPLICIT), *((sop_class, syntax) for sop_class in some for syntax in _STORED_AS)]
        roles = [build_role(sop_class, scp_role=True) for sop_class in some]
        with _association(at, access, kinds, roles=roles, receive=receive) as association:
            _get(association, wanted[0], instances, failures)


def _get(association: Any, first: Object, instances: list[str], failures: list[BaseException]) -> None:
    keys = {"StudyInstanceUID": first.study, "SeriesInstanceUID": first.series, "SOPInstanceUID": "\\".join(instances)}
    for status, _ in association.send_c_get(_identifier("instance", keys), _GET):
        if failures:
            raise failures[0]
        if "Status" not in status:
            raise Transient("connection lost")
        if int(status.Status) not in (*_PENDING, _SUCCESS, _SOME_FAILED):
            raise _refusal(int(status.Status))


@contextmanager
def _association(
    at: Archive, access: Access, kinds: Sequence[Kind], *, roles: Sequence[Any] = (), receive: Any = None
) -> Iterator[Any]:
    association = _associated(at, access, kinds, roles=roles, receive=receive)
    try:
        yield association
    except ValueError:
        raise Rejected("the service is not offered") from None
    except RuntimeError:
        raise Transient("no connection") from None
    except BaseException:  # in the middle of an answer, to whose end a release would wait
        if association.is_established:
            association.abort()
        raise
    finally:
        _end(association)


def _associated(
    at: Archive, access: Access, kinds: Sequence[Kind], *, roles: Sequence[Any] = (), receive: Any = None
) -> Any:
    """An association with a context for each kind.

    Raises:
        Transient: no connection, or rejected for now.
        EnvironmentProblem: rejected for good, or no trusted TLS connection.
    """
    from pynetdicom import AE, build_context, evt

    entity = AE(ae_title=access.calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = access.timeout_seconds
    entity.connection_timeout = access.timeout_seconds
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in kinds]
    secure = (_tls(at, access), at.host) if at.tls else None
    handlers: list[Any] = [(when, _without_delay) for when in (evt.EVT_CONN_OPEN, evt.EVT_PDU_SENT, evt.EVT_PDU_RECV)]
    if receive:
        handlers.append((evt.EVT_C_STORE, receive))
    more: dict[str, Any] = {"tls_args": secure, "ext_neg": list(roles), "evt_handlers": handlers}
    association = entity.associate(at.host, at.port, contexts, ae_title=at.title, **more)
    if association.is_established:
        return association
    _end(association)
    if association.rejected_contexts and not association.accepted_contexts:
        raise Rejected("none of the SOP classes and transfer syntaxes accepted")
    if association.is_rejected:
        answer: Any = association.acceptor.primitive
        if answer.result == _LATER:
            raise Transient("association rejected for now")
        raise EnvironmentProblem(f"{at.name} rejects the association: {answer.reason_str.lower()}; see --calling")
    if at.tls:
        _diagnose(at, access)
    raise Transient("no connection")


def _without_delay(event: Any) -> None:
    """Have small packets sent and acknowledged at once: an archive may wait for each, 40 ms a message."""
    with suppress(OSError, AttributeError):  # closed since, or another system than Linux
        link = event.assoc.dul.socket.socket
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # the system takes it back after a while


def _tls(at: Archive, access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(access.ca_file) if access.ca_file else None)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key, password="")  # a prompt would wait for ever
    except (OSError, ValueError):
        raise EnvironmentProblem(
            f"no TLS connection to {at.name}: CA file, certificate and key must be PEM files, the key unencrypted"
        ) from None
    return context


def _diagnose(at: Archive, access: Access) -> None:
    """Say whether it is TLS that fails: pynetdicom does not.

    Raises:
        EnvironmentProblem: it is.
    """
    try:
        with (
            socket.create_connection((at.host, at.port), access.timeout_seconds) as plain,
            _tls(at, access).wrap_socket(plain, server_hostname=at.host) as secure,
        ):
            secure.settimeout(1.0)
            secure.recv(1)  # TLS 1.3 refuses a certificate after the handshake only
    except ssl.SSLError:
        raise EnvironmentProblem(
            f"no trusted TLS connection to {at.name}: give the CA file, and a certificate and key if it asks for them"
        ) from None
    except OSError:
        return  # no connection at all


def _end(association: Any) -> None:
    if association.is_established:
        association.release()
    association.kill()
    link = association.dul.socket  # which a failed association leaves open
    if link is not None and link.socket is not None:
        link.socket.close()


def _stored(status: int) -> bool:
    if status == _SUCCESS:
        return False
    if status >> 12 == _WARNINGS:
        return True
    raise _refusal(status)


def _refusal(status: int) -> Exception:
    return Transient("out of resources") if status >> 8 == _OUT_OF_RESOURCES else Rejected(f"status {status:04X}")


def _identifier(level: Level, keys: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = {"study": "STUDY", "series": "SERIES", "instance": "IMAGE"}[level]
    if not all(value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        tag: Any = tag_for_keyword(keyword)
        try:
            identifier.add_new(tag, dictionary_VR(tag), value.split("\\") if "\\" in value else value)
        except (ValueError, TypeError, OverflowError):
            raise UsageError(f"the query asks for a {keyword} that this attribute cannot have") from None
    return identifier


def _plain(answer: Dataset) -> dict[str, str]:
    return {keyword: str(answer.get(keyword) or "").strip() for keyword in KEYWORDS if answer.get(keyword)}


def libraries() -> None:
    """Load pynetdicom.

    Raises:
        EnvironmentProblem: the extra is missing.
    """
    try:
        import pynetdicom  # noqa: F401
    except ImportError:
        raise missing_extra() from None

"""How do DICOM objects get into an archive, and out of it? Push and pull, which can be broken off and go on."""

from __future__ import annotations

import collections
import functools
import hashlib
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, FileDataset, dcmread
from pydicom.errors import InvalidDicomError

from synthgen.dicom import dicomweb, dimse, journal, query
from synthgen.dicom.archives import Access, Archive, Rejected, Transient, archive, checked, retried, silenced
from synthgen.dicom.files import Entry, files
from synthgen.dicom.header import Refused
from synthgen.dicom.shelf import Shelf
from synthgen.errors import DataError, EnvironmentProblem, Interrupted, ReleaseRefused
from synthgen.protocols import Progress, Run

_DIRECTORY = "1.2.840.10008.1.3.10"
_NEEDED = ["SOPClassUID", "SOPInstanceUID", "SyntheticData"]
_BATCH = 100  # objects asked for in one C-GET

Store = Callable[[Dataset], bool]
Fetch = Callable[[Sequence[query.Object]], None]


@dataclass(frozen=True)
class Pushed:
    """What a push did, in numbers of objects."""

    sent: int
    already: int  # acknowledged in an earlier push
    changed: int  # of those sent, how many the archive says it stored with changes
    left_out: Mapping[str, int] = field(default_factory=dict)  # files, by reason


@dataclass(frozen=True)
class Pulled:
    """What a pull did, in numbers of objects."""

    fetched: int
    already: int  # in the folder before
    contradictory: int  # answers of the archive that contradict the query; their objects are not fetched


@dataclass(frozen=True)
class _Parcel:
    entry: Entry
    kind: dimse.Kind
    synthetic: bool


def push(
    folder: str | Path,
    to: str,
    *,
    access: Access | None = None,
    journal_file: str | Path | None = None,
    allow_real: bool = False,
    run: Run | None = None,
) -> Pushed:
    """Send every DICOM object of a folder to an archive, each once.

    What the archive acknowledges is noted in a journal of digests, object by object: after a failure the same call
    sends the rest.

    Args:
        folder: or a DICOMDIR, zip or tar. Files are found by content; a DICOMDIR and other files are left out.
        to: `https://host/dicom-web`, `dimse://CALLED_TITLE@host:port`, or `dimse+tls://...`.
        access: how to reach it.
        journal_file: by default `push.jsonl` beside the folder.
        allow_real: send objects that do not state that they are synthetic.
        run: told of progress, and asked to stop.

    Raises:
        UsageError: there is no such folder, or the URL is none.
        ReleaseRefused: objects do not state that they are synthetic; nothing was sent.
        DataError: there is no DICOM object.
        EnvironmentProblem: some objects were not sent, or the extra is missing.
        Interrupted: by the user.
    """
    at, access, run, folder = archive(to), access or Access(), run or Run(), Path(folder)
    checked(at, access)
    _load(at)
    book = Path(journal_file) if journal_file else folder.resolve().parent / journal.NAME
    with silenced():
        parcels, left_out = _parcels(folder, run)
        if not parcels:
            raise DataError(f"there is no DICOM object to send; {_counted(left_out) or 'no file at all'}")
        _refuse_real(sum(not parcel.synthetic for parcel in parcels), len(parcels), allow_real=allow_real)
        done = journal.acknowledged(book, at.digest)
        with journal.noting(book, at.digest) as note, _store(at, access, [parcel.kind for parcel in parcels]) as store:
            sent = _Sending(at, access, run, done, note, allow_real)
            return sent.all(parcels, store, left_out)


def pull(
    source: str,
    query_: Mapping[str, str],
    folder: str | Path,
    *,
    access: Access | None = None,
    limit: int | None = None,
    resume: bool = False,
    run: Run | None = None,
) -> Pulled:
    """Fetch the objects of an archive that match a query, as the archive stores them, into files with numbers.

    Args:
        source: `https://host/dicom-web`, `dimse://CALLED_TITLE@host:port`, or `dimse+tls://...`.
        query_: keyword and value; as in DICOM, `*` and `?` are wildcards and `20200101-20201231` is a range.
        folder: a new one. These may be real patients: keep it in the house.
        access: how to reach the archive.
        limit: at most so many objects, those that are there already included.
        resume: go on in a folder that an earlier pull filled in part; objects in it are not fetched again.
        run: told of progress, and asked to stop.

    Raises:
        UsageError: the URL or the query is none, or the folder is not empty.
        DataError: nothing matches.
        EnvironmentProblem: some objects were not fetched, or the extra is missing.
        Interrupted: by the user.
    """
    at, access, run = archive(source), access or Access(), run or Run()
    checked(at, access)
    asked = query.validated(query_)
    _load(at)
    with silenced():
        shelf = Shelf(Path(folder), resume=resume)
        with _reader(at, access, shelf) as (find, fetch):
            return _pulled(at, access, run, shelf, query.objects(find, asked, strange=shelf.strange), fetch, limit)


def _load(at: Archive) -> None:
    """Before `silenced`, which finds the loggers of what is loaded."""
    dicomweb.libraries() if at.kind == "dicomweb" else dimse.libraries()


class _Sending:
    """Counts while objects are sent."""

    def __init__(
        self, at: Archive, access: Access, run: Run, done: set[str], note: Callable[[str], None], allow_real: bool
    ) -> None:
        self._at, self._access, self._run, self._allow_real = at, access, run, allow_real
        self._done, self._note = done, note
        self._sent = self._already = self._changed = 0
        self._failed: collections.Counter[str] = collections.Counter()

    def all(self, parcels: Collection[_Parcel], store: Store, left_out: Mapping[str, int]) -> Pushed:
        """Send them, and say what came of it."""
        for number, parcel in enumerate(parcels):
            self._run.progress(Progress("sending", number, len(parcels)))
            if self._run.stop():
                raise Interrupted(f"stopped by the user: {self._so_far(len(parcels))}")
            try:
                self._one(parcel, store)
            except Rejected as refusal:
                self._failed[str(refusal)] += 1
            except Transient as failure:  # the rest would fail, too, each after all its attempts
                self._failed[f"{failure}, after {self._access.attempts} attempts"] += 1
                self._failed["not tried"] += len(parcels) - number - 1
                break
            except EnvironmentProblem as problem:
                raise EnvironmentProblem(f"{problem}. {self._so_far(len(parcels))}") from None
        self._run.progress(Progress("sending", self._sent + self._already, len(parcels)))
        if +self._failed:
            reasons = _counted(+self._failed)
            raise EnvironmentProblem(
                f"not all objects reached {self._at.name}: {reasons}. {self._so_far(len(parcels))}"
            )
        return Pushed(self._sent, self._already, self._changed, left_out)

    def _one(self, parcel: _Parcel, store: Store) -> None:
        try:
            with parcel.entry.open() as file:
                content = file.read()
            data = dcmread(io.BytesIO(content))
        except (Refused, OSError, InvalidDicomError):
            raise Rejected("changed or gone since the push began") from None
        if parcel.kind != _kind(data):
            raise Rejected("changed or gone since the push began")
        digest = hashlib.sha256(content).hexdigest()
        if digest in self._done:
            self._already += 1
            return
        _refuse_real(not _synthetic(data), 1, allow_real=self._allow_real)  # of what is sent, not of what was seen
        self._changed += retried(functools.partial(store, data), self._access)
        self._note(digest)
        self._done.add(digest)
        self._sent += 1

    def _so_far(self, total: int) -> str:
        already = f", {self._already:,} were there already" if self._already else ""
        return f"Of {total:,} objects {self._sent:,} were sent{already}; push again to send the rest"


def _parcels(folder: Path, run: Run) -> tuple[list[_Parcel], dict[str, int]]:
    """The objects of a folder, and how many files are left out for each reason."""
    parcels: list[_Parcel] = []
    left_out: collections.Counter[str] = collections.Counter()
    entries = files(folder)
    for number, entry in enumerate(entries):
        if number % 100 == 0:
            run.progress(Progress("looking for objects", number, len(entries)))
        try:
            with entry.open() as file:
                data = dcmread(file, stop_before_pixels=True, specific_tags=_NEEDED)
                kind = _kind(data)
        except Refused as refused:
            left_out[refused.reason] += 1
        except InvalidDicomError:
            left_out["not a DICOM file"] += 1
        except Exception:  # pydicom raises whatever a broken file leads it to
            left_out["header cannot be read"] += 1
        else:
            if str(data.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
                left_out["a DICOMDIR"] += 1
            elif not (all(kind) and str(data.get("SOPInstanceUID") or "")):
                left_out["no SOP class, instance or transfer syntax"] += 1
            else:
                parcels.append(_Parcel(entry, kind, _synthetic(data)))
    run.progress(Progress("looking for objects", len(entries), len(entries)))
    return parcels, dict(left_out.most_common())


def _kind(data: FileDataset) -> dimse.Kind:
    return str(data.get("SOPClassUID") or ""), str(data.file_meta.get("TransferSyntaxUID") or "")


def _synthetic(data: Dataset) -> bool:
    return str(data.get("SyntheticData") or "").strip() == "YES"


def _refuse_real(real: int, total: int, *, allow_real: bool) -> None:
    if real and not allow_real:
        raise ReleaseRefused(
            f"{real:,} of {total:,} objects do not state that they are synthetic: SyntheticData (0008,001C) is not YES"
            ". Real patients must not leave by accident; --allow-real sends them"
        )


@contextmanager
def _store(at: Archive, access: Access, kinds: list[dimse.Kind]) -> Iterator[Store]:
    if at.kind == "dicomweb":
        with dicomweb.opened(at, access) as web:
            yield functools.partial(dicomweb.store, web)
    else:
        sender = dimse.Sender(at, access, kinds)
        try:
            yield sender.store
        finally:
            sender.close()


@contextmanager
def _reader(at: Archive, access: Access, shelf: Shelf) -> Iterator[tuple[query.Find, Fetch]]:
    """How to ask an archive and how to fetch from it, whatever it speaks."""
    if at.kind == "dimse":
        yield (
            lambda level, asked: retried(lambda: dimse.find(at, access, level, asked), access),
            lambda wanted: dimse.fetch(at, access, wanted, shelf.keep),
        )
    else:
        with dicomweb.opened(at, access) as web:
            yield (
                lambda level, asked: retried(lambda: list(dicomweb.find(web, level, asked)), access),
                lambda wanted: dicomweb.fetch(web, wanted, shelf.keep),
            )


def _pulled(
    at: Archive,
    access: Access,
    run: Run,
    shelf: Shelf,
    series: Iterator[list[query.Object]],
    fetch: Fetch,
    limit: int | None,
) -> Pulled:
    """Fetch what is missing of each series."""
    left: float = math.inf if limit is None else limit
    failed: collections.Counter[str] = collections.Counter()
    matching = 0
    try:
        for found in series:
            for start in range(0, len(found), _BATCH):
                batch = found[start : start + _BATCH][: int(min(left, _BATCH))]
                matching, left = matching + len(batch), left - len(batch)
                if run.stop():
                    raise Interrupted(f"stopped by the user: {shelf.fetched:,} objects fetched; go on with --resume")
                failed += _fetched(batch, shelf, fetch, access)
                run.progress(Progress("fetching", shelf.fetched + shelf.already, matching))
            if left < 1:
                break
    except Transient as failure:
        failed[f"{failure}, after {access.attempts} attempts; the rest was not tried"] += 1
    except Rejected as refusal:
        raise EnvironmentProblem(
            f"{at.name} refuses the query ({refusal}). {shelf.fetched:,} objects fetched"
        ) from None
    except EnvironmentProblem as problem:
        raise EnvironmentProblem(f"{problem}. {shelf.fetched:,} objects fetched") from None
    if failed:
        raise EnvironmentProblem(
            f"not all objects came from {at.name}: {_counted(failed)}. {shelf.fetched:,} were fetched; --resume goes on"
        )
    if not matching:
        more = f"; {shelf.contradictory:,} answers contradict the query" if shelf.contradictory else ""
        raise DataError(f"nothing in {at.name} matches the query{more}")
    return Pulled(shelf.fetched, shelf.already, shelf.contradictory)


def _fetched(batch: Sequence[query.Object], shelf: Shelf, fetch: Fetch, access: Access) -> collections.Counter[str]:
    """Why objects of a batch did not come."""
    shelf.already += sum(shelf.has(item.instance) for item in batch)

    def attempt() -> None:
        missing = [item for item in batch if not shelf.has(item.instance)]
        if missing:
            fetch(missing)

    try:
        retried(attempt, access)
        reason = "not sent by the archive"
    except Rejected as refusal:
        reason = str(refusal)
    missing = sum(not shelf.has(item.instance) for item in batch)
    return collections.Counter({reason: missing} if missing else {})


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())

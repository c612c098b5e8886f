"""What does the header of one file say about its image, and why may it not be used?

Only the attributes below are read, never pixels. What identifies a patient leaves this module as a digest only.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import pydicom.config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from synthgen.dicom import terms
from synthgen.dicom.attributes import (
    Vector,
    age_years,
    functional_groups,
    number,
    orientation,
    plane,
    several,
    spacing,
    term,
    vector,
    window,
)

Reason = Literal[
    "not a DICOM object",
    "not a regular file",
    "may not be read",
    "listed in the DICOMDIR, but not there",
    "header cannot be read",
    "a DICOMDIR",
    "no pixels",
    "localizer",
    "screen save",
    "secondary capture",
    "burned-in text",
    "no patient",
    "no instance",
    "duplicate instance",
    "image of no size",
    "image too large",
    "fewer pixels than announced",
    "no decoder for its compression",
    "pixels cannot be decoded",
    "contradictory geometry",
    "compressed beyond reason",
]
ACCEPTABLE: tuple[Reason, ...] = ("localizer", "screen save", "secondary capture", "burned-in text", "no patient")

_READ = (
    "SOPClassUID SOPInstanceUID PatientID PatientSex PatientAge StudyInstanceUID SeriesInstanceUID Modality ImageType "
    "BurnedInAnnotation Rows Columns BitsAllocated BitsStored SamplesPerPixel PhotometricInterpretation NumberOfFrames "
    "PixelSpacing ImagerPixelSpacing ImageOrientationPatient ImagePositionPatient SliceThickness BodyPartExamined "
    "Laterality ImageLaterality ViewPosition WindowCenter WindowWidth SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence DirectoryRecordSequence"
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _READ.split()]
_PIXEL_ELEMENTS = (0x0008, 0x0009, 0x0010)  # of group 7FE0: float, double, integer
_DIRECTORY, _SECONDARY_CAPTURE = "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.7"
_UNENCODED = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, ""}
_PREAMBLE, _MAGIC = 128, b"DICM"
_FIRST_TAGS = (b"\x08\x00", b"\x00\x08", b"\x02\x00")  # groups that a data set without preamble begins with
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"  # of encapsulated pixels
_UNDEFINED = 0xFFFFFFFF
_MOST_BYTES = 2**31  # of one object's pixels


class Refused(Exception):
    """A file that holds no image for training, and why. The reason names no value and no path."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """One image object. Strings are coded values, empty where not known."""

    instance: str  # digests of the identifiers, as the next three
    patient: str
    study: str
    series: str
    transfer_syntax: str
    modality: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    photometric: str
    spacing: Vector  # mm between rows, between columns; empty: not known
    orientation: Vector  # direction cosines of a row and of a column; empty: not known
    positions: tuple[Vector, ...]  # mm, of each frame's first pixel; empty: not known
    one_plane: bool  # all frames have this spacing and orientation
    thickness: float | None  # mm
    window: Vector  # centre and width; empty: not known
    body_part: str
    laterality: str
    view: str
    sex: str
    age_years: int | None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log lines, which quote values of the header, out of every log."""
    logger, settings = logging.getLogger("pydicom"), pydicom.config.settings
    before, mode = logger.level, settings.reading_validation_mode
    logger.setLevel(logging.CRITICAL + 1)  # which its children inherit
    settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
        settings.reading_validation_mode = mode


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file with these first bytes may be a DICOM object: by its content, never by its name.

    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"# Read me")
    (True, False)
    """
    return start[_PREAMBLE : _PREAMBLE + 4] == _MAGIC or (len(start) >= 8 and start[:2] in _FIRST_TAGS)


def digest(keyword: str, value: Any) -> str:
    """What stands for an identifier: equal for equal ones of one attribute, padding apart."""
    return hashlib.sha256(f"{keyword}\0{str(value or '').strip(' ' + chr(0))}".encode()).hexdigest()[:32]


def read_header(file: BinaryIO, size: int, *, accept: Collection[Reason] = ()) -> Header:
    """The header of an open file.

    Args:
        file: at its start.
        size: of the file, in bytes.
        accept: those of `ACCEPTABLE` that do not count. Where no patient is named, the study stands for one.

    Raises:
        Refused: with the reason.
    """
    start = file.read(_PREAMBLE + 4)
    if not looks_like_dicom(start):
        raise Refused("not a DICOM object")
    file.seek(0)
    with quiet():
        try:
            data, pixels = _read(file, size)
            return _header(data, pixels, accept)
        except Refused:
            raise
        except Exception as error:  # pydicom raises whatever a broken file leads it to
            raise Refused("header cannot be read") from error


def directory_records(file: BinaryIO) -> list[tuple[str, ...]] | None:
    """The path components of every file that a DICOMDIR lists; None: it is no DICOMDIR."""
    with quiet():
        try:
            data, _ = _read(file, 0)
            if str(data.get("MediaStorageSOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")) != _DIRECTORY:
                return None
            names = [record.get("ReferencedFileID") for record in data.get("DirectoryRecordSequence") or []]
            return [tuple(str(part) for part in several(name)) for name in names if name]
        except Exception:  # as above
            return None


def _read(file: BinaryIO, size: int) -> tuple[FileDataset, int]:
    """The attributes above, and how many bytes of pixels there are; -1: no pixels.

    Raises:
        Refused: fewer pixels than announced, or inflated beyond reason.
    """
    found: list[tuple[int, int]] = []  # length, where the value starts

    def at_pixels(tag: Any, _vr: Any, length: int) -> bool:
        if tag.group == 0x7FE0 and tag.element in _PIXEL_ELEMENTS:
            found.append((length, file.tell()))
        return bool(tag.group >= 0x7FE0)

    data = read_partial(file, stop_when=_stopping_before_bombs(file, at_pixels), force=True, specific_tags=_TAGS)
    if not found:
        return data, -1
    length, start = found[0]
    if _syntax(data) == DeflatedExplicitVRLittleEndian:
        return data, length  # of the inflated copy, which pydicom reads in whole
    if length == _UNDEFINED:
        return data, _encapsulated(file, start)
    if start + length > size:
        raise Refused("fewer pixels than announced")
    return data, length


def _stopping_before_bombs(file: BinaryIO, stop: Any) -> Any:
    """The same stop function, after a look at what a deflated file inflates to: pydicom does that without bounds."""
    start = file.tell()
    file.seek(0)
    head = file.read(4096)
    if DeflatedExplicitVRLittleEndian.encode() in head:
        at = _deflated_start(head)
        file.seek(at)
        inflating, made = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while (chunk := file.read(1 << 16)) and not inflating.eof:
            while chunk and not inflating.eof:
                made += len(inflating.decompress(chunk, 1 << 20))
                chunk = inflating.unconsumed_tail
                if made > _MOST_BYTES // 4:
                    raise Refused("compressed beyond reason")
    file.seek(start)
    return stop


def _deflated_start(head: bytes) -> int:
    """Where the data set begins: after the preamble and the file meta group, whose length its first element says."""
    length = head[_PREAMBLE + 4 : _PREAMBLE + 16]
    if len(length) == 12 and length[:4] == b"\x02\x00\x00\x00":
        return _PREAMBLE + 16 + int.from_bytes(length[8:12], "little")
    raise Refused("header cannot be read")


def _encapsulated(file: BinaryIO, start: int) -> int:
    """Bytes in the fragments of encapsulated pixels, which must be there to the end."""
    file.seek(start)
    total = 0
    while len(item := file.read(8)) == 8:
        length = int.from_bytes(item[4:], "little")
        if item[:4] == _END:
            return total
        if item[:4] != _ITEM:
            break
        total += length
        file.seek(length, 1)
    raise Refused("fewer pixels than announced")


def _header(data: FileDataset, pixels: int, accept: Collection[Reason]) -> Header:
    """The header, where nothing speaks against the image."""
    if pixels < 0:
        raise Refused("a DICOMDIR" if data.get("DirectoryRecordSequence") is not None else "no pixels")
    against = list(_speaks_against(data))
    for reason in against:
        if reason not in accept:
            raise Refused(reason)
    rows, columns = number(data, "Rows"), number(data, "Columns")
    frames, samples = number(data, "NumberOfFrames", 1), number(data, "SamplesPerPixel", 1)
    allocated = number(data, "BitsAllocated")
    if min(rows, columns, frames, samples, allocated) < 1:
        raise Refused("image of no size")
    photometric, syntax = term(data, "PhotometricInterpretation", terms.PHOTOMETRICS), _syntax(data)
    needed = rows * columns * frames * samples * allocated // 8
    if needed > _MOST_BYTES:
        raise Refused("image too large")
    if syntax in _UNENCODED:
        if pixels < (needed * 2 // 3 if photometric == "YBR_FULL_422" else needed):
            raise Refused("fewer pixels than announced")
    elif not _decodable(syntax):
        raise Refused("no decoder for its compression")
    frame_groups = functional_groups(data)
    first = frame_groups[0]
    try:
        between, axes = spacing(first), orientation(first)
    except ValueError as error:
        raise Refused("contradictory geometry") from error
    keys = ("SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    instance, patient, study, series = (digest(key, data.get(key)) for key in keys)
    positions = tuple(vector(groups, "ImagePositionPatient", 3) for groups in frame_groups)
    return Header(
        instance=instance,
        patient=study if "no patient" in against else patient,
        study=study,
        series=series,
        transfer_syntax=syntax,
        modality=term(data, "Modality", terms.MODALITIES),
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        bits=number(data, "BitsStored", allocated),
        photometric=photometric,
        spacing=between,
        orientation=axes,
        positions=positions if len(positions) == frames and all(positions) else (),
        one_plane=all(plane(groups) == plane(first) for groups in frame_groups),
        thickness=next(iter(vector(first, "SliceThickness", 1)), None),
        window=window(first),
        body_part=term(data, "BodyPartExamined", terms.body_parts()),
        laterality=term(data, "ImageLaterality", terms.LATERALITIES) or term(data, "Laterality", terms.LATERALITIES),
        view=term(data, "ViewPosition", terms.VIEWS),
        sex=term(data, "PatientSex", terms.SEXES),
        age_years=age_years(data.get("PatientAge")),
    )


def _speaks_against(data: Dataset) -> Iterator[Reason]:
    sop_class = str(data.get("SOPClassUID") or "")
    kinds = {str(value).upper() for value in several(data.get("ImageType"))}
    if "LOCALIZER" in kinds:
        yield "localizer"
    if "SCREEN SAVE" in kinds:
        yield "screen save"
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(_SECONDARY_CAPTURE + "."):
        yield "secondary capture"
    if str(data.get("BurnedInAnnotation") or "").upper() == "YES":
        yield "burned-in text"
    if not str(data.get("PatientID") or "").strip():
        yield "no patient"
    if not str(data.get("SOPInstanceUID") or "").strip():
        yield "no instance"


def _decodable(syntax: str) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _syntax(data: FileDataset) -> str:
    return str(data.file_meta.get("TransferSyntaxUID") or "") if hasattr(data, "file_meta") else ""

"""Are written DICOM objects what the standard says, do they lie where they should, and do they name nobody?

Judges that share no code with the writer: the tables of the standard that highdicom ships, David Clunie's dciodvfy and
dcentvfy, OFFIS's dcmftest, and highdicom's volumes. Complaints name attributes, never values or files.
"""

from __future__ import annotations

import collections
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage

from synthgen.dicom.header import quiet
from synthgen.errors import DataError, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from synthgen.images import ImageData

_SYNTHETIC_DATA = "(0x0008,0x001c)"  # SyntheticData, which the dictionary of 2022 does not know yet
_COMPLAINT = re.compile(r"\b(Error|Warning|Abort) - (.*)")
_NAMED = re.compile(r"(attribute |Element=|Module=|IE=)<([A-Za-z0-9 ()'/-]{1,80})>")
_VALUE = re.compile(r"""(?<!attribute )(?<!Element=)(?<!Module=)(?<!IE=)<|["']""")  # where a value or path begins
_MARKS = {  # what every synthetic object states
    "SyntheticData": "YES",
    "PatientIdentityRemoved": "YES",
    "LongitudinalTemporalInformationModified": "MODIFIED",
}
_SOURCES = ("SourceImageSequence", "ReferencedImageSequence", "OriginalAttributesSequence", "ReferencedStudySequence")
_DS_LENGTH = 16  # characters, PS3.5 6.2
_SHORTEST = 4  # characters of an identifier: shorter ones are in any pixels by chance
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")
_SPACING_SHARE, _ROUNDING = 1e-4, 0.5001


@dataclass(frozen=True)
class Conformance:
    """What one judge says of a folder: each complaint, and how often it makes it."""

    judge: str
    objects: int  # that it looked at
    errors: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    allowed: int = 0  # complaints that only say that the judge is older than the attribute SyntheticData

    @property
    def error_count(self) -> int:
        """How many complaints are errors."""
        return sum(self.errors.values())


@dataclass(frozen=True)
class Found:
    """An identifier that was found, by its place in what was searched for: never itself."""

    identifier: int
    file: int  # by its place in the sorted names
    where: str  # an encoding of the file's bytes, "header", or "file name"


def dicom_objects(folder: str | Path) -> list[Path]:
    """All DICOM files below a folder but its DICOMDIR, sorted by name.

    Raises:
        DataError: there is none.
    """
    found = [path for path in _files(folder) if path.name != "DICOMDIR" and _is_dicom(path)]
    if not found:
        raise DataError("the folder holds no DICOM object")
    return found


def conformance(folder: str | Path) -> Conformance:
    """Compare with highdicom's tables: attributes of type 1 have a value, those of type 2 are there.

    Mandatory modules alone, and within sequences that are there. Conditions are left to `dciodvfy`.

    Raises:
        DataError: there is no object.

    >>> from pydicom.data import get_testdata_file
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     name = shutil.copy(get_testdata_file("CT_small.dcm"), folder)
    ...     report = conformance(folder)
    >>> report.objects, dict(report.errors)
    (1, {})
    """
    paths, errors = dicom_objects(folder), collections.Counter[str]()
    for path in paths:
        errors.update(_against_tables(_header(path)))
    return Conformance("tables of highdicom", len(paths), dict(errors))


def marks(folder: str | Path) -> Conformance:
    """Whether each object says that it is synthetic, and holds nothing private, no source and no overlong number.

    Raises:
        DataError: there is no object.
    """
    paths, errors = dicom_objects(folder), collections.Counter[str]()
    for path in paths:
        errors.update(set(_unmarked(_header(path))))
    return Conformance("marks of synthetic data", len(paths), dict(errors))


def _unmarked(data: Dataset) -> Iterator[str]:
    yield from (f"{name} is not {value}" for name, value in _MARKS.items() if data.get(name) != value)
    if list(data.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        yield "ImageType is not DERIVED, SECONDARY"
    if not any(item.get("Manufacturer") == "synthgen" for item in data.get("ContributingEquipmentSequence") or []):
        yield "ContributingEquipmentSequence does not name synthgen"
    for element in data.iterall():
        if element.tag.is_private:
            yield "a private attribute"
        elif element.keyword in _SOURCES:
            yield f"{element.keyword} refers to a source"
        elif element.VR == "DS" and any(len(str(one)) > _DS_LENGTH for one in _several(element.value)):
            yield f"{element.keyword} has more than {_DS_LENGTH} characters"


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _against_tables(data: Dataset) -> Iterator[str]:
    iod = _table("sop_class_iod_map").get(str(data.get("SOPClassUID")))
    if iod is None:
        yield "SOPClassUID is not of a known object"
        return
    for module in _table("iod_module_map")[iod]:
        if module["usage"] == "M":
            yield from (f"{module['key']}: {what}" for what in _missing(data, module["key"]))


def _missing(data: Dataset, module: str) -> Iterator[str]:
    for attribute in _table("module_attribute_map")[module]:
        name = ".".join((*attribute["path"], attribute["keyword"]))
        for item in _items(data, attribute["path"]):
            if attribute["type"] in ("1", "2") and attribute["keyword"] not in item:
                yield f"{name} (type {attribute['type']}) is missing"
            elif attribute["type"] == "1" and item[attribute["keyword"]].is_empty:
                yield f"{name} (type 1) is empty"


def _items(data: Dataset, path: Sequence[str]) -> list[Dataset]:
    """The data sets at a path of sequences; none where a sequence is not there."""
    found = [data]
    for keyword in path:
        found = [item for one in found for item in one.get(keyword) or []]
    return found


@lru_cache
def _table(name: str) -> Any:
    """A table of the standard as highdicom ships it."""
    import highdicom

    path = Path(highdicom.__file__).parent / "_standard" / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentProblem("this version of highdicom ships no tables: install 0.28 or later") from error


def dciodvfy(folder: str | Path, *, at_most: int | None = None, max_seconds: float = 60.0) -> Conformance:
    """What dciodvfy says of each object.

    Args:
        folder: with DICOM objects.
        at_most: so many objects, spread evenly; None: all.
        max_seconds: for one object.

    Raises:
        DataError: there is no object.
        EnvironmentProblem: the program is not installed (Debian: dicom3tools).
    """
    program, paths = _program("dciodvfy", "dicom3tools"), dicom_objects(folder)
    paths = paths[:: max(1, -(-len(paths) // at_most))] if at_most else paths
    lines = [line for path in paths for line in _said([program, str(path)], max_seconds)]
    return _sorted_out("dciodvfy", len(paths), lines)


def dcentvfy(folder: str | Path, *, max_seconds: float = 600.0) -> Conformance:
    """What dcentvfy says of patients, studies and series: whether their objects agree on them.

    Raises:
        DataError: there is no object.
        EnvironmentProblem: the program is not installed (Debian: dicom3tools).
    """
    program, paths = _program("dcentvfy", "dicom3tools"), dicom_objects(folder)
    with tempfile.TemporaryDirectory() as scratch:  # a list in a file: a command line holds only so many names
        names = Path(scratch, "names")
        names.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        lines = _said([program, "-f", str(names)], max_seconds)
    return _sorted_out("dcentvfy", len(paths), lines)


def dcmftest(folder: str | Path, *, max_seconds: float = 600.0) -> Conformance:
    """Whether dcmftest takes each object, and the DICOMDIR, for a DICOM file.

    Raises:
        DataError: there is no object.
        EnvironmentProblem: the program is not installed (Debian: dcmtk).
    """
    program, paths = _program("dcmftest", "dcmtk"), dicom_objects(folder)
    paths += [path for path in _files(folder) if path.name == "DICOMDIR"]
    refused = 0
    for start in range(0, len(paths), 500):
        part = [str(path) for path in paths[start : start + 500]]
        refused += len(part) - sum(line.startswith("yes: ") for line in _said([program, *part], max_seconds))
    return Conformance("dcmftest", len(paths), {"not a DICOM file": refused} if refused else {})


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EnvironmentProblem(f"the program {name} is not installed; on Debian it is in the package {package}")
    return found


def _said(command: list[str], max_seconds: float) -> list[str]:
    """The lines of a program, on whichever stream. A crash or a hang is a complaint of its own."""
    try:
        # The program is one of three, found on PATH; its arguments are file names and no shell sees them.
        done = subprocess.run(command, capture_output=True, timeout=max_seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return ["Error - no answer in time"]
    lines = (done.stdout + done.stderr).decode("utf-8", errors="replace").splitlines()
    return [*lines, "Error - stopped without an answer"] if done.returncode < 0 else lines


def _sorted_out(judge: str, objects: int, lines: Iterable[str]) -> Conformance:
    counts: dict[str, collections.Counter[str]] = {"Error": collections.Counter(), "Warning": collections.Counter()}
    allowed = 0
    for line in lines:
        said = _COMPLAINT.search(line)
        if said and said[1] == "Error" and said[2].endswith(f"recognized standard attribute - {_SYNTHETIC_DATA}  ? "):
            allowed += 1
        elif said:
            counts["Warning" if said[1] == "Warning" else "Error"][_without_values(said[2])] += 1
    return Conformance(judge, objects, dict(counts["Error"]), dict(counts["Warning"]), allowed)


def _without_values(message: str) -> str:
    """A complaint up to its first value, and the attributes that it names after it.

    >>> _without_values("Unrecognized enumerated value <0x10> for value 1 of attribute <Bits Allocated>")
    'Unrecognized enumerated value: attribute <Bits Allocated>'
    """
    cut = _VALUE.search(message)
    if cut is None:
        return message.strip()
    after = " ".join("".join((said[1], "<", said[2], ">")) for said in _NAMED.finditer(message, cut.start()))
    return f"{message[: cut.start()].strip(' =-')}: {after}".strip(" :")


def volumes_kept(images: ImageData, folder: str | Path) -> Conformance:
    """Read each CT or MR series back as highdicom's volume: the record's spacing, and the image's shape and values.

    Values agree to the nearest whole number, unless the file's bits cannot hold them.

    Raises:
        DataError: the folder's manifest does not say which object is of which image.
    """
    groups, errors = _by_image(folder), collections.Counter[str]()
    looked_at = 0
    for number, paths in sorted(groups.items()):
        with quiet():
            data = [dcmread(path) for path in paths]
        if data[0].get("SOPClassUID") in (CTImageStorage, MRImageStorage):
            looked_at += len(data)
            errors.update(_differences(images, number, data))
    return Conformance("volumes of highdicom", looked_at, dict(errors))


def _by_image(folder: str | Path) -> dict[int, list[Path]]:
    try:
        listed = json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8"))["objects"]
        found: dict[int, list[Path]] = {}
        for entry in listed:
            found.setdefault(int(entry["image"]), []).append(Path(folder, entry["file"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("manifest.json does not say which object is of which image") from error
    return found


def _differences(images: ImageData, number: int, data: Sequence[Dataset]) -> Iterator[str]:
    from highdicom import get_volume_from_series

    try:
        with quiet():
            volume = get_volume_from_series(data)
    except (ValueError, AttributeError):
        yield "no regular volume"
        return
    row, column = volume.affine[:3, 2], volume.affine[:3, 1]  # the ways from column to column and from row to row
    upwards = float(volume.affine[:3, 0] @ np.cross(row, column)) > 0
    record = images.records.table.iloc[number]
    names = ("slice_spacing_mm", "row_spacing_mm", "column_spacing_mm")
    for name, read in list(zip(names, volume.spacing, strict=True))[int(len(data) == 1) :]:
        if not abs(read - float(record[name])) <= _SPACING_SHARE * read:
            yield f"{name} differs"
    image = images.read(number)
    image = image[None] if image.ndim == 2 else image
    stored = volume.array if upwards else volume.array[::-1]
    if image.shape != stored.shape:
        yield "shape differs"
        return
    low, high = _range(data[0])
    if np.abs(np.clip(image, low, high) - stored).max() > _ROUNDING:
        yield "values differ"


def _range(data: Dataset) -> tuple[float, float]:
    """What the bits of an object can hold, rescaled."""
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def identifier_search(folder: str | Path, identifiers: Sequence[str]) -> tuple[Found, ...]:
    """Search every byte of every file, and every file's name, for strings that must not be there.

    Without regard to case, as UTF-8, Latin-1 and UTF-16; and once more in the text of each DICOM header, where a
    character set or deflation might hide it. Compressed pixels are searched as they lie there.

    Args:
        folder: all files in it and below it.
        identifiers: of at least four characters: in pixels, shorter ones appear by chance.

    Raises:
        UsageError: a shorter identifier, or none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "note.txt").write_text("seen: mrn-7731")
    ...     identifier_search(folder, ["Peregrine", "MRN-7731"])
    (Found(identifier=1, file=0, where='utf-8'),)
    """
    if not identifiers or min(map(len, identifiers)) < _SHORTEST:
        raise UsageError(f"identifiers to search for have at least {_SHORTEST} characters")
    found: list[Found] = []
    for number, path in enumerate(_files(folder)):
        content, text = path.read_bytes().lower(), ""
        if _is_dicom(path):
            text = "\n".join(_texts(_header(path)))
        for place, identifier in enumerate(identifiers):
            where = _where(identifier, content, text, path.relative_to(folder).as_posix())
            found += [Found(place, number, where)] if where else []
    return tuple(found)


def _where(identifier: str, content: bytes, text: str, name: str) -> str:
    """The first place; empty: nowhere."""
    if identifier.casefold() in name.casefold():
        return "file name"
    for encoding in _ENCODINGS:
        with contextlib.suppress(UnicodeEncodeError):  # what Latin-1 cannot write is not there in Latin-1
            if identifier.encode(encoding).lower() in content:
                return encoding
    return "header" if identifier.casefold() in text else ""


def _texts(data: Dataset) -> Iterator[str]:
    """The values of a header, case folded."""
    for element in data.iterall():
        if element.VR != "SQ":
            value = element.value
            yield (value.decode("latin-1") if isinstance(value, bytes) else str(value)).casefold()


def _header(path: Path) -> Dataset:
    with quiet():
        data: Dataset = dcmread(path, stop_before_pixels=True)
        data.decode()
    return data


def _files(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"

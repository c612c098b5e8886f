"""Does a header name somebody, and does it say that it is synthetic? Values leave here as digests only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from pydicom import dcmread
from pydicom.dataset import Dataset

from synthgen.dicom.header import Refused, digest, quiet

NAMING = frozenset(  # attributes whose values name a patient, a visit, a person or an object
    (
        *("PatientName", "PatientID", "OtherPatientNames", "IssuerOfPatientID", "PatientBirthName"),
        *("PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "PatientBirthDate"),
        *("AccessionNumber", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
        *("NameOfPhysiciansReadingStudy", "InstitutionName", "InstitutionAddress", "StationName"),
        *("DeviceSerialNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    )
)
_SHORTEST = 4  # characters of a value: shorter ones are anybody's
_PARTS = re.compile(r"[\^=,;\s]+")
_MARKS = {"SyntheticData": "YES", "PatientIdentityRemoved": "YES"}


@dataclass(frozen=True)
class Names:
    """What one object's header holds. Digests are of case-folded text."""

    naming: frozenset[str]  # digests of the values of NAMING, and of the parts of persons' names
    texts: frozenset[str]  # digests of all values, and of their parts
    marked: bool  # it says that it is synthetic and that no identity is in it
    private: int  # elements that only their maker understands


def read_names(file: BinaryIO) -> Names:
    """Read the header of an open file.

    Raises:
        Refused: it cannot be read.
    """
    with quiet():
        try:
            data = dcmread(file, stop_before_pixels=True, force=True)
            data.decode()
            return Names(
                naming=frozenset(_digests(_values(data, NAMING, parts="names"))),
                texts=frozenset(_digests(_values(data, None, parts="all"))),
                marked=all(str(data.get(name) or "") == value for name, value in _MARKS.items()),
                private=sum(element.tag.is_private for element in data.iterall()),
            )
        except Exception as error:  # pydicom raises whatever a broken file leads it to
            raise Refused("header cannot be read") from error


def _values(data: Dataset, keywords: frozenset[str] | None, *, parts: Literal["names", "all"]) -> Iterator[str]:
    """The values of some attributes, or of all, at any depth, and words of theirs."""
    for element in data.iterall():
        if element.VR == "SQ" or (keywords is not None and element.keyword not in keywords):
            continue
        value = element.value
        for one in value if element.VM > 1 else [value]:
            text = one.decode("latin-1", "replace") if isinstance(one, bytes) else str(one)
            yield text
            if parts == "all" or element.VR == "PN":
                yield from _PARTS.split(text)


def _digests(values: Iterator[str]) -> Iterator[str]:
    for value in values:
        plain = value.casefold().strip(" \0")
        if len(plain) >= _SHORTEST:
            yield digest("value", plain)

"""Which objects of an archive does a query mean? Asked for by study, series and object, whatever the archive speaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from synthgen.errors import UsageError, suggest

Level = Literal["study", "series", "instance"]
IDENTIFIERS: dict[Level, str] = {
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instance": "SOPInstanceUID",
}
_ATTRIBUTES: dict[Level, tuple[str, ...]] = {
    "study": (
        "StudyInstanceUID",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ModalitiesInStudy",
        "ReferringPhysicianName",
    ),
    "series": ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined"),
    "instance": ("SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
}
KEYWORDS = tuple(keyword for level in get_args(Level) for keyword in _ATTRIBUTES[level])
_LOOSE = ("PatientName", "ReferringPhysicianName", "ModalitiesInStudy")  # archives match these in their own ways
_UID = re.compile(r"[0-9A-Za-z._-]{1,64}")  # more than the standard allows, and nothing that leads elsewhere in a URL

Find = Callable[[Level, Mapping[str, str]], Iterable[Mapping[str, str]]]


@dataclass(frozen=True, repr=False)
class Object:
    """One object of an archive; identifiers stay in memory."""

    study: str
    series: str
    instance: str
    sop_class: str  # empty: the archive does not say


def validated(query: Mapping[str, str]) -> dict[str, str]:
    r"""The query, with several UIDs divided as DIMSE does it.

    Raises:
        UsageError: an attribute that no archive is asked for, or nothing to look for.

    >>> validated({"Modality": "CT", "StudyInstanceUID": "1.2,1.3"})
    {'Modality': 'CT', 'StudyInstanceUID': '1.2\\1.3'}
    >>> validated({"PatientId": "1"})
    Traceback (most recent call last):
    synthgen.errors.UsageError: archives are not asked for this attribute: did you mean 'PatientID'?
    """
    if not any(value.strip(" *") for value in query.values()):
        raise UsageError("the query would fetch the whole archive: say what to look for, such as StudyDate=20200101")
    clean = {}
    for keyword, value in query.items():
        if keyword not in KEYWORDS:
            raise UsageError(f"archives are not asked for this attribute: {suggest(keyword, KEYWORDS)}")
        clean[keyword] = value.strip().replace(",", "\\") if keyword.endswith("UID") else value.strip()
    return clean


def objects(find: Find, query: Mapping[str, str], *, strange: Callable[[], object]) -> Iterator[list[Object]]:
    """What matches, a series at a time.

    Archives may ignore what they do not know and answer with everything: answers that contradict the query are no
    match, and are told of.

    Args:
        find: asks the archive at one level.
        query: a validated one.
        strange: called once for each answer that contradicts the query.
    """
    seen: set[str] = set()
    for study in _matching(find, "study", query, {}, strange):
        inside = {"StudyInstanceUID": study["StudyInstanceUID"]}
        for series in _matching(find, "series", query, inside, strange):
            within = {**inside, "SeriesInstanceUID": series["SeriesInstanceUID"]}
            found = _matching(find, "instance", query, within, strange)
            place = study["StudyInstanceUID"], series["SeriesInstanceUID"]
            fresh = {answer["SOPInstanceUID"]: answer for answer in found if answer["SOPInstanceUID"] not in seen}
            seen.update(fresh)  # a study of two patients is answered twice
            yield [Object(*place, instance, answer.get("SOPClassUID", "")) for instance, answer in fresh.items()]


def _matching(
    find: Find, level: Level, query: Mapping[str, str], inside: Mapping[str, str], strange: Callable[[], object]
) -> Iterator[Mapping[str, str]]:
    own = {keyword: query[keyword] for keyword in _ATTRIBUTES[level] if keyword in query}
    for answer in find(level, {**own, **inside}):
        usable = _UID.fullmatch(answer.get(IDENTIFIERS[level], ""))
        if usable and all(
            _fits(answer.get(keyword, ""), value, keyword) for keyword, value in {**own, **inside}.items()
        ):
            yield answer
        else:
            strange()


def _fits(found: str, asked: str, keyword: str) -> bool:
    """Whether an answer is one to the query, as far as exact values and ranges of dates tell."""
    if not found or not asked or keyword in _LOOSE or set(asked) & set("*?"):
        return True
    if keyword.endswith("UID"):
        return found in asked.split("\\")
    if keyword.endswith("Date") and "-" in asked:
        first, _, last = asked.partition("-")
        return first <= found <= (last or found)
    if keyword in ("SeriesNumber", "InstanceNumber"):
        found, asked = found.lstrip("+0 "), asked.lstrip("+0 ")
    return keyword.endswith("Time") or found.casefold() == asked.casefold()

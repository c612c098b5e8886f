"""Which codes stand above a code? ICD-9, ICD-10, ATC and LOINC, read from the code itself, without any code list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

System = Literal["icd9", "icd10", "atc", "loinc"]
Hierarchy = System | Literal["separator", "none"]  # separator: codes of a system that nobody named

_ICD = {  # category, point, subdivisions
    "icd9": re.compile(r"(\d{1,3}(?=\.|$)|\d{3}|V\d\d|E\d{3})(\.?)(\d{0,2})(?<!\.)"),
    "icd10": re.compile(r"([A-Z]\d[0-9A-Z])(\.?)([0-9A-Z]{0,4})(?<!\.)"),
}
_ATC = re.compile(r"[ABCDGHJLMNPRSV](?:\d\d(?:[A-Z](?:[A-Z](?:\d\d)?)?)?)?")
_ATC_LENGTHS = (5, 4, 3, 1)  # subgroups and main group above a substance
_LOINC = re.compile(r"(\d{1,7})-(\d)")
_SEPARATOR = re.compile(r"[.\-/:_ ]+")
_PLACEHOLDER = "X"  # of ICD-10-CM: fills a place so that the next one can be written


def hierarchy(kind: str, system: System | None) -> Hierarchy:
    """What stands above the levels of a column of the schema.

    >>> hierarchy("code", "icd10"), hierarchy("code", None), hierarchy("categorical", None)
    ('icd10', 'separator', 'none')
    """
    return "none" if kind != "code" else system or "separator"


def ancestors(code: str, within: Hierarchy) -> tuple[str, ...]:
    """The legal codes above a code, nearest first and written like it; none above what is no code of the system.

    ICD ends at the category (three characters; four for the E codes of ICD-9), ATC at the anatomical group. LOINC
    numbers have nothing above them. In an unnamed system, what stands before a separator *may* be a code.

    Source: ICD-10-CM and ICD-9-CM Official Guidelines for Coding and Reporting, section I.A; WHO, Guidelines for ATC
        classification and DDD assignment, chapter II.A.

    >>> ancestors("E11.65", "icd10"), ancestors("E1165", "icd10"), ancestors("T36.0X1A", "icd10")
    (('E11.6', 'E11'), ('E116', 'E11'), ('T36.0X1', 'T36.0', 'T36'))
    >>> ancestors("250.83", "icd9"), ancestors("E849.0", "icd9"), ancestors("V4581", "icd9")
    (('250.8', '250'), ('E849',), ('V458', 'V45'))
    >>> ancestors("A10BA02", "atc"), ancestors("2345-7", "loinc"), ancestors("8500/3", "separator")
    (('A10BA', 'A10B', 'A10', 'A'), (), ('8500',))
    """
    if within == "atc":
        return tuple(code[:n] for n in _ATC_LENGTHS if n < len(code)) if _ATC.fullmatch(code) else ()
    if within in ("loinc", "none"):
        return ()
    if within == "separator":
        return tuple(code[: mark.start()] for mark in reversed(list(_SEPARATOR.finditer(code))) if mark.start())
    match = _ICD[within].fullmatch(code)
    if not match:
        return ()
    category, point, rest = match.groups()
    shorter = [rest[:n].rstrip(_PLACEHOLDER) for n in range(len(rest) - 1, 0, -1)]
    above = [category + point + part for part in shorter if part] + ([category] if rest else [])
    return tuple(dict.fromkeys(above))


def with_ancestors(codes: Iterable[str], within: Hierarchy) -> frozenset[str]:
    """The codes and every code above one of them: what a synthetic column may hold, since rare codes back off.

    >>> sorted(with_ancestors(["E11.65", "I10"], "icd10"))
    ['E11', 'E11.6', 'E11.65', 'I10']
    """
    own = frozenset(codes)
    return own.union(*(ancestors(code, within) for code in own)) if within not in ("none", "separator") else own


def infer_system(codes: Iterable[str]) -> System | None:
    """The system that all codes are written in, where that is clear.

    A column of V and E codes alone, or of ICD-9 and ICD-10 together, is not clear.

    >>> infer_system(["E11.9", "I10", "C61"]), infer_system(["250.83", "V45", "428"]), infer_system(["A10BA02"])
    ('icd10', 'icd9', 'atc')
    >>> infer_system(["2345-7", "718-7"]), infer_system(["E11.9", "428"])
    ('loinc', None)
    """
    codes = list(codes)
    if not codes:
        return None
    if all(_is_loinc(code) for code in codes):
        return "loinc"
    if all(_ATC.fullmatch(code) for code in codes) and max(map(len, codes)) == 7:
        return "atc"
    if all(_ICD["icd9"].fullmatch(code) for code in codes):
        return "icd9" if any(code[0].isdigit() for code in codes) else None
    return "icd10" if all(_ICD["icd10"].fullmatch(code) for code in codes) else None


def _is_loinc(code: str) -> bool:
    """A number, a hyphen and the mod 10 check digit of the number."""
    match = _LOINC.fullmatch(code)
    if not match:
        return False
    digits = [int(digit) for digit in reversed(match[1])]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[::2]]
    return (sum(doubled) + sum(digits[1::2]) + int(match[2])) % 10 == 0

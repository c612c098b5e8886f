"""What do the attributes of a data set say? Numbers, codes and geometry, whatever form a scanner gave them."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_AGE = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}

Vector = tuple[float, ...]


def functional_groups(data: Dataset) -> list[dict[str, Any]]:
    """Geometry and window by keyword: of the object, or of each frame of an enhanced one."""
    shared = _flat((data.get("SharedFunctionalGroupsSequence") or [])[:1])
    frames = data.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
    own = {element.keyword: element.value for element in data if element.VR != "SQ"}
    return [{**own, **shared, **_flat([frame])} for frame in frames]


def _flat(groups: Any) -> dict[str, Any]:
    wanted = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence", "FrameVOILUTSequence")
    items = [item for group in groups for name in wanted for item in (group.get(name) or [])[:1]]
    return {element.keyword: element.value for item in items for element in item}


def plane(groups: dict[str, Any]) -> tuple[Vector, Vector]:
    """What frames of one volume have in common."""
    return vector(groups, "PixelSpacing", 2), vector(groups, "ImageOrientationPatient", 6)


def spacing(groups: dict[str, Any]) -> Vector:
    """Mm between rows and between columns; empty: not known.

    Raises:
        ValueError: not above zero.
    """
    found = vector(groups, "PixelSpacing", 2) or vector(groups, "ImagerPixelSpacing", 2)
    if found and not min(found) > 0:
        raise ValueError("contradictory")
    return found


def orientation(groups: dict[str, Any]) -> Vector:
    """Direction cosines of a row and of a column; empty: not known.

    Raises:
        ValueError: they are none.
    """
    found = vector(groups, "ImageOrientationPatient", 6)
    if found:
        axes = np.array(found).reshape(2, 3)
        if np.abs(axes @ axes.T - np.eye(2)).max() > 0.01:  # neither of length one nor at right angles
            raise ValueError("contradictory")
    return found


def window(groups: dict[str, Any]) -> Vector:
    """The first of several."""
    values = [next(iter(several(groups.get(key))), None) for key in ("WindowCenter", "WindowWidth")]
    return () if None in values or "" in values else tuple(float(value) for value in values)  # type: ignore[arg-type]


def age_years(value: Any) -> int | None:
    """Whole years of an age string.

    >>> age_years("045Y"), age_years("018M"), age_years("45")
    (45, 1, None)
    """
    text = str(value or "")
    found = re.fullmatch(r"(\d{3})([YMWD])", text)
    return int(int(found[1]) * _AGE[found[2]]) if found else None


def several(value: Any) -> list[Any]:
    """The values of an element, however many there are."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def number(data: Dataset, keyword: str, absent: int = 0) -> int:
    """The first value of an element as a whole number."""
    value = data.get(keyword)
    return absent if value is None or value == "" else int(value)


def vector(groups: dict[str, Any], keyword: str, length: int) -> Vector:
    """So many finite numbers, or nothing."""
    values = tuple(float(value) for value in several(groups.get(keyword)) if value not in (None, ""))
    return values if len(values) == length and np.isfinite(values).all() else ()


def term(data: Dataset, keyword: str, known: Container[str]) -> str:
    """A coded string, if it is one of the known ones; empty otherwise, for it might be a name."""
    value = str(data.get(keyword) or "").strip().upper()
    return value if value in known else ""

"""Which images belong together, and how do they lie in space?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthgen.dicom.attributes import Vector
from synthgen.dicom.header import Header
from synthgen.dicom.terms import HEADS

Geometry = Literal["volume", "single", "gaps", "duplicates", "tilted", "mixed", "unknown"]
_TILT = 0.01  # sine of the angle between the way from slice to slice and their normal
_SAME_PLACE = 0.01  # mm
_GAP = 0.1  # share of the usual distance that another may differ by


@dataclass(frozen=True)
class Series:
    """Images of one series that have size, spacing and orientation in common, in the order of space.

    What the scanner calls a series falls into several of these where it mixes geometries.
    """

    number: int
    patient: int  # numbers of patients and studies in order of appearance
    study: int
    modality: str
    rows: int
    columns: int
    samples: int
    bits: int
    frames: int  # over all files
    spacing: Vector  # mm between rows, between columns; empty: not known
    between: float | None  # mm from slice to slice; None: not known, or not the same everywhere
    geometry: Geometry
    transfer_syntaxes: tuple[str, ...]
    body_part: str
    laterality: str
    view: str
    slices: tuple[tuple[int, int], ...]  # number of the file and of the frame in it, in the order of space

    @property
    def may_show_a_face(self) -> bool:
        """A volume of a head, from which a face could be rendered."""
        return self.frames > 1 and self.body_part in HEADS


def grouped(headers: Sequence[tuple[int, Header]]) -> tuple[Series, ...]:
    """The series of numbered headers, in order of appearance."""
    groups: dict[tuple[object, ...], list[tuple[int, Header]]] = {}
    for number, header in headers:
        groups.setdefault(_kind(header), []).append((number, header))
    patients = _numbers(header.patient for _, header in headers)
    studies = _numbers(header.study for _, header in headers)
    return tuple(_series(i, members, patients, studies) for i, members in enumerate(groups.values(), start=1))


def _kind(header: Header) -> tuple[object, ...]:
    """What the images of a series have in common."""
    geometry = (*np.round(header.orientation, 3).tolist(), *np.round(header.spacing, 4).tolist(), header.one_plane)
    size = (header.rows, header.columns, header.samples, header.bits, header.photometric)
    return (header.patient, header.study, header.series, header.modality, size, geometry)


def _series(
    number: int, members: list[tuple[int, Header]], patients: dict[str, int], studies: dict[str, int]
) -> Series:
    first = members[0][1]
    slices = [(file, frame) for file, header in members for frame in range(header.frames)]
    geometry, between, order = _lie(slices, [header for _, header in members])
    return Series(
        number=number,
        patient=patients[first.patient],
        study=studies[first.study],
        modality=first.modality,
        rows=first.rows,
        columns=first.columns,
        samples=first.samples,
        bits=first.bits,
        frames=len(slices),
        spacing=first.spacing,
        between=between,
        geometry=geometry,
        transfer_syntaxes=tuple(sorted({header.transfer_syntax for _, header in members})),
        body_part=_common(header.body_part for _, header in members),
        laterality=_common(header.laterality for _, header in members),
        view=_common(header.view for _, header in members),
        slices=tuple(slices[i] for i in order),
    )


def _lie(slices: list[tuple[int, int]], headers: list[Header]) -> tuple[Geometry, float | None, np.ndarray]:
    """How slices lie, the distance between them, and their order along the normal, never by InstanceNumber.

    Shape: the order is (slices,), as they came where places are not known.
    """
    as_they_came = np.arange(len(slices))
    places = np.array([place for header in headers for place in header.positions])
    if not all(header.one_plane for header in headers):
        return "mixed", None, as_they_came
    if not headers[0].orientation or len(places) != len(slices):
        return ("single" if len(slices) == 1 else "unknown"), None, as_they_came
    row, column = np.array(headers[0].orientation).reshape(2, 3)
    normal = np.cross(row, column)
    order = np.argsort(places @ normal, kind="stable")
    if len(slices) == 1:
        return "single", None, order
    steps = np.diff(places[order], axis=0)
    distances = steps @ normal
    if distances.min() < _SAME_PLACE:
        return "duplicates", None, order
    way = places[order[-1]] - places[order[0]]
    if np.linalg.norm(np.cross(way, normal)) > _TILT * np.linalg.norm(way):
        return "tilted", None, order
    usual = float(np.median(distances))
    if np.abs(distances - usual).max() > _GAP * usual:
        return "gaps", None, order
    return "volume", usual, order


def _numbers(keys: Iterable[str]) -> dict[str, int]:
    """From 1, in order of appearance."""
    found: dict[str, int] = {}
    for key in keys:
        found.setdefault(key, len(found) + 1)
    return found


def _common(values: Iterable[str]) -> str:
    """What all have in common, if anything."""
    found = set(values)
    return found.pop() if len(found) == 1 else ""

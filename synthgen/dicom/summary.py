"""What is in a folder of DICOM objects, in a few numbers? Counts and geometry, never a value of a header's text."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydicom.uid import UID

from synthgen.dicom.header import Refused
from synthgen.dicom.index import Index
from synthgen.dicom.pixels import read_entry
from synthgen.dicom.series import Series

_CELL, _ACROSS, _CELLS = 128, 8, 64  # pixels of a thumbnail; thumbnails side by side, and in all


def summary(index: Index) -> dict[str, Any]:
    """Plain data: totals, a row for each series, and how many files were put aside for which reason.

    >>> from synthgen.dicom.index import index
    >>> from pydicom.data import get_testdata_file
    >>> found = summary(index(get_testdata_file("CT_small.dcm")))
    >>> found["images"], found["modalities"], found["series"][0]["size"]
    (1, {'CT': 1}, '128 x 128')
    """
    series = index.series
    return {
        "files": len(index.entries),
        "images": sum(one.frames for one in series),
        "patients": len({one.patient for one in series}),
        "studies": len({one.study for one in series}),
        "modalities": _counts((one.modality or "unknown", one.frames) for one in series),
        "sizes": _counts((_size(one), one.frames) for one in series),
        "spacings_mm": _counts((_spacing(one), one.frames) for one in series),
        "transfer_syntaxes": _counts(
            (_syntax(header.transfer_syntax), header.frames) for header in index.headers.values()
        ),
        "may_show_a_face": sum(one.may_show_a_face for one in series),
        "put_aside": dict(index.reasons),
        "series": [_row(one) for one in series],
    }


def contact_sheet(index: Index) -> np.ndarray:
    """The middle image of each of the first series, side by side. It shows real patients: it stays in the house.

    Shape: -> (rows, columns) uint8.
    """
    cells = []
    for series in index.series[:_CELLS]:
        file, frame = series.slices[len(series.slices) // 2]
        try:
            cells.append(_thumbnail(read_entry(index.entries[file], [frame])[0]))
        except Refused:
            continue
    cells += [np.zeros((_CELL, _CELL), dtype=np.uint8)] * (-len(cells) % _ACROSS)
    rows = [np.hstack(cells[i : i + _ACROSS]) for i in range(0, len(cells), _ACROSS)]
    return np.vstack(rows) if rows else np.zeros((_CELL, _CELL), dtype=np.uint8)


def _row(series: Series) -> dict[str, Any]:
    return {
        "number": series.number,
        "patient": series.patient,
        "study": series.study,
        "modality": series.modality or "unknown",
        "images": series.frames,
        "size": _size(series),
        "bits": series.bits,
        "spacing_mm": _spacing(series),
        "geometry": series.geometry,
        "body_part": series.body_part,
        "transfer_syntaxes": [_syntax(syntax) for syntax in series.transfer_syntaxes],
        "may_show_a_face": series.may_show_a_face,
    }


def _size(series: Series) -> str:
    return f"{series.rows} x {series.columns}" + (" RGB" if series.samples > 1 else "")


def _spacing(series: Series) -> str:
    if not series.spacing:
        return "unknown"
    between = () if series.between is None else (series.between,)
    return " x ".join(f"{value:.3g}" for value in (*series.spacing, *between))


def _syntax(uid: str) -> str:
    """By the standard's name; an unknown one is not shown, for a private UID may name a hospital."""
    if not uid:
        return "unknown"
    return UID(uid).name if UID(uid).is_transfer_syntax else "private"


def _counts(values: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Images of each, most frequent first."""
    found: collections.Counter[str] = collections.Counter()
    for value, images in values:
        found[value] += images
    return dict(found.most_common())


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Grey, the whole image, its range stretched. Shape: -> (_CELL, _CELL) uint8."""
    from PIL import Image

    grey = image.astype(np.float32).mean(axis=2) if image.ndim == 3 else image
    low, high = np.percentile(grey, [0.5, 99.5])
    scaled = np.clip((grey - low) / max(high - low, 1e-9), 0, 1) * 255
    picture = Image.fromarray(scaled.astype(np.uint8))
    scale = (_CELL - 4) / max(picture.size)
    small = np.asarray(picture.resize([max(1, round(side * scale)) for side in picture.size]))
    cell = np.zeros((_CELL, _CELL), dtype=np.uint8)
    cell[2 : 2 + small.shape[0], 2 : 2 + small.shape[1]] = small
    return cell

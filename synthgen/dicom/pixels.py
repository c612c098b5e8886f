"""What do the pixels of an object mean? Decoded, unmasked, in physical or display units, whatever way they were stored.

Source: DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (pixel padding).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from synthgen.dicom.attributes import number, several
from synthgen.dicom.files import Entry
from synthgen.dicom.header import Refused, quiet
from synthgen.errors import DataError
from synthgen.images import array_digest

PROJECTIONS = frozenset({"CR", "DX", "MG", "IO", "PX", "RG", "RF", "XA"})  # shown through their VOI


def read_frames(file: BinaryIO, frames: Sequence[int]) -> list[np.ndarray]:
    """Some frames of an open object.

    Monochrome frames are float32: rescaled values (Hounsfield units of CT); those of projection modalities as they are
    shown, from 0 (black) to 2^bits - 1. Padding has the lowest value of the rest. Colour frames are uint8 RGB.

    Shape: -> (rows, columns) or (rows, columns, 3) each.

    Raises:
        Refused: the pixels cannot be decoded.
    """
    with quiet():
        try:
            data = dcmread(file, force=True)
            return [_meant(data, frame, pixel_array(data, index=frame)) for frame in frames]
        except Exception as error:  # decoders raise whatever a broken stream leads them to
            raise Refused("pixels cannot be decoded") from error


def _meant(data: Dataset, frame: int, stored: np.ndarray) -> np.ndarray:
    photometric = str(data.get("PhotometricInterpretation") or "")
    if photometric == "PALETTE COLOR":
        return _eight_bits(apply_color_lut(stored, data), 16)
    if stored.ndim == 3:
        return _eight_bits(stored, number(data, "BitsStored", 8))
    bits = number(data, "BitsStored", 8)
    padding = np.zeros(stored.shape, dtype=bool)
    if stored.dtype.kind in "iu":
        stored = _used_bits(stored, data)
        padding = _padding(stored, data)
    values = _rescaled(stored, data, frame)
    if str(data.get("Modality") or "") in PROJECTIONS:
        values = _shown(stored, values, data, bits)
    if photometric == "MONOCHROME1":
        values = _inverted(values, data, bits)
    if padding.any() and not padding.all():
        values = np.where(padding, values[~padding].min(), values)
    return values.astype(np.float32)


def _eight_bits(colours: np.ndarray, bits: int) -> np.ndarray:
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours[..., :3])
    return (colours[..., :3] >> max(0, bits - 8)).astype(np.uint8)


def _used_bits(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Without what lies in the bits that the image does not use, such as overlays, and with the sign in its place."""
    allocated, bits = number(data, "BitsAllocated"), number(data, "BitsStored")
    high = number(data, "HighBit", bits - 1)
    if not 1 < bits < allocated or high >= allocated or high + 1 < bits:
        return stored
    values = (stored.astype(np.int64) >> (high + 1 - bits)) & ((1 << bits) - 1)
    if number(data, "PixelRepresentation"):
        values -= (values >> (bits - 1)) << bits
    return values.astype(stored.dtype)


def _padding(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Where no image is. Shape: -> (rows, columns) boolean."""
    value = data.get("PixelPaddingValue")
    if value is None or value == "":
        return np.zeros(stored.shape, dtype=bool)
    limit = data.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit in (None, "") else limit)))
    return (stored >= low) & (stored <= high)


def _rescaled(stored: np.ndarray, data: Dataset, frame: int) -> np.ndarray:
    """Slope and intercept of the object or of the frame, or the modality LUT."""
    lut = data.get("ModalityLUTSequence")
    if lut:
        return _looked_up(stored, lut[0])
    transformation = _group(data, frame, "PixelValueTransformationSequence")
    source = transformation if transformation is not None else data
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    values = stored.astype(np.float64)
    if slope in (None, ""):
        return values
    return values * float(slope) + float(intercept or 0)  # type: ignore[arg-type]


def _looked_up(stored: np.ndarray, item: Dataset) -> np.ndarray:
    """Below the first mapped value the first entry holds, above the last the last."""
    first, bits = int(item["LUTDescriptor"].value[1]), int(item["LUTDescriptor"].value[2])
    entries = item["LUTData"].value
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, dtype="<u1" if bits <= 8 else "<u2")
    table = np.asarray(entries, dtype=np.float64)
    found: np.ndarray = table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]
    return found


def _group(data: Dataset, frame: int, name: str) -> Dataset | None:
    """A functional group of one frame of an enhanced object."""
    frames = data.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*frames[frame : frame + 1], *(data.get("SharedFunctionalGroupsSequence") or [])[:1]]
    found = (item for group in groups for item in (group.get(name) or [])[:1])
    return next(found, None)


def _shown(stored: np.ndarray, values: np.ndarray, data: Dataset, bits: int) -> np.ndarray:
    """Through the first VOI LUT or window, on the scale of the stored bits; as it is without one."""
    top = 2.0**bits - 1
    luts = data.get("VOILUTSequence")
    if luts and several(luts[0].get("LUTDescriptor")):
        shown = apply_voi_lut(stored if _plain(data) else values.astype(np.int64), data, prefer_lut=True)
        return np.asarray(shown, dtype=np.float64) * (top / (2.0 ** int(luts[0]["LUTDescriptor"].value[2]) - 1))
    window = [next(iter(several(data.get(name))), None) for name in ("WindowCenter", "WindowWidth")]
    if None in window or "" in window:
        return values
    center, width = (float(value) for value in window)  # type: ignore[arg-type]
    if str(data.get("VOILUTFunction") or "LINEAR") == "SIGMOID" and width > 0:
        return top / (1 + np.exp(-4 * (values - center) / width))
    if str(data.get("VOILUTFunction") or "LINEAR") == "LINEAR":
        center, width = center - 0.5, width - 1
    return np.clip((values - center) / max(width, 1e-9) + 0.5, 0, 1) * top


def _plain(data: Dataset) -> bool:
    return data.get("RescaleSlope") in (None, "", 1) and not data.get("RescaleIntercept")


def _inverted(values: np.ndarray, data: Dataset, bits: int) -> np.ndarray:
    """White becomes black: within the scale of the stored bits where values lie on it, else within the image's own."""
    top = 2.0**bits - 1
    on_scale = str(data.get("Modality") or "") in PROJECTIONS or (
        _plain(data) and not number(data, "PixelRepresentation")
    )
    if on_scale and values.min() >= 0 and values.max() <= top:
        return top - values
    inverted: np.ndarray = values.max() + values.min() - values
    return inverted


@dataclass(frozen=True, eq=False)
class DicomPixels:
    """Images that lie in DICOM objects: each one slice, or the slices of a volume in order."""

    entries: Sequence[Entry]
    slices: Sequence[tuple[tuple[int, int], ...]]  # of each image: numbers of file and frame
    volumes: bool

    def read(self, number: int) -> np.ndarray:
        """One image, decoded anew each time.

        Raises:
            DataError: a file is not what it was when it was indexed.
        """
        frames: list[np.ndarray] = []
        try:
            for file, members in itertools.groupby(self.slices[number], key=lambda place: place[0]):
                frames += read_entry(self.entries[file], [frame for _, frame in members])
        except Refused as error:
            raise DataError(f"image {number} can no longer be read: {error.reason}") from error
        return np.stack(frames) if self.volumes else frames[0]

    def digest(self, number: int) -> bytes:
        """Of what `read` gives."""
        return array_digest(self.read(number))


def read_entry(entry: Entry, frames: Sequence[int]) -> list[np.ndarray]:
    """Some frames of a file, as `read_frames` gives them.

    Raises:
        Refused: it cannot be opened or decoded.
    """
    with entry.open() as file:
        return read_frames(file, frames)

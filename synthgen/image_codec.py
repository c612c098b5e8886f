"""How does an image become numbers of one size and range, and back? Fitted on a collection, without its extremes.

Values of a projection are on the scale of their bits and are divided by it, so that scanners of several depths agree;
all others keep their unit (Hounsfield units for CT). What lies outside the range that nearly all pixels of nearly all
images keep is clipped: a single patient's extreme is not learned.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from synthgen.dicom.pixels import PROJECTIONS
from synthgen.errors import DataError, UsageError
from synthgen.images import ImageData
from synthgen.protocols import Progress, Run

log = logging.getLogger(__name__)

LARGEST_SIDE = 128  # of the size that is chosen where none is asked for
_OUTSIDE = 0.1  # percent of an image's pixels at each end, and of patients
_FEWEST = 8  # patients that must share an extreme: as for levels of tables
_LOOKED_AT = 2_000  # images at most, to find size and range
_COLOURS = 3
_CHANNELS = 4  # along the last axis, at most: a volume has more columns


@dataclass(frozen=True)
class ImageCodec:
    """Size, range and constants of a collection of images."""

    shape: tuple[int, ...]  # rows, columns; or slices, rows, columns
    colour: bool
    low: float
    high: float
    whole: bool  # values are whole numbers
    scaled: bool  # values are shares of what their bits can hold
    bits: int | None  # of most images
    constants: Mapping[str, Any]  # of the record of every synthetic image: spacing, modality, bits

    @classmethod
    def fit(cls, train: ImageData, *, size: int | None, multiple: int = 4, largest: int = LARGEST_SIDE) -> ImageCodec:
        """From train alone.

        Args:
            train: images that are all grey or all in colour, and all slices or all volumes.
            size: of the longer side in pixels; None: that of most images, `largest` at most.
            multiple: that each side is rounded to.
            largest: of the size that is chosen where none is asked for.

        Raises:
            DataError: images of several kinds, of four channels, or blank ones, or pixels that are no numbers.
            UsageError: a size below 8.
        """
        table = train.records.table
        rows = np.linspace(0, len(train) - 1, min(len(train), _LOOKED_AT)).astype(int)
        images = (train.read(int(row)) for row in rows)
        looks = [_Look.of(image, _divisor(table, int(row))) for row, image in zip(rows, images, strict=True)]
        if not all(np.isfinite([look.low, look.high]).all() for look in looks):
            raise DataError("images have pixels that are no numbers")
        kinds = {(len(look.shape), look.colour) for look in looks}
        if len(kinds) > 1:
            raise DataError("the images are of several kinds: grey and colour, or slices and volumes")
        most = collections.Counter(look.shape for look in looks).most_common(1)[0][0]
        longest = size or min(largest, max(most))
        if longest < 8:
            raise UsageError("images have at least 8 pixels on their longer side")
        shape = tuple(max(multiple, round(side * longest / max(most) / multiple) * multiple) for side in most)
        low, high = _ends(np.array([(look.low, look.high) for look in looks]), train.records.patients[rows])
        if not high > low:
            raise DataError("the images are blank: all pixels have one value")
        sizes = len({look.shape for look in looks})
        if sizes > 1:
            log.warning("the images have %d sizes: all are resized to %s pixels", sizes, " x ".join(map(str, shape)))
        bits = None if "bits" not in table else _most(table["bits"])
        return cls(
            shape=shape,
            colour=looks[0].colour,
            low=low,
            high=high,
            whole=all(look.whole for look in looks),
            scaled=any(look.scaled for look in looks),
            bits=None if bits is None else int(bits),
            constants=_constants(train, rows, looks, shape),
        )

    def tensor(self, train: ImageData, run: Run) -> Tensor:
        """All images. Shape: -> (images, channels, *shape)."""
        found = torch.empty(len(train), self.channels, *self.shape)
        for row in range(len(train)):
            found[row] = self.encode(train, row)
            if row % 100 == 0:
                run.progress(Progress("reading images", row, len(train)))
        run.progress(Progress("reading images", len(train), len(train)))
        return found

    @property
    def channels(self) -> int:
        """Of the tensor that `encode` gives."""
        return _COLOURS if self.colour else 1

    def encode(self, train: ImageData, row: int) -> Tensor:
        """One image, from -1 to 1. Shape: -> (channels, *shape).

        Raises:
            DataError: an image of another kind.
        """
        image = train.read(row)
        if (image.ndim == 3 and image.shape[-1] == _COLOURS and image.dtype == np.uint8) != self.colour:
            raise DataError(f"image {row} is of another kind than the rest")
        values = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)) / _divisor(train.records.table, row)
        values = values.movedim(-1, 0) if self.colour else values[None]
        if values.dim() != len(self.shape) + 1:
            raise DataError(f"image {row} is of another kind than the rest")
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"image {row} has pixels that are no numbers")
        resized = resized_to(values[None], self.shape)[0]
        return ((resized - self.low) / (self.high - self.low) * 2 - 1).clamp(-1, 1)

    def decode(self, images: Tensor) -> list[np.ndarray]:
        """Images in the unit of train. Shape: images (batch, channels, *shape) -> arrays as `ImageData.read` gives."""
        values = (images.clamp(-1, 1).cpu().double() + 1) / 2 * (self.high - self.low) + self.low
        if self.colour:
            return [np.rint(image.movedim(0, -1).numpy()).astype(np.uint8) for image in values]
        values = values[:, 0] * (2.0 ** (self.bits or 8) - 1 if self.scaled else 1.0)
        arrays = values.numpy()
        return [image.astype(np.float32) for image in (np.rint(arrays) if self.whole else arrays)]

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return {**asdict(self), "shape": list(self.shape), "constants": dict(self.constants)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageCodec:
        """What `to_json` wrote."""
        return cls(**{**data, "shape": tuple(data["shape"])})


@dataclass(frozen=True)
class _Look:
    """What one image tells of the collection."""

    shape: tuple[int, ...]
    colour: bool
    low: float
    high: float
    whole: bool
    scaled: bool

    @classmethod
    def of(cls, image: np.ndarray, divisor: float) -> _Look:
        colour = image.ndim == 3 and image.shape[-1] == _COLOURS and image.dtype == np.uint8
        if not colour and (image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] <= _CHANNELS)):
            raise DataError(
                "images are grey, RGB of eight bits, or volumes (slices, rows, columns): not of other channels"
            )
        low, high = (0.0, 255.0) if colour else np.percentile(image, [_OUTSIDE, 100 - _OUTSIDE]).tolist()
        shape = image.shape[:2] if colour else image.shape
        whole = image.dtype.kind in "iu" or bool((image == np.rint(image)).all())
        return cls(shape, colour, low / divisor, high / divisor, whole, divisor != 1.0)


def resized_to(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Smaller by averages, larger by interpolation. Shape: (batch, channels, ...) -> (batch, channels, *shape)."""
    if tuple(images.shape[2:]) == shape:
        return images
    if all(new <= old for new, old in zip(shape, images.shape[2:], strict=True)):
        return interpolate(images, size=shape, mode="area")
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return interpolate(images, size=shape, mode=mode, align_corners=False)


def _divisor(table: Any, row: int) -> float:
    """What a projection's bits can hold; 1 for all other images."""
    if "bits" not in table or "modality" not in table or table["modality"][row] not in PROJECTIONS:
        return 1.0
    bits = table["bits"][row]
    return 1.0 if bits != bits else 2.0 ** int(bits) - 1


def _ends(looks: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """The range that all patients but a few keep, so that no single one sets it. Shape: looks (images, 2)."""
    own = np.unique(patients)
    low = np.sort([looks[patients == patient, 0].min() for patient in own])
    high = np.sort([looks[patients == patient, 1].max() for patient in own])
    few = min(max(_FEWEST, round(_OUTSIDE / 100 * len(own))), (len(own) - 1) // 2)
    return float(low[few]), float(high[-1 - few])


def _most(values: Any) -> Any:
    known = values.dropna()
    return None if known.empty else known.mode().iloc[0]


def _constants(train: ImageData, rows: np.ndarray, looks: list[_Look], shape: tuple[int, ...]) -> dict[str, Any]:
    """What every synthetic record says: modality and bits of most, and the spacing that the size amounts to."""
    table = train.records.table
    found: dict[str, Any] = {}
    for name in ("modality", "bits", "window_center", "window_width"):
        value = _most(table[name]) if name in table else None
        if value is not None:
            found[name] = value if isinstance(value, str) else float(value)
    axes = {"slice_spacing_mm": -3, "row_spacing_mm": -2, "column_spacing_mm": -1}
    for name, axis in axes.items():
        if name in table and len(shape) >= -axis:
            widths = [table[name][row] * look.shape[axis] for row, look in zip(rows, looks, strict=True)]
            width = float(np.nanmedian(widths)) if np.isfinite(widths).any() else None
            if width is not None:
                found[name] = float(f"{width / shape[axis]:.6g}")
    return found

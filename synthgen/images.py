"""What is a collection of images? A record for each image, and pixels that are read when they are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthgen.data import TableData
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GEOMETRY = (  # columns of an image's record that say how large it is; the writer needs those that apply
    Column("row_spacing_mm", "real", unit="mm"),  # between rows
    Column("column_spacing_mm", "real", unit="mm"),
    Column("slice_spacing_mm", "real", unit="mm"),  # of a volume
)
DESCRIPTION = (  # columns of an image's record, each missing where it is not known
    Column("patient", "identifier", roles=("patient",)),  # a number given here, never the hospital's
    Column("study", "identifier"),
    Column("series", "identifier"),
    Column("modality", "categorical"),
    Column("body_part", "categorical"),
    Column("laterality", "categorical"),
    Column("view", "categorical"),
    Column("sex", "categorical"),
    Column("age_years", "integer", unit="years"),
    *GEOMETRY,
    Column("window_center", "real"),
    Column("window_width", "real"),
    Column("bits", "integer"),  # that a pixel has in the file
)


class Pixels(Protocol):
    """Where the pixels of a collection are; it can be sent to another process."""

    def read(self, number: int) -> np.ndarray:
        """One image in physical units. Shape: -> (rows, columns), (rows, columns, 3) or (slices, rows, columns)."""
        ...

    def digest(self, number: int) -> bytes:
        """Of what `read` gives: equal for equal images, whatever file they are in."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayPixels:
    """Images that lie in memory. Shape: images, a sequence of arrays as `read` gives them."""

    images: Any

    def read(self, number: int) -> np.ndarray:
        """One image, as it is there."""
        return np.asarray(self.images[number])

    def digest(self, number: int) -> bytes:
        """Of shape, type and values."""
        return array_digest(self.read(number))


def array_digest(image: np.ndarray) -> bytes:
    """SHA-256 of shape, type and values of an array."""
    about = f"{image.shape}{image.dtype.str}".encode()
    return hashlib.sha256(about + np.ascontiguousarray(image).tobytes()).digest()


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Images of patients: a record for each, in the same order, with labels beside what its file says.

    >>> images = ImageData.of_arrays(np.zeros((3, 8, 8), "uint8"), {"patient": ["a", "a", "b"], "finding": [0, 0, 1]})
    >>> images, images.read(0).shape, images.records.schema.patient
    (ImageData(3 images of 2 patients), (8, 8), 'patient')
    """

    records: TableData
    pixels: Pixels
    numbers: np.ndarray  # of each record's image in `pixels`; shape (images,) int64

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"ImageData({len(self):,} images of {self.patient_count:,} patients)"

    def _repr_html_(self) -> str:
        return self.records.described(repr(self))

    @classmethod
    def of_arrays(cls, images: Any, records: Any, *, schema: TableSchema | None = None) -> ImageData:
        """Arrays in memory, beside a frame or a mapping of columns.

        Columns with the names of `DESCRIPTION` have the meaning said there; all others are labels.

        Raises:
            DataError: the records make no table.
        """
        import pandas as pd

        frame = records if isinstance(records, pd.DataFrame) else pd.DataFrame(records)
        assert len(frame) == len(images), "one record for each image"
        return cls(described(frame, schema), ArrayPixels(images), np.arange(len(frame)))

    @property
    def patient_count(self) -> int:
        """How many patients there are."""
        return self.records.patient_count

    def read(self, image: int) -> np.ndarray:
        """The pixels of one image, by its place here.

        Shape: -> (rows, columns), (rows, columns, 3) or (slices, rows, columns).
        Units: the modality's: Hounsfield units for CT.
        """
        return self.pixels.read(int(self.numbers[image]))

    def take(self, rows: np.ndarray) -> ImageData:
        """These images, in this order. Shape: rows (n,) int or (images,) boolean."""
        return ImageData(self.records.take(rows), self.pixels, self.numbers[rows])

    def split_by_patient(self, *, holdout: float = 0.3, seed: int | Seed) -> tuple[ImageData, ImageData]:
        """Split into train and sealed holdout; no patient is in both; stratified by the declared target.

        Raises:
            DataError: fewer than two patients, or a share that leaves one side empty.
        """
        sealed = self.records.holdout_rows(holdout=holdout, seed=seed)
        return self.take(~sealed), self.take(sealed)

    def fingerprint(self) -> str:
        """A SHA-256 over records and pixels; it reads every image."""
        digest = hashlib.sha256(self.records.fingerprint().encode())
        for number in self.numbers:
            digest.update(self.pixels.digest(int(number)))
        return digest.hexdigest()

    def dataset(self, transform: Callable[[np.ndarray], Any], *, cache: Path | None = None) -> Any:
        """For a training loop: a MONAI data set of transformed images.

        Args:
            transform: from the array that `read` gives to what the loop wants, without anything random.
            cache: a folder that keeps what `transform` gave, for images that do not fit into memory; None: memory.
                One folder serves one transform. Its files are named by digests of the pixels, and hold pixels alone.
        """
        from monai.data.dataset import CacheDataset, PersistentDataset

        if cache is None:
            return CacheDataset(list(range(len(self))), _Reading(self, transform), progress=False)
        names = [self.pixels.digest(int(number)).hex() for number in self.numbers]
        place = {name: image for image, name in enumerate(names)}
        return PersistentDataset(names, _Reading(self, transform, place), cache_dir=cache, hash_func=str.encode)


@dataclass(frozen=True)
class _Reading:
    """A MONAI transform from an image's place, or its name in a cache, to what the training loop wants."""

    images: ImageData
    transform: Callable[[np.ndarray], Any]
    place: dict[str, int] | None = None

    def __call__(self, image: Any) -> Any:
        return self.transform(self.images.read(image if self.place is None else self.place[image]))


def identifier_text(value: Any) -> str:
    """An identifier as a header writes it: a table may hold it as a number. Empty where it is missing.

    >>> identifier_text(4711.0), identifier_text("A-1 "), identifier_text(None)
    ('4711', 'A-1', '')
    """
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def described(frame: Any, schema: TableSchema | None = None) -> TableData:
    """Records of images as a table: columns of `DESCRIPTION` as said there, the schema of all others inferred."""
    import dataclasses

    from synthgen.infer import canonical_table, infer_schema

    if schema is None:
        known = {column.name: column for column in DESCRIPTION}
        inferred, _ = infer_schema(frame)
        columns = tuple(
            dataclasses.replace(known[column.name], dtype=column.dtype) if column.name in known else column
            for column in inferred.columns
        )
        schema = dataclasses.replace(inferred, columns=columns)
    return TableData(canonical_table(frame, schema, name="the records of the images"), schema)

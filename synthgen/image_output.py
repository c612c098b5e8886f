"""How do collections of images go out? As pictures beside their records, or as DICOM objects beside their labels."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthgen.dicom.pixels import DicomPixels
from synthgen.dicom.write import MANIFEST
from synthgen.errors import ReleaseRefused, UsageError
from synthgen.image_io import LABELS
from synthgen.images import DESCRIPTION, ImageData
from synthgen.marks import MARKS


def write_pictures(images: ImageData, folder: str | Path) -> Path:
    """Write synthetic images, each as a PNG of 8 or 16 bits or a volume as NPY, and their records; all or nothing.

    Each PNG says in its text chunks that it is synthetic; the records go into `labels.csv`. PNG holds whole numbers
    from 0: values below are written as 0, above 65,535 as that. `read_images` reads the folder.

    Raises:
        UsageError: the folder exists.
        EnvironmentProblem: a full disk or an unwritable folder; nothing is left behind.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from synthgen.folders import appearing
    from synthgen.io import write

    folder = Path(folder)
    if folder.exists():
        raise UsageError(f"the folder {folder.name!r} exists: name another")
    names, marks = [], PngInfo()
    for key, text in MARKS.items():
        marks.add_text(key, text)
    with appearing(folder, "the pictures") as staging:
        for i in range(len(images)):
            image = images.read(i)
            flat = image.ndim == 2 or image.dtype == np.uint8
            names.append(f"{i + 1:06d}.{'png' if flat else 'npy'}")
            if not flat:
                np.save(staging / names[-1], image, allow_pickle=False)
            else:
                top = 255 if image.dtype == np.uint8 or image.max() <= 255 else 65_535
                whole = np.rint(np.clip(image, 0, top)).astype("uint8" if top == 255 else "uint16")
                Image.fromarray(whole).save(staging / names[-1], pnginfo=marks)
        frame = images.records.frame
        frame.insert(0, "file", names)
        write(frame, staging / LABELS)
    return folder


def write_labels(images: ImageData, folder: str | Path) -> Path:
    """Write the labels of each object that `write_dicom` put into a folder, by SOPInstanceUID: `labels.csv`.

    What the headers say is not repeated. `read_images` finds the file by itself.
    """
    objects = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))["objects"]
    return _labelled(images, Path(folder), [(one["image"], one["sop_instance_uid"]) for one in objects])


def objects_fingerprint(images: ImageData) -> str | None:
    """A SHA-256 over the files of DICOM objects, headers and all, in the order of the images; None: there are none."""
    if not isinstance(images.pixels, DicomPixels):
        return None
    total = hashlib.sha256()
    for file in _files(images, images.pixels):
        with images.pixels.entries[file].open() as stream:
            total.update(hashlib.sha256(stream.read()).digest())
    return total.hexdigest()


def _files(images: ImageData, pixels: DicomPixels) -> dict[int, None]:
    """Numbers of the files that the images lie in, in their order."""
    return dict.fromkeys(file for number in images.numbers.tolist() for file, _ in pixels.slices[number])


def copy_objects(images: ImageData, folder: str | Path) -> None:
    """Copy the DICOM objects that images lie in, and no other file, into a new folder, with their labels.

    Raises:
        UsageError: an object holds frames that are not among the images.
        ReleaseRefused: an object does not say that it is synthetic.
        EnvironmentProblem: a full disk or an unwritable folder; nothing is left behind.
    """
    from pydicom import dcmread

    from synthgen.folders import appearing

    pixels = images.pixels
    assert isinstance(pixels, DicomPixels), "these images lie in DICOM objects"
    places = [pixels.slices[number] for number in images.numbers.tolist()]
    known = {place for frames in places for place in frames}
    with appearing(Path(folder), "the images") as staging:
        instances = {}
        for count, file in enumerate(_files(images, pixels), start=1):
            with pixels.entries[file].open() as stream:
                content = stream.read()
            head = dcmread(io.BytesIO(content), stop_before_pixels=True)
            if str(head.get("SyntheticData") or "").strip() != "YES":
                raise ReleaseRefused("an object does not say that it is synthetic: SyntheticData (0008,001C) = YES")
            if any((file, frame) not in known for frame in range(int(head.get("NumberOfFrames") or 1))):
                raise UsageError("a DICOM object holds frames that are not among these images: take all or none of it")
            (staging / f"{count:06d}.dcm").write_bytes(content)
            instances[file] = str(head.SOPInstanceUID)
        objects = [
            (i, instances[file]) for i, frames in enumerate(places) for file in dict.fromkeys(f for f, _ in frames)
        ]
        _labelled(images, staging, objects)


def _labelled(images: ImageData, folder: Path, objects: Sequence[tuple[int, str]]) -> Path:
    """Write the labels of objects: which image each is of, and its SOPInstanceUID."""
    import pandas as pd

    own = {column.name for column in DESCRIPTION}
    labels = [column.name for column in images.records.schema.learned if column.name not in own]
    table = images.records.frame[labels].iloc[[image for image, _ in objects]].reset_index(drop=True)
    table.insert(0, "SOPInstanceUID", pd.Series([instance for _, instance in objects], dtype=object))
    table = table.drop_duplicates("SOPInstanceUID")  # frames of an object have its labels
    table.to_csv(path := folder / LABELS, index=False)
    return path

"""How do collections of images come in? DICOM sources, pictures with a table of labels, arrays in MedMNIST's layout."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthgen.dicom.files import Entry, files
from synthgen.dicom.header import Header, Reason, Refused, digest, looks_like_dicom
from synthgen.dicom.index import Index, index
from synthgen.dicom.pixels import PROJECTIONS, DicomPixels
from synthgen.dicom.screen import screened
from synthgen.dicom.series import Series
from synthgen.errors import DataError, UsageError
from synthgen.frames import from_native
from synthgen.images import DESCRIPTION, ArrayPixels, ImageData, array_digest, described, identifier_text
from synthgen.io import read_raw
from synthgen.protocols import Run
from synthgen.schema import TableSchema

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Part = Literal["train", "val", "test"]
Unit = Literal["slice", "volume"]
_KEYS = {  # column of a table of labels -> what it joins by
    "SOPInstanceUID": "instance",
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "study",
    "PatientID": "patient",
}
LABELS = "labels.csv"  # what describes the images of a folder
_ARCHIVES = frozenset({".npz", ".zip", ".tar", ".dcm"})
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY")
_NAMES = ("file", "filename", "file_name", "image", "path")  # columns of a table of labels that name a picture
_LARGEST = 2**28  # pixels of a picture


def read_images(
    source: str | Path,
    *,
    labels: Any = None,
    schema: TableSchema | None = None,
    target: str | None = None,
    unit: Unit = "slice",
    part: Part = "train",
    accept: Collection[Reason] = (),
    ocr: bool = False,
    patients: Sequence[str] | None = None,
    run: Run | None = None,
) -> ImageData:
    """Read a collection of images: what is in the files' headers, joined with a table of labels.

    Args:
        source: a folder, DICOMDIR, zip or tar of DICOM objects or of PNG, JPEG and NPY pictures; or an `.npz` in
            MedMNIST's layout (`train_images`, `train_labels`, ...).
        labels: a table or its file. For DICOM it has a column PatientID, StudyInstanceUID, SeriesInstanceUID or
            SOPInstanceUID; for pictures a column `file` with names below the source, and `patient` where several
            pictures may be of one. None: `labels.csv` of the source, where it is a folder that has one.
        schema: of the records (see `synthgen.images.DESCRIPTION`) and labels; inferred when absent.
        target: the column that a model would predict.
        unit: each frame of a DICOM source is an image, or each series that is a volume.
        part: of an `.npz`.
        accept: reasons that put no DICOM object aside, such as "secondary capture".
        ocr: search for burned-in text with the extra `ocr`.
        patients: identifiers of a table of patients, in its order. An image's column `patient` is then the place of its
            patient there, from 1, or 0 where it is of nobody.
        run: told of progress.

    Raises:
        UsageError: no such source.
        DataError: nothing to learn from, or labels that do not fit.
        EnvironmentProblem: a source that may not be read, or a missing extra.

    >>> from pydicom.data import get_testdata_file
    >>> images = read_images(get_testdata_file("CT_small.dcm"))
    >>> images, images.records.table["modality"][0], images.read(0).shape
    (ImageData(1 images of 1 patients), 'CT', (128, 128))
    """
    path = Path(source)
    table = _labels(labels if labels is not None or not (path / LABELS).is_file() else path / LABELS)
    if path.suffix.lower() == ".npz":
        if table is not None:
            raise UsageError("an .npz holds its own labels: leave the table of labels out")
        if patients is not None:
            raise UsageError("an .npz names no patients: give DICOM, or pictures with a column 'patient'")
        images = _read_npz(path, part, schema)
    elif _has_pictures(path):
        images = _read_pictures(path, table, schema, patients)
    else:
        found = screened(index(path, accept=accept, run=run), accept=accept, ocr=ocr, run=run)
        images = of_index(found, unit=unit, labels=table, schema=schema, patients=patients)
    if target is not None:
        records = replace(images.records, schema=images.records.schema.assign("target", target))
        images = replace(images, records=records)
    return images


def of_index(
    found: Index,
    *,
    unit: Unit = "slice",
    labels: pd.DataFrame | None = None,
    schema: TableSchema | None = None,
    patients: Sequence[str] | None = None,
) -> ImageData:
    """The images of an index, with labels joined by patient, study, series or instance.

    Raises:
        DataError: no image, or labels that do not fit.
    """
    import pandas as pd

    aside = ", ".join(f"{count:,} {reason}" for reason, count in found.reasons.items())
    if found.quarantine:
        log.warning("%s of %s files were put aside: %s", f"{len(found.quarantine):,}", f"{len(found.entries):,}", aside)
    chosen = [series for series in found.series if unit == "slice" or series.geometry == "volume"]
    if len(chosen) < len(found.series):
        log.warning("%d of %d series are no regular volume", len(found.series) - len(chosen), len(found.series))
    if not chosen:
        what = "volume" if unit == "volume" else "image"
        raise DataError(f"no {what} to learn from" + (f"; files put aside: {aside}" if aside else ""))
    places = [
        (series, group) for series in chosen for group in ([series.slices] if unit == "volume" else _each(series))
    ]
    heads = [found.headers[group[0][0]] for _, group in places]
    records = pd.DataFrame([_record(series, header) for (series, _), header in zip(places, heads, strict=True)])
    if patients is not None:
        known = {digest("PatientID", one): str(i + 1) for i, one in enumerate(patients)}
        records["patient"] = [known.get(header.patient, "0") for header in heads]
    records = records.dropna(axis=1, how="all")
    if labels is not None:
        records = _joined(records, heads, labels)
    pixels = DicomPixels(found.entries, [group for _, group in places], volumes=unit == "volume")
    return ImageData(described(records, schema), pixels, np.arange(len(places)))


def _each(series: Series) -> list[tuple[tuple[int, int], ...]]:
    return [(place,) for place in series.slices]


def _record(series: Series, header: Header) -> dict[str, Any]:
    """One image's record; None: not known."""
    spacing = header.spacing or (None, None)
    shown = header.modality in PROJECTIONS  # through their window already
    window = (None, None) if shown or not header.window else header.window
    return {
        "patient": str(series.patient),
        "study": str(series.study),
        "series": str(series.number),
        "modality": header.modality or None,
        "body_part": header.body_part or None,
        "laterality": header.laterality or None,
        "view": header.view or None,
        "sex": header.sex or None,
        "age_years": header.age_years,
        "row_spacing_mm": spacing[0],
        "column_spacing_mm": spacing[1],
        "slice_spacing_mm": series.between,
        "window_center": window[0],
        "window_width": window[1],
        "bits": header.bits,
    }


def _joined(records: pd.DataFrame, headers: Sequence[Header], labels: pd.DataFrame) -> pd.DataFrame:
    """Records beside their labels; an image without keeps missing ones.

    Raises:
        DataError: no key, a key that stands there twice, names that are taken, or not one match.
    """
    keys = [name for name in _KEYS if name in labels.columns]
    if not keys:
        raise DataError(f"the table of labels needs one of the columns {', '.join(reversed(_KEYS))}")
    key = keys[0]  # the finest
    digests = [digest(key, identifier_text(value)) for value in labels[key]]
    values = labels.drop(columns=keys).set_axis(digests, axis=0)
    if repeated := int(values.index.duplicated().sum()):
        raise DataError(f"{repeated:,} rows of the table of labels repeat the {key} of another row")
    if taken := sorted({*values.columns} & {*records.columns, *(column.name for column in DESCRIPTION)} - {"sex"}):
        raise DataError(f"columns of the table of labels have the names of the images' own: {', '.join(taken)}")
    own = [getattr(header, _KEYS[key]) for header in headers]
    unlabelled = sum(one not in values.index for one in own)
    if unlabelled == len(own):
        raise DataError(f"no image has the {key} of any row of the table of labels")
    if unlabelled or set(values.index) - set(own):
        unused = len(set(values.index) - set(own))
        log.warning("%s images have no labels; %s rows of labels have no image", f"{unlabelled:,}", f"{unused:,}")
    records = records.drop(columns=[name for name in values.columns if name in records.columns])
    return records.join(values.reindex(own).reset_index(drop=True))


def _labels(labels: Any) -> pd.DataFrame | None:
    if labels is None:
        return None
    raw: pd.DataFrame = read_raw(labels) if isinstance(labels, str | Path) else from_native(labels)[0]
    return raw


def _read_npz(path: Path, part: Part, schema: TableSchema | None) -> ImageData:
    """MedMNIST's layout: each image is a patient, since it names none."""
    import pandas as pd

    if not path.is_file():
        raise UsageError("there is no such file to read images from")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in (f"{part}_images", f"{part}_labels") if name not in arrays]
            if missing:
                raise DataError(f"the .npz has no {' and no '.join(missing)}")
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError("the .npz cannot be read: broken, or it holds Python objects") from error
    labels = labels.reshape(len(labels), -1)
    if len(labels) != len(images) or images.ndim < 3 or not labels.shape[1]:
        raise DataError(f"the .npz has {len(images):,} images and {len(labels):,} labels")
    names = ["label"] if labels.shape[1] == 1 else [f"label_{i}" for i in range(labels.shape[1])]
    columns = {name: labels[:, i].astype(str) for i, name in enumerate(names)}
    return ImageData(described(pd.DataFrame(columns), schema), ArrayPixels(images), np.arange(len(images)))


def _has_pictures(source: Path) -> bool:
    """Whether a source holds pictures and no DICOM object."""
    found = False
    for entry in files(source):
        start = _start(entry)
        if looks_like_dicom(start):
            return False
        found |= start.startswith(_PICTURES)
    return found


def _start(entry: Entry) -> bytes:
    try:
        with entry.open() as file:
            return file.read(132)
    except (Refused, OSError):
        return b""


@dataclass(frozen=True, eq=False)
class PicturePixels:
    """Images that lie in PNG, JPEG or NPY files."""

    entries: Sequence[Entry]

    def read(self, number: int) -> np.ndarray:
        """One picture, grey as stored or RGB.

        Raises:
            DataError: it cannot be decoded.
        """
        try:
            with self.entries[number].open() as file:
                if file.read(6) == _PICTURES[2]:
                    file.seek(0)
                    return np.asarray(np.load(file, allow_pickle=False))
                return _decoded(file)
        except (Refused, ValueError, OSError, EOFError, SyntaxError) as error:
            raise DataError(f"picture {number} cannot be decoded") from error

    def digest(self, number: int) -> bytes:
        """Of what `read` gives."""
        return array_digest(self.read(number))


def _decoded(file: Any) -> np.ndarray:
    from PIL import Image

    with Image.open(file, formats=("PNG", "JPEG")) as picture:
        if picture.width * picture.height > _LARGEST:
            raise ValueError("too large")
        grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16")
        return np.asarray(picture.convert("L") if picture.mode == "1" else picture if grey else picture.convert("RGB"))


def _read_pictures(
    source: Path, labels: pd.DataFrame | None, schema: TableSchema | None, patients: Sequence[str] | None
) -> ImageData:
    """Pictures beside their rows of the table of labels; those it does not name are left out."""
    named: Mapping[str, Entry] = {
        entry.name.replace("\\", "/"): entry for entry in files(source) if _start(entry).startswith(_PICTURES)
    }
    if patients is not None and (labels is None or "patient" not in labels.columns):
        raise DataError("the table of labels needs a column 'patient', by which pictures find their record")
    if labels is None:
        log.warning("no table of labels: each picture is taken for a patient of its own")
        return ImageData(_bare(len(named)), PicturePixels([*named.values()]), np.arange(len(named)))
    key = next((name for name in _NAMES if name in labels.columns), None)
    if key is None:
        raise DataError(f"the table of labels needs a column that names pictures: {', '.join(_NAMES)}")
    there = labels[key].astype(str).isin(named)
    if not there.any():
        raise DataError(f"no picture has a name that column {key!r} of the table of labels holds")
    if not there.all() or int(there.sum()) < len(named):
        unused = f"{len(set(named) - set(labels[key])):,}"
        log.warning("%s pictures have no labels; %s rows of labels have no picture", unused, f"{int((~there).sum()):,}")
    labels = labels[there].reset_index(drop=True)
    records = labels.drop(columns=[key])
    if patients is not None:
        known = {one: str(i + 1) for i, one in enumerate(patients)}
        records["patient"] = [known.get(identifier_text(value), "0") for value in records["patient"]]
    entries = [named[name] for name in labels[key].astype(str)]
    table = described(records, schema) if len(records.columns) else _bare(len(entries))
    return ImageData(table, PicturePixels(entries), np.arange(len(entries)))


def _bare(images: int) -> Any:
    import pandas as pd

    return described(pd.DataFrame({"patient": [str(i + 1) for i in range(images)]}))


def holds_images(source: str | Path) -> bool:
    """Whether a source is read by `read_images` rather than as a table: by its kind, without reading images.

    >>> holds_images("patients.csv"), holds_images("scans.zip")
    (False, True)
    """
    path = Path(source)
    return path.is_dir() or path.suffix.lower() in _ARCHIVES or path.name == "DICOMDIR"

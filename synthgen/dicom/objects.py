"""Which attributes does a synthetic object have? A whitelist for each kind, so that nothing else can cross.

Source: DICOM PS3.3 A.2 (CR), A.3 (CT), A.4 (MR), A.6 (US), A.8 (SC), A.26 (DX), A.27 (MG); PS3.16 CID 7005 for the
purpose of the contributing equipment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from synthgen import __version__
from synthgen.dicom.terms import HEADS, MAMMOGRAPHY, PROJECTION_VIEWS, body_parts
from synthgen.errors import DataError

Kind = Literal["CT", "MR", "CR", "DX", "MG", "US", "OT"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VOLUMES: frozenset[Kind] = frozenset({"CT", "MR"})
SYNTHESIZING = Code("109100", "DCM", "Synthesizing Equipment")
_ROOT = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES: Mapping[Kind, UID] = {
    "CT": UID(_ROOT + "2"),
    "MR": UID(_ROOT + "4"),
    "CR": UID(_ROOT + "1"),
    "DX": UID(_ROOT + "1.1"),
    "MG": UID(_ROOT + "1.2"),
    "US": UID(_ROOT + "6.1"),
    "OT": UID(_ROOT + "7"),
}
_UNKNOWN_REGION = Code("38266002", "SCT", "Entire body")
_ORIENTATIONS = {"LL": ["P", "F"], "RL": ["A", "F"]}  # of rows and columns; all others are frontal


@dataclass(frozen=True)
class About:
    """What one object says beside its pixels; empty strings where not known."""

    kind: Kind
    patient_id: str
    patient_name: str
    sex: str
    birth_date: date | None
    age_years: int | None
    study_uid: str
    study_date: date
    study_id: str
    series_uid: str
    series_number: int
    frame_of_reference_uid: str
    instance_uid: str
    instance_number: int
    body_part: str
    laterality: str
    view: str
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    slice_mm: float | None  # between slices
    place: int  # of the slice in its volume
    in_volume: bool
    bits: int
    window: tuple[float, float] | None
    generator: str
    text_suspected: bool
    diagnosis: str = ""  # a level of a table, which is nobody's


def object_of(image: np.ndarray, about: About) -> tuple[Dataset, int]:
    """An object with uncompressed pixels, and how many of them were clipped to what its bits can hold.

    Grey values are stored as they are, rounded: signed 16 bits (Hounsfield units) for CT, else unsigned.

    Shape: image (rows, columns), or (rows, columns, 3) uint8.
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SOP_CLASSES[about.kind]
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID(about.instance_uid)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = UID("2.25.283416902463029157640915237346216493")
    data.file_meta.ImplementationVersionName = f"SYNTHGEN_{__version__}"[:16]
    _patient_and_study(data, about)
    _synthetic(data, about)
    clipped = _pixels(data, image, about)
    if about.body_part:
        data.BodyPartExamined = about.body_part
    _KIND[about.kind](data, about)
    paired = not about.body_part or body_parts()[about.body_part].paired
    if paired and "ImageLaterality" not in data:
        data.Laterality = about.laterality if about.laterality in ("L", "R") else ""
    return data, clipped


def _patient_and_study(data: Dataset, about: About) -> None:
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName, data.PatientID = about.patient_name, about.patient_id
    data.PatientBirthDate = f"{about.birth_date:%Y%m%d}" if about.birth_date else ""
    data.PatientSex = about.sex
    if about.age_years is not None:
        data.PatientAge = f"{about.age_years:03d}Y"
    if about.diagnosis:
        data.AdmittingDiagnosesDescription = about.diagnosis
    data.StudyInstanceUID, data.StudyID = about.study_uid, about.study_id
    data.StudyDate, data.StudyTime = f"{about.study_date:%Y%m%d}", "120000"
    data.ContentDate, data.ContentTime = data.StudyDate, data.StudyTime
    data.AccessionNumber = data.ReferringPhysicianName = ""
    data.SeriesInstanceUID, data.SeriesNumber = about.series_uid, about.series_number
    data.InstanceNumber, data.Modality = about.instance_number, about.kind
    data.Manufacturer, data.ManufacturerModelName = "synthgen", about.generator
    data.SoftwareVersions = __version__


def _synthetic(data: Dataset, about: About) -> None:
    """That nobody was imaged, in every way in which the standard lets an object say so."""
    data.SyntheticData = "YES"
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "Synthetic: generated, not acquired"
    data.LongitudinalTemporalInformationModified = "MODIFIED"
    data.DerivationDescription = "Synthetic image, generated by a model"
    data.LossyImageCompression = "00"
    if not about.text_suspected:
        data.BurnedInAnnotation = "NO"
    if about.in_volume and about.body_part in HEADS:
        data.RecognizableVisualFeatures = "YES"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = _coded(SYNTHESIZING)
    equipment.Manufacturer, equipment.ManufacturerModelName = "synthgen", about.generator
    equipment.SoftwareVersions = __version__
    data.ContributingEquipmentSequence = Sequence([equipment])


def _pixels(data: Dataset, image: np.ndarray, about: About) -> int:
    data.Rows, data.Columns = image.shape[:2]
    if image.ndim == 3:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        bits, low, high = 8, 0, 255
        kind: np.dtype[Any] = np.dtype("uint8")
    else:
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        signed = about.kind == "CT"
        bits = _bits(about)
        low, high = (-(2**15), 2**15 - 1) if signed else (0, 2**bits - 1)
        kind = np.dtype("<i2") if signed else np.dtype("<u2" if bits > 8 or about.kind == "MR" else "uint8")
    values = np.rint(image.astype(np.float64))
    if not np.isfinite(values).all():
        raise DataError("an image holds pixels that are no numbers")
    data.BitsAllocated, data.BitsStored, data.HighBit = kind.itemsize * 8, bits, bits - 1
    data.PixelRepresentation = int(kind.kind == "i")
    raw = np.clip(values, low, high).astype(kind).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if kind.itemsize > 1 else "OB"
    return int(np.count_nonzero((values < low) | (values > high)))


def _bits(about: About) -> int:
    """Sixteen for CT, eight for ultrasound, for all others what the record says."""
    return {"CT": 16, "US": 8}.get(about.kind, about.bits)


def _ct(data: Dataset, about: About) -> None:
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    _plane(data, about)
    data.KVP = data.AcquisitionNumber = None
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "HU"
    _window(data, about.window or (40.0, 400.0))


def _mr(data: Dataset, about: About) -> None:
    data.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    _plane(data, about)
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "RM", "NONE", ""
    data.MRAcquisitionType = "3D" if about.in_volume else "2D"
    data.EchoTime = data.EchoTrainLength = data.RepetitionTime = None
    if about.window:
        _window(data, about.window)


def _plane(data: Dataset, about: About) -> None:
    """Where a slice lies: axial, the first one at the origin."""
    assert about.spacing_mm, "the writer asks for it"
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = about.frame_of_reference_uid, ""
    data.PatientPosition = "HFS"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [0, 0, _decimal(about.place * (about.slice_mm or 0))]
    data.PixelSpacing = [_decimal(value) for value in about.spacing_mm]
    data.SliceThickness = None if about.slice_mm is None else _decimal(about.slice_mm)


def _cr(data: Dataset, about: About) -> None:
    data.ImageType = ["DERIVED", "SECONDARY"]
    data.ViewPosition, data.PatientOrientation = about.view, _ORIENTATIONS.get(about.view, ["L", "F"])
    data.BodyPartExamined = about.body_part
    if about.spacing_mm:
        data.ImagerPixelSpacing = [_decimal(value) for value in about.spacing_mm]


def _dx(data: Dataset, about: About) -> None:
    """For presentation: lower values are more intense X-rays."""
    assert about.spacing_mm, "the writer asks for it"
    data.ImageType = ["DERIVED", "SECONDARY", ""]
    data.PresentationIntentType = "FOR PRESENTATION"
    data.AnatomicRegionSequence = _coded(body_parts()[about.body_part].code if about.body_part else _UNKNOWN_REGION)
    data.ImageLaterality = about.laterality if about.laterality in ("L", "R", "B") else "U"
    data.PatientOrientation = _ORIENTATIONS.get(about.view, ["L", "F"])
    data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", -1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.PresentationLUTShape = "IDENTITY"
    _window(data, (2.0 ** (about.bits - 1), 2.0**about.bits))  # values are as they are shown
    data.BurnedInAnnotation = "YES" if about.text_suspected else "NO"
    data.DetectorType, data.PositionerType = "", ""
    data.ImagerPixelSpacing = [_decimal(value) for value in about.spacing_mm]
    data.AcquisitionContextSequence = Sequence([])
    if about.view:
        data.ViewPosition = about.view
    if about.view in PROJECTION_VIEWS:
        data.ViewCodeSequence = _coded(PROJECTION_VIEWS[about.view])


def _mg(data: Dataset, about: About) -> None:
    _dx(data, about)
    data.BodyPartExamined, data.OrganExposed, data.PositionerType = "BREAST", "BREAST", "MAMMOGRAPHIC"
    data.AnatomicRegionSequence = _coded(body_parts()["BREAST"].code)
    view = _coded(MAMMOGRAPHY[about.view])
    view[0].ViewModifierCodeSequence = Sequence([])
    data.ViewCodeSequence = view
    if "ViewPosition" in data:
        del data.ViewPosition


def _us(data: Dataset, about: About) -> None:
    data.ImageType = ["DERIVED", "SECONDARY", "BREAST" if about.body_part == "BREAST" else "ABDOMINAL"]
    data.PatientOrientation = ""


def _sc(data: Dataset, about: About) -> None:
    data.ImageType, data.ConversionType = ["DERIVED", "SECONDARY"], "SYN"
    data.PatientOrientation = ""
    if about.spacing_mm:
        data.PixelSpacing = [_decimal(value) for value in about.spacing_mm]
        data.PixelSpacingCalibrationType = "GEOMETRY"
        data.PixelSpacingCalibrationDescription = "as generated"


_KIND: Mapping[Kind, Callable[[Dataset, About], None]] = {
    "CT": _ct,
    "MR": _mr,
    "CR": _cr,
    "DX": _dx,
    "MG": _mg,
    "US": _us,
    "OT": _sc,
}


def _window(data: Dataset, window: tuple[float, float]) -> None:
    data.WindowCenter, data.WindowWidth = _decimal(window[0]), _decimal(max(window[1], 1.0))


def _coded(code: Code) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return Sequence([item])


def _decimal(value: float) -> DSfloat:
    """At most 16 characters, as the standard wants it."""
    return DSfloat(float(value), auto_format=True)

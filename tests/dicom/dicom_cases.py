"""Small DICOM objects made by hand, as scanners and archives make them, with names and numbers to look for."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from synthgen.dicom.header import quiet

CT, MR, CR, SC = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
)
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CANARIES = {
    "PatientName": "Featherstonehaugh^Peregrine",
    "PatientID": "MRN-7731994-QX",
    "PatientBirthDate": "19310217",
    "StudyDate": "20190823",
    "AccessionNumber": "ACC5559127",
    "ReferringPhysicianName": "Quackenbush^Ottoline",
    "InstitutionName": "St Swithuns Infirmary",
    "StudyDescription": "Thorax of Peregrine F.",
    "DeviceSerialNumber": "SN-88271-KZ",
}
UID_ROOT = "1.2.826.0.1.3680043.9.7777"
PRIVATE = "private note about Featherstonehaugh"
_KINDS = {"uint8": 8, "uint16": 16, "int16": 16, "uint32": 32}


def image_object(pixels=None, *, at=1, series=1, study=1, patient=None, modality="CT", **elements):
    """An image with canaries in its header; `elements` replace or, where None, delete attributes."""
    pixels = np.arange(64, dtype="uint16").reshape(8, 8) if pixels is None else pixels
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = {"CT": CT, "MR": MR, "CR": CR, "OT": SC}[modality]
    data.SOPInstanceUID = f"{UID_ROOT}.{study}.{series}.{at}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{UID_ROOT}.{study}", f"{UID_ROOT}.{study}.{series}"
    for keyword, value in CANARIES.items():
        setattr(data, keyword, value)
    if patient is not None:
        data.PatientID = patient
    data.StudyTime, data.StudyID, data.SeriesNumber = "101500", "S1", series
    data.Modality, data.InstanceNumber = modality, 1_000 - at  # against the order of space
    data.PatientSex, data.PatientAge, data.BodyPartExamined = "F", "067Y", "CHEST"
    block = data.private_block(0x0009, "Vendor", create=True)
    block.add_new(0x01, "LT", PRIVATE)
    if modality in ("CT", "MR"):
        data.PixelSpacing, data.ImageOrientationPatient = [0.5, 0.5], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient, data.SliceThickness = [0, 0, 2.5 * at], 2.5
    set_pixels(data, pixels)
    with quiet():  # what is wrong is meant to be
        for keyword, value in elements.items():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
    return data


def set_pixels(data, pixels):
    """Shape: pixels (rows, columns), (rows, columns, 3), or (frames, rows, columns)."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colour:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    if pixels.dtype == np.float32:
        data.BitsAllocated = 32
        data.FloatPixelData = pixels.tobytes()
        return
    bits = _KINDS[pixels.dtype.name]
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"


def save(data, path):
    """Write an object as a scanner would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID", "")
    data.file_meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID", "")
    with quiet():
        dcmwrite(path, data, enforce_file_format=bool(data.get("SOPInstanceUID")), overwrite=True)
    return path


def volume(folder, *, slices=5, step=(0, 0, 2.5), series=1, first=1, **elements):
    """A series of slices, whose names and instance numbers run against the order of space."""
    for i in range(slices):
        pixels = np.full((8, 8), 100 * (i + first), dtype="uint16")
        place = [axis * (i + first) for axis in step]
        data = image_object(pixels, at=i + first, series=series, ImagePositionPatient=place, **elements)
        save(data, folder / f"IM{series}{99 - i - first:03d}")
    return folder


def enhanced(pixels, *, slopes):
    """A multi-frame CT, the geometry and rescale of each frame in its functional groups."""
    data = image_object(pixels, ImageOrientationPatient=None, ImagePositionPatient=None, PixelSpacing=None)
    data.SOPClassUID = ENHANCED_CT
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.6], 3
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for i, slope in enumerate(slopes):
        place, values, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 3 * (len(slopes) - i)]  # downwards
        values.RescaleIntercept, values.RescaleSlope, values.RescaleType = -1000, slope, "HU"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Sequence([place]), Sequence([values])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return data


def canary_bytes():
    """What must not be found in any output, in the encodings that a file may use."""
    texts = [value for key, value in CANARIES.items() if key not in ("PatientBirthDate", "StudyDate")]
    texts += ["Featherstonehaugh", "Peregrine", "Quackenbush", UID_ROOT, PRIVATE, "19310217", "20190823"]
    texts += ["PEREGRINE", "QUACKENBUSH"]  # words that have the form of a code
    return [text.encode(code) for text in texts for code in ("utf-8", "utf-16-le")]


def smooth(seed, size=160):
    """Pixels without an edge."""
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    a, b = np.random.default_rng(seed).uniform(-0.5, 0.5, 2)
    return (2_000 * np.exp(-((x - a) ** 2) - (y - b) ** 2)).astype("uint16")


def with_text(pixels, text):
    """Pixels with a line of text burned in, as bright as they get."""
    mask = Image.new("L", pixels.shape[::-1])
    ImageDraw.Draw(mask).text((10, 20), text, fill=255, font=ImageFont.load_default(16))
    return np.where(np.asarray(mask) > 127, pixels.max(), pixels).astype(pixels.dtype)

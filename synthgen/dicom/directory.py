"""How does a DICOMDIR list the objects of a folder? Patients, studies, series and images, linked by byte offsets.

Source: DICOM PS3.3 F.3 and F.4. pydicom's FileSet copies every file and draws a random UID; this writes a list.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence as Several
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

_LEVELS = (  # type of a record, what tells two apart, and what it holds beside
    ("PATIENT", "PatientID", ("PatientName",)),
    ("STUDY", "StudyInstanceUID", ("StudyDate", "StudyTime", "StudyDescription", "StudyID", "AccessionNumber")),
    ("SERIES", "SeriesInstanceUID", ("Modality", "SeriesNumber")),
    ("IMAGE", "ReferencedSOPInstanceUIDInFile", ()),
)


def directory_entry(data: Dataset, name: tuple[str, ...]) -> Dataset:
    """What the DICOMDIR needs of an object, without its pixels."""
    entry = Dataset()
    for _, key, others in _LEVELS[:-1]:
        for keyword in (key, *others):
            setattr(entry, keyword, data.get(keyword, ""))
    entry.ReferencedFileID = list(name)
    entry.ReferencedSOPClassUIDInFile, entry.ReferencedSOPInstanceUIDInFile = data.SOPClassUID, data.SOPInstanceUID
    entry.ReferencedTransferSyntaxUIDInFile = data.file_meta.TransferSyntaxUID
    entry.InstanceNumber = data.InstanceNumber
    return entry


def write_directory(entries: Several[Dataset], path: Path, *, uid: str) -> None:
    """Write a DICOMDIR of objects that lie together by patient, study and series."""
    records: list[Dataset] = []
    children: list[list[int]] = [[]]  # of the root, then of each record
    where: dict[tuple[str, ...], int] = {}
    for entry in entries:
        lineage: tuple[str, ...] = ()
        above = 0
        for kind, key, others in _LEVELS:
            lineage = (*lineage, str(entry[key].value))
            if lineage not in where:
                records.append(_record(kind, key, others, entry))
                children.append([])
                where[lineage] = len(records)
                children[above].append(len(records))
            above = where[lineage]
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.FileSetID = "SYNTHGEN"
    data.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    data.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    data.FileSetConsistencyFlag = 0
    data.DirectoryRecordSequence = Sequence(records)
    _link(data, children, _offsets(data))
    path.write_bytes(_bytes(data))


def _record(kind: str, key: str, others: Several[str], entry: Dataset) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.RecordInUseFlag, record.DirectoryRecordType = 0xFFFF, kind
    record.SpecificCharacterSet = "ISO_IR 192"
    copied = (key, *others)
    if kind == "IMAGE":
        copied = tuple(element.keyword for element in entry if element.keyword.startswith("Referenced"))
        copied = (*copied, "InstanceNumber")
    for keyword in copied:
        setattr(record, keyword, entry[keyword].value)
    return record


def _offsets(data: Dataset) -> list[int]:
    """Where each record begins in the file; offsets take the same bytes whatever they are."""
    read = dcmread(io.BytesIO(_bytes(data)))
    return [int(record.seq_item_tell) for record in read.DirectoryRecordSequence]  # type: ignore[attr-defined]


def _link(data: Dataset, children: list[list[int]], offsets: list[int]) -> None:
    records = data.DirectoryRecordSequence
    data.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = offsets[children[0][0] - 1]
    data.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = offsets[children[0][-1] - 1]
    for above, below in enumerate(children):
        if above and below:
            records[above - 1].OffsetOfReferencedLowerLevelDirectoryEntity = offsets[below[0] - 1]
        for one, following in itertools.pairwise(below):
            records[one - 1].OffsetOfTheNextDirectoryRecord = offsets[following - 1]


def _bytes(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()

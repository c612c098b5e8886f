"""The judges of written DICOM objects: clean where all is well, and each planted fault is found and not quoted."""

import shutil

import numpy as np
import pytest
from pydicom import dcmread

from synthgen.dicom.header import quiet
from synthgen.dicom.write import write_dicom
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.images import ImageData
from synthgen.validators import dicom as judges

CANARY = "Featherstonehaugh"


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def volumes(n=2):
    """Volumes of four slices in Hounsfield units."""
    shape = (4, 16, 12)
    arrays = [np.arange(np.prod(shape), dtype="float32").reshape(shape) - 300 + 5 * i for i in range(n)]
    records = {
        "patient": [f"p{i}" for i in range(n)],
        "modality": ["CT"] * n,
        "body_part": ["CHEST"] * n,
        "sex": ["F"] * n,
        "age_years": [50] * n,
        "row_spacing_mm": [0.7] * n,
        "column_spacing_mm": [0.6] * n,
        "slice_spacing_mm": [2.5] * n,
    }
    return ImageData.of_arrays(arrays, records)


@pytest.fixture
def folder(tmp_path):
    write_dicom(volumes(), tmp_path / "out", seed=1, generator="test")
    return tmp_path / "out"


def changed(folder, change, which=0):
    """One object after `change` was done to it."""
    path = judges.dicom_objects(folder)[which]
    data = dcmread(path)
    with quiet():
        change(data)
        data.save_as(path)
    return folder


def put(**elements):
    return lambda data: [setattr(data, keyword, value) for keyword, value in elements.items()]


def cut(keyword):
    return lambda data: delattr(data, keyword)


def test_what_was_written_is_clean(folder):
    for judge in (judges.conformance, judges.marks):
        assert judge(folder) == judges.Conformance(judge(folder).judge, 8)
    assert judges.volumes_kept(volumes(), folder) == judges.Conformance("volumes of highdicom", 8)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (cut("KVP"), "ct-image: KVP (type 2) is missing"),
        (cut("ImagePositionPatient"), "image-plane: ImagePositionPatient (type 1) is missing"),
        (put(StudyInstanceUID=""), "general-study: StudyInstanceUID (type 1) is empty"),
        (put(SOPClassUID="1.2.3"), "SOPClassUID is not of a known object"),
        (
            lambda data: delattr(data.ContributingEquipmentSequence[0], "Manufacturer"),
            "sop-common: ContributingEquipmentSequence.Manufacturer (type 1) is missing",
        ),
    ],
)
def test_a_missing_attribute_is_found_in_the_tables(folder, change, complaint):
    assert judges.conformance(changed(folder, change)).errors == {complaint: 1}


def test_every_attribute_of_type_1_and_2_is_missed(folder):
    """Deleting one at a time: of those that the tables call mandatory none goes unnoticed."""
    path = judges.dicom_objects(folder)[0]
    data = dcmread(path)
    required = {
        attribute["keyword"]
        for module in judges._table("iod_module_map")["ct-image"]
        if module["usage"] == "M"
        for attribute in judges._table("module_attribute_map")[module["key"]]
        if attribute["type"] in ("1", "2") and not attribute["path"]
    }
    assert len(required) > 35
    for keyword in sorted(required - {"SOPClassUID"}):
        without = dcmread(path)
        delattr(without, keyword)
        assert any(keyword in complaint for complaint in judges._against_tables(without)), keyword
    assert not list(judges._against_tables(data))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put(SyntheticData="NO"), "SyntheticData is not YES"),
        (cut("PatientIdentityRemoved"), "PatientIdentityRemoved is not YES"),
        (put(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"]), "ImageType is not DERIVED, SECONDARY"),
        (cut("ContributingEquipmentSequence"), "ContributingEquipmentSequence does not name synthgen"),
        (lambda data: data.private_block(0x0009, "V", create=True).add_new(1, "LT", CANARY), "a private attribute"),
        (put(ReferencedImageSequence=[]), "ReferencedImageSequence refers to a source"),
        (
            lambda data: setattr(data["KVP"], "_value", "120.000000000000000001"),
            "KVP has more than 16 characters",
        ),
    ],
)
def test_a_missing_mark_is_found(folder, change, complaint):
    assert complaint in judges.marks(changed(folder, change)).errors


@needs("dciodvfy")
def test_dciodvfy_is_clean_but_for_the_one_attribute_it_does_not_know(folder):
    report = judges.dciodvfy(folder)
    assert (report.objects, report.errors, report.allowed) == (8, {}, 8)
    assert judges.dciodvfy(folder, at_most=3).objects == 3


@needs("dciodvfy")
def test_dciodvfy_finds_a_fault_and_its_complaint_quotes_no_value(folder):
    changed(folder, cut("KVP"))
    changed(folder, put(Modality="ZZTOP"), which=1)
    changed(folder, put(StudyDate="2001x"), which=2)
    report = judges.dciodvfy(folder)
    assert report.errors["Missing attribute Type 2 Required Element=<KVP> Module=<CTImage>"] == 1
    said = str(report)
    assert "Modality" in said
    assert "Study Date" in said
    assert not any(value in said for value in ("ZZTOP", "2001x", str(folder)))


@needs("dcentvfy")
def test_dcentvfy_finds_objects_that_disagree_and_quotes_no_identifier(folder):
    assert judges.dcentvfy(folder) == judges.Conformance("dcentvfy", 8)
    report = judges.dcentvfy(changed(folder, put(PatientID=CANARY)))
    assert report.error_count
    assert CANARY not in str(report)
    assert "SYN-" not in str(report)


@needs("dcmftest")
def test_dcmftest_takes_objects_and_directory(folder):
    assert judges.dcmftest(folder) == judges.Conformance("dcmftest", 9)
    path = folder / "DICOMDIR"
    path.write_bytes(path.read_bytes()[:100])
    assert judges.dcmftest(folder).errors == {"not a DICOM file": 1}


def test_a_program_that_is_missing_hangs_or_crashes(folder, monkeypatch, tmp_path):
    def stand_in(script):
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin" / "dciodvfy"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(EnvironmentProblem, match="dicom3tools"):
        judges.dciodvfy(folder)
    stand_in("while :; do :; done")
    assert judges.dciodvfy(folder, at_most=1, max_seconds=0.2).errors == {"no answer in time": 1}
    stand_in("kill -9 $$")
    assert judges.dciodvfy(folder, at_most=1).errors == {"stopped without an answer": 1}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put(PixelSpacing=[0.7, 0.61]), "no regular volume"),  # of one slice alone
        (put(ImagePositionPatient=[0, 0, 1]), "no regular volume"),
        (lambda data: setattr(data, "PixelData", bytes(len(data.PixelData))), "values differ"),
    ],
)
def test_a_volume_that_came_out_otherwise_is_found(folder, change, complaint):
    assert judges.volumes_kept(volumes(), changed(folder, change)).errors == {complaint: 1}


def test_a_volume_with_another_spacing_or_upside_down_is_found(folder):
    for which in range(4):
        changed(folder, put(PixelSpacing=[0.7, 0.61]), which)
    assert judges.volumes_kept(volumes(), folder).errors == {"column_spacing_mm differs": 1}
    for which in range(4, 8):
        changed(folder, lambda data: data.ImagePositionPatient.__setitem__(2, -data.ImagePositionPatient[2]), which)
    assert judges.volumes_kept(volumes(), folder).errors == {"column_spacing_mm differs": 1, "values differ": 1}


def test_a_manifest_that_says_nothing(folder):
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="manifest"):
        judges.volumes_kept(volumes(), folder)
    with pytest.raises(DataError, match="no DICOM object"):
        judges.conformance(folder / "nowhere")


def test_an_identifier_is_found_wherever_it_hides(folder, tmp_path):
    assert judges.identifier_search(folder, [CANARY, "p0p1p2"]) == ()
    changed(folder, put(PatientName=CANARY.upper()), which=0)
    changed(folder, lambda data: data.private_block(0x0009, "V", create=True).add_new(1, "LT", f"x{CANARY}y"), which=1)
    (folder / "note.bin").write_bytes(b"\x00" + CANARY.encode("utf-16-le"))
    (folder / f"{CANARY}.txt").write_text("")
    found = judges.identifier_search(folder, ["nobody", CANARY])
    assert {one.identifier for one in found} == {1}
    assert sorted(one.where for one in found) == ["file name", "utf-16-le", "utf-8", "utf-8"]
    assert CANARY not in str(found)


def test_an_identifier_is_found_in_a_deflated_header_and_in_other_character_sets(folder):
    path = judges.dicom_objects(folder)[0]
    data = dcmread(path)
    data.PatientName, data.StudyDescription = CANARY, "Ærøskøbing Hospital"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data.save_as(path)
    changed(folder, put(SpecificCharacterSet="ISO_IR 100", StudyDescription="Ærøskøbing Hospital"), which=1)
    found = judges.identifier_search(folder, [CANARY, "Ærøskøbing"])
    assert [(one.identifier, one.where) for one in found] == [(0, "header"), (1, "header"), (1, "latin-1")]


def test_identifiers_that_any_pixels_hold_are_not_searched_for(folder):
    for identifiers in ([], ["abc"]):
        with pytest.raises(UsageError, match="at least 4"):
            judges.identifier_search(folder, identifiers)

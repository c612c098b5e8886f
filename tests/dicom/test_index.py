"""Headers, series and what is put aside: everything that scanners, archives and attackers produce gets a reason."""

import contextlib
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from dicom_cases import CANARIES, canary_bytes, enhanced, image_object, save, volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian

from synthgen.dicom import header as headers
from synthgen.dicom.header import ACCEPTABLE, Refused, read_header
from synthgen.dicom.index import index
from synthgen.dicom.pixels import read_entry, read_frames
from synthgen.errors import DataError, UsageError

PYDICOM = Path(pydicom.data.__file__).parent / "test_files"


def test_every_test_file_of_pydicom_is_read_or_put_aside_with_a_reason(caplog):
    found = index(PYDICOM, accept=ACCEPTABLE)
    assert len(found.headers) + len(found.quarantine) == len(found.entries) > 150
    decoded = 0
    for number, header in found.headers.items():
        try:
            (image,) = read_entry(found.entries[number], [0])
        except Refused:
            continue
        assert image.shape[:2] == (header.rows, header.columns)
        decoded += 1
    assert decoded >= 57
    assert not caplog.records


def test_pydicom_data_too():
    data_store = pytest.importorskip("data_store")
    for entry in index(Path(data_store.__path__[0]), accept=ACCEPTABLE).entries:
        with entry.open() as file, contextlib.suppress(Refused):
            read_frames(file, [0])


def test_slices_lie_in_the_order_of_space_and_not_of_instance_numbers(tmp_path):
    (series,) = index(volume(tmp_path)).series
    assert (series.geometry, series.between, series.frames) == ("volume", 2.5, 5)
    assert [file for file, _ in series.slices] == [4, 3, 2, 1, 0]


def test_two_series_in_one_folder_stay_apart(tmp_path):
    volume(tmp_path, series=1)
    volume(tmp_path, series=2, slices=3)
    assert sorted(series.frames for series in index(tmp_path).series) == [3, 5]


@pytest.mark.parametrize(
    ("change", "geometry"),
    [
        ({"step": (0, 1, 2.5)}, "tilted"),
        ({"step": (0, 0, 0)}, "duplicates"),
        ({"ImageOrientationPatient": None}, "unknown"),
    ],
)
def test_geometry_is_read_or_refused_never_invented(tmp_path, change, geometry):
    (series,) = index(volume(tmp_path, **change)).series
    assert series.geometry == geometry
    assert series.between is None


def test_a_gap_is_seen(tmp_path):
    volume(tmp_path, slices=3)
    volume(tmp_path, slices=3, first=6)
    (series,) = index(tmp_path).series
    assert series.geometry == "gaps"


def test_one_series_with_two_orientations_falls_into_two(tmp_path):
    volume(tmp_path, slices=3)
    volume(tmp_path, slices=3, first=4, ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    assert [series.frames for series in index(tmp_path).series] == [3, 3]


def test_frames_of_an_enhanced_object_lie_by_their_functional_groups(tmp_path):
    pixels = np.arange(3 * 64, dtype="uint16").reshape(3, 8, 8)
    save(enhanced(pixels, slopes=[1, 1, 1]), tmp_path / "a")
    (series,) = index(tmp_path).series
    assert (series.geometry, series.between, series.spacing) == ("volume", 3.0, (0.7, 0.6))
    assert series.slices == ((0, 2), (0, 1), (0, 0))


REFUSED = {
    "localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    "screen save": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    "secondary capture": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    "burned-in text": {"BurnedInAnnotation": "YES"},
    "no patient": {"PatientID": None},
    "no instance": {"SOPInstanceUID": ""},
    "image of no size": {"Rows": 0},
    "fewer pixels than announced": {"Rows": 9},
    "image too large": {"Rows": 65_535, "Columns": 65_535},
    "no pixels": {"PixelData": None},
    "contradictory geometry": {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_learned_from_is_put_aside_and_the_rest_goes_on(tmp_path, reason):
    save(image_object(at=1), tmp_path / "good")
    save(image_object(at=2, **REFUSED[reason]), tmp_path / "bad")
    found = index(tmp_path)
    assert found.reasons == {reason: 1}
    assert len(found.headers) == 1
    if reason in ACCEPTABLE:
        assert not index(tmp_path, accept=[reason]).quarantine
    else:
        with pytest.raises(UsageError, match="cannot be accepted"):
            index(tmp_path, accept=[reason])


def test_zero_frames_spacing_of_zero_and_private_objects(tmp_path):
    save(image_object(at=1, NumberOfFrames=0), tmp_path / "a")
    save(image_object(at=2, PixelSpacing=[0, 0]), tmp_path / "b")
    private = Dataset()
    private.file_meta = image_object().file_meta
    private.SOPClassUID, private.SOPInstanceUID = "1.2.3.4", "1.2.3.4.5"
    private.private_block(0x0011, "Vendor", create=True).add_new(1, "OB", b"\0" * 100)
    save(private, tmp_path / "c")
    found = index(tmp_path)
    assert sorted(found.quarantine.values()) == ["contradictory geometry", "image of no size", "no pixels"]


def test_the_second_of_two_equal_instances_is_put_aside(tmp_path):
    save(image_object(), tmp_path / "a")
    save(image_object(), tmp_path / "b")
    assert index(tmp_path).quarantine == {1: "duplicate instance"}


def test_names_of_255_characters_in_three_character_sets_and_file_names_with_newlines(tmp_path):
    names = {"ISO_IR 100": "Ä" * 255, "ISO_IR 192": "山田" * 127, "ISO_IR 144": "Ж" * 255}
    for at, (code, name) in enumerate(names.items(), start=1):
        save(image_object(at=at, SpecificCharacterSet=code, PatientName=name), tmp_path / f"a\n{at}")
    found = index(tmp_path)
    assert len(found.headers) == 3
    assert len(found.series) == 1  # of one patient


def test_links_pipes_and_closed_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    save(image_object(), tmp_path / "deep" / "a")
    (tmp_path / "deep" / "back").symlink_to(tmp_path)  # a cycle
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = index(tmp_path)
    assert len(found.headers) == 1
    assert sorted(found.quarantine.values()) == ["may not be read", "not a regular file"]


def test_what_may_not_be_read():
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, which nobody else may enter
        folder = Path(name)
        folder.chmod(0o755)
        save(image_object(at=1), folder / "good")
        save(image_object(at=2), folder / "bad").chmod(0)
        (folder / "closed").mkdir(mode=0)
        with as_nobody():
            found = index(folder)
        (folder / "closed").chmod(0o755)
    assert found.reasons == {"may not be read": 2}
    assert len(found.headers) == 1


@contextlib.contextmanager
def as_nobody():
    """Root may read everything: be somebody else for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_archives_hold_what_their_folder_holds(tmp_path):
    folder = volume(tmp_path / "folder")
    (folder / "notes.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, "below")
    whole = index(folder)
    for name in ("a.zip", "a.tar"):
        found = index(tmp_path / name)
        assert found.series == whole.series
        assert found.reasons == whole.reasons == {"not a DICOM object": 1}
        np.testing.assert_array_equal(read_entry(found.entries[0], [0]), read_entry(whole.entries[0], [0]))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(folder, "below")
    with pytest.raises(DataError, match="compressed tar"):
        index(tmp_path / "a.tar.gz")


def test_bombs_are_put_aside_before_they_are_inflated(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(128) + b"DICM" + bytes(2**27))
    assert index(tmp_path / "a.zip").reasons == {"compressed beyond reason": 1}
    data = image_object(np.zeros((2_048, 2_048), dtype="uint16"))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(data, tmp_path / "deflated" / "a")
    assert not index(tmp_path / "deflated").quarantine
    monkeypatch.setattr(headers, "_MOST_BYTES", 2**24)  # as if it were four hundred times as large
    assert index(tmp_path / "deflated").reasons == {"compressed beyond reason": 1}


def test_a_dicomdir_names_its_files_and_none_outside_its_folder(tmp_path):
    files = FileSet()
    for path in volume(tmp_path / "in").iterdir():
        files.add(path)
    files.write(tmp_path / "out")
    files._stage["t"].cleanup()  # it would warn when it is collected
    (tmp_path / "out" / "stray").write_bytes((tmp_path / "in" / "IM1095").read_bytes())
    found = index(tmp_path / "out" / "DICOMDIR")
    assert len(found.headers) == 5
    next(
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name not in ("DICOMDIR", "stray")
    ).unlink()
    assert index(tmp_path / "out" / "DICOMDIR").reasons == {"listed in the DICOMDIR, but not there": 1}
    raw = (tmp_path / "out" / "DICOMDIR").read_bytes()
    records = pydicom.dcmread(tmp_path / "out" / "DICOMDIR").DirectoryRecordSequence
    name = "\\".join(next(r.ReferencedFileID for r in records if "ReferencedFileID" in r)).encode()
    (tmp_path / "out" / "DICOMDIR").write_bytes(raw.replace(name, (b"..\\" * 9 + b"in\\IM1095")[-len(name) :]))
    assert index(tmp_path / "out" / "DICOMDIR").reasons["listed in the DICOMDIR, but not there"] >= 1


def test_no_source_and_no_image(tmp_path):
    with pytest.raises(UsageError):
        index(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    assert index(tmp_path / "text").reasons == {"not a DICOM object": 1}


def test_nothing_that_identifies_a_patient_leaves_the_header(tmp_path, caplog):
    caplog.set_level("DEBUG")
    save(image_object(PatientAge="Peregrine", PatientBirthDate="not a date"), tmp_path / CANARIES["PatientID"])
    found = index(tmp_path)
    said = repr((found.headers, found.series, found, caplog.text)).encode()
    assert not [canary for canary in canary_bytes() if canary in said]


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "MR_small_RLE.dcm"])
def test_truncated_anywhere(name):
    whole = (PYDICOM / name).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        _survives(whole[:length])


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "image_dfl.dcm", "badVR.dcm"]),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    header_only=st.booleans(),
)
def test_fuzzed_files_are_read_or_refused(name, places, header_only):
    whole = bytearray((PYDICOM / name).read_bytes())
    reach = min(len(whole), 2_000) if header_only else len(whole)
    for place, value in places:
        whole[int(place * (reach - 1))] = value
    _survives(bytes(whole))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=600), st.booleans())
def test_random_bytes_are_refused_or_read(noise, magic):
    _survives((bytes(128) + b"DICM" if magic else b"\x08\x00") + noise)


def _survives(content):
    with contextlib.suppress(Refused):  # and nothing else
        read_header(io.BytesIO(content), len(content), accept=ACCEPTABLE)
    with contextlib.suppress(Refused):
        read_frames(io.BytesIO(content), [0])

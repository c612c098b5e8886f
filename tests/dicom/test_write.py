"""Written objects: conformant for every kind, lossless, deterministic, and without a word of what came in."""

import datetime
import gc
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

from synthgen.dicom.write import write_dicom
from synthgen.errors import DataError, EnvironmentProblem, UsageError
from synthgen.image_io import read_images
from synthgen.images import ImageData
from synthgen.phantom import phantom
from synthgen.validators import dicom as judges

KINDS = ("CT", "MR", "CR", "DX", "MG", "US", "OT")
COMPRESSIONS = ("none", "rle", "jpeg-ls", "jpeg-2000")
BODY_PARTS = {"CT": "CHEST", "MR": "BRAIN", "CR": "CHEST", "DX": "CHEST", "MG": "BREAST", "US": "ABDOMEN", "OT": None}


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def grey(shape=(40, 36), top=255, seed=0):
    """Whole numbers, as float32 from 0 to `top`."""
    values = np.arange(np.prod(shape)) * 37 + seed
    return (values % (top + 1)).reshape(shape).astype("float32")


def collection(arrays, **columns):
    """Images of as many patients, with what every kind of object needs; None leaves a column out."""
    n = len(arrays)
    records = {
        "patient": [f"p{i}" for i in range(n)],
        "sex": ["F"] * n,
        "age_years": [40] * n,
        "row_spacing_mm": [0.5] * n,
        "column_spacing_mm": [0.6] * n,
        "slice_spacing_mm": [2.5] * n,
        **columns,
    }
    return ImageData.of_arrays(arrays, {name: values for name, values in records.items() if values is not None})


def of_kind(kind):
    """One image that any kind of object can hold."""
    extra = {"laterality": ["L"], "view": ["MLO"]} if kind == "MG" else {}
    return collection(
        [grey()], modality=[kind], body_part=[BODY_PARTS[kind]], bits=[8 if kind == "US" else 12], **extra
    )


def written(images, folder, **settings):
    """The objects, in the order of their names."""
    write_dicom(images, folder, **{"seed": 1, "generator": "test", **settings})
    return [dcmread(path) for path in judges.dicom_objects(folder)]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uids(folder):
    names = ("patient_id", "study_instance_uid", "series_instance_uid", "sop_instance_uid")
    objects = json.loads((folder / "manifest.json").read_text())["objects"]
    return {entry[name] for entry in objects for name in names}


@needs("dciodvfy")
@pytest.mark.parametrize("compression", ["none", "rle"])
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error_in_any_kind(tmp_path, kind, compression):
    written(of_kind(kind), tmp_path / "out", compression=compression)
    report = judges.dciodvfy(tmp_path / "out")
    assert (dict(report.errors), report.allowed) == ({}, 1)


@needs("dciodvfy")
def test_dciodvfy_finds_no_error_in_colours_and_volumes(tmp_path):
    colours = np.arange(24 * 20 * 3, dtype="uint32").reshape(24, 20, 3).astype("uint8")
    images = collection(
        [colours, colours, grey((3, 24, 20)), grey((3, 24, 20))],
        modality=["US", "OT", "CT", "MR"],
        body_part=["HEART", None, "HEAD", "BRAIN"],
    )
    written(images, tmp_path / "out")
    report = judges.dciodvfy(tmp_path / "out")
    assert (dict(report.errors), report.allowed) == ({}, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_and_marks_find_nothing_in_any_kind(tmp_path, kind):
    written(of_kind(kind), tmp_path / "out")
    for judge in (judges.conformance, judges.marks):
        assert dict(judge(tmp_path / "out").errors) == {}


@needs("dcentvfy")
@needs("dcmftest")
def test_patients_studies_and_series_agree(tmp_path):
    write_dicom(phantom(8, seed=1, size=32), tmp_path / "out", seed=1, generator="phantom")
    assert dict(judges.dcentvfy(tmp_path / "out").errors) == {}
    assert judges.dcmftest(tmp_path / "out") == judges.Conformance("dcmftest", 10)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["CT", "MR", "DX", "US", "OT"])
def test_pixels_come_back_bit_for_bit(tmp_path, kind, compression):
    images = of_kind(kind)
    data = written(images, tmp_path / "out", compression=compression)[0]
    assert np.array_equal(data.pixel_array, images.read(0))
    assert data.LossyImageCompression == "00"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_hounsfield_units_below_zero_come_back(tmp_path, compression):
    image = grey(top=4000) - 1024
    data = written(collection([image], modality=["CT"]), tmp_path / "out", compression=compression)[0]
    assert np.array_equal(data.pixel_array * data.RescaleSlope + data.RescaleIntercept, image)
    assert (data.RescaleType, data.PixelRepresentation, data.BitsAllocated) == ("HU", 1, 16)


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg-ls"])
@pytest.mark.parametrize("kind", ["US", "OT"])
def test_colours_come_back(tmp_path, kind, compression):
    image = np.arange(9 * 7 * 3, dtype="uint8").reshape(9, 7, 3)  # of an odd number of bytes
    data = written(collection([image], modality=[kind]), tmp_path / "out", compression=compression)[0]
    assert np.array_equal(data.pixel_array, image)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_are_kept_and_what_they_cannot_hold_is_counted(tmp_path, bits):
    image = np.array([[0, 2**bits - 1], [2**bits, -1]], dtype="float32")
    done = write_dicom(collection([image], modality=["CR"], bits=[bits]), tmp_path / "out", seed=1, generator="test")
    data = dcmread(judges.dicom_objects(tmp_path / "out")[0])
    assert (data.BitsStored, done.clipped_pixels) == (bits, 2)
    assert data.pixel_array.tolist() == [[0, 2**bits - 1], [2**bits - 1, 0]]


def test_hounsfield_units_that_16_bits_cannot_hold_are_counted(tmp_path):
    image = np.array([[-40_000, 0], [10, 40_000]], dtype="float32")
    done = write_dicom(collection([image], modality=["CT"]), tmp_path / "out", seed=1, generator="test")
    assert done.clipped_pixels == 2


def test_geometry_comes_back_through_another_reader(tmp_path):
    images = collection(
        [grey((5, 12, 10), top=2000) - 1000, grey((3, 9, 8))],
        modality=["CT", "MR"],
        row_spacing_mm=[1 / 3, 0.7],
        column_spacing_mm=[0.6, 1 / 7],
        slice_spacing_mm=[2.5, 10 / 3],
    )
    write_dicom(images, tmp_path / "out", seed=1, generator="test")
    assert judges.volumes_kept(images, tmp_path / "out") == judges.Conformance("volumes of highdicom", 8)


def test_slices_of_a_volume_share_a_frame_of_reference_and_rise(tmp_path):
    slices = written(collection([grey((5, 12, 10))], modality=["CT"], body_part=["HEAD"]), tmp_path / "out")
    assert len({data.FrameOfReferenceUID for data in slices}) == len({data.SeriesInstanceUID for data in slices}) == 1
    assert [data.ImagePositionPatient[2] for data in slices] == [0, 2.5, 5, 7.5, 10]
    assert [data.InstanceNumber for data in slices] == [1, 2, 3, 4, 5]
    assert {data.RecognizableVisualFeatures for data in slices} == {"YES"}


@pytest.mark.parametrize("kind", ["CT", "MR", "DX", "MG"])
def test_geometry_is_never_invented(tmp_path, kind):
    with pytest.raises(DataError, match="row_spacing_mm"):
        written(collection([grey()], modality=[kind], row_spacing_mm=None), tmp_path / "out")
    if kind in ("CT", "MR"):
        with pytest.raises(DataError, match="slice_spacing_mm"):
            written(collection([grey((3, 8, 8))], modality=[kind], slice_spacing_mm=None), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["CR", "US", "OT"])
def test_these_can_do_without_spacing(tmp_path, kind):
    columns = {"row_spacing_mm": None, "column_spacing_mm": None, "slice_spacing_mm": None}
    data = written(collection([grey()], modality=[kind], body_part=["CHEST"], **columns), tmp_path / "out")[0]
    assert "PixelSpacing" not in data
    assert "ImagerPixelSpacing" not in data


def test_equal_seeds_give_equal_bytes_and_others_other_names(tmp_path):
    images = phantom(4, seed=1, size=32)
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_dicom(images, tmp_path / name, seed=seed, generator="phantom")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert uids(tmp_path / "a").isdisjoint(uids(tmp_path / "c"))
    assert all(name.startswith(("2.25.", "SYN-")) and len(name) <= 64 for name in uids(tmp_path / "a"))


def test_ages_dates_and_patients_agree(tmp_path):
    n = 40
    images = collection([grey((4, 4))] * n, modality=["CR"] * n, age_years=list(range(0, 2 * n, 2)))
    for data in written(images, tmp_path / "out"):
        born, day = (datetime.date.fromisoformat(value) for value in (data.PatientBirthDate, data.StudyDate))
        age = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
        assert data.PatientAge == f"{age:03d}Y"
        assert len(data.PatientAge) == 4
        assert 2000 <= day.year <= 2019
    ages = sorted(int(data.PatientAge[:3]) for data in map(dcmread, judges.dicom_objects(tmp_path / "out")))
    assert ages == list(range(0, 2 * n, 2))


def test_a_stated_study_date_is_kept_on_the_29th_of_february_too(tmp_path):
    images = collection([grey()], modality=["CR"], age_years=[33], study_date=[pd.Timestamp("2016-02-29 10:15")])
    data = written(images, tmp_path / "out")[0]
    assert (data.StudyDate, data.PatientAge) == ("20160229", "033Y")


def test_records_that_contradict_themselves_are_refused_and_not_quoted(tmp_path):
    days = [pd.Timestamp("2010-01-01"), pd.Timestamp("2011-01-01")]
    images = collection(
        [grey()] * 2, modality=["CR"] * 2, patient=["Jones"] * 2, study=["a", "b"], age_years=[20, 87], study_date=days
    )
    with pytest.raises(DataError, match="contradict") as error:
        written(images, tmp_path / "out")
    assert not any(word in str(error.value) for word in ("Jones", "87", "2010"))


@pytest.mark.parametrize("spacing", [1 / 3, 1e-5 / 3, 123456.7890123456789, 0.1 + 0.2])
def test_decimal_strings_have_at_most_16_characters(tmp_path, spacing):
    images = collection([grey((2, 4, 4))], modality=["CT"], row_spacing_mm=[spacing], slice_spacing_mm=[spacing])
    for data in written(images, tmp_path / "out"):
        assert abs(float(data.PixelSpacing[0]) - spacing) <= 1e-8 * max(spacing, 1)
    assert "characters" not in str(judges.marks(tmp_path / "out").errors)


def test_ids_and_words_of_the_records_reach_no_byte(tmp_path):
    canaries = ["MRN-7731994-QX" + "9" * 300, "Ærøskøbing, Peregrine", "患者-4711-秘密", "ACC-5559127", "2.25.77777777"]
    n = len(canaries)
    words = [f"{canary} words" for canary in canaries]
    images = collection(
        [grey()] * n,
        patient=canaries,
        study=canaries[::-1],
        series=canaries,
        body_part=words,
        view=words,
        laterality=words,
        sex=words,
        finding=words,
    )
    write_dicom(images, tmp_path / "out", seed=1, generator="test")
    assert judges.identifier_search(tmp_path / "out", [*canaries, "Peregrine", "words"]) == ()


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="out"):
            written(of_kind("CR"), tmp_path / "out", force=force)
    assert contents(tmp_path / "out") == {"thesis.txt": b"years of work"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_what_was_written_before(tmp_path):
    written(of_kind("CR"), tmp_path / "out")
    written(of_kind("CT"), tmp_path / "out", force=True)
    assert [data.Modality for data in map(dcmread, judges.dicom_objects(tmp_path / "out"))] == ["CT"]


class Failing:
    """Pixels that cannot all be read."""

    def __init__(self, error):
        self.error = error

    def read(self, number):
        if number:
            raise self.error
        return grey()

    def digest(self, number):
        return b""


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left"), EnvironmentProblem), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_what_fails_leaves_nothing_behind(tmp_path, error, raised):
    two = collection([grey()] * 2, modality=["CR"] * 2)
    with pytest.raises(raised):
        written(ImageData(two.records, Failing(error), two.numbers), tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


def test_the_manifest_names_every_file_with_its_checksum(tmp_path):
    written(of_kind("CR"), tmp_path / "out", generator="Größe 扩散")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["generator"] == "Größe 扩散"
    for entry in manifest["objects"]:
        content = (tmp_path / "out" / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_directory_lists_every_object_under_its_patient(tmp_path):
    images = phantom(10, seed=1, size=32)
    written(images, tmp_path / "out")
    paths, patients = walked(tmp_path / "out" / "DICOMDIR")
    assert sorted(paths) == [str(path) for path in judges.dicom_objects(tmp_path / "out")]
    assert (len(paths), len(patients)) == (len(images), 10)
    for path in (tmp_path / "out" / "DICOM").rglob("*"):
        assert len(path.name) <= 8
        assert path.name.isupper()


def walked(path):
    """What pydicom finds by following the offsets of a DICOMDIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the scratch folder that a FileSet keeps
        listed = FileSet(path)
        found = [str(one.path) for one in listed], listed.find_values("PatientID")
        del listed
        gc.collect()
    return found


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        ([grey()], {"modality": "PET"}),
        ([np.zeros((4, 4, 3), dtype="uint8")], {"modality": "CT"}),
        ([grey((3, 4, 4))], {"modality": "US"}),
        ([np.zeros(4)], {"modality": "CR"}),
    ],
)
def test_what_a_kind_cannot_hold_is_refused(tmp_path, arrays, settings):
    with pytest.raises(UsageError):
        written(collection(arrays), tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_leaves_no_folder_of_that_name(tmp_path):
    script = (
        "import os, signal, sys\nimport numpy as np\nfrom synthgen.dicom.write import write_dicom\n"
        "from synthgen.images import ImageData\n"
        "class Killing:\n"
        "    def read(self, number):\n"
        "        if number == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return np.zeros((8, 8), 'float32')\n"
        "    def digest(self, number): return b''\n"
        "images = ImageData.of_arrays([0] * 3, {'patient': ['a', 'b', 'c'], 'modality': ['OT'] * 3})\n"
        "write_dicom(ImageData(images.records, Killing(), images.numbers), sys.argv[1], seed=1, generator='test')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "out"], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    assert all(path.name.endswith(".part") for path in tmp_path.iterdir())


def test_memory_does_not_grow_with_the_pixels(tmp_path):
    """Of 40 images of 1 MB each, no more than a few are held."""
    n = 40
    images = collection([grey((2, 2))] * n, modality=["CR"] * n)
    big = ImageData(images.records, Drawn(), images.numbers)
    tracemalloc.start()
    try:
        write_dicom(big, tmp_path / "out", seed=1, generator="test")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25 * 2**20


class Drawn:
    """Pixels made when they are asked for."""

    def read(self, number):
        return np.full((512, 512), number, dtype="float32")

    def digest(self, number):
        return bytes(number)


@pytest.mark.parametrize("column", ["body_part", "view"])
def test_words_that_look_like_codes_reach_no_byte(tmp_path, column):
    images = collection([grey()], modality=["CR"], **{column: ["JONES 7731994"]})
    write_dicom(images, tmp_path / "out", seed=1, generator="test")
    assert judges.identifier_search(tmp_path / "out", ["JONES", "7731994"]) == ()


@needs("dciodvfy")
@pytest.mark.parametrize(
    ("array", "columns"),
    [
        (grey(), {"modality": ["US"]}),
        (grey().astype("uint8"), {"modality": ["MR"]}),
        (grey(), {"modality": ["CR"]}),
    ],
)
def test_dciodvfy_finds_no_error_where_little_is_known(tmp_path, array, columns):
    written(collection([array], **columns), tmp_path / "out")
    assert dict(judges.dciodvfy(tmp_path / "out").errors) == {}


@pytest.mark.parametrize("column", ["laterality", "view"])
def test_a_mammogram_needs_its_side_and_view(tmp_path, column):
    known = {"laterality": ["L"], "view": ["CC"], column: ["Featherstonehaugh"]}
    with pytest.raises(DataError, match=f"MG objects need a known '{column}': 1 records"):
        written(collection([grey()], modality=["MG"], **known), tmp_path / "out")


def test_ultrasound_of_more_than_eight_bits_is_refused(tmp_path):
    with pytest.raises(DataError, match="US objects hold 8 bits"):
        written(collection([grey()], modality=["US"], bits=[12]), tmp_path / "out")


@needs("dcentvfy")
@pytest.mark.parametrize(("parts", "sides"), [(["HAND", "CHEST"], ["L", None]), (["HAND", "HAND"], ["L", "R"])])
def test_a_series_is_of_one_body_part_and_side(tmp_path, parts, sides):
    same = {name: ["x", "x"] for name in ("patient", "study", "series")}
    images = collection([grey()] * 2, modality=["CR"] * 2, body_part=parts, laterality=sides, **same)
    written(images, tmp_path / "out")
    assert dict(judges.dcentvfy(tmp_path / "out").errors) == {}


def test_slices_without_a_distance_do_not_lie_upon_each_other(tmp_path):
    same = {name: ["x"] * 3 for name in ("patient", "study", "series")}
    images = collection([grey()] * 3, modality=["CT"] * 3, slice_spacing_mm=None, **same)
    places = {(data.FrameOfReferenceUID, *data.ImagePositionPatient) for data in written(images, tmp_path / "out")}
    assert len(places) == 3


def test_two_cohorts_share_no_name(tmp_path):
    for name, side in (("a", 32), ("b", 48)):
        write_dicom(phantom(3, seed=side, size=side), tmp_path / name, seed=1, generator=name)
    assert uids(tmp_path / "a").isdisjoint(uids(tmp_path / "b"))


def test_drawn_dates_lie_between_2000_and_2019(tmp_path):
    images = collection([grey()] * 2, modality=["CR"] * 2, patient=["a", "a"], study=["1", "2"], age_years=[40, 55])
    years = {int(data.StudyDate[:4]) for seed in range(8) for data in written(images, tmp_path / f"{seed}", seed=seed)}
    assert max(years) <= 2019


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path, value):
    image = grey()
    image[0, 0] = value
    with pytest.raises(DataError):
        written(collection([image], modality=["CT"]), tmp_path / "out")


@pytest.mark.parametrize("spacing", [0.0, -1.0])
def test_distances_that_are_none_are_refused(tmp_path, spacing):
    with pytest.raises(DataError, match="row_spacing_mm"):
        written(collection([grey()], modality=["CT"], row_spacing_mm=[spacing]), tmp_path / "out")


@pytest.mark.parametrize("name", ["x" * 65, "a\\b", "a\nb"])
def test_a_generators_name_fits_its_attribute(tmp_path, name):
    with pytest.raises(UsageError):
        written(of_kind("CR"), tmp_path / "out", generator=name)


def test_radiographs_with_a_window_come_back_as_they_are(tmp_path):
    image = grey((64, 64), top=4095)
    images = collection([image], modality=["CR"], bits=[12], window_center=[900.0], window_width=[500.0])
    write_dicom(images, tmp_path / "out", seed=1, generator="test")
    assert np.abs(read_images(tmp_path / "out", accept=["burned-in text"]).read(0) - image).max() < 1


def test_a_lateral_radiograph_is_not_called_frontal(tmp_path):
    data = written(collection([grey()], modality=["DX"], body_part=["CHEST"], view=["LL"]), tmp_path / "out")[0]
    assert list(data.get("PatientOrientation") or []) != ["L", "F"]


def test_a_mammogram_keeps_its_view(tmp_path):
    data = written(collection([grey()], modality=["MG"], laterality=["L"], view=["ML"]), tmp_path / "out")[0]
    assert data.ViewCodeSequence[0].CodeValue == "399260004"


def test_small_images_are_jpeg_2000_too(tmp_path):
    written(collection([grey((24, 20))], modality=["CR"]), tmp_path / "out", compression="jpeg-2000")

"""Records and images of the same patients: what fits together, what is left out, and that counts say so."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

import synthgen as sg
from synthgen.cohort import (
    CONTRADICTING,
    NEVER,
    OF_NOBODY,
    SEVERAL,
    UNKNOWN,
    WITHOUT_IMAGES,
    Link,
    linked,
)
from synthgen.cohort_io import copy_cohort, read_cohort, read_written, write_cohort
from synthgen.dicom.write import write_dicom
from synthgen.errors import DataError, SchemaError, UsageError
from synthgen.image_output import write_pictures
from synthgen.images import ImageData
from synthgen.phantom import phantom_cohort
from synthgen.validators.dicom import conformance, marks


def patients(**columns):
    table = {"id": ["a", "b", "c", "d"], "sex": ["F", "M", "M", None], "finding": ["x", "y", "x", "y"], **columns}
    return sg.read(pd.DataFrame(table), patient="id", target="finding")


def images(owners, **columns):
    return ImageData.of_arrays(np.zeros((len(owners), 8, 8), "uint8"), {"patient": owners, **columns})


def cohort_of(table, pictures, **settings):
    return linked(table, pictures, Link.of(table.schema, **settings))


def test_patients_without_images_stay_and_images_of_nobody_go():
    cohort = cohort_of(patients(), images(["a", "zz", "yy", "b", "b"]))
    assert cohort.rows.tolist() == [0, 1, 1]
    assert len(cohort) == 4
    assert cohort.counts == {WITHOUT_IMAGES: 2, SEVERAL: 1, UNKNOWN: 0, NEVER: 0, OF_NOBODY: 2, CONTRADICTING: 0}
    assert "images of no patient of the table: 2" in cohort._repr_html_()


def test_an_image_that_contradicts_its_record_is_left_out_and_one_that_says_nothing_is_not():
    sexes, findings = ["F", "F", "M", "F", None], ["x", "y", "y", "y", "x"]
    cohort = cohort_of(patients(), images(["a", "b", "c", "d", "a"], sex=sexes, finding=findings))
    assert cohort.counts[CONTRADICTING] == 2  # b is no F, c has no y; nobody knows the sex of d
    assert cohort.rows.tolist() == [0, 0, 3]
    assert cohort.counts[UNKNOWN] == 1  # the image of d, whose sex is missing
    assert "finding" not in cohort.images.records.schema


def test_what_is_no_cohort_is_refused():
    with pytest.raises(DataError, match="role patient"):
        cohort_of(sg.read(pd.DataFrame({"sex": ["F", "M"], "finding": ["x", "y"]})), images(["a"]))
    with pytest.raises(DataError, match="4 rows of 3"):
        cohort_of(patients(id=["a", "b", "a", "d"]), images(["a"]))
    with pytest.raises(DataError, match="2 images are of nobody in it"):
        cohort_of(patients(), images(["z", "zz"]))
    with pytest.raises(SchemaError, match="no column"):
        cohort_of(patients(), images(["a"]), condition_on=("funding",))
    dated = patients(seen=pd.to_datetime(["2020-01-01"] * 4))
    with pytest.raises(SchemaError, match="a date"):
        cohort_of(dated, images(["a"]), condition_on=("seen",))
    with pytest.raises(SchemaError, match="no number"):
        cohort_of(patients(), images(["a"]), headers={"age_years": "sex"})


def test_a_split_keeps_patients_whole_and_their_images_with_them():
    cohort = phantom_cohort(200, seed=1, size=32)
    several = linked(  # every fifth patient has a second image
        cohort.patients,
        ImageData.of_arrays(
            [cohort.images.read(i) for i in [*range(200), *range(0, 200, 5)]],
            {"patient": [cohort.patients.table["patient_id"][i] for i in [*range(200), *range(0, 200, 5)]]},
        ),
        cohort.link,
    )
    train, holdout = several.split_by_patient(holdout=0.3, seed=2)
    assert not {*train.patients.table["patient_id"]} & {*holdout.patients.table["patient_id"]}
    assert (len(holdout), len(train.images) + len(holdout.images)) == (60, 240)
    for side in (train, holdout):
        assert np.array_equal(np.unique(side.rows), np.arange(len(side)))
        for image in (0, len(side.images) - 1):  # pixels moved with their record
            name = side.patients.table["patient_id"][side.rows[image]]
            original = int(np.flatnonzero(cohort.patients.table["patient_id"] == name)[0])
            assert np.array_equal(side.images.read(image), cohort.images.read(original))
    assert several.split_by_patient(holdout=0.3, seed=2)[0].fingerprint() == train.fingerprint()
    swapped = dataclasses.replace(train, rows=train.rows[::-1].copy())
    assert swapped.fingerprint() != train.fingerprint()


def test_images_have_beside_them_what_their_record_says():
    table = patients(sex=["female", "MALE", "unclear", None], years=[41.7, 50.0, 60.2, 7.0])
    cohort = cohort_of(table, images(["b", "a", "c"], sex=["M", "F", "M"]), headers={"age_years": "years"})
    joined = cohort.joined().records
    assert joined.table["sex"].tolist() == ["F", "M", None]
    assert joined.table["age_years"].tolist() == [41, 50, 60]
    assert joined.schema.target == "finding"
    assert joined.table["patient"].tolist() == ["a", "b", "c"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A phantom cohort, written as if a generator had made it."""
    cohort = phantom_cohort(40, seed=3, size=32)
    folder = tmp_path_factory.mktemp("cohort") / "made"
    return cohort, write_cohort(cohort, folder, seed=4, generator="phantom", modality=None)


def test_every_header_says_what_its_record_says(written):
    cohort, folder = written
    table = cohort.patients.table.set_index("patient_id")
    objects = [dcmread(path) for path in sorted((folder / "dicom" / "DICOM").rglob("*")) if path.is_file()]
    assert len(objects) == 40
    for data in objects:
        record = table.loc[data.PatientID]
        assert data.PatientSex == record["sex"]
        assert int(data.PatientAge[:3]) == record["age_years"]
        assert data.StudyDate == f"{record['study_date']:%Y%m%d}"
        assert data.AdmittingDiagnosesDescription == record["finding"]
    assert conformance(folder / "dicom").error_count == marks(folder / "dicom").error_count == 0


def test_what_leaves_the_house_is_the_objects_and_a_manifest_of_whose_they_are(written, tmp_path):
    cohort, folder = written
    (folder / "dicom" / "notes.txt").write_text("about Quillfeather")
    copy_cohort(read_written(folder, cohort.schema, cohort.link), tmp_path)
    (folder / "dicom" / "notes.txt").unlink()
    objects = {
        path.relative_to(tmp_path).as_posix(): dcmread(path)
        for path in (tmp_path / "dicom" / "DICOM").rglob("*")
        if path.is_file()
    }
    series = json.loads((tmp_path / "manifest.json").read_text())["series"]
    said = {file: cohort.patients.table["patient_id"][one["record"] - 1] for one in series for file in one["files"]}
    assert said == {file: data.PatientID for file, data in objects.items()}
    assert {one["series_instance_uid"] for one in series} == {data.SeriesInstanceUID for data in objects.values()}
    listed = dcmread(tmp_path / "dicom" / "DICOMDIR").DirectoryRecordSequence
    files = ["dicom/" + "/".join(one.ReferencedFileID) for one in listed if one.DirectoryRecordType == "IMAGE"]
    assert sorted(files) == sorted(objects)
    assert {path.name for path in (tmp_path / "dicom").iterdir()} == {"DICOM", "DICOMDIR"}
    assert conformance(tmp_path / "dicom").error_count == 0


def test_what_was_written_is_read_again_with_its_links(written):
    cohort, folder = written
    again = read_written(folder, cohort.schema, cohort.link)
    assert np.array_equal(again.rows, cohort.rows)
    assert again.patients.fingerprint() == cohort.patients.fingerprint()
    assert not any(n for why, n in again.counts.items() if why != UNKNOWN)
    assert again.fingerprint() == read_written(folder, cohort.schema, cohort.link).fingerprint()


def test_a_table_finds_its_dicom_objects_and_its_pictures(written, tmp_path):
    cohort, folder = written
    frame = cohort.patients.frame
    frame.loc[3, "sex"] = "F" if frame.loc[3, "sex"] == "M" else "M"
    read = read_cohort(frame.drop(index=5), folder / "dicom", patient="patient_id", target="died")
    assert read.counts[OF_NOBODY] == read.counts[CONTRADICTING] == 1
    assert set(read.images.records.table["patient"]).isdisjoint(frame["patient_id"])  # no identifier beside pixels
    pictures = ImageData.of_arrays(
        [cohort.images.read(i) for i in range(40)], {"patient": cohort.patients.table["patient_id"].tolist()}
    )
    write_pictures(pictures, tmp_path / "pictures")
    assert len(read_cohort(frame, tmp_path / "pictures", patient="patient_id").images) == 40
    (tmp_path / "pictures" / "labels.csv").unlink()
    with pytest.raises(DataError, match="column 'patient'"):
        read_cohort(frame, tmp_path / "pictures", patient="patient_id")
    with pytest.raises(UsageError, match="npz"):
        read_cohort(frame, tmp_path / "x.npz", patient="patient_id")


def test_a_finding_that_no_header_can_hold_is_refused(tmp_path):
    cohort = phantom_cohort(3, seed=1, size=32)
    table = cohort.patients.table.assign(finding=["a\\b", "c" * 65, "fine"])
    bad = dataclasses.replace(cohort, patients=dataclasses.replace(cohort.patients, table=table))
    with pytest.raises(DataError, match="2 findings"):
        write_cohort(bad, tmp_path / "made", seed=1, generator="phantom", modality=None)
    assert not (tmp_path / "made").exists()
    write_dicom(cohort.joined(), tmp_path / "alone", seed=1, generator="phantom")
    assert not any("Admitting" in str(dcmread(p)) for p in (tmp_path / "alone" / "DICOM").rglob("*") if p.is_file())

"""Collections of images: labels joined by every key, pictures, arrays, splits by patient, caches without a word."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from dicom_cases import canary_bytes, image_object, save, smooth, volume, with_text
from PIL import Image
from sklearn.metrics import roc_auc_score

import synthgen as sg
from synthgen.dicom.index import index
from synthgen.dicom.screen import screened
from synthgen.errors import DataError, UsageError
from synthgen.images import ImageData
from synthgen.phantom import phantom


def cohort(folder, patients=6):
    """A series of two slices for each patient; the numbers of patients have leading zeros."""
    for patient in range(patients):
        for at in (1, 2):
            pixels = np.full((8, 8), 100 * patient + at, dtype="uint16")
            save(image_object(pixels, at=at, study=patient + 1, patient=f"00{patient}"), folder / f"{patient}-{at}")
    return folder


KEYS = {
    "PatientID": [f"00{i}" for i in range(6)],
    "StudyInstanceUID": [f"1.2.826.0.1.3680043.9.7777.{i + 1}" for i in range(6)],
    "SeriesInstanceUID": [f"1.2.826.0.1.3680043.9.7777.{i + 1}.1" for i in range(6)],
    "SOPInstanceUID": [f"1.2.826.0.1.3680043.9.7777.{i + 1}.1.1" for i in range(6)],
}


@pytest.mark.parametrize("key", KEYS)
def test_labels_are_joined_by_patient_study_series_or_instance(tmp_path, key, caplog):
    folder, labels = cohort(tmp_path / "in"), tmp_path / "labels.csv"
    pd.DataFrame({key: KEYS[key], "finding": list("aabbab")}).to_csv(labels, index=False)
    images = sg.read_images(folder, labels=labels, target="finding")
    assert (len(images), images.patient_count, images.records.schema.target) == (12, 6, "finding")
    for i in range(len(images)):
        value = int(images.read(i)[0, 0])
        labelled = key != "SOPInstanceUID" or value % 100 == 1
        assert images.records.table["finding"][i] == ("aabbab"[value // 100] if labelled else None)
    assert ("6 images have no labels" in caplog.text) == (key == "SOPInstanceUID")
    train, holdout = images.split_by_patient(holdout=0.5, seed=1)
    assert len(train) == len(holdout) == 6
    assert not {int(train.read(i)[0, 0]) // 100 for i in range(6)} & {
        int(holdout.read(i)[0, 0]) // 100 for i in range(6)
    }


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"finding": ["a"]}, "needs one of the columns"),
        ({"PatientID": ["000", "000"], "finding": ["a", "b"]}, "1 rows of the table of labels repeat"),
        ({"PatientID": ["nobody"], "finding": ["a"]}, "no image has the PatientID"),
        ({"PatientID": ["000"], "modality": ["a"]}, "names of the images' own: modality"),
    ],
)
def test_labels_that_do_not_fit_are_an_error_without_their_values(tmp_path, labels, message):
    with pytest.raises(DataError, match=message) as error:
        sg.read_images(cohort(tmp_path, 2), labels=pd.DataFrame(labels))
    assert "nobody" not in str(error.value)


def test_volumes_are_images_and_slices_are_not_volumes(tmp_path, caplog):
    volume(tmp_path / "in")
    save(image_object(series=9), tmp_path / "in" / "single")
    images = sg.read_images(tmp_path / "in", unit="volume")
    assert (len(images), images.read(0).shape) == (1, (5, 8, 8))
    assert images.records.table["slice_spacing_mm"][0] == 2.5
    assert "1 of 2 series are no regular volume" in caplog.text
    with pytest.raises(DataError, match="no volume to learn from"):
        sg.read_images(tmp_path / "in" / "single", unit="volume")


def test_medmnist_arrays(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}_images": rng.integers(0, 255, (n, 28, 28), dtype="uint8") for part, n in (("train", 9), ("test", 4))
    }
    labels = {"train_labels": np.arange(9)[:, None] % 2, "test_labels": np.zeros((4, 3), dtype=int)}
    np.savez(tmp_path / "a.npz", **arrays, **labels)
    images = sg.read_images(tmp_path / "a.npz", target="label")
    assert (len(images), images.patient_count) == (9, 9)
    np.testing.assert_array_equal(images.read(3), arrays["train_images"][3])
    several = sg.read_images(tmp_path / "a.npz", part="test")
    assert {"label_0", "label_1", "label_2"} <= set(several.records.schema.names)
    with pytest.raises(DataError, match="no val_images and no val_labels"):
        sg.read_images(tmp_path / "a.npz", part="val")
    np.savez(tmp_path / "b.npz", train_images=np.array([{}], dtype=object), train_labels=[0])
    with pytest.raises(DataError, match="Python objects"):
        sg.read_images(tmp_path / "b.npz")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_pictures_beside_a_table_of_labels(tmp_path, caplog, form):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    wide = (np.arange(64).reshape(8, 8) * 1_000).astype("uint16")
    Image.fromarray(wide).save(folder / "a.png")
    Image.fromarray(np.zeros((8, 8, 3), dtype="uint8")).save(folder / "deep" / "b.jpg")
    np.save(folder / "c.npy", wide.astype("float32"))
    (folder / "notes.txt").write_text("hello")
    source = folder
    if form == "zip":
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*.*"):
                archive.write(path, path.relative_to(folder))
    labels = pd.DataFrame(
        {"file": ["a.png", "deep/b.jpg", "gone.png"], "patient": ["p", "p", "q"], "finding": list("xyx")}
    )
    images = sg.read_images(source, labels=labels)
    assert (len(images), images.patient_count) == (2, 1)
    np.testing.assert_array_equal(images.read(0), wide)
    assert images.read(1).shape == (8, 8, 3)
    assert "1 pictures have no labels; 1 rows of labels have no picture" in caplog.text
    assert "file" not in images.records.schema.names
    alone = sg.read_images(source)
    assert (len(alone), alone.patient_count) == (3, 3)
    with pytest.raises(DataError, match="needs a column that names pictures"):
        sg.read_images(source, labels=labels[["finding"]])


def test_a_broken_picture_is_an_error_without_its_name(tmp_path):
    (tmp_path / "Featherstonehaugh.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    with pytest.raises(DataError, match=r"^picture 0 cannot be decoded$"):
        sg.read_images(tmp_path).read(0)


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(UsageError):
        sg.read_images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no image to learn from; files put aside: 1 not a DICOM object"):
        sg.read_images(tmp_path)


def test_burned_in_text_puts_its_image_aside(tmp_path):
    save(image_object(smooth(1), at=1), tmp_path / "clean")
    save(image_object(with_text(smooth(2), "DOE^JANE 1961"), at=2), tmp_path / "named")
    found = screened(index(tmp_path))
    assert found.reasons == {"burned-in text": 1}
    assert found.entries[min(found.headers)].name == "clean"
    assert not screened(index(tmp_path), accept=["burned-in text"]).quarantine


def test_faint_text_at_one_place_of_a_cohort_is_seen_in_its_median(tmp_path):
    for patient in range(10):
        noise = np.random.default_rng(patient).integers(0, 900, (160, 160)).astype("uint16")
        faint = 700 * with_text(np.eye(160, dtype="uint16"), "ST SWITHUN")
        save(
            image_object(smooth(patient) // 8 + noise + faint, study=patient + 1, patient=str(patient)),
            tmp_path / str(patient),
        )
    assert screened(index(tmp_path)).reasons == {"burned-in text": 10}


def test_the_text_detector_of_the_extra(tmp_path):
    pytest.importorskip("rapidocr")
    save(image_object(smooth(1), at=1), tmp_path / "clean")
    save(image_object(with_text(smooth(2) // 2 + 300, "JANE DOE"), at=2), tmp_path / "named")
    assert screened(index(tmp_path), ocr=True).reasons == {"burned-in text": 1}


def test_the_text_detector_reports_to_nobody(tmp_path):
    """Its engine would keep a number of this machine, and what it is to send, in the user's cache."""
    pytest.importorskip("rapidocr")
    script = "import numpy as np; from synthgen.dicom.screen import _reader; _reader()(np.eye(64))"
    quiet = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", script], env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path for path in tmp_path.rglob("*") if "onnx" in path.name.lower() or "microsoft" in path.name.lower()]


def test_caches_hold_pixels_alone(tmp_path):
    images = sg.read_images(cohort(tmp_path / "Featherstonehaugh", 2))
    cached = images.dataset(lambda image: torch.from_numpy(image[:4]), cache=tmp_path / "cache")
    first = [cached[i] for i in range(len(images))]
    assert [int(image[0, 0]) for image in first] == [int(images.read(i)[0, 0]) for i in range(4)]
    assert first[0].shape == (4, 8)
    files = [*(tmp_path / "cache").iterdir()]
    assert len(files) == 4
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    assert not [canary for canary in (*canary_bytes(), b"CHEST", bytes(tmp_path)) if canary in content]
    held = images.dataset(lambda image: image.mean())
    assert [float(held[i]) for i in range(4)] == [float(images.read(i).mean()) for i in range(4)]


def test_fingerprints_name_records_and_pixels():
    arrays = np.arange(3 * 16).reshape(3, 4, 4)
    records = {"patient": list("abc"), "finding": [0, 1, 0]}
    images = ImageData.of_arrays(arrays, records)
    assert images.fingerprint() == images.take(np.arange(3)).fingerprint()
    assert images.fingerprint() != images.take(np.array([0, 2, 1])).fingerprint()
    assert images.fingerprint() != ImageData.of_arrays(arrays + 1, records).fingerprint()


def test_the_phantom_is_the_same_for_a_seed_and_its_findings_can_be_seen():
    images = phantom(150, seed=3)
    assert images.fingerprint() == phantom(150, seed=3).fingerprint() != phantom(150, seed=4).fingerprint()
    table = images.records.table
    assert {images.read(i).shape for i in range(len(images))} == {(64, 64), (80, 64), (56, 56)}
    shown = table[(table["scanner"] == "A") & table["finding"].isin(["normal", "cardiomegaly"])]
    hearts = [images.read(i)[36:42, 38:46].mean() for i in shown.index]
    assert roc_auc_score(shown["finding"] == "cardiomegaly", hearts) > 0.9

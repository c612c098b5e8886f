"""What must not happen at all: shared patients, real images, names in headers; and membership of images."""

import numpy as np
import pytest
from leaky_images import collection, evidence_of, fields, leaky, pool, shared_encoder
from pydicom import dcmread

import synthgen as sg
from synthgen.dicom.header import ACCEPTABLE
from synthgen.dicom.write import write_dicom
from synthgen.images import ImageData
from synthgen.phantom import phantom
from synthgen.privacy.image_identifiers import ImageIdentifiers
from synthgen.privacy.image_membership import ImageMembership
from synthgen.rng import Seed


def counts(evidence):
    found = ImageIdentifiers().run(evidence, seed=Seed(1))
    kinds = {name: estimate.value for name, estimate in found.details.items() if "text" not in name}
    assert found.statistic.value == sum(kinds.values())
    return {name: value for name, value in kinds.items() if value}


def test_apart_nothing_is_found():
    assert counts(evidence_of(fields(50, 3))) == {}


def test_real_images_are_found_in_any_type():
    stored = collection(pool()[0][:7])
    as_floats = np.stack([stored.read(i) for i in range(7)]).astype("float64")
    for images in (as_floats, as_floats * 16, as_floats * 3.7 - 1000):  # stored, of twelve bits, in another unit
        rest = fields(20, 5) * np.ptp(images) + images.min()
        made = ImageData.of_arrays([*images, *rest], {"patient": range(27)})
        assert counts(evidence_of(made)) == {"synthetic images that are real images": 7}
    assert counts(evidence_of(leaky(pool()[1][:3], 30))) == {"synthetic images that are real images": 3}


def test_blank_images_are_nobodys():
    train, made = pool()[0].copy(), fields(30, 4)
    train[0], made[:5] = 0, 0
    assert counts(evidence_of(made, train=train)) == {}


def test_patients_in_both_are_counted():
    whole = collection(fields(60, 1), [str(i // 2) for i in range(60)])
    one_reading = evidence_of(fields(30, 4), train=whole.take(np.arange(0, 41)), holdout=whole.take(np.arange(40, 60)))
    assert counts(one_reading) == {"patients in train and holdout": 1}
    named = [collection(fields(30, i), [f"{name}{j}" for j in range(30)]) for i, name in enumerate(("MRN", "MRN", "X"))]
    assert counts(evidence_of(fields(30, 4), train=named[0], holdout=named[1])) == {"patients in train and holdout": 30}
    assert counts(evidence_of(fields(30, 4), train=named[0], holdout=named[2])) == {}
    unnamed = ImageData.of_arrays(np.round(fields(60, 1) * 255).astype("uint8"), {"label": ["a"] * 60})
    overlapping = evidence_of(fields(30, 4), train=unnamed.take(np.arange(40)), holdout=unnamed.take(np.arange(38, 60)))
    assert counts(overlapping)["patients in train and holdout"] == 2


def test_a_holdout_that_repeats_train_is_counted_and_a_few_exposures_are_not():
    train, holdout = pool()
    few, many = holdout.copy(), holdout.copy()
    few[:5], many[:50] = train[:5], train[:50]
    assert counts(evidence_of(fields(30, 4), holdout=few)) == {}
    assert counts(evidence_of(fields(30, 4), holdout=many)) == {"holdout images that are in train": 50}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Real objects: a phantom whose headers name invented patients and no longer say that they are synthetic."""
    folder = tmp_path_factory.mktemp("hospital")
    write_dicom(phantom(60, seed=1, size=32), folder / "real", seed=2, generator="phantom")
    for i, path in enumerate(sorted(path for path in (folder / "real" / "DICOM").rglob("*") if path.is_file())):
        data = dcmread(path)
        data.PatientName, data.AccessionNumber = f"Quillfeather^Anselm{i}", f"ACC-77{i:04d}"
        data.PatientID = f"MRN-31{i // 2:04d}"
        for name in ("SyntheticData", "PatientIdentityRemoved"):
            if name in data:
                delattr(data, name)
        data.save_as(path)
    return sg.read_images(folder / "real")


def released(folder, change, *, seed=9):
    write_dicom(phantom(30, seed=seed, size=32), folder / "made", seed=seed, generator="image-pca")
    path = next(path for path in sorted((folder / "made" / "DICOM").rglob("*")) if path.is_file())
    data = dcmread(path)
    change(data)
    data.save_as(path)
    return sg.read_images(folder / "made", accept=ACCEPTABLE)


def test_dicom_headers_are_searched(hospital, tmp_path):
    train, holdout = hospital.split_by_patient(holdout=0.4, seed=1)
    changes = {
        "nothing": (lambda data: None, {}),
        "a name": (lambda data: data.__setattr__("ImageComments", "seen by ANSELM3"), "identifier"),
        "a number": (lambda data: data.__setattr__("StudyID", "acc-770005"), "identifier"),
        "no mark": (lambda data: data.__delattr__("SyntheticData"), "not marked"),
        "private": (lambda data: data.private_block(0x0099, "ACME", create=True).add_new(1, "LO", "x"), "private"),
    }
    for place, (name, (change, words)) in enumerate(changes.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        found = counts(evidence_of(released(folder, change), train=train, holdout=holdout))
        found.pop("patients in train and holdout", None)
        if not words:
            assert found == {}, name
        else:
            assert [kind for kind in found if words in kind], name
            assert set(found.values()) == {1}, name


def test_patients_are_compared_by_their_ids_across_readings(hospital, tmp_path):
    again = sg.read_images(hospital.pixels.entries[0].root)
    found = counts(evidence_of(fields(30, 4), train=hospital, holdout=again))
    assert found["patients in train and holdout"] >= 25


def test_membership_sees_copies_and_nothing_in_fresh_images():
    train = pool()[0]
    fresh = ImageMembership().run(evidence_of(fields(300, 8), encoder=shared_encoder()), seed=Seed(1))
    copied = ImageMembership().run(evidence_of(leaky(train[:200], 300), encoder=shared_encoder()), seed=Seed(1))
    assert fresh.p_value > 0.01
    assert fresh.statistic.low < 0.5 < fresh.statistic.high
    assert copied.statistic.low > 0.6
    assert copied.details["tpr_at_1pct_fpr"].low > 0.2
    assert set(copied.details) >= {"auc.distance in pixels", "auc.density in the encoder"}

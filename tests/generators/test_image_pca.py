"""The Gaussian baseline for images: known mean and covariance, classes, ranges, sizes, protection, and bad input."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest

import synthgen as sg
from synthgen.cli import main
from synthgen.errors import DataError, UsageError
from synthgen.generators.image_pca import ImagePca
from synthgen.generators.image_records import ImageRecords
from synthgen.image_codec import ImageCodec
from synthgen.images import ImageData, described
from synthgen.phantom import phantom
from synthgen.rng import Seed

DATES = pd.date_range("2020", periods=60)


def collection(arrays, **columns):
    n = len(arrays)
    records = {"patient": [f"p{i}" for i in range(n)], "finding": ["a", "b"] * (n // 2), **columns}
    images = ImageData.of_arrays(arrays, records)
    schema = images.records.schema.assign("target", "finding")
    return ImageData(described(images.records.table, schema), images.pixels, images.numbers)


def gaussian(n=3_000, shift=30.0, seed=0):
    """Class b is brighter on the left half; one direction is shared by all pixels."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(0, 20, (n, 1, 1)), rng.normal(0, 5, (n, 8, 8))
    images = 500 + common + own
    images[1::2, :, :4] += shift
    return images.astype("float32")


def test_mean_and_covariance_of_each_class_come_back():
    train = gaussian()
    made = ImagePca().fit(collection(train), seed=1).sample(4_000, seed=2)
    labels = made.records.table["finding"].to_numpy()
    pixels = np.stack([made.read(i) for i in range(len(made))])
    for label, first in (("a", 0), ("b", 1)):
        real, ours = train[first::2].reshape(-1, 64), pixels[labels == label].reshape(-1, 64)
        assert abs(len(ours) / len(made) - 0.5) < 0.05
        np.testing.assert_allclose(ours.mean(0), real.mean(0), atol=3)
        np.testing.assert_allclose(np.cov(ours.T).mean(), np.cov(real.T).mean(), rtol=0.12)
        np.testing.assert_allclose(np.cov(ours.T).trace(), np.cov(real.T).trace(), rtol=0.12)


def test_few_components_keep_the_variance_as_noise():
    train = gaussian(shift=0.0)
    made = ImagePca(components=1).fit(collection(train), seed=1).sample(2_000, seed=2)
    pixels = np.stack([made.read(i) for i in range(len(made))]).reshape(-1, 64)
    np.testing.assert_allclose(np.cov(pixels.T).trace(), np.cov(train.reshape(-1, 64).T).trace(), rtol=0.12)


def test_images_come_back_in_their_unit_depth_and_spacing():
    train = phantom(120, seed=1)
    made = ImagePca().fit(train, seed=1).sample(20, seed=2)
    table = made.records.table
    assert {made.read(i).shape for i in range(20)} == {(64, 64)}
    assert set(table["bits"]) == {12.0}  # of most
    assert set(table["column_spacing_mm"]) == {5.625}
    assert all(made.read(i).min() >= 0 and made.read(i).max() <= 4095 for i in range(20))
    assert all((made.read(i) == np.rint(made.read(i))).all() for i in range(20))
    assert 0.3 < made.read(0).mean() / train.read(0).mean() < 3
    smaller = ImagePca(size=32).fit(train, seed=1).sample(2, seed=2)
    assert (smaller.read(0).shape, smaller.records.table["row_spacing_mm"][0]) == ((32, 32), 11.25)


def test_hounsfield_units_volumes_and_colours():
    rng = np.random.default_rng(0)
    volumes = rng.normal(-300, 200, (60, 4, 8, 12)).astype("float32")
    made = ImagePca().fit(collection(volumes, modality=["CT"] * 60), seed=1).sample(3, seed=2)
    assert made.read(0).shape == (4, 8, 12)
    assert abs(made.read(0).mean() + 300) < 60
    colours = rng.integers(100, 200, (60, 8, 12, 3)).astype("uint8")
    made = ImagePca().fit(collection(colours), seed=1).sample(3, seed=2)
    assert (made.read(0).shape, made.read(0).dtype) == ((8, 12, 3), np.dtype("uint8"))
    assert 120 < made.read(0).mean() < 180


def test_images_of_several_sizes_are_resized_and_it_is_said(caplog):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (16, 16 if i % 3 else 20)).astype("uint8") for i in range(60)]
    made = ImagePca().fit(collection(images), seed=1).sample(2, seed=2)
    assert made.read(0).shape == (16, 16)
    assert "2 sizes: all are resized to 16 x 16" in caplog.text


@pytest.mark.parametrize("shape", [(60, 16, 16, 4), (60, 16, 16, 2), (60, 2, 16, 16, 3)])
def test_images_of_other_channels_are_refused(shape):
    images = np.random.default_rng(0).integers(0, 255, shape).astype("uint8")
    with pytest.raises(DataError, match="channels"):
        ImagePca().fit(collection(images), seed=1)


def test_one_patients_extreme_and_rare_level_are_not_learned(tmp_path):
    train = gaussian(200)
    train[7] = 7_654.0
    labels = ["a", "b"] * 100
    labels[7] = "Featherstonehaugh"
    images = collection(train, finding=labels)
    generator = ImagePca().fit(images, seed=1)
    assert ImageCodec.from_json(generator.model.codec["image"]).high < 700
    generator.save(tmp_path / "model")
    content = b"".join(path.read_bytes() for path in (tmp_path / "model").iterdir())
    assert b"Featherstonehaugh" not in content
    assert b"7654" not in content


def test_one_patient_with_many_images_sets_neither_range_nor_level_nor_class(tmp_path):
    train = gaussian(300)
    train[:60] = 7_654.0
    patients = ["one"] * 60 + [f"p{i}" for i in range(240)]
    labels = ["Featherstonehaugh"] * 60 + ["a", "b"] * 120
    generator = ImagePca().fit(collection(train, patient=patients, finding=labels), seed=1)
    generator.save(tmp_path / "model")
    assert ImageCodec.from_json(generator.model.codec["image"]).high < 700
    assert generator.model.codec["records"]["classes"] == [[], [1], [2]]
    assert b"Featherstonehaugh" not in (tmp_path / "model" / "manifest.json").read_bytes()


def test_conditions_hold_and_show():
    generator = ImagePca(condition_on=("finding", "sex")).fit(phantom(400, seed=1), seed=1)
    hearts = {}
    for finding in ("normal", "cardiomegaly"):
        made = generator.sample(30, seed=3, where={"finding": finding, "sex": "M"})
        assert set(made.records.table["finding"]) == {finding}
        hearts[finding] = np.mean([made.read(i)[36:42, 38:46].mean() for i in range(30)])
    assert hearts["cardiomegaly"] > 1.1 * hearts["normal"]
    counts = generator.sample(50, seed=3, balance="finding").records.table["finding"].value_counts()
    assert set(counts) == {10}


def test_images_without_labels():
    made = ImagePca().fit(ImageData.of_arrays(gaussian(60), {"patient": [str(i) for i in range(60)]}), seed=1)
    assert len(made.sample(5, seed=2)) == 5
    with pytest.raises(UsageError, match="learned without labels"):
        made.sample(5, seed=2, where={"finding": "a"})


@pytest.mark.parametrize(
    ("images", "settings", "error"),
    [
        (lambda: collection(gaussian(40)), {}, DataError),
        (lambda: collection(gaussian(60)), {"condition_on": ("findng",)}, UsageError),
        (lambda: collection(gaussian(60)), {"size": 4}, UsageError),
        (lambda: collection(np.full((60, 8, 8), 3.0)), {}, DataError),
        (lambda: collection([*gaussian(58), np.zeros((3, 8, 8)), np.zeros((3, 8, 8))]), {}, DataError),
        (
            lambda: collection(gaussian(60), seen=pd.date_range("2020", periods=60)),
            {"condition_on": ("seen",)},
            UsageError,
        ),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_do(images, settings, error):
    with pytest.raises(error):
        ImagePca(**settings).fit(images(), seed=1)


def run(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code, said.getvalue()


def test_from_dicom_to_dicom_on_the_command_line(tmp_path):
    cohort, model = tmp_path / "cohort", tmp_path / "model"
    assert run("dicom", "phantom", "-n", 80, "--size", 32, "--seed", 1, "-o", cohort)[0] == 0
    labels = ("--labels", cohort / "labels.csv", "--target", "finding")
    fit = ("fit", cohort, "--generator", "image-pca", *labels, "--seed", 1, "-o", model)
    assert run(*fit)[0] == 0
    assert run(*fit, "--force", "--schema", "x")[0] == 2
    assert run("sample", model, "-n", 6, "--seed", 2, "--where", "finding=effusion", "-o", tmp_path / "dicom")[0] == 0
    made = sg.read_images(tmp_path / "dicom")
    assert (len(made), set(made.records.table["modality"])) == (6, {"DX"})
    assert run("sample", model, "-n", 6, "--seed", 2, "-o", tmp_path / "dicom")[0] == 2
    assert run("sample", model, "-n", 6, "--seed", 2, "-o", tmp_path / "sc", "--modality", "OT")[0] == 0
    assert len(sg.read_images(tmp_path / "sc", accept=["secondary capture"])) == 6
    assert run("sample", model, "-n", 6, "--seed", 2, "--as", "png", "-o", tmp_path / "png")[0] == 0
    pictures = sg.read_images(tmp_path / "png", labels=tmp_path / "png" / "labels.csv", target="finding")
    assert (len(pictures), pictures.patient_count) == (6, 6)


def test_a_study_of_a_table_refuses_a_generator_of_images(tmp_path):
    pd.DataFrame({"a": range(200)}).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "study.yaml").write_text("data: {table: t.csv}\ngenerator: {name: image-pca}\nseed: 1\n")
    code, said = run("run", tmp_path / "study.yaml", "-o", tmp_path / "out")
    assert code == 2, said
    assert "another kind of data" in said


def test_where_few_share_all_codes_an_image_goes_by_the_first_of_them():
    train = phantom(400, seed=1, size=32)
    records = ImageRecords.fit(train, condition_on=("finding", "sex", "age_years"), seed=Seed(1))
    classes = [records.classes[number] for number in records.of(train.records.table)]
    codes = map(tuple, records.codes(train.records.table).tolist())
    assert all(own[: len(found)] == found for own, found in zip(codes, classes, strict=True))
    assert {len(found) for found in classes} >= {1, 2}
    assert sum(found == () for found in classes) < 30

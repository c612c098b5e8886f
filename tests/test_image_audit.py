"""A study of images from files to release: what copies is refused, what is released is what was audited."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

import synthgen as sg
from synthgen import image_features
from synthgen.cli import main
from synthgen.config import study_from_mapping
from synthgen.dicom.header import ACCEPTABLE
from synthgen.dicom.write import write_dicom
from synthgen.errors import ConfigError, DataError, ReleaseRefused, UsageError
from synthgen.generators.image_pca import ImagePca
from synthgen.image_io import read_images
from synthgen.image_output import copy_objects, write_labels, write_pictures
from synthgen.images import ImageData
from synthgen.phantom import phantom
from synthgen.policy import Policy, load_policy
from synthgen.privacy import image_copies, registration
from synthgen.releasing import release, verify
from synthgen.report import render_html, render_markdown
from synthgen.study import plan_study, run_study
from synthgen.validators.dicom import conformance, marks

PRIVACY = ("images.identifiers", "images.copies", "images.patches", "images.membership")
POLICY = """
name: pictures
description: For tests.
inconclusive_means: REFUSE
checks:
  contract: {limit: 0, why: nobody is in both}
images:
  images.identifiers: {limit: 0, why: no real image}
  images.copies: {limit: 0.1, minimum_p: 0.001, maximum_power: 0.3, why: few copies}
  images.patches: {limit: 0.1, minimum_p: 0.001, maximum_power: 0.3, why: few parts}
  images.membership: {limit: 0.7, details: {tpr_at_1pct_fpr: 0.2}, why: an attacker gains little}
"""


def quick(patch):
    """What the tests here are about needs no well-trained encoder and no exact fit of moved images."""
    patch.setattr(image_features, "STEPS", 20)
    patch.setattr(image_copies, "PLANTED", 20)
    patch.setattr(registration, "STEPS", 5)


@pytest.fixture(autouse=True)
def quick_encoder(monkeypatch):
    quick(monkeypatch)


@pytest.fixture(scope="module")
def cohort():
    return phantom(400, seed=1, size=32).split_by_patient(holdout=0.4, seed=2)


@pytest.fixture(scope="module")
def made(cohort):
    return ImagePca(size=32, components=20).fit(cohort[0], seed=1).sample(300, seed=2)


def audited(cohort, synthetic, **settings):
    policy = Policy.from_text(POLICY, source="a test")
    return sg.audit(train=cohort[0], holdout=cohort[1], synthetic=synthetic, seed=3, policy=policy, **settings)


@pytest.fixture(scope="module")
def passed(cohort, made):
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        return audited(cohort, made)


def with_noise(images, spread=0.005):
    rng, pixels = np.random.default_rng(0), [images.read(i) for i in range(len(images))]
    changed = [np.round(one + rng.normal(0, spread * one.max(), one.shape)).clip(0) for one in pixels]
    return ImageData.of_arrays(changed, images.records.table.drop(columns="patient"))


def test_a_clean_generator_is_released_and_shown(passed):
    assert passed.decision.outcome == "RELEASE", passed.decision.reasons
    assert passed.modality == "image"
    assert [finding.check for finding in passed.findings] == [*PRIVACY]
    page = render_html(passed)
    assert "data:image/png;base64," in page
    assert "img-src data:" in page
    assert "audit of synthetic images" in render_markdown(passed)
    assert sg.Audit.from_json(json.loads(json.dumps(passed.to_json()))) == passed


def test_train_copies_with_noise_are_refused_and_never_shown(cohort):
    copier = audited(cohort, with_noise(cohort[0]))
    assert copier.decision.outcome == "REFUSE"
    for check in ("images.copies", "images.patches", "images.membership"):
        assert copier[check].verdict == "FAIL", check
    assert copier.samples == {}
    assert "data:image" not in render_html(copier)


def test_a_few_copies_among_many_images_are_refused(cohort, made):
    copied, rest = with_noise(cohort[0].take(np.arange(40))), made.take(np.arange(260))
    pixels = [one.read(i) for one in (copied, rest) for i in range(len(one))]
    found = audited(cohort, ImageData.of_arrays(pixels, {"patient": range(300)}))
    assert found.decision.outcome == "REFUSE"
    assert found["images.copies"].verdict == "FAIL"


def test_the_same_audit_gives_the_same_bytes(cohort, made):
    chosen = ("images.identifiers", "images.patches")
    first, second = (audited(cohort, made, only=lambda name: name in chosen).to_json() for _ in range(2))
    for one in (first, second):
        one["seconds"] = 0
        for finding in one["findings"]:
            finding["measurement"]["seconds"] = 0
    assert first == second


def test_shipped_policies_judge_images():
    for name in ("internal", "research-share", "public"):
        policy = load_policy(name).about("image")
        assert {*PRIVACY} <= {check for check, threshold in policy.checks.items() if threshold.required}
    limits = [load_policy(name).images["images.copies"].limit for name in ("internal", "research-share", "public")]
    assert limits == sorted(limits, reverse=True)


def test_evidence_that_makes_no_audit_is_refused(cohort, made):
    with pytest.raises(DataError, match="some of each"):
        sg.audit(train=cohort[0], holdout=cohort[1].records, synthetic=made, seed=1)
    with pytest.raises(DataError, match="no synthetic images"):
        audited(cohort, made.take(np.arange(0)))
    with pytest.raises(DataError, match="too few patients"):
        audited((cohort[0].take(np.arange(5)), cohort[1]), made)
    silent = Policy.from_text(POLICY.split("images:")[0], source="a test")
    with pytest.raises(ConfigError, match="no section 'images'"):
        sg.audit(train=cohort[0], holdout=cohort[1], synthetic=made, seed=1, policy=silent)
    with pytest.raises(ConfigError, match="would release anything"):
        Policy.from_text(POLICY.split("  images.identifiers")[0] + "  images.copies: {why: none}", source="a test")


def test_what_is_released_is_what_was_audited(passed, made, tmp_path):
    folder = release(passed, made, tmp_path / "release", licence="CC BY 4.0")
    verify(folder)
    again = read_images(folder / "images")
    assert len(again) == len(made)
    assert set(again.records.table.columns) <= {*made.records.table.columns}
    assert "synthetic images" in (folder / "DATASHEET.md").read_text()
    with pytest.raises(ReleaseRefused, match="fingerprint"):
        release(passed, made.take(np.arange(1, len(made))), tmp_path / "other")
    picture = sorted((folder / "images").glob("*.png"))[3]
    content = picture.read_bytes()
    picture.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(DataError, match=picture.name):
        verify(folder)
    picture.write_bytes(content)
    (folder / "images" / "extra.png").write_bytes(content)
    with pytest.raises(DataError, match="does not list"):
        verify(folder)


def test_other_files_of_a_dicom_folder_are_not_released(cohort, made, tmp_path):
    write_dicom(made, tmp_path / "made", seed=1, generator="image-pca")
    write_labels(made, tmp_path / "made")
    (tmp_path / "made" / "notes.txt").write_text("about Quillfeather")
    read = read_images(tmp_path / "made", accept=ACCEPTABLE)
    assert len(read) == len(made)
    passed = audited(cohort, read, only=lambda name: name == "images.identifiers")
    assert passed["images.identifiers"].verdict == "PASS"
    passed = dataclasses.replace(passed, decision=dataclasses.replace(passed.decision, outcome="RELEASE"))
    folder = release(passed, read, tmp_path / "release")
    verify(folder)
    names = {path.name for path in (folder / "images").iterdir()}
    assert names == {"labels.csv", "labels.csv-metadata.json", *(f"{i + 1:06d}.dcm" for i in range(len(made)))}
    for judged in (conformance(folder / "images"), marks(folder / "images")):
        assert judged.error_count == 0, judged.errors
    path = next(path for path in sorted((tmp_path / "made" / "DICOM").rglob("*")) if path.is_file())
    data = dcmread(path)
    data.ImageComments = "seen by Quillfeather"  # after the audit: pixels and records stay as they were
    data.save_as(path)
    with pytest.raises(ReleaseRefused, match="fingerprint"):
        release(passed, read_images(tmp_path / "made", accept=ACCEPTABLE), tmp_path / "tampered")


def test_an_object_is_copied_with_all_its_frames_or_not_at_all(tmp_path):
    data = dcmread(get_testdata_file("emri_small.dcm"))
    data.SyntheticData = "YES"  # else it does not go at all
    (tmp_path / "frames").mkdir()
    data.save_as(tmp_path / "frames" / "some.dcm")
    images = read_images(tmp_path / "frames", accept=ACCEPTABLE)
    assert len(images) > 2
    copy_objects(images, tmp_path / "all")
    assert len(read_images(tmp_path / "all", accept=ACCEPTABLE)) == len(images)
    with pytest.raises(UsageError, match="frames"):
        copy_objects(images.take(np.arange(2)), tmp_path / "some")
    assert not (tmp_path / "some").exists()


def test_a_study_runs_from_dicom_to_a_released_folder_of_dicom(tmp_path):
    cohort = phantom(280, seed=5, size=32)
    write_dicom(cohort, tmp_path / "cohort", seed=5, generator="phantom")
    write_labels(cohort, tmp_path / "cohort")
    (tmp_path / "policy.yaml").write_text(POLICY)
    study = study_from_mapping(
        {
            "data": {"images": str(tmp_path / "cohort"), "target": "finding"},
            "split": {"holdout": 0.4},
            "generator": {"name": "image-pca", "settings": {"size": 32, "components": 20}},
            "sample": {"rows": 150},
            "policy": str(tmp_path / "policy.yaml"),
            "seed": 1,
        }
    )
    assert sum(plan_study(study).to_json()["images"].values()) == len(cohort)
    outcome = run_study(study, tmp_path / "run")
    assert outcome.audit.decision.outcome == "RELEASE", outcome.audit.decision.reasons
    verify(outcome.release)
    released = read_images(outcome.release / "images", target="finding")
    assert len(released) == 150
    assert set(released.records.table["finding"]) <= set(cohort.records.table["finding"])
    assert conformance(outcome.release / "images").error_count == 0
    again = run_study(study, tmp_path / "run", resume=True)
    assert again.audit.fingerprints == outcome.audit.fingerprints
    with pytest.raises(UsageError, match="another kind of data"):
        plan_study(
            study.model_copy(
                update={"generator": study.generator.model_copy(update={"name": "copula", "settings": {}})}
            )
        )


def run(*arguments):
    """Exit code of the command line, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code, said.getvalue()


def test_the_command_line_audits_folders(cohort, tmp_path):
    for name, images in (("train", cohort[0]), ("holdout", cohort[1]), ("made", with_noise(cohort[0]))):
        write_pictures(images, tmp_path / name)
    (tmp_path / "policy.yaml").write_text(POLICY)
    sets = {"train": "train", "holdout": "holdout", "synthetic": "made", "policy": "policy.yaml"}
    paths = [f"--{name}={tmp_path / folder}" for name, folder in sets.items()]
    code, said = run("audit", *paths, "-o", tmp_path / "audit")
    assert code == 3
    assert "REFUSE" in said
    code, said = run("release", tmp_path / "audit", "--data", tmp_path / "made", "-o", tmp_path / "release")
    assert code == 3
    assert not (tmp_path / "release").exists()
    assert run("audit", *paths, "--schema=x.yaml", "-o", tmp_path / "other")[0] == 2

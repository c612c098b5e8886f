"""A study of patients and their images: records first, then an image for each; one audit, one decision, one release."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from pydicom import dcmread

import synthgen as sg
from synthgen import image_features
from synthgen.cli import main
from synthgen.cohort import Cohort
from synthgen.cohort_io import read_written, write_cohort
from synthgen.config import load_study, study_from_mapping, study_template
from synthgen.errors import ConfigError, DataError, ReleaseRefused, SchemaError
from synthgen.evidence import gathered_by
from synthgen.generators.cohort_levels import OTHER, CohortLevels
from synthgen.phantom import phantom_cohort
from synthgen.policy import Policy, load_policy
from synthgen.privacy import image_copies, registration
from synthgen.releasing import release, verify
from synthgen.report import render_html, render_markdown
from synthgen.rng import Seed
from synthgen.stages import relinked
from synthgen.study import plan_study, run_study
from synthgen.validators.cohort_agreement import CohortAgreement
from synthgen.validators.cohort_links import CohortLinks
from synthgen.validators.dicom import conformance, marks

POLICY = """
name: both
description: For tests.
inconclusive_means: REFUSE
checks:
  contract: {limit: 0, why: nobody is in both}
  copies.exact: {limit: 0.1, why: few copies}
images:
  images.identifiers: {limit: 0, why: no real image}
cohort:
  cohort.links: {limit: 0, why: headers say what records say}
"""
LENIENT = """
name: lenient
description: For tests.
inconclusive_means: REFUSE
checks:
  contract: {limit: 0, why: nobody is in both}
images:
  fidelity.intensities: {required: true, limit: 9, why: something must be asked}
cohort:
  cohort.links: {limit: 0, why: headers say what records say}
"""
STUDY = {
    "data": {"table": "patients.csv", "images": "dicom", "patient": "patient_id", "target": "died"},
    "images": {
        "finding": "finding",
        "generator": {"name": "image-pca", "settings": {"size": 32, "components": 20}},
    },
    "split": {"holdout": 0.4},
    "generator": {"name": "copula"},
    "policy": "policy.yaml",
    "seed": 1,
}
COMMAND = [sys.executable, "-c", "from synthgen.cli import main; main()", "run", "study.yaml", "-o"]


@pytest.fixture(autouse=True)
def quick_encoder(monkeypatch):
    monkeypatch.setattr(image_features, "STEPS", 20)
    monkeypatch.setattr(image_copies, "PLANTED", 20)
    monkeypatch.setattr(registration, "STEPS", 5)


def files_of(folder, *, patients=200):
    """A phantom cohort as files, its policy and its study."""
    cohort = phantom_cohort(patients, seed=5, size=32)
    write_cohort(cohort, folder / "real", seed=5, generator="phantom", modality=None)
    (folder / "real" / "dicom").rename(folder / "dicom")
    frame = cohort.patients.frame
    frame.to_csv(folder / "patients.csv", index=False)
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return frame


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    frame = files_of(folder)
    study = load_study(folder / "study.yaml")
    return folder, frame, study, run_study(study, folder / "run")


def test_one_study_ends_in_one_decision_and_one_release(ran):
    _, _, study, outcome = ran
    assert outcome.audit.decision.outcome == "RELEASE", outcome.audit.decision.reasons
    assert outcome.audit.modality == "cohort"
    assert {f.check: f.modality for f in outcome.audit.findings} == {
        "contract": "table",
        "copies.exact": "table",
        "images.identifiers": "image",
        "cohort.links": "cohort",
    }
    assert outcome.audit.counts["synthetic"] == {"rows": 120, "patients": 120, "images": 120}
    verify(outcome.release)
    assert conformance(outcome.release / "dicom").error_count == marks(outcome.release / "dicom").error_count == 0
    assert sg.Audit.from_json(json.loads(json.dumps(outcome.audit.to_json()))) == outcome.audit
    plan = plan_study(study).to_json()
    assert (plan["rows"], plan["images"]) == ({"train": 120, "holdout": 80},) * 2


def test_records_agree_with_their_headers_in_every_released_file(ran):
    table = sg.read(ran[3].release / "patients.parquet", patient="patient_id").table.set_index("patient_id")
    series = json.loads((ran[3].release / "manifest.json").read_text())["series"]
    seen = set()
    for path in (ran[3].release / "dicom" / "DICOM").rglob("*"):
        if path.is_file():
            data = dcmread(path)
            record = table.loc[data.PatientID]
            assert data.PatientSex == record["sex"]
            assert int(data.PatientAge[:3]) == record["age_years"]
            assert data.StudyDate == f"{record['study_date']:%Y%m%d}"
            assert data.AdmittingDiagnosesDescription == record["finding"]
            seen.add((data.PatientID, data.SeriesInstanceUID))
    assert len(seen) == len(table) == 120
    assert seen == {(one["patient_id"], one["series_instance_uid"]) for one in series}


def test_a_report_of_a_cohort_speaks_of_both(ran):
    page, text = render_html(ran[3].audit), render_markdown(ran[3].audit)
    for part in ("Privacy: records", "Privacy: images", "Fidelity: records and images together"):
        assert part in page
        assert part in text
    assert "120 records and 120 images" in text
    assert "copula, and image-pca of images" in text
    assert "`patients.csv`" in (ran[3].release / "DATASHEET.md").read_text()


def test_no_file_of_the_run_names_a_patient(ran):
    folder, frame, _, _ = ran
    for path in (folder / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(name.encode() in content for name in frame["patient_id"]), path.name
            assert str(folder).encode() not in content, path.name


def test_only_the_audited_cohort_is_released(ran, tmp_path):
    folder, _, study, outcome = ran
    made = folder / "run" / "synthetic"
    from synthgen.stages import read_study_data

    train, _ = read_study_data(study)
    again = read_written(made, train.schema, train.link)
    release(outcome.audit, again, tmp_path / "again")
    verify(tmp_path / "again")
    command = ("release", str(folder / "run" / "audit"), "--data", str(made), "-o", str(tmp_path / "by-command"))
    with pytest.raises(SystemExit) as stopped:
        main([*command])
    assert stopped.value.code == 0
    verify(tmp_path / "by-command")
    with pytest.raises(ReleaseRefused, match="audited cohort"):
        release(outcome.audit, dataclasses.replace(again, rows=again.rows[::-1].copy()), tmp_path / "other")
    (outcome.release / "manifest.json").rename(outcome.release / "kept")
    with pytest.raises(DataError, match=r"lacks 'manifest\.json'"):
        verify(outcome.release)
    (outcome.release / "kept").rename(outcome.release / "manifest.json")


def test_killed_and_resumed_gives_the_same_bytes(tmp_path):
    files_of(tmp_path, patients=90)
    (tmp_path / "policy.yaml").write_text(LENIENT)

    def digests(run):
        paths = sorted(path for path in (run / "synthetic").rglob("*") if path.is_file())
        return {p.relative_to(run).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}

    def start(output, *more):
        return subprocess.Popen([*COMMAND, output, *more], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    whole = start("whole")
    assert whole.wait() in (0, 3, 4), whole.stderr.read()
    killed = start("killed")
    while not (tmp_path / "killed" / "image-model").exists() and killed.poll() is None:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "audit" / "audit.json").exists()
    resumed = start("killed", "--resume")
    assert resumed.wait() in (0, 3, 4), resumed.stderr.read()
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole") != {}
    for process in (whole, killed, resumed):
        process.stdout.close()
        process.stderr.close()


def in_memory(patients, seed):
    cohort = phantom_cohort(patients, seed=seed, size=32)
    pixels = sg.ImageData.of_arrays([cohort.images.read(i) for i in range(patients)], cohort.images.records.table)
    return dataclasses.replace(cohort, images=pixels)


def test_images_of_other_records_are_found_out():
    """Each part is as good as real, and only the link is broken: the images were dealt to other records."""
    train, holdout, made = (in_memory(n, seed) for n, seed in ((400, 1), (250, 2), (250, 3)))
    check = CohortAgreement(steps=120, repeats=60)
    good = check.run(gathered_by(train, holdout, made)["cohort"], seed=Seed(1))
    assert good.statistic.low < 0.0 < good.statistic.high
    assert good.details["AUC (real)"].value > 0.8
    assert good.control.low < 0 < good.control.high
    dealt = dataclasses.replace(made, rows=np.random.default_rng(0).permutation(250))
    broken = check.run(gathered_by(train, holdout, dealt)["cohort"], seed=Seed(1))
    assert broken.statistic.high < -0.2
    assert 0.4 < broken.details["AUC"].value < 0.6


def test_a_header_that_contradicts_its_record_is_counted(tmp_path):
    cohort = phantom_cohort(60, seed=2, size=32)
    train, holdout = cohort.split_by_patient(holdout=0.5, seed=1)
    made = phantom_cohort(30, seed=9, size=32)
    write_cohort(made, tmp_path / "made", seed=1, generator="phantom", modality=None)
    paths = [path for path in sorted((tmp_path / "made" / "dicom" / "DICOM").rglob("*")) if path.is_file()]
    changes = {
        "PatientSex": None,
        "StudyDate": "19990101",
        "AdmittingDiagnosesDescription": "other",
        "PatientID": "X-1",
    }
    for path, (keyword, value) in zip(paths, changes.items(), strict=False):
        data = dcmread(path)
        setattr(data, keyword, value or {"F": "M", "M": "F"}[data.PatientSex])
        data.save_as(path)

    def measured():
        synthetic = read_written(tmp_path / "made", made.schema, made.link)
        return CohortLinks().run(gathered_by(train, holdout, synthetic)["cohort"], seed=Seed(1))

    assert measured().statistic.value == 4
    assert any("fewer than 10" not in note for note in measured().notes)


def test_bad_input_is_counted_and_what_was_never_imaged_gets_no_image():
    cohort = in_memory(300, 4)
    table = cohort.patients.table.copy()
    table.loc[:39, "finding"] = None  # missing
    table.loc[40:79, "finding"] = "never imaged"
    unseen = np.isin(cohort.rows, np.arange(40, 80))
    patients = dataclasses.replace(cohort.patients, table=table)
    kept = np.flatnonzero(~unseen)
    cohort = Cohort(patients, cohort.images.take(kept), cohort.rows[kept], cohort.link)
    assert cohort.counts["patients without images"] == 40
    assert cohort.counts["images whose record lacks what images go by"] == 40
    assert cohort.counts["patients with a level that no image shows"] == 40
    levels = CohortLevels.fit(cohort)
    coded = levels.coded(table)
    assert set(coded["finding"][:80]) == {OTHER}  # forty images are of it
    fewer = cohort.take(np.arange(35, 300))  # five images have none: too few
    coded = CohortLevels.fit(fewer).coded(fewer.patients.table)
    assert coded["finding"][:45].isna().all()
    assert levels.drawable(coded).sum() == 220
    assert len(CohortLevels.fit(fewer).material(fewer)) == 220


def test_policies_and_evidence_of_cohorts(ran):
    for name in ("internal", "research-share", "public"):
        policy = load_policy(name).about("cohort")
        assert {"contract", "images.copies", "cohort.links", "cohort.agreement"} <= set(policy.checks)
    silent = Policy.from_text(POLICY.split("cohort:")[0], source="a test")
    with pytest.raises(ConfigError, match="no section 'cohort'"):
        silent.about("cohort")
    with pytest.raises(DataError, match="three cohorts"):
        gathered_by(phantom_cohort(30, seed=1), phantom_cohort(30, seed=2), phantom_cohort(30, seed=3).patients)


def test_study_files_of_cohorts(tmp_path):
    (tmp_path / "study.yaml").write_text(study_template("cohort"))
    study = load_study(tmp_path / "study.yaml")
    assert study.is_cohort
    assert (study.generator_name, study.image_generator_name) == ("diffusion", "image-diffusion")
    with pytest.raises(ConfigError, match="condition_on"):
        study_from_mapping({"data": {"table": "p.csv", "images": "x"}, "images": {"condition_onn": ["sex"]}})
    assert "images" not in study_from_mapping({"data": {"table": "p.csv"}}).resolved()


def test_a_check_that_nobody_has_is_named_before_any_training(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("cohort.links", "cohort.lincs"))
    with pytest.raises(ConfigError, match=r"names the check 'cohort.lincs'.*cohort.links"):
        load_policy(path)


def test_a_study_says_what_the_images_of_a_cohort_go_by_that_came_linked(tmp_path):
    said = STUDY["images"] | {"condition_on": ["finding"]}
    study = study_from_mapping(STUDY | {"images": said, "policy": "internal"})
    cohort = phantom_cohort(120, seed=5, size=32)
    assert cohort.link.condition_on == ("finding", "sex", "age_years")
    found = relinked(study, cohort).link
    assert (found.condition_on, found.finding, found.headers) == (("finding",), "finding", cohort.link.headers)
    assert relinked(study_from_mapping(STUDY | {"policy": "internal"}), cohort).link == cohort.link
    wrong = study_from_mapping(STUDY | {"images": said | {"condition_on": ["findings"]}, "policy": "internal"})
    with pytest.raises(SchemaError, match="findings"):
        run_study(wrong, tmp_path / "run", data=cohort.split_by_patient(holdout=0.4, seed=1))
    assert not (tmp_path / "run").exists()

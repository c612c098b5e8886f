"""Several generators: ranked without the holdout, audited in that order; a leak is refused however good it looks."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from test_cli import run as run  # the fixture

from synthgen import read, registry, verify
from synthgen.auditing import Audit
from synthgen.config import load_study, study_from_mapping
from synthgen.errors import ConfigError, Interrupted
from synthgen.findings import Estimate
from synthgen.generators.independent import Independent
from synthgen.ledger import spent
from synthgen.phantom import phantom
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed
from synthgen.stages import read_study_data
from synthgen.stats import widened
from synthgen.study import run_study
from synthgen.testing.leaky import drawn, with_rows
from synthgen.validators.image_detection import ImageDetection

STUDY = Path(__file__).with_name("several_study.yaml")
POLICY = """
name: quick
description: for this test
inconclusive_means: REFUSE
checks:
  contract: {limit: 0, why: identifiers}
  copies.exact: {limit: 0.02, minimum_p: 0.001, why: copies}
  membership: {limit: 0.62, why: the honest ones keep it as the last of three too}
"""


@dataclass
class Copier(Independent):
    """Returns rows that it was given: nothing looks more like real patients."""

    name: ClassVar[str] = "copier"
    share: float = 1.0

    def fit(self, train, *, seed, run=None):
        self.train = train
        return super().fit(train, seed=seed)

    def sample(self, n, *, seed, where=None, given=None):
        made, seed = super().sample(n, seed=seed), Seed.of(seed)
        return with_rows(made, drawn(self.train, round(self.share * n), seed=seed), seed=seed)


class QuickDetection(ImageDetection):
    """With networks that are hardly trained."""

    def __init__(self):
        super().__init__(steps=2)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The copier is known by name, as a plug-in's generator would be; images are told apart quickly."""
    ours, find = {"copier": Copier, "fidelity.image_detection": QuickDetection}, registry.find
    monkeypatch.setattr(registry, "find", lambda group, name: ours.get(name) or find(group, name))


def patients(n, *, seed=0):
    """Blood pressure goes with age, as a copula can learn, and two laboratory values form a ring, as it cannot."""
    rng = np.random.default_rng(seed)
    age, angle = rng.normal(60, 12, n), rng.uniform(0, 2 * np.pi, n)
    return pd.DataFrame(
        {
            "patient_id": [f"HX-{number}" for number in rng.choice(10**6, n, replace=False)],
            "age": np.round(age, 1),
            "systolic": np.round(age + rng.normal(70, 5, n), 1),
            "sodium": np.round(np.cos(angle) + rng.normal(0, 0.05, n), 3),
            "potassium": np.round(np.sin(angle) + rng.normal(0, 0.05, n), 3),
            "died": (rng.random(n) < 0.3).astype(int),
        }
    )


def study_in(folder):
    """Put the example study, its patients and its policy into a folder."""
    (folder / "study.yaml").write_text(STUDY.read_text())
    (folder / "policy.yaml").write_text(POLICY)
    patients(1_200).to_csv(folder / "p.csv", index=False)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of the example study, where the command line is."""
    monkeypatch.chdir(tmp_path)
    return study_in(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of the example study that nobody interrupted: its folder, and its outcome."""
    folder = study_in(tmp_path_factory.mktemp("whole"))
    return folder / "R", run_study(load_study(folder / "study.yaml"), folder / "R")


def several(home, *generators):
    study = load_study(home / "study.yaml")
    return study_from_mapping({**study.model_dump(by_alias=True), "generator": generators})


def chosen(folder):
    return json.loads((folder / "selection.json").read_text())


def test_a_leak_that_ranks_first_is_refused_and_the_best_honest_one_released(run, home):
    code, out, err = run("run", "study.yaml", "-o", "R", "--set", "generator=[independent, copier, copula]")
    assert code == 0, err
    selection = chosen(home / "R")
    assert [one["label"] for one in selection["generators"]] == ["copier", "copula", "independent"]
    values = [one["validation"]["value"] for one in selection["generators"]]
    assert values == sorted(values)
    assert values[0] < 0.6 < values[1]
    assert [one["decision"]["verdict"] for one in selection["generators"]] == ["REFUSE", "RELEASE", "RELEASE"]
    assert [one["audit_number"] for one in selection["generators"]] == [1, 2, 3]
    assert (selection["tried"], selection["released"]) == (3, "copula")
    assert re.search(r"decision .* REFUSE .* RELEASE .* RELEASE", out)
    assert "copula: rank 2 of 3 generators tried" in out

    verify(home / "R" / "release")
    released = Audit.load(home / "R" / "release")
    ours = Audit.load(home / "R" / "generators" / "copula" / "audit")
    assert released.fingerprints == ours.fingerprints
    facts = released.generator["selection"]
    assert (facts["tried"], facts["rank"]) == (3, 2)
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\], n = 252", facts["validation"])
    for page in ("report.md", "report.html"):
        assert "copula (rank 2 of 3 tried)" in (home / "R" / "release" / page).read_text()
    manifest = json.loads((home / "R" / "manifest.json").read_text())
    assert manifest["selection"]["generators"] == ["independent", "copier", "copula"]
    assert ours.counts["train"]["rows"] == 588  # 1,200 without the holdout and the validation patients
    assert manifest["fingerprints"]["holdout"] == ours.fingerprints["holdout"]
    page = (home / "R" / "compare.html").read_text()
    assert facts["validation"] in page
    assert page.index("copier") < page.index("copula") < page.index("independent")


def test_where_none_passes_all_reasons_are_told(run, home):
    generators = "generator=[copier, {name: copier, settings: {share: 0.5}}]"
    code, out, _ = run("run", "study.yaml", "-o", "R", "--set", generators, "--json")
    record = json.loads(out)
    assert code == 3
    assert (record["decision"]["verdict"], record["release"], record["released"]) == ("REFUSE", None, None)
    blamed = {reason.split(": ")[0] for reason in record["decision"]["reasons"] if "copies.exact" in reason}
    assert blamed == {"copier", "copier-2"}
    assert not (home / "R" / "release").exists()
    assert (home / "R" / "compare.html").exists()


def test_one_for_a_person_to_review_is_no_refusal(home):
    (home / "policy.yaml").write_text(POLICY.replace("means: REFUSE", "means: REVIEW").replace("0.62", "0.52"))
    outcome = run_study(several(home, "copier", "independent"), home / "R")
    assert [one.audit.decision.outcome for one in outcome.selection.candidates] == ["REFUSE", "REVIEW"]
    assert (outcome.decision.outcome, outcome.release) == ("REVIEW", None)


def test_without_a_ledger_the_run_counts_its_own_audits(whole):
    folder, outcome = whole
    assert [one.audit.audit_number for one in outcome.selection.candidates] == [1, 2]
    assert (folder / "ledger.jsonl").read_text().count("\n") == 2
    last = outcome.selection.candidates[1].audit["membership"]
    assert str(widened(last.measurement.statistic, spent(0.05, 2))) in last.because
    assert str(last.measurement.statistic) not in last.because


def test_the_order_does_not_depend_on_the_holdout(whole, tmp_path):
    folder, outcome = whole
    study = load_study(folder.parent / "study.yaml")
    train, _ = read_study_data(study)
    other = read(patients(300, seed=9), schema=train.schema)
    again = run_study(study, tmp_path / "R", data=(train, other)).selection.candidates
    before = outcome.selection.candidates
    assert [(one.label, one.figure) for one in again] == [(one.label, one.figure) for one in before]
    assert again[0].audit.fingerprints["holdout"] != before[0].audit.fingerprints["holdout"]


@pytest.mark.parametrize(
    ("moment", "fitted"),
    [
        ("copula fit", ["copula"]),
        ("copula sample", []),
        ("copula check contract", []),
        ("independent check copies.exact", []),
    ],
)
def test_a_run_goes_on_from_every_stage(whole, tmp_path, monkeypatch, moment, fitted):
    study, home = load_study(whole[0].parent / "study.yaml"), tmp_path

    def told(event: Progress) -> None:
        if event.stage == moment:
            raise Interrupted("here")

    with pytest.raises(Interrupted):
        run_study(study, home / "R", run=Run(progress=told))
    names = []
    for label in ("independent", "copula"):
        kind = registry.find("generators", label)
        real = kind.fit
        monkeypatch.setattr(
            kind, "fit", lambda self, *a, real=real, **k: (names.append(self.name), real(self, *a, **k))[1]
        )
    audits = {path: path.stat().st_mtime_ns for path in (home / "R").rglob("audit.json")}
    resumed = run_study(study, home / "R", resume=True)
    assert names == fitted
    assert chosen(home / "R") == chosen(whole[0])
    assert resumed.audit.fingerprints == whole[1].audit.fingerprints
    assert all(path.stat().st_mtime_ns == before for path, before in audits.items())  # what was audited stays
    verify(home / "R" / "release")


def test_the_best_weights_of_an_interrupted_training_are_kept_and_the_others_train(home):
    quick = {"name": "diffusion", "settings": {"max_steps": 60, "width": 32, "threads": 1}}
    study, asked = several(home, quick, "independent"), iter(range(1_000))
    with pytest.raises(Interrupted, match="step 40 of 60"):
        run_study(study, home / "R", run=Run(stop=lambda: next(asked) >= 40))
    outcome = run_study(study, home / "R", resume=True, keep_best=True)
    facts = {one.label: one.audit.generator["training"] for one in outcome.selection.candidates}
    assert (facts["diffusion"]["stopped"], facts["diffusion"]["steps"]) == (True, 40)
    assert "stopped" not in facts["independent"]


def test_the_plan_shows_who_competes_and_by_what(run, home):
    code, out, _ = run("run", "study.yaml", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["rows"] == {"train": 588, "validation": 252, "holdout": 360}
    assert plan["parameters"] == {"independent": None, "copula": None}
    assert plan["ranked_by"].startswith("AUC")
    assert plan["study"]["generator"][1] == {"name": "copula", "settings": {}}
    assert sorted(path.name for path in home.iterdir()) == ["p.csv", "policy.yaml", "study.yaml"]


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (("generator=[copula, copula]",), 5, "'copula' is listed twice with the same settings"),
        (("generator=[{}, diffusion]",), 5, "'diffusion' is listed twice"),
        (("generator=[copula, image-pca]",), 2, "image-pca learns another kind of data"),
        (("generator=[copula, gna]",), 2, "did you mean 'gan'"),
        (("generator=[copula, {nmae: gan}]",), 5, "generator.1 has no key 'nmae': did you mean 'name'"),
        (("generator=[copula]",), 5, "generator: "),
        (("generator=[copula, {name: gan, settings: {max_step: 3}}]",), 2, "did you mean 'max_steps'"),
        (("split.validation=0.004",), 5, "validation has 3, and an audit needs at least 20"),
        (("split.validation=0.996",), 5, "train without validation has 3"),
        (("generator.name=gan",), 2, "'generator' is not a section"),
    ],
)
def test_bad_lists_are_refused_before_anything_is_written(run, home, settings, code, message):
    found, out, err = run("run", "study.yaml", "-o", "R", *(x for text in settings for x in ("--set", text)))
    assert (found, out) == (code, "")
    assert message in err
    assert not (home / "R").exists()


def test_one_generator_may_be_named_and_keeps_its_hash():
    mappings = [{"data": {"table": "p"}, "generator": one} for one in ("copula", {"name": "copula"})]
    named, full = (study_from_mapping(mapping) for mapping in mappings)
    assert named.hash() == full.hash()
    assert "validation" not in full.resolved()["split"]
    twice = study_from_mapping({**mappings[0], "generator": ["gan", {"name": "gan", "settings": {"max_steps": 9}}]})
    assert list(twice.generators) == ["gan", "gan-2"]
    assert study_from_mapping(twice.resolved()) == twice.model_copy(update={"data": twice.data})
    with pytest.raises(ConfigError, match="at least 2"):
        study_from_mapping({**mappings[0], "generator": ["gan"]})


def test_generators_of_images_compete_too(tmp_path):
    cohort = phantom(110, seed=5, size=32)
    (tmp_path / "policy.yaml").write_text(
        "name: quick\ndescription: test\ninconclusive_means: REFUSE\nchecks:\n  contract: {limit: 0, why: test}\n"
        "images:\n  images.identifiers: {limit: 0, why: test}\n"
    )
    pca = [{"name": "image-pca", "settings": {"size": 32, "components": count}} for count in (2, 20)]
    study = study_from_mapping(
        {
            "data": {"images": "unused"},
            "generator": pca,
            "sample": {"as": "png"},
            "split": {"validation": 0.3},
            "policy": str(tmp_path / "policy.yaml"),
        }
    )
    outcome = run_study(study, tmp_path / "R", data=cohort.split_by_patient(seed=1))
    assert {one.label for one in outcome.selection.candidates} == {"image-pca", "image-pca-2"}
    assert outcome.decision.outcome == "RELEASE", outcome.decision.reasons
    verify(outcome.release)
    assert isinstance(outcome.selection.candidates[0].figure, Estimate)
    assert np.isfinite(outcome.selection.candidates[0].figure.value)

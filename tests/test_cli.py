"""The command line: every verb on real files, exit codes, JSON on stdout alone, and no value in any message."""

import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import invented_patients

from synthgen.cli import cli, main, options

SECRET = "Zebulon-4711"


@pytest.fixture
def run(capsys):
    """Run a command line; returns exit code, stdout and stderr."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture
def tables(tmp_path):
    """Train, holdout and a fresh real draw of invented patients as CSV."""
    frame = invented_patients(900)
    paths = {}
    for i, name in enumerate(("train", "holdout", "fresh")):
        part = frame.iloc[i * 300 : (i + 1) * 300]
        paths[name] = tmp_path / f"{name}.csv"
        (part.drop(columns="patient_id") if name == "fresh" else part).to_csv(paths[name], index=False)
    return paths


def test_the_private_report_names_pairs_of_rows(run, tables, tmp_path):
    """Noisy copies are among the pairs, the file is the owner's alone, and it does not lie where others look."""
    train = pd.read_csv(tables["train"])
    made = pd.read_csv(tables["fresh"])
    for row, source in ((5, 40), (17, 3)):
        made.loc[row] = train.loc[source]
        made.loc[row, "glucose"] += 0.1
    made.to_csv(tmp_path / "made.csv", index=False)
    paths = ("--train", tables["train"], "--holdout", tables["holdout"], "--synthetic", tmp_path / "made.csv")
    private, folder = tmp_path / "pairs.csv", tmp_path / "audit"
    code, _, err = run("audit", *paths, "-o", folder, "--private", folder / "pairs.csv")
    assert (code, folder.exists()) == (2, False)
    assert "outside the audit's folder" in err
    run("audit", *paths, "-o", folder, "--private", private)
    pairs = pd.read_csv(private)
    assert {(5, 40), (17, 3)} <= set(zip(pairs["synthetic_row"], pairs["train_row"], strict=True))
    assert private.stat().st_mode & 0o077 == 0


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in cli.commands:
        assert name in out
        assert run(name, "--help")[0] == 0
    assert run("--version")[1].startswith("synthgen")


def test_fit_sample_audit_release_verify_report(run, tables, tmp_path):
    model, made, folder = tmp_path / "model", tmp_path / "made.csv", tmp_path / "audit"
    code, _, err = run("fit", tables["train"], "--generator", "copula", "--seed", 1, "-o", model, "--target", "died")
    assert code == 0
    assert "patient_id" in err
    assert run("sample", model, "-n", 300, "--seed", 2, "-o", made, "--where", "sex=F")[0] == 0
    assert set(pd.read_csv(made)["sex"]) == {"F"}
    assert run("sample", model, "-n", 300, "--seed", 2, "-o", made)[0] == 2  # nothing is overwritten
    assert run("sample", model, "-n", 300, "--seed", 2, "-o", made, "--force")[0] == 0

    evidence = ("--train", tables["train"], "--holdout", tables["holdout"], "--target", "died")
    policy = tmp_path / "lenient.yaml"
    policy.write_text(
        "name: lenient\ndescription: for this test\ninconclusive_means: REFUSE\n"
        "checks:\n  contract: {limit: 0, why: identifiers}\n  membership: {limit: 0.9, why: test}\n"
    )
    code, out, _ = run("audit", *evidence, "--synthetic", made, "-o", folder, "--policy", policy)
    assert code == 0
    assert "RELEASE" in out
    assert {path.name for path in folder.iterdir()} == {"audit.json", "report.html", "report.md"}

    release = tmp_path / "release"
    assert run("release", folder, "--data", tables["fresh"], "-o", release)[0] == 3  # not the audited table
    assert not release.exists()
    code, out, _ = run("release", folder, "--data", made, "-o", release, "--licence", "CC BY 4.0")
    assert (code, "release:" in out) == (0, True)
    assert run("verify", release)[0] == 0
    with (release / "data.csv").open("a") as stream:
        stream.write("\n")
    assert run("verify", release)[0] == 5
    (folder / "report.html").unlink()
    assert run("report", folder)[0] == 0
    assert (folder / "report.html").exists()


def test_given_rows_are_kept(run, tables, tmp_path):
    assert run("fit", tables["train"], "--generator", "copula", "--seed", 1, "-o", tmp_path / "m")[0] == 0
    known = pd.DataFrame({"sex": ["F", "M", "M"], "smoker": [1, 0, 1]})
    known.to_csv(tmp_path / "known.csv", index=False)
    code, *_ = run("sample", tmp_path / "m", "--seed", 1, "--given", tmp_path / "known.csv", "-o", tmp_path / "o.csv")
    assert code == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "o.csv")[["sex", "smoker"]], known)


def test_copies_are_refused_with_exit_code_3(run, tables, tmp_path):
    code, out, _ = run(
        "audit", "--train", tables["train"], "--holdout", tables["holdout"], "--synthetic", tables["train"],
        "-o", tmp_path / "a", "--json",
    )  # fmt: skip
    record = json.loads(out)
    assert code == 3
    assert record["decision"]["verdict"] == "REFUSE"
    assert run("release", tmp_path / "a", "--data", tables["train"], "-o", tmp_path / "r")[0] == 3
    assert not (tmp_path / "r").exists()


def test_validate_decides_nothing(run, tables):
    evidence = ("--train", tables["train"], "--holdout", tables["holdout"], "--synthetic", tables["fresh"])
    code, out, _ = run("validate", *evidence, "--target", "died", "--json")
    families = {finding["family"] for finding in json.loads(out)["findings"]}
    assert code == 0
    assert families == {"structure", "fidelity", "subgroups", "utility"}


def test_init_dry_run_and_run(run, tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("init")[0] == 0
    assert run("init")[0] == 2
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    study["data"] = {"table": "train.csv", "target": "died"}
    study["generator"] = {"name": "copula"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({k: v for k, v in study.items() if v is not None}))
    code, out, _ = run("run", "study.yaml", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["rows"] == {"train": 210, "holdout": 90}
    assert plan["not_learned"] == ["patient_id"]
    assert plan["memory_mb"] > 100
    assert not (tmp_path / "study-run").exists()
    code, out, err = run("run", "study.yaml", "-o", "R", "--json", "--set", "policy=internal")
    record = json.loads(out)
    assert code == {"RELEASE": 0, "REFUSE": 3, "REVIEW": 4}[record["decision"]["verdict"]], err
    assert (tmp_path / "R" / "audit" / "report.html").exists()
    assert (tmp_path / "R" / "release").exists() == (code == 0)
    assert run("run", "study.yaml", "-o", "R")[0] == 2  # a second run needs --resume
    assert run("run", "study.yaml", "-o", "R", "--resume", "--set", "seed=99")[0] == 2  # and the same study
    assert run("run", "study.yaml", "-o", "R", "--resume", "--set", "policy=internal")[0] == code


def test_schema_infer(run, patients_csv, tmp_path):
    code, out, _ = run("schema", "infer", patients_csv)
    assert code == 0
    assert "patient_id: {kind: identifier, roles: [patient]}" in out
    assert "levels" not in yaml.safe_load(out)["columns"]["sex"]
    assert run("schema", "infer", patients_csv, "-o", tmp_path / "s.yaml", "--levels", "sex", "--bounds", "age")[0] == 0
    columns = yaml.safe_load((tmp_path / "s.yaml").read_text())["columns"]
    assert columns["sex"]["levels"] == ["F", "M"]
    assert columns["age"]["maximum"] <= 90
    assert run("schema", "infer", patients_csv, "--levels", "sxe")[0] == 5


@pytest.fixture
def conditioned(run, tmp_path, monkeypatch):
    """A model `m` of patients whose treatment is yes or no, in the current folder; and their table `p.csv`."""
    monkeypatch.chdir(tmp_path)
    frame = invented_patients(300)
    frame.assign(treated=["yes", "no"] * 150).to_csv("p.csv", index=False)
    assert run("fit", "p.csv", "--generator", "copula", "--seed", 1, "-o", "m")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "column", "counts"),
    [
        (("-n", 101, "--balance", "sex"), "sex", {"F": 51, "M": 50}),
        (("-n", 200, "--balance", "died=0:0.25,1:0.75"), "died", {1: 150, 0: 50}),
        (("-n", 9, "--where", "treated=no"), "treated", {"no": 9}),  # in YAML "no" would be a boolean
        (("-n", 9, "--where", "glucose="), "glucose", {}),
        (("-n", 9, "--where", "sex=F", "--balance", "treated=no:1"), "treated", {"no": 9}),
    ],
)
def test_conditions_of_sample(run, conditioned, arguments, column, counts):
    assert run("sample", "m", "--seed", 2, "-o", "o.csv", *arguments)[0] == 0
    assert pd.read_csv("o.csv")[column].value_counts().to_dict() == counts


def test_impute_fills_gaps_and_keeps_every_known_cell(run, conditioned):
    frame = pd.read_csv("p.csv", dtype=str).assign(sex=lambda f: f["sex"].mask(f.index % 3 == 0))
    assert frame["glucose"].isna().any()
    frame.to_csv("gaps.csv", index=False)
    code, out, err = run("impute", "m", "gaps.csv", "--seed", 1, "-o", "whole.csv")
    assert (code, out) == (0, "")
    assert "never release them" in err
    whole = pd.read_csv("whole.csv", dtype=str)
    assert whole.notna().all(axis=None)
    assert whole.where(frame.notna()).equals(frame)
    assert run("impute", "m", "gaps.csv", "--seed", 1, "-o", "one.csv", "--column", "sex")[0] == 0
    one = pd.read_csv("one.csv", dtype=str)
    assert one["sex"].notna().all()
    assert one["glucose"].equals(frame["glucose"])
    assert run("impute", "m", "gaps.csv", "--seed", 1, "-o", "again.parquet")[0] == 0
    assert pd.read_parquet("again.parquet")["sex"].equals(whole["sex"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("sample", "m", "-n", 5, "--where", "sex=" + SECRET), 2, "1 fixed values are none that the model has learned"),
        (("sample", "m", "-n", 5, "--where", "age=4711"), 2, "outside what the model has learned"),
        (("sample", "m", "-n", 5, "--where", "sxe=F"), 2, "did you mean 'sex'"),
        (("sample", "m", "-n", 5, "--where", "patient_id=4711"), 2, "never learned"),
        (("sample", "m", "-n", 5, "--where", SECRET), 2, "--where COLUMN=VALUE"),
        (("sample", "m", "-n", 5, "--where", "sex=F", "--where", "sex=M"), 2, "twice"),
        (("sample", "m", "-n", 5, "--where", "sex=F", "--balance", "sex"), 2, "fixed twice"),
        (("sample", "m", "-n", 5, "--balance", "age"), 2, "continuous"),
        (("sample", "m", "-n", 5, "--balance", "sex=" + SECRET), 2, "--balance COLUMN=LEVEL:SHARE"),
        (("sample", "m", "-n", 5, "--balance", f"sex={SECRET}:1"), 2, "none that the model has learned"),
        (("sample", "m", "-n", 5, "--balance", "sex=F:0.5,M:0.4"), 2, "sum to 1"),
        (("sample", "m", "-n", 5, "--given", "p.csv"), 2, "given has 300 rows, but 5"),
        (("sample", "m", "--given", "p.csv"), 2, "'patient_id' (the patient column) is never learned"),
        (("sample", "m", "--given", "absent.csv"), 5, "absent.csv"),
        (("impute", "m", "absent.csv"), 5, "absent.csv"),
        (("impute", "absent", "p.csv"), 5, "absent"),
        (("impute", "m", "p.csv", "--column", "sxe"), 2, "did you mean 'sex'"),
        (("impute", "m", "p.csv", "--column", "patient_id"), 2, "never learned"),
        (("impute", "m", "odd.csv"), 5, "does not know: 'odd'"),
    ],
)
def test_impossible_conditions_exit_by_their_kind_and_name_no_value(run, conditioned, arguments, code, message):
    Path("odd.csv").write_text(f"odd,age\n{SECRET},50\n")
    found, out, err = run(*arguments, "--seed", 1, "-o", "o.csv")
    assert (found, out) == (code, "")
    assert message in err
    assert SECRET not in err
    assert "4711" not in err
    assert not Path("o.csv").exists()


def test_a_generator_that_cannot_balance_or_impute_says_so(run, conditioned, monkeypatch):
    from synthgen.generators.copula import Copula

    def sample(self, n, *, seed, where=None, given=None):
        raise AssertionError("not called")

    monkeypatch.setattr(Copula, "sample", sample)
    monkeypatch.delattr(Copula, "impute")
    for arguments in (("sample", "m", "-n", 5, "--balance", "sex"), ("impute", "m", "p.csv")):
        code, _, err = run(*arguments, "--seed", 1, "-o", "o.csv")
        assert code == 2
        assert "copula models cannot" in err


@pytest.mark.parametrize("what", ["generators", "checks", "policies", "datasets"])
def test_everything_listed_can_be_described(run, what):
    listed = json.loads(run("list", what, "--json")[1])[what]
    assert listed
    for entry in listed:
        code, out, _ = run("describe", entry["name"])
        assert code == 0
        assert len(out) > 40
    assert run("list", what)[0] == 0


def test_licences_are_shown(run):
    licences = {
        entry["name"]: entry["licence"] for entry in json.loads(run("list", "generators", "--json")[1])["generators"]
    }
    assert licences["diffusion"] == "Apache-2.0"
    assert licences["sdv-ctgan"] == "BUSL-1.1"


def test_doctor_and_config_schema(run):
    facts = json.loads(run("doctor", "--json")[1])
    assert facts["torch"]
    assert "data" in json.loads(run("config-schema")[1])["properties"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("describe", "difusion"), 2, "did you mean 'diffusion'"),
        (("fit", "absent.csv", "--seed", 1, "-o", "m"), 5, "absent.csv"),
        (("fit", "p.csv", "--seed", 1, "-o", "m", "--generator", "ganz"), 2, "no generator"),
        (("fit", "p.csv", "--seed", 1, "-o", "m", "--set", "max_step=3"), 2, "did you mean 'max_steps'"),
        (("fit", "p.csv", "--seed", 1, "-o", "m", "--target", "dead"), 5, "did you mean 'died'"),
        (("fit", "p.csv", "-o", "m"), 2, "--seed"),
        (("sample", "absent", "-n", 3, "--seed", 1, "-o", "o.csv"), 5, "absent"),
        (("run", "absent.yaml"), 5, "absent.yaml"),
        (("audit", "--train", "p.csv"), 2, "--holdout"),
        (("release", "absent", "--data", "p.csv", "-o", "r"), 5, "absent"),
        (("verify", "absent"), 5, "absent"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_bad_calls(run, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    invented_patients(60).to_csv("p.csv", index=False)
    before = sorted(path.name for path in tmp_path.iterdir())
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # nothing is half-written


@pytest.mark.parametrize(("asked", "coloured"), [("", True), ("1", False)])
def test_errors_are_coloured_unless_no_color_is_set(capsys, monkeypatch, asked, coloured):
    monkeypatch.setattr(
        "click.utils.should_strip_ansi", lambda stream, color: not color if color is not None else False
    )
    monkeypatch.setenv("NO_COLOR", asked)
    options.fail("why")
    err = capsys.readouterr().err
    assert ("\x1b[" in err) == coloured
    assert err.endswith("why\n")


@pytest.mark.parametrize("command", [("demo",), ("fit", "p.csv", "--generator", "independent", "--seed", 1)])
def test_force_removes_no_folder_of_somebody_else(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    invented_patients(60).to_csv("p.csv", index=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = run(*command, "-o", "mine", "--force")
    assert code == 2
    assert "neither a model nor a run" in err
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_force_replaces_a_model(run, patients_csv, tmp_path):
    command = ("fit", patients_csv, "--seed", 1, "-o", tmp_path / "m", "--generator")
    assert run(*command, "copula")[0] == 0
    assert run(*command, "independent", "--force")[0] == 0
    assert json.loads((tmp_path / "m" / "manifest.json").read_text())["generator"] == "independent"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("rows", [1, 2, 15])
def test_too_few_rows(run, tmp_path, monkeypatch, rows):
    monkeypatch.chdir(tmp_path)
    invented_patients(rows).to_csv("p.csv", index=False)
    (tmp_path / "study.yaml").write_text("data: {table: p.csv}\ngenerator: {name: diffusion}\n")
    for arguments in (
        ("run", "study.yaml", "-o", "R"),
        ("fit", "p.csv", "--generator", "copula", "--seed", 1, "-o", "R"),
    ):
        code, _, err = run(*arguments)
        assert code == 5
        assert "patients" in err
        assert not (tmp_path / "R").exists()


def test_a_holdout_too_small_is_refused_before_training(run, patients_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text("data: {table: patients.csv}\nsplit: {holdout: 0.05}\n")
    code, _, err = run("run", "study.yaml", "-o", "R")
    assert code == 5
    assert "holdout has 10" in err
    assert not (tmp_path / "R").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(run, patients_csv, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert run("fit", patients_csv, "--generator", "independent", "--seed", 1, "-o", locked / "m")[0] == 6


def test_a_file_where_a_folder_should_be(run, patients_csv, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = run("fit", patients_csv, "--generator", "independent", "--seed", 1, "-o", tmp_path / "file" / "m")
    assert code == 6, err


def test_a_device_out_of_memory_is_no_bug(run, patients_csv, tmp_path, monkeypatch):
    import torch

    from synthgen.generators.independent import Independent

    def full(self, *_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Independent, "fit", full)
    code, _, err = run("fit", patients_csv, "--generator", "independent", "--seed", 1, "-o", tmp_path / "m")
    assert (code, "the device is out of memory" in err) == (6, True)


def test_a_bug_never_quotes_its_message(run, patients_csv, tmp_path, monkeypatch):
    from synthgen.generators.independent import Independent

    def broken(self, *_, **__):
        raise ValueError(f"cannot convert {SECRET}")

    monkeypatch.setattr(Independent, "fit", broken)
    code, _, err = run("fit", patients_csv, "--generator", "independent", "--seed", 1, "-o", tmp_path / "m")
    assert code == 1
    assert SECRET not in err
    assert "ValueError" in err


QUICK_FIT = ("--seed", 1, "--set", "max_steps=60", "--set", "width=32", "--set", "threads=1")


def test_fit_leaves_figures_and_cost_beside_the_model(run, patients_csv, tmp_path):
    code, _, err = run("fit", patients_csv, *QUICK_FIT, "-o", tmp_path / "m")
    assert code == 0, err
    expected = {"manifest.json", "weights.safetensors", "metrics.jsonl", "cost.json"}
    assert {path.name for path in (tmp_path / "m").iterdir()} == expected
    lines = [json.loads(line) for line in (tmp_path / "m" / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"training"}
    assert {"validation_loss", "train_loss", "seconds", "seconds_left"} < set(lines[-1])
    cost = json.loads((tmp_path / "m" / "cost.json").read_text())
    assert set(cost) == {"seconds", "energy_kwh", "device", "threads"}
    assert cost["threads"] == 1
    assert 0 < lines[-1]["seconds"] < cost["seconds"]
    assert not (tmp_path / "m.checkpoints").exists()


def test_an_interrupted_fit_goes_on_or_keeps_its_best(run, patients_csv, tmp_path, monkeypatch, caplog):
    from synthgen.cli import options

    command, model = ("fit", patients_csv, *QUICK_FIT, "-o", tmp_path / "m"), tmp_path / "m"
    assert run(*command, "--keep-best")[0] == 2  # nothing was interrupted
    real = options._drawing

    def pressing(bars):
        def progress(event):
            if event.stage == "training" and event.metrics and event.done >= 20:
                signal.raise_signal(signal.SIGINT)
            draw(event)

        draw = real(bars)
        return progress

    with monkeypatch.context() as patch:
        patch.setattr(options, "_drawing", pressing)
        code, _, err = run(*command)
    assert code == 130
    assert "stopped at step 20 of 60" in err
    assert "--keep-best" in err
    assert not model.exists()
    code, _, err = run(*command)
    assert (code, "--resume goes on with it" in err) == (2, True)
    copied = tmp_path / "copy.checkpoints"
    shutil.copytree(tmp_path / "m.checkpoints", copied)
    code, _, err = run(*command, "--keep-best")
    assert code == 0
    assert "stopped by the user at step 20 of 60" in caplog.text
    facts = json.loads((model / "manifest.json").read_text())["training"]
    assert (facts["stopped"], facts["steps"]) == (True, 20)
    assert run("fit", patients_csv, *QUICK_FIT, "-o", tmp_path / "copy", "--resume")[0] == 0
    assert run("fit", patients_csv, *QUICK_FIT, "-o", tmp_path / "whole")[0] == 0
    files = [tmp_path / name / "weights.safetensors" for name in ("copy", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_trackers_are_named_by_accelerate(run, patients_csv, tmp_path):
    command = ("fit", patients_csv, *QUICK_FIT, "-o", tmp_path / "m", "--track")
    code, _, err = run(*command, "tensorbord")
    assert (code, "did you mean 'tensorboard'" in err) == (2, True)
    if importlib.util.find_spec("accelerate") is None:
        code, _, err = run(*command, "tensorboard")
        assert (code, "synthgen-health[track]" in err) == (6, True)

"""Does a plug-in live up to the README? The example is installed without a network, and broken ones are named."""

import importlib
import json
import os
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT, invented_patients

from synthgen import registry
from synthgen.auditing import Audit, audit
from synthgen.cli import main
from synthgen.errors import ConfigError, EnvironmentProblem, UsageError
from synthgen.io import read
from synthgen.policy import Policy, load_policy
from synthgen.testing import check_check

PLUGIN = ROOT / "examples" / "plugin"
POLICY = PLUGIN / "with_outcome_rate.yaml"
SOUND = (PLUGIN / "synthgen_outcome_rate.py").read_text()


def install(folder, module, *, source=SOUND, name="synthgen-outcome-rate", check="outcome.rate"):
    """What pip would leave in a folder: the module, and what its pyproject.toml says of it."""
    about = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    points = {check: f"{module}:OutcomeRate"}
    if name == about["name"]:
        assert about["entry-points"]["synthgen.checks"] == points
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{name.replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    licence = about["license"]
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {about['version']}\nLicense-Expression: {licence}\n"
    )
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[synthgen.checks]", *lines]) + "\n")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install into a folder that is on the path for one test alone."""
    folder = tmp_path / "packages"
    folder.mkdir()
    modules = []

    def add(module="synthgen_outcome_rate", **changes):
        install(folder, module, **changes)
        modules.append(module)
        importlib.invalidate_caches()
        registry._entries.cache_clear()

    monkeypatch.syspath_prepend(folder)
    yield add
    registry._entries.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def files(folder, frames):
    paths = {name: folder / f"{name}.csv" for name in ("train", "holdout", "synthetic")}
    for path, frame in zip(paths.values(), frames, strict=True):
        frame.to_csv(path, index=False)
    return [word for name, path in paths.items() for word in (f"--{name}", str(path))]


def cohort(off=0.0):
    """Train, holdout and a fresh draw, of which some more die."""
    frames = [invented_patients(400, seed=seed) for seed in (1, 2, 3)]
    frames[2].loc[: int(400 * off) - 1, "died"] = 1
    return *frames[:2], frames[2].drop(columns="patient_id")


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return call


def test_the_example_runs_in_a_process_of_its_own(tmp_path):
    """As after pip install: another process finds it by its metadata alone."""
    target = tmp_path / "packages"
    target.mkdir()
    install(target, "synthgen_outcome_rate")
    command = [sys.executable, "-m", "synthgen", "audit", *files(tmp_path, cohort(off=0.5)), "--target", "died"]
    command += ["--policy", str(POLICY), "-o", str(tmp_path / "audit")]
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    record = Audit.load(tmp_path / "audit")
    assert record["outcome.rate"].verdict == "FAIL"
    assert record.versions["synthgen-outcome-rate"] == "0.1.0"
    assert "Is the outcome as common" in (tmp_path / "audit" / "report.html").read_text()


def test_the_example_keeps_the_contract_of_checks(installed):
    installed()
    check = registry.create("checks", "outcome.rate")
    check_check(check)
    assert not type(check).__module__.startswith("synthgen.")


def test_the_example_measures_what_it_says(installed):
    installed()
    train, holdout, _ = cohort()
    for off, verdict in ((0.0, "INCONCLUSIVE"), (0.5, "FAIL")):  # 400 patients cannot show five in a hundred
        made = train.drop(columns="patient_id").sample(frac=25, replace=True, random_state=1, ignore_index=True)
        made.loc[: int(len(made) * off) - 1, "died"] = 1
        train_ = read(train, target="died", patient="patient_id")
        result = audit(
            train=train_, holdout=holdout, synthetic=made, seed=1, policy=POLICY, only=lambda n: n == "outcome.rate"
        )
        finding, found = result["outcome.rate"], result["outcome.rate"].measurement
        truth = abs(made["died"].mean() - train["died"].mean())
        assert found.statistic.value == pytest.approx(truth)
        assert found.statistic.low <= truth <= found.statistic.high
        assert finding.verdict == verdict
        assert result.frame()["family"].tolist() == ["outcome"]


def test_it_is_listed_and_described(installed, run):
    installed()
    listed = json.loads(run("list", "checks", "--json")[1])["checks"]
    assert {"name": "outcome.rate", "licence": "Apache-2.0"}.items() <= next(
        c for c in listed if c["name"] == "outcome.rate"
    ).items()
    assert "needs: holdout, synthetic, target, train" in run("describe", "outcome.rate")[1]


def test_a_policy_names_an_unknown_check(installed, run, tmp_path):
    installed()
    (tmp_path / "typo.yaml").write_text(POLICY.read_text().replace("outcome.rate:", "outcome.rat:"))
    code, _, err = run(
        "audit", *files(tmp_path, cohort()), "--policy", tmp_path / "typo.yaml", "-o", tmp_path / "audit"
    )
    assert code == ConfigError.exit_code == 5
    said = " ".join(err.split())
    assert "the policy 'typo.yaml' names the check 'outcome.rat', which no installed package has" in said
    assert "did you mean 'outcome.rate'?" in said
    assert not (tmp_path / "audit").exists()


def test_without_the_plugin_its_policy_is_refused_before_anything_is_done():
    with pytest.raises(
        ConfigError, match=r"'with_outcome_rate.yaml' names the check 'outcome.rate', which no installed"
    ):
        load_policy(POLICY)
    made_here = Policy.from_text(POLICY.read_text(), source="here")
    train, holdout, made = cohort()
    with pytest.raises(UsageError, match=r"no check named 'outcome\.rate'"):
        audit(train=train, holdout=holdout, synthetic=made, seed=1, policy=made_here)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"import no_such_library\n{SOUND}", "cannot be imported: the module 'no_such_library' is not installed"),
        ("from synthgen.errors import NoSuchError", "cannot be imported: ImportError"),
        ("raise ValueError('Zebulon-4711')", "cannot be imported: ValueError; to see where: python -c 'from broken"),
        ("", "cannot be imported: AttributeError"),
        (SOUND.replace("    question", "    answer"), "lacks question; synthgen.testing.check_check says"),
        (SOUND.replace('"outcome.rate"', '"outcome.rates"'), "calls itself 'outcome.rates'"),
    ],
)
def test_a_broken_plugin_is_named(installed, run, tmp_path, source, message):
    """It is said before the audit begins, without what its code says, and hides no other check."""
    installed("broken", source=source, name="broken-plugin")
    code, _, err = run("audit", *files(tmp_path, cohort()), "--policy", POLICY, "-o", tmp_path / "audit")
    said = " ".join(err.split())
    assert code == EnvironmentProblem.exit_code == 6
    assert "the check 'outcome.rate' of the package 'broken-plugin'" in said
    assert message in said
    assert "Zebulon" not in said
    assert str(tmp_path) not in said
    code, out, _ = run("list", "checks", "--json")
    about = {check["name"]: check["about"] for check in json.loads(out)["checks"]}
    assert code == 0
    assert message in about["outcome.rate"]
    assert about["contract"].endswith("?")


def test_no_plugin_takes_the_place_of_a_shipped_check(installed):
    installed("impostor", name="impostor", check="copies.exact")
    with pytest.raises(EnvironmentProblem, match=r"register the check 'copies\.exact': 'impostor', 'synthgen-health'"):
        load_policy("internal")


def test_a_check_that_measures_another_is_named(installed):
    installed(source=SOUND.replace("check=self.name", 'check="contract"'))
    train, holdout, made = cohort()
    with pytest.raises(EnvironmentProblem, match=r"the check 'outcome\.rate' gives no measurement of that name"):
        audit(
            train=read(train, target="died", patient="patient_id"), holdout=holdout, synthetic=made, seed=1,
            policy=POLICY, only=lambda name: name == "outcome.rate",
        )  # fmt: skip

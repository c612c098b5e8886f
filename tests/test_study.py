"""The whole job as a user interrupts it: SIGKILL and SIGINT at any moment, then --resume, give the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import invented_patients

from synthgen.config import study_from_mapping
from synthgen.errors import Interrupted
from synthgen.protocols import Run
from synthgen.study import run_study

COMMAND = [sys.executable, "-c", "from synthgen.cli import main; main()", "run", "study.yaml", "-o"]
STUDY = """
data: {table: p.csv, target: died}
generator: {name: diffusion, settings: {max_steps: 300, threads: 1, checkpoint_seconds: 0.2}}
policy: internal
seed: 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a study and the run of it that nobody interrupted."""
    folder = tmp_path_factory.mktemp("study")
    invented_patients(400).to_csv(folder / "p.csv", index=False)
    (folder / "study.yaml").write_text(STUDY)
    process = start(folder, "whole")
    _, errors = process.communicate()
    assert process.returncode in (0, 3, 4), errors
    return folder


def start(folder, output, *more):
    return subprocess.Popen(
        [*COMMAND, output, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def digests(run):
    """SHA-256 of what a run made: synthetic data, weights and findings."""
    files = ("synthetic.parquet", "model/weights.safetensors")
    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files}
    record = json.loads((run / "audit" / "audit.json").read_text())
    findings = [{**f, "measurement": {**(f["measurement"] or {}), "seconds": 0}} for f in record["findings"]]
    found["findings"] = hashlib.sha256(json.dumps(findings).encode()).hexdigest()
    return found


def test_two_runs_with_one_seed_and_number_of_steps_are_identical(folder):
    start(folder, "again").communicate()
    assert digests(folder / "again") == digests(folder / "whole")


@pytest.mark.parametrize("moment", ["training", "late"])
def test_killed_and_resumed_gives_the_same_bytes(folder, moment):
    output = f"killed-{moment}"
    process = start(folder, output)
    if moment == "training":
        wait_for(lambda: any((folder / output / "checkpoints").glob("*.safetensors")), process)
    else:
        wait_for(lambda: (folder / output / "synthetic.parquet").exists(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / output / "audit" / "audit.json").exists()
    resumed = start(folder, output, "--resume")
    _, errors = resumed.communicate()
    assert resumed.returncode in (0, 3, 4), errors
    assert digests(folder / output) == digests(folder / "whole")


def test_ctrl_c_exits_with_130_and_keeps_a_checkpoint(folder):
    process = start(folder, "stopped")
    wait_for(lambda: any((folder / "stopped" / "checkpoints").glob("*.safetensors")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert list((folder / "stopped" / "checkpoints").glob("*.safetensors"))
    resumed = start(folder, "stopped", "--resume")
    resumed.communicate()
    assert digests(folder / "stopped") == digests(folder / "whole")


def test_resuming_on_other_data_is_refused(folder):
    kept = (folder / "p.csv").read_bytes()
    try:
        invented_patients(400, seed=1).to_csv(folder / "p.csv", index=False)
        process = start(folder, "whole", "--resume")
        _, errors = process.communicate()
    finally:
        (folder / "p.csv").write_bytes(kept)
    assert process.returncode == 5
    assert "fingerprint" in errors


def test_thresholds_cannot_follow_the_results(folder):
    """A run under a policy of one's own records its hash first; resuming under a changed file is refused."""
    from synthgen.policy import policy_text

    policy = folder / "mine.yaml"
    policy.write_text(policy_text("public"))
    command = ("--set", "policy=mine.yaml", "--set", "generator={name: independent}")
    start(folder, "mine", *command).communicate()
    kept = json.loads((folder / "mine" / "manifest.json").read_text())["policy"]
    assert kept["hash"] == hashlib.sha256(policy.read_bytes()).hexdigest()
    policy.write_text(policy_text("internal"))
    process = start(folder, "mine", *command, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "policy was changed" in errors


def test_a_run_folder_holds_no_patient_and_no_path(folder):
    frame = invented_patients(400)
    forbidden = [*frame["patient_id"], str(folder)]
    for path in Path(folder / "whole").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(value.encode() in content for value in forbidden), path.name


def test_the_best_of_an_interrupted_run_can_be_kept(tmp_path):
    invented_patients(400).to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "lenient.yaml").write_text(
        "name: lenient\ndescription: for this test\ninconclusive_means: REFUSE\n"
        "checks:\n  contract: {limit: 0, why: identifiers}\n"
    )
    generator = {"name": "diffusion", "settings": {"max_steps": 60, "width": 32, "threads": 1}}
    data = {"table": str(tmp_path / "p.csv"), "target": "died"}
    study = study_from_mapping({"data": data, "generator": generator, "policy": str(tmp_path / "lenient.yaml")})
    asked = iter(range(1_000))
    with pytest.raises(Interrupted, match="step 40 of 60"):
        run_study(study, tmp_path / "R", run=Run(stop=lambda: next(asked) >= 40))
    run_study(study, tmp_path / "R", resume=True, keep_best=True)
    facts = json.loads((tmp_path / "R" / "model" / "manifest.json").read_text())["training"]
    assert (facts["stopped"], facts["steps"], facts["planned_steps"]) == (True, 40, 60)
    assert json.loads((tmp_path / "R" / "model" / "cost.json").read_text())["seconds"] > 0

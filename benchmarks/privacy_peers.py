"""What do other auditors say of clean tables and of planted leaks on which we know the truth? Prints one table.

    python benchmarks/privacy_peers.py --anonymeter PYTHON --syntheval PYTHON --runs 5 --record

PYTHON is the interpreter of an environment in which that tool is installed, for their versions of numpy and ours do not
go together (`python -m venv E && E/bin/pip install anonymeter`). Without it a tool's column stays empty. Cases are
those of `planted_leaks.py`, which says how synthgen's column comes about. Every tool gets the same three tables;
syntheval takes no missing cells, so they are filled.

synthgen: runs in which something was found. SDMetrics: DCROverfittingProtection, 1 is private. anonymeter: runs in
which the interval of a risk lies above 0, and each mean risk (multivariate singling out, linkability of the known
columns' halves, inference of the weight). syntheval: loss of nearest-neighbour accuracy and of epsilon-identifiability,
both 0 for private, and the precision of its membership attack, .5 for private.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from planted_leaks import ran
from tables import Row, machine, markdown, record

from synthgen.rng import Seed
from synthgen.testing.leaks import find
from synthgen.testing.simulated import Tables

TITLE = "Other auditors"
CASES = (
    "fresh real draw",
    "under-fitted copula",
    "heavy ties",
    "holdout a quarter of train",
    "one gross outlier in the holdout",
    "a secret below zero",
    "exact copies of 1 %",
    "only the 20 most isolated rows, exact",
    "copies of all rows, in train's order",
    "copies of all rows of categories alone",
    "noisy copies of all rows, one outlier in the holdout",
    "30 % copied, holdout four times train",
    "over-fitted kernel, bandwidth .3",
    "half of the columns of 10 % of the rows",
    "all rows shifted by one sd",
)
HEAD = ("case", "truth", "synthgen", "SDMetrics", "anonymeter", "its risks", "syntheval")
WORKER = Path(__file__).with_name("privacy_peer.py")
SECRET, LIMIT = "weight", 900  # the secret that is inferred; seconds given to a tool
LOSSES = ("priv_loss_nnaa", "priv_loss_eps", "mia_precision")


def asked(tool: str, python: str | None, sets: Tables) -> dict | None:
    """What a tool answers; None where it is not installed, or fails."""
    if not python:
        return None
    names = [column.name for column in sets.train.schema.learned]
    numbers = {c.name for c in sets.train.schema.learned if c.kind in ("integer", "real")}
    secret = SECRET if SECRET in names else names[-1]
    about = {
        "categories": [name for name in names if name not in numbers],
        "known": [name for name in names if name != secret],
        "secret": secret,
    }
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "holdout", "synthetic"):
            getattr(sets, part).table[names].to_csv(Path(folder) / f"{part}.csv", index=False)
        (Path(folder) / "about.json").write_text(json.dumps(about), encoding="utf-8")
        command = [python, str(WORKER), tool, folder]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{tool}: {type(error).__name__}: {(error.stderr or '')[-300:]}", flush=True)
            return None
    found: dict = json.loads(answer.strip().splitlines()[-1])
    return found


def row_of(name: str, runs: int, anonymeter: str | None, syntheval: str | None) -> Row:
    case = find(name)
    ours, theirs, risks, losses = [], [], [], []
    for number in range(runs):
        sets = case.tables(seed=Seed(number))
        one = ran(name, number)
        ours.append(bool(one.finders(case) if case.found_by else one.alarms))
        theirs += [one.peer] if one.peer is not None else []
        risks += [answer] if (answer := asked("anonymeter", anonymeter, sets)) else []
        losses += [answer] if (answer := asked("syntheval", syntheval, sets)) else []
    truth = "leak" if case.found_by else "clean"
    peer = f"{fmean(theirs):.2f}" if theirs else "-"
    return (name, truth, f"{sum(ours)} of {runs}", peer, *anonymeter_cells(risks), syntheval_cell(losses))


def anonymeter_cells(risks: list[dict]) -> tuple[str, str]:
    if not risks:
        return "-", "-"
    above = sum(any(risk and risk[1] > 0 for risk in one.values()) for one in risks)
    means = {name: [one[name][0] for one in risks if one[name]] for name in risks[0]}
    return f"{above} of {len(risks)}", ", ".join(f"{fmean(v):.2f}" if v else "failed" for v in means.values())


def syntheval_cell(losses: list[dict]) -> str:
    means = {name: [one[name] for one in losses if name in one] for name in LOSSES}
    return ", ".join(f"{fmean(values):.2f}" if values else "-" for values in means.values()) if losses else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--anonymeter", metavar="PYTHON", help="interpreter that has anonymeter")
    parser.add_argument("--syntheval", metavar="PYTHON", help="interpreter that has syntheval")
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    started, rows = time.perf_counter(), []
    for name in CASES:
        rows.append(row_of(name, arguments.runs, arguments.anonymeter, arguments.syntheval))
        print(" | ".join(rows[-1]), flush=True)
    versions = [
        version(python, tool) for tool, python in vars(arguments).items() if tool in ("anonymeter", "syntheval")
    ]
    seconds = time.perf_counter() - started
    about = f"{arguments.runs} runs, {seconds:.0f} s. {', '.join(filter(None, versions))}; {machine()}"
    body = f"`python benchmarks/privacy_peers.py`: {about}\n\n{markdown(rows, HEAD)}"
    if arguments.record:
        record(TITLE, body)


def version(python: str | None, tool: str) -> str:
    """Of an installed tool, and its name; empty where there is none."""
    if not python:
        return ""
    code = f"from importlib.metadata import version; print(version({tool!r}))"
    return f"{tool} {subprocess.run([python, '-c', code], capture_output=True, text=True, check=True).stdout.strip()}"


if __name__ == "__main__":
    main()

"""How long does an audit of a table take, and in how much memory? Prints seconds of each check and the peak.

    python benchmarks/audit_scale.py --cases small,medium,large --record

Simulated patients, one row each: 20 correlated numbers, 10 categories of 2 to 40 levels, 5 % of two columns missing;
train, holdout and synthetic are draws of one law, so nothing leaks. The audit is that of the policy research-share,
validators included; the search for neighbours is timed as `copies.neighbor`, which makes it. Each case runs in a
process of its own, whose peak memory is what the system says.

small: 10,000 train, 5,000 holdout, 10,000 synthetic rows; medium: 70,000, 30,000 and 130,000; large: 700,000, 300,000
and 1,000,000, above which size samples stand in where a check says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from tables import Row, machine, markdown, record

from synthgen.auditing import audit
from synthgen.io import read
from synthgen.rng import Seed

CASES = {
    "small": ((10_000, 5_000, 10_000), 180),
    "medium": ((70_000, 30_000, 130_000), 600),
    "large": ((700_000, 300_000, 1_000_000), 1_800),
}
HEAD = ("case", "train, holdout, synthetic", "neighbour search s", "audit s", "target s", "peak GiB", "decision")


def patients(rows: int, name: str) -> pd.DataFrame:
    """One law for all sets: four latent factors behind all columns."""
    rng = Seed(1).child("patients", name).numpy()
    factors = rng.normal(size=(rows, 4))
    law = Seed(1).child("law").numpy()
    columns: dict[str, np.ndarray] = {}
    for i in range(20):
        values = factors @ law.normal(size=4) + law.uniform(0.5, 2) * rng.normal(size=rows)
        columns[f"number{i}"] = np.round(np.exp(values / 3) if i % 3 == 0 else values, 1 + i % 3)
    for i in range(10):
        levels = int(law.integers(2, 40))
        scores = factors @ law.normal(size=(4, levels)) + rng.gumbel(size=(rows, levels))
        columns[f"category{i}"] = np.array([f"L{k}" for k in range(levels)], dtype=object)[scores.argmax(1)]
    for name in ("number3", "category4"):
        columns[name] = np.where(rng.random(rows) < 0.05, None, columns[name])
    return pd.DataFrame(columns)


def measured(case: str) -> dict[str, object]:
    """One case in this process."""
    train, holdout, synthetic = (
        read(patients(rows, name)) for name, rows in zip(("train", "holdout", "synthetic"), CASES[case][0], strict=True)
    )
    started = time.perf_counter()
    result = audit(train=train, holdout=holdout, synthetic=synthetic, seed=1)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "decision": result.decision.outcome,
        "checks": {f.check: f.measurement.seconds if f.measurement else None for f in result.findings},
        "reasons": [
            f"{f.check} {f.verdict}: {f.because}" for f in result.findings if f.verdict in ("FAIL", "INCONCLUSIVE")
        ],
        "notes": [n for f in result.findings if f.measurement for n in f.measurement.notes if "random" in n],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="small,medium", help=f"comma-separated: {', '.join(CASES)}")
    parser.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one)))
        return
    rows: list[Row] = []
    checks: dict[str, list[str]] = {}
    for case in arguments.cases.split(","):
        done = subprocess.run([sys.executable, __file__, "--one", case], stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)
        sizes = ", ".join(f"{rows:,}" for rows in CASES[case][0])
        searched = found["checks"]["copies.neighbor"]
        figures = (f"{searched:.0f}", f"{found['seconds']:.0f}", str(CASES[case][1]), f"{found['peak']:.1f}")
        rows.append((case, sizes, *figures, found["decision"]))
        print(" | ".join(rows[-1]), *found["reasons"], *found["notes"], sep="\n  ", flush=True)
        for check, seconds in found["checks"].items():
            checks.setdefault(check, []).append("not run" if seconds is None else f"{seconds:.1f}")
    each = markdown([(check, *seconds) for check, seconds in checks.items()], ("check", *arguments.cases.split(",")))
    text = f"{machine()}\n\n{markdown(rows, HEAD)}\n\nSeconds of each check:\n\n{each}"
    print(text)
    if arguments.record:
        record("Scale of an audit", text)


if __name__ == "__main__":
    main()

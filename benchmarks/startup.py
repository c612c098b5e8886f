"""How long until the command line answers? Whole processes, and which heavy libraries they load.

python benchmarks/startup.py [--runs 11]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

HEAVY = ("torch", "pandas", "sklearn", "scipy", "matplotlib", "monai", "sdv")
STATEMENTS = {
    "synthgen --help": "import sys; from synthgen.cli import main; main(['--help'])",
    "import synthgen": "import synthgen",
    "python itself": "pass",
}


def seconds(statement: str) -> float:
    """Wall time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return time.perf_counter() - started


def loaded(statement: str) -> str:
    """The heavy libraries in sys.modules when the process ends."""
    report = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules))))\n"
    done = subprocess.run([sys.executable, "-c", report + statement], check=True, capture_output=True, text=True)
    return ", ".join(sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY))) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    print("| command | median s | min | max | heavy libraries loaded |\n|---|---|---|---|---|")
    for name, statement in STATEMENTS.items():
        times = [seconds(statement) for _ in range(runs + 1)][1:]  # the first fills the disk cache
        figures = " | ".join(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times)))
        print(f"| {name} | {figures} | {loaded(statement)} |")


if __name__ == "__main__":
    main()

"""How long does a study of a cohort take, from patients and images to the decision, and in how much memory?

    python benchmarks/cohort_scale.py --record

Drawn patients with one 64 px radiograph each; records by copula, images by image-pca; audit and release under the
policy internal. Prints when the images were drawn, the seconds of the slowest checks and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from tables import Row, machine, markdown, record

from synthgen.config import study_from_mapping
from synthgen.phantom import phantom_cohort
from synthgen.protocols import Progress, Run
from synthgen.study import run_study

SLOWEST = 8  # checks that are shown
TARGET = 20 * 60  # seconds, of 5,000 patients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=5_000)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    study = study_from_mapping(
        {
            "data": {"table": "phantom", "images": "phantom"},
            "images": {"finding": "finding", "generator": {"name": "image-pca", "settings": {"size": arguments.size}}},
            "generator": {"name": "copula"},
            "policy": "internal",
            "seed": arguments.seed,
        }
    )
    started = time.perf_counter()
    reached: dict[str, float] = {}

    def progress(event: Progress) -> None:
        reached[event.stage] = time.perf_counter() - started

    cohort = phantom_cohort(arguments.patients, seed=arguments.seed, size=arguments.size)
    data = cohort.split_by_patient(holdout=study.split.holdout, seed=study.seed)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_study(study, Path(folder) / "run", data=data, run=Run(progress=progress))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    head = ("patients", "pixels", "images drawn after s", "whole s", "target s", "peak GiB", "decision")
    target = str(TARGET) if arguments.patients == 5_000 else "-"
    row = (
        f"{arguments.patients:,}",
        str(arguments.size),
        f"{reached['sample images']:.0f}",
        f"{seconds:.0f}",
        target,
        f"{peak:.1f}",
        outcome.audit.decision.outcome,
    )
    spent = [(f.measurement.seconds or 0.0, f.check) for f in outcome.audit.findings if f.measurement]
    checks: list[Row] = [(check, f"{took:.0f}") for took, check in sorted(spent, reverse=True)[:SLOWEST]]
    text = f"{machine()}\n\n{markdown([row], head)}\n\n{markdown(checks, ('slowest checks', 's'))}"
    print(text)
    if arguments.record:
        record("Scale of a cohort", text)


if __name__ == "__main__":
    main()

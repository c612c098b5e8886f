"""What do generators give away on small cohorts, and what do they learn? Several splits, since one says little.

    python benchmarks/small_cohorts.py --cohort actg175 --splits 4

Each row is one split by patient (70 % train), one fit and one sample of as many rows as train. Detection is the AUC of
the audit's cross-fitted classifier: .5 is indistinguishable; far below .5 against train means near-copies. Against the
holdout is the figure that memorising cannot buy. The last columns are what the shipped policies decide on the privacy
checks of that sample.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from synthgen import datasets, registry
from synthgen.auditing import PRIVACY_FAMILIES, audit
from synthgen.data import TableData
from synthgen.policy import load_policy
from synthgen.protocols import Evidence
from synthgen.rng import Seed

GENERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusion": ("diffusion", {"max_steps": 2800, "threads": 2}),
    "diffusion, no pretraining": ("diffusion", {"max_steps": 2800, "threads": 2, "pretraining_rows": 0}),
    "copula": ("copula", {}),
    "independent": ("independent", {}),
}
HEAD = (
    "generator",
    "split",
    "fit s",
    "membership AUC",
    "copies p",
    "detection vs train",
    "vs holdout",
    "pairs",
    "floor",
)
POLICIES = ("internal", "research-share")


def row(label: str, train: TableData, holdout: TableData, split: int) -> list[str]:
    name, settings = GENERATORS[label]
    started = time.perf_counter()
    generator = registry.create("generators", name, settings).fit(train, seed=split)
    seconds = time.perf_counter() - started
    synthetic = generator.sample(len(train), seed=split + 1)
    evidence = Evidence(train, holdout, synthetic, train.schema)
    names = ("membership", "copies.neighbor", "fidelity.detection", "fidelity.pairs")
    found = {name: registry.create("checks", name).run(evidence, seed=Seed(5)) for name in names}
    detection, pairs = found["fidelity.detection"], found["fidelity.pairs"]
    figures = [
        str(found["membership"].statistic),
        f"{found['copies.neighbor'].p_value:.3f}",
        str(detection.statistic),
        f"{detection.details['synthetic against holdout'].value:.3f}",
        f"{pairs.statistic.value:.4f}",
        f"{pairs.control.value:.4f}",
    ]
    return [label, str(split), f"{seconds:.0f}", *figures, *(privacy_verdict(evidence, policy) for policy in POLICIES)]


def privacy_verdict(evidence: Evidence, policy: str) -> str:
    """What the privacy checks alone come to: the worst of their verdicts."""
    names = [name for name in load_policy(policy).checks if name.split(".")[0] in PRIVACY_FAMILIES]
    result = audit(
        train=evidence.train, holdout=evidence.holdout, synthetic=evidence.synthetic, seed=5, policy=policy,
        only=names.__contains__,
    )  # fmt: skip
    verdicts = [finding.verdict for finding in result.findings]
    return next((verdict for verdict in ("FAIL", "NOT_RUN", "INCONCLUSIVE") if verdict in verdicts), "PASS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", default="actg175", choices=sorted(datasets.DATASETS))
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--first", type=int, default=401, help="the first split's seed")
    chosen = parser.parse_args()
    print("| " + " | ".join((*HEAD, *POLICIES)) + " |\n" + "|---" * (len(HEAD) + len(POLICIES)) + "|")
    for split in range(chosen.first, chosen.first + chosen.splits):
        train, holdout = datasets.load(chosen.cohort).split_by_patient(holdout=0.3, seed=split)
        for label in GENERATORS:
            print("| " + " | ".join(row(label, train, holdout, split)) + " |", flush=True)


if __name__ == "__main__":
    main()

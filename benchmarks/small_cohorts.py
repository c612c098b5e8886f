"""What do generators give away on small cohorts, and what do they learn? Several splits, since one says little.

    python benchmarks/small_cohorts.py --cohorts actg175,gbsg2,whas500,breast_cancer --splits 4 --record

Each line on the terminal is one split by patient (70 % train), one fit and one sample of as many rows as train; the
table has one line for each generator, over the splits. Detection is the AUC of the audit's cross-fitted classifier: .5
is indistinguishable; far below .5 against train means near-copies. Against the holdout is the figure that memorising
cannot buy. The last columns count what the shipped policies decide on the privacy checks of the samples. `--record`
writes the table into RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
import collections
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import combine_pvalues
from sklearn.datasets import load_breast_cancer
from tables import DROPPED, TABLES, TARGETS, machine, markdown, record

from synthgen import datasets, registry
from synthgen.auditing import PRIVACY_FAMILIES, audit
from synthgen.data import TableData
from synthgen.io import read
from synthgen.policy import load_policy
from synthgen.protocols import Evidence
from synthgen.rng import Seed

GENERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusion": ("diffusion", {"max_steps": 2800, "threads": 2}),
    "diffusion, no prior": ("diffusion", {"max_steps": 2800, "threads": 2, "prior": False}),
    "copula": ("copula", {}),
    "independent": ("independent", {}),
}
COHORTS = (*sorted(datasets.DATASETS), "whas500", "breast_cancer")
HEAD = (
    "cohort",
    "generator",
    "fit s",
    "membership AUC",
    "copies p",
    "detection vs train",
    "vs holdout",
    "pairs / floor",
)
POLICIES = ("internal", "research-share")


def load(name: str) -> TableData:
    """The whole cohort, as it is shipped with a dependency or lies with the benchmark's data."""
    if name in datasets.DATASETS:
        return datasets.load(name)
    if name == "breast_cancer":
        return read(load_breast_cancer(as_frame=True).frame, target="target")
    return read(pd.read_csv(TABLES / f"{name}.csv.gz").drop(columns=DROPPED[name]), target=TARGETS[name])


@dataclass(frozen=True)
class Line:
    """One generator on one split."""

    seconds: float
    membership: float
    copies_p: float
    against_train: float
    against_holdout: float
    pairs: float  # error, as a multiple of the holdout's
    verdicts: tuple[str, ...]  # for each policy

    def figures(self) -> list[str]:
        numbers = (self.membership, self.copies_p, self.against_train, self.against_holdout)
        return [f"{self.seconds:.0f}", *(f"{number:.3f}" for number in numbers), f"{self.pairs:.2f}"]


def line(label: str, train: TableData, holdout: TableData, split: int) -> Line:
    name, settings = GENERATORS[label]
    started = time.perf_counter()
    generator = registry.create("generators", name, settings).fit(train, seed=split)
    seconds = time.perf_counter() - started
    evidence = Evidence(train, holdout, generator.sample(len(train), seed=split + 1), train.schema)
    names = ("membership", "copies.neighbor", "fidelity.detection", "fidelity.pairs")
    found = {name: registry.create("checks", name).run(evidence, seed=Seed(5)) for name in names}
    detection, pairs = found["fidelity.detection"], found["fidelity.pairs"]
    return Line(
        seconds,
        found["membership"].statistic.value,
        float(found["copies.neighbor"].p_value),
        detection.statistic.value,
        detection.details["synthetic against holdout"].value,
        pairs.statistic.value / pairs.control.value,
        tuple(privacy_verdict(evidence, policy) for policy in POLICIES),
    )


def privacy_verdict(evidence: Evidence, policy: str) -> str:
    """What the privacy checks alone come to: the worst of their verdicts."""
    names = [name for name in load_policy(policy).checks if name.split(".")[0] in PRIVACY_FAMILIES]
    result = audit(
        train=evidence.train, holdout=evidence.holdout, synthetic=evidence.synthetic, seed=5, policy=policy,
        only=names.__contains__,
    )  # fmt: skip
    verdicts = [finding.verdict for finding in result.findings]
    return next((verdict for verdict in ("FAIL", "NOT_RUN", "INCONCLUSIVE") if verdict in verdicts), "PASS")


def together(lines: list[Line]) -> list[str]:
    """Means over the splits; the p-values combined by Fisher's method; the verdicts counted."""
    columns = zip(*((x.seconds, x.membership, x.against_train, x.against_holdout, x.pairs) for x in lines), strict=True)
    seconds, membership, against_train, against_holdout, pairs = (float(np.mean(column)) for column in columns)
    p = combine_pvalues([x.copies_p for x in lines]).pvalue
    counts = (collections.Counter(x.verdicts[i] for x in lines) for i in range(len(POLICIES)))
    verdicts = (", ".join(f"{number} {verdict}" for verdict, number in sorted(found.items())) for found in counts)
    return [*Line(seconds, membership, p, against_train, against_holdout, pairs, ()).figures(), *verdicts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", default="actg175", help=f"comma-separated, of {', '.join(COHORTS)}")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--first", type=int, default=401, help="the first split's seed")
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    chosen = parser.parse_args()
    if unknown := set(chosen.cohorts.split(",")) - set(COHORTS):
        parser.error(f"no cohort {', '.join(sorted(unknown))}: there are {', '.join(COHORTS)}")
    lines: dict[tuple[str, str], list[Line]] = {}
    for cohort in chosen.cohorts.split(","):
        for split in range(chosen.first, chosen.first + chosen.splits):
            train, holdout = load(cohort).split_by_patient(holdout=0.3, seed=split)
            for label in GENERATORS:
                found = line(label, train, holdout, split)
                lines.setdefault((cohort, label), []).append(found)
                print(" | ".join([cohort, str(split), label, *found.figures(), *found.verdicts]), flush=True)
    table = markdown([(*key, *together(found)) for key, found in lines.items()], (*HEAD, *POLICIES))
    splits = f"splits {chosen.first} to {chosen.first + chosen.splits - 1}"
    body = f"{chosen.cohorts.replace(',', ', ')}; {splits}. {machine()}.\n\n{table}"
    print(f"\n{body}")
    if chosen.record:
        record("Small cohorts", body)


if __name__ == "__main__":
    main()

"""Does any sampled row break a rule of the schema? A million rows of a cohort that declares every kind of rule.

    python benchmarks/rules.py --rows 1000000

The cohort breaks most of its rules itself, as real records do; a network trained for a few seconds would break them all
in many rows if nothing held it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from synthgen import registry
from synthgen.data import TableData
from synthgen.rules import violations
from synthgen.testing import ruled_cohort

SETTINGS = {"diffusion": {"max_steps": 300, "width": 64, "threads": 1, "prior": False}}
PART = 50_000  # rows sampled at once


def broken(rows: TableData, train: TableData) -> np.ndarray:
    """How many rows break each rule, and after them how many lie outside the declared bounds of some column."""
    counts = [int(flags.sum()) for flags in violations(train.schema.rules, rows.table, train=train.table)]
    outside = np.zeros(len(rows), dtype=bool)
    for column in train.schema.columns:
        if column.minimum is not None:
            outside |= (rows.table[column.name] < column.minimum).to_numpy()
        if column.maximum is not None:
            outside |= (rows.table[column.name] > column.maximum).to_numpy()
    return np.array([*counts, int(outside.sum())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--train", type=int, default=5_000)
    parser.add_argument("--generator", default="diffusion")
    chosen = parser.parse_args()
    train = ruled_cohort(chosen.train, seed=1)
    generator = registry.create("generators", chosen.generator, SETTINGS.get(chosen.generator, {})).fit(train, seed=1)
    counts, seconds, done = broken(train, train) * 0, 0.0, 0
    while done < chosen.rows:
        started = time.perf_counter()
        rows = generator.sample(min(PART, chosen.rows - done), seed=2 + done)
        seconds += time.perf_counter() - started
        counts, done = counts + broken(rows, train), done + len(rows)
    labels = [f"{rule.keyword}: {', '.join(rule.columns)}" for rule in train.schema.rules] + ["declared bounds"]
    print(f"| rule | real rows that break it | of {done:,} sampled rows |\n|---|---|---|")
    for label, real, sampled in zip(labels, broken(train, train), counts, strict=True):
        print(f"| {label} | {real / len(train):.1%} | {sampled:,} |")
    print(f"\n{chosen.generator}, {len(train.schema.columns)} columns: {done / seconds:,.0f} rows/s")


if __name__ == "__main__":
    main()

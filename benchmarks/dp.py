"""What does differential privacy cost, and are false claims of it refuted? Prints two tables.

    python benchmarks/dp.py --data adult --seconds 300 --epsilon 1,3,10 --claims 20 --record

Price: `diffusion` and `gan` as in `tables.py`, without a promise and with each epsilon. Levels and bounds of the whole
table, rounded outwards, stand in for a data dictionary: they are taken as public.
Claims: a `diffusion` that claims epsilon 1 is trained with canaries, once as it should be and once with its noise
switched off, which a wrong implementation might do. A lower bound of epsilon above 1 refutes the claim.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pandas as pd
from tables import HEAD, Judge, Row, Split, judge_row, load, machine, markdown, record, run_generator

from synthgen.data import TableData
from synthgen.generators import dp_training
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.privacy.canaries import CanaryAudit, canary_audit
from synthgen.rng import Seed
from synthgen.schema import NUMERIC, Column, TableSchema
from synthgen.stats import clopper_pearson

CLAIM, DELTA, CANARIES, PATIENTS = 1.0, 1e-3, 80, 40
LEVELS = tuple("abcdefgh")
CLAIM_HEAD = ("a claim of epsilon 1", "trainings", "refuted", "95 % interval", "demand", "median lower bound")


def declared(split: Split) -> Split:
    """The same with levels and bounds in the schema, those of all real rows."""
    everybody = pd.concat([split.train.table, split.holdout.table], ignore_index=True)
    columns = tuple(_declared(column, everybody[column.name]) for column in split.train.schema.columns)
    train, holdout = (
        TableData(data.table, replace(data.schema, columns=columns)) for data in (split.train, split.holdout)
    )
    return Split(train, holdout, split.target)


def _declared(column: Column, values: pd.Series) -> Column:
    known = values.dropna()
    if not column.learned or column.kind == "boolean" or not len(known):
        return column
    if column.kind in NUMERIC:
        step = 10.0 ** math.floor(math.log10(max(1.0, float(known.abs().max()))))
        low, high = step * math.floor(known.min() / step), step * math.ceil(known.max() / step)
        return replace(column, minimum=low, maximum=high)
    return replace(column, levels=tuple(sorted(map(str, known.unique()))))


def prices(arguments: argparse.Namespace) -> tuple[str, list[Row]]:
    split = declared(load(arguments.data))
    judge, rows = Judge(split), []
    for seed in map(int, arguments.seeds.split(",")):
        rows.append(judge_row(judge, split, "holdout (floor)", seed, split.holdout, ("-",) * 4))
        for name in arguments.generators.split(","):
            for epsilon in [None, *map(float, arguments.epsilon.split(","))]:
                settings = {"max_seconds": arguments.seconds, "threads": arguments.threads, "dp_epsilon": epsilon}
                row = run_generator(judge, split, name, seed, {k: v for k, v in settings.items() if v is not None})
                claim = "no promise" if epsilon is None else f"epsilon {epsilon:g}"
                rows.append((f"{name}, {claim}", *row[1:]))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    sizes = f"train {len(split.train):,}, holdout {len(split.holdout):,}"
    return f"{arguments.data}, {sizes}; {arguments.seconds:.0f} s, {arguments.threads} threads", rows


def claims(runs: int) -> list[Row]:
    """How often a claim is refuted, with the noise that was planned and with none."""
    rows = []
    for title, noiseless, demand in (("kept", False, "<= 5 %"), ("made with noise 0", True, "100 %")):
        audits = [claimed(number, noiseless=noiseless) for number in range(runs)]
        refuted = sum(audit.refutes(CLAIM) for audit in audits)
        rate, bound = clopper_pearson(refuted, runs), np.median([audit.epsilon_low for audit in audits])
        rows.append((title, str(runs), str(refuted), f"{rate.low:.3f} to {rate.high:.3f}", demand, f"{bound:.2f}"))
    return rows


def claimed(number: int, *, noiseless: bool) -> CanaryAudit:
    """One training that claims epsilon 1, with canaries among a few patients."""
    planned = dp_training.plan

    def attack(train: TableData, canaries: TableData, seed: Seed) -> np.ndarray:
        settings = {"max_steps": 150, "batch": 64, "width": 64, "learning_rate": 1e-2, "threads": 1}
        private = {"dp_epsilon": CLAIM, "dp_delta": DELTA, "dp_marginals": 0.0, "dp_seeded": True}
        generator = TableDiffusion(**settings, **private).fit(train, seed=seed)
        return -generator.losses(canaries, seed=seed)

    def silent(*given: object, **named: object) -> object:
        return replace(planned(*given, **named), gradient_noise=0.0)

    seed = Seed(number)
    with patch.object(dp_training, "plan", silent if noiseless else planned):
        train, canaries = (letters(n, seed.child(name)) for n, name in ((PATIENTS, "train"), (CANARIES, "canaries")))
        return canary_audit(train, canaries, attack, delta=DELTA, seed=seed)


def letters(patients: int, seed: Seed) -> TableData:
    """Patients of eight independent columns with eight levels each."""
    drawn = np.array(LEVELS, dtype=object)[seed.numpy().integers(8, size=(patients, 8))]
    columns = tuple(Column(f"c{i}", "categorical", levels=LEVELS) for i in range(8))
    return TableData(pd.DataFrame({c.name: drawn[:, i] for i, c in enumerate(columns)}), TableSchema(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="adult")
    parser.add_argument("--seconds", type=float, default=300.0, help="training budget of each generator")
    parser.add_argument("--generators", default="diffusion,gan")
    parser.add_argument("--epsilon", default="1,3,10")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--claims", type=int, default=20, help="trainings of each kind")
    parser.add_argument("--only", choices=("price", "claims"))
    parser.add_argument("--record", action="store_true", help="write the tables into RESULTS.md")
    arguments = parser.parse_args()
    if arguments.only != "price":
        started = time.perf_counter()
        table = markdown(claims(arguments.claims), CLAIM_HEAD)
        put("Differential privacy, claims", f"{time.perf_counter() - started:.0f} s. {machine()}\n\n{table}", arguments)
    if arguments.only != "claims":
        about, rows = prices(arguments)
        put("Differential privacy, price", f"{about}. {machine()}\n\n{markdown(rows, HEAD)}", arguments)


def put(title: str, body: str, arguments: argparse.Namespace) -> None:
    print(f"\n{title}\n{body}", flush=True)
    if arguments.record:
        record(title, body)


if __name__ == "__main__":
    main()

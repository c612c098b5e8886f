"""What do the validators of tables cost, and do they fall where the data became useless? SDMetrics beside them.

    nice python benchmarks/validators.py --record

First all validators on Adult (48,842 rows: train and holdout as given, and as many synthetic rows as train): seconds of
each, one after the other on one thread, and of SDMetrics' quality report. What Adult lacks is declared for the timing:
income as the event of a survival "by age", a regression, a rule. Then two ways to spoil a good table of Adult and of
SUPPORT2: half of a laboratory column made missing (on Adult: of age), and every column permuted on its own, which keeps
each distribution and destroys every relation. A figure is marked * where its interval lies wholly on the worse side of
that of the unspoiled table. `--record` writes both tables into RESULTS.md beside this file.

    nice python benchmarks/validators.py --wide --record

measures a made-up table of 1,000 columns in place of these: numbers, 40 levels, flags, and numbers at times missing.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from tables import DROPPED, TABLES, machine, markdown, record

from synthgen import registry
from synthgen.auditing import Audit, audit
from synthgen.data import TableData
from synthgen.findings import Measurement
from synthgen.io import read
from synthgen.rules import Range
from synthgen.schema import NUMERIC, Regression, TableSchema

FAMILIES = ("structure", "fidelity", "subgroups", "utility")
SPOILT = {"adult": "age", "support2": "num_crea"}  # the column of which half is made missing
SHOWN = (
    "fidelity.columns",
    "fidelity.missingness",
    "fidelity.pairs",
    "fidelity.coverage",
    "fidelity.detection",
    "utility.train_on_synthetic",
)
LIMIT = 120  # seconds
WORDS = ("rows of ", "columns", "pairs", "levels", "groups were", "rows a side", "pMSE", "rows;")


@dataclass(frozen=True)
class Cohort:
    """Real records, and good synthetic ones."""

    name: str
    train: TableData
    holdout: TableData
    synthetic: TableData
    fit_seconds: float


def adult() -> tuple[TableData, TableData]:
    train, holdout = (pd.read_csv(TABLES / f"adult_{part}.csv.gz", na_values="?") for part in ("train", "holdout"))
    for frame in (train, holdout):
        frame["income"] = (frame["income"].str.strip().str.rstrip(".") == ">50K").astype(int)
    data = read(train, target="income")
    schema = replace(
        data.schema.assign("time", "age").assign("event", "income"),
        rules=(Range("age", minimum=17, maximum=90),),
        estimates=(Regression("income", ("age", "sex", "education-num", "hours-per-week")),),
    )
    return read(train, schema=schema), read(holdout, schema=schema)


def support2() -> tuple[TableData, TableData]:
    data = read(pd.read_csv(TABLES / "support2.csv.gz").drop(columns=DROPPED["support2"]), target="event")
    schema = replace(
        data.schema.assign("time", "time").assign("event", "event"),
        estimates=(Regression("event", ("num_age", "fac_sex", "num_scoma", "num_crea")),),
    )
    return TableData(data.table, schema).split_by_patient(holdout=0.3, seed=7)


def cohort(name: str, generator: str, seconds: float) -> Cohort:
    train, holdout = {"adult": adult, "support2": support2}[name]()
    settings = {"max_seconds": seconds} if generator in ("diffusion", "gan") else {}
    started = time.perf_counter()
    fitted = registry.create("generators", generator, settings).fit(train, seed=1)
    synthetic = fitted.sample(len(train), seed=2)
    return Cohort(name, train, holdout, synthetic, time.perf_counter() - started)


def spoilt(data: TableData, name: str) -> dict[str, TableData]:
    """The table as it was sampled, and spoilt in two ways."""
    rng = np.random.default_rng(1)
    holed, mixed = data.table.copy(), data.table.copy()
    holed.loc[rng.permutation(len(holed))[: len(holed) // 2], name] = np.nan
    for column in mixed:
        mixed[column] = mixed[column].to_numpy()[rng.permutation(len(mixed))]
    tables = {"as sampled": data.table, f"half of {name} made missing": holed, "each column permuted": mixed}
    return {change: TableData(table, data.schema) for change, table in tables.items()}


def validated(of: Cohort, synthetic: TableData, *, every: bool) -> tuple[Audit, float, float]:
    """The findings, how long they took, and the seconds of a processor of that."""
    started, used = time.perf_counter(), time.process_time()
    found = audit(
        train=of.train,
        holdout=of.holdout,
        synthetic=synthetic,
        seed=3,
        only=lambda name: name.split(".")[0] in FAMILIES and (every or name in SHOWN),
    )
    return found, time.perf_counter() - started, time.process_time() - used


def quality(real: TableData, synthetic: TableData) -> tuple[float, float, float]:
    """SDMetrics' overall quality score, how long it took, and the seconds of a processor of that."""
    from sdmetrics.reports.single_table import QualityReport

    started, used, report = time.perf_counter(), time.process_time(), QualityReport()
    columns = {c.name: {"sdtype": _sdtype(real.schema, c.name)} for c in real.schema.learned}
    frames = (data.table[list(columns)] for data in (real, synthetic))
    report.generate(*frames, {"columns": columns}, verbose=False)
    return float(report.get_score()), time.perf_counter() - started, time.process_time() - used


def _sdtype(schema: TableSchema, name: str) -> str:
    kind = schema[name].kind
    return "boolean" if kind == "boolean" else "numerical" if kind in NUMERIC else "categorical"


def worse(one: Measurement, than: Measurement) -> bool:
    """Whether an interval lies wholly on the worse side of another."""
    if one.better == "lower":
        return one.statistic.low > than.statistic.high
    return one.statistic.high < than.statistic.low


def wide(rows: int = 10_000, columns: int = 1_000) -> Cohort:
    """Real and synthetic rows of one law, with everything declared that a validator asks for."""

    def make(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        z, made = rng.normal(size=n), {}
        for i in range(0, columns - 5, 4):
            made |= {
                f"number{i}": (0.3 * z + rng.normal(size=n)).round(3),
                f"flag{i}": (rng.random(n) < 0.1).astype(int),
            }
            made[f"level{i}"] = rng.choice([f"L{j}" for j in range(40)], n)
            made[f"gappy{i}"] = np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 50, n))
        made |= {"sex": rng.choice(["F", "M"], n), "age": rng.integers(20, 90, n)}
        made |= {
            "days": rng.exponential(300, n).round() + 1,
            "died": (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int),
        }
        return pd.DataFrame(made)

    data = read(make(rows, 1), target="died")
    schema = replace(
        data.schema.assign("time", "days").assign("event", "died"),
        rules=(Range("age", minimum=0, maximum=120),),
        estimates=(Regression("died", ("age", "sex", "number0")),),
    )
    train = TableData(data.table, schema)
    holdout, synthetic = (read(make(n, seed), schema=schema) for n, seed in ((rows // 2, 2), (rows, 3)))
    return Cohort("wide", train, holdout, synthetic, 0.0)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure_wide() -> str:
    of = wide()
    before = peak_mib()
    found, seconds, used = validated(of, of.synthetic, every=True)
    notes = [f"- `{f.check}`: {note}" for f in found.findings if f.measurement for note in f.measurement.notes]
    bounds = "\n".join(note for note in notes if any(word in note for word in WORDS))
    return (
        f"`python benchmarks/validators.py --wide --record`: {len(of.train):,} rows x {len(of.train.schema.learned):,} "
        f"columns, holdout {len(of.holdout):,}; memory {before:,} MiB when read, {peak_mib():,} MiB at most; {load()}. "
        f"{machine()}.\n\n{timing(found, (seconds, used), None)}\n\n"
        f"What was bounded, in the checks' own notes:\n\n{bounds}"
    )


def timing(found: Audit, seconds: tuple[float, float], peer: tuple[float, float, float] | None) -> str:
    """The table of seconds; of a processor for the sums, which other jobs do not lengthen."""
    rows = []
    for finding in found.findings:
        measured = finding.measurement
        if measured is None:
            rows.append((finding.check, "-", finding.because, "-"))
        else:
            control = str(measured.control) if measured.control else "-"
            rows.append((finding.check, f"{measured.seconds:.1f}", str(measured.statistic), control))
    met = f"limit {LIMIT} s: {'met' if seconds[0] < LIMIT else 'missed'}" if peer else "-"
    rows.append(("all", f"{seconds[0]:.0f} ({seconds[1]:.0f} of a processor)", met, "-"))
    if peer:
        rows.append(
            ("SDMetrics quality report", f"{peer[1]:.0f} ({peer[2]:.0f} of a processor)", f"{peer[0]:.3f}", "-")
        )
    return markdown(rows, ("check", "seconds", "estimate", "real holdout in its place"))


def changes(of: Cohort, whole: Audit, score: float) -> list[tuple[str, ...]]:
    """One line for each way to spoil the table."""
    rows = []
    for change, data in spoilt(of.synthetic, SPOILT[of.name]).items():
        found = whole if change == "as sampled" else validated(of, data, every=False)[0]
        theirs = score if change == "as sampled" else quality(of.train, data)[0]
        cells = []
        for name in SHOWN:
            ours, before = found[name].measurement, whole[name].measurement
            cells.append(
                "-" if ours is None or before is None else f"{ours.statistic.value:.3f}" + "*" * worse(ours, before)
            )
        sign = f"{theirs:.3f}" + ("" if change == "as sampled" else f" ({theirs - score:+.3f})")
        rows.append((of.name, change, sign, *cells))
        print(" | ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="diffusion")
    parser.add_argument("--seconds", type=float, default=60.0, help="training budget of a generator that is trained")
    parser.add_argument("--record", action="store_true", help="write the tables into RESULTS.md")
    parser.add_argument("--wide", action="store_true", help="a table of 1,000 columns instead")
    chosen = parser.parse_args()
    title = "Validators of wide tables" if chosen.wide else "Validators of tables"
    body = measure_wide() if chosen.wide else measure(chosen)
    print(f"\n{body}")
    if chosen.record:
        record(title, body)


def load() -> str:
    """What else the machine did."""
    return f"load of the machine at the end {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"


def measure(chosen: argparse.Namespace) -> str:
    table, rows = "", []
    for name in SPOILT:
        of = cohort(name, chosen.generator, chosen.seconds)
        whole, *seconds = validated(of, of.synthetic, every=True)
        peer = quality(of.train, of.synthetic)
        if name == "adult":
            table = timing(whole, (seconds[0], seconds[1]), peer)
            print(table, flush=True)
        rows += changes(of, whole, peer[0])
    head = ("table", "change", "SDMetrics quality", *SHOWN)
    return (
        f"`python benchmarks/validators.py --generator {chosen.generator} --seconds {chosen.seconds:.0f} --record`; "
        f"{load()}. {machine()}.\n\n**All validators on Adult**, one after the other on one thread\n\n{table}\n\n"
        "Seconds are those of the clock; in brackets those of a processor, which one free core would take, since other "
        "jobs may have run beside.\n\n"
        "**Where the data became useless.** Lower is better, but for coverage and the last column; * is worse beyond "
        f"both intervals. SDMetrics: higher is better.\n\n{markdown(rows, head)}"
    )


if __name__ == "__main__":
    main()

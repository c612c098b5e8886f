"""How long does drawing a report take, and how large is it? One audit, then the page several times.

    python benchmarks/report.py --record

The table is Diabetes-130 (50 columns, 101,766 stays), split by patient; the synthetic rows are those of the generator
`independent`, as many as train has. The checks are the validators, whose pictures grow with the table; the attacks add
three or four curves of at most 101 points, about 6 kB each. The second table has 1,000 columns of 2,000 patients; of it
the checks of columns and pairs are run. Times are processor seconds of `render_html` with every picture, so that other
work on the machine does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tables import TABLES, Row, machine, markdown, record

from synthgen import registry, report
from synthgen.auditing import Audit, audit
from synthgen.data import TableData
from synthgen.io import read
from synthgen.report.plots import overlays, pictures
from synthgen.report.public import public
from synthgen.rng import Seed

HEAD = (
    "table",
    "columns",
    "rows",
    "fit and checks s",
    "pictures",
    "page s, median [min, max]",
    "page kB",
    "Markdown kB",
)
TARGETS = "targets: under 60 s of drawing and under 500 kB for 50 columns and 100,000 rows"
RUNS = 3
OF_COLUMNS = ("contract", "fidelity.missingness", "fidelity.columns", "fidelity.pairs")
PICTURED = (
    *OF_COLUMNS, "structure.schema", "fidelity.coverage", "fidelity.detection", "subgroups.tables",
    "utility.train_on_synthetic",
)  # fmt: skip


def diabetes() -> TableData:
    """50 columns, 101,766 rows."""
    raw = pd.read_csv(Path(TABLES) / "diabetes130.csv.gz", low_memory=False, na_values="?", keep_default_na=False)
    return read(raw, target="readmitted")


def wide() -> TableData:
    """1,000 columns: numbers, whole numbers, levels and dates, some of them missing."""
    rng, rows = Seed(1).child("wide").numpy(), 2_000
    columns: dict[str, object] = {}
    for i in range(0, 1_000, 4):
        columns[f"number {i}"] = np.where(rng.random(rows) < 0.02, np.nan, rng.normal(size=rows).round(3))
        columns[f"count {i}"] = rng.poisson(4, size=rows)
        columns[f"level {i}"] = np.array(list("abcde"), dtype=object)[rng.integers(0, 5, size=rows)]
        columns[f"date {i}"] = pd.Timestamp("2001-01-01") + pd.to_timedelta(rng.integers(0, 3_000, rows), unit="D")
    return read(pd.DataFrame(columns))


def audited(data: TableData, only: tuple[str, ...]) -> Audit:
    """An audit of what independent columns make of a table."""
    train, holdout = data.split_by_patient(holdout=0.3, seed=1)
    synthetic = registry.create("generators", "independent").fit(train, seed=2).sample(len(train), seed=3)
    return audit(train=train, holdout=holdout, synthetic=synthetic, seed=4, only=lambda name: name in only)


def measured(name: str, data: TableData, only: tuple[str, ...]) -> Row:
    """One line of the table."""
    started = time.process_time()
    found = audited(data, only)
    took, times, page = time.process_time() - started, [], ""
    for _ in range(RUNS):
        started = time.process_time()
        page = report.render_html(found)
        times.append(time.process_time() - started)
    drawn = len(pictures(public(found))) + len(overlays(public(found)))
    seconds = f"{statistics.median(times):.1f} [{min(times):.1f}, {max(times):.1f}]"
    sizes = (f"{len(text.encode()) / 1e3:.0f}" for text in (page, report.render_markdown(found)))
    return (name, f"{len(data.schema.columns):,}", f"{len(data):,}", f"{took:.0f}", str(drawn), seconds, *sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    rows = [measured("wide", wide(), OF_COLUMNS)]
    print(" | ".join(rows[0]), flush=True)
    rows.insert(0, measured("Diabetes-130", diabetes(), PICTURED))
    text = f"{machine()}; {TARGETS}\n\n{markdown(rows, HEAD)}"
    print(text)
    if arguments.record:
        record("Report: `python benchmarks/report.py`", text)


if __name__ == "__main__":
    main()

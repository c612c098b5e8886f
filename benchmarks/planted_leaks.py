"""Does the audit of tables find what is planted, and nothing else? Prints detection and false alarms with intervals.

    python benchmarks/planted_leaks.py --runs 100 --jobs 2 --record

Cases are those of `synthgen.testing.leaks`: simulated patients, of which every run draws others. Of clean tables all
checks with a p-value are run: an alarm is an adjusted p (Holm over these checks) that the policy research-share does
not let pass (below 1 %; below 10 % of `disclosure.rare`), a failure what it calls a leak. A leak is found where a check
that promises to find it raises an alarm; the family is as large as on clean tables, though only these checks are run.
On the first runs of each case SDMetrics' DCROverfittingProtection answers on the same data (1: private; it counts 500
random synthetic rows, and is not asked of 500 columns, which take it minutes). What is recorded is written after every
case, in the place of the case's row; of clean tables after every 20 runs, and runs from `--first` on are added to the
row that ends there. No demand is made of generators in use, which learn from train and so tell a little of it.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tables import Row, machine, markdown, record, recorded

from synthgen.errors import NotAssessable
from synthgen.evidence import gathered
from synthgen.findings import Measurement
from synthgen.policy import judge_all, load_policy
from synthgen.protocols import Evidence
from synthgen.registry import create, names
from synthgen.rng import Seed
from synthgen.stats import clopper_pearson, holm
from synthgen.testing.leaks import FITTED, LEAKS, NULLS, PEERS, Case, find
from synthgen.testing.simulated import Tables

FAMILY = (
    "copies.exact",
    "copies.neighbor",
    "copies.blocks",
    "disclosure.rare",
    "disclosure.singling_out",
    "disclosure.linkability",
    "disclosure.inference",
    "membership",
    "membership.vulnerable",
)
LEVEL, PEER_RUNS, PEER_ROWS, PEER_COLUMNS = 0.01, 5, 500, 100
POLICY = load_policy("research-share")
HEAD = ("case", "runs", "found", "95 % interval", "demand", "", "by", "SDMetrics DCR overfitting protection")
DEMANDED_RUNS = 200  # of clean tables, and the most alarms and failures in them: audits that err in just 1 % and .1 %
MOST_ALARMS, MOST_FAILURES = 5, 1  # of the runs exceed either number once in sixty times (.016 and .017)
CLEAN_HEAD = ("clean table", "runs", "false alarms", "95 % interval", "", "of which check", "failures", HEAD[-1])
SLICE = 20  # runs after which those of a clean table are recorded


@dataclass(frozen=True)
class Ran:
    """One run of a case."""

    p_values: dict[str, float]  # adjusted
    mirror: float = 1.0  # the smallest mirror p of the checks that promise, adjusted for their number
    count: float = 0.0  # of violations of the contract
    failed: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peer: float | None = None

    @property
    def alarms(self) -> list[str]:
        return [name for name, p in self.p_values.items() if p < level(name)]

    def finders(self, case: Case) -> list[str]:
        """The checks that found it, of those that promise to."""
        if case.shows == "count":
            return ["contract"] if self.count > 0 else []
        found = [name for name in self.alarms if name in case.found_by]
        return (["mirror"] if self.mirror < LEVEL else []) if case.shows == "mirror" else found


def level(check: str) -> float:
    """The adjusted p below which the policy does not let pass; of a check that it judges otherwise the usual one."""
    return POLICY.checks[check].doubtful_p or LEVEL


def ran(name: str, number: int) -> Ran:
    """Make the tables of one run, run the checks and adjust their p-values."""
    warnings.simplefilter("ignore")
    case, seed = find(name), Seed(number)
    sets = case.tables(seed=seed)
    evidence = gathered(sets.train, sets.holdout, sets.synthetic)
    family = [check for check in FAMILY if check in names("checks")]
    wanted = [check for check in (case.found_by or family) if check in names("checks")]
    measured, seconds = {}, {}
    for check in wanted:
        started = time.perf_counter()
        found = measurement(check, evidence, seed)
        seconds[check] = time.perf_counter() - started
        measured |= {check: found} if found else {}
    p_values = {check: found.p_value for check, found in measured.items() if found.p_value is not None}
    padded = holm([*p_values.values(), *[1.0] * (len(family) - len(p_values))])
    mirrors = [found.details["mirror_p"].value for found in measured.values() if "mirror_p" in found.details]
    return Ran(
        p_values=dict(zip(p_values, padded, strict=False)),
        mirror=min(1.0, len(mirrors) * min(mirrors, default=1.0)),
        count=measured["contract"].statistic.value if "contract" in measured else 0.0,
        failed=() if case.found_by else failures(list(measured.values())),
        seconds=seconds,
        peer=second_opinion(sets, seed) if number < PEER_RUNS else None,
    )


def measurement(check: str, evidence: Evidence, seed: Seed) -> Measurement | None:
    try:
        return create("checks", check).run(evidence, seed=seed.child(check))
    except NotAssessable as reason:
        print(f"{check}: {reason}", flush=True)
        return None


def failures(measured: list[Measurement]) -> tuple[str, ...]:
    """The checks that the policy refuses; those that it does not know are not judged."""
    known = [found for found in measured if found.check in POLICY.checks]
    findings = judge_all(known, POLICY, {found.check: "?" for found in known})
    return tuple(finding.check for finding in findings if finding.verdict == "FAIL")


def second_opinion(sets: Tables, seed: Seed) -> float | None:
    """What SDMetrics answers; 1 is private. None: not asked."""
    if len(sets.train.schema.learned) > PEER_COLUMNS:
        return None
    from sdmetrics.single_table import DCROverfittingProtection

    kinds = {"integer": "numerical", "real": "numerical", "boolean": "boolean"}
    columns = {c.name: {"sdtype": kinds.get(c.kind, "categorical")} for c in sets.train.schema.learned}
    rows = min(PEER_ROWS, len(sets.synthetic))
    some = sets.synthetic.take(seed.child("some").numpy().choice(len(sets.synthetic), rows, replace=False))
    train, holdout, synthetic = (data.table[list(columns)].copy() for data in (sets.train, sets.holdout, some))
    about = {"columns": columns, "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1"}
    return float(DCROverfittingProtection.compute(train, synthetic, holdout, about, table_name=None))


def leak_row(case: Case, runs: list[Ran]) -> Row:
    finders = [run.finders(case) for run in runs]
    found = sum(map(bool, finders))
    rate = clopper_pearson(found, len(runs))
    by = Counter(name for one in finders for name in one)
    demand = "blind spot" if case.demand is None else f">= {case.demand:.0%}" if case.demand < 1 else "100 %"
    met = "" if case.demand is None else "met" if found / len(runs) >= case.demand else "MISSED"
    who = ", ".join(f"{name} {count / len(runs):.0%}" for name, count in by.most_common())
    interval = f"{rate.low:.3f} to {rate.high:.3f}"
    return (case.name, str(len(runs)), f"{found / len(runs):.0%}", interval, demand, met, who or "-", peer(runs))


@dataclass(frozen=True)
class Clean:
    """What runs of a clean table came to."""

    runs: int
    alarmed: int
    alarms: Counter[str]
    failures: Counter[str]
    peer: str

    @staticmethod
    def of(runs: list[Ran]) -> Clean:
        alarms = Counter(name for run in runs for name in run.alarms)
        failures = Counter(name for run in runs for name in run.failed)
        return Clean(len(runs), sum(bool(run.alarms) for run in runs), alarms, failures, peer(runs))

    @staticmethod
    def parsed(row: Row) -> Clean:
        alarms, failures = (
            Counter({name: int(count) for name, count in (part.rsplit(" ", 1) for part in cell.split(", "))})
            if cell != "-"
            else Counter[str]()
            for cell in row[5:7]
        )
        return Clean(int(row[1]), int(row[2]), alarms, failures, row[7])

    def __add__(self, later: Clean) -> Clean:
        alarms, failures = self.alarms + later.alarms, self.failures + later.failures
        return Clean(self.runs + later.runs, self.alarmed + later.alarmed, alarms, failures, self.peer)

    def row(self, name: str) -> Row:
        rate = clopper_pearson(self.alarmed, self.runs)
        met = "met" if self.runs >= DEMANDED_RUNS else f"fewer than {DEMANDED_RUNS} runs"
        times = max(1, self.runs / DEMANDED_RUNS)
        if self.alarmed > MOST_ALARMS * times or self.failures.total() > MOST_FAILURES * times:
            met = "MISSED"
        met = "no demand" if any(case.name == name for case in FITTED) else met
        who = [
            ", ".join(f"{check} {count}" for check, count in counts.most_common()) or "-"
            for counts in (self.alarms, self.failures)
        ]
        interval = f"{rate.low:.3f} to {rate.high:.3f}"
        return (name, str(self.runs), str(self.alarmed), interval, met, *who, self.peer)


def peer(runs: list[Ran]) -> str:
    answers = [run.peer for run in runs if run.peer is not None]
    return f"{sum(answers) / len(answers):.2f}" if answers else "-"


def seconds_of(runs: list[Ran]) -> str:
    checks = dict.fromkeys(check for run in runs for check in run.seconds)
    means = {c: [run.seconds[c] for run in runs if c in run.seconds] for c in checks}
    return ", ".join(f"{check} {sum(values) / len(values):.1f} s" for check, values in means.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", action="append", metavar="NAME", help="a part of a case's name; may be repeated")
    parser.add_argument("--part", choices=("clean", "leaks"), help="only the clean tables, or only the leaks")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--record", action="store_true", help="write the tables into RESULTS.md")
    arguments = parser.parse_args()
    for check in FAMILY:
        if check not in names("checks"):
            print(f"not registered, so left out: {check}", flush=True)
    parts = {"clean": [False], "leaks": [True], None: [False, True]}[arguments.part]
    cases = [c for c in (*NULLS, *FITTED, *LEAKS, *PEERS) if bool(c.found_by) in parts]
    cases = [c for c in cases if not arguments.only or any(part in c.name for part in arguments.only)]
    for case in cases if arguments.record else []:
        check_first(case, arguments.first)
    numbers = range(arguments.first, arguments.first + arguments.runs)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for case in cases:
            step = len(numbers) if case.found_by else SLICE
            runs: list[Ran] = []
            for start in range(0, len(numbers), step):
                part = numbers[start : start + step]
                runs += pool.map(ran, [case.name] * len(part), part)
                if arguments.record and not case.found_by:
                    note(case, Clean.of(runs[start:]), part[0])
            row = leak_row(case, runs) if case.found_by else Clean.of(runs).row(case.name)
            print(" | ".join(row), f"[{seconds_of(runs)}]", flush=True)
            if arguments.record and case.found_by:
                note(case, row)


def section(case: Case) -> tuple[str, Row]:
    """Where in RESULTS.md a case stands, and the head of the table there."""
    return ("Planted leaks, tables", HEAD) if case.found_by else ("Planted leaks, clean tables", CLEAN_HEAD)


def check_first(case: Case, first: int) -> None:
    """Later runs can only be added to a clean table's row that ends there."""
    runs = [int(row[1]) for row in recorded(*section(case))[1] if row[0] == case.name]
    if first and (case.found_by or runs != [first]):
        raise SystemExit(f"{case.name}: --record needs --first 0, or as many runs of a clean table as are recorded")


def note(case: Case, found: Row | Clean, first: int = 0) -> None:
    """Put the row of a case into RESULTS.md; runs of a clean table from `first` on are added to the row."""
    title, head = section(case)
    rows = {old[0]: old for old in recorded(title, head)[1]}
    if isinstance(found, Clean):
        found = (Clean.parsed(rows[case.name]) + found if first else found).row(case.name)
    rows[case.name] = found
    order = [one.name for one in (*NULLS, *FITTED, *LEAKS, *PEERS)]
    about = f"`python benchmarks/planted_leaks.py --record`, each case when it was last run. {machine()}"
    record(title, f"{about}\n\n{markdown(sorted(rows.values(), key=lambda old: order.index(old[0])), head)}")


if __name__ == "__main__":
    main()

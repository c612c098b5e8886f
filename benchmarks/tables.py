"""How good is each table generator, beside the real holdout and on one machine? Prints a table.

    python benchmarks/tables.py --data all --generators diffusion,gan,copula,independent --seeds 1,2,3 --record

Every row is one fit and one sample of as many rows as train. The row "holdout" puts the real holdout in place of the
synthetic table: the floor of sampling noise; its TSTR (AUC on the holdout of a model trained on the table) is that
of a model trained on real train. Intervals are DeLong's, of the predictions at hand. `--record` writes the rows into
RESULTS.md beside this file, in place of those of the same generator and seed (all of them, where machine or versions
are others), and the means over all recorded tables of the summary; so a long run can be done in parts.

Detection score = 1 - (2 max(AUC, .5) - 1) of a cross-fitted XGBoost classifier, real against synthetic: at most 20,000
rows a side, categories as ordinals by train frequency, numbers standardised by train, a missing indicator for each
column that has missing values, classifier at its defaults, 3-fold stratified. 1 is indistinguishable.
Shape error = 100 x mean over columns of the total variation (categories) or Kolmogorov-Smirnov (numbers) distance.
Trend error = 100 x mean over column pairs of half the absolute difference of Pearson correlations (two numbers), or the
total variation of the joint table (otherwise, numbers in ten train quantile bins).
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, norm
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from xgboost import XGBClassifier, XGBRegressor

from synthgen import registry
from synthgen.data import TableData
from synthgen.errors import SynthgenError
from synthgen.io import read
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.schema import NUMERIC

HERE = Path(__file__).resolve().parent
TABLES = HERE.parent.parent / "shared" / "data" / "tables"
RESULTS = HERE / "RESULTS.md"
JUDGE_ROWS = 20_000
TRAINED = ("diffusion", "gan")  # generators with a budget of seconds and a device
TARGETS = {
    "adult": "income",
    "default": "default payment next month",
    "shoppers": "Revenue",
    "magic": "class",
    "beijing": "pm2.5",
    "diabetes130": "readmitted",
    "brfss2015": "Diabetes_binary",
    "support2": "event",
    "gbsg2": "event",
    "whas500": "event",
}
SUMMARY = ("adult", "default", "shoppers", "magic", "beijing", "diabetes130")
PATIENT = {"diabetes130": "patient_nbr"}
DROPPED = {
    "diabetes130": ["encounter_id"],
    "support2": ["pid"],
    "gbsg2": ["pid"],
    "whas500": ["pid"],
    "beijing": ["No"],
}
HEAD = (
    "generator",
    "seed",
    "detection",
    "vs holdout",
    "trend err %",
    "shape err %",
    "TSTR",
    "copies p",
    "membership AUC",
    "fit s",
    "rows/s",
    "MiB",
    "steps",
)
SUMMARY_HEAD = (
    "generator",
    "detection",
    "vs holdout",
    "trend err / floor",
    "TSTR / real",
    "least copies p",
    "largest membership AUC",
    "tables (seeds)",
)
Row = tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """A real table cut into train and holdout, and how the judge sees its columns."""

    train: TableData
    holdout: TableData
    target: str


def load(name: str) -> Split:
    """Adult as given; other sets shuffled as in the papers; diabetes130 by patient; actg175 as shipped."""
    if name == "actg175":
        from synthgen.datasets import load as shipped

        data = shipped(name)
        return Split(*data.split_by_patient(holdout=0.3, seed=7), str(data.schema.target))
    target = TARGETS[name]
    if name == "adult":
        train, holdout = (pd.read_csv(TABLES / f"adult_{part}.csv.gz", na_values="?") for part in ("train", "holdout"))
        data = read(train, target=target)
        return Split(data, read(holdout, schema=data.schema), target)
    missing = {"na_values": "?", "keep_default_na": False} if name == "diabetes130" else {}
    frame = pd.read_csv(TABLES / f"{name}.csv.gz", low_memory=False, **missing)
    frame = frame.drop(columns=[c for c in DROPPED.get(name, []) if c in frame])
    data = read(frame, target=target, patient=PATIENT.get(name))
    if name in PATIENT or len(data) < 10_000:
        return Split(*data.split_by_patient(holdout=0.3, seed=1234), target)
    order = np.random.RandomState(1234).permutation(len(data))
    cut = int(0.9 * len(data))
    return Split(data.take(order[:cut]), data.take(order[cut:]), target)


class Judge:
    """Turns tables into numbers, by train alone."""

    def __init__(self, split: Split) -> None:
        self.split, self.columns = split, list(split.train.learned.columns)
        self.levels = {}
        for column in split.train.schema.learned:
            if column.kind not in NUMERIC | {"datetime"}:
                counts = split.train.table[column.name].value_counts()
                self.levels[column.name] = {level: rank for rank, level in enumerate(counts.index)}
        both = (split.train.learned, split.holdout.learned)
        self.gappy = [name for name in self.columns if any(table[name].isna().any() for table in both)]

    def matrix(self, data: TableData, *, without: str | None = None) -> np.ndarray:
        """Shape: -> (rows, features) float."""
        features = []
        for name in self.columns:
            if name == without:
                continue
            x = self._numbers(data.table[name], name)
            reference = self._numbers(self.split.train.table[name], name)
            scale = (
                1.0 if name in self.levels else (np.nanstd(reference) if np.isfinite(reference).any() else 1.0) or 1.0
            )
            centre = 0.0 if name in self.levels or not np.isfinite(reference).any() else np.nanmean(reference)
            features.append(np.where(np.isnan(x), -1.0 if name in self.levels else 0.0, (x - centre) / scale))
            if name in self.gappy:
                features.append(data.table[name].isna().to_numpy(dtype=float))
        return np.column_stack(features)

    def _numbers(self, values: pd.Series, name: str) -> np.ndarray:
        if name in self.levels:
            return (
                values.map(self.levels[name]).fillna(len(self.levels[name])).where(values.notna()).to_numpy(dtype=float)
            )
        if values.dtype.kind == "M":
            return np.where(values.isna(), np.nan, values.to_numpy().astype("datetime64[s]").astype(float))
        return values.to_numpy(dtype=float)

    def detection(self, real: TableData, synthetic: TableData, seed: int) -> str:
        """Score with its 95 % interval."""
        rng = np.random.default_rng(seed)
        sides = []
        for table in (real, synthetic):
            matrix = self.matrix(table)
            sides.append(matrix[rng.permutation(len(matrix))[:JUDGE_ROWS]])
        X, y = np.concatenate(sides), np.repeat([0, 1], [len(side) for side in sides])
        scores = np.empty(len(y))
        for fit, test in StratifiedKFold(3, shuffle=True, random_state=seed).split(X, y):
            scores[test] = XGBClassifier(random_state=seed, n_jobs=2).fit(X[fit], y[fit]).predict_proba(X[test])[:, 1]
        auc, half = auc_interval(y, scores)
        low, high = (min(1.0, 2 - 2 * max(a, 0.5)) for a in (auc + half, auc - half))
        return f"{2 - 2 * max(auc, 0.5):.3f} [{low:.3f}, {high:.3f}]"

    def shape_error(self, synthetic: TableData) -> float:
        """Percent, mean over columns."""
        return 100 * float(np.mean([self._column_error(name, synthetic) for name in self.columns]))

    def _column_error(self, name: str, synthetic: TableData) -> float:
        a, b = (self._numbers(t.table[name], name) for t in (self.split.train, synthetic))
        if name in self.levels:
            return _total_variation(np.nan_to_num(a, nan=-1), np.nan_to_num(b, nan=-1))
        known_a, known_b = a[~np.isnan(a)], b[~np.isnan(b)]
        return float(ks_2samp(known_a, known_b, method="asymp").statistic) if len(known_a) and len(known_b) else 0.0

    def trend_error(self, synthetic: TableData) -> float:
        """Percent, mean over pairs of columns."""
        numeric = [c for c in self.columns if c not in self.levels and self.split.train.table[c].nunique() > 2]
        codes = [self._codes(table) for table in (self.split.train, synthetic)]
        errors = []
        for a, b in itertools.combinations(self.columns, 2):
            if a in numeric and b in numeric:
                r = [
                    _correlation(self._numbers(t.table[a], a), self._numbers(t.table[b], b))
                    for t in (self.split.train, synthetic)
                ]
                errors.append(abs(r[0] - r[1]) / 2)
            else:
                errors.append(_total_variation(*(c[a] * 100_000 + c[b] for c in codes)))
        return 100 * float(np.mean(errors)) if errors else 0.0

    def _codes(self, data: TableData) -> dict[str, np.ndarray]:
        codes = {}
        for name in self.columns:
            x, reference = self._numbers(data.table[name], name), self._numbers(self.split.train.table[name], name)
            if name not in self.levels and len(np.unique(reference[~np.isnan(reference)])) > 10:
                cuts = np.unique(np.nanquantile(reference, np.arange(0.1, 1, 0.1)))
                x = np.where(np.isnan(x), np.nan, np.searchsorted(cuts, x, side="right"))
            codes[name] = np.nan_to_num(x, nan=-1).astype(np.int64) + 1
        return codes

    def utility(self, fitted_on: TableData, seed: int) -> str:
        """AUC (or R2 for a numeric target) on the holdout of a model trained on this table, with its 95 % interval."""
        target, holdout = self.split.target, self.split.holdout
        truth, labels = (t.table[target] for t in (holdout, fitted_on))
        X, test = self.matrix(fitted_on, without=target), self.matrix(holdout, without=target)
        if target not in self.levels and self.split.train.table[target].nunique() > 10:
            rows, known = labels.notna().to_numpy(), truth.notna().to_numpy()
            model = XGBRegressor(random_state=seed, n_jobs=2).fit(X[rows], labels[rows])
            return f"R2 {r2_score(truth[known], model.predict(test[known])):.3f} (n {int(known.sum())})"
        levels = sorted(set(labels.dropna()), key=str)
        if len(levels) < 2:
            return "one class"
        rows, code = labels.notna().to_numpy(), {level: i for i, level in enumerate(levels)}
        model = XGBClassifier(random_state=seed, n_jobs=2).fit(X[rows], labels[rows].map(code))
        keep = truth.isin(levels).to_numpy()
        scores = model.predict_proba(test[keep])
        if len(levels) > 2:
            auc = roc_auc_score(truth[keep].map(code), scores, multi_class="ovr")
            return f"{auc:.3f} (n {int(keep.sum())})"
        auc, half = auc_interval(truth[keep].map(code).to_numpy(), scores[:, 1])
        return f"{auc:.3f} [{auc - half:.3f}, {auc + half:.3f}]"


def auc_interval(y: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """AUC and the half width of its 95 % interval (DeLong)."""
    ranks = pd.Series(scores).rank().to_numpy()
    positive, negative = y == 1, y == 0
    m, n = positive.sum(), negative.sum()
    auc = (ranks[positive].sum() - m * (m + 1) / 2) / (m * n)
    above = (ranks[positive] - pd.Series(scores[positive]).rank().to_numpy()) / n
    below = 1 - (ranks[negative] - pd.Series(scores[negative]).rank().to_numpy()) / m
    return float(auc), float(norm.ppf(0.975) * np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))


def _total_variation(a: np.ndarray, b: np.ndarray) -> float:
    values, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    p, q = (np.bincount(part, minlength=len(values)) / len(part) for part in (codes[: len(a)], codes[len(a) :]))
    return float(np.abs(p - q).sum() / 2)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    return float(np.corrcoef(a, b)[0, 1]) if known.sum() > 2 and a.std() > 0 and b.std() > 0 else 0.0


def attacked(split: Split, synthetic: TableData, seed: int) -> tuple[str, str]:
    """Two checks of synthgen on the same sample: p-value of the copy test, AUC of membership with its interval."""
    evidence, found = Evidence(split.train, split.holdout, synthetic, split.train.schema), []
    for name in ("copies.neighbor", "membership"):
        try:
            measured = registry.create("checks", name).run(evidence, seed=Seed(seed))
        except (ImportError, SynthgenError) as error:
            found.append(type(error).__name__)
            continue
        found.append(f"{measured.p_value:.3f}" if name == "copies.neighbor" else str(measured.statistic))
    return found[0], found[1]


def judge_row(judge: Judge, split: Split, name: str, seed: int, data: TableData, costs: tuple[str, ...]) -> Row:
    """One line of the table."""
    against_holdout = "-" if data is split.holdout else judge.detection(split.holdout, data, seed)
    attacks = ("-", "-") if data is split.holdout else attacked(split, data, seed)
    figures = (
        judge.detection(split.train, data, seed),
        against_holdout,
        f"{judge.trend_error(data):.2f}",
        f"{judge.shape_error(data):.2f}",
        judge.utility(split.train if data is split.holdout else data, seed),
        *attacks,
    )
    return (name, str(seed), *figures, *costs)


def run_generator(judge: Judge, split: Split, name: str, seed: int, settings: dict[str, object]) -> Row:
    """Fit, sample as many rows as train, judge."""
    generator = registry.create("generators", name, settings)
    started = time.monotonic()
    generator.fit(split.train, seed=seed)
    fitted = time.monotonic()
    synthetic = generator.sample(len(split.train), seed=seed + 1)
    sampled = time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = getattr(generator, "facts", {})
    steps = f"{facts['best_step']} of {facts['planned_steps']}" if "best_step" in facts else "-"
    seconds = f"{fitted - started:.0f}" + (" (1 thread)" if settings.get("threads") == 1 else "")
    costs = (seconds, f"{len(synthetic) / (sampled - fitted):.0f}", f"{memory:.0f}", steps)
    for note in facts.get("notes", ()):
        print(f"{name}, seed {seed}: {note}", file=sys.stderr)
    return judge_row(judge, split, name, seed, synthetic, costs)


def markdown(rows: list[Row], head: Row = HEAD) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def record(title: str, body: str) -> None:
    """Put or replace a section of RESULTS.md."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n"
    head = f"## {title}\n"
    before, found, after = text.partition(head)
    rest = after[after.index("\n## ") + 1 :] if found and "\n## " in after else ""
    RESULTS.write_text(f"{before.rstrip()}\n\n{head}\n{body}\n" + (f"\n{rest}" if rest else ""), encoding="utf-8")


def recorded(title: str, head: Row = HEAD) -> tuple[str, list[Row]]:
    """A section of RESULTS.md: its first line, and the rows of its table; empty where there is none."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    lines = text.partition(f"## {title}\n")[2].partition("\n## ")[0].strip().splitlines()
    table = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| ")]
    return (lines[0] if lines else ""), [row for row in table if len(row) == len(head) and row != head]


def merged(old: list[Row], new: list[Row]) -> list[Row]:
    """The rows of both, new ones in place of old ones of the same generator and seed, generator by generator."""
    rows = {row[:2]: row for row in [*old, *new]}
    generators = list(dict.fromkeys(name for name, _ in rows))
    return sorted(rows.values(), key=lambda row: (not row[0].startswith("holdout"), generators.index(row[0]), row[1]))


def machine() -> str:
    """Where and with what this ran."""
    from synthgen.generators.checkpoint import library_versions

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB; {parts}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="adult", help="one of the tables, or all: those of the summary")
    parser.add_argument("--seconds", type=float, default=300.0, help="training budget of each own generator")
    parser.add_argument("--generators", default="diffusion,copula,independent")
    parser.add_argument("--seeds", default="1", help="comma-separated")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting of diffusion and gan")
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    names = SUMMARY if arguments.data == "all" else arguments.data.split(",")
    for name in names:
        if name not in (*TARGETS, "actg175"):
            parser.error(f"no table {name!r}: {', '.join((*TARGETS, 'actg175'))}, or all")
    tables, budget = {}, f"{arguments.seconds:.0f} s"
    for name in names:
        about, tables[name] = run_table(name, arguments)
        print(f"\n{name}, {budget}\n{about}\n\n{markdown(tables[name])}", flush=True)
        if arguments.record:
            before, old = recorded(f"{name}, {budget}")
            rows = merged(old if before == about else [], tables[name])
            record(f"{name}, {budget}", f"{about}\n\n{markdown(rows)}")
            whole = {other: recorded(f"{other}, {budget}")[1] for other in SUMMARY}
            record(f"Means, {budget}", summary({other: found for other, found in whole.items() if found}))
    if len(tables) > 1:
        print(f"\n{summary(tables)}")


def run_table(name: str, arguments: argparse.Namespace) -> tuple[str, list[Row]]:
    """Every generator and seed on one table: what it was run on, and the rows."""
    split = load(name)
    judge, rows = Judge(split), []
    extra = {key: float(v) if "." in v else int(v) for key, v in (item.split("=") for item in arguments.set)}
    for seed in map(int, arguments.seeds.split(",")):
        rows.append(judge_row(judge, split, "holdout (floor)", seed, split.holdout, ("-",) * 4))
        for generator in arguments.generators.split(","):
            own = {"max_seconds": arguments.seconds, "device": arguments.device, **extra}
            settings = own if generator in TRAINED else {}
            rows.append(run_generator(judge, split, generator, seed, settings))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    sizes = f"train {len(split.train):,} rows of {split.train.patient_count:,} patients, holdout {len(split.holdout):,}"
    return f"{sizes}, {len(judge.columns)} columns; device {arguments.device}. {machine()}.", rows


def summary(tables: dict[str, list[Row]]) -> str:
    """Means over tables of means over seeds, and the worst of the two attacks, one line for each generator."""
    lines = ["| " + " | ".join(SUMMARY_HEAD) + " |", "|" + "---|" * len(SUMMARY_HEAD)]
    for generator in dict.fromkeys(row[0] for rows in tables.values() for row in rows if not is_floor(row)):
        means, attacks, where = [], [], []
        for name, rows in tables.items():
            floors = {row[1]: row for row in rows if is_floor(row)}
            mine = [row for row in rows if row[0] == generator]
            if mine:
                means.append(np.mean([_figures(row, floors[row[1]]) for row in mine], axis=0))
                attacks += [(_number(row[7]), _number(row[8])) for row in mine]
                where.append(f"{name} ({len(mine)})")
        least, most = np.nanmin([a for a, _ in attacks]), np.nanmax([b for _, b in attacks])
        figures = " | ".join(f"{mean:.3f}" for mean in np.mean(means, axis=0))
        lines.append(f"| {generator} | {figures} | {least:.3f} | {most:.3f} | {', '.join(where)} |")
    return "\n".join(lines)


def is_floor(row: Row) -> bool:
    return row[0].startswith("holdout")


def _figures(row: Row, floor: Row) -> tuple[float, ...]:
    """Detection, the same against the holdout, trend error by the floor's, utility by that of real train."""
    ratios = (_number(row[column]) / _number(floor[column]) for column in (4, 6))
    return (_number(row[2]), _number(row[3]), *ratios)


def _number(cell: str) -> float:
    """The figure at the start of a cell, after R2 where that is what it is; NaN where there is none."""
    match = re.search(r"-?\d+\.\d+", cell)
    return float(match.group()) if match else float("nan")


if __name__ == "__main__":
    main()

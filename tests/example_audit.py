"""An audit made by hand, as large as one of a trial with 26 columns, with hostile names among them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from synthgen.auditing import Audit
from synthgen.findings import Cell, Decision, Estimate, Finding, Measurement, PairMap, exactly

HOSTILE = (
    '<script>alert("x")</script>',
    '\'" onload=alert(1) style="fill:red"',
    "عمر المريض",
    "weight 🩺 | kg",
    "evil\u202ename\x07",
    "$x^{2} [link](http://example.org) `code` {{ 7 * 7 }}",
)
NAMES = (
    "age",
    "wtkg",
    "hemo",
    "homo",
    "drugs",
    "karnof",
    "oprior",
    "z30",
    "zprior",
    "preanti",
    "race",
    "gender",
    "str2",
    "strat",
    "symptom",
    "treat",
    "offtrt",
    "cd40",
    "cd420",
    "cd496",
)
COLUMNS = (*NAMES, *HOSTILE)


def estimate(value: float, half: float = 0.02, *, n: int = 1500, method: str = "bootstrap by patient") -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n, method=method)


def example_audit(outcome: str = "REFUSE", *, columns: tuple[str, ...] = COLUMNS, synthetic: str = "c" * 64) -> Audit:
    """An audit with this decision; only REFUSE has a failed finding among its reasons."""
    findings = (*_privacy(), *_fidelity(columns), _groups(), _survival(), _utility())
    if outcome == "RELEASE":
        findings = tuple(
            dataclasses.replace(f, verdict="PASS", because="keeps it") if f.required else f for f in findings
        )
    reasons = {
        "RELEASE": ("all 5 required checks of policy 'research-share' passed",),
        "REFUSE": tuple(f"{f.check}: {f.because}" for f in findings if f.required and f.verdict != "PASS"),
        "REVIEW": ("membership: attack AUC 0.520 [0.480, 0.560] straddles <= 0.55",),
    }[outcome]
    return Audit(
        decision=Decision(outcome, reasons),
        policy={
            "name": "research-share",
            "hash": "ab" * 32,
            "description": "Shared with researchers who agreed not to re-identify.",
        },
        fingerprints={"train": "a" * 64, "holdout": "b" * 64, "synthetic": synthetic},
        counts={
            "train": {"rows": 1497, "patients": 1497},
            "holdout": {"rows": 642, "patients": 642},
            "synthetic": {"rows": 1497, "patients": 1497},
        },
        columns=tuple(
            {"name": name, "kind": "real", "roles": ["quasi_identifier"] if name == "age" else []} for name in columns
        ),
        findings=findings,
        seed=7,
        audit_number=1,
        versions={"python": "3.12.4", "synthgen-health": "0.1.0", "numpy": "2.3.1", "torch": "2.13.0"},
        created="2026-01-31",
        seconds=94.3,
        generator={
            "name": "diffusion",
            "licence": "Apache-2.0",
            "settings": {"max_steps": 4000, "width": 256},
            "seconds": 61.2,
            "training": {
                "best_step": 300,
                "history": [[100, 1.31234, 1.4], [200, 1.1, 1.2], [300, 1.0, 1.15], [400, 0.9, 1.18765]],
            },
            "cost": {"seconds": 61.2, "energy_kwh": 0.0012345, "device": "cpu", "threads": 2},
        },
    )


def with_finding(audit: Audit, check: str, **changes: object) -> Audit:
    """The audit with fields of one measurement changed."""
    findings = [
        dataclasses.replace(f, measurement=dataclasses.replace(f.measurement, **changes)) if f.check == check else f
        for f in audit.findings
    ]
    return dataclasses.replace(audit, findings=tuple(findings))


def roc(auc: float, points: int = 400) -> tuple[tuple[float, float], ...]:
    """The binormal curve's cheap cousin: y = x^k has the area 1 / (1 + k)."""
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 1, points)])
    return tuple((float(x), float(x ** (1 / auc - 1))) for x in grid)


def _privacy() -> list[Finding]:
    contract = Measurement(
        check="contract",
        label="violations of the contract",
        statistic=exactly(0, n=3636),
        better="lower",
        answer="No patient is in both train and holdout, and no real identifier is in the synthetic table.",
    )
    exact = Measurement(
        check="copies.exact",
        label="excess share of synthetic rows that equal a train row",
        better="lower",
        statistic=Estimate(value=0.0, low=0.0, high=0.00085, n=1497, method="Clopper-Pearson"),
        control=Estimate(value=0.0, low=0.0, high=0.0057, n=642, method="Clopper-Pearson"),
        p_value=1.0,
        answer="No synthetic row equals a train row.",
        source="definition",
    )
    neighbor = Measurement(
        check="copies.neighbor",
        label="excess share of synthetic rows nearest to a train row",
        better="lower",
        statistic=estimate(0.0391234, 0.0091, n=1497, method="permutation"),
        control=estimate(0.001, 0.01, n=642),
        p_value=0.00049975,
        power=exactly(0.0134, n=1497),
        answer="3.9 % more synthetic rows lie next to train rows than equally good holdout rows explain.",
        curves={
            "excess by cut-off of the distance ratio": tuple(
                (t, 0.05 * t) for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
            ),
            "real holdout": tuple((t, 0.002 * t) for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)),
        },
        notes=("power is for exact copies; noisy copies need more",),
        source="this project: pooled neighbour label test",
    )
    member = Measurement(
        check="membership",
        label="attack AUC",
        statistic=estimate(0.52, 0.04, method="DeLong"),
        better="lower",
        control=estimate(0.5, 0.04, method="DeLong"),
        details={
            "tpr_at_1pct_fpr": estimate(0.012, 0.009),
            "distance AUC": estimate(0.51),
            "tiny stratum": estimate(0.77123, n=7),
        },
        answer="The best of 2 attackers is right in 52 % of pairs; a coin in 50 %.",
        curves={"ROC distance": roc(0.51), "ROC density ratio": roc(0.52)},
        source="van Breugel et al. 2023, arXiv:2302.12580",
        seconds=3.21,
    )
    shares = (0.0007, 0.003, 0.007, 0.01, 0.013, 0.02, 0.05, 0.1, 0.3)
    power = Measurement(
        check="power",
        label="smallest share of synthetic rows that would have been seen to be copies",
        statistic=estimate(0.0134, 0.003, n=100, method="planted copies (100 draws)"),
        better="lower",
        answer="Had 20 of the 1,497 synthetic rows been copies, the copy test would have seen them.",
        curves={
            kind: tuple((share, min(1.0, share / seen) ** 3) for share in shares)
            for kind, seen in (("exact", 0.013), ("noisy", 0.05), ("isolated", 0.01))
        },
        seconds=12.0,
    )
    return [
        Finding(
            "contract",
            "Are the three tables what they must be?",
            "PASS",
            "violations 0 keeps <= 0",
            True,
            "<= 0",
            contract,
        ),
        Finding(
            "copies.exact",
            "Are train rows copied word for word?",
            "PASS",
            "0.000 [0.000, 8.50e-04] keeps <= 0.001",
            True,
            "<= 0.001, p >= 0.001",
            exact,
        ),
        Finding(
            "copies.neighbor",
            "Does the synthetic table copy train patients?",
            "FAIL",
            "the test for a leak has p = 0.0005 < 0.001",
            True,
            "<= 0.02, p >= 0.001, sees leaks of 0.02",
            neighbor,
        ),
        Finding("power", "Copies of how many patients would have been seen?", "PASS", "keeps it", False, "", power),
        Finding(
            "membership",
            "Can an attacker tell who was in the training data?",
            "INCONCLUSIVE",
            "attack AUC 0.520 [0.480, 0.560] straddles <= 0.55",
            True,
            "<= 0.55, tpr_at_1pct_fpr <= 0.05",
            member,
        ),
        Finding(
            "disclosure.singling_out",
            "Can a patient be singled out?",
            "NOT_RUN",
            "needs 200 patients",
            False,
            "<= 0.09",
        ),
    ]


def _fidelity(columns: tuple[str, ...]) -> list[Finding]:
    rng = np.random.default_rng(5)
    shape = {name: estimate(float(v), 0.012) for name, v in zip(columns, rng.beta(1.5, 20, len(columns)), strict=True)}
    missing = {name: estimate(float(v), 0.01) for name, v in zip(columns[:12], rng.beta(1, 40, 12), strict=True)}
    for name in columns[:5]:
        missing[f"missing rate, {name}"] = estimate(0.2, 0.03)
        missing[f"missing rate, {name} (real holdout)"] = estimate(0.21, 0.03, n=642)
    missing[f"missing rate, {columns[1]} (real holdout)"] = estimate(0.0123, 0.01, n=3)
    real = {f"{name} (real)": estimate(0.022, 0.009) for name in shape}
    pairs = {
        f"{a} × {b}": estimate(float(rng.beta(2, 20)), 0.02) for i, a in enumerate(columns[:10]) for b in columns[:i]
    }
    checks = (
        (
            "structure.schema",
            "Does every row keep the schema?",
            "share of rows that break the schema",
            exactly(0.0, n=1497),
            {},
            {},
        ),
        (
            "fidelity.missingness",
            "Are values missing as in real data?",
            "largest difference of missing rates",
            estimate(0.03),
            missing,
            {},
        ),
        (
            "fidelity.columns",
            "Does each column look real?",
            "mean distance of column distributions",
            estimate(0.06),
            shape | real,
            {},
        ),
        (
            "fidelity.pairs",
            "Do columns go together as in real data?",
            "mean difference of correlations",
            estimate(0.05),
            pairs,
            {},
        ),
        (
            "fidelity.detection",
            "Can a classifier tell synthetic from real?",
            "AUC",
            estimate(0.71),
            {},
            {"roc": roc(0.71), "roc (real holdout)": roc(0.51)},
        ),
    )
    return [
        Finding(
            check,
            question,
            "PASS" if check == "structure.schema" else "NOT_JUDGED",
            "the policy sets no limit here",
            check == "structure.schema",
            "<= 0.01" if check == "structure.schema" else "",
            Measurement(
                check,
                label,
                statistic,
                "lower",
                f"{label}: {statistic.value:.2f}.",
                estimate(0.02, 0.01, n=642) if check.startswith("fidelity") else None,
                details,
                None,
                None,
                curves,
                _cells(columns) if check == "fidelity.columns" else {},
                _pairs(columns[:24]) if check == "fidelity.pairs" else None,
                seconds=0.5,
            ),
        )
        for check, question, label, statistic, details, curves in checks
    ]


def _utility() -> Finding:
    details = {
        "auc_synthetic.logistic": estimate(0.78),
        "auc_real.logistic": estimate(0.80),
        "auc_synthetic.boosting": estimate(0.79),
        "auc_real.boosting": estimate(0.82),
        "brier_real.boosting": estimate(0.18),
        "not estimable": Estimate(value=math.nan, low=math.nan, high=math.nan, n=642, method="bootstrap by patient"),
    }
    measured = Measurement(
        check="utility.train_on_synthetic",
        label="AUC lost by training on synthetic data",
        statistic=estimate(-0.03, 0.015),
        better="higher",
        answer="A model trained on the synthetic table loses .03 AUC on real patients.",
        details=details,
    )
    question = "Do models trained on it work on real patients?"
    return Finding("utility.train_on_synthetic", question, "PASS", "keeps >= -0.05", False, ">= -0.05", measured)


def _cells(columns: tuple[str, ...]) -> dict[str, tuple[Cell, ...]]:
    """Numbers, levels and a yes/no column in turn, as a check gives them of the 50 worst columns."""
    kinds = (
        ("below 20", "20 to 29", "30 to 39", "40 to 49", "50 to 59", "60 to 69", "70 and above", "missing"),
        ("level 1", "level 2", "level 3 to level 5", "other levels"),
        ("below 1", "1", "2 to 3", "4 and above or missing"),
        ("before 2001", "2001 to 2002", "2002 and later"),
        ("no", "yes"),
    )
    rng, found = np.random.default_rng(6), {}
    for place, name in enumerate(columns[:50]):
        labels = kinds[place % len(kinds)]
        made, real = rng.dirichlet(np.full(len(labels), 5.0), size=2)
        found[name] = tuple(
            Cell(label, estimate(float(one), 0.02), estimate(float(other), 0.03, n=642))
            for label, one, other in zip(labels, made, real, strict=True)
        )
    return found


def _pairs(names: tuple[str, ...]) -> PairMap:
    rng, count = np.random.default_rng(7), len(names)
    places = [(i, j) for i in range(count) for j in range(i + 1, count)]
    values = rng.exponential((0.05, 0.02), size=(len(places), 2)).round(4)
    return PairMap(names, tuple((i, j, float(a), float(b)) for (i, j), (a, b) in zip(places, values, strict=True)))


def _groups() -> Finding:
    details = {}
    for number, name in enumerate(("gender, group 1", "gender, group 2", "age, third 1", "age, third 2")):
        details[f"AUC, {name}"] = estimate(0.7 + number / 50, 0.05)
        details[f"AUC, {name} (real)"] = estimate(0.72 + number / 50, 0.05)
        details[name] = estimate(0.05 + number / 100)
        details[f"{name} (real holdout)"] = estimate(0.04, 0.01)
    measured = Measurement(
        check="subgroups.tables",
        label="largest mean distance of a group's columns from the same group in train",
        statistic=estimate(0.08),
        better="lower",
        answer="Of 4 groups, synthetic records are farthest from train in age, third 2.",
        details=details,
    )
    return Finding("subgroups.tables", "As close for every group?", "NOT_JUDGED", "", False, "", measured)


def _survival() -> Finding:
    curves = {
        name: tuple((float(t), round(math.exp(-t / scale), 3)) for t in range(0, 1200, 60))
        for name, scale in (("train", 3050), ("synthetic", 2500), ("holdout", 3100))
    }
    measured = Measurement(
        check="utility.survival",
        label="largest distance from train of the Kaplan-Meier curve",
        statistic=estimate(0.03, 0.02),
        better="lower",
        answer="Survival differs by up to 3.0 % at any time.",
        control=estimate(0.02, 0.02, n=642),
        curves=curves,
    )
    return Finding("utility.survival", "Do they survive as long?", "NOT_JUDGED", "", False, "", measured)

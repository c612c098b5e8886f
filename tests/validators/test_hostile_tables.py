"""What hospitals really send: hostile names and levels, tiny groups, useless targets, a thousand columns."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthgen.auditing import audit
from synthgen.evidence import gathered
from synthgen.io import read
from synthgen.policy import load_policy
from synthgen.report import render_html, render_markdown
from synthgen.rng import Seed
from synthgen.rules import Range
from synthgen.schema import Regression
from synthgen.validators import encoding, hazards, table_subgroups, utility
from synthgen.validators.coverage import placed
from synthgen.validators.table_subgroups import TableSubgroups
from synthgen.validators.utility import TrainOnSynthetic

VALIDATORS = [
    name
    for name in load_policy("research-share").checks
    if name.split(".")[0] in ("structure", "fidelity", "subgroups", "utility")
]
AGE, SEX, WARD = "<b onclick='x()'>age</b>", 'sex "♀/♂" 🩺', "القسم \u202eward"
DAYS, DIED, EXTRA = "days, 'in' {care}", "died | <script>alert(1)</script>", "{{ 7 * 7 }} $x^{2}$"
LEVELS = ("<img src=x onerror=alert(2)>", 'a "quoted" & level', "\u05d0\u05d1\u05d2", "**bold** | [link](http://x)")


def hostile(n, seed):
    rng = np.random.default_rng(seed)
    age = rng.normal(60, 10, n).round()
    hazard = np.exp(0.05 * (age - 60)) / 300
    time, censored = rng.exponential(1 / hazard), rng.uniform(50, 900, n)
    return pd.DataFrame(
        {
            AGE: age,
            SEX: rng.choice(["F", "M"], n),
            WARD: rng.choice(np.array(LEVELS, dtype=object), n, p=[0.4, 0.3, 0.2, 0.1]),
            DAYS: np.ceil(np.minimum(time, censored)),
            DIED: (time <= censored).astype(int),
            EXTRA: np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n).round(2)),
        }
    )


def declared(data):
    columns = tuple(
        replace(c, roles=("quasi_identifier",)) if c.name in (SEX, WARD) else c for c in data.schema.columns
    )
    schema = replace(
        data.schema,
        columns=columns,
        rules=(Range(AGE, minimum=0, maximum=120),),
        estimates=(Regression(DIED, (AGE, WARD)),),
    )
    return replace(data, schema=schema.assign("target", DIED).assign("time", DAYS).assign("event", DIED))


def validated(train, holdout, synthetic):
    return audit(train=train, holdout=holdout, synthetic=synthetic, seed=1, only=VALIDATORS.__contains__)


def test_hostile_names_and_levels_go_through_every_validator_and_into_no_page():
    train, holdout = (declared(read(hostile(500, seed))) for seed in (1, 2))
    found = validated(train, holdout, hostile(500, 3))
    assert {finding.verdict for finding in found.findings} <= {"PASS", "INCONCLUSIVE", "NOT_JUDGED"}, "all ran"
    pages = render_html(found), render_markdown(found)
    said = json.dumps(found.to_json(), ensure_ascii=False)
    for level in LEVELS:
        assert not any(level in text for text in (said, *pages)), "a level is named nowhere"
    assert AGE in said
    for tag in ("<b onclick", "<script>alert", "<img src=x"):
        assert tag not in pages[0]
    assert "&lt;script&gt;alert(1)" in pages[0]
    assert "\u202e" not in "".join(pages), "a mark that turns text around would turn the report around"


def test_a_group_of_five_patients_is_counted_and_not_shown():
    train, holdout, made = (hostile(400, seed) for seed in (1, 2, 3))
    train.loc[:4, WARD] = "rare"
    data = declared(read(train))
    found = TableSubgroups(repeats=10).run(gathered(data, read(holdout, schema=data.schema), made), seed=Seed(1))
    assert not any(name.startswith((f"{WARD}, group 5", f"AUC, {WARD}, group 5")) for name in found.details)
    assert any(note.startswith("1 groups with fewer than 10 patients") for note in found.notes)
    assert not [e for e in found.details.values() if e.n < 10 and e.confidence < 1], "no cell under ten"


@pytest.mark.parametrize(
    ("change", "check", "reason"),
    [
        (lambda data: data.drop(columns=DIED), "utility.train_on_synthetic", "`roles: [target]`"),
        (lambda data: data.drop(columns=DIED), "utility.survival", "`roles: [time]`"),
        (lambda data: data.drop(columns=DIED), "utility.estimates", "`estimates: [{outcome: died, predictors: [age"),
        (lambda data: data.assign(**{DIED: 1}), "utility.train_on_synthetic", "has a single value in the train table"),
        (lambda data: data.assign(**{DIED: 1}), "utility.survival", "is not binary"),
        (lambda data: data.assign(**{DIED: np.arange(len(data)) % 3}), "utility.survival", "is not binary"),
    ],
)
def test_what_is_missing_is_said_with_the_line_to_add(change, check, reason):
    train, holdout, made = (change(hostile(100, seed)) for seed in (1, 2, 3))
    data = read(train)
    if DIED in train:
        data = replace(data, schema=data.schema.assign("target", DIED).assign("time", DAYS).assign("event", DIED))
    found = audit(train=data, holdout=holdout, synthetic=made, seed=1, only=check.__eq__)
    assert found[check].verdict == "NOT_RUN"
    assert reason in found[check].because


def test_the_work_on_a_wide_table_is_bounded_and_says_so(monkeypatch):
    """A thousand columns are measured in benchmarks/validators.py; here, that each bound holds at fewer."""
    for module in (encoding, utility, table_subgroups):
        monkeypatch.setattr(module, "WIDE", 20)
    rng, n, width = np.random.default_rng(1), 60, 40
    names = [f"c{i}" for i in range(width)]

    def wide():
        levels = rng.choice([f"level {i}" for i in range(40)], (n, width)).astype(object)
        return pd.DataFrame(levels, columns=names).assign(died=np.arange(n) % 2)

    data = read(wide(), target="died")
    groups = tuple(replace(c, roles=("quasi_identifier",)) if c.name == "c0" else c for c in data.schema.columns)
    data = replace(data, schema=replace(data.schema, columns=groups))
    given = gathered(data, wide(), wide())
    places = placed(data.schema.learned, given.train, {"train": given.train})
    assert places["train"].shape[1] <= (30 * 20 // width + 2) * width + 4, "coordinates"
    found = TrainOnSynthetic(repeats=5, halves=2).run(given, seed=Seed(1))
    assert any(note.startswith(f"of {width} columns, models see fewer rows") for note in found.notes)
    monkeypatch.setattr(table_subgroups, "MOST_OF_WIDE", 1)
    grouped = TableSubgroups(repeats=5).run(given, seed=Seed(1))
    assert any(note.startswith("1 of 2 groups were looked at") for note in grouped.notes)


def test_features_of_a_cox_model_are_looked_for_until_there_are_enough(monkeypatch):
    X, compared = np.random.default_rng(1).normal(size=(50, 200)), []
    correlation = np.corrcoef
    monkeypatch.setattr(np, "corrcoef", lambda *pair: compared.append(1) or correlation(*pair))
    assert hazards._apart(X, range(200), 5) == [0, 1, 2, 3, 4]
    assert len(compared) == 10

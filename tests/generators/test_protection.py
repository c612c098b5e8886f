"""Value protection by planting: what one patient alone has is in no byte that a generator leaves behind."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from example_audit import example_audit

from synthgen import report
from synthgen.data import TableData
from synthgen.errors import Interrupted
from synthgen.generators.copula import Copula
from synthgen.generators.independent import Independent
from synthgen.generators.table_diffusion import TableDiffusion
from synthgen.generators.table_gan import TableGan
from synthgen.protocols import Run
from synthgen.report.datasheet import datasheet
from synthgen.rng import Seed
from synthgen.schema import Column, TableSchema, schema_yaml
from synthgen.stages import generator_facts

LEVEL, CODE, PARENT = "UNIQUE-RELIGION", "Q78.03", "E11.6"
NUMBERS = {"weight": (-8412763.7, 9871234.5), "visits": (-7654321.0, 8765432.0)}
DATES = (pd.Timestamp("1911-02-03"), pd.Timestamp("2093-11-26"))
PAIR = ("north wing", "ward nine")  # each is common; together they are one patient
COLUMNS = (
    Column("religion", "categorical"),
    Column("wing", "categorical"),
    Column("ward", "categorical"),
    Column("dx", "code", system="icd10"),
    Column("weight", "real", decimals=1),
    Column("visits", "integer"),
    Column("day", "datetime"),
)


@pytest.fixture(scope="module")
def planted() -> TableData:
    """600 patients; the first one has every extreme minimum, the last one every maximum and the unique levels."""
    rng, n = Seed(6).numpy(), 600
    first, last = np.arange(n) == 0, np.arange(n) == n - 1
    north = rng.random(n) < 0.5
    table = {
        "religion": np.where(last, LEVEL, rng.choice(["common-a", "common-b"], n)),
        "wing": np.where(north | last, PAIR[0], "south wing"),
        "ward": np.where(north & ~last, "ward one", PAIR[1]),
        "dx": np.where(last, CODE, rng.choice(["E11.9", "I10", "E11.65", "E11.64"], n, p=[0.5, 0.486, 0.007, 0.007])),
    }
    for name, (low, high) in NUMBERS.items():
        usual = rng.normal(70, 10, n).round(1) if name == "weight" else rng.integers(0, 9, n)
        table[name] = np.where(first, low, np.where(last, high, usual))
    days = pd.Timestamp("2001-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")
    table["day"] = np.where(first, DATES[0], np.where(last, DATES[1], days)).astype("datetime64[ns]")
    frame = pd.DataFrame({k: v.astype(object) if v.dtype.kind == "U" else v for k, v in table.items()})
    return TableData(frame, TableSchema(COLUMNS))


def traces() -> list[bytes]:
    """Regular expressions for every form in which a planted value could be written."""
    numbers = [number for pair in NUMBERS.values() for number in pair]
    for date in DATES:
        seconds = date.timestamp()
        numbers += [float(date.value), float(date.value // 1000), seconds, seconds / 3600, seconds / 86400]
    found = [re.escape(text.encode()) for text in (LEVEL, CODE, CODE.replace(".", ""))]
    found += [re.escape(f"{date:%Y-%m-%d}".encode()) for date in DATES]
    found += [rb"north wing\W+ward nine", rb"ward nine\W+north wing"]
    for number in numbers:
        text = repr(number).removesuffix(".0").encode()
        found.append(rb"(?<![\d.])" + re.escape(text) + rb"(?![\d])")
        found += [re.escape(np.array(number, dtype=kind).tobytes()) for kind in ("<f8", "<f4", ">f8")]
        if number == round(number):
            found.append(re.escape(np.array(number, dtype="<i8").tobytes()))
    return found


def left_behind(generator, train, folder):
    """Fit with checkpoints, stopped once; save; and everything that tells of it."""
    events = []

    def told(event):
        events.append(json.dumps({"stage": event.stage, "done": event.done, **event.metrics}))

    if isinstance(generator, TableDiffusion | TableGan):
        asked = iter(range(1_000))
        with pytest.raises(Interrupted):
            generator.fit(train, seed=1, run=Run(folder / "stopped", stop=lambda: next(asked) > 20, progress=told))
        generator.fit(train, seed=1, run=Run(folder / "checkpoints", progress=told))
    else:
        generator.fit(train, seed=1, run=Run(progress=told))
    generator.save(folder / "model")
    (folder / "metrics.jsonl").write_text("\n".join(events))
    (folder / "schema.yaml").write_text(schema_yaml(train.schema))
    audit = dataclasses.replace(example_audit(), generator=generator_facts(generator, folder / "model"))
    report.write(audit, folder)
    (folder / "DATASHEET.md").write_text(datasheet(audit, train.schema), encoding="utf-8")
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "generator",
    [
        Independent(),
        Copula(),
        TableDiffusion(max_steps=40, width=32, threads=1),
        TableGan(max_steps=40, width=32, passes=2, threads=1),
    ],
    ids=lambda generator: generator.name,
)
def test_no_byte_tells_what_one_patient_alone_has(generator, planted, tmp_path, caplog):
    files = left_behind(generator, planted, tmp_path)
    assert {"manifest.json", "weights.safetensors", "metrics.jsonl", "report.md"} <= {path.name for path in files}
    content = {path.name: path.read_bytes() for path in files} | {"log": caplog.text.encode()}
    for trace in traces():
        for name, data in content.items():
            assert not re.search(trace, data), f"{name} holds {trace!r}"
    rows = generator.sample(3_000, seed=2).table
    assert set(rows["religion"]) == {"common-a", "common-b"}
    assert set(rows["dx"]) <= {"E11.9", "I10", PARENT}
    for name in NUMBERS:
        assert planted.table[name].nlargest(5).iloc[-1] >= rows[name].max()
        assert planted.table[name].nsmallest(5).iloc[-1] <= rows[name].min()
    assert rows["day"].min() >= planted.table["day"].nsmallest(5).iloc[-1]
    assert rows["day"].max() <= planted.table["day"].nlargest(5).iloc[-1]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "What was folded to protect patients" in text
    for column in ("religion", "dx", *NUMBERS, "day"):
        assert re.search(rf"^\| {column} \| ", text, re.MULTILINE)


def test_the_search_finds_what_is_there(planted):
    content = " ".join([LEVEL, CODE, *(repr(n).removesuffix(".0") for pair in NUMBERS.values() for n in pair)]).encode()
    content += b" north wing ward nine 1911-02-03 " + np.float32(NUMBERS["weight"][0]).tobytes()
    assert sum(bool(re.search(trace, content)) for trace in traces()) >= 9
    codes = planted.table["dx"].value_counts()
    assert codes[CODE] == 1
    assert max(codes["E11.65"], codes["E11.64"]) <= 7 < codes["E11.65"] + codes["E11.64"]

"""Does a release leave the house only when it may, whole, and so that every later change is seen?"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from example_audit import HOSTILE, example_audit
from pyarrow import parquet

from synthgen import io
from synthgen.auditing import Audit, audit
from synthgen.data import TableData
from synthgen.errors import DataError, EnvironmentProblem, ReleaseRefused, UsageError
from synthgen.folders import sha256_of
from synthgen.releasing import CHECKSUMS, FILES, release, verify
from synthgen.report.datasheet import TO_FILL, datasheet
from synthgen.report.public import public
from synthgen.schema import Column, TableSchema, read_schema

SCHEMA = TableSchema(
    (
        Column("patient", "identifier", roles=("patient",)),
        Column("age", "integer", unit="years", description="at baseline | rounded"),
        Column("dose", "real"),
        Column("sex", "categorical"),
        Column("seen", "datetime"),
        *(Column(name, "real") for name in HOSTILE if "\x07" not in name),
    )
)


def table(rows: int = 40, seed: int = 3) -> TableData:
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        "patient": [f"SYN-{seed}{i:05d}" for i in range(rows)],
        "age": rng.integers(18, 90, rows).astype(float),
        "dose": np.where(rng.random(rows) < 0.2, np.nan, rng.lognormal(size=rows)),
        "sex": pd.Series(rng.choice(["F", "M"], rows), dtype=object),
        "seen": pd.to_datetime(rng.integers(0, 10**9, rows) * 10**9).astype("datetime64[ns]"),
    }
    columns |= {column.name: rng.normal(size=rows) for column in SCHEMA.columns[5:]}
    frame = pd.DataFrame(columns)
    frame["patient"] = frame["patient"].astype(object)
    return TableData(frame, SCHEMA)


def passed(data: TableData, outcome: str = "RELEASE") -> Audit:
    return dataclasses.replace(
        example_audit(outcome, synthetic=data.fingerprint()),
        columns=tuple({"name": c.name, "kind": c.kind, "roles": list(c.roles)} for c in data.schema.columns),
    )


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    data = table()
    return release(passed(data), data, tmp_path_factory.mktemp("out") / "release", licence="CC BY 4.0")


def test_a_release_holds_these_files_and_verifies(released):
    assert sorted(path.name for path in released.iterdir()) == sorted([*FILES, CHECKSUMS])
    verify(released)


def test_sha256sum_agrees(released):
    command = shutil.which("sha256sum")
    if command is None:
        pytest.skip("no sha256sum on this machine")
    done = subprocess.run([command, "-c", "--strict", CHECKSUMS], cwd=released, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(FILES)


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
def test_the_released_data_are_the_audited_ones(released, name):
    data = io.read(released / name, schema=read_schema(released / "schema.yaml"))
    pd.testing.assert_frame_equal(data.table, table().table, check_exact=False, rtol=1e-12)
    assert len(data) == 40


def test_the_released_audit_is_the_public_one(released):
    assert Audit.load(released / "audit.json").to_json() == public(passed(table())).to_json()
    assert "0.77123" not in (released / "audit.json").read_text()


def test_every_text_says_that_the_data_are_synthetic(released):
    for name in ("DATASHEET.md", "report.html", "report.md", "schema.yaml", "audit.json"):
        assert "synthetic" in (released / name).read_text(encoding="utf-8").lower()


def test_the_datasheet_has_the_sections_of_gebru_et_al(released):
    text = (released / "DATASHEET.md").read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "Motivation",
        "Composition",
        "How the data were made",
        "How the data were attacked and judged",
        "Uses",
        "Distribution",
        "Maintenance",
    ]
    assert "**These data are synthetic.**" in text
    assert text.count("Licence: CC BY 4.0") == 2
    for told in ("research-share", "ab" * 32, "diffusion", "Identifiers, made up: patient.", "at baseline \\| rounded"):
        assert told in text
    for finding in example_audit().findings:
        assert finding.question in text


def test_the_datasheet_asks_for_what_only_the_publisher_knows():
    data = table()
    assert f"Licence: {TO_FILL}" in datasheet(passed(data), data.schema)


@pytest.mark.parametrize("outcome", ["REFUSE", "REVIEW"])
def test_no_other_decision_releases(tmp_path, outcome):
    data = table()
    with pytest.raises(ReleaseRefused, match=f"the decision is {outcome}.*membership"):
        release(passed(data, outcome), data, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "NOT_RUN"])
def test_a_record_whose_decision_contradicts_its_findings_is_refused(tmp_path, verdict):
    data = table()
    audited = passed(data)
    findings = tuple(
        dataclasses.replace(f, verdict=verdict) if f.check == "membership" else f for f in audited.findings
    )
    edited = dataclasses.replace(audited, findings=findings)
    with pytest.raises(ReleaseRefused, match=r"contradicts itself.*membership"):
        release(edited, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_data_than_the_audited_are_refused(tmp_path):
    data = table()
    changed = data.table.copy()
    changed.loc[7, "dose"] = changed["dose"].max() + 1
    for other in (dataclasses.replace(data, table=changed), data.take(np.arange(39)), table(seed=4)):
        with pytest.raises(ReleaseRefused, match="fingerprint"):
            release(passed(data), other, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_was_not_audited_is_refused(tmp_path):
    data = table()
    schema = TableSchema((*data.schema.columns, Column("note", "text")))
    more = TableData(data.table.assign(note=pd.Series(["x"] * 40, dtype=object)), schema)
    with pytest.raises(ReleaseRefused, match="1 columns were not audited: note"):
        release(passed(data), more, tmp_path / "out")


def test_the_order_of_columns_does_not_matter(tmp_path):
    data = table()
    turned = TableData(data.table[list(data.table)[::-1]], dataclasses.replace(SCHEMA, columns=SCHEMA.columns[::-1]))
    verify(release(passed(data), turned, tmp_path / "out"))


def test_nothing_is_overwritten_without_force(tmp_path):
    data, folder = table(), tmp_path / "out"
    release(passed(data), data, folder)
    with pytest.raises(UsageError, match="exists"):
        release(passed(data), data, folder)
    again = table(seed=9)
    release(passed(again), again, folder, force=True)
    verify(folder)
    assert "SYN-900000" in (folder / "data.csv").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_only_a_release(tmp_path):
    data = table()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a release"):
        release(passed(data), data, tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="exists"):
        release(passed(data), data, tmp_path / "link", force=True)


@pytest.mark.parametrize(
    "victim", ["data.parquet", "audit.json", "report.html", "DATASHEET.md", CHECKSUMS, "fsync", "rename"]
)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch, victim, earlier):
    data, folder = table(), tmp_path / "deep" / "out"
    if earlier:
        release(passed(data), data, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if earlier else None
    other = table(seed=9)
    _fail_at(monkeypatch, victim)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        release(passed(other), other, folder, force=True)
    monkeypatch.undo()
    if earlier:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir()] == ["out"]
        verify(folder)
    else:
        assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    data = table()
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        release(passed(data), data, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_parent_is_a_problem_of_the_environment(tmp_path):
    (tmp_path / "file").write_text("")
    data = table()
    with pytest.raises(EnvironmentProblem, match="cannot write the release"):
        release(passed(data), data, tmp_path / "file" / "out")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found_in_every_file(released, tmp_path, name):
    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    whole = (copy / name).read_bytes()
    for place in {0, len(whole) // 2, len(whole) - 1}:
        (copy / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=f"'{name}' is not the file that was released"):
            verify(copy)
    (copy / name).write_bytes(whole)
    verify(copy)


def test_any_flipped_bit_of_the_checksums_is_found(released, tmp_path):
    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    whole = (copy / CHECKSUMS).read_bytes()
    for place in range(len(whole)):
        bit = 1 if place % 3 else 32  # 32 turns lower into upper case
        (copy / CHECKSUMS).write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        with pytest.raises(DataError):
            verify(copy)


def test_a_missing_file_an_added_file_and_an_added_folder_are_named(released, tmp_path):
    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    (copy / "data.csv").unlink()
    with pytest.raises(DataError, match=r"lacks 'data.csv'"):
        verify(copy)
    copy = Path(shutil.copytree(released, tmp_path / "other"))
    (copy / "sub").mkdir()
    (copy / "sub" / "weights.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds 'sub/weights.bin'"):
        verify(copy)


def test_leaving_a_file_out_of_the_checksums_does_not_hide_it(released, tmp_path):
    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    lines = (copy / CHECKSUMS).read_text().splitlines(keepends=True)
    (copy / CHECKSUMS).write_text("".join(line for line in lines if "audit.json" not in line))
    with pytest.raises(DataError, match=r"'audit.json', which CHECKSUMS.sha256 does not list"):
        verify(copy)
    (copy / "audit.json").unlink()
    with pytest.raises(DataError, match=r"lacks 'audit.json'"):
        verify(copy)


def test_a_folder_with_right_checksums_and_another_decision_is_refused(released, tmp_path):
    from synthgen import releasing as module

    copy = Path(shutil.copytree(released, tmp_path / "copy"))
    passed(table(), "REFUSE").save(copy)
    digests = {name: sha256_of(copy / name) for name in FILES}
    (copy / CHECKSUMS).write_text(module._checksum_text(digests))
    with pytest.raises(ReleaseRefused, match="REFUSE"):
        verify(copy)


def test_two_releases_of_one_audit_are_the_same_bytes(released, tmp_path):
    data = table()
    again = release(passed(data), data, tmp_path / "again", licence="CC BY 4.0")
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in released.iterdir()}


def test_no_planted_train_value_leaves_the_house(tmp_path):
    """A real audit of tables with an extreme, a rare level and an identifier that must not be told."""
    planted = ("987654.25", "987,654", "987654", "Zebra-Planted", "PAT-55501")
    train, holdout, synthetic = (_cohort(seed, planted=seed == 1) for seed in (1, 2, 3))
    found = audit(train=train, holdout=holdout, synthetic=synthetic, seed=5, policy="internal")
    assert [f.check for f in found.findings if f.measurement], "some checks ran"
    may_go = dataclasses.replace(
        found,
        decision=dataclasses.replace(found.decision, outcome="RELEASE"),
        findings=tuple(dataclasses.replace(f, required=False) for f in found.findings),
    )
    folder = release(may_go, synthetic, tmp_path / "out")
    for path in folder.iterdir():
        content = path.read_bytes()
        for value in planted:
            assert value.encode() not in content, f"{path.name} tells a value of train"
    verify(folder)


def _cohort(seed: int, *, planted: bool, rows: int = 150) -> TableData:
    rng = np.random.default_rng(seed)
    schema = TableSchema(
        (
            Column("patient", "identifier", roles=("patient",)),
            Column("age", "integer"),
            Column("lab", "real"),
            Column("diagnosis", "categorical"),
            Column("died", "boolean", roles=("target",)),
        )
    )
    frame = pd.DataFrame(
        {
            "patient": pd.Series([f"PAT-{seed}{i:04d}" for i in range(rows)], dtype=object),
            "age": rng.integers(18, 90, rows).astype(float),
            "lab": rng.lognormal(size=rows),
            "diagnosis": pd.Series(rng.choice(["A", "B", "C"], rows), dtype=object),
            "died": rng.integers(0, 2, rows).astype(float),
        }
    )
    if planted:
        frame.loc[3, ["patient", "lab", "diagnosis"]] = ["PAT-55501", 987654.25, "Zebra-Planted"]
    return TableData(frame, schema)


def _fail_at(monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    """Let the disk be full when this file is written, or when the files are brought to disk or renamed into place."""
    full = OSError(28, "No space left on device")

    def failing(original, concerns):
        def call(*args, **kwargs):
            if concerns(*args):
                raise full
            return original(*args, **kwargs)

        return call

    if victim == "fsync":
        monkeypatch.setattr(os, "fsync", failing(os.fsync, lambda *args: True))
    elif victim == "rename":
        monkeypatch.setattr(Path, "rename", failing(Path.rename, lambda source, target: str(source).endswith(".part")))
    elif victim == "data.parquet":
        monkeypatch.setattr(parquet, "write_table", failing(parquet.write_table, lambda *args: True))
    else:
        concerned = failing(Path.write_text, lambda path, *args: victim in path.name)
        monkeypatch.setattr(Path, "write_text", concerned)

"""Are the notebooks of examples/ true? They run at toy size in a kernel; what is stored shows no patient or place."""

import importlib.util
import re
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

from synthgen import datasets

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "docs" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(notebook):
    """What a reader sees besides sources and pictures: texts and HTML without tags, by cell."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            said = output.get("text") or " ".join(v for kind, v in output["data"].items() if kind.startswith("text"))
            found[cell.id] = found.get(cell.id, "") + re.sub("<[^>]*>", " ", said)
    return found


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["audit_a_file", "share_a_cohort"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_what_the_tool_makes_and_no_more(path, tool):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert nbformat.writes(tool.stored(notebook)) == path.read_text().rstrip("\n"), "run: make notebooks"
    assert path.stat().st_size < 120_000
    assert sum(bool(cell.get("outputs")) for cell in notebook.cells) >= 6
    everything = path.read_text()
    assert not re.search(r"/(tmp|home|root|Users|work)/|iopub|shell\.execute|\d{4}-\d\d-\d\d|Traceback", everything)
    identifiers = set(datasets.load("actg175").table["pidnum"].astype(int).astype(str))
    assert not identifiers & set(
        re.findall(r"(?<![\d.])\d+(?![\d.])", " ".join(texts(notebook).values()).replace(",", ""))
    )


def test_the_stored_ones_say_what_their_words_say(tool):
    other, share = (texts(nbformat.read(path, as_version=4)) for path in NOTEBOOKS)
    assert any("✓ RELEASE" in text for text in share.values())
    assert any("DATASHEET.md" in text for text in share.values())
    assert any("✓ RELEASE" in text for text in other.values())
    assert any("✕ REFUSE" in text and "copies.neighbor" in text for text in other.values())


def test_they_run(tmp_path):
    """In a process of its own, since kernels leave sockets open when they end."""
    command = [sys.executable, ROOT / "docs" / "make_notebooks.py", "--toy-into", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for path in NOTEBOOKS:
        run, kept = (nbformat.read(folder / path.name, as_version=4) for folder in (tmp_path, path.parent))
        for fresh, old in zip(run.cells, kept.cells, strict=True):
            assert len(fresh.get("outputs", ())) == len(old.get("outputs", ())), f"{path.name}, {fresh.id}"
        if path.stem == "audit_a_file":
            assert any("✕ REFUSE" in text and "copies.neighbor" in text for text in texts(run).values())

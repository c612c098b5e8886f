"""The house: what importing costs, who prints, and which files are too long."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import synthgen

PACKAGE = Path(synthgen.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def modules_after(statement):
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import synthgen",
        "from synthgen.cli import cli\ntry: cli(['--help'])\nexcept SystemExit: pass",
        "import synthgen.auditing, synthgen.registry, synthgen.policy",
    ],
)
def test_heavy_libraries_are_imported_late(statement):
    assert not modules_after(statement) & {"torch", "pandas", "sklearn", "matplotlib", "monai", "sdv", "scipy"}


def test_public_names_are_sorted_and_resolve():
    assert synthgen.__all__ == sorted(synthgen.__all__)
    assert set(synthgen.__all__) == set(synthgen._HOME)
    for name in synthgen.__all__:
        assert getattr(synthgen, name) is not None
    with pytest.raises(AttributeError):
        synthgen.nothing  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_say_what_they_answer(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 400
    assert ast.get_docstring(tree), "a module's docstring says which question it answers"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.lineno + 1 - docstring.count("\n")
            assert lines <= 60, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_rng_makes_randomness(path):
    if path.name in ("rng.py", "sdv.py"):  # SDV draws from global state, which the adapter sets and restores
        return
    text = path.read_text()
    assert not re.search(r"np\.random\.(seed|default_rng|rand|normal)\b|torch\.manual_seed|random\.seed", text)


def test_policies_and_templates_are_packaged():
    assert len(list((PACKAGE / "policies").glob("*.yaml"))) == 3
    assert (PACKAGE / "py.typed").exists()

"""Documentation is true: every command and public name is documented, README and examples run, figures exist."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import synthgen
from synthgen.cli import cli

README = (ROOT / "README.md").read_text()


def test_cli_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_cli_reference", ROOT / "docs" / "make_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text() == module.reference(), "run: make docs"


def test_readme_names_every_command_and_exit_code():
    for name in cli.commands:
        assert f"synthgen {name}" in README
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert re.search(rf"^\| {code} \|", README, re.M)


def test_links_in_markdown_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_snippet_runs(tmp_path, monkeypatch):
    """The notebook snippet as it stands, at toy size: fewer steps, few rows."""
    monkeypatch.chdir(tmp_path)
    snippet = re.search(r"```python\n(.*?)```", README, re.S)[1]
    code = snippet.replace("max_seconds=120", "max_steps=30").replace(
        'sg.read("patients.csv", target="died")', "cohort_file()"
    )
    assert code.count("max_steps=30") == code.count("cohort_file()") == 1
    script = "import synthgen as sg\n\ndef cohort_file():\n    return sg.datasets.load('actg175')\n\n" + code
    Path("snippet.py").write_text(script)
    done = subprocess.run([sys.executable, "snippet.py"], capture_output=True, text=True)
    assert done.returncode == 0 or "ReleaseRefused" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("share_a_cohort.py", ("out", "30"), r"released: |refused: "),
        ("audit_another_tool.py", (), r"^REFUSE"),
        ("augment_imaging.py", ("5",), r"synthetic: (?s:.*)minus real: .* AUC, (helps|harms|no difference shown)"),
        ("dicom_in_and_out.py", ("out",), r"tables of the standard: 0\n(?s:.*): 0\n(?s:.*)was written: 0"),
        ("impute_and_balance.py", ("30",), r"after imputation: 0\n(?s:.*)500(?s:.*)150"),
    ],
)
def test_examples_run(tmp_path, name, arguments, expected):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout)


def test_every_example_is_in_this_file():
    text = Path(__file__).read_text()
    assert all(path.name in text for path in (ROOT / "examples").glob("*.py"))


def test_public_functions_and_classes_carry_docstrings():
    for path in sorted(Path(synthgen.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_changelog_and_version():
    assert (
        "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
        or synthgen.__version__ in (ROOT / "CHANGELOG.md").read_text()
    )

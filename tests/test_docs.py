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
from synthgen import registry
from synthgen.auditing import PRIVACY_FAMILIES
from synthgen.cli import cli
from synthgen.testing.leaks import LEAKS

README = (ROOT / "README.md").read_text()


def made_by(script):
    """The page that a script in docs/ writes, as it is and as it would be written now."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PATH.read_text(), module.reference()


@pytest.mark.parametrize("script", ["make_cli_reference", "make_api_reference"])
def test_references_are_up_to_date(script):
    there, made = made_by(script)
    assert there == made, "run: make docs"


def test_api_reference_has_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text()
    for name in synthgen.__all__:
        assert f"\n### synthgen.{name}\n" in text


def test_readme_names_every_command_and_exit_code():
    for name in cli.commands:
        assert f"synthgen {name}" in README
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert re.search(rf"^\| {code} \|", README, re.M)


PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md"))]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def anchors(page):
    """The anchors of a page's headings, as code hosts make them: equal ones are numbered."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    found, taken = set(), {}
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-")
        found.add(slug + (f"-{taken[slug]}" if slug in taken else ""))
        taken[slug] = taken.get(slug, 0) + 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        at = (page.parent / name).resolve() if name else page
        assert at.exists(), target
        assert at.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(at), target


def test_anchors_are_those_of_code_hosts(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `code`: two\n```sh\n# none\n```\n## a code two\n## [Link](x.md), 3\n")
    assert anchors(page) == {"a-code-two", "a-code-two-1", "link-3"}


def test_every_page_is_in_the_index_and_every_picture_is_small_and_shown():
    texts = {page: page.read_text() for page in PAGES}
    for page in (ROOT / "docs").glob("[!R]*.md"):
        assert f"({page.name})" in texts[ROOT / "docs" / "README.md"], page.name
    for picture in (ROOT / "docs").glob("*.png"):
        assert any(f"{picture.name})" in text for text in texts.values()), picture.name
        assert picture.stat().st_size < 250_000, picture.name


def test_every_check_is_explained_and_every_blind_spot_is_named():
    text = (ROOT / "docs" / "concepts.md").read_text()
    for name in registry.names("checks"):
        family = name.split(".")[0]
        assert f"`{name}`" in text or (family not in PRIVACY_FAMILIES and f"| `{family}` |" in text), name
    for case in LEAKS:
        assert case.demand is not None or f"*{case.name}*" in text, case.name


def test_exit_codes_in_the_shell_page_are_those_of_the_readme():
    page = (ROOT / "docs" / "shell.md").read_text()
    for code, meaning in re.findall(r"^\| (\d+) \| ([^:;(|]+)", README, re.M):
        assert re.search(rf"^\| {code} \| {re.escape(meaning.split(',')[0].strip())}", page, re.M), code


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

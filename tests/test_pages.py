"""Can the pages in docs/ be followed? Their commands and code run as they stand, at toy size, and print what they show.

Blocks run in order, in one folder for each page. What they may hold:

- `sh`: lines of `synthgen ...`, which may end in `> FILE`; `# exits with N` says that the exit code is N, not 0;
- `python`: code, in one namespace for each page; a last line that is an expression is shown, as in a notebook;
- `yaml` that begins with `# FILE`: the file is written; with `# in FILE`: its lines replace those with their key;
- `text` after one of these: each line was printed by it, whatever the numbers and the hash of a policy; a line of dots
  stands for any lines.

A second word after the language says that a block is not ours to run: `theirs` is code of another tool, `elsewhere` is
set up by hand. Toy sizes are replacements in the text of the page: each must be there.
"""

import ast
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from synthgen import image_features
from synthgen.cli import main
from synthgen.privacy import image_copies, registration
from synthgen.validators.image_detection import ImageDetection
from synthgen.validators.image_utility import ImageClassifier

_BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.S | re.M)
_NUMBER = re.compile(r"[-+]?(\d[\d,]*)?\.?\d+(e[-+]?\d+)?")
FEW = '("fidelity.columns", "structure.schema").__contains__'
TOY = {
    "tutorial_researcher.md": {"max_seconds: 60": "max_steps: 30", "rows: 4500": "rows: 1800"},
    "tutorial_data_steward.md": {"sample(4_000": "sample(1_500"},
    "tutorial_data_team.md": {"-n 600": "-n 110", "max_seconds=300": "max_steps=2", "steps=200": "steps=5"},
    "migrating.md": {
        "max_seconds=120": "max_steps=10",
        "max_seconds=600, size=32": "max_steps=2, size=16",
        'policy="internal", seed=7': f'policy="internal", seed=7, only={FEW}',
    },
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Networks of the checks of images, trained a little: what is tested here is that the commands can be followed."""
    monkeypatch.setattr(image_features, "STEPS", 10)
    monkeypatch.setattr(image_copies, "PLANTED", 20)
    monkeypatch.setattr(registration, "STEPS", 2)
    monkeypatch.setattr(ImageDetection.__init__, "__defaults__", (300, 3, 5, 25))
    monkeypatch.setattr(ImageClassifier.__init__, "__defaults__", (300, 5, 20))


@pytest.mark.parametrize("name", TOY)
def test_page_can_be_followed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / name).read_text()
    for full, toy in TOY[name].items():
        assert full in text, f"{name} lost {full!r}, of which a test makes {toy!r}"
        text = text.replace(full, toy)
    printed, names = "", {"__name__": "__main__"}
    for language, remark, body in _BLOCK.findall(text):
        if remark or language not in ("sh", "python", "yaml", "text"):
            assert remark in ("", "theirs", "elsewhere"), remark
        elif language == "text":
            shown(body, printed)
        elif language == "yaml":
            written(body)
        else:
            printed = followed(body) if language == "sh" else executed(body, names)


def test_a_page_that_shows_what_is_not_printed_is_found():
    with pytest.raises(AssertionError, match="Decision"):
        shown("...\nDecision: RELEASE\n", "Decision: REFUSE\n")
    shown("PASS 0.52 [0.49, 0.55]\n...\n", "x\nPASS 0.1 [-1e-3, 2]\n")


def followed(body):
    """Run the lines of a shell block; what they print, on stdout or stderr."""
    printed = []
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        target = words[words.index(">") + 1] if ">" in words else None
        arguments = words[1 : words.index(">") if target else None]
        assert words[0] == "synthgen", f"not a command of ours: {line}"
        wanted = re.search(r"# exits with (\d+)", line)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == int(wanted[1] if wanted else 0), f"{line}\n{out.getvalue()}{err.getvalue()}"
        if target:
            Path(target).write_text(out.getvalue())
        printed += ([] if target else [out.getvalue()]) + [err.getvalue()]
    return "".join(printed)


def executed(body, names):
    """Run Python code; what it prints, and the value of a last expression."""
    tree, printed = ast.parse(body), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exec(compile(tree, "page", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "page", "eval"), names) if last else None
        if value is not None:
            printed.write(f"{value}\n")
    return printed.getvalue()


def written(body):
    """Write a file, or change lines of one."""
    head, _, rest = body.partition("\n")
    place, inside, name = re.fullmatch(r"(# )(in )?([\w.]+)", head).groups()
    assert place
    if not inside:
        Path(name).write_text(body)
        return
    text = Path(name).read_text()
    for line in rest.splitlines():
        key = re.match(r"\s*[\w.]+:", line)[0]
        text, found = re.subn(rf"^{re.escape(key)}.*$", line.replace("\\", r"\\"), text, flags=re.M)
        assert found == 1, f"{name}: {key}"
    Path(name).write_text(text)


def shown(body, printed):
    """Each line was printed, whatever its numbers and the width of columns."""

    def plain(line):
        return re.sub(r"\s+", " ", _NUMBER.sub("#", re.sub(r"\([0-9a-f]{12}\)", "(#)", line))).strip()

    lines = {plain(line) for line in printed.splitlines()}
    for line in body.splitlines():
        if line.strip() not in ("", "..."):
            assert plain(line) in lines, f"not printed: {line}\n{printed}"

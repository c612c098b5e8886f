"""Run the notebooks of examples/ and store what their cells show; the tests run them at toy size.

Run it:  make notebooks

Stored are sources and outputs, and nothing of the run: no times, no counters, no paths.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).parents[1] / "examples"
LOADED, JUDGED = 'sg.datasets.load("actg175")', 'policy="internal"'  # once in each notebook
QUICK = {"contract", "copies.neighbor", "membership", "fidelity.columns"}  # the checks that notebooks look at
SHOWN = ("image/svg+xml", "image/png", "text/html", "text/plain")  # of one output the first there is, besides its text


def executed(path: Path, *, folder: Path, changes: Mapping[str, str] | None = None) -> nbformat.NotebookNode:
    """A notebook with the outputs of its cells, run in a folder.

    Args:
        path: of the notebook.
        folder: where its cells run and write.
        changes: pieces of source to replace, each of which must stand there once.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    for old, new in (changes or {}).items():
        holding = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
        assert len(holding) == holding[0].source.count(old) == 1, f"{old!r} stands once in {path.name}"
        holding[0].source = holding[0].source.replace(old, new)
    with tempfile.TemporaryDirectory() as place:  # of sockets, which need short names, and of the kernel's own files
        kernel = {"transport": "ipc", "ip": f"{place}/k", "connection_file": f"{place}/kernel.json"}
        client = NotebookClient(notebook, timeout=600, record_timing=False, config=Config(AsyncKernelManager=kernel))
        client.resources = {"metadata": {"path": str(folder)}}
        client.extra_arguments = ["--HistoryManager.enabled=False"]
        client.execute(env={**os.environ, "IPYTHONDIR": place, "JUPYTER_CONFIG_DIR": place})
    return notebook


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """What is kept of a notebook that was run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_plain(output) for output in cell.outputs]
    return notebook


def _plain(output: Any) -> Any:
    if "data" in output:
        richest = next(kind for kind in SHOWN if kind in output.data)
        output.data = nbformat.from_dict({kind: output.data[kind] for kind in dict.fromkeys((richest, "text/plain"))})
        output.metadata = nbformat.from_dict({})
    if "execution_count" in output:
        output.execution_count = None
    return output


def main() -> None:
    """Run all of them: at full size, which takes minutes, or at toy size into another folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--toy-into", type=Path, metavar="FOLDER", help="few patients and few checks, to see that it runs"
    )
    into, changes = parser.parse_args().toy_into, {}
    if into:
        changes = {LOADED: f"{LOADED}.take(range(1_000))", JUDGED: f"{JUDGED}, only={sorted(QUICK)}.__contains__"}
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(stored(executed(path, folder=Path(folder), changes=changes)), (into or EXAMPLES) / path.name)


if __name__ == "__main__":
    main()

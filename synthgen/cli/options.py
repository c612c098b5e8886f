"""What does a person see? The only place that prints: tables, progress, errors; and the options many commands share."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.errors import EnvironmentProblem, UsageError
from synthgen.interrupts import interruptible
from synthgen.protocols import Progress, Run

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.comparison import Comparison
    from synthgen.findings import Decision

COLOURS = {
    "PASS": "green",
    "FAIL": "red",
    "INCONCLUSIVE": "yellow",
    "NOT_RUN": "yellow",
    "NOT_JUDGED": "bright_black",
    "RELEASE": "bold green",
    "REFUSE": "bold red",
    "REVIEW": "bold yellow",
}

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, all else on stderr.")
force_option = click.option("--force", is_flag=True, help="Overwrite what is there.")
seed_option = click.option("--seed", type=click.IntRange(min=0), required=True, help="Equal seeds give equal bytes.")
set_option = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting; repeatable.")
encoding_option = click.option("--encoding", help="Of text files that are not UTF-8, such as latin-1.")
labels_option = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Table of labels of real images; by default labels.csv of their folder.",
)
unit_option = click.option(
    "--unit", type=click.Choice(["slice", "volume"]), default="slice", help="Of DICOM: frames, or series."
)
keep_best_option = click.option(
    "--keep-best", is_flag=True, help="Do not train on: take the best weights of the interrupted training."
)
track_option = click.option(
    "--track", metavar="NAME", help="Send losses to a tracker of accelerate, such as tensorboard or mlflow."
)
policy_option = click.option(
    "--policy", default="research-share", show_default=True, help="A shipped policy or a file."
)
ledger_option = click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SYNTHGEN_LEDGER",
    default=lambda: Path(click.get_app_dir("synthgen")) / "ledger.jsonl",
    show_default="ledger.jsonl in your folder of settings",
    help="Counts the audits of each holdout, by fingerprints: intervals grow with each.",
)


@dataclass(frozen=True)
class Tables:
    """Where the three tables of an audit are, and how to read them."""

    train: Path
    holdout: Path
    synthetic: Path
    schema: Path | None
    target: str | None
    patient: str | None
    encoding: str | None
    labels: Path | None
    unit: str


def tables_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name the tables of an audit; it gets them as one argument, `tables`."""
    path = click.Path(path_type=Path)
    options = (
        click.option("--train", required=True, type=path, help="What the generator learned from."),
        click.option("--holdout", required=True, type=path, help="Patients nobody trained on."),
        click.option("--synthetic", required=True, type=path, help="The table, or the images, to be shared."),
        click.option("--schema", type=path, help="Schema file; inferred from train when absent."),
        click.option("--target", help="Column that a model would predict."),
        click.option("--patient", help="Column whose equal values are one patient."),
        encoding_option,
        labels_option,
        unit_option,
    )

    @functools.wraps(command)
    def gathered(*arguments: Any, **values: Any) -> Any:
        tables = Tables(**{f.name: values.pop(f.name) for f in fields(Tables)})
        return command(*arguments, tables=tables, **values)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), gathered)


def leads() -> bool:
    """Is this the main process of those that `accelerate launch` started, or the only one?"""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str = "") -> None:
    """A line for a person, on stderr, so that stdout stays clean for results."""
    if leads():
        click.echo(text, err=True)


def show(text: str) -> None:
    """A result, on stdout."""
    click.echo(text)


def emit(data: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def fail(message: str) -> None:
    """An error, on stderr; without colour where NO_COLOR asks for that (rich heeds it by itself)."""
    plain = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style("Error: ", fg="red", bold=True, reset=True) + message, err=True, color=plain)


def show_audit(audit: Audit, *, decision: bool = True) -> None:
    """The findings as a table of question, answer, estimate, real holdout, threshold and verdict; then the decision."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False, header_style="bold", expand=False)
    for heading in ("question", "estimate [interval]", "real holdout", "threshold", "verdict"):
        table.add_column(heading, overflow="fold")
    for finding in audit.findings:
        measured = finding.measurement
        question = Text(finding.question, style="bold")
        answer = measured.answer if measured else finding.because
        if answer:
            question.append(f"\n{answer}", style="not bold")
        table.add_row(
            question,
            str(measured.statistic) if measured else "",
            str(measured.control) if measured and measured.control else "",
            finding.threshold,
            Text(finding.verdict.replace("_", " "), style=COLOURS[finding.verdict]),
        )
    _console().print(table)
    if decision:
        show_decision(audit.decision, audit.policy)


def show_decision(decision: Decision, policy: Mapping[str, str]) -> None:
    """The decision under a policy, and why."""
    from rich.text import Text

    console, outcome = _console(), Text(decision.outcome, style=COLOURS[decision.outcome])
    console.print(Text(f"Decision under policy {policy['name']!r} ({policy['hash'][:12]}): ") + outcome)
    for reason in decision.reasons:
        console.print(Text(f"  - {reason}"))


def show_comparison(comparison: Comparison) -> None:
    """Checks in rows, audits in columns: decisions on top, then verdict and estimate of each check, then the notes."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", *comparison.audits, show_lines=False, header_style="bold", expand=False)
    outcomes = [audit.decision.outcome for audit in comparison.audits.values()]
    table.add_row(Text("decision", style="bold"), *(Text(outcome, style=COLOURS[outcome]) for outcome in outcomes))
    for name, texts in comparison.facts:
        table.add_row(name, *texts)
    table.add_section()
    for row in comparison.rows:
        cells = [Text("not asked", style="bright_black")] * len(row.findings)
        for place, finding in enumerate(row.findings.values()):
            if finding is not None:
                cells[place] = Text(finding.verdict.replace("_", " "), style=COLOURS[finding.verdict])
                cells[place].append(
                    f"\n{finding.measurement.statistic}" if finding.measurement else "", style="default"
                )
        table.add_row(Text(row.question) + Text(f"\n{row.check}", style="bright_black"), *cells)
    _console().print(table)
    for note in comparison.notes:
        show(note)


def show_rows(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A plain table on stdout."""
    from rich.table import Table

    table = Table(*headings, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


@contextmanager
def job() -> Iterator[Run]:
    """A Run whose progress is drawn on stderr and which Ctrl-C stops at the next step, with a checkpoint.

    Of several processes that train together only the main one draws.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    bars = Bars(*columns, console=_console(stderr=True), transient=False, disable=not leads())
    with interruptible(say) as stopped, bars:
        yield Run(progress=_drawing(bars), stop=stopped)


def _drawing(bars: Any) -> Callable[[Progress], None]:
    """One bar per stage; the checks of an audit share one."""
    tasks: dict[str, Any] = {}

    def progress(event: Progress) -> None:
        key = re.sub(r"\bchecks?( .*)?$", "check", event.stage)
        if key not in tasks:
            tasks[key] = bars.add_task(event.stage, total=event.total, figures="")
        bars.update(tasks[key], completed=event.done, total=event.total, description=event.stage)
        if event.metrics:
            figures = (f"{name} {value:.4g}" for name, value in list(event.metrics.items())[:2])
            bars.update(tasks[key], figures="  ".join(figures))

    return progress


def require_absent(path: Path, *, force: bool) -> None:
    """Nothing is overwritten without --force.

    Raises:
        UsageError: something is there.
    """
    if path.exists() and not force:
        raise UsageError(f"{path.name!r} already exists: add --force to overwrite it, or choose another name")


def make_parent(path: Path) -> None:
    """Make the folder that an output goes into.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make the folder of {path.name!r}: {error.strerror}") from error


def configure_logging() -> None:
    """Warnings of the library go to stderr, one line each."""
    logging.basicConfig(handlers=[_ToPerson()], level=logging.WARNING, format="%(levelname)s: %(message)s")


class _ToPerson(logging.Handler):
    """Asks for stderr at each line, so that a line and the progress bar do not overwrite each other."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = 140
    return console

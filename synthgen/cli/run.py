"""Commands that train: init, run, fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.cli import options
from synthgen.errors import UsageError

if TYPE_CHECKING:
    from synthgen.config import Study
    from synthgen.data import TableData
    from synthgen.images import ImageData
    from synthgen.protocols import Generator
    from synthgen.study import Outcome


@click.command()
@click.argument("kind", type=click.Choice(["table", "images", "cohort"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("study.yaml"), show_default=True)
@options.force_option
def init(kind: str, output: Path, force: bool) -> None:
    """Write a commented study.yaml to fill in."""
    from synthgen.config import study_template

    options.require_absent(output, force=force)
    _write_text(output, study_template(kind))
    options.say(f"wrote {output}: fill in where the data are, then: synthgen run {output} -o RUN --dry-run")


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder; by default the study's name.")
@options.set_option
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@options.keep_best_option
@options.track_option
@options.ledger_option
@click.option("--dry-run", is_flag=True, help="Show the resolved job, its size and a memory estimate; do nothing.")
@options.json_option
@click.pass_context
def run(
    context: click.Context,
    study: Path,
    output: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    keep_best: bool,
    track: str | None,
    ledger: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """The whole job on your own table, images, or both of one cohort: read, split, fit, sample, audit, decide, release.

    Where the study lists several generators each is fitted, patients held back from train rank them, each is audited in
    that order as one more audit of the holdout, and the first that passes is released. Exits with 3 if none passes, or
    with 4 if one of them is for a person to review.

    --set a.b=c overrides a key of the study, such as --set generator.settings.max_seconds=60.
    """
    from synthgen.config import load_study
    from synthgen.study import plan_study

    chosen = load_study(study, overrides=settings)
    if dry_run:
        _show_plan(plan_study(chosen).to_json(), as_json=as_json)
        return
    folder = output or Path(study.stem + "-run")
    resume = resume or keep_best
    outcome = run_job(chosen, folder, resume=resume, keep_best=keep_best, track=track, ledger=ledger)
    finish(context, outcome, as_json=as_json)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--generator", default="diffusion", show_default=True, help="See: synthgen list generators.")
@options.seed_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Model folder.")
@click.option("--schema", type=click.Path(path_type=Path), help="Schema file; inferred when absent.")
@click.option("--target", help="Column that a model would predict.")
@click.option("--patient", help="Column whose equal values are one patient.")
@options.encoding_option
@options.labels_option
@options.unit_option
@click.option("--max-seconds", type=click.FloatRange(min=1), help="Training time, where the generator has a budget.")
@options.set_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoints beside the model folder.")
@options.keep_best_option
@options.track_option
@options.force_option
def fit(
    data: Path,
    generator: str,
    seed: int,
    output: Path,
    schema: Path | None,
    target: str | None,
    patient: str | None,
    encoding: str | None,
    labels: Path | None,
    unit: str,
    max_seconds: float | None,
    settings: tuple[str, ...],
    resume: bool,
    keep_best: bool,
    track: str | None,
    force: bool,
) -> None:
    """Train a generator on the whole of DATA and write a model folder.

    DATA is a table, or for a generator of images a folder, DICOMDIR, zip or tar of DICOM objects or pictures, or an
    .npz in MedMNIST's layout.

    Keep a holdout out of DATA: an audit needs patients that the generator never saw. Beside the model the folder gets
    metrics.jsonl (losses and time) and cost.json (seconds, device, energy if the extra energy is installed).

    Ctrl-C stops with a checkpoint: --resume goes on from it, --keep-best makes a model of the best weights so far.
    """
    from synthgen import registry
    from synthgen.config import parse_setting
    from synthgen.cost import COST
    from synthgen.metrics import METRICS

    options.require_absent(output, force=force)
    _require_replaceable(output)
    chosen = dict(parse_setting(text) for text in settings)
    chosen |= {} if max_seconds is None else {"max_seconds": max_seconds}
    model = registry.create("generators", generator, chosen)
    train: TableData | ImageData
    if registry.learns(model) == "image":
        named = any((schema, patient, encoding))
        train = _read_images(data, labels=labels, target=target, unit=unit, as_table=named)
    else:
        train = _read_table(data, schema=schema, target=target, patient=patient, encoding=encoding)
    checkpoints = output.with_name(output.name + ".checkpoints")
    if keep_best and not checkpoints.exists():
        raise UsageError(f"--keep-best: there is no interrupted training of {output.name!r}")
    if options.leads() and checkpoints.exists() and not (resume or keep_best):
        if not force:
            raise UsageError(
                f"there is an interrupted training of {output.name!r}: --resume goes on with it, --keep-best takes its "
                "best weights, --force begins anew"
            )
        _remove(checkpoints)
    fitted = _fitted(model, train, checkpoints, seed=seed, resume=resume or keep_best, keep_best=keep_best, track=track)
    if not options.leads():
        return
    part = output.with_name(f".{output.name}.part")
    try:
        fitted.save(part)  # whole, before an earlier model goes
        for name in (METRICS, COST):
            if (checkpoints / name).exists():
                (checkpoints / name).replace(part / name)
        _clear(output, force=force)
        part.rename(output)
    finally:
        _remove(part)
    _remove(checkpoints)
    options.say(f"model: {output}")


def _read_table(
    data: Path, *, schema: Path | None, target: str | None, patient: str | None, encoding: str | None
) -> TableData:
    from synthgen.evidence import require_patients
    from synthgen.io import read

    train = read(data, schema=schema, target=target, patient=patient, encoding=encoding)
    require_patients(train, data.name)
    _say_unlearned(train)
    return train


def _read_images(data: Path, *, labels: Path | None, target: str | None, unit: Any, as_table: bool) -> ImageData:
    from synthgen.image_io import read_images

    if as_table:
        raise UsageError("--schema, --patient and --encoding are for tables; images have --labels")
    with options.job() as run:
        return read_images(data, labels=labels, target=target, unit=unit, run=run)


def _fitted(
    model: Generator, train: Any, folder: Path, *, seed: int, resume: bool, keep_best: bool, track: str | None
) -> Generator:
    """Train, with checkpoints, figures and cost in a folder."""
    from dataclasses import replace

    from synthgen.cost import COST, measured
    from synthgen.metrics import METRICS, recorded, tracked

    threads, logs = getattr(model, "threads", None), folder.with_suffix(".track")
    with options.job() as job, tracked(track, logs, job.progress) as progress:
        run = replace(job, folder=folder, resume=resume, progress=progress)
        if keep_best:
            run = replace(run, stop=lambda: True, on_stop="keep")
        if not options.leads():
            return model.fit(train, seed=seed, run=run)
        run = replace(run, progress=recorded(folder / METRICS, progress))
        with measured(folder / COST, threads=threads):
            return model.fit(train, seed=seed, run=run)


def run_job(
    study: Study,
    folder: Path,
    *,
    data: Any = None,
    resume: bool = False,
    keep_best: bool = False,
    track: str | None = None,
    ledger: Path | None = None,
) -> Outcome:
    """Do the whole job of a study, drawing its progress."""
    from dataclasses import replace

    from synthgen.metrics import tracked
    from synthgen.stages import read_study_data, records_of
    from synthgen.study import run_study

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes can train together, but not audit: launch synthgen fit, then sample, audit")
    if keep_best and not [*folder.glob("checkpoints"), *folder.glob("generators/*/checkpoints")]:
        raise UsageError(f"--keep-best: {folder.name!r} holds no interrupted training")
    with options.job() as job, tracked(track, folder / "track", job.progress) as progress:
        run = replace(job, progress=progress)
        train, holdout = data or read_study_data(study, run=run)
        _say_unlearned(records_of(train))
        data = (train, holdout)
        return run_study(study, folder, data=data, resume=resume, keep_best=keep_best, ledger=ledger, run=run)


def finish(context: click.Context, outcome: Outcome, *, as_json: bool) -> None:
    """Show the decision and where everything lies; exit by the decision."""
    if as_json:
        options.emit(outcome_json(outcome))
    else:
        show_outcome(outcome)
    context.exit(outcome.decision.exit_code)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """What a job left behind, as plain data."""
    released = str(outcome.release) if outcome.release else None
    places = {"report": str(outcome.report), "release": released}
    return {**(outcome.selection or outcome.audit).to_json(), **places}


def show_outcome(outcome: Outcome) -> None:
    """The findings, the decision, and where everything lies."""
    if outcome.selection:
        options.show_comparison(outcome.selection.comparison)
        options.show_decision(outcome.decision, outcome.audit.policy)
    else:
        options.show_audit(outcome.audit)
    options.show(f"report:  {outcome.report}")
    options.show(f"release: {outcome.release or 'none'}")


def _show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        options.emit(plan)
        return
    import yaml

    options.show(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True).rstrip())


def _say_unlearned(train: Any) -> None:
    minted = [c.name for c in train.schema.identifiers]
    dropped = [c.name for c in train.schema.columns if c.kind == "text"]
    if minted:
        options.say(f"identifiers, minted anew: {', '.join(minted)}")
    if dropped:
        options.say(f"free text, dropped: {', '.join(dropped)}")


def _write_text(path: Path, text: str) -> None:
    from synthgen.errors import EnvironmentProblem

    options.make_parent(path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path.name!r}: {error.strerror}") from error


def _clear(path: Path, *, force: bool) -> None:
    """Make room for an output: --force removes an earlier model or run, never any other folder."""
    options.require_absent(path, force=force)
    _require_replaceable(path)
    _remove(path)


def _require_replaceable(path: Path) -> None:
    if path.exists() and not (path / "manifest.json").is_file():
        raise UsageError(f"{path.name!r} is neither a model nor a run, so --force does not remove it")


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()

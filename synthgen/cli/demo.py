"""What does synthgen do, shown on data that it brings? The whole job on a table, and on patients with their images."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from synthgen.cli import options
from synthgen.cli.run import finish, outcome_json, run_job, show_outcome
from synthgen.errors import UsageError

_TABLE, _COHORT = "table", "cohort"
_PATIENTS = 1_000  # of the phantom cohort
_SIZE = 32  # pixels


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("synthgen-demo"), show_default=True)
@click.option(
    "--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Equal seeds and steps, equal bytes."
)
@click.option(
    "--max-seconds", type=click.FloatRange(min=1), default=20, show_default=True, help="Training time, of the trial."
)
@click.option("--policy", default="internal", show_default=True, help="A shipped policy or a file.")
@click.option("--table-only", is_flag=True, help="The trial alone, without images.")
@options.force_option
@options.json_option
@click.pass_context
def demo(
    context: click.Context,
    output: Path,
    seed: int,
    max_seconds: float,
    policy: str,
    table_only: bool,
    force: bool,
    as_json: bool,
) -> None:
    """The whole job twice: on a real trial of 2,139 HIV patients, and on drawn patients with radiographs.

    The output gets a run of the trial, table/, and one of the cohort, cohort/, whose release holds patients.csv and
    DICOM objects with headers that say what the records say. Takes three to four minutes on two cores.

    The policy is internal: 642 holdout patients are too few for research-share to pass reliably, whatever the
    generator. Try --policy research-share to see an audit that asks for more patients.
    """
    from synthgen import datasets
    from synthgen.config import study_from_mapping
    from synthgen.phantom import phantom_cohort

    _clear(output, force=force)
    study = study_from_mapping(
        {
            "data": {"table": "actg175"},
            "generator": {"name": "diffusion", "settings": {"max_seconds": max_seconds}},
            "policy": policy,
            "seed": seed,
        }
    )
    options.say(datasets.DATASETS["actg175"].title)
    data = datasets.load("actg175").split_by_patient(holdout=study.split.holdout, seed=study.seed)
    table = run_job(study, output / _TABLE, data=data)
    if table_only:
        finish(context, table, as_json=as_json)
    if not as_json:
        show_outcome(table)
    study = study_from_mapping(
        {
            "data": {"table": "phantom", "images": "phantom"},
            "images": {
                "finding": "finding",
                "condition_on": ["finding"],  # 700 patients are few: by sex and age too, a class would have 30 of them
                "generator": {"name": "image-pca", "settings": {"size": _SIZE}},
            },
            "generator": {"name": "copula"},
            "policy": policy,
            "seed": seed,
        }
    )
    options.say(f"a cohort that was drawn: {_PATIENTS:,} patients with a radiograph each, by fast generators")
    patients = phantom_cohort(_PATIENTS, seed=seed, size=_SIZE)
    cohort = run_job(
        study, output / _COHORT, data=patients.split_by_patient(holdout=study.split.holdout, seed=study.seed)
    )
    if as_json:
        options.emit({_TABLE: outcome_json(table), _COHORT: outcome_json(cohort)})
    else:
        show_outcome(cohort)
    codes = [one.audit.decision.exit_code for one in (table, cohort)]
    context.exit(3 if 3 in codes else max(codes))


def _clear(output: Path, *, force: bool) -> None:
    """Make room: --force removes an earlier demo, never any other folder."""
    options.require_absent(output, force=force)
    if not output.exists():
        return
    inside = [*output.iterdir()] if output.is_dir() else [output]
    runs = [path for path in inside if path.name in (_TABLE, _COHORT) and (path / "manifest.json").is_file()]
    if inside != runs and not (output / "manifest.json").is_file():
        raise UsageError(f"{output.name!r} is neither a model nor a run, so --force does not remove it")
    shutil.rmtree(output)

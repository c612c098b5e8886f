"""Where do the figures of a long job go? Into metrics.jsonl, and to a tracker if one was asked for; to nobody else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from synthgen.errors import EnvironmentProblem, UsageError, suggest
from synthgen.protocols import Progress

METRICS = "metrics.jsonl"
TRACKERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb")


def recorded(path: Path, tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    r"""Pass events on, and add those with figures as lines to a file.

    A resumed job adds to the file: where a step stands twice, the later line counts.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recorded(Path(folder) / METRICS, print)(Progress("training", 5, 9, {"validation_loss": 0.5}))
    ...     (Path(folder) / METRICS).read_text()
    Progress(stage='training', done=5, total=9, metrics={'validation_loss': 0.5})
    '{"stage": "training", "done": 5, "total": 9, "validation_loss": 0.5}\n'
    """

    def progress(event: Progress) -> None:
        if event.metrics:
            line = {"stage": event.stage, "done": event.done, "total": event.total, **event.metrics}
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
            except OSError as error:
                raise EnvironmentProblem(f"cannot write {path.name}: {error.strerror}") from error
        tell(event)

    return progress


@contextmanager
def tracked(
    tracker: str | None, folder: Path, tell: Callable[[Progress], None]
) -> Iterator[Callable[[Progress], None]]:
    """Pass events on, and their figures to one of accelerate's trackers: numbers of a training, never of a patient.

    Args:
        tracker: its name; None: no tracker.
        folder: for trackers that write files.
        tell: gets every event.

    Raises:
        UsageError: accelerate has no such tracker.
        EnvironmentProblem: accelerate or the tracker is not installed.
    """
    if tracker is None:
        yield tell
        return
    if tracker not in TRACKERS:
        raise UsageError(f"no tracker {tracker!r}: {suggest(tracker, TRACKERS)}")
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise EnvironmentProblem("tracking needs the extra track: pip install 'synthgen-health[track]'") from error
    from synthgen.generators.team import team

    cpu = team().device.startswith("cpu")  # accelerate refuses to be set up in two ways
    with warnings.catch_warnings(action="ignore"):  # what it warns of is an error below
        accelerator = Accelerator(log_with=tracker, project_dir=str(folder), cpu=cpu)
    if not accelerator.log_with:
        raise EnvironmentProblem(f"the tracker {tracker!r} is not installed: pip install {tracker.replace('_', '-')}")
    accelerator.init_trackers("synthgen")

    def progress(event: Progress) -> None:
        if event.metrics:
            accelerator.log({f"{event.stage}/{k}": float(v) for k, v in event.metrics.items()}, step=event.done)
        tell(event)

    try:
        yield progress
    finally:
        accelerator.end_training()

"""What did a training cost? Seconds, device and threads; energy too where the extra `energy` is installed.

The figures differ between two runs that give the same bytes otherwise, so they stand in a file of their own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthgen.errors import EnvironmentProblem

COST = "cost.json"


@contextmanager
def measured(path: Path, *, threads: int | None = None) -> Iterator[None]:
    """Write what the enclosed work cost into a file, added to what an interrupted part of the same work wrote there.

    Args:
        path: of the file; its folder is made.
        threads: that the work was given; None: as torch is set.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with measured(Path(folder) / COST, threads=1):
    ...         time.sleep(0.01)
    ...     cost = json.loads((Path(folder) / COST).read_text())
    >>> cost["seconds"] > 0, cost["threads"]
    (True, 1)
    """
    started, energy, finished = time.monotonic(), _energy_meter(), False
    try:
        yield
        finished = True
    finally:
        used, spent = energy(), time.monotonic() - started
        if finished or path.parent.exists():  # work that failed at once leaves no folder
            _write(path, {"seconds": spent, "energy_kwh": used, **_machine(threads)})


def _write(path: Path, cost: dict[str, Any]) -> None:
    for name, value in _before(path).items():
        if name in ("seconds", "energy_kwh") and isinstance(value, float) and cost[name] is not None:
            cost[name] += value
    cost["seconds"] = round(cost["seconds"], 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path.name}: {error.strerror}") from error


def _before(path: Path) -> dict[str, Any]:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return before if isinstance(before, dict) else {}


def _machine(threads: int | None) -> dict[str, Any]:
    torch: Any = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
    known = threads or (torch.get_num_threads() if torch is not None else os.cpu_count())
    return {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "threads": known}


def _energy_meter() -> Callable[[], float | None]:
    """Starts codecarbon's offline tracker, which estimates the machine's energy and sends nothing anywhere."""
    try:
        with warnings.catch_warnings(action="ignore"):
            from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return lambda: None

    def stop() -> float | None:
        with warnings.catch_warnings(action="ignore"):
            tracker.stop()
        data = getattr(tracker, "final_emissions_data", None)
        return None if data is None else float(data.energy_consumed)

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):
        tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # it asks for one, to turn energy into emissions; these are not used
            save_to_file=False,
            save_to_api=False,
            save_to_logger=False,
            allow_multiple_runs=True,
            log_level="critical",
        )
        tracker.start()
    return stop

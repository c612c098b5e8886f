"""How many steps fit into a time budget? Time a few, and divide."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def affordable(
    step: Callable[[], object], evaluation: Callable[[], object], *, max_seconds: float, evaluations: int
) -> tuple[int, int]:
    """How many steps and evaluations fit into so many seconds, the timing itself included.

    Args:
        step: does one step and waits until it is done.
        evaluation: does one evaluation and waits until it is done.
        max_seconds: the whole budget.
        evaluations: at most so many; fewer where they would take a tenth of the budget.

    >>> affordable(lambda: time.sleep(0.01), lambda: None, max_seconds=0.3, evaluations=40)[1]
    40
    """
    started = time.monotonic()
    for _ in range(3):  # the first steps are slow: memory is allocated, kernels are chosen
        step()
    evaluation()
    evaluation_seconds, step_seconds = _seconds(evaluation), [_seconds(step) for _ in range(5)]
    while sum(step_seconds) < min(0.03 * max_seconds, 5.0):
        step_seconds.append(_seconds(step))
    evaluations = int(np.clip(0.1 * max_seconds / evaluation_seconds, 5, evaluations))
    left = max_seconds - (time.monotonic() - started) - evaluations * evaluation_seconds
    return max(10, int(left / np.median(step_seconds))), evaluations


def _seconds(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started

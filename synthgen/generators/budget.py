"""How many steps fit into a time budget? Time a few and divide; later plan fewer where the machine got slower."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

TOLERANCE = 1.1  # of the budget: an overrun by less changes no plan

clock = time.monotonic


def affordable(
    step: Callable[[], object],
    evaluation: Callable[[], object],
    *,
    max_seconds: float,
    evaluations: int,
    now: Callable[[], float] | None = None,
) -> tuple[int, int]:
    """How many steps and evaluations fit into so many seconds, the timing itself included.

    Args:
        step: does one step and waits until it is done.
        evaluation: does one evaluation and waits until it is done.
        max_seconds: the whole budget.
        evaluations: at most so many; fewer where they would take a tenth of the budget.
        now: reads a clock; several processes agree on what it says.

    >>> affordable(lambda: time.sleep(0.01), lambda: None, max_seconds=0.3, evaluations=40)[1]
    40
    """
    now = now or clock
    started = now()

    def seconds(action: Callable[[], object]) -> float:
        before = now()
        action()
        return now() - before

    for _ in range(3):  # the first steps are slow: memory is allocated, kernels are chosen
        step()
    evaluation()
    evaluation_seconds, step_seconds = max(seconds(evaluation), 1e-9), [seconds(step) for _ in range(5)]
    while sum(step_seconds) < min(0.03 * max_seconds, 5.0):
        step_seconds.append(seconds(step))
    evaluations = int(np.clip(0.1 * max_seconds / evaluation_seconds, 5, evaluations))
    left = max_seconds - (now() - started) - evaluations * evaluation_seconds
    return max(10, int(left / np.median(step_seconds))), evaluations


def replanned(*, planned: int, done: int, seconds: float, pace: float, max_seconds: float) -> int:
    """How many steps to take in all: fewer than planned where the budget would be overrun.

    Args:
        planned: steps, so far.
        done: steps.
        seconds: that these took.
        pace: seconds that a step takes lately, its share of an evaluation included.
        max_seconds: that all may take.

    >>> replanned(planned=400, done=100, seconds=26.0, pace=0.25, max_seconds=100.0)
    400
    >>> replanned(planned=400, done=100, seconds=50.0, pace=0.5, max_seconds=100.0)
    200
    >>> replanned(planned=400, done=300, seconds=120.0, pace=0.4, max_seconds=100.0)
    300
    """
    if seconds + pace * (planned - done) <= TOLERANCE * max_seconds:
        return planned
    return done + max(0, int((max_seconds - seconds) / pace))

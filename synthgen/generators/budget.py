"""How many steps fit into a time budget? Time a few and divide; later plan anew where the machine's pace changed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

TOLERANCE = 1.1  # of the budget: overrunning or leaving less changes no plan

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


def replanned(*, planned: int, done: int, most: int, seconds: float, pace: float, max_seconds: float) -> int:
    """How many steps to take in all: fewer than planned where the budget would be overrun, more where it would be left.

    More only in the first half, while the learning rate is still high.

    Args:
        planned: steps, so far.
        done: steps.
        most: steps, however much time is left.
        seconds: that the steps done took.
        pace: seconds that a step takes lately, its share of an evaluation included.
        max_seconds: that all may take.

    >>> replanned(planned=400, done=100, most=1_000, seconds=26.0, pace=0.25, max_seconds=100.0)
    400
    >>> replanned(planned=400, done=100, most=1_000, seconds=50.0, pace=0.5, max_seconds=100.0)
    200
    >>> replanned(planned=400, done=300, most=1_000, seconds=120.0, pace=0.4, max_seconds=100.0)
    300
    >>> replanned(planned=400, done=100, most=1_000, seconds=20.0, pace=0.1, max_seconds=100.0)
    900
    """
    expected = seconds + pace * (planned - done)
    if expected > TOLERANCE * max_seconds:
        return done + max(0, int((max_seconds - seconds) / pace))
    if expected * TOLERANCE < max_seconds and 2 * done < planned < most:
        return int(min(most, done + (max_seconds - seconds) / pace))
    return planned

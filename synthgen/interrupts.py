"""What does Ctrl-C do to a long job? Pressed once, it ends the job at the next step; pressed again, at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from synthgen.protocols import Run


@contextmanager
def interruptible(tell: Callable[[str], object]) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C was pressed; the second time raises KeyboardInterrupt.

    In a thread, or where somebody else already handles the signal, nothing changes.

    Args:
        tell: is given a line for the person who pressed it.

    >>> with interruptible(print) as pressed:
    ...     signal.raise_signal(signal.SIGINT)
    ...     pressed()
    Stopping at the next step; press Ctrl-C again to stop at once.
    True
    """
    times: list[int] = []

    def press(number: int, _frame: Any) -> None:
        if times:
            raise KeyboardInterrupt
        times.append(number)
        tell("Stopping at the next step; press Ctrl-C again to stop at once.")

    before = signal.getsignal(signal.SIGINT)
    theirs = before not in (signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)
    if theirs or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(times)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def keeping_the_best(run: Run, tell: Callable[[str], object]) -> Iterator[Run]:
    """A run that Ctrl-C ends with the best so far, unless it already has somebody to say when to stop.

    >>> with keeping_the_best(Run(), print) as run:
    ...     run.on_stop
    'keep'
    """
    if run.stop is not Run().stop:
        yield run
        return
    with interruptible(tell) as pressed:
        yield replace(run, stop=pressed, on_stop="keep")

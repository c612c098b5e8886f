"""How are many rows sampled? In chunks with seeds of their own, on all threads: one chunk each beats one for all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from synthgen.generators import training
from synthgen.protocols import Progress, Run


def in_chunks(
    fill: Callable[[int, np.ndarray], np.ndarray], rows: np.ndarray, *, size: int, device: torch.device, run: Run
) -> np.ndarray:
    """Replace each chunk of rows by what `fill` makes of it; a chunk is told its number, to seed itself.

    A chunk's rows do not depend on the number of threads, which is torch's on a CPU, and one on a GPU.

    Shape: rows (rows, tokens) -> the same.

    >>> in_chunks(
    ...     lambda number, part: part + number, np.zeros((5, 1), int), size=2, device=torch.device("cpu"), run=Run()
    ... ).T
    array([[0, 0, 1, 1, 2]])
    """
    starts, filled = range(0, len(rows), size), np.empty_like(rows)

    def part(number: int) -> np.ndarray:
        with torch.inference_mode():
            return fill(number, rows[starts[number] : starts[number] + size])

    workers = torch.get_num_threads() if device.type == "cpu" else 1
    with training.threads(1), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for start, made in zip(starts, pool.map(part, range(len(starts))), strict=True):
            filled[start : start + size] = made
            run.progress(Progress("sampling", min(start + size, len(rows)), len(rows)))
    return filled

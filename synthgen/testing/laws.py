"""What do both batteries ask? One law at a time, and which words of a data set must stand nowhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.data import TableData
from synthgen.errors import SynthgenError
from synthgen.schema import NUMERIC

if TYPE_CHECKING:
    import numpy as np

_RARE_PATIENTS = 5  # a level of fewer patients than this is never learned


def law(holds: bool | np.bool_, message: str) -> None:
    """Raise AssertionError with the message unless the law holds."""
    if not holds:
        raise AssertionError(message)


def refused(call: Callable[[], Any], kinds: tuple[type[SynthgenError], ...], what: str) -> str:
    """The message of the error that `call` must raise."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        call()
    except kinds as error:
        law(len(str(error)) > 10, f"{what}: the {expected} says nothing")
        return str(error)
    except Exception as error:
        raise AssertionError(f"{what} must raise {expected}, not {type(error).__name__}") from error
    raise AssertionError(f"{what} must raise {expected}; nothing was raised")


@contextmanager
def same_global_randomness(what: str) -> Iterator[None]:
    """Plug-ins draw from the seed they are given and leave the process's own random states as they found them."""
    import random

    import numpy as np

    def states() -> list[Any]:
        numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  the legacy state is what is guarded
        found = [random.getstate(), numpy_state["pos"], numpy_state["key"].tobytes()]
        return [*found, sys.modules["torch"].get_rng_state().numpy().tobytes()] if torch_loaded else found

    torch_loaded = "torch" in sys.modules
    before = states()
    yield
    law(states() == before, f"{what} changes the process's global random state; draw from the seed only")


def unique_texts(data: TableData) -> list[str]:
    """The identifiers and free texts of a data set."""
    hidden = [c.name for c in data.schema.columns if not c.learned and c.kind not in NUMERIC]
    return [str(value) for name in hidden for value in data.table[name].dropna() if len(str(value)) >= 4]


def levels(data: TableData) -> list[str]:
    """The levels of a data set that are long enough to be recognised in a text."""
    names = [c.name for c in data.schema.learned if c.kind in ("categorical", "code")]
    return [str(level) for name in names for level in data.table[name].dropna().unique() if len(str(level)) >= 3]


def rare_levels(data: TableData) -> list[str]:
    """Undeclared levels of so few patients that no generator may learn them."""
    import pandas as pd

    rare: list[str] = []
    for column in data.schema.learned:
        if column.kind in ("categorical", "code"):
            patients = pd.Series(data.patients).groupby(data.table[column.name]).nunique()
            few = [str(level) for level in patients.index[patients < _RARE_PATIENTS]]
            rare += [level for level in few if len(level) >= 4 and level not in (column.levels or ())]
    return rare


def extreme_values(data: TableData) -> set[float]:
    """Smallest and largest values of fine-grained columns, where single patients hold them.

    Whole numbers and numbers below one are left out: counts and shares in a model equal them by chance.
    """
    found: set[float] = set()
    for column in data.schema.learned:
        values = data.table[column.name]
        if column.kind == "real" and values.nunique() > 100:
            ends = {float(values.min()), float(values.max())} - {column.minimum, column.maximum}
            found |= {v for v in ends if abs(v) > 1 and v != round(v) and (values == v).sum() < _RARE_PATIENTS}
    return found


def named_in(text: str, secrets: Iterable[str]) -> int:
    """How many of the secrets stand in a text as words of their own."""
    found = (re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w])", text) for secret in set(secrets) if secret in text)
    return sum(match is not None for match in found)


def numbers_of(value: Any) -> Iterator[float]:
    """Every number in parsed JSON."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from numbers_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_of(item)
    elif isinstance(value, (int, float)):
        yield float(value)


def weights_of(path: Path) -> set[float]:
    """Every number of a safetensors file, at the precision of the tensors and rounded to five digits."""
    import numpy as np
    from safetensors.numpy import load_file

    held: set[float] = set()
    for array in load_file(path).values():
        numbers = np.unique(array.astype(np.float64))
        held |= set(numbers.tolist()) | (set(np.round(numbers, 5).tolist()) if array.dtype == np.float32 else set())
    return held

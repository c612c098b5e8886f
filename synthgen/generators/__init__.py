"""Generators make data: each learns from train once and samples any number of times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from synthgen import registry
from synthgen.errors import UsageError

if TYPE_CHECKING:
    from synthgen.protocols import Generator


def load_generator(folder: str | Path, *, trust: bool = False) -> Generator:
    """Load a model folder, whichever generator made it.

    Args:
        folder: a folder that a generator's `save` wrote.
        trust: also load a model that needs pickle, which can run any code; only for models you made yourself.

    Raises:
        DataError: not a model folder, or a damaged one.
        UsageError: a model that needs pickle, without `trust`.
    """
    from synthgen.generators.checkpoint import read_manifest

    kind = registry.find("generators", read_manifest(folder)["generator"])
    if getattr(kind, "needs_trust", False):
        if not trust:
            raise UsageError(
                f"a {kind.name} model is a pickle, which can run any code: --trust loads one you made yourself"
            )
        generator: Generator = kind.load(folder, trust=True)
        return generator
    plain: Generator = kind.load(Path(folder))
    return plain

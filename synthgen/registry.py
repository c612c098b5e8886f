"""Which generators and checks exist? Names from entry points, loaded late."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from synthgen.errors import UsageError, suggest

Group = Literal["generators", "checks"]


@cache
def _entries(group: Group) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"synthgen.{group}")}


def names(group: Group) -> list[str]:
    """The registered names of a group, sorted; nothing is imported.

    >>> "diffusion" in names("generators")
    True
    """
    return sorted(_entries(group))


def find(group: Group, name: str) -> Any:
    """Import and return the class registered under a name.

    Raises:
        UsageError: no such name; the message suggests the nearest one.
    """
    entries = _entries(group)
    if name not in entries:
        raise UsageError(f"no {group[:-1]} named {name!r}: {suggest(name, entries)}")
    return entries[name].load()


def create(group: Group, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Make a generator or check from its name and settings.

    >>> create("generators", "diffusion", {"max_steps": 10}).max_steps
    10

    Raises:
        UsageError: no such name, or a setting that it does not have.
    """
    factory = find(group, name)
    known = {f.name for f in dataclasses.fields(factory) if f.init} if dataclasses.is_dataclass(factory) else set()
    for key in settings or {}:
        if key not in known:
            raise UsageError(f"{name} has no setting {key!r}: {suggest(key, known)}")
    return factory(**(settings or {}))


def learns(generator: Any) -> Literal["table", "image"]:
    """What a generator, or its class, learns from: a `TableData`, or an `ImageData`.

    >>> learns(find("generators", "diffusion")), learns(find("generators", "image-pca"))
    ('table', 'image')
    """
    return getattr(generator, "modality", "table")

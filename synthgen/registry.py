"""Which generators and checks exist? Names from entry points, loaded late; and what is wrong with a broken plug-in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from synthgen.errors import ConfigError, EnvironmentProblem, SynthgenError, UsageError, suggest

Group = Literal["generators", "checks"]

_CONTRACT: Mapping[Group, tuple[str, ...]] = {
    "generators": ("name", "licence", "fit", "sample", "save", "load"),
    "checks": ("name", "question", "needs", "run"),
}


@cache
def _entries(group: Group) -> dict[str, tuple[EntryPoint, ...]]:
    """By name all packages that register it, so that none takes the place of another unseen."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=f"synthgen.{group}"):
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


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
        EnvironmentProblem: the package that registers it cannot be imported, or two packages register it.
    """
    entry = _entry(group, name)
    try:
        return entry.load()
    except SynthgenError:
        raise
    except Exception as error:  # whatever the code of a plug-in does while it is imported
        needs = isinstance(error, ModuleNotFoundError) and error.name and f"the module {error.name!r} is not installed"
        raise EnvironmentProblem(
            f"the {group[:-1]} {name!r} of the package {_package(entry)} cannot be imported: "
            f"{needs or type(error).__name__}; to see where: python -c 'from {entry.module} import {entry.attr}'"
        ) from error


def require(group: Group, wanted: Iterable[str], *, where: str) -> None:
    """Make sure, before a long job, that the names in a file are registered, and that those of plug-ins can be made.

    >>> require("checks", ["contract", "membership"], where="this policy")

    Raises:
        ConfigError: no such name; the message says where it stands and suggests the nearest one.
        EnvironmentProblem: a plug-in is broken.
    """
    known = _entries(group)
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"{where} names the {group[:-1]} {name!r}, which no installed package has: {suggest(name, known)}"
            )
        if not _is_ours(_entry(group, name)):
            create(group, name)


def create(group: Group, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Make a generator or check from its name and settings.

    >>> create("generators", "diffusion", {"max_steps": 10}).max_steps
    10

    Raises:
        UsageError: no such name, or a setting that it does not have.
        EnvironmentProblem: a plug-in that cannot be imported, or that lacks what its contract asks for.
    """
    factory = find(group, name)
    known = {f.name for f in dataclasses.fields(factory) if f.init} if dataclasses.is_dataclass(factory) else set()
    for key in settings or {}:
        if key not in known:
            raise UsageError(f"{name} has no setting {key!r}: {suggest(key, known)}")
    made = factory(**(settings or {}))
    missing = [part for part in _CONTRACT[group] if not hasattr(made, part)]
    if missing or made.name != name:
        problem = f"lacks {', '.join(missing)}" if missing else f"calls itself {made.name!r}"
        kind = group[:-1]
        raise EnvironmentProblem(
            f"the {kind} {name!r} of the package {_package(_entry(group, name))} {problem}; "
            f"synthgen.testing.check_{kind} says what a {kind} must be"
        )
    return made


def plugin_versions(group: Group, chosen: Iterable[str]) -> dict[str, str]:
    """The packages other than synthgen that register these names, with their versions: an audit records them.

    >>> plugin_versions("checks", ["contract"])
    {}
    """
    entries = [_entry(group, name) for name in chosen]
    return {e.dist.name: e.dist.version for e in entries if e.dist is not None and not _is_ours(e)}


def licence(group: Group, name: str) -> str:
    """Under which licence the code is that a name stands for, as its package states it.

    >>> licence("checks", "contract")
    'Apache-2.0'
    """
    entry = _entry(group, name)
    if entry.dist is None:
        return "not stated"
    stated = entry.dist.metadata
    return next((stated[key] for key in ("License-Expression", "License") if key in stated), "not stated")


def learns(generator: Any) -> Literal["table", "image"]:
    """What a generator, or its class, learns from: a `TableData`, or an `ImageData`.

    >>> learns(find("generators", "diffusion")), learns(find("generators", "image-pca"))
    ('table', 'image')
    """
    return getattr(generator, "modality", "table")


def _entry(group: Group, name: str) -> EntryPoint:
    entries = _entries(group)
    if name not in entries:
        raise UsageError(f"no {group[:-1]} named {name!r}: {suggest(name, entries)}")
    first, *others = entries[name]
    if any(entry.value != first.value for entry in others):
        packages = ", ".join(sorted({_package(entry) for entry in entries[name]}))
        raise EnvironmentProblem(f"several packages register the {group[:-1]} {name!r}: {packages}; keep one of them")
    return first


def _is_ours(entry: EntryPoint) -> bool:
    return entry.module.split(".")[0] == __name__.split(".")[0]


def _package(entry: EntryPoint) -> str:
    return repr(entry.dist.name) if entry.dist is not None else "that registers it"

"""What does a model folder hold, and how does a stopped training go on? safetensors and JSON, written atomically.

For every generator:

    save_model(folder, Model(generator="copula", settings={...}, schema=..., backend=..., seed=..., fingerprint=...,
                             codec=codec.to_json(), facts={...}, tensors={"correlation": array}))
    model = load_model(folder, generator="copula")      # DataError for any other, broken or altered folder

A folder is `manifest.json` and, where there are tensors, `weights.safetensors`. `save_state` and `load_state` keep a
training in one file, so that a kill at any moment leaves the last whole one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import synthgen
from synthgen.data import Backend
from synthgen.errors import DataError, EnvironmentProblem, SchemaError
from synthgen.rng import Seed
from synthgen.schema import TableSchema

FORMAT = 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "safetensors")


@dataclass(frozen=True)
class Model:
    """A fitted generator as values: everything that its folder holds."""

    generator: str  # registered name
    settings: Mapping[str, Any]
    schema: TableSchema  # of train
    backend: Backend
    seed: Seed  # of the fit
    fingerprint: str  # of train
    codec: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the training: steps, losses, notes
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)


def save_model(folder: str | Path, model: Model) -> None:
    """Write a model folder; equal models give equal bytes.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    folder = Path(folder)
    body = _manifest(model)
    with writing("the model folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
        if model.tensors:
            weights = save({name: np.ascontiguousarray(array) for name, array in model.tensors.items()})
            body["weights_sha256"] = hashlib.sha256(weights).hexdigest()
            replace_file(folder / WEIGHTS, weights)
        else:
            (folder / WEIGHTS).unlink(missing_ok=True)
        body["checksum"] = _checksum(body)
        replace_file(folder / MANIFEST, (json.dumps(body, indent=1, allow_nan=False) + "\n").encode())


def load_model(folder: str | Path, *, generator: str) -> Model:
    """Read a model folder back.

    Raises:
        DataError: no model folder, one of another generator, or one that is broken or was altered.
    """
    folder = Path(folder)
    body = read_manifest(folder)
    if body["generator"] != generator:
        raise DataError(f"the model folder {folder.name!r} was written by {body['generator']!r}, not by {generator!r}")
    try:
        return Model(
            generator=generator,
            settings=body["settings"],
            schema=TableSchema.from_mapping(body["schema"]),
            backend=_backend(body["backend"]),
            seed=Seed(body["seed"]["root"], tuple(body["seed"]["path"])),
            fingerprint=body["train_fingerprint"],
            codec=body["codec"],
            facts=body["training"],
            tensors=_weights(folder, body["weights_sha256"]),
        )
    except (KeyError, TypeError, ValueError, SchemaError) as error:
        raise _broken(folder, f"{MANIFEST} lacks a part") from error


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a model folder, after its checksum was verified: says which generator can load it.

    Raises:
        DataError: not a model folder, broken, or altered since it was written.
    """
    folder = Path(folder)
    try:
        body = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder.name!r} is not a model folder: it has no {MANIFEST}") from error
    except OSError as error:
        raise _unreadable(folder, error) from error
    except ValueError as error:
        raise _broken(folder, f"{MANIFEST} is not JSON") from error
    if not isinstance(body, dict) or body.get("checksum") != _checksum(body) or "generator" not in body:
        raise _broken(folder, f"{MANIFEST} was altered or cut short")
    if body.get("format") != FORMAT:
        raise DataError(
            f"the model folder {folder.name!r} has a format that this synthgen {synthgen.__version__} cannot read"
        )
    return body


def save_state(path: str | Path, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write the state of a training into one safetensors file, facts as JSON in its header; atomic.

    Raises:
        EnvironmentProblem: the file cannot be written; the one before it is kept.
    """
    path = Path(path)
    data = save(dict(tensors), metadata={"facts": json.dumps(facts)})
    with writing("the checkpoint folder", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)


def load_state(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Read what `save_state` wrote; None if there is no such file.

    Raises:
        DataError: the file is broken.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads((file.metadata() or {})["facts"])  # noqa: SIM118
    except OSError as error:
        raise _unreadable(path, error) from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"the checkpoint {path.name!r} is broken: remove it to train from the start") from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class writing:  # noqa: N801
    """Turn what the operating system says about a folder into a clear EnvironmentProblem.

    >>> with writing("the model folder", Path("models/trial")):
    ...     raise PermissionError(errno.EACCES, "Permission denied")
    Traceback (most recent call last):
    synthgen.errors.EnvironmentProblem: the model folder 'trial' cannot be written: no permission
    """

    def __init__(self, what: str, folder: Path) -> None:
        self.what, self.folder = what, folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            words = {
                errno.ENOSPC: "the disk is full",
                errno.EACCES: "no permission",
                errno.EROFS: "the disk is read-only",
            }
            reason = words.get(error.errno or 0, type(error).__name__)
            raise EnvironmentProblem(f"{self.what} {self.folder.name!r} cannot be written: {reason}") from error


def library_versions() -> dict[str, str]:
    """Versions of synthgen, Python and the libraries that results depend on.

    >>> sorted(library_versions())[:3]
    ['numpy', 'pandas', 'python']
    """
    versions = {"synthgen": synthgen.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _manifest(model: Model) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "generator": model.generator,
        "version": synthgen.__version__,
        "settings": dict(model.settings),
        "seed": {"root": model.seed.root, "path": list(model.seed.path)},
        "train_fingerprint": model.fingerprint,
        "backend": model.backend,
        "training": dict(model.facts),
        "versions": library_versions(),
        "weights_sha256": None,
        "schema": model.schema.to_mapping(),
        "codec": model.codec,
    }


def _checksum(body: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in body.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _weights(folder: Path, digest: str | None) -> dict[str, np.ndarray]:
    if digest is None:
        return {}
    try:
        if hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != digest:
            raise _broken(folder, f"{WEIGHTS} is not the file that {MANIFEST} describes")
        with safe_open(folder / WEIGHTS, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise _broken(folder, f"{WEIGHTS} is missing") from error
    except OSError as error:
        raise _unreadable(folder, error) from error
    except SafetensorError as error:
        raise _broken(folder, f"{WEIGHTS} is not a safetensors file") from error


def _backend(name: str) -> Backend:
    if name not in get_args(Backend):
        raise ValueError(name)
    return name  # type: ignore[return-value]


def _broken(folder: Path, why: str) -> DataError:
    return DataError(f"the model folder {folder.name!r} is broken: {why}; fit the generator again")


def _unreadable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(f"{path.name!r} cannot be read: {type(error).__name__}")

"""Does a generator of images keep its contract?"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from synthgen.errors import UsageError
from synthgen.images import ImageData
from synthgen.registry import learns
from synthgen.rng import Seed
from synthgen.testing.laws import law, refused, same_global_randomness


def check_image_generator(generator: Any, *, data: ImageData | None = None, seed: int | Seed = 0) -> None:
    """Run the battery on an unfitted generator of images; it is copied, fitted twice, saved, loaded and sampled.

    Args:
        generator: its settings should make `fit` quick.
        data: what to train on, with the column `finding`; by default a phantom cohort of 120 patients.
        seed: equal seeds run equal batteries.

    Raises:
        AssertionError: the first law that does not hold, in words.

    >>> from synthgen.registry import create
    >>> check_image_generator(create("generators", "image-pca", {"size": 32}))
    """
    from synthgen.phantom import phantom

    train, root = data or phantom(120, seed=1), Seed.of(seed).child("battery")
    law(dataclasses.is_dataclass(generator), "a generator is a dataclass: its settings are its fields")
    law(learns(generator) == "image", "a generator of images says so: modality = 'image'")
    refused(lambda: copy.deepcopy(generator).sample(1, seed=root), (UsageError,), "sampling before fit")
    with same_global_randomness("fit"):
        fitted = copy.deepcopy(generator).fit(train, seed=root.child("fit"))
    sample = _sampled(fitted, 12, root)
    _check_form(sample, train, 12)
    law(sample.fingerprint() == _sampled(fitted, 12, root).fingerprint(), "equal seeds give equal images")
    law(sample.fingerprint() != _sampled(fitted, 12, root.child("other")).fingerprint(), "other seeds, other images")
    _check_conditions(fitted, train, root)
    _check_saved(generator, fitted, sample, train, root)


def _sampled(fitted: Any, n: int, root: Seed, **conditions: Any) -> ImageData:
    with same_global_randomness("sample"):
        sample = fitted.sample(n, seed=root.child("sample"), **conditions)
    law(isinstance(sample, ImageData), "sample returns an ImageData")
    found: ImageData = sample
    return found


def _check_form(sample: ImageData, train: ImageData, n: int) -> None:
    law(len(sample) == n, f"sample({n}) gives {len(sample)} images")
    law(sample.patient_count == n, "each synthetic image is of a patient of its own")
    shapes = {sample.read(i).shape for i in range(n)}
    law(len(shapes) == 1, "all images of a sample have one size")
    law(np.isfinite([sample.read(i).sum() for i in range(n)]).all(), "pixels are numbers")
    known = {column.name for column in train.records.schema.learned}
    law(known <= set(sample.records.schema.names), "records have the columns that train's records learn from")


def _check_conditions(fitted: Any, train: ImageData, root: Seed) -> None:
    level = str(train.records.table["finding"].mode()[0])
    held = _sampled(fitted, 7, root, where={"finding": level}).records.table["finding"]
    law(set(held) == {level}, "where holds in every record")
    given = train.records.table[["finding"]].head(9)
    followed = _sampled(fitted, 9, root, given=given).records.table["finding"]
    law(list(followed) == list(given["finding"]), "given holds row by row")
    refused(lambda: fitted.sample(2, seed=root, where={"no such": 1}), (UsageError,), "an unknown column")


def _check_saved(generator: Any, fitted: Any, sample: ImageData, train: ImageData, root: Seed) -> None:
    again = copy.deepcopy(generator).fit(train, seed=root.child("fit"))
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name) / "one", Path(name) / "two"
        for one, folder in zip((fitted, again), folders, strict=True):
            one.save(folder)
        content = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
        law(content[0] == content[1], "equal seeds give equal model folders")
        law(set(content[0]) <= {"manifest.json", "weights.safetensors"}, "a model is JSON and safetensors")
        loaded = type(generator).load(folders[0])
    law(_sampled(loaded, len(sample), root).fingerprint() == sample.fingerprint(), "a loaded model samples as before")

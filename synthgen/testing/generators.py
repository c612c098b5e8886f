"""Does a generator keep its contract?"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.codes import hierarchy, with_ancestors
from synthgen.data import TableData, canonical_column
from synthgen.errors import SchemaError, UsageError
from synthgen.protocols import Generator
from synthgen.rng import Seed
from synthgen.schema import NUMERIC, Column
from synthgen.testing.invented import invented_cohort
from synthgen.testing.laws import (
    extreme_values,
    law,
    levels,
    named_in,
    numbers_of,
    rare_levels,
    refused,
    same_global_randomness,
    unique_texts,
    weights_of,
)

if TYPE_CHECKING:
    import pandas as pd


def check_generator(generator: Generator, *, data: TableData | None = None, seed: int | Seed = 0) -> None:
    """Run the battery on an unfitted generator; it is copied, fitted twice, saved, loaded and sampled many times.

    A model folder holds `manifest.json` and safetensors. A generator that cannot do without a pickle says so with a
    class attribute `needs_trust = True`, and its `load` refuses unless it is called with `trust=True`.

    Args:
        generator: its settings should make `fit` quick.
        data: what to train on; by default `invented_cohort()`.
        seed: equal seeds run equal batteries.

    Raises:
        AssertionError: the first law that does not hold, in words.

    >>> from synthgen.registry import create
    >>> check_generator(create("generators", "independent"))
    """
    train = invented_cohort() if data is None else data
    root = Seed.of(seed).child("battery")
    _check_settings(generator, train, root)
    fitted = _check_fit(generator, train, root)
    sample = _sample(fitted, len(train), root.child("sample"))
    _check_form(sample, train, len(train))
    for n in (1, 37):
        _check_form(_sample(fitted, n, root.child(str(n))), train, n)
    _check_identifiers(sample, train)
    _check_missing(sample, train)
    _check_seeds(fitted, sample, train, root)
    _check_refit(generator, sample, train, root)
    _check_conditions(fitted, train, root)
    _check_refusals(fitted, train, root)
    _check_saved(fitted, sample, train, root)


def _check_settings(generator: Generator, train: TableData, root: Seed) -> None:
    law(dataclasses.is_dataclass(generator), "a generator is a dataclass: its settings are its fields")
    law(isinstance(generator, Generator), "a generator has name, licence, fit, sample, save and load")
    for word in (generator.name, generator.licence):
        law(isinstance(word, str) and word.strip() != "", "name and licence are words")
    unfitted = _rebuilt(generator)
    refused(lambda: unfitted.sample(1, seed=root), (UsageError,), "sampling before fit")
    with tempfile.TemporaryDirectory() as folder:
        refused(lambda: unfitted.save(Path(folder) / "model"), (UsageError,), "saving before fit")
    law(len(train) > 0, "the battery needs rows to train on")


def _rebuilt(generator: Generator) -> Generator:
    """An unfitted generator with the same settings."""
    settings = {f.name: getattr(generator, f.name) for f in dataclasses.fields(generator) if f.init}  # type: ignore[arg-type]
    return type(generator)(**copy.deepcopy(settings))


def _check_fit(generator: Generator, train: TableData, root: Seed) -> Generator:
    unfitted, given = _rebuilt(generator), train.table.copy(deep=True)
    with same_global_randomness("fit"):
        fitted = unfitted.fit(train, seed=root.child("fit"))
    law(fitted is unfitted, "fit returns the generator itself")
    law(train.table.equals(given) and list(train.table.dtypes) == list(given.dtypes), "fit changes the training table")
    return fitted


def _check_form(sample: TableData, train: TableData, n: int) -> None:
    """Exactly n rows, the schema's columns in order, and values of the kinds that the schema declares."""
    law(isinstance(sample, TableData), "sample returns a TableData")
    law(len(sample) == n, f"sample({n}) gives {len(sample)} rows")
    wanted = train.schema.synthetic()
    law(
        sample.schema.names == wanted.names, "sample has the columns of schema.synthetic(), in order, without free text"
    )
    law(sample.schema == wanted, "sample carries the schema of schema.synthetic()")
    law(list(sample.table.index) == list(range(n)), "the index of a canonical table is 0..rows-1")
    for column in wanted.columns:
        _check_values(sample.table[column.name], train.table[column.name], column)


def _check_values(values: pd.Series, real: pd.Series, column: Column) -> None:
    import numpy as np

    name = f"column {column.name!r}"
    if not column.learned:
        return
    if column.kind == "datetime":
        law(str(values.dtype) == "datetime64[ns]", f"{name}: dates are datetime64[ns] in a canonical table")
        return
    if column.kind not in NUMERIC:
        law(values.dtype == object, f"{name}: levels are str objects in a canonical table")
        present = set(values.dropna())
        law(all(isinstance(v, str) for v in present), f"{name}: levels are str, missing is None")
        known = with_ancestors(real.dropna().unique(), hierarchy(column.kind, column.system))
        new = present - known - set(column.levels or ())
        law(not new, f"{name}: {len(new)} levels that are neither in train nor declared, nor above a code of train")
        return
    law(values.dtype == np.float64, f"{name}: numbers are float64 in a canonical table")
    numbers = values.dropna().to_numpy()
    law(bool(np.isfinite(numbers).all()), f"{name}: infinite values")
    if column.kind == "boolean":
        law(set(numbers) <= {0.0, 1.0}, f"{name}: a boolean is 0, 1 or missing")
    decimals = column.decimals if column.kind == "real" else 0
    if decimals is not None:
        law(bool((numbers == np.round(numbers, decimals)).all()), f"{name}: more than {decimals} decimals")
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    law(bool(((numbers >= low) & (numbers <= high)).all()), f"{name}: values outside the declared bounds")


def _check_identifiers(sample: TableData, train: TableData) -> None:
    for column in train.schema.identifiers:
        minted = sample.table[column.name]
        law(
            bool(minted.notna().all() and minted.is_unique),
            f"column {column.name!r}: identifiers are unique, none missing",
        )
        shared = int(minted.isin(train.table[column.name].dropna()).sum())
        law(shared == 0, f"column {column.name!r}: {shared} identifiers of train; mint them with data.assemble")


def _check_missing(sample: TableData, train: TableData) -> None:
    """With at least 5 % missing in 500 rows, a sampler with the right rate fails by chance less than once in 1e11."""
    for name in train.learned:
        real, made = train.table[name].isna(), sample.table[name].isna()
        if not real.any():
            law(not made.any(), f"column {name!r}: missing values, though train has none")
        elif real.mean() >= 0.05 and len(train) >= 500:
            law(bool(made.any()), f"column {name!r}: no missing values, though train has them")
        if real.all():
            law(bool(made.all()), f"column {name!r}: values, though train has none")


def _check_seeds(fitted: Generator, sample: TableData, train: TableData, root: Seed) -> None:
    n = len(sample)
    again = _sample(fitted, n, root.child("sample"))
    law(again.fingerprint() == sample.fingerprint(), "the same seed gives another table")
    law(
        _sample(fitted, n, root.child("other")).fingerprint() != sample.fingerprint(),
        "another seed gives the same table",
    )
    if train.learned.drop_duplicates().shape[0] > len(train) / 2:
        other = _sample(fitted, n, root.child("other"))
        law(not other.learned.equals(sample.learned), "another seed changes nothing but the identifiers")


def _check_refit(generator: Generator, sample: TableData, train: TableData, root: Seed) -> None:
    """Settings and seed are all there is to a fit, and the frame type that came in goes out."""
    arrow = dataclasses.replace(train, backend="pyarrow")
    again = _rebuilt(generator).fit(arrow, seed=root.child("fit")).sample(len(sample), seed=root.child("sample"))
    law(again.fingerprint() == sample.fingerprint(), "two fits with one seed and the same settings differ")
    law(again.backend == "pyarrow", "a generator fitted on a pyarrow table gives pyarrow tables back")


def _check_conditions(fitted: Generator, train: TableData, root: Seed) -> None:
    """`where` and `given` hold in every row, or are refused."""
    import pandas as pd

    common = {name: train.table[name].mode() for name in train.learned}
    usual = {str(name): values.iloc[0] for name, values in common.items() if len(values)}
    wheres: list[dict[str, Any]] = [{name: value} for name, value in usual.items()] + [dict(list(usual.items())[:2])]
    wheres += [{name: None} for name in list(usual)[:9] if train.table[name].isna().mean() > 0.05]
    for where in wheres:
        made = _conditioned(fitted, 11, root, where=where)
        if made is not None:
            _check_form(made, train, 11)
            _check_honoured(made, pd.DataFrame([where] * 11), "where")
    rows = train.table[list(usual)[:2]].head(7).reset_index(drop=True)
    made = _conditioned(fitted, len(rows), root, given=rows)
    if made is not None:
        _check_honoured(made, rows, "given")


def _conditioned(fitted: Generator, n: int, root: Seed, **conditions: Any) -> TableData | None:
    try:
        return _sample(fitted, n, root.child("where"), **conditions)
    except UsageError:
        return None


def _check_honoured(made: TableData, wanted: pd.DataFrame, what: str) -> None:
    for name in wanted:
        column = made.schema[str(name)]
        target = canonical_column(list(wanted[name]), column).reset_index(drop=True)
        values = made.table[name]
        broken = int((~((values == target) | (values.isna() & target.isna()))).sum())
        law(broken == 0, f"{what} on column {name!r} does not hold in {broken} of {len(made)} rows")


def _check_refusals(fitted: Generator, train: TableData, root: Seed) -> None:

    def ask(n: int, where: dict[str, Any] | None = None) -> Callable[[], Any]:
        return lambda: fitted.sample(n, seed=root, where=where)

    for n in (0, -1):
        refused(ask(n), (UsageError,), f"sample({n})")
    refused(ask(1, {"no such column": 1}), (UsageError, SchemaError), "where on an unknown column")
    for column in train.schema.learned:
        if column.kind in ("categorical", "code"):
            unknown = ask(1, {column.name: "no such level"})
            message = refused(unknown, (UsageError, SchemaError), "where on an unknown level")
            named = named_in(message, levels(train))
            law(not named, f"the error about an unknown level of {column.name!r} tells levels of train")


def _check_saved(fitted: Generator, sample: TableData, train: TableData, root: Seed) -> None:
    """The model folder reloads to the same sampler and holds nothing that it should not."""
    trusts = getattr(fitted, "needs_trust", False)  # said by the class of a generator whose folder holds a pickle
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        fitted.save(folder)
        if trusts:
            refused(lambda: type(fitted).load(folder), (UsageError,), "loading a pickle without trust")
        load: Callable[..., Generator] = type(fitted).load
        loaded = load(folder, trust=True) if trusts else load(folder)
        again = loaded.sample(len(sample), seed=root.child("sample"))
        law(again.fingerprint() == sample.fingerprint(), "the loaded generator samples other bytes than the saved one")
        _check_folder(folder, train, allowed={".json", ".safetensors"} | ({".pkl"} if trusts else set()))


def _check_folder(folder: Path, train: TableData, *, allowed: set[str]) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    law(folder.joinpath("manifest.json") in files, "a model folder has a manifest.json")
    secrets, hidden = [*unique_texts(train), *rare_levels(train)], extreme_values(train)
    for path in files:
        law(path.suffix in allowed, f"a model folder holds {', '.join(sorted(allowed))}; found {path.suffix!r}")
        if path.suffix == ".pkl":
            continue
        named = named_in(path.read_bytes().decode("utf-8", "replace"), secrets)
        law(not named, f"the model's {path.suffix} file holds {named} identifiers, texts or rare levels of train")
        held = set(numbers_of(json.loads(path.read_text("utf-8")))) if path.suffix == ".json" else weights_of(path)
        extremes = [value for value in hidden if value in held]
        law(not extremes, f"the model's {path.suffix} file holds {len(extremes)} extremes of single patients of train")


def _sample(generator: Generator, n: int, seed: Seed, **conditions: Any) -> TableData:
    with same_global_randomness("sample"):
        return generator.sample(n, seed=seed, **conditions)

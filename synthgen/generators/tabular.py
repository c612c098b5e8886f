"""What do the table networks share? Their state after a fit, model folders, and sampling around a filler of tokens.

A generator of this kind has a codec and a network. Its `fit` begins with `as_table` and `validation_rows` and ends with
a `Fitted`; its `sample` gives `sample_rows` a function that fills hidden tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from synthgen.data import Backend, TableData, assemble
from synthgen.errors import DataError, UsageError
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance, conditions
from synthgen.generators.imputation import impute
from synthgen.generators.team import team
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.schema import TableSchema

FEW_PATIENTS = 50
_VALIDATION_ROWS = 2_000  # at most; and a tenth of the patients at most

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Fitted(Generic[N]):
    """What a fit leaves behind."""

    codec: TableCodec
    network: N
    schema: TableSchema
    backend: Backend
    seed: Seed
    fingerprint: str
    facts: Mapping[str, Any]


# Fills tokens (rows, tokens), HIDDEN where unknown; (tokens,) says which may not come out missing, None: all may.
Filler = Callable[[Fitted[N], np.ndarray, np.ndarray | None, Seed, Run], np.ndarray]


def as_table(train: Any, *, force: bool) -> TableData:
    """The training table, from a frame too; refused where it is too small to be learned without copying it.

    Raises:
        DataError: no column can be learned, or too few patients and not `force`.
    """
    if not isinstance(train, TableData):
        from synthgen.io import read

        train = read(train)
    if not train.schema.learned:
        raise DataError("no column can be learned: all are identifiers, free text or the patient column")
    if train.patient_count < (2 if force else FEW_PATIENTS):
        raise DataError(
            f"too few patients: {train.patient_count}, and at least {FEW_PATIENTS} are needed to learn from a table "
            "without copying it (the setting force=true trains anyway)"
        )
    return train


def validation_rows(train: TableData, seed: Seed, *, most: int = _VALIDATION_ROWS) -> np.ndarray:
    """Which rows decide when to stop: of a tenth of the patients, and about `most` rows. Shape: (rows,)."""
    patients, count = train.patients, train.patient_count
    wanted = max(1, min(count // 10, round(most * count / len(train))))
    chosen = np.zeros(count, dtype=bool)
    chosen[seed.numpy().permutation(count)[:wanted]] = True
    return chosen[patients]


def sample_rows(
    fitted: Fitted[N] | None,
    n: int,
    fill: Filler[N],
    *,
    seed: int | Seed,
    where: Mapping[str, Any] | None,
    given: pd.DataFrame | None,
    balance: Balance | None,
    run: Run | None,
) -> TableData:
    """Fix what the conditions fix, fill the rest, and decode.

    Raises:
        UsageError: not fitted, n below 1, or conditions that no row can meet.
    """
    state, seed = state_of(fitted), Seed.of(seed)
    if n < 1:
        raise UsageError(f"cannot sample {n} rows")
    fixed = conditions(state.codec, state.schema, n=n, seed=seed, where=where, given=given, balance=balance)
    tokens = fill(state, state.codec.clamp(fixed), None, seed, run or Run())
    values = state.codec.decode(tokens, seed=seed.child("decode"), fixed=fixed)
    return assemble(values, state.schema, n=n, seed=seed, backend=state.backend)


def impute_cells(
    fitted: Fitted[N] | None,
    frame: Any,
    fill: Filler[N],
    *,
    seed: int | Seed,
    columns: Sequence[str] | None,
    draws: int | None,
    run: Run | None,
) -> Any:
    """The frame with its missing cells filled: see `imputation`.

    Raises:
        UsageError: not fitted, or a column that cannot be imputed.
        DataError: columns that the model does not know, or values that do not fit them.
    """
    state = state_of(fitted)

    def gaps(tokens: np.ndarray, never_missing: np.ndarray, root: Seed) -> np.ndarray:
        return fill(state, tokens, never_missing, root, run or Run())

    return impute(state.codec, state.schema, frame, gaps, seed=Seed.of(seed), columns=columns, draws=draws)


def save(folder: str | Path, generator: Any, fitted: Fitted[N]) -> None:
    """Write `manifest.json` and `weights.safetensors`."""
    model = Model(
        generator=generator.name,
        settings={f.name: getattr(generator, f.name) for f in dataclasses.fields(generator) if f.init},
        schema=fitted.schema,
        backend=fitted.backend,
        seed=fitted.seed,
        fingerprint=fitted.fingerprint,
        codec=fitted.codec.to_json(),
        facts=fitted.facts,
        tensors={name: t.detach().cpu().numpy() for name, t in fitted.network.state_dict().items()},
    )
    save_model(folder, model)


def load(
    folder: str | Path, name: str, rebuild: Callable[[Model, TableCodec], tuple[N, str]]
) -> tuple[Model, Fitted[N]]:
    """Read a folder that `save` wrote; `rebuild` makes the empty network and says on which device it lives.

    Raises:
        DataError: not such a folder, or one that is broken or was altered.
    """
    model = load_model(folder, generator=name)
    try:
        codec = TableCodec.from_json(model.codec or {})
        network, device = rebuild(model, codec)
        network.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in model.tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the model folder {Path(folder).name!r} is broken: its parts do not fit together") from error
    network = network.to(device).eval()
    facts = dict(model.facts)
    return model, Fitted(codec, network, model.schema, model.backend, model.seed, model.fingerprint, facts)


def state_of(fitted: Fitted[N] | None) -> Fitted[N]:
    """The state of a generator.

    Raises:
        UsageError: it has none yet.
    """
    if fitted is None:
        raise UsageError("the generator has not learned anything yet: call fit first, or load a model")
    return fitted


def device_of(name: str, generator: str) -> Literal["cpu", "cuda"]:
    """The device that a setting means; auto: CUDA where there is one, and this process's own where several train.

    Raises:
        UsageError: CUDA was asked for and torch sees none.
    """
    team()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{generator}: device 'cuda' was asked for, but torch sees none")
    return "cuda" if name == "cuda" else "cpu"

"""What would each column look like on its own? The floor that every generator must beat on dependence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from synthgen.data import TableData, assemble
from synthgen.errors import DataError, UsageError
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance, conditions
from synthgen.generators.imputation import impute
from synthgen.generators.tokens import HIDDEN, MISSING
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed

QUIET = Run()


@dataclass(frozen=True, eq=False)
class Marginal:
    """Which tokens a column takes, and how often."""

    tokens: np.ndarray  # (kinds, 1 or 2) int64: the coarse token, and the fine one where it counts
    mass: np.ndarray  # (kinds,) sums to 1

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Shape: -> (n, 1 or 2)."""
        return self.tokens[rng.choice(len(self.mass), size=n, p=self.mass)]


def marginals(codec: TableCodec, tokens: np.ndarray, *, coarse: bool = False) -> list[Marginal]:
    """The marginal of each column, or of its coarse token, without tokens that a sampler may not emit.

    Shape: tokens (rows, tokens).
    """
    found = []
    for name in codec.names:
        places = codec.tokens_of(name)[: 1 if coarse else None]
        sizes = [codec.vocabulary[place] for place in places]
        rows = np.bincount(np.ravel_multi_index([tokens[:, place] for place in places], sizes))
        seen = np.flatnonzero(rows)
        kinds, rows = np.stack(np.unravel_index(seen, sizes), axis=1), rows[seen]
        kept = codec.emittable[places[0]][kinds[:, 0]]
        if kept.any():
            found.append(Marginal(kinds[kept], rows[kept] / rows[kept].sum()))
        else:  # nothing was learned: the column comes back missing
            found.append(Marginal(np.zeros((1, len(places)), dtype=np.int64), np.ones(1)))
    return found


@dataclass
class Independent:
    """Each column drawn from its own distribution, as if no column told anything about another.

    >>> from synthgen.testing import invented_cohort
    >>> generator = Independent().fit(invented_cohort(300), seed=1)
    >>> generator.sample(3, seed=2, where={"sex": "F"}).table["sex"].tolist()
    ['F', 'F', 'F']
    """

    name: ClassVar[str] = "independent"
    licence: ClassVar[str] = "Apache-2.0"
    model: Model | None = field(default=None, init=False, repr=False)

    def fit(self, train: TableData, *, seed: int | Seed, run: Run = QUIET) -> Self:
        """Count the tokens of each column.

        Raises:
            DataError: no rows, or no column to learn.
        """
        root = Seed.of(seed)
        codec = learned_codec(train, root)
        learned = marginals(codec, codec.encode(train))
        run.progress(Progress("fit", 1, 1))
        tensors = {f"{i}.tokens": marginal.tokens for i, marginal in enumerate(learned)}
        tensors |= {f"{i}.mass": marginal.mass for i, marginal in enumerate(learned)}
        self.model = described(self, train, root, codec, tensors)
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        balance: Balance | None = None,
    ) -> TableData:
        """Draw every column on its own; fixed columns are as asked for.

        Raises:
            UsageError: not fitted, or a condition that cannot be met.
        """
        model, root = fitted(self.model, self.name), Seed.of(seed)
        codec = TableCodec.from_json(model.codec or {})
        fixed = conditions(codec, model.schema, n=positive(n), seed=root, where=where, given=given, balance=balance)
        tokens = _filled(model, codec, codec.clamp(fixed), seed=root)
        return decoded(model, codec, tokens, fixed, seed=root)

    def impute(
        self, frame: Any, *, seed: int | Seed, columns: Sequence[str] | None = None, draws: int | None = None
    ) -> Any:
        """Draw the missing cells of a frame from their columns; nothing else changes (see `TableDiffusion.impute`).

        Raises:
            UsageError: not fitted, or a column that cannot be imputed.
            DataError: columns that the model does not know, or values that do not fit them.
        """
        model = fitted(self.model, self.name)
        codec = TableCodec.from_json(model.codec or {})

        def fill(tokens: np.ndarray, never_missing: np.ndarray, root: Seed) -> np.ndarray:
            return _filled(model, codec, tokens, seed=root, never_missing=never_missing)

        return impute(codec, model.schema, frame, fill, seed=Seed.of(seed), columns=columns, draws=draws)

    def save(self, folder: str | Path) -> None:
        """Write the model folder.

        Raises:
            UsageError: not fitted.
        """
        save_model(folder, fitted(self.model, self.name))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model folder."""
        generator = cls()
        generator.model = load_model(folder, generator=cls.name)
        return generator


def _filled(
    model: Model, codec: TableCodec, tokens: np.ndarray, *, seed: Seed, never_missing: np.ndarray | None = None
) -> np.ndarray:
    """Shape: tokens (rows, tokens), HIDDEN where unknown; never_missing (tokens,) -> the same, all known."""
    filled = tokens.copy()
    for i, name in enumerate(codec.names):
        places = codec.tokens_of(name)
        hidden = np.flatnonzero(tokens[:, places[0]] == HIDDEN)
        kinds, mass = model.tensors[f"{i}.tokens"], model.tensors[f"{i}.mass"]
        if never_missing is not None and never_missing[places[0]]:
            mass = mass * (kinds[:, 0] != MISSING)
        if len(hidden):
            marginal = Marginal(kinds, mass / mass.sum())
            filled[hidden[:, None], places] = marginal.draw(seed.child("column", name).numpy(), len(hidden))
    return filled


def learned_codec(train: TableData, seed: Seed) -> TableCodec:
    """The codec of a training table.

    Raises:
        DataError: no rows, or no column to learn.
    """
    if not len(train) or not train.schema.learned:
        raise DataError(f"nothing to learn from {len(train)} rows and {len(train.schema.learned)} learned columns")
    return TableCodec.fit(train, seed=seed.child("codec"))


def fitted(model: Model | None, name: str) -> Model:
    """The model of a generator.

    Raises:
        UsageError: it has none yet.
    """
    if model is None:
        raise UsageError(f"this {name} generator is not fitted yet: call fit(train, seed=...) or load a model folder")
    return model


def described(generator: Any, train: TableData, seed: Seed, codec: TableCodec, tensors: dict[str, np.ndarray]) -> Model:
    """A fitted generator as the values that its model folder holds."""
    settings = {f.name: getattr(generator, f.name) for f in fields(generator) if f.init}
    return Model(
        generator=generator.name,
        settings=settings,
        schema=train.schema,
        backend=train.backend,
        seed=seed,
        fingerprint=train.fingerprint(),
        codec=codec.to_json(),
        facts={"folded": codec.folded_counts},
        tensors=tensors,
    )


def positive(n: int) -> int:
    """The number of rows to sample.

    Raises:
        UsageError: it is not a whole number of at least 1.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise UsageError("the number of rows to sample is a whole number of at least 1")
    return int(n)


def decoded(model: Model, codec: TableCodec, tokens: np.ndarray, fixed: pd.DataFrame, *, seed: Seed) -> TableData:
    """Tokens as a synthetic table, with fixed columns exactly as they were asked for. Shape: tokens (rows, tokens)."""
    values = codec.decode(tokens, seed=seed.child("decode"), fixed=fixed)
    return assemble(values, model.schema, n=len(tokens), seed=seed.child("mint"), backend=model.backend)

"""How does the masked diffusion learn a table, and sample from it? The default generator.

Licence of the generator: Apache-2.0. Network and loss are in `denoiser`, the loop in `training`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from synthgen.data import Backend, TableData, assemble
from synthgen.errors import DataError, UsageError
from synthgen.generators import training
from synthgen.generators.checkpoint import Model, load_model, save_model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import conditions, restore_numbers
from synthgen.generators.denoiser import HIDDEN, Denoiser, Layout, Stage, StageLoss, hide
from synthgen.generators.sampling import sample_tokens
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.schema import TableSchema

FEW_PATIENTS = 50
_VALIDATION_ROWS = 2_000  # at most; and a tenth of the patients at most
_EVALUATION_CELLS = 30_000  # tokens looked at in one evaluation, by repeating small validation slices


@dataclass(frozen=True, eq=False)
class _Fitted:
    """What a fit leaves behind."""

    codec: TableCodec
    network: Denoiser
    schema: TableSchema
    backend: Backend
    seed: Seed
    fingerprint: str
    facts: Mapping[str, Any]


@dataclass
class TableDiffusion:
    """Order-agnostic masked diffusion over the codec's tokens, with an MLP: settings, and state after `fit`.

    >>> from synthgen.datasets import load
    >>> generator = TableDiffusion(max_steps=20).fit(load("gbsg2"), seed=1)
    >>> synthetic = generator.sample(100, seed=2, where={"menostat": "Post"})
    >>> len(synthetic), set(synthetic.table["menostat"])
    (100, {'Post'})
    """

    name: ClassVar[str] = "diffusion"
    licence: ClassVar[str] = "Apache-2.0"

    max_seconds: float = 120.0  # budget of the training loop; turned into a number of steps
    max_steps: int | None = None  # a number of steps instead: the same bytes on every run
    width: int | None = None  # units of each layer; None: 128 below 5,000 patients, 256 below 20,000, else 512
    blocks: int = 1  # residual blocks: shallow and wide learns most in a given time
    embedding: int | None = None  # numbers per token; None: 16 below 5,000 patients or above 40 tokens, else 32
    dropout: float | None = None  # None: 0.3 below 1,000 patients, 0.2 below 5,000, else 0
    batch: int | None = None  # rows per step; None: 256 below 5,000 patients, else 512, or 4,096 on a GPU
    learning_rate: float | None = None  # peak of the schedule; None: 5e-4, 1e-3 or 3e-3, as for the width
    weight_decay: float | None = None  # None: 0.1 below 5,000 patients, else 1e-4
    patience: int = 8  # evaluations (of 40) without a better validation loss before stopping
    memorisation_gap: float = 0.05  # stop when the ratio of validation to train loss has grown by so much
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # train on fewer than 50 patients: the audit can hardly clear the result
    _fitted: _Fitted | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positive = ("max_seconds", "max_steps", "width", "embedding", "batch", "learning_rate", "patience", "threads")
        for name in positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"diffusion: {name} must be above 0")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UsageError("diffusion: dropout must be at least 0 and below 1")

    def fit(self, train: TableData, *, seed: int | Seed, run: Run | None = None) -> Self:
        """Learn from train; a slice of its patients is set aside to decide when to stop.

        Raises:
            DataError: too few patients, or no column that can be learned.
            Interrupted: `run.stop()` said so.
        """
        run, seed, train = run or Run(), Seed.of(seed), _table(train)
        _refuse_small(train, self.force)
        codec = TableCodec.fit(train, seed=seed.child("codec"))
        settings = self._resolved(train.patient_count, codec)
        device = torch.device(settings.device)
        tokens = torch.from_numpy(codec.encode(train)[:, Layout.of(codec).order].astype(np.int32)).to(device)
        held = _validation_rows(train, seed.child("validation"))
        network = settings._network(codec, seed.child("network")).to(device)
        network.start_from(_marginals(tokens[~held], network.layout))
        objective = _Objective(network.layout, tokens[~held], tokens[held], seed.child("evaluation")).to(device)
        fingerprint = train.fingerprint()
        identity = {"generator": self.name, "train": fingerprint, "settings": settings._network_settings()}
        with training.threads(self.threads):
            outcome = training.train(
                network,
                objective,
                objective.evaluate,
                rows=int((~held).sum()),
                recipe=settings._recipe(int((~held).sum())),
                seed=seed.child("training"),
                run=run,
                identity=identity,
            )
        facts = {**outcome.to_json(), "network": settings._network_settings(), "validation_rows": int(held.sum())}
        facts["parameters"] = sum(p.numel() for p in network.parameters())
        facts["folded"] = {name: dataclasses.asdict(f) for name, f in codec.folded.items()}
        self._fitted = _Fitted(codec, network.eval(), train.schema, train.backend, seed, fingerprint, facts)
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        run: Run | None = None,
    ) -> TableData:
        """Draw n rows; the columns of `where` and `given` are as they say in every row, without rejection.

        Args:
            n: rows to draw.
            seed: equal seeds give equal rows.
            where: column -> the level or number that all rows have; None: missing.
            given: a frame with some of the learned columns, one row for each drawn row.
            run: told of progress.

        Raises:
            UsageError: not fitted, n below 1, or conditions that no row can meet.
        """
        fitted, seed, run = self._state(), Seed.of(seed), run or Run()
        if n < 1:
            raise UsageError(f"cannot sample {n} rows")
        fixed = conditions(fitted.codec, fitted.schema, n=n, where=where, given=given)
        with training.threads(self.threads), torch.inference_mode():
            tokens = sample_tokens(fitted.network, fitted.codec, _clamped(fitted.codec, fixed, n), seed=seed, run=run)
        values = restore_numbers(fitted.codec.decode(tokens, seed=seed.child("decode")), fixed, fitted.codec)
        return assemble(values, fitted.schema, n=n, seed=seed, backend=fitted.backend)

    def parameter_count(self, train: TableData, *, seed: int | Seed) -> int:
        """How many parameters `fit` would train on this table: for estimates, without training."""
        codec = TableCodec.fit(train, seed=Seed.of(seed).child("codec"))
        network = self._resolved(train.patient_count, codec)._network(codec, Seed.of(seed))
        return sum(p.numel() for p in network.parameters())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the training did: steps, losses, notes, network size, and what value protection folded."""
        return self._state().facts

    def save(self, folder: str | Path) -> None:
        """Write `manifest.json` and `weights.safetensors`."""
        fitted = self._state()
        model = Model(
            generator=self.name,
            settings={f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init},
            schema=fitted.schema,
            backend=fitted.backend,
            seed=fitted.seed,
            fingerprint=fitted.fingerprint,
            codec=fitted.codec.to_json(),
            facts=fitted.facts,
            tensors={name: t.detach().cpu().numpy() for name, t in fitted.network.state_dict().items()},
        )
        save_model(folder, model)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            DataError: not such a folder, or one that is broken or was altered.
        """
        model = load_model(folder, generator=cls.name)
        try:
            generator = cls(**model.settings)
            codec = TableCodec.from_json(model.codec or {})
            settings = dataclasses.replace(generator, **model.facts["network"])
            network = settings._network(codec, model.seed)
            network.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in model.tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"the model folder {Path(folder).name!r} is broken: its parts do not fit together"
            ) from error
        network = network.to(_device(generator.device)).eval()
        generator._fitted = _Fitted(
            codec, network, model.schema, model.backend, model.seed, model.fingerprint, dict(model.facts)
        )
        return generator

    def _state(self) -> _Fitted:
        if self._fitted is None:
            raise UsageError("the generator has not learned anything yet: call fit first, or load a model")
        return self._fitted

    def _resolved(self, patients: int, codec: TableCodec) -> TableDiffusion:
        """These settings with every None replaced by what suits the table and the device."""
        tier, device = int(np.searchsorted((5_000, 20_000), patients, side="right")), _device(self.device)
        chosen = {
            "width": (128, 256, 512)[tier],
            "learning_rate": (5e-4, 1e-3, 3e-3)[tier],
            "embedding": 16 if tier == 0 or len(codec.vocabulary) > 40 else 32,
            "dropout": 0.3 if patients < 1_000 else (0.2, 0.0, 0.0)[tier],
            "batch": 256 if tier == 0 else 512 if device == "cpu" else 4_096,
            "weight_decay": (0.1, 1e-4, 1e-4)[tier],
        }
        unset = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return dataclasses.replace(self, device=device, **unset)  # type: ignore[arg-type]

    def _network_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("width", "blocks", "embedding", "dropout")}

    def _network(self, codec: TableCodec, seed: Seed) -> Denoiser:
        with torch.random.fork_rng(devices=[]):  # layers draw initial weights from the global state, then from ours
            return Denoiser(codec, **self._network_settings(), generator=seed.torch())

    def _recipe(self, rows: int) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            batch=min(self.batch or rows, max(16, rows // 4)),
            learning_rate=self.learning_rate or 3e-3,
            weight_decay=self.weight_decay or 0.0,
            patience=self.patience,
            memorisation_gap=self.memorisation_gap,
            checkpoint_seconds=self.checkpoint_seconds,
        )


class _Objective(nn.Module):
    """The loss of a batch, and of the validation slice beside as many train rows, per token."""

    first_bin: Tensor
    parent: Tensor

    def __init__(self, layout: Layout, tokens: Tensor, held: Tensor, seed: Seed) -> None:
        super().__init__()
        self.layout, self.seed, self.tokens = layout, seed, tokens
        self.losses = nn.ModuleDict({"coarse": StageLoss(layout, "coarse"), "fine": StageLoss(layout, "fine")})
        repeats = max(1, _EVALUATION_CELLS // max(1, held.numel()))
        pick = torch.randperm(len(tokens), generator=seed.child("rows").torch())[: len(held)]
        self.slices = [part.repeat(repeats, 1) for part in (held, tokens[pick.to(tokens.device)])]
        first, parent = torch.from_numpy(layout.first_bin), torch.from_numpy(layout.parent)
        self.register_buffer("first_bin", first, persistent=False)
        self.register_buffer("parent", parent, persistent=False)

    def forward(self, network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The two stages share a batch in proportion to their tokens."""
        tokens = self.tokens[rows].long()
        fine = len(self.layout.order) - self.layout.coarse
        split = len(tokens) - len(tokens) * fine // len(self.layout.order)
        split = min(split, len(tokens) - 1) if fine else len(tokens)
        return self._loss(network, tokens[:split], tokens[split:], generator, generator)

    def evaluate(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """On fixed masks and without dropout: validation loss, train loss."""
        losses = []
        for rows in self.slices:
            generator = self.seed.child("masks").torch(rows.device.type)
            parts = rows.split(4_096)
            values = [self._loss(network, part.long(), part.long(), generator, None) * len(part) for part in parts]
            losses.append(torch.stack(values).sum() / len(rows))
        return losses[0], losses[1]

    def _loss(
        self, network: nn.Module, first: Tensor, second: Tensor, masks: torch.Generator, dropout: torch.Generator | None
    ) -> Tensor:
        """Nats per token: coarse tokens from the first rows, fine ones from the second."""
        coarse, total = self.layout.coarse, len(self.layout.order)
        hidden, weights = hide(torch.ones_like(first[:, :coarse], dtype=torch.bool), masks)
        seen = torch.cat([first[:, :coarse].masked_fill(hidden, HIDDEN), torch.full_like(first[:, coarse:], HIDDEN)], 1)
        if total > coarse:
            binned = second[:, self.parent] >= self.first_bin
            fine_hidden, fine_weights = hide(binned, masks)
            seen_second = torch.cat([second[:, :coarse], second[:, coarse:].masked_fill(fine_hidden, HIDDEN)], 1)
            seen = torch.cat([seen, seen_second])
        x = network(seen, dropout)
        loss = self._stage(network, "coarse", x[: len(first)], first[:, :coarse], weights) * coarse
        if total > coarse:
            loss = loss + self._stage(network, "fine", x[len(first) :], second[:, coarse:], fine_weights) * (
                total - coarse
            )
        return loss / total

    def _stage(self, network: nn.Module, stage: Stage, x: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        value: Tensor = self.losses[stage](network.logits(x, stage), tokens, weights)  # type: ignore[operator]
        return value


def _clamped(codec: TableCodec, fixed: pd.DataFrame, n: int) -> np.ndarray:
    """Tokens of the fixed columns, hidden everywhere else. Shape: -> (n, tokens) int."""
    tokens = np.full((n, len(codec.vocabulary)), HIDDEN, dtype=np.int32)
    for name in fixed.columns:
        tokens[:, codec.tokens_of(name)] = codec.encode_column(name, fixed[name])
    return tokens


def _marginals(tokens: Tensor, layout: Layout) -> dict[Stage, np.ndarray]:
    """Smoothed shares of each value of each token, in the order of the logits."""
    values = tokens.cpu().numpy()
    shares = []
    for place, size in enumerate(layout.sizes):
        counts = np.bincount(values[:, place], minlength=size) + 0.1
        shares.append((counts / counts.sum()).astype(np.float32))
    empty = np.zeros(0, dtype=np.float32)
    return {
        "coarse": np.concatenate(shares[: layout.coarse]),
        "fine": np.concatenate([empty, *shares[layout.coarse :]]),
    }


def _validation_rows(train: TableData, seed: Seed) -> np.ndarray:
    """Which rows decide when to stop: those of a tenth of the patients, about 2,000 rows at most. Shape: (rows,)."""
    patients, count = train.patients, train.patient_count
    wanted = max(1, min(count // 10, round(_VALIDATION_ROWS * count / len(train))))
    chosen = np.zeros(count, dtype=bool)
    chosen[seed.numpy().permutation(count)[:wanted]] = True
    return chosen[patients]


def _refuse_small(train: TableData, force: bool) -> None:
    if not train.schema.learned:
        raise DataError("no column can be learned: all are identifiers, free text or the patient column")
    if train.patient_count < (2 if force else FEW_PATIENTS):
        raise DataError(
            f"too few patients: {train.patient_count}, and at least {FEW_PATIENTS} are needed to learn from a table "
            "without copying it (the setting force=true trains anyway)"
        )


def _table(train: Any) -> TableData:
    if isinstance(train, TableData):
        return train
    from synthgen.io import read

    return read(train)


def _device(name: str) -> Literal["cpu", "cuda"]:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("diffusion: device 'cuda' was asked for, but torch sees none")
    return "cuda" if name == "cuda" else "cpu"

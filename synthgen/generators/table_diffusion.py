"""How does the masked diffusion learn a table, and sample from it? The default generator.

Licence of the generator: Apache-2.0. Network and loss are in `denoiser`, the loop in `training`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from synthgen.data import TableData
from synthgen.errors import UsageError
from synthgen.generators import tabular, training
from synthgen.generators.checkpoint import Model
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance
from synthgen.generators.denoiser import Denoiser
from synthgen.generators.dp import Privacy
from synthgen.generators.dp_tables import Prepared
from synthgen.generators.dp_training import fit_privately
from synthgen.generators.layout import Layout
from synthgen.generators.objective import Objective, RowLoss, groups, hidden_tokens, marginals
from synthgen.generators.prior import GaussianPrior
from synthgen.generators.sampling import sample_tokens
from synthgen.generators.tabular import Fitted
from synthgen.generators.tokens import MISSING
from synthgen.generators.training_plot import plot_training
from synthgen.interrupts import keeping_the_best
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)

_PRIOR_AXES = 100  # a column has one, and one more where values are missing; more take too long in every step
_ONLY_THE_PRIOR = "no step lowered the validation loss: it samples the Gaussian copula that it started from"


@dataclass
class TableDiffusion:
    """Order-agnostic masked diffusion over the codec's tokens, with an MLP: settings, and state after `fit`.

    With a small cohort it starts from a Gaussian copula, which has seen marginals and correlations only, and learns
    what the records say beyond that, until they are learned by heart faster than they teach. With `dp_epsilon` it gives
    each patient differential privacy, for which the schema must declare bounds and levels (see `dp` and `dp_tables`).

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
    width: int | None = None  # units of each layer; None: 128 below 5,000 patients, 256 below 20,000, else 384
    blocks: int | None = None  # residual blocks; None: 2 from 5,000 to 30,000 patients, else 1: shallow learns fast
    embedding: int | None = None  # numbers per token; None: 16 below 5,000 patients or above 40 tokens, else 32
    dropout: float | None = None  # None: 0.3 below 1,000 patients, 0.2 below 20,000, else 0.1
    smooth: bool | None = None  # logits smooth over the bins of numbers; None: below 30,000 patients
    batch: int | None = None  # rows per step; None: 256 below 5,000 patients, else 512, or 4,096 on a GPU
    learning_rate: float | None = None  # peak of the schedule; None: 2e-4, 2e-3 or 3e-3, as for the width
    weight_decay: float | None = None  # None: 0.1 below 30,000 patients, else 0.01
    max_epochs: float | None = None  # that max_seconds buys at most; None: 600, 50 or 60, as for the width
    patience: int = 8  # evaluations (of 40) without a better validation loss before stopping
    tolerance: float | None = None  # later weights with this share more validation loss are kept; None: 0 or 0.003
    memorisation_gap: float | None = None  # stop at this growth of validation/train loss; None: .05 or .1, by width
    prior: bool | None = None  # start from a Gaussian copula; None: below 5,000 patients, where it is quick
    bfloat16: bool | None = None  # matrix products of the training in that precision; None: on a GPU
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # train on fewer than 50 patients: the audit can hardly clear the result
    dp_epsilon: float | None = None  # differential privacy of each patient, with the extra dp; None: none
    dp_delta: float | None = None  # None: a tenth of 1 / patients
    dp_clip: float = 1.0  # norm that the gradient of a patient is cut to
    dp_marginals: float = 0.2  # share of epsilon for noisy counts of each column; 0: the codec knows the schema alone
    dp_seeded: bool = False  # noise from the seed, which anybody may know: the same bytes, and no privacy
    _fitted: Fitted[Denoiser] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positive = "max_seconds max_steps max_epochs width blocks embedding batch learning_rate patience threads"
        for name in positive.split():
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"diffusion: {name} must be above 0")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UsageError("diffusion: dropout must be at least 0 and below 1")

    def fit(self, train: TableData, *, seed: int | Seed, run: Run | None = None) -> Self:
        """Learn from train; a slice of its patients is set aside to decide when to stop.

        Ctrl-C ends the training at the next step, and the best weights so far are kept; a run with a stop function of
        its own decides that itself.

        Raises:
            DataError: too few patients, or no column that can be learned.
            Interrupted: stopped to be resumed, or before anything was learned.
        """
        run, seed, train = run or Run(), Seed.of(seed), tabular.as_table(train, force=self.force)
        privacy = self._privacy(train.patient_count)
        if privacy is not None:
            return self._fit_privately(train, privacy, seed=seed, run=run)
        codec = TableCodec.fit(train, seed=seed.child("codec"), ties=True)
        settings = self._resolved(train.patient_count, codec)
        tokens = settings._tokens(codec, train)
        held = tabular.validation_rows(train, seed.child("validation"))
        layout = Layout.of(codec)
        prior = GaussianPrior.fit(codec, layout, tokens[~held]) if settings.prior else None
        network = settings._network(codec, seed.child("network"), prior).to(tokens.device)
        network.start_from(marginals(tokens[~held], layout))
        network.group.copy_(torch.from_numpy(groups(tokens[~held], layout)))
        fingerprint = train.fingerprint()
        objective = Objective(
            layout, tokens[~held], tokens[held], seed.child("evaluation"), bfloat16=bool(settings.bfloat16)
        ).to(tokens.device)
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            outcome = training.train(
                network,
                objective,
                objective.evaluate,
                rows=len(objective.tokens),
                recipe=settings._recipe(len(objective.tokens)),
                seed=seed.child("training"),
                run=run,
                identity={
                    "generator": self.name,
                    "data": fingerprint,
                    "bfloat16": settings.bfloat16,
                    **settings._network_settings(),
                },
            )
        if prior is None:
            training.require_learned(outcome)
        elif outcome.best_step == 0:
            outcome = dataclasses.replace(outcome, notes=(*outcome.notes, _ONLY_THE_PRIOR))
            log.warning(_ONLY_THE_PRIOR)
        facts = {**outcome.to_json(), "network": settings._network_settings(), "validation_rows": int(held.sum())}
        facts["parameters"] = sum(p.numel() for p in network.parameters())
        facts["folded"] = codec.folded_counts
        self._fitted = Fitted(codec, network.eval(), train.schema, train.backend, seed, fingerprint, facts)
        return self

    def _fit_privately(self, train: TableData, privacy: Privacy, *, seed: Seed, run: Run) -> Self:
        """With DP-SGD: no look at the records but through the two mechanisms of `dp`."""
        prepared = Prepared.of(train, privacy, seed=seed)
        settings, codec, layout = self._resolved_privately(), prepared.codec, Layout.of(prepared.codec)
        network = settings._network(codec, seed.child("network"), None).to(settings.device)
        made, tokens = (settings._tokens(codec, data) for data in (prepared.made, prepared.rows))
        network.start_from(marginals(made, layout))
        loss = RowLoss(network, layout).to(made.device)
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            spent = fit_privately(
                loss,
                lambda data, rows, generator: hidden_tokens(data[rows], layout, generator),
                made=made,
                tokens=tokens,
                prepared=prepared,
                privacy=privacy,
                batch=self.batch,
                max_steps=self.max_steps,
                recipe=settings._recipe(len(tokens)),
                run=run,
            )
        facts = {**spent, "network": settings._network_settings()}
        facts["parameters"] = sum(p.numel() for p in network.parameters())
        self._fitted = Fitted(codec, network.eval(), train.schema, train.backend, seed, train.fingerprint(), facts)
        return self

    def sample(
        self,
        n: int,
        *,
        seed: int | Seed,
        where: Mapping[str, Any] | None = None,
        given: pd.DataFrame | None = None,
        balance: Balance | None = None,
        run: Run | None = None,
    ) -> TableData:
        """Draw n rows; the columns of `where`, `given` and `balance` are as they say, exactly and without rejection.

        A fixed number acts on the other columns by its bin first, and in full on the digits that they draw last.

        Args:
            n: rows to draw.
            seed: equal seeds give equal rows.
            where: column -> the level or number that all rows have; None: missing.
            given: a frame with some of the learned columns, one row for each drawn row; a missing cell is fixed as
                missing.
            balance: a column whose levels get equal numbers of rows, or that column -> {level: share}.
            run: told of progress.

        Raises:
            UsageError: not fitted, n below 1, or conditions that no row can meet.
        """
        return tabular.sample_rows(
            self._fitted, n, self._filled, seed=seed, where=where, given=given, balance=balance, run=run
        )

    def impute(
        self,
        frame: Any,
        *,
        seed: int | Seed,
        columns: Sequence[str] | None = None,
        draws: int | None = None,
        run: Run | None = None,
    ) -> Any:
        """Draw the missing cells of a frame, each row's given all that is known of the row; nothing else changes.

        The result holds your real patients: it is for analysis in the house, never for release. A draw is one of the
        values that a cell may have had, not the best guess; `draws` gives several for multiple imputation. Cells are
        drawn as if they were missing at random. Known levels that were not learned count as rare ones. Columns that a
        rule derives are computed where their terms are there; a known one tells nothing about its terms.

        Args:
            frame: a pandas, polars or pyarrow table, or a `TableData`, with some or all columns of the training table.
            seed: equal seeds give equal draws.
            columns: which columns to complete; None: every learned column. Other missing cells stay missing.
            draws: None gives one frame; a number gives a list of that many.
            run: told of progress.

        Raises:
            UsageError: not fitted, or a column that cannot be imputed.
            DataError: columns that the model does not know, or values that do not fit them.

        >>> from synthgen.datasets import load
        >>> cohort = load("actg175")
        >>> whole = TableDiffusion(max_steps=20).fit(cohort, seed=1).impute(cohort, seed=2, columns=["cd496"])
        >>> int(cohort.table["cd496"].isna().sum()), int(whole.table["cd496"].isna().sum())
        (797, 0)
        """
        return tabular.impute_cells(self._fitted, frame, self._filled, seed=seed, columns=columns, draws=draws, run=run)

    def losses(self, data: TableData, *, seed: int | Seed, draws: int = 50) -> np.ndarray:
        """How unexpected each row is to the model, in nats per token: what an attacker with the model can look at.

        Args:
            data: rows with the columns of the training table.
            seed: equal seeds hide the same tokens.
            draws: how often tokens are hidden anew; the mean is given.

        Shape: -> (rows,)

        Raises:
            UsageError: not fitted.
        """
        state, generator = tabular.state_of(self._fitted), Seed.of(seed).torch()
        layout = Layout.of(state.codec)
        tokens = torch.from_numpy(state.codec.encode(data, order=layout.order))
        device, total = next(state.network.parameters()).device, torch.zeros(len(tokens))
        loss = RowLoss(state.network, layout).to(device)
        with training.threads(self.threads), torch.inference_mode():
            for _ in range(draws):
                hidden = hidden_tokens(tokens, layout, generator)
                total += loss.rows(*(part.to(device) for part in hidden)).cpu()
        return (total / draws).numpy().astype(float)

    def parameter_count(self, train: TableData, *, seed: int | Seed) -> int:
        """How many parameters `fit` would train on this table: for estimates, without training."""
        codec = TableCodec.fit(train, seed=Seed.of(seed).child("codec"), ties=True)
        network = self._resolved(train.patient_count, codec)._network(codec, Seed.of(seed), None)
        return sum(p.numel() for p in network.parameters())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the training did: steps, losses, notes, network size, and what value protection folded."""
        return tabular.state_of(self._fitted).facts

    def plot_training(self) -> Figure:
        """Train and validation loss over the steps, the step whose weights were kept, and the memorisation gap."""
        return plot_training(self.facts)

    def save(self, folder: str | Path) -> None:
        """Write `manifest.json` and `weights.safetensors`."""
        tabular.save(folder, self, tabular.state_of(self._fitted))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            DataError: not such a folder, or one that is broken or was altered.
        """

        def rebuild(model: Model, codec: TableCodec) -> tuple[Denoiser, str]:
            settings = dataclasses.replace(cls(**model.settings), **model.facts["network"])
            prior = GaussianPrior.like(Layout.of(codec), model.tensors) if settings.prior else None
            return settings._network(codec, model.seed, prior), tabular.device_of(settings.device, cls.name)

        model, fitted = tabular.load(folder, cls.name, rebuild)
        generator = cls(**model.settings)
        generator._fitted = fitted
        return generator

    def _filled(
        self, fitted: Fitted[Denoiser], tokens: np.ndarray, never_missing: np.ndarray | None, seed: Seed, run: Run
    ) -> np.ndarray:
        """Shape: tokens (rows, tokens), HIDDEN where unknown -> the same, all known."""
        with training.threads(self.threads), torch.inference_mode():
            return sample_tokens(
                fitted.network,
                fitted.codec,
                tokens,
                seed=seed,
                run=run,
                never_missing=never_missing,
            )

    def _privacy(self, patients: int) -> Privacy | None:
        return Privacy.of(
            self.name,
            epsilon=self.dp_epsilon,
            delta=self.dp_delta,
            clip=self.dp_clip,
            marginals=self.dp_marginals,
            seeded=self.dp_seeded,
            patients=patients,
        )

    def _resolved_privately(self) -> TableDiffusion:
        """A small network without dropout: noise grows with the number of weights, and keeps from learning by heart."""
        chosen = {"width": 128, "blocks": 1, "learning_rate": 5e-3, "embedding": 16, "smooth": True}
        unset = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        never = {"dropout": 0.0, "prior": False, "bfloat16": False}
        return dataclasses.replace(self, device=tabular.device_of(self.device, self.name), **never, **unset)  # type: ignore[arg-type]

    def _resolved(self, patients: int, codec: TableCodec) -> TableDiffusion:
        """These settings with every None replaced by what suits the table and the device."""
        tier = int(np.searchsorted((5_000, 20_000, 30_000), patients, side="right"))
        device = tabular.device_of(self.device, self.name)
        chosen = {
            "width": (128, 256, 384, 384)[tier],
            "blocks": (1, 2, 2, 1)[tier],
            "learning_rate": (2e-4, 2e-3, 3e-3, 3e-3)[tier],
            "embedding": 16 if tier == 0 or len(codec.vocabulary) > 40 else 32,
            "dropout": 0.3 if patients < 1_000 else (0.2, 0.2, 0.1, 0.1)[tier],
            "smooth": tier < 3,
            "batch": 256 if tier == 0 else 512 if device == "cpu" else 4_096,
            "weight_decay": (0.1, 0.1, 0.1, 1e-2)[tier],
            "max_epochs": (600.0, 50.0, 60.0, 60.0)[tier],
            "tolerance": (0.0, 0.003, 0.003, 0.003)[tier],  # annealed weights sample better than their loss alone says
            "memorisation_gap": (0.05, 0.1, 0.1, 0.1)[tier],
            "prior": tier == 0 and _axes(codec) <= _PRIOR_AXES,
            "bfloat16": device == "cuda",
        }
        unset = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return dataclasses.replace(self, device=device, **unset)  # type: ignore[arg-type]

    def _tokens(self, codec: TableCodec, data: TableData) -> torch.Tensor:
        """The table's tokens, coarse before fine, on the device. Shape: -> (rows, tokens), as narrow as they can be."""
        tokens = codec.encode(data, order=Layout.of(codec).order)
        return torch.from_numpy(tokens).to(torch.device(self.device))

    def _network_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("width", "blocks", "embedding", "dropout", "smooth", "prior")}

    def _network(self, codec: TableCodec, seed: Seed, prior: GaussianPrior | None) -> Denoiser:
        settings = {**self._network_settings(), "prior": prior}
        with torch.random.fork_rng(devices=[]):  # layers draw initial weights from the global state, then from ours
            return Denoiser(codec, **settings, generator=seed.torch())

    def _recipe(self, rows: int) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            max_epochs=self.max_epochs,
            batch=min(self.batch or rows, max(16, rows // 4)),
            learning_rate=self.learning_rate or 3e-3,
            weight_decay=self.weight_decay or 0.0,
            patience=self.patience,
            tolerance=self.tolerance or 0.0,
            memorisation_gap=self.memorisation_gap or 0.05,
            checkpoint_seconds=self.checkpoint_seconds,
        )


def _axes(codec: TableCodec) -> int:
    """Columns, and columns that may be missing."""
    coarse = [codec.tokens_of(name)[0] for name in codec.names]
    return len(coarse) + sum(bool(codec.emittable[token][MISSING]) for token in coarse)

"""How does the conditional GAN learn a table, and sample from it?

Licence of the generator: Apache-2.0. Networks in `gan_networks`, losses in `gan_objective`, the loop in `training`.
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
from synthgen.generators.dp import Privacy
from synthgen.generators.dp_tables import Prepared
from synthgen.generators.dp_training import fit_privately
from synthgen.generators.gan_networks import Critic, Maker, Players
from synthgen.generators.gan_objective import GanObjective
from synthgen.generators.gan_private import CriticLoss, MakerSteps, pairs
from synthgen.generators.gan_sampling import sample_tokens
from synthgen.generators.tabular import Fitted
from synthgen.generators.training_plot import plot_training
from synthgen.interrupts import keeping_the_best
from synthgen.protocols import Run
from synthgen.rng import Seed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
_PRIVATE_BETAS = (0.5, 0.99)  # noise is averaged over a few steps
_TOLERANCE = 0.05  # the pair error is flat near its floor, where weights of the schedule's end sample better


@dataclass
class TableGan:
    """Conditional GAN over the codec's tokens: settings, and state after `fit`.

    The maker learns to complete rows of which any columns are known, so conditions hold exactly; it makes a row in a
    few passes. The critic stays behind after training: a model folder holds the maker alone. With `dp_epsilon` it gives
    each patient differential privacy, for which the schema must declare bounds and levels (see `dp` and `dp_tables`).

    >>> from synthgen.datasets import load
    >>> generator = TableGan(max_steps=20).fit(load("gbsg2"), seed=1)
    >>> synthetic = generator.sample(100, seed=2, where={"menostat": "Post"})
    >>> len(synthetic), set(synthetic.table["menostat"])
    (100, {'Post'})
    """

    name: ClassVar[str] = "gan"
    licence: ClassVar[str] = "Apache-2.0"

    max_seconds: float = 120.0  # budget of the training loop; turned into a number of steps
    max_steps: int | None = None  # a number of steps instead: the same bytes on every run
    width: int | None = None  # units of each layer of both networks; None: 128 below 5,000 patients, else 256
    blocks: int = 1  # residual blocks of both networks
    noise: int = 64  # numbers that the maker draws for each row and pass
    passes: int = 8  # in which a row is made, each given the columns of those before
    pack: int = 1  # rows that the critic sees at a time
    penalty: float = 0.02  # on the critic's gradient at real and at made rows
    matching: float = 15.0  # weight of the joint tables of token pairs beside the critic
    balanced: float = 0.3  # share of the rows drawn by a level of a column, by its log frequency
    dropout: float | None = None  # of the critic; None: 0.3 below 5,000 patients, else 0
    batch: int | None = None  # rows per step; None: 256 below 5,000 patients, else 512
    learning_rate: float = 3e-3  # peak of the schedule
    patience: int = 16  # evaluations (of 40) without a lower pair error before stopping
    checkpoint_seconds: float = 30.0  # between checkpoints, where the run has a folder
    threads: int | None = None  # torch threads; None: as torch is set
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    force: bool = False  # train on fewer than 50 patients: the audit can hardly clear the result
    dp_epsilon: float | None = None  # differential privacy of each patient, with the extra dp; None: none
    dp_delta: float | None = None  # None: a tenth of 1 / patients
    dp_clip: float = 1.0  # norm that the gradient of a patient is cut to
    dp_marginals: float = 0.2  # share of epsilon for noisy counts of each column; 0: the codec knows the schema alone
    dp_seeded: bool = False  # noise from the seed, which anybody may know: the same bytes, and no privacy
    _fitted: Fitted[Maker] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positive = ("max_seconds", "max_steps", "width", "noise", "passes", "pack", "batch", "learning_rate", "threads")
        for name in (*positive, "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"gan: {name} must be above 0")
        if not (
            self.penalty >= 0 and self.matching >= 0 and 0 <= self.balanced <= 1 and 0 <= (self.dropout or 0.0) < 1
        ):
            raise UsageError(
                "gan: penalty and matching must be at least 0, balanced a share, dropout at least 0 and below 1"
            )

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
        settings = self._resolved(train.patient_count)
        held = tabular.validation_rows(train, seed.child("validation"))
        players = settings._players(codec, seed.child("network"))
        maker, fingerprint = players.maker, train.fingerprint()
        tokens = codec.encode(train, order=maker.layout.order)
        maker.start_from(tokens[~held])
        coarse, is_held = torch.from_numpy(tokens[:, : maker.layout.coarse].copy()), torch.from_numpy(held)
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            outcome = settings._train(players, coarse[~is_held], coarse[is_held], fingerprint, seed, run)
            training.require_learned(outcome)
        facts = {**outcome.to_json(), "network": settings._network_settings(), "validation_rows": int(held.sum())}
        facts["parameters"] = sum(p.numel() for p in players.parameters())
        facts["folded"] = codec.folded_counts
        self._fitted = Fitted(codec, maker.eval(), train.schema, train.backend, seed, fingerprint, facts)
        return self

    def _fit_privately(self, train: TableData, privacy: Privacy, *, seed: Seed, run: Run) -> Self:
        """With DP-SGD for the critic: no look at the records but through the two mechanisms of `dp`."""
        prepared = Prepared.of(train, privacy, seed=seed)
        codec = prepared.codec
        settings = dataclasses.replace(self, dropout=0.0, width=self.width or 128)._resolved(train.patient_count)
        players = settings._players(codec, seed.child("network"))
        maker, order = players.maker, players.maker.layout.order
        made, tokens = (codec.encode(data, order=order) for data in (prepared.made, prepared.rows))
        maker.start_from(made)
        coarse = [
            torch.from_numpy(part[:, : maker.layout.coarse].copy()).to(settings.device) for part in (made, tokens)
        ]
        recipe = dataclasses.replace(settings._recipe(len(tokens)), betas=_PRIVATE_BETAS)
        with keeping_the_best(run, log.warning) as run, training.threads(self.threads):
            spent = fit_privately(
                CriticLoss(players.critic, penalty=self.penalty),
                lambda data, rows, generator: pairs(maker, data[rows], generator),
                made=coarse[0],
                tokens=coarse[1],
                prepared=prepared,
                privacy=privacy,
                batch=self.batch,
                max_steps=self.max_steps,
                recipe=recipe,
                run=run,
                beside=lambda steps: MakerSteps(players, steps=steps, recipe=recipe, seed=seed.child("maker")),
            )
        facts = {**spent, "network": settings._network_settings()}
        facts["parameters"] = sum(p.numel() for p in players.parameters())
        self._fitted = Fitted(codec, maker.eval(), train.schema, train.backend, seed, train.fingerprint(), facts)
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

        A fixed number acts on the other columns by its bin.

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
        """Draw the missing cells of a frame, each row's given all that is known of it (see `TableDiffusion.impute`).

        Raises:
            UsageError: not fitted, or a column that cannot be imputed.
            DataError: columns that the model does not know, or values that do not fit them.

        >>> from synthgen.datasets import load
        >>> cohort = load("actg175")
        >>> whole = TableGan(max_steps=20).fit(cohort, seed=1).impute(cohort, seed=2, columns=["cd496"])
        >>> int(cohort.table["cd496"].isna().sum()), int(whole.table["cd496"].isna().sum())
        (797, 0)
        """
        return tabular.impute_cells(self._fitted, frame, self._filled, seed=seed, columns=columns, draws=draws, run=run)

    def parameter_count(self, train: TableData, *, seed: int | Seed) -> int:
        """How many parameters `fit` would train on this table, both networks together, without training."""
        codec = TableCodec.fit(train, seed=Seed.of(seed).child("codec"), ties=True)
        players = self._resolved(train.patient_count)._players(codec, Seed.of(seed))
        return sum(p.numel() for p in players.parameters())

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the training did: steps, pair errors, notes, network size, and what value protection folded."""
        return tabular.state_of(self._fitted).facts

    def plot_training(self) -> Figure:
        """Pair errors over the steps, the step whose weights were kept, and how they part."""
        return plot_training(self.facts)

    def save(self, folder: str | Path) -> None:
        """Write `manifest.json` and `weights.safetensors`: the maker, without the critic."""
        tabular.save(folder, self, tabular.state_of(self._fitted))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote.

        Raises:
            DataError: not such a folder, or one that is broken or was altered.
        """

        def rebuild(model: Model, codec: TableCodec) -> tuple[Maker, str]:
            made = cls(**model.settings)
            device = tabular.device_of(made.device, cls.name)
            settings = dataclasses.replace(made, device=device, **model.facts["network"])
            return settings._players(codec, model.seed).maker, device

        model, fitted = tabular.load(folder, cls.name, rebuild)
        generator = cls(**model.settings)
        generator._fitted = fitted
        return generator

    def _filled(
        self, fitted: Fitted[Maker], tokens: np.ndarray, never_missing: np.ndarray | None, seed: Seed, run: Run
    ) -> np.ndarray:
        """Shape: tokens (rows, tokens), HIDDEN where unknown -> the same, all known."""
        with training.threads(self.threads), torch.inference_mode():
            return sample_tokens(
                fitted.network,
                fitted.codec,
                tokens,
                passes=self.passes,
                seed=seed,
                run=run,
                never_missing=never_missing,
            )

    def _privacy(self, patients: int) -> Privacy | None:
        if self.dp_epsilon is not None and self.pack > 1:
            raise UsageError("gan: differential privacy cuts the gradient of each patient, and so needs pack=1")
        return Privacy.of(
            self.name,
            epsilon=self.dp_epsilon,
            delta=self.dp_delta,
            clip=self.dp_clip,
            marginals=self.dp_marginals,
            seeded=self.dp_seeded,
            patients=patients,
        )

    def _resolved(self, patients: int) -> TableGan:
        """These settings with every None replaced by what suits the table."""
        small = patients < 5_000
        chosen = {"width": 128 if small else 256, "dropout": 0.3 if small else 0.0, "batch": 256 if small else 512}
        unset: dict[str, Any] = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return dataclasses.replace(self, device=tabular.device_of(self.device, self.name), **unset)

    def _network_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("width", "blocks", "noise", "pack", "dropout")}

    def _players(self, codec: TableCodec, seed: Seed) -> Players:
        """Both networks, untrained, on the device; the settings are resolved."""
        width, blocks, dropout, generator = self.width or 256, self.blocks, self.dropout or 0.0, seed.torch()
        with torch.random.fork_rng(devices=[]):  # layers draw initial weights from the global state, then from ours
            maker = Maker(codec, width=width, blocks=blocks, noise=self.noise, generator=generator)
            critic = Critic(codec, width=width, blocks=blocks, pack=self.pack, dropout=dropout, generator=generator)
        return Players(maker, critic).to(self.device)

    def _train(
        self, players: Players, tokens: torch.Tensor, held: torch.Tensor, fingerprint: str, seed: Seed, run: Run
    ) -> training.Training:
        device = torch.device(self.device)
        objective = GanObjective(
            players.maker.vocabulary,
            tokens.to(device),
            held.to(device),
            seed.child("evaluation"),
            penalty=self.penalty,
            matching=self.matching,
            balanced=self.balanced,
            passes=self.passes,
        ).to(device)
        game = {"penalty": self.penalty, "matching": self.matching, "balanced": self.balanced, "passes": self.passes}
        return training.train(
            players,
            objective,
            objective.evaluate,
            rows=len(tokens),
            recipe=self._recipe(len(tokens)),
            seed=seed.child("training"),
            run=run,
            identity={"generator": self.name, "data": fingerprint, **self._network_settings(), **game},
        )

    def _recipe(self, rows: int) -> training.Recipe:
        return training.Recipe(
            max_seconds=self.max_seconds,
            max_steps=self.max_steps,
            batch=max(self.pack, min(self.batch or rows, max(16, rows // 4))),
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            betas=(0.0, 0.99),
            patience=self.patience,
            tolerance=_TOLERANCE,
            memorisation_gap=1e9,  # joint tables of two columns tell nothing about copied rows
            checkpoint_seconds=self.checkpoint_seconds,
        )

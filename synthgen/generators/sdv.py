"""How do SDV's generators do on the same footing? Adapters to SDV 2.0 (extra `sdv`, licence BUSL-1.1).

SDV is handed the learned columns only, with rare levels and extremes folded by the codec; it never sees an identifier.
It saves itself as a pickle, which runs code when it is loaded: a folder loads only with `trust=True`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch

from synthgen.data import TableData, assemble
from synthgen.errors import DataError, EnvironmentProblem, Interrupted, UsageError
from synthgen.generators import training
from synthgen.generators.checkpoint import Model, load_model, save_model, writing
from synthgen.generators.codec import TableCodec
from synthgen.generators.conditions import Balance, conditions, restore_numbers
from synthgen.generators.independent import QUIET, described, fitted, learned_codec, positive
from synthgen.protocols import Progress, Run
from synthgen.rng import Seed
from synthgen.schema import Column, Kind, TableSchema

PICKLE = "sdv.pkl"
_TABLE = "records"
_SDTYPES: Mapping[Kind, str] = {
    "integer": "numerical",
    "real": "numerical",
    "boolean": "boolean",
    "datetime": "datetime",
    "categorical": "categorical",
    "code": "categorical",
}


@dataclass
class _Adapter:
    """What the three adapters share; each names SDV's class and passes its settings on."""

    name: ClassVar[str]
    licence: ClassVar[str] = "BUSL-1.1"
    needs_trust: ClassVar[bool] = True  # its model folder holds a pickle
    synthesizer_class: ClassVar[str]

    protect: bool = True  # fold rare levels and extremes before SDV sees the table, as own generators do
    threads: int | None = None  # torch threads; None: as torch is set
    max_tries: int = 100  # rounds of rejection before a condition is given up
    model: Model | None = field(default=None, init=False, repr=False)
    synthesizer: Any = field(default=None, init=False, repr=False)

    def fit(self, train: TableData, *, seed: int | Seed, run: Run = QUIET) -> Self:
        """Train SDV's synthesizer; SDV cannot be stopped or resumed once it has begun.

        Raises:
            EnvironmentProblem: SDV is not installed.
            DataError: no rows, or no column with values.
            Interrupted: `run.stop` asked for it before SDV began.
        """
        sdv, root = load_sdv(), Seed.of(seed)
        codec = learned_codec(train, root)
        values = codec.decode(codec.encode(train), seed=root.child("protect")) if self.protect else train.learned
        frame = _sdv_frame(pd.DataFrame({name: values[name] for name in codec.originals}), train.schema)
        if frame.empty:
            raise DataError("nothing to learn: no learned column has values that enough patients share")
        run.progress(Progress("fit", 0, 1))
        if run.stop():
            raise Interrupted("fitting was stopped before SDV began; nothing was kept")
        with _tamed(root.child("fit"), self.threads):
            self.synthesizer = self._make(sdv, _metadata(sdv, frame, train.schema))
            self.synthesizer.fit({_TABLE: frame})
        _forget_rows(self.synthesizer)
        run.progress(Progress("fit", 1, 1))
        model = described(self, train, root, codec, {})
        self.model = dataclasses.replace(model, facts={**(model.facts if self.protect else {}), "sdv": sdv.__version__})
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
        """Draw rows. Conditions hold exactly; SDV meets most by rejection, so rare combinations are refused.

        Raises:
            UsageError: not fitted, or a condition that SDV did not meet.
        """
        model, root = fitted(self.model, self.name), Seed.of(seed)
        codec = TableCodec.from_json(model.codec or {})
        fixed = conditions(codec, model.schema, n=positive(n), seed=root, where=where, given=given, balance=balance)
        with _tamed(root.child("sample"), self.threads):
            _reseed(self.synthesizer, root.child("transformers"))
            frame = self._conditioned(fixed, model.schema) if len(fixed.columns) else self.synthesizer.sample(n)[_TABLE]
        values = _canonical_values(frame, model.schema, codec.originals, n)
        _check_met(values, fixed)
        values = restore_numbers(values, fixed, codec)
        return assemble(values, model.schema, n=n, seed=root.child("mint"), backend=model.backend)

    def save(self, folder: str | Path) -> None:
        """Write the model folder: the manifest, and SDV's own pickle with its checksum in the manifest.

        Raises:
            UsageError: not fitted.
            EnvironmentProblem: the folder cannot be written.
        """
        model, folder = fitted(self.model, self.name), Path(folder)
        with writing("the model folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _tamed(model.seed, self.threads):
                self.synthesizer.save(str(folder / PICKLE))
            digest = hashlib.sha256((folder / PICKLE).read_bytes()).hexdigest()
        save_model(folder, dataclasses.replace(model, facts={**model.facts, "pickle_sha256": digest}))

    @classmethod
    def load(cls, folder: str | Path, *, trust: bool = False) -> Self:
        """Read a model folder back.

        The checksum finds a damaged file, not a malicious one: whoever can write the folder can write both.

        Args:
            folder: what `save` wrote.
            trust: say that you know who made the folder; loading a pickle runs whatever code is in it.

        Raises:
            UsageError: without trust.
            DataError: not such a folder, or the pickle is not the one that the manifest describes.
        """
        folder = Path(folder)
        model = load_model(folder, generator=cls.name)
        if not trust:
            raise UsageError(
                f"{folder.name!r} holds a pickle, which runs code when it is loaded. If you made it yourself or trust "
                "who did, load it with trust=True (on the command line: --trust)"
            )
        sdv, path = load_sdv(), folder / PICKLE
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != model.facts.get("pickle_sha256"):
            raise DataError(f"the model folder {folder.name!r} is broken: {PICKLE} is not the file of its manifest")
        generator = cls(**model.settings)
        with _tamed(model.seed, generator.threads):
            generator.synthesizer = sdv.utils.load_synthesizer(str(path))
        generator.model = model
        return generator

    def _make(self, sdv: ModuleType, metadata: Any) -> Any:
        """SDV's synthesizer with the settings that it and the adapter both have."""
        shared = {f.name for f in dataclasses.fields(_Adapter)} | {"device"}
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in shared}
        if hasattr(self, "device"):
            settings["enable_gpu"] = self.device != "cpu"
        return getattr(sdv.single_table, self.synthesizer_class)(metadata, **settings)

    def _conditioned(self, fixed: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
        """Rows of SDV's conditional sampling; fewer than asked for where its rejection gave up."""
        sdv = load_sdv()
        wanted = _sdv_frame(fixed, schema, keep_empty=True)
        unseen = [column for column in wanted if column not in self.synthesizer.get_metadata().tables[_TABLE].columns]
        wanted = wanted.drop(columns=unseen)  # columns without values: the only condition they can meet is missing
        if not len(wanted.columns):
            return self.synthesizer.sample(len(fixed))[_TABLE]
        condition = sdv.sampling.DataFrameCondition(wanted)
        try:
            return self.synthesizer.sample_from_conditions([condition], max_tries_per_batch=self.max_tries)[_TABLE]
        except (ValueError, sdv.errors.SamplingError) as error:
            raise UsageError(_unmet(0, len(fixed))) from error


@dataclass
class SdvCtgan(_Adapter):
    """SDV's CTGAN. Settings and defaults are SDV's, except that it trains on the CPU unless told otherwise.

    >>> SdvCtgan(epochs=10).licence
    'BUSL-1.1'
    """

    name: ClassVar[str] = "sdv-ctgan"
    synthesizer_class: ClassVar[str] = "CTGANSynthesizer"

    epochs: int = 300
    batch_size: int = 500
    embedding_dim: int = 128
    generator_dim: tuple[int, ...] = (256, 256)
    discriminator_dim: tuple[int, ...] = (256, 256)
    generator_lr: float = 2e-4
    discriminator_lr: float = 2e-4
    discriminator_steps: int = 1
    pac: int = 10
    device: Literal["auto", "cpu"] = "cpu"


@dataclass
class SdvTvae(_Adapter):
    """SDV's TVAE. Settings and defaults are SDV's, except that it trains on the CPU unless told otherwise.

    >>> SdvTvae().epochs
    300
    """

    name: ClassVar[str] = "sdv-tvae"
    synthesizer_class: ClassVar[str] = "TVAESynthesizer"

    epochs: int = 300
    batch_size: int = 500
    embedding_dim: int = 128
    compress_dims: tuple[int, ...] = (128, 128)
    decompress_dims: tuple[int, ...] = (128, 128)
    l2scale: float = 1e-5
    loss_factor: int = 2
    device: Literal["auto", "cpu"] = "cpu"


@dataclass
class SdvCopula(_Adapter):
    """SDV's Gaussian copula.

    >>> SdvCopula().default_distribution
    'beta'
    """

    name: ClassVar[str] = "sdv-copula"
    synthesizer_class: ClassVar[str] = "GaussianCopulaSynthesizer"

    default_distribution: Literal["norm", "beta", "truncnorm", "uniform", "gamma", "gaussian_kde"] = "beta"


def load_sdv() -> ModuleType:
    """The `sdv` package, imported without the log configuration that it would write into the user's home.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import platformdirs

        home, state = platformdirs.user_data_dir, random.getstate()  # importing SDV draws from `random`
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as elsewhere:
            warnings.simplefilter("ignore")
            platformdirs.user_data_dir = lambda *_, **__: elsewhere
            try:
                import sdv.errors
                import sdv.metadata
                import sdv.sampling
                import sdv.single_table
                import sdv.utils
            finally:
                platformdirs.user_data_dir = home
                random.setstate(state)
    except ImportError as error:
        raise EnvironmentProblem("SDV is not installed: pip install 'synthgen-health[sdv]'") from error
    return sdv


@contextlib.contextmanager
def _tamed(seed: Seed, threads: int | None) -> Iterator[None]:
    """SDV draws from global random states, prints and warns: here it does so to no effect outside."""
    before, silent = (np.random.get_state(), random.getstate()), io.StringIO()  # noqa: NPY002
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.random.fork_rng(device_type="cuda"))
        stack.enter_context(training.threads(threads))
        stack.enter_context(contextlib.redirect_stdout(silent))
        stack.enter_context(contextlib.redirect_stderr(silent))
        np.random.set_state(np.random.RandomState(_bits(seed, "numpy")).get_state())  # noqa: NPY002
        random.setstate(random.Random(_bits(seed, "python")).getstate())  # noqa: S311  nothing secret is drawn
        torch.set_rng_state(seed.child("torch").torch().get_state())
        torch.cuda.manual_seed_all(_bits(seed, "cuda"))
        try:
            yield
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])


def _bits(seed: Seed, name: str) -> int:
    return seed.child(name).integer() % 2**32


def _reseed(synthesizer: Any, seed: Seed) -> None:
    """SDV samples the same rows after every load and repeats its missing values: give all of its parts this seed."""
    synthesizer.reset_sampling()
    synthesizer._set_random_state(_bits(seed, "model"))
    transformers = synthesizer._data_processor._hyper_transformer.field_transformers
    for name, transformer in transformers.items():
        for method in ("transform", "reverse_transform"):
            if transformer is not None:
                state = np.random.RandomState(_bits(seed.child(str(name)), method))
                transformer.set_random_state(state, method)


def _forget_rows(synthesizer: Any) -> None:
    """CTGAN keeps, for training, which rows have which level: the table itself, which must not end up in the pickle."""
    sampler = getattr(synthesizer._model, "_data_sampler", None)
    if sampler is not None:
        sampler._rid_by_cat_cols = []


def _metadata(sdv: ModuleType, frame: pd.DataFrame, schema: TableSchema) -> Any:
    """Kinds only: no primary key, no personal data, and neutral column names."""
    kinds = {_alias(schema, column): {"sdtype": _SDTYPES[column.kind]} for column in schema.learned}
    columns = {name: kinds[name] for name in frame.columns}
    return sdv.metadata.Metadata.load_from_dict({"tables": {_TABLE: {"columns": columns}}})


def _alias(schema: TableSchema, column: Column) -> str:
    """A name that SDV cannot mistake for anything: it treats names such as 'ssn' or numbers in ways of their own."""
    return f"column_{schema.learned.index(column)}_"


def _sdv_frame(table: pd.DataFrame, schema: TableSchema, *, keep_empty: bool = False) -> pd.DataFrame:
    """Canonical columns as SDV takes them, under neutral names; columns without any value are left out."""
    columns = {}
    for name in table.columns:
        values, column = table[name], schema[str(name)]
        if column.kind == "boolean":
            values = values.map({0.0: False, 1.0: True}).astype(object).where(values.notna(), None)
        if keep_empty or values.notna().any():
            columns[_alias(schema, column)] = values
    return pd.DataFrame(columns, index=table.index)


def _canonical_values(frame: pd.DataFrame, schema: TableSchema, names: tuple[str, ...], n: int) -> dict[str, Any]:
    """SDV's rows as values for `data.assemble`."""
    if len(frame) != n:
        raise UsageError(_unmet(len(frame), n))
    values: dict[str, Any] = {}
    for name in names:
        column = schema[name]
        made = frame.get(_alias(schema, column))
        if made is None:
            made = pd.Series([None] * n, dtype=object)
        if column.kind == "datetime":
            values[name] = pd.to_datetime(made).to_numpy()
        elif column.kind in ("categorical", "code"):
            values[name] = made.astype(object).where(made.notna(), None).to_numpy()
        else:
            values[name] = pd.to_numeric(made.map({False: 0.0, True: 1.0}) if made.dtype == object else made).to_numpy(
                dtype=float
            )
    return values


def _check_met(values: Mapping[str, Any], fixed: pd.DataFrame) -> None:
    for name in fixed.columns:
        wanted, made = fixed[name], pd.Series(values[str(name)], index=fixed.index)
        if pd.api.types.is_float_dtype(wanted.dtype):
            met = np.isclose(made.astype(float), wanted, rtol=0.01)  # as near as SDV comes before it sets the value
        else:
            met = (made == wanted).to_numpy()
        met = met | (made.isna() & wanted.isna()).to_numpy()
        if not met.all():
            raise UsageError(_unmet(int(met.sum()), len(fixed)))


def _unmet(met: int, asked: int) -> str:
    return (
        f"SDV met the condition in {met} of {asked} rows: it samples and rejects, which does not reach rare "
        "combinations or exact numbers; condition on fewer columns, or use the diffusion or copula generator"
    )

"""What must a plug-in provide? The whole contract between generators, checks and the jobs that run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd

    from synthgen.cohort import Cohort
    from synthgen.data import TableData
    from synthgen.findings import Measurement
    from synthgen.images import ImageData
    from synthgen.rng import Seed
    from synthgen.schema import TableSchema

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One event of a long job: what it is doing, how far it is, and figures worth a line in `metrics.jsonl`."""

    stage: str
    done: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


def _silent(_event: Progress) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Run:
    """What a long job tells and obeys. The defaults tell nobody, keep nothing and never stop."""

    folder: Path | None = None  # checkpoints go here; None keeps none
    resume: bool = False  # go on from the newest checkpoint in `folder`
    progress: Callable[[Progress], None] = _silent
    stop: Callable[[], bool] = _never  # asked at every step; True: write a checkpoint, and do what `on_stop` says
    on_stop: Literal["resume", "keep"] = "resume"  # raise Interrupted, to be resumed; or return with the best so far


@runtime_checkable
class Generator(Protocol):
    """Learns from real data once; samples any number of times.

    A generator is a dataclass of settings; `fit` gives it state. It never sees the holdout.
    """

    name: str
    licence: str

    def fit(self, train: TableData, *, seed: int | Seed, run: Run = ...) -> Self: ...

    def sample(
        self, n: int, *, seed: int | Seed, where: Mapping[str, Any] | None = None, given: pd.DataFrame | None = None
    ) -> TableData: ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...


@dataclass(frozen=True)
class Images:
    """The images of an audit."""

    train: ImageData
    holdout: ImageData
    synthetic: ImageData


@dataclass(frozen=True)
class Cohorts:
    """The cohorts of an audit: which image is of which record."""

    train: Cohort
    holdout: Cohort
    synthetic: Cohort


@dataclass(frozen=True)
class Evidence:
    """What the checks of one audit may look at; `shared` holds what several checks compute once.

    The tables of an audit of images are their records; of the images of a cohort, what each goes by.
    """

    train: TableData
    holdout: TableData
    synthetic: TableData
    schema: TableSchema
    images: Images | None = None
    cohorts: Cohorts | None = None
    refit: Callable[[TableData, Seed], TableData] | None = None  # trains again on other rows and samples
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` gives, computed at most once per audit."""
        if key not in self.shared:
            self.shared[key] = make()
        value: T = self.shared[key]
        return value


@runtime_checkable
class Check(Protocol):
    """Measures one thing and answers one question in plain words; it never judges.

    `run` raises `NotAssessable` when the evidence cannot answer the question.
    """

    name: str  # "copies.neighbor"; the part before the dot is the family
    question: str  # "Does the synthetic table copy train patients?"
    # of {"train", "holdout", "synthetic", "images", "cohort", "refit", "target", "survival", "estimates", "rules"}
    needs: frozenset[str]

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement: ...

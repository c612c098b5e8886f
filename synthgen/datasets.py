"""Which real cohorts come with synthgen's dependencies? Loaded offline, with schema and roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING

from synthgen.errors import UsageError, suggest
from synthgen.infer import canonical_table, infer_schema
from synthgen.schema import Role

if TYPE_CHECKING:
    from synthgen.data import TableData


@dataclass(frozen=True)
class Dataset:
    """A cohort that a dependency ships."""

    title: str
    package: str
    path: tuple[str, ...]
    licence: str
    source: str
    roles: Mapping[str, tuple[Role, ...]]
    dropped: tuple[str, ...] = ()
    separator: str = ","


DATASETS: Mapping[str, Dataset] = {
    "actg175": Dataset(
        title="ACTG175: a trial of 2,139 HIV patients, four arms, survival outcome",
        package="lifelines",
        path=("datasets", "ACTG175.csv"),
        licence="MIT (lifelines); originally from the R package speff2trial",
        source="Hammer et al. 1996, doi:10.1056/NEJM199610103351501",
        roles={
            "pidnum": ("patient",),
            "cens": ("target", "event"),
            "days": ("time",),
            "age": ("quasi_identifier",),
            "race": ("quasi_identifier",),
            "gender": ("quasi_identifier",),
            "homo": ("quasi_identifier", "sensitive"),
            "drugs": ("sensitive",),
        },
        dropped=("Unnamed: 0",),
    ),
    "gbsg2": Dataset(
        title="GBSG2: 686 women with node-positive breast cancer, survival outcome",
        package="lifelines",
        path=("datasets", "gbsg2.csv"),
        licence="MIT (lifelines); originally from the R package TH.data",
        source="Schumacher et al. 1994, doi:10.1200/JCO.1994.12.10.2086",
        roles={
            "cens": ("target", "event"),
            "time": ("time",),
            "age": ("quasi_identifier",),
            "menostat": ("quasi_identifier",),
        },
    ),
}


def load(name: str) -> TableData:
    """Load a shipped cohort.

    >>> load("actg175")
    TableData(2,139 rows of 2,139 patients, 27 columns)

    Raises:
        UsageError: no such data set.
    """
    import pandas as pd

    from synthgen.data import TableData

    if name not in DATASETS:
        raise UsageError(f"no data set {name!r}: {suggest(name, DATASETS)}")
    entry = DATASETS[name]
    with files(entry.package).joinpath(*entry.path).open("rb") as stream:
        raw = pd.read_csv(stream, sep=entry.separator).drop(columns=list(entry.dropped))
    schema, _ = infer_schema(raw)
    columns = tuple(replace(column, roles=entry.roles.get(column.name, ())) for column in schema.columns)
    schema = replace(schema, columns=columns)
    return TableData(canonical_table(raw, schema, name=name), schema)

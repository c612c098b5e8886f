"""Synthetic patient data that can be shared because it was attacked first.

>>> import synthgen as sg
>>> train, holdout = sg.datasets.load("actg175").split_by_patient(holdout=0.3, seed=7)
>>> synthetic = sg.Copula().fit(train, seed=7).sample(len(train), seed=8)
>>> synthetic
TableData(1,497 rows of 1,497 patients, 27 columns)

Names are loaded when they are first used: importing synthgen loads neither torch nor pandas. No module is called like a
function named here: importing it would put the module in the place of the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthgen import datasets as datasets
    from synthgen.auditing import Audit as Audit
    from synthgen.auditing import audit as audit
    from synthgen.cohort import Cohort as Cohort
    from synthgen.cohort import Link as Link
    from synthgen.cohort_io import read_cohort as read_cohort
    from synthgen.comparison import Comparison as Comparison
    from synthgen.comparison import compare as compare
    from synthgen.data import TableData as TableData
    from synthgen.dicom.write import write_dicom as write_dicom
    from synthgen.errors import DataError as DataError
    from synthgen.errors import ReleaseRefused as ReleaseRefused
    from synthgen.errors import SynthgenError as SynthgenError
    from synthgen.generators.copula import Copula as Copula
    from synthgen.generators.independent import Independent as Independent
    from synthgen.generators.table_diffusion import TableDiffusion as TableDiffusion
    from synthgen.generators.table_gan import TableGan as TableGan
    from synthgen.image_io import read_images as read_images
    from synthgen.images import ImageData as ImageData
    from synthgen.io import read as read
    from synthgen.io import write as write
    from synthgen.policy import Policy as Policy
    from synthgen.policy import load_policy as load_policy
    from synthgen.protocols import Run as Run
    from synthgen.releasing import release as release
    from synthgen.releasing import verify as verify
    from synthgen.rng import Seed as Seed
    from synthgen.schema import Column as Column
    from synthgen.schema import TableSchema as TableSchema
    from synthgen.schema import read_schema as read_schema

__version__ = "0.1.0"

_HOME = {
    "Audit": "auditing",
    "Cohort": "cohort",
    "Column": "schema",
    "Comparison": "comparison",
    "Copula": "generators.copula",
    "DataError": "errors",
    "ImageData": "images",
    "Independent": "generators.independent",
    "Link": "cohort",
    "Policy": "policy",
    "ReleaseRefused": "errors",
    "Run": "protocols",
    "Seed": "rng",
    "SynthgenError": "errors",
    "TableData": "data",
    "TableDiffusion": "generators.table_diffusion",
    "TableGan": "generators.table_gan",
    "TableSchema": "schema",
    "audit": "auditing",
    "compare": "comparison",
    "datasets": "",
    "load_policy": "policy",
    "read": "io",
    "read_cohort": "cohort_io",
    "read_images": "image_io",
    "read_schema": "schema",
    "release": "releasing",
    "verify": "releasing",
    "write": "io",
    "write_dicom": "dicom.write",
}

__all__ = [  # sorted, checked by a test against _HOME
    "Audit",
    "Cohort",
    "Column",
    "Comparison",
    "Copula",
    "DataError",
    "ImageData",
    "Independent",
    "Link",
    "Policy",
    "ReleaseRefused",
    "Run",
    "Seed",
    "SynthgenError",
    "TableData",
    "TableDiffusion",
    "TableGan",
    "TableSchema",
    "audit",
    "compare",
    "datasets",
    "load_policy",
    "read",
    "read_cohort",
    "read_images",
    "read_schema",
    "release",
    "verify",
    "write",
    "write_dicom",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'synthgen' has no attribute {name!r}")
    value = import_module(f"synthgen.{_HOME[name] or name}")
    if _HOME[name]:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Which record becomes which object? Patients, studies and series numbered anew, with dates that fit their ages."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from synthgen.dicom.dates import patient_dates
from synthgen.dicom.objects import KINDS, VOLUMES, Kind
from synthgen.dicom.terms import TERMED, term
from synthgen.errors import DataError, UsageError, suggest
from synthgen.images import ImageData
from synthgen.rng import Seed

_NEEDS_SPACING = frozenset({"CT", "MR", "DX", "MG"})
_SIDE_IS_OF_THE_IMAGE = frozenset({"DX", "MG"})  # not of the series


@dataclass(frozen=True)
class Place:
    """One image's record; its groups are numbered from 0 in order of appearance."""

    kind: Kind
    values: Mapping[str, Any]
    terms: Mapping[str, str]  # of the columns `TERMED`; empty: not known
    patient: int
    study: int  # of the patient
    series: int  # of the study
    study_date: date
    birth_date: date | None

    def number(self, name: str) -> float | None:
        """A value as a finite number, None where it is missing."""
        value = known(self.values.get(name))
        return None if value is None or not np.isfinite(float(value)) else float(value)

    @property
    def group(self) -> tuple[int, int, int]:
        """Of patient, study and series."""
        return self.patient, self.study, self.series

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Between rows, between columns.

        Raises:
            DataError: not there, where such an object must say it, or not above zero.
        """
        found = [self.number(name) for name in ("row_spacing_mm", "column_spacing_mm")]
        if None in found:
            if self.kind in _NEEDS_SPACING:
                raise DataError(f"{self.kind} objects need the columns 'row_spacing_mm' and 'column_spacing_mm'")
            return None
        return above_zero(found[0], "row_spacing_mm"), above_zero(found[1], "column_spacing_mm")

    @property
    def window(self) -> tuple[float, float] | None:
        """Centre and width."""
        center, width = self.number("window_center"), self.number("window_width")
        return None if center is None or width is None or width < 1 else (center, width)


def above_zero(value: float | None, column: str) -> float:
    """A distance.

    Raises:
        DataError: it is none.
    """
    if value is None or value <= 0:
        raise DataError(f"column {column!r} holds a distance that is missing or not above zero")
    return value


def known(value: Any) -> Any:
    """None where a table's value is missing."""
    import pandas as pd

    return None if value is None or value is pd.NA or value != value else value


def places(images: ImageData, modality: str | None, seed: Seed) -> list[Place]:
    """The place of every image.

    A patient has one sex, a study one date and age: that of the first record that knows it. What differs within a
    study, though the standard wants it to be the same in a series, makes two series. CT and MR images are a series
    each, because nothing says how one of them lies to another.

    Raises:
        UsageError: a modality that cannot be written.
        DataError: records that contradict themselves.
    """
    values_of: list[dict[str, Any]] = images.records.table.to_dict("records")  # type: ignore[assignment]
    kinds = _kinds(values_of, modality)
    terms = [{column: term(column, known(values.get(column)) or "") for column in TERMED} for values in values_of]
    patients = _numbered((patient,) for patient in images.records.patients.tolist())
    studies = _numbered(map(_study, patients, values_of))
    series = _numbered(map(_series, range(len(kinds)), studies, kinds, terms, values_of))
    within_patient = _ranks(patients, studies)
    within_study = _ranks(studies, series)
    dates = _dates(patients, studies, values_of, seed)
    sexes: dict[int, str] = {}
    for patient, words in zip(patients, terms, strict=True):
        sexes[patient] = sexes.get(patient) or words["sex"]
    return [
        Place(
            kind=kinds[i],
            values=values_of[i],
            terms={**terms[i], "sex": sexes[patients[i]]},
            patient=patients[i],
            study=within_patient[studies[i]],
            series=within_study[series[i]],
            study_date=dates[studies[i]][1],
            birth_date=dates[studies[i]][0],
        )
        for i in range(len(kinds))
    ]


def _kinds(values_of: list[dict[str, Any]], modality: str | None) -> list[Kind]:
    names: dict[str, Kind] = {**{kind: kind for kind in KINDS}, "SC": "OT"}
    if modality is not None and modality.upper() not in names:
        raise UsageError(f"modality {modality!r} cannot be written: {suggest(modality.upper(), names)}")
    stated = (modality or known(values.get("modality")) for values in values_of)
    return [names.get(str(value).upper(), "OT") for value in stated]


def _study(patient: int, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a study apart; where no record names it, one for each age and date of the patient."""
    study = known(values.get("study"))
    return (patient, study) if study is not None else (patient, None, _age(values), _stated(values))


def _series(
    number: int, study: int, kind: Kind, terms: Mapping[str, str], values: Mapping[str, Any]
) -> tuple[Any, ...]:
    """What tells a series apart; where no record names it, each image is one."""
    series = known(values.get("series"))
    alone = number if series is None or kind in VOLUMES else -1
    side = "" if kind in _SIDE_IS_OF_THE_IMAGE else terms["laterality"]
    return (study, alone, None if alone >= 0 else series, kind, terms["body_part"], side)


def _numbered(keys: Any) -> list[int]:
    """From 0, in order of appearance."""
    found: dict[Any, int] = {}
    return [found.setdefault(key, len(found)) for key in keys]


def _ranks(outer: list[int], inner: list[int]) -> dict[int, int]:
    """The number of each inner group within its outer one."""
    counts: collections.Counter[int] = collections.Counter()
    ranks: dict[int, int] = {}
    for above, below in zip(outer, inner, strict=True):
        if below not in ranks:
            ranks[below] = counts[above]
            counts[above] += 1
    return ranks


def _dates(
    patients: list[int], studies: list[int], values_of: list[dict[str, Any]], seed: Seed
) -> dict[int, tuple[date | None, date]]:
    """Birth date of the patient, and date, of each study."""
    of_patient: dict[int, dict[int, tuple[int | None, date | None]]] = {}
    for patient, study, values in zip(patients, studies, values_of, strict=True):
        age, day = of_patient.setdefault(patient, {}).get(study, (None, None))
        of_patient[patient][study] = (_age(values) if age is None else age, day or _stated(values))
    found = {}
    for patient, facts in of_patient.items():
        born, days = patient_dates(list(facts.values()), seed=seed.child("dates", str(patient)))
        found.update({study: (born, day) for study, day in zip(facts, days, strict=True)})
    return found


def _age(values: Mapping[str, Any]) -> int | None:
    age = known(values.get("age_years"))
    return None if age is None else int(age)


def _stated(values: Mapping[str, Any]) -> date | None:
    day = known(values.get("study_date"))
    try:
        return None if day is None else day.date()  # type: ignore[no-any-return]
    except AttributeError as error:
        raise DataError("column 'study_date' does not hold dates") from error

"""When was a synthetic patient born and imaged? On days at which every age of the records is true."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from synthgen.errors import DataError
from synthgen.rng import Seed

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2019, 12, 31)  # between which dates are drawn where none is stated
_DAY = timedelta(days=1)
_OLDEST = 150


def patient_dates(
    studies: Sequence[tuple[int | None, date | None]], *, seed: Seed
) -> tuple[date | None, tuple[date, ...]]:
    """The birth date of one patient, None where no age is known, and the date of each study.

    Args:
        studies: age in years and stated date of each, None where not known.
        seed: of the days that are drawn: within 2000 to 2019 where the ages leave room for that.

    Raises:
        DataError: an age below 0 or above 150, or ages and dates that no birth date fits within a year of rounding.

    >>> born, (first, second) = patient_dates([(40, date(2010, 5, 1)), (43, None)], seed=Seed(1))
    >>> age_at(born, first), age_at(born, second)
    (40, 43)
    """
    if any(age is not None and not 0 <= age <= _OLDEST for age, _ in studies):
        raise DataError(f"column 'age_years' holds ages below 0 or above {_OLDEST}")
    born = _born(studies, seed.child("birth"))
    drawn = (_date(age, day, born, seed.child("study", str(i))) for i, (age, day) in enumerate(studies))
    return born, tuple(drawn)


def age_at(born: date | None, day: date) -> int | None:
    """Whole years; None where no birth date is known.

    >>> age_at(date(2000, 2, 29), date(2001, 2, 28)), age_at(date(2000, 2, 29), date(2001, 3, 1))
    (0, 1)
    """
    return None if born is None else day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def _born(studies: Sequence[tuple[int | None, date | None]], seed: Seed) -> date | None:
    """A day of the window in which all ages are true; of undated studies within the drawn years, if there is one."""
    dated = [(age, day, day) for age, day in studies if age is not None and day is not None]
    undated = [(age, FIRST_DAY, LAST_DAY) for age, day in studies if age is not None and day is None]
    if not dated and not undated:
        return None
    for bounds, rounding in ((dated + undated, 0), (dated, 0), (dated, 1)):
        if bounds:
            low = max(_years_after(first, -(age + 1 + rounding)) for age, first, _ in bounds) + _DAY
            high = min(_years_after(last, rounding - age) for age, _, last in bounds)
            if low <= high:
                return _within(low, high, seed)
    if dated:
        raise DataError("ages and study dates of a patient contradict each other: no birth date fits them")
    ages = [age for age, _, _ in undated]  # further apart than the drawn years: the youngest is seen first
    return _years_after(FIRST_DAY, -min(ages))


def _date(age: int | None, stated: date | None, born: date | None, seed: Seed) -> date:
    if stated is not None:
        return stated
    low, high = FIRST_DAY, LAST_DAY
    if born is not None:
        first = born if age is None else _years_after(born, age)
        last = max(LAST_DAY, born) if age is None else _years_after(born, age + 1) - _DAY
        low, high = max(low, first), min(high, last)
        if low > high:
            low, high = first, last
    return _within(low, high, seed)


def _within(low: date, high: date, seed: Seed) -> date:
    return low + timedelta(days=seed.integer() % ((high - low).days + 1))


def _years_after(day: date, years: int) -> date:
    """The same day of another year; a 29th of February becomes the next day later on, the day before earlier on."""
    year = day.year + years
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 3, 1) if years > 0 else date(year, 2, 28)

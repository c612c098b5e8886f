"""Does a plug-in keep its contract? Batteries in the manner of `check_estimator`, for generators and for checks."""

from __future__ import annotations

from synthgen.testing.checks import check_check
from synthgen.testing.generators import check_generator
from synthgen.testing.images import check_image_generator
from synthgen.testing.invented import EXTREME, RARE_LEVEL, invented_cohort
from synthgen.testing.ruled import ruled_cohort

__all__ = [
    "EXTREME",
    "RARE_LEVEL",
    "check_check",
    "check_generator",
    "check_image_generator",
    "invented_cohort",
    "ruled_cohort",
]

"""What does differential privacy cost a training, and what may be claimed afterwards?

The unit is the patient: one row of each takes part, chosen at random, and neighbouring tables differ in one patient.
Two mechanisms see the data: noisy counts of each column, from which the codec learns (`dp_tables`), and DP-SGD
(`dp_training`). Both are Gaussian, and one accountant composes them. What follows from their outcome is free.

Source: Abadi et al. 2016 (arXiv:1607.00133) for DP-SGD; Gopi et al. 2021 (arXiv:2106.02848) for the accountant, that
of Opacus.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from synthgen.errors import ConfigError, EnvironmentProblem, UsageError
from synthgen.rng import Seed

Mechanism = tuple[float, float, int]  # noise multiplier, sampling rate, how many times

NOT_COVERED = (
    "the schema, with its kinds, decimals, bounds and levels: declared, and taken as public",
    "how many patients there are: taken as public",
    "choosing settings by looking at results on these data",
    "the audit and its gate, with all figures in the reports",
    "the fingerprint of the training table in the manifest",
    "attacks on the rounding of floating point noise",
)
_SEEDED = "drawn from the seed, which is in the manifest: who knows it can take the noise away, so nothing is protected"
_UNSEEDED = "pseudo-random from a secret that was thrown away, not cryptographic: a claim against experts needs that"
_MOST_NOISE = 1e4  # times the clipping norm: beyond it nothing could be learned


@dataclass(frozen=True)
class Privacy:
    """What a generator promises each patient, and how the budget is spent.

    >>> Privacy.of("gan", epsilon=None, delta=None, clip=1.0, marginals=0.2, seeded=False, patients=100) is None
    True
    >>> Privacy.of("gan", epsilon=3.0, delta=None, clip=1.0, marginals=0.2, seeded=False, patients=100).delta
    0.001
    """

    epsilon: float
    delta: float
    clip: float  # Euclidean norm that a patient's gradient is cut to
    marginals: float  # share of epsilon that the noisy counts would cost alone; 0: the codec knows the schema alone
    seeded: bool  # noise from the seed: for tests of the same bytes only
    patients: int

    @staticmethod
    def of(
        generator: str,
        *,
        epsilon: float | None,
        delta: float | None,
        clip: float,
        marginals: float,
        seeded: bool,
        patients: int,
    ) -> Privacy | None:
        """From a generator's settings; None without an epsilon. A delta of None is a tenth of 1 / patients.

        Raises:
            UsageError: a setting that promises nothing.
        """
        if epsilon is None:
            return None
        delta = 0.1 / patients if delta is None else delta
        if not (math.isfinite(epsilon) and epsilon > 0 and 0 < delta < 1 and clip > 0 and 0 <= marginals < 1):
            raise UsageError(
                f"{generator}: dp_epsilon and dp_clip must be above 0, dp_delta between 0 and 1, dp_marginals at least "
                "0 and below 1"
            )
        if delta >= 1 / patients:
            raise ConfigError(
                f"{generator}: dp_delta must be below 1 / {patients} patients: above, a few whole records could be "
                "published and still be within the claim"
            )
        return Privacy(epsilon, delta, clip, marginals, seeded, patients)

    def secret(self, seed: Seed) -> Seed:
        """Where noise and the choice of patients come from: the operating system, unless `seeded`.

        The seed stands in the manifest, and whoever knows the noise can subtract it.
        """
        return seed.child("noise") if self.seeded else Seed.secret().child("noise")


@dataclass(frozen=True)
class Plan:
    """How much noise each mechanism gets; all of it is settled before the data are looked at."""

    privacy: Privacy
    steps: int
    batch: int  # patients expected in a step
    counts_noise: float | None  # noise multiplier of the counts; None: not counted
    gradient_noise: float  # standard deviation of the noise, in clipping norms
    epsilon: float  # of all mechanisms together: at most the one that was asked for

    @property
    def rate(self) -> float:
        """The probability with which each patient takes part in a step."""
        return min(1.0, self.batch / self.privacy.patients)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest: the claim, how it came about, and what it does not cover."""
        from importlib.metadata import version

        promised = self.privacy
        return {
            "claim": f"epsilon {self.epsilon:.3g}, delta {promised.delta:.3g}, for adding or removing one patient",
            "epsilon": self.epsilon,
            "delta": promised.delta,
            "epsilon_asked_for": promised.epsilon,
            "unit": "patient: one row of each, chosen at random, takes part",
            "accountant": f"PRV (Opacus {version('opacus')})",
            "steps": self.steps,
            "sampling": "Poisson",
            "sampling_rate": self.rate,
            "noise_multiplier": self.gradient_noise,
            "clip": promised.clip,
            "preprocessing": "the schema alone" if self.counts_noise is None else "noisy counts of each column",
            "noise_multiplier_of_counts": self.counts_noise,
            "noise": _SEEDED if promised.seeded else _UNSEEDED,
            "not_covered": list(NOT_COVERED),
        }


def patients_per_step(wanted: int | None, patients: int) -> int:
    """How many patients to expect in a step: many, since the noise is the same for few.

    >>> patients_per_step(None, 30_000), patients_per_step(None, 100), patients_per_step(64, 30_000)
    (1000, 100, 64)
    """
    return min(patients, wanted or min(2_048, max(256, patients // 30)))


def require_opacus() -> None:
    """Opacus counts the budget and adds the noise.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import opacus.accountants
            import opacus.optimizers  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            "differential privacy needs Opacus, which is not installed: pip install 'synthgen-health[dp]'"
        ) from error


@lru_cache(maxsize=64)
def noise_of_counts(privacy: Privacy) -> float | None:
    """The noise multiplier of the counts, by their share of epsilon; None: nothing is counted.

    Raises:
        ConfigError: no noise would keep the promise.
    """
    if not privacy.marginals:
        return None
    return _least_noise(lambda noise: [(noise, 1.0, 1)], privacy.marginals * privacy.epsilon, privacy.delta)


@lru_cache(maxsize=64)
def plan(privacy: Privacy, *, counts_noise: float | None, steps: int, batch: int) -> Plan:
    """Give the gradients as little noise as the counts leave room for.

    Raises:
        ConfigError: no noise would keep the promise.
    """
    drawn = Plan(privacy, steps, min(batch, privacy.patients), counts_noise, 1.0, 0.0)

    def together(noise: float) -> list[Mechanism]:
        counts: list[Mechanism] = [] if counts_noise is None else [(counts_noise, 1.0, 1)]
        return [*counts, (noise, drawn.rate, steps)]

    noise = _least_noise(together, privacy.epsilon, privacy.delta)
    return replace(drawn, gradient_noise=noise, epsilon=epsilon_of(together(noise), privacy.delta))


def epsilon_of(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """An upper bound of what Gaussian mechanisms cost together, each on a Poisson sample of the patients.

    >>> epsilon_of([(1.0, 0.1, 50), (0.0, 0.1, 1)], 1e-5)  # one step without noise gives everything away
    inf
    """
    if any(noise <= 0 for noise, _, _ in mechanisms):
        return math.inf
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(mechanisms)
    with np.errstate(all="ignore"), warnings.catch_warnings():  # its logarithms at a rate of 1, and advice to others
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=0.005))


def _least_noise(mechanisms: Callable[[float], Sequence[Mechanism]], epsilon: float, delta: float) -> float:
    """About the smallest noise multiplier that keeps to epsilon: it costs more than 98.5 % of it, and no more than all.

    Raises:
        ConfigError: there is none.
    """
    low, high, noise, tries = 0.0, math.inf, 1.0, 0
    while noise < _MOST_NOISE:
        tries += 1
        cost = _cost(mechanisms(noise), delta)
        if 0.985 * epsilon < cost <= epsilon or high / max(low, 1e-9) < 1.001:
            return noise if cost <= epsilon else high
        low, high = (low, noise) if cost <= epsilon else (noise, high)
        guess = noise * min(4.0, max(0.25, cost / (0.993 * epsilon)))  # the cost falls about as the noise grows
        middle = math.sqrt(low * high) if low and high < math.inf else guess
        noise = guess if low < guess < high and tries % 3 else middle
    raise ConfigError("no noise keeps this promise: raise dp_epsilon or dp_delta, or take fewer steps")


def _cost(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """As `epsilon_of`; infinite where the accountant gives up, as it does on far too little noise."""
    try:
        return epsilon_of(mechanisms, delta)
    except (RuntimeError, ValueError):
        return math.inf

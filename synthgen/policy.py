"""What must hold before data may leave? Thresholds fixed beforehand; findings and a decision afterwards."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from synthgen import registry
from synthgen.errors import ConfigError, suggest
from synthgen.findings import Decision, Estimate, Finding, Measurement, Modality, Outcome
from synthgen.ledger import spent
from synthgen.stats import holm, widened


@dataclass(frozen=True)
class Threshold:
    """What a policy asks of one check, and why. Without limits the check is shown but not judged."""

    why: str
    limit: float | None = None  # for the statistic
    details: Mapping[str, float] = field(default_factory=dict)  # for further named figures of the check
    minimum_p: float | None = None  # the Holm-adjusted p-value of the check's test must not fall below: a leak
    doubtful_p: float | None = None  # from `minimum_p` to this one it is neither a leak nor a pass
    maximum_power: float | None = None  # the smallest leak the check would have seen must not be larger
    required: bool = True

    @property
    def judges(self) -> bool:
        """Whether this threshold sets any limit."""
        limits = (self.limit, self.minimum_p, self.maximum_power)
        return bool(self.details) or any(limit is not None for limit in limits)

    def words(self, better: str) -> str:
        """The limits as a person writes them.

        >>> Threshold(why="", limit=0.55, details={"tpr_at_1pct_fpr": 0.05}).words("lower")
        '<= 0.55, tpr_at_1pct_fpr <= 0.05'
        >>> Threshold(why="", minimum_p=0.001, doubtful_p=0.01).words("lower")
        'p >= 0.001, in doubt below 0.01'
        """
        sign = "<=" if better == "lower" else ">="
        parts = [f"{sign} {self.limit:g}"] if self.limit is not None else []
        parts += [f"{name} {sign} {limit:g}" for name, limit in self.details.items()]
        if self.minimum_p is not None:
            parts.append(f"p >= {self.minimum_p:g}")
        if self.doubtful_p is not None:
            parts.append(f"in doubt below {self.doubtful_p:g}")
        if self.maximum_power is not None:
            parts.append(f"sees leaks of {self.maximum_power:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Policy:
    """Thresholds by check, in the order in which the checks run: of tables, of images, and of both together."""

    name: str
    description: str
    inconclusive_means: Literal["REVIEW", "REFUSE"]
    checks: Mapping[str, Threshold]
    hash: str  # SHA-256 of the policy file's text
    images: Mapping[str, Threshold] = field(default_factory=dict)
    cohort: Mapping[str, Threshold] = field(default_factory=dict)
    audit_number: int = 1  # of the holdout: intervals grow with it

    @property
    def alpha(self) -> Mapping[str, float]:
        """The level at which each test that the policy limits calls a leak, whatever the others say.

        Holm compares the smallest p-value with its share of the level, so what a check would have seen is what it would
        have seen at that share.
        """
        tests = {name: t.minimum_p for name, t in self.checks.items() if t.minimum_p is not None}
        return {name: minimum / len(tests) for name, minimum in tests.items()}

    def at_audit(self, number: int) -> Policy:
        """The policy for the k-th audit of a holdout, whose intervals are wider: see `synthgen.ledger.spent`.

        Tests keep their level. A smaller one would let pass what the first audit refuses, and soon be beyond what a
        permutation can show, so that looking often would make leaks invisible.
        """
        return replace(self, audit_number=number)

    def about(self, modality: Modality) -> Policy:
        """The policy whose `checks` are those of a modality; of a cohort all of them.

        Raises:
            ConfigError: it says nothing about images, or about cohorts.
        """
        if modality == "table":
            return self
        if not self.images:
            raise ConfigError(f"the policy {self.name!r} has no section 'images', so it cannot judge images")
        if modality == "image":
            return replace(self, checks=self.images)
        if not self.cohort:
            raise ConfigError(f"the policy {self.name!r} has no section 'cohort', so it cannot judge cohorts")
        return replace(self, checks={**self.checks, **self.images, **self.cohort})

    def subject(self, check: str) -> Modality:
        """Of a cohort's checks: whether it is about records, images, or both together."""
        return "cohort" if check in self.cohort else "image" if check in self.images else "table"

    @staticmethod
    def from_text(text: str, *, source: str) -> Policy:
        """Read a policy from YAML text.

        Raises:
            ConfigError: not a policy; unknown keys name the nearest known one.
        """
        import yaml

        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"the policy {source} is not YAML") from error
        keys = ("name", "description", "inconclusive_means", "checks")
        known = (*keys, "images", "cohort")
        if not isinstance(data, Mapping) or not isinstance(data.get("checks"), Mapping):
            raise ConfigError(f"the policy {source} is a mapping of: {', '.join(keys)}")
        _check_keys(data, known, f"the policy {source}")
        _require(data, keys, f"the policy {source}")
        if data["inconclusive_means"] not in ("REVIEW", "REFUSE"):
            raise ConfigError(f"the policy {source}: inconclusive_means is REVIEW or REFUSE; it is never a pass")
        checks, images, cohort = (_section(data, section, source) for section in ("checks", "images", "cohort"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        about = (str(data["name"]), str(data["description"]), data["inconclusive_means"])
        return Policy(*about, checks, digest, images, cohort)


def shipped_policies() -> list[str]:
    """Names of the policies that come with synthgen.

    >>> shipped_policies()
    ['internal', 'public', 'research-share']
    """
    return sorted(p.name.removesuffix(".yaml") for p in files("synthgen").joinpath("policies").iterdir())


def policy_text(name: str) -> str:
    """The YAML text of a shipped policy, with the reason for each threshold."""
    return files("synthgen").joinpath("policies", f"{name}.yaml").read_text(encoding="utf-8")


def load_policy(name: str | Path) -> Policy:
    """A shipped policy by name, or one from a file.

    >>> load_policy("public").inconclusive_means
    'REFUSE'

    Raises:
        ConfigError: neither, or one that names a check which is not installed; the message suggests the nearest name.
        EnvironmentProblem: a check of a plug-in that is broken.
    """
    if str(name) in shipped_policies():
        source, text = repr(str(name)), policy_text(str(name))
    else:
        path = Path(name)
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            raise ConfigError(f"no policy {path.name!r} and no such file: {suggest(str(name), shipped_policies())}")
        source, text = repr(path.name), path.read_text(encoding="utf-8")
    policy = Policy.from_text(text, source=source)
    registry.require("checks", (*policy.checks, *policy.images, *policy.cohort), where=f"the policy {source}")
    return policy


def judge(measurement: Measurement, policy: Policy, *, question: str, adjusted_p: float | None = None) -> Finding:
    """Judge one measurement: PASS when the whole interval keeps the limit, FAIL when the whole interval breaks it.

    Where the policy asks for a test, a leak is what the test calls one: an interval that breaks the limit though chance
    is no worse an explanation than the policy allows is INCONCLUSIVE. At 95 % it does so on one clean table in forty.

    >>> from synthgen.findings import Estimate
    >>> auc = Estimate(value=0.51, low=0.49, high=0.53, n=900, method="DeLong")
    >>> measured = Measurement(check="membership", label="attack AUC", statistic=auc, better="lower")
    >>> judge(measured, load_policy("research-share"), question="Who was in the training data?").verdict
    'INCONCLUSIVE'
    """
    threshold, better = policy.checks[measurement.check], measurement.better
    verdicts: list[tuple[str, str]] = []
    limits: dict[str, tuple[Estimate | None, float]] = {}
    if threshold.limit is not None:
        limits[measurement.label] = (measurement.statistic, threshold.limit)
    limits |= {name: (measurement.details.get(name), limit) for name, limit in threshold.details.items()}
    for name, (estimate, limit) in limits.items():
        if estimate is None:
            verdicts.append(("INCONCLUSIVE", f"{name} was not measured"))
        else:
            verdicts.append(_against(_at_audit(estimate, policy.audit_number), limit, better, name))
    if threshold.minimum_p is not None:
        tested = _test(measurement, adjusted_p, threshold.minimum_p, threshold.doubtful_p)
        if tested[0] != "FAIL" and measurement.p_value is not None:
            verdicts = [_no_leak(*one) for one in verdicts]
        verdicts.append(tested)
    if threshold.maximum_power is not None:
        verdicts.append(_power(measurement.power, threshold.maximum_power))
    verdict, because = _worst(verdicts) if threshold.judges else ("NOT_JUDGED", "the policy sets no limit here")
    return Finding(
        check=measurement.check,
        question=question,
        verdict=verdict,  # type: ignore[arg-type]
        because=because,
        required=threshold.required,
        threshold=threshold.words(measurement.better),
        measurement=measurement,
    )


def judge_all(measurements: Sequence[Measurement], policy: Policy, questions: Mapping[str, str]) -> list[Finding]:
    """Judge the measurements of one audit: p-values are adjusted by Holm over the tests that the policy limits."""
    tests = {m.check: m.p_value for m in measurements if m.p_value is not None and policy.checks[m.check].minimum_p}
    adjusted = dict(zip(tests, map(float, holm(list(tests.values()))), strict=True))
    return [judge(m, policy, question=questions[m.check], adjusted_p=adjusted.get(m.check)) for m in measurements]


def not_run(check: str, reason: str, policy: Policy, *, question: str) -> Finding:
    """The finding for a check that could not answer; for a required check it counts as inconclusive."""
    threshold = policy.checks[check]
    return Finding(check, question, "NOT_RUN", reason, threshold.required, threshold.words("lower"), None)


def decide(findings: Sequence[Finding], policy: Policy) -> Decision:
    """RELEASE only if every required check passed; a failure refuses; the rest is what the policy says.

    Every required check of the policy must be among the findings; one that is absent counts as not run.
    """
    required = [finding for finding in findings if finding.required]
    absent = [name for name, t in policy.checks.items() if t.required and name not in {f.check for f in findings}]
    failed = [f"{f.check}: {f.because}" for f in required if f.verdict == "FAIL"]
    open_ = [f"{f.check}: {f.because}" for f in required if f.verdict in ("INCONCLUSIVE", "NOT_RUN")]
    open_ += [f"{name}: did not run" for name in absent]
    if failed:
        return Decision("REFUSE", tuple(failed + open_))
    if open_:
        outcome: Outcome = policy.inconclusive_means
        return Decision(outcome, tuple(open_))
    return Decision("RELEASE", (f"all {len(required)} required checks of policy {policy.name!r} passed",))


def _at_audit(estimate: Estimate, number: int) -> Estimate:
    """The estimate with the interval that the k-th audit of a holdout has to use."""
    return widened(estimate, spent(1 - estimate.confidence, number)) if number > 1 else estimate


def _against(estimate: Estimate, limit: float, better: str, label: str) -> tuple[str, str]:
    if better == "lower":
        sign, kept, broken = "<=", estimate.high <= limit, estimate.low > limit
    else:
        sign, kept, broken = ">=", estimate.low >= limit, estimate.high < limit
    verdict = "PASS" if kept else "FAIL" if broken else "INCONCLUSIVE"
    words = {"PASS": "keeps", "FAIL": "breaks", "INCONCLUSIVE": "straddles"}[verdict]
    return verdict, f"{label} {estimate} {words} {sign} {limit:g}"


def _no_leak(verdict: str, because: str) -> tuple[str, str]:
    """What an interval says where the test does not call a leak."""
    return ("INCONCLUSIVE", f"{because}, but its test calls no leak") if verdict == "FAIL" else (verdict, because)


def _test(
    measurement: Measurement, adjusted_p: float | None, minimum: float, doubtful: float | None
) -> tuple[str, str]:
    p_value = adjusted_p if adjusted_p is not None else measurement.p_value
    if p_value is None:
        return "INCONCLUSIVE", "its test gave no p-value"
    if not p_value >= minimum:  # NaN fails too
        return "FAIL", f"the test for a leak has p = {_told_apart(p_value, minimum)} < {minimum:g}"
    if doubtful is not None and p_value < doubtful:
        p_words = f"the test for a leak has p = {_told_apart(p_value, doubtful)} < {doubtful:g}"
        return "INCONCLUSIVE", f"{p_words}: chance too seldom does that for a pass, and too often for proof of a leak"
    return "PASS", f"the test for a leak has p = {p_value:.2g}"


def _power(power: Estimate | None, maximum: float) -> tuple[str, str]:
    if power is None:
        return "INCONCLUSIVE", "the check does not say which leak it would have seen"
    if power.high > maximum:
        smallest = _told_apart(power.high, maximum)
        return "INCONCLUSIVE", f"only a leak of {smallest} or more would have been seen; the policy asks {maximum:g}"
    return "PASS", f"a leak of {power.high:.2g} would have been seen"


def _told_apart(value: float, limit: float) -> str:
    """A number with two digits, or as many as it takes to read differently from its limit.

    >>> _told_apart(0.0312, 0.02), _told_apart(0.020040, 0.02)
    ('0.031', '0.02004')
    """
    texts = (f"{value:.{digits}g}" for digits in range(2, 17))
    return next((text for text in texts if float(text) != limit), f"{value:g}")


def _worst(verdicts: Sequence[tuple[str, str]]) -> tuple[str, str]:
    for verdict in ("FAIL", "INCONCLUSIVE"):
        reasons = [because for v, because in verdicts if v == verdict]
        if reasons:
            return verdict, "; ".join(reasons)
    return "PASS", "; ".join(because for _, because in verdicts)


def _section(data: Mapping[str, Any], section: str, source: str) -> dict[str, Threshold]:
    body = data.get(section, {})
    if not isinstance(body, Mapping):
        raise ConfigError(f"the policy {source}: {section!r} is a mapping of checks")
    checks = {str(name): _threshold(str(name), about) for name, about in body.items()}
    if section in data and not any(threshold.judges and threshold.required for threshold in checks.values()):
        raise ConfigError(
            f"the policy {source} sets no limit on any required check of {section!r}, so it would release anything"
        )
    return checks


def _threshold(name: str, body: Any) -> Threshold:
    known = [f.name for f in fields(Threshold)]
    if not isinstance(body, Mapping):
        raise ConfigError(f"policy check {name!r} is a mapping of: {', '.join(known)}")
    _check_keys(body, known, f"policy check {name!r}")
    _require(body, ("why",), f"policy check {name!r}")
    numbers = [body.get(key) for key in ("limit", "minimum_p", "doubtful_p", "maximum_power")]
    numbers += (body.get("details") or {}).values()
    if any(not isinstance(number, int | float) for number in numbers if number is not None):
        raise ConfigError(f"policy check {name!r}: limits are numbers")
    if body.get("doubtful_p") is not None and not body["doubtful_p"] > (body.get("minimum_p") or math.inf):
        raise ConfigError(f"policy check {name!r}: doubtful_p is larger than minimum_p, which it needs")
    return Threshold(**body)


def _check_keys(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise ConfigError(f"{where} has no key {key!r}: {suggest(str(key), known)}")


def _require(data: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in data:
            raise ConfigError(f"{where} lacks {key!r}")

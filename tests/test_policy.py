"""Policies: what passes, what fails, and that inconclusive never passes."""

import pytest

from synthgen.errors import ConfigError
from synthgen.findings import Estimate, Measurement, exactly, finding_from_json, to_json
from synthgen.policy import Policy, decide, judge, judge_all, load_policy, not_run, policy_text, shipped_policies

TEXT = """
name: test
description: for tests
inconclusive_means: REVIEW
checks:
  low: {limit: 0.5, why: a}
  high: {limit: -0.1, why: b, required: false}
  tested: {minimum_p: 0.01, why: c}
  detailed: {limit: 1, details: {tpr: 0.05}, why: d}
  powered: {limit: 1, maximum_power: 0.02, why: e}
  shown: {why: f, required: false}
"""
POLICY = Policy.from_text(TEXT, source="test")
DOUBT = "  doubted: {minimum_p: 0.001, doubtful_p: 0.05, why: g}\n"


def measured(check, value=0.0, low=0.0, high=0.0, *, better="lower", **more):
    statistic = Estimate(value=value, low=low, high=high, n=100, method="test")
    return Measurement(check=check, label="figure", statistic=statistic, better=better, **more)


def verdict(measurement, **more):
    return judge(measurement, POLICY, question="?", **more).verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.5, "PASS"), (0.1, 0.51, "INCONCLUSIVE"), (0.5, 0.6, "INCONCLUSIVE"), (0.51, 0.6, "FAIL")],
)
def test_lower_is_better(low, high, expected):
    assert verdict(measured("low", low, low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-0.1, 0, "PASS"), (-0.2, 0, "INCONCLUSIVE"), (-0.3, -0.2, "FAIL")]
)
def test_higher_is_better(low, high, expected):
    assert verdict(measured("high", low, low, high, better="higher")) == expected


def test_not_a_number_never_passes():
    nan = float("nan")
    assert verdict(measured("low", nan, nan, nan)) == "INCONCLUSIVE"
    assert verdict(measured("tested", p_value=nan)) != "PASS"


def test_tests_details_and_power():
    assert verdict(measured("tested", p_value=0.005)) == "FAIL"
    assert verdict(measured("tested", p_value=0.005), adjusted_p=0.015) == "PASS"
    assert verdict(measured("tested")) == "INCONCLUSIVE"
    assert verdict(measured("detailed")) == "INCONCLUSIVE"
    assert verdict(measured("detailed", details={"tpr": exactly(0.2, n=9)})) == "FAIL"
    assert verdict(measured("detailed", details={"tpr": exactly(0.01, n=9)})) == "PASS"
    assert verdict(measured("powered")) == "INCONCLUSIVE"
    assert verdict(measured("powered", power=exactly(0.03, n=9))) == "INCONCLUSIVE"
    assert verdict(measured("powered", power=exactly(0.02, n=9))) == "PASS"
    assert verdict(measured("shown")) == "NOT_JUDGED"


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0009, "FAIL"), (0.001, "INCONCLUSIVE"), (0.0499, "INCONCLUSIVE"), (0.05, "PASS")]
)
def test_between_a_leak_and_a_pass_lies_doubt(p, expected):
    policy = Policy.from_text(TEXT + DOUBT, source="test")
    finding = judge(measured("doubted", p_value=0.0), policy, question="?", adjusted_p=p)
    assert finding.verdict == expected
    assert finding.threshold == "p >= 0.001, in doubt below 0.05"


@pytest.mark.parametrize(("p", "expected"), [(0.0009, "FAIL"), (0.001, "INCONCLUSIVE"), (0.9, "INCONCLUSIVE")])
def test_an_interval_beyond_the_limit_is_a_leak_only_if_the_test_calls_it_one(p, expected):
    """At 95 % one clean table in forty has such an interval, where the limit is near 0."""
    policy = Policy.from_text(TEXT + "  both: {limit: 0.1, minimum_p: 0.001, why: g}\n", source="test")
    finding = judge(measured("both", 0.3, 0.2, 0.4, p_value=p), policy, question="?")
    assert finding.verdict == expected
    assert ("but its test calls no leak" in finding.because) == (expected == "INCONCLUSIVE")
    assert judge(measured("both", 0.3, 0.2, 0.4), policy, question="?").verdict == "FAIL"  # there was no test


def test_doubt_names_the_p_value_and_the_level():
    policy = Policy.from_text(TEXT + DOUBT, source="test")
    finding = judge(measured("doubted", p_value=0.04996), policy, question="?")
    assert "p = 0.04996 < 0.05: chance too seldom does that for a pass" in finding.because


@pytest.mark.parametrize("limits", ["doubtful_p: 0.01", "minimum_p: 0.01, doubtful_p: 0.01"])
def test_doubt_lies_above_the_level_of_a_leak(limits):
    with pytest.raises(ConfigError, match="doubtful_p is larger than minimum_p"):
        Policy.from_text(TEXT + f"  odd: {{{limits}, why: h}}\n", source="test")


def test_every_shipped_test_has_a_level_of_doubt_that_few_clean_sets_reach():
    for policy in map(load_policy, shipped_policies()):
        tests = {**policy.checks, **policy.images, **policy.cohort}
        levels = {check: one.doubtful_p for check, one in tests.items() if one.minimum_p}
        assert levels.pop("disclosure.rare") / len(policy.alpha) <= 0.0125  # Holm's first step
        assert set(levels.values()) == {0.01}


def test_holm_runs_over_the_tests_that_the_policy_limits():
    text = TEXT + "  second: {minimum_p: 0.01, why: g}\n"
    policy = Policy.from_text(text, source="test")
    measurements = [measured("tested", p_value=0.008), measured("second", p_value=0.5), measured("low", p_value=0.4)]
    first, *_ = judge_all(measurements, policy, {"tested": "?", "second": "?", "low": "?"})
    assert first.verdict == "PASS"
    assert "p = 0.016" in first.because  # twice .008, not three times


def test_later_audits_of_a_holdout_have_wider_intervals_and_the_same_tests():
    third = POLICY.at_audit(3)
    close = measured("low", 0.4, 0.3, 0.49)
    assert judge(close, POLICY, question="?").verdict == "PASS"
    assert judge(close, third, question="?").verdict == "INCONCLUSIVE"
    assert judge(measured("low", 0.4, 0.3, 0.41), third, question="?").verdict == "PASS"
    assert judge(measured("tested", p_value=0.005), third, question="?").verdict == "FAIL"
    assert third.alpha == {"tested": 0.01}


def good(*names):
    figures = {
        "tested": {"p_value": 0.9},
        "detailed": {"details": {"tpr": exactly(0, n=9)}},
        "powered": {"power": exactly(0, n=9)},
    }
    return [judge(measured(name, **figures.get(name, {})), POLICY, question="?") for name in names]


REQUIRED = ("low", "tested", "detailed", "powered")


def test_all_required_pass_and_the_rest_does_not_matter():
    bad = judge(measured("high", -1, -1, -1, better="higher"), POLICY, question="?")
    assert bad.verdict == "FAIL"
    assert decide([*good(*REQUIRED), bad], POLICY).outcome == "RELEASE"


def test_an_absent_or_not_run_required_check_never_passes():
    assert decide(good(*REQUIRED[:-1]), POLICY).outcome == "REVIEW"
    decision = decide([*good(*REQUIRED[:-1]), not_run("powered", "no", POLICY, question="?")], POLICY)
    assert decision.outcome == "REVIEW"
    assert decision.exit_code == 4
    assert decide([], POLICY).outcome == "REVIEW"


def test_a_failure_refuses():
    failed = judge(measured("low", 0.9, 0.8, 1.0), POLICY, question="?")
    decision = decide([failed, *good(*REQUIRED[1:])], POLICY)
    assert (decision.outcome, decision.exit_code) == ("REFUSE", 3)
    assert decision.reasons[0].startswith("low:")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("limit: 0.5", "limt: 0.5"), "did you mean 'limit'"),
        (("limit: 0.5", "limit: low"), "limits are numbers"),
        (("REVIEW", "PASS"), "never a pass"),
        ((", why: a", ""), "lacks 'why'"),
        (("description: for tests\n", ""), "lacks 'description'"),
        (("checks:", "cheks:"), "mapping"),
        (("name: test", "name: [test"), "not YAML"),
    ],
)
def test_wrong_policies(change, message):
    with pytest.raises(ConfigError, match=message):
        Policy.from_text(TEXT.replace(*change), source="test")


def test_a_policy_that_would_release_anything_is_refused():
    text = "name: x\ndescription: x\ninconclusive_means: REFUSE\nchecks: {low: {why: a}}"
    with pytest.raises(ConfigError, match="release anything"):
        Policy.from_text(text, source="x")


def test_shipped_policies_are_ordered_from_lenient_to_strict():
    internal, research, public = map(load_policy, ("internal", "research-share", "public"))
    limited = [name for name, threshold in public.checks.items() if threshold.limit]
    for name in {*limited} - {"copies.exact", "structure.schema", "utility.train_on_synthetic"}:
        assert internal.checks[name].limit > research.checks[name].limit > public.checks[name].limit
    assert {load_policy(name).name for name in shipped_policies()} == set(shipped_policies())
    assert internal.hash != public.hash
    for name in shipped_policies():
        assert all(threshold.why for threshold in load_policy(name).checks.values()), policy_text(name)


def test_unknown_policy_is_suggested():
    with pytest.raises(ConfigError, match="did you mean 'public'"):
        load_policy("publik")


def test_findings_survive_json():
    finding = good("detailed")[0]
    assert finding_from_json(to_json(finding)) == finding

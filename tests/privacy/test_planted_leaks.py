"""Each leak that the audit promises to find, once; each clean table, once. Rates: benchmarks/planted_leaks.py."""

import pytest

from synthgen.evidence import gathered
from synthgen.policy import load_policy
from synthgen.registry import create
from synthgen.rng import Seed
from synthgen.testing.leaks import FITTED, LEAKS, NULLS, PEERS, SUBGROUP

FAMILY = 9  # checks with a p-value, as in the benchmark: each p is multiplied by as many
POLICY = load_policy("research-share")
CHEAP = ("copies.exact", "copies.neighbor", "disclosure.rare", "membership.vulnerable")
CLEAN = [*NULLS, *FITTED, *(case for case in PEERS if not case.found_by)]
PROMISED = [case for case in (*LEAKS, *PEERS) if case.demand and case.sizes != SUBGROUP]


def measured(case, checks):
    sets = case.tables(seed=1)
    evidence = gathered(sets.train, sets.holdout, sets.synthetic)
    return [create("checks", name).run(evidence, seed=Seed(1).child(name)) for name in checks]


def alarms(found):
    levels = [POLICY.checks[one.check].doubtful_p or 0.01 for one in found]
    return [one.check for one, level in zip(found, levels, strict=True) if FAMILY * one.p_value < level]


@pytest.mark.parametrize("case", PROMISED, ids=lambda case: case.name)
def test_what_is_promised_is_found(case):
    found = measured(case, case.found_by)
    if case.shows == "count":
        assert found[0].statistic.value > 0
    elif case.shows == "mirror":
        assert len(found) * min(one.details["mirror_p"].value for one in found) < 0.01
    else:
        assert alarms(found)


@pytest.mark.parametrize("case", CLEAN, ids=lambda case: case.name)
def test_clean_tables_raise_no_alarm(case):
    """Each once in a hundred at most, all thirteen once in eight: the seed is fixed, and the benchmark counts rates."""
    assert not alarms(measured(case, CHEAP))

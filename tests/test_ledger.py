"""The ledger: audits are counted, by holdout, over restarts; intervals grow, so that looking often does not pay."""

import json
import multiprocessing

import pytest

from synthgen.auditing import audit
from synthgen.errors import DataError, EnvironmentProblem
from synthgen.ledger import audit_number, spent
from synthgen.policy import load_policy
from synthgen.testing import invented_cohort


def prints(synthetic, *, holdout="h"):
    return {"train": "t", "holdout": holdout, "synthetic": synthetic}


def test_audits_are_counted_by_holdout_and_the_same_audit_once(tmp_path):
    ledger = tmp_path / "new" / "ledger.jsonl"
    assert [audit_number(ledger, prints(s)) for s in "aabca"] == [1, 1, 2, 3, 1]
    assert audit_number(ledger, prints("a", holdout="other")) == 1
    assert audit_number(ledger, {**prints("a"), "train": "other"}) == 4


def test_levels_sum_to_twice_the_first():
    levels = [spent(0.001, k) for k in range(1, 2000)]
    assert levels[0] == 0.001
    assert 0.00199 < sum(levels) < 0.002
    assert levels == sorted(levels, reverse=True)


def enter(ledger, worker):
    for i in range(20):
        audit_number(ledger, prints(f"{worker}-{i}"))


def test_entries_of_several_processes_do_not_mix(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    workers = [multiprocessing.get_context("spawn").Process(target=enter, args=(ledger, w)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len({line for line in ledger.read_text().splitlines() if json.loads(line)}) == 60
    assert audit_number(ledger, prints("last")) == 61


def test_a_damaged_ledger_is_named_and_nothing_is_run(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    audit_number(ledger, prints("a"))
    ledger.write_text(ledger.read_text() + '{"holdout": "h", "tra')
    with pytest.raises(DataError, match="line 2 of the ledger"):
        audit_number(ledger, prints("b"))
    with pytest.raises(EnvironmentProblem, match="ledger"):
        audit_number(ledger / "below", prints("b"))


def test_a_second_audit_of_a_holdout_is_judged_by_stricter_limits(tmp_path):
    train, holdout = invented_cohort(400, seed=1).split_by_patient(holdout=0.5, seed=1)
    policy, ledger = load_policy("internal"), tmp_path / "ledger.jsonl"

    def audited(seed, **more):
        made = invented_cohort(300, seed=seed)
        return audit(
            train=train,
            holdout=holdout,
            synthetic=made,
            seed=3,
            policy=policy,
            only=lambda name: name in ("copies.neighbor", "membership"),
            **more,
        )

    first, again, second = (audited(seed, ledger=ledger) for seed in (5, 5, 6))
    assert (first.audit_number, again.audit_number, second.audit_number) == (1, 1, 2)
    assert audited(5).audit_number is None
    assert first["copies.neighbor"].threshold == second["copies.neighbor"].threshold
    uncounted = audited(6)["membership"]
    assert uncounted.measurement.statistic == second["membership"].measurement.statistic
    assert uncounted.because != second["membership"].because  # the same estimate, a wider interval

"""Audits side by side: what may be compared, what is said beside it, and that the page is as safe as a report."""

import dataclasses
import json
import re

import pytest
from example_audit import HOSTILE, example_audit, with_finding
from test_cli import run as run  # the fixture

from synthgen import compare, report
from synthgen.errors import DataError, UsageError
from synthgen.findings import Estimate

REFUSED, RELEASED = example_audit(), example_audit("RELEASE", synthetic="d" * 64)


def changed(audit, **fingerprints):
    return dataclasses.replace(audit, fingerprints={**audit.fingerprints, **fingerprints})


def under(audit, *, name="public", **more):
    return dataclasses.replace(audit, policy={**audit.policy, "name": name, "hash": "ef" * 32}, **more)


def test_every_check_of_every_audit_has_a_row():
    short = dataclasses.replace(RELEASED, findings=RELEASED.findings[2:])
    compared = compare({"all": REFUSED, "short": short})
    assert [row.check for row in compared.rows] == [finding.check for finding in REFUSED.findings]
    assert compared.rows[0].findings["short"] is None
    frame = compared.frame().set_index(["check", "audit"])
    assert len(frame) == len(REFUSED.findings) + len(short.findings)
    statistic = REFUSED["membership"].measurement.statistic
    found = frame.loc[("membership", "all")]
    assert (found["verdict"], found["value"], found["low"], found["high"], found["n"]) == (
        "INCONCLUSIVE", statistic.value, statistic.low, statistic.high, statistic.n,
    )  # fmt: skip
    assert frame.loc[("membership", "short"), "verdict"] == "PASS"
    assert frame.loc[("disclosure.singling_out", "all"), ["value", "n"]].isna().all()
    assert compared.notes == ()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (changed(RELEASED, holdout="9" * 64), "'a' and 'b' have different holdouts"),
        (changed(RELEASED, holdout="9" * 64, train="8" * 64), "different holdouts"),
        (dataclasses.replace(RELEASED, modality="image"), "different kinds of data"),
    ],
)
def test_what_cannot_be_compared_is_an_error(other, message):
    with pytest.raises(DataError, match=message):
        compare({"a": REFUSED, "b": other})


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (changed(RELEASED, train="8" * 64), "Different train data"),
        (under(RELEASED), "Different policies"),
        (under(RELEASED, name="research-share"), "Different policies"),  # a copy that kept its name
        (dataclasses.replace(RELEASED, audit_number=2), "wider intervals"),
        (dataclasses.replace(RELEASED, versions={"synthgen-health": "0.2.0"}), "different versions"),
    ],
)
def test_what_differs_beside_the_data_is_said(other, note):
    compared = compare([REFUSED, other])
    assert [note in said for said in compared.notes] == [True]
    page = report.render_comparison(compared)
    assert compared.notes[0] in page
    assert compared.notes[0] in compared._repr_html_()


def test_one_audit_is_no_comparison(tmp_path):
    with pytest.raises(UsageError, match="two audits or more, not 1"):
        compare([REFUSED])
    with pytest.raises(DataError, match="'nothing': cannot read"):
        compare([REFUSED, tmp_path / "nothing"])


def test_columns_are_called_by_folder_or_generator_and_each_once(tmp_path):
    for name in ("first", "second"):
        REFUSED.save(tmp_path / name / "audit")
    paths = [tmp_path / "first" / "audit", tmp_path / "second" / "audit" / "audit.json", tmp_path / "first"]
    RELEASED.save(tmp_path / "first")
    assert list(compare(paths).audits) == ["first", "second", "first (2)"]
    named = [REFUSED, RELEASED, dataclasses.replace(RELEASED, generator={"name": "diffusion (2)"})]
    assert list(compare(named).audits) == ["diffusion", "diffusion (2)", "diffusion (2) (2)"]


def test_the_page_shows_public_figures_and_runs_nothing():
    few = Estimate(value=0.123456, low=0.1, high=0.2, n=9, method="DeLong")
    hidden = with_finding(RELEASED, "membership", statistic=few)
    page = report.render_comparison(compare({HOSTILE[0]: REFUSED, "few": hidden, "other": under(RELEASED)}))
    assert "not shown (fewer than 10)" in page
    assert "0.123" not in page
    assert "<script" not in page.lower()
    assert "&lt;script&gt;" in page
    assert "script" not in re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in page
    assert "abababab" in page
    assert "efefefef" in page
    assert "NaN" not in page


def test_limits_stand_once_where_they_are_the_same():
    findings = (dataclasses.replace(RELEASED.findings[0], threshold="<= 0.07"), *RELEASED.findings[1:])
    page = report.render_comparison(compare({"a": REFUSED, "b": dataclasses.replace(RELEASED, findings=findings)}))
    assert page.count("limit ≤ 0.07") == 1
    assert page.count("limit ≤ 0.55") == 1  # of both audits


def test_compare_on_the_command_line(run, tmp_path):
    REFUSED.save(tmp_path / "a" / "audit")
    under(RELEASED).save(tmp_path / "b" / "audit")
    changed(RELEASED, holdout="9" * 64).save(tmp_path / "c" / "audit")
    audits, page = (
        (tmp_path / "a" / "audit", tmp_path / "b" / "audit" / "audit.json"),
        tmp_path / "new" / "compare.html",
    )
    code, out, err = run("compare", *audits, "-o", page)
    assert (code, err) == (0, "")
    assert re.search(r"decision .* REFUSE .* RELEASE", out)
    assert "0.520 [0.480, 0.560]" in out
    assert "Different policies" in out
    assert page.read_text() == report.render_comparison(compare(audits))
    assert run("compare", *audits, "-o", page)[0] == 2  # nothing is overwritten
    code, out, _ = run("compare", *audits, "-o", page, "--force", "--json")
    record = json.loads(out)
    assert [audit["decision"]["verdict"] for audit in record["audits"].values()] == ["REFUSE", "RELEASE"]
    membership = next(check for check in record["checks"] if check["check"] == "membership")["audits"]
    assert (membership["a"]["verdict"], membership["b"]["verdict"]) == ("INCONCLUSIVE", "PASS")
    assert membership["a"]["statistic"]["low"] == pytest.approx(0.48)
    code, out, err = run("compare", *audits, tmp_path / "c" / "audit")
    assert (code, out) == (5, "")
    assert "different holdouts" in err
    assert run("compare", audits[0])[0] == 2

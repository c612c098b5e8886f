"""Is the report right, safe to open and readable? By hand-made audits, and in a real browser where there is one."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import warnings
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from example_audit import COLUMNS, HOSTILE, estimate, example_audit, with_finding

from synthgen import report
from synthgen.errors import EnvironmentProblem
from synthgen.findings import Estimate, Finding, exactly
from synthgen.report import content
from synthgen.report.content import cell_rows, folded_rows, groups, paired
from synthgen.report.plots import pictures
from synthgen.report.public import CURVE_POINTS, figure, interval, public, rounded, shown

GOLDEN = Path(__file__).parent / "golden" / "report.md"
CSS = Path(report.__file__).parent / "templates" / "report.css"


class Page(HTMLParser):
    """A page as a flat list of elements, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(data)
        if self._open and any(re.fullmatch("h[1-6]", tag) for tag in self._open):
            level, text = self.headings[-1]
            self.headings[-1] = (level, f"{text} {data}".strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@functools.cache
def html_of_example() -> str:
    return report.render_html(example_audit())


@functools.cache
def page() -> Page:
    return Page(html_of_example())


def test_the_markdown_report_is_the_golden_one():
    """Golden file: if the difference is meant, write `render_markdown(example_audit())` to tests/golden/report.md."""
    assert report.render_markdown(example_audit()) == GOLDEN.read_text(encoding="utf-8")


def test_the_page_has_the_golden_outline():
    headings = [(level, re.sub(r"\s+", " ", text)) for level, text in page().headings]
    assert headings[0] == (1, "REFUSE The policy is not met: the synthetic table must not be released.")
    assert [text for level, text in headings if level == 2] == [
        "Reasons",
        "What was asked, and what was found",
        "Pictures",
        "Findings in detail",
        "What was not assessed",
        "How to read a verdict",
        "Columns",
        "To find the same result again",
    ]
    assert [text for level, text in headings if level == 3][:15] == [
        "Does the synthetic table copy train patients?",
        "How small a leak would have been seen?",
        "Who was in the training data? The attacker's hits",
        "Missing values, column by column",
        "Columns: how far each distribution is off",
        "Pairs of columns: how far relations are off",
        "Pairs of columns: which relations are off",
        "Can a classifier tell synthetic from real?",
        "Records of groups of patients",
        "Models for groups of patients, tested on real ones",
        "Survival of train, holdout and synthetic patients",
        "Models trained on synthetic data, tested on real patients",
        "Training",
        "Time and energy",
        "Columns: synthetic over real",
    ]


@pytest.mark.parametrize("outcome", ["RELEASE", "REFUSE", "REVIEW"])
def test_first_screen_says_the_decision_in_words_and_in_colour(outcome):
    page_ = Page(report.render_html(example_audit(outcome), pictures=False))
    header = page_.all("header")[0]
    assert header["class"] == f"decision {outcome.lower()}"
    assert page_.headings[0][1].startswith(outcome)
    before_pictures = page_.text.split("Findings in detail")[0]
    assert "ab" * 32 in before_pictures  # the policy's hash
    for told in ("research-share", "1,497", "642", "0.520 [0.480, 0.560]", "≤ 0.55"):
        assert told in before_pictures


@pytest.mark.parametrize("form", ["html", "markdown"])
def test_both_reports_hold_the_same_content(form):
    audit = example_audit()
    text = page().text if form == "html" else report.render_markdown(audit).replace("\\", "")
    pictures_ = pictures(public(audit))
    assert len(pictures_) == 14
    for picture in pictures_:
        assert picture.alt in text, "what is drawn is told"
    for row in cell_rows(public(audit)):
        assert all(part in text for part in row)
    for finding in audit.findings:
        assert finding.question in text
        if finding.measurement:
            assert interval(public(audit)[finding.check].measurement.statistic) in text
    for sentence in (*audit.not_assessed, *audit.fingerprints.values(), "diffusion", "2.13.0", "0.0134"[:5]):
        assert sentence in text


def test_the_page_runs_no_script_and_asks_for_nothing():
    html, elements = html_of_example(), page().elements
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert "style" not in attributes, "the content security policy forbids inline styles"
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert attributes.get(name, "#").startswith("#"), (tag, name)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    security = next(m["content"] for m in page().all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert security.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in security


def test_names_that_hold_markup_are_shown_as_text():
    text = page().text
    for name in HOSTILE:
        assert shown(name) in text
    html = html_of_example()
    assert "<script" not in html
    assert "{{ 7 * 7 }}" in text
    assert "\u202e" not in html
    assert "\x07" not in html
    assert html.count("&lt;script&gt;") > 1


def test_names_that_hold_markup_do_not_break_markdown():
    markdown = report.render_markdown(example_audit())
    assert not re.search(r"(?<!\\)<script", markdown)
    assert not re.search(r"(?<!\\)\]\(", markdown), "no name makes a link"
    for line in markdown.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            assert len(cells) in (2, 3, 4, 6)
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(tables) > 10
    for table in tables:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_page_is_sound_for_screen_readers():
    elements = page().elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [len(page().all(tag)) for tag in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
    assert page().all("html")[0]["lang"] == "en"
    for _, attributes in elements:
        for name in ("aria-labelledby", "href"):
            for target in (attributes.get(name) or "").split():
                assert target.lstrip("#") in ids, target
    drawn = page().all("svg")
    assert len(drawn) == 14 + len(COLUMNS)
    for svg in drawn:
        assert svg["role"] == "img"
        assert len(svg["aria-labelledby"].split()) == 2
    levels = [level for level, _ in page().headings]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in cell for cell in page().all("th"))


def test_colours_have_contrast_in_light_and_dark():
    """WCAG 2.1 AA: 4.5 for text, 3 for what is drawn."""
    light, dark = (_variables(block) for block in re.findall(r":root \{(.*?)\}", CSS.read_text(), flags=re.DOTALL)[:2])
    assert set(dark) == set(light)
    for colours in (light, dark):
        for background in ("paper", "panel"):
            for text in ("ink", "faint", "link", "ours", "real", "third"):
                assert _contrast(colours[text], colours[background]) >= (4.5 if text in ("ink", "faint", "link") else 3)
        for tone in ("pass", "fail", "open", "none"):
            assert _contrast(colours[tone], colours[f"{tone}-bg"]) >= 4.5
            assert _contrast(colours["ink"], colours[f"{tone}-bg"]) >= 4.5
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


def test_the_same_audit_gives_the_same_bytes():
    assert report.render_html(example_audit()) == html_of_example()


def test_pictures_hold_no_date_and_no_foreign_reference():
    for picture in pictures(public(example_audit())):
        assert "http" not in re.sub(r"\(http:[^<]*", "", picture.svg), "but in a column's name"
        assert not re.search(r"20\d\d-\d\d", picture.svg)


def test_fifty_columns_stay_under_half_a_megabyte():
    many = tuple(f"laboratory value number {number} (mmol/l)" for number in range(50))
    assert len(report.render_html(example_audit(columns=many)).encode()) < 500_000


def test_a_thousand_columns_are_folded_and_the_worst_are_drawn():
    html = report.render_html(example_audit(columns=tuple(f"c{number}" for number in range(1000))))
    assert "The worst 40 of 1000 are drawn" in html
    assert "<summary>All columns (1000)</summary>" in html
    assert "<summary>Further columns (38)</summary>" in html
    assert len(html.encode()) < 700_000


def test_many_reasons_are_told_below_the_first_screen():
    reasons = tuple(f"reason number {number}" for number in range(9))
    decision = dataclasses.replace(example_audit().decision, reasons=reasons)
    found = Page(report.render_html(dataclasses.replace(example_audit(), decision=decision), pictures=False))
    assert (2, "Reasons of the decision") in found.headings
    assert "5 more" in found.text
    assert all(reason in found.text for reason in reasons)


def test_pictures_can_be_left_out():
    html = report.render_html(example_audit(), pictures=False)
    assert "<svg" not in html
    assert "Findings in detail" in html


def test_small_cells_are_suppressed_everywhere():
    audit = example_audit()
    assert audit["membership"].measurement.details["tiny stratum"].n == 7
    for text in (html_of_example(), report.render_markdown(audit), str(public(audit).to_json())):
        assert "0.771" not in text
        assert "tiny stratum" in text
    assert math.isnan(public(audit)["membership"].measurement.details["tiny stratum"].value)


def test_a_cell_of_ten_is_shown_and_an_exact_zero_of_a_contract_too():
    assert rounded(estimate(0.5, n=10)).value == 0.5
    assert math.isnan(rounded(estimate(0.5, n=9)).value)
    assert rounded(exactly(0, n=3)).value == 0


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.50049, 0.48091, 0.52011, "0.500 [0.480, 0.521]"),
        (0.0, 0.0, 0.000849, "0 [0, 0.00085]"),
        (-0.03, -0.04549, -0.01451, "-0.030 [-0.046, -0.014]"),
        (1.0, 0.9949, 1.0, "1.000 [0.994, 1.000]"),
        (0.5, 0.45, 0.55, "0.500 [0.450, 0.550]"),
        (0.1 + 0.2, 0.3, 0.30000000000000004, "0.300 [0.300, 0.300]"),
        (math.nan, math.nan, math.nan, "not shown"),
        (2.0, 1.0, math.inf, "2.000 [1.000, unbounded]"),
    ],
)
def test_intervals_are_rounded_outwards(value, low, high, expected):
    assert interval(rounded(Estimate(value=value, low=low, high=high, n=900, method="bootstrap"))) == expected


def test_rounding_never_shrinks_an_interval():
    for step in range(1, 2000):
        value = step / 1999 * 0.3
        exact = Estimate(value=value, low=value * 0.9, high=value * 1.1, n=900, method="bootstrap")
        public_ = rounded(exact)
        assert public_.low <= exact.low + 1e-12
        assert public_.high >= exact.high - 1e-12
        assert public_ == rounded(public_), "rounding twice changes nothing"


def test_public_curves_are_coarse():
    curve = tuple((i / 4999, (i / 4999) ** 0.5) for i in range(5000))
    audit = public(with_finding(example_audit(), "membership", curves={"ROC": curve}))
    kept = audit["membership"].measurement.curves["ROC"]
    assert len(kept) <= CURVE_POINTS + 1
    assert kept[0] == (0, 0)
    assert kept[-1] == (1, 1)


def test_the_public_audit_survives_json():
    audit = public(example_audit())
    again = type(audit).from_json(audit.to_json())
    assert again.to_json() == audit.to_json()
    assert report.render_markdown(again) == report.render_markdown(example_audit())


def test_figures_are_paired_with_their_controls():
    one = estimate(0.1)
    rows = paired({"age": one, "age (real)": one, "AUC (real holdout)": one, "real life": one})
    assert [(row.name, row.control is not None) for row in rows] == [
        ("age", True),
        ("AUC (real holdout)", False),
        ("real life", False),
    ]


def test_groups_keep_every_finding_and_put_privacy_first():
    odd = Finding("acme.magic", "?", "NOT_JUDGED", "", required=False)
    found = groups((odd, *example_audit().findings))
    assert [group.name for group in found] == ["Privacy", "Fidelity", "Usefulness", "Other"]
    assert sum(len(group.findings) for group in found) == len(example_audit().findings) + 1


def test_an_audit_without_findings_still_reads():
    audit = dataclasses.replace(example_audit(), findings=(), columns=(), generator=None)
    assert "not recorded" in report.render_html(audit, pictures=False)
    assert "not recorded" in report.render_markdown(audit)


def test_writing_leaves_two_files_and_nothing_else(tmp_path):
    path = report.write(example_audit(), tmp_path / "new")
    assert path.read_text(encoding="utf-8") == html_of_example()
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html", "report.md"]


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    audit = dataclasses.replace(example_audit("REVIEW"), findings=())
    report.write(audit, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write = Path.write_text

    def full(self, *args, **kwargs):
        if "report.md" in self.name:
            raise OSError(28, "No space left on device")
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        report.write(dataclasses.replace(audit, seed=8), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_glyphs_that_the_layout_font_lacks_are_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "🩺" in report.render_html(example_audit(columns=(*COLUMNS[:10], "🩺", "漢字")))


@pytest.mark.parametrize(("value", "expected"), [(1e9, "1,000,000,000"), (0.000012, "0.000012"), (-0.5, "-0.500")])
def test_figures_read_well(value, expected):
    assert figure(value) == expected


def _variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def _contrast(one: str, other: str) -> float:
    """Source: WCAG 2.1, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_images_of_a_cohort_have_a_generator_that_is_rounded_and_told_alike():
    training = {"steps": 9, "history": [[1, 1.23456, 2.0], [2, 1.1, 1.9]], "folded": {"age": {"k": 6, "rows": 3}}}
    facts = {"name": "copula", "images": {"name": "image-gan", "training": training}}
    seen = public(dataclasses.replace(example_audit(), generator=facts))
    assert seen.generator["images"]["training"]["history"][0] == [1, 1.235, 2.0]
    assert seen.generator["images"]["training"]["folded"] == {"age": {"rows": "fewer than 10"}}
    told = dict(content.generator_facts(seen))
    assert told["images.training.steps"] == "9"
    assert not [name for name in told if "history" in name or "folded" in name]


def test_what_was_folded_is_shown_in_coarse_counts():
    folded = {
        "age": {"k": 6, "levels": 0, "rows": 12, "backed_off": 0},
        HOSTILE[0]: {"k": 5, "levels": 3, "rows": 1_204, "backed_off": 1_200},
        "sex": {"k": 7, "levels": 0, "rows": 0, "backed_off": 0},
    }
    facts = {"name": "copula", "training": {"folded": folded, "steps": 9}}
    audit = dataclasses.replace(example_audit(), generator=facts)
    assert folded_rows(public(audit)) == (
        ("age", "0", "12", "0"),
        (shown(HOSTILE[0]), "fewer than 10", "1,204", "1,200"),
    )
    assert public(public(audit)).generator == public(audit).generator
    page, text = Page(report.render_html(audit, pictures=False)), report.render_markdown(audit)
    assert any("What was folded" in heading for _, heading in page.headings)
    assert "## What was folded to protect patients" in text
    assert "fewer than 10 | 1,204 | 1,200 |" in text
    assert "| Generator: training.steps | 9 |" in text
    assert "folded." not in text
    assert "What was folded" not in report.render_markdown(example_audit())

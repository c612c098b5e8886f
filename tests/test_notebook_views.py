"""What do values show in a notebook? Parsed as HTML and SVG: foreign text stays in its place, and no row is shown."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import invented_patients
from example_audit import HOSTILE, estimate, example_audit, with_finding
from matplotlib.figure import Figure

from synthgen import report
from synthgen.data import TableData
from synthgen.errors import EnvironmentProblem, UsageError
from synthgen.figures import DARK, INK
from synthgen.findings import Decision, Finding, Measurement
from synthgen.images import ImageData
from synthgen.io import read
from synthgen.report.plot import KINDS
from synthgen.schema import Column, TableSchema

ALLOWED = {
    "p", "strong", "bdi", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "br", "small", "details", "summary",
}  # fmt: skip


class Seen(HTMLParser):
    """Tags, attributes and texts of a piece of HTML, which must close what it opens."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self.open = set(), set(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag != "br":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def hostile_table():
    columns = tuple(Column(name, "real", unit="<i>mg</i>") for name in HOSTILE)
    frame = pd.DataFrame({name: np.arange(50.0) + 987654 for name in HOSTILE})
    return TableData(frame, TableSchema(columns))


def hostile_finding():
    measured = Measurement("x.y", HOSTILE[0], estimate(0.5), "lower", HOSTILE[1], estimate(0.4), notes=HOSTILE)
    return Finding("x.y", HOSTILE[2], "FAIL", HOSTILE[4], False, "<= 0.3", measured)


SHOWN = {
    "audit": lambda: example_audit(),
    "decision": lambda: Decision("REFUSE", HOSTILE),
    "finding": hostile_finding,
    "not run": lambda: Finding("x", HOSTILE[0], "NOT_RUN", HOSTILE[1], True),
    "table": hostile_table,
    "images": lambda: ImageData.of_arrays(np.zeros((20, 4, 4), "uint8"), {key: list(range(20)) for key in HOSTILE}),
}


@pytest.mark.parametrize("name", SHOWN)
def test_foreign_text_stays_where_it_belongs(name):
    page = SHOWN[name]()._repr_html_()
    seen = Seen(page)
    assert seen.tags <= ALLOWED
    assert seen.attributes <= {"style", "scope", "colspan"}
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08]", page)
    page.encode()


@pytest.mark.parametrize("name", SHOWN)
def test_colours_come_in_pairs_or_from_the_notebook(name):
    """Ink without its paper could not be read where the notebook is dark, or light."""
    for style in re.findall(r'style="([^"]*)"', SHOWN[name]()._repr_html_()):
        assert ("color:" in style.replace("background", "")) == ("background:" in style)


def test_every_verdict_is_a_word_and_a_sign():
    page = example_audit()._repr_html_()
    for words in ("✕ REFUSE", "✕ FAIL", "✓ PASS", "? INCONCLUSIVE", "– NOT RUN", "– NOT JUDGED"):
        assert words in page
    assert "✓ RELEASE" in example_audit("RELEASE")._repr_html_()


def test_an_audit_shows_the_reports_figures_with_their_n():
    audit = with_finding(example_audit(), "membership", statistic=estimate(0.9871, n=7))
    cells = Seen(audit._repr_html_()).cells
    assert "0.9871" not in "".join(cells)
    assert "not shown (fewer than 10)" in cells
    page = report.render_html(example_audit())
    for figures in ("0.039 [0.030, 0.049]", "0.710 [0.690, 0.730]"):
        assert figures in cells
        assert figures in page
    assert cells.count("1,497") >= 2


def test_a_finding_shows_what_it_rests_on():
    cells = Seen(example_audit()["copies.neighbor"]._repr_html_()).cells
    facts = dict(zip(cells[::2], cells[1::2], strict=True))
    assert facts["the policy asks"] == "<= 0.02, p >= 0.001, sees leaks of 0.02"
    assert facts["excess share of synthetic rows nearest to a train row"].endswith("95% interval by permutation")
    assert "n = 642" in facts["the same for the real holdout"]
    few = dataclasses.replace(hostile_finding().measurement, statistic=estimate(0.123456, n=9), control=None)
    assert "0.123" not in dataclasses.replace(hostile_finding(), measurement=few)._repr_html_()


def test_data_show_schema_and_counts_but_no_row_and_no_few():
    frame = invented_patients(300)
    frame.loc[:3, "admitted"] = pd.NaT
    frame["rare"] = np.nan
    frame.loc[:3, "rare"] = 123456.5
    data = read(frame, patient="patient_id")
    for one in (data, ImageData.of_arrays(np.zeros((300, 2, 2)), frame.rename(columns={"patient_id": "patient"}))):
        page = one._repr_html_()
        cells = Seen(page).cells
        rows = {cells[i]: cells[i : i + 5] for i in range(0, len(cells), 5)}
        assert rows["admitted"][4] == "fewer than 10"
        assert rows["rare"][4] == "all but fewer than 10"
        assert rows["age"][4] == "0.0%"
        assert rows["glucose"][4] == f"{frame['glucose'].isna().mean():.1%}"
        assert not any(str(value) in page for value in frame["patient_id"])
        assert "123456" not in page
    assert "300 rows of 300 patients" in data._repr_html_()


def test_many_columns_are_folded():
    names = [f"c{i}" for i in range(500)]
    wide = TableData(pd.DataFrame({key: [1.0] for key in names}), TableSchema(tuple(Column(n, "real") for n in names)))
    assert "<details><summary>500 columns</summary>" in wide._repr_html_()


def test_a_frame_holds_the_record_of_each_finding():
    audit = example_audit()
    frame = audit.frame().set_index("check")
    assert list(frame.index) == [finding.check for finding in audit.findings]
    neighbor, record = frame.loc["copies.neighbor"], audit["copies.neighbor"].measurement
    assert (neighbor["estimate"], neighbor["low"]) == (record.statistic.value, record.statistic.low)
    assert (neighbor["control"], neighbor["control_n"], neighbor["power"]) == (record.control.value, 642, 0.0134)
    assert (neighbor["family"], neighbor["verdict"], neighbor["required"]) == ("copies", "FAIL", True)
    absent = frame.loc["disclosure.singling_out"]
    assert absent[["estimate", "low", "n", "control", "p_value", "answer"]].isna().all()
    assert absent["because"] == "needs 200 patients"
    assert frame["n"].dtype == "Int64"
    assert frame["required"].dtype == bool
    empty = dataclasses.replace(audit, findings=()).frame()
    assert list(empty.columns) == list(audit.frame().columns)
    assert len(empty) == 0


def test_a_picture_is_a_document_of_its_own():
    plot = example_audit().plot("columns")
    root = ElementTree.fromstring(plot._repr_svg_())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == plot.picture.title == "Columns: how far each distribution is off"
    assert {"script", "image", "foreignObject"}.isdisjoint(node.tag.split("}")[-1] for node in root.iter())
    attributes = {name.split("}")[-1] for node in root.iter() for name in node.attrib}
    assert not {name for name in attributes if name.startswith("on")} | {"style"} & attributes
    assert not re.search(r"url\((?!#)|@import", plot.svg)
    assert any(HOSTILE[0][:20] in text for text in texts)
    assert "prefers-color-scheme:dark" in plot.svg
    assert "Worst first" in repr(plot)
    assert plot.svg == example_audit().plot("columns").svg


def test_pictures_have_the_colours_of_the_report():
    css = (Path(report.__file__).parent / "templates" / "report.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    for palette, rules in ((INK, light), (DARK, dark)):
        for name, colour in palette.items():
            assert f"--{name}: {colour};" in rules


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_saved(tmp_path, kind):
    plot = example_audit().plot("membership")
    path = plot.save(tmp_path / f"roc{kind}")
    start = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF"}[kind]
    assert path.read_bytes().startswith(start)
    assert isinstance(plot.figure, Figure)


def test_a_picture_is_saved_under_known_endings_only(tmp_path):
    plot = example_audit().plot("membership")
    with pytest.raises(UsageError, match=r"as \.svg, \.png, \.pdf, not as '\.docx'"):
        plot.save(tmp_path / "roc.docx")
    with pytest.raises(EnvironmentProblem, match="cannot write the picture") as problem:
        plot.save(tmp_path / "nowhere" / "roc.svg")
    assert str(tmp_path) not in str(problem.value)


def test_a_picture_of_one_column_is_larger_and_says_what_its_colours_are():
    panel = example_audit().plot("columns", column="age")
    root = ElementTree.fromstring(panel.svg)
    assert float(root.get("width")) == 2 * panel.picture.width
    title = " ".join(node.text for node in root.findall("{http://www.w3.org/2000/svg}text"))
    assert title == "age: filled synthetic, line real holdout"

"""Does the report read well in a real browser? Headless Chromium, started once; skipped where there is none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from browser import CHROMIUM, browser
from example_audit import COLUMNS, example_audit, with_finding

from synthgen import compare, report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not opened")

RIGHT_TO_LEFT = "عمر المريض"
LONG = "a_column_name_without_a_single_place_to_break_" * 5
UNFOLD = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
# What reaches beyond the window, except inside a box that scrolls by itself.
TOO_WIDE = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") && !e.closest("svg")
  && !e.matches(".skip, .questions thead, .questions thead *") && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 80))"""
# Words of a picture that are cut off at its edge, and words that lie on each other.
UNREADABLE = """[...document.querySelectorAll("figure svg")].flatMap(svg => {
  const frame = svg.viewBox.baseVal, words = [...svg.querySelectorAll("text")];
  const place = word => {
    const own = word.getBBox(), turn = word.getCTM(), base = svg.getCTM();
    const corners = [[own.x, own.y], [own.x + own.width, own.y + own.height]].map(
      ([x, y]) => new DOMPoint(x, y).matrixTransform(base.inverse().multiply(turn)));
    const [xs, ys] = [corners.map(c => c.x), corners.map(c => c.y)];
    return {text: word.textContent, left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys),
            bottom: Math.max(...ys)};
  };
  const places = words.map(place);
  const cut = places.filter(p => p.left < -2 || p.top < -2 || p.right > frame.width + 2 || p.bottom > frame.height + 2);
  const on = places.flatMap((p, i) => places.slice(i + 1).filter(q => Math.min(p.right, q.right) - Math.max(p.left,
    q.left) > 2 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4).map(q => p.text + " / " + q.text));
  return [...cut.map(p => svg.querySelector("title").textContent + ": cut: " + p.text),
          ...on.map(t => svg.querySelector("title").textContent + ": on each other: " + t)];
})"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    audit = example_audit(columns=(*COLUMNS, LONG, LONG.upper(), 30 * "漢字", "أعلى <b>1</b>"))
    answer = f"Missing rates differ by up to 4.3%, most in column {RIGHT_TO_LEFT!r} 17 of 90."
    audit = with_finding(audit, "fidelity.missingness", answer=answer)
    return report.write(audit, tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_the_page_fits_says_nothing_to_the_console_and_asks_for_nothing(chromium, page, width, dark):
    chromium.open(page, width=width, dark=dark)
    chromium.ask(UNFOLD)
    assert chromium.ask("innerWidth") == width
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    assert chromium.ask(TOO_WIDE) == []
    assert chromium.complaints() == []
    assert chromium.requests() == []
    paper = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(18, 24, 30)" if dark else "rgb(255, 255, 255)")
    assert chromium.ask(UNREADABLE) == []


def test_a_page_with_faults_would_be_seen(chromium, tmp_path):
    """The same questions about a page that asks for a picture, talks, is too wide and cuts words off."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<img src='http://example.org/pixel.png'><script>console.error('seen')</script>"
        "<p style='width: 3000px'>wide</p>"
        "<figure><svg viewBox='0 0 90 90' width='90'><title>t</title><text x='80' y='50'>cut off</text>"
        "<text x='10' y='50'>one</text><text x='12' y='52'>other</text></svg></figure>"
    )
    chromium.open(faulty)
    assert "http://example.org/pixel.png" in chromium.requests()
    assert "seen" in str(chromium.complaints())
    assert "wide" in str(chromium.ask(TOO_WIDE))
    assert chromium.ask(UNREADABLE) == ["t: cut: cut off", "t: on each other: one / other"]


def test_names_with_markup_stay_text(chromium, page):
    chromium.open(page)
    assert chromium.ask("document.scripts.length") == 0
    assert chromium.ask("document.querySelectorAll('main b').length") == 0
    assert '<script>alert("x")</script>' in chromium.ask("document.body.textContent")


def test_a_name_from_right_to_left_turns_nothing_around_it(chromium, page):
    """The figures after the name stand to the right of it, in their order."""
    chromium.open(page)
    edges = chromium.ask(
        """(() => {
          const told = [...document.querySelectorAll(".answer")].find(e => e.textContent.includes("17 of 90"));
          const where = word => {
            const at = told.textContent.indexOf(word), range = document.createRange();
            range.setStart(told.firstChild, at);
            range.setEnd(told.firstChild, at + word.length);
            const box = range.getBoundingClientRect();
            return [box.left, box.top];
          };
          return [...where("المريض"), ...where("17"), ...where("90")];
        })()"""
    )
    name, seventeen, ninety = ((edges[i + 1], edges[i]) for i in (0, 2, 4))
    assert name < seventeen < ninety, "read line by line, from left to right"


def test_the_keyboard_reaches_what_it_must(chromium, page):
    def press(key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            code = {"Tab": 9, "Enter": 13}[key]
            chromium.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    chromium.open(page)
    press("Tab")
    assert chromium.ask("document.activeElement.className") == "skip"
    assert chromium.ask("document.activeElement.getBoundingClientRect().left") >= 0, "seen once it is reached"
    press("Enter")
    assert chromium.ask("location.hash") == "#content"
    chromium.ask("document.querySelector('summary').focus()")
    press("Enter")
    assert chromium.ask("document.querySelector('details').open")
    assert chromium.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert chromium.ask("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0)")


def test_a_screen_reader_finds_landmarks_headings_and_pictures(chromium, page):
    chromium.open(page)
    nodes = [node for node in chromium.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]

    def those(role: str) -> list[dict]:
        return [node for node in nodes if node["role"]["value"] == role]

    for landmark in ("main", "banner", "contentinfo"):
        assert len(those(landmark)) == 1
    assert all(node["name"]["value"] for node in those("region"))
    levels = [
        prop["value"]["value"] for node in those("heading") for prop in node["properties"] if prop["name"] == "level"
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    pictures = those("image") + those("img")
    assert len(pictures) >= 14 + 12, "those that are folded are not there yet"
    for picture in pictures:
        assert picture["name"]["value"]
        assert picture["description"]["value"]
    assert len(those("table")) > 10


def test_the_print_holds_what_is_folded(chromium, page):
    chromium.open(page)
    closed = "[...document.querySelectorAll('details:not([open]) th')].filter(e => e.checkVisibility()).length"
    assert chromium.ask(closed) == 0
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.ask(closed) > 100
    assert chromium.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("width", [375, 1440])
def test_audits_side_by_side_fit_say_nothing_and_ask_for_nothing(chromium, tmp_path, width):
    audits = {f"audit {i}": example_audit(outcome) for i, outcome in enumerate(["RELEASE", "REFUSE", "REVIEW"] * 2)}
    path = report.write_comparison(compare({**audits, "W" * 60: example_audit()}), tmp_path / "compare.html")
    chromium.open(path, width=width)
    chromium.ask(UNFOLD)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    assert chromium.ask(TOO_WIDE) == []
    assert chromium.complaints() == []
    assert chromium.requests() == []


def test_a_thousand_columns_are_a_page_that_fits(chromium, tmp_path):
    path = report.write(example_audit(columns=tuple(f"c{number}" for number in range(1000))), tmp_path)
    chromium.open(path, width=375)
    assert chromium.ask("document.documentElement.scrollWidth") <= 375
    assert chromium.complaints() == []

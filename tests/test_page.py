"""Pages of HTML: what is given is shown and nothing else happens."""

from __future__ import annotations

import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import page
from aiops_cli.errors import UsageError

HOSTILE = "</title><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=y>&amp;"
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "pre", "div", "table", "tr",
    "th", "td", "figure", "figcaption", "svg", "text", "rect", "line", "circle", "polyline",
}  # fmt: skip


class Seen(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def whole(text: str) -> str:
    return page.page(
        text,
        text,
        [
            page.heading(text),
            page.paragraph(text, soft=True),
            page.lines_to_paste(text),
            page.table([text, "n"], [[text, 3], [None, None]]),
            page.bars(text, [(text, 2.0), (f"{text} other", 0.0)], shown=lambda _: text),
            page.lines(
                text,
                {text: [(0, 0), (1, 2)], f"{text} dot": [(0.5, 1)], f"{text} none": []},
                across=text,
                up=text,
                shown=lambda _: text,
                shown_across=lambda _: text,
            ),
        ],
    )


def read(text: str) -> Seen:
    seen = Seen()
    seen.feed(text)
    seen.close()
    assert not seen.open
    return seen


def test_hostile_text_is_shown_and_does_nothing() -> None:
    seen = read(whole(HOSTILE))
    assert set(seen.tags) <= ALLOWED
    assert not {name for name in seen.attributes if name.startswith("on") or "href" in name}
    assert HOSTILE in seen.text


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_whatever_brings_an_element_in(text: str) -> None:
    made = whole(text)
    assert read(made).tags == read(whole("")).tags
    made.encode("utf-8")  # lone surrogates could not be written


def test_nothing_is_loaded_from_anywhere() -> None:
    made = whole("plain")
    assert "default-src 'none'" in made
    assert not re.search(r"https?:|url\(|@import|<script|<link", made)


def test_light_and_dark() -> None:
    assert "prefers-color-scheme: dark" in whole("plain")


def test_bars_are_as_long_as_their_values() -> None:
    made = page.bars("x", [("all", 4.0), ("half", 2.0), ("none", 0.0)])
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([0-9.]+)"', made)]
    assert widths == [widths[0], widths[0] / 2, 0.0]
    of_full = page.bars("x", [("all", 4.0)], full=8.0)
    assert re.findall(r'<rect [^>]*width="([0-9.]+)"', of_full) == [str(widths[1])]


def test_lines_go_from_the_lower_left_to_the_top() -> None:
    made = page.lines("x", {"a": [(10, 0), (20, 5)]}, across="n", up="m")
    (points,) = re.findall(r'points="([^"]+)"', made)
    bottom, top = page.HEIGHT - page.BOTTOM, page.TOP
    ends = [f"{float(page.LEFT)},{float(bottom)}", f"{float(page.WIDTH - page.RIGHT)},{float(top)}"]
    assert points.split() == ends


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(3.0, 0.0)]}, {"a": [(3, 0), (3, 0)]}])
def test_charts_of_next_to_nothing(series: dict[str, list[tuple[float, float]]]) -> None:
    read(page.lines("x", series, across="n", up="m"))
    read(page.bars("x", []))
    read(page.table(["a"], []))


def test_columns_of_numbers_stand_to_the_right() -> None:
    made = page.table(["name", "count", "share"], [["a", 1, "99 %"], ["b", None, "-0.5"]])
    assert made.count("class=number") == 5 + 1  # two heads, three of four cells and an empty one
    assert "<th>name</th>" in made


def test_a_saved_page_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("old")
    page.save(file, "new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        page.save(tmp_path / "nowhere" / "report.html", "x")

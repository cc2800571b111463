"""How a report is told: on a terminal, as Markdown, as a page; word for word in golden_report/.

After a change that is meant: UPDATE_GOLDEN=1 .envs/dev/bin/pytest tests/test_report_text.py, then
read the difference.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aiops_cli.report_page import as_html
from aiops_cli.report_text import as_markdown, as_text
from aiops_cli.report_value import document
from knowledge.records import short_hash
from tests.golden_cases import HOSTILE, LONG_DAG
from tests.reports import COLUMN, FULL, RUNS, alone, approved, brief, counted, decided, undone, week
from tests.test_golden import in_zone, shown

GOLDEN = Path(__file__).parent / "golden_report"


@pytest.fixture(autouse=True)
def _clock_of_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with in_zone(monkeypatch, "UTC"):
        yield


def told(*briefs: Any, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = document(counted(*briefs, **fields))
    return made


def short(doc: Mapping[str, Any]) -> dict[str, str]:
    lists = (doc["wrong"], doc["failures"], doc["novel"])
    return {one["incident"]: one["incident"][:4] for several in lists for one in several}


def a_week() -> dict[str, Any]:
    return told(
        *week(),
        runs=RUNS,
        unwritten=[short_hash(FULL), short_hash(COLUMN)],
        missing=["failure rates of prod are missing: Airflow does not answer"],
    )


def golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "meant? then UPDATE_GOLDEN=1"


def test_a_week_on_a_terminal() -> None:
    doc = a_week()
    widths = [
        f"--- {width} columns\n{shown(as_text(doc, short(doc)), width)}" for width in (80, 120)
    ]
    golden("week.txt", "".join(widths))


def test_a_week_as_markdown() -> None:
    doc = a_week()
    golden("week.md", as_markdown(doc, short(doc)).plain + "\n")


def test_a_week_as_a_page() -> None:
    doc = a_week()
    golden("week.html", as_html(doc, short(doc)))


def test_nothing_is_one_sentence_everywhere() -> None:
    sentence = (
        "Nothing failed between 03-02 03:04 +0000 and 03-09 03:04 +0000 in prod, "
        "as far as this knowledge base has seen."
    )
    doc = told(instance="prod")
    assert shown(as_text(doc, {}), 200) == f"{sentence}\n"
    assert as_markdown(doc, {}).plain == sentence
    assert f"<p>{sentence}</p>" in as_html(doc, {})


def test_what_did_not_happen_is_not_told() -> None:
    doc = told(brief())
    text = shown(as_text(doc, short(doc)), 80)
    for absent in ("a plain retry", "acts", "time to", "shadow", "CALLED WRONG", "--draft-runbook"):
        assert absent not in text
    assert "RECURRING FAILURES\n  none\n" in text


def test_a_login_that_is_called_like_another_ending_has_a_line_of_its_own() -> None:
    doc = told(approved(by="not fixed"), approved(by="not fixed"), approved(outcome="failed"))
    assert re.search(r"not fixed \(a login\) +2 +67%", shown(as_text(doc, short(doc)), 78))
    assert "| `not fixed (a login)` | 2 |" in as_markdown(doc, short(doc)).plain
    page = as_html(doc, short(doc))
    assert "<title>not fixed (a login)</title>" in page
    assert "<title>not fixed</title>" in page


def test_what_was_undone_is_told() -> None:
    doc = told(undone(), undone())
    text = shown(as_text(doc, short(doc)), 78)
    assert "2: called wrong 0, undone 2" in text
    assert "set_variable fixed 0 of 2, undone 2" in text


def test_a_runbook_is_offered_where_there_is_something_to_write() -> None:
    once = brief(what=FULL)
    doc = told(once, unwritten=[once.fingerprint])
    text = shown(as_text(doc, short(doc)), 80)
    assert "WORTH A RUNBOOK  no runbook answers to them\n   1×  " in text
    assert "aiops report --draft-runbook draft.yaml" in text


def test_nobody_has_decided_on_what_shadow_wrote() -> None:
    doc = told(brief(decided("shadow")))
    text = " ".join(shown(as_text(doc, short(doc)), 80).split())
    assert "would have acted on 1; no person has decided on one yet; 1 waits" in text


def test_of_long_lists_it_says_how_many_there_are() -> None:
    doc = told(*(brief(what=f"Error{n}: x", dag_id=f"d{n}") for n in range(30) for _ in (1, 2)))
    text = shown(as_text(doc, short(doc)), 80)
    assert "RECURRING FAILURES  the worst 10 of 30\n" in text
    assert len(re.findall(r"^d\d+ ", text, re.MULTILINE)) == 10
    assert "The worst 10 of 30." in as_markdown(doc, short(doc)).plain


def test_of_several_airflows_each_is_named() -> None:
    doc = told(brief(), brief(instance="prod"), runs={("prod", "orders_etl"): 4})
    for text in (
        shown(as_text(doc, short(doc)), 120),
        as_markdown(doc, short(doc)).plain,
        as_html(doc, short(doc)),
    ):
        for name in ("default: orders_etl", "prod: orders_etl", "prod: orders_etl.load"):
            assert name in text


# ---- hostile text ----


def hostile(text: str) -> dict[str, Any]:
    """A report in which the text stands wherever a log, a person or Airflow may have put it."""
    fields: dict[str, Any] = {"what": text, "dag_id": text, "task_id": text}
    return told(
        alone(wrong=text, **fields),
        approved(cause=text, by=text, **fields),
        unwritten=[short_hash(text)],
        missing=[text],
        instance=text,
        runs={("default", text): 5},
    )


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("text", [HOSTILE, LONG_DAG])
def test_nothing_leaves_the_screen_or_drives_it(text: str, width: int) -> None:
    doc = hostile(text)
    out = shown(as_text(doc, short(doc)), width)
    for line in out.splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()
    assert not [c for c in out if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]


def test_markup_of_a_log_is_text() -> None:
    doc = hostile(HOSTILE)
    assert "[red]x[/] [link=http://evil]y[/link] :bomb:" in shown(as_text(doc, short(doc)), 300)


BREAKING = "`</code>` | <img src=x onerror=y> [a](http://evil) **b**\n# h\n- x"


def test_markdown_keeps_it_inside_code() -> None:
    """With the code spans gone, nothing of it is left to format, link or break a table."""
    doc = hostile(BREAKING)
    text = as_markdown(doc, short(doc)).plain
    left = re.sub(r"`[^`\n]*`", "CODE", text)
    _title, *lines = left.splitlines()
    for word in ("img", "evil", "</code>", "**b**"):
        assert word not in "\n".join(lines)
    assert "`" not in "\n".join(lines)
    for line in lines:
        if line.startswith("|"):
            assert line.count("|") in (3, 4, 7)
        assert re.match(r"$|# |## |\||- |[A-Z\d]", line), line


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(min_size=1) | st.just(BREAKING) | st.just("</title></svg><script>alert(1)</script>"))
def test_a_page_shows_it_and_does_nothing_with_it(text: str) -> None:
    doc = hostile(text)
    page = as_html(doc, short(doc))
    parsed = Tags()
    parsed.feed(page)
    known = Tags()
    known.feed(PLAIN)
    assert parsed.seen <= known.seen
    assert parsed.attributes <= known.attributes


PLAIN = (lambda doc: as_html(doc, short(doc)))(hostile("text"))


def test_a_page_loads_nothing() -> None:
    doc = a_week()
    page = as_html(doc, short(doc))
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", page)
    assert "default-src 'none'" in page


def test_a_year_has_a_line_and_a_day_a_dot() -> None:
    year = told(brief(), since=brief().failed_at - timedelta(days=365))
    assert "<polyline" in as_html(year, short(year))
    moment = brief().failed_at
    day = told(brief(), since=moment, until=moment + timedelta(hours=1))
    assert "<circle" in as_html(day, short(day))

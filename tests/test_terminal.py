"""Screens of every kind: narrow and wide, light and dark, without colour, dumb, of old code pages;
wide, joined and right-to-left characters; and long output through the pager."""

from __future__ import annotations

import io
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.style import Style

from aiops_cli import listings, render, storms
from tests.airflow_server import exception
from tests.cli import Cli
from tests.desk import REFUSED
from tests.golden_cases import CASES, HOSTILE, judged
from tests.test_interrupts import terminal

# Of the 16 colours these two vanish: each is the background of somebody's terminal, and so do
# colours that are not of the 16, which no theme of a terminal adapts.
READABLE = {"red", "green", "yellow", "blue", "magenta", "cyan", None, "default"}
SCRIPTS = "日本語の失敗 💥👩‍🔧 שגיאה בטעינה خطأ في التحميل n̈́ﷺ"


def drawn(content: RenderableType, width: int, **options: Any) -> str:
    stream = io.StringIO()
    plain: Any = {"markup": False, "emoji": False, "highlight": False}
    Console(file=stream, width=width, **(plain | options)).print(content)
    return stream.getvalue()


def styles(content: RenderableType) -> set[Style]:
    console = Console(width=100, force_terminal=True, color_system="truecolor")
    return {segment.style for segment in console.render(content) if segment.style}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_no_colour_vanishes_on_a_light_or_a_dark_screen(
    case: Callable[[], RenderableType],
) -> None:
    for style in styles(case()):
        assert style.bgcolor is None, style
        assert (style.color.name if style.color else None) in READABLE, style


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_what_colour_says_a_word_says_too(case: Callable[[], RenderableType]) -> None:
    """NO_COLOR, a pipe and a colour-blind reader lose nothing."""
    bare = drawn(case(), 100, force_terminal=False)
    coloured = drawn(case(), 100, force_terminal=True, color_system="standard")
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == bare


ENVIRONMENTS = {
    "NO_COLOR": {"NO_COLOR": "1", "TERM": "xterm"},
    "dumb": {"TERM": "dumb"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_real_terminal_without_colours(cli: Cli, waiting: str, name: str) -> None:
    cli.environ |= ENVIRONMENTS[name]
    with terminal(cli, "incidents") as screen:
        assert screen.end() == 0
    assert waiting[:4] in screen.screen
    assert not re.search(r"\x1b\[[\d;]*3\d", screen.screen)  # no colour
    if name == "dumb":
        assert "\x1b" not in screen.screen


def test_the_line_of_where_one_is_breaks_between_words(cli: Cli) -> None:
    cli.capture("orders", events=[REFUSED])
    cli.environ |= {"COLUMNS": "40", "NO_COLOR": "1", "TERM": "dumb"}
    with terminal(cli, "diagnose") as screen:
        assert screen.end() == 0
    lines = screen.screen.splitlines()
    assert "Airflow healthy" in lines[0]
    assert max(map(cell_len, lines)) <= 40, lines


@pytest.mark.parametrize("columns", [80, 100, 132, 200])
@pytest.mark.parametrize("command", [["incidents"], ["diagnose"], ["failures"], ["handover"]])
def test_a_screen_of_so_many_columns_is_never_left(
    cli: Cli, columns: int, command: list[str]
) -> None:
    cli.capture("orders_" + "long" * 30, events=[exception("ValueError", SCRIPTS * 9)])
    cli.monkeypatch.setenv("COLUMNS", str(columns))
    out = cli.ok(*command).out
    assert out
    for line in out.splitlines():
        assert cell_len(line) <= columns, line


# What a headline of a log may hold, more often than not of scripts that are hard to draw.
LETTERS = st.one_of(st.characters(), st.sampled_from(SCRIPTS), st.sampled_from(HOSTILE))


@settings(max_examples=60)
@given(text=st.text(LETTERS, max_size=200), width=st.integers(min_value=40, max_value=200))
def test_no_headline_leaves_or_drives_the_screen(text: str, width: int) -> None:
    document = judged() | {"headline": text, "dag_id": text or "d", "group": "s7storm234"}
    members = [document | {"incident": f"m{n}", "task_id": f"t{n}"} for n in range(3)]
    short = {"s7storm234": "s7st"} | {doc["incident"]: doc["incident"] for doc in members}
    for shown in (
        render.incident_card(document, "k3f9"),
        listings.incident_table([document], {document["incident"]: "k3f9"}),
        listings.incident_table(members, short),
        listings.storm_card(storms.Storm(tuple(members)), short),
    ):
        drawing = drawn(shown, width, force_terminal=False)
        for line in drawing.split("\n"):
            assert cell_len(line) <= width
        # Cf turns the direction of what follows (right-to-left override), Cc drives the terminal.
        wrong = [c for c in drawing if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]
        assert wrong == []


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "ascii", "cp932", "utf-8"])
@pytest.mark.parametrize("command", ["incidents", "log", "diagnose", "kb", "handover"])
def test_a_code_page_loses_characters_and_nothing_else(
    cli: Cli, command: str, encoding: str
) -> None:
    incident = cli.capture("orders", events=[exception("ValueError", f"{SCRIPTS} → ✓ end")])
    cli.environ["PYTHONIOENCODING"] = encoding
    args = {"log": ["log", incident], "kb": ["kb", "list", "--source=starter/"]}.get(
        command, [command]
    )
    said = cli.process(*args, encoding=encoding)
    assert said.returncode == 0, said
    assert "Traceback" not in said.stderr
    assert ("ENTRY" if command == "kb" else "ValueError") in said.stdout
    if encoding == "utf-8" and command == "log":
        assert "日本語の失敗" in said.stdout


def test_our_own_marks_have_a_plain_form(cli: Cli) -> None:
    """What stands for them takes as much room, so that columns stay where they are."""
    cli.capture("orders", events=[exception("ValueError", "é")])
    cli.environ["PYTHONIOENCODING"] = "ascii"
    said = cli.process("diagnose", "--no-suggest")
    assert "scheduled run" in said.stdout
    assert "default | " in said.stderr
    assert "ValueError: \\xe9" in said.stdout
    assert "\\u" not in cli.process("handover").stdout


# ---- the pager ----


def pager(cli: Cli, code: str = 'cat > "$HOME/paged"') -> Path:
    """A pager that notes what it was given; returns where."""
    script = cli.home / "pager"
    script.write_text(f"#!/bin/sh\n{code}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    cli.environ["PAGER"] = str(script)
    return cli.home / "paged"


def long_log(cli: Cli) -> str:
    lines = [{"event": f"line {number}", "level": "error"} for number in range(200)]
    return cli.capture("orders", events=[*lines, REFUSED])


def test_what_is_longer_than_the_screen_goes_through_the_pager(cli: Cli) -> None:
    incident, paged = long_log(cli), pager(cli)
    with terminal(cli, "log", incident) as screen:
        assert screen.end() == 0
    assert "ConnectionRefusedError" in paged.read_text()
    assert "ConnectionRefusedError" not in screen.screen


def test_what_fits_does_not(cli: Cli, waiting: str) -> None:
    paged = pager(cli)
    with terminal(cli, "log", waiting) as screen:
        assert screen.end() == 0
    assert not paged.exists()
    assert "ConnectionRefusedError" in screen.screen
    assert "1 \x1b[0m[ERROR]" in screen.screen  # the line's number in Airflow


def test_a_pipe_has_no_pager(cli: Cli) -> None:
    incident, paged = long_log(cli), pager(cli)
    assert "ConnectionRefusedError" in cli.process("log", incident).stdout
    assert not paged.exists()


@pytest.mark.parametrize("code", ["exit 0", "head -1 > /dev/null", "exit 1"])
def test_a_pager_that_is_left_early_is_no_error(cli: Cli, code: str) -> None:
    incident = long_log(cli)
    pager(cli, code)
    with terminal(cli, "log", incident) as screen:
        assert screen.end() == 0
    assert "error" not in screen.screen.lower()


@pytest.mark.parametrize("command", ["/no/such/pager", "'", ""])
def test_a_pager_that_is_none_is_done_without(cli: Cli, command: str) -> None:
    incident = long_log(cli)
    cli.environ["PAGER"] = command
    with terminal(cli, "log", incident) as screen:
        assert screen.end() == 0
    assert "ConnectionRefusedError" in screen.screen


def test_a_dumb_terminal_has_no_pager(cli: Cli) -> None:
    incident, paged = long_log(cli), pager(cli)
    cli.environ["TERM"] = "dumb"
    with terminal(cli, "log", incident) as screen:
        assert screen.end() == 0
    assert not paged.exists()
    assert os.linesep in screen.screen

"""What a person sees, word for word, at 80 and at 120 columns.

Each case has a file in tests/golden with both widths. After a change that is meant, write them
anew and read the difference:

    UPDATE_GOLDEN=1 .envs/dev/bin/pytest tests/test_golden.py && git diff tests/golden
"""

from __future__ import annotations

import io
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from aiops_cli.screen import Elided, plain
from tests.golden_cases import (
    CASES,
    SOFT,
    card,
    failures,
    header,
    hostile,
    judged,
    nobody,
    queue,
    watch_lines,
)

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 120)


@contextmanager
def in_zone(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """The machine's time zone, for a while."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(autouse=True)
def _clock_of_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with in_zone(monkeypatch, "UTC"):
        yield


def shown(content: RenderableType, width: int, *, soft_wrap: bool = False) -> str:
    """As `aiops_cli.commands.output.console` shows it where there is no colour. What is printed
    with `soft_wrap` is left to the terminal to wrap."""
    stream = io.StringIO()
    plain: Any = {"markup": False, "emoji": False, "highlight": False, "force_terminal": False}
    Console(file=stream, width=width, **plain).print(content, soft_wrap=soft_wrap)
    return stream.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_text(case: Callable[[], RenderableType]) -> None:
    parts = []
    for width in WIDTHS:
        lines = shown(case(), width, soft_wrap=case in SOFT).splitlines()
        parts.append("\n".join([f"--- {width} columns", *(line.rstrip() for line in lines)]))
    text = "\n".join(parts) + "\n"
    file = GOLDEN / f"{case.__name__}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), "meant? then UPDATE_GOLDEN=1"


def test_every_golden_file_has_its_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*")} == {case.__name__ for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
@pytest.mark.parametrize("width", [40, *WIDTHS, 200])
def test_nothing_leaves_the_screen_or_drives_it(
    case: Callable[[], RenderableType], width: int
) -> None:
    text = shown(case(), width)
    for line in text.splitlines():
        assert cell_len(line) <= width
    assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_lines_carry_no_blanks_at_their_end(case: Callable[[], RenderableType]) -> None:
    """Else every line of a mail is wrapped, and copies carry blanks along."""
    lines = shown(case(), 80).splitlines()
    blank = [line for line in lines if line != line.rstrip()]
    assert blank == [] or case in SOFT


def test_times_are_told_on_the_readers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "FAILED 03-01 03:04 +0000" in shown(card(judged()), 120)
    with in_zone(monkeypatch, "Asia/Kolkata"):
        assert "FAILED 03-01 08:34 +0530" in shown(card(judged()), 120)
        assert "08:34 +0530" in shown(header(), 120)
        assert re.search(r"^ID +FAILED \+0530 ", shown(queue(), 120))
        assert re.search(r"^ENDED \+0530 ", shown(failures(), 120))
        assert "03-01 08:34 +0530" in shown(watch_lines(), 200)


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
    st.integers(1, 60),
)
def test_a_name_loses_no_more_than_it_must(name: str, width: int) -> None:
    text = shown(Elided(name), width).rstrip("\n")
    assert cell_len(text) <= width
    whole = cell_len(plain(name).plain) <= width
    assert (text == plain(name).plain) if whole else "…" in text


def test_of_a_long_dag_the_task_is_still_told() -> None:
    text = shown(Elided("warehouse_" * 20 + "loads.orders_final"), 36).strip()
    assert text.startswith("warehouse_")
    assert text.endswith("orders_final")
    assert len(text) == 36


def test_markup_of_a_log_is_text() -> None:
    text = shown(hostile(), 200)
    assert "[red]x[/] [link=http://evil]y[/link] :bomb:" in text


def test_the_next_keys_are_commands_that_exist() -> None:
    """Whoever copies one gets what it says, not a usage error."""
    from aiops_cli.main import COMMANDS

    for document in (judged(), judged(**nobody(matches=()))):
        keys = " ".join(shown(card(document), 200).split("NEXT")[1].split())
        for key in keys.split(" | "):
            verb, id_, *_ = key.split()
            assert verb in COMMANDS
            assert id_ == "k3f9"
        assert ("--action" in keys) is (document["diagnosis"]["action"] is None)
        assert "--reason" in keys  # reject does not go without

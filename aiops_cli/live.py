"""What a watch shows in a terminal → a Rich renderable: what came in, what was done, what waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiops_cli.published import utc
from aiops_cli.render import incident_line
from aiops_cli.screen import Trimmed, local, plain
from aiops_cli.tally import Tally
from knowledge.records import Status

Document = Mapping[str, Any]
_WAITS: tuple[tuple[Status, str], ...] = (
    ("pending", "for a person"),
    ("needs_human", "begun and unclear"),
    ("acting", "for Airflow"),
)


def watch_view(tally: Tally, short: Mapping[str, str]) -> RenderableType:
    """`short` has the ids of the incidents that the tally keeps."""
    grid = Table.grid(padding=(0, 1), pad_edge=False, expand=True)
    grid.add_column(width=8, no_wrap=True, style="bold")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for label, documents in (("CAME IN", tally.came), ("DONE", tally.done)):
        for number, line in enumerate(_lines(documents, short)):
            grid.add_row(label if number == 0 else "", line)
    grid.add_row("WAITS", _waits(tally.counts))
    if tally.trouble:
        grid.add_row("TROUBLE", plain(tally.trouble, "bold red"))
    return Group(Trimmed(_head(tally)), Trimmed(grid))


def _head(tally: Tally) -> Text:
    last = f"last pass {_clock(tally.whole_at)} in {tally.took:.1f} s"
    parts = [
        tally.instance,
        f"auto: {tally.mode}",
        last if tally.whole_at else "no pass yet",
        f"next {_clock(tally.next_at)}" if tally.next_at else "at it now",
    ]
    text = plain(" · ".join(parts), "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(moment: datetime | None) -> str:
    return local(utc(moment), "%H:%M:%S")


def _lines(documents: Sequence[Document], short: Mapping[str, str]) -> list[Text]:
    if not documents:
        return [Text("nothing yet", "dim")]
    return [incident_line(doc, short[doc["incident"]], reasons=False) for doc in documents[::-1]]


def _waits(counts: Mapping[Status, int]) -> Text:
    told = [f"{counts[status]} {words}" for status, words in _WAITS if counts.get(status)]
    if not told:
        return Text("nothing", "green")
    next_ = "" if told == [f"{counts.get('acting')} for Airflow"] else " · aiops triage"
    return Text.assemble((", ".join(told), "yellow"), (next_, "dim"))

"""What a watch shows → Rich renderables: lines of what came in and was done, and in a terminal a
view of it, with what waits. What belongs together is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiops_cli import storms
from aiops_cli.listings import name_of, told_together
from aiops_cli.published import utc
from aiops_cli.render import STATUS_STYLE, incident_line
from aiops_cli.screen import Trimmed, local, plain
from aiops_cli.storms import Storm
from aiops_cli.tally import KEPT, Lately, Tally, Units
from knowledge.records import Status

Document = Mapping[str, Any]
Line = Storm | list[Document]
_WAITS: tuple[tuple[Status, str], ...] = (
    ("pending", "for a person"),
    ("needs_human", "begun and unclear"),
    ("acting", "for Airflow"),
)


def newest(units: Units) -> list[Line]:
    """The lines that the view has room for, newest first."""
    found = [
        line for unit in reversed(units.values()) for line in told_together([*unit.values()][::-1])
    ]
    return found[:KEPT]


def id_of(line: Line) -> str:
    """The id that leads to what a line tells: of a group, or of an incident."""
    return line.group if isinstance(line, Storm) else str(line[0]["incident"])


def line_text(
    line: Line, short: Mapping[str, str], *, reasons: bool = True, named: bool = False
) -> Text:
    """With `named` the instance stands before it; `reasons` are those against acting alone."""
    members = line.members if isinstance(line, Storm) else tuple(line)
    id_ = id_of(line)
    if len(members) == 1:
        text = incident_line(members[0], short.get(id_, id_), reasons=reasons)
    else:
        text = _many(line, Storm(members), short.get(id_, id_), reasons)
    if not named:
        return text
    return Text.assemble((f"{members[0]['instance']}  ", "magenta"), text)


def _many(line: Line, all_: Storm, short: str, reasons: bool) -> Text:
    """The line of a storm, or of instances of a mapped task."""
    first = f"  {local(all_.first_failed)}  "
    if isinstance(line, Storm):
        text = Text.assemble((short, "bold cyan"), first, plain(line.size, "bold"), "  ")
    else:
        name = name_of(line)
        text = Text.assemble(
            (f"{short} +{len(line) - 1}", "cyan"), first, plain(name, "bold"), "  "
        )
    status = all_.statuses.most_common(1)[0][0]
    text.append(storms.told(all_.statuses), STATUS_STYLE.get(status, ""))
    if status == "pending" and all_.members[0]["gate"]:
        text.append(f" · {storms.told(Counter(d['decision'] for d in all_.waiting))}", "yellow")
    text.append(plain(f" · {all_.title}"))
    action = storms.told(all_.actions)
    text.append(plain(f" → {action}" if action not in ("unknown", "-") else ""))
    against = [(doc["gate"] or {}).get("reasons") or () for doc in all_.waiting]
    # What stands against one of them alone is in `aiops incidents show`.
    shared = [why for why in against[0] if all(why in of for of in against)] if against else []
    if reasons and shared and {doc["decision"] for doc in all_.waiting} <= {"ask", "blocked"}:
        text.append(plain(f" ({'; '.join(shared)})", "dim"))
    return text


def watch_view(
    tallies: Sequence[Tally], lately: Lately, short: Mapping[str, str]
) -> RenderableType:
    """`short` has the ids of what `newest` gives."""
    grid = Table.grid(padding=(0, 1), pad_edge=False, expand=True)
    grid.add_column(width=8, no_wrap=True, style="bold")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    several = len(tallies) > 1
    for label, units in (("CAME IN", lately.came), ("DONE", lately.done)):
        told = [line_text(one, short, reasons=False, named=several) for one in newest(units)]
        for number, line in enumerate(told or [Text("nothing yet", "dim")]):
            grid.add_row(label if number == 0 else "", line)
    grid.add_row("WAITS", _waits([tally.counts for tally in tallies]))
    for tally in tallies:
        if tally.trouble:
            of = f"{tally.instance}: " if several else ""
            grid.add_row("TROUBLE", plain(of + tally.trouble, "bold red"))
    return Group(*(Trimmed(_head(tally)) for tally in tallies), Trimmed(grid))


def _head(tally: Tally) -> Text:
    last = f"last pass {_clock(tally.whole_at)} in {tally.took:.1f} s"
    at_it = "at it now" if tally.reading is None else "reading {} of {}".format(*tally.reading)
    parts = [
        tally.instance,
        f"auto: {tally.mode}",
        last if tally.whole_at else "no pass yet",
        f"next {_clock(tally.next_at)}" if tally.next_at else at_it,
    ]
    text = plain(" · ".join(parts), "dim")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _clock(moment: datetime | None) -> str:
    return local(utc(moment), "%H:%M:%S")


def _waits(counts: Sequence[Mapping[Status, int]]) -> Text:
    total = {status: sum(one.get(status, 0) for one in counts) for status, _ in _WAITS}
    told = [f"{total[status]} {words}" for status, words in _WAITS if total[status]]
    if not told:
        return Text("nothing", "green")
    next_ = " · aiops triage" if total["pending"] or total["needs_human"] else ""
    return Text.assemble((", ".join(told), "yellow"), (next_, "dim"))

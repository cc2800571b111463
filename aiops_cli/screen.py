"""Text and tables that are safe on a terminal.

What is shown came from Airflow, a log or a person, so it is plain `Text` (never markup) with
control characters removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from knowledge.redact import clean


def plain(value: object, style: str = "") -> Text:
    """One line of text that cannot drive the terminal."""
    return Text(re.sub(r"[\r\n\t]+", " ", clean(str(value))), style)


def one_line(value: object, style: str = "") -> Text:
    """A cell that is cut with an ellipsis where the column is narrow, never wrapped."""
    text = plain(value, style)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


class Elided:
    """A name on one line. Where the column is narrow it loses its middle: of `dag.task` the task
    says most, and stands at the end."""

    def __init__(self, name: str) -> None:
        self.name = plain(name).plain

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, max(1, cell_len(self.name)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        text = self.name
        if cell_len(text) > room:
            end = text
            while cell_len(end) > (room - 1) * 2 // 3:
                end = end[1:]
            text = set_cell_size(text, room - 1 - cell_len(end)) + "…" + end
        yield one_line(text)


class Fitted:
    """What is laid out by the width that there is."""

    def __init__(self, lay_out: Callable[[int], RenderableType]) -> None:
        self.lay_out = lay_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.lay_out(options.max_width)


class Trimmed:
    """A table without the blanks that Rich fills its lines with: they wrap in mails and narrow
    windows, and come along when somebody copies a line. `below` has what stands on a line of its
    own under each of its last lines."""

    def __init__(self, content: RenderableType, below: Sequence[Text] = ()) -> None:
        self.content = content
        self.below = below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.content, options, pad=False)
        above = len(lines) - len(self.below)
        for number, line in enumerate(lines):
            while line and not line[-1].text.strip():
                line.pop()
            yield from line[:-1]
            if line:
                yield Segment(line[-1].text.rstrip(), line[-1].style)
            yield Segment.line()
            if self.below and number >= above:
                yield self.below[number - above]


def local(moment: str | None, form: str = "%m-%d %H:%M %z") -> str:
    """A published UTC time on the reader's clock, with its offset."""
    if moment is None:
        return "?"
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().strftime(form)


def span(seconds: int) -> str:
    """A duration in its two largest units."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    told = [f"{count}{unit}" for count, unit in units if count][:2]
    return " ".join(told) or "0s"


def table(
    *columns: str,
    narrow: Collection[str],
    widths: Sequence[int] | None = None,
    header: bool = True,
) -> Table:
    """A table without rules. The `narrow` columns share what room the others leave. With `widths`
    (at least so many cells for each of the others) its columns stand where those of the next one
    will, whatever is in it."""
    made = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        expand=widths is not None,
        show_header=header,
    )
    fixed = iter(widths or ())
    for column in columns:
        if column in narrow:
            made.add_column(column, ratio=1 if widths else None)
        else:
            made.add_column(column, no_wrap=True, min_width=next(fixed, None))
    return made


def fields(rows: Sequence[tuple[str, object]]) -> RenderableType:
    """Names and values, one a line."""
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, plain(value))
    return Trimmed(grid)

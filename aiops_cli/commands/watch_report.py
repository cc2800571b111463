"""What a watch says of each pass: to the screen or the pipe, to its log, in figures, to people."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_cli.commands import watch_ops
from aiops_cli.commands.output import console, print_json, progress
from aiops_cli.commands.watch_turns import Turns, at_once
from aiops_cli.errors import AirflowError
from aiops_cli.published import incident_document
from aiops_cli.tally import Lately, Result, Tally, prometheus, told
from aiops_cli.watch import one_pass
from knowledge.errors import StoreUnusable

if TYPE_CHECKING:
    from aiops_cli.commands.watch_ops import Ending, Figures, JsonLog
    from aiops_cli.commands.watch_turns import Tell
    from aiops_cli.examine import Desk
    from aiops_cli.live import Line
    from aiops_cli.respond import Warn
    from aiops_cli.tally import Document
    from aiops_cli.telling import Teller
    from aiops_cli.watch import Mode
    from knowledge.records import Case

LOOK = 0.5  # seconds between two looks at what may wake a watch
Tick = Callable[[int, "int | None"], None]
REDRAW = 0.2  # seconds from one drawing of the view to the next, while a pass goes on


def _untold(_done: int, _of: int | None) -> None:
    """Nobody is told."""


@dataclass
class Report:
    """Makes passes over each Airflow and tells of them. `draw` redraws the live view, where there
    is one; `waiting` surrounds a pass that nothing is said of before it is over, and is told how
    many of how many new failures have been read."""

    desks: Sequence[Desk]
    warn: Warn
    log: JsonLog | None
    json: bool
    teller: Teller | None
    figures: Figures
    metrics_file: Path | None
    heartbeat_file: Path | None
    tallies: Mapping[str, Tally]
    ending: Ending
    waiting: Callable[[], AbstractContextManager[Tick]]
    lately: Lately = field(default_factory=Lately)
    short: Mapping[str, str] = field(default_factory=dict)
    draw: Callable[[], None] | None = None
    read: Tick = _untold
    drawn: float = 0.0
    unwritable: set[Path] = field(default_factory=set)  # told of once, until they can be written
    came: dict[str, list[Document]] = field(default_factory=dict)  # by instance, to be printed
    turns: Turns = field(default_factory=Turns)

    def one_pass(
        self, mode: Mode, left_out: Collection[str] = (), patience: float | None = None
    ) -> Mapping[str, AirflowError | None]:
        """A pass over each Airflow but those `left_out`, side by side, and people told of what is
        due. One that is not over after `patience` seconds goes on by itself, and is told of by a
        later call. What kept each from being whole, by instance. Raises StoreUnusable."""
        result = {}
        for desk, failed in self._passes(mode, left_out, patience):
            result[desk.instance] = failed
            self._print(desk)
            self._tell(desk)
            self._over(desk, "airflow" if failed else "whole", failed.message if failed else "")
        for desk in self.desks:  # of what is known already, while Airflow is away or slow
            if desk.instance not in result:
                self._tell(desk)
        self._name()
        self._written_down()
        trouble = self.late or any(tally.trouble for tally in self.tallies.values())
        if self.heartbeat_file is not None and not trouble:
            self._written(self.heartbeat_file, self.heartbeat_file.touch)
        return result

    @property
    def late(self) -> Collection[str]:
        """The Airflows of which a pass is still under way."""
        return self.turns.under_way

    def _passes(
        self, mode: Mode, left_out: Collection[str], patience: float | None
    ) -> Iterator[tuple[Desk, AirflowError | None]]:
        begun = [desk for desk in self.desks if desk.instance not in {*left_out, *self.late}]
        for desk in begun:
            self.tallies[desk.instance].begun(mode, desk.clock.now())
        self._shown()
        if len(self.desks) == 1:  # no need for a thread
            for desk in begun:
                with self.waiting() as self.read:
                    failed = _failed(partial(self._look, desk, mode, at_once))
                yield desk, failed
            return
        desks = {desk.instance: desk for desk in self.desks}
        for desk in begun:
            self.turns.begin(desk.instance, partial(self._look, desk, mode))
        for name, outcome in self.turns.over(patience, self.ending.check):
            yield desks[name], _failed(outcome.result)

    def _tell(self, desk: Desk) -> None:
        tally = self.tallies[desk.instance]
        if self.teller is not None:
            tally.unheard += self.teller.tell(desk)
        tally.counts = desk.knowledge.store.counts(desk.instance)

    def end(self) -> None:
        """What is under way comes to its end, and what it brought is told."""
        self.turns.end()
        for desk in self.desks:
            self._print(desk)

    def without_knowledge(self, trouble: str) -> None:
        """A pass ended at a knowledge base that cannot be used."""
        for desk in self.desks:
            self._print(desk)
            self._over(desk, "knowledge_base", trouble)
        self._written_down()

    def sleep(self, seconds: float, woken: Callable[[datetime], bool] | None = None) -> None:
        """Until the next pass, or until `woken` says that there is a reason for an earlier one."""
        clock = self.desks[0].clock
        for tally in self.tallies.values():
            tally.next_at = clock.now() + timedelta(seconds=seconds)
        self._shown()
        slices = ceil(seconds / LOOK) if woken else 1
        for _ in range(slices):
            self.ending.check()
            clock.sleep(seconds / slices)
            self.ending.check()
            if woken and woken(clock.now()):
                return

    def of(self, desk: Desk, text: str) -> str:
        """What is said of one Airflow; with its name where there are several."""
        return f"{desk.instance}: {text}" if len(self.desks) > 1 else text

    def _look(self, desk: Desk, mode: Mode, tell: Tell) -> None:
        """A pass over one Airflow; `tell` has done what it tells. Raises AirflowError."""
        tally = self.tallies[desk.instance]
        for case in one_pass(
            desk,
            mode,
            lambda text: tell(partial(self.warn, self.of(desk, text))),
            lambda done, of: tell(partial(self._read, tally, done, of)),
        ):
            tell(partial(self._incident, desk, case))

    def _over(self, desk: Desk, result: Result, trouble: str) -> None:
        tally = self.tallies[desk.instance]
        tally.ended(result, desk.clock.now(), trouble)
        if self.log is not None:
            took, counts = round(tally.took, 3), dict(tally.counts)
            self.log.event(
                "pass", instance=desk.instance, result=result, seconds=took, incidents=counts
            )

    def _written_down(self) -> None:
        self.figures.text = prometheus([*self.tallies.values()])
        if self.metrics_file is not None:
            file, text = self.metrics_file, self.figures.text
            self._written(file, lambda: watch_ops.write_figures(file, text))
        self._shown()

    def _read(self, tally: Tally, done: int, of: int) -> None:
        tally.reading = done, of
        self.read(done, of)
        self._shown(soon=True)

    def _incident(self, desk: Desk, case: Case) -> None:
        document = incident_document(case)
        self.tallies[desk.instance].changes[case.status] += 1
        if self.log is not None:
            keys = (
                *("incident", "instance", "dag_id", "run_id", "task_id", "map_index"),
                *("status", "decision"),
            )
            self.log.event("incident", **{key: document[key] for key in keys})
        if self.json:
            print_json(document)
        brief = told(document)
        self.lately.add(brief)
        if not self.json and self.draw is None:
            self.came.setdefault(desk.instance, []).append(brief)

    def _print(self, desk: Desk) -> None:
        """What a pass brought, a line for each storm."""
        changed = self.came.pop(desk.instance, None)
        if not changed:
            return
        from aiops_cli.listings import told_together  # Rich: not for --json
        from aiops_cli.live import line_text

        lines = told_together(changed)
        try:
            self._name(lines)
        except StoreUnusable:  # they are told now or never: with their whole ids, then
            self.short = {}
        for line in lines:
            text = line_text(line, self.short, named=len(self.desks) > 1)
            console().print(text, soft_wrap=True)

    def _name(self, lines: Sequence[Line] = ()) -> None:
        """Learn the short ids of what is about to be shown."""
        if self.draw is None and not lines:
            return
        from aiops_cli.live import id_of, newest  # as in `_print`

        wanted = lines or [*newest(self.lately.came), *newest(self.lately.done)]
        self.short = self.desks[0].knowledge.store.shortest_prefixes([*map(id_of, wanted)])

    def _shown(self, *, soon: bool = False) -> None:
        """Redraw the view; with `soon` it is enough when it is a moment old."""
        if self.draw is None or (soon and time.monotonic() - self.drawn < REDRAW):
            return
        if soon:
            self._name()
        self.draw()
        self.drawn = time.monotonic()

    def _written(self, file: Path, write: Callable[[], object]) -> None:
        """A full disk stops no watch."""
        try:
            write()
            self.unwritable.discard(file)
        except OSError as error:
            if file not in self.unwritable:
                self.warn(f"{file} cannot be written: {error.strerror}; the watch goes on")
            self.unwritable.add(file)


def _failed(ask: Callable[[], None]) -> AirflowError | None:
    try:
        ask()
    except AirflowError as error:
        return error
    return None


@contextmanager
def reporting(
    desks: Sequence[Desk],
    warn: Warn,
    log: JsonLog | None,
    *,
    json: bool,
    live: bool,
    bar: bool,
    port: str | None,
    files: tuple[Path | None, Path | None],
    teller: Teller | None,
    ending: Ending,
) -> Iterator[Report]:
    """With `live`, a view where stdout is a terminal; with `bar`, a bar where stderr is. `files`
    are those of the figures and of the heartbeat. Raises UsageError for a port that cannot be
    served on."""
    figures = watch_ops.Figures()
    tallies = {desk.instance: Tally(desk.instance, desk.settings.mode) for desk in desks}
    for desk in desks:  # the first pass may be long, and what waits is known
        tallies[desk.instance].counts = desk.knowledge.store.counts(desk.instance)
    report = Report(
        desks,
        warn,
        log,
        json,
        teller,
        figures,
        *files,
        tallies,
        ending,
        partial(progress, "looking") if bar else lambda: nullcontext(_untold),
    )
    with ExitStack() as stack:
        stack.enter_context(watch_ops.served(figures, port))
        stack.callback(report.end)
        if live and (out := console()).is_terminal and not out.is_dumb_terminal:
            stack.enter_context(_live(report))
        yield report


@contextmanager
def _live(report: Report) -> Iterator[None]:
    import sys

    from rich.live import Live

    from aiops_cli.live import watch_view

    talks = bool(sys.stderr and sys.stderr.isatty())  # else it goes where it was sent
    with Live(console=console(), auto_refresh=False, redirect_stderr=talks) as screen:

        def draw() -> None:
            view = watch_view([*report.tallies.values()], report.lately, report.short)
            screen.update(view, refresh=True)

        report.draw = draw
        draw()
        yield

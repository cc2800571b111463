"""What a watch says of each pass: to the screen or the pipe, to its log, in figures, to people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_cli.commands import watch_ops
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import AirflowError
from aiops_cli.published import incident_document
from aiops_cli.tally import Result, Tally, prometheus
from aiops_cli.watch import one_pass

if TYPE_CHECKING:
    from aiops_cli.commands.watch_ops import Figures, JsonLog
    from aiops_cli.examine import Desk
    from aiops_cli.respond import Warn
    from aiops_cli.telling import Teller
    from aiops_cli.watch import Mode
    from knowledge.records import Case

LOOK = 0.5  # seconds between two looks at what may wake a watch


@dataclass
class Report:
    """Makes passes and tells of them. `show` redraws the live view, where there is one."""

    desk: Desk
    warn: Warn
    log: JsonLog | None
    json: bool
    teller: Teller | None
    figures: Figures
    metrics_file: Path | None
    heartbeat_file: Path | None
    tally: Tally
    short: dict[str, str] = field(default_factory=dict)
    show: Callable[[], None] | None = None
    unwritable: set[Path] = field(default_factory=set)  # told of once, until they can be written

    def one_pass(self, mode: Mode) -> AirflowError | None:
        """A pass, and people told of what is due; returned is what kept it from being whole.
        Raises StoreUnusable."""
        desk, tally = self.desk, self.tally
        tally.mode, tally.began_at, tally.next_at = mode, desk.clock.now(), None
        self._shown()
        failed = None
        try:
            for case in one_pass(desk, mode, self.warn):
                self._incident(case)
        except AirflowError as error:
            failed = error
        if self.teller is not None:  # also of what is known already, while Airflow is away
            self.teller.tell(desk)
            tally.unheard = self.teller.failures
        tally.counts = desk.knowledge.store.counts(desk.instance)
        self.ended("airflow" if failed else "whole", failed.message if failed else "")
        return failed

    def ended(self, result: Result, trouble: str = "") -> None:
        """A pass is over: say so in every way that was asked for."""
        now = self.desk.clock.now()
        self.tally.ended(result, now)
        self.tally.trouble = trouble
        self.figures.text = prometheus(self.tally)
        if self.metrics_file is not None:
            file, text = self.metrics_file, self.figures.text
            self._written(file, lambda: watch_ops.write_figures(file, text))
        if self.heartbeat_file is not None and result == "whole":
            self._written(self.heartbeat_file, self.heartbeat_file.touch)
        if self.log is not None:
            took = round(self.tally.took, 3)
            self.log.event("pass", result=result, seconds=took, incidents=dict(self.tally.counts))
        self._shown()

    def sleep(self, seconds: float, woken: Callable[[datetime], bool] | None = None) -> None:
        """Until the next pass, or until `woken` says that there is a reason for an earlier one."""
        clock = self.desk.clock
        self.tally.next_at = clock.now() + timedelta(seconds=seconds)
        self._shown()
        slices = ceil(seconds / LOOK) if woken else 1
        for _ in range(slices):
            clock.sleep(seconds / slices)
            if woken and woken(clock.now()):
                return

    def _incident(self, case: Case) -> None:
        document = incident_document(case)
        self.tally.add(document)
        id_ = case.incident.id
        if self.log is not None:
            told = ("incident", "dag_id", "run_id", "task_id", "map_index", "status", "decision")
            self.log.event("incident", **{key: document[key] for key in told})
        if self.json:
            print_json(document)
            return
        from aiops_cli.render import incident_line

        self.short |= self.desk.knowledge.store.shortest_prefixes([id_])
        if self.show is not None:
            self.show()
        else:
            console().print(incident_line(document, self.short[id_]), soft_wrap=True)

    def _shown(self) -> None:
        if self.show is not None:
            self.show()

    def _written(self, file: Path, write: Callable[[], object]) -> None:
        """A full disk stops no watch."""
        try:
            write()
            self.unwritable.discard(file)
        except OSError as error:
            if file not in self.unwritable:
                self.warn(f"{file} cannot be written: {error.strerror}; the watch goes on")
            self.unwritable.add(file)


@contextmanager
def reporting(
    desk: Desk,
    warn: Warn,
    log: JsonLog | None,
    *,
    json: bool,
    live: bool,
    port: str | None,
    files: tuple[Path | None, Path | None],
    teller: Teller | None,
) -> Iterator[Report]:
    """With `live`, a view where stdout is a terminal. `files` are those of the figures and of the
    heartbeat. Raises UsageError for a port that cannot be served on."""
    figures = watch_ops.Figures()
    tally = Tally(desk.instance, desk.settings.mode)
    report = Report(desk, warn, log, json, teller, figures, *files, tally)
    with watch_ops.served(figures, port):
        if live and (out := console()).is_terminal and not out.is_dumb_terminal:
            with _live(report):
                yield report
        else:
            yield report


@contextmanager
def _live(report: Report) -> Iterator[None]:
    import sys

    from rich.live import Live

    from aiops_cli.live import watch_view

    talks = bool(sys.stderr and sys.stderr.isatty())  # else it goes where it was sent
    with Live(console=console(), auto_refresh=False, redirect_stderr=talks) as screen:
        report.show = lambda: screen.update(watch_view(report.tally, report.short), refresh=True)
        report.show()
        yield

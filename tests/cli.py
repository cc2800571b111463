"""The command line in tests: run in this process, with a fake Airflow and a real SQLite file.

    cli.server.add_failure("orders", "load", events=[REFUSED])
    said = cli.run("diagnose", "orders", "--json")
    assert said.code == 0 and said.json["incidents"]

Nobody's own settings, logins or memories are read: the environment is given whole.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiops_cli import services
from aiops_cli.commands import Invocation, output, triage
from aiops_cli.main import app
from knowledge.base import KnowledgeBase
from knowledge.stores import POSTGRES, LastingStore, open_store
from tests.airflow_server import AirflowServer, Fault, exception
from tests.airflow_world import Request
from tests.desk import REFUSED, SetClock

BUG = exception("KeyError", "'unit_price'")
REPO = Path(__file__).parent.parent


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout, and nothing beside it."""
        assert self.out.endswith("\n"), self
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)

    def told(self, code: int, name: str, *words: str) -> None:
        """It ended with this code and one message with a hint, on stderr and as JSON."""
        assert self.code == code, self
        error = self.json["error"]
        assert error["code"] == name, self
        assert error["hint"], self
        for word in words:
            assert word in f"{error['message']} {error['hint']}", self
        ending = f"error: {error['message']}\nhint: {error['hint']}\n"
        assert self.err.endswith(ending), self

    def refused(self, code: int, *words: str) -> None:
        """It ended with this code and, for a person, one error that has these words, and a hint."""
        assert self.code == code, self
        assert self.err.count("error: ") == self.err.count("\nhint: ") == 1, self
        for word in words:
            assert word in self.text, self

    @property
    def lines(self) -> list[Any]:
        """The objects of a stream, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def text(self) -> str:
        """Data and talk on one line, for words that a narrow screen has wrapped."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass
class Cli:
    """A person's machine: its environment and folder, and the Airflow it talks to."""

    server: AirflowServer
    home: Path
    clock: SetClock
    monkeypatch: pytest.MonkeyPatch
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.home / "config.yaml"
        # What is approved here fails again within minutes; a test of the day has its own.
        config.write_text("gate: {vouch_after: 1s}\n")
        config.chmod(0o600)
        self.environ = {
            "AIOPS_CONFIG": str(config),
            "AIOPS_KB": f"sqlite:///{self.kb}",
            "AIOPS_USER": "ana",
            "AIOPS_AIRFLOW_URL": self.server.url,
            "AIOPS_AIRFLOW_USERNAME": self.server.username,
            "AIOPS_AIRFLOW_PASSWORD": self.server.password,
        }

    @property
    def kb(self) -> Path:
        return self.home / "kb" / "knowledge.db"

    def run(self, *args: str, stdin: str | bytes | None = None) -> Said:
        """One command line, in this process. Any traceback that is not told of is an error."""
        called = Invocation(environ=self.environ, cwd=self.home)
        result = CliRunner().invoke(app, list(args), obj=called, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "Traceback" not in result.stderr
        return Said(result.exit_code, result.stdout, result.stderr)

    def ok(self, *args: str, stdin: str | bytes | None = None) -> Said:
        """A command that ends well."""
        said = self.run(*args, stdin=stdin)
        assert said.code == 0, said
        return said

    def type(self, *args: str, keys: str, interrupt: bool = False) -> Said:
        """A command on a (faked) terminal at which somebody types `keys`, then Ctrl-D, or with
        `interrupt` Ctrl-C."""
        typed = _Keys(keys, interrupt)

        def at_a_terminal() -> bool:
            # Asked before every question; the runner's own stdin cannot be interrupted.
            sys.stdin = typed
            return True

        with self.monkeypatch.context() as patch:
            patch.setattr(output, "is_terminal", at_a_terminal)
            patch.setattr(triage, "is_terminal", at_a_terminal)
            called = Invocation(environ=self.environ, cwd=self.home)
            result = CliRunner().invoke(app, list(args), obj=called)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return Said(result.exit_code, result.stdout, result.stderr)

    def process(self, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command line in a process of its own: for pipes and signals."""
        return subprocess.run(
            [sys.executable, "-m", "aiops_cli", *args],
            env=self.process_environ(),
            cwd=self.home,
            text=True,
            timeout=60,
            check=False,
            **{"stdin": subprocess.DEVNULL, "capture_output": True, **options},
        )

    def process_environ(self) -> dict[str, str]:
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(REPO)}
        return {**kept, **self.environ}

    def capture(self, dag: str, task: str = "load", **fields: Any) -> str:
        """A failure that Airflow has and `watch` has seen; returns its incident's id."""
        self.server.add_failure(dag, task, **fields)
        self.clock.advance(seconds=1)
        (new,) = self.ok("watch", "--once", "--json").lines
        return str(new["incident"])

    def two_failures(self) -> None:
        """orders.load with a task that it blocks, and an index of a mapped task."""
        self.server.add_dag("orders", {"load": ["publish"]}, retries=2)
        self.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
        self.server.add_failure("sales", "count", events=[BUG], map_index=3)

    def mended(self, dag: str = "orders") -> str:
        """A failure that a person approved a retry of, and that turned green by it."""
        row = self.server.add_failure(dag, "load", run_id="first", events=[REFUSED])
        (new,) = self.ok("watch", "--once", "--json").lines
        self.ok("approve", new["incident"], "--action", "retry", "--yes")
        self.server.finish(row)
        (settled,) = self.ok("watch", "--once", "--json").lines
        assert (settled["status"], settled["outcome"]) == ("resolved", "fixed")
        self.clock.advance(hours=25)  # it lasted, and the approval has stood
        return str(new["incident"])

    def at_the_act(self, happens: Callable[[], None]) -> None:
        """Run this once, as soon as Airflow is asked for a clear that is not a dry run."""
        take_fault, todo = self.server.take_fault, [happens]

        def take(request: Request) -> Fault | None:
            if request.method == "POST" and todo and not (request.body or {}).get("dry_run", True):
                todo.pop()()
            return take_fault(request)

        self.monkeypatch.setattr(self.server, "take_fault", take)

    def status(self, incident: str) -> str:
        return str(self.ok("incidents", "show", incident, "--json").json["status"])

    def cleared(self) -> list[list[Any]]:
        """The task ids of every clear that was not a dry run, in order."""
        clears = [r for r in self.server.sent("POST") if r.path.endswith("/clearTaskInstances")]
        return [clear.body["task_ids"] for clear in clears if not clear.body["dry_run"]]

    def store(self) -> LastingStore:
        """The knowledge base, opened beside the command line; close it."""
        return open_store(self.environ["AIOPS_KB"])

    def counts(self) -> Sequence[Any]:
        """How many entries, incidents, decisions and grants there are: nothing may be lost."""
        import apsw

        if self.environ["AIOPS_KB"].startswith(POSTGRES):
            with closing(self.store()) as store:
                entries, cases = store.entries(retired=True), store.cases()
                decided = [row for row in store.audit() if row.what == "decisions"]
                return [len(entries), len(cases), len(decided), len(store.grants())]
        if not self.kb.exists():
            return ()
        connection = apsw.Connection(str(self.kb), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return [
                connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                for table in ("entries", "incidents", "decisions", "grants")
            ]
        finally:
            connection.close()


class _Keys(io.StringIO):
    """What is typed, a line each, one of them may be Ctrl-C; at its end Ctrl-D, or Ctrl-C."""

    def __init__(self, keys: str, interrupt: bool) -> None:
        super().__init__(keys)
        self._interrupt = interrupt

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # as StringIO
        line = super().readline(-1 if size is None else size)
        if line == "\x03\n" or (not line and self._interrupt):
            raise KeyboardInterrupt
        return line


def make(server: AirflowServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A machine of its own; the program's clock is `clock`, and sleeping moves it."""
    for name in [name for name in os.environ if name.startswith(("AIOPS_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))  # a bug's report goes there
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):  # pytest-xdist sets the last
        monkeypatch.delenv(name, raising=False)
    clock = SetClock()
    monkeypatch.setattr(services, "SystemClock", lambda: clock)
    # A second for each new base, and each test says itself what is known: test_starter_wiring.py.
    monkeypatch.setattr(KnowledgeBase, "seed_starter", lambda self, at: None)
    made = Cli(server, home, clock, monkeypatch)
    made.kb.parent.mkdir(mode=0o700, exist_ok=True)  # what makes it says so: not in every test
    return made

"""Each way in which things can go wrong x each command: one clear message, what to do, the right
exit code, no traceback, nothing lost, and nothing acted on."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from typer.main import get_command

from aiops_cli import config
from aiops_cli.commands import Invocation, mcp
from aiops_cli.main import COMMANDS as TABLE
from aiops_cli.main import Group, app
from tests.airflow_server import AirflowServer
from tests.cli import Cli, make
from tests.desk import REFUSED
from tests.fault_commands import CELLS, COMMANDS
from tests.fault_world import World, again, changed, exported, line, lived_in, run, state, tells
from tests.faults import FAULTS, Fault, locked, read_only

ENDING = [name for name, one in COMMANDS.items() if not one.goes_on]
SPEAKING = [name for name in ENDING if not COMMANDS[name].keys]  # triage has no data


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    with AirflowServer() as server, pytest.MonkeyPatch.context() as patch:
        cli = make(server, home, patch)
        ids = lived_in(cli)
        kept = shutil.copy(cli.kb, home / "knowledge.db")
        exported(cli)
        shutil.move(kept, cli.kb)
        yield World(server, home, ids, state(server))


@pytest.fixture
def cli(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """As the shared fixture of this name, in a copy of the world."""
    yield again(world, tmp_path, monkeypatch)
    reports = list(tmp_path.rglob("bug-*.txt"))
    assert reports == [], reports[0].read_text()


@pytest.fixture
def ids(cli: Cli, world: World) -> dict[str, str]:
    assert cli.kb.exists()
    return world.ids


def test_the_matrix_is_whole() -> None:
    for name, entry in TABLE.items():
        group = entry.commands if isinstance(entry, Group) and entry.default is None else ()
        for wanted in [f"{name} {sub}" for sub in group] or [name]:
            assert any(f"{known} ".startswith(f"{wanted} ") for known in COMMANDS), wanted
    assert {"audit verify", "incidents show"} <= COMMANDS.keys()
    assert len(CELLS) >= 150


@pytest.mark.parametrize(("fault", "name"), CELLS, ids=str)
def test_a_fault_is_told_and_nothing_is_lost(
    cli: Cli, world: World, ids: dict[str, str], fault: Fault, name: str
) -> None:
    if fault.kind == "w":  # something there is to write
        cli.server.add_failure("sales", "load", events=[REFUSED])
    before, kept = cli.counts(), None
    fault.wrong(cli)
    config = Path(cli.environ["AIOPS_CONFIG"])
    written = config.read_text() if config.exists() else None
    if fault.kind == "s" and cli.kb.exists():
        kept = cli.kb.read_bytes()
    said = run(cli, name, dict.fromkeys(ids, "zzzz") if fault.kind == "i" else ids)
    tells(said, fault)
    assert "hunter2pass" not in said.out + said.err
    assert cli.cleared() == []
    assert fault.kind == "w" or cli.server.connections == world.state["connections"]
    assert written == (config.read_text() if config.exists() else None)
    if fault.wrong is read_only:
        assert changed(cli) == []
    if fault.kind == "s":  # the file is left as it is, for whoever saves it
        assert kept == (cli.kb.read_bytes() if cli.kb.exists() else None)
    else:
        assert cli.counts() == before


@pytest.mark.parametrize("name", SPEAKING)
def test_who_may_only_read_changes_nothing_in_airflow(
    cli: Cli, ids: dict[str, str], name: str
) -> None:
    """What people say is written down all the same: it is of the knowledge base."""
    cli.server.add_failure("sales", "load", events=[REFUSED])
    read_only(cli)
    said = run(cli, name, ids)
    assert said.code == (5 if "p" in COMMANDS[name].touches else COMMANDS[name].code), said
    assert changed(cli) == []


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if "w" in one.touches])
def test_what_was_locked_works_afterwards(cli: Cli, ids: dict[str, str], name: str) -> None:
    cli.server.add_failure("sales", "load", events=[REFUSED])
    locked(cli)
    cli.run(*line(cli, name, ids)).told(4, "knowledge_base", "is locked by another")
    assert cli.cleared() == []
    cli.holder.close()  # type: ignore[attr-defined]  # set by `locked`
    assert cli.status(ids["waiting"]) == "pending"
    cli.ok(*line(cli, name, ids))


@pytest.mark.parametrize("name", [name for name in SPEAKING if COMMANDS[name].touches == "cs"])
def test_what_only_reads_does_so_beside_a_writer(cli: Cli, ids: dict[str, str], name: str) -> None:
    cli.ok("kb", "stats")  # the entries that come with it are stored
    locked(cli)
    assert cli.run(*line(cli, name, ids)).code == 0
    cli.holder.close()  # type: ignore[attr-defined]  # set by `locked`


# ---- what serves others ----

# Its tools that need no Airflow; those that do are test_mcp.py's.
TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "search_knowledge": ("s", {"text": "ValueError: x"}),
    "list_incidents": ("s", {}),
    "explain_incident": ("si", {"incident": "waiting"}),
    "reject_incident": ("swi", {"incident": "waiting", "reason": "no"}),
}
TOOL_CELLS = [
    (fault, tool)
    for fault in FAULTS
    for tool, (touches, _) in TOOLS.items()
    if fault.kind in touches and fault.name != "interrupted"
]


@pytest.mark.parametrize(("fault", "tool"), TOOL_CELLS, ids=str)
def test_a_program_is_told_in_a_sentence(
    cli: Cli, ids: dict[str, str], fault: Fault, tool: str
) -> None:
    before = cli.counts()
    fault.wrong(cli)
    tools = mcp.Tools(config.load(cwd=cli.home, environ=cli.environ))
    given = dict(TOOLS[tool][1])
    if "incident" in given:
        given["incident"] = "zzzz" if fault.kind == "i" else ids["waiting"]
    with pytest.raises(ToolError, match=re.escape(fault.word)) as caught:
        mcp._told(getattr(tools, tool))(**given)
    assert "hunter2pass" not in str(caught.value)
    assert fault.kind == "s" or cli.counts() == before


# ---- the output and the terminal: they concern every command ----


def speak(cli: Cli, args: list[str], out: TextIO | None) -> tuple[int, str]:
    """Its exit code and its talk, where the data goes to `out` (None: `>&-`) and nobody answers."""
    talk = io.StringIO()
    with cli.monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO())
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", talk)
        with pytest.raises(SystemExit) as ended:
            get_command(app).main(args, obj=Invocation(environ=cli.environ, cwd=cli.home))
        with suppress(OSError):
            sys.stdout.close()
    assert isinstance(ended.value.code, int)
    return ended.value.code, talk.getvalue()


def full_device() -> TextIO:
    return open("/dev/full", "w")  # noqa: PTH123 -- as a shell opens it; `speak` closes it


def broken_pipe() -> TextIO:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


@pytest.mark.parametrize("name", SPEAKING)
@pytest.mark.parametrize("output", ["closed", "full", "broken pipe"])
def test_an_output_that_cannot_be_written(
    cli: Cli, ids: dict[str, str], name: str, output: str
) -> None:
    if output == "full" and not Path("/dev/full").exists():
        pytest.skip("a device of Linux")
    cli.server.add_failure("sales", "load", events=[REFUSED])  # watch has something to tell of
    cli.clock.advance(seconds=1)
    before = cli.counts()
    out = {"closed": lambda: None, "full": full_device, "broken pipe": broken_pipe}[output]()
    code, talk = speak(cli, line(cli, name, ids), out)
    assert "Traceback" not in talk
    assert code == (141 if output == "broken pipe" else 2)
    told = talk.count("error: the output cannot be written")
    assert told == (0 if output == "broken pipe" else 1), talk
    after = cli.counts()
    assert all(now >= then for now, then in zip(after, before, strict=True))
    if cli.cleared():  # what was done is written down, though it could not be told
        assert cli.status(ids["waiting"]) == "acting"


@contextmanager
def terminal(cli: Cli, typed: str) -> Iterator[list[bytes]]:
    """A real terminal under this process's own streams; what stands on it at the end."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # so Linux says that the other end is closed
            while more := os.read(ours, 65536):
                shown.append(more)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with ExitStack() as opened, cli.monkeypatch.context() as patch:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            patch.setattr(sys, name, opened.enter_context(os.fdopen(os.dup(theirs), mode)))
        os.write(ours, typed.encode())
        yield shown
    os.close(theirs)
    reader.join(20)
    os.close(ours)


@pytest.mark.parametrize("name", ENDING)
@pytest.mark.parametrize(("term", "columns"), [("dumb", "80"), ("xterm", "40")])
def test_a_poor_terminal(cli: Cli, ids: dict[str, str], name: str, term: str, columns: str) -> None:
    for key, value in (("TERM", term), ("COLUMNS", columns), ("PAGER", "")):
        cli.monkeypatch.setenv(key, value)
    cli.monkeypatch.setattr("webbrowser.open", lambda _url: True)
    args = [word for word in line(cli, name, ids) if word != "--json"]
    with terminal(cli, COMMANDS[name].keys) as shown, pytest.raises(SystemExit) as ended:
        get_command(app).main(args, obj=Invocation(environ=cli.environ, cwd=cli.home))
    text = b"".join(shown).decode()
    assert ended.value.code == COMMANDS[name].code, text
    assert term != "dumb" or "\x1b" not in text
    if name in ("diagnose", "diagnose ID", "incidents", "incidents show", "handover", "triage"):
        assert ids["waiting"][:4] in text  # whole: it is what is typed next

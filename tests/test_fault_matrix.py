"""Each way in which things can go wrong x each command: one clear message, what to do, the right
exit code, no traceback, nothing lost, and nothing acted on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aiops_cli.main import COMMANDS as TABLE
from aiops_cli.main import Group
from tests.cli import Cli
from tests.desk import REFUSED
from tests.faults import CELLS, COMMANDS, FAULTS, Fault, locked

TOLD_ELSEWHERE = {"init", "doctor", "triage"}


def line(cli: Cli, name: str, id_: str) -> list[str]:
    """The command line of a name in COMMANDS: its words are those of the program's table."""
    head, _, tail = name.partition(" ")
    table = TABLE[head]
    sub = [tail] if isinstance(table, Group) and tail in table.commands else []
    return [head, *sub, *COMMANDS[name].args(cli, id_), "--json"]


def test_the_matrix_is_whole() -> None:
    names = {name.split()[0] for name in COMMANDS} | {
        " ".join(name.split()[:2]) for name in COMMANDS if name.split()[0] in ("auto", "kb")
    }
    for name, entry in TABLE.items():
        group = entry.commands if isinstance(entry, Group) and entry.default is None else ()
        wanted = [f"{name} {sub}" for sub in group] or [name]
        assert {*wanted} <= names | TOLD_ELSEWHERE, name
    assert len(CELLS) >= 150


@pytest.mark.parametrize(("fault", "name"), CELLS, ids=str)
def test_a_fault_is_told_and_nothing_is_lost(
    cli: Cli, waiting: str, fault: Fault, name: str
) -> None:
    if fault.kind == "w":  # something there is to write
        cli.server.add_failure("sales", "load", events=[REFUSED])
    before, kept = cli.counts(), None
    fault.wrong(cli)
    if fault.kind == "s" and cli.kb.exists():
        kept = cli.kb.read_bytes()
    said = cli.run(*line(cli, name, "zzzz" if fault.kind == "i" else waiting))
    said.told(fault.code, fault.name, fault.word)
    assert "hunter2pass" not in said.out + said.err
    assert cli.cleared() == []
    if fault.kind == "s":  # the file is left as it is, for whoever saves it
        assert kept == (cli.kb.read_bytes() if cli.kb.exists() else None)
    if fault.kind in "aic":
        assert cli.counts() == before


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.kind in "asc"], ids=str)
def test_triage_tells_of_it_as_well(cli: Cli, waiting: str, fault: Fault) -> None:
    fault.wrong(cli)
    said = cli.type("triage", keys="a\ny\n")
    assert said.code == fault.code, said
    assert said.err.count("error: ") == 1
    assert "hint: " in said.err
    assert cli.cleared() == []


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if "w" in one.touches])
def test_what_was_locked_works_afterwards(cli: Cli, waiting: str, name: str) -> None:
    cli.server.add_failure("sales", "load", events=[REFUSED])
    locked(cli)
    cli.run(*line(cli, name, waiting)).told(4, "knowledge_base", "is locked by another")
    assert cli.cleared() == []
    cli.holder.close()  # type: ignore[attr-defined]  # set by `locked`
    assert cli.status(waiting) == "pending"
    cli.ok(*line(cli, name, waiting))


@pytest.mark.parametrize("name", [name for name, one in COMMANDS.items() if one.touches == "cs"])
def test_what_only_reads_does_so_beside_a_writer(cli: Cli, waiting: str, name: str) -> None:
    cli.ok("kb", "stats")  # the entries that come with it are stored
    locked(cli)
    assert cli.run(*line(cli, name, waiting)).code == 0
    cli.holder.close()  # type: ignore[attr-defined]  # set by `locked`


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("command", [["incidents", "--json"], ["incidents"], ["kb", "show", "zz"]])
def test_an_output_that_cannot_be_written(
    cli: Cli, waiting: str, command: list[str], stream: str
) -> None:
    assert waiting
    with open("/dev/full", "w") as full:  # noqa: PTH123 -- as a shell opens it
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        said = cli.process(*command, capture_output=False, **pipes)
    assert said.returncode == (0 if stream == "stderr" and "kb" not in command else 2)
    if stream == "stdout":
        assert "Traceback" not in said.stderr
        assert said.stderr.count("error: ") == 1

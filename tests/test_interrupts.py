"""Ctrl-C at any moment, on a real terminal and in the middle of acting; and streams that close.

Whatever was decided is kept, nothing is done twice, and what hangs in the air is settled later.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aiops_cli.airflow.transport import Transport
from aiops_cli.commands.keys import Ended, Gone, Interrupted, ask_line, leaving_whole
from tests.cli import BUG, Cli
from tests.desk import REFUSED

SECONDS = 30  # far more than anything here takes


# ---- in the middle of acting ----


def interrupt(cli: Cli, *, before: bool, nth: int = 1) -> None:
    """Ctrl-C while the nth changing call is under way: before Airflow did it, or after."""
    change = Transport.change
    calls: list[None] = []

    def interrupted(self: Transport, *args: Any, **options: Any) -> Any:
        acts = args[0] == "PATCH" or not args[4]["dry_run"]
        calls.extend([None] if acts else [])
        if acts and len(calls) == nth:
            if not before:
                change(self, *args, **options)
            cli.monkeypatch.setattr(Transport, "change", change)
            raise KeyboardInterrupt
        return change(self, *args, **options)

    cli.monkeypatch.setattr(Transport, "change", interrupted)


@pytest.mark.parametrize("nth", [1, 2], ids=["clear", "downstream"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("who", ["person", "watch"])
def test_ctrl_c_while_acting(cli: Cli, who: str, before: bool, nth: int) -> None:
    cli.server.add_dag("orders", {"load": ["publish"]})
    cli.mended()
    cli.ok("auto", "grant", "--actions=retry", "--dags=*")
    now = cli.clock.now()
    row = cli.server.add_failure(
        "orders", "load", run_id="second", events=[REFUSED], blocks=["publish"], ended=now
    )
    cli.clock.advance(seconds=1)
    blocked = cli.server.instances["orders", "second", "publish", -1]
    earlier = len(cli.cleared())
    (new,) = cli.ok("diagnose", "orders", "--run", "second", "--json").json["incidents"]
    interrupt(cli, before=before, nth=nth)
    how = ["watch", "--once", "--auto"] if who == "watch" else ["approve", new["incident"], "--yes"]
    said = cli.run(*how)
    assert said.code == 130
    assert "interrupted; nothing was lost" in said.err
    assert cli.status(new["incident"]) == "acting"
    cli.ok("watch", "--once", "--auto")
    acted = before is False or nth > 1
    assert cli.cleared()[earlier:].count(["load"]) == int(acted)  # never a second time
    if not acted:  # nobody can know yet whether the call arrived
        cli.clock.advance(minutes=10)
        cli.ok("watch", "--once", "--auto")
        assert cli.status(new["incident"]) == "needs_human"
        assert cli.cleared()[earlier:] == []
        cli.ok("approve", new["incident"], "--yes")  # who has looked may take it up
        assert cli.cleared()[earlier:] == [["load"], ["publish"]]
        return
    cli.server.finish(row)
    cli.ok("watch", "--once", "--auto")
    assert cli.status(new["incident"]) == "resolved"
    assert blocked["state"] is None  # cleared, by the act or by what took it up
    assert cli.cleared()[earlier:].count(["load"]) == 1


def test_ctrl_c_while_capturing_loses_nothing(cli: Cli) -> None:
    """Two failures, interrupted before the second one's log was read."""
    stream = Transport.stream
    calls: list[None] = []

    def interrupted(self: Transport, *args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return stream(self, *args, **options)

    cli.two_failures()
    (cli.home / "aiops.yaml").write_text("concurrency: 1\n")  # one log after the other
    with cli.monkeypatch.context() as patch:
        patch.setattr(Transport, "stream", interrupted)
        assert cli.run("watch", "--once").code == 130
    assert len(cli.ok("incidents", "--json").json["incidents"]) == 1
    assert len(cli.ok("watch", "--once", "--json").lines) == 1
    assert len(cli.ok("incidents", "--json").json["incidents"]) == 2


# ---- on a real terminal ----


class Terminal:
    """A command on a terminal of its own; `screen` is what it has shown."""

    def __init__(self, command: subprocess.Popen[bytes], terminal: int) -> None:
        self.command, self.terminal, self.screen = command, terminal, ""

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + SECONDS
        while text not in self.screen:
            assert time.monotonic() < until, self.screen
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.screen += self._read()

    def _read(self) -> str:
        try:
            return os.read(self.terminal, 65536).decode(errors="replace")
        except OSError:  # Linux says so when the other end is closed
            return ""

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def close(self) -> None:
        """As the window is closed, or the network is gone."""
        if self.terminal >= 0:
            os.close(self.terminal)
        self.terminal = -1

    def end(self) -> int:
        until = time.monotonic() + SECONDS
        while self.command.poll() is None:
            assert time.monotonic() < until, self.screen
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.screen += self._read()
        while select.select([self.terminal], [], [], 0)[0] and (more := self._read()):
            self.screen += more
        return self.command.returncode


def _take_the_terminal() -> None:
    """Ctrl-C goes to whoever has it as the controlling one."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(cli: Cli, *args: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "aiops_cli", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | cli.process_environ(),
        cwd=cli.home,
        start_new_session=True,
        preexec_fn=_take_the_terminal,
    )
    os.close(theirs)
    screen = Terminal(command, ours)
    try:
        yield screen
    finally:
        command.kill()
        command.wait()
        screen.close()


def test_triage_on_a_terminal(cli: Cli) -> None:
    """Keys need no Enter, Ctrl-C leads back to the question and the second one ends it in one
    line, and what was decided is kept."""
    cli.mended()
    first, second = cli.capture("orders", events=[REFUSED]), cli.capture("sales", events=[BUG])
    with terminal(cli, "triage") as screen:
        screen.wait_for("2 left")
        screen.type("r\n")  # who strikes Enter all the same is asked again
        screen.wait_for("Enter again leads back; why not?")
        screen.type("not tonight\n")
        screen.wait_for("1 left")
        screen.screen = screen.screen.replace("1 left", "")
        screen.type("\x1b[A")  # an arrow means nothing
        screen.wait_for("1 left")
        screen.type("a")
        screen.wait_for("do this? [y/N]")
        screen.type("\x03")
        screen.wait_for("back to the question")
        screen.type("\x03")
        assert screen.end() == 130
    assert "interrupted; nothing was lost" in screen.screen
    assert "Traceback" not in screen.screen
    assert "\x1b[1m" in screen.screen  # bold: this is a terminal
    assert (cli.status(second), cli.status(first)) == ("rejected", "pending")
    assert len(cli.cleared()) == 1  # of what mended it before


@pytest.mark.parametrize("count", [1, 2, 30])
def test_what_failed_is_on_the_screen_before_a_log_is_read(cli: Cli, count: int) -> None:
    """However many they are: logs may be long in coming."""
    for number in range(count):
        cli.server.add_failure(f"dag_{number}", "load", events=[REFUSED])
    cli.server.fault("GET .*/logs/", times=count, hang=SECONDS)
    with terminal(cli, "diagnose") as screen:
        screen.wait_for(f"dag_{count - 1}.load")
        assert "Airflow healthy" in screen.screen
        assert "ConnectionRefused" not in screen.screen
        screen.type("\x03")
        assert screen.end() == 130


def test_one_look_shows_how_far_it_is_and_takes_that_away(cli: Cli) -> None:
    """From before the list has come; what is data begins a line of its own."""
    for number in range(3):
        cli.server.add_failure(f"dag_{number}", "load", events=[REFUSED])
    cli.server.fault("GET .*/logs/", times=3, hang=SECONDS)
    with terminal(cli, "watch", "--once") as screen:
        screen.wait_for("3 failures to catch up on")
        cli.server.closing.set()
        assert screen.end() == 0
    assert screen.screen.index("looking") < screen.screen.index("3 failures to catch up on")
    after = screen.screen.rpartition("looking")[2]
    assert "\x1b[2K" in after.partition("3 tasks")[0]  # the bar's line is empty again


def test_half_a_reason_is_offered_again_after_ctrl_c(cli: Cli) -> None:
    waiting = cli.capture("orders", events=[REFUSED])
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("zu spät für he")
        screen.wait_for("für he")
        screen.type("\x03")
        screen.wait_for("back to the question")
        screen.type("r")
        screen.wait_for("why not? [zu spät für he] ")
        screen.type("\n")
        screen.wait_for("all seen")
        screen.type("\n")
        assert screen.end() == 0
    assert cli.ok("incidents", "show", waiting, "--json").json["decided"]["reason"] == (
        "zu spät für he"
    )


@pytest.mark.parametrize("leave", ["\x03\x03", "\x03q", "\x03s\n", "\x04\x04"])
def test_half_a_reason_is_on_the_screen_of_who_leaves(cli: Cli, leave: str) -> None:
    """Ctrl-C twice, q, skipping, Ctrl-D: it can be copied from there."""
    waiting = cli.capture("orders", events=[REFUSED])
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("zu spät für heute")
        screen.wait_for("für heute")
        screen.screen = ""
        screen.type(leave[0])
        if leave[0] == "\x03":
            screen.wait_for("back to the question")
        screen.type(leave[1:])
        screen.wait_for(f"typed for {waiting} and not stored: reason: zu spät für heute")
        screen.end()
    assert cli.status(waiting) == "pending"


def reject_again(cli: Cli, offered: str) -> None:
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for(f"why not? [{offered}] ")
        screen.type("\n")
        screen.wait_for("all seen")
        screen.type("\n")
        assert screen.end() == 0


@pytest.mark.parametrize("end", ["closed", "SIGHUP", "SIGTERM", "q"])
def test_half_a_reason_is_offered_again_the_next_time(cli: Cli, end: str) -> None:
    """Whatever ended triage. It is kept by nobody else, and no longer than it is needed."""
    waiting = cli.capture("orders", events=[REFUSED])
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("zu spät für")
        screen.wait_for("für")
        if end == "closed":
            screen.close()
        elif end == "q":
            screen.type("\x03")
            screen.wait_for("back to the question")
            screen.type("q")
            screen.end()
        else:
            screen.command.send_signal(getattr(signal, end))
        screen.command.wait(SECONDS)
    state = cli.home / ".local/state/aiops"
    kept = state / "typed.json"
    assert not list(state.glob("bug-*")), "a traceback"
    assert kept.stat().st_mode & 0o077 == 0
    assert json.loads(kept.read_text()) == {waiting: {"reason": "zu spät für"}}
    reject_again(cli, "zu spät für")
    told = cli.ok("incidents", "show", waiting, "--json").json["decided"]
    assert told["reason"] == "zu spät für"
    assert json.loads(kept.read_text()) == {}


def test_what_was_typed_of_a_group_outlives_its_terminal_for_each(cli: Cli) -> None:
    for dag in ("orders", "sales"):
        cli.server.add_failure(dag, "load", events=[REFUSED])
    told = cli.ok("watch", "--once", "--json").lines
    with terminal(cli, "triage") as screen:
        screen.wait_for("2 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("late\x03")
        screen.wait_for("back to the question")
        screen.type("x")
        screen.wait_for("2 left  [a approve · e edit · r reject · n new")
        screen.close()
        screen.command.wait(SECONDS)
    kept = json.loads((cli.home / ".local/state/aiops/typed.json").read_text())
    assert kept == {new["incident"]: {"reason": "late"} for new in told}


def test_what_is_typed_as_soon_as_the_question_shows_is_no_key_of_what_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C may come before the question's first key is waited for."""
    ours, theirs = pty.openpty()

    def shown(_question: str) -> None:
        os.write(ours, b"late")
        raise KeyboardInterrupt

    with os.fdopen(theirs, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("aiops_cli.commands.keys._show", shown)
        with pytest.raises(Interrupted) as stopped:
            ask_line("why not?")
    os.close(ours)
    assert stopped.value.typed == "late"


def test_a_terminal_that_is_closed_sends_two_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP and then SIGCONT, which is no return from Ctrl-Z then."""
    ours, theirs = pty.openpty()

    def closed(_terminal: int) -> None:
        os.close(ours)
        signal.raise_signal(signal.SIGCONT)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("aiops_cli.commands.keys.wait_for_input", closed)
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(Ended):
            ask_line("why not?")


@pytest.mark.parametrize("end", [signal.SIGHUP, signal.SIGTERM])
def test_an_end_that_python_drops_comes_with_the_next_signal(
    monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    """What is raised while an object is cleared away goes no further."""
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))

    class Cleared:
        def __del__(self) -> None:
            signal.raise_signal(end)

    @leaving_whole(lambda: None)
    def end_twice() -> None:
        Cleared()
        assert dropped == [Gone]
        signal.raise_signal(end)

    with pytest.raises(Gone):
        end_twice()


def test_what_is_kept_on_leaving_is_not_interrupted_again() -> None:
    """A shell that goes sends its own SIGHUP after that of the terminal."""
    ends, done = (signal.SIGHUP, signal.SIGTERM), []
    before = [signal.getsignal(end) for end in ends]

    def both(of: str) -> None:
        for end in ends:
            signal.raise_signal(end)
        done.append(of)

    @leaving_whole(lambda: both("kept"))
    def end() -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            both("on its way")

    with pytest.raises(Gone):
        end()
    with leaving_whole(lambda: both("kept after Ctrl-D")):
        pass
    assert done == ["on its way", "kept", "kept after Ctrl-D"]
    assert [signal.getsignal(end) for end in ends] == before


def test_after_ctrl_z_the_question_is_taken_up_again(cli: Cli) -> None:
    """The shell that has the terminal meanwhile leaves it as it likes it: by lines."""
    waiting = cli.capture("orders", events=[REFUSED])
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("zu sp")
        screen.wait_for("zu sp")
        screen.screen = ""
        by_lines = termios.tcgetattr(screen.terminal)
        by_lines[3] |= termios.ICANON | termios.ECHO
        termios.tcsetattr(screen.terminal, termios.TCSANOW, by_lines)
        screen.command.send_signal(signal.SIGCONT)
        screen.wait_for("why not? zu sp")
        screen.type("ät\x03")
        screen.wait_for("back to the question")
        screen.type("r")
        screen.wait_for("why not? [zu spät] ")
        screen.type("\n")
        screen.wait_for("all seen")
        screen.type("\n")
        assert screen.end() == 0
    assert cli.status(waiting) == "rejected"


def test_a_long_reason_is_not_cut_and_may_be_mended(cli: Cli) -> None:
    """A terminal's own line has room for 4,095 bytes."""
    waiting = cli.capture("orders", events=[REFUSED])
    long = "the vendor says that it is late " * 200
    with terminal(cli, "triage") as screen:
        screen.wait_for("1 left")
        screen.type("r")
        screen.wait_for("why not? ")
        screen.type("gone\x15über\x7f\x7f 失敗\x7f\x1b[D wrong word\x17: ")
        for word in long.split(" "):  # a terminal takes no more at once than somebody reads
            screen.type(f"{word} ")
            screen.wait_for(word)
            screen.screen = ""
        screen.type("\n")
        screen.wait_for("all seen")
        screen.type("\n")
        assert screen.end() == 0
    told = cli.ok("incidents", "show", waiting, "--json").json["decided"]
    assert told["reason"] == f"üb 失 wrong: {long}".strip()


def test_watch_is_ended_by_ctrl_c(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    with terminal(cli, "watch") as screen:
        screen.wait_for("orders.load")
        screen.type("\x03")
        assert screen.end() == 130
    assert "Traceback" not in screen.screen


def test_a_real_interrupt_while_airflow_is_silent(cli: Cli, waiting: str) -> None:
    """SIGINT in the middle of the clear; it had reached Airflow, and is settled, not repeated."""
    row = next(iter(cli.server.instances.values()))
    cli.at_the_act(lambda: cli.server.fault("POST .*/clearTask", hang=SECONDS, takes_effect=True))
    command = subprocess.Popen(
        [sys.executable, "-m", "aiops_cli", "approve", waiting, "--action=retry", "--yes"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.process_environ(),
        cwd=cli.home,
        text=True,
    )
    try:
        until = time.monotonic() + SECONDS
        while not cli.cleared():
            assert time.monotonic() < until
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=SECONDS)
    finally:
        command.kill()
    assert (command.returncode, out) == (130, "")
    assert "interrupted; nothing was lost" in err
    assert "Traceback" not in err
    assert cli.status(waiting) == "acting"
    cli.server.finish(row)
    cli.ok("watch", "--once")
    assert cli.status(waiting) == "resolved"
    assert cli.cleared() == [["load"]]


# ---- streams that close ----


def test_a_reader_that_goes_away(cli: Cli, waiting: str) -> None:
    assert waiting
    read, write = os.pipe()
    os.close(read)
    try:
        said = cli.process("incidents", stdout=write, stderr=subprocess.PIPE, capture_output=False)
    finally:
        os.close(write)
    assert (said.returncode, said.stderr) == (141, "")


@pytest.mark.parametrize(
    ("command", "redirect", "code", "words"),
    [
        ("approve {} --action=retry", "<&-", 2, "pass --yes"),
        ("triage", "<&-", 2, "triage needs a terminal"),
        ("incidents --json", ">&-", 2, "the output cannot be written"),
        ("incidents", ">&-", 2, "the output cannot be written"),
        ("diagnose", ">&- 2>&-", 2, ""),
        ("note {} seen", ">&-", 0, ""),  # which has no data to print
    ],
)
def test_closed_streams(
    cli: Cli, waiting: str, command: str, redirect: str, code: int, words: str
) -> None:
    line = f"exec {sys.executable} -m aiops_cli {command.format(waiting)} {redirect}"
    said = subprocess.run(
        ["bash", "-c", line],
        env=cli.process_environ(),
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert said.returncode == code, said
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert cli.cleared() == []
    assert cli.status(waiting) == "pending"

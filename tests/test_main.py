"""The command table, the global options, the error boundary, and how commands speak."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aiops_cli import __version__, errors
from aiops_cli.boundary import guarded
from aiops_cli.commands import Invocation, output, settings
from aiops_cli.main import COMMANDS, Entry, Group, app
from knowledge import errors as knowledge_errors

ENTRIES = [
    (name, entry)
    for name, top in COMMANDS.items()
    for entry in (top.commands.values() if isinstance(top, Group) else [top])
]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts commands of our own in the place of doctor, incidents and auto; what they say."""
    said: list[str] = []

    def doctor(ctx: typer.Context, json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Check things."""
        called = ctx.obj
        assert isinstance(called, Invocation)
        said.append(f"doctor {called.instance} {json}")

    def incidents(status: str = "any") -> None:
        said.append(f"incidents {status}")

    def show(incident: str) -> None:
        said.append(f"show {incident}")

    def revoke(grant: int) -> None:
        said.append(f"revoke {grant}")

    for name, functions in (("doctor", [doctor]), ("incidents", [incidents, show])):
        module = ModuleType(name)
        for function in functions:
            setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, f"aiops_cli.commands.{name}", module)
    auto = ModuleType("auto")
    auto.revoke = revoke  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "aiops_cli.commands.auto", auto)
    return said


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(args))
    return result.exit_code, result.stdout, result.stderr


# ---- the table ----


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=lambda value: str(value))
def test_every_command_of_the_table_is_there(name: str, entry: Entry) -> None:
    function = getattr(import_module(f"aiops_cli.commands.{entry.module}"), entry.function)
    assert function.__doc__, f"{name}: its docstring is its help"


def test_help_names_every_command_and_fits_80_columns() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name, entry in COMMANDS.items():
        assert f"  {name}" in out
        assert entry.help in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert run("-h")[1] == run()[1] == out


@pytest.mark.parametrize("group", [n for n, entry in COMMANDS.items() if isinstance(entry, Group)])
def test_help_of_a_group(group: str) -> None:
    code, out, _ = run(group, "--help")
    entry = COMMANDS[group]
    assert isinstance(entry, Group)
    assert code == 0
    assert all(f"  {name} " in out for name in entry.commands)


def test_help_of_a_command_is_its_docstring_and_has_the_instance(said: list[str]) -> None:
    code, out, _ = run("doctor", "--help")
    assert code == 0
    assert "Check things." in out
    assert "--instance NAME" in out
    assert said == []


def test_version() -> None:
    assert run("--version") == (0, f"aiops {__version__}\n", "")


# ---- global options and groups ----


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["doctor"], "doctor None False"),
        (["--instance", "a", "doctor"], "doctor a False"),
        (["doctor", "--instance", "b", "--json"], "doctor b True"),
        (["--instance", "a", "doctor", "--instance=b"], "doctor b False"),
        (["incidents"], "incidents any"),
        (["incidents", "--status", "pending"], "incidents pending"),
        (["incidents", "list", "--status", "pending"], "incidents pending"),
        (["incidents", "show", "k3f9"], "show k3f9"),
        (["incidents", "k3f9"], "show k3f9"),
        (["--instance", "a", "auto", "revoke", "3", "--instance", "b"], "revoke 3"),
    ],
)
def test_commands_run(said: list[str], args: list[str], wanted: str) -> None:
    assert run(*args) == (0, "", "")
    assert said == [wanted]


def test_a_command_reads_the_settings_of_its_call(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("instances: {a: {url: http://a}}\nmode: auto\n")
    found = []

    def command(ctx: typer.Context) -> None:
        found.append(settings(ctx, mode=None))
        found.append(settings(ctx, mode="shadow"))

    one = typer.Typer()
    one.command()(command)
    called = Invocation(environ={"AIOPS_CONFIG": str(file)}, cwd=tmp_path, instance="a")
    CliRunner().invoke(one, [], obj=called, catch_exceptions=False)
    assert [s.mode for s in found] == ["auto", "shadow"]
    assert found[0].airflow().url == "http://a"


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["docter"], "no command 'docter'; did you mean doctor?", "see aiops --help"),
        (["zzz"], "no command 'zzz'", "see aiops --help"),
        (["incidents", "show"], "Missing argument 'INCIDENT'", "see aiops incidents show --help"),
        (["auto", "revoke", "x"], "'x' is not a valid int", "see aiops auto revoke --help"),
        (["doctor", "--bogus"], "No such option: --bogus", "see aiops doctor --help"),
        (["--instance"], "requires an argument", "see aiops --help"),
    ],
)
def test_usage_errors_end_with_2_and_say_where_help_is(
    said: list[str], args: list[str], message: str, hint: str
) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert message.lower() in err.lower()
    assert hint in err
    assert err.startswith("error: ")
    code, out, err = run(*args, "--json")
    if args == ["--instance"]:  # takes --json for its value; then the command is missing
        assert code == 2
        return
    error = json.loads(out)["error"]
    assert (code, error["code"], error["hint"]) == (2, "usage", hint)
    assert said == []


def test_json_behind_two_dashes_is_an_argument() -> None:
    code, out, err = run("zzz", "--", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


# ---- the error boundary ----


def fail(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (errors.UsageError("m", "h"), "usage", 2),
        (errors.ConfigError("m", "h"), "config", 2),
        (errors.AirflowUnreachable("m", "h"), "airflow_unreachable", 3),
        (errors.AirflowForbidden("m", "h"), "airflow_forbidden", 3),
        (errors.ModelError("m", "h"), "model", 4),
        (errors.Refused("m", "h"), "refused", 5),
        (knowledge_errors.StoreUnusable("m", "h"), "knowledge_base", 4),
        (knowledge_errors.SchemaTooNew("m", "h"), "knowledge_base", 4),
        (knowledge_errors.WrongInstance("m", "h"), "knowledge_base", 4),
        (knowledge_errors.EmbedderMismatch("m", "h"), "knowledge_base", 4),
        (knowledge_errors.RunbookError("m", "h"), "runbook", 2),
        (knowledge_errors.NotFound("m", "h"), "not_found", 2),
        (knowledge_errors.DoorClosed("budget", "m", "h"), "refused", 5),
    ],
)
def test_errors_are_told_with_hint_and_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: str, exit_code: int
) -> None:
    assert guarded(fail(error), as_json=False) == exit_code
    assert capsys.readouterr() == ("", "error: m\nhint: h\n")
    assert guarded(fail(error), as_json=True) == exit_code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": code, "message": "m", "hint": "h"}}
    assert err == "error: m\nhint: h\n"


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(fail(errors.AiopsError("m")), as_json=False)
    assert capsys.readouterr().err == "error: m\n"


def test_a_message_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "no task \x1b]0;owned\x07\x1b[31mx\u202e\r"
    guarded(fail(errors.AirflowAnswer(hostile, hostile)), as_json=True)
    out, err = capsys.readouterr()
    assert not set(out + err) & set("\x1b\x07\r\u202e")
    assert "no task" in err


def test_a_message_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (
        errors.AirflowAnswer("postgresql://me:hunter2hunter2@db/x"),
        knowledge_errors.StoreUnusable("postgresql://me:hunter2hunter2@db/x"),
    ):
        guarded(fail(error), as_json=True)
        out, err = capsys.readouterr()
        assert "@db/x" in out
        assert "hunter2hunter2" not in out + err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_says_that_nothing_was_lost(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    assert guarded(fail(error), as_json=True) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert err.startswith("error: interrupted; nothing was lost\n")


def test_a_command_may_end_with_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(fail(typer.Exit(10)), as_json=True) == 10
    assert guarded(lambda: None, as_json=True) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_one_line_and_a_private_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: tmp_path / "state")
    broken = ZeroDivisionError("postgresql://me:hunter2hunter2@db/x")
    assert guarded(fail(broken), as_json=True) == 1
    out, err = capsys.readouterr()
    (report,) = (tmp_path / "state").iterdir()
    assert json.loads(out)["error"]["code"] == "bug"
    assert err.splitlines() == [
        f"error: this is a bug in aiops {__version__}: ZeroDivisionError",
        f"hint: please report it, with {report}",
    ]
    text = report.read_text()
    assert "Traceback (most recent call last)" in text
    assert "in command" in text
    assert "hunter2hunter2" not in text
    if os.name == "posix":
        assert report.stat().st_mode & 0o777 == 0o600
        assert report.parent.stat().st_mode & 0o077 == 0


def test_a_bug_is_told_even_where_no_report_can_be_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import platformdirs

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_, **__: tmp_path / "file" / "x")
    assert guarded(fail(ZeroDivisionError()), as_json=False) == 1
    assert "could not be kept: NotADirectoryError" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "args",
    [
        ["-m", "aiops_cli", "--help"],
        ["-m", "aiops_cli", "zzz", "--json"],
        [
            "-c",
            "from aiops_cli.boundary import guarded;exit(guarded(lambda: print(1), as_json=False))",
        ],
        ["-c", "from aiops_cli.boundary import guarded; exit(guarded(help, as_json=False))"],
    ],
    ids=["help", "error", "short", "long"],
)
def test_a_reader_that_goes_away_ends_it_quietly(args: list[str], unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, *args],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


@given(st.text())
def test_no_code_page_ends_a_command(text: str) -> None:
    old = sys.stdout
    sys.stdout = stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")

    def speak() -> None:
        stream.write(text)

    try:
        assert guarded(speak, as_json=False) == 0
    finally:
        sys.stdout = old


def test_a_message_is_wrapped_to_the_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = errors.UsageError("word " * 30 + "http://a.example/" + "x-" * 30)
    guarded(fail(error), as_json=False)
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    guarded(fail(error), as_json=False)
    *lines, address = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 60 for line in lines)
    assert address == "  http://a.example/" + "x-" * 30  # whole: to be clicked on


# ---- how commands speak ----


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_json_is_one_ascii_line_that_reads_back(value: object) -> None:
    old, sys.stdout = sys.stdout, io.StringIO()
    try:
        output.print_json(value)
        text = sys.stdout.getvalue()
    finally:
        sys.stdout = old
    assert text.isascii()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert json.loads(text) == value


def test_the_console_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.console().print("[bold]x[/] :smile: [link=http://evil]y")
    assert capsys.readouterr().out == "[bold]x[/] :smile: [link=http://evil]y\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [("y\n", True), ("YES\n", True), (" y \n", True), ("n\n", False), ("\n", False), ("", False),
     ("yep\n", False)],
)  # fmt: skip
def test_confirm(monkeypatch: pytest.MonkeyPatch, answer: str, wanted: bool) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", stderr)
    assert output.confirm("clear 3 tasks?") is wanted
    assert stderr.getvalue().startswith("clear 3 tasks? [y/N] ")


@pytest.mark.parametrize("stdin", [None, io.StringIO("y\n")])
def test_nobody_is_asked_in_a_script(
    monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(errors.UsageError) as caught:
        output.confirm("clear 3 tasks?")
    assert "--yes" in caught.value.hint

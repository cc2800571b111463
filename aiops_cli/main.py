"""The command table, the global options and the one error boundary.

A command's module is imported when the command runs, so `--help` and every command pay for
nothing but themselves. To add a command, add its line to COMMANDS and a function of that name
with typer annotations to `aiops_cli/commands/<module>.py`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, TextIO

import typer
from typer import main as typer_main

# Typer has no public name for the base of its usage errors in all of 0.26 to 0.28.
from typer._click.exceptions import ClickException
from typer.core import TyperGroup, TyperOption

from aiops_cli import __version__
from aiops_cli.commands import Invocation
from aiops_cli.commands.output import print_json
from aiops_cli.errors import AiopsError, ConfigError, KnowledgeBaseError, Refused, UsageError
from knowledge.errors import DoorClosed, KnowledgeError, NotFound, RunbookError

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter


class Entry(NamedTuple):
    """A command: where its function is, and its line in the help."""

    module: str
    function: str
    help: str


class Group(NamedTuple):
    """Commands under one name; `default` is the one that is meant where none is named."""

    help: str
    commands: Mapping[str, Entry]
    default: str | None = None


COMMANDS: Mapping[str, Entry | Group] = {
    "init": Entry("init", "init", "Ask for Airflow, the login and the memory; write the settings."),
    "doctor": Entry("doctor", "doctor", "Check Airflow, the knowledge base and the settings."),
    "failures": Entry("failures", "failures", "List failed tries as Airflow has them."),
    "diagnose": Entry("diagnose", "diagnose", "Say what failed, why, and what fixed it before."),
    "triage": Entry("triage", "triage", "Walk through what waits for a person."),
    "stuck": Entry("stuck", "stuck", "Say what waits or runs far too long, and why."),
    "watch": Entry("watch", "watch", "Poll, diagnose, and act where the record allows it."),
    "incidents": Group(
        "Show the queue and the history; `aiops incidents` alone lists.",
        {
            "list": Entry("incidents", "incidents", "List incidents, newest first."),
            "show": Entry("incidents", "show", "Show one incident with everything decided on it."),
        },
        default="list",
    ),
    "approve": Entry("approve", "approve", "Act on incidents, and learn from it."),
    "reject": Entry("reject", "reject", "Do not act on incidents, and learn from it."),
    "log": Entry("log", "log", "Show an incident's log excerpt with line numbers."),
    "open": Entry("open", "open_", "Open an incident's task in the browser."),
    "hold": Entry("hold", "hold", "Keep the tool's hands off a DAG or an incident."),
    "snooze": Entry("remark", "snooze", "Leave an incident for later."),
    "note": Entry("remark", "note", "Leave a word on an incident."),
    "wrong": Entry("wrong", "wrong", "Say that an act did harm."),
    "undo": Entry("wrong", "undo", "Put back what an action changed."),
    "handover": Entry("handover", "handover", "Tell the next shift what happened and what waits."),
    "auto": Group(
        "Say what may be acted on alone.",
        {
            "grant": Entry("auto", "grant", "Allow actions on DAGs to run without a person."),
            "list": Entry("auto", "list_", "List the grants."),
            "revoke": Entry("auto", "revoke", "Take a grant back."),
        },
    ),
    "pause": Entry("pause", "pause", "Stop acting alone, for all who share the memory."),
    "resume": Entry("pause", "resume", "Allow acting alone again."),
    "kb": Group(
        "The knowledge base: what is known, and from where.",
        {
            "seed": Entry("kb", "seed", "Read runbooks into the knowledge base."),
            "add": Entry("kb", "add", "Add one entry by hand."),
            "list": Entry("kb", "list_", "List the entries."),
            "show": Entry("kb", "show", "Show one entry and what came of it."),
            "search": Entry("kb", "search", "Find entries that fit a text."),
            "retire": Entry("kb", "retire", "Take entries out of use."),
            "stats": Entry("kb", "stats", "Count what is known and what came of it."),
        },
    ),
}

_INSTANCE_HELP = "The Airflow instance to talk to, as named in the settings."


class LazyGroup(TyperGroup):
    """A group whose commands come from a table and are imported when they run."""

    def __init__(
        self,
        *,
        table: Mapping[str, Entry | Group] = COMMANDS,
        default: str | None = None,
        **attrs: Any,
    ) -> None:
        super().__init__(**attrs)
        self.table = table
        self.default = default

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args:
            args = [self.default or "--help"]
        elif self.default and args[0] not in (*self.table, *ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 -- Typer's signature
        return list(self.table)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        if args[0] not in self.table:
            import difflib  # only for a mistake

            near = difflib.get_close_matches(args[0], self.table, n=1)
            ctx.fail(f"no command {args[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Group):
            return LazyGroup(
                name=cmd_name,
                table=entry.commands,
                default=entry.default,
                help=entry.help,
                rich_markup_mode=None,
            )
        function = getattr(import_module(f"aiops_cli.commands.{entry.module}"), entry.function)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name, help=None if function.__doc__ else entry.help)(function)
        command = typer_main.get_command(one)
        command.params.append(
            TyperOption(
                param_decls=["--instance"],
                metavar="NAME",
                help=_INSTANCE_HELP,
                expose_value=False,
                callback=_take_instance,
            )
        )
        return command

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run a command line inside the error boundary and end with its exit code."""
        argv = list(sys.argv[1:] if args is None else args)

        def run() -> None:
            with self.make_context("aiops", argv, obj=extra.get("obj")) as ctx:
                self.invoke(ctx)

        options = argv[: argv.index("--")] if "--" in argv else argv
        sys.exit(guarded(run, as_json="--json" in options))


def _take_instance(ctx: Context, _param: object, value: str | None) -> None:
    """`--instance` behind the command overrides the one before it."""
    if value is not None:
        ctx.obj = replace(ctx.obj, instance=value)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aiops {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    ctx: typer.Context,
    instance: Annotated[
        str | None, typer.Option("--instance", metavar="NAME", help=_INSTANCE_HELP)
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Triage of Airflow failures that never acts on a guess."""
    # A relative folder: the current one may be gone, and most commands do not mind.
    called = ctx.obj or Invocation(environ=os.environ, cwd=Path())
    ctx.obj = replace(called, instance=instance) if instance is not None else called


# ---- the error boundary ----


class Failure(NamedTuple):
    """How a call ended that did not end well."""

    code: str
    message: str
    hint: str
    exit_code: int


_INTERRUPTED = Failure(
    "interrupted", "interrupted; nothing was lost", "aiops incidents shows where things stand", 130
)
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a redirected output
_SIGPIPE = 128 + 13  # what a shell reports of a program whose reader went away

_WRITE_IT = "correct it there, or have the settings written: aiops init"

# The knowledge base's errors that are not "unusable".
_KNOWLEDGE = {
    NotFound: ("not_found", UsageError.exit_code),
    RunbookError: ("runbook", UsageError.exit_code),
    DoorClosed: (Refused.code, Refused.exit_code),
}


def guarded(run: Callable[[], None], *, as_json: bool) -> int:
    """Run, tell what went wrong as text on stderr (and as JSON on stdout), return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a code page must not end a diagnosis
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            run()
        except typer.Exit as done:
            return done.exit_code
        except (typer.Abort, KeyboardInterrupt):
            return _tell(_INTERRUPTED, as_json)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                return _tell(_bug(error), as_json)
            _drop(sys.stdout)
            return _tell(_unwritable(error), as_json)
        except Exception as error:  # noqa: BLE001 -- the boundary: no traceback on the screen
            return _tell(_failure(error), as_json)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # `aiops … | head`
        _drop(sys.stdout)
        return _SIGPIPE
    except OSError as error:  # what was still buffered
        _drop(sys.stdout)
        return _tell(_unwritable(error), as_json)
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being told
        return _INTERRUPTED.exit_code
    return 0


def _drop(stream: TextIO) -> None:
    """What is still buffered would fail again, with a message, when Python shuts down."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unwritable(error: OSError) -> Failure:
    hint = "what was decided is stored; make room, or send the output elsewhere"
    return Failure(
        UsageError.code,
        f"the output cannot be written: {error.strerror}",
        hint,
        UsageError.exit_code,
    )


def _failure(error: Exception) -> Failure:
    if isinstance(error, AiopsError):
        hint = error.hint or (_WRITE_IT if isinstance(error, ConfigError) else "")
        return Failure(error.code, _safe(error.message), hint, error.exit_code)
    if isinstance(error, KnowledgeError):
        unusable = (KnowledgeBaseError.code, KnowledgeBaseError.exit_code)
        code, exit_code = _KNOWLEDGE.get(type(error), unusable)
        return Failure(code, _safe(error.message), error.hint, exit_code)
    if isinstance(error, ClickException):
        ctx = getattr(error, "ctx", None)
        hint = f"see {ctx.command_path if ctx else 'aiops'} --help"
        return Failure(UsageError.code, error.format_message(), hint, UsageError.exit_code)
    return _bug(error)


def _safe(message: str) -> str:
    """A message may quote a log or a server's answer."""
    from knowledge.redact import clean, redact  # its detectors take 0.1 s to import

    return redact(clean(message))


def _bug(error: Exception) -> Failure:
    """One line; the traceback goes to a private file, without secrets."""
    import time  # all of these: only for a bug
    import traceback

    from platformdirs import user_state_path

    message = f"this is a bug in aiops {__version__}: {type(error).__name__}"
    try:
        from knowledge.redact import redact

        text = redact("".join(traceback.format_exception(error)))
        folder = user_state_path("aiops", appauthor=False)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / time.strftime(f"bug-%Y%m%dT%H%M%SZ-{os.getpid()}.txt", time.gmtime())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"aiops {__version__}, Python {sys.version}\n{text}")
        hint = f"please report it, with {path}"
    except Exception as problem:  # noqa: BLE001 -- whatever is wrong here must not hide the bug
        hint = f"its traceback could not be kept: {type(problem).__name__}"
    return Failure(AiopsError.code, message, hint, AiopsError.exit_code)


def _tell(failure: Failure, as_json: bool) -> int:
    from knowledge.redact import clean  # only where there is something to tell

    message, hint = clean(failure.message), clean(failure.hint)
    if as_json:
        print_json({"error": {"code": failure.code, "message": message, "hint": hint}})
    try:
        typer.echo(_wrapped(f"error: {message}"), err=True)
        if hint:
            typer.echo(_wrapped(f"hint: {hint}"), err=True)
    except OSError:  # there is nowhere left to say it
        _drop(sys.stderr)
    return failure.exit_code


def _wrapped(text: str) -> str:
    """Text that fits the terminal; elsewhere a message stays one line, to be searched for."""
    if not (sys.stderr and sys.stderr.isatty()):
        return text
    width = min(shutil.get_terminal_size().columns, 100)
    lines = [
        textwrap.fill(
            line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for line in text.splitlines()
    ]
    return "\n".join(lines)

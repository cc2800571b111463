"""The command table and the global options.

A command's module is imported when the command runs, so `--help` and every command pay for
nothing but themselves. To add a command, add its line to COMMANDS and a function of that name
with typer annotations to `aiops_cli/commands/<module>.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer
from typer import main as typer_main
from typer.core import TyperGroup, TyperOption

from aiops_cli import __version__
from aiops_cli.boundary import guarded
from aiops_cli.commands import ASKED_BY_SHELL, Invocation

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter
    from typer._click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """A command: where its function is, and its line in the help."""

    module: str
    function: str
    help: str


class Group(NamedTuple):
    """Commands under one name; `default` is the one that is meant where none is named, `of_one`
    the one where something else is: an id."""

    help: str
    commands: Mapping[str, Entry]
    default: str | None = None
    of_one: str | None = None


COMMANDS: Mapping[str, Entry | Group] = {
    "init": Entry(
        "init", "init", "Ask for Airflow, the login and the knowledge base; write the settings."
    ),
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
        of_one="show",
    ),
    "approve": Entry("approve", "approve", "Act on incidents, and learn from it."),
    "reject": Entry("reject", "reject", "Do not act on incidents, and learn from it."),
    "log": Entry("log", "log", "Show an incident's log excerpt."),
    "open": Entry("open", "open_", "Open an incident's task in the browser."),
    "hold": Entry("hold", "hold", "Keep the tool's hands off a DAG or an incident."),
    "snooze": Entry("remark", "snooze", "Leave an incident for later."),
    "note": Entry("remark", "note", "Leave a word on an incident."),
    "wrong": Entry("wrong", "wrong", "Say that an act did harm."),
    "undo": Entry("wrong", "undo", "Put back what an action changed."),
    "learn": Entry("learn", "learn", "Learn from Airflow's own history what ended failures."),
    "handover": Entry("handover", "handover", "Tell the next shift what happened and what waits."),
    "backtest": Entry(
        "backtest", "backtest", "Replay your own incidents: what would it have done?"
    ),
    "report": Entry("report", "report", "Say what keeps failing, what it costs and what fixed it."),
    "auto": Group(
        "Say what may be acted on alone.",
        {
            "grant": Entry("auto", "grant", "Allow actions on DAGs to run without a person."),
            "list": Entry("auto", "list_", "List the grants."),
            "revoke": Entry("auto", "revoke", "Take a grant back."),
        },
    ),
    "audit": Group(
        "Show who decided what; `aiops audit` alone lists.",
        {
            "list": Entry("audit", "audit", "List what was decided and allowed, newest last."),
            "verify": Entry("audit", "verify", "Prove that none of it was altered."),
        },
        default="list",
    ),
    "pause": Entry("pause", "pause", "Stop acting alone, for all who share the knowledge base."),
    "resume": Entry("pause", "resume", "Allow acting alone again."),
    "plugin": Group(
        "Hear of failures from Airflow itself, at once.",
        {"install": Entry("plugin", "install", "Write the plugin into Airflow's plugins folder.")},
    ),
    "dashboard": Entry("dashboard", "dashboard", "Serve the queue and the record to a browser."),
    "mcp": Entry("mcp", "mcp", "Serve the Model Context Protocol, for other programs."),
    "kb": Group(
        "The knowledge base: what is known, and from where.",
        {
            "seed": Entry("kb_seed", "seed", "Read runbooks into the knowledge base."),
            "add": Entry("kb", "add", "Add one entry by hand."),
            "list": Entry("kb", "list_", "List the entries."),
            "show": Entry("kb", "show", "Show one entry and what came of it."),
            "search": Entry("kb", "search", "Find entries that fit a text."),
            "retire": Entry("kb", "retire", "Take entries out of use."),
            "lint": Entry("kb_lint", "lint", "Say what is wrong with what is known."),
            "export": Entry("kb_move", "export", "Write what is known, and its record, as JSONL."),
            "import": Entry("kb_move", "import_", "Add what another knowledge base exported."),
            "reindex": Entry("kb_tables", "reindex", "Make the vectors of another embedder."),
            "migrate": Entry("kb_tables", "migrate", "Make or update the tables in Postgres."),
            "stats": Entry("kb", "stats", "Count what is known and what came of it."),
        },
    ),
}

# What people type for a command, from other tools, and what it is called here.
_OTHER_WORDS: Mapping[str, str] = {
    "clear": "approve",
    "config": "doctor",
    "list": "incidents",
    "ls": "incidents",
    "queue": "incidents",
    "release": "hold --release",
    "rerun": "approve",
    "retry": "approve",
    "search": "kb search",
    "seed": "kb seed",
    "show": "incidents show",
    "status": "incidents",
}

_INSTANCE_HELP = "The Airflow instance to talk to, as named in the settings."


class LazyGroup(TyperGroup):
    """A group whose commands come from a table and are imported when they run."""

    def __init__(
        self,
        *,
        table: Mapping[str, Entry | Group] = COMMANDS,
        default: str | None = None,
        of_one: str | None = None,
        **attrs: Any,
    ) -> None:
        super().__init__(**attrs)
        self.table = table
        self.default = default
        self.of_one = of_one

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:  # Tab: its commands are asked for
            return super().parse_args(ctx, args)
        if not args:
            args = [self.default or "--help"]
        elif args[0] == "help":
            args = [*args[1:], "--help"]
        elif self.default and args[0] not in (*self.table, *ctx.help_option_names):
            named = None if args[0].startswith("-") else self.of_one
            args = [named or self.default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 -- Typer's signature
        return list(self.table)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        if args[0] not in self.table and not ctx.resilient_parsing:
            import difflib  # only for a mistake

            meant = _OTHER_WORDS.get(args[0], "") if self.table is COMMANDS else ""
            near = [meant] if meant else difflib.get_close_matches(args[0], self.table, n=1)
            ctx.fail(f"no command {args[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """The names in the table, without importing what they name."""
        from typer._click.core import Command
        from typer._click.shell_completion import CompletionItem

        named = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.table.items()
            if name.startswith(incomplete)
        ]
        meant = self.get_command(ctx, self.default) if self.default else None
        options = Command.shell_complete(self, ctx, incomplete)
        return named + options + (meant.shell_complete(ctx, incomplete) if meant else [])

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Group):
            return LazyGroup(
                name=cmd_name,
                table=entry.commands,
                default=entry.default,
                of_one=entry.of_one,
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
        if ctx.resilient_parsing:
            from aiops_cli.commands import completion

            above = [] if ctx.parent is None else [str(ctx.info_name)]
            completion.attach(command, (*above, cmd_name))
        return command

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run a command line inside the error boundary and end with its exit code."""
        argv = list(sys.argv[1:] if args is None else args)

        def run() -> None:
            if args is None and ASKED_BY_SHELL in os.environ:
                from aiops_cli.commands import completion

                completion.answer(self)
            with self.make_context("aiops", argv, obj=extra.get("obj")) as ctx:
                self.invoke(ctx)

        options = argv[: argv.index("--")] if "--" in argv else argv
        sys.exit(guarded(run, as_json="--json" in options))


def _take_instance(ctx: Context, _param: object, value: str | None) -> None:
    """`--instance` behind the command overrides the one before it."""
    if value is not None:
        ctx.obj = replace(ctx.obj, instance=value)


def _install_completion(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from aiops_cli.commands import completion

        completion.install()
        raise typer.Exit


def _show_completion(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from aiops_cli.commands import completion

        completion.show()
        raise typer.Exit


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
    _install: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            is_eager=True,
            callback=_install_completion,
            help="Complete names and ids in this shell from now on.",
        ),
    ] = False,
    _show: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            is_eager=True,
            callback=_show_completion,
            help="Print what --install-completion would install.",
        ),
    ] = False,
) -> None:
    """Triage of Airflow failures that never acts on a guess."""
    # A relative folder: the current one may be gone, and most commands do not mind.
    called = ctx.obj or Invocation(environ=os.environ, cwd=Path())
    ctx.obj = replace(called, instance=instance) if instance is not None else called

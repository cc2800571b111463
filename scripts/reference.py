"""Writes what docs/ says of the code from the code: commands, settings, and the JSON.

python -m scripts.reference            writes docs/commands.md, and the tables and examples
                                       between the marks in the other pages
python -m scripts.reference --check    only says which of them are not up to date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aiops_cli import config_values as values
from aiops_cli import errors
from aiops_cli.airflow.rights import NEEDS
from aiops_cli.commands import Invocation
from aiops_cli.config_table import SETTINGS, Setting
from aiops_cli.main import LazyGroup, app
from scripts import json_examples
from scripts.config_schema import DOES

if TYPE_CHECKING:
    from typer._click.core import Command, Context, Parameter

DOCS = Path(__file__).parents[1] / "docs"
ALL_COMMANDS_TAKE = {"instance"}  # told once, above

_COMMANDS_HEAD = """\
# Commands

Written by `python -m scripts.reference` from the program itself; do not edit.

Every command takes `-h`, `--help` and `--instance NAME` (the Airflow instance, as named in the
[settings](configuration.md)). Data goes to stdout, talk to stderr. With `--json`, stdout holds
one JSON object, or one a line where it streams, and nothing else; [json.md](json.md) shows each.
A DAG or task is named by its id or a glob (`'orders_*'`, quoted for the shell). An incident or a
group is named by its id or any unique start of it of four characters or more. A length of time
has a unit: `30m`, `8h`, `2d`. `--install-completion` before any command makes Tab complete
commands, DAGs and ids in bash, zsh and fish.

"""


# ---- commands ----


def commands_page() -> str:
    """docs/commands.md, whole."""
    sections = "".join(_section(path, command, ctx) for path, command, ctx in walk())
    return f"{_COMMANDS_HEAD}{_exit_codes()}{sections}".rstrip() + "\n"


def walk() -> Iterator[tuple[str, Command, Context]]:
    """("kb seed", its command, its context) of every command, in the order of the help."""
    root = typer.main.get_command(app)
    assert isinstance(root, LazyGroup)
    called = Invocation(environ={}, cwd=Path())
    with root.make_context("aiops", ["--help"], resilient_parsing=True, obj=called) as ctx:
        yield from _walk(root, ctx, "")


def _walk(group: LazyGroup, ctx: Context, before: str) -> Iterator[tuple[str, Command, Context]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        inner = type(ctx)(command, info_name=name, parent=ctx)
        if isinstance(command, LazyGroup):
            yield from _walk(command, inner, f"{before}{name} ")
        else:
            yield f"{before}{name}", command, inner


def _exit_codes() -> str:
    rows = [
        (0, "done"),
        (errors.AiopsError.exit_code, "a bug; its traceback is kept in a file that the hint names"),
        (errors.UsageError.exit_code, "the call or a settings file makes no sense"),
        (errors.AirflowError.exit_code, "Airflow unreachable, or it refused"),
        (errors.KnowledgeBaseError.exit_code, "the knowledge base cannot be used"),
        (errors.Refused.exit_code, "refused: the gate, a claim, or a state that has changed"),
        (10, "with `--exit-code` alone: incidents wait for a person"),
        (130, "interrupted (Ctrl-C); nothing was lost"),
        (141, "the reader of stdout went away (`aiops … | head`)"),
    ]
    table = "\n".join(f"| {code} | {meaning} |" for code, meaning in rows)
    return f"## Exit codes\n\n| code | meaning |\n|---|---|\n{table}\n\n"


def _section(path: str, command: Command, ctx: Context) -> str:
    options = [param for param in command.params if param.name not in ALL_COMMANDS_TAKE]
    usage = re.sub(r"\{([^}]*)\}", r"\1", " ".join(command.collect_usage_pieces(ctx)))
    parts = [
        f"## aiops {path}",
        _plain(command.help or ""),
        f"```text\naiops {path} {usage}\n```",
    ]
    if options:
        rows = "\n".join(_option(param, ctx) for param in options)
        parts.append(f"| argument or option | what it is | default |\n|---|---|---|\n{rows}")
    names = {param.name for param in options}
    notes = []
    if "json" in names:
        anchor = "aiops-" + path.replace(" ", "-")
        notes.append(f"JSON: [what `--json` prints](json.md#{anchor}).")
    if "exit_code" in names:
        notes.append("Exit code 10 with `--exit-code` where incidents wait for a person.")
    return "\n\n".join([*parts, *([" ".join(notes)] if notes else [])]) + "\n\n"


def _option(param: Parameter, ctx: Context) -> str:
    if param.param_type_name == "argument":
        name = f"`{param.make_metavar(ctx)}`"
    else:
        given = " ".join(["/".join([*param.opts, *param.secondary_opts]), *_value(param, ctx)])
        name = f"`{given}`"
    default: object = param.default
    if param.required:
        default = "required"
    elif default in (None, "", False):
        default = ""
    else:
        default = f"`{default}`"
    text = _plain(getattr(param, "help", "") or "").replace("|", "\\|")
    return f"| {name} | {text} | {default} |"


def _value(param: Parameter, ctx: Context) -> list[str]:
    if getattr(param, "is_flag", False):
        return []
    words = {"<str>": "TEXT", "<int>": "N", "<int range>": "N"}
    metavar = param.make_metavar(ctx)
    return [words.get(metavar, metavar.strip("<>").upper())]


def _plain(text: str) -> str:
    return " ".join(text.split())


# ---- settings ----

_TYPES: Mapping[Any, str] = {
    values.url: "address",
    values.text: "text",
    str: "text",
    values.headers: "names with values",
    values.header: "one line of text",
    values.bounds_for: "names with 0 to 1: `{error:TimeoutError: 0.9, dag:payments_*: 0.95}`",
    values.file: "absolute path, or `~/…`",
    values.proxy: "address with port",
    values.flag: "true or false",
    values.stop: "anything but 0, false, no, off stops",
    values.name: "letters, digits, `-`, `_`",
    values.kb: "`sqlite:////path` or `postgresql://…`",
    values.patterns: "list of globs",
    values.actions: "list of [actions](actions.md)",
    values.who_may: "actions with `nobody`, `person` or `alone`",
    values.services: "list of addresses",
    values.duration: "duration: `90`, `15m`, `24h`, `2d`",
    values.share: "0 to 1",
    values.whole: "whole number",
    values.at_once: f"whole number, 1 to {values.MOST_AT_ONCE}",
}


def settings_table() -> str:
    """The table of all settings, in the order of the code."""
    head = "| setting | what it does | value | default | environment | may stand in |\n"
    head += "|---|---|---|---|---|---|\n"
    return head + "\n".join(map(_setting, SETTINGS))


def _setting(setting: Setting) -> str:
    parse = setting.parse
    if isinstance(parse, values.Choice):
        kind = ", ".join(f"`{word}`" for word in parse.words)
    elif isinstance(parse, values.Model):
        kind = f"`{parse.bare}` or `ollama:MODEL`"
    else:
        kind = _TYPES[parse]
    places = "environment only"
    if setting.file:
        places = "both files" if setting.project else "the user's file"
    if setting.combine is not None:
        places += ", which add up"
    env = f"`{setting.env}`" if setting.env else ""
    does = DOES[setting.name]
    return f"| `{setting.name}` | {does} | {kind} | {_default(setting)} | {env} | {places} |"


# Made on the machine, so not told as a value.
_MADE = {
    "kb": "`knowledge.db` in the platform's data folder",
    "user": "the login name",
    "actions": "`retry` and `retry_later` alone, the others a person",
}


def _default(setting: Setting) -> str:
    default = setting.default
    if callable(default):
        return _MADE[setting.name]
    if default in (None, ()):
        return ""
    if isinstance(default, timedelta):
        seconds = int(default.total_seconds())
        unit, size = next((u, s) for u, s in (("h", 3600), ("m", 60), ("s", 1)) if not seconds % s)
        return f"`{seconds // size}{unit}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


# ---- rights ----


def rights_table() -> str:
    """What each action needs in Airflow, in the order of the catalogue's code."""
    rows = "\n".join(f"| `{action}` | {', '.join(needs)} |" for action, needs in NEEDS.items())
    return f"| action | the login must be able to |\n|---|---|\n{rows}"


# ---- pages ----

# Page → what stands on it between the marks of this name; None: the whole page.
PAGES: Mapping[str, tuple[str | None, Callable[[], str]]] = {
    "commands.md": (None, commands_page),
    "configuration.md": ("settings", settings_table),
    "json.md": ("examples", json_examples.sections),
    "security.md": ("rights", rights_table),
}


def page(name: str) -> str:
    """The page as it should be now."""
    mark, make = PAGES[name]
    if mark is None:
        return make()
    begin, end = f"<!-- {mark}: written by python -m scripts.reference -->", f"<!-- /{mark} -->"
    before, found, rest = (DOCS / name).read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{name}: the marks {begin} and {end} are not there")
    return f"{before}{begin}\n\n{make().rstrip()}\n\n{end}{after}"


def main() -> None:
    stale = []
    for name in PAGES:
        now, path = page(name), DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != now:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(now, encoding="utf-8")
    if "--check" in sys.argv[1:] and stale:
        raise SystemExit(f"not up to date: {', '.join(stale)}; run python -m scripts.reference")
    print(f"written: {', '.join(stale)}" if stale else "all up to date")


if __name__ == "__main__":
    main()

"""`aiops init`: ask for Airflow, the login, the knowledge base and the models, try each, write the
settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import Invocation, init_access, init_draft, output
from aiops_cli.commands.asking import ask, tell, tell_error, until_it_works
from aiops_cli.commands.init_draft import OWN_KEYS, Draft
from aiops_cli.commands.output import print_json
from aiops_cli.errors import AirflowAuth, UsageError

if TYPE_CHECKING:
    from aiops_cli.config import Settings


def init(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="Airflow's address.")] = None,
    username: Annotated[str | None, typer.Option(help="Log in as this user.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    token_command: Annotated[
        str | None, typer.Option(help="A command that prints a token; no shell runs it.")
    ] = None,
    kb: Annotated[str | None, typer.Option(help="The knowledge base: a file or its URL.")] = None,
    llm: Annotated[
        str | None, typer.Option(help="The model that may suggest: none or ollama:MODEL.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="What makes the vectors: builtin or ollama:MODEL.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing; take the options.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask for Airflow's address, the login, the knowledge base and, where an Ollama answers, its
    models; try each; write the settings.

    No settings are written before all of it works. The file is readable by its owner only.
    """
    from aiops_cli import config

    called = ctx.obj
    assert isinstance(called, Invocation)  # noqa: S101 -- main.py sets it; narrows the type
    if not yes and not output.is_terminal():
        raise UsageError(
            "nobody is here to answer",
            "pass --yes with --url, and --token-command or --username and --password-stdin",
        )
    if password_stdin and not (username and yes):
        raise UsageError("--password-stdin needs --username and --yes", "see aiops init --help")
    path = config.user_path(called.environ)
    flags = {"instance": called.instance}
    now = config.load(cwd=called.cwd, environ=called.environ, overrides=flags, new_file=True)
    known = now.instances.get(now.instance) or config.AirflowSettings(now.instance, "")
    draft = Draft(known, now.kb)
    if yes:
        _take(draft, url, username, password_stdin, token_command, kb)
        _take_models(draft, now, llm=llm, embedder=embedder)
        written = init_draft.write(path, now, draft, ask=False)
    else:
        tell(f"This writes {path}.\nCtrl-C before that leaves the settings as they are.\n")
        with init_draft.no_settings_if_stopped():
            init_access.ask_url(draft, url)
            init_access.ask_login(draft, username, token_command)
            if "AIOPS_KB" not in called.environ:
                _ask_kb(draft, kb, now)
            _ask_models(draft, now, called.environ, llm=llm, embedder=embedder)
        written = init_draft.write(path, now, draft, ask=True)
    _tell_of_variables(called.environ)

    from aiops_cli.commands.doctor import examine, show_checks

    environ = {**called.environ, "AIOPS_CONFIG": str(path)} if written else called.environ
    health = examine(config.load(cwd=called.cwd, environ=environ, overrides=flags))
    if json:
        print_json({"config": str(path), "changed": written, **health.document()})
    else:
        show_checks(health)
        tell(
            "\nNext: aiops diagnose            what failed today, why, and what helped before"
            "\n      aiops kb seed PATH        read your runbooks"
            "\n      aiops watch --shadow      see what it would do, without doing it"
        )
    if health.exit_code:
        raise typer.Exit(health.exit_code)


# ---- without questions ----


def _take(
    draft: Draft,
    url: str | None,
    username: str | None,
    password_stdin: bool,
    token_command: str | None,
    kb: str | None,
) -> None:
    """Take the options and try them. Raises AiopsError for whatever does not work."""
    if token_command and username:
        raise UsageError("--token-command and --username are two ways to log in", "name one")
    if not (url or draft.airflow.url):
        raise UsageError("no Airflow is named", "pass --url")
    if url:
        draft.set_url(init_access.page_to_address(url))
    if token_command:
        draft.set_login(token_command=token_command)
    elif username and password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise UsageError("standard input holds no password", "pipe it in, on one line")
        draft.set_login(username=username, password=password)
    elif username:  # the password comes from AIOPS_AIRFLOW_PASSWORD or stands in the file
        draft.set(username=username)
    try:
        tell(f"Airflow {init_access.version(draft)} at {draft.airflow.url}")
    except AirflowAuth as error:  # a login may pass it
        tell_error(error)
    init_access.tell_rights(init_access.try_login(draft))
    if kb:
        _set_kb(draft, kb)


def _take_models(draft: Draft, now: Settings, **given: str | None) -> None:
    """Take on models that are named, and see that they can be had."""
    from aiops_cli.commands.init_models import must_be_installed
    from aiops_cli.config_table import BY_NAME

    for key, value in given.items():
        if value is None:
            continue
        try:
            draft.changes[key] = BY_NAME[key].parse(value)
        except ValueError as error:
            raise UsageError(f"{key}: {error}", "ollama list names the models") from None
        must_be_installed(now, value)


# ---- with questions ----


def _ask_kb(draft: Draft, kb: str | None, now: Settings) -> None:
    shown = now.kb_path()

    def attempt() -> None:
        answer = ask("Knowledge base", kb or (str(shown) if shown else "as it is set now"))
        if answer not in (str(shown), "as it is set now"):
            _set_kb(draft, answer)
        elif shown:
            _try_kb(draft.kb)

    tell("\nWhat is learned is kept in a file (or postgresql://…, shared by a team).")
    until_it_works(attempt)


def _ask_models(
    draft: Draft, now: Settings, environ: Mapping[str, str], **given: str | None
) -> None:
    """Offer the models of an Ollama that answers; what is named as an option is not asked for."""
    from aiops_cli.commands.init_models import choose, installed

    _take_models(draft, now, **given)
    keys = [key for key in given if given[key] is None and f"AIOPS_{key.upper()}" not in environ]
    found = installed(now) if keys else None
    if found is None:
        return
    offers = {
        "llm": ("A model may suggest what a person then decides", "none", found.completing),
        "embedder": ("Similar failures are found by vectors of", "builtin", found.embedding),
    }
    for key in keys:
        title, bare, names = offers[key]
        before = getattr(now, key)
        if names or before != bare:
            title = f"{title} ({found.url}):"
            value = until_it_works(partial(choose, title, bare, names, before))
            if value != before:
                draft.changes[key] = value


# ---- trying ----


def _set_kb(draft: Draft, text: str) -> None:
    """Take on a knowledge base, given as a file or a URL, and open it."""
    from aiops_cli import config_values

    try:
        kb = config_values.kb(
            text if "://" in text else f"sqlite:///{Path(text).expanduser().absolute()}"
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"knowledge base: {error}") from None
    _try_kb(kb)
    draft.kb = draft.changes["kb"] = kb


def _try_kb(kb: str) -> None:
    from knowledge.stores import open_store

    open_store(kb).close()


def _tell_of_variables(environ: Mapping[str, str]) -> None:
    found = sorted(name for name in environ if name.startswith("AIOPS_") and environ[name])
    own = [f"AIOPS_{key.upper()}" for key in OWN_KEYS]
    stronger = [name for name in found if name.startswith("AIOPS_AIRFLOW_") or name in own]
    if stronger:
        tell(f"The environment comes before the file: {', '.join(stronger)}")

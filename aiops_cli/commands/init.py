"""`aiops init`: ask for Airflow, the login, the knowledge base and the models, try each, write the
settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import Invocation, output
from aiops_cli.commands.asking import ask, ask_secret, tell, until_it_works
from aiops_cli.commands.output import print_json
from aiops_cli.errors import AirflowAuth, AirflowUnreachable, UsageError

if TYPE_CHECKING:
    from aiops_cli.airflow.rights import Right
    from aiops_cli.config import AirflowSettings, Settings

_LOGIN_KEYS = ("token", "token_command", "client_id", "client_secret", "username", "password")
_OWN_KEYS = ("kb", "llm", "embedder")  # of no Airflow
# What belongs to one address and must not be sent to another.
_ADDRESS_KEYS = (*_LOGIN_KEYS, "headers", "cookie", "cert_file", "key_file")


@dataclass
class _Draft:
    """The settings as they would be, and what of them is to be written: key -> text, None where
    it is to be taken out of the file."""

    start: AirflowSettings  # as the settings have it now
    kb: str

    def __post_init__(self) -> None:
        self.airflow = self.start
        self.changes: dict[str, str | None] = {}

    def set(self, **texts: str | None) -> None:
        """Take on keys of `airflow:`. Raises UsageError for a text that is no such value."""
        from aiops_cli.config_table import BY_NAME

        values: dict[str, Any] = {}
        for key, text in texts.items():
            try:
                values[key] = None if text is None else BY_NAME[f"airflow.{key}"].parse(text)
            except ValueError as error:
                raise UsageError(f"airflow.{key}: {error}") from None
        if "headers" in values:
            values["headers"] = {}
        self.airflow = replace(self.airflow, **values)
        # An address is written as it is understood: without /api/v2, without a slash behind it.
        self.changes |= texts | ({"url": values["url"]} if "url" in values else {})

    def set_url(self, url: str) -> None:
        """The address; another one than now, no login of the old one may reach."""
        self.airflow, self.changes = self.start, {}
        self.set(url=url)
        if self.start.url not in ("", self.airflow.url):
            self.set(**dict.fromkeys(_ADDRESS_KEYS))

    def set_login(self, **texts: str) -> None:
        """One way to log in, in the place of any other."""
        self.set(**{**dict.fromkeys(_LOGIN_KEYS), **texts})


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

    Nothing is written before all of it works. The file is readable by its owner only.
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
    draft = _Draft(known, now.kb)
    if yes:
        _take(draft, url, username, password_stdin, token_command, kb)
        _take_models(draft, now, llm=llm, embedder=embedder)
    else:
        tell(f"This writes {path}.\nCtrl-C at any time leaves everything as it is.\n")
        _ask_url(draft, url)
        _ask_login(draft, username, token_command)
        if "AIOPS_KB" not in called.environ:
            _ask_kb(draft, kb, now)
        _ask_models(draft, now, called.environ, llm=llm, embedder=embedder)
    written = _write(path, now, draft, ask=not yes)
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
    draft: _Draft,
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
        draft.set_url(url)
    if token_command:
        draft.set_login(token_command=token_command)
    elif username and password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise UsageError("standard input holds no password", "pipe it in, on one line")
        draft.set_login(username=username, password=password)
    elif username:  # the password comes from AIOPS_AIRFLOW_PASSWORD or stands in the file
        draft.set(username=username)
    tell(f"Airflow {_try_url(draft) or '(behind a sign-in page)'} at {draft.airflow.url}")
    _tell_rights(_try_login(draft))
    if kb:
        _set_kb(draft, kb)


def _take_models(draft: _Draft, now: Settings, **given: str | None) -> None:
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


def _ask_url(draft: _Draft, url: str | None) -> None:
    def attempt() -> None:
        draft.set_url(_page_to_address(ask("Airflow's address", url or draft.airflow.url)))
        try:
            version = _try_url(draft)
        except AirflowUnreachable as error:
            if "not trusted" not in error.message:
                raise
            tell(f"  {error.message}")
            draft.set(ca_file=ask("File with your company's CA certificates (PEM)", ""))
            version = _try_url(draft)
        if version:
            tell(f"  Airflow {version}")

    until_it_works(attempt)


def _ask_login(draft: _Draft, username: str | None, token_command: str | None) -> None:
    airflow = draft.airflow
    has_one = any(getattr(airflow, key) for key in (*_LOGIN_KEYS, "headers", "cookie"))
    kept = "0" if has_one and not (username or token_command) else ""
    tell(
        "\nHow to log in:\n"
        + ("  0  as it is set now\n" if has_one else "")
        + "  1  a command that prints a token: no secret is kept in the file, and it\n"
        "     is run again whenever a token ends\n"
        "  2  user name and password\n"
        "  3  a token\n"
        "  4  client id and secret (Keycloak)"
    )

    before = dict(draft.changes)

    def attempt() -> None:
        draft.airflow, draft.changes = airflow, dict(before)
        way = ask("Which", kept or ("2" if username else "1"))
        if way == "1":
            command = ask("Command", token_command or airflow.token_command or "")
            draft.set_login(token_command=command)
        elif way == "2":
            user = ask("User name", username or airflow.username or "")
            draft.set_login(username=user, password=ask_secret("Password"))
        elif way == "3":
            draft.set_login(token=ask_secret("Token"))
        elif way == "4":
            client = ask("Client id", airflow.client_id or "")
            draft.set_login(client_id=client, client_secret=ask_secret("Client secret"))
        elif not (way == "0" and has_one):
            raise UsageError(f"{way!r} is none of these", "answer with a number")
        _tell_rights(_try_login(draft))

    until_it_works(attempt)


def _ask_kb(draft: _Draft, kb: str | None, now: Settings) -> None:
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
    draft: _Draft, now: Settings, environ: Mapping[str, str], **given: str | None
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


def _try_url(draft: _Draft) -> str | None:
    """The version of the Airflow there; None behind a sign-in page, which a login may pass."""
    from aiops_cli import services

    try:
        return services.reach(draft.airflow).version()
    except AirflowAuth as error:
        tell(f"  {error.message}\n  {error.hint}")
        return None


def _try_login(draft: _Draft) -> tuple[Right, ...]:
    from aiops_cli import services

    return services.reach(draft.airflow).rights()  # read_only: no change is tried


def _set_kb(draft: _Draft, text: str) -> None:
    """Take on a knowledge base, given as a file or a URL, and open it."""
    from aiops_cli import config_values

    try:
        kb = config_values.kb(text if "://" in text else f"sqlite:///{Path(text).expanduser()}")
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"knowledge base: {error}") from None
    _try_kb(kb)
    draft.kb = draft.changes["kb"] = kb


def _try_kb(kb: str) -> None:
    from knowledge.stores import open_store

    open_store(kb).close()


def _tell_rights(rights: tuple[Right, ...]) -> None:
    lacking = [right.name for right in rights if not right.allowed]
    tell("  logged in" + (f"; may not {', '.join(lacking)}" if lacking else ""))


# ---- writing ----


def _write(path: Path, now: Settings, draft: _Draft, *, ask: bool) -> list[str]:
    """Write what differs, after a yes where there is a file already. The names that changed."""
    from aiops_cli import config_write
    from aiops_cli.config_table import DEFAULT_INSTANCE

    own = now.instance == DEFAULT_INSTANCE
    section = ("airflow",) if own else ("instances", now.instance)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    there = config_write.values(text, path)
    changes = {
        keys: value
        for key, value in draft.changes.items()
        for keys in [(key,) if key in _OWN_KEYS else (*section, key)]
        if there.get(keys) != value
    }
    names = [".".join(keys) for keys in changes]
    if not changes:
        tell(f"\n{path} stays as it is.")
        return []
    edited = config_write.edited(text, changes, path)
    tell(f"\n{'Changes in' if text else 'Into'} {path}:")
    for name, (keys, value) in zip(names, changes.items(), strict=True):
        tell(f"  {name}: {_shown(keys[-1], value, there.get(keys))}")
    if text and not edited.whole:
        tell(f"  its comments cannot be kept; the file as it is now stays as {path.name}.bak")
    if text and ask and not output.confirm("Write them?"):
        tell("  nothing is written")
        raise typer.Exit
    if text and not edited.whole:
        config_write.write_private(path.with_name(f"{path.name}.bak"), text)
    config_write.write_private(path, edited.text)
    tell("  written, readable by you alone\n")
    return names


def _shown(key: str, value: str | None, old: object) -> str:
    """A change, its secrets not shown."""
    from aiops_cli.config_table import BY_NAME

    secret = BY_NAME[key if key in _OWN_KEYS else f"airflow.{key}"].secret or "@" in f"{value}{old}"
    if value is None:
        return "removed"
    if secret:
        return "set, not shown"
    return value if old is None else f"{old} → {value}"


def _tell_of_variables(environ: Mapping[str, str]) -> None:
    found = sorted(name for name in environ if name.startswith("AIOPS_") and environ[name])
    own = [f"AIOPS_{key.upper()}" for key in _OWN_KEYS]
    stronger = [name for name in found if name.startswith("AIOPS_AIRFLOW_") or name in own]
    if stronger:
        tell(f"The environment comes before the file: {', '.join(stronger)}")


def _page_to_address(text: str) -> str:
    """Airflow's address out of that of one of its pages, as copied from a browser."""
    import re

    address = re.split(r"[?#]", text.strip())[0]
    pages = "home|dags|dagruns|task_instances|assets|login|auth|variables|connections|pools|api"
    return re.sub(rf"(?<=[^/:])/({pages})(/.*)?$", "", address)

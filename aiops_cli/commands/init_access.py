"""What `aiops init` asks about the way to Airflow and the login: what a network lacks is asked for
when its answers show it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_cli.commands.asking import ask, ask_secret, tell, tell_error, until_it_works
from aiops_cli.commands.init_draft import LOGIN_KEYS, Draft
from aiops_cli.errors import AirflowAuth, AirflowError, AirflowUnreachable, UsageError

if TYPE_CHECKING:
    from aiops_cli.airflow.rights import Right


# ---- the way ----


def ask_url(draft: Draft, url: str | None) -> None:
    def attempt() -> bool:
        draft.set_url(page_to_address(ask("Airflow's address", url or draft.airflow.url)))
        return _passable(draft)

    while not until_it_works(attempt):
        pass


def version(draft: Draft) -> str:
    """Of the Airflow there. Raises AirflowError, AirflowAuth for a sign-in page before it."""
    from aiops_cli import services

    return services.reach(draft.airflow).version()


def _passable(draft: Draft) -> bool:
    """Whether Airflow is there, with whatever the way to it turns out to want; or a sign-in page
    that a login may pass."""
    while True:
        try:
            tell(f"  Airflow {version(draft)}")
        except (AirflowAuth, AirflowUnreachable) as error:
            tell_error(error)
            if not _ask_for_what_lacks(draft, error):
                return isinstance(error, AirflowAuth)
        else:
            return True


def _ask_for_what_lacks(draft: Draft, error: AirflowError) -> bool:
    """False where nobody knows of anything. Raises UsageError for what cannot be right."""
    from aiops_cli.airflow.client import is_loopback

    if "not trusted" in error.message:
        if file := _file("File with your company's CA certificates (PEM)"):
            draft.set(ca_file=file)
        return bool(file)
    if "client certificate" in f"{error.message} {error.hint}":
        if file := _file("File with your client certificate (PEM)"):
            draft.set(cert_file=file, key_file=_file("File with its key (Enter: the same)") or None)
        return bool(file)
    if isinstance(error, AirflowAuth) and "proxy" not in error.message:
        return _ask_header(draft, "Header that lets a program pass (Cookie for a cookie; or Enter)")
    if is_loopback(draft.airflow.url):
        return False
    # As a whole not shown: it may hold a password.
    proxy = ask_secret("Proxy on the way, as http://user:password@host:port (or Enter)").strip()
    if proxy:
        draft.set(proxy=proxy)
    return bool(proxy)


def _file(question: str) -> str:
    name = ask(question, "")
    return str(Path(name).expanduser().absolute()) if name else ""


def _ask_header(draft: Draft, question: str, default: str = "") -> bool:
    name = ask(question, default)
    if name.lower() == "cookie":
        draft.set(cookie=ask_secret("Cookie, as name=value"))
    elif name:
        draft.set(headers={name: ask_secret(f"Value of {name}")})
    return bool(name)


def page_to_address(text: str) -> str:
    """Airflow's address out of that of one of its pages, as copied from a browser."""
    address = re.split(r"[?#]", text.strip())[0]
    pages = "home|dags|dagruns|task_instances|assets|login|auth|variables|connections|pools|api"
    return re.sub(rf"(?<=[^/:])/({pages})(/.*)?$", "", address)


# ---- the login ----


def ask_login(draft: Draft, username: str | None, token_command: str | None) -> None:
    airflow = draft.airflow
    may_do = (*LOGIN_KEYS, "headers", "cookie", "cert_file")
    has_one = any(getattr(airflow, key) for key in may_do)
    tell(
        "\nHow to log in:\n"
        + ("  0  as it is set now\n" if has_one else "")
        + "  1  a command that prints a token: no secret is kept in the file, and it\n"
        "     is run again whenever a token ends\n"
        "  2  user name and password\n"
        "  3  a token\n"
        "  4  client id and secret (Keycloak)\n"
        "  5  a header or a cookie that is taken for a login"
    )
    before = dict(draft.changes)
    way = "2" if username else "0" if has_one and not token_command else "1"

    def attempt() -> None:
        nonlocal way
        draft.airflow, draft.changes = airflow, dict(before)
        answer = ask("Which", way)
        if answer not in ("0" if has_one else "", *"12345"):
            raise UsageError(f"{answer!r} is none of these", "answer with a number")
        way = answer  # what did not work is mended more often than another way is gone
        if way == "1":
            draft.set_login(
                token_command=_needed("Command", token_command or airflow.token_command)
            )
        elif way == "2":
            draft.set_login(username=_needed("User name", username or airflow.username))
            draft.set(password=ask_secret("Password"))
        elif way == "3":
            draft.set_login(token=ask_secret("Token"))
        elif way == "4":
            draft.set_login(client_id=_needed("Client id", airflow.client_id))
            draft.set(client_secret=ask_secret("Client secret"))
        elif way == "5":
            draft.set_login()
            _ask_header(draft, "Name of the header", "Cookie")
        tell_rights(try_login(draft))

    until_it_works(attempt)


def _needed(question: str, default: str | None) -> str:
    answer = ask(question, default or "")
    if not answer:
        raise UsageError("this way of logging in needs it", "or answer with another number")
    return answer


def try_login(draft: Draft) -> tuple[Right, ...]:
    from aiops_cli import services

    return services.reach(draft.airflow).rights()  # read_only: no change is tried


def tell_rights(rights: tuple[Right, ...]) -> None:
    lacking = [right.name for right in rights if not right.allowed]
    tell("  logged in" + (f"; may not {', '.join(lacking)}" if lacking else ""))

"""The token command: a program of the user's that prints a token for Airflow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta

from aiops_cli import config_values
from aiops_cli.airflow.login import Token, expiry, moment
from aiops_cli.errors import AirflowAuth

COMMAND_SECONDS = 60.0


def run_token_command(command: str, now: Callable[[], datetime]) -> Token:
    """What the command prints, as a token. It runs without a shell and without input.

    Raises AirflowAuth. What it printed never reaches a message; of what it said on stderr, the
    last line does, without secrets.
    """
    import shlex
    import subprocess

    hint = "run it by hand and look at airflow.token_command"
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603 -- the user's own command, from a file of theirs
            [os.path.expanduser(words[0]), *words[1:]],  # noqa: PTH111 -- a name stays a name
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AirflowAuth(
            f"the token command did not end within {COMMAND_SECONDS:.0f} s",
            f"does it wait for somebody to log in? {hint}",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AirflowAuth(f"the token command could not be run: {reason}", hint) from None
    if done.returncode != 0:
        from knowledge.redact import clean, redact  # its detectors take 0.1 s to import

        said = redact(clean(done.stderr[-4096:].decode("utf-8", "replace"))).strip()
        last = f": {said.splitlines()[-1].strip()[:200]}" if said else ""
        raise AirflowAuth(f"the token command ended with {done.returncode}{last}", hint)
    try:
        return read_token(done.stdout.decode(), now())
    except ValueError as error:
        wrong = "bytes that are no text" if isinstance(error, UnicodeError) else str(error)
        raise AirflowAuth(
            f"the token command printed {wrong}",
            "airflow.token_command must print the token alone, or JSON such as "
            '{"token": "…", "headers": {"Name": "…"}, "expires_in": 3600}',
        ) from None


def read_token(printed: str, now: datetime) -> Token:
    """The token that a command printed: alone, or as JSON with `token` (or OAuth's
    `access_token`), `headers`, and `expires_at` (ISO 8601 or seconds since 1970) or `expires_in`
    (seconds). Raises ValueError, which does not tell what was printed."""
    text = printed.strip()
    if not text:
        raise ValueError("nothing")
    if not text.startswith("{"):
        return Token(text, expiry(text))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("something that begins like JSON and is none") from None
    value = document.get("token", document.get("access_token", ""))
    headers = document.get("headers") or {}
    if not isinstance(value, str) or not isinstance(headers, dict) or not (value or headers):
        raise ValueError("JSON without a token")
    try:
        headers = config_values.headers(headers)
    except (ValueError, TypeError):
        raise ValueError("JSON with headers that are none") from None
    try:
        if document.get("expires_in") is not None:
            expires: datetime | None = now + timedelta(seconds=float(document["expires_in"]))
        elif document.get("expires_at") is not None:
            expires = moment(document["expires_at"])
        else:
            expires = expiry(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("JSON with an expiry that is no time") from None
    return Token(value, expires, headers)

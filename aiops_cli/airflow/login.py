"""Tokens: where they come from, when they end, and getting a new one in time."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from aiops_cli.errors import AirflowAnswer, AirflowAuth

RENEW_BEFORE = timedelta(seconds=60)
WARN_BEFORE = timedelta(minutes=15)


class Token(NamedTuple):
    """A bearer token ("" where the headers are the login), and the headers that go with it."""

    value: str
    expires: datetime | None = None
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Login:
    """One way to a token: `fetch_token` makes one (a token command), `token` is one, or client or
    user are exchanged for one at Airflow. The first that is set is used. `headers` go with every
    request; with `tokenless` they, or a client certificate, are the login."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    fetch_token: Callable[[], Token] | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tokenless: bool = False

    @property
    def who(self) -> str:
        """Whose login it is, for messages."""
        return f"client {self.client_id}" if self.client_id else str(self.username)

    @property
    def anew(self) -> str:
        """What to do where the token that it gave is refused."""
        if self.fetch_token:
            return "run airflow.token_command by hand: does it print a token of this Airflow?"
        return "it gave this token itself: do the clocks and secrets of its servers differ?"

    @property
    def needs_airflow(self) -> bool:
        """Whether Airflow's own /auth/token must be asked first."""
        return not (self.token or self.fetch_token or self.tokenless)


class Tokens:
    """The token in use. Safe to share between threads: they wait for one renewal together.

    `exchange` sends a body to Airflow's /auth/token; `where` names that Airflow in messages;
    `warn` is told once that a fixed token ends soon.
    """

    def __init__(
        self,
        login: Login,
        where: str,
        exchange: Callable[[Mapping[str, str]], Any],
        now: Callable[[], datetime],
        warn: Callable[[str], None],
    ) -> None:
        self.login = login
        self._where = where
        self._exchange = exchange
        self._now = now
        self._warn: Callable[[str], None] | None = warn
        self._lock = threading.RLock()  # a login goes through the same transport
        self._token: Token | None = None
        self._renew_at: datetime | None = None
        if login.token:
            self._token = Token(login.token, expiry(login.token))
        elif login.tokenless and not login.fetch_token:
            self._token = Token("")

    @property
    def expires(self) -> datetime | None:
        """When the token in use ends; None where that is not known or no token is there yet."""
        return self._token.expires if self._token else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not stand in a message."""
        login, token = self.login, self._token
        given = (login.token, login.password, login.client_secret, token.value if token else None)
        headers = {**login.headers, **(token.headers if token else {})}
        parts = (part for value in headers.values() for part in re.split(r"[\s;=,]+", value))
        # A short one would only garble the words.
        return (*(text for text in given if text and len(text) > 3), *(p for p in parts if p[7:]))

    def current(self) -> Token:
        """The token to send now, renewed a minute before its end."""
        with self._lock:
            token = self._token
            if token is None or (self._renew_at and self._now() >= self._renew_at):
                return self._renew()
            if self.login.token and self._warn:
                text = ending(token.expires, self._now())
                if text:
                    self._warn(f"the token for {self._where} {text}")
                    self._warn = None
            return checked(token)

    def renewed(self, refused: Token) -> Token:
        """Another token than the refused one. Raises AirflowAuth where there is none."""
        with self._lock:
            if self._token and self._token != refused:  # another thread was quicker
                return self._token
            return self._renew()

    def _renew(self) -> Token:
        now, token = self._now(), checked(self._new())
        self._token, self._renew_at = token, None
        if token.expires and token.expires > now:  # not so by a clock that is wrong
            self._renew_at = token.expires - min(RENEW_BEFORE, (token.expires - now) / 2)
        return token

    def _new(self) -> Token:
        login = self.login
        if login.fetch_token:
            return login.fetch_token()
        if login.token:
            ended = ending(self.expires, self._now()) or "expired, or not its own"
            raise AirflowAuth(
                f"{self._where} refused the token: {ended}",
                "set a new AIOPS_AIRFLOW_TOKEN (airflow.token), or a token command, which is run "
                "again whenever a token ends (airflow.token_command)",
            )
        if login.tokenless:
            raise AirflowAuth(
                f"{self._where} does not take the headers, cookie or client certificate for a "
                "login",
                "renew them (airflow.headers, airflow.cookie), or add a token command",
            )
        if login.client_id and login.client_secret is not None:
            body = {"client_id": login.client_id, "client_secret": login.client_secret}
            body["grant_type"] = "client_credentials"
        elif login.username and login.password is not None:
            body = {"username": login.username, "password": login.password}
        else:
            raise AirflowAuth(
                f"no login for {self._where}",
                "aiops init asks for one; or set AIOPS_AIRFLOW_USERNAME and "
                "AIOPS_AIRFLOW_PASSWORD, AIOPS_AIRFLOW_TOKEN or AIOPS_AIRFLOW_TOKEN_COMMAND",
            )
        answer = self._exchange(body)
        value = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(value, str) or not value:
            raise AirflowAnswer(
                f"{self._where} answered a login without an access_token",
                "its auth manager may not take this login here: use a token command",
            )
        return Token(value, expiry(value))


def checked(token: Token) -> Token:
    """The token, fit for a header. Raises AirflowAuth without showing it."""
    value = token.value.strip().removeprefix("Bearer ")
    if value and not re.fullmatch(r"[!-~]+", value):
        raise AirflowAuth(
            "the token holds characters that no token has",
            "give the token alone, without blanks or line breaks (AIOPS_AIRFLOW_TOKEN, "
            "airflow.token, or what airflow.token_command prints)",
        )
    return token._replace(value=value)


def expiry(token: str) -> datetime | None:
    """The `exp` of a JSON Web Token (RFC 7519, 4.1.4), read without its key; None for others."""
    try:
        _, payload, _ = token.split(".")
        padded = payload + "=" * (-len(payload) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded.encode()))
        return moment(claims["exp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def ending(expires: datetime | None, now: datetime) -> str | None:
    """ "expires in 9 min" for a token that ends within a quarter of an hour, "expired 2 h ago"."""
    if expires is None or expires - now >= WARN_BEFORE:
        return None
    return (
        f"expires in {span(expires - now)}"
        if expires > now
        else (f"expired {span(now - expires)} ago")
    )


def span(length: timedelta) -> str:
    """A length of time in its largest fitting unit, rounded down: "40 min", "3 h", "5 days"."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def moment(value: Any) -> datetime:
    """Seconds since 1970, or ISO 8601 (UTC where it names no zone). Raises ValueError or
    TypeError."""
    try:
        if isinstance(value, str) and not re.fullmatch(r"[0-9.]+", value):
            # Python 3.10 takes no more than microseconds, and no Z.
            text = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value).replace("Z", "+00:00")
            when = datetime.fromisoformat(text)
            return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return datetime.fromtimestamp(float(value), timezone.utc)
    except (OverflowError, OSError):
        raise ValueError("a time out of range") from None

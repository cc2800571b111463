"""HTTP to one Airflow: login, timeouts, repeats, and every failure as an AirflowError.

`airflow_client` serves as a transport alone: its typed models refuse the answers of other server
versions and always send their own defaults, so bodies are dicts with only the fields meant, and
answers are the raw bytes.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from aiops_cli.airflow.client import load_client
from aiops_cli.airflow.parse import error_detail, not_json
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowAuth,
    AirflowConflict,
    AirflowError,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
    Refused,
)
from aiops_cli.seams import Clock

T = TypeVar("T")

ATTEMPTS = 3  # of a read, the first included
BACKOFF_SECONDS = 0.5  # before the second attempt; doubles, plus up to as much again by chance
MAX_WAIT_SECONDS = 20.0  # the longest Retry-After that is waited for
MAX_JSON_BYTES = 32 * 1024 * 1024  # a page of 100 task instances has about 100 kB
MAX_ERROR_BYTES = 64 * 1024
# Pieces are unpacked as they come; gzip grows a piece up to 1,032 times, so small ones keep a
# line of 200 MB within a few MB of memory.
PIECE_BYTES = 4096
# Served without a login, so that a wrong login and a wrong address can be told apart.
PUBLIC_PATHS = ("/api/v2/version", "/api/v2/monitor/health")
TOKEN_PATH = "/auth/token"  # noqa: S105 - an address, no secret


@dataclass(frozen=True)
class Login:
    """One way to a token: `fetch_token` makes one (a token command), `token` is one, or user and
    password are exchanged for one. The first that is set is used."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    fetch_token: Callable[[], str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `read` and `log` are the longest silence: Airflow sorts a big log for half a
    minute before its first byte."""

    connect: float = 5.0
    read: float = 30.0
    log: float = 120.0


class Call(NamedTuple):
    """One request. `what` completes "Airflow could not …" in messages; `ids` fill `path`."""

    method: str
    path: str
    what: str
    ids: Mapping[str, str] = {}
    query: Iterable[tuple[str, str]] = ()
    body: Any = None
    accept: str = "application/json"


class Transport:
    """Calls to the Airflow at `url` (without /api/v2). Safe to share between threads.

    Every call has a timeout. Reads are repeated (3 attempts) on lost connections, 429 and 5xx.
    A changing call is sent again only after a refused login, which says that nothing was done;
    when its answer is lost, cut or a 5xx, the error raised has `unclear` set. Redirects are never
    followed, so that neither token nor password goes to another address. `read_only` refuses
    every changing call before it is sent.
    """

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        read_only: bool = False,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.read_only = read_only
        self._login = login
        self._timeouts = timeouts or Timeouts()
        self._sleep = clock.sleep if clock else time.sleep
        self._token = login.token
        self._lock = threading.RLock()  # a login goes through the same pool
        self._opened: _Opened | None = None

    def get(
        self,
        path: str,
        what: str,
        ids: Mapping[str, str] | None = None,
        query: Iterable[tuple[str, str]] = (),
    ) -> Any:
        """The JSON answer. `ids` fill `{name}` in the path, percent-encoded."""
        return self._repeat(Call("GET", path, what, ids or {}, query), self._json)

    def change(
        self, method: str, path: str, what: str, ids: Mapping[str, str], body: Mapping[str, Any]
    ) -> Any:
        """The JSON answer of a changing call. Raises Refused where this program may only read."""
        if self.read_only:
            raise Refused(
                f"did not {what}: this program is set to read only",
                "unset `read_only` in the settings to let it change Airflow",
            )
        return self._once(Call(method, path, what, ids, (), body), self._json)

    def stream(
        self,
        path: str,
        what: str,
        ids: Mapping[str, str],
        query: Iterable[tuple[str, str]],
        consume: Callable[[Iterable[bytes]], T],
    ) -> T:
        """What `consume` makes of an ndjson answer's unpacked bytes, in bounded memory. It starts
        anew when the connection breaks, and the connection ends when it raises or stops early."""
        call = Call("GET", path, what, ids, query, accept="application/x-ndjson")
        return self._repeat(call, lambda response: consume(_pieces(response)))

    # ---- attempts ----

    def _repeat(self, call: Call, consume: Callable[[Any], T]) -> T:
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                return self._once(call, consume)
            except _Unreached as error:
                # Silence is not waited out three times: somebody sits before the terminal.
                late = time.monotonic() - start >= self._timeouts.read
                if attempt == ATTEMPTS - 1 or late:
                    raise
                backoff = BACKOFF_SECONDS * 2**attempt * (1 + random.random())  # noqa: S311 jitter
                self._sleep(min(error.retry_after or backoff, MAX_WAIT_SECONDS))
        raise AssertionError("unreachable")

    def _once(self, call: Call, consume: Callable[[Any], T]) -> T:
        """One attempt, and one more with a new token if the token was what was refused."""
        if call.path in (*PUBLIC_PATHS, TOKEN_PATH):
            return self._exchange(call, None, consume)
        token = self._token or self._new_token(None)
        if not (token.isascii() and token.isprintable()):
            raise AirflowAuth(
                "the token holds characters that no token has",
                "copy it anew, without line breaks, into AIOPS_AIRFLOW_TOKEN (airflow.token)",
            )
        try:
            return self._exchange(call, token, consume)
        except _TokenRefused:
            return self._exchange(call, self._new_token(token), consume)

    def _new_token(self, refused: str | None) -> str:
        with self._lock:
            if self._token and self._token != refused:  # another thread was quicker
                return self._token
            login = self._login
            if login.fetch_token:
                self._token = login.fetch_token()
                return self._token
            if login.token:
                raise AirflowAuth(
                    f"Airflow at {self._shown_url} refused the token: expired, or not its own",
                    "set a new AIOPS_AIRFLOW_TOKEN (airflow.token), or username and password",
                )
            if not login.username or login.password is None:
                raise AirflowAuth(
                    f"no login for Airflow at {self._shown_url}",
                    "set AIOPS_AIRFLOW_USERNAME and AIOPS_AIRFLOW_PASSWORD, or AIOPS_AIRFLOW_TOKEN",
                )
            body = {"username": login.username, "password": login.password}
            call = Call("POST", TOKEN_PATH, f"log in as {login.username}", body=body)
            answer = self._repeat(call, self._json)
            token = answer.get("access_token") if isinstance(answer, dict) else None
            if not isinstance(token, str) or not token:
                raise AirflowAnswer(
                    f"Airflow at {self._shown_url} answered a login without an access_token",
                    "its auth manager may not take passwords here: use a token",
                )
            self._token = token
            return token

    # ---- one exchange ----

    def _exchange(self, call: Call, token: str | None, consume: Callable[[Any], T]) -> T:
        with self._network(call):
            response = self._send(call, token)
            try:
                if 200 <= response.status < 300:
                    return consume(response)
                body = _read(response, MAX_ERROR_BYTES)
            finally:
                response.close()  # what was read to its end is back in the pool already
        raise self._refusal(call, response.status, response.headers, body)

    def _send(self, call: Call, token: str | None) -> Any:
        client = self._open().client
        headers = {"Accept": call.accept}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if call.accept != "application/json":
            headers["Accept-Encoding"] = "gzip"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        method, url, headers, body, _ = client.param_serialize(
            call.method,
            call.path,
            path_params=dict(call.ids),
            query_params=list(call.query),
            header_params=headers,
            body=call.body,
        )
        silence = self._timeouts.read if call.accept == "application/json" else self._timeouts.log
        return client.call_api(
            method, url, headers, body, _request_timeout=(self._timeouts.connect, silence)
        ).response

    def _open(self) -> _Opened:
        with self._lock:
            if self._opened is None:
                from urllib3 import Retry  # comes with airflow_client, as dear as that

                configuration, api_client, tls_error = load_client()
                # Retry(False): no repeats but ours; redirects are handed back, not followed.
                settings = configuration(host=self.url, retries=Retry(False))
                if urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1"):
                    settings.proxy = None  # the environment's proxy has another loopback
                client = api_client(settings)
                client.user_agent = "aiops-cli"
                self._opened = _Opened(client, tls_error)
            return self._opened

    def _json(self, response: Any) -> Any:
        body = _read(response, MAX_JSON_BYTES)
        if len(body) > MAX_JSON_BYTES:
            raise _Unreadable(f"more than {MAX_JSON_BYTES >> 20} MB")
        if not body and response.status == 204:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise _Unreadable(not_json(body)) from None

    @contextmanager
    def _network(self, call: Call) -> Iterator[None]:
        """Turns what the libraries below raise into AirflowErrors."""
        from urllib3 import exceptions as http  # loaded with the client anyway

        changing = call.method != "GET" and call.path != TOKEN_PATH
        not_sent = (http.NewConnectionError, http.ConnectTimeoutError, http.ProxyError)
        try:
            yield
        except _Unreadable as error:
            raise AirflowAnswer(
                f"Airflow at {self._shown_url} could not {call.what}: it answered with {error}",
                "is this Airflow's own address, or a proxy's or a login page's?",
                unclear=changing,
            ) from None
        except (http.HTTPError, ConnectionError, TimeoutError) as error:
            raise _Unreached(
                f"Airflow at {self._shown_url} did not {call.what}: {self._clean(_reason(error))}",
                "check that it runs and that its address (airflow.url) is right: aiops doctor",
                unclear=changing and not isinstance(error, not_sent),
            ) from error
        except self._open().tls_error as error:
            raise AirflowUnreachable(
                f"no secure connection to {self._shown_url}: {self._clean(_reason(error))}",
                "check the server's certificate and the address (https or http?)",
            ) from error

    def _refusal(
        self, call: Call, status: int, headers: Mapping[str, str], body: bytes
    ) -> AirflowError:
        """The error for an answer outside 2xx."""
        detail = self._clean(error_detail(body))
        where = f"Airflow at {self._shown_url}"
        said = f"{where} could not {call.what}: {detail}"
        changing = call.method != "GET" and call.path != TOKEN_PATH
        if 300 <= status < 400:
            target = self._clean(headers.get("Location", "another address"))
            return AirflowAnswer(
                f"{where} sends on to {target} instead of answering",
                "set airflow.url to Airflow's own address; use a token behind a login page",
            )
        if call.path == TOKEN_PATH and status in (400, 401, 403, 422):
            return AirflowAuth(
                f"{where} refused the login of {self._login.username}: {detail}",
                "check airflow.username and airflow.password, or use a token",
            )
        if call.path == TOKEN_PATH and status in (404, 405):
            return AirflowAnswer(
                f"{where} has no login for passwords: {detail}",
                "check airflow.url; where it is right, use a token",
            )
        if status == 401 or (status == 403 and "Invalid JWT token" in detail):
            return _TokenRefused(f"{where} refused the login: {detail}", "log in anew")
        if status == 403:
            return AirflowForbidden(
                f"the login may not {call.what}: {where} said {detail}",
                "give it the role User (changes of task instances)"
                if changing
                else "give it a role that may read DAGs, runs, logs and the audit log (Viewer)",
            )
        if status == 404 and body.lstrip()[:1] == b"{":
            return AirflowNotFound(said, "check the names: aiops failures lists what there is")
        if status == 409:
            return AirflowConflict(said, "somebody else acted on it: look again")
        if status == 429 or status >= 500:
            return _Unreached(
                f"{said} (status {status})",
                "Airflow is overloaded or broken: see its api-server's log",
                unclear=changing and status != 429,
                retry_after=_seconds(headers.get("Retry-After", "")),
            )
        return AirflowAnswer(f"{said} (status {status})", "see aiops doctor for the version")

    @property
    def _shown_url(self) -> str:
        return re.sub(r"//[^/@]*@", "//***@", self.url)

    def _clean(self, text: str) -> str:
        """Foreign text for a message: one short printable line without our own secrets."""
        for secret in (self._token, self._login.token, self._login.password):
            if secret and len(secret) > 3:  # a shorter one would only garble the words
                text = text.replace(secret, "***")
        text = "".join(char if char.isprintable() else " " for char in text)
        return " ".join(text.split())[:300]


class _Opened(NamedTuple):
    client: Any
    tls_error: type[Exception]  # what the client makes of TLS failures, and of nothing else


class _Unreached(AirflowUnreachable):
    """Worth another attempt where the call is a read."""

    def __init__(
        self, message: str, hint: str, *, unclear: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint, unclear=unclear)
        self.retry_after = retry_after


class _TokenRefused(AirflowAuth):
    """Worth another attempt with a new token."""


class _Unreadable(Exception):
    """A 2xx answer that is no JSON; the text says what it is."""


# ---- bodies ----


def _read(response: Any, limit: int) -> bytes:
    """The unpacked body, cut soon after `limit` bytes."""
    body = bytearray()
    for piece in _pieces(response):
        body += piece
        if len(body) > limit:
            break
    return bytes(body)


def _pieces(response: Any) -> Iterator[bytes]:
    yield from response.stream(PIECE_BYTES, decode_content=True)


def _reason(error: BaseException) -> str:
    """The one sentence worth telling out of urllib3's nested wording."""
    name = type(error).__name__
    if "Timeout" in name:
        return "no answer in time"
    text = str(error)
    for pattern, word in (
        (r"Connection refused", "connection refused"),
        (r"NameResolution|Name or service not known|nodename nor", "its name is not known (DNS)"),
        (
            r"RemoteDisconnected|reset by peer|IncompleteRead|Broken pipe",
            "the connection broke off",
        ),
        (r"CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ):
        if re.search(pattern, text):
            return word
    return f"{name}: {text}"


def _seconds(retry_after: str) -> float | None:
    """Retry-After in seconds, given as a number or a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"[0-9]{1,6}", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None

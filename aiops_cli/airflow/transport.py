"""HTTP to one Airflow: timeouts, repeats, and every failure as an AirflowError.

`airflow_client` serves as a transport alone: its typed models refuse the answers of other server
versions and always send their own defaults, so bodies are dicts with only the fields meant, and
answers are the raw bytes. Logins are login.py's, what answers mean is answers.py's.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from aiops_cli.airflow import answers
from aiops_cli.airflow.answers import PUBLIC_PATHS, TOKEN_PATH, Answer, Call
from aiops_cli.airflow.client import Access, Opened, open_client
from aiops_cli.airflow.login import Login, Token, Tokens
from aiops_cli.airflow.parse import error_detail
from aiops_cli.errors import AirflowError, Refused
from aiops_cli.seams import Clock

T = TypeVar("T")

CLEAR_PATH = "/api/v2/dags/{dag_id}/clearTaskInstances"
ATTEMPTS = 3  # of a read, the first included
BACKOFF_SECONDS = 0.5  # before the second attempt; doubles, plus up to as much again by chance
MAX_WAIT_SECONDS = 20.0  # the longest Retry-After that is waited for
MAX_JSON_BYTES = 32 * 1024 * 1024  # a page of 100 task instances has about 100 kB
MAX_ERROR_BYTES = 64 * 1024
# Pieces are unpacked as they come; gzip grows a piece up to 1,032 times, so small ones keep a
# line of 200 MB within a few MB of memory.
PIECE_BYTES = 4096


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `read` and `log` are the longest silence: Airflow sorts a big log for half a
    minute before its first byte."""

    connect: float = 5.0
    read: float = 30.0
    log: float = 120.0


class Transport:
    """Calls to the Airflow at `url` (without /api/v2). Safe to share between threads.

    Every call has a timeout. Reads are repeated (3 attempts) on lost connections, 429 and 5xx.
    A changing call is sent again only after a refused login, which says that nothing was done;
    when its answer is lost, cut or a 5xx, the error raised has `unclear` set. Redirects are never
    followed, so that neither token nor password goes to another address. `read_only` refuses
    every changing call before it is sent; `rehearse_clear` changes nothing.
    """

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        access: Access | None = None,
        read_only: bool = False,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.url = url.rstrip("/")
        self.read_only = read_only
        self._shown_url = re.sub(r"//[^/@]*@", "//***@", self.url)
        self._access = access or Access()
        self._timeouts = timeouts or Timeouts()
        self._sleep = clock.sleep if clock else time.sleep
        now = clock.now if clock else lambda: datetime.now(timezone.utc)
        where = f"Airflow at {self._shown_url}"
        self._tokens = Tokens(login, where, self._log_in, now, warn)
        self._lock = threading.Lock()
        self._opened: Opened | None = None

    @property
    def token_expires(self) -> datetime | None:
        """When the token in use ends, where that is known."""
        return self._tokens.expires

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
        self,
        method: str,
        path: str,
        what: str,
        ids: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        query: Iterable[tuple[str, str]] = (),
    ) -> Any:
        """The JSON answer of a changing call. Raises Refused where this program may only read."""
        if self.read_only:
            raise Refused(
                f"did not {what}: this program is set to read only",
                "unset `read_only` in the settings to let it change Airflow",
            )
        return self._once(Call(method, path, what, ids, query, body), self._json)

    def rehearse_clear(self, what: str, ids: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """What a clear of the DAG in `ids` would do. It is sent as a dry run whatever `body` says,
        so that it is let through where this program may only read."""
        dry = {**body, "dry_run": True}
        return self._once(Call("POST", CLEAR_PATH, what, ids, (), dry), self._json)

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
        return self._repeat(call, lambda response: consume(_no_page(_pieces(response))))

    # ---- attempts ----

    def _repeat(self, call: Call, consume: Callable[[Any], T]) -> T:
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                return self._once(call, consume)
            except answers.Unreached as error:
                # Silence is not waited out three times: somebody sits before the terminal.
                late = time.monotonic() - start >= self._timeouts.read
                if attempt == ATTEMPTS - 1 or late:
                    raise
                backoff = BACKOFF_SECONDS * 2**attempt * (1 + random.random())  # noqa: S311 jitter
                self._sleep(min(error.retry_after or backoff, MAX_WAIT_SECONDS))
        raise AssertionError("unreachable")

    def _once(self, call: Call, consume: Callable[[Any], T]) -> T:
        """One attempt, and one more with a new token if the token was what was refused."""
        if call.path == TOKEN_PATH:
            return self._exchange(call, None, consume)
        if call.path in PUBLIC_PATHS:
            try:
                return self._exchange(call, None, consume)
            except answers.SignIn:  # what stands before Airflow may know the token
                if self._tokens.login.needs_airflow:
                    raise
        token = self._tokens.current()
        try:
            return self._exchange(call, token, consume)
        except answers.TokenRefused:
            return self._exchange(call, self._tokens.renewed(token), consume)
        except answers.SignIn:
            # What answered was not Airflow, so a change is not known to be undone.
            if call.changing or not self._tokens.login.fetch_token:
                raise
            return self._exchange(call, self._tokens.renewed(token), consume)

    def _log_in(self, body: Mapping[str, str]) -> Any:
        who = self._tokens.login.who
        return self._repeat(Call("POST", TOKEN_PATH, f"log in as {who}", body=body), self._json)

    # ---- one exchange ----

    def _exchange(self, call: Call, token: Token | None, consume: Callable[[Any], T]) -> T:
        with self._network(call):
            response = self._send(call, token)
            try:
                if 200 <= response.status < 300:
                    return consume(response)
                body = _read(response, MAX_ERROR_BYTES)
            finally:
                response.close()  # what was read to its end is back in the pool already
        raise self._refusal(call, response.status, response.headers, body)

    def _send(self, call: Call, token: Token | None) -> Any:
        client = self._open().client
        own = {"Accept": call.accept}
        if call.body is not None:
            own["Content-Type"] = "application/json"
        if call.accept != "application/json":
            own["Accept-Encoding"] = "gzip"
        if token and token.value:
            own["Authorization"] = f"Bearer {token.value}"
        headers: dict[str, str] = {}  # names do not differ by case: the last of a name is sent
        for given in (self._tokens.login.headers, token.headers if token else {}, own):
            for name, value in given.items():
                headers = {key: old for key, old in headers.items() if key.lower() != name.lower()}
                headers[name] = value
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

    def _open(self) -> Opened:
        with self._lock:
            if self._opened is None:
                self._opened = open_client(self.url, self._access)
            return self._opened

    def _json(self, response: Any) -> Any:
        body = _read(response, MAX_JSON_BYTES)
        if len(body) > MAX_JSON_BYTES:
            raise answers.Unreadable(f"more than {MAX_JSON_BYTES >> 20} MB")
        if not body and response.status == 204:
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise answers.not_the_api(body) from None

    @contextmanager
    def _network(self, call: Call) -> Iterator[None]:
        """Turns what the libraries below raise into AirflowErrors."""
        from urllib3 import exceptions as http  # loaded with the client anyway

        not_sent = (http.NewConnectionError, http.ConnectTimeoutError, http.ProxyError)
        try:
            yield
        except answers.Unreadable as error:
            raise answers.unreadable(call, self._shown_url, error) from None
        except (http.HTTPError, ConnectionError, TimeoutError) as error:
            unclear = call.may_be_done and not isinstance(error, not_sent)
            where, why = f"Airflow at {self._shown_url}", self._clean(answers.reason(error))
            todo = "check that it runs and that its address (airflow.url) is right: aiops doctor"
            if isinstance(error, http.ProxyError):
                todo = "look at airflow.proxy, HTTPS_PROXY and NO_PROXY"
            raise answers.Unreached(
                call.told(where, why, "did not", unclear=unclear),
                answers.hint(todo, unclear),
                unclear=unclear,
            ) from error
        except self._open().tls_error as error:
            why = self._clean(answers.reason(error))
            raise answers.insecure(call, self._shown_url, error, why) from error

    def _refusal(
        self, call: Call, status: int, headers: Mapping[str, str], body: bytes
    ) -> AirflowError:
        """The error for an answer outside 2xx."""
        return answers.refusal(
            call,
            Answer(
                url=self._shown_url,
                status=status,
                location=self._clean(headers.get("Location", "")),
                retry_after=headers.get("Retry-After", ""),
                body=body,
                detail=self._clean(error_detail(body)),
                who=self._tokens.login.who,
                anew=self._tokens.login.anew,
            ),
        )

    def _clean(self, text: str) -> str:
        """Foreign text for a message: one short printable line without our own secrets."""
        password = urlsplit(self._access.proxy or "").password or ""
        for secret in (*self._tokens.secrets, password, unquote(password)):
            text = text.replace(secret, "***") if secret else text
        text = "".join(char if char.isprintable() else " " for char in text)
        return " ".join(text.split())[:300]


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


def _no_page(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of an ndjson answer. A web page, which whatever stands before Airflow has sent
    instead, would pass for a log. Raises Unreadable."""
    head = b""
    for piece in pieces:
        if not head.strip():
            head += piece
            if answers.is_page(head):
                raise answers.not_the_api(head)
        yield piece

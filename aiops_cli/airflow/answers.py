"""What an answer that is no success means: pure functions from answers to AirflowErrors."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from aiops_cli.airflow.parse import not_json
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowAuth,
    AirflowConflict,
    AirflowError,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
)

TOKEN_PATH = "/auth/token"  # noqa: S105 - an address, no secret
# Served without a login, so that a wrong login and a wrong address can be told apart.
PUBLIC_PATHS = ("/api/v2/version", "/api/v2/monitor/health")
_SIGN_IN = re.compile(
    r"log-?[io]n|sign-?in|\bsso\b|saml|oauth|openid|\bauth\b|authori[sz]e|password", re.IGNORECASE
)
# A TLS failure of the handshake: nothing was sent, and another attempt would end alike.
_HANDSHAKE = re.compile(
    "CERTIFICATE|VERSION|HTTP_REQUEST|ALERT|RECORD_LAYER|ENCRYPTED|KEY_VALUES|PEM|ASN1",
    re.IGNORECASE,
)
_SIGN_IN_HINT = (
    "a browser can pass it, aiops cannot: set airflow.token_command to what prints a token for "
    "it, or airflow.headers or airflow.cookie; docs/access.md has examples. If Airflow has moved, "
    "set airflow.url"
)


class Call(NamedTuple):
    """One request. `what` completes "Airflow could not …" in messages; `ids` fill `path`."""

    method: str
    path: str
    what: str
    ids: Mapping[str, str] = {}
    query: Iterable[tuple[str, str]] = ()
    body: Any = None
    accept: str = "application/json"

    @property
    def changing(self) -> bool:
        return self.method != "GET" and self.path != TOKEN_PATH

    @property
    def may_be_done(self) -> bool:
        """Whether it may have taken effect where no answer says so."""
        return self.changing and not (self.body or {}).get("dry_run")

    def told(self, where: str, how: str, verb: str = "could not", *, unclear: bool) -> str:
        """That it failed, and how; of what is `unclear` not more than is known."""
        if unclear:
            return f"{where} was asked to {self.what}, and may have done it: {how}"
        return f"{where} {verb} {self.what}: {how}"


class Answer(NamedTuple):
    """An answer outside 2xx, its text clean. `who` names the login, for messages; `anew` says what
    to do where the token that it gave is refused."""

    url: str  # Airflow's, fit to be shown
    status: int
    location: str
    retry_after: str
    body: bytes
    detail: str
    who: str
    anew: str


class Unreached(AirflowUnreachable):
    """Worth another attempt where the call is a read."""

    def __init__(
        self, message: str, hint: str, *, unclear: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint, unclear=unclear)
        self.retry_after = retry_after


class TokenRefused(AirflowAuth):
    """Airflow does not know the token: nothing was done. Worth an attempt with a new one."""


class SignIn(AirflowAuth):
    """Something before Airflow wants a person to sign in. For a read, worth another attempt with
    a new token."""


class NotOffered(AirflowAnswer):
    """This Airflow does not know the method at that path: its version is older than the call."""


class Unreadable(Exception):
    """A 2xx answer that is no JSON; the text says what it is, `page` whether a web page."""

    def __init__(self, text: str, *, page: bool = False) -> None:
        super().__init__(text)
        self.page = page


def refusal(call: Call, answer: Answer) -> AirflowError:
    """The error for an answer outside 2xx."""
    where, status, detail = f"Airflow at {answer.url}", answer.status, answer.detail
    said = f"{where} could not {call.what}: {detail}"
    if 300 <= status < 400:
        return _sent_on(where, answer)
    if status in (401, 403, 407) and is_page(answer.body):
        return SignIn(f"{where} sits behind a sign-in page: {detail}", _SIGN_IN_HINT)
    if status == 407:
        return AirflowAuth(
            f"the proxy before {answer.url} wants a login: {detail}",
            "write it into airflow.proxy: http://user:password@host:port",
        )
    if call.path == TOKEN_PATH and status in (400, 401, 403, 422):
        return AirflowAuth(
            f"{where} refused the login of {answer.who}: {detail}",
            "check airflow.username and airflow.password (or client_id and client_secret); with "
            "single sign-on use a token command",
        )
    if call.path == TOKEN_PATH and status in (404, 405):
        return AirflowAnswer(
            f"{where} has no login for passwords: {detail}",
            "check airflow.url; where it is right, use a token or a token command",
        )
    if call.path in PUBLIC_PATHS and status in (401, 403):
        return SignIn(f"something before {where} wants a login of its own: {detail}", _SIGN_IN_HINT)
    if status == 401 or (status == 403 and "Invalid JWT token" in detail):
        return TokenRefused(f"{where} refused the login: {detail}", answer.anew)
    if status == 403:
        return AirflowForbidden(
            f"the login may not {call.what}: {where} said {detail}",
            "give it the role User (changes of task instances)"
            if call.changing
            else "give it a role that may read DAGs, runs, logs and the audit log (Viewer)",
        )
    if status == 404 and answer.body.lstrip()[:1] == b"{":
        return AirflowNotFound(said, "check the names: aiops failures lists what there is")
    if status == 405:
        return NotOffered(f"{said} (status 405)", "this version of Airflow cannot: aiops doctor")
    if status == 409:
        return AirflowConflict(said, "somebody else acted on it: look again")
    if status == 429 or status >= 500:
        unclear = call.may_be_done and status != 429
        return Unreached(
            call.told(where, f"{detail} (status {status})", unclear=unclear),
            hint("Airflow is overloaded or broken: see its api-server's log", unclear),
            unclear=unclear,
            retry_after=_seconds(answer.retry_after),
        )
    return AirflowAnswer(f"{said} (status {status})", "see aiops doctor for the version")


def _sent_on(where: str, answer: Answer) -> AirflowError:
    """The error for a redirect: a sign-in page, or Airflow under another address."""
    target = urljoin(answer.url + "/", answer.location)
    here, there = urlsplit(answer.url), urlsplit(target)
    shown = f"{there.scheme}://{there.netloc}{there.path}"  # the query holds states and nonces
    moved = here.hostname == there.hostname and not _SIGN_IN.search(there.path)
    if moved or not answer.location:
        return AirflowAnswer(
            f"{where} sends on to {shown if answer.location else 'another address'} instead of "
            "answering",
            "set airflow.url to Airflow's own address",
        )
    return SignIn(f"{where} sends on to {shown}, to sign in there", _SIGN_IN_HINT)


def unreadable(call: Call, url: str, error: Unreadable) -> AirflowError:
    """The error for a 2xx answer that is no JSON."""
    unclear = call.may_be_done
    said = call.told(f"Airflow at {url}", f"it answered with {error}", unclear=unclear)
    if error.page and str(error) != "a web page (Airflow)":
        return SignIn(said, hint(f"a sign-in page? {_SIGN_IN_HINT}", unclear), unclear=unclear)
    todo = (
        "set airflow.url to Airflow's own address: what stands before /api/v2, and before "
        "/home or /dags in a browser"
    )
    return AirflowAnswer(said, hint(todo, unclear), unclear=unclear)


def hint(todo: str, unclear: bool) -> str:
    """What to do; before it, where the call may have taken effect, what tells whether it has."""
    return f"aiops watch --once tells what came of an act; {todo}" if unclear else todo


def not_the_api(body: bytes) -> Unreadable:
    """What a body is that should have been JSON."""
    return Unreadable(not_json(body), page=is_page(body))


def is_page(body: bytes) -> bool:
    return body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def reason(error: BaseException) -> str:
    """The one sentence worth telling out of urllib3's nested wording."""
    name, text = type(error).__name__, str(error)
    if "ProxyError" in name:
        refused = re.search(r"Tunnel connection failed: (\d+[^'\")]*)", text)
        return f"its proxy {'refused: ' + refused[1] if refused else 'cannot be reached'}"
    if "Timeout" in name:
        return "no answer in time"
    for pattern, word in (
        (r"Connection refused", "connection refused"),
        (r"NameResolution|Name or service not known|nodename nor", "its name is not known (DNS)"),
        (r"CERTIFICATE_REQUIRED|certificate required", "it wants a client certificate"),
        (r"Hostname mismatch|doesn't match|not valid for", "its certificate is for another name"),
        (r"has expired", "its certificate has expired"),
        (r"CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        (r"key is encrypted", "the key of the client certificate is encrypted"),
        (r"KEY_VALUES_MISMATCH", "the key is not that of the client certificate"),
        (r"NO_CERTIFICATE|\bPEM\b|ASN1", "a certificate file holds nothing that can be read"),
        (r"WRONG_VERSION_NUMBER|HTTP_REQUEST|RECORD_LAYER", "it does not speak TLS there"),
        (
            r"RemoteDisconnected|reset by peer|IncompleteRead|Broken pipe|EOF occurred",
            "the connection broke off",
        ),
        (r"DecodeError|failed to decode", "its answer cannot be unpacked"),
    ):
        if re.search(pattern, text):
            return word
    return f"{name}: {text}"


def insecure(call: Call, url: str, error: BaseException, why: str) -> AirflowError:
    """The error for a TLS failure; `why` is its `reason`, fit to be shown."""
    said = f"no secure connection to {url}: {why}"
    if not _HANDSHAKE.search(str(error)):  # lost on the way: a read may be tried again
        todo = "try again; if it stays so, it may want a client certificate (airflow.cert_file)"
        return Unreached(said, hint(todo, call.may_be_done), unclear=call.may_be_done)
    if "wants a client certificate" in why:
        todo = "set airflow.cert_file and airflow.key_file"
    elif "not trusted" in why:
        todo = "set airflow.ca_file to your company's CA certificates (PEM)"
    elif "is encrypted" in why:
        todo = "nobody is here to type its passphrase: openssl pkey -in OLD -out NEW writes it "
        todo += "without one; keep that file to yourself"
    else:
        todo = "check the server's certificate, airflow.ca_file and airflow.cert_file, and the "
        todo += "address (https or http?)"
    return AirflowUnreachable(said, todo)


def _seconds(retry_after: str) -> float | None:
    """Retry-After in seconds, given as a number or a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"[0-9]{1,6}", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None

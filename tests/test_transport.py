"""The transport against a server that misbehaves on purpose."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from aiops_cli.airflow import client as client_package
from aiops_cli.airflow import parse, transport
from aiops_cli.airflow.login import Login, Token
from aiops_cli.airflow.transport import Timeouts, Transport
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
from tests.airflow_server import RUN, AirflowServer

CLEAR = {"dry_run": False, "dag_run_id": RUN, "task_ids": ["load"]}


class Clock:
    """Sleeps without waiting and notes how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def server() -> Iterator[AirflowServer]:
    with AirflowServer() as server:
        server.add_failure("orders", "load")
        yield server


def open_transport(server: AirflowServer, **options: Any) -> Transport:
    login = options.pop("login", Login(server.username, server.password))
    options.setdefault("clock", Clock())
    return Transport(server.url, login, **options)


def read(client: Transport) -> Any:
    return client.get("/api/v2/dags/{dag_id}/details", "show DAG orders", {"dag_id": "orders"})


def clear(client: Transport) -> Any:
    path = "/api/v2/dags/{dag_id}/clearTaskInstances"
    return client.change("POST", path, "clear load", {"dag_id": "orders"}, CLEAR)


def logins(server: AirflowServer) -> int:
    return sum(request.path == "/auth/token" for request in server.requests)


# ---- login ----


def test_one_login_serves_many_calls(server: AirflowServer) -> None:
    client = open_transport(server)
    for _ in range(3):
        assert read(client)["dag_id"] == "orders"
    assert logins(server) == 1


@pytest.mark.parametrize("how", ["expired", "forgotten"])
@pytest.mark.parametrize("call", [read, clear])
def test_a_refused_token_is_renewed_and_the_call_repeated(
    server: AirflowServer, how: str, call: Any
) -> None:
    client = open_transport(server)
    read(client)
    if how == "expired":  # 401 "Token Expired"
        server.expired.update(server.tokens)
    else:  # 403 "Invalid JWT token": the server has a new key
        server.tokens.clear()
    assert call(client)
    assert logins(server) == 2


def test_a_token_that_stays_refused_is_told_after_one_renewal(server: AirflowServer) -> None:
    server.fault("GET", status=401, body=b'{"detail":"Token Expired"}', times=9)
    with pytest.raises(AirflowAuth, match="Token Expired"):
        read(open_transport(server))
    assert len(server.sent("GET")) == 2


def test_a_static_token_is_used_and_never_replaced(server: AirflowServer) -> None:
    client = open_transport(server, login=Login(token="static-token"))
    server.tokens["static-token"] = "oncall"
    assert read(client)
    server.expired.add("static-token")
    with pytest.raises(AirflowAuth, match="refused the token") as caught:
        read(client)
    assert "static-token" not in caught.value.message + caught.value.hint
    assert logins(server) == 0


def test_a_token_command_is_run_again_when_its_token_is_refused(server: AirflowServer) -> None:
    server.tokens |= {"token-one": "oncall", "token-two": "oncall"}
    made = iter(["token-one", "token-two"])
    client = open_transport(server, login=Login(fetch_token=lambda: Token(next(made))))
    read(client)
    read(client)
    server.expired.add("token-one")
    assert read(client)
    assert next(made, "all used") == "all used"
    assert logins(server) == 0


def test_a_wrong_password_is_told_without_it(server: AirflowServer) -> None:
    with pytest.raises(AirflowAuth, match="refused the login of oncall") as caught:
        read(open_transport(server, login=Login("oncall", "wrong-password")))
    assert "wrong-password" not in caught.value.message + caught.value.hint
    assert logins(server) == 1


def test_without_a_login_nothing_is_sent(server: AirflowServer) -> None:
    with pytest.raises(AirflowAuth, match="no login"):
        read(open_transport(server, login=Login()))
    assert server.requests == []


def test_version_and_health_need_no_login(server: AirflowServer) -> None:
    client = open_transport(server, login=Login())
    assert client.get("/api/v2/version", "tell its version")["version"] == "3.3.2"
    assert client.get("/api/v2/monitor/health", "tell its health")


def test_an_auth_manager_without_passwords_is_told(server: AirflowServer) -> None:
    server.fault("auth/token", status=404, body=b'{"detail":"Not Found"}')
    with pytest.raises(AirflowAnswer, match="no login for passwords"):
        read(open_transport(server))


def test_threads_renew_an_expired_token_together(server: AirflowServer) -> None:
    client = open_transport(server)
    read(client)
    server.expired.update(server.tokens)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: read(client), range(16)))
    assert all(answer["dag_id"] == "orders" for answer in answers)
    assert logins(server) == 2


@pytest.mark.parametrize("token", ["two\nlines", "größe", "\x00"])
def test_a_garbled_token_is_told(server: AirflowServer, token: str) -> None:
    with pytest.raises(AirflowAuth, match="characters that no token has"):
        read(open_transport(server, login=Login(token=token)))
    assert server.requests == []


def test_the_environments_proxy_is_not_asked_for_this_machine(
    server: AirflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert read(open_transport(server))


def test_secrets_are_not_in_reprs() -> None:
    login = Login("oncall", "the-password", "the-token")
    assert "the-" not in repr(login)
    assert "the-" not in repr(Transport("http://127.0.0.1:1", login))


# ---- reads are repeated, changes never ----

HICCUPS: list[dict[str, Any]] = [
    *({"status": status} for status in (429, 500, 502, 503, 504)),
    {"drop_after": -1},
    {"drop_after": 20},
]


@pytest.mark.parametrize("hiccup", HICCUPS, ids=str)
def test_a_read_is_repeated(server: AirflowServer, hiccup: dict[str, Any]) -> None:
    clock = Clock()
    server.fault("GET .*details", times=2, **hiccup)
    assert read(open_transport(server, clock=clock))["dag_id"] == "orders"
    assert len(server.sent("GET")) == 3
    first, second = clock.slept
    assert 0.5 <= first <= 1.0 <= second <= 2.0


@pytest.mark.parametrize("hiccup", HICCUPS, ids=str)
def test_a_read_is_given_up_after_three_attempts(
    server: AirflowServer, hiccup: dict[str, Any]
) -> None:
    server.fault("GET .*details", times=9, **hiccup)
    with pytest.raises(AirflowUnreachable, match="show DAG orders") as caught:
        read(open_transport(server))
    assert len(server.sent("GET")) == 3
    assert server.url in caught.value.message
    assert not caught.value.unclear


@pytest.mark.parametrize(
    ("value", "waited"),
    [
        ("7", 7.0),
        ("9999", transport.MAX_WAIT_SECONDS),
        (format_datetime(datetime(2100, 1, 1, tzinfo=timezone.utc)), transport.MAX_WAIT_SECONDS),
        ("soon", None),
    ],
)
def test_retry_after_is_waited_for_within_bounds(
    server: AirflowServer, value: str, waited: float | None
) -> None:
    clock = Clock()
    server.fault("GET .*details", status=429, headers={"Retry-After": value})
    read(open_transport(server, clock=clock))
    if waited is None:
        assert clock.slept[0] <= 1.0
    else:
        assert clock.slept == [waited]


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("hiccup", [h for h in HICCUPS if h != {"status": 429}], ids=str)
def test_a_change_is_never_repeated_and_its_end_is_unclear(
    server: AirflowServer, hiccup: dict[str, Any], takes_effect: bool
) -> None:
    server.fault("POST .*clear", takes_effect=takes_effect, **hiccup)
    with pytest.raises(AirflowUnreachable) as caught:
        clear(open_transport(server))
    assert caught.value.unclear
    assert len(server.sent("POST")) == 1
    row = server.instances["orders", RUN, "load", -1]
    assert row["state"] == (None if takes_effect else "failed")


@pytest.mark.parametrize("hiccup", HICCUPS, ids=str)
def test_a_rehearsal_does_nothing_whatever_becomes_of_it(
    server: AirflowServer, hiccup: dict[str, Any]
) -> None:
    server.fault("POST .*clear", **hiccup)
    with pytest.raises(AirflowUnreachable, match="not preview it") as caught:
        open_transport(server).rehearse_clear("preview it", {"dag_id": "orders"}, {})
    assert not caught.value.unclear


def test_a_change_refused_as_too_many_did_nothing(server: AirflowServer) -> None:
    server.fault("POST .*clear", status=429)
    with pytest.raises(AirflowUnreachable) as caught:
        clear(open_transport(server))
    assert not caught.value.unclear
    assert len(server.sent("POST")) == 1


def test_a_silent_server_is_not_waited_for(server: AirflowServer) -> None:
    client = open_transport(server, timeouts=Timeouts(read=0.3))
    read(client)
    server.fault("POST .*clear|GET .*details", hang=30.0, times=9)
    start = time.monotonic()
    said = "was asked to clear load, and may have done it: no answer in time"
    with pytest.raises(AirflowUnreachable, match=said) as caught:
        clear(client)
    assert caught.value.unclear
    assert "watch --once" in caught.value.hint
    with pytest.raises(AirflowUnreachable, match="no answer in time") as caught:
        read(client)
    assert not caught.value.unclear
    assert time.monotonic() - start < 15
    assert len(server.sent("GET")) == 2  # one before, one silent: silence is not waited out again


def test_a_refused_connection_is_told_and_is_clear() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = Transport(url, Login(token="static-token"), clock=Clock())
        with pytest.raises(AirflowUnreachable, match=f"{url} did not clear.*refused") as caught:
            clear(client)
    assert not caught.value.unclear
    assert "airflow.url" in caught.value.hint


def test_plain_http_on_a_tls_address_is_told(server: AirflowServer) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(AirflowUnreachable, match="no secure connection"):
        read(Transport(url, Login(token="static-token"), clock=Clock()))


def test_read_only_refuses_before_anything_is_sent(server: AirflowServer) -> None:
    client = open_transport(server, read_only=True)
    with pytest.raises(Refused, match="did not clear load") as caught:
        clear(client)
    assert "read_only" in caught.value.hint
    assert server.requests == []
    assert read(client)  # logging in and reading go on


@pytest.mark.parametrize("asked", [{}, {"dry_run": False}, {"dry_run": None}])
def test_a_rehearsal_changes_nothing_whatever_it_is_given(
    server: AirflowServer, asked: dict[str, Any]
) -> None:
    row = server.add_failure("orders", "load")
    body = {"dag_run_id": row["dag_run_id"], "task_ids": ["load"], **asked}
    client = open_transport(server, read_only=True)
    answer = client.rehearse_clear("preview a clear in orders", {"dag_id": "orders"}, body)
    assert [one["task_id"] for one in answer["task_instances"]] == ["load"]
    (sent,) = server.sent("POST")
    assert (sent.path, sent.body) == (
        "/api/v2/dags/orders/clearTaskInstances",
        body | {"dry_run": True},
    )
    assert row["state"] == "failed"


# ---- what an answer means ----


@pytest.mark.parametrize(
    ("status", "body", "error", "word"),
    [
        (403, b'{"detail":"Forbidden"}', AirflowForbidden, "may not clear load"),
        (404, b'{"detail":"The Dag was not found"}', AirflowNotFound, "The Dag was not found"),
        (404, b"<html>nope</html>", AirflowAnswer, "a web page"),
        (409, b'{"detail":{"reason":"Unique constraint violation"}}', AirflowConflict, "Unique"),
        (422, b'{"detail":[{"loc":["body","x"],"msg":"no"}]}', AirflowAnswer, "body.x: no"),
        (400, b'{"title":"old","detail":"Bad"}', AirflowAnswer, "Bad"),
        (405, b"[]", AirflowAnswer, "405"),
        (418, b"\xff\xfe", AirflowAnswer, "not JSON"),
        (200, b"<title>Sign in &amp; go</title>", AirflowAuth, "Sign in"),
        (200, b"<html><title>Airflow</title>", AirflowAnswer, "a web page"),
        (403, b"<title>Sign in</title>", AirflowAuth, "sign-in page"),
        (200, b"", AirflowAnswer, "an empty body"),
        (200, b"[" * 200_000, AirflowAnswer, "not JSON"),
        (200, b"\xff\xfe{", AirflowAnswer, "not JSON"),
    ],
)
def test_answers_become_errors(
    server: AirflowServer, status: int, body: bytes, error: type[AirflowError], word: str
) -> None:
    server.fault("POST .*clear", status=status, body=body)
    with pytest.raises(error, match=word) as caught:
        clear(open_transport(server))
    assert caught.value.hint
    # A change that was answered with something unreadable may have taken effect.
    assert caught.value.unclear == (status == 200)
    assert len(server.sent("POST")) == 1


def test_what_was_sent_is_not_repeated_in_messages(server: AirflowServer) -> None:
    secret = "sent-password"
    for detail in (
        [{"loc": ["body", "password"], "msg": "bad", "input": secret}],
        f"1 validation error\npassword\n  bad [type=x, input_value={secret!r}]",
        f"no {secret} here",
    ):
        body = json.dumps({"detail": detail}).encode()
        server.fault("auth/token", status=422, body=body)
        with pytest.raises(AirflowAuth) as caught:
            read(open_transport(server, login=Login("oncall", secret)))
        assert secret not in caught.value.message


def test_foreign_text_is_one_short_printable_line(server: AirflowServer) -> None:
    body = json.dumps({"detail": "\x1b[2Jgone\n" + "x" * 5000}).encode()
    server.fault("GET .*details", status=400, body=body)
    with pytest.raises(AirflowAnswer, match=r"\[2Jgone xxx") as caught:
        read(open_transport(server))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_a_login_in_the_address_is_masked() -> None:
    client = Transport("http://me:pass-word@127.0.0.1:1", Login(), clock=Clock())
    with pytest.raises(AirflowAuth) as caught:
        read(client)
    assert "pass-word" not in caught.value.message


@pytest.mark.parametrize("pattern", ["GET", "auth/token"])
@pytest.mark.parametrize("status", [302, 307, 308])
def test_redirects_are_not_followed(server: AirflowServer, pattern: str, status: int) -> None:
    with AirflowServer() as other:
        headers = {"Location": f"{other.url}/login"}
        server.fault(pattern, status=status, headers=headers)
        with pytest.raises(AirflowAuth, match=f"sends on to {other.url}/login") as caught:
            read(open_transport(server))
        assert "airflow.token_command" in caught.value.hint
        assert other.requests == []


def test_a_huge_answer_is_cut_off(server: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_JSON_BYTES", 100_000)
    server.fault("GET .*details", status=200, body=b'["' + b"x" * 10_000_000)
    with pytest.raises(AirflowAnswer, match="more than"):
        read(open_transport(server))


def test_ids_are_encoded_in_the_path(server: AirflowServer) -> None:
    client = open_transport(server)
    ids = {"dag_id": "größe {run_id}", "run_id": "manual__2026-01-01T00:00:00+00:00/../x?y#z"}
    with pytest.raises(AirflowNotFound):
        client.get("/api/v2/dags/{dag_id}/dagRuns/{run_id}", "show it", ids)
    assert server.requests[-1].path == (
        "/api/v2/dags/gr%C3%B6%C3%9Fe%20%7Brun_id%7D/dagRuns/"
        "manual__2026-01-01T00%3A00%3A00%2B00%3A00%2F..%2Fx%3Fy%23z"
    )


# ---- streams ----

LOG = "/api/v2/dags/{d}/dagRuns/{r}/taskInstances/{t}/logs/1"
LOG_IDS = {"d": "orders", "r": RUN, "t": "load"}


def stream(client: Transport, consume: Any) -> Any:
    return client.stream(LOG, "send the log", LOG_IDS, [], consume)


def big_log(server: AirflowServer, size: int) -> None:
    row = server.instances["orders", RUN, "load", -1]
    server.set_log(row, 1, lambda: (b"x" * 65536 for _ in range(size // 65536)))


def test_a_stream_is_unpacked_in_small_pieces(server: AirflowServer) -> None:
    size = 32 * 1024 * 1024
    big_log(server, size)
    largest, total = 0, 0

    def consume(pieces: Iterable[bytes]) -> str:
        nonlocal largest, total
        for piece in pieces:
            largest, total = max(largest, len(piece)), total + len(piece)
        return "done"

    assert stream(open_transport(server), consume) == "done"
    assert server.requests[-1].headers["accept"] == "application/x-ndjson"
    assert server.requests[-1].headers["accept-encoding"] == "gzip"
    assert total == size
    assert largest <= 1040 * transport.PIECE_BYTES


def test_a_stream_that_breaks_off_starts_anew(server: AirflowServer) -> None:
    big_log(server, 1024 * 1024)
    server.fault("GET .*logs", drop_after=300, times=2)
    assert stream(open_transport(server), lambda pieces: len(b"".join(pieces))) == 1024 * 1024
    assert len(server.sent("GET")) == 3


def test_an_interrupted_consumer_ends_the_connection(server: AirflowServer) -> None:
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while not server.closing.is_set():
                yield b"x" * 65536
        finally:
            ended.set()

    def interrupted(pieces: Iterable[bytes]) -> None:
        next(iter(pieces))
        raise KeyboardInterrupt

    server.set_log(server.instances["orders", RUN, "load", -1], 1, endless)
    client = open_transport(server)
    with pytest.raises(KeyboardInterrupt) as caught:
        stream(client, interrupted)
    assert ended.wait(20)  # while `caught` still holds the frames, and the response in them
    assert caught.tb
    assert read(client)["dag_id"] == "orders"


def test_a_consumer_may_stop_early(server: AirflowServer) -> None:
    big_log(server, 4 * 1024 * 1024)
    client = open_transport(server)
    assert stream(client, lambda pieces: len(next(iter(pieces)))) > 0
    assert read(client)["dag_id"] == "orders"


# ---- the client package ----


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_quick_import_loads_no_models_and_leaves_the_package_whole() -> None:
    code = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(args[0]) if event == "import" else None)
from aiops_cli.airflow import client
configuration, api_client, error = client.load_client()
assert api_client(configuration(host="http://127.0.0.1:1")).user_agent
assert "airflow_client.client.exceptions" in seen  # the hook does see imports
dear = ("airflow_client.client.api.", "airflow_client.client.models.")
assert not [name for name in seen if name.startswith(dear)], seen
assert not [name for name in sys.modules if name.startswith("airflow_client.")]
import airflow_client.client
from airflow_client.client.api import TaskInstanceApi
from airflow_client.client.models import TaskInstanceResponse
assert airflow_client.client.ApiClient is airflow_client.client.api_client.ApiClient
assert TaskInstanceApi(airflow_client.client.ApiClient()).get_task_instances
assert airflow_client.client.models.TaskInstanceResponse is TaskInstanceResponse
print("whole")
"""
    assert run_python(code) == "whole"


def test_the_plain_import_serves_where_the_quick_one_fails() -> None:
    code = """
import sys
from aiops_cli.airflow import client
client.find_spec = lambda name: None
configuration, api_client, error = client.load_client()
import airflow_client.client
assert api_client is airflow_client.client.ApiClient
assert client.load_client()[1] is api_client  # and where somebody imported it before
print("plain")
"""
    assert run_python(code) == "plain"


def test_a_broken_layout_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules)

    def broken(name: str) -> Any:
        raise RuntimeError(f"no {name} here any more")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(RuntimeError, match="here any more"):
        client_package.load_under_stubs()
    assert {name for name in set(sys.modules) - before if "airflow_client." in name} == set()


def test_error_bodies_of_any_shape_give_text() -> None:
    for body in (b"null", b"3", b'"x"', b'{"detail":null}', b'{"detail":[1,{"msg":2}]}', b"{}"):
        assert parse.error_detail(body)

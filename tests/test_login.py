"""Tokens: every way to one, its end known beforehand, and the token command."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import services
from aiops_cli.airflow import token_command
from aiops_cli.airflow.login import Login, Token, Tokens, ending, expiry, span
from aiops_cli.airflow.token_command import read_token, run_token_command
from aiops_cli.airflow.transport import Transport
from aiops_cli.config import AirflowSettings
from aiops_cli.errors import AirflowAuth, ConfigError
from tests.airflow_server import AirflowServer
from tests.desk import SetClock
from tests.network import CA, CLIENT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def jwt(expires: Any, **claims: Any) -> str:
    """A token as Airflow makes them; its signature is of no account here."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    exp = int(expires.timestamp()) if isinstance(expires, datetime) else expires
    return f"{part({'alg': 'HS512'})}.{part({'sub': 'ana', 'exp': exp, **claims})}.c2ln"


@pytest.fixture
def server() -> Iterator[AirflowServer]:
    with AirflowServer() as server:
        server.add_failure("orders", "load")
        yield server


def read(client: Transport) -> Any:
    return client.get("/api/v2/dags/{dag_id}/details", "show DAG orders", {"dag_id": "orders"})


# ---- a token's end ----


@given(st.integers(0, 7 * 10**9), st.text(max_size=9))
def test_the_end_of_a_token_is_read_without_its_key(seconds: int, subject: str) -> None:
    found = expiry(jwt(seconds, sub=subject))
    assert found == datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


@given(
    st.text(max_size=60) | st.builds(jwt, st.none() | st.text() | st.floats() | st.lists(st.none()))
)
def test_any_other_token_has_no_known_end(token: str) -> None:
    found = expiry(token)
    assert found is None or found.tzinfo


@pytest.mark.parametrize(
    "token", ["", "a.b.c", "..", "a.e30.c", jwt("soon"), jwt(10**20), jwt(float("nan")), "ä.ö.ü"]
)
def test_tokens_without_an_end(token: str) -> None:
    assert expiry(token) is None


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (15, None),
        (14.9, "expires in 14 min"),
        (0.5, "expires in less than a minute"),
        (0, "expired less than a minute ago"),
        (-5, "expired 5 min ago"),
        (-180, "expired 3 h ago"),
        (-60 * 24 * 5, "expired 5 days ago"),
    ],
)
def test_what_is_told_of_a_tokens_end(minutes: float, text: str | None) -> None:
    assert ending(NOW + timedelta(minutes=minutes), NOW) == text
    assert ending(None, NOW) is None


def test_spans() -> None:
    assert [span(timedelta(minutes=m)) for m in (40, 119, 120, 2879, 2880)] == [
        *("40 min", "119 min", "2 h", "47 h", "2 days")
    ]


# ---- the token in use ----


def tokens(login: Login, clock: SetClock, **answers: Any) -> tuple[Tokens, list[Any], list[str]]:
    asked: list[Any] = []
    warned: list[str] = []

    def exchange(body: Any) -> Any:
        asked.append(body)
        return {"access_token": jwt(clock.now() + timedelta(hours=1), number=len(asked)), **answers}

    return Tokens(login, "Airflow at x", exchange, clock.now, warned.append), asked, warned


def test_a_token_is_renewed_a_minute_before_its_end() -> None:
    clock = SetClock(NOW)
    held, asked, _ = tokens(Login("me", "secret"), clock)
    first = held.current()
    clock.advance(minutes=58, seconds=59)
    assert held.current() == first
    clock.advance(seconds=1)
    assert held.current() != first
    assert len(asked) == 2
    assert held.expires == NOW + timedelta(hours=1, minutes=59)


@pytest.mark.parametrize(("life", "step", "fetched"), [(10, 2.5, 2), (0, 1, 1), (-3600, 1, 1)])
def test_a_short_life_or_a_wrong_clock_does_not_run_the_command_for_each_request(
    life: float, step: float, fetched: int
) -> None:
    clock, made = SetClock(NOW), []

    def fetch() -> Token:
        made.append(Token("t", clock.now() + timedelta(seconds=life)))
        return made[-1]

    held, _, _ = tokens(Login(fetch_token=fetch), clock)
    for _ in range(4):
        held.current()
        clock.advance(seconds=step)
    assert len(made) == fetched


@pytest.mark.parametrize(
    ("login", "todo"),
    [
        (Login(fetch_token=lambda: Token("of-another-airflow")), "run airflow.token_command by"),
        (Login("oncall", "oncall-password"), "clocks"),
    ],
)
def test_a_new_token_that_is_refused_too_is_not_asked_for_again(
    server: AirflowServer, login: Login, todo: str
) -> None:
    body = b'{"detail":"Invalid JWT token"}'
    server.fault("details", status=403, body=body, times=9)
    with pytest.raises(AirflowAuth, match="refused the login: Invalid JWT token") as caught:
        read(Transport(server.url, login, clock=SetClock()))
    assert todo in caught.value.hint
    assert len(server.sent("GET")) == 2


def test_client_credentials_are_exchanged_for_a_token(server: AirflowServer) -> None:
    server.client = ("robot", "robot-secret")
    login = Login(client_id="robot", client_secret="robot-secret")
    client = Transport(server.url, login, clock=SetClock())
    assert read(client)["dag_id"] == "orders"
    assert server.requests[0].body == {
        "client_id": "robot",
        "client_secret": "robot-secret",
        "grant_type": "client_credentials",
    }
    wrong = Login(client_id="robot", client_secret="wrong-secret")
    with pytest.raises(AirflowAuth, match="refused the login of client robot") as caught:
        read(Transport(server.url, wrong, clock=SetClock()))
    assert "wrong-secret" not in caught.value.message + caught.value.hint


def test_an_auth_manager_without_client_credentials_is_told(server: AirflowServer) -> None:
    login = Login(client_id="robot", client_secret="robot-secret")
    with pytest.raises(AirflowAuth, match=r"client robot.*Field required"):
        read(Transport(server.url, login, clock=SetClock()))


@pytest.mark.parametrize("answer", [{"access_token": ""}, {"access_token": 3}])
def test_an_exchange_without_a_token_is_told(answer: Any) -> None:
    held, _, _ = tokens(Login("me", "secret"), SetClock(NOW), **answer)
    with pytest.raises(Exception, match="without an access_token"):
        held.current()


def test_the_end_of_a_fixed_token_is_warned_of_once() -> None:
    clock = SetClock(NOW)
    held, _, warned = tokens(Login(token=jwt(NOW + timedelta(minutes=20))), clock)
    held.current()
    assert warned == []
    clock.advance(minutes=6)
    held.current()
    clock.advance(minutes=30)
    held.current()
    assert warned == ["the token for Airflow at x expires in 14 min"]


def test_a_fixed_token_that_is_over_says_so_when_it_is_refused(server: AirflowServer) -> None:
    token = jwt(NOW - timedelta(hours=3))
    server.tokens[token] = "oncall"
    server.expired.add(token)
    client = Transport(server.url, Login(token=token), clock=SetClock(NOW))
    with pytest.raises(AirflowAuth, match="refused the token: expired 3 h ago") as caught:
        read(client)
    assert token not in caught.value.message
    assert "airflow.token_command" in caught.value.hint
    assert client.token_expires == NOW - timedelta(hours=3)


def test_a_pasted_bearer_is_taken_as_its_token(server: AirflowServer) -> None:
    server.tokens["static-token"] = "oncall"
    assert read(Transport(server.url, Login(token="Bearer static-token"), clock=SetClock()))


def test_threads_wait_for_one_run_of_the_command(server: AirflowServer) -> None:
    server.tokens["t"] = "oncall"
    ran, gate = [], threading.Event()

    def slow() -> Token:
        ran.append(1)
        gate.wait(20)
        return Token("t")

    client = Transport(server.url, Login(fetch_token=slow), clock=SetClock())
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(read, client) for _ in range(8)]
        gate.set()
        assert all(answer.result(60)["dag_id"] == "orders" for answer in answers)
    assert len(ran) == 1


# ---- what a command prints ----


@pytest.mark.parametrize(
    ("printed", "token"),
    [
        ("abc\n", Token("abc")),
        ("  abc  \r\n", Token("abc")),
        (jwt(NOW), Token(jwt(NOW), NOW)),
        ('{"token": "abc"}', Token("abc")),
        ('{"access_token": "abc", "expires_in": 60}', Token("abc", NOW + timedelta(seconds=60))),
        ('{"token": "a", "expires_at": "2026-01-02T04:00:00Z"}',
         Token("a", datetime(2026, 1, 2, 4, tzinfo=timezone.utc))),
        ('{"token": "a", "expires_at": "2026-01-02T04:00:00.123456789Z"}',
         Token("a", datetime(2026, 1, 2, 4, 0, 0, 123456, tzinfo=timezone.utc))),
        ('{"token": "a", "expires_at": "2026-01-02 04:00:00"}',
         Token("a", datetime(2026, 1, 2, 4, tzinfo=timezone.utc))),
        (f'{{"token": "a", "expires_at": {NOW.timestamp()}}}', Token("a", NOW)),
        ('{"token": "a", "headers": {"X-Team": "data"}}', Token("a", None, {"X-Team": "data"})),
        ('{"headers": {"Cookie": "s=1"}}', Token("", None, {"Cookie": "s=1"})),
    ],
)  # fmt: skip
def test_a_token_is_printed_alone_or_as_json(printed: str, token: Token) -> None:
    assert read_token(printed, NOW) == token


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("", "nothing"),
        (" \n", "nothing"),
        ('{"token": "hunter2"', "like JSON and is none"),
        ('{"tokn": "hunter2"}', "without a token"),
        ('{"token": ["hunter2"]}', "without a token"),
        ('{"token": "hunter2", "headers": ["hunter2"]}', "without a token"),
        ('{"token": "a", "headers": {"X A": "hunter2"}}', "headers that are none"),
        ('{"token": "a", "headers": {"X": "hunter2\\n"}}', "headers that are none"),
        ('{"token": "a", "headers": {"X": 2}}', "headers that are none"),
        ('{"token": "hunter2", "expires_in": "soon"}', "no time"),
        ('{"token": "hunter2", "expires_in": 1e300}', "no time"),
        ('{"token": "hunter2", "expires_at": [1]}', "no time"),
        ('{"token": "hunter2", "expires_at": "1e999"}', "no time"),
    ],
)
def test_what_is_no_token_is_told_without_showing_it(printed: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read_token(printed, NOW)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40) | st.builds(json.dumps, st.dictionaries(
    st.sampled_from(["token", "headers", "expires_in", "expires_at"]),
    st.none() | st.text(max_size=5) | st.floats() | st.dictionaries(st.text(max_size=3), st.text()),
)))  # fmt: skip
def test_whatever_is_printed_is_a_token_or_refused(printed: str) -> None:
    try:
        token = read_token(printed, NOW)
    except ValueError:
        return
    assert token.value or token.headers
    assert token.expires is None or token.expires.tzinfo


# ---- the command itself ----


def python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def run(command: str) -> Token:
    return run_token_command(command, lambda: NOW)


def test_a_command_is_run_without_a_shell_and_without_input(tmp_path: Path) -> None:
    assert run(python("import sys; print('a' + sys.stdin.read() + 'b')")).value == "ab"
    spilled = tmp_path / "spilled"
    assert run(f"echo token > {spilled}").value == f"token > {spilled}"
    assert not spilled.exists()


def test_a_command_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "token"
    script.write_text("#!/bin/sh\necho abc\n")
    script.chmod(0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("~/token").value == "abc"


FAILING: list[tuple[str, str]] = [
    (python("import sys; print('hunter2'); sys.exit('please log in first')"), "please log in"),
    (python("import sys; print('hunter2'); sys.exit(7)"), "ended with 7$"),
    (
        python("import sys; sys.exit('password=hunter2hunter2 \\x1b[31mwrong')"),
        "ended with 1: pass",
    ),
    (python("print()"), "printed nothing"),
    (python("import os; os.write(1, b'hunter2\\xff')"), "no text"),
    (python("print('hunter2 hunter2')"), "characters that no token has"),
    ("/no/such/command hunter2", "No such file"),
    ("'hunter2", "No closing quotation"),
    ("/", "ermission denied"),
]


@pytest.mark.parametrize(("command", "problem"), FAILING)
def test_a_failing_command_is_told_without_what_it_printed(command: str, problem: str) -> None:
    held, _, _ = tokens(Login(fetch_token=lambda: run(command)), SetClock(NOW))
    with pytest.raises(AirflowAuth, match=problem) as caught:
        held.current()
    told = caught.value.message + caught.value.hint
    assert "hunter2" not in told
    assert "\x1b" not in told
    assert "airflow.token_command" in told


@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_a_command_that_hangs_is_ended_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_command, "COMMAND_SECONDS", 0.3)
    # The child of the shell holds the pipe open; it must not be waited for.
    with pytest.raises(AirflowAuth, match="did not end within 0 s") as caught:
        run("sh -c 'sleep 3 & wait'")
    assert "log in" in caught.value.hint


def test_a_command_is_run_once_per_refused_request(server: AirflowServer, tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = python(
        f"import json; p = {str(count)!r}; n = open(p, 'a').write('x'); n = len(open(p).read());"
        "print(json.dumps({'token': f't{n}', 'headers': {'X-Run': str(n)}}))"
    )
    server.tokens |= {"t1": "oncall", "t2": "oncall"}
    login = Login(fetch_token=lambda: run(command))
    client = Transport(server.url, login, clock=SetClock())
    read(client)
    read(client)
    server.expired.add("t1")
    read(client)
    assert server.requests[-1].headers["x-run"] == "2"
    del server.tokens["t2"]  # and the third is not known
    with pytest.raises(AirflowAuth, match="Invalid JWT token"):
        read(client)
    assert count.read_text() == "xxx"


# ---- from the settings ----


def test_settings_become_a_login(server: AirflowServer) -> None:
    server.tokens |= {"t": "oncall"}

    def reach(**fields: Any) -> Any:
        return services.reach(AirflowSettings("default", server.url, **fields)).dag("orders")

    assert reach(token="t")
    assert reach(token_command="echo t")
    assert reach(username=server.username, password=server.password)
    assert reach(headers={"Authorization": "Bearer t", "X-A": "1"}, cookie="c=2")
    assert server.requests[-1].headers["cookie"] == "c=2"
    server.client = ("robot", "robot-secret")
    assert reach(client_id="robot", client_secret="robot-secret")
    for nothing in ({}, {"username": "ana"}, {"client_id": "robot"}):
        with pytest.raises(AirflowAuth, match="no login"):
            reach(**nothing)


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_file_that_is_not_there_is_a_mistake_of_the_settings(
    tmp_path: Path, key: str
) -> None:
    files: dict[str, Any] = {"ca_file": CA, "cert_file": CLIENT, key: tmp_path / "none.pem"}
    with pytest.raises(ConfigError, match=f"airflow.{key}.*No such file"):
        services.reach(AirflowSettings("default", "https://a", **files))


def test_a_key_without_its_certificate_is_a_mistake_of_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"without airflow\.cert_file"):
        services.reach(AirflowSettings("default", "https://a", key_file=CA))

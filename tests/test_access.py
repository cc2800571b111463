"""Access as it is in companies: certificates, proxies, sign-in pages, headers and cookies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.airflow.answers import Unreached
from aiops_cli.airflow.client import Access, proxy_for
from aiops_cli.airflow.login import Login, Token
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowAuth,
    AirflowError,
    AirflowForbidden,
    AirflowUnreachable,
)
from tests.airflow_server import RUN, AirflowServer
from tests.desk import SetClock
from tests.network import CA, CLIENT, CLIENT_KEY, STRANGER, TLS, TlsServer, proxy

VERSION = "/api/v2/version"


@pytest.fixture(autouse=True)
def _no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[AirflowServer]:
    with AirflowServer() as server:
        server.add_failure("orders", "load")
        yield server


def transport(server: AirflowServer, url: str = "", **options: Any) -> Transport:
    login = options.pop("login", Login(server.username, server.password))
    access = Access(**options)
    return Transport(url or server.url, login, access=access, clock=SetClock())


def read(client: Transport) -> Any:
    return client.get("/api/v2/dags/{dag_id}/details", "show DAG orders", {"dag_id": "orders"})


def clear(client: Transport) -> Any:
    body = {"dry_run": False, "dag_run_id": RUN, "task_ids": ["load"]}
    path = "/api/v2/dags/{dag_id}/clearTaskInstances"
    return client.change("POST", path, "clear load", {"dag_id": "orders"}, body)


# ---- certificates ----


def test_a_companys_own_ca_is_trusted_where_it_is_named() -> None:
    with TlsServer() as server:
        assert transport(server, ca_file=CA).get(VERSION, "tell its version")
        for options in (dict[str, Any](), {"ca_file": STRANGER}):
            with pytest.raises(AirflowUnreachable, match="certificate is not trusted") as caught:
                transport(server, **options).get(VERSION, "tell its version")
            assert "airflow.ca_file" in caught.value.hint
        assert {request.path for request in server.requests} == {VERSION}


def test_a_certificate_for_another_name_is_told() -> None:
    with TlsServer() as server:
        url = server.url.replace("localhost", "127.0.0.1")
        with pytest.raises(AirflowUnreachable, match="for another name"):
            transport(server, url, ca_file=CA).get(VERSION, "tell its version")


def test_without_verification_everybody_is_believed() -> None:
    with TlsServer() as server:
        assert transport(server, verify_tls=False).get(VERSION, "tell its version")


def test_a_client_certificate_is_shown_to_who_asks() -> None:
    with TlsServer(wants_client=True) as server:
        server.add_failure("orders", "load")
        mine: dict[str, Any] = {"ca_file": CA, "cert_file": CLIENT, "key_file": CLIENT_KEY}
        assert read(transport(server, **mine))["dag_id"] == "orders"
        # Where the server ends the connection first, that is all there is to tell.
        lacking = "client certificate|broke off"
        with pytest.raises(AirflowUnreachable, match=lacking) as caught:
            transport(server, ca_file=CA).get(VERSION, "tell its version")
        assert "airflow.cert_file" in caught.value.hint


@pytest.mark.parametrize("part", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, part: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    given: dict[str, Any] = {
        "ca_file": CA,
        "cert_file": CLIENT,
        "key_file": CLIENT_KEY,
        part: broken,
    }
    with TlsServer() as server:
        with pytest.raises(AirflowUnreachable, match="no secure connection") as caught:
            transport(server, **given).get(VERSION, "tell its version")
        assert caught.value.hint
        assert server.requests == []


@pytest.mark.parametrize(
    ("key", "told", "todo"),
    [
        ("encrypted.key", "the key of the client certificate is encrypted", "openssl pkey"),
        ("server.key", "the key is not that of the client certificate", "airflow.cert_file"),
        ("ca.pem", "a certificate file holds nothing that can be read", "airflow.cert_file"),
    ],
)
def test_a_key_that_does_not_fit_is_told_at_once(key: str, told: str, todo: str) -> None:
    """Nobody is asked for a passphrase, and nothing is tried again."""
    with TlsServer(wants_client=True) as server:
        client = transport(server, ca_file=CA, cert_file=CLIENT, key_file=TLS / key)
        with pytest.raises(AirflowUnreachable, match=told) as caught:
            client.get(VERSION, "tell its version")
        assert not isinstance(caught.value, Unreached)
        assert todo in caught.value.hint
        assert server.requests == []


# ---- proxies ----

ELSEWHERE = "http://airflow.test"


def test_a_proxy_is_asked_in_plain(server: AirflowServer) -> None:
    with proxy(server.url) as way:
        assert read(transport(server, ELSEWHERE, proxy=way.url))["dag_id"] == "orders"
    assert way.asked == [f"POST {ELSEWHERE}/auth/token HTTP/1.1"]  # and the rest behind it
    assert server.requests[-1].headers["host"] == "airflow.test"


def test_a_proxy_only_passes_on_what_is_encrypted() -> None:
    with TlsServer() as server, proxy(server.url) as way:
        server.add_failure("orders", "load")
        client = transport(server, "https://airflow.test", proxy=way.url, ca_file=CA)
        assert read(client)["dag_id"] == "orders"
        assert {line.rpartition(" ")[0] for line in way.asked} == {"CONNECT airflow.test:443"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_with_a_login(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make: Any = TlsServer if scheme == "https" else AirflowServer
    with make() as server, proxy(server.url, "me:p@ss word") as way:
        url = f"{scheme}://airflow.test"
        named = way.url.replace("//", "//me:p%40ss%20word@")
        assert transport(server, url, proxy=named, ca_file=CA).get(VERSION, "tell its version")
        monkeypatch.setenv(f"{scheme}_proxy", named)
        assert transport(server, url, ca_file=CA).get(VERSION, "tell its version")
        wrong = way.url.replace("//", "//me:wrong-password@")
        with pytest.raises(AirflowError, match=r"407|proxy .* wants a login") as caught:
            transport(server, url, proxy=wrong, ca_file=CA).get(VERSION, "tell its version")
        assert "wrong-password" not in caught.value.message + caught.value.hint
        assert "proxy" in caught.value.message + caught.value.hint


def test_a_proxy_that_is_down_is_told_as_such_and_nothing_was_sent() -> None:
    client = Transport(
        "https://airflow.test",
        Login(token="t"),
        access=Access(proxy="http://127.0.0.1:9"),
        clock=SetClock(),
    )
    with pytest.raises(AirflowUnreachable, match="its proxy cannot be reached") as caught:
        clear(client)
    assert not caught.value.unclear
    assert "NO_PROXY" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("http://airflow.test", "", "http://plain:1"),
        ("https://airflow.test", "", "http://secure:2"),
        ("https://airflow.test", "airflow.test", None),
        ("https://airflow.test", ".test", None),
        ("https://airflow.test", "other.test, test", None),
        ("https://airflow.test", "*", None),
        ("https://airflow.test", "other", "http://secure:2"),
        ("https://10.1.2.3", "10.0.0.0/8", None),
        ("https://11.1.2.3", "10.0.0.0/8, 11.1.2.4", "http://secure:2"),
        ("https://localhost:8080", "", None),
        ("https://airflow.localhost", "", None),
        ("http://127.0.0.2:8080", "", None),
        ("http://[::1]:8080", "", None),
    ],
)
def test_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, expected: str | None
) -> None:
    monkeypatch.setenv("http_proxy", "http://plain:1")
    monkeypatch.setenv("HTTPS_PROXY", "secure:2")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(url, None) == expected
    loopback = "local" in url or "127." in url or "::1" in url
    assert proxy_for(url, "http://mine:3") == (None if loopback else "http://mine:3")


def test_without_any_proxy_none_is_asked() -> None:
    assert proxy_for("https://airflow.test", None) is None


# ---- sign-in pages ----

PAGE = b"<!DOCTYPE html><html><title>Sign in to Corp</title>"


@pytest.mark.parametrize("pattern", [VERSION, "auth/token", "details"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 302, "headers": {"Location": "https://sso.corp.test/authorize?state=abcdef"}},
        {"status": 303, "headers": {"Location": "/oauth2/start?rd=%2F"}},
        {"status": 307, "headers": {"Location": "//login.corp.test/x"}},
        {"status": 200, "body": PAGE, "headers": {"Content-Type": "text/html"}},
        {"status": 401, "body": PAGE},
        {"status": 403, "body": b"\n " + PAGE},
    ],
    ids=lambda fault: f"{fault['status']}",
)
def test_a_sign_in_page_is_told_with_where_it_is_and_what_to_do(
    server: AirflowServer, pattern: str, fault: dict[str, Any]
) -> None:
    server.fault(pattern, times=9, **fault)
    client = transport(server)
    ask = read if pattern != VERSION else lambda client: client.get(VERSION, "tell its version")
    with pytest.raises(AirflowAuth) as caught:
        ask(client)
    assert caught.value.exit_code == 3
    location = fault.get("headers", {}).get("Location", "")
    if location:
        assert location.split("?")[0] in caught.value.message
        assert "abcdef" not in caught.value.message  # the sign-in's own state
    else:
        assert "Sign in to Corp" in caught.value.message
    for word in ("airflow.token_command", "docs/access.md"):
        assert word in caught.value.hint
    assert len([r for r in server.requests if pattern in r.path]) == 1  # asked once


def test_a_sign_in_page_is_no_log(server: AirflowServer) -> None:
    """A log is kept and looked up as it comes: a page in its place must not be."""
    server.fault("/logs/1", status=200, body=b"\n \n" + PAGE, times=9)
    came: list[bytes] = []
    path = "/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
    ids = {"dag_id": "orders", "run_id": RUN, "task_id": "load"}
    with pytest.raises(AirflowAuth, match=r"could not send the log: .*Sign in to Corp"):
        transport(server).stream(path, "send the log", ids, (), came.extend)
    assert PAGE not in b"".join(came)


@pytest.mark.parametrize("location", ["/airflow/api/v2/version", "https://127.0.0.1/api", ""])
def test_an_address_that_has_moved_is_no_sign_in_page(server: AirflowServer, location: str) -> None:
    server.fault(VERSION, status=301, headers={"Location": location} if location else {})
    with pytest.raises(AirflowAnswer, match="sends on to") as caught:
        transport(server).get(VERSION, "tell its version")
    assert "airflow.url" in caught.value.hint


def test_airflows_own_page_says_that_the_address_is_too_long(server: AirflowServer) -> None:
    server.fault(VERSION, status=200, body=b"<html><title>Airflow</title></html>")
    with pytest.raises(AirflowAnswer, match="a web page") as caught:
        transport(server).get(VERSION, "tell its version")
    assert "/home or /dags" in caught.value.hint


def test_a_gateway_that_knows_the_token_is_given_it(server: AirflowServer) -> None:
    server.tokens["static-token"] = "oncall"
    server.fault(VERSION, status=401, body=b"Invalid IAP credentials: empty token")
    client = transport(server, login=Login(token="static-token"))
    assert client.get(VERSION, "tell its version")
    first, second = server.requests
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Bearer static-token"


def test_a_gateway_that_asks_for_more_than_airflows_password_is_told(server: AirflowServer) -> None:
    server.fault(VERSION, status=401, body=b"Invalid IAP credentials: empty token", times=9)
    with pytest.raises(AirflowAuth, match=r"wants a login of its own.*not JSON"):
        transport(server).get(VERSION, "tell its version")
    assert len(server.requests) == 1


def test_an_ended_session_before_airflow_runs_the_token_command_again_for_reads_only(
    server: AirflowServer,
) -> None:
    server.tokens |= dict.fromkeys(["token-0", "token-1", "token-2", "token-3"], "oncall")
    made = iter([Token(f"token-{number}") for number in range(9)])
    client = transport(server, login=Login(fetch_token=lambda: next(made)))
    away = {"status": 302, "headers": {"Location": "https://accounts.test/login"}}
    server.fault("details", **away)
    assert read(client)["dag_id"] == "orders"
    assert server.requests[-1].headers["authorization"] == "Bearer token-1"
    server.fault("clear", **away)
    with pytest.raises(AirflowAuth, match=r"accounts\.test/login"):
        clear(client)
    assert len(server.sent("POST")) == 1


# ---- headers and cookies ----


def test_headers_and_cookie_go_with_every_request(server: AirflowServer) -> None:
    headers = {"X-Api-Key": "key-of-the-gateway", "Cookie": "session=abc", "accept": "text/html"}
    client = transport(server, login=Login(server.username, server.password, headers=headers))
    client.get(VERSION, "tell its version")
    read(client)
    assert [request.path for request in server.requests][1] == "/auth/token"
    for request in server.requests:
        assert request.headers["x-api-key"] == "key-of-the-gateway"
        assert request.headers["cookie"] == "session=abc"
        assert request.headers["accept"] == "application/json"  # ours: the answer must be read


def test_headers_of_a_token_command_replace_the_fixed_ones(server: AirflowServer) -> None:
    server.tokens["t1"] = "oncall"
    token = Token("t1", headers={"x-team": "new", "Authorization": "Basic bm8="})
    login = Login(fetch_token=lambda: token, headers={"X-Team": "old", "X-Kept": "yes"})
    read(transport(server, login=login))
    sent = server.requests[-1].headers
    assert (sent["x-team"], sent["x-kept"]) == ("new", "yes")
    assert sent["authorization"] == "Bearer t1"


def test_headers_alone_may_be_the_login(server: AirflowServer) -> None:
    server.tokens["from-a-header"] = "oncall"
    login = Login(headers={"Authorization": "Bearer from-a-header"}, tokenless=True)
    client = transport(server, login=login)
    assert read(client)["dag_id"] == "orders"
    server.expired.add("from-a-header")
    with pytest.raises(AirflowAuth, match="does not take the headers") as caught:
        read(client)
    assert "airflow.headers" in caught.value.hint
    assert all(request.path != "/auth/token" for request in server.requests)


def test_what_is_secret_in_headers_is_not_repeated_in_messages(server: AirflowServer) -> None:
    login = Login(
        server.username,
        server.password,
        headers={"X-Api-Key": "key-of-the-gateway", "Cookie": "session=cookie-secret; b=1"},
    )
    server.fault("details", status=400, body=b'{"detail":"no cookie-secret, key-of-the-gateway"}')
    with pytest.raises(AirflowAnswer, match=r"no \*\*\*, \*\*\*"):
        read(transport(server, login=login))


def test_a_certificate_and_a_cookie_are_not_logged(
    server: AirflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = Login(server.username, server.password, headers={"Cookie": "session=cookie-secret"})
    read(transport(server, login=login))
    assert "cookie-secret" not in caplog.text
    assert server.password not in caplog.text


def test_a_missing_right_is_no_sign_in_page(server: AirflowServer) -> None:
    with pytest.raises(AirflowForbidden):
        clear(transport(server, login=Login(*server.viewer)))

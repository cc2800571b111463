"""Ollama is asked through the real package: what comes of it, and what is told when none does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from knowledge import ollama_client
from knowledge.errors import ModelUnavailable
from knowledge.ollama_client import Chat, Ollama, connect
from tests.ollama_server import CLOUD_MODEL, OllamaServer, Reply

SCHEMA = {"type": "object", "properties": {"cause": {"type": "string"}}}
OPTIONS = {"num_ctx": 4096, "num_predict": 200, "temperature": 0, "seed": 7}
ANSWER = {"cause": "the database was restarted while the task read from it"}


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        server.answer = lambda request: ANSWER
        yield server


@pytest.fixture
def client(server: OllamaServer) -> Iterator[Ollama]:
    with connect(server.url, read_seconds=30) as client:
        yield client


def ask(
    client: Ollama,
    model: str = "llama3.1",
    text: str = "What failed?",
    told: Callable[[int], None] | None = None,
    stream: bool = False,
) -> Chat:
    messages = [{"role": "user", "content": text}]
    return client.chat(model, messages, SCHEMA, OPTIONS, "15m", told, stream)


def why(call: Callable[[], object]) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        call()
    assert caught.value.message.endswith(caught.value.why)
    assert caught.value.hint
    return caught.value.why


both = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@both
def test_an_answer(server: OllamaServer, client: Ollama, stream: bool) -> None:
    answer = ask(client, stream=stream)
    assert answer == Chat(json.dumps(ANSWER), "", 3, "stop")
    (request,) = server.requests
    assert request.prompt == "What failed?"
    assert request.body["model"] == "llama3.1"
    assert request.body["format"] == SCHEMA
    assert request.options == OPTIONS
    assert request.body["keep_alive"] == "15m"
    assert request.body["stream"] is stream


@both
def test_thinking_is_kept_apart(server: OllamaServer, client: Ollama, stream: bool) -> None:
    server.answer = lambda request: Reply("{}", thinking="So the database was away. Hm.")
    answer = ask(client, stream=stream)
    assert (answer.text, answer.thinking) == ("{}", "So the database was away. Hm.")


@both
def test_a_cut_answer_and_a_cut_prompt_can_be_seen(
    server: OllamaServer, client: Ollama, stream: bool
) -> None:
    server.fault("/api/chat", "cut", times=1)
    assert ask(client, stream=stream).done_reason == "length"
    answer = ask(client, text="x" * 4 * 5000, stream=stream)
    assert answer.prompt_tokens == OPTIONS["num_ctx"] // 2 + 2


def test_without_messages_the_model_is_loaded(server: OllamaServer, client: Ollama) -> None:
    assert client.chat("llama3.1", [], None, {}, "15m") == Chat("", "", None, "load")
    assert server.loaded == {"llama3.1:latest"}
    assert server.requests[-1].body.get("format") is None


def test_a_stream_tells_how_much_has_come(server: OllamaServer, client: Ollama) -> None:
    server.answer = lambda request: Reply("x" * 45, thinking="y" * 30)
    told: list[int] = []
    ask(client, told=told.append, stream=True)
    assert told == [20, 30, 50, 70, 75]


def test_an_interrupt_while_it_answers_ends_the_answer(
    server: OllamaServer, client: Ollama
) -> None:
    server.fault("/api/chat", "stream_hang")

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        ask(client, told=interrupt, stream=True)
    assert server.gone.acquire(timeout=30)  # the server was told by closing the connection
    assert caught.tb  # which holds on to all that was not closed


@both
def test_half_of_a_character_in_a_log_is_sent_as_a_question_mark(
    server: OllamaServer, client: Ollama, stream: bool
) -> None:
    ask(client, text="file \udcff.csv", stream=stream)
    assert server.requests[-1].prompt == "file ?.csv"


def test_facts_about_a_model(server: OllamaServer, client: Ollama) -> None:
    shown = client.show("nomic-embed-text")
    assert (shown.context_length, shown.num_ctx, shown.embedding_length) == (2048, 8192, 64)
    assert (shown.capabilities, shown.remote_host) == (("embedding",), None)
    server.models["mine:latest"] = CLOUD_MODEL
    with pytest.raises(ModelUnavailable, match="mine runs in a cloud") as caught:
        client.show("mine")
    assert "ollama_allow" in caught.value.hint
    with connect(server.url, read_seconds=30, allowed=["mine"]) as allowed:
        assert allowed.show("mine").remote_host == "https://ollama.com:443"
        assert allowed.show("mine").num_ctx is None
    assert client.models() == ("llama3.1:latest", "nomic-embed-text:latest", "mine:latest")
    assert client.version() == "0.12.6"


def test_what_is_said_of_a_model_may_be_odd(client: Ollama, server: OllamaServer) -> None:
    server.fault("/api/show", "other_json")
    shown = client.show("llama3.1")
    assert (shown.context_length, shown.embedding_length, shown.capabilities) == (None, None, ())


def test_facts_of_other_types_are_none(client: Ollama, server: OllamaServer) -> None:
    server.fault("/api/show", "odd_facts")
    shown = client.show("llama3.1")
    assert (shown.context_length, shown.num_ctx, shown.capabilities) == (None, None, ())


def test_json_without_end_is_no_answer(client: Ollama, server: OllamaServer) -> None:
    for path in ("/api/show", "/api/chat", "/api/embed", "/api/tags"):
        server.fault(path, "nested")
    for call in (
        lambda: client.show("llama3.1"),
        lambda: ask(client, stream=False),
        lambda: ask(client, stream=True),
        lambda: client.embed("nomic-embed-text", ["a"]),
        client.models,
    ):
        assert "something else than Ollama's API" in why(call)


def test_a_model_is_pulled_with_progress(server: OllamaServer, client: Ollama) -> None:
    told: list[tuple[str, int, int]] = []
    client.pull("qwen3", lambda *step: told.append(step))
    assert told[0] == ("pulling manifest", 0, 0)
    assert [step[1:] for step in told if step[2]] == [(0, 1000), (400, 1000), (1000, 1000)]
    assert told[-1] == ("success", 0, 0)
    assert "qwen3:latest" in client.models()


@pytest.mark.parametrize(
    ("model", "mode", "reason"),
    [
        ("nope", "", "model nope is unknown to Ollama's library"),
        ("qwen3", "pull_fail", "says: max retries exceeded: unexpected EOF"),
        ("qwen3", "stream_cut", "broke the download off"),
        ("qwen3", "drop", "broke the connection off"),
        ("qwen3", "busy", "busy"),
    ],
)
def test_a_failed_pull(
    server: OllamaServer, client: Ollama, model: str, mode: str, reason: str
) -> None:
    if mode:
        server.fault("/api/pull", mode)
    assert why(lambda: client.pull(model, lambda *step: None)) == reason


def test_vectors_come_in_order(server: OllamaServer, client: Ollama) -> None:
    vectors = client.embed("nomic-embed-text", ["one", "two", "\udcff"])
    assert vectors[:2] == [server.vector("one", 64), server.vector("two", 64)]
    assert server.requests[-1].body["truncate"] is False
    server.fault("/api/embed", "fewer")
    reason = why(lambda: client.embed("nomic-embed-text", ["one", "two"]))
    assert reason == "gave 1 vectors for 2 texts"


FAULTS = [
    ("busy", "busy"),
    ("crash", "its runner crashed"),
    ("eof", "its runner crashed"),
    ("memory", "says: model requires more system memory (40.2 GiB) than is available (7.1 GiB)"),
    ("context", "the text is longer than the model's context window"),
    ("login", "wants a login (401)"),
    ("limit", "too many requests"),
    ("html", "answered with HTML: is a proxy in between?"),
    ("html_200", "answered with HTML: is a proxy in between?"),
    ("not_json", "answered with something else than Ollama's API"),
    ("list", "answered with something else than Ollama's API"),
    ("other_json", "answered with something else than Ollama's API"),
    ("string_error", "answered with something else than Ollama's API"),
    ("redirect", "sends us to another address"),
    ("drop", "broke the connection off"),
    ("stream_cut", "broke the connection off"),
    ("stream_error", "its runner crashed"),
    ("unfinished", "broke its answer off"),
]


@both
@pytest.mark.parametrize(("mode", "reason"), FAULTS, ids=[mode for mode, _ in FAULTS])
def test_every_failure_is_told_and_nothing_is_asked_twice(
    server: OllamaServer, client: Ollama, mode: str, reason: str, stream: bool
) -> None:
    server.fault("/api/chat", mode)
    assert why(lambda: ask(client, stream=stream)) == reason
    assert len(server.requests) == 1
    server.faults.clear()
    assert ask(client, stream=stream).text  # the next question is not spoilt


@both
def test_nobody_listens(stream: bool) -> None:
    with socket.socket() as taken:  # bound and never listening: nobody else can have the port
        taken.bind(("127.0.0.1", 0))
        with connect(f"127.0.0.1:{taken.getsockname()[1]}", read_seconds=30) as client:
            assert why(lambda: ask(client, stream=stream)) == "refused the connection"
            assert why(client.models) == "refused the connection"
            assert why(client.version) == "refused the connection"


@both
def test_a_timeout_is_told_and_never_tried_again(server: OllamaServer, stream: bool) -> None:
    server.loading = 3600  # as long as a model loads, nothing comes
    with connect(server.url, read_seconds=0.25) as client:
        assert why(lambda: ask(client, stream=stream)) == "timed out after 0.25 s"
        assert server.gone.acquire(timeout=30)
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["stream_hang", "trickle"])
def test_the_whole_answer_has_to_come_in_time(server: OllamaServer, mode: str) -> None:
    """A model that always sends a little never times out on its connection."""
    server.answer = lambda request: "x" * 20 * 6000  # a minute at least
    server.fault("/api/chat", mode)
    messages = [{"role": "user", "content": "What failed?"}]
    with connect(server.url, read_seconds=0.5) as client:
        reason = why(lambda: client.chat("llama3.1", messages, None, {}, None, stream=True))
    assert reason == "timed out after 0.5 s"
    assert server.gone.acquire(timeout=30)


def test_a_missing_model_is_named(client: Ollama) -> None:
    reason = "model mistral is not installed"
    assert why(lambda: ask(client, "mistral")) == reason
    assert why(lambda: ask(client, "mistral", stream=True)) == reason
    assert why(lambda: client.embed("mistral", ["a"])) == reason
    assert why(lambda: client.show("mistral")) == reason
    assert why(lambda: ask(client, "")) == "no model is named"


def test_a_model_that_does_not_talk(client: Ollama) -> None:
    assert "does not support chat" in why(lambda: ask(client, "nomic-embed-text"))


def test_another_server_than_an_ollama(server: OllamaServer) -> None:
    with connect(f"{server.url}/elsewhere", read_seconds=30) as client:
        assert why(lambda: ask(client)) == "knows no such question (404)"
        assert why(client.version) == "knows no such question (404)"


def test_a_path_before_the_api(server: OllamaServer) -> None:
    with OllamaServer(prefix="/ollama") as behind, connect(behind.url, read_seconds=30) as client:
        assert client.version() == "0.12.6"
        assert ask(client).text == "{}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectTimeout("timed out"), "gave no connection within 5 s"),
        (httpx.PoolTimeout("timed out"), "timed out after 30 s"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "cannot be reached"),
        (httpx.ConnectError("certificate verify failed"), "its certificate is not trusted"),
        (httpx.ProxyError("403 Forbidden"), "its proxy refused"),
        (httpx.DecodingError("bad gzip"), "broke the connection off"),
        (httpx.InvalidURL("bad port"), "broke the connection off"),
        (OSError("bad file"), "broke the connection off"),
    ],
)
def test_failures_of_the_network(
    monkeypatch: pytest.MonkeyPatch, client: Ollama, error: Exception, reason: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(httpx.Client, "request", fail)
    assert why(lambda: ask(client)) == reason
    assert why(client.version) == reason


def test_connecting_may_take_less_time_than_an_answer(
    monkeypatch: pytest.MonkeyPatch, client: Ollama
) -> None:
    seen: list[httpx.Timeout] = []

    def look(self: httpx.Client, *args: object, **options: object) -> None:
        seen.append(self.timeout)
        raise httpx.ConnectTimeout("timed out")

    monkeypatch.setattr(httpx.Client, "request", look)
    why(client.models)
    why(client.version)
    assert [(timeout.connect, timeout.read) for timeout in seen] == [(5.0, 30)] * 2


def test_a_servers_words_are_one_short_line() -> None:
    reason, _ = ollama_client._said(500, "bad\n\x1b[31m thing" + "!" * 5000, "llama3.1")
    assert reason.startswith("says: bad [31m thing!!!")
    assert len(reason) < 250
    assert reason.isprintable()


def test_an_error_may_be_an_object(server: OllamaServer) -> None:
    """As of newer servers' runners."""
    told = {"code": 400, "type": "exceed_context_size_error", "n_ctx": 4096}
    reason, _ = ollama_client._said(-1, told, "llama3.1")
    assert reason == "the text is longer than the model's context window"


def test_no_proxy_is_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: OllamaServer
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with connect(server.url, read_seconds=30) as client:
        assert ask(client).text
        assert client.version()


def test_a_proxy_is_asked_for_another_machine(
    monkeypatch: pytest.MonkeyPatch, server: OllamaServer
) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    with connect("box.invalid", read_seconds=30) as client:
        why(client.version)
    assert server.requests[-1].path == "http://box.invalid:11434/api/version"


def test_the_key_goes_to_the_configured_host_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, server: OllamaServer
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-secret")
    with OllamaServer() as other, connect(server.url, read_seconds=30) as client:
        server.redirect = other.url
        server.fault("/api/chat", "redirect")
        server.fault("/api/version", "redirect")
        assert why(lambda: ask(client)) == "sends us to another address"
        assert why(client.version) == "sends us to another address"
        assert [r.headers["authorization"] for r in server.requests] == ["Bearer sk-secret"] * 2
        assert other.requests == []


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, server: OllamaServer, key: str
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "OLLAMA_API_KEY": key})
    with connect(server.url, read_seconds=30) as client, pytest.raises(ModelUnavailable) as caught:
        ask(client)
    assert key not in caught.value.message + caught.value.hint


def test_a_host_that_is_no_address_cannot_be_connected_to() -> None:
    assert why(lambda: connect("a b", read_seconds=1)) == "OLLAMA_HOST is no address"


def test_the_package_is_loaded_when_it_is_needed_and_may_fail_to() -> None:
    """It takes 319 ms; and on import it makes a client of its own, of whatever is set."""
    code = """
import sys
from knowledge.errors import ModelUnavailable
from knowledge.ollama_client import connect
from knowledge.ollama_embedder import OllamaEmbedder
client = connect("", read_seconds=1)
OllamaEmbedder(client, "nomic-embed-text")
assert not {"ollama", "httpx", "pydantic"} & set(sys.modules)
try:
    client.version()
except ModelUnavailable as error:
    print(error.why)
client.close()
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ".", "ALL_PROXY": "socks4://127.0.0.1:9"},
    ).stdout
    assert output.startswith("cannot be asked: ")
    assert "socks4" in output

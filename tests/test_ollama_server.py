"""The local Ollama, asked by the real package: it answers as one, and goes wrong as told."""

from __future__ import annotations

import json
import math
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import httpx
import ollama
import pytest

from tests.ollama_server import CLOUD_MODEL, MODES, OllamaServer, Reply
from tests.ollama_world import SAID, SENT, VECTORS, WHOLE

ANSWER = {"cause": "the database was restarted", "confidence": 0.7}
# Reading the CAs takes 27 ms a client.
LOCAL: dict[str, Any] = {
    "trust_env": False,
    "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
}
ASKED = [{"role": "user", "content": "What failed?"}]


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        server.answer = lambda request: ANSWER
        yield server


@pytest.fixture
def client(server: OllamaServer) -> Iterator[ollama.Client]:
    with ollama.Client(server.url, timeout=30, **LOCAL) as client:
        yield client


def raw(server: OllamaServer, path: str, body: object = None, method: str = "GET") -> Any:
    """The answer as it stands on the wire."""
    data = None if body is None else json.dumps(body).encode()
    request = HttpRequest(server.url + path, data, {"Content-Type": "application/json"})
    request.method = "POST" if data else method
    with urlopen(request, timeout=30) as answer:
        return answer.headers, answer.read()


def chat(client: ollama.Client, stream: bool) -> list[ollama.ChatResponse]:
    """The parts of the answer; one if it is not streamed."""
    if stream:
        return list(client.chat("llama3.1", ASKED, stream=True))
    return [client.chat("llama3.1", ASKED)]


def test_a_chat_has_the_fields_of_the_api(server: OllamaServer, client: ollama.Client) -> None:
    answer = client.chat("llama3.1", ASKED, options={"num_ctx": 4096})
    assert json.loads(answer.message.content or "") == ANSWER
    assert (answer.done, answer.done_reason, answer.prompt_eval_count) == (True, "stop", 3)
    assert answer.eval_count == math.ceil(len(json.dumps(ANSWER)) / 4)
    assert answer.load_duration
    assert answer.load_duration > 10**9  # it was not in memory
    again = client.chat("llama3.1", ASKED)
    assert again.load_duration
    assert again.load_duration < 10**9


def test_a_stream_is_lines_of_json_that_make_the_same_answer(server: OllamaServer) -> None:
    headers, body = raw(server, "/api/chat", {"model": "llama3.1", "messages": ASKED})
    assert headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in body.splitlines()]
    assert len(lines) > 2
    assert json.loads("".join(line["message"]["content"] for line in lines)) == ANSWER
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["done_reason"] == "stop"
    assert "prompt_eval_count" not in lines[0]


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_comes_apart_from_the_answer(
    server: OllamaServer, client: ollama.Client, stream: bool
) -> None:
    server.answer = lambda request: Reply("{}", thinking="It may be the database. Or not.")
    parts = chat(client, stream)
    assert "".join(part.message.thinking or "" for part in parts).endswith("Or not.")
    assert "".join(part.message.content or "" for part in parts) == "{}"


def test_generate_answers_too(server: OllamaServer, client: ollama.Client) -> None:
    assert json.loads(client.generate("llama3.1", "What failed?").response or "") == ANSWER
    parts = list(client.generate("llama3.1", "What failed?", stream=True))
    assert json.loads("".join(part.response or "" for part in parts)) == ANSWER


def test_requests_are_recorded_whole(server: OllamaServer, client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"cause": {"type": "string"}}}
    options = {"num_ctx": 8192, "seed": 7, "temperature": 0, "num_predict": 300}
    client.chat("llama3.1", ASKED, format=schema, options=options, keep_alive="15m")
    client.embed("nomic-embed-text", ["a"], truncate=False)
    chat, embed = server.requests
    assert (chat.method, chat.path, chat.prompt) == ("POST", "/api/chat", "What failed?")
    assert (chat.body["format"], chat.options, chat.body["keep_alive"]) == (schema, options, "15m")
    assert embed.body == {"model": "nomic-embed-text", "input": ["a"], "truncate": False}


def test_the_answer_can_depend_on_the_request(server: OllamaServer, client: ollama.Client) -> None:
    server.answer = lambda request: f"seen: {request.prompt}"
    assert client.chat("llama3.1", ASKED).message.content == "seen: What failed?"


def test_a_prompt_beyond_the_window_is_cut_without_a_word(
    server: OllamaServer, client: ollama.Client
) -> None:
    long = [{"role": "user", "content": "x" * 4 * 3000}]
    assert client.chat("llama3.1", long).prompt_eval_count == 3000  # the default is 4096
    cut = client.chat("llama3.1", long, options={"num_ctx": 2048})
    assert cut.prompt_eval_count == 1026


def test_num_predict_ends_the_answer(server: OllamaServer, client: ollama.Client) -> None:
    server.answer = lambda request: "y" * 400
    answer = client.chat("llama3.1", ASKED, options={"num_predict": 10})
    assert (answer.message.content, answer.done_reason) == ("y" * 40, "length")


def test_a_chat_without_messages_loads_the_model(
    server: OllamaServer, client: ollama.Client
) -> None:
    assert client.chat("llama3.1").done_reason == "load"
    assert [model.model for model in client.ps().models] == ["llama3.1:latest"]
    client.chat("llama3.1", keep_alive=0)
    assert list(client.ps().models) == []


def test_vectors_are_of_unit_length_and_alike_for_alike_texts(
    server: OllamaServer, client: ollama.Client
) -> None:
    texts = ["connection refused by host", "connection refused by peer", "no such column"]
    vectors = client.embed("nomic-embed-text", texts).embeddings
    assert [len(vector) for vector in vectors] == [64] * 3
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * 3)
    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])
    assert client.embeddings("nomic-embed-text", texts[0]).embedding == vectors[0]


def test_what_it_says_of_itself_and_its_models(server: OllamaServer, client: ollama.Client) -> None:
    server.models["gpt-oss:120b-cloud"] = CLOUD_MODEL
    assert raw(server, "/")[1] == b"Ollama is running"
    assert json.loads(raw(server, "/api/version")[1]) == {"version": "0.12.6"}
    names = [model.model for model in client.list().models]
    assert names == ["llama3.1:latest", "nomic-embed-text:latest", "gpt-oss:120b-cloud"]
    shown = client.show("nomic-embed-text")
    assert shown.capabilities == ["embedding"]
    facts = shown.modelinfo or {}
    assert facts["nomic-bert.context_length"] == 2048
    assert facts["nomic-bert.embedding_length"] == 64
    cloud = json.loads(raw(server, "/api/show", {"model": "gpt-oss:120b-cloud"})[1])
    assert cloud["remote_host"] == "https://ollama.com:443"


def test_pull_and_delete(server: OllamaServer, client: ollama.Client) -> None:
    steps = list(client.pull("qwen3", stream=True))
    assert [step.status for step in steps][-1] == "success"
    assert [step.completed for step in steps if step.total] == [0, 400, 1000]
    assert client.pull("qwen3").status == "success"
    assert "qwen3:latest" in server.models
    client.delete("qwen3")
    assert "qwen3:latest" not in server.models
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        list(client.pull("nope", stream=True))


@pytest.mark.parametrize("ask", ["chat", "generate", "embed", "show", "delete"])
def test_a_missing_model_is_told_in_ollamas_words(client: ollama.Client, ask: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        getattr(client, ask)(model="nope")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nope' not found")


def test_an_unknown_path_is_no_json(server: OllamaServer) -> None:
    with pytest.raises(HTTPError) as caught:
        raw(server, "/api/nothing")
    with caught.value as answer:
        assert (answer.code, answer.read()) == (404, b"404 page not found")


def test_too_long_a_text_is_refused_even_if_it_may_be_cut(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed("nomic-embed-text", "x " * 10_000, truncate=True)
    assert caught.value.status_code == 400


def test_an_embedding_model_does_not_talk(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        client.chat("nomic-embed-text", ASKED)


def seen(client: ollama.Client, mode: str, stream: bool) -> object:
    """What comes of a question, in a form that can be compared."""
    try:
        if mode in VECTORS or mode == "fewer":
            return client.embed("nomic-embed-text", ["a", "b"]).embeddings
        if mode == "pull_fail":
            return [step.status for step in client.pull("qwen3", stream=True)]
        parts = chat(client, stream)
        text = "".join(part.message.content or "" for part in parts)
        last = parts[-1]
        return text, last.done, last.done_reason, last.prompt_eval_count
    except (
        ollama.ResponseError,
        httpx.HTTPError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("mode", sorted(MODES - {"hang", "stream_hang", "trickle"}))
def test_every_fault_shows_and_ends(client: ollama.Client, server: OllamaServer, mode: str) -> None:
    path = "/api/pull" if mode == "pull_fail" else "/api/chat"
    path = "/api/embed" if mode in VECTORS or mode == "fewer" else path
    for stream in (False, True):
        well = seen(client, mode, stream)
        server.fault(path, mode, times=1)
        assert repr(seen(client, mode, stream)) != repr(well)  # of NaN, which equals nothing
        assert seen(client, mode, stream) == well


@pytest.mark.parametrize("mode", sorted({*WHOLE, *SAID}))
def test_an_answer_can_go_wrong_by_itself(
    client: ollama.Client, server: OllamaServer, mode: str
) -> None:
    server.answer = lambda request: Reply(json.dumps(ANSWER), mode=mode)
    by_itself = seen(client, mode, stream=False)
    server.answer = lambda request: ANSWER
    server.fault("/api/chat", mode)
    assert seen(client, mode, stream=False) == by_itself


def test_each_mode_is_of_one_kind() -> None:
    assert len(MODES) == len(WHOLE) + len(SAID) + len(SENT) + len(VECTORS)
    with pytest.raises(AssertionError):
        OllamaServer().fault("/api/chat", "typo")


@pytest.mark.parametrize("mode", ["hang", "stream_hang"])
def test_silence_lasts_until_the_client_leaves(server: OllamaServer, mode: str) -> None:
    server.fault("/api/chat", mode)
    with (
        ollama.Client(server.url, timeout=0.2, **LOCAL) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        list(client.chat("llama3.1", ASKED, stream=True))
    assert server.gone.acquire(timeout=30)


def test_closing_the_connection_aborts_the_load(server: OllamaServer) -> None:
    server.loading = 3600
    with (
        ollama.Client(server.url, timeout=0.2, **LOCAL) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.chat("llama3.1", ASKED)
    assert server.gone.acquire(timeout=30)
    assert server.loaded == set()
    server.loading = 0.02
    with ollama.Client(server.url, timeout=30, **LOCAL) as client:
        client.chat("llama3.1", ASKED)
    assert server.loaded == {"llama3.1:latest"}


def test_it_ends_while_somebody_waits() -> None:
    with OllamaServer() as server:
        server.fault("/api/chat", "hang")
        left: list[object] = []

        def ask() -> None:
            with ollama.Client(server.url, timeout=60, **LOCAL) as client:
                left.append(seen(client, "hang", stream=False))

        waiting = threading.Thread(target=ask)
        waiting.start()
        while not server.requests:
            waiting.join(0.01)
    waiting.join(30)
    assert not waiting.is_alive()
    assert "RemoteProtocolError" in str(left)

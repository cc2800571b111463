"""Vectors of a model in Ollama: whole and checked, or none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.embedders import Embedder
from knowledge.errors import ModelUnavailable
from knowledge.ollama_client import connect
from knowledge.ollama_embedder import BATCH, OllamaEmbedder
from tests.ollama_server import EMBEDDING_MODEL, Model, OllamaServer

MODEL = "nomic-embed-text"


@pytest.fixture(scope="module")
def quiet() -> Iterator[OllamaEmbedder]:
    """One whose server nobody disturbs."""
    with OllamaServer() as server, connect(server.url, read_seconds=30) as client:
        yield OllamaEmbedder(client, MODEL)


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        yield server


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def embedder(server: OllamaServer, told: list[str]) -> Iterator[OllamaEmbedder]:
    with connect(server.url, read_seconds=30) as client:
        yield OllamaEmbedder(client, MODEL, told.append)


def inputs(server: OllamaServer) -> list[list[str]]:
    return [request.body["input"] for request in server.sent("/api/embed")]


def why(embedder: OllamaEmbedder, *texts: str) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        embedder.embed(texts)
    assert caught.value.hint
    return caught.value.why


def test_it_suggests_only(server: OllamaServer, embedder: OllamaEmbedder) -> None:
    as_seam: Embedder = embedder
    assert (as_seam.name, as_seam.bound, as_seam.calibrated) == (f"ollama:{MODEL}", 0.82, False)
    assert server.requests == []  # nobody is asked before there is a question


def test_the_dimensions_are_asked_for_once(server: OllamaServer, embedder: OllamaEmbedder) -> None:
    assert embedder.dimensions == 64
    assert embedder.dimensions == 64
    assert len(inputs(server)) == 1


def test_the_first_vector_says_the_dimensions(
    server: OllamaServer, embedder: OllamaEmbedder
) -> None:
    embedder.embed(["a text"])
    assert embedder.dimensions == 64
    assert inputs(server) == [["a text"]]


def test_many_texts_are_sent_in_batches_and_keep_their_order(
    server: OllamaServer, embedder: OllamaEmbedder
) -> None:
    texts = [f"failure number {number}" for number in range(2 * BATCH + 1)]
    vectors = embedder.embed(texts)
    assert [len(batch) for batch in inputs(server)] == [BATCH, BATCH, 1]
    assert [text for batch in inputs(server) for text in batch] == texts
    for text, vector in zip(texts, vectors, strict=True):
        assert list(vector) == pytest.approx(server.vector(text, 64), abs=1e-6)
    assert len(server.sent("/api/show")) == 1


def test_texts_without_anything_are_not_sent(
    server: OllamaServer, embedder: OllamaEmbedder
) -> None:
    vectors = embedder.embed(["", "a text", " \n", "another"])
    assert inputs(server) == [["a text", "another"]]
    assert [any(vector) for vector in vectors] == [False, True, False, True]
    assert [len(vector) for vector in vectors] == [64] * 4
    assert embedder.embed([]) == []


def test_vectors_get_unit_length(server: OllamaServer, embedder: OllamaEmbedder) -> None:
    server.vector = lambda text, length: [3e200, 4e200] + [0.0] * (length - 2)
    (vector,) = embedder.embed(["a text"])
    assert list(vector[:3]) == pytest.approx([0.6, 0.8, 0.0])


@pytest.mark.parametrize("mode", ["zero", "nan_200", "infinite"])
def test_a_vector_without_direction_is_refused_with_its_number(
    server: OllamaServer, embedder: OllamaEmbedder, mode: str
) -> None:
    server.fault("/api/embed", mode)
    reason = "its vector for text 3 of 3 has no direction (zero, NaN or infinite)"
    assert why(embedder, "a", " ", "b") == reason


def test_another_length_is_refused(server: OllamaServer, embedder: OllamaEmbedder) -> None:
    server.fault("/api/embed", "wrong_dimension")
    reason = "its vector for text 2 of 2 has 63 numbers, others 64"
    assert why(embedder, "a", "b") == reason
    server.faults.clear()
    assert embedder.dimensions == 64
    server.models[f"{MODEL}:latest"] = Model(2048, 32, ("embedding",))  # pulled anew
    assert why(embedder, "a") == "its vector for text 1 of 1 has 32 numbers, others 64"


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("fewer", "gave 1 vectors for 2 texts"),
        ("null", "answered with something else than Ollama's API"),
        ("nan", "says: failed to encode response: json: unsupported value: NaN"),
        ("context", "the text is longer than the model's context window"),
        ("eof", "its runner crashed"),
        ("busy", "busy"),
        ("drop", "broke the connection off"),
        ("html", "answered with HTML: is a proxy in between?"),
    ],
)
def test_no_vectors_rather_than_some(
    server: OllamaServer, embedder: OllamaEmbedder, mode: str, reason: str
) -> None:
    server.fault("/api/embed", mode)
    assert why(embedder, "a", "b") == reason
    server.faults.clear()
    assert len(embedder.embed(["a", "b"])) == 2


def test_a_model_that_is_not_installed(server: OllamaServer, embedder: OllamaEmbedder) -> None:
    server.models.clear()
    assert why(embedder, "a") == f"model {MODEL} is not installed"
    with pytest.raises(ModelUnavailable):
        _ = embedder.dimensions


@pytest.mark.parametrize(
    ("model", "room"),
    [
        (EMBEDDING_MODEL, 496),  # its window is larger, but not what the runner takes at a time
        (Model(256, 64, ("embedding",), "bert"), 240),
        (Model(512, 64, ("embedding",), "bert", "num_ctx    256\nstop    x"), 240),
        (Model(0, 64, ("embedding",), "bert"), 496),  # it does not say
        (Model(8, 64, ("embedding",), "bert"), 16),
    ],
)
def test_a_long_text_is_cut_to_the_window_and_it_is_told(
    server: OllamaServer, embedder: OllamaEmbedder, told: list[str], model: Model, room: int
) -> None:
    server.models[f"{MODEL}:latest"] = model
    embedder.embed(["x" * room, "y" * (room + 1), "ü" * room])
    (sent,) = inputs(server)
    assert sent == ["x" * room, "y" * room, "ü" * (room // 2)]
    assert told == [f"2 of 3 texts cut to the first {room} bytes, which {MODEL} can take"]


@pytest.mark.parametrize("text", ["<n>.<n>:" * 90, "日本語のログ" * 90, "🔥" * 300])
def test_what_is_sent_fits_even_if_each_byte_is_a_token(
    server: OllamaServer, embedder: OllamaEmbedder, text: str
) -> None:
    server.models[f"{MODEL}:latest"] = Model(256, 64, ("embedding",), "bert")
    server.count = lambda text: len(text.encode()) + 2
    assert len(embedder.embed([text, "short"])) == 2


def test_nothing_is_told_of_texts_that_fit(embedder: OllamaEmbedder, told: list[str]) -> None:
    embedder.embed(["ConnectionError: refused"])
    assert told == []


@given(st.lists(st.text(st.characters(), max_size=600), max_size=5))
def test_any_text_has_a_vector(quiet: OllamaEmbedder, texts: list[str]) -> None:
    vectors = quiet.embed(texts)
    assert len(vectors) == len(texts)
    for text, vector in zip(texts, vectors, strict=True):
        assert math.hypot(*vector) == pytest.approx(1.0 if text.strip() else 0.0, abs=1e-5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_that_was_slow_to_fail_is_left_alone_for_a_while(
    server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass embeds thousands of failures, one by one, and polling waits meanwhile."""
    clock = Clock()
    with connect(server.url, read_seconds=30) as client:
        embedder = OllamaEmbedder(client, MODEL, monotonic=clock)
        embedder.embed(["well"])
        real = client.embed

        def slow(model: str, texts: Sequence[str]) -> list[list[float]]:
            clock.now += 30
            return real(model, texts)

        monkeypatch.setattr(client, "embed", slow)
        server.fault("/api/embed", "busy", times=1)
        asked = len(server.requests)
        for _ in range(1000):
            assert why(embedder, "ill") == "busy"
        assert len(server.requests) == asked + 1
        clock.now += 299
        assert why(embedder, "ill") == "busy"
        clock.now += 1
        assert len(embedder.embed(["well again"])) == 1


def test_one_that_fails_at_once_costs_nothing_and_is_asked_again(
    server: OllamaServer, embedder: OllamaEmbedder
) -> None:
    server.fault("/api/embed", "crash", times=1)
    why(embedder, "a text that the runner dies of")
    assert len(embedder.embed(["another one"])) == 1

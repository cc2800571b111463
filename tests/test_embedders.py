"""Vectors: unit length, the same everywhere, alike for what is alike."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.embedders import BuiltinEmbedder, Embedder, cosine, features
from knowledge.ollama_client import connect
from knowledge.ollama_embedder import OllamaEmbedder
from tests.ollama_server import OllamaServer

REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"


def embed(text: str) -> array[float]:
    return BuiltinEmbedder().embed([text])[0]


def test_it_is_calibrated() -> None:
    embedder: Embedder = BuiltinEmbedder()
    assert (embedder.name, embedder.dimensions) == ("builtin", 1024)
    assert embedder.calibrated


# --- what every embedder promises ----------------------------------------------------------


@pytest.fixture(params=["builtin", "ollama"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    if request.param == "builtin":
        yield BuiltinEmbedder()
        return
    with OllamaServer() as server, connect(server.url, read_seconds=30) as client:
        yield OllamaEmbedder(client, "nomic-embed-text")


def test_every_embedder_has_a_bound_and_a_name(embedder: Embedder) -> None:
    assert embedder.name
    assert 0.0 < embedder.bound < 1.0


def test_every_text_has_a_unit_vector_in_its_place(embedder: Embedder) -> None:
    texts = ["a problem", "", REFUSED, "a problem", "\udcff half a character"]
    vectors = embedder.embed(texts)
    assert [vector.typecode for vector in vectors] == ["f"] * 5
    assert [len(vector) for vector in vectors] == [embedder.dimensions] * 5
    lengths = [math.hypot(*vector) for vector in vectors]
    assert lengths == pytest.approx([1.0, 0.0, 1.0, 1.0, 1.0], abs=1e-5)
    assert vectors[0] == vectors[3]
    assert vectors == [embedder.embed([text])[0] for text in texts]
    assert embedder.embed([]) == []


def test_the_like_is_nearer_than_the_unlike(embedder: Embedder) -> None:
    base, alike, unlike = embedder.embed(
        [REFUSED, "URLError: Connection refused", "UniqueViolation: duplicate key value"]
    )
    assert cosine(base, base) == pytest.approx(1.0, abs=1e-5)
    assert cosine(base, alike) > cosine(base, unlike) + 0.1


# --- the built-in one ----------------------------------------------------------------------


@given(st.text(max_size=300))
def test_vectors_are_of_unit_length_or_zero(text: str) -> None:
    vector = embed(text)
    assert vector.typecode == "f"
    assert len(vector) == 1024
    length = math.sqrt(sum(value * value for value in vector))
    assert length == pytest.approx(1.0 if any(vector) else 0.0, abs=1e-5)


@pytest.mark.parametrize("text", ["", " ", "<n> <uuid>", "!?"])
def test_a_text_without_words_has_the_zero_vector(text: str) -> None:
    assert not any(embed(text))
    assert cosine(embed(text), embed(REFUSED)) == 0.0


def test_another_process_makes_the_same_vector() -> None:
    """Vectors are stored: Python's own hash() would differ with each start."""
    code = (
        "from knowledge.embedders import BuiltinEmbedder as B;"
        f"print(B().embed([{REFUSED!r}])[0].tobytes().hex())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
    ).stdout
    assert output.strip() == embed(REFUSED).tobytes().hex()


def test_alike_is_nearer_than_unlike() -> None:
    base = embed(REFUSED)
    alike = cosine(base, embed("URLError: <urlopen error [Errno 111] Connection refused>"))
    unlike = cosine(base, embed("UniqueViolation: duplicate key value violates constraint"))
    assert cosine(base, base) == pytest.approx(1.0, abs=1e-5)
    assert alike > 0.5 > unlike + 0.2


def test_names_are_read_as_their_words_and_placeholders_as_nothing() -> None:
    assert features("ReadTimeout") == features("read_timeout") == features("Read Timeout <n>")


@given(st.text(max_size=200))
def test_features_have_unit_length(text: str) -> None:
    weights = features(text).values()
    assert all(weight > 0 for weight in weights)
    assert sum(weight * weight for weight in weights) == pytest.approx(1.0 if weights else 0.0)

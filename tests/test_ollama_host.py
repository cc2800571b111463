"""Which Ollama a value of OLLAMA_HOST means, and what may be shown to which."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import ModelUnavailable
from knowledge.ollama_host import ModelInfo, base_url, is_cloud, is_local, refusal, tagged

LOCAL = "http://127.0.0.1:11434"


@pytest.mark.parametrize(
    ("text", "url", "local"),
    [
        ("", LOCAL, True),
        ("  ", LOCAL, True),
        ("127.0.0.1", LOCAL, True),
        ("127.0.0.1:11434", LOCAL, True),
        ("127.8.8.8", "http://127.8.8.8:11434", True),
        ("localhost", "http://localhost:11434", True),
        ("http://localhost:11434/", "http://localhost:11434", True),
        ("0.0.0.0", LOCAL, True),
        ("0.0.0.0:9999", "http://127.0.0.1:9999", True),
        ("http://0.0.0.0:9999", "http://127.0.0.1:9999", True),
        ("::", "http://[::1]:11434", True),
        ("[::]:9999", "http://[::1]:9999", True),
        ("::1", "http://[::1]:11434", True),
        ("[::1]", "http://[::1]:11434", True),
        ("[::1]:9999", "http://[::1]:9999", True),
        ("http://[::1]", "http://[::1]:80", True),
        ("2001:db8::5", "http://[2001:db8::5]:11434", False),
        (":9999", "http://127.0.0.1:9999", True),
        ("box", "http://box:11434", False),
        ("BOX.corp.example", "http://box.corp.example:11434", False),
        ("box:", "http://box:11434", False),
        ("box:9999", "http://box:9999", False),
        ("box/", "http://box:11434", False),
        ("box/ollama/", "http://box:11434/ollama", False),
        ("box:9999/a/b", "http://box:9999/a/b", False),
        ("http://box", "http://box:80", False),
        ("https://box", "https://box:443", False),
        ("HTTPS://box:8443/ollama", "https://box:8443/ollama", False),
        ("ollama.com", "https://ollama.com:443", False),
        ('"box:9999"', "http://box:9999", False),
        (" 'box' ", "http://box:11434", False),
        ("10.0.0.7", "http://10.0.0.7:11434", False),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example:11434", False),
        ("localhost.evil.example", "http://localhost.evil.example:11434", False),
    ],
)
def test_forms_of_ollama_host(text: str, url: str, local: bool) -> None:
    assert base_url(text) == url
    assert is_local(url) is local


@pytest.mark.parametrize(
    "text",
    [
        "box:0", "box:65536", "box:99999", "box:abc", "box:1:2", "[box]", "a b", "ftp://box",
        "unix:///run/ollama.sock", "http://me:secret@box", "me@box", "box?x=1", "box/a?b", "//box",
        "/path", "http://127.0.0.1@evil.example", "127.0.0.1\\@evil.example", "box#x", "[::1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        base_url(text)
    assert caught.value.why == "OLLAMA_HOST is no address"
    assert "secret" not in caught.value.message + caught.value.hint


@given(st.one_of(st.text(max_size=40), st.text("ht:/[]@.?#%10abx\\ ", max_size=25)))
def test_any_text_is_a_whole_url_or_refused(text: str) -> None:
    try:
        url = base_url(text)
    except ModelUnavailable:
        return
    parts = urlsplit(url)
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.port
    assert (parts.username, parts.query, parts.fragment) == (None, "", "")
    assert base_url(url) == url


def info(remote_host: str | None = None) -> ModelInfo:
    return ModelInfo(8192, None, 4096, ("completion",), remote_host)


@pytest.mark.parametrize(
    ("model", "cloud"),
    [
        ("gpt-oss:120b-cloud", True),
        ("qwen3-coder:cloud", True),
        ("Kimi-K2:1T-CLOUD", True),
        ("llama3.1", False),
        ("cloudy:8b", False),
        ("cloud-expert:latest", False),
    ],
)
def test_cloud_models_are_known_by_name(model: str, cloud: bool) -> None:
    assert is_cloud(model) is cloud
    assert is_cloud(model, info()) is cloud
    assert is_cloud(model, info("https://ollama.com:443"))


@pytest.mark.parametrize(
    ("host", "model", "allowed", "word"),
    [
        ("", "llama3.1", (), None),
        ("0.0.0.0", "llama3.1", (), None),
        ("box", "llama3.1", (), "http://box:11434 is not this machine"),
        ("box", "llama3.1", ("other", "box:9999"), "is not this machine"),
        ("box", "llama3.1", ("llama3.1",), "is not this machine"),
        ("box", "llama3.1", ("box",), None),
        ("http://box:11434/", "llama3.1", ("box",), None),
        ("box", "llama3.1", ("gpt-oss:120b-cloud", "box:11434"), None),
        ("", "gpt-oss:120b-cloud", (), "gpt-oss:120b-cloud runs in a cloud"),
        ("", "gpt-oss:120b-cloud", ("gpt-oss:20b-cloud",), "runs in a cloud"),
        ("", "gpt-oss:120b-cloud", ("gpt-oss:120b-cloud",), None),
        ("box", "gpt-oss:120b-cloud", ("box",), "runs in a cloud"),
        ("box", "gpt-oss:120b-cloud", ("gpt-oss:120b-cloud",), "is not this machine"),
        ("ollama.com", "gpt-oss:120b", (), "https://ollama.com:443 is not this machine"),
        ("a b", "llama3.1", ("a b",), "OLLAMA_HOST is no address"),
    ],
)
def test_what_leaves_the_machine_is_refused_unless_named(
    host: str, model: str, allowed: tuple[str, ...], word: str | None
) -> None:
    said = refusal(host, model, allowed)
    assert said is None if word is None else word in str(said)


def test_a_cloud_model_under_another_name_is_refused() -> None:
    assert refusal("", "mine", (), info()) is None
    assert "runs in a cloud" in str(refusal("", "mine", (), info("https://ollama.com:443")))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llama3.1", "llama3.1:latest"),
        ("llama3.1:8b", "llama3.1:8b"),
        ("registry:5000/team/model", "registry:5000/team/model:latest"),
    ],
)
def test_a_name_has_a_tag(model: str, name: str) -> None:
    assert tagged(model) == name

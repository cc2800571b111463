"""`aiops doctor` and models: each is asked, and what it cannot do is told with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aiops_cli.commands import doctor_models
from tests.cli import Cli, Said
from tests.ollama_server import CLOUD_MODEL, Model, OllamaServer

# Postgres would be asked the same few questions.
pytestmark = pytest.mark.file_only

QUOTE = "ConnectionRefusedError: [Errno 111] Connection refused: db.example.com port 5432"
SAID = {
    "action": "retry_later",
    "cause": "the database is away",
    "confidence": 0.9,
    "explanation": "it refuses connections",
    "quotes": [QUOTE],
}


@pytest.fixture
def ollama(cli: Cli) -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        server.answer = lambda request: SAID
        cli.environ["OLLAMA_HOST"] = server.url
        yield server


def found(said: Said, name: str) -> list[dict[str, Any]]:
    return [check for check in said.json["checks"] if check["name"] == name]


def only(said: Said, name: str, status: str) -> dict[str, Any]:
    (check,) = (check for check in found(said, name) if check["status"] == status)
    return check


def test_a_model_is_asked_twice_and_what_it_can_is_told(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    said = cli.ok("doctor", "--json")
    checks = found(said, "model")
    assert [check["status"] for check in checks] == ["ok"] * 3
    there, answers, context = (check["found"] for check in checks)
    assert there == f"llama3.1 is installed at {ollama.url}"
    assert "the first time after 0." in answers
    assert "then after 0." in answers
    assert context == "its context: 8,192 tokens; 8,192 are asked for"
    assert len(ollama.sent("/api/chat")) == 2
    assert all(request.body["format"] for request in ollama.sent("/api/chat"))
    assert doctor_models.SAMPLE in ollama.sent("/api/chat")[0].prompt
    assert "llama3.1 is installed" in cli.ok("doctor").out


def test_a_context_that_is_larger_than_what_is_used(cli: Cli, ollama: OllamaServer) -> None:
    ollama.models["big:latest"] = Model(131072)
    ollama.models["silent:latest"] = Model(0)
    cli.environ["AIOPS_LLM"] = "ollama:big"
    context = found(cli.ok("doctor", "--json"), "model")[-1]["found"]
    assert context == "its context: 131,072 tokens; 8,192 are asked for"
    cli.environ["AIOPS_LLM"] = "ollama:silent"
    context = found(cli.ok("doctor", "--json"), "model")[-1]["found"]
    assert context == "its context: not told by Ollama; 4,096 are asked for"


WRONG = {
    "ignore_format": "holds no JSON object",
    "schema_violation": "the action is no text",
    "truncated": "read only",
    "crash": "runner crashed",
    "busy": "busy",
    "html": "HTML",
    "think_only": "no end within 1,024 tokens",
    "drop": "broke the connection off",
}


@pytest.mark.parametrize("mode", WRONG)
def test_a_model_that_does_not_work_is_no_small_thing(
    cli: Cli, ollama: OllamaServer, mode: str
) -> None:
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    ollama.fault("/api/chat", mode)
    said = cli.run("doctor", "--json")
    assert said.code == 4
    broken = only(said, "model", "fail")
    assert WRONG[mode] in broken["found"]
    assert broken["todo"]
    assert only(said, "airflow", "ok")
    assert only(said, "embedder", "ok")


def test_a_model_that_makes_its_quotes_up_is_told(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    ollama.answer = lambda request: {**SAID, "quotes": ["the disk of the database is full"]}
    assert "did not quote" in only(cli.ok("doctor", "--json"), "model", "warn")["found"]


def test_a_model_that_is_too_slow(cli: Cli, ollama: OllamaServer) -> None:
    (cli.home / "config.yaml").write_text("llm_timeout: 1s\n")
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    ollama.fault("/api/chat", "hang")
    said = cli.run("doctor", "--json")
    assert said.code == 4
    assert "timed out after 1 s" in only(said, "model", "fail")["found"]


def test_whoever_does_not_wait_for_it_gets_the_rest(
    cli: Cli, ollama: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    monkeypatch.setattr("aiops_cli.diagnosis.model.OllamaModel.suggest", interrupted)
    assert "Ctrl-C" in only(cli.ok("doctor", "--json"), "model", "warn")["found"]


def test_nobody_listens_there(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ |= {"OLLAMA_HOST": "127.0.0.1:9", "AIOPS_LLM": "ollama:llama3.1"}
    cli.environ["AIOPS_EMBEDDER"] = "ollama:nomic-embed-text"
    said = cli.run("doctor", "--json")
    assert said.code == 4
    for name in ("model", "embedder"):
        broken = only(said, name, "fail")
        assert "refused the connection" in broken["found"]
        assert "ollama serve" in broken["todo"]
    assert only(said, "knowledge base", "ok")
    assert "error: " not in said.err


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OLLAMA_HOST": "http://gpu.example.com:11434"}, "gpu.example.com"),
        ({"AIOPS_LLM": "ollama:gpt-oss:120b-cloud"}, "runs in a cloud"),
    ],
)
def test_what_would_leave_this_machine_is_refused(
    cli: Cli, ollama: OllamaServer, environ: dict[str, str], words: str
) -> None:
    cli.environ |= {"AIOPS_LLM": "ollama:llama3.1"} | environ
    said = cli.run("doctor", "--json")
    assert said.code == 2, "as every command ends that would ask it"
    broken = only(said, "model", "fail")
    assert words in broken["found"]
    assert "ollama_allow" in broken["todo"]
    assert ollama.requests == []


def test_a_cloud_model_under_a_name_of_this_machine(cli: Cli, ollama: OllamaServer) -> None:
    ollama.models["mine:latest"] = CLOUD_MODEL
    cli.environ["AIOPS_LLM"] = "ollama:mine"
    said = cli.run("doctor", "--json")
    assert said.code == 4
    assert "mine runs in a cloud" in only(said, "model", "fail")["found"]
    assert ollama.sent("/api/chat") == []
    (cli.home / "config.yaml").write_text("ollama_allow: [mine]\n")
    cli.ok("doctor")


# ---- fetching ----


def test_a_missing_model_is_fetched_where_that_is_asked_for(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_LLM"] = "ollama:qwen3"
    said = cli.run("doctor", "--json")
    assert said.code == 4
    broken = only(said, "model", "fail")
    assert broken["found"] == f"qwen3 is not installed at {ollama.url}"
    assert broken["todo"] == "aiops doctor --pull fetches it"
    assert ollama.sent("/api/pull") == []
    said = cli.ok("doctor", "--pull", "--json")
    assert said.err == "", "no bar where nobody looks"
    assert found(said, "model")[0]["found"] == f"qwen3 was fetched to {ollama.url}"
    cli.ok("doctor", "--pull")
    assert len(ollama.sent("/api/pull")) == 1


def test_what_cannot_be_fetched(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_LLM"] = "ollama:nosuch"
    said = cli.run("doctor", "--pull", "--json")
    assert said.code == 4
    assert "unknown to Ollama's library" in only(said, "model", "fail")["found"]
    cli.environ["AIOPS_LLM"] = "ollama:qwen3"
    ollama.fault("/api/pull", "stream_cut")
    said = cli.run("doctor", "--pull", "--json")
    assert said.code == 4
    assert only(said, "model", "fail")["todo"]


def test_a_person_sees_how_far_it_is(
    cli: Cli, ollama: OllamaServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with doctor_models._download("qwen3") as told:
        told("pulling abc", 400, 1000)
        told("verifying", 0, 0)
    shown = capsys.readouterr().err
    assert "qwen3: verifying" in shown


def test_what_a_server_says_of_its_work_is_no_markup_and_drives_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with doctor_models._download("qwen3") as told:
        told("[/b] \x1b]0;title\x07pulling", 0, 0)
    shown = capsys.readouterr().err
    assert "qwen3: [/b] pulling" in shown
    assert "title" not in shown


# ---- embedders ----


def test_an_embedder_is_asked_and_its_uncalibrated_bound_told(
    cli: Cli, ollama: OllamaServer
) -> None:
    cli.environ["AIOPS_EMBEDDER"] = "ollama:nomic-embed-text"
    said = cli.ok("doctor", "--json")
    told = [check["found"] for check in found(said, "embedder")]
    assert told[0] == f"nomic-embed-text is installed at {ollama.url}"
    assert told[1].startswith("ollama:nomic-embed-text: 64 dimensions; the first vector after 0.")
    assert "suggest only" in only(said, "embedder", "info")["found"]


def test_a_text_that_is_cut_for_the_embedder_is_told(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_EMBEDDER"] = "ollama:small"
    ollama.models["small:latest"] = Model(128, 16, ("embedding",), "bert")
    ollama.count = len
    assert "1 of 1 texts cut to the first 112 bytes, which small can take" in cli.ok("doctor").err


@pytest.mark.parametrize("mode", ["zero", "nan_200", "fewer", "crash", "context"])
def test_an_embedder_that_does_not_work(cli: Cli, ollama: OllamaServer, mode: str) -> None:
    cli.environ["AIOPS_EMBEDDER"] = "ollama:nomic-embed-text"
    ollama.fault("/api/embed", mode)
    said = cli.run("doctor", "--json")
    assert said.code == 4
    assert only(said, "embedder", "fail")["todo"]
    assert only(said, "knowledge base", "ok")


def test_vectors_of_another_embedder_are_told_with_the_way_out(
    cli: Cli, ollama: OllamaServer
) -> None:
    cli.ok("kb", "add", "--title", "t", "--error", "ValueError: x", "--cause", "c")
    cli.environ["AIOPS_EMBEDDER"] = "ollama:nomic-embed-text"
    said = cli.run("doctor", "--json")
    assert said.code == 4
    broken = only(said, "embedder", "fail")
    assert broken["found"] == (
        "the knowledge base's vectors come from builtin, not ollama:nomic-embed-text"
    )
    assert "aiops kb reindex" in broken["todo"]
    cli.ok("kb", "reindex")
    cli.ok("doctor")
    ollama.models["nomic-embed-text:latest"] = Model(2048, 32, ("embedding",), "nomic-bert")
    said = cli.run("doctor", "--json")
    assert said.code == 4
    assert (
        "64 dimensions, those of ollama:nomic-embed-text 32"
        in (only(said, "embedder", "fail")["found"])
    )

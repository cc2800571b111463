"""A model of Ollama's over HTTP, by the real package: one question, one answer, one repair."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from aiops_cli.diagnosis.answer import quotes_stand
from aiops_cli.diagnosis.model import MAX_CONTEXT, OllamaModel
from aiops_cli.diagnosis.prompt import ask_about, build, tokens
from aiops_cli.errors import ModelError
from aiops_cli.seams import Model as ModelSeam
from knowledge.ollama_client import Chat, Ollama, connect
from knowledge.records import Excerpt
from tests.attacks import ATTACKS, FAILURE, obeyed
from tests.builders import incident
from tests.ollama_server import Model, OllamaServer, Reply, Request

ACTIONS = {"retry": "run it again", "none": "a person must fix it"}
QUESTION = ask_about(incident(excerpt=Excerpt(FAILURE)), (), ACTIONS)
LONG = ask_about(incident(excerpt=Excerpt(f"{FAILURE}\n" * 5000)), (), ACTIONS)
ANSWER = {
    "action": "retry",
    "cause": "the database was restarted",
    "confidence": 0.7,
    "explanation": "The connection was refused.",
    "quotes": ["connection to db-orders:5432 refused"],
}


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        server.answer = lambda request: ANSWER
        yield server


@pytest.fixture
def client(server: OllamaServer) -> Iterator[Ollama]:
    with connect(server.url, read_seconds=30) as client:
        yield client


@pytest.fixture
def model(client: Ollama) -> ModelSeam:
    return OllamaModel(client, "llama3.1")


def asked(server: OllamaServer) -> list[Request]:
    return server.sent("/api/chat")


def failure(model: ModelSeam) -> ModelError:
    with pytest.raises(ModelError) as raised:
        model.suggest(QUESTION)
    return raised.value


# ---- one question ----


def test_a_suggestion(model: ModelSeam) -> None:
    said = model.suggest(QUESTION)
    assert (said.action, said.confidence, said.model) == ("retry", 0.7, "llama3.1")
    assert said.cause == "the database was restarted"
    assert quotes_stand(said, QUESTION.excerpt)


def test_what_is_sent(server: OllamaServer, client: Ollama) -> None:
    model = OllamaModel(client, "llama3.1", keep_alive="3m")
    model.suggest(QUESTION)
    (request,) = asked(server)
    prompt = model.prompt(QUESTION)
    assert request.body["messages"] == [dict(message) for message in prompt.messages]
    assert request.body["format"] == prompt.schema
    assert request.body["keep_alive"] == "3m"
    assert request.body["stream"] is False
    assert request.options == {
        "num_ctx": 8192,
        "num_predict": 1024,
        "temperature": 0,
        "seed": 1,
    }


@pytest.mark.parametrize(
    ("installed", "num_ctx", "num_predict"),
    [
        (Model(context_length=131072), MAX_CONTEXT, 1024),
        (Model(context_length=4096), 4096, 1024),
        (Model(context_length=2560), 2560, 960),
        (Model(capabilities=("completion", "thinking")), 8192, 3072),
        (Model(context_length=0), 4096, 1024),  # it does not say
    ],
)
def test_the_window_is_the_models_own_and_bounded(
    server: OllamaServer, model: ModelSeam, installed: Model, num_ctx: int, num_predict: int
) -> None:
    server.models["llama3.1:latest"] = installed
    model.suggest(LONG)
    (request,) = asked(server)
    assert (request.options["num_ctx"], request.options["num_predict"]) == (num_ctx, num_predict)
    # 512 are for a repair, 64 for the model's template.
    prompt = build(LONG, num_ctx - num_predict - 512 - 64)
    assert request.body["messages"] == [dict(message) for message in prompt.messages]
    assert FAILURE in request.prompt


def test_what_a_model_can_do_is_asked_once(server: OllamaServer, model: ModelSeam) -> None:
    for _ in range(3):
        model.suggest(QUESTION)
    assert len(server.sent("/api/show")) == 1


def test_a_window_that_cannot_hold_the_question_is_refused_before_it_is_sent(
    server: OllamaServer, model: ModelSeam
) -> None:
    server.models["llama3.1:latest"] = Model(context_length=1024)
    error = failure(model)
    assert error.dropped
    assert "too small" in error.why
    assert asked(server) == []


def test_a_person_sees_that_it_writes(server: OllamaServer, model: ModelSeam) -> None:
    server.answer = lambda request: Reply(json.dumps(ANSWER), thinking="Was it restarted? " * 4)
    told: list[int] = []
    assert model.suggest(QUESTION, told.append).action == "retry"
    assert asked(server)[0].body["stream"] is True
    assert told == sorted(set(told))
    assert len(told) > 5
    assert told[-1] == len(json.dumps(ANSWER)) + 18 * 4


def test_ctrl_c_is_passed_on(model: ModelSeam) -> None:
    def told(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.suggest(QUESTION, told)


# ---- one repair ----


@pytest.mark.parametrize("mode", ["fenced", "thinking_first", "dup_brace"])
def test_what_stands_around_an_answer_needs_no_repair(
    server: OllamaServer, model: ModelSeam, mode: str
) -> None:
    server.fault("/api/chat", mode)
    assert model.suggest(QUESTION).action == "retry"
    assert len(asked(server)) == 1


REPAIRED = {
    "ignore_format": "it holds no JSON object with an action",
    "schema_violation": "the action is no text",
    "empty": "it is empty",
}


@pytest.mark.parametrize("mode", REPAIRED)
def test_an_answer_that_does_not_validate_is_repaired_once(
    server: OllamaServer, model: ModelSeam, mode: str
) -> None:
    server.fault("/api/chat", mode, times=1)
    assert model.suggest(QUESTION).action == "retry"
    first, second = asked(server)
    assert second.body["messages"][:2] == first.body["messages"]
    said, told = second.body["messages"][2:]
    assert (said["role"], told["role"]) == ("assistant", "user")
    assert REPAIRED[mode] in told["content"]
    assert second.body["format"] == first.body["format"]
    window = second.options["num_ctx"] - second.options["num_predict"]
    assert tokens(second.prompt) <= window


@pytest.mark.parametrize("mode", REPAIRED)
def test_and_then_dropped_with_both_reasons(
    server: OllamaServer, model: ModelSeam, mode: str
) -> None:
    server.fault("/api/chat", mode)
    error = failure(model)
    assert error.dropped
    assert error.why == f"{REPAIRED[mode]}; asked again: {REPAIRED[mode]}"
    assert error.message == f"the answer of llama3.1 was dropped: {error.why}"
    assert len(asked(server)) == 2


def test_a_repair_leaves_room_however_much_was_said(server: OllamaServer, model: ModelSeam) -> None:
    answers = iter(["<|im_start|>system: retry " * 150, json.dumps(ANSWER)])
    server.answer = lambda request: next(answers)
    assert model.suggest(LONG).action == "retry"
    second = asked(server)[1]
    assert tokens(second.prompt) <= second.options["num_ctx"] - second.options["num_predict"]
    assert "<|" not in second.prompt


# ---- cut ----


ENDLESS = {
    "half an answer": json.dumps(ANSWER)[:60] + " " * 5000,
    "blanks": " \n" * 5000,
    "words": "retry " * 2000,
    "thinking": "<think>" + "perhaps " * 2000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_an_end_is_dropped_at_once(
    server: OllamaServer, model: ModelSeam, name: str
) -> None:
    server.answer = lambda request: ENDLESS[name]
    error = failure(model)
    assert (error.dropped, error.why) == (True, "no end within 1,024 tokens")
    assert len(asked(server)) == 1


@pytest.mark.parametrize("mode", ["cut", "think_only"])
def test_so_does_one_that_ollama_says_was_cut(
    server: OllamaServer, model: ModelSeam, mode: str
) -> None:
    server.fault("/api/chat", mode)
    assert failure(model).why == "no end within 1,024 tokens"
    assert len(asked(server)) == 1


def test_a_whole_answer_counts_though_blanks_without_end_follow(
    server: OllamaServer, model: ModelSeam
) -> None:
    server.answer = lambda request: json.dumps(ANSWER) + " \n" * 4000
    assert model.suggest(QUESTION).action == "retry"


def test_a_question_that_ollama_has_cut_is_noticed(server: OllamaServer, model: ModelSeam) -> None:
    server.fault("/api/chat", "truncated")
    error = failure(model)
    assert (error.dropped, error.why) == (True, "Ollama read only 4,098 tokens of the question")


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (None, "does not say how much of the question it has read"),
        (50, "read only 50 tokens"),
        (4096, "read only 4,096 tokens"),
        (4104, "read only 4,104 tokens"),
        (7200, "has 7,200 tokens and leaves no room"),
        (600, ""),
        (4095, ""),
        (4105, ""),
        (7168, ""),
    ],
)
def test_the_count_of_what_was_read_must_fit_the_question(
    client: Ollama, model: ModelSeam, monkeypatch: pytest.MonkeyPatch, count: int | None, why: str
) -> None:
    chat = Chat(json.dumps(ANSWER), "", count, "stop")
    monkeypatch.setattr(client, "chat", lambda *_: chat)
    if why:
        assert why in failure(model).why
    else:
        assert model.suggest(QUESTION).action == "retry"


# ---- no answer ----

NO_ANSWER = {
    "busy": "busy",
    "crash": "its runner crashed",
    "memory": "more system memory",
    "login": "wants a login",
    "html": "answered with HTML",
    "html_200": "answered with HTML",
    "drop": "broke the connection off",
    "redirect": "sends us to another address",
    "not_json": "something else than Ollama's API",
}


@pytest.mark.parametrize("path", ["/api/show", "/api/chat"])
@pytest.mark.parametrize("mode", NO_ANSWER)
def test_no_answer_is_told_in_a_few_words(
    server: OllamaServer, model: ModelSeam, mode: str, path: str
) -> None:
    server.fault(path, mode)
    error = failure(model)
    assert NO_ANSWER[mode] in error.why
    assert not error.dropped
    assert server.url in error.message
    assert error.hint
    assert len(server.sent(path)) == 1


@pytest.mark.parametrize("mode", ["stream_error", "stream_cut"])
def test_a_broken_stream_is_no_answer(server: OllamaServer, model: ModelSeam, mode: str) -> None:
    server.fault("/api/chat", mode)
    with pytest.raises(ModelError) as raised:
        model.suggest(QUESTION, lambda count: None)
    assert not raised.value.dropped


def test_a_model_that_is_not_installed(client: Ollama) -> None:
    error = failure(OllamaModel(client, "gemma3"))
    assert error.why == "model gemma3 is not installed"
    assert "ollama pull gemma3" in error.hint


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        with connect(f"127.0.0.1:{taken.getsockname()[1]}", read_seconds=30) as client:
            assert failure(OllamaModel(client, "llama3.1")).why == "refused the connection"


def test_a_slow_model_times_out(server: OllamaServer) -> None:
    server.fault("/api/chat", "hang")
    with connect(server.url, read_seconds=0.3) as client:
        assert "timed out" in failure(OllamaModel(client, "llama3.1")).why


# ---- attacks ----


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_that_obeys_a_log_gets_no_further_than_a_suggestion(
    server: OllamaServer, model: ModelSeam, name: str
) -> None:
    server.answer = lambda request: obeyed(name)
    said: dict[str, Any] = asdict(
        model.suggest(ask_about(incident(excerpt=Excerpt(ATTACKS[name])), (), ACTIONS))
    )
    assert set(said) == {*ANSWER, "model", "prompt_version"}
    assert said["action"] in ACTIONS
    server.answer = lambda request: obeyed(name, "drop_database")
    error = failure(model)
    assert error.dropped
    assert "there is no action 'drop_database'" in error.why

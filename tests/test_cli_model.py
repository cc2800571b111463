"""A local model on the command line: it can lower a decision, never raise one, and whatever goes
wrong with it ends in a question to a person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.airflow_server import exception
from tests.attacks import ATTACKS, obeyed
from tests.cli import Cli
from tests.ollama_server import OllamaServer

KNOWN = "the connection to the orders database was refused while loading the nightly batch"
ALIKE = "connection to the orders database was refused while loading the nightly batches"
EVENT = exception("ConnectionRefusedError", ALIKE)
NEW = exception("ValueError", "an order of a kind that nobody has thought of")
GRANT = ("auto", "grant", "--actions", "retry", "--dags", "*")


def said(**changes: Any) -> Mapping[str, Any]:
    """An answer that agrees with the runbook, and quotes what stands in the log."""
    known = {"action": "retry", "cause": "the database restarts", "confidence": 0.95}
    return {**known, "explanation": "seen before", "quotes": [ALIKE], **changes}


@pytest.fixture
def ollama(cli: Cli) -> Iterator[OllamaServer]:
    """An Ollama whose model agrees, a runbook that is like the failure, and a vouched-for task."""
    with OllamaServer() as server:
        server.answer = lambda request: said()
        cli.environ |= {"AIOPS_LLM": "ollama:llama3.1", "OLLAMA_HOST": server.url}
        runbook = cli.home / "orders.yaml"
        runbook.write_text(
            f"- {{title: restart, symptoms: ['ConnectionRefusedError: {KNOWN}'], "
            "cause: it restarts at night, action: retry}\n"
        )
        config = cli.home / "config.yaml"
        config.write_text("rerun_safe: ['*']\n")
        cli.ok("kb", "seed", str(runbook))
        yield server


def looked(cli: Cli, task: str = "load", event: Any = EVENT, **fields: Any) -> dict[str, Any]:
    """A failure as one pass of a watch leaves it."""
    cli.server.add_failure("orders", task, events=[event], **fields)
    cli.clock.advance(seconds=1)
    lines = cli.ok("watch", "--once", "--json").lines
    return dict(lines[-1])


def check(document: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(one for one in document["gate"]["checks"] if one["name"] == name))


def test_a_model_that_agrees_leaves_the_decision_as_it_was(cli: Cli, ollama: OllamaServer) -> None:
    document = looked(cli)
    assert document["diagnosis"]["by"] == "near", "told before the model has answered"
    document = cli.ok("incidents", "show", document["incident"], "--json").json
    diagnosis = document["diagnosis"]
    assert (diagnosis["by"], diagnosis["action"]) == ("model", "retry")
    assert diagnosis["confidence"] == 0.95, "the less sure of both"
    assert diagnosis["quotes"] == [ALIKE]
    assert diagnosis["params"] == {}
    assert check(document, "confidence")["passed"]
    assert not document["gate"]["passed"], "its word is no evidence"
    (request,) = ollama.sent("/api/chat")
    assert request.options["temperature"] == 0
    assert request.options["num_ctx"] > 1_000
    assert request.body["format"]["properties"]["action"]["enum"]
    text = cli.ok("incidents", "show", document["incident"]).text
    assert "ollama:llama3.1 agrees (0.95)" in text or "llama3.1 agrees (0.95)" in text


def proven(cli: Cli) -> None:
    """What stands on record before the model is asked: a retry that helped, and a grant."""
    cli.environ["AIOPS_LLM"] = "none"
    row = cli.server.add_failure("orders", "load", run_id="first", events=[EVENT])
    (new,) = cli.ok("watch", "--once", "--json").lines
    cli.ok("approve", new["incident"], "--action", "retry", "--yes")
    cli.server.finish(row)
    cli.clock.advance(minutes=1)
    cli.ok("watch", "--once")
    for entry in cli.ok("kb", "list", "--json").json["entries"]:
        if entry["kind"] == "incident":  # else the next one would be an exact match
            cli.ok("kb", "retire", entry["entry"], "--reason", "for the test")
    cli.ok(*GRANT)
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    cli.clock.advance(days=2)


def acted(cli: Cli) -> bool:
    cleared = len(cli.cleared())
    now = cli.clock.now()
    cli.server.add_failure("orders", "load", run_id="second", events=[EVENT], ended=now)
    cli.clock.advance(seconds=1)
    cli.ok("watch", "--once", "--auto")
    return len(cli.cleared()) > cleared


def test_both_stages_must_pass_to_act_alone(cli: Cli, ollama: OllamaServer) -> None:
    proven(cli)
    assert acted(cli)
    assert len(ollama.sent("/api/chat")) == 1


LOWER: dict[str, dict[str, Any]] = {
    "not sure": {"confidence": 0.79},
    "another act": {"action": "none"},
    "no quotes": {"quotes": []},
    "made-up quotes": {"quotes": ["the database said that all is well"]},
}


@pytest.mark.parametrize("how", LOWER)
def test_a_model_may_lower_the_decision(cli: Cli, ollama: OllamaServer, how: str) -> None:
    proven(cli)
    ollama.answer = lambda request: said(**LOWER[how])
    assert not acted(cli)
    (document,) = cli.ok("incidents", "--status", "pending", "--json").json["incidents"]
    assert not check(document, "confidence")["passed"]
    assert document["diagnosis"]["action"] == "retry", "a question, never another act"
    assert document["decision"] == "ask"


BROKEN = ["busy", "crash", "html", "drop", "fenced_nonsense", "hang", "cut", "empty", "think_only"]


@pytest.mark.parametrize("mode", BROKEN)
def test_whatever_is_wrong_with_it_a_person_is_asked(
    cli: Cli, ollama: OllamaServer, mode: str
) -> None:
    from tests.ollama_server import MODES

    proven(cli)
    (cli.home / "config.yaml").write_text("rerun_safe: ['*']\nllm_timeout: 2s\n")
    if mode == "fenced_nonsense":
        ollama.answer = lambda request: "```\nI cannot help with that.\n```"
    else:
        ollama.fault("/api/chat", mode if mode in MODES else next(m for m in MODES if mode in m))
    assert not acted(cli)
    (document,) = cli.ok("incidents", "--status", "pending", "--json").json["incidents"]
    reason = check(document, "confidence")["reason"]
    assert reason.startswith("model unavailable: "), reason
    assert document["decision"] == "ask"


def test_nobody_listens_there(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["OLLAMA_HOST"] = "127.0.0.1:9"
    document = looked(cli)
    document = cli.ok("incidents", "show", document["incident"], "--json").json
    assert "refused the connection" in check(document, "confidence")["reason"]


def test_an_exact_match_needs_no_model(cli: Cli, ollama: OllamaServer) -> None:
    document = looked(cli, event=exception("ConnectionRefusedError", KNOWN))
    assert document["diagnosis"]["by"] == "exact"
    assert check(document, "confidence")["passed"]
    assert ollama.requests == []


def test_a_pass_asks_once_for_each_signature(cli: Cli, ollama: OllamaServer) -> None:
    for number in range(12):
        cli.server.add_failure("orders", f"t{number}", events=[EVENT])
    cli.ok("watch", "--once")
    cli.ok("watch", "--once")
    assert len(ollama.sent("/api/chat")) == 1
    documents = cli.ok("incidents", "--json").json["incidents"]
    assert {one["diagnosis"]["by"] for one in documents} == {"model"}


def test_what_is_new_is_nobodys_business_but_a_persons(cli: Cli, ollama: OllamaServer) -> None:
    document = looked(cli, event=NEW)
    assert document["decision"] == "novel"
    assert ollama.requests == []
    shown = cli.ok("diagnose", document["incident"], "--json").json
    assert "suggestion" not in shown, "nobody has asked for it"
    ollama.answer = lambda request: said(quotes=["nobody has thought of"])
    shown = cli.ok("diagnose", document["incident"], "--suggest", "--json").json
    assert shown["suggestion"]["action"] == "retry"
    assert shown["suggestion"]["quotes_stand"]
    assert shown["decision"] == "novel"
    assert shown["diagnosis"]["action"] is None
    text = cli.ok("diagnose", document["incident"], "--suggest").text
    assert "SUGGESTS retry, says" in text
    assert "unproven" in text
    assert len(ollama.sent("/api/chat")) == 1
    # It is knowledge only once a person has said so.
    assert [one["kind"] for one in cli.ok("kb", "list", "--json").json["entries"]] == ["runbook"]
    after = looked(cli, "other", event=NEW)
    assert after["diagnosis"]["action"] is None


def test_triage_shows_the_suggestion(cli: Cli, ollama: OllamaServer) -> None:
    looked(cli, event=NEW)
    text = cli.type("triage", keys="q\n").text
    assert "SUGGESTS retry, says" in text
    ollama.requests.clear()
    looked(cli, "second", event=exception("KeyError", "amount"))
    assert "SUGGESTS" not in cli.type("triage", "--no-suggest", keys="s\ns\nq\n").text
    assert ollama.requests == []


def test_what_the_model_is_shown_can_be_seen(cli: Cli, ollama: OllamaServer) -> None:
    secret = exception("ConnectionRefusedError", f"{ALIKE} with password=hunter2secret")
    document = looked(cli, event=secret)
    shown = cli.ok("diagnose", document["incident"], "--show-prompt")
    assert "--- system ---" in shown.out
    assert "it restarts at night" in shown.out
    assert "hunter2secret" not in shown.out
    assert all("hunter2secret" not in request.prompt for request in ollama.requests)
    prompt = cli.ok("diagnose", document["incident"], "--show-prompt", "--json").json["prompt"]
    assert [message["role"] for message in prompt] == ["system", "user"]


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OLLAMA_HOST": "http://gpu.example.com:11434"}, ("gpu.example.com", "ollama_allow")),
        ({"AIOPS_LLM": "ollama:gpt-oss:120b-cloud"}, ("runs in a cloud", "ollama_allow")),
    ],
)
def test_logs_leave_this_machine_only_by_name(
    cli: Cli, ollama: OllamaServer, environ: dict[str, str], words: tuple[str, ...]
) -> None:
    cli.environ |= environ
    cli.run("watch", "--once").refused(2, *words)
    cli.environ |= {"AIOPS_LLM": "none"}
    cli.ok("watch", "--once")


def test_a_cloned_repository_names_nobody(cli: Cli, ollama: OllamaServer) -> None:
    (cli.home / "aiops.yaml").write_text("ollama_allow: [gpu.example.com]\n")
    cli.run("watch", "--once").refused(2, "ollama_allow")


def test_stricter_bounds_for_some(cli: Cli, ollama: OllamaServer) -> None:
    (cli.home / "config.yaml").write_text(
        "rerun_safe: ['*']\ngate:\n  confidence_for: {'dag:ord*': 0.97}\n"
    )
    document = looked(cli)
    document = cli.ok("incidents", "show", document["incident"], "--json").json
    found = check(document, "confidence")
    assert (found["passed"], found["value"], found["bound"]) == (False, 0.95, 0.97)
    (cli.home / "config.yaml").write_text(
        "gate:\n  similarity_for: {'error:ConnectionRefusedError': 0.999}\n"
    )
    document = looked(cli, "other")
    assert document["decision"] == "novel"


@pytest.mark.file_only  # each of them is a pass of its own
@pytest.mark.parametrize("name", ATTACKS)
def test_a_log_that_gives_orders_changes_nothing(cli: Cli, ollama: OllamaServer, name: str) -> None:
    """Even a model that obeys the log wholly, and quotes it, brings no act about."""
    proven(cli)

    ollama.answer = lambda request: obeyed(name)
    before = len(cli.cleared())
    events = [{"event": line, "level": "info"} for line in ATTACKS[name].splitlines()]
    cli.server.add_failure("payments", "post", events=[*events, NEW])
    cli.clock.advance(seconds=1)
    cli.ok("watch", "--once", "--auto")
    assert len(cli.cleared()) == before
    (document,) = cli.ok("incidents", "--dag", "payments", "--json").json["incidents"]
    assert document["status"] == "pending"
    assert not document["gate"]["passed"]
    assert document["diagnosis"]["params"] == {}


def test_an_embedder_that_is_away_leaves_the_exact_matches(
    cli: Cli, ollama: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.environ |= {"AIOPS_LLM": "none", "AIOPS_EMBEDDER": "ollama:nomic-embed-text"}
    made = cli.ok("kb", "reindex", "--json").json
    assert (made["was"], made["embedder"]) == ("builtin", "ollama:nomic-embed-text")
    near = looked(cli)
    assert near["diagnosis"]["by"] in ("near", "nobody")
    if near["diagnosis"]["by"] == "near":
        assert "suggests only" in check(near, "action_allowed")["reason"]
    ollama.fault("/api/embed", "busy")
    exact = looked(cli, "exact", event=exception("ConnectionRefusedError", KNOWN))
    assert exact["diagnosis"]["by"] == "exact"
    alike = looked(cli, "alike", run_id="again")
    assert alike["decision"] == "novel"
    assert "model unavailable: " in check(alike, "confidence")["reason"]
    # What a person decides meanwhile is kept.
    cli.ok("reject", alike["incident"], "--reason", "no", "--action", "none", "--cause", "c")
    kept = json.dumps(cli.ok("kb", "list", "--json").json)
    assert alike["incident"] in kept


FORBIDS = f"""\
- title: not twice
  symptoms: ['ConnectionRefusedError: {ALIKE}']
  cause: it books twice
  action: none
  safe_to_retry: false
"""


@pytest.mark.parametrize("mode", ["", "busy"])
def test_an_embedder_that_is_away_hides_no_word_against_a_rerun(
    cli: Cli, ollama: OllamaServer, mode: str
) -> None:
    (cli.home / "forbids.yaml").write_text(FORBIDS)
    cli.ok("kb", "seed", str(cli.home / "forbids.yaml"))
    cli.environ |= {"AIOPS_LLM": "none", "AIOPS_EMBEDDER": "ollama:nomic-embed-text"}
    cli.ok("kb", "reindex")
    if mode:
        ollama.fault("/api/embed", mode)
    exact = looked(cli, event=exception("ConnectionRefusedError", KNOWN))
    assert (exact["diagnosis"]["by"], exact["diagnosis"]["action"]) == ("exact", "retry")
    assert exact["decision"] == "blocked"
    assert "the runbook says not to run this again" in check(exact, "rerun_safe")["reason"]


def test_a_slow_embedder_is_waited_for_once_a_pass(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ |= {"AIOPS_LLM": "none", "AIOPS_EMBEDDER": "ollama:nomic-embed-text"}
    cli.ok("kb", "reindex")
    (cli.home / "config.yaml").write_text("llm_timeout: 2s\n")
    ollama.fault("/api/embed", "hang")
    asked = len(ollama.sent("/api/embed"))
    for name in ("amount", "date", "customer", "country"):
        cli.server.add_failure("orders", name, events=[exception("KeyError", f"no {name} there")])
    looked(cli)
    assert len(ollama.sent("/api/embed")) == asked + 1
    documents = cli.ok("incidents", "--json").json["incidents"]
    assert len(documents) == 5
    assert all("timed out" in check(one, "confidence")["reason"] for one in documents)


def test_a_base_without_vectors_and_an_embedder_that_is_away(
    cli: Cli, ollama: OllamaServer
) -> None:
    """What a person decides is done, and is no error; it is remembered once it can be."""
    cli.environ |= {"AIOPS_LLM": "none", "AIOPS_EMBEDDER": "ollama:nomic-embed-text"}
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}/new.db"
    cli.environ["OLLAMA_HOST"] = "127.0.0.1:9"
    row = cli.server.add_failure("orders", "load", events=[EVENT])
    (new,) = cli.ok("watch", "--once", "--json").lines
    cli.ok("approve", new["incident"], "--action", "retry", "--yes")
    cli.server.finish(row)
    other = looked(cli, "other", event=NEW)
    cli.ok("reject", other["incident"], "--reason", "no", "--action", "none", "--cause", "c")
    assert cli.ok("incidents", "show", new["incident"], "--json").json["outcome"] == "fixed"
    said = cli.ok("kb", "search", KNOWN)
    assert "only the very same failures were looked for: Ollama" in said.err


def test_a_prompt_that_cannot_be_told_is_no_failed_command(cli: Cli, ollama: OllamaServer) -> None:
    document = looked(cli)
    cli.environ["OLLAMA_HOST"] = "127.0.0.1:9"
    shown = cli.ok("diagnose", document["incident"], "--show-prompt")
    assert "what it would be shown is not known: Ollama at" in shown.err
    cli.environ["AIOPS_LLM"] = "none"
    assert "no model is set" in cli.ok("diagnose", document["incident"], "--show-prompt").err


@pytest.mark.parametrize(
    "text", ["", "Bash command failed. The command returned a non-zero exit code 1."]
)
def test_a_suggestion_for_one_failure_is_none_for_what_only_looks_empty_alike(
    cli: Cli, ollama: OllamaServer, text: str
) -> None:
    event = exception("AirflowException", text) if text else {"event": "", "level": "info"}
    for task in ("one", "two"):
        document = looked(cli, task, event=event)
        cli.ok("diagnose", document["incident"], "--suggest", "--json")
    assert len(ollama.sent("/api/chat")) == 2


def test_quotes_of_another_log_are_none_of_this_one(cli: Cli, ollama: OllamaServer) -> None:
    """One answer serves all failures of a signature, but it proves nothing where its quotes do
    not stand."""
    quote = "the orders database is restarted at 02:00"
    ollama.answer = lambda request: said(quotes=[quote])
    cli.server.add_failure("orders", "one", events=[{"event": quote, "level": "info"}, EVENT])
    cli.clock.advance(seconds=1)
    cli.ok("watch", "--once")
    looked(cli, "other")
    assert len(ollama.sent("/api/chat")) == 1
    found = {one["task_id"]: one for one in cli.ok("incidents", "--json").json["incidents"]}
    assert check(found["one"], "confidence")["passed"]
    assert found["other"]["diagnosis"]["by"] == "near"
    assert (
        check(found["other"], "confidence")["reason"] == "what the model quotes is not in the log"
    )


@pytest.mark.file_only
def test_a_backtest_asks_it_anew_about_what_is_stored(cli: Cli, ollama: OllamaServer) -> None:
    cli.environ["AIOPS_LLM"] = "none"
    cli.clock.advance(seconds=120)  # the runbook was there before it
    document = looked(cli)
    cli.ok("approve", document["incident"], "--action", "none", "--cause", "it has moved", "--yes")
    assert cli.ok("backtest", "--json").json["model"] is None
    cli.environ["AIOPS_LLM"] = "ollama:llama3.1"
    found = cli.ok("backtest", "--with-model", "--json").json
    assert (found["model"]["asked"], found["model"]["heard"], found["incidents"]) == (1, 1, 1)
    assert (found["model"]["held"], found["model"]["right"]) == (1, 0), "none was right, not retry"
    assert "its action was right in 0 (0 %) of 1" in cli.ok("backtest", "--with-model").text
    assert len(ollama.sent("/api/chat")) == 1, "the answer was kept"

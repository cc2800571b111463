"""The bench of models counts what it says, and tells dice from a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiops_cli.diagnosis import ladder
from aiops_cli.diagnosis.advisor import Answer
from aiops_cli.incidents import Diagnosis, Opinion, Suggestion
from bench import models
from bench.retrieval import Search, load
from knowledge.ranking import BUILTIN_BOUND
from tests.ollama_server import OllamaServer


@pytest.fixture(scope="module")
def near() -> models.Asked:
    """The first labelled failure whose nearest other is above the bound and has its action."""
    rows = load()
    search = Search(rows)
    for index, row in enumerate(rows):
        matches = models.nearest(rows, search, index)
        asked = models.Asked(row, models.incident_of(row), matches, Answer(unavailable="x"), 0.0)
        if models.goes_on(asked, BUILTIN_BOUND, None)[0] == row.action:
            return asked
    raise AssertionError("none of them")


def said(near: models.Asked, **fields: Any) -> models.Asked:
    known = {"action": near.row.action, "cause": "c", "confidence": 0.9, "explanation": ""}
    made = Suggestion(**{**known, "quotes": (), "model": "m", "prompt_version": "p", **fields})
    return replace(near, answer=Answer(made, quotes_stand=True))


def test_what_goes_on_and_what_stops_it(near: models.Asked) -> None:
    def heard(asked: models.Asked) -> tuple[str | None, str]:
        return models.goes_on(asked, BUILTIN_BOUND, asked.opinion)

    assert {match.found for match in near.matches} == {"near"}
    assert heard(said(near)) == (near.row.action, "")
    assert heard(said(near, confidence=0.79)) == (None, "it is not sure enough")
    assert heard(said(near, action="mark_success")) == (None, "it proposes another action")
    assert heard(near) == (None, "no answer that can be used")
    made_up = replace(said(near), answer=replace(said(near).answer, quotes_stand=False))
    assert heard(made_up) == (None, "its quotes are not in the log")
    # Below the bound nobody is asked, and nothing goes on, whatever a model says.
    assert models.goes_on(said(near), 1.01, said(near).opinion) == (None, "")


def test_a_model_that_brings_an_act_about_is_told(
    near: models.Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [said(near)]
    assert models.report_outcomes(asked, BUILTIN_BOUND, "t") == []

    def obeys(diagnosis: Diagnosis, opinion: Opinion) -> Diagnosis:
        return replace(diagnosis, action="mark_success")

    monkeypatch.setattr(ladder, "with_opinion", obeys)
    (broken,) = models.report_outcomes(asked, BUILTIN_BOUND, "t")
    assert "mark_success with it" in broken


SURE = {"action": "none", "cause": "c", "confidence": 0.97, "explanation": "", "quotes": []}


def rows_of(out: str, name: str) -> list[str]:
    return [line.split(name)[1].strip() for line in out.splitlines() if name in line]


def test_dice_are_called_dice(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.main(["--limit", "8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("NO MODEL WAS ASKED.")
    assert "\n8 failures\n" in out
    assert len(rows_of(out, "the model changes the outcome")) == 2


def test_a_real_one_is_asked_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with OllamaServer() as server:
        server.answer = lambda request: SURE
        server.fault("/api/chat", "crash", times=2)
        arguments = ["--host", server.url, "--model", "llama3.1", "--limit", "6"]
        assert models.main(arguments) == 0
        assert len(server.sent("/api/chat")) == 6
    out = capsys.readouterr().out
    assert "NO MODEL" not in out
    assert out.startswith("llama3.1 at ")
    assert rows_of(out, "unavailable") == ["2"]
    assert rows_of(out, "that can be used")[0].endswith("(4/6)")
    assert rows_of(out, "of these: quotes stand in the log")[0].endswith("(0/4)")
    assert rows_of(out, "0.95 to 1.00")[0].endswith("/4)")
    assert rows_of(out, "with it: goes on")[0].endswith("(0/6)"), "without quotes nothing does"


def test_a_host_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        models.main(["--host", "127.0.0.1"])
    assert "go together" in capsys.readouterr().err

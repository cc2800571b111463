"""One's own incidents again: judged only by what was known before, and counted as they ended."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.backtest import OUTCOMES, Step, baselines, judged, measure, model, precision, run
from aiops_cli.backtest_page import as_html
from aiops_cli.published import utc
from aiops_cli.replay import Replay, SetClock, verdict
from bench import stream as simulated
from bench._site import corpus, stream
from knowledge.base import KnowledgeBase
from knowledge.calibration import Truth
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Case, Decision, Incident, Outcome, OutcomeName, Vouch
from knowledge.signature import sign
from knowledge.stores import Store
from knowledge.stores.memory import MemoryStore
from knowledge.stores.sqlite import SqliteStore
from tests import builders, samples
from tests.cli import Cli
from tests.test_page import read

T0 = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
HOUR = timedelta(hours=1)
REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused by db-orders"


def failed(number: int, text: str = REFUSED, **fields: Any) -> Incident:
    """The same task fails every ten hours."""
    at = T0 + 10 * HOUR * number
    known: dict[str, Any] = {
        "run_id": f"run-{number}",
        "ti_id": f"ti-{number}",
        "failed_at": at,
        "seen_at": at,
        "signature": sign(text),
        "context": {},
    }
    return builders.incident(**{**known, **fields})


class Record:
    """A knowledge base in which somebody approved and rejected."""

    def __init__(self) -> None:
        self.clock = SetClock(T0)
        self.store: Store = MemoryStore(self.clock.now)
        self.knowledge = KnowledgeBase(self.store, BuiltinEmbedder())

    def seen(self, incident: Incident) -> Incident:
        self.clock.at = incident.seen_at
        assert self.store.add_incident(incident)
        return incident

    def approved(
        self, incident: Incident, outcome: OutcomeName | None = "fixed", action: str = "retry"
    ) -> None:
        self.seen(incident)
        at = self.clock.at = incident.seen_at + HOUR
        decision = Decision(incident.id, "approve", at, "ana", action)
        vouch = Vouch(
            incident.instance, incident.dag_id, incident.task_id,
            incident.signature.fingerprint, True, "ana", at,
        )  # fmt: skip
        if action == "none":
            self.store.record(decision)
        else:
            token = self.store.claim(incident.id, incident.ti_id, "ana", HOUR)
            assert token is not None
            done = self.store.open_door(incident.id, token, decision, vouches=[vouch])
            if outcome is not None:
                ended = Outcome(incident.id, done.seq, at + HOUR, outcome)
                self.store.settle(incident.id, token, "done", ended)
        self.knowledge.learn(incident, action=action, params={}, cause="nightly restart", at=at)

    def replayed(self) -> list[Step]:
        clock = SetClock(T0 - 1000 * HOUR)
        store = SqliteStore.in_memory(clock.now)
        try:
            replay = Replay(simulated.settings(), KnowledgeBase(store, BuiltinEmbedder()), clock)
            return run(replay, self.knowledge, None, lambda _done, _of: None)
        finally:
            store.close()


def test_the_first_is_asked_about_and_the_next_acted_on() -> None:
    record = Record()
    for number in range(3):
        record.approved(failed(3 * number))
    assert [step.outcome for step in record.replayed()] == ["asked", "right", "right"]


def test_nothing_is_known_before_it_was_decided() -> None:
    """Two fail before the answer to the first one is given."""
    record = Record()
    second = failed(0, run_id="run-b", ti_id="ti-b", seen_at=T0 + HOUR / 2)
    record.approved(failed(0))
    record.approved(second)
    assert [step.outcome for step in record.replayed()] == ["asked", "asked"]


def test_what_is_decided_later_changes_no_earlier_judgement() -> None:
    record = Record()
    record.approved(failed(0))
    record.approved(failed(3))
    before = [step.document for step in record.replayed()]
    record.approved(failed(6), "failed")
    record.approved(failed(9, "KeyError: 'unit_price'"), action="none")
    assert [step.document for step in record.replayed()][:2] == before


def test_what_did_not_help_is_wasted_and_then_left() -> None:
    record = Record()
    record.approved(failed(0))
    record.approved(failed(3), "failed")
    record.approved(failed(6))
    assert [step.outcome for step in record.replayed()] == ["asked", "wasted", "asked"]


def test_a_known_none_is_told() -> None:
    record = Record()
    record.approved(failed(0), action="none")
    record.approved(failed(3), action="none")
    record.approved(failed(6))
    assert [step.outcome for step in record.replayed()] == ["asked", "told", "mistold"]


def test_an_act_called_wrong_is_harmful_and_ends_it() -> None:
    record = Record()
    for number in range(2):
        record.approved(failed(3 * number))
    record.clock.at = failed(3).seen_at + 3 * HOUR
    record.store.call_wrong(failed(3).id, "ana", record.clock.at, "paid twice")
    record.approved(failed(6))
    assert [step.outcome for step in record.replayed()] == ["asked", "harmful", "asked"]


def test_an_end_that_nobody_saw_is_unclear() -> None:
    record = Record()
    record.approved(failed(0))
    record.seen(failed(3))
    assert [step.outcome for step in record.replayed()] == ["asked", "unclear"]


def test_a_rejection_is_replayed_with_what_was_learned_from_it() -> None:
    record = Record()
    record.approved(failed(0))
    incident = record.seen(failed(3))
    at = record.clock.at = incident.seen_at + HOUR
    record.store.record(
        Decision(incident.id, "reject", at, "ana", "retry", cause="moved", reason="it moved")
    )
    record.knowledge.learn(incident, action="none", params={}, cause="moved", at=at)
    record.seen(failed(6))
    steps = record.replayed()
    assert [step.outcome for step in steps] == ["asked", "wasted", "asked"]
    assert steps[2].document["diagnosis"]["action"] == "none"


def test_runbooks_are_known_from_when_they_were_stored() -> None:
    record = Record()
    entry = builders.entry("none", created_at=T0 + 15 * HOUR)
    symptom = replace(entry.symptoms[0], signature=sign(REFUSED))
    record.seen(failed(0))
    record.knowledge.put([replace(entry, symptoms=(symptom,))], T0 + 15 * HOUR)
    record.seen(failed(3))
    assert [step.outcome for step in record.replayed()] == ["asked", "told"]


def test_what_somebody_remembered_without_a_decision_is_known_from_then_on() -> None:
    record = Record()
    first = record.seen(failed(0))
    at = first.seen_at + HOUR
    record.knowledge.learn(first, action="none", params={}, cause="moved", at=at)
    record.seen(failed(0, run_id="before", ti_id="before", seen_at=T0 + HOUR / 2))
    record.seen(failed(3))
    assert [step.outcome for step in record.replayed()] == ["asked", "asked", "told"]


def test_what_airflow_taught_is_known_from_when_it_was_learned() -> None:
    record = Record()
    record.seen(failed(0))
    learned = T0 + 15 * HOUR
    one = samples.lesson(
        0,
        signature=sign(REFUSED),
        failed_at=T0,
        at=T0,
        ended_at=T0 + HOUR,
        seen_at=learned,
        params={},
    )
    record.store.add_lessons([one])
    record.knowledge.learn_history([one.signature.fingerprint], T0 + 100 * HOUR)
    record.seen(failed(3))
    before, after = (step.document for step in record.replayed())
    checks = {check["name"]: check["passed"] for check in after["gate"]["checks"]}
    assert before["diagnosis"]["action"] is None
    assert (after["diagnosis"]["action"], after["decision"]) == ("retry", "ask")
    assert (checks["evidence"], checks["rerun_safe"]) == (True, False)
    record.store.retire_entries(
        [record.store.entries(kind="history")[0].id], "ana", T0 + 200 * HOUR, "no"
    )
    assert record.replayed()[1].document["diagnosis"]["action"] is None, "left out throughout"


# ---- what it comes to ----


def step(
    acts: str | None = None,
    known: Truth | None = None,
    similarity: float = 0.9,
    best: str | None = "retry",
    opinion: dict[str, Any] | None = None,
    failed_checks: tuple[str, ...] = (),
) -> Step:
    match = {"found": "near", "similarity": similarity, "action": best}
    document = {
        "matches": [match],
        "decision": "auto" if acts else "ask",
        "diagnosis": {"action": acts or best, "opinion": opinion},
        "gate": {"checks": [{"name": name, "passed": False} for name in failed_checks]},
    }
    return Step(Case(failed(0), "pending"), document, verdict(document), known)


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        (Truth(right="retry"), "right"),
        (Truth(right="none"), "wasted"),
        (Truth(wrong="retry"), "wasted"),
        (Truth(right="none", wrong="retry", harmful=True), "harmful"),
        (None, "unclear"),
    ],
)
def test_how_an_act_counts(known: Truth | None, outcome: str) -> None:
    assert judged("retry", known) == outcome
    assert step("retry", known).outcome == outcome


def test_baselines_act_at_once() -> None:
    steps = [
        step(known=Truth(right="retry"), similarity=0.83),
        step(known=Truth(right="none"), similarity=0.81, best="none"),
    ]
    found = baselines(steps)
    assert found["blind retry"]["right"] == found["blind retry"]["wasted"] == 1
    assert found["one global 0.82"]["right"] == found["one global 0.82"]["asked"] == 1
    assert found["exact match only"]["asked"] == 2


def test_precision_counts_what_reaches_a_bound() -> None:
    steps = [step(known=Truth(right=right), similarity=s)
             for right, s in (("retry", 0.96), ("none", 0.86), ("retry", 0.72))]  # fmt: skip
    told = {one["bound"]: (one["reached"], one["right"]) for one in precision(steps)}
    assert (told[0.0], told[0.7], told[0.85], told[0.95]) == ((3, 2), (3, 2), (2, 1), (1, 1))


def said(action: str, confidence: float, **fields: Any) -> dict[str, Any]:
    opinion = {"model": "llama3.1", "action": action, "confidence": confidence}
    return opinion | {"quotes_stand": True, "unheard": None} | fields


def test_what_a_model_was_worth() -> None:
    found = model(
        [
            step("retry", Truth(right="retry"), opinion=said("retry", 0.97)),
            step(None, Truth(right="none"), opinion=said("none", 0.97),
                 failed_checks=("confidence",)),
            step(None, Truth(right="retry"), opinion=said("none", 0.62),
                 failed_checks=("confidence",)),
            step(None, Truth(right="retry"), opinion=said("none", 0.62),
                 failed_checks=("confidence", "evidence")),
            step(opinion=said("", 0.0, unheard="timed out")),
            step(),
        ]
    )  # fmt: skip
    assert found is not None
    assert (found["asked"], found["heard"], found["unheard"]) == (5, 4, {"timed out": 1})
    assert (found["held"], found["right"]) == (4, 2)
    assert found["stopped"] == {"wasted": 1, "right": 1}
    bins = {one["from"]: (one["said"], one["right"]) for one in found["reliability"]}
    assert (bins[0.95], bins[0.6]) == ((2, 2), (2, 0))


def test_the_time_is_from_the_first_failure_to_the_last_though_the_newest_is_seen_first() -> None:
    cases = [Case(failed(number), "pending") for number in (1, 2, 0)]
    doc = measure(
        [replace(step(), case=case) for case in cases], embedder="", floor=0.85, risk=0.01
    )
    assert (doc["since"], doc["until"]) == (utc(T0), utc(T0 + 20 * HOUR))


def test_no_model_is_no_model() -> None:
    assert model([step()]) is None


def test_a_long_record_suggests_a_bound_and_the_lines_for_it() -> None:
    steps = [step(known=Truth(right="retry"), similarity=0.95)] * 120
    steps += [step(known=Truth(right="none"), similarity=0.9312)]
    found = measure(steps, embedder="builtin", floor=0.85, risk=0.01)["bound"]
    assert (found["value"], found["outcomes"]) == (0.9313, 121)
    assert found["settings"] == ["gate:", "  similarity: 0.932"]
    short = measure(steps[:12], embedder="builtin", floor=0.85, risk=0.01)["bound"]
    assert (short["value"], short["outcomes"], short["settings"]) == (None, 12, [])


# ---- the command ----


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The knowledge base of a made-up site after 25 failures."""
    file = tmp_path_factory.mktemp("site") / "knowledge.db"
    simulation = simulated.Simulation(simulated.settings(), 0.1, seed=3, file=file)
    for failure in stream(corpus(), 25, seed=3):
        simulation.meet(failure)
    simulation.replay.store.close()
    return file


@pytest.fixture
def site(cli: Cli, filled: Path) -> Cli:
    cli.environ["AIOPS_KB"] = f"sqlite:///{filled}"
    return cli


@pytest.mark.file_only
def test_the_command_counts_every_incident_and_changes_none(site: Cli) -> None:
    before = site.ok("kb", "stats", "--json").json
    said = site.ok("backtest", "--json").json
    assert site.ok("kb", "stats", "--json").json == before
    assert said["incidents"] >= 25
    assert sum(said["outcomes"].values()) == said["incidents"]
    assert sum(block[one] for block in said["curve"] for one in OUTCOMES) == said["incidents"]
    assert said["outcomes"]["right"] + said["outcomes"]["told"] > 0
    assert said["model"] is None


@pytest.mark.file_only
def test_too_little_is_said(site: Cli) -> None:
    told = site.ok("backtest").text
    assert "no bound can be suggested before 100" in told
    assert "each judged by what was known before it" in told


@pytest.mark.file_only
def test_the_page_stands_alone(site: Cli) -> None:
    file = site.home / "backtest.html"
    said = site.ok("backtest", "--html", str(file))
    assert said.out == ""
    text = file.read_text(encoding="utf-8")
    assert "Learning curve" in read(text).text
    assert text.count("<svg") >= 2


def test_a_hostile_error_class_does_nothing_in_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    incident = failed(0, signature=builders.signature(error_class=hostile))
    bad = step(known=Truth(right="none"), similarity=0.95)
    bad = replace(bad, case=replace(bad.case, incident=incident))
    good = step(known=Truth(right="retry"), similarity=0.99)
    doc = measure([*[good] * 499, bad], embedder="builtin", floor=0.85, risk=0.01)
    assert hostile in doc["bound"]["kinds"]
    page = as_html(json.loads(json.dumps(doc)))
    assert "script" not in read(page).tags
    assert hostile in read(page).text


@pytest.mark.file_only
def test_nothing_stored_is_told(cli: Cli) -> None:
    assert "No incidents are stored yet" in cli.ok("backtest").text
    assert cli.ok("backtest", "--json").json["incidents"] == 0


@pytest.mark.parametrize(
    "words",
    [("--risk", "0"), ("--risk", "0.9"), ("--with-model",), ("--json", "--html", "x.html")],
)
def test_what_cannot_be_done_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli.run("backtest", *words)
    assert said.code == 2
    assert "hint: " in said.err

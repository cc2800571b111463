"""One's own incidents again: judged only by what was known before, and counted as they ended."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.backtest import (
    OUTCOMES,
    Asked,
    Step,
    baselines,
    judged,
    measure,
    model,
    precision,
    run,
)
from aiops_cli.backtest_page import as_html
from aiops_cli.backtest_text import told_bound
from aiops_cli.published import utc
from aiops_cli.replay import Replay, Scratch, SetClock, Verdict
from bench import stream as simulated
from bench._site import corpus, stream
from knowledge.base import KnowledgeBase
from knowledge.calibration import Labelled, Truth
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import (
    Decision,
    Excerpt,
    Incident,
    Judgement,
    Outcome,
    OutcomeName,
    Vouch,
)
from knowledge.signature import sign
from knowledge.stores import Store
from knowledge.stores.memory import MemoryStore
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


class Listening(Replay):
    """One that keeps what it judged."""

    def __init__(self, *desk: Any) -> None:
        super().__init__(*desk)
        self.documents: list[Mapping[str, Any]] = []

    def judge(self, incident: Incident) -> Mapping[str, Any]:
        self.documents.append(super().judge(incident))
        return self.documents[-1]


class Record:
    """A knowledge base in which somebody approved and rejected."""

    def __init__(self) -> None:
        self.clock = SetClock(T0)
        self.store: Store = MemoryStore(self.clock.now)
        self.knowledge = KnowledgeBase(self.store, BuiltinEmbedder())
        self.documents: list[Mapping[str, Any]] = []  # of the last replay, in their order

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
        with closing(Scratch.beside(self.store, clock.now)) as store:
            replay = Listening(simulated.settings(), KnowledgeBase(store, BuiltinEmbedder()), clock)
            steps = run(replay, self.knowledge, None, lambda _done, _of: None)
        self.documents = replay.documents
        return steps


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
    record.replayed()
    before = record.documents
    record.approved(failed(6), "failed")
    record.approved(failed(9, "KeyError: 'unit_price'"), action="none")
    record.replayed()
    assert record.documents[:2] == before


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
    assert record.documents[2]["diagnosis"]["action"] == "none"


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
    task = record.seen(failed(0))
    learned = T0 + 15 * HOUR
    one = samples.lesson(
        0,
        instance=task.instance,
        dag_id=task.dag_id,
        task_id=task.task_id,
        signature=sign(REFUSED),
        failed_at=T0,
        at=T0,
        ended_at=T0 + HOUR,
        seen_at=learned,
        params={},
    )
    record.store.add_lessons([one])
    record.knowledge.learn_history([one.signature.fingerprint], learned)
    record.seen(failed(3))
    record.replayed()
    before, after = record.documents
    checks = {check["name"]: check["passed"] for check in after["gate"]["checks"]}
    assert before["diagnosis"]["action"] is None
    assert (after["diagnosis"]["action"], after["decision"]) == ("retry", "ask")
    assert (checks["evidence"], checks["rerun_safe"]) == (True, False)


def test_what_was_retired_is_known_until_then() -> None:
    record = Record()
    for number in range(3):
        record.approved(failed(3 * number))
    (entry,) = record.store.entries()
    record.store.retire_entries([entry.id], "ana", failed(6).seen_at - HOUR, "no")
    assert [step.outcome for step in record.replayed()] == ["asked", "right", "asked"]


def test_what_an_entry_said_then_is_what_was_known_then() -> None:
    """A runbook whose wording was touched, or whose answer is another one now."""
    record = Record()
    entry = builders.entry("none", created_at=T0)
    symptom = replace(entry.symptoms[0], signature=sign(REFUSED))
    entry = replace(entry, symptoms=(symptom,))
    record.knowledge.put([entry], T0)
    record.seen(failed(1))
    changed = T0 + 15 * HOUR
    record.knowledge.put([replace(entry, cause="moved again", created_at=changed)], changed)
    record.seen(failed(2))
    last = T0 + 25 * HOUR
    record.knowledge.put([replace(entry, action="retry", created_at=last)], last)
    record.seen(failed(3))
    assert [step.outcome for step in record.replayed()] == ["told", "told", "asked"]
    causes = [one["diagnosis"]["cause"] for one in record.documents]
    assert causes == [entry.cause, "moved again", entry.cause]


def test_a_word_on_a_task_counts_from_when_it_was_said() -> None:
    """Of an act that the replay does not let through, too, and before the next decision."""
    record = Record()
    record.approved(failed(0))
    said = failed(3).seen_at + HOUR
    one = record.seen(failed(3))
    no = Vouch(one.instance, one.dag_id, one.task_id, None, False, "ana", said, "it pays")
    record.clock.at = said
    record.store.record(Decision(failed(0).id, "shadow", said, "ana", "retry"), [no])
    record.seen(failed(6))
    assert [step.outcome for step in record.replayed()] == ["asked", "unclear", "asked"]
    checks = {check["name"]: check["passed"] for check in record.documents[2]["gate"]["checks"]}
    assert checks["rerun_safe"] is False


def test_an_act_that_was_undone_was_not_right() -> None:
    record = Record()
    record.approved(failed(0))
    record.approved(failed(3))
    at = record.clock.at = failed(3).seen_at + 3 * HOUR
    record.store.record(Decision(failed(3).id, "reject", at, "bo", "retry", reason="undone"))
    record.seen(failed(6))
    steps = record.replayed()
    assert [step.outcome for step in steps] == ["asked", "wasted", "asked"]
    checks = {check["name"]: check for check in record.documents[2]["gate"]["checks"]}
    assert "rejected" in checks["evidence"]["reason"]


def test_what_a_person_ended_in_airflow_itself_is_known() -> None:
    record = Record()
    record.approved(failed(0))
    there = record.seen(failed(3))
    at = record.clock.at = there.seen_at + HOUR
    record.store.record(Decision(there.id, "superseded", at, "airflow"))
    lesson = samples.lesson(
        0, instance=there.instance, dag_id=there.dag_id, run_id=there.run_id,
        task_id=there.task_id, map_index=there.map_index, try_number=there.try_number,
        signature=there.signature, failed_at=there.failed_at, at=at, ended_at=at, seen_at=at,
    )  # fmt: skip
    record.store.add_lessons([lesson])
    assert [step.outcome for step in record.replayed()] == ["asked", "right"]


def test_no_log_is_held() -> None:
    record = Record()
    log = "x" * 100_000
    for number in range(30):
        record.approved(failed(number, excerpt=Excerpt(log + str(number), (1,), 1)))
    record.replayed()
    record.documents.clear()
    tracemalloc.start()
    try:
        steps = record.replayed()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(steps) == 30
    assert held < 15 * len(log)


# ---- what it comes to ----


def step(
    acts: str | None = None,
    known: Truth | None = None,
    similarity: float = 0.9,
    best: str | None = "retry",
    asked: Asked | None = None,
    kind: str = "KeyError",
) -> Step:
    said = Verdict(acts, False, acts or best, similarity, "near", best)
    return Step(T0, kind, said, known, asked)


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


def heard(said: str, sure: float, stopped: bool = False, unheard: str | None = None) -> Asked:
    return Asked("llama3.1", unheard, said, sure, True, "retry", stopped)


def test_what_a_model_was_worth() -> None:
    found = model(
        [
            step("retry", Truth(right="retry"), asked=heard("retry", 0.97)),
            step(None, Truth(right="none"), asked=heard("none", 0.97, stopped=True)),
            step(None, Truth(right="retry"), asked=heard("none", 0.62, stopped=True)),
            step(None, Truth(right="retry"), asked=heard("none", 0.62)),
            step(asked=heard("", 0.0, unheard="timed out")),
            step(),
        ]
    )
    assert found is not None
    assert (found["asked"], found["heard"], found["unheard"]) == (5, 4, {"timed out": 1})
    assert (found["held"], found["right"]) == (4, 2)
    assert found["stopped"] == {"wasted": 1, "right": 1}
    bins = {one["from"]: (one["said"], one["right"]) for one in found["reliability"]}
    assert (bins[0.95], bins[0.6]) == ((2, 2), (2, 0))


@pytest.mark.parametrize(
    ("proposed", "failed_checks", "stopped"),
    [
        ("retry", ("confidence",), True),
        ("retry", ("confidence", "evidence"), False),
        ("retry", ("confidence", "action_allowed"), False),
        ("none", ("confidence", "action_allowed"), True),
        ("retry", (), False),
    ],
)
def test_a_stored_opinion_stopped_what_nothing_else_did(
    proposed: str, failed_checks: tuple[str, ...], stopped: bool
) -> None:
    record = Record()
    incident = record.seen(failed(0))
    opinion = {"model": "llama3.1", "action": "none", "confidence": 0.4}
    document = {
        "matches": [],
        "decision": "ask",
        "diagnosis": {
            "action": proposed,
            "opinion": opinion | {"quotes_stand": True, "unheard": None},
        },
        "gate": {"checks": [{"name": name, "passed": False} for name in failed_checks]},
    }
    record.store.add_judgement(Judgement(incident.id, T0, document))
    (one,) = record.replayed()
    assert one.asked == Asked("llama3.1", None, "none", 0.4, True, proposed, stopped)


def measured(steps: Sequence[Step], record: Sequence[Labelled] = (), **more: Any) -> Any:
    known = {"embedder": "builtin", "floor": 0.85, "risk": 0.01}
    return measure(steps, record, **{**known, **more})


def test_the_time_is_from_the_first_failure_to_the_last_though_the_newest_is_seen_first() -> None:
    doc = measured([replace(step(), failed_at=failed(number).failed_at) for number in (1, 2, 0)])
    assert (doc["since"], doc["until"]) == (utc(T0), utc(T0 + 20 * HOUR))


def test_no_model_is_no_model() -> None:
    assert model([step()]) is None


LONG = [*[Labelled(0.95, True)] * 120, Labelled(0.9312, False)]


def test_a_long_record_suggests_a_bound_and_the_lines_for_it() -> None:
    found = measured([], LONG)["bound"]
    assert (found["value"], found["outcomes"], found["from"]) == (0.9313, 121, "record")
    assert found["settings"] == ["gate:", "  similarity: 0.932"]
    assert found["in_use"] == {"value": 0.9313, "from": "record", "outcomes": 121}
    short = measured([], LONG[:12])["bound"]
    assert (short["value"], short["outcomes"], short["settings"]) == (None, 12, [])
    assert short["in_use"] == {"value": 0.85, "from": "embedder", "outcomes": 12}


def test_the_watchs_own_bound_is_told_beside_one_for_another_risk() -> None:
    found = measured([], LONG, risk=0.05)["bound"]
    assert (found["value"], found["in_use"]["value"]) == (0.85, 0.9313)
    told = " ".join(told_bound(found))
    assert "`aiops watch` uses 0.931, from the same record at 1 %" in told
    same = " ".join(told_bound(measured([], LONG)["bound"]))
    assert "`aiops watch` uses this bound by itself" in same


def test_what_was_judged_anew_counts_where_the_record_has_too_few_of_this_embedder() -> None:
    """Another embedder was in use: what its bound would be can be seen before it is."""
    steps = [step(known=Truth(right="retry"), similarity=0.95)] * 120
    steps += [step(known=Truth(right="none"), similarity=0.9312)]
    found = measured(steps, LONG[:3])["bound"]
    assert (found["value"], found["outcomes"], found["from"]) == (0.9313, 121, "replay")
    assert found["in_use"] == {"value": 0.85, "from": "embedder", "outcomes": 3}
    told = " ".join(told_bound(found))
    assert "judged anew" in told
    assert "`aiops watch` uses 0.850, builtin's own" in told
    assert measured(steps, [Labelled(0.99, True)] * 100)["bound"]["from"] == "record"


def test_it_is_the_bound_that_the_watch_uses() -> None:
    """One rule, the same data: whatever the replay came to."""
    record = Record()
    for number in range(105):
        incident = failed(number)
        record.approved(incident, "failed" if number == 50 else "fixed")
        match = {"found": "near", "similarity": 0.9 + number / 10_000, "action": "retry"}
        document = {
            "matches": [match],
            "decision": "ask",
            "diagnosis": {"action": "retry"},
            "gate": {"checks": [], "bound": {"embedder": "builtin"}},
        }
        record.store.add_judgement(Judgement(incident.id, incident.seen_at, document))
    watch = record.knowledge.record_bound()
    found = measured([], record.knowledge.labelled())["bound"]
    assert (watch.value, watch.outcomes) == (0.9051, 105)
    assert (found["value"], found["outcomes"]) == (watch.value, watch.outcomes)


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
    record = [*[Labelled(0.99, True)] * 499, Labelled(0.95, False, hostile)]
    doc = measured([step(known=Truth(right="retry"))], record)
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
    [
        ("--risk", "0"),
        ("--risk", "0.001"),
        ("--risk", "0.9"),
        ("--with-model",),
        ("--json", "--html", "x.html"),
    ],
)
def test_what_cannot_be_done_is_refused(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli.run("backtest", *words)
    assert said.code == 2
    assert "hint: " in said.err

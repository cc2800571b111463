"""Whose doing a green task is, and what may still be done: nothing is assumed, nothing repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aiops_cli import decide, respond
from aiops_cli.airflow.gateway import Gateway
from aiops_cli.errors import Refused
from aiops_cli.published import plan_document
from knowledge.errors import DoorClosed
from knowledge.records import Case, Decision, Outcome, Pause
from tests.airflow_server import RUN
from tests.desk import REFUSED, Bench, bench
from tests.test_respond import approve, fail


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        yield made


def cut_off(at: Bench, when: str) -> None:
    """Approve a retry and die right before ("sent") or right after ("told") the clear."""
    original = at.desk.airflow.clear

    def clear(*args: Any, **options: Any) -> Any:
        if options["dry_run"]:
            return original(*args, **options)
        if when == "told":
            original(*args, **options)
        raise KeyboardInterrupt

    at.desk.airflow.clear = clear  # type: ignore[method-assign]  # kill -9
    with pytest.raises(KeyboardInterrupt):
        approve(at, at.only())
    at.desk.airflow.clear = original  # type: ignore[method-assign]


def person_clears(at: Bench, row: dict[str, Any], state: str = "success") -> None:
    """Somebody clears it in Airflow's UI, and it runs."""
    row |= {"id": "theirs", "max_tries": row["try_number"], "state": None}
    at.finish(row, state)


class TestWhose:
    """An outcome is ours only where the new try came of our own clear."""

    def test_cut_off_before_the_clear_what_a_person_did_is_theirs(self, at_work: Bench) -> None:
        row = fail(at_work)
        cut_off(at_work, "sent")
        person_clears(at_work, row)
        (case,) = at_work.watch()
        assert case.status == "superseded"
        assert all(trial.outcome == "superseded" for trial in at_work.store.trials())

    def test_cut_off_before_the_clear_a_mark_by_hand_is_no_fix(self, at_work: Bench) -> None:
        row = fail(at_work)
        cut_off(at_work, "sent")
        row["state"] = "success"
        (case,) = at_work.watch()
        assert case.status == "superseded"

    def test_cut_off_after_the_clear_the_stamp_says_that_it_was_ours(self, at_work: Bench) -> None:
        row = fail(at_work, blocks=["publish"])
        cut_off(at_work, "told")
        at_work.finish(row)
        (case,) = at_work.watch()
        assert (case.status, case.outcome) == ("resolved", "fixed")
        assert at_work.cleared() == [["load"], ["publish"]]
        assert at_work.store.entries(kind="incident")  # and it was learned, though late

    def test_what_somebody_ran_once_more_is_not_our_fix(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row, "failed", [REFUSED])
        at_work.server.past.setdefault(("orders", RUN, "load", -1), []).append(dict(row))
        person_clears(at_work, row)
        changed = {case.incident.try_number: case for case in at_work.watch()}
        assert (changed[1].status, changed[1].outcome) == ("failed", "failed")

    def test_marked_as_success_by_hand_is_no_fix(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.clock.advance(minutes=1)
        at_work.server.add_event(
            "patch_task_instance",
            dag_id="orders",
            run_id=RUN,
            task_id="load",
            when=at_work.clock.now(),
            extra='{"new_state": "success", "method": "PATCH"}',
        )
        at_work.clock.advance(minutes=1)
        at_work.finish(row)
        (case,) = at_work.watch()
        assert case.status == "superseded"

    def test_airflows_own_retries_of_ours_are_ours(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": []}, retries=2)
        row = fail(at_work, try_number=3)
        approve(at_work, at_work.only())
        row |= {"id": "next try", "try_number": 4, "state": "up_for_retry"}
        assert at_work.watch() == []
        at_work.finish(row)
        (case,) = at_work.watch()
        assert case.outcome == "fixed"


class TestLease:
    """Whoever slept through the lease finds the door shut."""

    def test_one_that_was_given_up_is_not_done_afterwards(self, at_work: Bench) -> None:
        fail(at_work)
        seen: list[Case] = []
        retake: Any = at_work.store.retake

        def asleep(*args: Any, **options: Any) -> Any:
            at_work.clock.advance(minutes=20)  # SIGSTOP; somebody else settles meanwhile
            seen.extend(at_work.watch())
            return retake(*args, **options)

        at_work.store.retake = asleep  # type: ignore[method-assign]  # to sleep there
        with pytest.raises(DoorClosed, match="given up"):
            approve(at_work, at_work.only())
        assert [case.status for case in seen] == ["needs_human"]
        assert at_work.cleared() == []

    def test_a_try_that_nobody_decided_on_is_not_cleared(self, at_work: Bench) -> None:
        row = fail(at_work)
        read = at_work.desk.airflow.task_instance
        calls: list[object] = []

        def task_instance(ref: Any) -> Any:
            calls.append(ref)
            if len(calls) == 3:  # the preview's, the act's, and the last before the call
                row.update(id="another", try_number=2)
            return read(ref)

        at_work.desk.airflow.task_instance = task_instance  # type: ignore[method-assign]
        with pytest.raises(Refused, match="somebody else"):
            approve(at_work, at_work.only())
        assert at_work.cleared() == []


class TestAloneStill:
    """What is begun alone goes on only while it may."""

    @staticmethod
    def waiting_alone(at: Bench) -> Any:
        """An act of the tool alone that waits for its time."""
        row = fail(at)
        approve(at, at.only(), "retry_later", delay="1m")
        at.clock.advance(minutes=2)
        at.watch()
        at.finish(row)
        at.watch()
        at.grant()
        at.clock.advance(hours=25)
        later = at.server.add_failure(
            "orders", "load", run_id="next", events=[REFUSED], ended=at.clock.now()
        )
        (case,) = at.watch("auto")
        assert case.status == "acting"
        at.clock.advance(minutes=2)
        return later

    @staticmethod
    def fixed_elsewhere(at: Bench) -> None:
        """The second outcome that DAGs need which have none of their own."""
        at.server.add_failure("stats", "load", events=[REFUSED], ended=at.clock.now())
        at.clock.advance(seconds=9)
        at.watch("shadow")
        (case,) = at.store.cases(status=["pending"], dag="stats")
        one, now = case.incident, at.clock.now()
        token = at.store.claim(one.id, one.ti_id, "w", timedelta(hours=1))
        assert token is not None
        said = Decision(one.id, "approve", now, "ana", "retry_later", {"delay": "1m"})
        made = at.store.open_door(one.id, token, said)
        at.store.settle(one.id, token, "done", Outcome(one.id, made.seq, now, "fixed"))

    def test_it_acts_when_all_is_as_it_was(self, at_work: Bench) -> None:
        self.waiting_alone(at_work)
        before = len(at_work.cleared())
        at_work.watch("auto")
        assert len(at_work.cleared()) == before + 1

    def test_waits_that_come_due_together_keep_the_budget_of_an_hour(self, at_work: Bench) -> None:
        """They were decided in hours of their own, and are counted in the one they are done in."""
        self.waiting_alone(at_work)
        self.fixed_elsewhere(at_work)
        others = ("prices", "sales", "stock")
        for dag_id in others:
            at_work.server.add_dag(dag_id, {"load": []}, tags=["aiops:rerun-safe"])
            at_work.clock.advance(hours=2)
            at_work.server.add_failure(
                dag_id, "load", events=[REFUSED], ended=at_work.clock.now() - timedelta(seconds=9)
            )
            at_work.watch("shadow")  # judged, and not begun: what waits stays waiting
            store = at_work.store
            for case in store.cases(status=["pending"], dag=dag_id):
                token = store.claim(case.incident.id, case.incident.ti_id, "w", timedelta(hours=1))
                assert token is not None
                plan = respond.preview(at_work.desk, case.incident, "retry_later", {"delay": "1m"})
                made = Decision(
                    case.incident.id, "auto", at_work.clock.now(), "w", "retry_later",
                    {"delay": "1m"}, plan=plan_document(plan), grant="grant00001",
                )  # fmt: skip
                store.open_door(case.incident.id, token, made, not_before=at_work.clock.now())
        at_work.desk.settings.gate.__dict__["max_per_hour"] = 2
        before = len(at_work.cleared())
        at_work.watch("auto")
        assert len(at_work.cleared()) - before == 2
        at_work.clock.advance(minutes=61)
        at_work.watch("auto")
        assert len(at_work.cleared()) - before == 4

    @pytest.mark.parametrize(
        "change",
        ["mode", "pause", "revoked", "note", "tag", "paused DAG", "hold", "unhealthy"],
    )
    def test_it_does_not_when_something_has_changed(self, at_work: Bench, change: str) -> None:
        from knowledge.records import Hold

        row = self.waiting_alone(at_work)
        store, now = at_work.store, at_work.clock.now()
        dag = at_work.server.dags["orders"]
        if change == "pause":
            store.set_pause(Pause(True, "ben", now))
        elif change == "revoked":
            store.revoke_grant("grant00001", "ben", now)
        elif change == "note":
            row["note"] = "do not touch"
        elif change == "tag":
            dag["tags"] = [{"name": "aiops:off", "dag_id": "orders"}]
        elif change == "paused DAG":
            dag["is_paused"] = True
        elif change == "hold":
            store.add_hold(Hold("h" * 10, "prod", "orders", "ben", now))
        elif change == "unhealthy":
            at_work.server.health = {
                **at_work.server.health,
                "scheduler": {"status": "unhealthy"},
            }
        before = at_work.cleared()
        at_work.watch("ask" if change == "mode" else "auto")
        at_work.watch("ask" if change == "mode" else "auto")
        assert at_work.cleared() == before

    def test_a_persons_word_holds_for_what_was_shown(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": ["publish"]})
        fail(at_work)
        approve(at_work, at_work.only(), "retry_later", delay="1m")
        at_work.server.add_instance("orders", "publish", "upstream_failed")
        at_work.server.runs["orders", RUN]["state"] = "failed"
        at_work.clock.advance(minutes=2)
        (case,) = at_work.watch()
        assert case.status == "needs_human"
        assert at_work.cleared() == []

    def test_what_really_failed_below_is_not_run_again_alone(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": ["pay", "publish"]})
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row)
        at_work.watch()
        at_work.grant()
        at_work.clock.advance(hours=25)
        ended = at_work.clock.now()
        at_work.server.add_failure(
            "orders", "load", run_id="next", events=[REFUSED], blocks=["publish"], ended=ended
        )
        at_work.server.add_failure("orders", "pay", run_id="next", ended=ended)
        before = len(at_work.cleared())
        at_work.watch("auto")
        assert at_work.cleared()[before:] == [["load"], ["publish"]]

    def test_what_fails_below_meanwhile_waits_for_its_own_yes(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": ["pay"]})
        fail(at_work)
        approve(at_work, at_work.only(), "retry_later", delay="1m")
        at_work.server.add_failure("orders", "pay")
        at_work.clock.advance(minutes=2)
        at_work.watch()
        assert at_work.cleared() == [["load"]]

    @pytest.mark.parametrize("how", ["pause", "ask"])
    def test_what_is_left_of_an_act_alone_waits_too(self, at_work: Bench, how: str) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row)
        at_work.watch()
        at_work.grant()
        at_work.clock.advance(hours=25)
        at_work.server.add_failure(
            "orders", "load", run_id="next", events=[REFUSED], ended=at_work.clock.now()
        )
        at_work.watch("auto")
        at_work.server.runs["orders", "next"]["state"] = "failed"  # it raced with the scheduler
        if how == "pause":
            at_work.store.set_pause(Pause(True, "ben", at_work.clock.now()))
        before = at_work.cleared()
        at_work.watch("ask" if how == "ask" else "auto")
        assert at_work.cleared() == before


def test_a_join_blocked_by_another_failure_is_left_blocked(at_work: Bench) -> None:
    at_work.server.add_dag("orders", {"load": ["join"], "other": ["join"]})
    row = fail(at_work, blocks=["join"])
    cut_off(at_work, "told")
    at_work.server.add_failure("orders", "other", events=[REFUSED])
    at_work.finish(row)
    at_work.watch()
    assert at_work.cleared() == [["load"]]


def test_a_comeback_that_was_seen_before_the_fix_was_settled(at_work: Bench) -> None:
    """`diagnose` may store the next failure before a pass settles the first act."""
    row = fail(at_work)
    approve(at_work, at_work.only())
    at_work.finish(row)
    at_work.clock.advance(minutes=10)
    at_work.server.add_failure(
        "orders", "load", run_id="next", events=[REFUSED], ended=at_work.clock.now()
    )
    from aiops_cli import capture
    from aiops_cli.context import Snapshot
    from aiops_cli.examine import examine

    since = at_work.clock.now()
    snapshot = Snapshot(at_work.desk.airflow, since)
    for failure in capture.poll(snapshot, since=since, instance="prod").values():
        examine(at_work.desk, snapshot, failure)
    at_work.watch()
    first = next(case for case in at_work.store.cases() if case.incident.run_id == RUN)
    assert first.outcome == "relapsed"


def test_failures_without_a_signature_are_not_each_others_relapse(at_work: Bench) -> None:
    row = at_work.server.add_failure("orders", "load")
    at_work.server.logs.clear()
    at_work.watch()
    approve(at_work, at_work.only())
    at_work.finish(row)
    at_work.watch()
    at_work.clock.advance(minutes=10)
    at_work.server.add_failure("orders", "load", run_id="next", ended=at_work.clock.now())
    at_work.server.logs.clear()
    at_work.watch()
    first = next(case for case in at_work.store.cases() if case.incident.run_id == RUN)
    assert first.outcome == "fixed"
    assert at_work.store.vouches("prod", "orders", "load") == ()


def test_what_is_gone_from_airflow_waits_for_nobody(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.instances.clear()
    (case,) = at_work.watch()
    assert case.status == "superseded"


def test_an_idle_pass_asks_little(at_work: Bench) -> None:
    for number in range(20):
        at_work.server.add_failure("orders", "load", run_id=f"run-{number}", events=[REFUSED])
    at_work.watch()
    at_work.watch()
    before = len(at_work.server.requests)
    at_work.watch()
    assert len(at_work.server.requests) - before <= 5


def test_a_clock_that_is_wrong_hides_nothing(at_work: Bench) -> None:
    at_work.server.add_failure("orders", "load", events=[REFUSED])
    at_work.clock.advance(hours=3)  # of this host alone
    at_work.watch()
    at_work.server.add_failure("sales", "load", events=[REFUSED])
    assert [case.incident.dag_id for case in at_work.watch()] == ["sales"]


def test_a_dry_run_writes_nothing(at_work: Bench) -> None:
    row = fail(at_work)
    row |= {"id": "another", "state": "running", "try_number": 2}
    with pytest.raises(Refused, match="superseded"):
        respond.preview(at_work.desk, at_work.only().incident, "retry", {}, dry_run=True)
    assert at_work.only().status == "pending"


def test_a_newer_word_on_the_same_answer_counts(at_work: Bench) -> None:
    """retry, then none, then retry again: the newest word is the answer."""
    for number, action in enumerate(("retry", "none", "retry")):
        at_work.server.add_failure("orders", "load", run_id=f"run-{number}", events=[REFUSED])
        at_work.watch()
        (waiting,) = at_work.store.cases(status=["pending"])
        proposed = decide.proposal(waiting, action, {}, f"word {number}")
        decide.approve(at_work.desk, waiting, proposed, None, None)
        at_work.clock.advance(minutes=1)
    at_work.server.add_failure("orders", "load", run_id="last", events=[REFUSED])
    at_work.watch()
    (case,) = at_work.store.cases(status=["pending"])
    assert case.judgement is not None
    assert case.judgement.document["diagnosis"]["cause"] == "word 2"


class TestReadOnly:
    """What another machine has begun is left to those that may change Airflow."""

    @staticmethod
    def read_only(at: Bench) -> None:
        at.desk = replace(at.desk, settings=replace(at.desk.settings, read_only=True))
        assert isinstance(at.desk.airflow, Gateway)
        at.desk.airflow._transport.read_only = True

    def test_a_retry_that_waits_for_its_time_waits_on(self, at_work: Bench) -> None:
        fail(at_work)
        approve(at_work, at_work.only(), "retry_later")
        at_work.clock.advance(hours=1)
        self.read_only(at_work)
        assert at_work.watch() == []
        (case,) = at_work.store.cases()
        assert (case.status, at_work.cleared()) == ("acting", [])

    def test_what_a_crash_left_blocked_is_not_cleared(self, at_work: Bench) -> None:
        row = fail(at_work, blocks=["publish"])
        cut_off(at_work, "told")
        at_work.finish(row)
        self.read_only(at_work)
        (case,) = at_work.watch()
        assert (case.status, case.outcome) == ("resolved", "fixed")
        assert at_work.cleared() == [["load"]]

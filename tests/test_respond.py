"""Acting: claimed first, previewed, exactly that, once; and settled by what Airflow says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from aiops_cli import decide, respond
from aiops_cli.errors import (
    AirflowConflict,
    AirflowForbidden,
    AirflowUnreachable,
    Refused,
    UsageError,
)
from knowledge.records import Case
from tests.airflow_server import RUN, exception
from tests.desk import REFUSED, Bench, bench

CLEAR = "POST .*/clearTaskInstances"


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        yield made


def approve(at: Bench, case: Case, action: str = "retry", **params: str) -> Case:
    proposed = decide.proposal(case, action, params, "the service restarts at night")
    plan = (
        None
        if action == "none"
        else respond.preview(at.desk, case.incident, proposed.action, proposed.params)
    )
    return decide.approve(at.desk, case, proposed, plan, None)


def fail(at: Bench, task: str = "load", **fields: Any) -> Any:
    """A captured failure; returns Airflow's row of it."""
    row = at.server.add_failure("orders", task, events=[REFUSED], **fields)
    at.watch()
    return row


class TestExactly:
    """What is cleared is the failed try and what it blocked; nothing that succeeded."""

    def test_the_task_then_what_it_blocked_in_calls_of_their_own(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"extract": ["load", "audit"], "load": ["publish"]})
        row = fail(at_work, blocks=["publish"])
        done = approve(at_work, at_work.only())
        assert at_work.cleared() == [["load"], ["publish"]]
        assert done.status == "acting"
        for request in at_work.server.sent("POST"):
            assert request.body["dag_run_id"] == RUN
            assert request.body["only_failed"] is True
            assert not request.body["include_downstream"]
            assert not request.body["include_upstream"]
        plan = done.decision.plan if done.decision else {}
        assert [item["task_id"] for item in plan["clears"]] == ["load", "publish"]
        at_work.finish(row)
        (settled,) = at_work.watch()
        assert (settled.status, settled.outcome) == ("resolved", "fixed")

    def test_what_ran_and_failed_below_is_not_run_again(self, at_work: Bench) -> None:
        """It may have sent its invoices: its failure waits for its own yes."""
        at_work.server.add_dag("orders", {"load": ["publish", "pay"], "pay": ["close"]})
        at_work.server.add_failure("orders", "pay", blocks=["close"])
        fail(at_work, blocks=["publish"])
        case = next(c for c in at_work.store.cases() if c.incident.task_id == "load")
        plan = respond.preview(at_work.desk, case.incident, "retry", {})
        assert plan.told == ("not run again, for it ran and failed itself: pay",)
        approve(at_work, case)
        assert at_work.cleared() == [["load"], ["publish"]]

    def test_what_another_failure_blocks_too_waits_for_that_one(self, at_work: Bench) -> None:
        """Run again now, it would be blocked again at once."""
        at_work.server.add_dag("orders", {"load": ["audit", "publish"], "audit": ["publish"]})
        at_work.server.add_failure("orders", "audit")
        fail(at_work, blocks=["publish"])
        cases = {case.incident.task_id: case for case in at_work.store.cases()}
        approve(at_work, cases["load"])
        assert at_work.cleared() == [["load"]]
        approve(at_work, cases["audit"])
        assert at_work.cleared() == [["load"], ["audit"], ["publish"]]

    def test_of_a_mapped_task_no_index_is_where_one_ran_and_failed(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": ["pay"]})
        at_work.server.add_failure("orders", "pay", map_index=0)
        at_work.server.add_instance("orders", "pay", "upstream_failed", map_index=1)
        fail(at_work)
        case = next(c for c in at_work.store.cases() if c.incident.task_id == "load")
        approve(at_work, case)
        assert at_work.cleared() == [["load"]]

    def test_a_mapped_task_clears_its_own_index(self, at_work: Bench) -> None:
        fail(at_work, "count", map_index=0)
        fail(at_work, "count", map_index=1)
        case = next(c for c in at_work.store.cases() if c.incident.map_index == 1)
        approve(at_work, case)
        assert at_work.cleared() == [[["count", 1]]]

    def test_the_plan_says_that_the_whole_retry_budget_is_granted_again(
        self, at_work: Bench
    ) -> None:
        at_work.server.add_dag("orders", {"load": []}, retries=4)
        fail(at_work)
        plan = respond.preview(at_work.desk, at_work.only().incident, "retry", {})
        assert plan.extra_tries == 5

    def test_what_differs_from_the_plan_that_was_shown_is_not_done(self, at_work: Bench) -> None:
        at_work.server.add_dag("orders", {"load": ["publish"]})
        fail(at_work)
        case = at_work.only()
        plan = respond.preview(at_work.desk, case.incident, "retry", {})
        at_work.server.add_instance("orders", "publish", "upstream_failed")
        with pytest.raises(Refused, match="changed since the plan"):
            decide.approve(at_work.desk, case, decide.Proposal("retry"), plan, None)
        assert at_work.cleared() == []
        assert at_work.store.case(case.incident.id).status == "pending"


class TestSomebodyElse:
    """What somebody else did meanwhile is left alone and said."""

    def test_run_again_by_a_person(self, at_work: Bench) -> None:
        row = fail(at_work)
        row |= {"id": "another", "state": "running", "try_number": 2}
        with pytest.raises(Refused, match="superseded"):
            approve(at_work, at_work.only())
        assert at_work.cleared() == []
        assert at_work.only().status == "superseded"

    def test_noticed_on_the_next_pass(self, at_work: Bench) -> None:
        row = fail(at_work)
        row |= {"id": "another", "state": "success", "try_number": 2}
        (changed,) = at_work.watch()
        assert changed.status == "superseded"

    def test_between_the_preview_and_the_clear(self, at_work: Bench) -> None:
        row = fail(at_work)
        incident = at_work.only().incident
        original = at_work.desk.airflow.clear

        def overtaken(*args: Any, **options: Any) -> Any:
            if not options["dry_run"]:
                row.update(id="another", state="running", try_number=2)
            return original(*args, **options)

        at_work.desk.airflow.clear = overtaken  # type: ignore[method-assign]  # a person is faster
        with pytest.raises(Refused, match="somebody else"):
            approve(at_work, at_work.only())
        assert at_work.store.case(incident.id).status == "superseded"

    def test_one_claim_at_a_time(self, at_work: Bench) -> None:
        fail(at_work)
        case = at_work.only()
        token = at_work.store.claim(
            case.incident.id, case.incident.ti_id, "ben", at_work.desk.settings.lease
        )
        assert token is not None
        with pytest.raises(Refused, match="being acted on"):
            approve(at_work, case)
        assert at_work.cleared() == []

    def test_what_is_decided_is_not_decided_again(self, at_work: Bench) -> None:
        fail(at_work)
        approve(at_work, at_work.only())
        with pytest.raises(Refused, match="is acting"):
            approve(at_work, at_work.only())


class TestUnclear:
    """An answer that does not say whether it happened is looked into before it is repeated."""

    def test_500_that_took_effect_is_not_repeated(self, at_work: Bench) -> None:
        row = fail(at_work)
        fault_after_dry_run(at_work, status=500, takes_effect=True)
        approve(at_work, at_work.only())
        assert at_work.cleared() == [["load"]]
        at_work.finish(row)
        assert [case.outcome for case in at_work.watch()] == ["fixed"]

    def test_500_without_effect_is_repeated_once(self, at_work: Bench) -> None:
        fail(at_work)
        fault_after_dry_run(at_work, status=500)
        approve(at_work, at_work.only())
        assert at_work.cleared() == [["load"], ["load"]]

    def test_a_lost_connection_that_took_effect(self, at_work: Bench) -> None:
        fail(at_work)
        fault_after_dry_run(at_work, drop_after=-1, takes_effect=True)
        assert approve(at_work, at_work.only()).status == "acting"
        assert at_work.cleared() == [["load"]]

    def test_without_the_right_nothing_is_done_and_it_waits_again(self, at_work: Bench) -> None:
        fail(at_work)
        fault_after_dry_run(at_work, status=403, body=b'{"detail":"Forbidden"}')
        with pytest.raises(AirflowForbidden):
            approve(at_work, at_work.only())
        assert at_work.only().status == "pending"
        assert at_work.store.trials() == ()

    def test_where_nothing_was_sent_it_waits_again(self, at_work: Bench) -> None:
        fail(at_work)
        case = at_work.only()
        original = at_work.desk.airflow.clear

        def clear(*args: Any, **options: Any) -> Any:
            if not options["dry_run"]:
                raise AirflowUnreachable("connection refused")
            return original(*args, **options)

        at_work.desk.airflow.clear = clear  # type: ignore[method-assign]  # it is down now
        with pytest.raises(AirflowUnreachable):
            approve(at_work, case)
        assert at_work.only().status == "pending"

    def test_409_from_a_busy_database_is_no_somebody_else(self, at_work: Bench) -> None:
        fail(at_work)
        detail = b'{"detail":{"reason":"Unique constraint violation"}}'
        fault_after_dry_run(at_work, status=409, body=detail)
        with pytest.raises(AirflowConflict):
            approve(at_work, at_work.only())
        assert at_work.only().status == "pending"

    def test_airflow_gone_in_the_middle_goes_to_a_person(self, at_work: Bench) -> None:
        fail(at_work)
        fault_after_dry_run(at_work, status=500, times=2)
        with pytest.raises(AirflowUnreachable):
            approve(at_work, at_work.only())
        assert at_work.only().status == "acting"
        at_work.watch()
        assert at_work.only().status == "acting"  # its lease runs: the call may still arrive
        at_work.clock.advance(minutes=5)
        (case,) = at_work.watch()
        assert case.status == "needs_human"
        approve(at_work, case)
        assert at_work.only().status == "acting"


def fault_after_dry_run(at: Bench, **fault: Any) -> None:
    """The next clear that is not a dry run goes wrong."""
    original = at.desk.airflow.clear

    def clear(*args: Any, **options: Any) -> Any:
        if not options["dry_run"] and fault:
            at.server.fault(CLEAR, **fault)
            fault.clear()
        return original(*args, **options)

    at.desk.airflow.clear = clear  # type: ignore[method-assign]  # to time the fault


class TestCrashes:
    """A crash between any two steps is settled on the next pass, never repeated."""

    def test_before_the_door_nothing_was_done(self, at_work: Bench) -> None:
        fail(at_work)
        incident = at_work.only().incident
        at_work.store.claim(incident.id, incident.ti_id, "ben", at_work.desk.settings.lease)
        at_work.clock.advance(minutes=5)
        at_work.watch()
        assert at_work.only().status == "pending"
        assert approve(at_work, at_work.only()).status == "acting"

    def test_between_the_two_clears(self, at_work: Bench) -> None:
        row = fail(at_work, blocks=["publish"])
        original = at_work.desk.airflow.clear

        def clear(*args: Any, **options: Any) -> Any:
            if args[2] == ["publish"]:
                raise KeyboardInterrupt
            return original(*args, **options)

        at_work.desk.airflow.clear = clear  # type: ignore[method-assign]  # dies in between
        with pytest.raises(KeyboardInterrupt):
            approve(at_work, at_work.only())
        at_work.desk.airflow.clear = original  # type: ignore[method-assign]
        at_work.finish(row)
        (case,) = at_work.watch()
        assert case.outcome == "fixed"
        assert at_work.cleared() == [["load"], ["publish"]]

    def test_interrupted_before_the_door_the_claim_is_given_back(self, at_work: Bench) -> None:
        fail(at_work)

        def interrupted(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        at_work.desk.airflow.tasks = interrupted  # type: ignore[method-assign]  # Ctrl-C
        incident = at_work.only().incident
        with pytest.raises(KeyboardInterrupt):
            respond.act(at_work.desk, incident, action="retry", params={}, by="ana", kind="approve")
        assert at_work.only().status == "pending"


class TestSettling:
    """The outcome is what Airflow says of the new try, never assumed."""

    def test_still_running_is_still_acting(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        row["state"] = "running"
        assert at_work.watch() == []
        assert at_work.only().status == "acting"

    def test_one_that_waits_behind_other_runs_is_left_waiting(self, at_work: Bench) -> None:
        from aiops_cli.published import incident_document

        fail(at_work)
        approve(at_work, at_work.only())
        assert at_work.watch() == []
        assert at_work.cleared() == [["load"]]
        assert "run queued" in incident_document(at_work.only())["detail"]

    def test_a_clear_that_raced_with_the_scheduler_is_repeated_once(self, at_work: Bench) -> None:
        fail(at_work)
        approve(at_work, at_work.only())
        run = at_work.server.runs["orders", RUN]
        for _ in range(3):
            run["state"] = "failed"
            at_work.watch()
        assert at_work.cleared() == [["load"], ["load"]]
        assert at_work.server.sent("POST")[-1].body["only_failed"] is False

    def test_a_failed_retry_is_told_and_speaks_against_the_next(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row, "failed", [REFUSED])
        changed = {case.incident.try_number: case for case in at_work.watch()}
        assert changed[1].status == "failed"
        assert changed[2].judgement is not None
        assert changed[2].judgement.document["decision"] == "blocked"

    def test_a_comeback_on_the_same_task_is_a_relapse(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row)
        at_work.watch()
        at_work.clock.advance(hours=2)
        at_work.server.add_failure(
            "orders", "load", run_id="next", events=[REFUSED], ended=at_work.clock.now()
        )
        at_work.watch()
        outcomes = {case.incident.run_id: case.outcome for case in at_work.store.cases()}
        assert outcomes == {RUN: "relapsed", "next": None}

    def test_the_same_failure_of_another_task_is_none(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row)
        at_work.watch()
        at_work.clock.advance(hours=2)
        at_work.server.add_failure("orders", "extract", events=[REFUSED], ended=at_work.clock.now())
        at_work.watch()
        assert {case.outcome for case in at_work.store.cases()} == {"fixed", None}

    @pytest.mark.parametrize("state", ["skipped", "removed", "upstream_failed"])
    def test_an_end_that_says_nothing_goes_to_a_person(self, at_work: Bench, state: str) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        at_work.finish(row, state)
        assert [(case.status, case.outcome) for case in at_work.watch()] == [
            ("needs_human", "unknown")
        ]

    def test_after_the_time_limit_nobody_waits_any_more(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only())
        row["state"] = "queued"
        at_work.clock.advance(hours=25)
        assert [case.status for case in at_work.watch()] == ["needs_human"]


class TestAlone:
    """Alone only within a grant, on a record, on a vouched-for task, and never twice a day."""

    @staticmethod
    def proven(at: Bench, **fields: Any) -> None:
        """A failure that a person has had run again once, with success."""
        row = fail(at, **fields)
        approve(at, at.only())
        at.finish(row)
        at.watch()

    def again(self, at: Bench, run_id: str = "next", task: str = "load") -> Any:
        at.clock.advance(hours=25)
        return at.server.add_failure(
            "orders", task, run_id=run_id, events=[REFUSED], ended=at.clock.now()
        )

    def test_the_record_and_a_grant_allow_it(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant()
        row = self.again(at_work)
        (case,) = at_work.watch("auto")
        assert case.status == "acting"
        assert case.decision is not None
        assert (case.decision.kind, case.decision.grant) == ("auto", "grant00001")
        at_work.finish(row)
        assert [case.outcome for case in at_work.watch("auto")] == ["fixed"]

    @pytest.mark.parametrize(
        ("tags", "status"), [([], "pending"), (["aiops:rerun-safe"], "acting")]
    )
    def test_soon_after_only_where_a_tag_says_so_and_the_comeback_is_told(
        self, at_work: Bench, tags: list[str], status: str
    ) -> None:
        """The yes of an approval falls with the act that it was given to."""
        at_work.server.add_dag("orders", {"load": []}, tags=tags)
        self.proven(at_work)
        at_work.grant()
        at_work.clock.advance(minutes=10)
        at_work.server.add_failure(
            "orders", "load", run_id="next", events=[REFUSED], ended=at_work.clock.now()
        )
        assert [case.status for case in at_work.watch("auto")] == [status]
        first = next(c for c in at_work.store.cases() if c.incident.run_id == RUN)
        assert first.outcome == "relapsed"

    @pytest.mark.parametrize("mode", ["off", "ask", "shadow"])
    def test_in_no_other_mode(self, at_work: Bench, mode: Any) -> None:
        self.proven(at_work)
        at_work.grant()
        self.again(at_work)
        before = at_work.cleared()
        at_work.watch(mode)
        assert at_work.cleared() == before

    def test_shadow_writes_down_what_it_would_have_done(self, at_work: Bench) -> None:
        self.proven(at_work)
        self.again(at_work)
        (case,) = at_work.watch("shadow")
        assert case.status == "pending"
        assert case.decision is not None
        assert (case.decision.kind, case.decision.action) == ("shadow", "retry")
        assert at_work.watch("shadow") == []

    def test_not_without_a_grant(self, at_work: Bench) -> None:
        self.proven(at_work)
        self.again(at_work)
        assert [case.status for case in at_work.watch("auto")] == ["pending"]

    def test_not_on_a_task_that_nobody_vouched_for(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant()
        self.again(at_work, task="pay")
        (case,) = at_work.watch("auto")
        assert case.status == "pending"
        assert case.judgement is not None
        assert "re-run unproven" in str(case.judgement.document["gate"]["reasons"])

    def test_not_while_paused(self, at_work: Bench) -> None:
        from knowledge.records import Pause

        self.proven(at_work)
        at_work.grant()
        at_work.store.set_pause(Pause(True, "ben", at_work.clock.now()))
        self.again(at_work)
        assert [case.status for case in at_work.watch("auto")] == ["pending"]

    @pytest.mark.parametrize("how", ["paused", "unreadable", "on", "turned off meanwhile"])
    def test_one_dag_of_airflow_is_a_switch(self, how: str) -> None:
        with bench(pause_dag="aiops_switch") as at:
            self.proven(at)
            at.grant()
            if how != "unreadable":
                at.server.add_dag("aiops_switch", {"t": []}, is_paused=how == "paused")
            self.again(at)
            if how == "turned off meanwhile":
                original = at.desk.airflow.task_instance

                def read(ref: Any) -> Any:
                    at.server.dags["aiops_switch"]["is_paused"] = True
                    return original(ref)

                at.desk.airflow.task_instance = read  # type: ignore[method-assign]  # in between
            statuses = [case.status for case in at.watch("auto")]
            assert statuses == ["acting" if how == "on" else "pending"]

    def test_the_budget_holds_within_one_pass(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant(max_per_dag_hour=2)
        at_work.clock.advance(hours=25)
        rows = [
            at_work.server.add_failure(
                "orders",
                "load",
                run_id=f"run-{number}",
                events=[REFUSED],
                ended=at_work.clock.now(),
            )
            for number in range(4)
        ]
        before = len(at_work.cleared())
        for row in rows:  # one at a time, being a storm
            at_work.watch("auto")
            if row["state"] != "failed":
                at_work.finish(row)
        at_work.watch("auto")
        assert len(at_work.cleared()) - before == 2

    def storm(self, at: Bench, count: int = 5) -> list[dict[str, Any]]:
        """So many runs of the task that fail within minutes; the third had failed soonest."""
        at.clock.advance(hours=25)
        return [
            at.server.add_failure(
                "orders",
                "load",
                run_id=f"storm-{number}",
                events=[REFUSED],
                ended=at.clock.now() - number * timedelta(minutes=1),
                duration=1.0 if number == 2 else 60.0,
            )
            for number in range(count)
        ]

    def test_of_a_storm_the_shortest_is_tried_first_and_the_rest_follow_when_it_is_fixed(
        self, at_work: Bench
    ) -> None:
        self.proven(at_work)
        at_work.grant(max_per_hour=50, max_per_dag_hour=50)
        rows = self.storm(at_work)
        statuses = {case.incident.run_id: case.status for case in at_work.watch("auto")}
        acting = [run for run, status in statuses.items() if status == "acting"]
        assert acting == ["storm-2"]
        assert [text for text in at_work.warnings if "not acted on" in text] == []
        waiting = at_work.store.cases(status=["pending"])
        assert len(waiting) == 4
        for case in waiting:
            assert case.judgement is not None
            assert "another of this storm is tried first" in str(case.judgement.document["gate"])
        assert at_work.watch("auto") == [], "while the canary runs"
        at_work.finish(rows[2])
        followed = [case for case in at_work.watch("auto") if case.status == "acting"]
        assert len(followed) == 2, "the DAG's own limit of three an hour holds as well"

    def test_when_the_canary_fails_none_follows(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant(max_per_hour=50, max_per_dag_hour=50)
        rows = self.storm(at_work)
        at_work.watch("auto")
        at_work.finish(rows[2], "failed", [REFUSED])
        before = len(at_work.cleared())
        for _ in range(3):
            at_work.watch("auto")
        assert len(at_work.cleared()) == before
        statuses = [case.status for case in at_work.store.cases(since=at_work.clock.now())]
        assert "acting" not in statuses

    def test_what_is_old_is_left_to_people(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant()
        row = self.again(at_work)
        row["end_date"] = (at_work.clock.now() - timedelta(hours=7)).isoformat()
        (case,) = at_work.watch("auto")
        assert case.status == "pending"
        assert case.judgement is not None
        assert "only what is recent is done alone" in str(case.judgement.document["gate"])

    def test_a_try_is_acted_on_once_and_its_next_failure_waits_for_a_person(
        self, at_work: Bench
    ) -> None:
        self.proven(at_work)
        at_work.grant()
        row = self.again(at_work)
        at_work.watch("auto")
        at_work.finish(row, "failed", [REFUSED])
        acted = len(at_work.cleared())
        at_work.watch("auto")
        at_work.watch("auto")
        assert len(at_work.cleared()) == acted
        second = next(c for c in at_work.store.cases() if c.incident.try_number == 2)
        assert second.status == "pending"

    def test_a_rejection_takes_it_back(self, at_work: Bench) -> None:
        self.proven(at_work)
        at_work.grant()
        self.again(at_work)
        at_work.watch("ask")
        waiting = at_work.store.cases(status=["pending"])[0]
        decide.reject(
            at_work.desk.knowledge,
            waiting,
            by="ben",
            at=at_work.clock.now(),
            reason="it pays twice",
        )
        self.again(at_work, "third")
        at_work.watch("auto")
        newest = at_work.store.cases()[0]
        assert newest.status == "pending"
        assert newest.judgement is not None
        assert newest.judgement.document["decision"] == "blocked"
        assert "it pays twice" in str(newest.judgement.document["gate"]["reasons"])


class TestLater:
    """retry_later waits through the passes."""

    def test_it_acts_when_its_time_has_come(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only(), "retry_later", delay="30m")
        at_work.watch()
        assert at_work.cleared() == []
        assert at_work.only().status == "acting"
        at_work.clock.advance(minutes=31)
        at_work.watch()
        assert at_work.cleared() == [["load"]]
        at_work.finish(row)
        assert [case.outcome for case in at_work.watch()] == ["fixed"]

    def test_somebody_else_was_faster(self, at_work: Bench) -> None:
        row = fail(at_work)
        approve(at_work, at_work.only(), "retry_later", delay="30m")
        row |= {"id": "another", "state": "success", "try_number": 2}
        at_work.clock.advance(minutes=31)
        at_work.watch()
        assert at_work.cleared() == []
        assert at_work.only().status == "superseded"

    @pytest.mark.parametrize("delay", ["soon", "-5m"])
    def test_a_delay_that_is_none(self, at_work: Bench, delay: str) -> None:
        fail(at_work)
        with pytest.raises(UsageError, match="duration"):
            approve(at_work, at_work.only(), "retry_later", delay=delay)
        assert at_work.only().status == "pending"


class TestLearning:
    """What a person decides is known the next time."""

    def test_none_is_known_and_touches_nothing(self, at_work: Bench) -> None:
        fail(at_work)
        done = approve(at_work, at_work.only(), "none")
        assert (done.status, done.outcome) == ("resolved", None)
        assert at_work.server.sent("POST") == []
        assert at_work.server.sent("PATCH") == []
        at_work.server.add_failure("orders", "load", run_id="next", events=[REFUSED])
        (case,) = at_work.watch()
        assert case.judgement is not None
        assert case.judgement.document["diagnosis"]["action"] == "none"
        assert case.judgement.document["decision"] == "ask"

    def test_a_rejection_with_a_cause_is_an_answer(self, at_work: Bench) -> None:
        fail(at_work)
        decide.reject(
            at_work.desk.knowledge,
            at_work.only(),
            by="ana",
            at=at_work.clock.now(),
            reason="a bug",
            action="none",
            cause="the partner sends no unit price",
        )
        assert at_work.only().status == "rejected"
        at_work.server.add_failure("orders", "load", run_id="next", events=[REFUSED])
        (case,) = at_work.watch()
        assert case.judgement is not None
        assert "unit price" in case.judgement.document["diagnosis"]["cause"]

    def test_rejecting_with_another_action_says_how(self, at_work: Bench) -> None:
        fail(at_work)
        with pytest.raises(UsageError, match="takes no action but none"):
            decide.reject(
                at_work.desk.knowledge,
                at_work.only(),
                by="ana",
                at=at_work.clock.now(),
                reason="no",
                action="retry",
            )

    @pytest.mark.parametrize("action", ["resize_pool", "dance"])
    def test_an_action_that_cannot_be_carried_out(self, at_work: Bench, action: str) -> None:
        fail(at_work)
        with pytest.raises(UsageError):
            approve(at_work, at_work.only(), action)


class TestNotes:
    """Every act leaves its stamp; a person's note stays and asks."""

    def test_the_stamp(self, at_work: Bench) -> None:
        row = fail(at_work)
        row["note"] = "known to the vendor"
        approve(at_work, at_work.only())
        assert row["note"].startswith("known to the vendor\n[aiops ")
        assert at_work.only().incident.id in row["note"]

    def test_an_older_airflow_gets_it_after_the_clear(self) -> None:
        with bench("3.1.8") as at:
            row = fail(at)
            approve(at, at.only())
            assert at.only().incident.id in row["note"]

    def test_an_act_stands_without_it(self) -> None:
        with bench("3.1.8") as at:
            fail(at)
            at.server.fault("PATCH .*", status=403, body=b'{"detail":"Forbidden"}')
            assert approve(at, at.only()).status == "acting"
            (claim,) = at.store.claims(["acting"])
            assert "no note" in claim.progress["note"]


class TestPass:
    """What cannot be read now is told and left for the next pass; nothing is lost."""

    def test_one_unreadable_log_does_not_stop_the_rest(self, at_work: Bench) -> None:
        ended = at_work.clock.now() - timedelta(hours=5)
        at_work.server.add_failure("orders", "load", events=[REFUSED], ended=ended)
        at_work.server.add_failure("sales", "load", events=[REFUSED])
        at_work.server.fault("GET .*orders.*/logs/", status=400, body=b'{"detail":"no"}')
        assert [case.incident.dag_id for case in at_work.watch()] == ["sales"]
        assert "orders.load" in at_work.warnings[-1]
        assert at_work.store.watermark("prod") == ended  # no further than to what is left
        assert [case.incident.dag_id for case in at_work.watch()] == ["orders"]
        at_work.watch()
        mark = at_work.store.watermark("prod")
        assert mark is not None
        assert mark > ended

    def test_an_unreachable_airflow_ends_the_pass(self, at_work: Bench) -> None:
        at_work.server.fault("GET .*", status=503, times=50)
        with pytest.raises(AirflowUnreachable):
            at_work.watch()
        assert at_work.store.watermark("prod") is None

    def test_each_incident_is_told_once(self, at_work: Bench) -> None:
        at_work.server.add_failure("orders", "load", events=[REFUSED])
        assert len(at_work.watch()) == 1
        assert at_work.watch() == []

    def test_what_a_runbook_says_now_is_judged_again(self, at_work: Bench) -> None:
        from knowledge.base import symptom
        from tests.builders import entry

        at_work.server.add_failure("orders", "load", events=[REFUSED])
        (case,) = at_work.watch()
        assert case.judgement is not None
        assert case.judgement.document["decision"] == "novel"
        text = "ConnectionRefusedError: [Errno 111] Connection refused"
        at_work.desk.knowledge.put([entry(symptoms=(symptom(text),))], at_work.clock.now())
        (again,) = at_work.watch()
        assert again.judgement is not None
        assert again.judgement.document["decision"] == "ask"

    def test_a_lost_worker_is_known_from_the_event_log(self, at_work: Bench) -> None:
        at_work.server.add_failure(
            "orders", "load", events=[{"event": "starting", "level": "info", "logger": "task"}]
        )
        at_work.server.add_event(
            "heartbeat timeout",
            dag_id="orders",
            task_id="load",
            run_id=RUN,
            map_index=-1,
            when=at_work.clock.now(),
            extra="Task Instance orders.load heartbeat timed out",
        )
        (case,) = at_work.watch()
        assert "heartbeat" in case.incident.excerpt.text
        assert case.incident.signature.error_class

    def test_a_log_that_airflow_has_not(self, at_work: Bench) -> None:
        at_work.server.add_failure("orders", "load", events=[REFUSED])
        at_work.server.logs.clear()
        (case,) = at_work.watch()
        assert case.incident.excerpt.notice
        assert case.judgement is not None
        assert case.judgement.document["decision"] == "novel"

    def test_text_of_a_log_is_stored_without_secrets_and_escapes(self, at_work: Bench) -> None:
        hostile = exception("ValueError", "\x1b[2J postgresql://etl:hunter2pass@db/x")
        at_work.server.add_failure("orders", "load", events=[hostile])
        (case,) = at_work.watch()
        kept = repr(case)
        assert "hunter2pass" not in kept
        assert "\\x1b" not in kept

"""Every check of the gate can stop an act on its own, and says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import gate
from aiops_cli.incidents import Dag, DagRun, Health, Opinion, Suggestion
from knowledge.records import ActsAlone, Breaker, Evidence, Pause
from tests.builders import (
    NOW,
    circumstances,
    diagnosis,
    grant,
    incident,
    match,
    signature,
    task_instance,
    vouch,
)

OURS = "[aiops base] retry of try 1 by ana, incident abcdefgh23 (exact; aiops undo)"
NAMES = (
    "similarity",
    "margin",
    "confidence",
    "evidence",
    "rerun_safe",
    "action_allowed",
    "protected",
    "attempts",
    "budget",
    "breaker",
    "live_state",
)


def test_all_checks_are_named_and_pass() -> None:
    verdict = gate.judge(circumstances())
    assert tuple(check.name for check in verdict.checks) == NAMES
    assert verdict.decision == "auto"
    assert verdict.reasons == ()
    assert verdict.grant == "grant00001"


def near(similarity: float, lead: float | None = 0.5) -> dict[str, Any]:
    matches = (match(similarity=similarity),)
    return {
        "diagnosis": diagnosis(by="near", confidence=similarity, matches=matches, lead=lead),
    }


def heard(*, unheard: str = "", quotes_stand: bool = True, **said: Any) -> dict[str, Any]:
    """A near match on which a model has an opinion."""
    known = {"action": "retry", "cause": "a restart", "confidence": 0.95, "explanation": ""}
    suggestion = Suggestion(**{**known, **said}, quotes=(), model="m", prompt_version="v")
    opinion = Opinion("m", None if unheard else suggestion, quotes_stand, unheard)
    return {"diagnosis": replace(near(0.99)["diagnosis"], opinion=opinion)}


def contested() -> dict[str, Any]:
    """A near match, and nearly as near one that says otherwise."""
    others = (match("retry", 0.945), match("none", 0.94, source="wiki/b.md:7"))
    found = near(0.95, lead=0.01)["diagnosis"]
    return {"diagnosis": replace(found, matches=(*found.matches, *others))}


RUN = DagRun("orders_etl", "scheduled__2026-03-01", "failed", "scheduled")

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    # what differs, the check that fails, the decision, a word of the reason
    (
        "nothing known",
        {"diagnosis": diagnosis(action=None, by="nobody", matches=())},
        "similarity",
        "novel",
        "not seen before",
    ),
    ("too far", near(0.92), "similarity", "novel", "0.92"),
    ("no lead", near(0.95, lead=0.01), "margin", "ask", "answered differently"),
    ("no lead", contested(), "margin", "ask", "answered differently: none by wiki/b.md:7"),
    ("hardly too far", near(0.9284), "similarity", "novel", "(nearest 0.928 < 0.930)"),
    ("unsure model", heard(confidence=0.79), "confidence", "ask", "0.79"),
    ("model that says otherwise", heard(action="none"), "confidence", "ask", "proposes none"),
    ("made-up quotes", heard(quotes_stand=False), "confidence", "ask", "not in the log"),
    ("model away", heard(unheard="refused"), "confidence", "ask", "model unavailable: refused"),
    (
        "embedder nobody measured",
        {**near(0.99), "bounds": gate.Bounds(0.9, 0.05, calibrated=False)},
        "action_allowed",
        "ask",
        "suggests only",
    ),
    (
        "embedder nobody measured, and a model that agrees",
        {
            "diagnosis": replace(heard()["diagnosis"], by="model"),
            "bounds": gate.Bounds(0.9, 0.05, calibrated=False),
        },
        "action_allowed",
        "ask",
        "suggests only",
    ),
    ("no outcome yet", {"evidence": Evidence("none")}, "evidence", "ask", "0 of 1"),
    (
        "an outcome of long ago",
        {"evidence": Evidence("task", fixed=1, worn=1)},
        "evidence",
        "ask",
        "0 of 1 verified outcomes of retry (not counting 1: too old, or of other code)",
    ),
    (
        "contradicted",
        {"evidence": Evidence("task", fixed=9, contradicted="retry did not help on 2026-02-28")},
        "evidence",
        "blocked",
        "did not help",
    ),
    (
        "nobody vouches",
        {"rerun": gate.RerunSafety(False, "nobody has said so")},
        "rerun_safe",
        "ask",
        "unproven",
    ),
    (
        "somebody said no",
        {"rerun": gate.RerunSafety(False, "ana said no", denied=True)},
        "rerun_safe",
        "blocked",
        "ana said no",
    ),
    (
        "the runbook says no",
        {"entry_safe_to_retry": False},
        "rerun_safe",
        "blocked",
        "runbook",
    ),
    (
        "killed, vouched for this failure only",
        {"killed": True, "rerun": gate.RerunSafety(True, "approved")},
        "rerun_safe",
        "ask",
        "elsewhere",
    ),
    ("no grant", {"grants": ()}, "action_allowed", "ask", "no grant"),
    (
        "revoked",
        {"grants": (grant(revoked_at=NOW),)},
        "action_allowed",
        "ask",
        "no grant",
    ),
    ("expired", {"grants": (grant(until=NOW),)}, "action_allowed", "ask", "no grant"),
    ("another DAG", {"grants": (grant(dags=("sales_*",)),)}, "action_allowed", "ask", "no grant"),
    ("paused", {"pause": Pause(True, by="ana")}, "action_allowed", "ask", "paused by ana"),
    ("from prose", {"suggestion_only": True}, "action_allowed", "ask", "prose"),
    (
        "only a wrapper",
        {"incident": incident(signature=signature("AirflowException: x", wrapper=True))},
        "action_allowed",
        "ask",
        "wrapper",
    ),
    ("a failed run", {"incident": incident(kind="run")}, "action_allowed", "ask", "failed run"),
    ("a protected DAG", {"protected": ("orders_*",)}, "protected", "blocked", "orders_*"),
    ("a protected task", {"protected": ("*.load",)}, "protected", "blocked", "*.load"),
    (
        "tag off",
        {"dag": Dag("orders_etl", tags=("aiops:off",))},
        "protected",
        "blocked",
        "aiops:off",
    ),
    ("tag ask", {"dag": Dag("orders_etl", tags=("aiops:ask",))}, "protected", "ask", "aiops:ask"),
    ("a note", {"live": task_instance(note="I am in there")}, "protected", "ask", "note"),
    (
        "another base",
        {"live": task_instance(note=OURS.replace("base", "other"))},
        "protected",
        "ask",
        "another",
    ),
    ("tried today", {"usage": ActsAlone(task_instance_day=1)}, "attempts", "ask", "today"),
    ("this hour", {"usage": ActsAlone(hour=10)}, "budget", "ask", "10 acts"),
    ("this DAG's hour", {"usage": ActsAlone(dag_hour=3)}, "budget", "ask", "3 acts in this DAG"),
    (
        "wrong on this failure",
        {"usage": ActsAlone(signature_breaker=Breaker("open", NOW))},
        "breaker",
        "ask",
        "this failure went wrong: not again before 2026-03-01 03:04 UTC",
    ),
    (
        "wrong in all",
        {"usage": ActsAlone(breaker=Breaker("open", NOW))},
        "breaker",
        "ask",
        "several times: not again before",
    ),
    (
        "a canary under way",
        {"usage": ActsAlone(signature_breaker=Breaker("trying"))},
        "breaker",
        "ask",
        "half open: one canary first",
    ),
    (
        "a canary of all under way",
        {"usage": ActsAlone(breaker=Breaker("trying"))},
        "breaker",
        "ask",
        "half open: one canary first",
    ),
    (
        "a storm's canary under way",
        {"usage": ActsAlone(storm_running=1)},
        "breaker",
        "ask",
        "another of this storm",
    ),
    ("no Airflow", {"live": None}, "live_state", "ask", "not known"),
    (
        "run again by somebody",
        {"live": task_instance(id="ti-2", state="running", try_number=2)},
        "live_state",
        "blocked",
        "somebody else",
    ),
    ("no longer failed", {"live": task_instance(state="success")}, "live_state", "blocked", "now"),
    (
        "its run is green",
        {"run": replace(RUN, state="success")},
        "live_state",
        "ask",
        "ended green",
    ),
    ("a DAG that cannot be read", {"dag": None}, "live_state", "ask", "DAG cannot be read"),
    ("a run that cannot be read", {"run": None}, "live_state", "ask", "run cannot be read"),
    (
        "a newer run is green",
        {"newer": replace(RUN, run_id="scheduled__2026-03-02", state="success")},
        "live_state",
        "ask",
        "a newer run of this DAG succeeded (scheduled__2026-03-02)",
    ),
    ("a backfill", {"run": replace(RUN, run_type="backfill")}, "live_state", "ask", "backfill"),
    ("paused DAG", {"dag": Dag("orders_etl", is_paused=True)}, "live_state", "ask", "paused"),
    ("unhealthy", {"health": Health(("scheduler",))}, "live_state", "ask", "scheduler"),
]


@pytest.mark.parametrize(
    ("change", "name", "decision", "word"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_each_check_stops_an_act_by_itself(
    change: dict[str, Any], name: str, decision: str, word: str
) -> None:
    verdict = gate.judge(circumstances(**change))
    failed = [check for check in verdict.checks if not check.passed]
    assert name in [check.name for check in failed]
    assert verdict.decision == decision
    assert verdict.grant is None
    assert word in " ".join(check.reason for check in failed if check.name == name)


def test_what_was_begun_while_it_was_recent_goes_on() -> None:
    late = NOW + timedelta(hours=9)
    assert not gate.judge(circumstances(now=late)).passed
    assert gate.judge(circumstances(now=late, begun=NOW + timedelta(hours=1))).passed
    assert not gate.judge(circumstances(now=late, begun=NOW + timedelta(hours=7))).passed


def test_half_open_lets_the_canary_through_and_says_so() -> None:
    usage = ActsAlone(signature_breaker=Breaker("half open"))
    verdict = gate.judge(circumstances(usage=usage))
    assert verdict.decision == "auto"
    (check,) = [check for check in verdict.checks if check.name == "breaker"]
    assert (check.passed, check.value, check.bound) == (True, "half open", "closed")
    assert check.reason == "half open: one canary first"


def test_one_breaker_half_open_opens_nothing_while_the_other_is_open() -> None:
    usage = ActsAlone(signature_breaker=Breaker("half open"), breaker=Breaker("open", NOW))
    verdict = gate.judge(circumstances(usage=usage))
    (check,) = [check for check in verdict.checks if not check.passed]
    assert (check.name, check.value) == ("breaker", "open")


def test_every_check_has_a_case() -> None:
    assert {case[2] for case in CASES} == set(NAMES)


def test_changing_state_needs_three_outcomes_and_an_exact_match() -> None:
    grants = (grant(actions=("set_variable",)),)
    exact = diagnosis(action="set_variable")
    two = gate.judge(
        circumstances(diagnosis=exact, grants=grants, evidence=Evidence("task", fixed=2))
    )
    assert two.decision == "ask"
    three = gate.judge(
        circumstances(diagnosis=exact, grants=grants, evidence=Evidence("task", fixed=3))
    )
    assert three.decision == "auto"
    near_one = diagnosis(
        action="set_variable", by="near", matches=(match(similarity=0.95),), lead=0.5
    )
    assert (
        gate.judge(
            circumstances(diagnosis=near_one, grants=grants, evidence=Evidence("task", fixed=9))
        ).decision
        == "ask"
    )


def test_one_outcome_of_another_dag_is_not_enough() -> None:
    one, two = (
        gate.judge(circumstances(evidence=Evidence("anywhere", fixed=fixed))) for fixed in (1, 2)
    )
    assert (one.decision, two.decision) == ("ask", "auto")
    assert one.reasons == ("1 of 2 verified outcomes of retry in other DAGs",)


@pytest.mark.parametrize("action", ["none", None])
def test_nothing_to_do_is_never_done_alone(action: str | None) -> None:
    verdict = gate.judge(
        circumstances(
            diagnosis=diagnosis(action=action), grants=(grant(actions=("retry", "none")),)
        )
    )
    assert verdict.decision == "ask"


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_model_can_only_lower(confidence: float, similarity: float) -> None:
    """Whatever the model says of itself, what would not pass without it does not pass with it."""
    matches = (match(similarity=similarity),)
    by_model = diagnosis(by="model", confidence=confidence, matches=matches, lead=0.5)
    without = diagnosis(by="near", confidence=similarity, matches=matches, lead=0.5)
    alone = gate.judge(circumstances(diagnosis=without)).passed
    assert gate.judge(circumstances(diagnosis=by_model)).passed <= alone


class TestRerunSafety:
    """Only a person can vouch for a re-run, and the newest word counts."""

    @staticmethod
    def safety(**fields: Any) -> gate.RerunSafety:
        known: dict[str, Any] = {
            "vouches": (),
            "tags": (),
            "patterns": (),
            "retries": 0,
            "trust_retries": False,
            "now": NOW + timedelta(days=2),
            "stands_after": timedelta(days=1),
        }
        return gate.rerun_safety(incident(), **{**known, **fields})

    def test_nobody_has_said_so(self) -> None:
        assert not self.safety(retries=5).safe

    def test_an_approval_counts_once_it_has_stood(self) -> None:
        """What did harm turned green too, and is called wrong by the next day."""
        yes = partial(vouch, fingerprint=incident().signature.fingerprint)
        words = (yes(at=NOW),)
        early = self.safety(vouches=words, now=NOW + timedelta(hours=23, minutes=59))
        assert not early.safe
        assert not early.denied
        assert "counts from" in early.why
        assert self.safety(vouches=words, now=NOW + timedelta(hours=24)).safe
        # Approved again meanwhile, it does not begin anew; taken back in between it does.
        again = (*words, yes(at=NOW + timedelta(hours=20)))
        assert self.safety(vouches=again, now=NOW + timedelta(hours=25)).safe
        late = NOW + timedelta(hours=20)
        anew = (*words, yes(at=NOW + timedelta(hours=10), safe=False), yes(at=late))
        assert not self.safety(vouches=anew, now=NOW + timedelta(hours=25)).safe

    def test_so_does_a_word_for_the_whole_task(self) -> None:
        """One that is wrong is as wrong as one for the pair."""
        words = (vouch(at=NOW, fingerprint=None),)
        early = self.safety(vouches=words, now=NOW + timedelta(hours=23, minutes=59))
        assert (early.safe, early.for_task, early.denied) == (False, False, False)
        assert early.why == (
            "ana approved it on 2026-03-01, which counts from 2026-03-02 03:04 UTC on "
            "(a tag or setting counts at once)"
        )
        stood = self.safety(vouches=words, now=NOW + timedelta(hours=24))
        assert (stood.safe, stood.for_task) == (True, True)
        assert stood.why == "ana approved this task on 2026-03-01"

    def test_each_word_stands_for_what_it_says(self) -> None:
        """Of a pair that has stood and a task that has not, the pair counts, and is named."""
        pair = vouch(at=NOW, fingerprint=incident().signature.fingerprint)
        task = vouch(at=NOW + timedelta(hours=20), fingerprint=None, by="bob")
        first = self.safety(vouches=(pair, task), now=NOW + timedelta(hours=25))
        assert (first.safe, first.for_task) == (True, False)
        assert first.why == "ana approved this task and failure on 2026-03-01"
        later = self.safety(vouches=(pair, task), now=NOW + timedelta(hours=44))
        assert (later.safe, later.for_task) == (True, True)
        assert later.why == "bob approved this task on 2026-03-01"

    @pytest.mark.parametrize("said", [{"tags": ("aiops:rerun-safe",)}, {"patterns": ("*",)}])
    def test_tags_and_settings_count_at_once(self, said: dict[str, Any]) -> None:
        found = self.safety(vouches=(vouch(at=NOW),), now=NOW, **said)
        assert (found.safe, found.for_task) == (True, True)

    def test_retries_count_only_where_the_setting_says_so(self) -> None:
        assert self.safety(retries=5, trust_retries=True).safe
        assert not self.safety(retries=0, trust_retries=True).safe

    @pytest.mark.parametrize("tag", ["aiops:rerun-safe", "aiops:rerun-safe:load"])
    def test_a_tag(self, tag: str) -> None:
        assert self.safety(tags=(tag,)).for_task

    def test_a_tag_for_another_task(self) -> None:
        assert not self.safety(tags=("aiops:rerun-safe:pay",)).safe

    @pytest.mark.parametrize("pattern", ["orders_etl.load", "orders_*", "*.load"])
    def test_a_setting(self, pattern: str) -> None:
        assert self.safety(patterns=(pattern,)).for_task

    def test_an_approved_run_vouches_for_this_pair_only(self) -> None:
        own = signature().fingerprint
        safe = self.safety(vouches=(vouch(fingerprint=own),))
        assert safe.safe
        assert not safe.for_task
        assert not self.safety(vouches=(vouch(fingerprint="another"),)).safe

    def test_a_word_for_the_task(self) -> None:
        assert self.safety(vouches=(vouch(),)).for_task

    def test_a_no_outlives_the_tag_until_somebody_vouches_again(self) -> None:
        own = signature().fingerprint
        no = vouch(False, own, at=NOW + timedelta(hours=1), reason="it pays twice")
        denied = self.safety(vouches=(vouch(), no), tags=("aiops:rerun-safe",))
        assert not denied.safe
        assert denied.denied
        assert "it pays twice" in denied.why
        again = vouch(True, own, at=NOW + timedelta(hours=2))
        allowed = self.safety(vouches=(vouch(), no, again))
        assert allowed.safe
        assert not allowed.for_task


@pytest.mark.parametrize(
    ("note", "word"),
    [
        (None, ""),
        ("", ""),
        (OURS, ""),
        (f"{OURS}\n{OURS}", ""),
        (f"{OURS}\nlooking at it, ana", "a person"),
        (OURS.replace("base", "other"), "another aiops"),
        (f"{OURS} -- Bob: hands off", "a person"),
        ("[aiops base] hands off", "a person"),
    ],
)
def test_whose_word_a_note_is(note: str | None, word: str) -> None:
    assert word in gate.foreign_word(note, "base")
    assert bool(gate.foreign_word(note, "base")) == bool(word)


def test_the_newest_grant_in_force_counts() -> None:
    old, new = grant(id="old"), grant(id="new", at=NOW + timedelta(minutes=1))
    assert gate.covering_grant((new, old), "retry", "orders_etl", NOW) == new

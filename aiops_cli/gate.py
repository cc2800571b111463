"""The gate: may this be done without a person, and if not, why not. Pure; every check named.

All eleven checks must pass to act alone. A check that does not apply passes with value None.
Nothing here reads a clock, a store or Airflow: `Circumstances` holds what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from aiops_cli.incidents import Check, Dag, DagRun, Diagnosis, Health, TaskInstance, Verdict
from knowledge import evidence as record
from knowledge.records import ActsAlone, Evidence, Grant, Hold, Incident, Pause, Vouch
from knowledge.stores.rules import breaker_word, storm_word

NOBODY = "nobody has said"
NO_GRANT = "no grant"  # the value of `action_allowed` where nothing but a grant is missing

# What `respond.stamp` writes into a task instance's note.
STAMP = (
    r"\[aiops {base}\] \w+ of try \d+ (?:alone|by [^,]{{1,100}}), "
    r"incident [a-z2-7]{{10}} \([^()]*\)"
)

TAG_OFF = "aiops:off"
TAG_ASK = "aiops:ask"
TAG_RERUN_SAFE = "aiops:rerun-safe"  # or aiops:rerun-safe:<task_id> for one task of the DAG
RERUN_ACTIONS = record.RERUN_ACTIONS

# Runs whose failed tasks may be run again alone; backfills are somebody's work in progress.
RUN_TYPES = frozenset({"scheduled", "manual", "asset_triggered"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds in force. `similarity` and `margin` belong to the embedder that measured."""

    similarity: float
    margin: float
    confidence: float = 0.80
    calibrated: bool = True  # whether near matches of this embedder may be acted on at all
    source: str = "embedder"  # whose bound on the similarity it is: or record, or settings
    outcomes: int = 0  # labelled ones in the record


@dataclass(frozen=True, slots=True)
class RerunSafety:
    """Whether this task may run twice, and in whose word. `denied` marks a word against it;
    `for_task` that the whole task is vouched for, not only for this signature."""

    safe: bool
    why: str
    denied: bool = False
    for_task: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything the gate looks at. `live`, `run`, `dag` are Airflow's answers of now; None
    where nobody asked (a log file without Airflow), which never passes."""

    incident: Incident
    diagnosis: Diagnosis
    bounds: Bounds
    now: datetime
    killed: bool = False
    evidence: Evidence = field(default_factory=lambda: Evidence("none"))
    rerun: RerunSafety = field(default_factory=lambda: RerunSafety(False, "nobody has said so"))
    entry_safe_to_retry: bool | None = None
    suggestion_only: bool = False
    who_may: str = "alone"  # do the proposed action: nobody, person or alone
    grants: Sequence[Grant] = ()
    usage: ActsAlone = field(default_factory=ActsAlone)
    attempts_per_day: int = 1
    max_per_hour: int = 10
    max_per_dag_hour: int = 3
    per_storm: int = 4
    recent: timedelta = timedelta(hours=6)
    begun: datetime | None = None  # when the tool began what it waits with
    protected: Sequence[str] = ()
    holds: Sequence[Hold] = ()
    base_id: str = ""
    pause: Pause = field(default_factory=lambda: Pause(False))
    dag: Dag | None = None
    run: DagRun | None = None
    newer: DagRun | None = None  # a newer run of the DAG that succeeded
    live: TaskInstance | None = None
    health: Health | None = None


def judge(c: Circumstances) -> Verdict:
    """The verdict with every check, in the order a person reads them."""
    grant = covering_grant(c.grants, c.diagnosis.action, c.incident.dag_id, c.now)
    checks = (
        _similarity(c),
        _margin(c),
        _confidence(c),
        _evidence(c),
        _rerun_safe(c),
        _action_allowed(c, grant),
        _protected(c),
        _attempts(c),
        _budget(c, grant),
        _breaker(c),
        _live_state(c),
    )
    failed = [check for check in checks if not check.passed]
    if any(check.name == "similarity" for check in failed):
        return Verdict("novel", checks)
    if any(check.blocks for check in failed):
        return Verdict("blocked", checks)
    if failed:
        return Verdict("ask", checks)
    return Verdict("auto", checks, grant.id if grant else None)


def covering_grant(
    grants: Iterable[Grant], action: str | None, dag_id: str, now: datetime
) -> Grant | None:
    """The newest grant in force for this action in this DAG."""
    live = [
        grant
        for grant in grants
        if grant.revoked_at is None
        and (grant.until is None or grant.until > now)
        and action in grant.actions
        and any(fnmatchcase(dag_id, pattern) for pattern in grant.dags)
    ]
    return max(live, key=lambda grant: grant.at, default=None)


def rerun_safety(
    incident: Incident,
    *,
    vouches: Sequence[Vouch],
    tags: Sequence[str],
    patterns: Sequence[str],
    retries: int,
    trust_retries: bool,
    now: datetime,
    stands_after: timedelta,
) -> RerunSafety:
    """Only a person can vouch for a re-run: by a tag, by the setting, or with an approval, for the
    task or for this pair of task and signature. A word against it outlives tags and settings until
    somebody vouches again. `vouches` are the task's that stand, oldest first.

    A tag or a setting is thought over and counts at once. A yes given with an approval, in haste
    perhaps, counts once it has stood for `stands_after`, however wide it is: what did harm turned
    green too, and is called wrong later, so that one wrong word is not enough to do it again
    (bench.stream: with 5 % of the yeses wrong no task that does harm is run again alone)."""
    name = f"{incident.dag_id}.{incident.task_id}"
    words = [v for v in vouches if v.fingerprint in (None, incident.signature.fingerprint)]
    if words and not words[-1].safe:
        word = words[-1]
        why = f" ({word.reason})" if word.reason else ""
        return RerunSafety(False, f"{word.by} said no on {word.at:%Y-%m-%d}{why}", denied=True)
    if TAG_RERUN_SAFE in tags or f"{TAG_RERUN_SAFE}:{incident.task_id}" in tags:
        return RerunSafety(True, f"tag {TAG_RERUN_SAFE}", for_task=True)
    for pattern in patterns:
        if fnmatchcase(name, pattern) or fnmatchcase(incident.dag_id, pattern):
            return RerunSafety(True, f"setting rerun_safe: {pattern}", for_task=True)
    standing = [word for word in _since_last_no(words) if now - word.at >= stands_after]
    if standing:
        for_task = any(word.fingerprint is None for word in standing)
        word = next(one for one in standing if not for_task or one.fingerprint is None)
        scope = "this task" if for_task else "this task and failure"
        return RerunSafety(
            True, f"{word.by} approved {scope} on {word.at:%Y-%m-%d}", for_task=for_task
        )
    if trust_retries and retries > 0:
        return RerunSafety(True, f"retries={retries}, and gate.trust_retries is on")
    if words:
        word = _since_last_no(words)[0]
        from_then = f"{word.by} approved it on {word.at:%Y-%m-%d}, which counts from "
        until = f"{word.at + stands_after:%Y-%m-%d %H:%M} UTC on"
        return RerunSafety(False, f"{from_then}{until} (a tag or setting counts at once)")
    return RerunSafety(False, f"{NOBODY} that {incident.task_id} may run twice")


def _since_last_no(words: Sequence[Vouch]) -> Sequence[Vouch]:
    last_no = max((i for i, word in enumerate(words) if not word.safe), default=-1)
    return words[last_no + 1 :]


def apart(less: float, bound: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, two at least and four at most."""
    digits = next((d for d in (2, 3) if f"{less:.{d}f}" != f"{bound:.{d}f}"), 4)
    return f"{less:.{digits}f}", f"{bound:.{digits}f}"


def _similarity(c: Circumstances) -> Check:
    best = c.diagnosis.matches[0].similarity if c.diagnosis.matches else 0.0
    passed = best >= c.bounds.similarity and c.diagnosis.by != "nobody"
    rests = f" from {c.bounds.outcomes} outcomes" if c.bounds.source == "record" else ""
    reason = (
        f"not seen before (nearest {' < '.join(apart(best, c.bounds.similarity))}{rests})"
        if c.diagnosis.matches
        else "not seen before"
    )
    return Check("similarity", passed, round(best, 4), c.bounds.similarity, reason)


def _margin(c: Circumstances) -> Check:
    proven_here = c.evidence.scope == "task" and c.evidence.value and not c.evidence.contradicted
    if c.diagnosis.lead is None or (c.diagnosis.by == "exact" and proven_here):
        return Check("margin", True, None, c.bounds.margin)
    return Check(
        "margin",
        c.diagnosis.lead >= c.bounds.margin,
        round(c.diagnosis.lead, 4),
        c.bounds.margin,
        f"similar failures were answered differently{_otherwise(c.diagnosis)}",
    )


def _otherwise(diagnosis: Diagnosis) -> str:
    """By what, of those that count as much as the best one."""
    for one in diagnosis.matches[1:]:
        best = diagnosis.matches[0]
        if one.entry.action != best.entry.action and one.found == best.found:
            return f": {one.entry.action or 'no action'} by {one.entry.source}"
    return ""


def _confidence(c: Circumstances) -> Check:
    """A model's word on a near match may lower the decision and never raise it; where a model is
    set and was not heard, nothing is done alone either."""
    bound, opinion = c.bounds.confidence, c.diagnosis.opinion
    if opinion is None:
        return Check("confidence", True, None, bound)
    said = opinion.suggestion
    if said is None:
        return Check("confidence", False, None, bound, f"model unavailable: {opinion.unheard}")
    if said.action != c.diagnosis.action:
        reason = f"the model proposes {said.action} instead: {said.cause}"
        return Check("confidence", False, said.confidence, bound, reason)
    if not opinion.quotes_stand:
        reason = "what the model quotes is not in the log"
        return Check("confidence", False, said.confidence, bound, reason)
    reason = f"the model is not sure ({said.confidence:.2f} < {bound:.2f})"
    return Check("confidence", said.confidence >= bound, said.confidence, bound, reason)


def _evidence(c: Circumstances) -> Check:
    action = c.diagnosis.action
    if action is None:
        return Check("evidence", False, 0, record.NEEDED_TO_RERUN, "no action is known")
    if action == "none":  # touches nothing, so there is nothing to prove
        return Check("evidence", True)
    bound = record.needed(action, c.evidence.scope)
    value = c.evidence.value
    if c.evidence.contradicted:
        return Check("evidence", False, value, bound, c.evidence.contradicted, blocks=True)
    if action not in RERUN_ACTIONS and c.diagnosis.by != "exact":
        return Check("evidence", False, value, bound, f"{action} needs an exact match")
    where = " in other DAGs" if c.evidence.scope == "anywhere" else ""
    reason = f"{value} of {bound} verified outcomes of {action}{where}"
    if c.evidence.worn:
        reason += f" (not counting {c.evidence.worn}: too old, or of other code)"
    return Check("evidence", value >= bound, value, bound, reason)


def _rerun_safe(c: Circumstances) -> Check:
    if c.diagnosis.action == "none":
        return Check("rerun_safe", True, None, True)
    if c.entry_safe_to_retry is False:
        reason = "the runbook says not to run this again"
        return Check("rerun_safe", False, False, True, reason, blocks=True)
    if c.rerun.safe and c.killed and not c.rerun.for_task:
        reason = "the job may still run elsewhere: only a vouched-for task is run again"
        return Check("rerun_safe", False, False, True, reason)
    reason = f"re-run unproven: {c.rerun.why}"
    return Check("rerun_safe", c.rerun.safe, c.rerun.safe, True, reason, blocks=c.rerun.denied)


def _action_allowed(c: Circumstances, grant: Grant | None) -> Check:
    action = c.diagnosis.action
    if c.pause.paused:
        reason = f"paused by {c.pause.by or 'a setting'}"
    elif action == "none":
        reason = "a person must fix this"
    elif action is None:
        reason = "no action is known"
    elif c.who_may != "alone":
        reason = f"{action} is a person's (setting actions)"
    elif c.diagnosis.by != "exact" and not c.bounds.calibrated:
        reason = "the embedder is not calibrated on your own record yet: it suggests only"
    elif c.suggestion_only:
        reason = "read out of prose: a suggestion, never acted on alone"
    elif c.incident.signature.wrapper:
        reason = "only a wrapper's message is known, not the error inside"
    elif c.incident.kind != "task":
        reason = f"a failed {c.incident.kind} is never acted on alone"
    elif grant is None:
        reason = f"no grant covers {action} in {c.incident.dag_id}"
        return Check("action_allowed", False, NO_GRANT, action, reason)
    else:
        return Check("action_allowed", True, grant.id, action)
    return Check("action_allowed", False, None, action, reason)


def _protected(c: Circumstances) -> Check:
    name = f"{c.incident.dag_id}.{c.incident.task_id}"
    tags = c.dag.tags if c.dag else ()
    for pattern in c.protected:
        if fnmatchcase(name, pattern) or fnmatchcase(c.incident.dag_id, pattern):
            return Check("protected", False, pattern, None, f"protected by {pattern}", blocks=True)
    for hold in c.holds:
        why = f": {hold.reason}" if hold.reason else ""
        return Check("protected", False, "hold", None, f"held by {hold.by}{why}")
    if TAG_OFF in tags:
        return Check("protected", False, TAG_OFF, None, f"tag {TAG_OFF}", blocks=True)
    if TAG_ASK in tags:
        return Check("protected", False, TAG_ASK, None, f"tag {TAG_ASK}")
    word = foreign_word(c.live.note if c.live else None, c.base_id)
    if word:
        return Check("protected", False, "note", None, word)
    return Check("protected", True)


def foreign_word(note: str | None, base_id: str) -> str:
    """Why a task instance's note asks for a person, or "": somebody else's words, or the stamp
    of another knowledge base. Our own stamps are whole lines of the form that `respond.stamp`
    writes: a word added to one is a person's."""
    ours = re.compile(STAMP.format(base=re.escape(base_id)))
    theirs = re.compile(STAMP.format(base=r"\w+"))
    for line in filter(str.strip, (note or "").splitlines()):
        if ours.fullmatch(line):
            continue
        if theirs.fullmatch(line):
            return "another aiops knowledge base acts on this task instance"
        return "a person left a note on the task instance"
    return ""


def _attempts(c: Circumstances) -> Check:
    done, bound = c.usage.task_instance_day, c.attempts_per_day
    reason = f"acted on this task instance {done} time(s) today already"
    return Check("attempts", done < bound, done, bound, reason)


def _budget(c: Circumstances, grant: Grant | None) -> Check:
    if grant is None:
        return Check("budget", True, None, None)
    in_dag = min(grant.max_per_dag_hour, c.max_per_dag_hour)
    if c.usage.dag_hour >= in_dag:
        reason = f"{c.usage.dag_hour} acts in this DAG in the last hour"
        return Check("budget", False, c.usage.dag_hour, in_dag, reason)
    overall = min(grant.max_per_hour, c.max_per_hour)
    reason = f"{c.usage.hour} acts in the last hour"
    return Check("budget", c.usage.hour < overall, c.usage.hour, overall, reason)


def _breaker(c: Circumstances) -> Check:
    """The storm, then the circuit breakers: either is only a question of time, but for a storm
    whose canary did not end well. Half open, one act passes: the canary."""
    storm = storm_word(c.usage, c.per_storm)
    if storm:
        return Check("breaker", False, c.usage.storm_running, c.per_storm, storm)
    states = {c.usage.signature_breaker.state, c.usage.breaker.state}
    order = ("open", "trying", "half open", "closed")
    worst = min(states, key=order.index)
    word = breaker_word(c.usage, c.per_storm)
    return Check("breaker", not word, worst, "closed", word or f"{worst}: one canary first")


def _live_state(c: Circumstances) -> Check:
    if c.live is None:
        return Check("live_state", False, None, "failed", "its state in Airflow is not known")
    reason = changed_since(c.incident, c.live)
    if reason:
        return Check("live_state", False, c.live.state, "failed", reason, blocks=True)
    if (c.begun or c.now) - c.incident.failed_at > c.recent:
        hours = round((c.now - c.incident.failed_at).total_seconds() / 3600)
        reason = f"it failed {hours} h ago: only what is recent is done alone"
        return Check("live_state", False, f"{hours}h", "failed", reason)
    if c.dag is None or c.run is None:
        what = "DAG" if c.dag is None else "run"
        return Check("live_state", False, None, "failed", f"its {what} cannot be read")
    if c.dag.is_paused:
        return Check("live_state", False, "paused", "failed", "the DAG is paused in Airflow")
    if c.run.state == "success":
        return Check("live_state", False, "run success", "failed", "its run ended green")
    now, ran = c.dag.version, c.live.version
    if now and ran and now > ran:  # what new code does is for a person to see first
        reason = f"its code is newer since it failed (v{ran} → v{now})"
        return Check("live_state", False, f"v{now}", f"v{ran}", reason)
    if c.newer is not None:
        reason = f"a newer run of this DAG succeeded ({c.newer.run_id})"
        return Check("live_state", False, "newer success", "failed", reason)
    if c.run.run_type not in RUN_TYPES:
        reason = f"a {c.run.run_type} run is never acted on alone"
        return Check("live_state", False, c.run.run_type, "failed", reason)
    if c.health is None or not c.health.healthy:
        problems = ", ".join(c.health.problems) if c.health else "unknown"
        return Check("live_state", False, problems, "failed", f"Airflow is not healthy: {problems}")
    return Check("live_state", True, "failed", "failed")


def changed_since(incident: Incident, live: TaskInstance) -> str:
    """How the task instance differs from the failed try that was captured, or "" where it does
    not: the one question before every act, a person's too."""
    if incident.ti_id and live.id and live.id != incident.ti_id:
        return f"somebody else has run it again (now {live.state or 'cleared'})"
    if live.try_number != incident.try_number or live.state != "failed":
        return f"it is no longer failed (now {live.state or 'cleared'}, try {live.try_number})"
    return ""

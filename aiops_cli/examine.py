"""Failed try → stored incident with a judgement: gather, then decide in pure functions.

Acts on nothing. The settings, the knowledge base and Airflow come together here; what is made
of them is decided in `diagnosis.ladder` and `gate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from aiops_cli import capture, gate, groups
from aiops_cli.actions import CATALOGUE, who_may
from aiops_cli.config import Settings
from aiops_cli.config_values import BoundFor
from aiops_cli.context import Snapshot
from aiops_cli.diagnosis import delay, ladder
from aiops_cli.errors import AirflowError, Refused, UsageError
from aiops_cli.incidents import (
    UNMAPPED,
    Dag,
    Diagnosis,
    Excerpt,
    Incident,
    Known,
    Opinion,
    Question,
    TaskInstance,
    TaskRef,
)
from aiops_cli.published import incident_document, judgement_document
from aiops_cli.seams import Airflow, Clock
from knowledge.base import KnowledgeBase
from knowledge.errors import ModelUnavailable
from knowledge.evidence import RERUN_ACTIONS
from knowledge.records import Case, Decision, Entry, Judgement, Match, Outcome, Pause
from knowledge.signature import KILLED, LOST, sign
from knowledge.stores import Store

if TYPE_CHECKING:
    from aiops_cli.diagnosis.advisor import Advisor

ASKED_MATCHES = 3  # so many of the nearest matches a model is told of


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything somebody on call has at hand: one Airflow, the knowledge base, the rules."""

    airflow: Airflow
    knowledge: KnowledgeBase
    settings: Settings
    clock: Clock
    advisor: Advisor | None = None  # where a model is set

    @property
    def instance(self) -> str:
        return self.airflow.name


def bounds(knowledge: KnowledgeBase, settings: Settings, incident: Incident) -> gate.Bounds:
    """The bounds in force: the embedder's own measured ones, or stricter ones of one's own record
    or of the settings, for all failures or for such. Below what was measured nothing is known of
    how often a match is wrong. An embedder that nobody has measured is calibrated once the
    record is long enough."""
    own, record = settings.gate, knowledge.record_bound()
    measured = max(knowledge.embedder.bound, record.of(incident.signature.error_class))
    similarity = max(own.similarity or 0.0, measured, *_for(own.similarity_for, incident))
    by_record = "record" if record.enough else "embedder"
    return gate.Bounds(
        similarity=similarity,
        margin=max(own.margin or 0.0, knowledge.margin),
        confidence=max(own.confidence, *_for(own.confidence_for, incident)),
        calibrated=knowledge.embedder.calibrated or record.enough,
        source=by_record if similarity == measured else "settings",
        outcomes=record.outcomes,
    )


def _for(bounds: Sequence[BoundFor], incident: Incident) -> Iterator[float]:
    yield 0.0
    for one in bounds:
        if one.kind == "error" and one.pattern == incident.signature.error_class:
            yield one.bound
        if one.kind == "dag" and fnmatchcase(incident.dag_id, one.pattern):
            yield one.bound


def ref_of(incident: Incident) -> TaskRef:
    return TaskRef(incident.dag_id, incident.run_id, incident.task_id, incident.map_index)


def page_of(airflow: Airflow, incident: Incident) -> str:
    """Where Airflow's UI shows it. An import error has no page of its own: the first one tells
    of them."""
    if incident.kind == "import":
        return airflow.url
    if incident.kind == "run":
        return airflow.run_link(incident.dag_id, incident.run_id)
    return airflow.link(ref_of(incident), incident.try_number)


def examine(desk: Desk, snapshot: Snapshot, failure: capture.Failure) -> Case | None:
    """Read what a new failure says of itself, store it as an incident and judge it. None for a
    run that failed because of a task after all."""
    return take_in(desk, snapshot, failure, read(desk, snapshot, failure))


def read(desk: Desk, snapshot: Snapshot, failure: capture.Failure) -> Incident | None:
    """The first half of `examine`: the network's. It may run in a thread of its own."""
    return capture.build_incident(snapshot, failure, instance=desk.instance, now=desk.clock.now())


def take_in(
    desk: Desk, snapshot: Snapshot, failure: capture.Failure, built: Incident | None
) -> Case | None:
    """The second half of `examine`, for what `read` made of the failure."""
    if built is None:
        return None
    incident = _grouped(desk, built)
    if desk.knowledge.store.add_incident(incident):
        _note_relapses(desk, incident)
    live = failure if isinstance(failure, TaskInstance) else None
    return judge(desk, snapshot, incident, live)


def _grouped(desk: Desk, incident: Incident) -> Incident:
    """The incident in the group of those that share its cause and failed shortly before (or after:
    the newest is read first), or in one that it opens."""
    hostname = incident.context.get("hostname")
    key = groups.group_key(incident.signature, incident.excerpt, hostname)
    if not key:
        return incident
    since, until = incident.failed_at - groups.TOGETHER, incident.failed_at + groups.TOGETHER
    group = desk.knowledge.store.recent_group(incident.instance, key, since, until)
    group = group or groups.new_group(incident.instance, key, incident.id)
    return replace(incident, group_key=key, group=group)


def of_this_airflow(desk: Desk, incident: Incident) -> None:
    """Raises UsageError for an incident of another Airflow: this one may have a task instance of
    the same names, which is not the one that failed."""
    if incident.instance != desk.instance:
        raise UsageError(
            f"{incident.id} is of the Airflow {incident.instance}, and {desk.instance} is chosen",
            f"say so: aiops --instance {incident.instance} …",
        )


def judge(desk: Desk, snapshot: Snapshot, incident: Incident, live: TaskInstance | None) -> Case:
    """Diagnose and gate an incident with what is known now; store the judgement where it says
    anything new. `live` is the task instance as Airflow has it now."""
    document = weigh_up(desk, snapshot, incident, live)
    case = desk.knowledge.store.case(incident.id)
    if case.judgement is None or gist(case.judgement.document) != gist(document):
        judgement = Judgement(incident.id, desk.clock.now(), document)
        desk.knowledge.store.add_judgement(judgement)
        case = replace(case, judgement=judgement)
    return case


def gist(document: Mapping[str, Any]) -> tuple[object, ...]:
    """What makes a judgement another one: the answer, what is like it and what stands against it,
    not the third decimal of a similarity."""
    failed = [check["name"] for check in document["gate"]["checks"] if not check["passed"]]
    answer = {key: value for key, value in document["diagnosis"].items() if key != "confidence"}
    nearest = document["matches"][0]["entry"] if document["matches"] else None
    return document["decision"], answer, nearest, document["rerun"], failed


def weigh_up(
    desk: Desk, snapshot: Snapshot, incident: Incident, live: TaskInstance | None
) -> dict[str, Any]:
    """The diagnosis and the gate's verdict on doing what it proposes, as they are published."""
    limits = bounds(desk.knowledge, desk.settings, incident)
    diagnosis = _diagnose(desk.knowledge, incident, limits)
    if desk.advisor is not None and diagnosis.by == "near":  # never on an exact match
        diagnosis = ladder.with_opinion(
            diagnosis, _opinion(desk, desk.advisor, incident, diagnosis)
        )
    diagnosis = _timed(desk, incident, _possible(incident, diagnosis))
    circumstances = _circumstances(desk, snapshot, incident, diagnosis, limits, live)
    verdict = gate.judge(circumstances)
    if verdict.passed:  # two more questions a DAG, so asked only where something would be done
        newer = snapshot.newer_success(circumstances.run)
        whole = snapshot.dag(incident.dag_id, whole=True) or circumstances.dag
        verdict = gate.judge(replace(circumstances, newer=newer, dag=whole))
    return judgement_document(
        diagnosis,
        verdict,
        evidence=circumstances.evidence,
        rerun=circumstances.rerun.why,
        bound=_bound_document(desk.knowledge, limits),
    )


def _bound_document(knowledge: KnowledgeBase, limits: gate.Bounds) -> dict[str, Any]:
    """Which bound on the similarity was used, whose it is, and how many labelled outcomes of this
    embedder are in the record. Calibration takes the embedder's name from here."""
    return {
        "value": limits.similarity,
        "from": limits.source,
        "outcomes": limits.outcomes,
        "embedder": knowledge.embedder.name,
    }


def _possible(incident: Incident, diagnosis: Diagnosis) -> Diagnosis:
    """There is no upstream to run again of a task that none runs before."""
    above = (incident.context.get("place") or {}).get("upstream")
    if diagnosis.action != "retry_upstream" or above != 0:
        return diagnosis
    told = (
        "No task of its DAG runs before it: what it lacks comes from elsewhere. Have it made there,"
        f" then run this again. {diagnosis.explanation}"
    )
    return replace(diagnosis, action="none", params={}, explanation=told.strip())


def _timed(desk: Desk, incident: Incident, diagnosis: Diagnosis) -> Diagnosis:
    """With the delay that is known of such failures, where it is run again."""
    if diagnosis.action not in ("retry", "retry_later"):
        return diagnosis
    healing = desk.knowledge.healing(incident, desk.settings.relapse_window)
    return delay.timed(diagnosis, incident.excerpt.text, incident.failed_at, healing)


def _diagnose(knowledge: KnowledgeBase, incident: Incident, limits: gate.Bounds) -> Diagnosis:
    """Where the embedder is away only the very same failure is recognised, and that is told."""
    try:
        matches = knowledge.find(incident.signature)
    except ModelUnavailable as error:
        exact = knowledge.exact(incident.signature)
        diagnosis = _answered(knowledge, incident, exact, limits)
        unheard = Opinion(knowledge.embedder.name, unheard=error.why)
        return replace(diagnosis, opinion=None if exact else unheard)
    return _answered(knowledge, incident, matches, limits)


def _answered(
    knowledge: KnowledgeBase, incident: Incident, matches: Sequence[Match], limits: gate.Bounds
) -> Diagnosis:
    """The best answer, and what was tried in vain: each once, as the nearest match tells of it."""
    spent: dict[str, str] = {}  # what was tried, by entry
    said: dict[str, str] = {}  # what came of it
    for match, record in ladder.all_spent(matches, knowledge.record, bound=limits.similarity):
        what = spent[match.entry.id] = _tried(match.entry)
        said.setdefault(what, f"{what}: {_in_words(record)} (incident {match.entry.source})")
    found = ladder.diagnose(incident, matches, bound=limits.similarity, spent=spent)
    said.pop(spent.get(found.entry or "", ""), None)
    return replace(found, tried=tuple(said.values()))


def _tried(entry: Entry) -> str:
    """What an entry answers, as far as its record tells it apart: re-runs are one whatever their
    delay."""
    if entry.action in RERUN_ACTIONS or not entry.params:
        return str(entry.action)
    values = ", ".join(f"{name}={value}" for name, value in sorted(entry.params.items()))
    return f"{entry.action} {values}"


def _opinion(desk: Desk, advisor: Advisor, incident: Incident, diagnosis: Diagnosis) -> Opinion:
    about = (incident.signature.fingerprint, diagnosis.entry or "", diagnosis.action or "")
    heard = advisor.opinion(about, lambda: question(desk.knowledge, incident, diagnosis.matches))
    return _of_this_log(heard, incident)


def _of_this_log(opinion: Opinion, incident: Incident) -> Opinion:
    """The opinion as this failure's: one that was kept may quote another log, whose failure has
    the same signature."""
    from aiops_cli.diagnosis.answer import quotes_stand  # as in `question`

    said = opinion.suggestion
    if said is None or quotes_stand(said, incident.excerpt.text):
        return opinion
    return replace(opinion, quotes_stand=False)


def question(knowledge: KnowledgeBase, incident: Incident, matches: Sequence[Match]) -> Question:
    """What a model is asked about an incident."""
    from aiops_cli.diagnosis.prompt import ask_about  # reads a file, and few commands ask

    known = [
        Known(match, _in_words(knowledge.record(match.entry))) for match in matches[:ASKED_MATCHES]
    ]
    return ask_about(incident, known, {a.name: a.does for a in CATALOGUE.values()})


def suggest(desk: Desk, incident: Incident) -> Opinion | None:
    """What a model makes of a failure that is like nothing known: an unproven suggestion for a
    person, never acted on and never stored as knowledge. None where no model is set."""
    if desk.advisor is None:
        return None
    signature = incident.signature
    # No signature, or a wrapper's alone, is shared by failures that have nothing in common.
    one = incident.id if signature.wrapper or not signature.fingerprint else signature.fingerprint
    about = (one, "novel")
    heard = desk.advisor.opinion(about, lambda: what_is_asked(desk, incident))
    return _of_this_log(heard, incident)


def what_is_asked(desk: Desk, incident: Incident) -> Question:
    """The question about an incident as it would be asked now."""
    limits = bounds(desk.knowledge, desk.settings, incident)
    return question(desk.knowledge, incident, _diagnose(desk.knowledge, incident, limits).matches)


def _in_words(record: Mapping[str, int]) -> str:
    told = ", ".join(f"{name} {count}" for name, count in record.items() if count)
    return told or "not tried yet"


def _circumstances(
    desk: Desk,
    snapshot: Snapshot,
    incident: Incident,
    diagnosis: Diagnosis,
    limits: gate.Bounds,
    live: TaskInstance | None,
) -> gate.Circumstances:
    store, settings, now = desk.knowledge.store, desk.settings, desk.clock.now()
    dag = snapshot.dag(incident.dag_id)
    best = diagnosis.matches[0] if diagnosis.matches and diagnosis.by != "nobody" else None
    # Looked at only where they count: a pass over what waits asks for no tasks then.
    trusted = settings.gate.trust_retries
    task = snapshot.tasks(incident.dag_id).get(incident.task_id) if trusted else None
    return gate.Circumstances(
        incident=incident,
        diagnosis=diagnosis,
        bounds=limits,
        now=now,
        killed=incident.signature.error_class in (KILLED, LOST),
        evidence=desk.knowledge.evidence(
            incident,
            diagnosis.action or "",
            diagnosis.params,
            also={best.entry.symptoms[best.symptom].signature.fingerprint} if best else (),
            now=now,
            relapse_window=settings.relapse_window,
            half_life=settings.evidence_half_life,
        ),
        rerun=gate.rerun_safety(
            incident,
            vouches=store.vouches(incident.instance, incident.dag_id, incident.task_id),
            tags=dag.tags if dag else (),
            patterns=settings.rerun_safe,
            retries=task.retries if task else 0,
            trust_retries=trusted,
            now=now,
            stands_after=settings.gate.vouch_after,
        ),
        entry_safe_to_retry=None if not forbids(diagnosis, limits) else False,
        suggestion_only=best.entry.suggestion_only if best else False,
        who_may=who_may(settings.actions, diagnosis.action or "", settings.two_people),
        grants=store.grants(),
        usage=store.acts_alone(incident.id),
        begun=_begun_alone(store, incident, now - settings.gate.recent),
        attempts_per_day=settings.gate.attempts_per_day,
        max_per_hour=settings.gate.max_per_hour,
        max_per_dag_hour=settings.gate.max_per_dag_hour,
        per_storm=settings.gate.max_per_storm,
        recent=settings.gate.recent,
        protected=settings.protected,
        holds=store.holds_on(incident.id),
        base_id=store.base_id(),
        pause=stopped(desk, snapshot.dag),
        dag=dag,
        run=snapshot.run(incident.dag_id, incident.run_id),
        live=live,
        health=snapshot.health(),
    )


def _begun_alone(store: Store, incident: Incident, recent: datetime) -> datetime | None:
    """When the tool began what it waits with, asked only where the failure is not recent now: it
    was then."""
    if incident.failed_at >= recent:
        return None
    decision = store.case(incident.id).decision
    return decision.at if decision is not None and decision.kind == "auto" else None


def forbids(diagnosis: Diagnosis, bounds: gate.Bounds) -> bool:
    """Whether any entry that answers to this failure says not to run it again, whichever of them
    was believed."""
    return any(
        match.entry.safe_to_retry is False
        for match in diagnosis.matches
        if match.similarity >= bounds.similarity
    )


def still_allowed(
    desk: Desk,
    incident: Incident,
    live: TaskInstance,
    action: str,
    params: Mapping[str, Any],
) -> None:
    """Judge an act of the tool alone once more, by what is true now: DAG, run, note, grants, holds
    and record may all have changed since the list was read. Raises Refused."""
    snapshot = Snapshot(desk.airflow, desk.clock.now())
    document = weigh_up(desk, snapshot, incident, live)
    answer = document["diagnosis"]
    # How long such outages last may be known better by now; what was begun waits as it was told.
    same = (answer["action"], _undelayed(answer["params"])) == (action, _undelayed(params))
    if document["decision"] != "auto" or not same:
        why = "; ".join(document["gate"]["reasons"]) or "another answer is known by now"
        raise Refused(f"not alone any more: {why}", "a person may still approve it")


def _undelayed(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "delay"}


def stopped(desk: Desk, dag: Callable[[str], Dag | None] | None = None) -> Pause:
    """Whether acting alone is stopped: by the environment, by the paused toggle of one named DAG
    in Airflow (what cannot be read counts as stopped), or for all who share the base. `dag`
    answers from one pass's view; without it Airflow is asked now."""
    settings = desk.settings
    if settings.paused:
        return Pause(True, by="AIOPS_PAUSED")
    if settings.pause_dag is not None:
        try:
            toggle = (dag or desk.airflow.dag)(settings.pause_dag)
        except AirflowError as error:
            return Pause(True, by=f"pause_dag, which cannot be read ({error.message})")
        if toggle is None or toggle.is_paused:
            why = "is paused in Airflow" if toggle else "cannot be read"
            return Pause(True, by=f"pause_dag: {settings.pause_dag} {why}")
    return desk.knowledge.store.pause()


def _note_relapses(desk: Desk, incident: Incident) -> None:
    """The same failure on the same task soon after a fix: that fix did not last. What left no
    signature is not known to be the same."""
    store = desk.knowledge.store
    if not incident.signature.fingerprint:
        return
    for trial in store.trials(
        fingerprints={incident.signature.fingerprint},
        task=(incident.instance, incident.dag_id, incident.task_id),
        since=incident.failed_at - desk.settings.relapse_window,
    ):
        came_back = trial.map_index == incident.map_index and incident.failed_at > trial.at
        if trial.outcome != "fixed" or not came_back:
            continue
        decision = store.case(trial.incident_id).decision
        if decision is not None:
            detail = f"the same failure came back: {incident.id}"
            store.add_outcome(
                Outcome(trial.incident_id, decision.seq, desk.clock.now(), "relapsed", detail)
            )


def note_relapse_of(desk: Desk, incident: Incident, decision: Decision) -> None:
    """Whether a fix that is known only now had not lasted by then: the same failure of the same
    task may have been captured before the outcome was looked at."""
    if not incident.signature.fingerprint:
        return
    for case in desk.knowledge.store.cases(
        instance=incident.instance,
        dag=incident.dag_id,
        task=incident.task_id,
        since=decision.at,
    ):
        later = case.incident
        if (
            later.id != incident.id
            and (later.dag_id, later.task_id) == (incident.dag_id, incident.task_id)
            and later.map_index == incident.map_index
            and later.signature.fingerprint == incident.signature.fingerprint
            and decision.at < later.failed_at <= decision.at + desk.settings.relapse_window
        ):
            detail = f"the same failure came back: {later.id}"
            desk.knowledge.store.add_outcome(
                Outcome(incident.id, decision.seq, desk.clock.now(), "relapsed", detail)
            )
            return


def examine_log(
    knowledge: KnowledgeBase, settings: Settings, excerpt: Excerpt, name: str, now: datetime
) -> dict[str, Any]:
    """A log without Airflow: what is known of it, published in the form of an incident. Nothing
    is stored, and the gate never passes what it cannot look at."""
    incident = Incident(
        instance="",
        dag_id="",
        run_id="",
        task_id="",
        map_index=UNMAPPED,
        try_number=0,
        failed_at=now,
        seen_at=now,
        signature=sign(excerpt.text, excerpt.numbers),
        excerpt=excerpt,
        context={"log": name},
    )
    limits = bounds(knowledge, settings, incident)
    diagnosis = _diagnose(knowledge, incident, limits)
    best = diagnosis.matches[0] if diagnosis.matches and diagnosis.by != "nobody" else None
    evidence = knowledge.evidence(
        incident,
        diagnosis.action or "",
        diagnosis.params,
        also={best.entry.symptoms[best.symptom].signature.fingerprint} if best else (),
        now=now,
        relapse_window=settings.relapse_window,
        half_life=settings.evidence_half_life,
    )
    verdict = gate.judge(gate.Circumstances(incident, diagnosis, limits, now, evidence=evidence))
    document = judgement_document(
        diagnosis,
        verdict,
        evidence=evidence,
        rerun="",
        bound=_bound_document(knowledge, limits),
    )
    case = Case(incident, "pending", judgement=Judgement("", now, document))
    absent = ("incident", "instance", "dag_id", "run_id", "task_id", "map_index", "try_number")
    return incident_document(case) | dict.fromkeys((*absent, "status"))

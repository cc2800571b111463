"""The rules that every store keeps, stated once: what a caller may ask, and in which words it
is refused. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from knowledge.errors import DoorClosed, EmbedderMismatch, NotFound, WrongInstance
from knowledge.records import ActsAlone, ClaimState, Decision, Grant, Hold, Limits, Outcome, Pause
from knowledge.stores import EmbeddedEntry, VectorSpace

Clock = Callable[[], datetime]

MIN_PREFIX = 4
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# Unit vectors are computed in 32-bit floats by some embedders.
UNIT_TOLERANCE = 1e-3


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


# --- ids -------------------------------------------------------------------------------------


_LISTS = {
    "incident": "aiops incidents",
    "group": "aiops incidents",
    "entry": "aiops kb list",
    "grant": "aiops auto list",
    "hold": "aiops hold",
}


def the_one(what: str, prefix: str, fitting: Sequence[str]) -> str:
    """The id that is meant: the whole one, or the only one that fits a prefix of at least
    MIN_PREFIX characters. Raises NotFound for none or several."""
    return the_one_of(prefix, {what: fitting})[1]


def the_one_of(prefix: str, fitting: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """As `the_one`, where ids of several kinds fit: the kind that is meant, and the id."""
    found = [(what, one) for what, ids in fitting.items() for one in ids]
    whole = [pair for pair in found if pair[1] == prefix]
    if len(whole) == 1:
        return whole[0]
    what = " or ".join(fitting)
    if len(prefix) < MIN_PREFIX or not found:
        hint = f"{_LISTS[next(iter(fitting))]} shows those it has"
        if len(prefix) < MIN_PREFIX:
            hint = f"give at least {MIN_PREFIX} characters of it"
        raise NotFound(f"no {what} {prefix!r} in this knowledge base", hint)
    if len(found) > 1:
        named = [one if len(fitting) == 1 else f"{kind} {one}" for kind, one in found]
        raise NotFound(
            f"{prefix!r} fits more than one {what}: {', '.join(named)}",
            "give more characters of its id",
        )
    return found[0]


def shortest_prefixes(
    ids: Collection[str], neighbours: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """The shortest prefix of each id that fits neither its `neighbours` (the stored ids next to
    it in order) nor another of `ids`."""
    ordered = sorted(set(ids))
    result = {}
    for place, one in enumerate(ordered):
        near = (
            *neighbours[one],
            *ordered[max(0, place - 1) : place],
            *ordered[place + 1 : place + 2],
        )
        shared = max((_shared(one, other) for other in near if other != one), default=0)
        result[one] = one[: max(MIN_PREFIX, shared + 1)]
    return result


def _shared(a: str, b: str) -> int:
    return next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))


# --- entries ---------------------------------------------------------------------------------


def check_entries(
    entries: Sequence[EmbeddedEntry], space: VectorSpace, stored: Sequence[VectorSpace]
) -> None:
    """Raises EmbedderMismatch for another space than the stored ones (the active one first, then
    one that is being built), ValueError for vectors that are not what `space` says."""
    if stored and space not in stored:
        raise _mismatch(stored[0], space_text(space))
    for one in entries:
        if len(one.vectors) != len(one.entry.symptoms):
            raise ValueError(f"entry {one.entry.id}: one vector for each symptom is needed")
        check_vectors(f"entry {one.entry.id}", one.vectors, space)


def check_vectors(what: str, vectors: Sequence[Sequence[float]], space: VectorSpace) -> None:
    """Raises ValueError for vectors that are neither unit vectors nor zero, or of another length
    than the space's."""
    for vector in vectors:
        if len(vector) != space.dimensions:
            raise ValueError(f"{what}: a vector of {len(vector)} dimensions")
        length = norm(vector)
        if length and not abs(length - 1) < UNIT_TOLERANCE:
            raise ValueError(f"{what}: not a unit vector (length {length:.4f})")


def not_being_built(space: VectorSpace) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"the vectors of {space_text(space)} are not being made any more: somebody else changed "
        "the embedder meanwhile",
        "see aiops kb stats for the one in use, then run: aiops kb reindex",
    )


def check_query(vector: Sequence[float], stored: VectorSpace) -> None:
    """Raises EmbedderMismatch for a query vector of another length than the stored ones."""
    if len(vector) != stored.dimensions:
        raise _mismatch(stored, f"{len(vector)} dimensions")


def _mismatch(stored: VectorSpace, given: str) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"this knowledge base holds vectors of {space_text(stored)}, not of {given}",
        "set the embedder back, or run: aiops kb reindex",
    )


def space_text(space: VectorSpace) -> str:
    return (
        f"{space.embedder} ({space.dimensions} dimensions, "
        f"signature version {space.signature_version})"
    )


def norm(vector: Sequence[float]) -> float:
    return math.hypot(*vector)


def points_somewhere(vector: Sequence[float]) -> bool:
    """A zero vector has no direction and NaN no value: neither is near anything, though
    sqlite-vec would answer both with arbitrary rows."""
    length = norm(vector)
    return math.isfinite(length) and length > 0


# --- globs and URLs --------------------------------------------------------------------------


def glob_pattern(glob: str) -> str:
    """A glob in which only * and ? are special, for SQLite's GLOB and fnmatch alike."""
    return glob.replace("[", "[[]")


def normal_url(url: str) -> str:
    """The base URL without login, trailing slash, query or differences of case in its host."""
    parts = urlsplit(url.strip())
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}"


def wrong_instance(name: str, bound: str, wanted: str) -> WrongInstance:
    return WrongInstance(
        f"the Airflow {name!r} of this knowledge base is {bound}, not {wanted}",
        "give the other Airflow a name of its own in the settings (instances: …)",
    )


# --- holds -----------------------------------------------------------------------------------


def holds_meant(id_or_target: str, in_force: Sequence[Hold]) -> tuple[Hold, ...]:
    """Those with exactly this target, or else the one of this id. Raises NotFound for none."""
    targeted = tuple(hold for hold in in_force if hold.target == id_or_target)
    if targeted:
        return targeted
    fitting = [hold.id for hold in in_force if hold.id.startswith(id_or_target)]
    if not fitting:
        raise NotFound(
            f"no hold on {id_or_target!r} is in force", "aiops hold lists those that are"
        )
    full = the_one("hold", id_or_target, fitting)
    return tuple(hold for hold in in_force if hold.id == full)


# --- decisions -------------------------------------------------------------------------------


def acts(decision: Decision) -> bool:
    """Whether carrying it out touches anything."""
    return decision.kind in ("approve", "auto") and decision.action not in (None, "none")


def check_records_only(decision: Decision) -> None:
    if decision.kind in ("approve", "auto") and decision.action != "none":
        raise ValueError(f"{decision.kind} {decision.action} acts: it goes through open_door")


def check_acts(decision: Decision, incident_id: str) -> None:
    if not acts(decision):
        raise ValueError(f"{decision.kind} {decision.action} acts on nothing: record it")
    if decision.incident_id != incident_id:
        raise ValueError(f"a decision about {decision.incident_id}, not {incident_id}")


def check_settles(state: ClaimState) -> None:
    if state not in ("done", "needs_human"):
        raise ValueError(f"a claim is settled as done or needs_human, not {state}")


def check_outcome_of(outcome: Outcome, decision: int | None) -> None:
    if outcome.decision != decision:
        raise ValueError(f"an outcome of decision {outcome.decision}, not {decision}")


def check_pause(pause: Pause) -> None:
    if pause.paused:
        raise DoorClosed(
            "paused",
            f"acting alone is paused by {pause.by}" + (f": {pause.reason}" if pause.reason else ""),
            "run: aiops resume",
        )


def check_holds(holds: Sequence[Hold]) -> None:
    """`holds` are those in force that cover the incident."""
    for hold in holds[:1]:
        why = f": {hold.reason}" if hold.reason else ""
        raise DoorClosed(
            "protected",
            f"{hold.by} holds {hold.target}{why}",
            f"a person may still approve it, or end the hold: aiops hold --release {hold.target}",
        )


def check_grant(grant: Grant | None, grant_id: str, now: datetime) -> None:
    in_force = (
        grant is not None
        and grant.revoked_at is None
        and (grant.until is None or grant.until > now)
    )
    if not in_force:
        raise DoorClosed(
            "action_allowed", f"the grant {grant_id} is not in force any more", "aiops auto list"
        )


def check_limits(limits: Limits, done: ActsAlone) -> None:
    if done.task_instance_day >= limits.per_task_instance_day:
        raise DoorClosed(
            "attempts",
            f"acted alone on this task instance {done.task_instance_day} times in 24 h "
            f"(limit {limits.per_task_instance_day})",
            "a person may still approve it",
        )
    braked = breaker_word(done, limits.per_storm)
    if braked:
        raise DoorClosed("breaker", braked, "a person may still approve it")
    if done.dag_hour >= limits.per_dag_hour:
        raise _over_budget(f"in this DAG {done.dag_hour}", limits.per_dag_hour)
    if done.hour >= limits.per_hour:
        raise _over_budget(str(done.hour), limits.per_hour)


def breaker_word(done: ActsAlone, per_storm: int) -> str:
    """Why the storm or a circuit breaker keeps the tool from acting alone now, or ""."""
    storm = storm_word(done, per_storm)
    for breaker, what in (
        (done.signature_breaker, "acting alone on this failure went wrong"),
        (done.breaker, "acting alone went wrong several times"),
    ):
        if breaker.state == "open" and not storm:
            return f"{what}: not again before {breaker.until:%Y-%m-%d %H:%M} UTC"
        if breaker.state == "trying" and not storm:
            return f"{what}; half open: one canary first, and it is not settled yet"
    return storm


def storm_word(done: ActsAlone, per_storm: int) -> str:
    """Why the next member of a storm is not acted on alone now, or ""."""
    if done.storm_failed:
        return "acting alone on this storm did not end well: none of the others follows"
    if done.storm_running and not done.storm_fixed:
        return "another of this storm is tried first"
    if done.storm_running >= per_storm:
        return f"{done.storm_running} of this storm run again already"
    return ""


def _over_budget(count: str, limit: int) -> DoorClosed:
    return DoorClosed(
        "budget",
        f"acted alone {count} times in the last hour (limit {limit})",
        "a person may still approve it",
    )


def claim_lost(incident_id: str) -> DoorClosed:
    return DoorClosed(
        "claim",
        f"the claim on incident {incident_id} is no longer held",
        f"somebody else may be acting on it: aiops incidents show {incident_id}",
    )


def claim_held(incident_id: str, owner: str) -> DoorClosed:
    return DoorClosed(
        "claim",
        f"{owner} is acting on incident {incident_id}",
        f"wait for its outcome: aiops incidents show {incident_id}",
    )


def decided_meanwhile(incident_id: str) -> DoorClosed:
    return DoorClosed(
        "claim",
        f"incident {incident_id} was decided on meanwhile",
        f"see: aiops incidents show {incident_id}",
    )


def not_settled(incident_id: str) -> DoorClosed:
    return DoorClosed(
        "claim",
        f"incident {incident_id} is still being acted on",
        f"wait for its outcome: aiops incidents show {incident_id}",
    )


def nothing_done(incident_id: str) -> NotFound:
    return NotFound(
        f"nothing was done to incident {incident_id}, so no act of it can have done harm",
        f"see: aiops incidents show {incident_id}",
    )


def takes_back(decision: Decision | None) -> bool:
    """Whether a person decided it and nothing was done under it: a rejection with a plan put
    something back."""
    return decision is not None and (
        (decision.kind == "reject" and not decision.plan)
        or (decision.kind == "approve" and decision.action == "none")
    )


def nothing_to_take_back(incident_id: str) -> NotFound:
    return NotFound(
        f"incident {incident_id} has no decision that can be taken back",
        "only a rejection or a `none` can, and only while nothing was decided after it",
    )


def no_decision(incident_id: str, decision: int) -> NotFound:
    return NotFound(f"incident {incident_id} has no decision {decision} that stands")

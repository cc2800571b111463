"""The Store seam: where knowledge, incidents, decisions, outcomes and claims are kept.

One contract, held by one test suite over every backend and the in-memory twin
(tests/test_store_contract*.py). Append-only, but for claims, watermarks, marks and vectors; of
what may change (pause, snooze, holds) each change is a new row.
Every method is one transaction: after a crash it has happened wholly or not at all.
All methods raise `StoreUnusable` when the store cannot be read or written, and those that take
an incident's id (also inside a record) raise `NotFound` for one that is not stored.
Mistakes of the caller (a naive time, a decision given to the wrong method) are ValueErrors.

A claim in state `claimed` whose lease is over by the store's clock is none: its incident shows
no claim and waits again. A decision whose claim was released, or that was taken back, is void:
it gives no status, is no trial, counts against no limit, and what was vouched with it is no word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from knowledge.errors import StoreUnusable
from knowledge.records import (
    ActsAlone,
    Brief,
    Candidate,
    Case,
    Claim,
    ClaimState,
    Decision,
    Entry,
    EntryVersion,
    Grant,
    Hold,
    Incident,
    Judgement,
    Lesson,
    Limits,
    Line,
    NearCase,
    Outcome,
    Pause,
    Remark,
    Status,
    Story,
    Trial,
    Vouch,
)

POSTGRES = ("postgresql://", "postgres://")

Vector = Sequence[float]


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """Which vectors a store holds; vectors of two spaces are never compared."""

    embedder: str
    dimensions: int
    signature_version: int


@dataclass(frozen=True, slots=True)
class EmbeddedEntry:
    """An entry with one unit vector for each of its symptoms, in their order."""

    entry: Entry
    vectors: tuple[Vector, ...]


@dataclass(frozen=True, slots=True)
class PutCounts:
    """What `put_entries` did with the entries it was given."""

    added: int = 0
    changed: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The last row of the audit log: its number, from 1, and its hash; 0 and "" where none is."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One row of the audit log: `document` is the row `ref` of the table `what`, as it was
    written (of an entry's text only the digest)."""

    seq: int
    at: datetime
    what: str
    ref: str
    document: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a check of the audit log found: where it ends, and a sentence for each fault."""

    head: AuditHead
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What was loaded from another store: incidents taken, and those that were known already."""

    incidents: int
    known: int


class Store(Protocol):
    """See the module. Ids given by callers may be any unique prefix of 4 or more characters
    (NotFound for one that fits several); those of incidents and groups in upper case too."""

    location: str  # as a person may see it: no password

    def close(self) -> None: ...

    def base_id(self) -> str:
        """This knowledge base's own random id, made once."""

    def bind_instance(self, name: str, url: str) -> None:
        """Bind an instance name to its base URL for good. Raises WrongInstance for another; a
        trailing slash, a login in it and the case of its host make no difference."""

    def vector_space(self) -> VectorSpace | None:
        """The space of the vectors in use, None while there are none."""

    def revision(self) -> str:
        """An opaque text that is another one after every change to what judgements rest on:
        entries and retirements, decisions and the voiding of them, outcomes, harms, vouches,
        grants and revocations, pauses, holds and their ends, lessons. Equal texts mean that none
        of it was written; what the clock alone ends (a grant, a hold) changes nothing. Incidents,
        judgements, claims, remarks, snoozes, marks and watermarks do not count. Cheap enough to
        ask before every judgement. To be compared with texts of the same store only."""

    # --- entries: what is known ------------------------------------------------------------

    def put_entries(
        self,
        entries: Sequence[EmbeddedEntry],
        space: VectorSpace,
        at: datetime,
        *,
        by: str = "aiops",
    ) -> PutCounts:
        """Append entries; one whose content is stored already is left alone ("same"), one whose
        id is known with other content becomes its newest version ("changed"). A retired entry
        stays retired unless its content changed. Content is all but `created_at` and `retired`.
        One that comes retired is never live: it is retired by `by`, together with its coming.
        All or nothing. Raises EmbedderMismatch where `space` is neither the store's nor being
        made; the vectors of one that is being made come with the rest."""

    def retire_entries(self, ids: Collection[str], by: str, at: datetime, reason: str) -> int:
        """Retired entries are never matched again but stay readable. Returns how many were live.
        Raises NotFound, and retires none, where one of the ids is not stored."""

    def entries(
        self, *, kind: str | None = None, source: str | None = None, retired: bool = False
    ) -> tuple[Entry, ...]:
        """Newest versions, oldest entry (first put) first. `source` is a prefix; `retired`
        includes those."""

    def entry_page(self, *, retired: bool, limit: int, offset: int = 0) -> tuple[Entry, ...]:
        """A page of `entries`: those of one's own first, then those that ship with the package,
        each the newest entry (first put last) first. No more are read than are returned."""

    def versions(self) -> tuple[EntryVersion, ...]:
        """All versions of all entries, the first put first: what was known when."""

    def first_put(self) -> Mapping[str, datetime]:
        """When each entry, live or retired, was first put: the earliest `created_at` of its
        versions, by its id."""

    def entry(self, entry_id: str) -> Entry:
        """Retired ones too. Raises NotFound."""

    def find_exact(self, fingerprint: str) -> tuple[Candidate, ...]:
        """Live entries with a symptom of this fingerprint, the last put version first."""

    def find_vector(self, vector: Vector, limit: int) -> tuple[Candidate, ...]:
        """Nearest live symptoms by cosine, nearest first. A zero vector finds nothing and
        is never found. Raises EmbedderMismatch for other dimensions than the stored ones."""

    def find_text(self, tokens: Sequence[str], limit: int) -> tuple[Candidate, ...]:
        """Live symptoms sharing tokens (of `knowledge.ranking.tokenize`), best BM25 first."""

    # --- another embedder: new vectors are made beside those in use ------------------------

    def unembedded(self, space: VectorSpace, limit: int) -> tuple[tuple[int, str], ...]:
        """The next live symptoms that have no vector in `space` yet, as (number, signature's
        text), oldest first; none where it is the space in use. Asking begins that space, or goes
        on with it; one of another embedder that was begun is given up."""

    def embed(self, space: VectorSpace, vectors: Mapping[int, Vector]) -> None:
        """Add vectors that `unembedded` asked for, all that it named up to the highest number
        here. Raises EmbedderMismatch where that space is not being made any more."""

    def switch_space(self, space: VectorSpace) -> bool:
        """Use the vectors of `space` from now on and forget those used until now; False, and
        nothing is changed, while live symptoms are missing from it. True where it is in use."""

    # --- incidents: what was seen ----------------------------------------------------------

    def add_incident(self, incident: Incident) -> bool:
        """Append; False where its id is stored already (nothing is changed then)."""

    def known_incidents(self, ids: Collection[str]) -> set[str]:
        """Those of these full ids that are stored."""

    def case(self, incident_id: str) -> Case:
        """One incident with all that was decided about it. Raises NotFound.

        `status` follows `records.status_of`. `decision` is the newest that is not void (a shadow
        one only where there is no other), `outcome` the newest one of that decision, `outcomes`
        all of them, oldest first, `judgement` the newest."""

    def cases(
        self,
        *,
        status: Collection[Status] = (),
        instance: str | None = None,
        dag: str | None = None,
        task: str | None = None,
        since: datetime | None = None,
        group: str | None = None,
        snoozed: bool | None = None,
        limit: int | None = None,
    ) -> tuple[Case, ...]:
        """Newest failure first. `dag` and `task` are globs (* and ?), `since` bounds failed_at
        from below. Empty `status` means all. `group` is a group's id (NotFound for an unknown
        one). `snoozed` False leaves out those left for later now, True the others."""

    def lines(
        self,
        *,
        status: Collection[Status] = (),
        instance: str | None = None,
        dag: str | None = None,
        since: datetime | None = None,
        snoozed: bool | None = None,
        together: int | None = None,
        limit: int,
        offset: int = 0,
    ) -> tuple[Line, ...]:
        """A page of what `cases` gives. Of a group of which at least `together` fit the question
        the newest failure stands for all of them; None tells each by itself. No more cases are
        read than lines are returned."""

    def story(self, incident_id: str) -> Story:
        """Everything that was written of an incident. Raises NotFound."""

    def briefs(
        self, *, since: datetime | None = None, instance: str | None = None
    ) -> tuple[Brief, ...]:
        """Oldest failure first; `since` bounds failed_at from below. No log and no judgement is
        held, so that there may be tens of thousands."""

    def near_cases(
        self, embedder: str, signature_version: int, *, before: int | None = None, limit: int
    ) -> tuple[NearCase, ...]:
        """Decided incidents that this embedder judged by a near match, with a signature of this
        version: the `gate.bound.embedder` of the newest judgement's document says which it was,
        its `matches[0].found` is "near". One that was decided in Airflow itself is among them
        where it has a lesson. The last judged first; `before` leaves out those whose judgement
        has this number or a larger one. Costs what is returned, not what is stored."""

    def counts(self, instance: str | None = None) -> Mapping[Status, int]:
        """How many incidents have each status; every status is named, most with 0."""

    def add_judgement(self, judgement: Judgement) -> None: ...

    def uses(
        self, entry_ids: Collection[str], *, since: datetime | None = None
    ) -> Mapping[str, int]:
        """For each of these full entry ids the number of incidents that some judgement rested
        on it (`diagnosis.entry` of its document), of those judged from `since` on."""

    def add_remark(self, remark: Remark) -> None: ...

    def snooze(self, incident_id: str, until: datetime, by: str, at: datetime) -> None:
        """Leave the incident for later: until then by the store's clock it is snoozed. The newest
        word holds; a time that is over ends it."""

    # --- groups and short ids --------------------------------------------------------------

    def find_ids(self, prefix: str) -> tuple[str, ...]:
        """The full incident ids that `prefix` means: of the one incident, or of all members of
        the one group. It must be unique over both; otherwise NotFound names what it fits."""

    def group_members(self, group_id: str) -> tuple[str, ...]:
        """The full incident ids of a group, newest failure first. Raises NotFound."""

    def recent_group(self, instance: str, key: str, since: datetime, until: datetime) -> str | None:
        """The group of the newest of the instance's incidents that were grouped by `key` and
        failed between `since` and `until`, both included; None for the key ""."""

    def shortest_prefixes(self, ids: Collection[str]) -> Mapping[str, str]:
        """For each id of an incident or a group the shortest prefix of 4 or more characters that
        no other stored incident or group and no other of `ids` has."""

    # --- decisions, claims, outcomes -------------------------------------------------------

    def record(self, decision: Decision, vouches: Sequence[Vouch] = ()) -> Decision:
        """Append a decision that acts on nothing (reject, action none, shadow, superseded), and
        what was vouched with it. Raises DoorClosed("claim") where somebody holds a claim on the
        incident; a shadow decision is appended all the same. A claim whose lease is over, or one
        that needs a human, is ended: its owner finds the door shut. The decision returned has
        its full id and seq."""

    def claim(
        self,
        incident_id: str,
        ti_id: str | None,
        owner: str,
        lease: timedelta,
        *,
        reopen: bool = False,
    ) -> int | None:
        """Take the right to act. Returns a token, or None where another holds it, where it was
        acted on already, or where `ti_id` is claimed under any incident. A `claimed` row whose
        lease (by the store's clock) is over is taken over with a higher token. No token is ever
        given out twice. A late owner may still go through the door while nobody took over.
        `reopen` is for a person: an incident that needs a human may be taken again."""

    def open_door(
        self,
        incident_id: str,
        token: int,
        decision: Decision,
        *,
        limits: Limits | None = None,
        vouches: Sequence[Vouch] = (),
        not_before: datetime | None = None,
    ) -> Decision:
        """The one-way door before any outside effect: claimed → acting, and the decision is
        appended, in one transaction; `decision.action` is not none. Raises DoorClosed with the
        check's name, and then nothing has changed (the claim may be released): "claim" where it
        is not held; for a decision of kind auto, "paused" while acting alone is, "protected"
        while a hold covers the incident, "claim" where a decision stands already and
        "action_allowed" where its grant is not in force any more; and where `limits` are given,
        "attempts", "breaker" (a circuit breaker, or the rest of its storm) and "budget", by what
        `acts_alone` counts."""

    def acts_alone(self, incident_id: str) -> ActsAlone:
        """Decisions of kind auto that are not void and not about this incident itself, counted
        by when they were appended by the store's clock (not by their `at`). The task instance is
        (instance, dag, run, task, map index), whatever the try; signature and hour are counted
        over all instances. The breakers are those of `stores.breaker`: an act ended by its newest
        outcome at that one's `at`, but one that was called wrong at the first such word's."""

    def retake(self, incident_id: str, token: int, lease: timedelta) -> int | None:
        """Go on with an `acting` claim (a retry that waited for its time): returns a higher token,
        or None where `token` is stale because another took it first. What was noted as done
        and the decision stay."""

    def progress(self, incident_id: str, token: int, progress: Mapping[str, Any]) -> None:
        """Replace what is noted as done of the plan, past the door. Raises DoorClosed("claim")
        for a stale token and before the door."""

    def settle(
        self, incident_id: str, token: int, state: ClaimState, outcome: Outcome | None = None
    ) -> None:
        """Close an `acting` claim as done or needs_human and append the outcome, together.
        The outcome is one of the claim's decision. Raises DoorClosed("claim") for a stale token
        and for a claim that is not `acting`."""

    def release(self, incident_id: str, token: int) -> None:
        """Give a claim back because nothing was done under it, before the door or past it: it
        may be claimed anew, and its decision is void. A stale token and a closed claim are
        ignored."""

    def claims(self, states: Collection[ClaimState]) -> tuple[Claim, ...]:
        """As they are written, those whose lease is over too; oldest first."""

    def add_outcome(self, outcome: Outcome) -> None:
        """Append a later word on a settled decision (relapsed). Raises NotFound where the incident
        has no such decision or it is void, DoorClosed("claim") while it is acted on."""

    def call_wrong(
        self,
        incident_id: str,
        by: str,
        at: datetime,
        reason: str,
        vouches: Sequence[Vouch] = (),
    ) -> Decision:
        """Append a person's word that an act did harm, whatever its outcomes say, and what is
        vouched (taken back) with it. The newest decision that acted and is not void is meant,
        and returned. Raises NotFound where there is none."""

    def take_back(self, incident_id: str, by: str, at: datetime) -> Decision:
        """Void the newest decision (shadow ones aside) because its maker thought better of it:
        a rejection, or a `none`. Returned is the decision. Raises NotFound where the newest one
        acted, was superseded, or there is none, and DoorClosed("claim") where somebody holds a
        claim on the incident."""

    def trials(
        self,
        *,
        fingerprints: Collection[str] | None = None,
        task: tuple[str, str, str] | None = None,
        since: datetime | None = None,
    ) -> tuple[Trial, ...]:
        """Acts (person's and the tool's own) and rejections, oldest first, but for those whose
        action is None or none: a rejection's `action` is the one that was rejected.
        The outcome of one that was called wrong is "wrong", whatever else is known of it; that of
        one that turned green and was undone is "superseded", for the rejection says it all.
        `task` is (instance, dag_id, task_id), `since` bounds the decision's `at` from below."""

    def vouches(
        self, instance: str, dag_id: str, task_id: str, before: datetime | None = None
    ) -> tuple[Vouch, ...]:
        """What people said of the task and still stands, oldest first. A yes falls with the
        decision that it came with: where that is void, where the incident was rejected after it
        (an undo does that), and where by its newest outcome the act failed or the failure came
        back. A no stands though its act was given back; only its own taking back ends it. With
        `before`, as all this was known then."""

    # --- lessons: what ended a failure without this tool -----------------------------------

    def add_lessons(self, lessons: Sequence[Lesson]) -> int:
        """Append, all or nothing, those whose try has none yet; returns how many they were."""

    def known_lessons(self, ids: Collection[str]) -> set[str]:
        """Those of these full incident ids whose try has a lesson."""

    def lessons(self, fingerprints: Collection[str]) -> tuple[Lesson, ...]:
        """Those of failures with these fingerprints, the first put first."""

    def lesson_counts(self) -> Mapping[str, int]:
        """How many lessons there are of each fingerprint that has any."""

    # --- leave to act alone ----------------------------------------------------------------

    def add_grant(self, grant: Grant) -> None: ...

    def revoke_grant(self, grant_id: str, by: str, at: datetime) -> Grant:
        """Raises NotFound. A second revocation changes nothing."""

    def grants(self) -> tuple[Grant, ...]:
        """All, revoked and expired ones too, oldest first."""

    def pause(self) -> Pause: ...

    def set_pause(self, pause: Pause) -> None: ...

    def add_hold(self, hold: Hold) -> None:
        """Hold what `target` covers: the DAGs of the instance that fit it as a glob, or the task
        instance of the incident whose full id it is. From then on the door is shut to decisions
        of kind auto, while `records.in_force` by the store's clock."""

    def end_hold(self, id_or_target: str, by: str, at: datetime) -> tuple[Hold, ...]:
        """End those in force that have exactly this target, or else the one of this id. Raises
        NotFound where none is in force."""

    def holds(self) -> tuple[Hold, ...]:
        """All, ended and expired ones too, oldest first."""

    def holds_on(self, incident_id: str) -> tuple[Hold, ...]:
        """Those in force that cover the incident, oldest first: what the door asks."""

    # --- small things remembered, which may change -----------------------------------------

    def mark(self, name: str) -> str | None:
        """The value set last, None where there is none."""

    def set_mark(self, name: str, value: str) -> None: ...

    def swap_mark(self, name: str, before: str | None, value: str) -> bool:
        """Set it if its value is `before` (None: there is none); of several who try at once from
        the same value one does. Returns whether it was set."""

    def watermark(self, instance: str) -> datetime | None: ...

    def set_watermark(self, instance: str, at: datetime) -> None: ...


class LastingStore(Store, Protocol):
    """What only a store that outlives the process has."""

    # --- the audit log: everything decided or allowed, and every change of what is known ---

    logged: bool  # whether anything was logged since this store was opened

    def advice(self) -> str:
        """What its owner could do to make it faster; "" where there is nothing."""

    def audit_head(self) -> AuditHead:
        """The last row of the log."""

    def audit_follows(self, head: AuditHead) -> bool:
        """Whether a head that was seen before is still in the log."""

    def audit(
        self, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[AuditRecord, ...]:
        """The newest `limit` rows since then, oldest first."""

    def audit_verify(self, heads: Collection[AuditHead] = ()) -> AuditReport:
        """Whether each row of the log follows the one before and is what it was, and each logged
        row is what the log has of it. `heads` were seen before and kept elsewhere."""

    # --- moving what was seen and decided to another store ---------------------------------

    def instances(self) -> Mapping[str, str]:
        """The base URL that each instance's name is bound to."""

    def dump(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All incidents but those that are acted on or need a human, with what was judged,
        decided, vouched and what came of it, and all lessons: (table, row as JSON), in an order
        in which `load` takes them. To be used up before anything else is asked of the store."""

    def load(
        self, dumped: Iterable[tuple[str, Mapping[str, Any]]], base: str, by: str, at: datetime
    ) -> LoadCounts:
        """Append what `dump` of another base gave, all or nothing, and who did so. Incidents that
        are stored already are left as they are, and so is what people here said about whether a
        task may run again; a no is taken. Raises KeyError, TypeError or ValueError for what
        `dump` did not give."""


def migrate_store(url: str, role: str | None = None) -> tuple[int, int] | None:
    """Make or bring up to date the tables of a store in Postgres, as their owner, and give
    `role` what the program needs: the schema's version before and after. None for SQLite, where
    opening does it. Raises StoreUnusable or SchemaTooNew."""
    if url.startswith(POSTGRES):
        _need_psycopg()
        from knowledge.stores.postgres_schema import migrate  # psycopg only where it is used

        return migrate(url, role)
    open_store(url).close()
    return None


def open_store(url: str) -> LastingStore:
    """The store that `url` names: `sqlite:///path` or `postgresql://…`.

    Raises StoreUnusable for any other scheme and where it cannot be opened."""
    if url.startswith("sqlite:///"):
        from knowledge.stores.sqlite import SqliteStore  # apsw only where it is used

        return SqliteStore.open(url.removeprefix("sqlite:///"))
    if url.startswith(POSTGRES):
        _need_psycopg()
        from knowledge.stores.postgres import PostgresStore  # as apsw above

        return PostgresStore.open(url)
    raise StoreUnusable(
        f"unknown knowledge base {url.split('://')[0]!r}",
        "use sqlite:///path/to/file.db or postgresql://user@host/database",
    )


def _need_psycopg() -> None:
    try:
        import psycopg  # noqa: F401 (only to say what is missing)
    except ImportError as error:
        raise StoreUnusable(
            f"a knowledge base in Postgres needs psycopg ({error})",
            "install it: pip install 'aiops-cli[postgres]'",
        ) from error

"""KnowledgeBase = Store + Embedder + ranking: the one class that callers use.

Whatever goes in is signed and embedded here, and whatever is looked for is found here; the
store only keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from knowledge import ageing, calibration, evidence, lessons, ranking
from knowledge.embedders import BuiltinEmbedder, Embedder
from knowledge.errors import EmbedderMismatch, ModelUnavailable, NotFound
from knowledge.records import (
    Entry,
    Evidence,
    Incident,
    Lesson,
    Match,
    NearCase,
    Signature,
    Symptom,
    Trial,
    short_hash,
)
from knowledge.redact import clean, redact
from knowledge.signature import SIGNATURE_VERSION, sign
from knowledge.stores import EmbeddedEntry, PutCounts, Store, VectorSpace, rows
from knowledge.tokens import tokenize

# Candidates brought up by each search before the one re-ranking decides (facts: the top 60 of
# a text search re-ranked by character grams equals ranking the whole base).
TEXT_CANDIDATES = 60
VECTOR_CANDIDATES = 30
DEEPER = 100  # times as many, for searches with filters
REINDEX_BATCH = 64
VANISHED = "vanished"  # a tag: what was retired because its source has it no more
LESSONS_AT_ONCE = 200  # failures whose lessons are read together
REFIT_AFTER = 20  # changes of the record, each seen by a judgement
# A storm is many failures of few signatures: the answers to so many of them are kept, until
# something that they rest on changes.
KEPT_ANSWERS = 16

STARTER = Path(__file__).parent / "starter"
STARTER_MARK = "starter"  # under it the store remembers which version it holds


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What seeding does: entries that it adds, that say something else than before, that are left
    alone (as they are stored, perhaps retired), and that it retires, for their source is gone."""

    added: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    same: tuple[Entry, ...]
    retired: tuple[Entry, ...]


class KnowledgeBase:
    """A store together with the embedder that its vectors come from. `machine_logins` are globs of
    logins whose re-runs in Airflow are no person's."""

    def __init__(
        self, store: Store, embedder: Embedder, machine_logins: Collection[str] = ()
    ) -> None:
        self.store = store
        self.embedder = embedder
        self.machine_logins = machine_logins
        self._answers: tuple[str, dict[Signature, tuple[Match, ...]]] = ("", {})
        self._bound: tuple[calibration.Bound, str, int] | None = None

    @property
    def space(self) -> VectorSpace:
        return VectorSpace(self.embedder.name, self.embedder.dimensions, SIGNATURE_VERSION)

    def record_bound(self) -> calibration.Bound:
        """The bound on near matches by what came of those. Reading them takes some hundredths of
        a second, so it is made anew only where something was decided since, and in one process
        every REFIT_AFTER such times: one outcome in hundreds hardly moves it, and what went wrong
        speaks for itself in the evidence at once."""
        known, revision, news = self._bound or (None, "", 0)
        now = self.store.revision()
        if known is not None and (now == revision or news + 1 < REFIT_AFTER):
            self._bound = known, now, news + (now != revision)
            return known
        bound = calibration.fit(self.labelled(), floor=self.embedder.bound)
        self._bound = bound, now, 0
        return bound

    def labelled(self) -> tuple[calibration.Labelled, ...]:
        """The last WINDOW labelled outcomes of this embedder's near matches, oldest first: what
        the bound of the record is made from."""
        found: list[calibration.Labelled] = []
        before = None
        while len(found) < calibration.WINDOW:
            page = self.store.near_cases(
                self.embedder.name, SIGNATURE_VERSION, before=before, limit=calibration.WINDOW
            )
            if not page:
                break
            known = (calibration.labelled(self._told_apart(one)) for one in page)
            found += [one for one in known if one is not None]
            before = page[-1].judgement
        return tuple(reversed(found[: calibration.WINDOW]))

    def _told_apart(self, case: NearCase) -> NearCase:
        if case.lesson is None:
            return case
        (lesson,) = lessons.told_apart([case.lesson], self.machine_logins)
        return replace(case, lesson=lesson)

    def find(
        self, signature: Signature, *, limit: int | None = None, deep: bool = False
    ) -> tuple[Match, ...]:
        """The entries that answer to this signature, best first; exact ones stand at 1.0. All of
        the candidates unless `limit` is given: who decides must see every answer that differs.
        `deep` brings up many more candidates, for who leaves out most of what fits best.

        A signature without text matches nothing. Raises EmbedderMismatch where the stored
        vectors come from another embedder."""
        if not signature.text:
            return ()
        stored = self.store.vector_space()
        ours = (self.embedder.name, SIGNATURE_VERSION)  # its dimensions show in the vector itself
        if stored is not None and (stored.embedder, stored.signature_version) != ours:
            raise EmbedderMismatch(
                f"the knowledge base holds vectors of {stored.embedder}, "
                f"not of {self.embedder.name}",
                f"set AIOPS_EMBEDDER={stored.embedder}, or make new vectors: aiops kb reindex",
            )
        if limit is not None or deep:
            return self._searched(signature, limit, deep)
        revision = self.store.revision()
        if self._answers[0] != revision:
            self._answers = (revision, {})
        known = self._answers[1]
        # Of the headline only its signature counts, and the line not at all.
        alike = replace(signature, headline=ranking.signed(signature.headline), line=None)
        if alike not in known:
            if len(known) == KEPT_ANSWERS:
                del known[next(iter(known))]
            known[alike] = self._searched(signature, None, deep)
        return known[alike]

    def _searched(self, signature: Signature, limit: int | None, deep: bool) -> tuple[Match, ...]:
        exact = self.store.find_exact(signature.fingerprint)
        vector = self.embedder.embed([signature.text])[0]
        more = DEEPER if deep else 1
        near = self.store.find_vector(vector, VECTOR_CANDIDATES * more)
        by_cosine = self.embedder.name != BuiltinEmbedder.name
        if not by_cosine:
            near += self.store.find_text(tokenize(signature.text), TEXT_CANDIDATES * more)
        limit = limit or len(exact) + len(near)
        return ranking.rank(signature, exact, near, limit=limit, by_cosine=by_cosine)

    @property
    def margin(self) -> float:
        """The lead over a differing answer that the embedder's similarity needs, measured."""
        return ranking.BUILTIN_MARGIN

    def put(self, entries: Sequence[Entry], at: datetime, *, by: str = "aiops") -> PutCounts:
        """Embed and append entries; what is stored already is left alone. One that comes retired
        is stored so, retired by `by`."""
        texts = [symptom.signature.text for entry in entries for symptom in entry.symptoms]
        vectors = iter(self.embedder.embed(texts) if texts else [])
        embedded = [
            EmbeddedEntry(entry, tuple(next(vectors) for _ in entry.symptoms)) for entry in entries
        ]
        return self.store.put_entries(embedded, self.space, at, by=by)

    def plan_seed(
        self, entries: Sequence[Entry], *, files: Collection[str] = (), scopes: Collection[str] = ()
    ) -> SeedPlan:
        """What `seed` would do. Writes nothing.

        What vanished from the files of these entries, or from `files` that were read and have
        none, is retired. `scopes` are folders ("runbooks/**") and globs that were read whole: of
        those, files that are gone are retired too. Another folder of the same name shares no
        entry, and is left alone.
        """
        from knowledge.runbooks.files import covers  # only seeding needs it

        known = {entry.id: entry for entry in self.store.entries(kind="runbook", retired=True)}
        live = [entry for entry in known.values() if not entry.retired]
        kept = {entry.id for entry in entries}
        read = {*files, *(_file(entry.source) for entry in entries)}
        for scope in scopes:
            inside = [entry for entry in live if covers(scope, _file(entry.source))]
            if any(entry.id in kept for entry in inside):
                read.update(_file(entry.source) for entry in inside)
        titled = defaultdict(list)
        for entry in known.values():
            titled[entry.title].append(entry)
        same: dict[str, Entry] = {}
        for entry in entries:
            was = known.get(entry.id) or _retired_before(entry, titled[entry.title])
            if was is not None and _says_the_same(replace(was, id=entry.id), entry):
                same[entry.id] = was
        new = [entry for entry in entries if entry.id not in same]
        return SeedPlan(
            added=tuple(entry for entry in new if entry.id not in known),
            changed=tuple(entry for entry in new if entry.id in known),
            same=tuple(same.values()),
            retired=tuple(e for e in live if _file(e.source) in read and e.id not in kept),
        )

    def seed(
        self,
        entries: Sequence[Entry],
        *,
        files: Collection[str] = (),
        scopes: Collection[str] = (),
        by: str,
        at: datetime,
    ) -> SeedPlan:
        """Put runbook entries, and retire those that vanished, as `plan_seed` says. What is
        stored already is not embedded again. What vanished is tagged so, which makes it another
        version than its file's: it is live again when it comes back, and what a person retired
        is not. Returns what was done."""
        plan = self.plan_seed(entries, files=files, scopes=scopes)
        tagged = (
            replace(entry, tags=(*(tag for tag in entry.tags if tag != VANISHED), VANISHED))
            for entry in plan.retired
        )
        self.put([*plan.added, *plan.changed, *tagged], at)
        gone = [entry.id for entry in plan.retired]
        self.store.retire_entries(gone, by, at, "vanished from its source")
        return plan

    def reindex(self, at: datetime, told: Callable[[int, int], None]) -> int:
        """Make the vectors of this embedder for all that is known, while those in use stay so,
        then use them instead. What an earlier run has made is not made again. `told` hears how
        many of how many there are, those of earlier runs too; returned is how many were made now.
        Signatures of another version are
        made anew first. Raises EmbedderMismatch where somebody else began another embedder's."""
        self.store.unembedded(self.space, 0)  # begins the space
        entries = self.store.entries()
        outdated = [
            entry
            for entry in entries
            if any(one.signature.version != SIGNATURE_VERSION for one in entry.symptoms)
        ]
        self.put([self._signed_anew(entry) for entry in outdated], at)
        of = sum(len(entry.symptoms) for entry in entries)
        made, before = 0, of - len(self.store.unembedded(self.space, of))
        while not self.store.switch_space(self.space):
            while wanted := self.store.unembedded(self.space, REINDEX_BATCH):
                vectors = self.embedder.embed([text for _, text in wanted])
                numbers = (number for number, _ in wanted)
                self.store.embed(self.space, dict(zip(numbers, vectors, strict=True)))
                made += len(wanted)
                told(before + made, of)
        return made

    def _signed_anew(self, entry: Entry) -> Entry:
        if entry.incident_id is not None:  # only its headline is the symptom's text
            excerpt = self.store.case(entry.incident_id).incident.excerpt
            signed = [Symptom(one.text, sign(excerpt.text)) for one in entry.symptoms]
        else:
            signed = [Symptom(one.text, sign(one.text)) for one in entry.symptoms]
        return replace(entry, symptoms=tuple(signed))

    def seed_starter(self, at: datetime) -> None:
        """See that the entries that ship with the package are in the store, as this version has
        them. What was retired stays retired; what a new version drops is retired."""
        from knowledge import runbooks  # yaml: only where the marks differ

        files = sorted(STARTER.glob("*.yaml"))
        digest = short_hash(*(file.read_text(encoding="utf-8") for file in files))
        if self.store.mark(STARTER_MARK) == digest:
            return
        retired = {
            entry.id
            for entry in self.store.entries(kind="runbook", source="starter/", retired=True)
            if entry.retired and VANISHED not in entry.tags
        }
        entries = runbooks.read_runbooks(files) if files else ()
        wanted = [entry for entry in entries if entry.id not in retired]
        self.seed(wanted, scopes=["starter/**"], by="aiops", at=at)
        self.store.set_mark(STARTER_MARK, digest)

    def exact(self, signature: Signature) -> tuple[Match, ...]:
        """What is found without the embedder, which may be away: the very same failures. Beside
        them stands what is alike by the built-in similarity, for one of those may say not to run
        this again; nothing where no failure is the very same."""
        found = self.store.find_exact(signature.fingerprint) if signature.text else ()
        if not found:
            return ()
        near = self.store.find_text(tokenize(signature.text), TEXT_CANDIDATES)
        return ranking.rank(signature, found, near, limit=len(found) + len(near))

    def learn(
        self,
        incident: Incident,
        *,
        action: str,
        params: Mapping[str, Any],
        cause: str,
        at: datetime,
    ) -> Entry:
        """Remember what a person decided about an incident, as an entry of kind `incident`.

        One entry for each (fingerprint, action, params): deciding the same again changes
        nothing, unless something else was decided, said or retired in between. A signature that
        is only a wrapper is remembered too, but matches only itself.
        """
        entry = Entry(
            id=_learned_id(incident, action, params),
            kind="incident",
            source=incident.id,
            title=incident.signature.headline or f"{incident.dag_id}.{incident.task_id}",
            symptoms=(Symptom(incident.signature.headline, incident.signature),),
            cause=cause,
            created_at=at,
            action=action,
            params=params,
            incident_id=incident.id,
        )
        try:
            known = self.store.entry(entry.id)
        except NotFound:
            pass
        else:
            answers = self.store.find_exact(incident.signature.fingerprint)
            newest = all(one.entry.created_at <= known.created_at for one in answers)
            if newest and not known.retired and known.cause == cause:
                return known
            if known.retired:  # one whose content is the same would stay so
                entry = replace(entry, id=short_hash(entry.id, at.isoformat()))
        self._remember(entry, at)
        return entry

    def _remember(self, entry: Entry, at: datetime) -> None:
        """What a person decided is kept although the embedder is away: without a vector, so that
        it is found as the very same failure only."""
        try:
            self.put([entry], at)
        except ModelUnavailable:
            stored = self.store.vector_space()
            if stored is None or stored.embedder != self.embedder.name:
                raise
            nowhere = tuple([0.0] * stored.dimensions for _ in entry.symptoms)
            self.store.put_entries([EmbeddedEntry(entry, nowhere)], stored, at)

    def knows(self, incident: Incident, action: str, params: Mapping[str, Any]) -> bool:
        """Whether this answer to this failure was remembered once, with its delay or without: one
        that was only worked out is not remembered."""
        undelayed = {name: value for name, value in params.items() if name != "delay"}
        for said in (params, undelayed):
            with suppress(NotFound):
                self.store.entry(_learned_id(incident, action, said))
                return True
        return False

    def record(self, entry: Entry) -> dict[str, int]:
        """What came of the entry's action, of a change with the entry's values, wherever its
        failures were met: how often it was fixed, failed, relapsed, rejected, wrong."""
        prints = {symptom.signature.fingerprint for symptom in entry.symptoms} - {""}
        trials = self._trials(prints)
        return evidence.tally(trials, entry.action, entry.params)

    def _trials(
        self,
        prints: Collection[str],
        failed: Incident | None = None,
        window: timedelta = timedelta(days=1),
    ) -> tuple[Trial, ...]:
        """What this tool did about failures with these fingerprints, and what people did without
        it. `failed` is one that is known beside them."""
        if not prints:
            return ()
        ours = self.store.trials(fingerprints=prints)
        failures = [(lessons.place_of(one), one.at) for one in ours]
        if failed is not None:
            failures.append((lessons.place_of(failed), failed.failed_at))
        return (*ours, *lessons.trials(self.lessons_of(prints), failures, window))

    def lessons_of(self, fingerprints: Collection[str]) -> tuple[Lesson, ...]:
        """What Airflow's own history taught of failures with these fingerprints, the first learned
        first, with what machines did told apart."""
        return lessons.told_apart(self.store.lessons(fingerprints), self.machine_logins)

    def learn_history(self, fingerprints: Collection[str], at: datetime) -> PutCounts:
        """Make the entries of kind `history` that the lessons of these failures amount to. What is
        stored already is not embedded again. One that was retired stays so; one that does not
        hold any more is retired."""
        known = {entry.id: entry for entry in self.store.entries(kind="history", retired=True)}
        retired = {entry.id for entry in known.values() if entry.retired}
        stored = defaultdict(set)  # by failure
        for id_ in known.keys() - retired:
            stored[known[id_].symptoms[0].signature.fingerprint].add(id_)
        done, all_ = PutCounts(), sorted(fingerprints)
        for start in range(0, len(all_), LESSONS_AT_ONCE):
            some = all_[start : start + LESSONS_AT_ONCE]
            wanted = {one.id: one for one in self._history(some, at) if one.id not in retired}
            new = [one for one in wanted.values() if not _says_the_same(known.get(one.id), one)]
            put, same = self.put(new, at), len(wanted) - len(new)
            done = PutCounts(done.added + put.added, done.changed + put.changed, done.same + same)
            gone = {id_ for one in some for id_ in stored[one]} - wanted.keys()
            self.store.retire_entries(gone, "aiops", at, "later re-runs did not end it")
        return done

    def _history(self, fingerprints: Collection[str], at: datetime) -> Iterator[Entry]:
        """What the lessons of these failures amount to."""
        by_print = defaultdict(list)
        for one in self.lessons_of(fingerprints):
            by_print[one.signature.fingerprint].append(one)
        for those in by_print.values():
            yield from lessons.entries(those, at)

    def healing(
        self, incident: Incident, relapse_window: timedelta, also: Iterable[str] = ()
    ) -> evidence.Healing | None:
        """How long such outages lasted until a re-run fixed them; None where that is not known.
        `also` as for `evidence`."""
        known = {incident.signature.fingerprint, *also} - {""}
        return evidence.healing(self._trials(known, incident, relapse_window))

    def evidence(
        self,
        incident: Incident,
        action: str,
        params: Mapping[str, Any],
        *,
        also: Iterable[str] = (),
        now: datetime,
        relapse_window: timedelta,
        half_life: timedelta = ageing.HALF_LIFE,
    ) -> Evidence:
        """What verified outcomes say about doing `action` on this incident's task. `also` holds
        the matched entry's fingerprints, which count for a near match. After `half_life` an
        outcome counts half."""
        known = {incident.signature.fingerprint, *also} - {""}  # nothing is no failure's name
        trials = self._trials(known, incident, relapse_window)
        weighed = evidence.weigh(
            trials,
            action=action,
            params=params,
            instance=incident.instance,
            dag_id=incident.dag_id,
            task_id=incident.task_id,
            now=now,
            relapse_window=relapse_window,
        )
        return ageing.aged(
            weighed,
            trials,
            action=action,
            params=params,
            place=(incident.instance, incident.dag_id, incident.task_id),
            now=now,
            half_life=half_life,
            version=rows.version_of(incident.context.get("version")),
            signature_version=incident.signature.version,
        )


def _learned_id(incident: Incident, action: str, params: Mapping[str, Any]) -> str:
    return short_hash("incident", incident.signature.fingerprint, action, sorted(params.items()))


def symptom(text: str) -> Symptom:
    """An error text that somebody typed or pasted, as the knowledge base keeps and finds it."""
    safe = redact(clean(text))
    return Symptom(safe, sign(safe))


def _retired_before(entry: Entry, titled: Iterable[Entry]) -> Entry | None:
    """The one that a person retired and of which this is a copy under another id: its file was
    renamed. None where another copy is live."""
    copies = [
        one for one in titled if _says_the_same(replace(one, id=entry.id, retired=True), entry)
    ]
    return copies[0] if copies and all(one.retired for one in copies) else None


def _says_the_same(known: Entry | None, entry: Entry) -> bool:
    """Whether the stored entry is this one. One that a person retired is not brought back by a
    line that was added above it, or a commit to its file."""
    if known is None:
        return False
    now = replace(entry, created_at=known.created_at, retired=known.retired)
    if known.retired:
        now = replace(now, source=known.source, edited=known.edited)
    return now == known


def _file(source: str) -> str:
    """The file of a "path:line" source."""
    path, _, line = source.rpartition(":")
    return path if line.isdigit() else source

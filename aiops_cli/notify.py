"""Which incidents people are told of, when, and in what words. Pure.

A storm or group is one message; one that is over within the grace period is none. `Told` is what
people know by now; it is kept as text in the knowledge base, so that several watchers and a
restarted one tell of it once.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aiops_cli import storms
from aiops_cli.published import proposed_action
from aiops_cli.storms import Storm
from knowledge.records import Case, short_hash
from knowledge.redact import clean, redact

Document = Mapping[str, Any]

MOST = 10  # messages of one pass; what is beyond them is one more
NAMED = 5  # members of a storm that are named in its message
TITLE_LENGTH = 150
LINE_LENGTH = 300
# A message that was begun and is not known to have arrived is sent anew after this time: the
# watcher that had it was killed, or the service was down.
AGAIN = timedelta(minutes=2)


@dataclass(frozen=True)
class Message:
    """`key` stays the same for the incident or group; `over` says that it is over now. `about`
    are the ids of the incidents and groups it tells of."""

    key: str
    title: str
    body: str
    about: tuple[str, ...]
    over: bool = False


@dataclass(frozen=True)
class Item:
    """A message that was begun at `at`. `keys` are the incidents and groups it tells of."""

    title: str
    keys: tuple[str, ...]
    at: datetime
    arrived: bool = False
    over: bool = False


Told = Mapping[str, Item]  # by the message's key


def unit(case: Case) -> str:
    """The id under which people are told of an incident: its group's, or its own."""
    return case.incident.group or case.incident.id


def due(
    told: Told,
    waiting: Sequence[Document],
    alive: frozenset[str],
    *,
    now: datetime,
    grace: timedelta,
    since: datetime,
) -> list[Message]:
    """The messages that are to be sent now. `waiting` are the published incidents that wait for
    a person and are not snoozed; `alive` the units (see `unit`) of which anything waits or is
    acted on. What was seen before `since`, when people began to be told, is not told any more."""
    known = {key for item in told.values() for key in item.keys if not _again(item, now)}
    members: dict[str, list[Document]] = {}
    for doc in waiting:
        members.setdefault(doc["group"] or doc["incident"], []).append(doc)
    fresh = {
        key: docs
        for key, docs in members.items()
        if key not in known
        and min(_seen(doc) for doc in docs) <= now - grace
        and max(_seen(doc) for doc in docs) >= since
    }
    over = [
        _over(key, item)
        for key, item in told.items()
        if not alive & set(item.keys) and (not item.over or _again(item, now))
    ]
    return [*over, *_of_units(fresh)]


def begun(told: Told, message: Message, now: datetime) -> Told | None:
    """What is known once somebody has taken it on to send this message; None where it was taken
    on by another meanwhile."""
    item = told.get(message.key)
    if message.over:
        if item is None or (item.over and not _again(item, now)):
            return None
        return {**told, message.key: replace(item, at=now, over=True, arrived=False)}
    taken = {key for one in told.values() for key in one.keys if not _again(one, now)}
    if taken & set(message.about):
        return None
    # Of a message that never arrived, what another one tells by now is forgotten.
    rest = {key: one for key, one in told.items() if not set(one.keys) & set(message.about)}
    return {**rest, message.key: Item(message.title, message.about, now)}


def arrived(told: Told, message: Message) -> Told | None:
    """What is known once the message has arrived. Of what is over nothing has to be known."""
    if message.key not in told:
        return None
    rest = {key: item for key, item in told.items() if key != message.key}
    return rest if message.over else {**rest, message.key: replace(told[message.key], arrived=True)}


def ended(message: Message, statuses: Sequence[str]) -> Message:
    """The message that something is over, with what has become of it."""
    if not statuses:
        return message
    good = set(statuses) <= {"resolved", "superseded"}
    word = "Resolved" if good else "Closed"
    body = f"{storms.told(Counter(statuses))}\n{message.body}"
    return replace(message, title=_line(f"{word}: {message.title}", TITLE_LENGTH), body=body)


def written(told: Told) -> str:
    """As text, to be kept."""
    items = {key: {**asdict(item), "at": item.at.isoformat()} for key, item in sorted(told.items())}
    return json.dumps(items)


def read(text: str | None) -> Told:
    """What `written` wrote; nothing where nothing was."""
    return {
        key: Item(**{**item, "keys": tuple(item["keys"]), "at": datetime.fromisoformat(item["at"])})
        for key, item in json.loads(text or "{}").items()
    }


def _again(item: Item, now: datetime) -> bool:
    return not item.arrived and now - item.at >= AGAIN


def _seen(doc: Document) -> datetime:
    return datetime.fromisoformat(str(doc["seen_at"]).replace("Z", "+00:00"))


def _over(key: str, item: Item) -> Message:
    return Message(key, item.title, f"aiops incidents show {item.keys[0]}", item.keys, over=True)


def _of_units(fresh: Mapping[str, Sequence[Document]]) -> Iterator[Message]:
    """A message each; where they are too many, the last one tells of all the rest."""
    units = sorted(fresh.items(), key=lambda unit: min(map(_seen, unit[1])))
    alone = units if len(units) <= MOST else units[: MOST - 1]
    for key, docs in alone:
        yield _of_one(key, docs)
    rest = units[len(alone) :]
    if rest:
        keys = tuple(key for key, _ in rest)
        count = sum(len(docs) for _, docs in rest)
        title = f"{rest[0][1][0]['instance']}: {count} more failures wait for a person"
        body = "\n".join(
            [
                *(f"- {_head(docs)}" for _, docs in rest[:NAMED]),
                *([f"- and {len(rest) - NAMED} more"] if len(rest) > NAMED else []),
                "Look: aiops incidents --status pending",
            ]
        )
        yield Message(f"aiops-{short_hash(*keys)}", _line(title, TITLE_LENGTH), body, keys)


def _of_one(key: str, docs: Sequence[Document]) -> Message:
    first = docs[0]
    diagnosis = first["diagnosis"] or {}
    action = proposed_action(first)
    lines = [
        _line(f"Failed: {first['failed_at']} (UTC)"),
        _line(f"What: {_quoted(first['headline'] or 'the log says nothing of an error')}"),
    ]
    if len(docs) > 1:
        lines.extend(_line(f"- {_name(doc)}") for doc in docs[:NAMED])
        lines.extend([f"- and {len(docs) - NAMED} more"] if len(docs) > NAMED else [])
    if diagnosis.get("cause"):
        lines.append(_line(f"Cause: {_quoted(diagnosis['cause'])}"))
    if action:
        lines.append(_line(f"Proposed: {storms.told(Storm(tuple(docs)).actions)}"))
    reasons = (first["gate"] or {}).get("reasons") or []
    if reasons:
        lines.append(_line(f"Not alone: {_quoted('; '.join(reasons))}"))
    url = first["context"].get("url")
    lines.extend([f"Airflow: {clean(str(url))}"] if url else [])
    lines.append(f"Look: aiops incidents show {key}")
    lines.append(f"Approve: aiops approve {key}" + ("" if action else " --action …"))
    title = _line(f"{first['instance']}: {_head(docs)} [{key}]", TITLE_LENGTH, keep=len(key) + 3)
    return Message(f"aiops-{key}", title, "\n".join(lines), (key,))


def _head(docs: Sequence[Document]) -> str:
    if len(docs) == 1:
        what = docs[0]["error_class"] or docs[0]["headline"] or "no error in the log"
        return f"{_name(docs[0])} failed: {_quoted(what)}"
    storm = Storm(tuple(docs))
    return f"{_quoted(storm.size)} failed: {_quoted(storm.title)}"


def _name(doc: Document) -> str:
    if doc["dag_id"] is None:
        return _quoted(doc["context"].get("file") or "a DAG file")
    index = "" if doc["map_index"] in (None, -1) else f"[{doc['map_index']}]"
    return _quoted(f"{doc['dag_id']}.{doc['task_id'] or '(run)'}{index}")


def _quoted(text: object) -> str:
    """Hostile text on one line: no secret, nothing that drives a terminal, and nothing that calls
    a whole channel (`@here`, `<!channel>`)."""
    said = redact(clean(str(text)))
    return re.sub(r"\s+", " ", said).strip().replace("@", "＠").replace("<", "‹")


def _line(text: str, most: int = LINE_LENGTH, keep: int = 0) -> str:
    """At most so many characters, of which the last `keep` stay."""
    if len(text) <= most:
        return text
    end = text[len(text) - keep :] if keep else ""
    return text[: most - 1 - len(end)] + "…" + end

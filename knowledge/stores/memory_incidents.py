"""What was seen, in plain Python: the part of the twin about incidents, their groups and ids."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase

from knowledge.records import Incident, Judgement, Remark, Snooze
from knowledge.stores import rows, rules
from knowledge.stores.memory_entries import fitting


class MemoryIncidents:
    """The part of the store about what was seen and said of it."""

    def __init__(self, now: rules.Clock) -> None:
        self._now = now
        self._base_id = uuid.uuid4().hex[:16]
        self._instances: dict[str, str] = {}
        self._incidents: dict[str, Incident] = {}
        self._judgements: list[Judgement] = []
        self._remarks: list[Remark] = []
        self._snoozes: list[Snooze] = []
        self._watermarks: dict[str, datetime] = {}
        self._marks: dict[str, str] = {}

    def base_id(self) -> str:
        return self._base_id

    def bind_instance(self, name: str, url: str) -> None:
        wanted = rules.normal_url(url)
        bound = self._instances.setdefault(name, wanted)
        if bound != wanted:
            raise rules.wrong_instance(name, bound, wanted)

    # --- incidents: what was seen ----------------------------------------------------------

    def add_incident(self, incident: Incident) -> bool:
        if incident.id in self._incidents:
            return False
        rows.incident_params(incident)
        self._incidents[incident.id] = incident
        return True

    def known_incidents(self, ids: Collection[str]) -> set[str]:
        return self._incidents.keys() & set(ids)

    def _newest_first(self) -> list[Incident]:
        appended_last_first = reversed(self._incidents.values())
        return sorted(appended_last_first, key=lambda one: -one.failed_at.timestamp())

    def add_judgement(self, judgement: Judgement) -> None:
        full = self._incident_id(judgement.incident_id)
        rows.judgement_params(judgement)
        self._judgements.append(replace(judgement, incident_id=full))

    def _judgement(self, incident_id: str) -> Judgement | None:
        found = [one for one in self._judgements if one.incident_id == incident_id]
        return found[-1] if found else None

    def uses(
        self, entry_ids: Collection[str], *, since: datetime | None = None
    ) -> Mapping[str, int]:
        used: dict[str, set[str]] = {one: set() for one in entry_ids}
        for judgement in self._judgements:
            entry = (judgement.document.get("diagnosis") or {}).get("entry")
            if entry in used and (since is None or judgement.at >= since):
                used[entry].add(judgement.incident_id)
        return {entry: len(incidents) for entry, incidents in used.items()}

    def add_remark(self, remark: Remark) -> None:
        full = self._incident_id(remark.incident_id)
        rows.remark_params(remark)
        self._remarks.append(replace(remark, incident_id=full))

    def snooze(
        self,
        incident_id: str,
        until: datetime,
        by: str,
        at: datetime,
    ) -> None:
        snooze = Snooze(self._incident_id(incident_id), by, at, until)
        rows.snooze_params(snooze)
        self._snoozes.append(snooze)

    def _snoozed_until(self, incident_id: str) -> datetime | None:
        own = [one.until for one in self._snoozes if one.incident_id == incident_id]
        return own[-1] if own and own[-1] > self._now() else None

    # --- groups and short ids --------------------------------------------------------------

    def _incident_id(self, prefix: str) -> str:
        prefix = prefix.lower()
        return rules.the_one("incident", prefix, fitting(self._incidents, prefix))

    def _groups(self) -> set[str]:
        return {one.group for one in self._incidents.values() if one.group is not None}

    def _group_id(self, prefix: str) -> str:
        prefix = prefix.lower()
        return rules.the_one("group", prefix, fitting(self._groups(), prefix))

    def find_ids(self, prefix: str) -> tuple[str, ...]:
        prefix = prefix.lower()
        kind, full = rules.the_one_of(
            prefix,
            {
                "incident": fitting(self._incidents, prefix),
                "group": fitting(self._groups(), prefix),
            },
        )
        return self._members(full) if kind == "group" else (full,)

    def group_members(self, group_id: str) -> tuple[str, ...]:
        return self._members(self._group_id(group_id))

    def _members(self, group: str) -> tuple[str, ...]:
        return tuple(one.id for one in self._newest_first() if one.group == group)

    def recent_group(self, instance: str, key: str, since: datetime, until: datetime) -> str | None:
        found = [
            one.group
            for one in self._newest_first()
            if key
            and one.group is not None
            and (one.instance, one.group_key) == (instance, key)
            and since <= one.failed_at <= until
        ]
        return found[0] if found else None

    def shortest_prefixes(self, ids: Collection[str]) -> Mapping[str, str]:
        stored = [*self._incidents, *self._groups()]
        return rules.shortest_prefixes(ids, dict.fromkeys(ids, stored))

    # --- small things remembered, which may change -----------------------------------------

    def mark(self, name: str) -> str | None:
        return self._marks.get(name)

    def set_mark(self, name: str, value: str) -> None:
        self._marks[name] = value

    def swap_mark(self, name: str, before: str | None, value: str) -> bool:
        if self._marks.get(name) != before:
            return False
        self._marks[name] = value
        return True

    def watermark(self, instance: str) -> datetime | None:
        return self._watermarks.get(instance)

    def set_watermark(self, instance: str, at: datetime) -> None:
        self._watermarks[instance] = at


def fits(name: str, glob: str) -> bool:
    return fnmatchcase(name, rules.glob_pattern(glob))


def task_instance(one: Incident) -> tuple[str, str, str, str, int]:
    return one.instance, one.dag_id, one.run_id, one.task_id, one.map_index

"""What is moved from one store into another: incidents with all that was thought, decided and done,
and what Airflow's own history taught.

Rows travel as they are stored, their nested JSON opened, each table in the order in which it was
written: a decision's number means what it means within one export, and gets a new one elsewhere.
Of the claims the closed ones move, so that nothing is done twice there either. Grants, pauses
and holds stay: leave to act is not knowledge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

from knowledge.records import (
    ACTIONS,
    DecisionKind,
    IncidentKind,
    LessonMode,
    LessonOutcome,
    OutcomeName,
)
from knowledge.stores import LoadCounts, rows
from knowledge.stores.rows import json_text, time_text
from knowledge.stores.sql_briefs import BriefTables
from knowledge.stores.sql_cases import CASES
from knowledge.stores.sql_incidents import SqlStore

# Each table, in an order in which it can be written again, and its columns of JSON text.
MOVED: Mapping[str, tuple[str, ...]] = {
    "incidents": ("signature", "excerpt", "context"),
    "judgements": ("document",),
    "remarks": (),
    "decisions": ("params", "plan"),
    "voided": (),
    "outcomes": (),
    "harms": (),
    "vouches": (),
    "claims": ("progress",),
    "lessons": ("signature", "params"),
}
_ORDER = {"voided": "decision", "claims": "token"}  # of the others it is their number, seq
_INTEGERS = {"seq", "decision", "map_index", "try_number", "safe", "token", "version"}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(MOVED, ()),
    "incidents": ("ti_id", "group_id"),
    "decisions": ("action", "grant_id"),
    "voided": ("by",),
    "outcomes": ("try_number",),
    "vouches": ("fingerprint",),
    "claims": ("ti_id", "not_before"),
    "lessons": ("action", "ended_at", "version"),
}
# What comes once, and by what it is told from the others.
_ONCE = {
    "incidents": "id",
    "decisions": "seq",
    "voided": "decision",
    "claims": "incident_id",
    "lessons": "incident_id",
}
_MAX_INTEGER = 2**31 - 1  # what Postgres' integer holds; the smallest of them is map_index -1
_PAGE = 500
# An open claim does not move, and without it these would look as if they waited for somebody.
STAYS = ("acting", "needs_human")


class MovingTables(SqlStore, BriefTables):
    """The part of the store about moving."""

    def instances(self) -> Mapping[str, str]:
        with self._db.read():
            found = self._db.rows("SELECT name, url FROM instances ORDER BY name")
        return {row["name"]: row["url"] for row in found}

    def dump(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with self._db.read():
            stay = {
                row["id"]
                for row in self._db.rows(
                    f"{CASES} SELECT id FROM cases WHERE {self._db.among('status', ':stay')}",
                    {"stay": list(STAYS), "now": time_text(self._now())},
                )
            }
            whose: dict[int, str] = {}  # the incident of each decision
            for table in MOVED:
                for row in self._written(table):
                    if table == "decisions":
                        whose[row["seq"]] = row["incident_id"]
                    about = row["id"] if table == "incidents" else row.get("incident_id")
                    if (about or whose[row["decision"]]) not in stay:
                        yield table, _opened(table, row)

    def _written(self, table: str) -> Iterator[dict[str, Any]]:
        """All rows in their order, a bounded number at a time."""
        key, after = _ORDER.get(table, "seq"), 0
        while page := self._db.rows(
            f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?", [after, _PAGE]
        ):
            after = page[-1][key]
            yield from page

    def load(
        self, dumped: Iterable[tuple[str, Mapping[str, Any]]], base: str, by: str, at: datetime
    ) -> LoadCounts:
        new: dict[str, bool] = {}  # the incidents there: whether they are new here
        whose: dict[int, str] = {}  # the incident of each decision there
        numbers: dict[int, int] = {}  # of the decisions there and here
        once: set[tuple[str, Any]] = set()
        spoken_of: dict[tuple[str, str, str], bool] = {}
        writing = ""
        waiting: list[dict[str, Any]] = []  # rows of that table
        with self._db.write():
            self._append("imports", {"base": base, "by": by, "at": time_text(at)})
            known = {row["id"] for row in self._db.rows("SELECT id FROM incidents")}
            learned = {row["id"] for row in self._db.rows("SELECT incident_id AS id FROM lessons")}
            for table, document in dumped:
                if table != writing or len(waiting) == _PAGE:
                    self._append_moved(writing, waiting, numbers)
                    writing = table
                row = _closed(table, document)
                if table in _ONCE:
                    key = table, row[_ONCE[table]]
                    if key in once:
                        raise ValueError(f"{table} {key[1]} comes twice")
                    once.add(key)
                if table == "lessons":  # of tries that need not be incidents
                    if row["incident_id"] not in learned:
                        waiting.append(dict(sorted(row.items())))
                    continue
                if table == "incidents":
                    about = row["id"]
                    new[about] = about not in known
                else:
                    about = _about(row, whose)
                    if about not in new:
                        raise ValueError(f"{table}: incident {about} does not come before it")
                if table == "decisions":
                    whose[row["seq"]] = about
                if not new[about]:
                    continue
                if "decision" in row:
                    row["decision"] = numbers[row["decision"]]
                if table == "vouches":
                    task = (row["instance"], row["dag_id"], row["task_id"])
                    if task not in spoken_of:
                        spoken_of[task] = self._spoken_of(task)
                    if row["safe"] and spoken_of[task]:
                        continue
                if table == "claims":
                    self._close_claim(row)
                    continue
                waiting.append(dict(sorted(row.items())))
            self._append_moved(writing, waiting, numbers)
        return LoadCounts(sum(new.values()), len(new) - sum(new.values()))

    def _append_moved(
        self, table: str, waiting: list[dict[str, Any]], numbers: dict[int, int]
    ) -> None:
        """Append the rows that wait, many a statement: nobody else can write meanwhile. `numbers`
        learns those of decisions."""
        there = [row.pop("seq", 0) for row in waiting]
        stored = self._append_all(table, waiting)
        if table == "decisions":
            numbers |= zip(there, (row["seq"] for row in stored), strict=True)
        waiting.clear()

    def _close_claim(self, row: Mapping[str, Any]) -> None:
        """What was done elsewhere is done, unless this task instance was claimed here too."""
        drawn = self._db.row(
            """
            INSERT INTO claims (incident_id, ti_id, state, token, owner, lease_until, decision,
                not_before, progress)
            SELECT :incident_id, :ti_id, 'done', last + 1, :owner, :lease_until, :decision,
                :not_before, :progress
            FROM claim_tokens WHERE true
            ON CONFLICT DO NOTHING RETURNING token
            """,
            row,
        )
        self._drawn(drawn)

    def _spoken_of(self, task: tuple[str, str, str]) -> bool:
        """Whether somebody here has said whether the task may run again: a yes from elsewhere
        does not outvote him, however new it looks."""
        return any(
            self._db.rows(
                "SELECT 1 AS word FROM vouches WHERE (instance, dag_id, task_id) = (?, ?, ?) "
                "LIMIT 1",
                task,
            )
        )


def _about(row: Mapping[str, Any], whose: Mapping[int, str]) -> str:
    """The incident that a row is about. Raises ValueError for one about another than its decision:
    what is known here would be changed by it."""
    if "decision" not in row:
        return str(row["incident_id"])
    about = whose.get(row["decision"])
    if about is None:
        raise ValueError(f"decision {row['decision']} does not come before it")
    if row.get("incident_id", about) != about:
        raise ValueError(f"decision {row['decision']} is not about {row['incident_id']}")
    return about


def _opened(table: str, row: dict[str, Any]) -> dict[str, Any]:
    opened = {**row, **{name: json.loads(row[name]) for name in MOVED[table]}}
    if table != "decisions":
        opened.pop("seq", None)
    opened.pop("token", None)
    return opened


def _closed(table: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a document. Raises KeyError, TypeError or ValueError for one that is none."""
    for name in MOVED[table]:
        if not isinstance(document[name], dict):
            raise TypeError(f"{name} is no object")
    row = {**document, **{name: json_text(document[name]) for name in MOVED[table]}}
    for name, value in row.items():
        wanted = int if name in _INTEGERS else str
        if type(value) is not wanted and not (value is None and name in _OPTIONAL[table]):
            raise TypeError(f"{name} is {value!r}")
        if isinstance(value, int) and not -1 <= value <= _MAX_INTEGER:
            raise ValueError(f"{name} is {value}")
    _CHECKS[table](row)
    return row


def _check_incident(row: Mapping[str, Any]) -> None:
    incident = rows.read_incident(row)
    if row["kind"] not in get_args(IncidentKind) or incident.id != row["id"]:
        raise ValueError(f"incident {row['id']} is not what its id says")
    if row["group_id"] is not None and not rows.is_id(row["group_id"]):
        raise ValueError(f"{row['group_id']!r} is no group's id")
    _is_row(row, rows.incident_params(incident))


def _check_decision(row: Mapping[str, Any]) -> None:
    decision = rows.read_decision(row)
    if decision.kind not in get_args(DecisionKind):
        raise ValueError(f"there is no decision of kind {decision.kind!r}")
    seq = {"seq": row["seq"]}
    _is_row(row, {**rows.decision_params(decision, rows.parse_time(row["recorded_at"])), **seq})


def _check_outcome(row: Mapping[str, Any]) -> None:
    outcome = rows.read_outcome(row)
    if outcome.outcome not in get_args(OutcomeName):
        raise ValueError(f"there is no outcome {outcome.outcome!r}")
    _is_row(row, rows.outcome_params(outcome))


def _check_lesson(row: Mapping[str, Any]) -> None:
    lesson = rows.read_lesson(row)
    if lesson.mode not in get_args(LessonMode) or lesson.outcome not in get_args(LessonOutcome):
        raise ValueError(f"there is no lesson of {lesson.mode!r} that was {lesson.outcome!r}")
    if lesson.action not in (None, *ACTIONS):
        raise ValueError(f"there is no action {lesson.action!r}")
    _is_row(row, rows.lesson_params(lesson))


def _check_voided(row: Mapping[str, Any]) -> None:
    at = time_text(rows.parse_time(row["at"]))
    _is_row(row, {"decision": int(row["decision"]), "at": at, "by": row["by"]})


def _check_claim(row: Mapping[str, Any]) -> None:
    claim = rows.read_claim({**row, "token": 0})
    if claim.state != "done":
        raise ValueError(f"a claim that is {claim.state} does not move")
    times = [one for one in (row["lease_until"], row["not_before"]) if one is not None]
    for time in times:
        _is_row({"at": time}, {"at": time_text(rows.parse_time(time))})
    names = ("incident_id", "ti_id", "state", "owner", "lease_until", "decision", "not_before")
    _is_row(row, {name: row[name] for name in (*names, "progress")})


def _is_row(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Whether it is what would have been written: neither more nor less, nor in another way."""
    if {**row} != wanted:
        odd = sorted(
            {name for name in {*row, *wanted} if row.get(name, row) != wanted.get(name, wanted)}
        )
        raise ValueError(f"not as it was exported: {', '.join(odd)}")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "incidents": _check_incident,
    "judgements": lambda row: _is_row(row, rows.judgement_params(rows.read_judgement(row))),
    "remarks": lambda row: _is_row(row, rows.remark_params(rows.read_remark(row))),
    "decisions": _check_decision,
    "voided": _check_voided,
    "outcomes": _check_outcome,
    "harms": lambda row: _is_row(row, rows.harm_params(rows.read_harm(row))),
    "vouches": lambda row: _is_row(
        row, {**rows.vouch_params(rows.read_vouch(row)), "decision": int(row["decision"])}
    ),
    "claims": _check_claim,
    "lessons": _check_lesson,
}

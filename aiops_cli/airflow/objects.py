"""Connections, variables, pools and XComs, read and changed: `seams.Airflow` again.

What masks, update masks and refusals do was recorded from running servers of 3.1.8 and 3.3.2;
samples are in tests/recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiops_cli.airflow import parse
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.questions import Questions, address, checked_ids, release
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
    Refused,
    UsageError,
)
from aiops_cli.incidents import MASK, Connection, ConnectionTest, Pool, TaskRef, Variable

CONNECTION = "/api/v2/connections/{connection_id}"
VARIABLE = "/api/v2/variables/{key}"
POOL = "/api/v2/pools/{pool}"
# Airflow ignores a name that it does not know, and says that all went well.
CONNECTION_FIELDS = ("host", "port", "schema", "login", "password", "description", "extra")
DEFAULT_POOL = "default_pool"
DELETES_XCOMS = (3, 2)
# What the api-server says of a type that it cannot test; that tells nothing of the connection.
_UNTESTABLE = re.compile("doesn't implement or inherit test_connection|Unknown hook type")


class Objects(Questions):
    """See `seams.Airflow`."""

    # ---- connections ----

    def connection(self, connection_id: str) -> Connection:
        ids = checked_ids(connection_id=connection_id)
        answer = self._get(CONNECTION, f"show connection {connection_id}", ids)
        return parse.connection(Document(answer, "connection"))

    def change_connection(self, connection_id: str, fields: Mapping[str, Any]) -> Connection:
        unknown = sorted(set(fields) - set(CONNECTION_FIELDS))
        if unknown:
            raise UsageError(
                f"a connection has no field {', '.join(unknown)} that can be changed",
                f"one of: {', '.join(CONNECTION_FIELDS)}",
            )
        for name, value in fields.items():
            _refuse_mask(f"{name} of connection {connection_id}", value)
        now = self.connection(connection_id)
        if "extra" in fields and MASK in (now.extra or ""):
            raise Refused(
                f"did not change extra of connection {connection_id}: it holds secrets that "
                "Airflow hides, and writing the rest would lose them",
                "change it in Airflow's UI",
            )
        answer = self._transport.change(
            "PATCH",
            CONNECTION,
            f"change connection {connection_id}",
            {"connection_id": connection_id},
            {"connection_id": connection_id, "conn_type": now.conn_type, **fields},
            [("update_mask", name) for name in fields],
        )
        return parse.connection(Document(answer, "connection"))

    def test_connection(self, connection_id: str) -> ConnectionTest | None:
        stored = self.connection(connection_id)
        # Fields that are left out are taken as they are stored, secrets included.
        body = {"connection_id": connection_id, "conn_type": stored.conn_type}
        what = f"test connection {connection_id}"
        try:
            answer = self._transport.change("POST", "/api/v2/connections/test", what, {}, body)
        except (AirflowForbidden, AirflowNotFound, AirflowAnswer, AirflowUnreachable):
            return None
        found = parse.connection_test(Document(answer, "connection test"))
        return None if _UNTESTABLE.search(found.message) and not found.passed else found

    # ---- variables and pools ----

    def variable(self, key: str) -> Variable:
        answer = self._get(VARIABLE, f"show variable {key}", checked_ids(key=key))
        return parse.variable(Document(answer, "variable"))

    def change_variable(self, key: str, value: str) -> Variable:
        _refuse_mask(f"variable {key}", value)
        self.version()
        what, body = f"set variable {key}", {"key": key, "value": value}
        ids, mask = checked_ids(key=key), [("update_mask", "value")]
        try:
            answer = self._transport.change("PATCH", VARIABLE, what, ids, body, mask)
        except AirflowNotFound:
            answer = self._transport.change("POST", "/api/v2/variables", what, {}, body)
        return parse.variable(Document(answer, "variable"))

    def pool(self, name: str) -> Pool:
        answer = self._get(POOL, f"show pool {name}", checked_ids(pool=name))
        return parse.pool(Document(answer, "pool"))

    def resize_pool(self, name: str, slots: int) -> Pool:
        now = self.pool(name)
        body: dict[str, Any] = {"slots": slots}
        if name != DEFAULT_POOL:  # 3.3 wants these too, whatever the mask names
            body |= {"pool": name, "include_deferred": now.include_deferred}
        answer = self._transport.change(
            "PATCH", POOL, f"resize pool {name}", {"pool": name}, body, [("update_mask", "slots")]
        )
        return parse.pool(Document(answer, "pool"))

    # ---- XComs ----

    @property
    def deletes_xcoms(self) -> bool:
        return release(self.version()) >= DELETES_XCOMS

    def xcoms(self, ref: TaskRef) -> tuple[str, ...]:
        path, ids = _entries(ref)
        query = [("map_index", str(ref.map_index))]
        rows = self._rows(path, "xcom_entries", f"list the XComs of {ref}", ids, query)
        return tuple(row.need("key") for row in rows if row.whole("map_index") == ref.map_index)

    def delete_xcom(self, ref: TaskRef, key: str) -> None:
        path, ids = _entry(ref, key)
        what, query = f"delete XCom {key} of {ref}", [("map_index", str(ref.map_index))]
        self.version()
        try:
            self._transport.change("DELETE", path, what, ids, None, query)
        except AirflowNotFound:
            return  # it is gone already


def _refuse_mask(what: str, value: Any) -> None:
    if MASK in (value if isinstance(value, str) else json.dumps(value, default=str)):
        raise UsageError(
            f"did not set {what}: the new value holds {MASK}, which Airflow shows instead of a "
            "secret",
            "give the value itself",
        )


def _entries(ref: TaskRef) -> tuple[str, dict[str, str]]:
    """The index is no part of the path here; it is in the query or the body."""
    path, ids = address(TaskRef(ref.dag_id, ref.run_id, ref.task_id))
    return f"{path}/xcomEntries", ids


def _entry(ref: TaskRef, key: str) -> tuple[str, dict[str, str]]:
    path, ids = _entries(ref)
    return f"{path}/{{key}}", ids | checked_ids(key=key)

"""The audit log: an append-only chain of hashes over everything that was decided or allowed.

A row of it holds what was written in another table, and the hash of itself and of the row before:
whoever alters, removes or reorders either is found by `audit_verify`. A tail that was cut off
together with its rows is found only by a head of the log that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from knowledge.stores import AuditHead, AuditRecord, AuditReport, rows
from knowledge.stores.engine import Tables
from knowledge.stores.rows import json_text, time_text

# The tables whose rows are logged, each with the key that names a row.
LOGGED: Mapping[str, str] = {
    "instances": "name",
    "entries": "seq",
    "retirements": "seq",
    "decisions": "seq",
    "voided": "decision",
    "vouches": "seq",
    "outcomes": "seq",
    "harms": "seq",
    "grants": "seq",
    "revocations": "grant_id",
    "pauses": "seq",
    "holds": "seq",
    "hold_ends": "hold_id",
    "imports": "seq",
    "lessons": "seq",
    "remarks": "seq",
    "snoozes": "seq",
}
_LOGGED_LATER = ("remarks", "snoozes")  # than the others
_NUMBERS = ("seq", "decision")
_NUMBER = re.compile("[0-9]{1,18}")
_PAGE = 500
_MAX_FAULTS = 100  # told; that there are more is told too


class AuditTables(Tables):
    """The part of the store that logs what the others append."""

    logged = False

    def _append(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append a row, logged where its table is. Returned is the row as it is stored."""
        return self._append_all(table, [values])[0]

    def _append_all(self, table: str, several: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """As `_append`, of rows with the same columns, in their order."""
        appended = self._db.insert_all(table, several)
        if table in LOGGED:
            self._log(table, appended)
        return appended

    def _log(self, table: str, appended: Sequence[Mapping[str, Any]]) -> None:
        self.logged = True
        last, at = self._head(), time_text(self._now())
        links = []
        for row in appended:
            seq, prev = last.seq + 1, last.hash
            ref, document = str(row[LOGGED[table]]), _document(table, row)
            last = AuditHead(seq, _hash(seq, at, table, ref, document, prev))
            links.append(
                {
                    "seq": seq,
                    "at": at,
                    "what": table,
                    "ref": ref,
                    "document": document,
                    "prev": prev,
                    "hash": last.hash,
                }
            )
        self._db.insert_all("audit", links)

    def _head(self) -> AuditHead:
        last = self._db.row("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        return AuditHead(last["seq"], last["hash"]) if last else AuditHead(0, "")

    def log_the_past(self) -> None:
        """Log what was written before there was a log, or before it had these tables. Inside the
        transaction of an upgrade."""
        for table in _LOGGED_LATER if self._head().seq else LOGGED:
            if not self._db.row("SELECT 1 AS there FROM audit WHERE what = ? LIMIT 1", [table]):
                self._log(table, self._db.rows(f"SELECT * FROM {table} ORDER BY {LOGGED[table]}"))

    def audit_head(self) -> AuditHead:
        with self._db.read():
            return self._head()

    def audit_follows(self, head: AuditHead) -> bool:
        with self._db.read():
            row = self._db.row("SELECT hash FROM audit WHERE seq = ?", [head.seq])
        return head.seq == 0 or (row is not None and row["hash"] == head.hash)

    def audit(
        self, *, since: datetime | None = None, limit: int | None = None
    ) -> tuple[AuditRecord, ...]:
        with self._db.read():
            found = self._db.rows(
                "SELECT * FROM audit WHERE at >= ? ORDER BY seq DESC LIMIT ?",
                ["" if since is None else time_text(since), 2**63 - 1 if limit is None else limit],
            )
        return tuple(
            AuditRecord(
                seq=row["seq"],
                at=rows.parse_time(row["at"]),
                what=row["what"],
                ref=row["ref"],
                document=json.loads(row["document"]),
                hash=row["hash"],
            )
            for row in reversed(found)
        )

    def audit_verify(self, heads: Collection[AuditHead] = ()) -> AuditReport:
        with self._db.read():
            kept: dict[int, set[str]] = {}
            for head in heads:
                kept.setdefault(head.seq, set()).add(head.hash)
            faults: list[str] = []
            last = AuditHead(0, "")
            for page in self._pages():
                for row in page:
                    faults += _chain_faults(row, last, kept)
                    last = AuditHead(row["seq"], row["hash"])
                faults += self._row_faults(page)
                if len(faults) > _MAX_FAULTS:
                    break
            else:
                faults += self._unlogged()
                faults += [
                    f"the log ends at row {last.seq}, but row {seq} was seen before: its "
                    "tail was cut off, or an older copy was put back"
                    for seq in sorted(kept)
                    if seq > last.seq
                ]
        more = [f"… and more; only the first {_MAX_FAULTS} are told"]
        told = faults[:_MAX_FAULTS] + more if len(faults) > _MAX_FAULTS else faults
        return AuditReport(last, tuple(told))

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        """In the order of the chain, and bounded: a log may have millions of rows."""
        after = 0
        while page := self._db.rows(
            "SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", [after, _PAGE]
        ):
            yield page
            after = page[-1]["seq"]

    def _row_faults(self, page: Sequence[Mapping[str, Any]]) -> list[str]:
        """Where the rows themselves are not what was logged of them."""
        faults = []
        for table, key in LOGGED.items():
            logged = {row["ref"]: row["document"] for row in page if row["what"] == table}
            if not logged:
                continue
            found = self._rows_of(table, key, logged)
            for ref, document in logged.items():
                row = found.get(ref)
                if row is None:
                    faults.append(f"{table} {ref} was removed")
                elif _document(table, row) != document:
                    faults.append(f"{table} {ref} was altered; the log has: {document}")
        return faults

    def _rows_of(
        self, table: str, key: str, refs: Iterable[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """The rows that these keys name, found by the key's index."""
        if key in _NUMBERS:
            condition = self._db.among(key, "?", "bigint")
            values: list[Any] = [int(ref) for ref in refs if _NUMBER.fullmatch(ref)]
        else:
            condition, values = self._db.among(key, "?"), [*refs]
        found = self._db.rows(f"SELECT * FROM {table} WHERE {condition}", [values])
        return {str(row[key]): row for row in found}

    def _unlogged(self) -> list[str]:
        return [
            f"{table} {row['ref']} was added past the log"
            for table, key in LOGGED.items()
            for row in self._db.rows(
                f"SELECT CAST({key} AS text) AS ref FROM {table} AS t WHERE NOT EXISTS "
                f"(SELECT 1 FROM audit AS a WHERE a.what = ? AND a.ref = CAST(t.{key} AS text)) "
                f"ORDER BY {key} LIMIT ?",
                [table, _MAX_FAULTS + 1],
            )
        ]


def _chain_faults(
    row: Mapping[str, Any], last: AuditHead, kept: Mapping[int, Collection[str]]
) -> list[str]:
    faults = []
    if row["seq"] != last.seq + 1:
        faults.append(f"row {last.seq + 1} of the log was removed (the next one is {row['seq']})")
    elif row["prev"] != last.hash:
        faults.append(f"row {row['seq']} of the log does not follow the row before it")
    parts = (row[name] for name in ("seq", "at", "what", "ref", "document", "prev"))
    if row["hash"] != _hash(*parts):
        faults.append(f"row {row['seq']} of the log was altered")
    if any(digest != row["hash"] for digest in kept.get(row["seq"], ())):
        faults.append(f"row {row['seq']} of the log is another one than was seen before")
    return faults


def _document(table: str, row: Mapping[str, Any]) -> str:
    """What is logged of a row: all of it, but of an entry's text only the digest, and of a lesson's
    signature the fingerprint."""
    logged = dict(row)
    if table == "lessons":
        del logged["signature"]
    if table == "entries":
        logged["digest"] = hashlib.sha256(logged.pop("content").encode()).hexdigest()
    return json_text(logged)


def _hash(*parts: object) -> str:
    # JSON, so that no part can pass for the end of another.
    return hashlib.sha256(json_text(list(parts)).encode()).hexdigest()

"""Telling people of what waits for them: reads the knowledge base, sends, remembers.

`notify` decides what is told. Each message is taken on in the knowledge base before it is sent
and noted there once it has arrived, so that several watchers tell of a thing once. One that is
killed between the two leaves a message that is sent a second time, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from aiops_cli import notify
from aiops_cli.errors import NotifyError
from aiops_cli.examine import Desk
from aiops_cli.notify import Message, Told
from aiops_cli.published import incident_document
from aiops_cli.seams import Notifier
from knowledge.errors import NotFound

TRIES = 10  # to write beside other watchers that write at the same time


@dataclass
class Teller:
    """Tells people after each pass. A service that fails is warned of once, until one is reached
    again, and never stops anything."""

    notifier: Notifier
    warn: Callable[[str], None]
    warned: bool = False

    def tell(self, desk: Desk) -> int:
        """Send what is due; returns how many messages did not reach every service. Raises
        StoreUnusable; what is not sent then is due on a later pass."""
        failures = 0
        for message in _due(desk):
            if not _note(desk, partial(notify.begun, message=message, now=desk.clock.now())):
                continue  # another watcher tells it
            said = _ended(desk, message) if message.over else message
            try:
                self.notifier.tell(said.title, said.body, key=said.key, over=said.over)
                self.warned = False
            except NotifyError as error:
                failures += 1
                if not self.warned:
                    self.warn(f"{error.message}; the watch goes on; {error.hint}")
                self.warned = True
                if not error.reached:  # the rest would wait as long, and for nothing
                    break
            _note(desk, partial(notify.arrived, message=message))
        return failures


def _due(desk: Desk) -> list[Message]:
    store = desk.knowledge.store
    cases = store.cases(status=["pending", "needs_human", "acting"], instance=desk.instance)
    now = desk.clock.now()
    waiting = [
        incident_document(case)
        for case in cases
        if case.status != "acting" and not (case.snoozed_until and case.snoozed_until > now)
    ]
    return notify.due(
        notify.read(store.mark(_name(desk))),
        waiting,
        frozenset(map(notify.unit, cases)),
        now=now,
        grace=desk.settings.notify_grace,
        since=_since(desk),
    )


def _since(desk: Desk) -> datetime:
    """From when on people are told of what is seen: a look back before they were told for the
    first time. It stays so, for a service may be down for days."""
    store, name = desk.knowledge.store, f"tells since {desk.instance}"
    mark = store.mark(name)
    if mark is None:
        since = desk.clock.now() - desk.settings.lookback
        store.set_mark(name, since.isoformat())
        return since
    return datetime.fromisoformat(mark)


def _ended(desk: Desk, message: Message) -> Message:
    store = desk.knowledge.store
    try:
        ids = [id_ for key in message.about for id_ in store.find_ids(key)]
    except NotFound:  # another knowledge base's, or no more
        ids = []
    return notify.ended(message, [store.case(id_).status for id_ in ids])


def _note(desk: Desk, change: Callable[[Told], Told | None]) -> bool:
    """Change what people know; False where the change does not apply (any more)."""
    store, name = desk.knowledge.store, _name(desk)
    for _ in range(TRIES):
        before = store.mark(name)
        after = change(notify.read(before))
        if after is None:
            return False
        if store.swap_mark(name, before, notify.written(after)):
            return True
    return False


def _name(desk: Desk) -> str:
    return f"told {desk.instance}"

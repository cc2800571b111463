"""Telling people: of what, when, once, in words that hold no secret, and when it is over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import config, notify
from aiops_cli.errors import ConfigError, NotifyError
from aiops_cli.examine import Desk
from aiops_cli.notify import AGAIN, MOST, Item, Message, Told
from aiops_cli.notify_apprise import AppriseNotifier
from aiops_cli.respond import decide
from aiops_cli.telling import Teller
from aiops_cli.watch import one_pass
from knowledge.records import Decision
from knowledge.stores import Store
from tests.airflow_server import exception
from tests.builders import NOW, incident, signature
from tests.desk import REFUSED, Bench, bench
from tests.golden_cases import judged

# Some of apprise's plugins import what Python 3.13 has no more, where it is still there.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

GRACE = timedelta(minutes=5)
LATER = NOW + GRACE


def due(
    *docs: dict[str, Any], told: Told | None = None, now: datetime = LATER, alive: Any = None
) -> list[Message]:
    units = {doc["group"] or doc["incident"] for doc in docs} if alive is None else alive
    return notify.due(
        told or {}, docs, frozenset(units), now=now, grace=GRACE, since=LATER - timedelta(hours=24)
    )


def failed(dag: str = "orders_etl", **fields: Any) -> dict[str, Any]:
    return judged(incident(dag_id=dag, **fields), changed=False)


def sent(*messages: Message, now: datetime = LATER) -> Told:
    """What is known once these have arrived."""
    told: Told = {}
    for message in messages:
        told = notify.begun(told, message, now) or {}
        told = notify.arrived(told, message) or {}
    return told


# ---- what is told, and when ----


def test_nobody_is_woken_within_the_grace_period() -> None:
    assert due(failed(), now=LATER - timedelta(seconds=1)) == []
    assert len(due(failed(), now=LATER)) == 1


def test_a_message_says_what_where_and_what_to_do() -> None:
    document = failed()
    (message,) = due(document)
    id_ = document["incident"]
    assert message.key == f"aiops-{id_}"
    assert message.title == f"prod: orders_etl.load failed: ConnectionRefusedError [{id_}]"
    assert f"aiops approve {id_}" in message.body.splitlines()[-1]
    assert "Airflow: http://airflow/…" in message.body
    assert "ConnectionRefusedError: [Errno 111]" in message.body
    assert not message.over


def test_a_group_is_one_message_that_names_a_few() -> None:
    docs = [failed(f"dag_{n}", group="s7aaaaaaaa", group_key="host:db:5432") for n in range(40)]
    (message,) = due(*docs)
    assert message.key == "aiops-s7aaaaaaaa"
    assert "40 tasks, 40 DAGs" in message.title
    assert "- and 35 more" in message.body
    assert "aiops approve s7aaaaaaaa" in message.body
    assert due(*docs, failed("one_more", group="s7aaaaaaaa"), told=sent(message)) == []


def test_many_failures_are_a_few_messages() -> None:
    docs = [failed(f"dag_{n}") for n in range(50)]
    messages = due(*docs)
    assert len(messages) == MOST
    assert "41 more failures wait" in messages[-1].title
    assert {key for message in messages for key in message.about} == {
        doc["incident"] for doc in docs
    }
    assert due(*docs, told=sent(*messages)) == []


def test_what_was_seen_before_anybody_was_told_of_anything_is_not_told() -> None:
    """Who sets `notify` is not told of last month."""
    assert due(failed(seen_at=NOW - timedelta(hours=25))) == []
    assert len(due(failed(), now=NOW + timedelta(days=30))) == 1
    assert len(due(failed(failed_at=NOW - timedelta(days=3)))) == 1  # seen only now


# ---- once ----


def test_one_of_two_watchers_tells() -> None:
    (message,) = due(failed())
    first = notify.begun({}, message, LATER)
    assert first is not None
    assert notify.begun(first, message, LATER) is None
    assert due(failed(), told=first) == []


def test_what_did_not_arrive_is_told_again_after_a_while() -> None:
    (message,) = due(failed())
    lost = notify.begun({}, message, LATER) or {}
    assert due(failed(), told=lost, now=LATER + AGAIN - timedelta(seconds=1)) == []
    assert due(failed(), told=lost, now=LATER + AGAIN) == [message]
    again = notify.begun(lost, message, LATER + AGAIN)
    assert again is not None
    assert due(failed(), told=again, now=LATER + AGAIN) == []


def test_the_rest_of_a_digest_that_did_not_arrive_is_told_alone() -> None:
    digest = Message("aiops-many", "many", "", ("a", "b"))
    lost = notify.begun({}, digest, NOW) or {}
    one = Message("aiops-a", "a", "", ("a",))
    after = notify.begun(lost, one, NOW + AGAIN)
    assert after is not None
    assert set(after) == {"aiops-a"}


def test_it_is_told_once_that_it_is_over() -> None:
    (message,) = due(failed())
    told = sent(message)
    (over,) = due(told=told, alive=())
    assert over == replace(over, key=message.key, title=message.title, over=True)
    taken = notify.begun(told, over, LATER)
    assert taken is not None
    assert notify.begun(taken, over, LATER) is None
    assert due(told=taken, alive=()) == []
    assert len(due(told=taken, alive=(), now=LATER + AGAIN)) == 1
    assert notify.arrived(taken, over) == {}


def test_while_it_is_acted_on_it_is_not_over() -> None:
    (message,) = due(failed())
    assert due(told=sent(message), alive=message.about) == []


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        (["resolved"], "Resolved: "),
        (["resolved", "superseded"], "Resolved: "),
        (["rejected"], "Closed: "),
        (["resolved", "failed"], "Closed: "),
        ([], ""),
    ],
)
def test_it_is_told_what_has_become_of_it(statuses: list[str], word: str) -> None:
    said = notify.ended(Message("k", "orders.load failed", "look", ("a",), over=True), statuses)
    assert said.title == f"{word}orders.load failed"
    assert all(status in said.body for status in statuses)


_items = st.builds(
    Item,
    title=st.text(max_size=20),
    keys=st.lists(st.text(max_size=5), min_size=1).map(tuple),
    at=st.datetimes().map(lambda at: at.replace(tzinfo=NOW.tzinfo)),
    arrived=st.booleans(),
    over=st.booleans(),
)


@given(st.dictionaries(st.text(max_size=5), _items))
def test_what_is_kept_is_read_as_it_was(told: Told) -> None:
    assert notify.read(notify.written(told)) == told
    assert notify.read(None) == {}


# ---- what it holds ----


@given(
    st.text(max_size=400),
    st.sampled_from(["password=hunter2hunter2", "Authorization: Bearer abcdefghijkl", "@here"]),
)
def test_a_message_is_bounded_and_holds_no_secret(text: str, secret: str) -> None:
    hostile = f"{secret} \x1b[2J{text} <!channel>"
    document = failed(f"d{text[:9]}", signature=signature(f"ValueError: {hostile}"))
    document["diagnosis"] |= {"cause": hostile * 9}
    (message,) = due(document)
    whole = f"{message.title}\n{message.body}"
    assert "hunter2" not in whole
    assert "abcdefghijkl" not in whole
    assert "\x1b" not in whole
    assert "@" not in whole
    assert "<!" not in whole
    assert len(message.title) <= notify.TITLE_LENGTH
    assert message.title.endswith(f"[{document['incident']}]")
    assert all(len(line) <= notify.LINE_LENGTH for line in message.body.split("\n"))
    assert len(message.body.split("\n")) < 20


# ---- with the knowledge base ----


@dataclass
class Pager:
    """A fake Notifier that remembers, and fails when told to."""

    told: list[tuple[str, str, bool]] = field(default_factory=list)
    fails: NotifyError | None = None

    def tell(self, title: str, body: str, *, key: str, over: bool = False) -> None:
        if self.fails is None or self.fails.reached:
            self.told.append((key, title, over))
        if self.fails is not None:
            raise self.fails


@dataclass
class Watch:
    """A watcher on a desk, with what its teller warned of."""

    desk: Desk
    pager: Pager
    warned: list[str] = field(default_factory=list)
    unheard: int = 0

    def __post_init__(self) -> None:
        self.teller = Teller(self.pager, self.warned.append)

    def look(self) -> None:
        list(one_pass(self.desk, "ask", lambda _text: None))
        self.unheard += self.teller.tell(self.desk)


@pytest.fixture
def at() -> Iterator[Bench]:
    with bench() as made:
        yield made


def test_several_watchers_and_restarts_tell_once(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    pager = Pager()
    watches = [Watch(at.desk, pager), Watch(at.desk, pager)]
    watches[0].look()
    assert pager.told == []
    at.clock.advance(minutes=6)
    for watch in [*watches, Watch(at.desk, pager)]:
        watch.look()
    ((key, title, over),) = pager.told
    assert title.startswith("prod: orders.load failed: ConnectionRefusedError")
    assert not over
    (case,) = at.desk.knowledge.store.cases()
    decision = Decision(case.incident.id, "reject", at.clock.now(), "ana", reason="no")
    decide(at.desk.knowledge, decision)
    for watch in watches:
        watch.look()
    assert pager.told[1:] == [(key, f"Closed: {title}", True)]


def test_what_heals_within_the_grace_period_wakes_nobody(at: Bench) -> None:
    row = at.server.add_failure("orders", "load", events=[REFUSED])
    watch = Watch(at.desk, Pager())
    watch.look()
    row["state"] = "success"  # somebody marked it
    at.clock.advance(minutes=6)
    watch.look()
    assert [case.status for case in at.desk.knowledge.store.cases()] == ["superseded"]
    assert watch.pager.told == []


def test_what_is_snoozed_wakes_nobody_until_then(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    watch = Watch(at.desk, Pager())
    watch.look()
    (case,) = at.desk.knowledge.store.cases()
    now = at.clock.now()
    at.desk.knowledge.store.snooze(case.incident.id, now + timedelta(hours=1), "ana", now)
    at.clock.advance(minutes=30)
    watch.look()
    assert watch.pager.told == []
    at.clock.advance(minutes=31)
    watch.look()
    assert len(watch.pager.told) == 1


def test_a_service_that_fails_is_warned_of_once_and_tried_again(at: Bench) -> None:
    for dag in ("orders", "sales"):
        at.server.add_failure(dag, "load", events=[{**REFUSED, "event": dag}])
    watch = Watch(at.desk, Pager(fails=NotifyError("nobody could be told", "look")))
    watch.look()
    for _ in range(4):
        at.clock.advance(minutes=6)
        watch.look()
    assert watch.pager.told == []
    assert len(watch.warned) == 1
    watch.pager.fails = None
    at.clock.advance(minutes=6)
    watch.look()
    assert len(watch.pager.told) >= 1
    assert not watch.teller.warned


def test_a_service_that_is_down_for_a_weekend_loses_nothing(at: Bench) -> None:
    watch = Watch(at.desk, Pager(fails=NotifyError("nobody could be told", "look")))
    watch.look()
    at.clock.advance(hours=1)
    for number in range(30):
        event = exception(f"Error{number}", f"number {number}")
        dag, ended = f"dag_{number}", at.clock.now()
        at.server.add_failure(dag, "load", events=[event], ended=ended)
    for _ in range(4):
        at.clock.advance(hours=20)
        watch.look()
    assert watch.pager.told == []
    watch.pager.fails = None
    for _ in range(6):
        at.clock.advance(minutes=10)
        Watch(at.desk, watch.pager).look()
    store, about = at.desk.knowledge.store, {key for key, *_ in watch.pager.told}
    assert len(watch.pager.told) == len(about) <= MOST + 1  # of which one tells of the rest
    waiting = {notify.unit(case) for case in store.cases(status=["pending"])}
    known = {key for item in notify.read(store.mark("told prod")).values() for key in item.keys}
    assert len(waiting) == 30
    assert known == waiting


def test_who_begins_to_tell_tells_of_a_day_and_not_of_a_month(at: Bench) -> None:
    for days, dag in ((20, "old"), (0.5, "fresh")):
        at.server.add_failure(dag, "load", events=[REFUSED], ended=at.clock.now())
        list(one_pass(at.desk, "ask", lambda _text: None))
        at.clock.advance(days=days)
    watch = Watch(at.desk, Pager())
    watch.look()
    at.clock.advance(days=3)
    watch.look()
    ((_, title, _),) = watch.pager.told
    assert "fresh.load" in title


def test_what_one_service_took_is_told(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    watch = Watch(at.desk, Pager(fails=NotifyError("mail is down", reached=True)))
    watch.look()
    for _ in range(3):
        at.clock.advance(minutes=6)
        watch.look()
    assert len(watch.pager.told) == 1
    assert watch.unheard == 1


def test_of_several_who_swap_a_mark_one_does(store: Store) -> None:
    assert not store.swap_mark("told prod", "", "1")
    assert store.swap_mark("told prod", None, "1")
    assert not store.swap_mark("told prod", None, "2")
    assert not store.swap_mark("told prod", "0", "2")
    assert store.mark("told prod") == "1"
    assert store.swap_mark("told prod", "1", "2")
    assert store.mark("told prod") == "2"


# ---- the real apprise ----


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A local HTTP server as a json:// address, and what was posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"json://127.0.0.1:{server.server_port}/hook", posted
        finally:
            server.shutdown()
            thread.join()


def test_apprise_posts_with_a_key_that_stays() -> None:
    with webhook() as (url, posted):
        notifier = AppriseNotifier([url])
        notifier.tell("it failed <b>", "line one\nline *two*", key="aiops-k3f9")
        notifier.tell("it failed <b>", "over", key="aiops-k3f9", over=True)
    first, second = posted
    assert (first["title"], first["message"]) == ("it failed <b>", "line one\nline *two*")
    assert first["key"] == second["key"] == "aiops-k3f9"
    assert (first["type"], second["type"]) == ("failure", "success")


def test_apprise_says_who_was_not_reached(capfd: pytest.CaptureFixture[str]) -> None:
    with webhook() as (good, posted), webhook(500) as (bad, _):
        with pytest.raises(NotifyError) as partly:
            AppriseNotifier([good, bad]).tell("t", "b", key="k")
        with pytest.raises(NotifyError) as whole:
            AppriseNotifier([bad]).tell("t", "b", key="k")
    assert len(posted) == 1
    assert (partly.value.reached, whole.value.reached) == (True, False)
    assert "JSON" in whole.value.message
    assert "127.0.0.1" not in whole.value.message + whole.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("url", ["nosuchservice://secret", "slack://secret"])
def test_an_address_that_is_none_is_refused_unseen(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        AppriseNotifier(["json://127.0.0.1", url])
    assert "address 2" in refused.value.message
    assert "secret" not in refused.value.message + refused.value.hint


def test_pagers_are_told_the_key() -> None:
    from aiops_cli.notify_apprise import _keyed

    key = "aiops-k3f9"
    assert _keyed("pagerduty://a@b", key) == "pagerduty://a@b?dedup=aiops-k3f9&action=map"
    assert _keyed("opsgenie://a?region=eu", key) == "opsgenie://a?region=eu&alias=aiops-k3f9"
    assert _keyed("slack://a/b/c", key) == "slack://a/b/c"


def test_apprise_reads_what_is_added_for_pagers() -> None:
    """The names are apprise's own."""
    import apprise

    from aiops_cli.notify_apprise import _keyed

    keys = "0" * 32
    duty: Any = apprise.Apprise.instantiate(_keyed(f"pagerduty://{keys}@{keys}", "aiops-k3f9"))
    assert (duty.dedup, duty.action) == ("aiops-k3f9", "map")
    genie: Any = apprise.Apprise.instantiate(_keyed(f"opsgenie://{keys}", "aiops-k3f9"))
    assert genie.alias == "aiops-k3f9"


def test_without_apprise_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError) as refused:
        AppriseNotifier(["json://127.0.0.1"])
    assert "aiops-cli[notify]" in refused.value.hint


# ---- the settings ----


@pytest.mark.parametrize(
    "text", ["notify: [hunter2]", "notify: hunter2", "notify: ['a b://hunter2']"]
)
def test_addresses_are_never_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    environ = {"AIOPS_CONFIG": str(file)}
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.load(cwd=tmp_path, environ=environ)
    assert "hunter2" not in refused.value.message + refused.value.hint
    file.write_text("notify: ['slack://hunter2']")
    file.chmod(0o644)
    settings = config.load(cwd=tmp_path, environ=environ)
    assert settings.notify == ("slack://hunter2",)
    assert "hunter2" not in f"{settings} {settings.describe()}"
    assert "chmod 600" in settings.warnings[0]


def test_a_storm_of_fifty_is_one_message_and_one_when_it_is_over(at: Bench) -> None:
    rows = [at.server.add_failure(f"dag_{n}", "load", events=[REFUSED]) for n in range(50)]
    watch = Watch(at.desk, Pager())
    watch.look()
    at.clock.advance(minutes=6)
    for _ in range(3):
        watch.look()
    ((key, title, over),) = watch.pager.told
    assert "50 tasks, 50 DAGs failed" in title
    assert not over
    for row in rows[:49]:
        row["state"] = "success"
    watch.look()
    assert len(watch.pager.told) == 1  # one of them still waits
    rows[49]["state"] = "success"
    watch.look()
    assert [(k, o) for k, _, o in watch.pager.told] == [(key, False), (key, True)]

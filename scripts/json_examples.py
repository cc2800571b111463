"""What each command prints with --json: a night on call, played against the tests' local Airflow.

The same at every run: what comes by chance (ids, addresses, folders, the machine's own clock) is
replaced, long lists end after their first object, and an incident stands whole only once.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cli import Cli

NOW = datetime(2026, 3, 14, 3, 4, tzinfo=timezone.utc)
RUNBOOK = """\
- title: The orders database restarts at night
  symptoms: "ConnectionRefusedError: [Errno 111] Connection refused"
  cause: It refuses connections for two minutes while it restarts.
  action: retry
  safe_to_retry: true
"""
WHOLE = "diagnose"  # the command whose incident is shown with all its keys
KEPT = ("incident", "dag_id", "task_id", "try_number", "decision", "status", "outcome")
MORE = ("story", "other_acts")  # what one command alone adds to an incident
REST = {"…": "and all other keys of an incident"}

Examples = dict[str, tuple[str, Any]]  # command → (the call, the object it prints)


def sections() -> str:
    """The generated part of docs/json.md: a heading, the call and its object a command."""
    parts = []
    for name, (call, document) in examples().items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        parts.append(f"### aiops {name}\n\n`{call}`\n\n```json\n{text}\n```")
    return "\n\n".join(parts)


def examples() -> Examples:
    """One example of every command's JSON, in the order of the night."""
    import pytest

    from scripts.picture import utc_clock
    from tests.airflow_server import AirflowServer
    from tests.cli import make

    with (
        tempfile.TemporaryDirectory() as home,
        pytest.MonkeyPatch.context() as patch,
        AirflowServer() as server,
        utc_clock(),
    ):
        starter = Path(home) / "starter"
        starter.mkdir()
        patch.setattr("knowledge.base.STARTER", starter)  # only what the night itself brings
        cli = make(server, Path(home), patch)
        cli.clock.time = NOW
        known = {server.url: "https://airflow.example.com", home: "/home/ana"}
        return {
            name: (_replaced(call, known), _tidy(document, known, whole=name == WHOLE))
            for name, call, document in _night(cli)
        }


def _night(cli: Cli) -> Iterator[tuple[str, str, Any]]:
    """(command, call, object), one call after the other."""
    from tests.airflow_beside import stamp
    from tests.desk import REFUSED
    from tests.history import add_clear, add_history

    def say(name: str, *args: str, stdin: str = "") -> tuple[str, str, Any]:
        said = cli.run(*name.split(), *args, "--json", stdin=stdin)
        return name, " ".join(["aiops", name, *map(_shown, args), "--json"]), json.loads(said.out)

    def fail(day: int) -> dict[str, Any]:
        cli.clock.time = NOW + timedelta(days=day)
        return cli.server.add_failure(
            "orders_etl",
            "load",
            run_id=f"scheduled__2026-03-{14 + day}T03:00:00+00:00",
            events=[REFUSED],
            blocks=["publish"],
            ended=cli.clock.now() - timedelta(minutes=4),
        )

    def pending() -> str:
        cli.ok("watch", "--once")
        (one,) = cli.ok("incidents", "--status", "pending", "--json").json["incidents"]
        return str(one["incident"])

    runbook = cli.home / "runbooks" / "orders.yaml"
    runbook.parent.mkdir()
    runbook.write_text(RUNBOOK)
    cli.server.add_dag("orders_etl", {"load": ["publish"]}, retries=2)
    login = ("--url", cli.server.url, "--username", cli.server.username, "--password-stdin")
    yield say("init", *login, "--yes", stdin=f"{cli.server.password}\n")
    yield say("doctor")
    yield say("kb seed", str(runbook.parent))
    row = fail(-2)
    yield say("failures", "orders_etl")
    fixed = pending()
    cli.ok("approve", fixed, "--yes")
    cli.server.finish(row)
    cli.clock.advance(minutes=2)
    yield say("watch", "--once")
    fail(0)
    yield say("diagnose", "orders_etl")
    id_ = pending()
    yield say("incidents list", "--status", "pending")
    yield say("incidents show", id_)
    yield say("log", id_)
    yield say("open", id_)
    yield say("note", id_, "the dba is called")
    yield say("snooze", id_, "30m")
    yield say("hold", "orders_etl", "30m", "--reason", "the database is moved")
    _, call, plan = say("approve", id_, "--dry-run")
    yield "approve --dry-run", call, plan
    yield say("approve", id_, "--yes")
    yield say("undo", id_)
    yield say("wrong", fixed, "--reason", "it loaded the orders twice")
    fail(1)
    yield say("reject", pending(), "--reason", "not before the dba says so")
    yield say("handover")
    yield say("report", "--since", "4d")
    yield say("backtest")
    begun = cli.clock.now() - timedelta(hours=2)
    cli.server.add_instance(
        "reporting",
        "export",
        "queued",
        run_id="scheduled__2026-03-15T01:00:00+00:00",
        scheduled_when=stamp(begun),
        queued_when=stamp(begun),
    )
    yield say("stuck", "reporting")
    yield say("auto grant", "--actions", "retry", "--dags", "reporting_*", "--until", "7d")
    yield say("auto list")
    (grant,) = cli.ok("auto", "list", "--json").json["grants"]
    yield say("auto revoke", grant["grant"])
    yield say("pause", "--reason", "the warehouse moves tonight")
    yield say("resume")
    told = ("--title", "The disk is full", "--cause", "old exports")
    yield say("kb add", *told, "--error", "OSError: [Errno 28] No space left on device")
    yield say("kb list")
    _, call, found = say("kb search", "Connection refused")
    yield "kb search", call, found
    entry = found["entries"][0]["entry"]
    yield say("kb show", entry)
    yield say("kb lint")
    yield say("kb retire", entry, "--reason", "the database does not restart any more")
    exported = cli.home / "knowledge.jsonl"
    cli.ok("kb", "export", str(exported))
    yield say("kb import", str(exported))
    yield say("kb reindex")
    yield say("kb migrate")
    yield say("kb stats")
    past = cli.clock.now() - timedelta(hours=20)
    add_history(cli.server, "prices", ["failed", "success"], past, budgets=[0, 1])
    add_clear(cli.server, "prices", past + timedelta(minutes=5))
    yield say("learn", "prices", "--since", "1d")
    yield say("audit list", "--since", "1h")
    yield say("audit verify")
    plugins = cli.home / "airflow" / "plugins"
    plugins.mkdir(parents=True)
    yield say("plugin install", str(plugins))


def _shown(word: str) -> str:
    """A word as somebody would type it: ids by their start, quoted where the shell needs it."""
    if re.fullmatch(r"[a-z2-7]{10}", word):
        return word[:4]
    return f"'{word}'" if re.search(r"[\s*\[]", word) else word


def _tidy(value: Any, known: Mapping[str, str], *, whole: bool) -> Any:
    if isinstance(value, dict):
        if not whole and "fingerprint" in value and "gate" in value:
            value = {key: value[key] for key in (*KEPT, *MORE) if key in value} | REST
        made = {key: _tidy(item, known, whole=whole) for key, item in value.items()}
        return made | {key: "abcdefghij" for key in ("hold", "base") if key in made}
    if isinstance(value, list):
        # The checks of a gate are always the same eleven, and worth seeing.
        cut = value if whole or not any(isinstance(item, dict) for item in value) else value[:1]
        return [_tidy(item, known, whole=whole) for item in cut]
    return _replaced(value, known) if isinstance(value, str) else value


def _replaced(text: str, known: Mapping[str, str]) -> str:
    for found, told in known.items():
        text = text.replace(found, told)
    # The machine's own clock: a moment outside the night.
    now = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z", _in_the_night, text)
    now = re.sub(r"[0-9a-f]{64}", "5e1f…", now)
    return re.sub(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", "018f…", now)


def _in_the_night(found: re.Match[str]) -> str:
    if "2026-03-11" < found[0] < "2026-04-01":
        return found[0]
    return f"{NOW:%Y-%m-%dT%H:%M:%S}.000Z"

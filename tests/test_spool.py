"""A watch that Airflow's plugin wakes: at once, by nothing but a file, and never misled by one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import spool as spools
from aiops_cli.commands.watch_report import LOOK
from aiops_cli.spool import Spool
from knowledge.records import incident_id
from tests.cli import Cli
from tests.desk import REFUSED
from tests.test_watch_outage import stop, watching

NOW = datetime(2026, 3, 14, 3, 4, tzinfo=timezone.utc)
IDS = {"dag_id": "orders", "run_id": "r", "task_id": "load", "map_index": -1, "try_number": 1}
ID = incident_id("default", "orders", "r", "load", -1, 1)


def leave(folder: Path, said: object = None, number: int = 1) -> Path:
    """A file as the plugin leaves one; `said` is bytes or what JSON is made of."""
    said = {"kind": "task", **IDS} if said is None else said
    file = folder / f"aiops-{number:020d}-0123abcd.json"
    file.write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder, "default", lambda text: pytest.fail(text))


def pass_(spool: Spool, at: float, *known: str) -> None:
    spool.begin(NOW + timedelta(seconds=at))
    spool.end(lambda ids: set(ids) & set(known))


# ---- when it wakes ----


def test_a_new_file_wakes_and_goes_with_its_incident(spool: Spool, folder: Path) -> None:
    assert not spool.due(NOW)
    file = leave(folder)
    assert spool.due(NOW)
    pass_(spool, 0, ID)
    assert not file.exists()
    assert not spool.due(NOW)


def test_a_file_is_looked_after_until_its_incident_is_known(spool: Spool, folder: Path) -> None:
    """The task says so before Airflow knows: soon, then ever more rarely, then no more."""
    file = leave(folder)
    passes = []
    for half in range(120):
        if spool.due(NOW + timedelta(seconds=half / 2)):
            passes.append(half / 2)
            pass_(spool, half / 2)
    assert passes == [0, 0.5, 1.5, 2.5, 4, 5.5, 7.5, 10, 13, 17]
    assert not file.exists()


def test_a_file_that_comes_during_a_pass_is_not_covered_by_it(spool: Spool, folder: Path) -> None:
    spool.begin(NOW)
    file = leave(folder)
    spool.end(lambda ids: ids)
    assert file.exists()
    assert spool.due(NOW)


def test_a_pass_that_was_not_whole_covers_nothing(spool: Spool, folder: Path) -> None:
    file = leave(folder)
    spool.begin(NOW)
    assert not spool.due(NOW)
    assert spool.due(NOW + timedelta(seconds=1))
    assert file.exists()


def test_runs_and_import_errors_wake_too(spool: Spool, folder: Path) -> None:
    run = leave(folder, {"kind": "run", "dag_id": "orders", "run_id": "r", "reason": "timed_out"})
    broken = leave(folder, {"kind": "import", "file": "/dags/x.py"}, 2)
    assert spool.due(NOW)
    pass_(spool, 0)
    assert run.exists()
    pass_(spool, 15)
    assert not run.exists()
    assert not broken.exists()


def test_a_clock_that_is_set_back_keeps_nothing_for_ever(spool: Spool, folder: Path) -> None:
    file = leave(folder)
    pass_(spool, 0)
    assert spool.due(NOW - timedelta(hours=1))
    pass_(spool, -3600)
    assert not file.exists()


# ---- what may lie there ----

GARBAGE: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda file: file.write_bytes(b"\x00\xff{"),
    "empty": lambda file: file.write_bytes(b""),
    "deep": lambda file: file.write_bytes(b"[" * 8_000),
    "huge": lambda file: file.write_bytes(b" " * 10_000_000),
    "a list": lambda file: file.write_text("[]"),
    "another kind": lambda file: file.write_text('{"kind": "order", "run": "rm -rf /"}'),
    "wrong types": lambda file: file.write_text(
        json.dumps({"kind": "task", **IDS, "dag_id": ["orders"]})
    ),
    "a number as text": lambda file: file.write_text(
        json.dumps({"kind": "task", **IDS, "try_number": "1"})
    ),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda file: file.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_removed(spool: Spool, folder: Path, make: Callable[[Path], object]) -> None:
    file = folder / f"aiops-{1:020d}-0123abcd.json"
    make(file)
    good = leave(folder, number=2)
    pass_(spool, 0, ID)
    assert not file.is_symlink()
    assert not file.exists()
    assert not good.exists()


def test_a_link_goes_and_what_it_leads_to_stays(spool: Spool, folder: Path) -> None:
    kept = folder.parent / "kept.json"
    kept.write_text(json.dumps({"kind": "task", **IDS}))
    (folder / f"aiops-{1:020d}-0123abcd.json").symlink_to(kept)
    asked: list[Any] = []
    spool.begin(NOW)
    spool.end(lambda ids: asked.append(set(ids)) or ())  # type: ignore[func-returns-value]  # a fake in one line
    assert asked == [set()]  # it was not read
    assert kept.exists()
    assert not list(folder.iterdir())


def test_a_folder_by_that_name_is_in_nobodys_way(spool: Spool, folder: Path) -> None:
    (folder / f"aiops-{1:020d}-0123abcd.json").mkdir()
    assert spool.due(NOW)
    pass_(spool, 0)
    for seconds in (0, 1, 60):
        assert not spool.due(NOW + timedelta(seconds=seconds))


def test_what_has_another_name_is_neither_read_nor_removed(spool: Spool, folder: Path) -> None:
    names = {"notes.json", "aiops-1.json", f"aiops-{1:020d}-0123abcd.part", "id_rsa"}
    for name in names:
        (folder / name).write_text("mine")
    assert not spool.due(NOW)
    pass_(spool, 60)
    assert {file.name for file in folder.iterdir()} == names


def test_a_folder_full_of_other_things_costs_no_more(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MOST", 50)
    for number in range(200):
        leave(folder, number=number)
    rounds = 0
    while spool.due(NOW):
        rounds += 1
        pass_(spool, 0, ID)
    assert rounds == 4
    assert not list(folder.iterdir())


def test_no_spool_and_a_spool_that_goes(folder: Path) -> None:
    told: list[str] = []
    spool = Spool(folder, "default", told.append)
    leave(folder)
    spool.begin(NOW)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    spool.end(lambda ids: ids)
    assert not spool.due(NOW)
    assert told == []
    folder.write_text("a file in its place")
    assert not spool.due(NOW)
    pass_(spool, 0)
    assert len(told) == 1
    assert "polling only" in told[0]
    folder.unlink()
    folder.mkdir()
    leave(folder)
    assert spool.due(NOW)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_spool_that_may_not_be_changed_wakes_once_a_file(spool: Spool, folder: Path) -> None:
    leave(folder)
    folder.chmod(0o500)
    try:
        assert spool.due(NOW)
        pass_(spool, 0, ID)
        assert not spool.due(NOW + timedelta(seconds=60))
    finally:
        folder.chmod(0o700)


def test_a_file_that_cannot_be_removed_wakes_once(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder of somebody else's, which root's tests cannot make."""

    def refused(_: Path, **__: object) -> None:
        raise PermissionError

    leave(folder)
    monkeypatch.setattr(Path, "unlink", refused)
    pass_(spool, 0, ID)
    assert not spool.due(NOW + timedelta(seconds=60))


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, folder: Path, call: str) -> Iterator[list[str]]:
    """The folder is on a mount whose server is gone, for `call`: how often it was asked."""
    answers, asked = threading.Event(), list[str]()
    really = getattr(os, call)

    def hang(path: Any, *args: Any, **options: Any) -> Any:
        if Path(path) == folder or folder in Path(path).parents:
            asked.append(call)
            assert answers.wait(30)
        return really(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(spools, "PATIENCE", 0.02)
        patch.setattr(os, call, hang)
        yield asked
        answers.set()


@pytest.mark.parametrize("call", ["scandir", "open", "unlink"])
def test_a_folder_that_hangs_is_waited_for_once_and_told_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    told: list[str] = []
    spool = Spool(folder, "default", told.append)
    leave(folder)
    with hanging(monkeypatch, folder, call) as asked:
        for second in range(0, 100, 5):  # returns, or the test would time out
            spool.due(NOW + timedelta(seconds=second))
            pass_(spool, second, ID)
        assert len(asked) == 1
        (only,) = told
        assert f"{folder} cannot be read: it does not answer; polling only" in only
        hung = spool._hung
    assert hung
    wait([hung], 30)
    leave(folder, number=2)
    assert spool.due(NOW)
    pass_(spool, 100, ID)
    assert not list(folder.iterdir())
    assert len(told) == 1


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*IDS, "kind"]), inner),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_a_file_holds(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, "default", lambda text: pytest.fail(text))
    leave(folder, data)
    assert spool.due(NOW)
    pass_(spool, 0)
    pass_(spool, 60)
    assert not list(folder.iterdir())


# ---- the watch ----


def test_a_watch_is_woken_and_polling_stays(cli: Cli, folder: Path) -> None:
    cli.environ["AIOPS_SPOOL"] = str(folder)
    made: list[Any] = []

    def fails() -> None:
        row = cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())
        made.append(row)
        ids = {"dag_id": "orders", "run_id": row["dag_run_id"], "task_id": "load"}
        leave(folder, {"kind": "task", **ids, "map_index": -1, "try_number": row["try_number"]})

    def fails_unheard() -> None:  # killed: no listener was called
        cli.server.add_failure("sales", "count", events=[REFUSED], ended=cli.clock.now())

    began = cli.clock.now()
    at: list[tuple[float, int]] = []

    def look() -> None:
        with_log = [r for r in cli.server.sent("GET") if r.path.endswith("/logs/1")]
        at.append((round((cli.clock.now() - began).total_seconds(), 2), len(with_log)))

    happens = {5: fails, 6: look, 7: fails_unheard, 40: look, 70: stop}
    waits = watching(cli, happens)
    said = cli.run("watch", "--interval", "30s", "--json")
    assert said.code == 130
    assert [one["dag_id"] for one in said.lines] == ["orders", "sales"]  # each once
    assert at == [(3, 1), (20, 1)]  # half a second after it failed, and no other log since
    assert sum(waits) == pytest.approx(35)
    assert not list(folder.iterdir())


def test_while_airflow_is_away_no_file_hurries(cli: Cli, folder: Path) -> None:
    cli.environ |= {"AIOPS_SPOOL": str(folder), "AIOPS_AIRFLOW_URL": "http://127.0.0.1:9"}
    leave(folder)
    waits = watching(cli, {3: stop})
    said = cli.run("watch", "--interval", "30s")
    assert said.code == 130
    assert waits.count(30) >= 1
    assert LOOK not in waits
    assert len(list(folder.iterdir())) == 1


def test_another_airflow_that_is_away_delays_no_file(cli: Cli, folder: Path) -> None:
    """The spool is that of the Airflow that is named first."""
    cli.environ["AIOPS_SPOOL"] = str(folder)
    away = "{url: 'http://127.0.0.1:9', username: oncall, password: oncall-password}"
    (cli.home / "config.yaml").write_text(f"instances:\n  staging: {away}\n")

    def fails() -> None:
        row = cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())
        ids = {"dag_id": "orders", "run_id": row["dag_run_id"], "task_id": "load"}
        leave(folder, {"kind": "task", **ids, "map_index": -1, "try_number": row["try_number"]})

    waits = watching(cli, {5: fails, 20: stop})
    said = cli.run("watch", "--instance", "default,staging", "--interval", "30s", "--json")
    assert said.code == 130
    assert [one["dag_id"] for one in said.lines] == ["orders"]
    assert sum(waits) < 30
    assert not list(folder.iterdir())


def test_a_spool_that_hangs_stops_no_watch(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.environ["AIOPS_SPOOL"] = str(folder)
    leave(folder)

    def fails() -> None:
        cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())

    watching(cli, {5: fails, 130: stop})
    with hanging(monkeypatch, folder, "scandir") as asked:
        said = cli.run("watch", "--interval", "30s", "--json")
    assert said.code == 130
    assert [one["dag_id"] for one in said.lines] == ["orders"]
    assert said.err.count("polling only") == 1
    assert len(asked) == 1


@pytest.mark.parametrize("comes", [True, False])
def test_a_log_that_is_still_on_its_way_is_waited_for(cli: Cli, folder: Path, comes: bool) -> None:
    """Airflow says that a task has failed before its log is where logs are kept."""
    cli.environ["AIOPS_SPOOL"] = str(folder)
    row = cli.server.add_failure("orders", "load", ended=cli.clock.now())
    cli.server.set_log(row, 1, [])
    ids = {"dag_id": "orders", "run_id": row["dag_run_id"], "task_id": "load"}
    file = leave(folder, {"kind": "task", **ids, "map_index": -1, "try_number": 1})
    assert cli.ok("watch", "--once", "--json").lines == []
    if comes:
        cli.server.set_log(row, 1, [REFUSED])
    else:
        cli.clock.advance(seconds=40)
    (told,) = cli.ok("watch", "--once", "--json").lines
    assert told["error_class"] == ("ConnectionRefusedError" if comes else None)
    assert file.exists()  # a single pass leaves the spool alone


def test_without_the_setting_nothing_is_looked_at(cli: Cli) -> None:
    waits = watching(cli, {2: stop})
    assert cli.run("watch", "--interval", "30s").code == 130
    assert waits == [30, 30]

"""The plugin for Airflow, and how it gets there. On a real Airflow: tests/e2e/test_plugin.py."""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib.util
import json
import os
import resource
import stat
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aiops_cli import spool as spools
from aiops_cli.commands.plugin import SHIPPED
from tests.cli import Cli


class State(str, enum.Enum):
    """As Airflow's own."""

    FAILED = "failed"
    UP_FOR_RETRY = "up_for_retry"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "deep" / "spool"
    monkeypatch.setenv("AIOPS_SPOOL", str(folder))
    return folder


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as Airflow loads it: by its path, into an Airflow that is not there."""
    names = ("airflow", "airflow.listeners", "airflow.plugins_manager")
    fakes: dict[str, Any] = {name: ModuleType(name) for name in names}
    fakes["airflow.listeners"].hookimpl = lambda function: function
    fakes["airflow.plugins_manager"].AirflowPlugin = object
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    spec = importlib.util.spec_from_file_location("aiops_airflow_plugin", SHIPPED)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task(**fields: Any) -> SimpleNamespace:
    ids = {"dag_id": "orders", "run_id": "manual__1", "task_id": "load", "map_index": -1}
    return SimpleNamespace(**{**ids, "try_number": 2, "state": State.FAILED, **fields})


def fail(plugin: Any, **fields: Any) -> None:
    (listener,) = plugin.AiopsPlugin.listeners
    error = ValueError("postgresql://load:s3cret@db/orders does not answer")
    listener.on_task_instance_failed(task_instance=task(**fields), error=error)


def files(folder: Path) -> list[Any]:
    """What the spool holds, oldest first."""
    assert not list(folder.glob("*.part"))
    return [json.loads(file.read_text()) for file in sorted(folder.glob("aiops-*.json"))]


# ---- what is handed on ----


def test_a_failed_try_is_handed_on_without_what_it_said(plugin: Any, spool: Path) -> None:
    fail(plugin)
    ids = {"dag_id": "orders", "run_id": "manual__1", "task_id": "load", "map_index": -1}
    assert files(spool) == [{"kind": "task", **ids, "try_number": 2, "error": "ValueError"}]
    (file,) = spool.iterdir()
    assert "s3cret" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700


def test_a_try_that_airflow_repeats_is_none(plugin: Any, spool: Path) -> None:
    fail(plugin, state=State.UP_FOR_RETRY)
    fail(plugin, state=None)
    assert not spool.exists()


def test_runs_import_errors_and_the_callback(plugin: Any, spool: Path) -> None:
    (listener,) = plugin.AiopsPlugin.listeners
    run = SimpleNamespace(dag_id="orders", run_id="manual__1")
    listener.on_dag_run_failed(dag_run=run, msg="timed_out")
    listener.on_new_dag_import_error(filename="/dags/broken.py")
    # Called by Airflow after the last try alone; what it gives has no state then.
    plugin.on_failure_callback({"ti": task(state=None, map_index=3), "exception": None})
    run_, import_, mapped = files(spool)
    ids = {"dag_id": "orders", "run_id": "manual__1"}
    assert run_ == {"kind": "run", **ids, "reason": "timed_out"}
    assert import_ == {"kind": "import", "file": "/dags/broken.py"}
    assert (mapped["kind"], mapped["map_index"], mapped["error"]) == ("task", 3, None)


@pytest.mark.parametrize("last", [{}, {"ti": task(state="success")}])
def test_the_callback_of_a_whole_dag_speaks_of_its_run(
    plugin: Any, spool: Path, last: dict[str, Any]
) -> None:
    """Airflow gives it a reason, and the run's last task or none, whether that failed or not."""
    dag = SimpleNamespace(dag_id="orders")
    plugin.on_failure_callback(
        {"dag": dag, "run_id": "manual__1", "reason": "timed_out", "exception": None, **last}
    )
    ids = {"dag_id": "orders", "run_id": "manual__1"}
    assert files(spool) == [{"kind": "run", **ids, "reason": "timed_out"}]


@pytest.mark.parametrize("sign", ["\u0436", "\U0001f4a5"])
def test_the_longest_names_that_airflow_takes(plugin: Any, spool: Path, sign: str) -> None:
    ids = dict.fromkeys(("dag_id", "run_id", "task_id"), sign * 250)
    error = type("E" * 5_000, (Exception,), {})()
    (listener,) = plugin.AiopsPlugin.listeners
    listener.on_task_instance_failed(task_instance=task(**ids), error=error)
    listener.on_new_dag_import_error(filename="/dags/\udcff/" + sign * 1_000)
    told, broken = (file.read_bytes() for file in sorted(spool.iterdir()))
    assert json.loads(told) == {"kind": "task", **ids, "map_index": -1, "try_number": 2} | {
        "error": "E" * 250
    }
    assert json.loads(broken)["file"].startswith("/dags/\udcff/")
    assert max(len(told), len(broken)) <= plugin.LARGEST <= spools.LARGEST


def test_without_a_folder_of_its_own_it_is_in_airflows_home(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOPS_SPOOL", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    fail(plugin)
    assert len(files(tmp_path / "aiops-spool")) == 1
    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plugin.spool() == tmp_path / "airflow" / "aiops-spool"


def test_a_folder_that_was_opened_to_a_group_is_readable_to_it(plugin: Any, spool: Path) -> None:
    spool.mkdir(parents=True)
    spool.chmod(0o770)
    before = os.umask(0o077)  # as `airflow scheduler --daemon` has it
    try:
        fail(plugin)
    finally:
        os.umask(before)
    (file,) = spool.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE(file.stat().st_mode) & 0o040 == 0o040


# ---- what goes wrong is nobody's trouble ----


def test_facts_that_cannot_be_had(plugin: Any, spool: Path) -> None:
    class Detached:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(f"{name}: the session is closed")

    (listener,) = plugin.AiopsPlugin.listeners
    listener.on_task_instance_failed(task_instance=Detached(), error=None)
    listener.on_dag_run_failed(dag_run=Detached(), msg="task_failure")
    plugin.on_failure_callback({})
    fail(plugin, try_number="second")
    fail(plugin, dag_id="d" * 10_000)
    assert not spool.exists()


@pytest.mark.parametrize("there", ["file", "link", "closed"])
def test_a_spool_that_cannot_be_written(plugin: Any, spool: Path, there: str) -> None:
    spool.parent.mkdir()
    if there == "file":
        spool.write_text("")
    elif there == "link":
        spool.symlink_to(spool.parent / "nowhere")
    else:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        spool.mkdir(mode=0o500)
    fail(plugin)
    spool.unlink() if there != "closed" else spool.chmod(0o700)
    fail(plugin)
    assert len(files(spool)) == 1  # as soon as it can


def test_a_full_disk_leaves_no_halves(plugin: Any, spool: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # a file is made, and cannot be filled
    try:
        fail(plugin)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(spool.iterdir())
    fail(plugin)
    assert len(files(spool)) == 1


def test_a_folder_that_hangs_is_waited_for_once(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    waited: list[int] = []
    monkeypatch.setattr(plugin, "PATIENCE", 0.02)

    def hang(_: object) -> None:
        waited.append(1)
        assert goes_on.wait(30)

    monkeypatch.setattr(plugin, "_make_room", hang)
    for _ in range(5):
        fail(plugin)  # returns, or the test would time out
    assert len(waited) == 1
    goes_on.set()
    plugin._hung.join(30)
    fail(plugin)
    assert len(files(spool)) == 2


def test_failures_at_the_same_moment_are_all_handed_on(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: its API server may mark many tasks as failed at once."""
    monkeypatch.setattr(plugin, "PATIENCE", 30)
    make_room, together = plugin._make_room, threading.Barrier(8)

    def meet(folder: Path) -> None:
        together.wait(30)  # nobody has written before all of them are writing
        make_room(folder)

    monkeypatch.setattr(plugin, "_make_room", meet)
    threads = [
        threading.Thread(target=fail, args=(plugin,), kwargs={"try_number": number})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one["try_number"] for one in files(spool)) == list(range(8))


def test_a_file_that_goes_while_another_is_written(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch has read it, or another process has given it its name."""
    fail(plugin, try_number=1)
    (gone,) = spool.iterdir()
    scan = os.scandir

    def scan_then_lose(folder: Path) -> Any:
        listed = list(scan(folder))
        gone.unlink()
        return contextlib.nullcontext(listed)

    with monkeypatch.context() as patch:
        patch.setattr(plugin.os, "scandir", scan_then_lose)
        fail(plugin, try_number=2)
    assert [one["try_number"] for one in files(spool)] == [2]


# ---- bounds ----


def test_the_oldest_go_when_there_are_too_many(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MOST_FILES", 10)
    for number in range(25):
        fail(plugin, try_number=number)
    assert [one["try_number"] for one in files(spool)] == list(range(15, 25))


def test_the_oldest_go_when_they_are_too_large(plugin: Any, spool: Path) -> None:
    spool.mkdir(parents=True)
    for number in range(3):
        (spool / f"aiops-{number:020d}-00000000.json").write_bytes(b" " * 400_000)
    fail(plugin)
    assert [file.stat().st_size for file in sorted(spool.iterdir())][:-1] == [400_000, 400_000]


def test_a_writer_that_was_killed_leaves_nothing_for_ever(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MOST_FILES", 3)
    spool.mkdir(parents=True)
    (spool / f"aiops-{1:020d}-00000000.part").write_text("{")
    for _ in range(3):
        fail(plugin)
    assert len(files(spool)) == 3


def test_only_its_own_files_are_removed(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MOST_FILES", 4)
    spool.mkdir(parents=True)
    others = {"notes.json", "aiops-1.json", ".hidden", "aiops-x.json.bak"}
    for name in others:
        (spool / name).write_text("mine")
    (spool / f"aiops-{0:020d}-00000000.json").mkdir()  # cannot be removed: in nobody's way
    for _ in range(9):
        fail(plugin)
    left = {file.name for file in spool.iterdir()}
    assert others <= left
    assert len(left - others) <= 5


def test_a_folder_full_of_other_things_is_left_alone(
    plugin: Any, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "MOST_FILES", 5)
    spool.mkdir(parents=True)
    for number in range(20):
        (spool / f"{number}.txt").write_text("")
    fail(plugin)
    assert len(list(spool.iterdir())) == 20


# ---- how it gets there ----


def test_it_needs_only_the_standard_library_and_airflow() -> None:
    tree = ast.parse(SHIPPED.read_text())
    named = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert named - sys.stdlib_module_names == {"airflow"}


def test_install(cli: Cli) -> None:
    folder = cli.home / "plugins"
    cli.run("plugin", "install", str(folder), "--json").told(2, "usage", str(folder))
    folder.mkdir()
    target = folder / SHIPPED.name
    said = cli.ok("plugin", "install", str(folder))
    assert said.out == f"written: {target}\n"
    assert "restart Airflow" in said.err
    assert "AIOPS_SPOOL" in said.err
    assert target.read_bytes() == SHIPPED.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    again = cli.ok("plugin", "install", str(folder), "--json")
    assert again.json == {"file": str(target), "did": "unchanged"}
    target.write_text("# of an older version\n")
    assert cli.ok("plugin", "install", str(folder), "--json").json["did"] == "replaced"
    assert target.read_bytes() == SHIPPED.read_bytes()
    assert [file.name for file in folder.iterdir()] == [SHIPPED.name]


def test_install_where_nothing_can_be_written(cli: Cli) -> None:
    folder = cli.home / "plugins"
    (folder / SHIPPED.name).mkdir(parents=True)
    cli.run("plugin", "install", str(folder)).refused(2, "cannot be written")
    assert [file.name for file in folder.iterdir()] == [SHIPPED.name]

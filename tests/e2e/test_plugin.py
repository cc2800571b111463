"""Airflow's plugin on a real Airflow: what it hands on, how soon a watch knows, and that nothing is
lost and no task disturbed where the spool is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import pytest

from scripts.airflow_box import AirflowBox
from tests.e2e.test_aiops import OnCall

DAGS = Path(__file__).parent / "dags"
SECONDS = 90  # far more than anything here takes


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    for file in ("e2e_plugin.py", "e2e_repairs.py"):
        shutil.copy(DAGS / file, airflow.dags / file)
    wanted = {"e2e_spooled", "e2e_retried", "e2e_killed"}

    def parsed() -> bool:
        listed = airflow.request("GET", "/api/v2/dags?limit=100&dag_id_pattern=e2e_")["dags"]
        return wanted <= {dag["dag_id"] for dag in listed}

    airflow.until("the tests' DAGs are parsed", parsed, 120)


@pytest.fixture
def spool(airflow: AirflowBox) -> Path:
    """The folder, without what other tests have left in it."""
    folder = airflow.home / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    return OnCall(airflow, tmp_path)


def handed_on(spool: Path) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted(spool.glob("aiops-*.json"))]


def fail(box: AirflowBox, dag_id: str) -> str:
    run_id = box.trigger(dag_id)
    assert box.wait(dag_id, run_id) == "failed"
    return run_id


@contextmanager
def watch(ana: OnCall, spool: Path) -> Iterator[Queue[tuple[datetime, Any]]]:
    """A watch that polls once in ten minutes: (when, incident) as it prints them."""
    beat = ana.folder / "beat"
    said: Queue[tuple[datetime, Any]] = Queue()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "aiops_cli", "watch", "--json", "--interval", "10m"),
            *("--heartbeat-file", str(beat)),
        ],
        env={**ana.environment(), "AIOPS_SPOOL": str(spool)},
        cwd=ana.folder,
        stdout=subprocess.PIPE,
        text=True,
    )

    def listen() -> None:
        assert process.stdout
        for line in process.stdout:
            said.put((datetime.now(timezone.utc), json.loads(line)))

    listener = Thread(target=listen)
    listener.start()
    try:
        ana.box.until("the watch has looked once", beat.exists, SECONDS)
        yield said
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0
        listener.join(SECONDS)
        assert process.stdout
        process.stdout.close()


def of_run(said: Queue[tuple[datetime, Any]], run_id: str) -> tuple[datetime, Any]:
    while True:
        at, incident = said.get(timeout=SECONDS)
        if incident["run_id"] == run_id:
            return at, incident


def test_airflow_has_loaded_it(airflow: AirflowBox) -> None:
    plugins = airflow.request("GET", "/api/v2/plugins?limit=100")["plugins"]
    (ours,) = [one for one in plugins if one["name"] == "aiops"]
    assert ours["listeners"]
    assert airflow.request("GET", "/api/v2/plugins/importErrors")["import_errors"] == []


def test_a_failure_wakes_a_watch(
    airflow: AirflowBox, ana: OnCall, spool: Path, figure: Callable[[str], None]
) -> None:
    """A watch that would look again in ten minutes says it now."""
    with watch(ana, spool) as said:
        for _ in range(3):
            run_id = airflow.trigger("e2e_spooled")
            at, incident = of_run(said, run_id)
            assert (incident["task_id"], incident["map_index"]) == ("count", 1)
            assert incident["diagnosis"]
            path = f"/api/v2/dags/e2e_spooled/dagRuns/{run_id}/taskInstances/count/1"
            ended = airflow.request("GET", path)["end_date"].replace("Z", "+00:00")
            took = (at - datetime.fromisoformat(ended)).total_seconds()
            figure(f"{took:.1f} s from a task's failure to its diagnosis, with the spool")
            assert airflow.wait("e2e_spooled", run_id) == "failed"
        airflow.until("the spool is empty", lambda: handed_on(spool) == [], SECONDS)
    # Other tests' failures of the same Airflow were captured too.
    assert len(ana.json("incidents", "--dag", "e2e_spooled")["incidents"]) == 3


def test_what_is_handed_on(airflow: AirflowBox, spool: Path) -> None:
    run_id = fail(airflow, "e2e_spooled")
    ids = {"dag_id": "e2e_spooled", "run_id": run_id}
    task = {"kind": "task", **ids, "task_id": "count", "map_index": 1, "try_number": 1}
    run = {"kind": "run", **ids, "reason": "task_failure"}
    airflow.until("both are handed on", lambda: len(handed_on(spool)) >= 2, SECONDS)
    assert handed_on(spool) == [{**task, "error": "ValueError"}, run]


def test_what_airflow_repeats_is_not_handed_on_and_the_callback_says_it_too(
    airflow: AirflowBox, ana: OnCall, spool: Path
) -> None:
    run_id = fail(airflow, "e2e_retried")
    airflow.until("all is handed on", lambda: len(handed_on(spool)) >= 3, SECONDS)
    tasks = [one for one in handed_on(spool) if one["kind"] == "task"]
    assert [(one["run_id"], one["try_number"]) for one in tasks] == [(run_id, 2)] * 2
    with watch(ana, spool):
        airflow.until("the spool is empty", lambda: handed_on(spool) == [], SECONDS)
    found = [one for one in ana.json("incidents")["incidents"] if one["run_id"] == run_id]
    assert [one["try_number"] for one in found] == [2]


def test_a_file_that_cannot_be_imported(airflow: AirflowBox, spool: Path) -> None:
    broken = airflow.dags / "e2e_broken_file.py"
    broken.write_text("from airflow.sdk import dag\nimport nowhere_to_be_found\n")
    try:
        said = {"kind": "import", "file": str(broken)}
        airflow.until("it is handed on", lambda: said in handed_on(spool), SECONDS)
    finally:
        broken.unlink()

    def fine() -> bool:
        return not airflow.request("GET", "/api/v2/importErrors")["import_errors"]

    airflow.until("the error is gone", fine, SECONDS)


@pytest.mark.parametrize("how", ["unwritable", "garbage", "full"])
def test_nothing_is_lost_with_a_broken_spool(
    airflow: AirflowBox, ana: OnCall, spool: Path, how: str
) -> None:
    if how == "unwritable":
        spool.write_text("a file where the folder should be")  # keeps root out, too
    else:
        spool.mkdir()
    if how == "garbage":
        (spool / f"aiops-{1:020d}-00000000.json").symlink_to("/dev/zero")
        (spool / f"aiops-{2:020d}-00000000.json").write_bytes(b"\x00{" * 1000)
    if how == "full":
        for number in range(1_200):
            (spool / f"{number}.json").write_text("")
    try:
        run_id = fail(airflow, "e2e_spooled")
        assert "aiops" not in airflow.log("e2e_spooled", run_id, "count", map_index=1)
        with watch(ana, spool) as said:
            assert of_run(said, run_id)[1]["task_id"] == "count"
            if how == "garbage":
                airflow.until("the spool is empty", lambda: not list(spool.iterdir()), SECONDS)
    finally:
        if how == "unwritable":
            spool.unlink()


def test_what_no_listener_hears_is_found_by_polling(
    airflow: AirflowBox, ana: OnCall, spool: Path
) -> None:
    run_id = fail(airflow, "e2e_killed")
    assert not [one for one in handed_on(spool) if one["kind"] == "task"]
    told = ana.lines("watch", "--once")
    assert [one["task_id"] for one in told if one["run_id"] == run_id] == ["train"]

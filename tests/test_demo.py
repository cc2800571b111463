"""The demo's story in a small world of its own: it passes where all goes as told, and each of its
steps notices where something does not. The real one is `make demo`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import demo, demo_story
from scripts.airflow_box import AirflowBox, BoxError
from scripts.demo_story import FIRST, SECOND, Broken, Stage

NEW = "unpack_delivery"
KNOWN = (
    *("prices_daily", "prices_hourly", "invoices_payout", "regional_sales"),
    *(f"known_{n}" for n in range(12)),
)
ACTIONS = {NEW: None, "invoices_payout": "none", "regional_sales": "none"}
CHAIN = ("fetch_prices", "store_prices", "publish")
Spoil = Callable[["World"], object]


class World(AirflowBox):
    """An Airflow and a knowledge base in memory, in which everything happens as told; after each
    command that the spoiled step shows, `spoil` is done to it."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "env", home, home, version="3.3.2")
        self.runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.incidents: list[dict[str, Any]] = []
        self.seeded = {"added": 0, "changed": 0, "same": 17, "retired": 0}
        self.hidden = 0
        self.proven = False
        self.spoil: Spoil = lambda world: None
        for dag_id in (*KNOWN, NEW):
            self.trigger(dag_id, run_id=FIRST)
        self.ledger = home / "ledger.jsonl"
        self.ledger.write_text("paid\n")

    def trigger(self, dag_id: str, conf: object = None, run_id: str | None = None) -> str:
        tasks = CHAIN if dag_id.startswith("prices") else ("work",)
        run = {task: {"state": "upstream_failed", "try_number": 0} for task in tasks}
        run[tasks[0]] = {"state": "failed", "try_number": 1}
        self.runs[dag_id, run_id or FIRST] = run
        return run_id or FIRST

    def run_state(self, dag_id: str, run_id: str) -> str:
        states = {task["state"] for task in self.runs.get((dag_id, run_id), {}).values()}
        return "failed" if "failed" in states else "success"

    def until(self, what: str, condition: Callable[[], bool], seconds: float = 0) -> None:
        if not condition():
            raise BoxError(what)

    def request(self, method: str, path: str, body: object = None, **_: object) -> Any:
        parts = path.split("?")[0].split("/")
        wanted = None if "~" in parts else (parts[4], parts[6])
        return {
            "task_instances": [
                {"dag_id": run[0], "dag_run_id": run[1], "task_id": name, "map_index": -1, **task}
                for run, tasks in self.runs.items()
                for name, task in tasks.items()
                if (run == wanted if wanted else task["state"] == "failed")
            ]
        }

    def capture(self) -> None:
        seen = {(i["dag_id"], i["run_id"]) for i in self.incidents}
        for dag_id, run_id in self.runs:
            if (dag_id, run_id) in seen:
                continue
            doc = {
                "incident": f"{len(self.incidents):04}abcd",
                "kind": "task",
                "dag_id": dag_id,
                "run_id": run_id,
                "task_id": next(iter(self.runs[dag_id, run_id])),
                "map_index": -1,
                "try_number": 1,
                "status": "pending",
                "outcome": None,
                "decided": None,
                "decision": "novel" if dag_id == NEW else "ask",
                "evidence": {"fixed": int(self.proven)},
                "diagnosis": {
                    "by": "nobody" if dag_id == NEW else "exact",
                    "action": ACTIONS.get(dag_id, "retry"),
                },
            }
            against = ["action_allowed"] + ["evidence", "rerun_safe"] * (not self.proven)
            checks = [{"name": name, "passed": False} for name in against]
            self.incidents.append(doc | {"gate": {"checks": checks, "reasons": against}})

    def act(self, doc: dict[str, Any], kind: str) -> None:
        run = self.runs[doc["dag_id"], doc["run_id"]]
        plan = {"clears": [{"task_id": task} for task in run]}
        doc |= {"status": "acting", "decided": {"kind": kind, "plan": plan}}
        for task in run.values():
            task |= {"state": "success", "try_number": task["try_number"] + 1}

    def settle(self) -> None:
        for doc in self.incidents:
            if doc["status"] == "acting":
                doc |= {"status": "resolved", "outcome": "fixed"}
                self.proven = True

    def of(self, dag_id: str, run_id: str = FIRST) -> dict[str, Any]:
        return next(i for i in self.incidents if (i["dag_id"], i["run_id"]) == (dag_id, run_id))


class Scene(Stage):
    def show(self, *words: str) -> None:
        world = self.world
        match words:
            case ("diagnose", *_):
                world.capture()
            case ("approve", id_, "--yes"):
                (doc,) = [i for i in world.incidents if i["incident"].startswith(id_)]
                world.act(doc, "approve")
            case ("watch", "--once", "--auto"):
                canary = world.of("prices_daily", SECOND)
                first = canary["status"] == "pending"
                world.act(canary if first else world.of("prices_hourly"), "auto")
            case ("watch", "--once"):
                world.settle()
        world.spoil(world)

    def ask(self, *words: str) -> Any:
        match words:
            case ("kb", "seed", _):
                return self.world.seeded
            case ("failures",):
                failed = self.world.request("GET", "/api/v2/dags/~/dagRuns/~/taskInstances")
                return {"failures": failed["task_instances"][self.world.hidden :]}
            case ("incidents",):
                return {"incidents": self.world.incidents}
        raise AssertionError(words)

    @property
    def world(self) -> World:
        assert isinstance(self.box, World)
        return self.box


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(World(tmp_path), tmp_path, {})


def test_the_story_passes_where_all_goes_as_told(scene: Scene) -> None:
    demo_story.tell(scene)
    assert sum(doc["outcome"] == "fixed" for doc in scene.world.incidents) == 3


def pretend(dag_id: str, run_id: str = FIRST, **fields: Any) -> Spoil:
    """Something else stands in the knowledge base."""
    return lambda world: world.of(dag_id, run_id).update(fields)


def in_airflow(dag_id: str, run_id: str, task_id: str, **fields: Any) -> Spoil:
    """Airflow says something else."""
    return lambda world: world.runs[dag_id, run_id][task_id].update(fields)


SPOILT: list[tuple[str, Spoil]] = [
    ("seed", lambda world: world.seeded.update(changed=1)),
    ("seed", lambda world: world.seeded.update(same=0)),
    ("failures", lambda world: setattr(world, "hidden", 1)),
    ("failures", lambda world: world.trigger("prices_weekly", run_id=FIRST)),
    ("diagnose", pretend("known_3", status="acting")),
    ("diagnose", pretend(NEW, diagnosis={"by": "nobody", "action": "retry"})),
    ("diagnose", in_airflow("known_3", FIRST, "work", try_number=2)),
    ("approve", pretend("prices_daily", decision="auto")),
    ("approve", pretend("prices_daily", outcome="failed")),
    ("approve", pretend("prices_daily", status="pending")),
    ("approve", in_airflow("prices_daily", FIRST, "publish", state="upstream_failed")),
    ("approve", in_airflow("prices_daily", FIRST, "fetch_prices", state="failed")),
    ("approve", in_airflow("prices_daily", FIRST, "fetch_prices", try_number=3)),
    ("again", in_airflow("prices_daily", SECOND, "fetch_prices", state="success")),
    ("again", pretend("prices_daily", SECOND, evidence={"fixed": 0})),
    ("again", pretend("prices_daily", SECOND, gate={"checks": []})),
    ("alone", pretend("invoices_payout", decided={"kind": "auto"})),
    ("alone", pretend("prices_daily", SECOND, decided=None)),
    ("alone", pretend("prices_hourly", outcome="unknown")),
    ("alone", in_airflow("known_3", FIRST, "work", state="success")),
    ("data_bug", pretend("regional_sales", decision="auto")),
    ("data_bug", in_airflow("regional_sales", FIRST, "work", state="success")),
    ("payment", pretend("invoices_payout", status="acting")),
    ("payment", in_airflow("invoices_payout", FIRST, "work", try_number=2)),
    ("payment", lambda world: world.ledger.write_text("paid\npaid\n")),
    ("payment", lambda world: world.ledger.unlink()),
    ("outcomes", pretend("known_3", status="resolved")),
    ("outcomes", in_airflow("known_3", FIRST, "work", try_number=2)),
    ("outcomes", pretend("prices_daily", outcome="relapsed")),
    ("outcomes", lambda world: world.incidents.clear()),
]


@pytest.mark.parametrize(("name", "spoil"), SPOILT)
def test_a_step_notices_what_did_not_happen_as_told(scene: Scene, name: str, spoil: Spoil) -> None:
    names = [step.__name__ for step in demo_story.STORY]
    before, step = demo_story.STORY[: names.index(name)], demo_story.STORY[names.index(name)]
    for earlier in before:
        earlier(scene)

    def now_and_then(world: World) -> None:
        with contextlib.suppress(KeyError, StopIteration):  # not there yet
            spoil(world)

    scene.world.spoil = now_and_then
    with pytest.raises((Broken, BoxError)):
        step(scene)


def test_every_step_is_spoilt_above() -> None:
    assert {name for name, _ in SPOILT} == {step.__name__ for step in demo_story.STORY}


def test_json_of_another_shape_breaks_a_promise(scene: Scene) -> None:
    scene.world.seeded = {}
    with pytest.raises(Broken, match="shape"):
        demo_story.tell(scene)


def test_a_command_that_fails_breaks_a_promise(tmp_path: Path) -> None:
    stage = Stage(World(tmp_path), tmp_path, {"HOME": str(tmp_path)})
    with pytest.raises(Broken, match="exit code 2"):
        stage.ask("no-such-command")


def test_commands_see_nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPS_PAUSED", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/users/own")
    seen = demo.environment(World(tmp_path), tmp_path)
    assert "AIOPS_PAUSED" not in seen
    assert "XDG_CONFIG_HOME" not in seen
    mine = [value for name, value in seen.items() if name in ("HOME", "AIOPS_CONFIG", "AIOPS_KB")]
    assert len(mine) == 3
    assert all(str(tmp_path) in value for value in mine)


def test_a_folder_in_which_a_demo_still_runs_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / ".demo"
    demo.make_folder(folder)
    (folder / "knowledge.db").touch()
    script = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "airflow")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as guard:
        assert guard.stdin
        assert guard.stdout
        guard.stdout.readline()  # its command line is there
        (folder / "owner.pid").write_text(str(guard.pid))
        try:
            with pytest.raises(SystemExit, match=f"kill {guard.pid}"):
                demo.make_folder(folder)
        finally:
            guard.stdin.write(b"\n")
            guard.stdin.close()
    assert (folder / "knowledge.db").exists()

    demo.make_folder(folder)
    assert not (folder / "knowledge.db").exists()
    assert (demo.ROOT / "examples/dags").is_dir()  # behind the link, not removed with it


def test_a_process_id_that_is_somebody_elses_by_now_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / ".demo"
    demo.make_folder(folder)
    (folder / "owner.pid").write_text("1")
    demo.make_folder(folder)
    assert (folder / "owner.pid").read_text() == str(os.getpid())


def test_waiting_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with demo_story.waiting("Airflow is starting"):
        pass
    assert capsys.readouterr().out == "  … Airflow is starting\n"

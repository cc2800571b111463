"""The box without an Airflow: what it starts must end, however its owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import airflow_box, guard
from scripts.airflow_box import AirflowBox, BoxError

# Stands in for `airflow standalone`: a child in a group of its own, as tasks are, and one in a
# session of its own that ignores SIGTERM, as a bash task may.
FAMILY = """
import os, pathlib, signal, subprocess, sys, time
def child(code, **how):
    return str(subprocess.Popen([sys.executable, "-c", code], **how).pid)
pids = [
    str(os.getpid()),
    child("import os, time; os.setpgid(0, 0); time.sleep(600)"),
    child("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)",
          start_new_session=True),
]
folder = pathlib.Path(sys.argv[1])
(folder / "new").write_text(" ".join(pids))
(folder / "new").rename(folder / "pids")
time.sleep(600)
"""

# Speaks the few answers that a starting box asks for. The first start finds its port taken.
AIRFLOW = """
import json, os, pathlib, time
from http.server import BaseHTTPRequestHandler, HTTPServer
first = pathlib.Path(os.environ["AIRFLOW_HOME"], "first")
if not first.exists():
    first.touch()
    print("[Errno 98] error while attempting to bind: address already in use", flush=True)
    time.sleep(600)
parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
answers = {
    "/api/v2/monitor/health": {part: {"status": "healthy"} for part in parts},
    "/auth/token": {"access_token": "t"},
    "/api/v2/importErrors": {"import_errors": []},
    "/api/v2/dags": {"dags": []},
}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(answers[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
host, port = os.environ["AIRFLOW__API__HOST"], int(os.environ["AIRFLOW__API__PORT"])
HTTPServer((host, port), Handler).serve_forever()
"""


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come about within a minute"
        time.sleep(0.02)


def alive(pids: list[int]) -> list[int]:
    living = guard.processes()
    return [pid for pid in pids if pid in living]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """The process ids of a started FAMILY; none may outlive the test."""

    def pids() -> list[int]:
        eventually((tmp_path / "pids").exists)
        return [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    yield pids
    for pid in alive(pids()):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def guarded(tmp_path: Path) -> list[str]:
    """A command that runs FAMILY under a guard with little patience."""
    command = [sys.executable, "-c", FAMILY, str(tmp_path)]
    code = (
        "import sys; from pathlib import Path; from scripts import guard;"
        "guard.STOP_SECONDS = 1; sys.exit(guard.run(Path(sys.argv[1]), sys.argv[2:]))"
    )
    return [sys.executable, "-c", code, str(tmp_path / "log"), *command]


def test_the_end_of_the_owner_ends_everything(
    guarded: list[str], family: Callable[[], list[int]]
) -> None:
    # The owner holds the guard's stdin and is killed without a chance to tidy up.
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time;"
            "guard = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True);"
            "time.sleep(600)",
            *guarded,
        ]
    )
    pids = family()
    assert alive(pids) == pids
    owner.kill()
    owner.wait()
    eventually(lambda: not alive(pids))


def test_what_is_kept_outlives_its_owner_until_sigterm(
    guarded: list[str], family: Callable[[], list[int]]
) -> None:
    process = subprocess.Popen(guarded, stdin=subprocess.PIPE)
    pids = family()
    assert process.stdin
    process.stdin.write(guard.KEEP)
    process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert alive(pids) == pids
    process.terminate()
    assert process.wait(60) == 0
    assert not alive(pids)


def fake_airflow(folder: Path, code: str) -> Path:
    program = folder / "env" / "bin" / "airflow"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o755)
    return folder / "env"


def test_a_taken_port_is_tried_again_with_another(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    env = fake_airflow(tmp_path, AIRFLOW)
    with AirflowBox(env, tmp_path / "home", tmp_path / "dags", version="3.3.2") as box:
        assert (tmp_path / "home" / "first").exists()
        assert not airflow_box.port_is_free(box.port)
    assert airflow_box.port_is_free(box.port)


def test_an_airflow_that_ends_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    env = fake_airflow(tmp_path, "import sys; sys.exit('no such table: dag')")
    with pytest.raises(BoxError, match=r"Airflow ended\n.*\n.*no such table: dag"):
        AirflowBox(env, tmp_path / "home", tmp_path, version="3.3.2").start()


def test_a_linked_dag_file_is_known_by_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dags, real = tmp_path / "dags", tmp_path / "real.py"
    dags.mkdir()
    real.write_text("from airflow.sdk import dag")
    (dags / "link.py").symlink_to(real)
    box = AirflowBox(tmp_path, tmp_path / "home", dags, version="3.3.2")
    known: list[dict[str, str]] = []
    monkeypatch.setattr(box, "request", lambda method, path: {"import_errors": [], "dags": known})
    assert not box.parsed()
    known.append({"fileloc": str(dags / "link.py"), "last_parsed_time": "2100-01-01T00:00:00Z"})
    assert box.parsed()


def test_a_missing_environment_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match=r"make \.envs/airflow-3\.3\.2"):
        AirflowBox(tmp_path, tmp_path, tmp_path, version="3.3.2").start()


def test_airflow_sees_nothing_of_the_callers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_BANK", "postgres://prod")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    box = AirflowBox(tmp_path, tmp_path / "home", tmp_path, version="3.3.2")
    env = box.environment()
    assert "AIRFLOW_CONN_BANK" not in env
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert env["AIRFLOW_HOME"] == str(box.home)
    assert "127.0.0.1" in env["NO_PROXY"]
    assert len({*box.users.values()}) == len(airflow_box.ROLES)

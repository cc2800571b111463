"""A real Airflow in a box: its own home, its own port on loopback, and nothing left behind.

    with AirflowBox(Path(".envs/airflow-3.3.2"), home, dags, version="3.3.2") as box:
        run_id = box.trigger("orders_etl")
        box.wait("orders_etl", run_id)

By hand: `python -m scripts.airflow_box --env .envs/airflow-3.3.2 --dags examples/dags`.
Needs only the standard library, so that any Python from 3.10 on can run it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from scripts import guard

# Airflow's simple auth manager knows these roles; each gets a user of the same name.
ROLES = ("admin", "op", "user", "viewer")
FINAL = frozenset({"success", "failed"})
BOOT_SECONDS = 240
PATIENCE_SECONDS = 180


class BoxError(Exception):
    """Airflow did not do what was asked; the message says what, and what its log said last."""


class PortTakenError(BoxError):
    """Somebody else listens on the port that was chosen."""


class AirflowBox:
    """One `airflow standalone`: SQLite, LocalExecutor, users of every role, loopback only.

    Entering starts it and waits until it is healthy and has parsed every DAG file in `dags`.
    Leaving ends every process it started. So does the end of this process, however it comes
    about, unless `keep` was called. Raises BoxError.
    """

    def __init__(
        self,
        env: Path,
        home: Path,
        dags: Path,
        *,
        version: str,
        broken_dags: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`env` is the virtual environment that holds Airflow `version`; `home` is made if need
        be. `broken_dags` accepts import errors. `settings` are more `AIRFLOW__…` variables."""
        self.env, self.home, self.dags = env.resolve(), home.resolve(), dags.resolve()
        self.version = version
        self.broken_dags = broken_dags
        self.settings = dict(settings or {})
        self.users = {role: secrets.token_urlsafe(12) for role in ROLES}
        self.username, self.password = "admin", self.users["admin"]
        self.port = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}

    # ---- life -------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.home / "standalone.log"

    def __enter__(self) -> AirflowBox:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        if not (self.env / "bin" / "airflow").exists():
            raise BoxError(f"{self.env} holds no Airflow: make .envs/airflow-{self.version}")
        self._write_home()
        for _ in range(3):
            self.port = free_port()
            try:
                self._boot()
                return
            except PortTakenError:
                self.stop()
            except BaseException:
                self.stop()
                raise
        raise BoxError("three ports in a row were taken by somebody else; try again")

    def stop(self) -> None:
        """End every process of the box; harmless when it is not running."""
        running, self._guard = self._guard, None
        if running is None:
            return
        if running.stdin:
            running.stdin.close()
        try:
            running.wait(3 * guard.STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BoxError(f"the processes under {running.pid} do not end; see ps") from error
        if not port_is_free(self.port):
            raise BoxError(f"Airflow is stopped, but somebody still listens on {self.url}")

    def keep(self) -> int:
        """Let the box outlive this process, and return the process id whose SIGTERM stops it."""
        running, self._guard = self._guard, None
        if running is None or running.stdin is None:
            raise BoxError("Airflow is not running, so it cannot be kept")
        running.stdin.write(guard.KEEP)
        running.stdin.close()
        return running.pid

    def _write_home(self) -> None:
        (self.home / "bin").mkdir(parents=True, exist_ok=True)
        passwords = self.home / "passwords.json"
        passwords.unlink(missing_ok=True)
        passwords.touch(0o600)
        passwords.write_text(json.dumps(self.users))
        # `standalone` runs `airflow` from PATH. Its log servers would listen on every interface,
        # and nobody needs them: the api-server reads the logs from this disk.
        wrapper = self.home / "bin" / "airflow"
        wrapper.write_text(
            "#!/bin/sh\n"
            'case "$1" in scheduler | triggerer) set -- "$@" --skip-serve-logs ;; esac\n'
            f'exec {shlex.quote(str(self.env / "bin" / "airflow"))} "$@"\n'
        )
        wrapper.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """What every Airflow process of the box, and a command run beside them, must have."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"))
        }
        airflow = {
            "CORE__AUTH_MANAGER": (
                "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
            ),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            # The default asks the resolver, which may be slow, wrong or elsewhere.
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "1",
            "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
            "CORE__PARALLELISM": "6",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__WORKERS": "1",
            # A busy machine keeps SQLite locked for longer than the driver waits by itself (5 s),
            # and a scheduler that meets that ends for good.
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}?timeout=60",
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "3",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # A killed worker is noticed after this long. A live one reports every 5 s; less than
            # 30 s would take a worker for dead that only waits for a locked SQLite.
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        return {
            **kept,
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in airflow.items()},
            **self.settings,
            # The tasks report to the api-server over HTTP: never through a proxy.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "NO_COLOR": "1",
            "PATH": f"{self.home / 'bin'}:{self.env / 'bin'}:{os.environ.get('PATH', '')}",
        }

    def _boot(self) -> None:
        self._tokens.clear()
        with self.log_file.open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, guard.__file__, str(self.log_file), "airflow", "standalone"],
                stdin=subprocess.PIPE,
                # Never the caller's: a box that is kept would hold its pipes open.
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.home,
                # Ctrl-C reaches this process, which stops the box in order.
                start_new_session=True,
            )
        self.until("Airflow is healthy", self._healthy, BOOT_SECONDS)
        self.until("the DAG files are parsed", self.parsed, BOOT_SECONDS)

    def _healthy(self) -> bool:
        # Between choosing the port and listening on it somebody else may take it. The other
        # parts of Airflow go on then, so nothing but its log tells.
        if "address already in use" in self._log_text().lower():
            raise PortTakenError(f"{self.url} is taken")
        try:
            health = self.request("GET", "/api/v2/monitor/health", user=None, attempts=1)
            parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
            if any(health[part]["status"] != "healthy" for part in parts):
                return False
            # Only ours knows the password: somebody else's Airflow must not pass for it.
            return bool(self.token())
        except (BoxError, KeyError):
            return False

    def parsed(self) -> bool:
        """True once Airflow knows each DAG file as it is on disk now. Raises BoxError for an
        import error that was not announced."""
        errors = self.request("GET", "/api/v2/importErrors?limit=100")["import_errors"]
        if errors and not self.broken_dags:
            raise BoxError(
                f"{errors[0]['filename']} cannot be imported:\n{errors[0]['stack_trace']}"
            )
        dags = self.request("GET", "/api/v2/dags?limit=100&exclude_stale=true")["dags"]
        seen: dict[Path, float] = {}
        for dag in dags:
            when = datetime.fromisoformat(dag["last_parsed_time"].replace("Z", "+00:00"))
            seen[Path(dag["fileloc"]).resolve()] = when.timestamp()
        for error in errors:
            when = datetime.fromisoformat(error["timestamp"].replace("Z", "+00:00"))
            seen[(self.dags / error["filename"]).resolve()] = when.timestamp()
        files = (file.resolve() for file in self._dag_files())  # a DAG file may be a link
        return all(seen.get(file, 0.0) >= file.stat().st_mtime for file in files)

    def _dag_files(self) -> Iterable[Path]:
        for file in self.dags.rglob("*.py"):
            text = file.read_text(errors="replace").lower()
            # Airflow's own rule ([core] dag_discovery_safe_mode): others are not even parsed.
            if "dag" in text and "airflow" in text:
                yield file

    def _log_text(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def until(
        self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until `condition` holds. Raises BoxError with the end of Airflow's log after
        `seconds`, and at once when Airflow is gone."""
        end = time.monotonic() + seconds
        while not condition():
            gone = self._guard is not None and self._guard.poll() is not None
            if gone or time.monotonic() > end:
                tail = "\n".join(self._log_text().splitlines()[-40:])
                why = "Airflow ended" if gone else f"not within {seconds:.0f} s"
                raise BoxError(f"waited until {what}: {why}\n--- end of {self.log_file}\n{tail}")
            time.sleep(0.3)

    # ---- REST -------------------------------------------------------------------------------

    def token(self, user: str = "admin") -> str:
        """A bearer token of the user (the users are named like the roles)."""
        if user not in self._tokens:
            body = {"username": user, "password": self.users[user]}
            answer = self.request("POST", "/auth/token", body, user=None, attempts=1)
            self._tokens[user] = answer["access_token"]
        return self._tokens[user]

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str | None = "admin",
        attempts: int = 4,
    ) -> Any:
        """The parsed JSON answer (None for an empty one). Reads are repeated when the server
        fails, as it does now and then while SQLite is locked. Raises BoxError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if user:
            headers["Authorization"] = f"Bearer {self.token(user)}"
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(1, attempts + 1):
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            try:
                with OPENER.open(request, timeout=60) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                detail = error.read().decode(errors="replace")[:500]
                again = method == "GET" and error.code >= 500
                problem = BoxError(f"{method} {path}: {error.code} {detail}")
            except OSError as error:
                again = method == "GET"
                problem = BoxError(f"{method} {path}: {error}")
            if not again or attempt == attempts:
                raise problem
            time.sleep(0.5 * attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/api/v2/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def trigger(
        self, dag_id: str, conf: Mapping[str, object] | None = None, run_id: str | None = None
    ) -> str:
        """Start a run and return its id."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        run_id = run_id or f"manual__{now}_{secrets.token_hex(2)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        for _ in range(4):
            try:
                self.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
                return run_id
            except BoxError as error:
                problem = error
            if "500" not in str(problem) and "409" not in str(problem):
                raise problem
            # A locked SQLite answers 500 whether or not it took effect, so look.
            runs = self.request("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]
            if any(run["dag_run_id"] == run_id for run in runs):
                return run_id
        raise problem

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.request("GET", self._run(dag_id, run_id))["state"])

    def wait(
        self,
        dag_id: str,
        run_id: str,
        states: Collection[str] = FINAL,
        seconds: float = PATIENCE_SECONDS,
    ) -> str:
        """Wait until the run is in one of `states`, and return that state. Raises BoxError."""
        self.until(
            f"run {run_id} of {dag_id} is {' or '.join(sorted(states))}",
            lambda: self.run_state(dag_id, run_id) in states,
            seconds,
        )
        return self.run_state(dag_id, run_id)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """State by task id; mapped ones are named `task[0]`, `task[1]`, …"""
        answer = self.request("GET", f"{self._run(dag_id, run_id)}/taskInstances?limit=100")
        return {
            ti["task_id"] + ("" if ti["map_index"] < 0 else f"[{ti['map_index']}]"): ti["state"]
            for ti in answer["task_instances"]
        }

    def log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """The log of one try as JSON text: every event with its level and error_detail."""
        path = f"{self._run(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        return json.dumps(self.request("GET", f"{path}?map_index={map_index}")["content"])

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a real Airflow until Ctrl-C.")
    parser.add_argument("--env", type=Path, required=True, help="e.g. .envs/airflow-3.3.2")
    parser.add_argument("--dags", type=Path, default=Path("examples/dags"))
    parser.add_argument("--home", type=Path, help="default: a temporary folder")
    parser.add_argument("--broken-dags", action="store_true", help="accept import errors")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="airflow-box-"))
    version = options.env.name.rpartition("-")[2]
    box = AirflowBox(
        options.env, home, options.dags, version=version, broken_dags=options.broken_dags
    )
    try:
        with box:
            print(f"export AIOPS_AIRFLOW_URL={box.url}")
            print(f"export AIOPS_AIRFLOW_USERNAME={box.username}")
            print(f"export AIOPS_AIRFLOW_PASSWORD={box.password}")
            print(
                f"# other users: {box.users}\n# log: {box.log_file}\n# Ctrl-C stops it", flush=True
            )
            box.until("Ctrl-C", lambda: False, float("inf"))
    except KeyboardInterrupt:
        pass
    except BoxError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if not options.home:
            shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Start-up: processor time of commands, as ratios to `python -c "import typer"` in the same run.

A shared machine's clock says more about its other tenants, so bounds are on processor time
(user and system, of the whole process); wall time is printed beside it. Rounds are interleaved,
so that a slow minute falls on all. A command that talks to Airflow is measured up to the first
byte it sends, then killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROUNDS = 15
PATIENCE = 20.0  # seconds for a request to come
ROOT = Path(__file__).resolve().parent.parent


class Case(NamedTuple):
    name: str
    args: Sequence[str]  # of python
    bound: float | None = None  # largest allowed ratio to the first case
    until_request: bool = False


AIOPS = ("-m", "aiops_cli")
CASES = (
    Case("import typer", ("-c", "import typer")),
    Case("aiops --version", (*AIOPS, "--version"), 1.3),
    Case("aiops --help", (*AIOPS, "--help"), 1.5),
    Case("aiops incidents --json", (*AIOPS, "incidents", "--json"), 2.2),
    Case("aiops incidents", (*AIOPS, "incidents"), 3.0),
    Case("aiops failures, to its first request", (*AIOPS, "failures"), 5.0, until_request=True),
)


class Cost(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


class NotMeasured(Exception):
    """The command did not do what was to be measured."""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": folder,
            "AIOPS_KB": f"sqlite:///{folder}/knowledge.db",
            "AIOPS_AIRFLOW_TOKEN": "bench",
        }
        costs: dict[Case, list[Cost]] = {}
        for case in CASES:  # once unmeasured: makes the knowledge base and the byte code
            try:
                _run(case, environ, folder)
                costs[case] = []
            except NotMeasured as reason:
                print(f"{case.name:38} not measured: {reason}")
        for _ in range(ROUNDS):
            for case, seen in costs.items():
                seen.append(_run(case, environ, folder))
    return _report(costs)


def _report(costs: Mapping[Case, Sequence[Cost]]) -> int:
    """Print the medians and their ratios; 1 where a bound is broken or a case is missing."""
    base = median(cost.cpu for cost in costs[CASES[0]])
    print(f"{'median of ' + str(ROUNDS):38} {'cpu ms':>7} {'wall ms':>8} {'ratio':>6} {'bound':>6}")
    broken = len(costs) < len(CASES)
    for case, seen in costs.items():
        cpu, wall = median(cost.cpu for cost in seen), median(cost.wall for cost in seen)
        over = case.bound is not None and cpu / base > case.bound
        broken |= over
        bound = "" if case.bound is None else f"{case.bound:6.1f}{'  BROKEN' if over else ''}"
        print(f"{case.name:38} {cpu * 1e3:7.0f} {wall * 1e3:8.0f} {cpu / base:6.2f} {bound}")
    return int(broken)


def _run(case: Case, environ: Mapping[str, str], folder: str) -> Cost:
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryFile() as talk:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *case.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=talk,
            env={**environ, "AIOPS_AIRFLOW_URL": address},
            cwd=folder,
        )
        asked = case.until_request and _killed_at_first_byte(server, process.pid)
        # wait4 and not Popen.wait: it tells this process's usage alone, and without polling.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if case.until_request != asked or (not asked and process.returncode):
            talk.seek(0)
            said = talk.read().decode(errors="replace").splitlines() or ["no word"]
            raise NotMeasured(f"exit code {process.returncode}, {said[0]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def _killed_at_first_byte(server: socket.socket, pid: int) -> bool:
    """False where no byte came in time."""
    server.settimeout(PATIENCE)
    came = False
    with contextlib.suppress(TimeoutError):
        connection, _ = server.accept()
        with connection:
            connection.settimeout(PATIENCE)
            came = bool(connection.recv(1))
    os.kill(pid, 9)  # ours, and not reaped yet
    return came


if __name__ == "__main__":
    sys.exit(main())

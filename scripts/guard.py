"""Runs a command and ends all that it started once its owner is gone, even by kill -9.

    python scripts/guard.py LOG COMMAND…

The owner holds the other end of stdin. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

STOP_SECONDS = 10
KEEP = b"keep\n"


def run(log: Path, command: list[str]) -> int:
    """Run `command` in a session of its own until stdin closes (the owner ended), SIGTERM comes
    or the command exits; then end everything it started. KEEP on stdin: outlive the owner."""

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            if select.select([sys.stdin], [], [], 0.5)[0]:
                if os.read(sys.stdin.fileno(), len(KEEP)) != KEEP:
                    return 0
                return process.wait()
        return process.returncode
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_family(process)


def end_family(process: subprocess.Popen[bytes]) -> None:
    """End `process`, its descendants and whatever shares a session with one of them: first with
    SIGTERM, after STOP_SECONDS with SIGKILL. Airflow puts each task in a group of its own, and a
    bash task into a session of its own, so ending one process group is not enough."""
    known = {process.pid}
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        end = time.monotonic() + seconds
        told: set[int] = set()
        while time.monotonic() < end:
            process.poll()
            alive = family(known)
            known |= alive
            if not alive:
                return
            for pid in alive - told:
                with contextlib.suppress(ProcessLookupError):  # ended since it was listed
                    os.kill(pid, number)
            told |= alive
            time.sleep(0.1)


def family(known: Collection[int]) -> set[int]:
    """The living among `known`, their descendants, and all who are in a session that one of
    these leads. Zombies do not count."""
    parents = processes()
    found = {pid for pid in known if pid in parents}
    while True:
        more = {
            pid
            for pid, (parent, session) in parents.items()
            if pid not in found and (parent in found or session in found or session in known)
        }
        if not more:
            return found
        found |= more


def processes() -> dict[int, tuple[int, int]]:
    """Each living process: its parent and its session."""
    rows: dict[int, tuple[int, int]] = {}
    if Path("/proc/self/stat").exists():  # Linux; a slim image has no ps
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name stands in brackets and may hold anything, so count from its end.
                state, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue  # ended meanwhile
            if state not in "ZX":
                rows[int(stat.parent.name)] = (int(parent), int(session))
        return rows
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        try:
            if not state.startswith("Z"):
                rows[int(pid)] = (int(parent), os.getsid(int(pid)))
        except OSError:
            continue  # ended meanwhile, or a session that is not ours to ask about
    return rows


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]), sys.argv[2:]))

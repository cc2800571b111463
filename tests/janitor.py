"""Ends the servers of a test run and removes their folders once it is over, even by kill -9.

    python -m tests.janitor OWNER FOLDER…

Nobody has to remember what was started: a server belongs to the run if its command line names one
of the folders. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.guard import processes

POLL_SECONDS = 0.5
STOP_SECONDS = 10


def watch(owner: int, folders: Sequence[Path]) -> None:
    """Wait until process `owner` is gone, then end all that runs in `folders` and remove them."""
    while owner in processes():
        time.sleep(POLL_SECONDS)
    for folder in folders:
        end(folder)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def end(folder: Path) -> None:
    """End every process that names `folder`: first with SIGQUIT, at which Postgres and PgBouncer
    leave at once and take their own along, after STOP_SECONDS with SIGKILL."""
    for number in (signal.SIGQUIT, signal.SIGKILL):
        told: set[int] = set()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            left = naming(folder)
            if not left:
                return
            for pid in left - told:
                with contextlib.suppress(ProcessLookupError):  # ended since it was listed
                    os.kill(pid, number)
            told |= left
            time.sleep(0.05)


def naming(folder: Path) -> set[int]:
    """The processes but this one whose command line holds the path of `folder`."""
    name = os.fsencode(folder)
    if Path("/proc/self/cmdline").exists():  # Linux; a slim image has no ps
        found = set()
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # ended meanwhile
                if name in file.read_bytes():
                    found.add(int(file.parent.name))
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, check=True)
        found = {int(line.split()[0]) for line in listing.stdout.splitlines() if name in line}
    return found - {os.getpid()}


if __name__ == "__main__":
    watch(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])

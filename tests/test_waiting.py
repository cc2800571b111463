"""A wait is ended by a signal, whenever that comes, and by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aiops_cli import waiting

SECONDS = 30  # far more than anything here takes
CHILD = """
import os, random
from aiops_cli.waiting import wait
for _ in range(200):
    try:
        os.write(1, b"x")
        for _ in range(random.randrange(300)):
            pass
        wait(60)
    except KeyboardInterrupt:
        pass
"""


def test_a_wait_lasts_as_long_as_it_should() -> None:
    began = time.monotonic()
    waiting.wait(0.05)
    assert time.monotonic() - began >= 0.05
    waiting.wait(0)
    waiting.wait(-1)


def test_a_signal_just_before_it_is_not_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has noted the signal and nothing more: what its own handler does in C."""
    pipe = os.pipe

    def noted() -> tuple[int, int]:
        ends = pipe()
        os.write(ends[1], bytes([signal.SIGINT]))
        return ends

    def woken(*_: object) -> bytes:
        raise KeyboardInterrupt  # Python's handler, which runs when the wait is over

    monkeypatch.setattr(os, "pipe", noted)
    monkeypatch.setattr(os, "read", woken)
    with pytest.raises(KeyboardInterrupt):
        waiting.wait(SECONDS)
    assert signal.set_wakeup_fd(-1) == -1  # as it was before


def test_signals_at_any_moment_end_a_wait() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdout
        try:
            for _ in range(200):
                assert child.stdout.read(1) == b"x"
                child.send_signal(signal.SIGINT)
            assert child.wait(SECONDS) == 0
        finally:
            child.kill()


def test_a_signal_whose_handler_raises_nothing_ends_a_wait_early() -> None:
    """What it raised may have been dropped: who waited looks for themselves."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    began = time.monotonic()
    try:
        waiting.wait(SECONDS)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert time.monotonic() - began < SECONDS


def test_other_threads_wait_too() -> None:
    thread = threading.Thread(target=waiting.wait, args=(0.01,))
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()

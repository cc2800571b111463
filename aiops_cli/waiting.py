"""Waiting in a way that Ctrl-C and SIGTERM always end.

A signal that comes a moment before a wait begins is only noted by Python, and slept through: by a
watch for its whole interval, by a question until the next key. Here it also leaves a byte in a
pipe, and the pipe is waited for too (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import os
import sys
import threading
import time


def wait(seconds: float) -> None:
    """Sleep. A signal's handler runs at once, and ends the sleep: by what it raises, or, should it
    raise nothing, early."""
    alone = threading.current_thread() is threading.main_thread()
    if (
        not alone or sys.platform == "win32"
    ):  # other threads get no signals; Windows wakes by itself
        time.sleep(seconds)
        return
    _wait(None, seconds)


def wait_for_input(terminal: int) -> None:
    """Until something can be read from the terminal. Not for Windows."""
    _wait(terminal, None)


def _wait(terminal: int | None, seconds: float | None) -> None:
    import select  # on Windows it takes sockets only
    import signal

    until = None if seconds is None else time.monotonic() + seconds
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    waited_for = [woken] if terminal is None else [woken, terminal]
    try:
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = select.select(waited_for, [], [], left)[0]
            if woken in ready:
                os.read(woken, 512)  # the handler has run by now
                if terminal is None:
                    return
            if terminal in ready or left == 0:
                return
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)

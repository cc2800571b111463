"""Single keys and lines from a person: questions go to stderr, answers come from stdin.

A key needs no Enter where the terminal allows; elsewhere (a dumb terminal, a pseudo one of an
editor) it is the first character of a line.
"""

from __future__ import annotations

import os
import sys

from aiops_cli.waiting import wait_for_input

ENDED = ("", "\x04", "\x1a")  # no more input; Ctrl-D, and Ctrl-Z as Windows has it
YES = ("y", "Y")
# Keys that send more than one character (arrows) are read to their end, and mean nothing.
_REST_OF_KEY = 32


class Ended(Exception):
    """There will be no answer: Ctrl-D, or the terminal is gone; `typed` is what stood there."""

    def __init__(self, typed: str = "") -> None:
        super().__init__()
        self.typed = typed


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a line; `typed` is what stood there."""

    def __init__(self, typed: str) -> None:
        super().__init__()
        self.typed = typed


def ask_key(question: str) -> str:
    """One key, lower case; "" for Enter and for keys without a letter. Raises Ended."""
    print(question, end="", file=sys.stderr, flush=True)
    key = _key()
    if key is None:
        return _line("").strip().lower()[:1]
    print(key if key.isprintable() else "", file=sys.stderr)
    if key in ENDED:
        raise Ended
    return key.lower() if key.isprintable() else ""


def ask_line(question: str, default: str = "") -> str:
    """A line; an empty one means `default`, which is shown. Raises Ended and Interrupted."""
    shown = f" [{default}]" if default else ""
    return _line(f"{question}{shown} ").strip() or default


def ask_yes(question: str) -> bool:
    """Yes or no, no being the default. What was typed before the question is not its answer.
    Raises Ended."""
    _forget_typed_ahead()
    return ask_key(f"{question} [y/N] ") in YES


def _line(question: str) -> str:
    answer = _read_line(question)
    if not answer.endswith("\n"):  # the cursor stands behind the question
        print(file=sys.stderr)
        raise Ended(answer.strip())
    return answer


def _read_line(question: str) -> str:
    if not sys.stdin.isatty() or sys.platform == "win32":
        print(question, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()
    import termios  # not on Windows

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    keeping = [*before]
    keeping[3] |= termios.NOFLSH  # else Ctrl-C throws away what was typed of the line
    termios.tcsetattr(terminal, termios.TCSADRAIN, keeping)
    try:
        print(question, end="", file=sys.stderr, flush=True)  # not before: who sees it types
        wait_for_input(terminal)
        return sys.stdin.readline()
    except KeyboardInterrupt:
        raise Interrupted(_unfinished(terminal)) from None
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _unfinished(terminal: int) -> str:
    """What was typed of a line without its Enter."""
    import select  # as in `_key`, these three
    import termios
    import tty

    tty.setcbreak(terminal, termios.TCSANOW)  # a line without its end can be read then
    typed = b""
    while select.select([terminal], [], [], 0)[0] and (more := os.read(terminal, 4096)):
        typed += more
    return typed.decode(sys.stdin.encoding or "utf-8", "replace").strip()


def _key() -> str | None:
    """One key as it is pressed, or None where this terminal gives lines only."""
    if not sys.stdin.isatty() or os.environ.get("TERM") == "dumb":
        return None
    if sys.platform == "win32":
        return _key_of_windows()
    import select  # on Windows it takes no terminal, and the other two are not there
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)  # keeps Ctrl-C, and what was typed ahead
        wait_for_input(terminal)
        pressed = os.read(terminal, 1)
        several = pressed == b"\x1b" or pressed >= b"\x80"
        if several and select.select([terminal], [], [], 0)[0]:
            os.read(terminal, _REST_OF_KEY)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return pressed.decode("ascii", "replace")


def _key_of_windows() -> str:
    import msvcrt

    pressed: str = msvcrt.getwch()  # type: ignore[attr-defined]  # only there on Windows
    if pressed in ("\x00", "\xe0"):
        msvcrt.getwch()  # type: ignore[attr-defined]  # the second half of a function key
    if pressed == "\x03":
        raise KeyboardInterrupt
    return pressed


def _forget_typed_ahead() -> None:
    if sys.stdin.isatty() and sys.platform != "win32":
        import termios  # not on Windows

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

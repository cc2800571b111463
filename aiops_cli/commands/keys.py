"""Single keys and lines from a person: questions go to stderr, answers come from stdin.

A key needs no Enter where the terminal allows; elsewhere (a dumb terminal, a pseudo one of an
editor) it is the first character of a line.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from aiops_cli.commands.output import CODE_PAGE
from aiops_cli.waiting import wait_for_input

ENDED = ("", "\x04", "\x1a")  # no more input; Ctrl-D, and Ctrl-Z as Windows has it
YES = ("y", "Y")


class Ended(Exception):
    """There will be no answer: Ctrl-D, or the terminal is gone; `typed` is what stood there."""

    def __init__(self, typed: str = "") -> None:
        super().__init__()
        self.typed = typed


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a line; `typed` is what stood there."""

    def __init__(self, typed: str = "") -> None:
        super().__init__()
        self.typed = typed


class Gone(Interrupted):
    """The terminal was closed, or somebody ended the program from outside."""


@contextmanager
def leaving_whole(keep: Callable[[], None]) -> Iterator[None]:
    """SIGHUP and SIGTERM raise Gone. However this is left, `keep` is called, and neither it nor a
    Gone on its way is interrupted again. A Gone that Python drops (what a handler raises while an
    object is cleared away) is not the only one: the next signal raises anew."""
    ends = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def gone(_number: int, _frame: FrameType | None) -> None:
        if not isinstance(sys.exc_info()[1], Gone):  # as it is where one is being cleaned up after
            raise Gone

    before = [(number, signal.signal(number, gone)) for number in ends]
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        try:
            keep()
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def ask_key(question: str) -> str:
    """One key, lower case; "" for Enter and for keys without a letter. Raises Ended."""
    _show(question)
    key = _key(question)
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
    if _gives_keys():
        return _typed_line(question)
    _show(question)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the cursor stands behind the question
        print(file=sys.stderr)
        raise Ended(answer.strip())
    return answer


def _gives_keys() -> bool:
    """Whether keys come as they are pressed, and not only when their line is ended."""
    return sys.stdin.isatty() and os.environ.get("TERM") != "dumb" and sys.platform != "win32"


def _typed_line(question: str) -> str:
    """A line, read key by key: what is left to the terminal until Enter is lost when that is
    closed, and cut where it is long (4,095 bytes on Linux)."""
    typed = ""
    with _key_by_key(lambda: question + typed) as terminal:
        decoder = codecs.getincrementaldecoder(sys.stdin.encoding or "utf-8")("replace")
        try:
            _show(question)  # neither before nor outside: who sees it types, and Ctrl-C too
            while not typed.endswith("\n"):
                wait_for_input(terminal)
                pressed = os.read(terminal, 1)
                if pressed in (b"", b"\x04"):  # the terminal is gone; Ctrl-D
                    print(file=sys.stderr)
                    raise Ended(typed.strip())
                if pressed == b"\x1b":
                    _skip_rest_of_key(terminal, pressed)
                    continue
                typed, change = _edited(typed, decoder.decode(pressed))
                _show(change)
        except KeyboardInterrupt as stopped:
            typed += decoder.decode(_pressed_already(terminal), final=True)
            kind = Gone if isinstance(stopped, Gone) else Interrupted
            raise kind(typed.strip()) from None
        except OSError:  # as Linux tells of a terminal that is gone
            raise Ended(typed.strip()) from None
    return typed


def _edited(typed: str, char: str) -> tuple[str, str]:
    """The line after one more character, and what shows that on the screen."""
    char = {"\r": "\n", "\t": " "}.get(char, char)
    left = {
        "\x7f": typed[:-1],
        "\x08": typed[:-1],
        "\x15": "",  # Ctrl-U
        "\x17": typed.rstrip().rpartition(" ")[0],  # Ctrl-W
    }.get(char)
    if left is not None:
        from rich.cells import cell_len  # as the console: 60 ms, and not for every command

        back = cell_len(typed[len(left) :])
        return left, "\b" * back + " " * back + "\b" * back
    if char < " " and char not in ("", "\n"):
        return typed, ""
    return typed + char, char


def _show(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _key(question: str) -> str | None:
    """One key as it is pressed, or None where this terminal gives lines only."""
    if sys.platform == "win32" and sys.stdin.isatty():
        return _key_of_windows()
    if not _gives_keys():
        return None
    with _key_by_key(lambda: question) as terminal:
        wait_for_input(terminal)
        pressed = os.read(terminal, 1)
        if pressed == b"\x1b" or pressed >= b"\x80":
            _skip_rest_of_key(terminal, pressed)
    return pressed.decode("ascii", "replace")


@contextmanager
def _key_by_key(shown: Callable[[], str]) -> Iterator[int]:
    """The terminal gives each key at once, unseen, and keeps what was typed ahead when Ctrl-C is
    pressed. After Ctrl-Z and `fg` it is to do so again, and what is `shown` of the line stands
    there again."""
    import termios  # not on Windows
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)
    keeping = termios.tcgetattr(terminal)
    keeping[3] |= termios.NOFLSH
    termios.tcsetattr(terminal, termios.TCSADRAIN, keeping)

    def back(_number: int, _frame: FrameType | None) -> None:
        with suppress(termios.error, OSError):  # who closes a terminal sends this as well
            termios.tcsetattr(terminal, termios.TCSADRAIN, keeping)  # the shell has set its own
            # Not print: it may be at it, and is not to be called from within itself.
            os.write(sys.stderr.fileno(), shown().encode(sys.stderr.encoding, CODE_PAGE))

    other = signal.signal(signal.SIGCONT, back)
    try:
        yield terminal
    finally:
        signal.signal(signal.SIGCONT, other)
        with suppress(termios.error):  # it may be closed by now
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _skip_rest_of_key(terminal: int, pressed: bytes) -> None:
    """What a key sends behind its first byte: an arrow is `ESC [ A`, an ö two bytes of UTF-8."""
    if pressed >= b"\x80":
        os.read(terminal, 1 + (pressed >= b"\xe0") + (pressed >= b"\xf0"))
    elif _pressed_more(terminal) and os.read(terminal, 1) in (b"[", b"O"):
        while _pressed_more(terminal) and not b"@" <= os.read(terminal, 1) <= b"~":
            pass


def _pressed_more(terminal: int) -> bool:
    import select  # on Windows it takes no terminal

    return bool(select.select([terminal], [], [], 0)[0])


def _pressed_already(terminal: int) -> bytes:
    """What was typed before a Ctrl-C and is not read yet: it is no answer to what comes next."""
    pressed = b""
    with suppress(OSError):
        while _pressed_more(terminal) and (more := os.read(terminal, 4096)):
            pressed += more
    return pressed


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

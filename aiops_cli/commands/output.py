"""How commands speak: data to stdout, talk and questions to stderr."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from aiops_cli.examine import Desk


PIPE_COLUMNS = 200  # wide enough for whole names, short enough to be read in a mail


INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C has ended
CODE_PAGE = "aiops"  # how an output treats what its code page has no sign for
_PLAIN = str.maketrans(dict(zip("✓✗→·…–×", "+x>|~-x", strict=True)))


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What a code page has no sign for, as `CODE_PAGE` has it: our own marks in their plain
    form, and else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(CODE_PAGE, _plainly)


def print_json(value: Any) -> None:
    """One line of JSON on stdout, at once.

    ASCII only, so that any code page can print it and no control or bidirectional character of
    a log reaches the terminal as itself.
    """
    print(json.dumps(value), flush=True)


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: never as markup, emoji codes or words to highlight.

    Rich itself honours NO_COLOR and COLUMNS, and leaves colours away where there is no terminal.
    It would take such a place for 80 columns wide, and cut what `grep` looks for.
    """
    from rich.console import Console  # 60 ms: not for --json

    class Speaker(Console):
        def on_broken_pipe(self) -> None:
            raise

    stream = sys.stderr if stderr else sys.stdout
    piped = not (stream and stream.isatty()) and "COLUMNS" not in os.environ
    width = PIPE_COLUMNS if piped else None
    return Speaker(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def page(content: RenderableType, *, stderr: bool = False, soft_wrap: bool = False) -> None:
    """Print; on a terminal that is too low for it, through $PAGER (less where it is not set)."""
    from rich.cells import cell_len  # as `console`: not for --json
    from rich.text import Text

    out = console(stderr=stderr)
    command = _pager() if is_terminal() and out.is_terminal else None
    if command is None:
        out.print(content, soft_wrap=soft_wrap)
        return
    with out.capture() as captured:
        out.print(content, soft_wrap=soft_wrap)
    text = captured.get()
    rows = sum(1 + cell_len(line) // out.width for line in Text.from_ansi(text).plain.splitlines())
    if rows >= out.height and _paged(command, text):
        return
    out.file.write(text)
    out.file.flush()


def _pager() -> list[str] | None:
    """None where there is none to be used."""
    import shlex

    if os.environ.get("TERM") in (None, "dumb"):
        return None
    try:
        command = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:  # an open quote in somebody's profile
        return None
    return command or None


def _paged(command: list[str], text: str) -> bool:
    """Whether the pager has shown it. Leaving it early is no error, and Ctrl-C is the pager's."""
    import signal
    import subprocess

    environ = {"LESS": "FRX", **os.environ}  # as git has it: colours, and no page of its own
    data = text.encode(sys.stdout.encoding or "utf-8", CODE_PAGE)
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ)  # noqa: S603 -- theirs
    except OSError:
        return False
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pager.communicate(data)
    finally:
        signal.signal(signal.SIGINT, before)
    return True


@contextmanager
def progress(
    what: str, meanwhile: Callable[[], RenderableType] | None = None
) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, told how much of how much is done, where that is a terminal; nothing
    elsewhere. Nothing is printed to stdout meanwhile. What is known so far (`meanwhile`) stands
    above the bar and goes with it."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda _done, _of: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # 30 ms

    known = meanwhile() if meanwhile else None

    class Bar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from [] if known is None else [known]
            yield from super().get_renderables()

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    talk = console(stderr=True)
    # Rich would lead stdout to the bar's console, which is stderr.
    with Bar(*columns, console=talk, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextmanager
def thinking(model: str) -> Iterator[Callable[[int], None] | None]:
    """While a model is asked a person sees that it works, and for how long."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # 30 ms

    told = f"asking {model} (Ctrl-C: without it)"
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    talk = console(stderr=True)
    with Progress(*columns, console=talk, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(told, total=None)
        yield lambda count: bar.update(task, description=f"{told}, {count:,} characters so far")


def tell_where(desk: Desk) -> None:
    """One line of talk above what is shown: which Airflow, how it is, and how auto stands."""
    from aiops_cli.examine import stopped
    from aiops_cli.published import utc
    from aiops_cli.render import header

    mode = "paused" if stopped(desk).paused else desk.settings.mode
    problems, now = desk.airflow.health().problems, str(utc(desk.clock.now()))
    line = header(desk.instance, problems, desk.settings.user, mode, now)
    out = console(stderr=True)
    out.print(line, soft_wrap=not out.is_terminal)


def is_terminal() -> bool:
    """Whether a person can be asked: the questions go to stderr, the answers come from stdin."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty())


def confirm(question: str) -> bool:
    """Ask yes or no, no being the default. Raises UsageError where nobody can answer."""
    if not is_terminal():
        raise UsageError(f"nobody is here to answer: {question}", "pass --yes to go ahead")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D leaves the cursor behind the question
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")

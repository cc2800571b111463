"""The one error boundary: whatever happens ends as one message, a hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import NamedTuple, TextIO

import typer

# Typer has no public name for the base of its usage errors in all of 0.26 to 0.28.
from typer._click.exceptions import ClickException

from aiops_cli import __version__
from aiops_cli.commands.output import CODE_PAGE, INTERRUPTED, print_json
from aiops_cli.errors import (
    AiopsError,
    ConfigError,
    KnowledgeBaseError,
    ModelError,
    Refused,
    UsageError,
)
from knowledge.errors import (
    DoorClosed,
    KnowledgeError,
    ModelUnavailable,
    NotFound,
    RunbookError,
)


class Failure(NamedTuple):
    """How a call ended that did not end well."""

    code: str
    message: str
    hint: str
    exit_code: int


_INTERRUPTED = Failure(
    "interrupted",
    "interrupted; nothing was lost",
    "aiops incidents shows where things stand",
    INTERRUPTED,
)
# Of a redirected output; EBADF of one that is closed.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_SIGPIPE = 128 + 13  # what a shell reports of a program whose reader went away

_WRITE_IT = "correct it there, or have the settings written: aiops init"

# The knowledge base's errors that are not "unusable".
_KNOWLEDGE = {
    NotFound: ("not_found", UsageError.exit_code),
    RunbookError: ("runbook", UsageError.exit_code),
    ModelUnavailable: (ModelError.code, ModelError.exit_code),
    DoorClosed: (Refused.code, Refused.exit_code),
}


def guarded(run: Callable[[], None], *, as_json: bool) -> int:
    """Run, tell what went wrong as text on stderr (and as JSON on stdout), return the exit code."""
    if sys.stdout is None:
        sys.stdout = _closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a code page must not end a diagnosis
            stream.reconfigure(errors=CODE_PAGE)
    try:
        try:
            run()
        except typer.Exit as done:
            return done.exit_code
        except (typer.Abort, KeyboardInterrupt):
            return _tell(_INTERRUPTED, as_json)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                return _tell(_bug(error), as_json)
            _drop(sys.stdout)
            return _tell(_unwritable(error), as_json)
        except Exception as error:  # noqa: BLE001 -- the boundary: no traceback on the screen
            return _tell(_failure(error), as_json)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `aiops … | head`
        _drop(sys.stdout)
        return _SIGPIPE
    except OSError as error:  # what was still buffered
        _drop(sys.stdout)
        return _tell(_unwritable(error), as_json)
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being told
        return _INTERRUPTED.exit_code
    return 0


def _closed() -> TextIO:
    """What stands for an output that was closed (`>&-`): to write nothing is no error, and what is
    written is not lost without a word."""
    return os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")


def _drop(stream: TextIO) -> None:
    """What is still buffered would fail again, with a message, when Python shuts down."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unwritable(error: OSError) -> Failure:
    hint = "what was decided is stored; make room, or send the output elsewhere"
    return Failure(
        UsageError.code,
        f"the output cannot be written: {error.strerror}",
        hint,
        UsageError.exit_code,
    )


def _failure(error: Exception) -> Failure:
    if isinstance(error, AiopsError):
        hint = error.hint or (_WRITE_IT if isinstance(error, ConfigError) else "")
        return Failure(error.code, _safe(error.message), hint, error.exit_code)
    if isinstance(error, KnowledgeError):
        unusable = (KnowledgeBaseError.code, KnowledgeBaseError.exit_code)
        code, exit_code = _KNOWLEDGE.get(type(error), unusable)
        return Failure(code, _safe(error.message), error.hint, exit_code)
    if isinstance(error, ClickException):
        ctx = getattr(error, "ctx", None)
        hint = f"see {ctx.command_path if ctx else 'aiops'} --help"
        return Failure(UsageError.code, error.format_message(), hint, UsageError.exit_code)
    return _bug(error)


def _safe(message: str) -> str:
    """A message may quote a log or a server's answer."""
    from knowledge.redact import clean, redact  # its detectors take 0.1 s to import

    return redact(clean(message))


def _bug(error: Exception) -> Failure:
    """One line; the traceback goes to a private file, without secrets."""
    import time  # all of these: only for a bug
    import traceback

    from platformdirs import user_state_path

    message = f"this is a bug in aiops {__version__}: {type(error).__name__}"
    try:
        from knowledge.redact import redact

        text = redact("".join(traceback.format_exception(error)))
        folder = user_state_path("aiops", appauthor=False)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / time.strftime(f"bug-%Y%m%dT%H%M%SZ-{os.getpid()}.txt", time.gmtime())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"aiops {__version__}, Python {sys.version}\n{text}")
        hint = f"please report it, with {path}"
    except Exception as problem:  # noqa: BLE001 -- whatever is wrong here must not hide the bug
        hint = f"its traceback could not be kept: {type(problem).__name__}"
    return Failure(AiopsError.code, message, hint, AiopsError.exit_code)


def _tell(failure: Failure, as_json: bool) -> int:
    from knowledge.redact import clean  # only where there is something to tell

    message, hint = clean(failure.message), clean(failure.hint)
    if as_json:
        print_json({"error": {"code": failure.code, "message": message, "hint": hint}})
    try:
        typer.echo(_wrapped(f"error: {message}"), err=True)
        if hint:
            typer.echo(_wrapped(f"hint: {hint}"), err=True)
    except OSError:  # there is nowhere left to say it
        _drop(sys.stderr)
    return failure.exit_code


def _wrapped(text: str) -> str:
    """Text that fits the terminal; elsewhere a message stays one line, to be searched for."""
    if not (sys.stderr and sys.stderr.isatty()):
        return text
    width = min(shutil.get_terminal_size().columns, 100)
    lines = [
        textwrap.fill(
            line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for line in text.splitlines()
    ]
    return "\n".join(lines)

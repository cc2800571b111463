"""Questions to a person, one line each: they go to stderr, the answers come from stdin."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import TypeVar

import typer

from aiops_cli.errors import AiopsError
from knowledge.errors import KnowledgeError

T = TypeVar("T")


def until_it_works(attempt: Callable[[], T]) -> T:
    while True:
        try:
            return attempt()
        except (AiopsError, KnowledgeError) as error:
            tell_error(error)


def tell_error(error: AiopsError | KnowledgeError) -> None:
    """What went wrong and what to do, indented; on a terminal broken between words."""
    for text in filter(None, (error.message, error.hint)):
        width = shutil.get_terminal_size().columns if sys.stderr.isatty() else len(text) + 2
        tell(
            textwrap.fill(
                text,
                width,
                initial_indent="  ",
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def ask(question: str, default: str) -> str:
    """One line. Ctrl-D is a no to all of it."""
    shown = f"{question} [{default}]: " if default else f"{question}: "
    print(shown, end="", file=sys.stderr, flush=True)
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # what is told now begins a line of its own
        raise
    if not line:
        print(file=sys.stderr)
        raise typer.Abort
    return line.strip() or default


def ask_secret(question: str) -> str:
    """One line that is not shown while it is typed."""
    import getpass

    try:
        return getpass.getpass(f"{question} (not shown): ", stream=sys.stderr)
    except EOFError:
        raise typer.Abort from None


def tell(text: str) -> None:
    from knowledge.redact import clean  # what Airflow said may be in it

    typer.echo(clean(text), err=True)

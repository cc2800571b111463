"""The composition root: settings → the things a command works with.

The only file that names concrete adapters. Everything is opened when it is asked for, so a
command that needs no Airflow never talks to one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from aiops_cli.errors import ConfigError

if TYPE_CHECKING:
    from aiops_cli.airflow.gateway import Gateway
    from aiops_cli.airflow.transport import Login
    from aiops_cli.config import AirflowSettings, Settings
    from aiops_cli.examine import Desk
    from knowledge.base import KnowledgeBase
    from knowledge.embedders import Embedder
    from knowledge.stores import Store

TOKEN_COMMAND_SECONDS = 60.0


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@contextmanager
def store(settings: Settings) -> Iterator[Store]:
    """The store alone: for commands that only read or write records."""
    from knowledge.stores import open_store

    opened = open_store(settings.kb)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def knowledge_base(settings: Settings) -> Iterator[KnowledgeBase]:
    """The knowledge base with its embedder and the starter entries."""
    from knowledge.base import KnowledgeBase

    with store(settings) as opened:
        yield KnowledgeBase(opened, embedder(settings))


def embedder(settings: Settings) -> Embedder:
    if settings.embedder == "builtin":
        from knowledge.embedders import BuiltinEmbedder

        return BuiltinEmbedder()
    raise ConfigError(
        f"the embedder {settings.embedder} is not available in this version",
        "set AIOPS_EMBEDDER=builtin",
    )


def airflow(settings: Settings, name: str | None = None) -> Gateway:
    """The chosen Airflow. Nothing is sent before the first question."""
    from aiops_cli.airflow.gateway import Gateway
    from aiops_cli.airflow.transport import Transport

    chosen = settings.airflow(name)
    transport = Transport(
        chosen.url, _login(chosen), read_only=settings.read_only, clock=SystemClock()
    )
    return Gateway(transport, chosen.name)


@contextmanager
def desk(settings: Settings) -> Iterator[Desk]:
    """Airflow and the knowledge base together; the instance's name is bound to its URL."""
    from aiops_cli.examine import Desk

    gateway = airflow(settings)
    with knowledge_base(settings) as knowledge:
        knowledge.store.bind_instance(gateway.name, gateway.url)
        yield Desk(gateway, knowledge, settings, SystemClock())


def _login(chosen: AirflowSettings) -> Login:
    from aiops_cli.airflow.transport import Login

    command = chosen.token_command
    if command:
        # Run again when its token is refused: a watch outlives an hour's token.
        return Login(fetch_token=lambda: _run_token_command(command))
    return Login(chosen.username, chosen.password, chosen.token)


def _run_token_command(command: str) -> str:
    """What the command prints, stripped. Its output never reaches an error message."""
    import shlex
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 -- the user's own command, from a file of theirs
            shlex.split(command),
            capture_output=True,
            text=True,
            timeout=TOKEN_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"the token command could not be run: {type(error).__name__}",
            "run it by hand and look at airflow.token_command",
        ) from None
    token = done.stdout.strip()
    if done.returncode != 0 or not token:
        raise ConfigError(
            f"the token command ended with {done.returncode} and printed "
            f"{'no token' if not token else 'something'}",
            "run it by hand and look at airflow.token_command",
        )
    return token

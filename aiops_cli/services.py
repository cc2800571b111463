"""The composition root: settings → the things a command works with.

The only file that names concrete adapters. Everything is opened when it is asked for, so a
command that needs no Airflow never talks to one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import typer

from aiops_cli.errors import ConfigError
from aiops_cli.waiting import wait

if TYPE_CHECKING:
    from aiops_cli.airflow.client import Access
    from aiops_cli.airflow.gateway import Gateway
    from aiops_cli.airflow.login import Login
    from aiops_cli.config import AirflowSettings, Settings
    from aiops_cli.diagnosis.advisor import Advisor, Waiting, When
    from aiops_cli.examine import Desk
    from aiops_cli.replay import Replay
    from aiops_cli.seams import Notifier
    from knowledge.base import KnowledgeBase
    from knowledge.embedders import Embedder
    from knowledge.ollama_client import Ollama
    from knowledge.stores import LastingStore, Store


# A failure is looked up while others wait to be: an embedder gives a signature's vector within a
# second once it is loaded, and loading it takes some more.
EMBEDDING_SECONDS = 30.0


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        wait(seconds)


@contextmanager
def store(settings: Settings) -> Iterator[LastingStore]:
    """The store alone: for commands that only read or write records. Where anything was logged
    meanwhile, this machine keeps the head of the audit log in mind, however the command ends."""
    from knowledge.stores import open_store

    file = settings.kb_path()
    there = file is None or os.path.exists(file.parent)  # noqa: PTH110 -- never raises
    with closing(open_store(settings.kb)) as opened:
        if file and not there:  # of a name that was mistyped "no incidents" would read as all clear
            _warn(f"there was no folder {file.parent}: a new knowledge base is begun in it")
        try:
            yield opened
        finally:  # an exit code and Ctrl-C are exceptions too
            _keep_head(opened)


@contextmanager
def knowledge_base(settings: Settings) -> Iterator[KnowledgeBase]:
    """The knowledge base with its embedder and the starter entries."""
    with store(settings) as opened, knowledge(settings, opened) as made:
        yield made


@contextmanager
def knowledge(settings: Settings, opened: Store) -> Iterator[KnowledgeBase]:
    """The knowledge base that an open store is."""
    from knowledge.base import KnowledgeBase
    from knowledge.errors import ModelUnavailable

    chosen = embedder(settings)
    made = KnowledgeBase(opened, chosen, settings.machine_logins)
    try:
        made.seed_starter(SystemClock().now())
    except ModelUnavailable as error:
        _warn(f"what comes with aiops is not in this knowledge base yet: {error.message}")
    try:
        yield made
    finally:
        chosen.close()


def keep_head(known: KnowledgeBase) -> None:
    """As `store` does in the end, for who goes on: a watcher may be killed at any moment."""
    from knowledge.stores.sql_moving import MovingTables

    if isinstance(known.store, MovingTables):
        _keep_head(known.store)


def _keep_head(opened: LastingStore) -> None:
    if opened.logged:
        from aiops_cli import anchors

        anchors.keep(opened, _warn)
        opened.logged = False


def embedder(settings: Settings, longest: float | None = EMBEDDING_SECONDS) -> Embedder:
    """The embedder of the settings, to be closed after use."""
    if settings.embedder == "builtin":
        from knowledge.embedders import BuiltinEmbedder

        return BuiltinEmbedder()
    from knowledge.ollama_embedder import OllamaEmbedder

    name = settings.embedder.removeprefix("ollama:")
    return OllamaEmbedder(ollama(settings, name, longest), name, _warn)


def airflow(settings: Settings, name: str | None = None) -> Gateway:
    """The chosen Airflow. Nothing is sent before the first question. A fixed token that ends
    soon is told on stderr, once."""
    return reach(settings.airflow(name), read_only=settings.read_only, warn=_warn)


def reach(
    chosen: AirflowSettings,
    *,
    read_only: bool = True,
    warn: Callable[[str], None] = lambda _text: None,
) -> Gateway:
    """The Airflow that these settings name. Raises ConfigError for a certificate file that cannot
    be read."""
    from aiops_cli.airflow.gateway import Gateway
    from aiops_cli.airflow.transport import Transport

    transport = Transport(
        chosen.url,
        _login(chosen),
        access=_access(chosen),
        read_only=read_only,
        clock=SystemClock(),
        warn=warn,
    )
    return Gateway(transport, chosen.name)


def notifier(settings: Settings) -> Notifier | None:
    """Whom the settings say to tell; None where nobody. Raises ConfigError."""
    if not settings.notify:
        return None
    from aiops_cli.notify_apprise import AppriseNotifier

    return AppriseNotifier(settings.notify)


@contextmanager
def desk(
    settings: Settings, asks: When = "stored", waiting: Waiting | None = None
) -> Iterator[Desk]:
    """Airflow and the knowledge base together; the instance's name is bound to its URL. `asks`
    says when a model is asked, where one is set; `waiting` surrounds each question."""
    with desks([settings], asks, waiting) as (only,):
        yield only


@contextmanager
def desks(
    several: Sequence[Settings], asks: When = "stored", waiting: Waiting | None = None
) -> Iterator[tuple[Desk, ...]]:
    """A desk for each of several Airflows. They share the knowledge base and the model, which
    the settings name alike."""
    from aiops_cli.examine import Desk

    gateways = [airflow(chosen) for chosen in several]
    with (
        knowledge_base(several[0]) as known,
        _advisor(several[0], known.store, asks, waiting) as asked,
    ):
        for gateway in gateways:
            known.store.bind_instance(gateway.name, gateway.url)
        yield tuple(
            Desk(gateway, known, chosen, SystemClock(), asked)
            for gateway, chosen in zip(gateways, several, strict=True)
        )


@contextmanager
def replaying(
    settings: Settings, with_model: bool, waiting: Waiting | None = None
) -> Iterator[tuple[Replay, KnowledgeBase]]:
    """The knowledge base, and an empty one in memory to replay its record in; `with_model` asks
    the model anew what it has not answered yet."""
    from dataclasses import replace

    from aiops_cli.replay import Replay, Scratch, SetClock
    from knowledge.base import KnowledgeBase

    clock = SetClock(datetime(2000, 1, 1, tzinfo=timezone.utc))  # before anything was recorded
    asked = settings if with_model else replace(settings, llm="none")
    with (
        knowledge_base(settings) as known,
        closing(Scratch.beside(known.store, clock.now)) as store,
        _advisor(asked, known.store, "now", waiting) as advisor,
    ):
        empty = KnowledgeBase(store, known.embedder, settings.machine_logins)
        yield Replay(settings, empty, clock, advisor), known


@contextmanager
def _advisor(
    settings: Settings, store: Store, asks: When, waiting: Waiting | None
) -> Iterator[Advisor | None]:
    """The model that the settings name. Nothing is sent before the first question."""
    if settings.llm == "none":
        yield None
        return
    from aiops_cli.diagnosis.advisor import Advisor, asker
    from aiops_cli.diagnosis.model import OllamaModel
    from aiops_cli.diagnosis.prompt import PROMPT_VERSION

    name = settings.llm.removeprefix("ollama:")
    client = ollama(settings, name)
    model = OllamaModel(client, name)
    advisor = Advisor(model, PROMPT_VERSION, asker(model, waiting), store, asks)
    try:
        yield advisor
    finally:
        if not advisor.waiting:  # its thread may be at it still
            client.close()


def ollama(settings: Settings, name: str, longest: float | None = None) -> Ollama:
    """Ollama as the settings have it, to be closed after use; `longest` is a stricter bound on the
    seconds of one answer. Raises ConfigError where logs would leave this machine for the model of
    this name and nobody has allowed it."""
    from knowledge.ollama_client import connect
    from knowledge.ollama_host import refusal

    refused = refusal(settings.ollama_host, name, settings.ollama_allow)
    if refused:
        raise ConfigError(
            refused, "name it in ollama_allow of your own settings, if logs may go there"
        )
    seconds = settings.llm_timeout.total_seconds()
    return connect(
        settings.ollama_host,
        read_seconds=seconds if longest is None else min(seconds, longest),
        allowed=settings.ollama_allow,
    )


def _login(chosen: AirflowSettings) -> Login:
    from aiops_cli.airflow.login import Login
    from aiops_cli.airflow.token_command import run_token_command

    command = chosen.token_command
    headers = {**chosen.headers, **({"Cookie": chosen.cookie} if chosen.cookie else {})}
    named = chosen.token or command or chosen.client_id or chosen.username
    return Login(
        chosen.username,
        chosen.password,
        chosen.token,
        # Run again before its token ends: a watch outlives an hour's token.
        (lambda: run_token_command(command, SystemClock().now)) if command else None,
        chosen.client_id,
        chosen.client_secret,
        headers,
        tokenless=not named and bool(headers or chosen.cert_file),
    )


def _access(chosen: AirflowSettings) -> Access:
    """The way through the network. Raises ConfigError for a file that cannot be read."""
    from aiops_cli.airflow.client import Access

    if chosen.key_file and not chosen.cert_file:
        raise ConfigError("airflow.key_file is set without airflow.cert_file", "set both")
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(chosen, key)
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise ConfigError(
                f"airflow.{key}: {path} cannot be read: {error.strerror}",
                f"see aiops doctor for where airflow.{key} is set",
            ) from None
    return Access(
        chosen.ca_file, chosen.cert_file, chosen.key_file, chosen.proxy, chosen.verify_tls
    )


def _warn(text: str) -> None:
    typer.echo(f"warning: {text}", err=True)

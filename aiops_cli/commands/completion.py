"""What Tab offers in a shell: names of commands from their table, values from the knowledge base.

Airflow is never asked, nothing is written, no old knowledge base is brought up to date, and what
cannot be read, or not soon, is not offered: a shell that waits or talks while somebody types is
worse than one that completes nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from aiops_cli.commands import ASKED_BY_SHELL
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from typer._click.core import Command, Context, Parameter
    from typer._click.shell_completion import CompletionItem
    from typer.core import TyperGroup

    from aiops_cli.config import Settings
    from knowledge.stores import Store

RECENT = 300  # incidents that are looked through, of those that fit what is typed
PATIENCE = 2.0  # seconds; a server that is away may take many more


class Offer(NamedTuple):
    """A value, what it is, and other ways to begin it: somebody may type on at a longer one."""

    value: str
    help: str = ""
    longer: str = ""


# Given what stands on the line, and how the word begins: what does not fit may be left out.
Offers = Callable[["Settings", Mapping[str, Any], str], Iterator[Offer]]


def install() -> None:
    """Let the shell that this was started from complete names and ids from now on."""
    from typer import _completion_shared as shells

    shell, path = shells.install(_shell(), "aiops", ASKED_BY_SHELL)
    print(f"{shell} completes aiops from its next start on: {path}")


def show() -> None:
    from typer import _completion_shared as shells

    script = shells.get_completion_script(
        prog_name="aiops", complete_var=ASKED_BY_SHELL, shell=_shell()
    )
    print(script)


def _shell() -> str:
    """The shell that this was started from, or else the one of the login. Raises UsageError for
    one that cannot complete."""
    from typer import _completion_shared as shells

    shell = shells._get_shell_name() or Path(os.environ.get("SHELL", "")).name
    if shell not in {known.value for known in shells.Shells}:
        raise UsageError(
            f"no completion is known for {shell or 'this shell'}", "run it in bash, zsh or fish"
        )
    return shell


def answer(program: TyperGroup) -> NoReturn:
    """Answer the shell, in the words of Typer's script for it, and end."""
    from typer import _completion_classes, completion

    _completion_classes.completion_init()
    attach(program, ())
    instruction = os.environ[ASKED_BY_SHELL]
    if instruction == "complete_bash":
        _join_equals()
    sys.exit(completion.shell_complete(program, {}, "aiops", ASKED_BY_SHELL, instruction))


def _join_equals() -> None:
    """bash gives `--action=r` as three words, of which Typer would take the last for another
    argument: as `--action r` it is understood. Its words stand one a line, or with blanks."""
    number = at = int(os.environ["COMP_CWORD"])
    kept: list[str] = []
    for place, word in enumerate(re.split(r"[ \n]", os.environ["COMP_WORDS"])):
        if word == "=" and kept[-1:] and kept[-1].startswith("--"):
            if place >= at:  # nothing stands behind it yet
                kept.append("")
            else:
                number -= 1
        else:
            kept.append(word)
    os.environ |= {"COMP_WORDS": "\n".join(kept), "COMP_CWORD": str(number)}


def attach(command: Command, path: Sequence[str]) -> None:
    """Give the parameters of the command of these names (none: of all) their values."""
    for param in command.params:
        offers = _offers(path, param.name or "")
        if offers is not None:
            # As Typer itself does for `autocompletion=`, which would have to be said with every
            # parameter of every command.
            param._custom_shell_complete = _completer(offers)


def _offers(path: Sequence[str], name: str) -> Offers | None:
    if path[:1] == ("kb",) and name in ("id_", "ids"):
        return _entries
    if path == ("auto", "revoke"):
        return _grants
    return BY_NAME.get(name)


def _completer(offers: Offers) -> Callable[[Context, Parameter, str], list[CompletionItem]]:
    def complete(ctx: Context, _param: Parameter, incomplete: str) -> list[CompletionItem]:
        from typer._click.shell_completion import CompletionItem

        from aiops_cli.pace import begun

        try:
            fitting = begun(lambda given: _fitting(offers, given, incomplete), ctx.params).result(
                PATIENCE
            )
        except Exception:  # noqa: BLE001 -- whatever is wrong, a Tab is not the place to say it
            return []
        return [CompletionItem(value, help=fitting[value] or None) for value in fitting]

    return complete


def _fitting(offers: Offers, given: Mapping[str, Any], incomplete: str) -> dict[str, str]:
    from aiops_cli import config

    settings = config.load(cwd=Path(), environ=os.environ, overrides={})
    fitting: dict[str, str] = {}
    for offer in offers(settings, given, incomplete):
        for value in (offer.value, offer.longer):
            if value and value.startswith(incomplete):
                fitting.setdefault(value, offer.help)
                break
    return fitting


def _store(settings: Settings, read: Callable[[Store], list[Offer]]) -> list[Offer]:
    """Read from a knowledge base that is there; none is made or migrated for it."""
    from aiops_cli import services

    path = settings.kb_path()
    if path is not None and not (path.exists() and _is_current(path)):
        return []
    with services.store(settings) as store:
        return read(store)


def _is_current(file: Path) -> bool:
    """Whether to open the file as a store would leave its tables as they are."""
    import apsw  # as the store itself: only where there is a file

    from knowledge.stores.sqlite_engine import APPLICATION_ID, MIGRATIONS

    newest = max(int(step.name[:4]) for step in MIGRATIONS.glob("[0-9]*.sql"))
    # Where all is in the file itself, SQLite needs, and makes, no other files beside it.
    whole = not file.with_name(f"{file.name}-wal").exists()
    uri = file.resolve().as_uri() + ("?immutable=1" if whole else "")
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        found = connection.pragma("application_id"), connection.pragma("user_version")
    finally:
        connection.close()
    return found == (APPLICATION_ID, newest)


def _incidents(settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    """The newest first, by their short ids, and their groups."""

    def read(store: Store) -> list[Offer]:
        cases = store.cases(limit=RECENT)
        groups = {case.incident.group: case for case in reversed(cases) if case.incident.group}
        ids = [case.incident.id for case in cases]
        short = store.shortest_prefixes([*ids, *filter(None, groups)])
        told = [
            Offer(short[i.id], f"{i.dag_id}.{i.task_id} {case.status}", i.id)
            for case in cases
            for i in [case.incident]
        ]
        return told + [
            Offer(short[id_], f"group: {case.incident.signature.headline}", id_)
            for id_, case in groups.items()
            if id_
        ]

    yield from _store(settings, read)


def _dags(settings: Settings, _given: Mapping[str, Any], begun: str) -> Iterator[Offer]:
    def read(store: Store) -> list[Offer]:
        cases = store.cases(dag=f"{begun}*", limit=RECENT)
        return [Offer(dag) for dag in sorted({c.incident.dag_id for c in cases}) if dag]

    yield from _store(settings, read)


def _tasks(settings: Settings, given: Mapping[str, Any], begun: str) -> Iterator[Offer]:
    """Those of the DAG that is named before them."""

    def read(store: Store) -> list[Offer]:
        named = given.get("dag") or given.get("target")
        cases = store.cases(dag=named, task=f"{begun}*", limit=RECENT)
        return [Offer(task) for task in sorted({c.incident.task_id for c in cases}) if task]

    yield from _store(settings, read)


def _dags_and_incidents(
    settings: Settings, given: Mapping[str, Any], begun: str
) -> Iterator[Offer]:
    yield from _dags(settings, given, begun)
    yield from _incidents(settings, given, begun)


def _entries(settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    yield from _store(settings, lambda store: [Offer(e.id, e.title) for e in store.entries()])


def _grants(settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    def read(store: Store) -> list[Offer]:
        standing = [grant for grant in store.grants() if grant.revoked_at is None]
        return [
            Offer(one.id, f"{','.join(one.actions)} in {','.join(one.dags)}") for one in standing
        ]

    yield from _store(settings, read)


def _actions(_settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    from aiops_cli.actions import CATALOGUE

    yield from (Offer(each.name, each.does) for each in CATALOGUE.values())


def _statuses(_settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    from knowledge.records import STATUSES

    yield from map(Offer, STATUSES)


def _kinds(_settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    yield from map(Offer, ("runbook", "incident", "history"))


def _instances(settings: Settings, _given: Mapping[str, Any], _begun: str) -> Iterator[Offer]:
    yield from (Offer(name, one.url) for name, one in settings.instances.items())


# A parameter of one name means the same in every command, but for those in `_offers`.
BY_NAME: Mapping[str, Offers] = {
    "id_": _incidents,
    "ids": _incidents,
    "target": _dags_and_incidents,
    "dag": _dags,
    "dags": _dags,
    "task": _tasks,
    "action": _actions,
    "actions": _actions,
    "status": _statuses,
    "kind": _kinds,
    "instance": _instances,
}

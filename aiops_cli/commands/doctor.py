"""`aiops doctor`: is everything there that the tool needs, and if not, what to do."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.findings import Finding, guarded
from aiops_cli.commands.output import console, print_json

if TYPE_CHECKING:
    from aiops_cli.airflow.rights import Right
    from aiops_cli.config import AirflowSettings, Settings


def doctor(
    ctx: typer.Context,
    pull: Annotated[
        bool, typer.Option("--pull", help="Fetch the models of the settings that are missing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check Airflow, the login and its rights, the knowledge base, the embedder, the model and the
    settings; say what to do. A model is asked a fixed question, twice."""
    chosen = settings(ctx, unknown="keep")  # they are among what is found
    health = examine(chosen, pull=pull)
    if json:
        print_json(
            {
                **health.document(),
                "settings": [
                    {"name": name, "value": value, "origin": origin}
                    for name, value, origin in chosen.describe()
                ],
            }
        )
    else:
        _show(chosen, health)
    if health.exit_code:
        raise typer.Exit(health.exit_code)


class Checked(NamedTuple):
    """What `examine` found. `actions` says of each action of the catalogue whether this login may
    do it: None where that is not known, or this Airflow does not offer it."""

    findings: list[Finding]
    actions: dict[str, bool | None]

    @property
    def exit_code(self) -> int:
        return min((each.exit_code for each in self.findings if each.exit_code), default=0)

    def document(self) -> dict[str, Any]:
        return {
            "checks": [
                {"name": f.name, "status": f.status, "found": f.found, "todo": f.todo or None}
                for f in self.findings
            ],
            "actions": [
                {"action": action, "allowed": allowed} for action, allowed in self.actions.items()
            ],
        }


def examine(chosen: Settings, *, pull: bool = False) -> Checked:
    """Every check, each one made whatever came of those before it. With `pull`, models that are
    missing are fetched."""
    from aiops_cli.actions import CATALOGUE
    from aiops_cli.commands import doctor_models

    actions: dict[str, bool | None] = dict.fromkeys(CATALOGUE)
    embedder = guarded("embedder", lambda: doctor_models.embedder(chosen, pull=pull))
    works = all(finding.status != "fail" for finding in embedder)
    findings = [
        *guarded("airflow", lambda: _airflow(chosen, actions)),
        *_way(chosen.instances.get(chosen.instance)),
        *guarded("knowledge base", lambda: _knowledge_base(chosen, embedder=works)),
        *embedder,
        *guarded("model", lambda: doctor_models.model(chosen, pull=pull)),
        *guarded("notify", lambda: _notify(chosen)),
        *(Finding("warn", "settings", warning) for warning in (*chosen.warnings, *chosen.unknown)),
    ]
    return Checked(findings, actions)


def show_checks(health: Checked) -> None:
    from aiops_cli.render import check_table

    console().print(check_table([finding[:4] for finding in _rights_in_one(health)]))


def _rights_in_one(health: Checked) -> list[Finding]:
    """What is missing is to be seen, not searched for among the rights that are there: those take
    one line, and the actions that they allow another."""
    there = [each for each in health.findings if each.name == "rights" and each.status == "ok"]
    if not there:
        return health.findings
    named = ", ".join(each.found.partition(":")[0] for each in there)
    allowed = ", ".join(name for name, may in health.actions.items() if may and name != "none")
    first = health.findings.index(there[0])
    rest = [each for each in health.findings[first:] if each not in there]
    rights = [
        Finding("ok", "rights", named),
        Finding("ok", "actions", f"may do {allowed or 'nothing'}"),
    ]
    return [*health.findings[:first], *rights, *rest]


def _show(chosen: Settings, health: Checked) -> None:
    from aiops_cli.screen import fields

    show_checks(health)
    told = [
        (name, f"{value}  ({origin})")
        for name, value, origin in chosen.describe()
        if origin != "default"
    ]
    out = console()
    out.print()
    out.print(fields(told or [("settings", "all default")]))


def _airflow(chosen: Settings, actions: dict[str, bool | None]) -> list[Finding]:
    """Airflow and the login; fills in `actions`."""
    from aiops_cli import services
    from aiops_cli.airflow import rights as rights_of

    airflow = services.reach(chosen.airflow(), read_only=chosen.read_only)
    findings = [Finding("ok", "airflow", f"{airflow.name}: {airflow.version()} at {airflow.url}")]
    health = airflow.health()
    findings.append(
        Finding("ok", "health", "healthy")
        if health.healthy
        else Finding("warn", "health", ", ".join(health.problems), "nothing is done alone now")
    )
    rights = airflow.rights()
    findings.append(_login(chosen, airflow.token_expires))
    findings.extend(map(_right, rights))
    if chosen.read_only:
        told = "read_only is set: nothing is ever changed in Airflow"
        findings.append(Finding("ok", "rights", told))
        actions |= dict.fromkeys(actions, False) | {"none": True}
    else:
        actions |= rights_of.permitted(rights)
    return findings


def _way(airflow: AirflowSettings | None) -> list[Finding]:
    """What makes the way to Airflow unsafe, as the settings have it."""
    from aiops_cli.airflow.client import is_loopback

    if airflow is None:
        return []
    if not airflow.verify_tls:
        return [
            Finding(
                "warn",
                "tls",
                "airflow.verify_tls is false: WHOEVER IS ON THE WAY CAN READ AND CHANGE ALL, "
                "your login too",
                "set airflow.ca_file to your company's CA and remove airflow.verify_tls",
            )
        ]
    if airflow.url.startswith("http:") and not is_loopback(airflow.url):
        told = "http, not https: the login travels in clear"
        return [Finding("warn", "tls", told, "use https if Airflow has it")]
    return []


def _login(chosen: Settings, expires: datetime | None) -> Finding:
    from aiops_cli.airflow.login import WARN_BEFORE, span

    if expires is None:
        return Finding("ok", "login", "accepted")
    left = expires - datetime.now(timezone.utc)
    if left.total_seconds() <= 0:  # by this machine's clock
        told = f"accepted, though its token expired {span(-left)} ago by this machine's clock"
        return Finding("warn", "login", told, "check the clock; get a new token")
    told = f"accepted; its token expires in {span(left)}"
    if not chosen.airflow().token:
        return Finding("ok", "login", f"{told} and is renewed by itself")
    todo = "a token command is run again by itself: airflow.token_command"
    return Finding("warn" if left < WARN_BEFORE else "ok", "login", told, todo)


def _right(right: Right) -> Finding:
    from aiops_cli.airflow.rights import CLEAR

    if right.allowed is None:
        return Finding(
            "info", "rights", f"{right.name}: {right.problem}", f"needed for: {right.use}"
        )
    if right.allowed:
        return Finding("ok", "rights", f"may {right.name}: {right.use}")
    # A login that cannot edit connections and the like is no defect: few should.
    status = "warn" if right.role == "Viewer" or right.name == CLEAR else "info"
    todo = f"needed for: {right.use}; the role {right.role} has it"
    return Finding(status, "rights", f"may not {right.name}", todo)


def _notify(chosen: Settings) -> list[Finding]:
    """Which services people are told by, and that their addresses make sense: an address holds a
    key, so only its kind is shown. Nothing is sent."""
    from collections import Counter

    from aiops_cli import services

    if services.notifier(chosen) is None:
        return []
    kinds = Counter(url.partition("://")[0] for url in chosen.notify)
    told = ", ".join(f"{kind} ×{count}" if count > 1 else kind for kind, count in kinds.items())
    return [Finding("ok", "notify", f"watch tells people by {told}; nothing was sent now")]


def _knowledge_base(chosen: Settings, *, embedder: bool) -> list[Finding]:
    """The store and, where the `embedder` works, whether the vectors in it are its own; then what
    ships with aiops is in it, too."""
    from aiops_cli import services
    from aiops_cli.commands import doctor_models
    from knowledge.base import KnowledgeBase

    mismatch = []
    with services.store(chosen) as store:
        if embedder:
            with closing(services.embedder(chosen)) as made:
                ours = KnowledgeBase(store, made).space
            mismatch = doctor_models.matching(store.vector_space(), ours)
            if not mismatch:
                with services.knowledge(chosen, store):
                    pass
        count, pause = len(store.entries()), store.pause()
        findings = [Finding("ok", "knowledge base", f"{store.location}, {count} entries")]
    if not count:
        todo = "aiops kb seed PATH reads your runbooks"
        findings.append(Finding("warn", "knowledge base", "knows nothing yet", todo))
    if pause.paused:
        findings.append(Finding("warn", "pause", f"paused by {pause.by}", "aiops resume"))
    return [*findings, *mismatch]

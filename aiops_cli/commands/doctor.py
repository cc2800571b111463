"""`aiops doctor`: is everything there that the tool needs, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import AiopsError, KnowledgeBaseError, ModelError
from knowledge.errors import KnowledgeError

if TYPE_CHECKING:
    from aiops_cli.config import Settings


class Finding(NamedTuple):
    """One check: ok, warn or fail; what was found; what to do about it."""

    status: str
    name: str
    found: str
    todo: str = ""
    exit_code: int = 0


def doctor(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check Airflow, the knowledge base, the embedder and the settings; say what to do."""
    chosen = settings(ctx)
    findings = [
        *_guarded("airflow", lambda: _airflow(chosen)),
        *_guarded("knowledge base", lambda: _knowledge_base(chosen)),
        *_guarded("model", lambda: _model(chosen)),
        *(Finding("warn", "settings", warning) for warning in chosen.warnings),
    ]
    if json:
        print_json(
            {
                "checks": [
                    {"name": f.name, "status": f.status, "found": f.found, "todo": f.todo or None}
                    for f in findings
                ],
                "settings": [
                    {"name": name, "value": value, "origin": origin}
                    for name, value, origin in chosen.describe()
                ],
            }
        )
    else:
        _show(chosen, findings)
    code = max((finding.exit_code for finding in findings), default=0)
    if code:
        raise typer.Exit(min(f.exit_code for f in findings if f.exit_code))


def _show(chosen: Settings, findings: list[Finding]) -> None:
    from aiops_cli.render import check_table
    from aiops_cli.screen import fields

    out = console()
    out.print(check_table([finding[:4] for finding in findings]))
    told = [
        (name, f"{value}  ({origin})")
        for name, value, origin in chosen.describe()
        if origin != "default"
    ]
    out.print()
    out.print(fields(told or [("settings", "all default")]))


def _guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that fails is a finding, and the next one still runs."""
    try:
        return check()
    except AiopsError as error:
        return [Finding("fail", name, error.message, error.hint, error.exit_code)]
    except KnowledgeError as error:
        return [Finding("fail", name, error.message, error.hint, KnowledgeBaseError.exit_code)]


def _airflow(chosen: Settings) -> list[Finding]:
    from aiops_cli import services

    airflow = services.airflow(chosen)
    findings = [Finding("ok", "airflow", f"{airflow.name}: {airflow.version()} at {airflow.url}")]
    health = airflow.health()
    findings.append(
        Finding("ok", "health", "healthy")
        if health.healthy
        else Finding("warn", "health", ", ".join(health.problems), "nothing is done alone now")
    )
    rights = airflow.rights()
    findings.append(Finding("ok", "login", "accepted"))
    if chosen.read_only:
        findings.append(Finding("ok", "rights", "read_only is set: nothing is ever changed"))
    else:
        findings.extend(
            Finding("ok", "rights", f"may {what}")
            if allowed
            else Finding("warn", "rights", f"may not {what}", f"needed for: {use}")
            for what, use, allowed in rights
        )
    return findings


def _knowledge_base(chosen: Settings) -> list[Finding]:
    from aiops_cli import services

    with services.knowledge_base(chosen) as knowledge:
        count = len(knowledge.store.entries())
        space = knowledge.store.vector_space()
        pause = knowledge.store.pause()
        findings = [Finding("ok", "knowledge base", f"{knowledge.store.location}, {count} entries")]
        if not count:
            todo = "aiops kb seed PATH reads your runbooks"
            findings.append(Finding("warn", "knowledge base", "knows nothing yet", todo))
        if space is not None and space != knowledge.space:
            raise KnowledgeBaseError(
                f"its vectors come from {space.embedder}, not from {knowledge.space.embedder}",
                f"set AIOPS_EMBEDDER={space.embedder}",
            )
    findings.append(Finding("ok", "embedder", knowledge.space.embedder))
    if pause.paused:
        findings.append(Finding("warn", "pause", f"paused by {pause.by}", "aiops resume"))
    return findings


def _model(chosen: Settings) -> list[Finding]:
    if chosen.llm == "none":
        return [Finding("ok", "model", "none: failures are recognised, not guessed at")]
    raise ModelError(f"{chosen.llm} is not available in this version", "set AIOPS_LLM=none")

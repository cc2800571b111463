"""One file a command or group: parse, open services, call, print. main.py has their table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from aiops_cli.config import Settings


ASKED_BY_SHELL = "_AIOPS_COMPLETE"  # set by the script that a shell has read for completion


@dataclass(frozen=True)
class Invocation:
    """What a command was called with beside its own options; kept as `typer.Context.obj`."""

    environ: Mapping[str, str]
    cwd: Path
    instance: str | None = None


def settings(
    ctx: typer.Context,
    *,
    unknown: Literal["tell", "refuse", "keep"] = "tell",
    **flags: str | None,
) -> Settings:
    """The settings of this call; `flags` are the command's own, such as mode="shadow", and None
    where one was not given. `unknown` says what becomes of a variable that is no setting: what
    changes Airflow refuses it, as every command refuses a file's unknown key, for it may have been
    meant to keep it from that. Raises ConfigError."""
    from aiops_cli import config  # --help does without
    from aiops_cli.errors import ConfigError

    called = ctx.obj
    assert isinstance(called, Invocation)  # noqa: S101 -- main.py sets it; narrows the type
    chosen = config.load(
        cwd=called.cwd, environ=called.environ, overrides={"instance": called.instance, **flags}
    )
    if chosen.unknown and unknown == "refuse":
        raise ConfigError(
            "; ".join(chosen.unknown),
            "nothing was done: correct it or unset it; aiops doctor --json has all settings",
        )
    if unknown == "tell":
        for text in chosen.unknown:
            typer.echo(f"warning: {text}", err=True)
    return chosen

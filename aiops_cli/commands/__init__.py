"""One file a command or group: parse, open services, call, print. main.py has their table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from aiops_cli.config import Settings


ASKED_BY_SHELL = "_AIOPS_COMPLETE"  # set by the script that a shell has read for completion


@dataclass(frozen=True)
class Invocation:
    """What a command was called with beside its own options; kept as `typer.Context.obj`."""

    environ: Mapping[str, str]
    cwd: Path
    instance: str | None = None


def settings(ctx: typer.Context, **flags: str | None) -> Settings:
    """The settings of this call; `flags` are the command's own, such as mode="shadow", and None
    where one was not given. Raises ConfigError."""
    from aiops_cli import config  # --help does without

    called = ctx.obj
    assert isinstance(called, Invocation)  # noqa: S101 -- main.py sets it; narrows the type
    return config.load(
        cwd=called.cwd, environ=called.environ, overrides={"instance": called.instance, **flags}
    )

"""The models that `aiops init` offers: those of an Ollama that answers, and none before that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from aiops_cli.commands.asking import ask, tell
from aiops_cli.errors import ConfigError, UsageError
from knowledge.errors import ModelUnavailable

if TYPE_CHECKING:
    from aiops_cli.config import Settings

# Listing what is installed loads nothing; whoever needs longer is not to be waited for.
_PATIENCE = timedelta(seconds=3)


class Installed(NamedTuple):
    """The models of an Ollama that can complete a text, and those that make vectors of one."""

    url: str
    completing: tuple[str, ...]
    embedding: tuple[str, ...]


def installed(now: Settings) -> Installed | None:
    """None where no Ollama answers soon, or where nobody has allowed to ask that one."""
    from aiops_cli import services

    can = {}
    try:
        with services.ollama(replace(now, llm_timeout=_PATIENCE), "") as client:
            for name in client.models():
                with suppress(ModelUnavailable):  # in a cloud, and nobody has allowed it
                    can[name.removesuffix(":latest")] = client.show(name).capabilities
            url = client.url
    except (ConfigError, ModelUnavailable):
        return None
    # An old Ollama does not tell what a model can do.
    completing = tuple(name for name, words in can.items() if "completion" in words or not words)
    embedding = tuple(name for name, words in can.items() if "embedding" in words or not words)
    return Installed(url, completing, embedding)


def choose(title: str, bare: str, names: Sequence[str], now: str) -> str:
    """The setting's new value: `bare` or one of the models, by the number that is typed. Raises
    UsageError for anything else."""
    values = list(dict.fromkeys([bare, *(f"ollama:{name}" for name in names), now]))
    tell(f"\n{title}")
    for number, value in enumerate(values):
        tell(f"  {number}  {value}")
    answer = ask("Which", str(values.index(now)))
    if not answer.isdecimal() or int(answer) >= len(values):
        raise UsageError(f"{answer!r} is none of these", "answer with a number")
    return values[int(answer)]


def must_be_installed(now: Settings, value: str) -> None:
    """Raises ConfigError where it is refused and ModelUnavailable where it cannot be had."""
    from aiops_cli import services

    prefix, _, name = value.partition(":")
    if prefix == "ollama":
        with services.ollama(now, name) as client:
            client.show(name)

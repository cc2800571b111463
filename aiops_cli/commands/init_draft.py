"""The settings as `aiops init` would write them, and the writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aiops_cli.commands import output
from aiops_cli.commands.asking import tell
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from aiops_cli.config import AirflowSettings, Settings

LOGIN_KEYS = ("token", "token_command", "client_id", "client_secret", "username", "password")
OWN_KEYS = ("kb", "llm", "embedder")  # of no Airflow
Given = str | Mapping[str, str] | None  # headers are names with texts
# What belongs to one address and must not be sent to another.
_ADDRESS_KEYS = (*LOGIN_KEYS, "headers", "cookie", "cert_file", "key_file")


@dataclass
class Draft:
    """The settings as they would be, and what of them is to be written: key -> text, None where
    it is to be taken out of the file."""

    start: AirflowSettings  # as the settings have it now
    kb: str

    def __post_init__(self) -> None:
        self.airflow = self.start
        self.changes: dict[str, Given] = {}

    def set(self, **texts: Given) -> None:
        """Take on keys of `airflow:`. Raises UsageError for a text that is no such value."""
        from aiops_cli.config_table import BY_NAME

        values: dict[str, Any] = {}
        for key, text in texts.items():
            try:
                values[key] = None if text is None else BY_NAME[f"airflow.{key}"].parse(text)
            except ValueError as error:
                raise UsageError(f"airflow.{key}: {error}") from None
        if "headers" in values:
            values["headers"] = values["headers"] or {}
        self.airflow = replace(self.airflow, **values)
        # An address is written as it is understood: without /api/v2, without a slash behind it.
        self.changes |= texts | ({"url": values["url"]} if "url" in values else {})

    def set_url(self, url: str) -> None:
        """The address; another one than now, no login of the old one may reach."""
        self.airflow, self.changes = self.start, {}
        self.set(url=url)
        if self.start.url not in ("", self.airflow.url):
            self.set(**dict.fromkeys(_ADDRESS_KEYS))

    def set_login(self, **texts: str) -> None:
        """One way to log in, in the place of any other."""
        self.set(**{**dict.fromkeys(LOGIN_KEYS), **texts})


def write(path: Path, now: Settings, draft: Draft, *, ask: bool) -> list[str]:
    """Write what differs, after a yes where there is a file already. The names that changed."""
    from aiops_cli import config_write
    from aiops_cli.config_table import DEFAULT_INSTANCE

    own = now.instance == DEFAULT_INSTANCE
    section = ("airflow",) if own else ("instances", now.instance)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    there = config_write.values(text, path)
    changes = {
        keys: value
        for key, value in draft.changes.items()
        for keys in [(key,) if key in OWN_KEYS else (*section, key)]
        if there.get(keys) != value
    }
    names = [".".join(keys) for keys in changes]
    if not changes:
        tell(f"\n{path} stays as it is.")
        return []
    edited = config_write.edited(text, changes, path)
    tell(f"\n{'Changes in' if text else 'Into'} {path}:")
    for name, (keys, value) in zip(names, changes.items(), strict=True):
        tell(f"  {name}: {_shown(keys[-1], value, there.get(keys))}")
    if text and not edited.whole:
        tell(f"  its comments cannot be kept; the file as it is now stays as {path.name}.bak")
    if text and ask:
        with no_settings_if_stopped():
            agreed = output.confirm("Write them?")
        if not agreed:
            tell("  no settings are written")
            raise typer.Exit
    if text and not edited.whole:
        config_write.write_private(path.with_name(f"{path.name}.bak"), text)
    config_write.write_private(path, edited.text)
    tell("  written, readable by you alone\n")
    return names


@contextmanager
def no_settings_if_stopped() -> Iterator[None]:
    """Around questions that come before the writing: Ctrl-C and Ctrl-D end the program."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        tell("no settings are written: aiops init asks anew")
        raise typer.Exit(output.INTERRUPTED) from None


def _shown(key: str, value: Given, old: object) -> str:
    """A change, its secrets not shown."""
    from aiops_cli.config_table import BY_NAME

    secret = BY_NAME[key if key in OWN_KEYS else f"airflow.{key}"].secret or "@" in f"{value}{old}"
    if value is None:
        return "removed"
    if secret:
        return "set, not shown"
    return str(value) if old is None else f"{old} → {value}"

"""The environment's part of the settings: variables, and files that variables name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiops_cli.config_table import SETTINGS, Setting
from aiops_cli.errors import ConfigError


def variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    """(Where from, text) of every setting that has a variable, by the setting's name.

    What may hold a password can stand in a file that NAME_FILE names, as Docker and Kubernetes
    hand secrets over. Raises ConfigError for a file that cannot be read, or named in vain.
    """
    return {setting.name: _of(setting, setting.env, environ) for setting in SETTINGS if setting.env}


def _of(setting: Setting, name: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    # An empty variable is one that is not set; an empty flag is a mistake in a script.
    text = environ.get(name) or None
    file = environ.get(f"{name}_FILE") if _may_be_in_a_file(setting) else None
    if not file:
        return f"environment {name}", text
    if text is not None:
        raise ConfigError(f"{name} and {name}_FILE are both set", "unset one of them")
    try:
        text = Path(file).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{name}_FILE: {file} cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"{name}_FILE: {file} holds bytes that are no text") from None
    if not text:
        raise ConfigError(f"{name}_FILE: {file} is empty")
    return f"environment {name}_FILE", text


def _may_be_in_a_file(setting: Setting) -> bool:
    return setting.secret or setting.name == "kb"


def names() -> list[str]:
    """Every variable that is read."""
    with_one = [setting for setting in SETTINGS if setting.env]
    files = [f"{setting.env}_FILE" for setting in with_one if _may_be_in_a_file(setting)]
    return ["AIOPS_CONFIG", *(str(setting.env) for setting in with_one), *files]


# Kubernetes tells each container of every service: one that is named aiops begins like a setting.
_OF_OTHERS = re.compile(
    r"AIOPS_(TEST|E2E)_|AIOPS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=|PORT(_\w+)?=(tcp|udp|sctp)://|"
    r"PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=)"
)


def unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A word on every variable that looks like a setting and is none. An empty one is not set."""
    known = names()
    return tuple(
        f"environment {name} is not a setting{_meant(name)}"
        for name, text in sorted(environ.items())
        if name.startswith("AIOPS_")
        and text
        and name not in known
        and not _OF_OTHERS.match(f"{name}={text}")
    )


def _meant(name: str) -> str:
    """A question for who has mistyped a variable, or has made one of what only a file may say."""
    words: dict[str, str] = {}
    for setting in SETTINGS:
        word = setting.env or f"`{setting.name}` of the settings file"
        own = setting.name.upper().replace(".", "_")
        for spelling in (word, f"AIOPS_{own}", f"AIOPS_{setting.name.rpartition('.')[2].upper()}"):
            words.setdefault(spelling.removeprefix("AIOPS_"), word)
    return nearest(name.removeprefix("AIOPS_"), words)


def nearest(name: str, known: Mapping[str, str]) -> str:
    """A question for who has mistyped one of the known names, told by its word, or ""."""
    import difflib  # only for a mistake

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else ""

"""What a setting's value may look like: text in, value out. Pure.

Each raises ValueError whose text says what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from knowledge.records import ACTIONS

_TEN_YEARS = 3650 * 86400  # longer ones leave the calendar when they are taken from a date


def text(text: str) -> str:
    if not text.strip():
        raise ValueError("expected text")
    return text.strip()


def name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("expected a name of letters, digits, - and _")
    return text


def flag(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True}
    known |= {"false": False, "no": False, "off": False, "0": False}
    if text.strip().lower() not in known:
        raise ValueError("expected true or false")
    return known[text.strip().lower()]


def stop(text: str) -> bool:
    """A kill switch: whatever does not clearly say no, stops."""
    return text.strip().lower() not in {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Choice:
    """Reads one of these words."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.words:
            raise ValueError("expected one of " + ", ".join(self.words))
        return text


def whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


# Questions at once. A thread each here, and one of the few that an Airflow's API server has (its
# default is one worker process): more only wait there, before what other people ask.
MOST_AT_ONCE = 32


def at_once(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_AT_ONCE:
        raise ValueError(f"expected a whole number from 1 to {MOST_AT_ONCE}")
    return int(text)


def share(text: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", text) or float(text) > 1:
        raise ValueError("expected a number from 0 to 1, such as 0.80")
    return float(text)


def duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip())
    unit = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    seconds = int(found[1]) * unit[found[2]] if found else 0
    if not 0 < seconds <= _TEN_YEARS:
        raise ValueError("expected a duration such as 90 (seconds), 15m, 24h or 2d")
    return timedelta(seconds=seconds)


def url(text: str) -> str:
    expected = "expected an address such as https://airflow.example.com"
    try:
        parts = urlsplit(text.strip())
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        raise ValueError(expected) from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected no login inside the address; set username and password instead")
    strange = re.search(r"[\x00-\x20\x7f\\]", text.strip())
    if "://" not in text:
        raise ValueError(f"{expected}: http:// or https:// is missing")
    if parts.scheme not in ("http", "https") or not parts.hostname or strange:
        raise ValueError(expected)
    if parts.query or parts.fragment:
        raise ValueError("expected an address without ? and #")
    path = parts.path.rstrip("/").removesuffix("/api/v2").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def kb(text: str) -> str:
    text = text.strip()
    if text.startswith(("postgresql://", "postgres://")):
        return text
    path = Path(text.removeprefix("sqlite:///"))
    with suppress(RuntimeError):  # no home; refused below, being relative
        path = path.expanduser()
    if not text.startswith("sqlite:///") or path == Path():
        raise ValueError("expected sqlite:////absolute/path/knowledge.db or postgresql://…")
    if not path.is_absolute():
        # Relative to whichever folder one stands in would be many half-empty memories.
        raise ValueError(f"expected an absolute path: sqlite:////{path} has four slashes")
    return f"sqlite:///{path}"


@dataclass(frozen=True)
class Model:
    """Reads a model's name: the word for the one that needs no server, or one of Ollama's."""

    bare: str

    def __call__(self, text: str) -> str:
        if text != self.bare and not re.fullmatch(r"ollama:\S+", text):
            raise ValueError(f"expected {self.bare} or ollama:MODEL")
        return text


def file(text: str) -> Path:
    path = Path(text.strip())
    with suppress(RuntimeError):  # no home; refused below, being relative
        path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("expected an absolute path, such as /etc/ssl/company.pem")
    return path


def proxy(text: str) -> str:
    """A proxy's address; unlike others it may hold a login, which has no other place."""
    try:
        parts = urlsplit(text.strip())
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port is not None
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f\\]", text.strip()):
        raise ValueError("expected an address such as http://proxy.example.com:3128")
    return text.strip()


def header(text: str) -> str:
    """What may stand behind a header's name; a line break would begin another header."""
    if not re.fullmatch(r"[\x20-\x7e\t]+", text) or not text.strip():
        raise ValueError("expected one line of ASCII text")
    return text.strip()


def headers(given: Mapping[str, str]) -> dict[str, str]:
    for key, value in given.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key):  # RFC 9110, 5.6.2
            raise ValueError("expected header names of letters, digits and -")
        header(value)
    return {key: value.strip() for key, value in given.items()}


@dataclass(frozen=True)
class BoundFor:
    """A bound for some failures only: those of an error class, or of DAGs that fit a glob."""

    kind: str  # error or dag
    pattern: str
    bound: float


def bounds_for(given: Mapping[str, str]) -> tuple[BoundFor, ...]:
    found = []
    for key, value in given.items():
        kind, _, pattern = key.partition(":")
        if kind not in ("error", "dag") or not pattern.strip():
            raise ValueError("expected names such as error:TimeoutError and dag:payments_*")
        found.append(BoundFor(kind, pattern.strip(), share(value)))
    return tuple(found)


WHO = ("nobody", "person", "alone")
NEVER_ALONE = ("mark_success", "mark_skipped")  # nothing can put them back


def who_may(given: Mapping[str, str]) -> dict[str, str]:
    """For actions who may do them: nobody, a person, or the tool alone (which still needs a grant
    and the record)."""
    actions(tuple(given))
    for name, who in given.items():
        if who not in WHO:
            raise ValueError("expected nobody, person or alone")
        if who == "alone" and name in NEVER_ALONE:
            raise ValueError(f"expected nobody or person: {name} is never done alone")
    return dict(given)


def actions(items: tuple[str, ...]) -> tuple[str, ...]:
    if not set(items) <= set(ACTIONS) - {"none"}:
        raise ValueError("expected actions, such as update_connection")
    return items


def patterns(items: tuple[str, ...]) -> tuple[str, ...]:
    if not all(item.strip() for item in items):
        raise ValueError("expected no empty pattern")
    return tuple(item.strip() for item in items)


def services(items: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses as apprise has them; which services there are only apprise knows."""
    if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", item.strip()) for item in items):
        raise ValueError("expected addresses such as slack://… or mailto://…")
    return tuple(item.strip() for item in items)

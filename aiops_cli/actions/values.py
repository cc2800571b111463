"""Values that an action may write: known shapes only, checked before anything is asked. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiops_cli.errors import UsageError
from aiops_cli.incidents import MASK
from knowledge.redact import clean, redact

# A name without scheme, port or path (RFC 1123 with underscores, as container networks have them).
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
PORTS = range(1, 65536)
MOST_SLOTS = 1_000_000
CONNECTION_FIELDS = ("host", "port", "schema", "login")


def connection_fields(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a connection that params name, those of its extra as `extra.NAME`. Raises
    UsageError for a value that none can have."""
    fields: dict[str, Any] = {}
    for name in CONNECTION_FIELDS:
        if name in params:
            fields[name] = _field(name, params[name])
    for name, value in json_object(
        "extra", params.get("extra", {}), '{"sslmode": "require"}'
    ).items():
        fields[f"extra.{name}"] = plain_value(f"extra.{name}", value)
    return fields


def _field(name: str, value: Any) -> Any:
    if name == "port":
        return whole_number(name, value, PORTS.start, PORTS.stop - 1)
    text = str(plain_value(name, value))
    if name == "host" and not (_HOST.fullmatch(text) or _is_ipv6(text)):
        raise UsageError(f"host={text!r} is no host name or address", "without scheme and port")
    if not text:
        raise UsageError(f"{name} is empty", "leave it out to keep what is there")
    return text


def _is_ipv6(text: str) -> bool:
    import ipaddress  # 3 ms, and few hosts are one

    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def json_object(name: str, value: Any, example: str) -> Mapping[str, Any]:
    """The value, or what its text says. Raises UsageError, with an `example`, for all else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} is no JSON object", f"such as --set '{name}={example}'")
    return value


def pool_slots(params: Mapping[str, Any]) -> int:
    """Raises UsageError."""
    return whole_number("slots", params["slots"], 1, MOST_SLOTS)


def conf_object(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run of another DAG is given, {} by default. Raises UsageError."""
    conf = json_object("conf", params.get("conf") or {}, '{"day": "2026-01-31"}')
    plain_value("conf", conf)
    return conf


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"{name}={text!r} is no whole number", f"{least} to {most}")
    if not least <= int(text) <= most:
        raise UsageError(f"{name}={text} is out of range", f"{least} to {most}")
    return int(text)


def plain_value(name: str, value: Any) -> Any:
    """The value, which is kept with the decision and shown: it must be nobody's secret. Raises
    UsageError."""
    text = value if isinstance(value, str) else json.dumps(value)
    if MASK in text:
        raise UsageError(
            f"the value of {name} holds {MASK}, which is what Airflow shows of a secret",
            "give the value itself",
        )
    if found := re.search(r"<redacted:\w+>", text):  # such as a draft that was kept of triage
        raise UsageError(
            f"the value of {name} holds {found[0]}, which aiops has put in the place of a secret",
            "set it in Airflow yourself, then approve with --action retry",
        )
    # By itself or beside its name: `password=…` is a secret whatever it says.
    if redact(text) != text or redact(f"{name}={text}") != f"{name}={text}":
        raise UsageError(
            f"the value of {name} looks like a secret, and aiops keeps and shows what it does",
            "set it in Airflow yourself, then approve with --action retry",
        )
    if clean(text) != text:
        raise UsageError(f"the value of {name} holds control characters", "give it without them")
    return value


def names(value: Any) -> tuple[str, ...]:
    """Names as a list (in a runbook) or separated by commas (on the command line)."""
    found = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(dict.fromkeys(name for name in (str(one).strip() for one in found) if name))

"""Which failures are one storm: the key of what they share. Pure.

A shared cause goes before the signature: ten tasks of ten DAGs that cannot reach one host fail
in ten ways and have one cause.
"""

from __future__ import annotations

import re
from datetime import timedelta

from knowledge.records import Excerpt, Signature, short_hash
from knowledge.signature import LOST

# Failures of one key that follow each other within this time are one group.
TOGETHER = timedelta(minutes=30)

# What only a service that does not answer brings about; what it answers otherwise is about the
# request, not about the host.
_UNREACHED = re.compile(
    r"(?i)connection (?:refused|reset|aborted|timed out)|timed? ?out|unreachable|"
    r"no route to host|name or service not known|name resolution|could not translate host|"
    r"could not resolve|max retries exceeded|remote end closed|service unavailable|"
    r"bad gateway|gateway time-?out|\b50[234]\b"
)
_HOST = (
    # host='db', port=5432 (urllib3, drivers) · server at "db" (10.0.0.1), port 5432 (libpq)
    re.compile(
        r"host=['\"](?P<host>[\w.-]+)['\"], port=(?P<port>\d+)"
        r"|server at \"(?P<server>[\w.-]+)\"[^,]{0,60}, port (?P<pg>\d+)"
    ),
    re.compile(r"https?://(?:[^\s/@]+@)?(?P<netloc>[\w.-]+(?::\d+)?)"),
    re.compile(r"\b(?P<pair>[A-Za-z][\w-]*(?:\.[\w-]+)*:\d{2,5})\b"),
)
_LOCAL = re.compile(r"^(?:localhost|127\.|0\.0\.0\.0)")


def group_key(signature: Signature, excerpt: Excerpt, hostname: str | None) -> str:
    """ "worker:…", "host:…" or "signature:…"; "" where nothing is known that could be shared."""
    if signature.error_class == LOST and hostname:
        return f"worker:{hostname}"
    host = _unreached_host(signature, excerpt)
    if host:
        return f"host:{host}"
    return f"signature:{signature.fingerprint}" if signature.fingerprint else ""


def _unreached_host(signature: Signature, excerpt: Excerpt) -> str:
    """The host that did not answer, as the lines around the headline name it."""
    lines = excerpt.text.split("\n")
    at = (signature.line or 1) - 1
    near = "\n".join([signature.headline, *lines[max(0, at - 3) : at + 4]])
    if not _UNREACHED.search(near):
        return ""
    for pattern in _HOST:
        for found in pattern.finditer(near):
            parts = [part for part in found.groups() if part]
            host = ":".join(parts)
            # Each worker has a localhost of its own: it is no shared host.
            if not _LOCAL.match(host) and not re.search(r"\.py:\d+$", host):
                return host.lower()
    return ""


def new_group(instance: str, key: str, first_incident: str) -> str:
    """The id of the group that this incident opens."""
    return short_hash("group", instance, key, first_incident)


def title(key: str) -> str:
    """What a group shares, for a person."""
    kind, _, what = key.partition(":")
    return {"worker": f"worker {what} lost", "host": f"{what} does not answer"}.get(kind, "")

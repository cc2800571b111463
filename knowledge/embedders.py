"""Texts → unit vectors."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Turns texts into unit vectors; `bound` is the similarity measured safe for it."""

    name: str
    dimensions: int
    bound: float

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """One unit vector ('f') a text; a zero vector for an empty one."""


class BuiltinEmbedder:
    """Hashed character n-grams."""

    name = "builtin"
    dimensions = 1024
    bound = 0.9

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """See Embedder."""
        raise NotImplementedError


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two unit vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True))

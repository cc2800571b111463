"""Excerpt text → Signature; pure."""

from __future__ import annotations

from collections.abc import Sequence

from knowledge.records import Signature

SIGNATURE_VERSION = 1


def sign(text: str, numbers: Sequence[int] = ()) -> Signature:
    """The signature of a failure's excerpt. Never raises; linear in `text`."""
    raise NotImplementedError

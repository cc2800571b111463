"""Texts → tokens for full-text search: one tokeniser for every store. Pure."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_PLACEHOLDER = re.compile(r"<[a-z]{1,8}>")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARTS = re.compile(r"[^.\-_]+")


def tokenize(text: str) -> list[str]:
    """The tokens of a text for full-text search, the same on every store, in their order.

    Lower case, of letters, digits and `_ . -` only. A dotted, dashed or CamelCase name stands
    whole and in its parts (`errors.UniqueViolation` → errors.uniqueviolation, errors, unique,
    violation), codes stand whole (ora-01017); placeholders are left out.
    """
    tokens: list[str] = []
    for raw in _NAME.findall(_PLACEHOLDER.sub(" ", text)):
        whole = raw.lower()
        tokens.append(whole)
        parts = [part.lower() for piece in _PARTS.findall(raw) for part in _CAMEL.split(piece)]
        if len(parts) > 1:
            tokens.extend(parts)
    return tokens

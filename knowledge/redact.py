"""Secrets and terminal control out of text, before it is stored, embedded, sent or shown."""

from __future__ import annotations


def clean(text: str) -> str:
    """Text without terminal escapes, control characters (but tab and newline) and bidi marks."""
    return text


def redact(text: str) -> str:
    """Text with every secret replaced by `<redacted:kind>`. Clean first, then redact."""
    return text

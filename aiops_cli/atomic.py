"""Files that are written whole or not at all, and that only their owner may read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def private_file(path: Path) -> Iterator[TextIO]:
    """What is written takes the place of `path` once it is on the disk, mode 0600. Raises OSError;
    whatever ends it early leaves what was there."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:  # Ctrl-C too: nothing half-written stays
        part.unlink(missing_ok=True)
        raise

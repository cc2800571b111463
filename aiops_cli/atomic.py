"""Files that are written whole or not at all; most of them only their owner may read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path, *, mode: int) -> Iterator[TextIO]:
    """What is written takes the place of `path` once it is on the disk, with this mode whatever
    the umask. Raises OSError; whatever ends it early leaves what was there."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.chmod(mode)
        part.replace(path)
    except BaseException:  # Ctrl-C too: nothing half-written stays
        part.unlink(missing_ok=True)
        raise


def private_file(path: Path) -> AbstractContextManager[TextIO]:
    """As `whole_file`, and only its owner may read it."""
    return whole_file(path, mode=0o600)

"""`aiops kb export` and `import`: knowledge as JSONL, from one knowledge base into another."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import UsageError


def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; - is stdout.")] = Path("-"),
) -> None:
    """Write all that is known, with the incidents and decisions it rests on, one JSON object a
    line. Incidents that are being acted on, claims, grants and holds are left out."""
    from aiops_cli import services
    from knowledge.moving import export as documents

    with services.store(settings(ctx)) as store:
        if file == Path("-"):
            count = _write(documents(store), sys.stdout)
        else:
            count = _write_file(documents(store), file)
    console(stderr=True).print(f"{count} lines written")


def _write(documents: Iterator[dict[str, Any]], out: TextIO) -> int:
    count = 0
    for document in documents:
        out.write(json_.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")
        count += 1
    out.flush()
    return count


def _write_file(documents: Iterator[dict[str, Any]], file: Path) -> int:
    """Whole or not at all, and readable to nobody else: it holds log excerpts."""
    from aiops_cli.atomic import private_file

    try:
        with private_file(file) as out:
            count = _write(documents, out)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "name another place"
        ) from error
    return count


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="What export wrote; - is stdin.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add what another knowledge base exported. What is known here stays as it is, so that doing
    it twice changes nothing; a file that is damaged is refused whole."""
    from aiops_cli import services
    from knowledge.moving import NotAnExport, take_in

    chosen = settings(ctx)
    lines = _Lines(file)
    with services.store(chosen) as store, services.knowledge(chosen, store) as knowledge:
        try:
            done = take_in(
                knowledge, store, lines.documents(), chosen.user, services.SystemClock().now()
            )
        except NotAnExport as error:
            raise UsageError(
                f"{file}:{lines.number}: {error}",
                "nothing was stored; import takes what aiops kb export wrote, unchanged",
            ) from error
    if json:
        print_json(
            {
                "entries": {"added": done.entries, "known": done.entries_known},
                "incidents": {"added": done.incidents, "known": done.incidents_known},
            }
        )
    else:
        console().print(
            f"{done.entries} entries and {done.incidents} incidents added; "
            f"{done.entries_known} and {done.incidents_known} were known, and stay as they are"
        )


class _Lines:
    """The objects of a file, and the number of the line that was read last."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.number = 0

    def documents(self) -> Iterator[dict[str, Any]]:
        import io
        import shutil
        import tempfile

        try:
            if self.file == Path("-"):
                # To its end first: a pipe may stand still, and while rows are being stored nobody
                # else can write.
                with io.TextIOWrapper(tempfile.TemporaryFile(), encoding="utf-8") as copy:
                    shutil.copyfileobj(sys.stdin.buffer, copy.buffer)
                    copy.seek(0)
                    yield from self._read(copy)
            else:
                with self.file.open(encoding="utf-8") as opened:
                    yield from self._read(opened)
        except OSError as error:
            raise UsageError(
                f"{self.file} cannot be read: {error.strerror}", "check the path"
            ) from error

    def _read(self, opened: TextIO) -> Iterator[dict[str, Any]]:
        from knowledge.moving import NotAnExport

        try:
            for line in opened:
                self.number += 1
                if line.strip():
                    yield json_.loads(line)
        except (ValueError, RecursionError) as error:  # not UTF-8, or not JSON
            raise NotAnExport(f"not a JSON object: {error}") from error

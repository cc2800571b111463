"""`aiops plugin install`: puts the plugin for Airflow where Airflow looks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops_cli.commands.output import print_json
from aiops_cli.errors import UsageError

SHIPPED = Path(__file__).parents[1] / "plugin" / "aiops_airflow_plugin.py"


def install(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Airflow's plugins folder."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print what was written.")] = False,
) -> None:
    """Write the plugin into Airflow's plugins folder: one file that needs nothing but Airflow. It
    leaves a small file for each failure, and wakes a watch whose setting `spool` names their
    folder. A file of an older aiops is replaced."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder",
            "it is the one that `airflow config get-value core plugins_folder` names; make it "
            "first if it is not there",
        )
    target = folder / SHIPPED.name
    source = SHIPPED.read_bytes()
    try:
        before = target.read_bytes() if target.exists() else None
        if before != source:
            _write(target, source)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}", "run it as Airflow's own user"
        ) from None
    did = "written" if before is None else "unchanged" if before == source else "replaced"
    if json:
        print_json({"file": str(target), "did": did})
        return
    print(f"{did}: {target}")
    if did != "unchanged":
        typer.echo(
            "next: restart Airflow (scheduler, workers, DAG processor), and give the watch the "
            "plugin's folder: AIOPS_SPOOL for both",
            err=True,
        )


def _write(target: Path, data: bytes) -> None:
    """Whole or not at all: Airflow may read its folder at any moment."""
    import os  # with tempfile 10 ms
    import tempfile

    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".aiops-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).chmod(0o644)  # Airflow is another user; there is no secret in it
        Path(part).replace(target)
    finally:
        Path(part).unlink(missing_ok=True)

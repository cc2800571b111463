"""Every command as a row of the matrix of test_fault_matrix.py, and what of it can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests import faults
from tests.cli import Cli
from tests.faults import FAULTS


@dataclass(frozen=True)
class Command:
    """`args` are those after its name, which are given the id of what it is `of`: an incident that
    is waiting, one that was acted on, an entry or a grant. `touches` are the kinds of fault that
    reach it. `code` is how it ends where all is well; `spared` are faults that are none for it;
    one that `goes_on` serves others until it is ended."""

    touches: str
    args: Callable[[Cli, str], list[str]]
    code: int = 0
    json: bool = True
    keys: str = ""  # typed, where it talks
    spared: tuple[Callable[[Cli], None], ...] = ()
    of: str = "waiting"
    goes_on: bool = False


def _runbook(cli: Cli, _id: str) -> list[str]:
    file = cli.home / "book.yaml"
    file.write_text("- title: t\n  error: 'ValueError: x'\n  cause: c\n  action: retry\n")
    return [str(file)]


def _export(cli: Cli, _id: str) -> list[str]:
    return [str(cli.home / "export.jsonl")]


# They leave one with an id of an Airflow that is not the chosen one.
ELSEWHERE = (faults.no_tls, faults.proxy_down)

COMMANDS: dict[str, Command] = {
    "init": Command(
        "cas",
        lambda cli, id_: ["--yes"],
        # It tries the rights one by one, and makes the settings that are not there.
        spared=(faults.unconfigured, faults.forbidden, faults.absent_settings),
    ),
    "doctor": Command("cas", lambda cli, id_: [], spared=(faults.forbidden,)),
    "triage": Command("cas", lambda cli, id_: [], json=False, keys="s\n"),
    "failures": Command("ca", lambda cli, id_: []),
    "diagnose": Command("casw", lambda cli, id_: []),
    "diagnose ID": Command("cas", lambda cli, id_: [id_], spared=ELSEWHERE),
    "stuck": Command("ca", lambda cli, id_: []),
    "watch": Command("casw", lambda cli, id_: ["--once"]),
    "watch auto": Command("casw", lambda cli, id_: ["--once", "--auto"]),
    "approve": Command(
        "caswip", lambda cli, id_: [id_, "--action=retry", "--yes"], spared=ELSEWHERE
    ),
    "approve dry": Command(
        "casi", lambda cli, id_: [id_, "--action=retry", "--dry-run"], spared=ELSEWHERE
    ),
    "approve none": Command("cswi", lambda cli, id_: [id_, "--action=none", "--cause=c"]),
    "reject": Command("cswi", lambda cli, id_: [id_, "--reason=no"]),
    "incidents": Command("cs", lambda cli, id_: []),
    "incidents show": Command("csi", lambda cli, id_: [id_]),
    "log": Command("csi", lambda cli, id_: [id_]),
    "open": Command("csi", lambda cli, id_: [id_]),
    "hold": Command("csw", lambda cli, id_: ["orders"]),
    "hold list": Command("cs", lambda cli, id_: []),
    "snooze": Command("cswi", lambda cli, id_: [id_, "2h"]),
    "note": Command("cswi", lambda cli, id_: [id_, "the vendor is called"]),
    "wrong": Command("cswi", lambda cli, id_: [id_, "--reason=it paid twice"], of="acted"),
    "undo": Command(
        "caswip", lambda cli, id_: [id_, "--yes"], of="acted", spared=(*ELSEWHERE, faults.forbidden)
    ),
    "undo nothing": Command("csi", lambda cli, id_: [id_], code=5),
    "handover": Command("cs", lambda cli, id_: []),
    "pause": Command("csw", lambda cli, id_: []),
    "resume": Command("csw", lambda cli, id_: []),
    "auto grant": Command("csw", lambda cli, id_: ["--actions=retry", "--dags=*", "--yes"]),
    "auto list": Command("cs", lambda cli, id_: []),
    "auto revoke": Command("cswi", lambda cli, id_: [id_], of="grant"),
    "audit": Command("cs", lambda cli, id_: []),
    "audit verify": Command("cs", lambda cli, id_: []),
    "learn": Command("cas", lambda cli, id_: ["--since=1d"]),
    "backtest": Command("cs", lambda cli, id_: []),
    "report": Command("cs", lambda cli, id_: []),
    "plugin install": Command("", lambda cli, id_: [str(cli.home)]),
    "dashboard": Command("cs", lambda cli, id_: [], json=False, goes_on=True),
    "mcp": Command("c", lambda cli, id_: [], json=False, goes_on=True),
    "kb seed": Command("csw", _runbook),
    "kb seed dry": Command("cs", lambda cli, id_: [*_runbook(cli, id_), "--dry-run"]),
    "kb add": Command("csw", lambda cli, id_: ["--title=t", "--error=ValueError: x", "--cause=c"]),
    "kb list": Command("cs", lambda cli, id_: []),
    "kb show": Command("csi", lambda cli, id_: [id_], of="entry"),
    "kb search": Command("cs", lambda cli, id_: ["ValueError: x"]),
    "kb retire": Command("cswi", lambda cli, id_: [id_, "--reason=no longer"], of="entry"),
    "kb lint": Command("cs", lambda cli, id_: []),
    "kb export": Command("cs", lambda cli, id_: [], json=False),
    "kb import": Command("csw", _export),
    "kb reindex": Command(
        "csw",
        lambda cli, id_: [],
        spared=(faults.unwritable_file, faults.full_disk, faults.ctrl_c_at_a_write),
    ),  # it asks for the right to write, and finds nothing to make
    "kb migrate": Command("cs", lambda cli, id_: []),
    "kb stats": Command("cs", lambda cli, id_: []),
}
CELLS = [
    (fault, name)
    for fault in FAULTS
    for name, command in COMMANDS.items()
    if fault.kind in command.touches and fault.wrong not in command.spared
]

"""Draws docs/diagnosis.svg: a diagnosis as the terminal shows it, by Rich's own export.

What is drawn is what the program makes of a failure of the tests' local Airflow; a test holds
that the picture is the program's present output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "diagnosis.svg"
NOW = datetime(2026, 3, 14, 3, 9, tzinfo=timezone.utc)
WIDTH = 92


def draw() -> str:
    """The picture as SVG: the same at every call, on every machine."""
    with utc_clock():
        return _draw()


@contextmanager
def utc_clock() -> Iterator[None]:
    """Local times are those of UTC meanwhile."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def _draw() -> str:
    from aiops_cli import decide, respond
    from aiops_cli.context import Snapshot, surroundings
    from aiops_cli.examine import judge, ref_of
    from aiops_cli.published import incident_document, utc
    from aiops_cli.render import header, incident_card
    from tests.airflow_server import exception
    from tests.desk import SetClock, bench

    refused = exception(
        "OperationalError",
        'connection to server at "db-orders" (10.4.7.21), port 5432 failed: Connection refused',
    )
    with bench(clock=SetClock(NOW - timedelta(days=9))) as at:
        dag = {"extract": ["load"], "load": ["publish", "finance_close"]}
        at.server.add_dag("orders_etl", dag, retries=3)
        blocked = ["publish", "finance_close"]

        def fail(day: timedelta) -> None:
            at.clock.time = NOW - day
            run = f"scheduled__{at.clock.time:%Y-%m-%d}T02:00:00+00:00"
            row = at.server.add_failure(
                "orders_etl",
                "load",
                run_id=run,
                events=[refused],
                blocks=blocked,
                ended=at.clock.time - timedelta(minutes=5),
                try_number=4,
            )
            at.watch()
            if day:
                case = at.store.cases(status=["pending"])[0]
                proposed = decide.proposal(case, "retry", {}, "the orders database restarts")
                plan = respond.preview(at.desk, case.incident, "retry", {})
                decide.approve(at.desk, case, proposed, plan, None)
                at.finish(row)
                at.watch()

        for days in (9, 4, 0):
            fail(timedelta(days=days))
        at.server.add_event(
            "patch_connection",
            when=NOW - timedelta(minutes=18),
            owner="dba-team",
            extra='{"connection_id": "orders_db"}',
        )
        incident = at.store.cases(status=["pending"])[0].incident
        live = at.desk.airflow.task_instance(ref_of(incident))
        snapshot = Snapshot(at.desk.airflow)
        document = incident_document(judge(at.desk, snapshot, incident, live))
        document["context"] |= surroundings(snapshot, incident)
        console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
        console.print(Text("$ aiops diagnose orders_etl", "bold"))
        console.print(header("prod", (), "oncall", "shadow", str(utc(at.clock.now()))))
        console.print(incident_card(document, incident.id[:4]))
    return console.export_svg(title="aiops", unique_id="aiops")


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(), encoding="utf-8")

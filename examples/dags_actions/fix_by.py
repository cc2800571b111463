"""One DAG for each action of the catalogue: it fails until exactly that action is taken.

`examples/runbooks/actions.yaml` knows the answer to each. Three of them need something in Airflow
that is wrong from the start; `examples/README.md` says how to make it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from airflow.sdk import Connection, Variable, dag, get_current_context, task

MAINTENANCE_SECONDS = 20
PATIENCE_SECONDS = 3


def folder() -> Path:
    """The run's own place on the disk."""
    context = get_current_context()
    run = str(context["run_id"]).replace("/", "_")
    found = Path(os.environ["AIRFLOW_HOME"], "fix_by", context["dag"].dag_id, run)
    found.mkdir(parents=True, exist_ok=True)
    return found


def tries() -> int:
    return int(get_current_context()["ti"].try_number)


@dag(schedule=None, tags=["actions"])
def fix_by_retry() -> None:
    """The first try loses its session; the next one gets another.

    Fails: `load` with `the warehouse dropped the session`
    """

    @task
    def load() -> None:
        if tries() == 1:
            raise ConnectionResetError("the warehouse dropped the session")

    @task
    def publish() -> None: ...

    load() >> publish()


@dag(schedule=None, tags=["actions"])
def fix_by_retry_later() -> None:
    """A service is in maintenance: whoever comes back too early fails once more.

    Fails: `fetch` with `503 from rates.example`
    """

    @task
    def fetch() -> None:
        begun = folder() / "maintenance"
        if not begun.exists():
            begun.touch()
        if time.time() < begun.stat().st_mtime + MAINTENANCE_SECONDS:
            raise ConnectionError("503 from rates.example: down for maintenance")

    fetch()


@dag(schedule=None, tags=["actions"])
def fix_by_none() -> None:
    """A bug: whatever is run again fails again.

    Fails: `total` with `net_amount`
    """

    @task
    def total() -> float:
        rows = [{"gross_amount": 12.5}]
        return sum(row["net_amount"] for row in rows)

    total()


@dag(schedule=None, tags=["actions"])
def fix_by_retry_upstream() -> None:
    """The export ran before the source was delivered, and was green. Counting again what it wrote
    fails again; exporting again helps. `clean` lies between the two, `audit` beside them.

    Fails: `count` with `the export holds no rows`
    """

    @task
    def export() -> str:
        file = folder() / "export.csv"
        file.write_text("" if tries() == 1 else "1\n2\n")
        return str(file)

    @task
    def clean(path: str) -> str:
        cleaned = Path(path).with_suffix(".clean")
        cleaned.write_text(Path(path).read_text())
        return str(cleaned)

    @task
    def count(path: str) -> int:
        rows = Path(path).read_text().splitlines()
        if not rows:
            raise ValueError("the export holds no rows")
        return len(rows)

    @task
    def audit() -> None: ...

    exported = export()
    count(clean(exported))
    exported >> audit()


@dag(schedule=None, tags=["actions"])
def fix_by_clear_xcom() -> None:
    """A task hands on a session that has ended since. Reading it again fails again.

    Fails: `download` with `session s-1 has expired`
    """

    @task
    def open_session() -> str:
        return f"s-{tries()}"

    @task
    def download(session: str) -> None:
        if session == "s-1":
            raise PermissionError(f"session {session} has expired")

    download(open_session())


@dag(schedule=None, tags=["actions"])
def fix_by_update_connection() -> None:
    """The connection `fix_by_warehouse` names a database that has been replaced.

    Fails: `read_orders` with `unable to open database file`
    """

    @task
    def restore() -> None:
        """The new database, which stands in for a server."""
        file = Path(os.environ["AIRFLOW_HOME"], "fix_by", "orders_v2.db")
        file.parent.mkdir(exist_ok=True)
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE IF NOT EXISTS orders (id)")

    @task
    def read_orders() -> int:
        name = Connection.get("fix_by_warehouse").schema
        file = Path(os.environ["AIRFLOW_HOME"], "fix_by", f"{name}.db")
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        return int(database.execute("SELECT count(*) FROM orders").fetchone()[0])

    restore() >> read_orders()


@dag(schedule=None, tags=["actions"])
def fix_by_set_variable() -> None:
    """The variable `fix_by_batch_size` is 0, and nothing is cut into batches of nothing.

    Fails: `cut` with `range() arg 3 must not be zero`
    """

    @task
    def cut() -> int:
        return len(range(0, 1000, int(Variable.get("fix_by_batch_size"))))

    cut()


@dag(schedule=None, tags=["actions"])
def fix_by_resize_pool() -> None:
    """The pool `fix_by_exports` has no slot: the export never starts, and who waits for it gives
    up.

    Fails: `wait_for_export` with `no export after`
    """

    @task(pool="fix_by_exports")
    def export() -> None:
        (folder() / "export.csv").touch()

    @task
    def wait_for_export() -> None:
        # From the second try on there is a slot, and the export needs a moment to start.
        patience = PATIENCE_SECONDS if tries() == 1 else 60
        end = time.time() + patience
        while not (folder() / "export.csv").exists():
            if time.time() > end:
                raise TimeoutError(f"no export after {patience} seconds")
            time.sleep(0.5)

    export()
    wait_for_export()


@dag(schedule=None, tags=["actions"])
def fix_by_trigger_dag() -> None:
    """It reads what another DAG writes, `fix_by_prices`, which has not run today.

    Fails: `report` with `prices.csv`
    """

    @task
    def report() -> int:
        return len(Path(os.environ["AIRFLOW_HOME"], "fix_by", "prices.csv").read_text())

    report()


@dag(schedule=None, tags=["actions"])
def fix_by_prices() -> None:
    """Writes the prices of the `market` in the run's conf. It does not fail."""

    @task
    def write() -> None:
        conf = get_current_context()["dag_run"].conf or {}
        file = Path(os.environ["AIRFLOW_HOME"], "fix_by", "prices.csv")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{conf.get('market', 'none')}\n")

    write()


@dag(schedule=None, tags=["actions"])
def fix_by_mark_success() -> None:
    """The partner's portal is closed, so that somebody has delivered by hand: it is done, and only
    Airflow does not know it.

    Fails: `deliver` with `the portal is closed`
    """

    @task
    def deliver() -> None:
        raise RuntimeError("the portal is closed: deliver by hand")

    @task
    def confirm() -> None: ...

    deliver() >> confirm()


@dag(schedule=None, tags=["actions"])
def fix_by_mark_skipped() -> None:
    """There are no rates on a holiday, and what follows does without them.

    Fails: `rates` with `no rates are published today`
    """

    @task
    def rates() -> None:
        raise LookupError("no rates are published today")

    @task(trigger_rule="none_failed")
    def publish() -> None: ...

    rates() >> publish()


fix_by_retry()
fix_by_retry_later()
fix_by_none()
fix_by_retry_upstream()
fix_by_clear_xcom()
fix_by_update_connection()
fix_by_set_variable()
fix_by_resize_pool()
fix_by_trigger_dag()
fix_by_prices()
fix_by_mark_success()
fix_by_mark_skipped()

"""What databases say when something is in the way. The database is a small SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example"])
def stock_sync() -> None:
    """Another job holds the write lock for longer than we wait. Later it works.

    Fails: `update_stock` with `database is locked`
    """

    @task
    def update_stock() -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, "stock.db")
            with (
                closing(sqlite3.connect(path, isolation_level=None)) as other_job,
                closing(sqlite3.connect(path, timeout=1)) as ours,
            ):
                other_job.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, pieces INTEGER)")
                other_job.execute("BEGIN EXCLUSIVE")
                ours.execute("INSERT INTO stock VALUES ('bolt', 12)")

    update_stock()


@dag(schedule=None, tags=["example"])
def orders_archive() -> None:
    """The table of the year was never made: a migration was forgotten. A person must run it.

    Fails: `archive_orders` with `no such table: orders_2024`
    """

    @task
    def archive_orders() -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("INSERT INTO orders_2024 SELECT * FROM orders")

    archive_orders()


@dag(schedule=None, tags=["example"])
def customers_import() -> None:
    """The rows are there already: an earlier run got that far. Trying again cannot help.

    Fails: `import_customers` with `UNIQUE constraint failed: customers.id`
    """

    @task
    def import_customers() -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
            rows = [(1, "Ada"), (2, "Grace"), (2, "Grace")]
            database.executemany("INSERT INTO customers VALUES (?, ?)", rows)

    import_customers()


stock_sync()
orders_archive()
customers_import()

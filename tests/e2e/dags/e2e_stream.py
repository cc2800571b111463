"""A small site: each DAG has one task, `work`, which fails at its first try of every run.

What fails is real, and so is its text; beside each DAG stands what happens when it runs again.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import requests
from airflow.sdk import dag, get_current_context, task


@contextmanager
def listening() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


class Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Nothing: the log is the task's."""


def refused(what: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        requests.get(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/{what}", timeout=5)


def unavailable(what: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.handle_request, daemon=True).start()
    answer = requests.get(f"http://127.0.0.1:{server.server_port}/v1/{what}", timeout=30)
    answer.raise_for_status()


def slow(what: str) -> None:
    with listening() as port:
        requests.get(f"http://127.0.0.1:{port}/v1/{what}", timeout=0.3)


def locked(what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{what}.db")
        holder, other = sqlite3.connect(file), sqlite3.connect(file, timeout=0.1)
        holder.execute("BEGIN EXCLUSIVE")
        other.execute(f"CREATE TABLE {what} (id INTEGER)")


def missing_key(what: str) -> None:
    {"id": 1, "name": "first"}[what]


def no_table(what: str) -> None:
    sqlite3.connect(":memory:").execute(f"SELECT * FROM {what}")


def bad_value(what: str) -> None:
    float(f"{what} unknown")


def times_run() -> int:
    """How often this task has begun in this run, this time included; kept in a file."""
    context = get_current_context()
    folder = Path(os.environ["AIRFLOW_HOME"], "counts")
    folder.mkdir(exist_ok=True)
    file = folder / f"{context['dag'].dag_id}.{context['run_id']}.work"
    with file.open("a") as lines:
        lines.write("ran\n")
    return len(file.read_text().splitlines())


def make(fail: Callable[[str], None], what: str, end: str, *, tagged: bool = False) -> None:
    """`end`: heals; stays (a bug, which no retry ends); harms (what `times_run` writes down was
    booked at the first try, so that a second, which is green, books it twice)."""
    tags = [f"e2e_stream:{fail.__name__}:{end}", *(["aiops:rerun-safe"] if tagged else [])]

    @dag(dag_id=f"e2e_stream_{what}", schedule=None, tags=tags)
    def made() -> None:
        @task
        def work() -> None:
            if times_run() == 1 or end == "stays":
                fail(what)

        work()

    made()


make(refused, "orders", "heals", tagged=True)
make(unavailable, "stock", "heals", tagged=True)
make(slow, "prices", "heals", tagged=True)
make(locked, "archive", "heals", tagged=True)
make(refused, "customers", "heals")
make(unavailable, "weather", "heals")
make(missing_key, "discounts", "stays")
make(missing_key, "currencies", "stays")
make(no_table, "invoices", "stays")
make(bad_value, "weights", "stays")
make(slow, "payments", "harms")
make(refused, "letters", "harms")

# Kept back: their failures are of the same kinds, and they run in the last round only.
make(refused, "kept_suppliers", "heals", tagged=True)
make(slow, "kept_rates", "heals", tagged=True)
make(locked, "kept_returns", "heals", tagged=True)
make(unavailable, "kept_tariffs", "heals", tagged=True)
make(unavailable, "kept_visits", "heals")
make(no_table, "kept_parcels", "stays")
make(bad_value, "kept_heights", "stays")
make(unavailable, "kept_transfers", "harms")

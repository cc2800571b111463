"""Services that are down, refuse, or never answer. Each DAG plays both ends, on loopback only.

Waiting or trying again mends most of these. The last one looks exactly like the others, and
trying it again pays everybody twice.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

from airflow.sdk import DAG, dag, task


@contextmanager
def service(status: int = 200, answer: object = None, *, delay: float = 0) -> Iterator[str]:
    """The URL of a local HTTP service that gives this answer after `delay` seconds."""
    leaving = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if leaving.wait(delay):
                return  # the client has given up
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            # The bank books first and answers then, as banks do.
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with Path(os.environ["AIRFLOW_HOME"], "ledger.jsonl").open("ab") as ledger:
                ledger.write(body + b"\n")
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass  # the client's side is the story

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        leaving.set()
        server.shutdown()


@contextmanager
def service_that_is_down() -> Iterator[str]:
    """A URL whose port is taken, so that nobody else gets it, but where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@dag(schedule=None, tags=["example"])
def vendor_catalog() -> None:
    """The vendor's API answers 503. Waiting ends it.

    Fails: `fetch_catalog` with `HTTP Error 503: Service Unavailable`
    """

    @task
    def fetch_catalog() -> int:
        with service(503, {"error": "maintenance"}) as url, urlopen(f"{url}/catalog") as answer:
            return len(json.load(answer))

    fetch_catalog()


def prices(dag_id: str, doc: str, tags: list[str], retries: int = 0) -> DAG:
    """The price service is down on the first try of every run, and up from the second on."""

    @dag(
        dag_id,
        schedule=None,
        tags=["example", *tags],
        doc_md=doc,
        default_args={"retries": retries, "retry_delay": timedelta(seconds=1)},
    )
    def build() -> None:
        @task
        def fetch_prices(*, ti=None) -> dict[str, float]:
            up = service(200, {"EUR": 1.0, "USD": 1.08})
            price_service = up if ti.try_number > 1 else service_that_is_down()
            with price_service as url, urlopen(f"{url}/prices", timeout=5) as answer:
                return json.load(answer)

        @task
        def store_prices(prices: dict[str, float]) -> int:
            return len(prices)

        @task
        def publish(count: int) -> str:
            return f"{count} prices published"

        publish(store_prices(fetch_prices()))

    return build()


prices(
    "prices_hourly",
    """The price service refuses the first connection of every run. Reading prices twice does no
harm, and somebody who knows has said so with a tag.

Fails: `fetch_prices` with `ConnectionRefusedError`
""",
    tags=["aiops:rerun-safe"],
)
prices(
    "prices_daily",
    """The same code and the same failure as `prices_hourly`, but nobody has vouched for it.

Fails: `fetch_prices` with `ConnectionRefusedError`
""",
    tags=[],
)
prices(
    "prices_weekly",
    """The same failure again, but Airflow itself tries twice. That is no incident.

Succeeds.
""",
    tags=[],
    retries=1,
)


@dag(schedule=None, tags=["example"])
def invoices_payout() -> None:
    """The bank books the payment and is then too slow to say so. The second try is green,
    and the invoice is paid twice: count the lines of `ledger.jsonl` in Airflow's home.

    Fails: `pay_invoices` with `TimeoutError`
    """

    @task
    def pay_invoices(*, ti=None) -> int:
        payment = json.dumps({"invoice": "2024-117", "amount": 1250, "run": ti.run_id}).encode()
        with service(201, {"booked": True}, delay=30 if ti.try_number == 1 else 0) as url:
            request = Request(f"{url}/payments", payment, method="POST")
            with urlopen(request, timeout=2) as answer:
                return answer.status

    @task
    def close_invoices(status: int) -> bool:
        return status == 201

    close_invoices(pay_invoices())


vendor_catalog()
invoices_payout()

"""What makes many failures one storm."""

from __future__ import annotations

import pytest

from aiops_cli.groups import group_key, new_group, title
from knowledge.records import Excerpt
from knowledge.signature import sign


def key(text: str, hostname: str | None = "worker-1") -> str:
    return group_key(sign(text), Excerpt(text), hostname)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        (
            'psycopg2.OperationalError: connection to server at "db-orders" (10.4.7.21), '
            "port 5432 failed: Connection refused",
            "db-orders:5432",
        ),
        (
            "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.vendor.com', "
            "port=443): Max retries exceeded with url: /v1/prices",
            "api.vendor.com:443",
        ),
        (
            "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: "
            "https://api.vendor.com/v1/prices?day=3",
            "api.vendor.com",
        ),
        ("dial tcp: kafka-2:9092: connection refused", "kafka-2:9092"),
    ],
)
def test_a_host_that_does_not_answer_is_shared(text: str, host: str) -> None:
    assert key(text) == f"host:{host}"


@pytest.mark.parametrize(
    "text",
    [
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://api.x.com/v1",
        "ConnectionRefusedError: [Errno 111] Connection refused to localhost:5432",
        "KeyError: 'price'",
        'File "orders.py:12"\nTimeoutError: timed out',
    ],
)
def test_what_is_not_about_a_host_is_grouped_by_its_signature(text: str) -> None:
    assert key(text) == f"signature:{sign(text).fingerprint}"


def test_ten_requests_to_one_dead_host_are_one_storm() -> None:
    text = "HTTPError: 503 Server Error: Service Unavailable for url: https://api.vendor.com/{}"
    assert len({key(text.format(word)) for word in ("prices", "orders", "users")}) == 1
    assert len({sign(text.format(word)).fingerprint for word in ("prices", "orders")}) == 2


def test_a_lost_worker_takes_its_tasks_with_it() -> None:
    text = "heartbeat timeout: Task did not send a heartbeat for 300 seconds"
    assert key(text, "worker-3") == "worker:worker-3"
    assert key(text, None).startswith("signature:")


def test_nothing_known_is_shared_with_nothing() -> None:
    assert key("") == ""


def test_a_group_has_an_id_and_a_title() -> None:
    assert new_group("prod", "host:db", "a") != new_group("prod", "host:db", "b")
    assert title("host:db:5432") == "db:5432 does not answer"
    assert title("worker:w-3") == "worker w-3 lost"
    assert title("signature:x") == ""

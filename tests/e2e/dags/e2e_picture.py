"""Failures that Airflow tells of elsewhere than in a log, and what stands around one."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import DAG, Asset, task

PRICES = Asset(uri="x-prices://eod", name="prices_eod")

with DAG("e2e_timeout", schedule=None, dagrun_timeout=timedelta(seconds=20)):

    @task
    def slow() -> None:
        time.sleep(600)

    slow()

with DAG(
    "e2e_prices",
    schedule=None,
    tags=["aiops:due:06:00"],
    default_args={"owner": "payments"},
):

    @task
    def fetch() -> None:
        pass

    @task(outlets=[PRICES])
    def produce() -> None:
        raise ConnectionRefusedError("[Errno 111] Connection refused")

    @task
    def publish() -> None:
        pass

    fetch() >> produce() >> publish()

with DAG("e2e_reports", schedule=[PRICES]):

    @task
    def report() -> None:
        pass

    report()

with DAG("e2e_lost", schedule=None):

    @task
    def hang() -> None:
        time.sleep(600)

    hang()

with DAG("e2e_many", schedule=None):

    @task
    def convert(number: int) -> None:
        if number in (1, 3, 4):
            raise ValueError("bad row")

    convert.expand(number=list(range(6)))

with DAG("e2e_pool", schedule=None):

    @task(pool="e2e_empty")
    def waits() -> None:
        pass

    waits()

"""Data that is not what the code expects. Running these again changes nothing: only a person
who mends the data or the code does.
"""

from __future__ import annotations

import json

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example"])
def shop_report() -> None:
    """The shop renamed a field. The report behind it never starts.

    Fails: `sum_orders` with `KeyError`
    """

    @task
    def sum_orders() -> float:
        orders = json.loads('[{"order": 1, "price_cents": 1250}, {"order": 2, "price_cents": 300}]')
        return sum(order["unit_price"] for order in orders)

    @task
    def write_report(total: float) -> str:
        return f"sold for {total}"

    write_report(sum_orders())


@dag(schedule=None, tags=["example"])
def partner_feed() -> None:
    """The partner's file ends in the middle.

    Fails: `read_feed` with `JSONDecodeError`
    """

    @task
    def read_feed() -> int:
        return len(json.loads('{"items": [{"id": 1}, {"id": '))

    read_feed()


@dag(schedule=None, tags=["example"])
def invoice_totals() -> None:
    """Somebody in Berlin filled in the sheet: a comma where the code wants a point.

    Fails: `add_up` with `could not convert string to float: '12,50'`
    """

    @task
    def add_up() -> float:
        return sum(float(amount) for amount in ("8.90", "12,50"))

    add_up()


@dag(schedule=None, tags=["example"])
def regional_sales() -> None:
    """One task for each region, and one region had no visitors. The others are fine and must
    not run again.

    Fails: `conversion[1]` with `ZeroDivisionError`
    """

    @task
    def conversion(region: dict[str, int]) -> float:
        return region["orders"] / region["visitors"]

    @task
    def publish(rates: list[float]) -> int:
        return len(list(rates))

    regions = [
        {"orders": 3, "visitors": 120},
        {"orders": 0, "visitors": 0},
        {"orders": 7, "visitors": 90},
    ]
    publish(conversion.expand(region=regions))


shop_report()
partner_feed()
invoice_totals()
regional_sales()

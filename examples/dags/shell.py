"""Shell commands. Airflow reports no more than an exit code; the reason stands some lines above."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example"])
def warehouse_load() -> None:
    """The image lacks the program: exit code 127. Somebody must install it.

    Fails: `load` with `exit code 127`
    """

    @task.bash
    def load() -> str:
        return "warehouse-load --table orders"

    load()


@dag(schedule=None, tags=["example"])
def unpack_delivery() -> None:
    """The archive was cut off on its way: it must be sent again.

    Fails: `unpack` with `unexpected end of file`
    """

    @task.bash
    def unpack() -> str:
        return "seq 5000 | gzip | head -c 2000 > delivery.gz && gzip --test delivery.gz"

    unpack()


warehouse_load()
unpack_delivery()

"""Memory, time and disk: what runs out."""

from __future__ import annotations

import logging
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example"])
def model_training() -> None:
    """The kernel kills the task, as it does when memory runs out: no traceback, no last word.

    Fails: `train` with `Process terminated by signal`
    """

    @task
    def train() -> None:
        logging.getLogger(__name__).info("epoch 1 of 40")
        os.kill(os.getpid(), signal.SIGKILL)

    train()


@dag(schedule=None, tags=["example"])
def slow_report() -> None:
    """The query takes longer than its `execution_timeout`.

    Fails: `build_report` with `AirflowTaskTimeout`
    """

    @task(execution_timeout=timedelta(seconds=2))
    def build_report() -> None:
        time.sleep(30)

    build_report()


@dag(schedule=None, tags=["example"])
def nightly_backup() -> None:
    """The disk is full (Linux's `/dev/full` always is). Somebody must make room.

    Fails: `write_backup` with `No space left on device`
    """

    @task
    def write_backup() -> None:
        Path("/dev/full").write_bytes(b"backup" * 1000)

    write_backup()


@dag(schedule=None, tags=["example"], dagrun_timeout=timedelta(seconds=4))
def nightly_close() -> None:
    """The run as a whole takes too long: Airflow fails the run and skips what still works, so
    no task has failed at all.

    Fails: the run
    """

    @task
    def close_books() -> None:
        time.sleep(30)

    close_books()


model_training()
slow_report()
nightly_backup()
nightly_close()

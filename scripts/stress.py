"""Never twice, none lost: `python -m scripts.stress [TRIES]`.

Eight processes act on the same incidents, on SQLite and on Postgres, while some of them are killed
(kill -9) and others stopped past their lease, at any moment. Every act leaves a file; afterwards
no incident may have two, and each must be closed, be it for a person to look at. The audit log and
the database must be whole.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from knowledge.stores import open_store
from knowledge.stores.postgres_schema import migrate
from tests import claim_worker
from tests.postgres_database import APP, made, make_roles, new_name
from tests.postgres_server import Run, own_server
from tests.samples import incident

PROCESSES = 8
TRIES = 3_000
KILLS = 60
STOPS = 60
PATIENCE = 1_200  # seconds for what is left after the last disturbance


@contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/knowledge.db"


@contextmanager
def postgres() -> Iterator[str]:
    """As the program's role, on a server with the safe settings that Postgres has by default."""
    with own_server(Run(uuid4().hex, os.getpid()), {}) as server:
        make_roles(server.dsn)
        with made(server.dsn, new_name()) as database:
            migrate(database.admin, APP)
            yield database.app


def stressed(url: str, tries: int) -> bool:
    """Whether nothing was acted on twice or lost; prints the figures."""
    with closing(open_store(url)) as store:
        every = [incident(number) for number in range(tries)]
        for one in every:
            store.add_incident(one)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = claim_worker.run(
            url,
            Path(folder) / "acts",
            processes=PROCESSES,
            kills=KILLS,
            stops=STOPS,
            tries=tries,
            seed=tries,
            patience=PATIENCE,
        )
    seconds = time.monotonic() - started
    with closing(open_store(url)) as store:
        faults = store.audit_verify().faults
    twice = [one for one, acts in tally.acts.items() if acts > 1]
    lost = {one.id for one in every} - (tally.done | tally.needs_human)
    # Closed as done without an act would be a loss as well.
    lost |= tally.done - tally.acts.keys()
    print(
        f"{tries} tries, {PROCESSES} processes, {KILLS} killed, {STOPS} stopped, {seconds:.0f} s: "
        f"acted twice {len(twice)}, lost {len(lost)}, faults of the audit log {len(faults)}, "
        f"done {len(tally.done)}, left to a person {len(tally.needs_human)}",
        flush=True,
    )
    return not (twice or lost or faults)


def main(tries: int = TRIES) -> int:
    whole = True
    for opened in (sqlite, postgres):
        print(f"{opened.__name__}: ", end="", flush=True)
        with opened() as url:
            whole &= stressed(url, tries)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))

"""Processes that claim and act on the same incidents, to be killed or stopped at any moment.

Each act makes one file in a folder, named after its incident, as a clear in Airflow adds one
try. Whoever runs this counts the files afterwards: never more than one for an incident, and
every incident closed. Works on any store that `open_store` can open.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from knowledge.errors import DoorClosed
from knowledge.records import Claim, ClaimState, Decision, Outcome
from knowledge.stores import Store, open_store

LEASE = timedelta(milliseconds=150)
# Past the lease by so much, whoever went through the door is taken for dead.
GRACE = timedelta(milliseconds=300)
# Who is stopped for so long has been taken for dead when it goes on.
STOPPED = 2 * (LEASE + GRACE)


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a run. `acts` counts the acts of each incident that had any; `done` and
    `needs_human` are the incidents closed as such."""

    acts: Counter[str]
    done: frozenset[str]
    needs_human: frozenset[str]


def work(url: str, acts: Path, seed: int) -> None:
    """Act on every incident of the store that nobody has acted on; return when all are closed."""
    chance = random.Random(seed)
    store = open_store(url)
    every = [case.incident for case in store.cases()]
    while True:
        closed = {claim.incident_id for claim in store.claims(["done", "needs_human"])}
        waiting = [one for one in every if one.id not in closed]
        if not waiting:
            return
        chance.shuffle(waiting)
        for one in waiting[:10]:
            token = store.claim(one.id, one.ti_id, f"pid {os.getpid()}", LEASE)
            if token is not None:
                _dawdle(chance)
                _act(store, one.id, token, acts, chance)
        for claim in store.claims(["acting"]):
            if claim.lease_until + GRACE < datetime.now(timezone.utc):
                _settle_for_the_dead(store, claim, acts)


def _act(store: Store, incident_id: str, token: int, acts: Path, chance: random.Random) -> None:
    at = datetime.now(timezone.utc)
    try:
        decision = store.open_door(
            incident_id, token, Decision(incident_id, "approve", at, "worker", "retry")
        )
        _dawdle(chance)
        _act_once_more(acts, incident_id)
        _dawdle(chance)
        store.settle(incident_id, token, "done", Outcome(incident_id, decision.seq, at, "fixed"))
    except DoorClosed:
        pass  # somebody took over, or took this process for dead: walk away


def _act_once_more(acts: Path, incident_id: str) -> None:
    """In one system call: whoever is killed here has either acted or not."""
    (acts / f"{incident_id}.{os.getpid()}.{time.monotonic_ns()}").touch(exist_ok=False)


def _dawdle(chance: random.Random) -> None:
    """Mostly not at all, now and then past the lease, as a stopped process would."""
    if chance.random() < 0.02:
        time.sleep(2 * LEASE.total_seconds())


def _settle_for_the_dead(store: Store, claim: Claim, acts: Path) -> None:
    """Past the door nobody acts again: either it was done, or a person must look."""
    state: ClaimState = "done" if any(acts.glob(f"{claim.incident_id}.*")) else "needs_human"
    with suppress(DoorClosed):  # it lived, or another worker was faster
        store.settle(claim.incident_id, claim.token, state)


def run(
    url: str,
    acts: Path,
    *,
    processes: int,
    kills: int,
    tries: int,
    seed: int,
    stops: int = 0,
    patience: float = 100,
) -> Tally:
    """Let `processes` work on the store's `tries` incidents and count when all have ended, within
    `patience` seconds after the last disturbance. In the course of it `kills` of them are killed,
    another being started in the place of each, and `stops` are stopped past their lease."""
    chance = random.Random(seed)
    acts.mkdir()

    def start() -> subprocess.Popen[bytes]:
        arguments = [url, str(acts), str(chance.randrange(1 << 30))]
        return subprocess.Popen([sys.executable, "-m", "tests.claim_worker", *arguments])

    disturbances = ["kill"] * kills + ["stop"] * stops
    chance.shuffle(disturbances)
    with closing(open_store(url)) as store:
        workers = [start() for _ in range(processes)]
        try:
            for number, disturbance in enumerate(disturbances, 1):
                _wait_for(acts, tries * number // (len(disturbances) + 1), workers)
                place = chance.choice(_in_the_middle(store, workers) or range(processes))
                if disturbance == "kill":
                    workers[place].kill()
                    workers[place].wait()
                    workers[place] = start()
                else:
                    workers[place].send_signal(signal.SIGSTOP)
                    time.sleep(STOPPED.total_seconds())
                    workers[place].send_signal(signal.SIGCONT)
            codes = [worker.wait(timeout=patience) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        if any(codes):
            raise AssertionError(f"a worker ended badly: {codes}")
        return Tally(
            acts=Counter(file.name.split(".")[0] for file in acts.iterdir()),
            done=frozenset(claim.incident_id for claim in store.claims(["done"])),
            needs_human=frozenset(claim.incident_id for claim in store.claims(["needs_human"])),
        )


def _in_the_middle(store: Store, workers: Sequence[subprocess.Popen[bytes]]) -> Sequence[int]:
    """The places of those who have claimed something and not closed it yet."""
    owners = {claim.owner for claim in store.claims(["claimed", "acting"])}
    return [place for place, worker in enumerate(workers) if f"pid {worker.pid}" in owners]


def _wait_for(acts: Path, count: int, workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until so many acts have been seen; the workers are in the middle of it then."""
    while sum(1 for _ in acts.iterdir()) < count:
        if all(worker.poll() is not None for worker in workers):
            raise AssertionError("the workers have ended early")
        time.sleep(0.005)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

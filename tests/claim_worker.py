"""Processes that claim and act on the same incidents, to be killed at any moment.

Each act makes one file in a folder, named after its incident, as a clear in Airflow adds one
try. Whoever runs this counts the files afterwards: never more than one for an incident, and
every incident closed. Works on any store that `open_store` can open.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from knowledge.errors import DoorClosed
from knowledge.records import Claim, ClaimState, Decision, Outcome
from knowledge.stores import Store, open_store

LEASE = timedelta(milliseconds=150)
# Past the lease by so much, whoever went through the door is taken for dead.
GRACE = timedelta(milliseconds=300)


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


def run(url: str, acts: Path, *, processes: int, kills: int, tries: int, seed: int) -> Tally:
    """Let `processes` work on the store's `tries` incidents, kill -9 one of them `kills` times in
    the course of it, start another in its place, and count when all have ended."""
    chance = random.Random(seed)
    acts.mkdir()

    def start() -> subprocess.Popen[bytes]:
        arguments = [url, str(acts), str(chance.randrange(1 << 30))]
        return subprocess.Popen([sys.executable, "-m", "tests.claim_worker", *arguments])

    workers = [start() for _ in range(processes)]
    try:
        for kill in range(kills):
            _wait_for(acts, tries * (kill + 1) // (kills + 2), workers)
            victim = workers.pop(chance.randrange(len(workers)))
            victim.kill()
            victim.wait()
            workers.append(start())
        codes = [worker.wait(timeout=100) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if any(codes):
        raise AssertionError(f"a worker ended badly: {codes}")
    store = open_store(url)
    try:
        return Tally(
            acts=Counter(file.name.split(".")[0] for file in acts.iterdir()),
            done=frozenset(claim.incident_id for claim in store.claims(["done"])),
            needs_human=frozenset(claim.incident_id for claim in store.claims(["needs_human"])),
        )
    finally:
        store.close()


def _wait_for(acts: Path, count: int, workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until so many acts have been seen; the workers are in the middle of it then."""
    while sum(1 for _ in acts.iterdir()) < count:
        if all(worker.poll() is not None for worker in workers):
            raise AssertionError("the workers have ended early")
        time.sleep(0.002)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

"""What `aiops backtest` costs on a long record: `python -m bench.backtest [INCIDENTS]`.

A record that a person answered wholly (bench._site's failures, each approved and ended) is replayed
at a fifth of its length and whole, each in a process of its own. What one incident takes may grow
with what is known by then, and the memory with what is counted; neither as fast as the record.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from aiops_cli.backtest import run
from aiops_cli.replay import Replay, Scratch, SetClock
from bench._site import START, Spot, corpus, stream
from bench.stream import settings
from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Decision, Incident, Outcome, Vouch
from knowledge.stores.sqlite import SqliteStore

INCIDENTS = 1_500
SHORT = 5  # so many times shorter is the other record
MINUTE = timedelta(minutes=1)

# Of five times as many incidents each may take so many times as long, and each further one hold so
# much: its brief, its entry, its events, what is counted of it and cached of both files.
MOST_TIMES = 3.0
MOST_EACH = 30  # KB


def fill(file: Path, incidents: int) -> None:
    """A record of so many incidents, each answered rightly."""
    clock = SetClock(START)
    with closing(SqliteStore.open(str(file), clock.now)) as store:
        knowledge = KnowledgeBase(store, BuiltinEmbedder())
        for failure in stream(corpus(), incidents, seed=1):
            clock.at = failure.incident.seen_at
            store.add_incident(failure.incident)
            _answer(knowledge, clock, failure.incident, failure.spot)


def _answer(knowledge: KnowledgeBase, clock: SetClock, incident: Incident, spot: Spot) -> None:
    store = knowledge.store
    at = clock.at = incident.seen_at + MINUTE
    decision = Decision(incident.id, "approve", at, "ana", spot.right, spot.params)
    if spot.right == "none":
        store.record(decision)
    else:
        token = store.claim(incident.id, incident.ti_id, "ana", MINUTE)
        assert token is not None
        place = incident.instance, incident.dag_id, incident.task_id
        vouch = Vouch(*place, incident.signature.fingerprint, True, "ana", at)
        done = store.open_door(incident.id, token, decision, vouches=[vouch])
        store.settle(
            incident.id, token, "done", Outcome(incident.id, done.seq, at + MINUTE, "fixed")
        )
    knowledge.learn(incident, action=spot.right, params=spot.params, cause="found", at=at)


def replayed(file: Path) -> tuple[int, float, int]:
    """How many incidents, the seconds, and by how many KB the process grew at its highest."""
    clock = SetClock(START - timedelta(days=1))
    with (
        closing(SqliteStore.open(str(file))) as known,
        closing(Scratch.beside(known, clock.now)) as store,
    ):
        replay = Replay(settings(), KnowledgeBase(store, BuiltinEmbedder()), clock)
        before, begun = _highest(), time.process_time()
        steps = run(replay, KnowledgeBase(known, BuiltinEmbedder()), None, lambda _done, _of: None)
        return len(steps), time.process_time() - begun, _highest() - before


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(incidents: int, folder: Path) -> tuple[int, float, int]:
    file = folder / f"{incidents}.db"
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        pool.apply(fill, (file, incidents))
        return pool.apply(replayed, (file,))


def main(incidents: int) -> int:
    """Print both, and which bars are broken: 1 where one is."""
    with tempfile.TemporaryDirectory() as folder:
        told = [measured(count, Path(folder)) for count in (incidents // SHORT, incidents)]
    for count, seconds, grown in told:
        print(
            f"{count} incidents: {seconds:.1f} s, {1000 * seconds / count:.1f} ms each, "
            f"{grown / 1024:.0f} MB more"
        )
    (few, short, little), (many, long, much) = told
    times, each = (long / many) / (short / few), (much - little) / (many - few)
    print(f"each takes {times:.2f} times as long, and each further one holds {each:.1f} KB")
    return int(times > MOST_TIMES or each > MOST_EACH)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else INCIDENTS))

"""What the tool does alone, and what it does wrong, over months: `python -m bench.stream`.

Seeded streams of failures (bench._site) run through the real ladder, gate and store from an empty
knowledge base; a person in the simulation answers what the tool asks, and is wrong now and then.
Beside it stand a blind retry, exact matches alone, and one global 0.82. An act is right where it
ended the failure and did no harm; wasted where it did not end it; harmful where it ran again what
must not run again. "Told" is a `none` that is known and told without a question.

The figures are of a simulation whose assumptions stand in bench/_site.py and below; what they say
of a site is no more than how the rules behave. Your own: `aiops backtest`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path

from aiops_cli import decide
from aiops_cli.actions import CATALOGUE
from aiops_cli.config import Settings, load
from aiops_cli.incidents import Incident
from aiops_cli.replay import Replay, SetClock, verdict
from bench._site import INSTANCE, START, Failure, Spot, Text, corpus, halves, stream
from bench._variations import CORPUS
from knowledge.base import KnowledgeBase
from knowledge.calibration import helps
from knowledge.embedders import BuiltinEmbedder
from knowledge.errors import DoorClosed
from knowledge.ranking import similarity
from knowledge.records import Decision, OutcomeName, Signature, Vouch
from knowledge.stores.sqlite import SqliteStore

LENGTH = 200
BLOCK = 50
SEEDS = 50
WRONG_LABELS = 0.05
BY = "person"

# The bars, pooled over the streams. What is closed without a person counts in the last BLOCK: what
# is reached by then; the first ones are asked about because nothing is known yet.
LEAST_CLOSED = 0.50
MOST_WRONG = 0.005  # of all acts

# Of the approved re-runs, right or wrong, vouch for the task, not for this failure of it alone.
WHOLE_TASK = 0.5
AFTER = timedelta(minutes=10)  # an act's outcome is known
# Harm is noticed, and called wrong: by the time that a yes begins to count (gate.vouch_after).
NOTICED = timedelta(hours=24)
LAST_TRY = 3  # after which a person ends it by hand
CHOICES = ("retry", "retry_later", "none")  # what a person in haste chooses from

OUTCOMES = ("right", "wasted", "harmful", "told", "told_wrong", "escalated")
Counts = Counter[tuple[int, str]]  # (block of 50, one of OUTCOMES) -> incidents


@dataclass(frozen=True)
class Answer:
    """What the person says: an action with its params, and whether it is the right one."""

    action: str
    params: Mapping[str, object]
    right: bool


def choose(spot: Spot, dice: random.Random, wrong_labels: float) -> Answer:
    if dice.random() < wrong_labels:
        wrong = [one for one in CHOICES if not helps(one, spot.right)]
        return Answer(dice.choice(wrong), {}, False)
    return Answer(spot.right, spot.params, True)


class Simulation:
    """One stream through one knowledge base."""

    def __init__(
        self, settings: Settings, wrong_labels: float, seed: int, file: Path | None = None
    ) -> None:
        clock = SetClock(START)
        store = SqliteStore.open(str(file), clock.now) if file else SqliteStore.in_memory(clock.now)
        knowledge = KnowledgeBase(store, _Remembering())
        self.replay = Replay(settings, knowledge, clock)
        self.wrong_labels = wrong_labels
        self.dice = random.Random(f"person {seed}")
        self.noticed: list[tuple[Incident, Spot]] = []  # harm that nobody has noticed yet

    def meet(self, failure: Failure) -> str:
        """Take one failure from its coming to its end: one of OUTCOMES."""
        incident, spot = failure.incident, failure.spot
        self.replay.clock.at = incident.failed_at
        self._notice()
        said = verdict(self.replay.judge(incident))
        if said.acts is not None:
            done = self._act_alone(incident, spot, said.acts)
            if done == "wasted":
                self._ask(_next_try(incident), spot)
            return done
        if said.told:
            if spot.right != "none":
                self._answer(incident, spot, Answer(spot.right, spot.params, True))
                return "told_wrong"
            return "told"
        self._ask(incident, spot, judged=True)
        return "escalated"

    def _act_alone(self, incident: Incident, spot: Spot, action: str) -> str:
        document = self.replay.store.case(incident.id).judgement
        assert document is not None
        decision = Decision(
            incident.id, "auto", self.replay.clock.now(), "aiops", action,
            document.document["diagnosis"]["params"], grant=document.document["gate"]["grant"],
        )  # fmt: skip
        try:
            self.replay.decide(incident, decision)
        except DoorClosed:
            self._ask(incident, spot, judged=True)
            return "escalated"
        harmed = spot.harmful and action != "none"
        right = helps(action, spot.right)
        self._end(incident, "fixed" if right or harmed else "failed")
        if harmed:
            self.noticed.append((incident, spot))
        return "harmful" if harmed else "right" if right else "wasted"

    def _ask(self, incident: Incident, spot: Spot, *, judged: bool = False) -> None:
        """A person answers, and again if that did not help."""
        if not judged:
            self.replay.judge(incident)
        answer = choose(spot, self.dice, self.wrong_labels)
        fixed = self._answer(incident, spot, answer)
        if not fixed and incident.try_number < LAST_TRY:
            self._ask(_next_try(incident), spot)

    def _answer(self, incident: Incident, spot: Spot, answer: Answer) -> bool:
        """What the person says is done and learned. Whether it is over."""
        replay, now = self.replay, self.replay.clock.now()
        case = replay.store.case(incident.id)
        proposed = case.judgement.document["diagnosis"]["action"] if case.judgement else None
        cause = f"as {BY} found it"
        if answer.action == "none" and proposed not in (None, "none"):
            decide.reject(
                replay.knowledge, case, by=BY, at=now, reason=cause, action="none", cause=cause
            )
            return True
        if answer.action == "none":
            decide.approve(replay.desk, case, decide.Proposal("none", {}, cause), None, None)
            return True
        decision = Decision(
            incident.id, "approve", now, BY, answer.action, dict(answer.params), cause=cause
        )
        whole = self.dice.random() < WHOLE_TASK
        replay.decide(incident, decision, [_vouch(incident, replay, whole)])
        replay.knowledge.learn(
            incident, action=answer.action, params=dict(answer.params), cause=cause, at=now
        )
        harmed = spot.harmful and answer.action != "none"
        if harmed:
            self.noticed.append((incident, spot))
        self._end(incident, "fixed" if answer.right or harmed else "failed")
        return answer.right or harmed

    def _end(self, incident: Incident, outcome: OutcomeName) -> None:
        self.replay.clock.at += AFTER
        self.replay.end(incident.id, outcome, self.replay.clock.at)

    def _notice(self) -> None:
        now = self.replay.clock.now()
        due = [one for one in self.noticed if now - one[0].failed_at >= NOTICED]
        for incident, spot in due:
            self.noticed.remove((incident, spot))
            case = self.replay.store.case(incident.id)
            decide.call_wrong(
                self.replay.knowledge, case, by=BY, at=now, reason="it was done twice"
            )


class _Remembering(BuiltinEmbedder):
    """The built-in embedder, which makes the vector of a text once for all streams."""

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        return [_vector(text) for text in texts]


@lru_cache(maxsize=4_096)
def _vector(text: str) -> array[float]:
    return BuiltinEmbedder().embed([text])[0]


def _next_try(incident: Incident) -> Incident:
    number = incident.try_number + 1
    at = incident.failed_at + AFTER
    return replace(
        incident,
        try_number=number,
        failed_at=at,
        seen_at=at,
        ti_id=f"{incident.ti_id}-{number}",
    )


def _vouch(incident: Incident, replay: Replay, whole: bool) -> Vouch:
    fingerprint = None if whole else incident.signature.fingerprint
    return Vouch(
        INSTANCE, incident.dag_id, incident.task_id, fingerprint, True, BY, replay.clock.now()
    )


def settings() -> Settings:
    """What the program is without any file or variable, with leave to do alone all that a grant
    may cover."""
    plain = load(cwd=Path(os.devnull).parent, environ={"AIOPS_CONFIG": ""})
    alone = {name: "alone" for name, one in CATALOGUE.items() if one.tier in ("retry", "change")}
    return replace(plain, actions=alone)


def simulate(texts: Sequence[Text], length: int, wrong_labels: float, seed: int) -> Counts:
    simulation = Simulation(settings(), wrong_labels, seed)
    counts: Counts = Counter()
    for number, failure in enumerate(stream(texts, length, seed)):
        counts[number // BLOCK, simulation.meet(failure)] += 1
    simulation.replay.store.close()
    return counts


# ---- beside it ----

Known = list[tuple[Signature, str]]  # what the person said, newest last


def blindly(_signature: Signature, _known: Known) -> str | None:
    return "retry"


def exactly(signature: Signature, known: Known) -> str | None:
    same = [action for one, action in known if one.fingerprint == signature.fingerprint]
    return same[-1] if same else None


def at_082(signature: Signature, known: Known) -> str | None:
    alike = [(_similarity(signature.text, one.text), action) for one, action in known]
    best = max(alike, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] >= 0.82 else None


@lru_cache(maxsize=100_000)
def _similarity(one: str, other: str) -> float:
    return similarity(one, other)


BASELINES: Mapping[str, Callable[[Signature, Known], str | None]] = {
    "blind retry": blindly,
    "exact match only": exactly,
    "one global 0.82": at_082,
}


def simulate_baseline(
    name: str, texts: Sequence[Text], length: int, wrong_labels: float, seed: int
) -> Counts:
    """What a rule does that acts on the person's last word at once, whatever the task."""
    dice = random.Random(f"person {seed}")
    known: Known = []
    counts: Counts = Counter()
    for number, failure in enumerate(stream(texts, length, seed)):
        spot, signature = failure.spot, failure.incident.signature
        action = BASELINES[name](signature, known)
        said = _said(spot, action)
        counts[number // BLOCK, said] += 1
        if said not in ("right", "told"):
            known.append((signature, choose(spot, dice, wrong_labels).action))
    return counts


def _said(spot: Spot, action: str | None) -> str:
    if action is None:
        return "escalated"
    if action == "none":
        return "told" if spot.right == "none" else "told_wrong"
    if spot.harmful:
        return "harmful"
    return "right" if helps(action, spot.right) else "wasted"


# ---- what is printed, and the bars ----


def pooled(run: Callable[[int], Counts], seeds: int) -> Counts:
    counts: Counts = Counter()
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4)) as workers:
        for one in workers.map(run, range(seeds)):
            counts.update(one)
    return counts


def row(name: str, counts: Counts, blocks: Iterable[int]) -> Mapping[str, float]:
    """Print one line of shares of the incidents; returned with what the bars are held against."""
    chosen = set(blocks)
    total = Counter(dict.fromkeys(OUTCOMES, 0))
    for (block, outcome), count in counts.items():
        if block in chosen:
            total[outcome] += count
    everything = total.total()
    share = {one: total[one] / everything for one in OUTCOMES}
    acts = total["right"] + total["wasted"] + total["harmful"]
    wrong = (total["wasted"] + total["harmful"]) / acts if acts else 0.0
    closed = share["right"] + share["told"]
    cells = " ".join(f"{share[one]:>9.4f}" for one in OUTCOMES)
    print(f"  {name:<17}{acts / everything:>6.3f} {cells} {closed:>7.3f} {wrong:>7.4f}")
    return {"closed": closed, "wrong": wrong, "harmful": total["harmful"], "acts": acts}


def measure(texts: Sequence[Text], seeds: int, wrong_labels: float, title: str) -> list[str]:
    """Print one table; the bars that are broken."""
    print(f"\n{title}: {seeds} streams of {LENGTH}, {wrong_labels:.0%} of the labels wrong")
    names = " ".join(f"{one.replace('told_wrong', 'mistold'):>9}" for one in OUTCOMES)
    print(f"  {'incidents':<17}{'alone':>6} {names} {'closed':>7} {'wrong':>7}")
    counts = pooled(partial(simulate, texts, LENGTH, wrong_labels), seeds)
    reached: Mapping[str, float] = {}
    for block in range(LENGTH // BLOCK):
        reached = row(f"{block * BLOCK + 1} to {(block + 1) * BLOCK}", counts, [block])
    found = row(f"all {LENGTH}", counts, range(LENGTH // BLOCK))
    for name in BASELINES:
        run = partial(simulate_baseline, name, texts, LENGTH, wrong_labels)
        row(name, pooled(run, seeds), range(LENGTH // BLOCK))
    broken = []
    if reached["closed"] < LEAST_CLOSED:
        broken.append(f"{title}: {reached['closed']:.3f} closed without a person < {LEAST_CLOSED}")
    if found["wrong"] > MOST_WRONG:
        broken.append(f"{title}: {found['wrong']:.2%} of the acts wrong > {MOST_WRONG:.1%}")
    if found["harmful"]:
        broken.append(f"{title}: run again alone what does harm: {found['harmful']:.0f} times")
    return broken


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stream", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="streams that are pooled")
    parser.add_argument("--halves", action="store_true", help="each half of the classes alone too")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="other labelled failures")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    texts = corpus(given.corpus)
    broken = measure(texts, given.seeds, 0.0, "all classes")
    broken += measure(texts, given.seeds, WRONG_LABELS, "with wrong labels")
    if given.halves:
        for number, classes in enumerate(halves(texts, seed=1)):
            chosen = [one for one in texts if one.label in classes]
            broken += measure(
                chosen, given.seeds, WRONG_LABELS, f"half {number + 1} of the classes"
            )
    print(f"\n{time.perf_counter() - start:.0f} s")
    for what in broken:
        print(f"BROKEN: {what}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a language model changes: `python -m bench.models --host HOST --model NAME` asks one of an
Ollama; without arguments a stand-in answers by dice, which measures the machinery and no model.

Every labelled failure of tests/corpus is asked about as the program asks, beside its nearest
others (those with the same fingerprint left out: an exact match asks no model). Then each goes
through the ladder and the checks of the gate that concern the diagnosis, with the answer and
without. Square brackets hold 95 % bootstrap intervals over the failures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone

from aiops_cli import gate
from aiops_cli.actions import CATALOGUE
from aiops_cli.commands.output import progress
from aiops_cli.diagnosis import ladder
from aiops_cli.diagnosis.advisor import Answer, asker
from aiops_cli.diagnosis.model import OllamaModel
from aiops_cli.diagnosis.prompt import PROMPT_VERSION, ask_about
from aiops_cli.incidents import UNMAPPED, Excerpt, Incident, Known, Opinion
from bench.retrieval import Row, Search, load, share, tell
from knowledge.ollama_client import connect
from knowledge.ranking import BUILTIN_BOUND, BUILTIN_MARGIN
from knowledge.records import Match
from tests.ollama_server import OllamaServer, Reply, Request

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
SEED = 5
KNOWN = 3  # matches that the model is told of, as the program does
CONCERNED = ("similarity", "margin", "confidence")  # the checks that look at the diagnosis
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of stated confidence, from here to the next
WAIT = 600.0  # seconds for one answer: a model that has to be loaded first takes minutes


@dataclass(frozen=True)
class Asked:
    """One failure, what is like it, and what the model said."""

    row: Row
    incident: Incident
    matches: tuple[Match, ...]
    answer: Answer
    seconds: float

    @property
    def right(self) -> bool:
        said = self.answer.suggestion
        return said is not None and said.action == self.row.action

    @property
    def opinion(self) -> Opinion:
        a = self.answer
        return Opinion("model", a.suggestion, a.quotes_stand, a.unavailable or a.dropped)


def incident_of(row: Row) -> Incident:
    return Incident(
        instance="bench",
        dag_id="bench",
        run_id="bench",
        task_id="bench",
        map_index=UNMAPPED,
        try_number=1,
        failed_at=AT,
        seen_at=AT,
        signature=row.signature,
        excerpt=Excerpt(row.text),
    )


def nearest(rows: Sequence[Row], search: Search, index: int) -> tuple[Match, ...]:
    """What is like a failure, the very same left out."""
    own = rows[index].signature.fingerprint
    among = [i for i, row in enumerate(rows) if i != index and row.signature.fingerprint != own]
    return search.matches(rows[index], among)


def ask_all(
    model: OllamaModel, rows: Sequence[Row], chosen: Sequence[int], about: Callable[[Row], None]
) -> list[Asked]:
    """Ask about each of the chosen; `about` is told first which it is."""
    search, ask = Search(rows), asker(model)
    actions = {action.name: action.does for action in CATALOGUE.values()}
    asked = []
    with progress("asking") as told:
        for done, index in enumerate(chosen):
            row, matches = rows[index], nearest(rows, search, index)
            incident = incident_of(row)
            known = [Known(match, "not tried yet") for match in matches[:KNOWN]]
            about(row)
            start = time.perf_counter()
            answer = ask(ask_about(incident, known, actions))
            asked.append(Asked(row, incident, matches, answer, time.perf_counter() - start))
            told(done + 1, len(chosen))
    return asked


def goes_on(asked: Asked, bound: float, opinion: Opinion | None) -> tuple[str | None, str]:
    """The action that the checks of the diagnosis let through, or None; and what the model was
    stopped by."""
    diagnosis = ladder.diagnose(asked.incident, asked.matches, bound=bound)
    if diagnosis.by == "near" and opinion is not None:
        diagnosis = ladder.with_opinion(diagnosis, opinion)
    bounds = gate.Bounds(similarity=bound, margin=BUILTIN_MARGIN)
    checks = gate.judge(gate.Circumstances(asked.incident, diagnosis, bounds, AT)).checks
    failed = [check.name for check in checks if check.name in CONCERNED and not check.passed]
    if diagnosis.action is None or failed:
        return None, _why(diagnosis.action, opinion) if failed == ["confidence"] else ""
    return diagnosis.action, ""


def _why(action: str | None, opinion: Opinion | None) -> str:
    said = opinion.suggestion if opinion else None
    if opinion is None or said is None:
        return "no answer that can be used"
    if said.action != action:
        return "it proposes another action"
    return "it is not sure enough" if opinion.quotes_stand else "its quotes are not in the log"


def report_answers(asked: Sequence[Asked]) -> None:
    valid = [one for one in asked if one.answer.suggestion]
    print("\nanswers")
    tell("that can be used", share([one.answer.suggestion is not None for one in asked]))
    tell("of these: action as labelled", share([one.right for one in valid]))
    tell("of these: quotes stand in the log", share([one.answer.quotes_stand for one in valid]))
    seconds = sorted(one.seconds for one in asked)
    tell("seconds, median and longest", f"{seconds[len(seconds) // 2]:.2f} {seconds[-1]:.2f}")
    for what in ("dropped", "unavailable"):
        reasons = Counter(getattr(one.answer, what) for one in asked)
        del reasons[""]
        tell(what, str(reasons.total()))
        for reason, count in reasons.most_common():
            print(f"    {count:>4}  {reason}")


def report_outcomes(asked: Sequence[Asked], bound: float, title: str) -> list[str]:
    """What goes on to the rest of the gate without the model and with it; the promises broken."""
    without = [goes_on(one, bound, None)[0] for one in asked]
    heard = [goes_on(one, bound, one.opinion) for one in asked]
    print(f"\n{title}")
    for name, several in (("without a model", without), ("with it", [act for act, _ in heard])):
        pairs = [(act, one.row.action) for act, one in zip(several, asked, strict=True)]
        through = [act == truth for act, truth in pairs if act is not None]
        tell(f"{name}: goes on", share([act is not None for act in several]))
        tell(f"{name}: of these, right", share(through))
    changed = [
        (was == one.row.action, why)
        for one, was, (act, why) in zip(asked, without, heard, strict=True)
        if was != act
    ]
    tell("the model changes the outcome", f"{len(changed)}")
    tell("  a wrong action stopped", f"{sum(not right for right, _ in changed)}")
    tell("  a right action stopped", f"{sum(right for right, _ in changed)}")
    for reason, count in Counter(why for _, why in changed).most_common():
        print(f"    {count:>4}  {reason}")
    return [
        f"{one.row.entry.id}: {was} without the model, {act} with it"
        for one, was, (act, _) in zip(asked, without, heard, strict=True)
        if act not in (was, None)
    ]


def report_confidence(asked: Sequence[Asked]) -> None:
    print("\nstated confidence against being right (its action is the labelled one)")
    said = [(one.answer.suggestion.confidence, one.right) for one in asked if one.answer.suggestion]
    for low, high in zip(BINS, (*BINS[1:], 1.01), strict=True):
        inside = [right for confidence, right in said if low <= confidence < high]
        tell(f"{low:.2f} to {min(high, 1.0):.2f}", share(inside))


# ---- the stand-in ----


class Dice:
    """Answers instead of a model: it knows the label of the failure in hand (`row`), and by dice
    errs, is too sure, makes quotes up, breaks the schema, or does not answer."""

    RIGHT = 0.75
    MADE_UP = 0.05
    # Of each hundred answers so many go wrong in this way (tests/ollama_world.py).
    WRONG: Mapping[str, int] = {
        "fenced": 10, "schema_violation": 5, "think_only": 3, "truncated": 3, "crash": 2,
    }  # fmt: skip

    def __init__(self) -> None:
        self.dice = random.Random(SEED)
        self.row: Row | None = None

    def about(self, row: Row) -> None:
        self.row = row

    def answer(self, _: Request) -> Reply:
        assert self.row is not None
        right = self.dice.random() < self.RIGHT
        others = [name for name in CATALOGUE if name != self.row.action]
        line = max(self.row.text.splitlines(), key=len).strip()[:200]
        said = {
            "action": self.row.action if right else self.dice.choice(others),
            "cause": "the dice say so",
            "confidence": round(self.dice.betavariate(8, 2) if right else self.dice.random(), 2),
            "explanation": "",
            "quotes": ["what no log says"] if self.dice.random() < self.MADE_UP else [line],
        }
        ways = [*self.WRONG, ""]
        weights = [*self.WRONG.values(), 100 - sum(self.WRONG.values())]
        (mode,) = self.dice.choices(ways, weights)
        return Reply(json.dumps(said), mode=mode)


@contextmanager
def answering(host: str | None) -> Iterator[tuple[str, Callable[[Row], None]]]:
    """Where to ask, and who is told which failure comes next."""
    if host is not None:
        yield host, lambda _: None
        return
    dice = Dice()
    with OllamaServer() as server:
        server.answer = dice.answer
        yield server.url, dice.about


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
    parser.add_argument("--host", help="where Ollama listens, in any form of OLLAMA_HOST")
    parser.add_argument("--model", help="the model to be asked")
    parser.add_argument("--limit", type=int, help="ask about so many failures, drawn by lot")
    given = parser.parse_args(arguments)
    if (given.host is None) != (given.model is None):
        parser.error("--host and --model go together")
    rows = load()
    chosen = list(range(len(rows)))
    if given.limit is not None:
        chosen = sorted(random.Random(SEED).sample(chosen, min(given.limit, len(rows))))
    name = given.model or "llama3.1"
    with (
        answering(given.host) as (host, about),
        # Named on the command line: that is the permission.
        connect(host, read_seconds=WAIT, allowed=[name]) as client,
    ):
        asked = ask_all(OllamaModel(client, name), rows, chosen, about)
    if given.model:
        print(f"{name} at {given.host}, prompt {PROMPT_VERSION}; {len(asked)} failures")
    else:
        print("NO MODEL WAS ASKED. A stand-in that knows the labels answered, and erred by dice:")
        print("what follows shows that the machinery works, and says nothing about any model.")
        print(f"{len(asked)} failures")
    report_answers(asked)
    broken = report_outcomes(asked, BUILTIN_BOUND, f"at the bound in force ({BUILTIN_BOUND})")
    broken += report_outcomes(
        asked, 0.0, "without any bound (what the model tells apart; never so in earnest)"
    )
    report_confidence(asked)
    for what in broken:
        print(f"BROKEN: a model brought an act about: {what}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

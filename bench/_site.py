"""A made-up site whose tasks fail as those of tests/corpus did, drawn by lot; for bench.stream.

What is assumed of a site stands in capitals below. None of it was fitted to the results.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from pathlib import Path
from typing import Any

from aiops_cli.incidents import UNMAPPED, Excerpt, Incident
from bench._variations import CORPUS
from knowledge.evidence import RERUN_ACTIONS
from knowledge.signature import sign

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
INSTANCE = "site"

NOVEL = 0.20  # of the incidents are of a kind that never comes again: the ceiling is the rest
NOVEL_CLASSES = 0.15  # of the corpus' classes are seen once at most; other novel ones are made up
ZIPF = 1.0  # the class of rank r fails 1 / r ** ZIPF as often as the first
HOURS_BETWEEN = 8.0  # failures on average: 200 are about two months
TASKS = (5, 3, 2)  # so many of ten classes are met on one task, on two, on three
SAME_TEXT = 0.8  # of a task's failures of a class have its usual text, the rest another of it
DANGEROUS = 0.10  # of the tasks do harm when they run again (and end green all the same)
AMBIGUOUS = 0.05  # of the tasks need something else than their class does, with the same text
# Of the connections that have to be changed need a new password or key, which the tool neither
# sees nor sets: a person does that by hand, and says `none` with the cause.
BY_HAND = 0.6
TAGGED = 0.4  # of the other tasks have a tag that says they may run again

_NUMBERS = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+|\b\d{5,}\b|\bpage=\d+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b"
)


@dataclass(frozen=True)
class Text:
    """One labelled failure text."""

    label: str
    action: str
    text: str


@dataclass(frozen=True)
class Spot:
    """One task and one kind of failure that it has. `right` is what ends it; `harmful` that
    running the task again does harm."""

    dag_id: str
    task_id: str
    right: str
    params: Mapping[str, Any]
    harmful: bool
    tags: tuple[str, ...]
    texts: tuple[str, ...]  # its usual one first
    novel: bool = False


@dataclass(frozen=True)
class Failure:
    spot: Spot
    incident: Incident = field(repr=False)


def corpus(file: Path = CORPUS) -> list[Text]:
    """Labelled texts, one JSON object with `class`, `action` and `text` a line."""
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [Text(one["class"], one["action"], one["text"]) for one in records]


def halves(texts: Sequence[Text], seed: int) -> tuple[frozenset[str], frozenset[str]]:
    """The classes in two halves by lot: what is tuned on one is measured on the other."""
    labels = sorted({one.label for one in texts})
    random.Random(seed).shuffle(labels)
    return frozenset(labels[::2]), frozenset(labels[1::2])


def stream(texts: Sequence[Text], length: int, seed: int) -> Iterator[Failure]:
    """The site's failures in their order. The same for the same seed."""
    dice = random.Random(seed)
    by_label: dict[str, list[Text]] = {}
    for one in texts:
        by_label.setdefault(one.label, []).append(one)
    labels = sorted(by_label)
    dice.shuffle(labels)
    once, often = _split(labels, round(len(labels) * NOVEL_CLASSES))
    spots = [_spots(by_label[label], number, dice) for number, label in enumerate(often)]
    weights = list(accumulate(1 / rank**ZIPF for rank in range(1, len(often) + 1)))
    at = START
    for number in range(length):
        at += timedelta(hours=dice.expovariate(1 / HOURS_BETWEEN))
        if dice.random() < NOVEL:
            spot = _novel(
                by_label[once.pop()] if once and dice.random() < 0.3 else (), number, dice
            )
        else:
            spot = _one_of(dice.choices(spots, cum_weights=weights)[0], dice)
        yield Failure(spot, incident_of(spot, number, at, dice))


def incident_of(spot: Spot, number: int, at: datetime, dice: random.Random) -> Incident:
    usual = len(spot.texts) == 1 or dice.random() < SAME_TEXT
    text = spot.texts[0] if usual else dice.choice(spot.texts[1:])
    text = _NUMBERS.sub(lambda found: _other_digits(found[0], dice), text)
    return Incident(
        instance=INSTANCE,
        dag_id=spot.dag_id,
        run_id=f"scheduled__{number}",
        task_id=spot.task_id,
        map_index=UNMAPPED,
        try_number=1,
        failed_at=at,
        seen_at=at,
        signature=sign(text),
        excerpt=Excerpt(text),
        ti_id=f"ti-{number}-1",
        context={"tags": list(spot.tags), "run_type": "scheduled"},
    )


def _split(labels: list[str], first: int) -> tuple[list[str], list[str]]:
    return labels[:first], labels[first:]


def _spots(texts: Sequence[Text], number: int, dice: random.Random) -> list[Spot]:
    """The tasks that have this kind of failure, those it is met on most often first."""
    count = dice.choices((1, 2, 3), TASKS)[0]
    return [_spot(texts, f"dag_{number}_{place}", dice) for place in range(count)]


def _spot(texts: Sequence[Text], dag_id: str, dice: random.Random) -> Spot:
    label_action = texts[0].action
    own = dice.sample([one.text for one in texts], len(texts))
    harmful = dice.random() < DANGEROUS
    right = label_action
    by_hand = right == "update_connection" and dice.random() < BY_HAND
    if harmful or by_hand:  # whatever repairs it ends with running it again
        right = "none"
    elif dice.random() < AMBIGUOUS:
        right = "none" if right in RERUN_ACTIONS else "retry"
    task_id = "load"
    tagged = not harmful and dice.random() < TAGGED
    tags = (f"aiops:rerun-safe:{task_id}",) if tagged else ()
    return Spot(dag_id, task_id, right, _params(right, dag_id), harmful, tags, tuple(own))


def _params(action: str, dag_id: str) -> dict[str, Any]:
    """What a person would fill in; each object is one task's own."""
    filled_in: Mapping[str, dict[str, Any]] = {
        "retry_later": {"delay": "15m"},
        "update_connection": {"connection_id": f"{dag_id}_db", "host": "replica"},
        "clear_xcom": {"task_id": "extract", "keys": ["return_value"]},
        "retry_upstream": {"task_ids": ["extract"]},
    }
    return filled_in.get(action, {})


def _one_of(spots: Sequence[Spot], dice: random.Random) -> Spot:
    weights = [1 / place for place in range(1, len(spots) + 1)]
    return dice.choices(spots, weights)[0]


def _novel(texts: Sequence[Text], number: int, dice: random.Random) -> Spot:
    """A failure of a class that is met this once, or of one that nobody has seen anywhere."""
    if texts:
        spot = _spot(texts, f"once_{number}", dice)
        return Spot(
            spot.dag_id, spot.task_id, spot.right, spot.params, spot.harmful, spot.tags,
            spot.texts[:1], novel=True,
        )  # fmt: skip
    right = dice.choice(("none", "none", "none", "retry"))
    text = made_up(dice)
    return Spot(f"once_{number}", "load", right, {}, dice.random() < DANGEROUS, (), (text,), True)


def made_up(dice: random.Random) -> str:
    """A traceback of code that is nobody else's: its exception and its words are new."""

    def word() -> str:
        return "".join(dice.choices(string.ascii_lowercase, k=dice.randint(4, 9)))

    name = "".join(word().capitalize() for _ in range(2)) + dice.choice(("Error", "Violation"))
    said = " ".join(word() for _ in range(dice.randint(4, 9)))
    return (
        "Traceback (most recent call last):\n"
        f'  File "/opt/airflow/dags/{word()}.py", line {dice.randint(8, 90)}, in {word()}\n'
        f"    {word()}({word()})\n{word()}.{word()}.{name}: {said}\n"
    )


def _other_digits(text: str, dice: random.Random) -> str:
    """The same form with other digits; a date stays one."""
    if text[:4].isdigit() and text[4:5] == "-":
        moment = START + timedelta(seconds=dice.randrange(10**7))
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{dice.randrange(10**6):06}"
    return re.sub(r"\d", lambda _: str(dice.randint(0, 9)), text)

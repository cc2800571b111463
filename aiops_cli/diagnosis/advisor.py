"""A model's opinions: asked at most once for the same failure, kept, and never waited for by those
who have other things to do.

An opinion belongs to (signature, matched entry, action, model, prompt version). The thread that
asks the model never touches the store.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aiops_cli.diagnosis.answer import quotes_stand
from aiops_cli.errors import ModelError
from aiops_cli.incidents import Opinion, Question, Suggestion
from aiops_cli.seams import Model
from knowledge.records import short_hash
from knowledge.stores import Store

# A model that could not be reached is left alone for so long: each try may cost seconds.
DOWN_SECONDS = 60

PENDING = "it has not answered yet"
NOT_ASKED = "it was not asked"
SKIPPED = "it was skipped"

# now: ask and wait. background: ask, and look for the answer later. stored: never ask.
When = Literal["now", "background", "stored"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: a suggestion with whether its quotes stand, or why it was dropped; or
    (`unavailable`) why there is no answer, which is not kept."""

    suggestion: Suggestion | None = None
    quotes_stand: bool = False
    dropped: str = ""
    unavailable: str = ""


Ask = Callable[[Question], Answer]
Waiting = Callable[[], AbstractContextManager[Callable[[int], None] | None]]


class Advisor:
    """Asks one model, for one thread after the other. `ask` turns a question into an answer: it
    never raises but for KeyboardInterrupt, and may run in a thread of the advisor's own."""

    def __init__(
        self,
        model: Model,
        prompt_version: str,
        ask: Ask,
        store: Store,
        when: When,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model.name
        self.prompt = model.prompt
        self._version = prompt_version
        self._ask = ask
        self._store = store
        self.when = when
        self._now = monotonic
        self._down: tuple[float, str] | None = None
        self._asked: set[str] = set()
        self._answers: queue.SimpleQueue[tuple[str, Answer]] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[tuple[str, Question]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turn = threading.RLock()  # several Airflows may be looked at side by side
        self._came = False  # since `wait` was called last

    def opinion(self, about: Iterable[str], question: Callable[[], Question]) -> Opinion:
        """The opinion on a failure: a kept one, or one that is asked for as `when` says. `about`
        names what it belongs to beside the model and its prompt."""
        with self._turn:
            return self._opinion_on(about, question)

    def _opinion_on(self, about: Iterable[str], question: Callable[[], Question]) -> Opinion:
        self._collect()
        key = f"model {short_hash(self.model, self._version, *about)}"
        kept = self._store.mark(key)
        if kept is not None:
            return self._opinion(_read(kept))
        if self._down and self._now() < self._down[0]:
            return Opinion(self.model, unheard=self._down[1])
        if self.when == "stored":
            return Opinion(self.model, unheard=NOT_ASKED)
        if self.when == "background":
            self._send(key, question)
            return Opinion(self.model, unheard=PENDING)
        try:
            answer = self._ask(question())
        except KeyboardInterrupt as stop:  # Ctrl-C skips the model, not the command
            if type(stop) is not KeyboardInterrupt:  # SIGTERM or SIGHUP, which come only once
                raise
            return Opinion(self.model, unheard=SKIPPED)
        return self._opinion(self._keep(key, answer))

    def wait(self, seconds: float) -> bool:
        """Wait for what was asked in the background, no longer than that; whether anything came
        since this was called last, meanwhile included."""
        deadline = self._now() + seconds
        while self._asked and (left := deadline - self._now()) > 0:
            try:
                key, answer = self._answers.get(timeout=min(left, 1.0))
            except queue.Empty:
                continue
            self._take(key, answer)
        came, self._came = self._came, False
        return came

    @property
    def waiting(self) -> int:
        """How many answers are still to come."""
        return len(self._asked)

    def _send(self, key: str, question: Callable[[], Question]) -> None:
        if key in self._asked:
            return
        self._asked.add(key)
        self._questions.put((key, question()))
        if self._thread is None:
            # A daemon: a model that hangs must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, daemon=True, name="model")
            self._thread.start()

    def _work(self) -> None:
        while True:
            key, question = self._questions.get()
            self._answers.put((key, self._ask(question)))

    def _collect(self) -> None:
        while True:
            try:
                key, answer = self._answers.get_nowait()
            except queue.Empty:
                return
            self._take(key, answer)

    def _take(self, key: str, answer: Answer) -> None:
        self._asked.discard(key)
        self._came = True
        self._keep(key, answer)

    def _keep(self, key: str, answer: Answer) -> Answer:
        if answer.unavailable:
            self._down = self._now() + DOWN_SECONDS, answer.unavailable
        else:
            self._store.set_mark(key, json.dumps(asdict(answer)))
        return answer

    def _opinion(self, answer: Answer) -> Opinion:
        unheard = answer.unavailable or f"its answer was dropped: {answer.dropped}"
        if answer.suggestion is None:
            return Opinion(self.model, unheard=unheard)
        return Opinion(self.model, answer.suggestion, answer.quotes_stand)


def asker(model: Model, waiting: Waiting | None = None) -> Ask:
    """How `model` is asked: whatever goes wrong with it becomes a word. `waiting` surrounds each
    question, for a person to see that the model works."""

    def ask(question: Question) -> Answer:
        try:
            with waiting() if waiting else nullcontext() as told:
                suggestion = model.suggest(question, told)
        except ModelError as error:
            return Answer(dropped=error.why) if error.dropped else Answer(unavailable=error.why)
        except Exception as error:  # noqa: BLE001 -- an answer is hostile; its thread must not end
            return Answer(unavailable=f"aiops failed at its answer ({type(error).__name__})")
        return Answer(suggestion, quotes_stand(suggestion, question.excerpt))

    return ask


def _read(kept: str) -> Answer:
    document: dict[str, Any] = json.loads(kept)
    said = document.pop("suggestion")
    if said is not None:
        said = Suggestion(**{**said, "quotes": tuple(said["quotes"])})
    return Answer(said, **document)

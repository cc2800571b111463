"""A model's opinions: asked once, kept, never waited for by those who do not want to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aiops_cli.commands.keys import Gone
from aiops_cli.diagnosis.advisor import (
    DOWN_SECONDS,
    NOT_ASKED,
    PENDING,
    SKIPPED,
    Advisor,
    Answer,
    When,
    asker,
)
from aiops_cli.errors import ModelError
from aiops_cli.incidents import Opinion, Prompt, Question, Suggestion
from knowledge.stores.memory import MemoryStore

EXCERPT = "ConnectionRefusedError: [Errno 111] Connection refused"
QUESTION = Question(EXCERPT, 1, {}, (), {"retry": "run again", "none": "nothing"})
SAID = Suggestion("retry", "a restart", 0.9, "it restarts", (EXCERPT,), "llama", "v1")


class Stub:
    """A model that says what it is told to, or fails."""

    name = "llama"

    def __init__(self) -> None:
        self.asked = 0
        self.says: Suggestion | ModelError = SAID
        self.may_answer = threading.Event()
        self.may_answer.set()

    def prompt(self, question: Question) -> Prompt:
        raise NotImplementedError

    def suggest(self, question: Question, told: Callable[[int], None] | None = None) -> Suggestion:
        self.asked += 1
        assert self.may_answer.wait(30)
        if isinstance(self.says, ModelError):
            raise self.says
        return self.says


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def advisor(stub: Stub, when: When, store: MemoryStore | None = None, **more: object) -> Advisor:
    clock = more.pop("clock", None) or Clock()
    assert isinstance(clock, Clock)
    return Advisor(stub, "v1", asker(stub), store or MemoryStore(), when, clock)


def opinion(of: Advisor, *about: str) -> Opinion:
    return of.opinion(about or ("fp", "entry", "retry"), lambda: QUESTION)


def test_it_is_asked_once_and_kept_for_others() -> None:
    stub, store = Stub(), MemoryStore()
    first = advisor(stub, "now", store)
    assert opinion(first) == Opinion("llama", SAID, quotes_stand=True)
    assert opinion(first) == opinion(advisor(stub, "stored", store))
    assert stub.asked == 1
    opinion(first, "fp", "entry", "none")
    opinion(first, "another", "entry", "retry")
    assert stub.asked == 3


def test_another_model_or_prompt_is_asked_anew() -> None:
    stub, store = Stub(), MemoryStore()
    for model, version in (("llama", "v1"), ("llama", "v2"), ("qwen", "v2")):
        stub.name = model
        opinion(Advisor(stub, version, asker(stub), store, "now"))
    assert stub.asked == 3


def test_quotes_that_do_not_stand_are_told() -> None:
    stub = Stub()
    stub.says = Suggestion("retry", "c", 0.9, "", ("it never said this at all",), "llama", "v1")
    assert not opinion(advisor(stub, "now")).quotes_stand


def test_who_does_not_ask_hears_nothing() -> None:
    stub = Stub()
    assert opinion(advisor(stub, "stored")).unheard == NOT_ASKED
    assert stub.asked == 0


def test_a_dropped_answer_is_not_asked_for_again() -> None:
    stub, store = Stub(), MemoryStore()
    stub.says = ModelError("m", why="it holds no JSON object", dropped=True)
    for _ in range(2):
        heard = opinion(advisor(stub, "now", store))
        assert heard == Opinion("llama", unheard="its answer was dropped: it holds no JSON object")
    assert stub.asked == 1


def test_a_model_that_is_away_is_left_alone_for_a_while() -> None:
    stub, clock = Stub(), Clock()
    stub.says = ModelError("m", why="refused the connection")
    one = advisor(stub, "now", clock=clock)
    for about in ("a", "b", "c"):
        assert opinion(one, about).unheard == "refused the connection"
    assert stub.asked == 1
    clock.now += DOWN_SECONDS
    stub.says = SAID
    assert opinion(one, "a").suggestion == SAID


def test_in_the_background_nobody_waits() -> None:
    stub = Stub()
    stub.may_answer.clear()
    one = advisor(stub, "background")
    for _ in range(3):
        assert opinion(one).unheard == PENDING
        assert opinion(one, "other").unheard == PENDING
    assert one.waiting == 2
    stub.may_answer.set()
    while one.waiting:
        assert one.wait(30)
    assert opinion(one).suggestion == SAID
    assert opinion(one, "other").suggestion == SAID
    assert stub.asked == 2


def test_waiting_has_an_end() -> None:
    stub, clock = Stub(), Clock()
    stub.may_answer.clear()
    one = advisor(stub, "background", clock=clock)
    opinion(one)
    assert not one.wait(0)
    assert one.waiting == 1
    stub.may_answer.set()


def test_ctrl_c_skips_the_model_and_nothing_is_kept() -> None:
    def interrupted(question: Question) -> Answer:
        raise KeyboardInterrupt

    store = MemoryStore()
    one = Advisor(Stub(), "v1", interrupted, store, "now")
    assert opinion(one).unheard == SKIPPED
    assert opinion(advisor(Stub(), "now", store)).suggestion == SAID


def test_who_ends_the_program_ends_more_than_the_model() -> None:
    """SIGTERM comes once: whoever swallows it makes the program one that only kill -9 ends."""

    def ended(question: Question) -> Answer:
        raise Gone

    with pytest.raises(Gone):
        opinion(Advisor(Stub(), "v1", ended, MemoryStore(), "now"))


def test_a_person_sees_that_it_works() -> None:
    seen: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        seen.append("begun")
        yield
        seen.append("ended")

    stub = Stub()
    one = Advisor(stub, "v1", asker(stub, waiting), MemoryStore(), "now")
    opinion(one)
    assert seen == ["begun", "ended"]


@pytest.mark.parametrize("when", ["now", "background", "stored"])
def test_a_failure_of_ours_is_not_swallowed(when: When) -> None:
    def broken() -> Question:
        raise ZeroDivisionError

    one = advisor(Stub(), when)
    if when == "stored":
        assert one.opinion(("fp",), broken).unheard == NOT_ASKED
    else:
        with pytest.raises(ZeroDivisionError):
            one.opinion(("fp",), broken)


def test_what_came_during_a_pass_is_told_after_it() -> None:
    """Those that were looked at before the answer came are looked at once more."""
    stub = Stub()
    one = advisor(stub, "background")
    opinion(one)
    while opinion(one).suggestion is None:
        pass
    assert not one.waiting
    assert one.wait(0)
    assert not one.wait(0)


@pytest.mark.parametrize("when", ["now", "background"])
def test_an_answer_that_we_fail_at_ends_no_thread(when: When) -> None:
    class Odd(Stub):
        def suggest(
            self, question: Question, told: Callable[[int], None] | None = None
        ) -> Suggestion:
            if not self.asked:
                self.asked += 1
                raise RecursionError
            return super().suggest(question, told)

    clock = Clock()
    one = advisor(Odd(), when, clock=clock)
    opinion(one)
    one.wait(30)
    assert opinion(one).unheard == "aiops failed at its answer (RecursionError)"
    clock.now += DOWN_SECONDS
    opinion(one)
    one.wait(30)
    assert opinion(one).suggestion == SAID

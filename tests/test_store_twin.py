"""The SQL stores and their twin in plain Python give the same answers to any sequence of
questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from knowledge.stores import Store, VectorSpace
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.rules import Clock
from knowledge.stores.sqlite import SqliteStore
from tests.pgbouncer import in_turns
from tests.postgres_database import made, new_name
from tests.samples import SPACE, embedded, lesson, unit
from tests.twins import INCIDENTS, TEXTS, ActingTwins, Opened, few, fingerprint, incidents

OTHER = VectorSpace("other", 3, 1)

vectors = st.tuples(*[st.integers(-2, 2)] * 3).filter(any).map(lambda xs: unit(*xs))
spaces = st.sampled_from([SPACE, OTHER])
marks = st.sampled_from([None, "a", "b"])


class Twins(ActingTwins):
    """And everything about what is known."""

    @rule(
        name=st.sampled_from(["entry-a", "entry-b"]),
        symptoms=st.lists(st.tuples(st.sampled_from(TEXTS), vectors), max_size=2),
        changes=st.fixed_dictionaries(
            {
                "cause": st.sampled_from(["one", "two"]),
                "source": st.sampled_from(["runbooks/db.md:1", "starter/db.yaml:1"]),
                "retired": st.sampled_from([False, False, True]),
            }
        ),
        space=spaces,
    )
    def put(self, name: str, symptoms: Any, changes: dict[str, Any], space: VectorSpace) -> None:
        one = embedded(name, *symptoms, created_at=self.clock.now(), **changes)
        self.same(lambda store: store.put_entries([one], space, self.clock.now()))

    @rule(name=st.sampled_from(["entry-a", "entry-b"]))
    def retire(self, name: str) -> None:
        self.same(lambda store: store.retire_entries([name], "me", self.clock.now(), "why"))

    @rule(vector=vectors, text=st.sampled_from(TEXTS))
    def find(self, vector: Any, text: str) -> None:
        # Equal distances and scores may come in either order: 32 and 64 bits round differently.
        self.same(lambda store: {_named(one) for one in store.find_vector(vector, 10)})
        self.same(lambda store: {_named(one) for one in store.find_text(text.lower().split(), 10)})
        self.same(lambda store: store.find_exact(fingerprint(text)))

    @rule(space=spaces, limit=few)
    def embed(self, space: VectorSpace, limit: int) -> None:
        """A step of a reindex: the numbers of symptoms are each store's own."""

        def step(store: Store) -> list[str]:
            asked = store.unembedded(space, limit)
            store.embed(space, {number: unit(len(text), 1, 0) for number, text in asked})
            return [text for _, text in asked]

        self.same(step)

    @rule(space=spaces)
    def ask_for_what_is_not_embedded(self, space: VectorSpace) -> None:
        self.same(lambda store: [text for _, text in store.unembedded(space, 9)])

    @rule(space=spaces)
    def switch_space(self, space: VectorSpace) -> None:
        self.same(lambda store: store.switch_space(space))

    @rule(
        several=st.lists(incidents, max_size=2),
        action=st.sampled_from(["retry", None]),
        mode=st.sampled_from(["person", "airflow"]),
    )
    def learn(self, several: list[Any], action: str | None, mode: str) -> None:
        lessons = [
            lesson(
                instance=one.instance,
                dag_id=one.dag_id,
                task_id=one.task_id,
                map_index=one.map_index,
                try_number=one.try_number,
                signature=one.signature,
                action=action,
                mode=mode,
            )
            for one in several
        ]
        self.same(lambda store: store.add_lessons(lessons))

    @rule(before=marks, value=st.sampled_from(["a", "b"]))
    def swap_mark(self, before: str | None, value: str) -> None:
        self.same(lambda store: store.swap_mark("told", before, value))

    @rule(value=st.sampled_from(["a", "b"]))
    def remember(self, value: str) -> None:
        self.same(lambda store: store.set_mark("told", value))
        self.same(lambda store: store.set_watermark(value, self.clock.now()))
        self.same(lambda store: store.bind_instance("prod", f"http://{value}"))

    @rule(retired=st.booleans(), limit=few, offset=few)
    def entry_page(self, **question: Any) -> None:
        self.same(lambda store: store.entry_page(**question))

    @invariant()
    def both_know_the_same(self) -> None:
        ids = [one.id for one in INCIDENTS]
        fingerprints = [*map(fingerprint, TEXTS)]
        self.same(lambda store: store.vector_space())
        self.same(lambda store: store.versions())
        self.same(lambda store: store.entries(retired=True))
        self.same(lambda store: store.entries(source="starter/", kind="runbook"))
        self.same(lambda store: store.first_put())
        self.same(lambda store: store.known_incidents(ids))
        self.same(lambda store: store.known_lessons(ids))
        self.same(lambda store: store.lessons(fingerprints))
        self.same(lambda store: store.lesson_counts())
        self.same(lambda store: store.mark("told"))
        self.same(lambda store: store.watermark("a"))


def _named(one: Any) -> tuple[str, int]:
    return one.entry.id, one.symptom


def compared(opened: Opened, examples: int) -> None:
    class Compared(Twins):
        def __init__(self) -> None:
            super().__init__(opened)

    run_state_machine_as_test(
        Compared,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_sqlite_and_the_twin_say_the_same() -> None:
    compared(lambda now: closing(SqliteStore.in_memory(now)), examples=20)


def test_postgres_and_the_twin_say_the_same(postgres: str, schema_template: str) -> None:
    @contextmanager
    def opened(now: Clock) -> Iterator[Store]:
        with (
            made(postgres, new_name(), schema_template) as database,
            closing(PostgresStore.open(database.app, now)) as store,
        ):
            yield store

    compared(opened, examples=4)


def test_postgres_behind_a_pooler_and_the_twin_say_the_same(
    postgres: str, schema_template: str, pgbouncer: Callable[..., str]
) -> None:
    """Two clients that take turns, and never know in which session."""

    @contextmanager
    def opened(now: Clock) -> Iterator[Store]:
        with made(postgres, new_name(), schema_template) as database:
            dsn = pgbouncer(database, pool_size=2)
            with (
                closing(PostgresStore.open(dsn, now)) as one,
                closing(PostgresStore.open(dsn, now)) as two,
            ):
                yield in_turns(one, two)

    compared(opened, examples=2)

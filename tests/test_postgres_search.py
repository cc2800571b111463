"""The two searches in Postgres: the index of the vectors beside the exact answer, and the words
beside what SQLite answers."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench._variations import corpus_signatures, variations
from knowledge.embedders import BuiltinEmbedder, cosine
from knowledge.records import Candidate
from knowledge.stores import Store, VectorSpace, postgres, postgres_engine, postgres_schema
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_engine import ROWS_AT_ONCE
from knowledge.stores.postgres_schema import migrate
from knowledge.stores.sqlite import SqliteStore
from knowledge.tokens import tokenize
from tests.postgres_database import APP, OWNER, Database, made, new_name
from tests.samples import NOW, SPACE, added, embedded, incident, opened, unit

MANY = 1_200  # entries: more than one statement, or one round of a put, takes
FOLDED = VectorSpace("folded", 64, 1)
OTHER = VectorSpace("other", 3, 1)

BASE = list(islice(variations(corpus_signatures(), seed=1), MANY))
QUERIES = list(islice(variations(corpus_signatures(), seed=2), 40))


def folded(texts: Sequence[str]) -> list[tuple[float, ...]]:
    """The vectors of the built-in embedder in fewer dimensions, for the sake of time."""
    step = FOLDED.dimensions
    return [
        unit(*(sum(vector[place::step]) for place in range(step)))
        for vector in BuiltinEmbedder().embed(texts)
    ]


@pytest.fixture(scope="module")
def vectors() -> dict[str, tuple[float, ...]]:
    """The vector of each entry, by its id."""
    return {str(number): vector for number, vector in enumerate(folded(BASE))}


@pytest.fixture(scope="module")
def filled(
    postgres: str, schema_template: str, vectors: dict[str, tuple[float, ...]]
) -> Iterator[str]:
    """The name of a database with many entries, whose vectors have an index."""
    with made(postgres, new_name(), schema_template) as database:
        with closing(PostgresStore.open(database.app)) as store:
            entries = [
                embedded(name, (BASE[int(name)], vector)) for name, vector in vectors.items()
            ]
            store.put_entries(entries, FOLDED, NOW)
        with pytest.MonkeyPatch.context() as patch:
            index(database, patch)
        yield database.name


@pytest.fixture
def many(postgres: str, filled: str) -> Iterator[Database]:
    """A copy of it, for this test alone."""
    with made(postgres, new_name(), filled) as database:
        prefer_indexes(database)
        yield database


@pytest.fixture
def store(many: Database) -> Iterator[PostgresStore]:
    with closing(PostgresStore.open(many.app)) as opened:
        yield opened


def index(database: Database, patch: pytest.MonkeyPatch, least: int = 1) -> None:
    """What autovacuum and the owner do, with an index from `least` vectors on."""
    run(database, "VACUUM ANALYZE")
    patch.setattr(postgres_schema, "INDEX_FROM", least)
    migrate(database.owner, APP)


def prefer_indexes(database: Database) -> None:
    """Have the planner use an index where there is one, however few the vectors are."""
    run(database, f"ALTER ROLE {APP} IN DATABASE {database.name} SET enable_sort = off")


def run(database: Database, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database.admin, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def indexes(database: Database) -> list[str]:
    """The definitions of the indexes on vectors."""
    found = run(database, "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'")
    return [str(definition) for (definition,) in found]


def ids(found: Sequence[Candidate]) -> list[str]:
    return [one.entry.id for one in found]


def nearest(
    vectors: dict[str, tuple[float, ...]], query: Sequence[float], limit: int
) -> list[tuple[float, str]]:
    """The exact answer: cosines with ids, the nearest first."""
    return sorted(((cosine(query, one), name) for name, one in vectors.items()), reverse=True)[
        :limit
    ]


def plans(store: PostgresStore, patch: pytest.MonkeyPatch) -> list[str]:
    """Filled with the plan of each query of vectors that the store makes from now on."""
    told: list[str] = []
    ask = store._db.rows

    def explained(sql: str, values: object = ()) -> list[dict[str, object]]:
        if "FROM vectors" in sql and "ORDER BY" in sql:
            told.append("\n".join(row["QUERY PLAN"] for row in ask(f"EXPLAIN {sql}", values)))  # type: ignore[arg-type] # as given
        return ask(sql, values)  # type: ignore[arg-type] # as given

    patch.setattr(store._db, "rows", explained)
    return told


# --- vectors -----------------------------------------------------------------------------------


def test_the_index_overlooks_little(
    store: PostgresStore,
    vectors: dict[str, tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = plans(store, monkeypatch)
    hits = 0
    for query in folded(QUERIES):
        fifth = nearest(vectors, query, 5)[-1][0]
        found = store.find_vector(query, 30)
        assert len(found) == 30
        cosines = [cosine(query, vectors[name]) for name in ids(found)]
        assert cosines == pytest.approx(sorted(cosines, reverse=True), abs=1e-6)
        hits += sum(one >= fifth - 1e-6 for one in cosines[:5])
    assert hits / (5 * len(QUERIES)) >= 0.97
    assert len(told) == len(QUERIES), "the first answer was whole"
    assert all("Index Scan using vectors_of_space_1" in plan for plan in told)


def test_without_an_index_the_answer_is_exact(
    store: PostgresStore,
    many: Database,
    vectors: dict[str, tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(many, "DROP INDEX aiops.vectors_of_space_1")
    for query in folded(QUERIES[:10]):
        cosines = [cosine(query, vectors[name]) for name in ids(store.find_vector(query, 30))]
        expected = [one for one, _ in nearest(vectors, query, 30)]
        assert cosines == pytest.approx(expected, abs=1e-6)


def test_an_index_is_made_from_so_many_vectors_on(
    many: Database, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(many, "DROP INDEX aiops.vectors_of_space_1")
    index(many, monkeypatch, MANY + 1)
    assert indexes(many) == []
    assert store.advice() == ""
    monkeypatch.setattr(postgres_schema, "INDEX_FROM", MANY)
    assert "aiops kb migrate" in store.advice(), "who has grown is told"
    index(many, monkeypatch, MANY)
    [made] = indexes(many)
    assert "(embedding)::vector(64)" in made
    assert store.advice() == ""
    index(many, monkeypatch, MANY)
    assert indexes(many) == [made]


def test_others_go_on_while_an_index_is_made(
    many: Database, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes minutes: nobody who watches waits for it."""
    run(many, "DROP INDEX aiops.vectors_of_space_1")
    monkeypatch.setattr(postgres_engine, "LOCK_SECONDS", 1)
    make = postgres_schema._index_vectors
    found: list[int] = []

    def spied(engine: postgres_engine.Database) -> None:
        make(engine)
        added(store, incident(0))  # it is made, and not committed yet
        token, _ = opened(store, incident(0))
        store.settle(incident(0).id, token, "done")
        found.append(len(store.find_vector(folded(QUERIES[:1])[0], 5)))

    monkeypatch.setattr(postgres_schema, "_index_vectors", spied)
    index(many, monkeypatch)
    assert len(indexes(many)) == 1
    assert found == [5]


@pytest.mark.parametrize(("held", "used"), [("64MB", "512MB"), ("1GB", "1GB")])
def test_an_index_is_made_in_memory_of_its_own(
    many: Database, held: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(many, "DROP INDEX aiops.vectors_of_space_1")
    run(many, f"ALTER ROLE {OWNER} IN DATABASE {many.name} SET maintenance_work_mem = '{held}'")
    told: list[tuple[object, object]] = []
    script = postgres_engine.Database.script

    def spied(engine: postgres_engine.Database, statements: str) -> None:
        script(engine, statements)
        if "CREATE INDEX vectors" in statements:
            [row] = engine.rows(
                "SELECT current_setting('maintenance_work_mem') AS memory, "
                "current_setting('max_parallel_maintenance_workers') AS others"
            )
            told.append((row["memory"], row["others"]))

    monkeypatch.setattr(postgres_engine.Database, "script", spied)
    index(many, monkeypatch)
    assert told == [(used, "0")]


def test_what_is_retired_or_replaced_never_crowds_out_what_lives(
    store: PostgresStore, vectors: dict[str, tuple[float, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = plans(store, monkeypatch)
    [query] = folded(QUERIES[:1])
    closest = [name for _, name in nearest(vectors, query, 600)]
    store.retire_entries(closest[:300], "me", NOW, "old")
    away = tuple(-x for x in query)
    store.put_entries(
        [embedded(name, (BASE[int(name)], away), cause="new") for name in closest[300:]],
        FOLDED,
        NOW,
    )
    living = {name: vector for name, vector in vectors.items() if name not in closest}
    found = ids(store.find_vector(query, 5))
    assert found == [name for _, name in nearest(living, query, 5)]
    [plan] = told
    assert "Index Scan using vectors_of_space_1" in plan, "it went on until it had five"


def test_an_index_that_ends_early_is_not_believed(
    many: Database,
    vectors: dict[str, tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The number of vectors after which an index that is asked for more gives up.
    run(many, f"ALTER ROLE {APP} IN DATABASE {many.name} SET hnsw.max_scan_tuples = 1")
    with closing(PostgresStore.open(many.app)) as fresh:  # settings hold for new sessions
        told = plans(fresh, monkeypatch)
        [query] = folded(QUERIES[:1])
        found = fresh.find_vector(query, 1_000)
    assert [plan.count("vectors_of_space_1") for plan in told] == [1, 0], "asked again without it"
    cosines = [cosine(query, vectors[name]) for name in ids(found)]
    expected = [one for one, _ in nearest(vectors, query, 1_000)]
    assert cosines == pytest.approx(expected, abs=1e-6)


def test_settings_of_a_search_end_with_it(store: PostgresStore) -> None:
    names = ("hnsw.ef_search", "hnsw.iterative_scan", "enable_indexscan")

    def held() -> list[str]:
        with store._db.read():
            return [
                str(store._db.rows("SELECT current_setting(?) AS it", [name])[0]["it"])
                for name in names
            ]

    store.find_vector(folded(QUERIES[:1])[0], 5)
    assert held() == ["40", "off", "on"]


def test_two_spaces_stand_side_by_side(
    store: PostgresStore,
    many: Database,
    vectors: dict[str, tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [query] = folded(QUERIES[:1])
    before = ids(store.find_vector(query, 30))
    chance = random.Random(0)
    made: dict[str, tuple[float, ...]] = {}
    while wanted := store.unembedded(OTHER, ROWS_AT_ONCE + 1):
        new = {number: unit(*(chance.gauss(0, 1) for _ in range(3))) for number, _ in wanted}
        store.embed(OTHER, new)
        made |= {str(number - 1): vector for number, vector in new.items()}
        assert ids(store.find_vector(query, 30)) == before
    index(many, monkeypatch)
    assert ["(64)" in definition for definition in indexes(many)] == [True]

    assert store.switch_space(OTHER)
    exact = [name for _, name in nearest(made, unit(1, 2, 3), 30)]
    assert ids(store.find_vector(unit(1, 2, 3), 30)) == exact, "before there is an index"
    index(many, monkeypatch)
    assert ["(3)" in definition for definition in indexes(many)] == [True]
    told = plans(store, monkeypatch)
    found = ids(store.find_vector(unit(1, 2, 3), 30))
    assert "Index Scan using vectors_of_space_2" in told[0]
    assert len(set(found) & set(exact)) >= 29


@pytest.mark.parametrize(
    ("dimensions", "kind"),
    [
        (3, "vector(3)"),
        (2000, "vector(2000)"),
        (2001, "halfvec(2001)"),
        (4000, "halfvec(4000)"),
        (4001, None),
        (4096, None),
    ],
)
def test_vectors_of_any_length_are_found(
    database: Database, dimensions: int, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pointing(place: int) -> tuple[float, ...]:
        return unit(*(1.0 if at == place else 0.1 * (at == 0) for at in range(dimensions)))

    space = VectorSpace("long", dimensions, 1)
    with closing(PostgresStore.open(database.app)) as store:
        places = (0, 1, 2, dimensions - 1)
        entries = [embedded(str(place), (f"E: {place}", pointing(place))) for place in places]
        store.put_entries(entries, space, NOW)
        index(database, monkeypatch)
        assert [f"(embedding)::{kind}" in made for made in indexes(database)] == [True] * bool(kind)
        prefer_indexes(database)
    with closing(PostgresStore.open(database.app)) as store:
        told = plans(store, monkeypatch)
        for place in places:
            assert ids(store.find_vector(pointing(place), 1)) == [str(place)]
        assert ["vectors_of_space_1" in plan for plan in told] == [bool(kind)] * len(told)


# --- words -------------------------------------------------------------------------------------


def bm25(texts: Sequence[Sequence[str]], asked: Sequence[str]) -> list[float]:
    """What each text scores, by the formula in FTS5's documentation."""
    average = sum(map(len, texts)) / len(texts)
    scores = [0.0] * len(texts)
    for word in asked:
        having = sum(word in text for text in texts)
        rarity = max(math.log((len(texts) - having + 0.5) / (having + 0.5)), 1e-6)
        for number, text in enumerate(texts):
            times = Counter(text)[word]
            norm = 1.2 * (0.25 + 0.75 * len(text) / average)
            scores[number] += rarity * times * 2.2 / (times + norm)
    return scores


WORDS = st.sampled_from(["error", "error", "table", "db.t", "x-1", "ora-01017", "503", "_", "is"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=12), min_size=1, max_size=15)


@pytest.fixture
def both(database: Database, tmp_path: Path) -> Iterator[list[Store]]:
    stores: list[Store] = [
        SqliteStore.open(str(tmp_path / "kb" / "knowledge.db")),
        PostgresStore.open(database.app),
    ]
    yield stores
    for one in stores:
        one.close()


_names = map(str, itertools.count())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, gone=st.sets(st.integers(0, 14)), asked=st.lists(WORDS, min_size=1))
def test_words_rank_as_in_sqlite(
    both: list[Store], texts: list[list[str]], gone: set[int], asked: list[str]
) -> None:
    named = {next(_names): text for text in texts}
    entries = [embedded(name, (" ".join(text), unit(1, 0, 0))) for name, text in named.items()]
    retired = [name for number, name in enumerate(named) if number in gone]
    living = {name: tokenize(" ".join(text)) for name, text in named.items() if name not in retired}
    for store in both:
        store.put_entries(entries, SPACE, NOW)
        store.retire_entries(retired, "me", NOW, "old")
    wanted = list(dict.fromkeys(asked))
    scores = dict(zip(living, bm25(list(living.values()), wanted), strict=True)) if living else {}
    try:
        for store in both:
            found = ids(store.find_text(asked, 60))
            assert set(found) == {name for name, score in scores.items() if score > 0}
            order = [scores[name] for name in found]
            assert order == pytest.approx(sorted(order, reverse=True), rel=1e-9, abs=1e-12)
            assert len(store.find_text(asked, 2)) == min(2, len(found))
    finally:
        for store in both:  # the next example begins with nothing
            store.retire_entries(list(living), "me", NOW, "old")


def test_a_search_of_many_ranks_those_with_the_rarest_words(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more of them than it may; the others share only what most have."""
    monkeypatch.setattr(postgres, "MAX_RANKED", 100)
    store.put_entries(
        [embedded(f"rare{n}", ("Connection zeitgeist", unit(*[1] * 64))) for n in range(3)],
        FOLDED,
        NOW,
    )
    found = ids(store.find_text(["connection", "zeitgeist"], 60))
    assert found == ["rare0", "rare1", "rare2"]
    assert len(store.find_text(["connection"], 60)) == 60, "the rarest word is always asked for"


HOSTILE = st.text(min_size=1, max_size=20) | st.sampled_from(
    ["'", "''", "\\", "\\'", "a:*", "a:1A", "!a", "a&b", "a|b", "<->", "(", "%s", "%(a)s", ":a",
     "?", "\x00", "\ud800", "\U0001f600", "é" * 3000, "x" * 3000, " ", "\n"]
)  # fmt: skip


@pytest.fixture
def one_entry(database: Database) -> Iterator[PostgresStore]:
    """A store with one entry, `a`, whose one symptom has number 1 and no words."""
    with closing(PostgresStore.open(database.app)) as store:
        store.put_entries([embedded("a", ("<name>", unit(1, 0, 0)))], SPACE, NOW)
        yield store


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(HOSTILE, min_size=1, max_size=5), other=HOSTILE)
def test_a_word_is_only_a_word(one_entry: PostgresStore, words: list[str], other: str) -> None:
    with one_entry._db.write():
        one_entry._index.remove([1], [])
        one_entry._index.add_words({1: words})
    for word in words:
        assert ids(one_entry.find_text([word], 5)) == ["a"]
    assert ids(one_entry.find_text([other, words[0]], 5)) == ["a"]
    assert ids(one_entry.find_text(["never said"], 5)) == []


def test_counts_of_words_end_where_they_began(database: Database) -> None:
    with closing(PostgresStore.open(database.app)) as store:
        entries = [embedded(str(n), (f"Error {n}: gone", unit(1, 0, 0))) for n in range(3)]
        store.put_entries(entries, SPACE, NOW)
        store.retire_entries([one.entry.id for one in entries], "me", NOW, "old")
        counted = "SELECT count(*) FROM aiops.word_counts WHERE (symptoms, length) <> (0, 0)"
        assert run(database, counted) == [(0,)]


# --- many at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda one: one, lambda one: f"{one} again"])
def test_more_entries_than_one_statement_takes(
    many: Database, change: Callable[[str], str], vectors: dict[str, tuple[float, ...]]
) -> None:
    """Each keeps its own symptom and vector, the second version as the first."""
    with closing(PostgresStore.open(many.app)) as store:
        entries = [
            embedded(name, (change(BASE[int(name)]), vector)) for name, vector in vectors.items()
        ]
        counts = store.put_entries(entries, FOLDED, NOW)
        assert counts.added == 0
        assert counts.same in (0, MANY)
        for name in ("0", str(ROWS_AT_ONCE), str(MANY - 1)):
            assert ids(store.find_vector(vectors[name], 1)) == [name]
            assert store.entry(name).symptoms[0].signature.text == change(BASE[int(name)])
        assert store.audit_verify().faults == ()

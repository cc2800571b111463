"""How the two stores bear many entries: `python -m bench.scale [SIZE…]`.

Side by side at each size: what ingest, the bare vector and full-text queries and a whole `find`
(embed, candidates, re-rank) take, what Postgres' index of vectors overlooks, disk and memory. The
entries are variations of the corpus, put in by the store's own way; the queries are others of
them. On a shared machine only ratios mean something: the bounds are on ratios and on recall.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import psycopg

from bench._variations import corpus_signatures, variations
from knowledge.base import TEXT_CANDIDATES, VECTOR_CANDIDATES, KnowledgeBase
from knowledge.embedders import BuiltinEmbedder, cosine, features
from knowledge.records import Entry, Signature, Symptom, short_hash
from knowledge.stores import Store, open_store
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_schema import INDEX_FROM, migrate
from knowledge.stores.sqlite import SqliteStore
from knowledge.tokens import tokenize
from tests.postgres_database import APP, Database, database, make_roles, new_name, template
from tests.postgres_server import Run, own_server

SIZES = (1_000, 10_000, 100_000)
BOUNDED = 10_000  # the size that the bounds on time are for
MAX_FIND = 3.0  # times the bare queries, both at their 95th percentile
MAX_INGEST = 4.0  # Postgres to SQLite: each statement goes to another process and back
MIN_RECALL = 0.97
QUERIES = 40
WARM_UP = 5
AT_ONCE = 10_000  # entries of one put
ONE_BY_ONE = 10_000  # beyond, both stores are filled at once, and the time is not compared

# A small server of a team: the tests' own settings are for bases of a few rows.
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
INDEX_BYTES = 5_000  # of memory for each vector, while the index is made
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass
class Times:
    """Milliseconds of each query on one store, and what it found."""

    vector: list[float] = field(default_factory=list)
    text: list[float] = field(default_factory=list)
    find: list[float] = field(default_factory=list)
    nearest: list[list[float]] = field(default_factory=list)  # cosines of the five nearest
    best: list[float] = field(default_factory=list)  # similarity of the best match

    @property
    def bare(self) -> list[float]:
        return [vector + text for vector, text in zip(self.vector, self.text, strict=True)]

    @property
    def ratio(self) -> float:
        return p95(self.find) / p95(self.bare)


@dataclass
class Figures:
    """What was measured at one size; lists have SQLite's first, then Postgres'."""

    size: int
    ingest: list[float]  # seconds
    index: float | None  # seconds to make it, where there is one
    memory: list[int]  # bytes
    disk: list[int]
    times: list[Times]
    index_used: bool

    @property
    def recall(self) -> float:
        """Of Postgres, beside SQLite, which looks at every vector."""
        return hits(self.times[1].nearest, self.times[0].nearest)

    @property
    def agreeing(self) -> int:
        """The queries whose best match in both is equally good."""
        pairs = zip(*(times.best for times in self.times), strict=True)
        return sum(abs(one - other) < 1e-9 for one, other in pairs)


def main(arguments: Sequence[str] = ()) -> int:
    sizes = [int(size) for size in arguments] or SIZES
    broken: list[str] = []
    with postgres(max(sizes)) as admin, psycopg.connect(admin) as connection:
        tell_machine(connection)
        for size in sizes:
            figures = measure(size, admin)
            print(f"\n{f'{size:,} entries':<40}{'SQLite':>14}{'Postgres':>14}")
            report(figures)
            broken += out_of_bounds(figures)
    for what in broken:
        print(f"BROKEN: {what}")
    return int(bool(broken))


@contextmanager
def postgres(size: int) -> Iterator[str]:
    """The superuser's DSN of a server for bases of up to `size` entries: the one that
    AIOPS_TEST_PG_DSN names, else an own one."""
    with ExitStack() as stack:
        dsn = os.environ.get("AIOPS_TEST_PG_DSN")
        if dsn is None:
            run = Run(f"bench{os.getpid()}", os.getpid())
            memory = {"maintenance_work_mem": f"{max(64_000, size * INDEX_BYTES // 1000)}kB"}
            dsn = stack.enter_context(own_server(run, {**SETTINGS, **memory})).dsn
        make_roles(dsn)
        yield dsn


def measure(size: int, admin: str) -> Figures:
    """Fill both stores with `size` entries, and search them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        template(admin, new_name(), lambda dsn: migrate(dsn, APP)) as name,
    ):
        base = database(admin, name)
        file = Path(folder) / "knowledge.db"
        urls = [f"sqlite:///{file}", base.app]
        ingest = fill(urls, size)
        index = settle(base)
        with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            memory = pool.map(memory_of_finds, urls, chunksize=1)
        with ExitStack() as stack:
            stores = [stack.enter_context(closing(open_store(url))) for url in urls]
            times = search(stores)
        with psycopg.connect(base.admin) as connection:
            [[held]] = connection.execute("SELECT pg_database_size(current_database())")
            scans = connection.execute(
                "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname ^@ 'vectors_of_space'"
            ).fetchall()
        disk = [file.stat().st_size, held]
    return Figures(
        size, ingest, index if scans else None, memory, disk, times, bool(sum(scans, ()))
    )


def report(figures: Figures) -> None:
    ingest = "ingest, s" if figures.size <= ONE_BY_ONE else "ingest of both at once, s"
    tell(ingest, [f"{seconds:.1f}" for seconds in figures.ingest])
    for what, kind in (
        ("bare vector query", "vector"),
        ("bare text query", "text"),
        ("whole find", "find"),
    ):
        several = [getattr(times, kind) for times in figures.times]
        tell(f"{what}, ms p50/p95", [f"{median(one):.1f}/{p95(one):.1f}" for one in several])
    tell("find to bare queries, p95", [f"{times.ratio:.2f}x" for times in figures.times])
    tell("best match as good as the other's", ["", f"{figures.agreeing}/{QUERIES}"])
    tell("on disk, MB", [f"{size / 1e6:.0f}" for size in figures.disk])
    tell("a client's memory for finds, MB", [f"{size / 1e6:.0f}" for size in figures.memory])
    if figures.index is not None:
        tell("making the index of the vectors, s", ["", f"{figures.index:.1f}"])
        tell("recall@5 with it", ["", f"{figures.recall:.3f}"])


def out_of_bounds(figures: Figures) -> list[str]:
    wrong = []
    if figures.size == BOUNDED:
        wrong += [
            f"a find takes {times.ratio:.2f} times its bare queries on {name}, bound {MAX_FIND}"
            for name, times in zip(("SQLite", "Postgres"), figures.times, strict=True)
            if times.ratio > MAX_FIND
        ]
        ratio = figures.ingest[1] / figures.ingest[0]
        if ratio > MAX_INGEST:
            wrong.append(f"ingest takes {ratio:.1f} times as long on Postgres, bound {MAX_INGEST}")
    if figures.size >= INDEX_FROM and not figures.index_used:
        wrong.append("there is no index of the vectors, or it is not used")
    if figures.recall < MIN_RECALL:
        wrong.append(f"recall@5 is {figures.recall:.3f}, bound {MIN_RECALL}")
    return [f"{figures.size:,} entries: {what}" for what in wrong]


# --- filling ---------------------------------------------------------------------------------


def fill(urls: Sequence[str], size: int) -> list[float]:
    """Put `size` entries into each store; the seconds it took."""
    workers = 1 if size <= ONE_BY_ONE else len(urls)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(pool.map(put, urls, [size] * len(urls)))


def put(url: str, size: int) -> float:
    """The seconds that embedding and storing took, in the process of its own."""
    texts = variations(corpus_signatures(), seed=1)
    seconds = 0.0
    with closing(open_store(url)) as store:
        knowledge = KnowledgeBase(store, BuiltinEmbedder())
        for start in range(0, size, AT_ONCE):
            entries = [entry(text) for text in islice(texts, min(AT_ONCE, size - start))]
            begun = time.perf_counter()
            knowledge.put(entries, AT)
            seconds += time.perf_counter() - begun
    return seconds


def entry(text: str) -> Entry:
    """A runbook entry of usual length."""
    name = short_hash(text)
    return Entry(
        id=name,
        kind="runbook",
        source=f"runbooks/{name[:3]}.md:1",
        title=text.partition("\n")[0][:80],
        symptoms=(Symptom(text, signature(text)),),
        cause="The service behind it was away or did not know the caller.",
        created_at=AT,
        action="retry",
        explanation="Look whether the service answers, then clear the task. " * 4,
        tags=("bench",),
    )


def signature(text: str) -> Signature:
    headline = text.partition("\n")[0]
    return Signature(text, short_hash("f", text), text.partition(":")[0], headline=headline)


def settle(base: Database) -> float:
    """What autovacuum and `aiops kb migrate` would have done; the seconds of the latter."""
    with psycopg.connect(base.admin, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    begun = time.perf_counter()
    migrate(base.owner, APP)
    return time.perf_counter() - begun


# --- searching -------------------------------------------------------------------------------


def search(stores: Sequence[Store]) -> list[Times]:
    """Each query on each store in turn, so that a slow minute falls on all."""
    embedder = BuiltinEmbedder()
    measured = [Times() for _ in stores]
    queries = islice(variations(corpus_signatures(), seed=2), WARM_UP + QUERIES)
    for number, text in enumerate(queries):
        vector = embedder.embed([text])[0]
        for store, times in zip(stores, measured, strict=True):
            knowledge = KnowledgeBase(store, embedder)
            features.cache_clear()  # a command that has just begun knows no text yet
            begun = time.perf_counter()
            found = knowledge.find(signature(text))
            spent = [milliseconds_since(begun)]
            for ask in bare_queries(store, vector, list(dict.fromkeys(tokenize(text)))):
                begun = time.perf_counter()
                ask()
                spent.append(milliseconds_since(begun))
            if number < WARM_UP:
                continue
            times.find.append(spent[0])
            times.vector.append(spent[1])
            times.text.append(spent[2])
            times.best.append(found[0].similarity if found else 0.0)
            near = store.find_vector(vector, VECTOR_CANDIDATES)[:5]
            texts = [one.entry.symptoms[one.symptom].signature.text for one in near]
            times.nearest.append([cosine(vector, other) for other in embedder.embed(texts)])
    return measured


def bare_queries(
    store: Store, vector: array[float], words: Sequence[str]
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The plainest vector and full-text queries for as many candidates: numbers and no more."""
    if isinstance(store, SqliteStore):
        by_vector = "SELECT rowid FROM vec_1 WHERE embedding MATCH ? AND k = ?"
        by_text = (
            "SELECT rowid FROM symptom_words WHERE symptom_words MATCH ? ORDER BY rank LIMIT ?"
        )
        near: object = vector.tobytes()
        shared = " OR ".join(f'"{word}"' for word in words)
    elif isinstance(store, PostgresStore):
        kind = f"vector({len(vector)})"
        by_vector = (
            "SELECT symptom FROM vectors WHERE space = 1 "
            f"ORDER BY embedding::{kind} <=> CAST(? AS {kind}) LIMIT ?"
        )
        by_text = (
            "SELECT symptom FROM symptom_words, CAST(? AS tsquery) AS asked WHERE words @@ asked "
            "ORDER BY ts_rank(words, asked) DESC LIMIT ?"
        )
        near = str(vector.tolist())
        shared = " | ".join(f"'{word}'" for word in words)
    else:
        raise TypeError(store)
    engine = store._db

    def ask(sql: str, *values: object) -> None:
        with engine.read():
            engine.rows(sql, values)

    return (
        lambda: ask(by_vector, near, VECTOR_CANDIDATES),
        lambda: ask(by_text, shared, TEXT_CANDIDATES),
    )


def memory_of_finds(url: str) -> int:
    """Bytes that this process has for itself after some finds; mapped pages of a file, which the
    system may take back at any time, do not count."""
    with closing(open_store(url)) as store:
        knowledge = KnowledgeBase(store, BuiltinEmbedder())
        for text in islice(variations(corpus_signatures(), seed=3), WARM_UP):
            knowledge.find(signature(text))
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def hits(found: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> float:
    """The share of the five nearest that are at most as far as the exact fifth."""
    near = [
        cosine >= best[-1] - 1e-6
        for cosines, best in zip(found, exact, strict=True)
        for cosine in cosines
    ]
    return sum(near) / (5 * len(exact))


# --- telling ---------------------------------------------------------------------------------


def milliseconds_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3


def p95(several: Sequence[float]) -> float:
    return sorted(several)[math.ceil(0.95 * len(several)) - 1]


def tell(what: str, both: Sequence[str]) -> None:
    print(f"  {what:<38}{both[0]:>14}{both[1]:>14}", flush=True)


def tell_machine(connection: psycopg.Connection[tuple[str]]) -> None:
    import apsw

    version, vectors = (
        connection.execute(f"SELECT {what}").fetchone()
        for what in (
            "current_setting('server_version')",
            "(SELECT default_version FROM pg_available_extensions WHERE name = 'vector')",
        )
    )
    print(
        f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, "
        f"Postgres {version and version[0]}, pgvector {vectors and vectors[0]}"
    )
    print(
        "entries are variations of tests/corpus with one symptom each, put in by the store's own "
        f"way;\n{QUERIES} queries that are none of them; vectors of the built-in embedder"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

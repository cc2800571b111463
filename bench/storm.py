"""A storm: 1,000 failed tries with 10 signatures, captured and diagnosed by `aiops watch --once`.

Counted are the requests to a local Airflow of recorded answers and the questions to a local
Ollama: each signature has a near match, so that the model is asked. With a model a `--once` looks
a second time, at what the model has said; that is counted too. Memory is the peak of the whole
process in one pass (without a model), as a ratio to that of a pass over 100 failures.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from knowledge.stores import open_store
from tests.airflow_server import AirflowServer, exception
from tests.ollama_server import OllamaServer

ROOT = Path(__file__).resolve().parent.parent
FAILURES = 1_000
FEW = 100
LINES = 300  # of each log, before its error
CALLS = 1.2  # to Airflow for each failure, list pages left out
MEMORY = 1.5  # times the peak with FEW; it counts the pages of the database file that are mapped

# Each a failure of its own; a runbook knows it in slightly other words.
SIGNATURES = (
    ("LedgerLocked", "the ledger of the day is locked by the closing of the month"),
    ("QuotaSpent", "the quota of warehouse north is spent, no more queries until midnight"),
    ("FeedLate", "the feed of exchange rates has not arrived by the agreed time"),
    ("SchemaDrift", "the column customer_segment is missing in the file of the partner"),
    ("TokenStale", "the token of the service account is stale and the vault gives no other"),
    ("DiskQuota", "the scratch volume of the transformation cluster has no room left"),
    ("ReplicaBehind", "the replica is too far behind the primary to read orders from it"),
    ("BatchRefused", "the payment gateway refuses the batch while it is being maintained"),
    ("ModelGone", "the scoring model of this version is not in the registry any more"),
    ("PartnerBusy", "the file server of the partner has too many sessions for another login"),
)


class Shape(NamedTuple):
    """How the failures lie: in so many DAGs, each with one run in this state. `bound` is the
    largest allowed number of calls for each failure, if any."""

    name: str
    dags: int
    mapped: bool = False
    run: str = "failed"
    bound: float | None = CALLS


SHAPES = (
    Shape("10 DAGs with a mapped task each", 10, mapped=True),
    Shape("100 DAGs, their runs ended", 100),
    Shape("100 DAGs, their runs going on", 100, run="running"),
    # What a failure blocks is said by the DAG's tasks, which no list of Airflow's has: a call for
    # each DAG, and one for each log.
    Shape("1,000 DAGs", 1_000, bound=None),
)

KINDS = (
    ("logs", r"/logs/\d+"),
    ("list pages", r"/dags/~/.*|/api/v2/(?:dags|importErrors|eventLogs)"),
    ("DAGs", r"/dags/[^/]+/details"),
    ("tasks of a DAG", r"/dags/[^/]+/tasks"),
    ("runs", r"/dagRuns/[^/]+"),
    ("mapped tasks", r"/dagRuns/[^/]+/taskInstances"),
)


class Seen(NamedTuple):
    """What one command did; `heard` are the incidents whose judgement has the model's answer,
    `peak` is in MiB."""

    calls: Counter[str]
    asked: int
    captured: int
    heard: int
    peak: float
    seconds: float


def kind_of(path: str) -> str:
    """What a request to this path of Airflow's API asks for."""
    return next((kind for kind, end in KINDS if re.search(f"(?:{end})$", path)), "others")


def calls_each(calls: Counter[str], failures: int) -> float:
    """Calls for each failure. List pages are left out: one is for a hundred failures or DAGs."""
    return (calls.total() - calls["list pages"]) / failures


def weathered(failures: int, shape: Shape, *, model: bool = True) -> Seen:
    """What `aiops watch --once` does about so many failures, in a process of its own."""
    with _storm(failures, shape) as (airflow, ollama), tempfile.TemporaryDirectory() as home:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": home,
            "AIOPS_KB": f"sqlite:///{home}/knowledge.db",
            "AIOPS_AIRFLOW_URL": airflow.url,
            "AIOPS_AIRFLOW_USERNAME": airflow.username,
            "AIOPS_AIRFLOW_PASSWORD": airflow.password,
            "AIOPS_LLM": "ollama:llama3.1" if model else "none",
            "OLLAMA_HOST": ollama.url,
        }
        book = Path(home, "storm.yaml")
        book.write_text(_runbook())
        _run(("kb", "seed", str(book)), environ, home)
        start = time.perf_counter()
        peak = _run(("watch", "--once"), environ, home)
        seconds = time.perf_counter() - start
        calls = Counter(kind_of(request.path) for request in airflow.requests)
        captured, heard = _judged(environ["AIOPS_KB"])
    return Seen(calls, len(ollama.sent("/api/chat")), captured, heard, peak, seconds)


@contextmanager
def _storm(failures: int, shape: Shape) -> Iterator[tuple[AirflowServer, OllamaServer]]:
    """Failures of the signatures in turn, and of the DAGs in turn."""
    with AirflowServer() as airflow, OllamaServer() as ollama:
        for number in range(failures):
            round_, dag = divmod(number, shape.dags)
            kind, text = SIGNATURES[round_ % len(SIGNATURES) if shape.mapped else number % 10]
            airflow.add_failure(
                f"storm_{dag}",
                "load" if shape.mapped else f"load_{round_}",
                map_index=round_ if shape.mapped else -1,
                events=[
                    *(
                        {"event": f"row {line} of {number}", "level": "info"}
                        for line in range(LINES)
                    ),
                    exception(kind, f"{text} (request {number})"),
                ],
            )
        for row in airflow.runs.values():
            row["state"] = shape.run
        ollama.answer = lambda _: {
            "action": "retry",
            "cause": "as the entry says",
            "confidence": 0.9,
            "explanation": "",
            "quotes": [],
        }
        yield airflow, ollama


def _runbook() -> str:
    """An entry near each signature, and exactly like none."""
    return json.dumps(
        [
            {
                "title": f"{kind} in a storm",
                "symptoms": [f"{kind}: again {text}"],
                "cause": text,
                "action": "retry",
            }
            for kind, text in SIGNATURES
        ]
    )


def _run(words: Sequence[str], environ: Mapping[str, str], home: str) -> float:
    """The peak memory of `aiops WORDS` in MiB."""
    with tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(
            [sys.executable, "-m", "aiops_cli", *words],
            env=environ,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=talk,
        )
        # wait4 and not Popen.wait: it tells this process's usage alone.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            talk.seek(0)
            said = talk.read().decode(errors="replace")
            raise RuntimeError(f"aiops {' '.join(words)} ended with {process.returncode}: {said}")
    return usage.ru_maxrss / 1024


def _judged(url: str) -> tuple[int, int]:
    """How many incidents there are, and how many were judged with the model's answer."""
    with closing(open_store(url)) as store:
        documents = [case.judgement.document for case in store.cases() if case.judgement]
    opinions = [document["diagnosis"].get("opinion") for document in documents]
    return len(documents), sum(bool(one and not one["unheard"]) for one in opinions)


def main() -> int:
    broken = []

    def check(name: str, value: float, bound: float | None) -> None:
        over = bound is not None and value > bound
        told = "" if bound is None else f"{bound:8.2f}{'  BROKEN' if over else ''}"
        print(f"  {name:38} {value:8.2f} {told}")
        if over:
            broken.append(name)

    few, many = (weathered(count, SHAPES[1], model=False) for count in (FEW, FAILURES))
    print(f"one pass over {FAILURES} failures, {few.peak:.0f} MiB with {FEW}")
    check(f"peak memory to that of {FEW} failures", many.peak / few.peak, MEMORY)
    for shape in SHAPES:
        seen = weathered(FAILURES, shape)
        print(f"{FAILURES} failures, {len(SIGNATURES)} signatures; {shape.name}")
        check("calls for each failure", calls_each(seen.calls, FAILURES), shape.bound)
        check("questions to the model", seen.asked, len(SIGNATURES))
        check("failures not captured", FAILURES - seen.captured, 0)
        check("failures judged without its answer", FAILURES - seen.heard, 0)
        print(f"  {seen.seconds:.0f} s, peak {seen.peak:.0f} MiB; calls: {_told(seen.calls)}")
    return int(bool(broken))


def _told(calls: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in calls.most_common())


if __name__ == "__main__":
    sys.exit(main())

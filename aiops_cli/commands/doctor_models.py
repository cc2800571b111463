"""What `aiops doctor` proves of models: each is asked, and not only looked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from aiops_cli.commands.findings import Finding
from aiops_cli.commands.output import console, thinking
from aiops_cli.errors import ModelError

if TYPE_CHECKING:
    from aiops_cli.config import Settings
    from aiops_cli.incidents import Question
    from knowledge.ollama_client import Ollama
    from knowledge.stores import VectorSpace

T = TypeVar("T")

# Made up, and nobody's. Its cause stands in one line, which every model can quote.
SAMPLE = """\
Traceback (most recent call last):
  File "/opt/airflow/dags/sample.py", line 12, in load
    connection = connect(host="db.example.com", port=5432)
ConnectionRefusedError: [Errno 111] Connection refused: db.example.com port 5432"""


def model(chosen: Settings, *, pull: bool) -> list[Finding]:
    """The language model: it is there, answers a question as it is asked in earnest, in what time
    and with which context. Raises ConfigError, ModelError and ModelUnavailable."""
    if chosen.llm == "none":
        return [Finding("ok", "model", "none: failures are recognised, not guessed at")]
    from aiops_cli import services
    from aiops_cli.diagnosis.answer import quotes_stand
    from aiops_cli.diagnosis.model import OllamaModel

    name = chosen.llm.removeprefix("ollama:")
    with services.ollama(chosen, name) as client:
        findings = _present("model", client, name, pull=pull)
        asked, question = OllamaModel(client, name), _question()
        try:
            with thinking(name) as told:
                first, suggestion = _timed(lambda: asked.suggest(question, told))
                again, _ = _timed(lambda: asked.suggest(question, told))
        except KeyboardInterrupt:
            return [*findings, Finding("warn", "model", f"{name} was not waited for (Ctrl-C)")]
        trained = client.show(name).context_length
    found = (
        f"answers as it is asked to: the first time after {first:.1f} s (with loading, where it "
        f"was not in memory), then after {again:.1f} s"
    )
    findings.append(Finding("ok", "model", found))
    if not quotes_stand(suggestion, SAMPLE):
        found = "it did not quote the log that it was shown word for word"
        todo = "what it says without quotes that stand in the log counts for nothing"
        findings.append(Finding("warn", "model", found, todo))
    context = f"{trained:,} tokens" if trained else "not told by Ollama"
    found = f"its context: {context}; {asked.context:,} are asked for"
    return [*findings, Finding("ok", "model", found)]


def embedder(chosen: Settings, *, pull: bool) -> list[Finding]:
    """What makes the vectors: it is there, and makes some. Raises ConfigError, ModelError and
    ModelUnavailable."""
    if chosen.embedder == "builtin":
        return [Finding("ok", "embedder", "builtin")]
    from aiops_cli import services

    name = chosen.embedder.removeprefix("ollama:")
    with services.ollama(chosen, name) as client:
        findings = _present("embedder", client, name, pull=pull)
    with closing(services.embedder(chosen)) as made:
        first, _ = _timed(lambda: made.embed([SAMPLE]))
        again, _ = _timed(lambda: made.embed([SAMPLE]))
        found = (
            f"{made.name}: {made.dimensions} dimensions; the first vector after {first:.1f} s, "
            f"the next after {again:.1f} s"
        )
        findings.append(Finding("ok", "embedder", found))
        if not made.calibrated:
            found = f"its bound of {made.bound} is not measured: near matches suggest only"
            todo = "an exact match is not concerned; the built-in embedder is measured"
            findings.append(Finding("info", "embedder", found, todo))
    return findings


def matching(stored: VectorSpace | None, ours: VectorSpace) -> list[Finding]:
    """Whether the vectors in the knowledge base are this embedder's."""
    if stored is None or stored == ours:
        return []
    if stored.embedder != ours.embedder:
        found = f"the knowledge base's vectors come from {stored.embedder}, not {ours.embedder}"
    elif stored.dimensions != ours.dimensions:
        found = (
            f"the knowledge base's vectors have {stored.dimensions} dimensions, those of "
            f"{ours.embedder} {ours.dimensions}: another model goes by its name now"
        )
    else:
        found = "the knowledge base's vectors are of another version of the signatures"
    todo = f"make new ones: aiops kb reindex; or go back: AIOPS_EMBEDDER={stored.embedder}"
    return [Finding("fail", "embedder", found, todo, ModelError.exit_code)]


def _present(what: str, client: Ollama, name: str, *, pull: bool) -> list[Finding]:
    """That the model is installed; with `pull` it is fetched. Raises ModelError if it is not."""
    from knowledge.ollama_host import tagged

    if tagged(name) in client.models():
        return [Finding("ok", what, f"{name} is installed at {client.url}")]
    if not pull:
        message = f"{name} is not installed at {client.url}"
        raise ModelError(message, "aiops doctor --pull fetches it")
    with _download(name) as told:
        client.pull(name, told)
    return [Finding("ok", what, f"{name} was fetched to {client.url}")]


@contextmanager
def _download(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar in bytes on stderr, where that is a terminal; nothing elsewhere."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda _status, _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # 30 ms

    from knowledge.redact import clean

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    talk = console(stderr=True)
    with Progress(*columns, console=talk, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(name, total=None)
        # One bar a step: Ollama counts each layer from nothing.
        yield lambda status, done, total: bar.update(
            task, description=clean(f"{name}: {status}"), completed=done, total=total or None
        )


def _question() -> Question:
    from aiops_cli.actions import CATALOGUE
    from aiops_cli.incidents import Question

    return Question(
        excerpt=SAMPLE,
        line=4,
        facts={"kind of failure": "task", "DAG": "sample", "task": "load", "try": "1 of 1"},
        known=(),
        actions={action.name: action.does for action in CATALOGUE.values()},
    )


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what came of it."""
    start = time.monotonic()
    made = work()
    return time.monotonic() - start, made

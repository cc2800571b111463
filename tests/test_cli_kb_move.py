"""`aiops kb export`, `import`, `reindex` and `migrate` on the command line."""

from __future__ import annotations

import io
import json
import math
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiops_cli import services
from aiops_cli.commands import kb_move, kb_tables
from knowledge.embedders import BuiltinEmbedder
from knowledge.stores import POSTGRES
from tests.cli import Cli
from tests.desk import REFUSED
from tests.postgres_database import APP, OWNER, Database

ADD = ("kb", "add", "--title", "t", "--error", "ValueError: x", "--cause", "c", "--action", "none")


@pytest.fixture
def elsewhere(cli: Cli) -> Cli:
    """The same person with a second knowledge base, a file."""
    environ = dict(cli.environ)
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home / 'second.db'}"
    second = Cli(cli.server, cli.home, cli.clock, cli.monkeypatch)
    second.environ = dict(cli.environ)
    cli.environ = environ
    return second


def test_what_is_exported_can_be_imported(cli: Cli, elsewhere: Cli) -> None:
    incident = cli.mended()
    cli.ok(*ADD)
    file = cli.home / "knowledge.jsonl"
    said = cli.ok("kb", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert said.out == ""
    assert f"{len(lines)} lines written" in said.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert lines[0]["aiops"] == 1

    said = elsewhere.ok("kb", "import", str(file))
    assert "2 entries and 1 incidents added" in said.text
    assert elsewhere.status(incident) == "resolved"
    found = elsewhere.ok("kb", "search", "ValueError: x", "--json").json["entries"]
    assert (found[0]["title"], found[0]["found"]) == ("t", "exact")
    again = elsewhere.ok("kb", "import", str(file), "--json").json
    assert again == {"entries": {"added": 0, "known": 2}, "incidents": {"added": 0, "known": 1}}
    back = elsewhere.ok("kb", "export").lines
    assert back[1:] == lines[1:]
    # What was learned there counts here: the same failure is known, with its record.
    elsewhere.server.add_failure(
        "orders", "load", run_id="next", events=[REFUSED], ended=elsewhere.clock.now()
    )
    (known,) = elsewhere.ok("watch", "--once", "--json").lines
    assert known["diagnosis"]["by"] == "exact"
    (evidence,) = [one for one in known["gate"]["checks"] if one["name"] == "evidence"]
    assert evidence["value"] == 1
    assert elsewhere.run("audit", "verify").code == 0


def test_a_pipe_from_one_base_into_another(cli: Cli, elsewhere: Cli) -> None:
    cli.ok(*ADD)
    exported = cli.ok("kb", "export", "-").out
    assert "1 entries" in elsewhere.ok("kb", "import", "-", stdin=exported).out


def test_a_pipe_that_stands_still_keeps_nobody_from_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read to its end before the first of its rows is stored."""
    piped = io.BytesIO(b'{"aiops": 1}\n' * 100_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped))
    left = [len(piped.getvalue()) - piped.tell() for _ in kb_move._Lines(Path("-")).documents()]
    assert left == [0] * 100_000


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 0, "no export"),
        ("nonsense\n", 1, "not a JSON object"),
        ('{"aiops": 1}\n{"entry": {"id": 1}}\n', 2, "an entry that cannot be read"),
        ('{"aiops": 1}\n{"incidents": {}}\n', 2, "lacks 'signature'"),
        ('{"aiops": 7}\n', 1, "newer aiops"),
        ("[" * 100_000, 1, "not a JSON object"),
    ],
)
def test_a_bad_line_is_named(cli: Cli, text: str, line: int, told: str) -> None:
    file = cli.home / "bad.jsonl"
    file.write_text(text)
    before = cli.counts()
    said = cli.run("kb", "import", str(file))
    said.refused(2, f"{file}:{line}: ", told, "nothing was stored")
    assert cli.counts() in (before, [0, 0, 0, 0])


def test_a_file_that_is_not_text_or_not_there(cli: Cli) -> None:
    file = cli.home / "bad.jsonl"
    file.write_bytes(b'{"aiops": 1}\n\xff\xfe\n')
    cli.run("kb", "import", str(file)).refused(2, "not a JSON object")
    cli.run("kb", "import", "-", stdin=file.read_bytes()).refused(2, "not a JSON object")
    cli.run("kb", "import", str(cli.home / "none")).refused(2, "cannot be read: No such file")
    cli.run("kb", "export", str(cli.home / "no" / "such")).refused(2, "cannot be written")


def test_an_export_that_fails_leaves_the_old_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cli.home / "knowledge.jsonl"
    file.write_text("what was there\n")

    def broken(_store: object) -> Iterator[object]:
        yield {"aiops": 1}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("knowledge.moving.export", broken)
    cli.run("kb", "export", str(file)).refused(2, "No space left on device")
    assert file.read_text() == "what was there\n"
    assert [one.name for one in file.parent.glob(".*.jsonl*")] == []


# ---- another embedder ----


class Letters:
    """An embedder of another kind, and one that may fail halfway."""

    name = "letters"
    dimensions = 26
    bound = 0.9
    calibrated = True

    def __init__(self, fail_after: int = 1_000) -> None:
        self.left = fail_after

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return [self._vector(text.lower()) for text in texts]

    def close(self) -> None: ...

    def _vector(self, text: str) -> list[float]:
        counts = [float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
        length = math.hypot(*counts)
        return [count / length for count in counts] if length else counts


def test_another_embedder_is_refused_until_its_vectors_are_made(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    runbook = cli.home / "r.yaml"
    runbook.write_text(
        "".join(
            f"- {{title: t{n}, symptoms: ['KeyError: {name}'], cause: c, action: none}}\n"
            for n, name in enumerate(f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst")
        )
    )
    cli.ok("kb", "seed", str(runbook))
    assert "in use already" in cli.ok("kb", "reindex").out
    letters = Letters(fail_after=1)
    monkeypatch.setattr(services, "embedder", lambda *_: letters)
    cli.run("kb", "search", "KeyError: ak").refused(4, "builtin", "aiops kb reindex")
    assert cli.run("kb", "reindex").code == 130, "cut off after the first batch"

    monkeypatch.setattr(services, "embedder", lambda *_: BuiltinEmbedder())
    assert len(cli.ok("kb", "search", "KeyError: ak", "--json").json["entries"]) == 5, "in use"

    letters.left = 1_000
    heard: list[tuple[int, int | None]] = []

    @contextmanager
    def bar(_: str) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, of: heard.append((done, of))

    monkeypatch.setattr(kb_tables, "progress", bar)
    monkeypatch.setattr(services, "embedder", lambda *_: letters)
    said = cli.ok("kb", "reindex", "--json").json
    assert said == {"made": 36, "was": "builtin", "embedder": "letters"}, "100 less one batch"
    assert heard == [(100, 100)], "the bar goes on where it was, and does not begin anew"
    assert cli.ok("kb", "search", "KeyError: ak", "--json").json["entries"][0]["found"] == "exact"
    monkeypatch.setattr(services, "embedder", lambda *_: BuiltinEmbedder())
    cli.run("kb", "search", "KeyError: ak").refused(4, "letters", "aiops kb reindex")


# ---- tables ----


def test_a_base_in_postgres_is_made_by_its_owner(
    empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.airflow_server import AirflowServer
    from tests.cli import make

    with AirflowServer() as server:
        cli = make(server, tmp_path, monkeypatch)
        cli.environ["AIOPS_KB"] = empty_database.owner
        cli.run("kb", "list").refused(4, "has no tables", "aiops kb migrate")
        assert "tables made: schema" in cli.ok("kb", "migrate", "--role", APP).out
        assert "up to date" in cli.ok("kb", "migrate").out
        cli.environ["AIOPS_KB"] = empty_database.app
        cli.ok(*ADD)
        assert "up to date" in cli.ok("kb", "migrate").out, "there is nothing to do"
        said = cli.run("kb", "migrate", "--role", "somebody")
        said.refused(4, "knows no role", "CREATE ROLE")
        assert "aiops-test" not in said.out + said.err, "its password"
        said = cli.ok("doctor", "--json")
        assert "aiops-test" not in said.out


def test_a_role_is_only_for_postgres(cli: Cli) -> None:
    if cli.environ["AIOPS_KB"].startswith(POSTGRES):
        cli.environ["AIOPS_KB"] = cli.environ["AIOPS_KB"].replace(APP, OWNER)
        said = cli.ok("kb", "migrate", "--role", APP, "--json").json
        assert said["before"] == said["after"] > 0
        assert said["role"] == APP
    else:
        cli.run("kb", "migrate", "--role", APP).refused(2, "for a knowledge base in Postgres")
        assert cli.ok("kb", "migrate", "--json").json == {
            "before": None,
            "after": None,
            "role": None,
        }

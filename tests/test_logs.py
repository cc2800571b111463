"""Logs of every shape, broken and hostile ones too, to a bounded and redacted excerpt."""

from __future__ import annotations

import json
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_cli.airflow.logs import MAX_EXCERPT, read_excerpt
from knowledge.records import Excerpt
from knowledge.redact import redact
from knowledge.signature import sign
from knowledge.tracebacks import render_error_detail

MB = 1024 * 1024


def event(text: str, level: str = "info", **fields: Any) -> str:
    """An event as Airflow 3.3.2 writes it."""
    return json.dumps(
        {
            "timestamp": "2026-11-22T23:40:44.282475Z",
            "level": level,
            "event": text,
            "task_id": "load",
            "run_id": "manual__1",
            "ti_id": "01a205a2-12c5-78ac-9c7d-c5a5ce50498a",
            "logger": "task",
            "filename": "task_runner.py",
            "lineno": 1073,
            **fields,
        }
    )


def stack(error: BaseException, is_cause: bool = False) -> dict[str, Any]:
    members = getattr(error, "exceptions", None)
    return {
        "exc_type": type(error).__name__,
        "exc_value": str(error),
        "exc_notes": list(getattr(error, "__notes__", [])),
        "syntax_error": None,
        "is_cause": is_cause,
        "frames": [
            {"filename": frame.filename, "lineno": frame.lineno, "name": frame.name}
            for frame in traceback.extract_tb(error.__traceback__)
        ],
        "is_group": members is not None,
        "exceptions": [detail(member) for member in members or ()],
    }


def detail(error: BaseException) -> list[dict[str, Any]]:
    """`error_detail` as Airflow makes it: the outermost exception first, then its causes."""
    stacks = [stack(error)]
    while (cause := error.__cause__) or (error.__context__ and not error.__suppress_context__):
        error = cause or error.__context__  # type: ignore[assignment]  # not None: the loop's test
        stacks.append(stack(error, is_cause=cause is not None))
    return stacks


def raised(fail: Callable[[], object]) -> BaseException:
    try:
        fail()
    except Exception as error:  # noqa: BLE001 - any exception is what is wanted
        return error
    raise AssertionError("did not raise")


def plain_failure() -> None:
    {"a": 1}["unit_price"]


def caused_failure() -> None:
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError as error:
        raise RuntimeError("cannot load orders from db-orders:5432") from error


def followed_failure() -> None:
    try:
        plain_failure()
    except KeyError:
        raise ValueError("no price\nin row 12") from None


def handled_failure() -> None:
    try:
        plain_failure()
    except KeyError:
        int("twelve")


FAILURES = [plain_failure, caused_failure, followed_failure, handled_failure]


def read(*lines: str) -> Excerpt:
    return read_excerpt(["".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")])


def check(excerpt: Excerpt) -> None:
    """What holds of every excerpt."""
    lines = excerpt.text.split("\n") if excerpt.numbers else []
    assert len(lines) == len(excerpt.numbers)
    assert len(excerpt.text.encode()) <= MAX_EXCERPT
    shown = [number for number in excerpt.numbers if number]
    assert shown == sorted(shown)
    assert all(1 <= number <= excerpt.total_lines for number in shown)
    for line, number in zip(lines, excerpt.numbers, strict=True):
        assert number or " left out …" in line
    assert redact(excerpt.text) == excerpt.text


# ---- what is read ----


def test_an_event_keeps_level_and_message_and_loses_the_routine() -> None:
    excerpt = read(event("DAG bundles loaded"), event("low disk", "warning"), event("no", "error"))
    assert excerpt == Excerpt(
        text="[INFO] DAG bundles loaded\n[WARNING] low disk\n[ERROR] no",
        numbers=(1, 2, 3),
        total_lines=3,
    )


@pytest.mark.parametrize("fail", FAILURES)
def test_events_text_and_the_plain_traceback_have_one_signature(fail: Callable[[], None]) -> None:
    error = raised(fail)
    plain = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    failed = event("Task failed with exception", "error", error_detail=detail(error))
    stamp = "[2026-11-22T23:40:44.282475Z] "
    logs = {
        "plain": plain,
        "events": [event("Filling up the DagBag"), failed, event("Task done")],
        "text": [
            f"{stamp}INFO - Filling up the DagBag [airflow.models.dagbag.DagBag]",
            f"{stamp}ERROR - Task failed with exception [task]",
            *plain,
            f"{stamp}INFO - Task done [task]",
        ],
    }
    signatures = {}
    for name, log in logs.items():
        excerpt = read(*log)
        check(excerpt)
        signatures[name] = sign(excerpt.text, excerpt.numbers)
    assert signatures["plain"].error_class == type(error).__name__
    assert len({signature.fingerprint for signature in signatures.values()}) == 1


@pytest.mark.parametrize("fail", FAILURES)
def test_error_detail_reads_like_pythons_own_traceback(fail: Callable[[], None]) -> None:
    error = raised(fail)
    # Airflow's frames have no source lines.
    own = [
        line
        for line in "".join(traceback.format_exception(error)).split("\n")[:-1]
        if not line.startswith("    ")
    ]
    assert list(render_error_detail(detail(error))) == own


def test_notes_groups_and_syntax_errors_are_rendered() -> None:
    noted = {"exc_type": "ValueError", "exc_value": "bad", "exc_notes": ["row 12"], "frames": []}
    syntax = {"filename": "/dags/a.py", "lineno": 3, "line": "def f(:\n", "msg": "invalid syntax"}
    group = {
        "exc_type": "ExceptionGroup",
        "exc_value": "two (2 sub-exceptions)",
        "is_group": True,
        "frames": [{"filename": "/dags/a.py", "lineno": 1, "name": "f"}],
        "exceptions": [
            [noted],
            [{"exc_type": "SyntaxError", "exc_value": "x (a.py)", "syntax_error": syntax}],
        ],
    }
    assert "\n".join(render_error_detail([group])) == (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "/dags/a.py", line 1, in f\n'
        "  | ExceptionGroup: two (2 sub-exceptions)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | ValueError: bad\n"
        "    | row 12\n"
        "    +---------------- 2 ----------------\n"
        '    |   File "/dags/a.py", line 3\n'
        "    |     def f(:\n"
        "    | SyntaxError: invalid syntax\n"
        "    +------------------------------------"
    )


def test_a_recursion_is_cut_in_the_middle() -> None:
    frames = [{"filename": "a.py", "lineno": n, "name": "f"} for n in range(1000)]
    lines = list(render_error_detail([{"exc_type": "RecursionError", "frames": frames}]))
    assert len(lines) < 80
    assert lines[1].endswith("line 0, in f")
    assert "  … 940 frames left out …" in lines
    assert lines[-2:] == ['  File "a.py", line 999, in f', "RecursionError"]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ["exc_type", "exc_value", "exc_notes", "frames", "exceptions", "is_group", "syntax_error"]


@settings(max_examples=50)
@given(st.one_of(JSON, st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.lists(JSON)))))
def test_any_error_detail_is_rendered_or_left_out(document: Any) -> None:
    assert all(isinstance(line, str) for line in render_error_detail(document))
    check(read(event("x", "error", error_detail=document)))


def test_a_killed_task_says_so() -> None:
    excerpt = read(
        event("about to die"),
        event(
            "Process terminated by signal. Likely OOM.",
            "critical",
            signal=-9,
            signal_name="SIGKILL",
        ),
    )
    assert excerpt.text.split("\n")[1] == (
        "[CRITICAL] Process terminated by signal. Likely OOM. signal_name=SIGKILL"
    )


def test_an_older_airflow_tells_of_a_missing_file_among_the_sources() -> None:
    why = "Could not read served logs: HTTPConnectionPool(host='w-1', port=8793): refused"
    group = {"event": "::group::Log message source details", "sources": [why]}
    raw = "\n".join(json.dumps(event) for event in (group, {"event": "::endgroup::"}))
    excerpt = read_excerpt([raw.encode()])
    assert excerpt.text == ""
    assert excerpt.notice.startswith("Could not read served logs")


def test_the_sources_of_a_log_are_left_out_and_a_missing_file_is_a_notice() -> None:
    missing = "Log file not found on worker 'w-3'. This attempt may have run on a different worker."
    group = [
        event("::group::Log message source details"),
        event("/logs/1.log"),
        event("::endgroup::"),
    ]
    assert read(*group, event("hello")) == Excerpt("[INFO] hello", (4,), 4)
    excerpt = read(group[0], event(missing), group[2])
    assert excerpt.text == ""
    assert excerpt.notice == missing
    assert read(*group, event(missing, "error")).notice == missing
    assert read("*** Could not read served logs: timed out", "hello") == Excerpt(
        "hello", (2,), 2, notice="Could not read served logs: timed out"
    )


def test_a_task_that_did_not_run_says_why() -> None:
    skipped = "Task did not run because upstream task(s) failed."
    assert skipped in read(json.dumps({"timestamp": None, "event": skipped})).text


def test_a_saved_answer_of_the_api_is_read_as_events() -> None:
    events = [json.loads(event("one")), json.loads(event("two", "error"))]
    for indent in (None, 2):
        answer = json.dumps({"content": events, "continuation_token": None}, indent=indent)
        assert read(answer).text == "[INFO] one\n[ERROR] two"


def test_other_json_is_plain_text() -> None:
    line = '{"msg": "hello", "levelname": "INFO"}'
    assert read(line).text == line


# ---- what is kept ----


def test_of_a_long_log_the_head_the_tail_and_all_trouble_stay() -> None:
    log = [f"line {number}" for number in range(1, 10_001)]
    log[499] = "[2024-01-01] ERROR - the first one"
    log[4999] = event("in the middle", "error")
    log[7000:7000] = (
        "".join(traceback.format_exception(raised(caused_failure))).rstrip().split("\n")
    )
    excerpt = read(*log)
    check(excerpt)
    by_number = dict(zip(excerpt.numbers, excerpt.text.split("\n"), strict=True))
    assert by_number[1] == "line 1"
    assert by_number[20] == "line 20"
    assert by_number[500] == "[2024-01-01] ERROR - the first one"
    assert by_number[5000] == "[ERROR] in the middle"
    assert "RuntimeError: cannot load orders from db-orders:5432" in excerpt.text
    assert "ConnectionRefusedError" in excerpt.text
    assert by_number[excerpt.total_lines] == "line 10000"
    assert sum(number > excerpt.total_lines - 150 for number in excerpt.numbers) == 150
    assert excerpt.cut
    assert "… 479 lines left out …" in excerpt.text
    left_out = [
        int(line.split()[1].replace(",", ""))
        for line, number in zip(excerpt.text.split("\n"), excerpt.numbers, strict=True)
        if not number
    ]
    assert sum(left_out) + sum(number > 0 for number in excerpt.numbers) == excerpt.total_lines


def test_the_last_chain_wins_over_a_flood_of_errors_after_it() -> None:
    chain = "".join(traceback.format_exception(raised(caused_failure))).rstrip().split("\n")
    noise = [f"ERROR shipping log batch {number} failed: " + "x" * 500 for number in range(5000)]
    excerpt = read("ERROR the very first", *noise, *chain, *noise)
    check(excerpt)
    assert "\n".join(chain) in excerpt.text
    assert "ERROR the very first" in excerpt.text
    assert noise[-1] in excerpt.text


@pytest.mark.parametrize("prefix", ["", "[2024-01-01, 02:03:04 UTC] {subprocess.py:93} INFO - "])
def test_of_many_chains_the_last_stays_whole(prefix: str) -> None:
    chains = [
        [
            f"{prefix}{line}"
            for line in "".join(traceback.format_exception(error)).rstrip().split("\n")
        ]
        for error in (
            ValueError(f"number {n}").with_traceback(raised(caused_failure).__traceback__)
            for n in range(400)
        )
    ]
    log = [line for chain in chains for line in [*chain, *(f"{prefix}fine" for _ in range(30))]]
    excerpt = read(*log)
    check(excerpt)
    assert "\n".join(chains[-1]) in excerpt.text
    assert "ValueError: number 0" in excerpt.text


WORDS = st.sampled_from(
    ["load", "ERROR", "row", "Error: bad", "", "  File", "INFO - ok", "é漢", "x" * 3000]
)
LINES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@given(st.lists(LINES, max_size=300), st.lists(LINES, max_size=300), st.sampled_from(FAILURES))
def test_the_last_error_chain_is_always_inside(
    before: list[str], after: list[str], fail: Callable[[], None]
) -> None:
    error = raised(fail)
    failed = event("Task failed with exception", "error", error_detail=detail(error))
    excerpt = read(*before, failed, *(line for line in after if "Error" not in line))
    check(excerpt)
    assert "\n".join(render_error_detail(detail(error))) in excerpt.text


# ---- what must not break it ----


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        if start >= len(data):
            return
        yield data[start : start + size]
        start += size


MESSY = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                *(
                    b"\n",
                    b"\r\n",
                    b"\x00",
                    b"\xef\xbb\xbf",
                    b"{",
                    b'{"event": "a',
                    b'{"content": [',
                ),
                *(b"]}", b"\x1b[31m", b"-----BEGIN PRIVATE KEY-----", b"[" * 5000, b"\xff\xfe"),
                *(b'{"event": "\\ud800", "level": 3}', b'{"event": null}', event("ok").encode()),
                *(b"Traceback (most recent call last):", event("no", "error").encode()[:-5]),
                b"::group::Log message source details",
            ]
        ),
    ),
    max_size=30,
).map(b"".join)


@given(MESSY, st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_any_bytes_in_any_chunks_give_the_same_excerpt(data: bytes, sizes: list[int]) -> None:
    excerpt = read_excerpt(pieces(data, cycle(sizes)))
    check(excerpt)
    assert excerpt == read_excerpt([data])
    excerpt.text.encode("utf-8")
    assert not set(excerpt.text) & set("\x00\x1b\r\x85\u2028\u202e")


def test_nothing_is_an_empty_excerpt() -> None:
    assert read_excerpt([]) == read_excerpt([b""]) == Excerpt("", (), 0)


def test_crlf_bom_and_invalid_utf8_are_read() -> None:
    excerpt = read_excerpt([b"\xef\xbb\xbf" + event("one").encode() + b"\r\n", b"tw\xffo\r\nlast"])
    assert excerpt.text == "[INFO] one\ntw\ufffdo\nlast"
    assert excerpt.total_lines == 3


def test_secrets_leave_before_anything_is_cut() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 400
    excerpt = read("password=pw-1", *key.split("\n"), event("token: pw-2-xyz", "error"), "end")
    check(excerpt)
    for secret in ("pw-1", "pw-2", "MIIE"):
        assert secret not in excerpt.text
    assert excerpt.text.endswith("end")


@given(st.integers(0, 40_000), st.sampled_from(["x", "word, ", "=", "é"]))
def test_a_secret_is_not_halved_where_a_long_line_is_cut(at: int, filler: str) -> None:
    secret = "S3cr3t" * 20
    line = (filler * 40_000)[:40_000]
    text = read(f"{line[:at]} password={secret} {line[at:]}").text
    assert "S3cr3t" not in text
    assert "3cr3" not in text


@pytest.mark.parametrize("at", [7_000, 7_990, 8_000, 300_000, 592_010, 596_005, 599_900])
def test_nor_where_a_line_is_too_long_to_hold(at: int) -> None:
    secret = "S3cr3t" * 20
    data = (b"some words " * 60_000)[:600_000]
    text = read_excerpt(
        pieces(data[:at] + f" token={secret} ".encode() + data[at:], cycle([4096]))
    ).text
    assert "3cr3" not in text


def test_an_event_too_long_to_parse_still_tells_its_error() -> None:
    long = "row 1 is bad, " * 50_000
    excerpt = read(
        event("start " + long, "error", error_detail=[{"exc_type": "ValueError", "exc_value": "x"}])
    )
    check(excerpt)
    assert excerpt.text.startswith("[ERROR] start row 1 is bad")
    assert excerpt.cut
    assert "ValueError: x" in excerpt.text


def events(size: int) -> Iterator[bytes]:
    line = (event("processed a batch of the table orders, all fine") + "\n").encode()
    return islice(cycle([line * 100]), size // (100 * len(line)))


def errors(size: int) -> Iterator[bytes]:
    line = b"ERROR row is bad and so is the next one, password=abc\n"
    return islice(cycle([line * 1000]), size // (1000 * len(line)))


def one_line(size: int) -> Iterator[bytes]:
    return islice(cycle([b"word " * 13_000]), size // 65_000)


def long_lines(size: int) -> Iterator[bytes]:
    return islice(cycle([b"ERROR key=value, " * 20_000 + b"\n"]), size // 340_000)


@pytest.mark.parametrize(
    ("log", "size"),
    [(events, 10 * MB), (errors, 2 * MB), (one_line, 100 * MB), (long_lines, 8 * MB)],
)
def test_memory_is_bounded_whatever_the_size(
    log: Callable[[int], Iterator[bytes]], size: int
) -> None:
    redact("")  # the detectors' import is no part of it
    tracemalloc.start()
    try:
        excerpt = read_excerpt(log(size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    check(excerpt)
    assert peak < 12 * MB


def test_a_group_as_an_event_has_the_signature_of_its_traceback() -> None:
    members = [[stack(ValueError("row 12 is bad"))], [stack(KeyError("unit_price"))]]
    frames = [{"filename": "/opt/airflow/dags/a.py", "lineno": 1, "name": "load"}]
    group = {
        "exc_type": "ExceptionGroup",
        "exc_value": "two rows (2 sub-exceptions)",
        "is_group": True,
        "frames": frames,
        "exceptions": members,
    }
    plain = """\
  + Exception Group Traceback (most recent call last):
  |   File "/opt/airflow/dags/a.py", line 1, in load
  |     check(rows)
  | ExceptionGroup: two rows (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: row 12 is bad
    +---------------- 2 ----------------
    | KeyError: 'unit_price'
    +------------------------------------"""
    excerpt = read(event("Task failed with exception", "error", error_detail=[group]))
    as_text = read(plain)
    one, other = sign(excerpt.text, excerpt.numbers), sign(as_text.text, as_text.numbers)
    assert one.fingerprint == other.fingerprint
    assert one.error_class == "ValueError"

"""Candidates of three searches become one ranked list, and its lead is what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.embedders import BuiltinEmbedder
from knowledge.ranking import BUILTIN_BOUND, BUILTIN_MARGIN, lead, rank, similarity
from knowledge.records import Candidate, Entry, EntryKind, Signature, Symptom
from knowledge.signature import sign
from knowledge.tokens import tokenize

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
VIOLATION = "UniqueViolation: duplicate key value violates unique constraint"


def signature(text: str, frame: str | None = None) -> Signature:
    return Signature(text, f"f:{text}" if text else "", "", frame=frame)


def candidate(
    name: str,
    *texts: str,
    action: str | None = "retry",
    symptom: int = 0,
    frame: str | None = None,
    days: int = 0,
) -> Candidate:
    symptoms = tuple(Symptom(text, signature(text, frame)) for text in texts)
    at = AT + timedelta(days=days)
    entry = Entry(name, "runbook", "test", name, symptoms, "", at, action=action)
    return Candidate(entry, symptom)


def names(found: Sequence[object]) -> list[str]:
    return [match.entry.id for match in found]  # type: ignore[attr-defined]  # Match, in short


# --- rank --------------------------------------------------------------------------------------


def written(*texts: str) -> list[Candidate]:
    """An entry each, signed as a runbook's symptom is, its vector the failure's own."""
    entry = candidate("x").entry
    return [
        Candidate(replace(entry, id=text, symptoms=(Symptom(text, sign(text)),)), 0, 1.0)
        for text in texts
    ]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (
            "Database Error in model orders (models/orders.sql)",
            "Database Error in model <name>\n  7",
        ),
        ("ValueError: 42", "ValueError: 2024-02-01"),
        ("acme.Failure: 42\nacme.Failure: 10.0.0.1", "Failure"),
        (
            "ValueError: 42\n\nairflow.exceptions.AirflowException: Bash command failed. The "
            "command returned a non-zero exit code 1.",
            "ValueError",
        ),
    ],
)
@pytest.mark.parametrize("by_cosine", [False, True])
def test_a_failure_without_a_message_is_near_nothing(
    text: str, known: str, by_cosine: bool
) -> None:
    near = rank(sign(text), [], written(known, "ValueError: 42 rows"), by_cosine=by_cosine)
    assert near
    assert all(match.similarity <= 0.5 for match in near)
    best, *_ = rank(sign(text), written(text), written(known), by_cosine=by_cosine)
    assert (best.found, best.similarity) == ("exact", 1.0)


def test_a_runbook_may_leave_open_all_that_a_failure_says() -> None:
    (match,) = rank(sign("KeyError: '2024'"), [], written("KeyError: '<name>'"))
    assert (match.found, match.similarity) == ("near", 1.0)


def test_a_type_without_a_message_may_say_it_all() -> None:
    memory = candidate("oom", "MemoryError")
    (match,) = rank(sign("MemoryError\nairflow.exceptions.AirflowException"), [], [memory])
    assert match.similarity > BUILTIN_BOUND


def test_exact_stands_first_with_one_then_the_likeliest() -> None:
    near = [candidate("far", VIOLATION), candidate("close", REFUSED + " by peer")]
    matches = rank(signature(REFUSED), [candidate("same", REFUSED)], near)
    assert names(matches)[:2] == ["same", "close"]
    assert (matches[0].found, matches[0].similarity) == ("exact", 1.0)
    assert matches[1].found == "near"
    assert 1.0 > matches[1].similarity > matches[-1].similarity


def test_one_match_an_entry_by_its_best_symptom() -> None:
    two = [candidate("a", VIOLATION, REFUSED, symptom=index) for index in (0, 1)]
    (match,) = rank(signature(REFUSED + " again"), [], two)
    assert match.symptom == 1
    (match,) = rank(signature(REFUSED), [candidate("a", VIOLATION, REFUSED, symptom=1)], two)
    assert (match.found, match.symptom) == ("exact", 1)


def test_among_equals_the_same_frame_then_the_newer_entry() -> None:
    near = [
        candidate("old", REFUSED, days=1),
        candidate("new", REFUSED, days=2),
        candidate("framed", REFUSED, frame="a.py:load"),
    ]
    assert names(rank(signature(REFUSED, "a.py:load"), near, [])) == ["framed", "new", "old"]
    assert names(rank(signature(REFUSED, "a.py:load"), [], near)) == ["framed", "new", "old"]
    assert names(rank(signature(REFUSED), near, [])) == ["new", "old", "framed"]


@pytest.mark.parametrize(
    ("symptom", "failure"),
    [
        ("KeyError: '<name>'", "KeyError: 'customer_region_code'"),
        ("No module named '<name>'", "No module named 'acme.billing'"),
        ('column "<name>" does not exist', 'column "shipping_address_line" does not exist'),
        ("The conn_id `<name>` isn't defined", "The conn_id `warehouse_prod` isn't defined"),
        ("no such table: <name>", "no such table: main.receipts_2024"),
        ("table '<name>' by <n> in space <name>", "table 'readings' by <n> in space TELEMETRY"),
    ],
)
def test_a_symptom_for_any_name_is_as_near_whatever_the_name(symptom: str, failure: str) -> None:
    (match,) = rank(signature(failure), [], [candidate("any", symptom)])
    assert match.found == "near"
    assert match.similarity == pytest.approx(1.0)
    (match,) = rank(signature(failure), [], [candidate("one", symptom.replace("<name>", "x"))])
    assert match.similarity < 0.95


def test_a_symptom_for_any_url_is_as_near_whatever_the_path() -> None:
    failure = signature("404 Client Error: Not Found for url: <url>/api/v2/<id>/invoices")
    any_url = candidate("any", "404 Client Error: Not Found for url: <url>")
    (match,) = rank(failure, [], [any_url])
    assert match.similarity == pytest.approx(1.0)
    # A URL without a path that somebody met, masked, is that URL and no other.
    met = Symptom("404 for url: https://a.example.com/", any_url.entry.symptoms[0].signature)
    (match,) = rank(failure, [], [Candidate(replace(any_url.entry, symptoms=(met,)), 0)])
    assert match.similarity < 0.95


def test_a_name_that_the_symptom_gives_is_told_apart() -> None:
    symptom = candidate("none", "'NoneType' object has no attribute '<name>'")
    (match,) = rank(signature("'NoneType' object has no attribute 'upper'"), [], [symptom])
    assert match.similarity == pytest.approx(1.0)
    (match,) = rank(signature("'DataFrame' object has no attribute 'upper'"), [], [symptom])
    assert match.similarity < 0.95


def test_the_limit_and_what_shares_nothing() -> None:
    near = [candidate(str(number), REFUSED) for number in range(9)]
    assert len(rank(signature(REFUSED), [], near)) == 5
    assert len(rank(signature(REFUSED), [], near, limit=2)) == 2
    assert rank(signature("zzz"), [], [candidate("a", "qqq")]) == ()


def test_an_empty_signature_equals_nothing() -> None:
    empty = candidate("a", "")
    assert rank(sign(""), [empty], [empty]) == ()


# --- wrappers ----------------------------------------------------------------------------------

STAMP = "[2024-02-01T07:44:10.220+0000]"
RAISED = f"{STAMP} {{taskinstance.py:3313}} ERROR - Task failed with exception\n" + (
    'Traceback (most recent call last):\n  File "/x/airflow/operators/a.py", line 7, in execute\n'
)
EXCEPTION = "airflow.exceptions.AirflowException: "
# What the operator raises when its child process fails.
WRAPPERS = {
    "bash": f"{EXCEPTION}Bash command failed. The command returned a non-zero exit code 1.",
    "spark": f"{EXCEPTION}Cannot execute: spark-submit --master yarn /a.py. Error code is: 1.",
    "ssh": f"{EXCEPTION}SSH operator error: exit status = 1",
    "sigterm": f"{EXCEPTION}Task received SIGTERM signal",
    "pod": f"{EXCEPTION}Pod train-x8k2q returned a failure.",
    "docker": f"{EXCEPTION}Docker container failed: {{'StatusCode': 1}}",
    "dbt": f"{EXCEPTION}dbt command failed",
    "python": "subprocess.CalledProcessError: Command '['a']' returned non-zero exit status 1.",
    "py4j": "py4j.protocol.Py4JJavaError: An error occurred while calling o40.save.",
}
# What the child said, oldest line first.
INNER = {
    "refused": ['psql: error: connection to server at "db" (10.0.0.5) failed: Connection refused'],
    "gone": ["fatal error: An error occurred (404) when calling HeadObject: Key does not exist"],
    "forbidden": ["fatal error: An error occurred (403) when calling HeadObject: Forbidden"],
    "disk": ["cp: error writing '/data/out.parquet': No space left on device"],
    "rights": ["/opt/jobs/load.sh: line 4: /data/in: Permission denied"],
    "traceback": [
        "Traceback (most recent call last):",
        '  File "/opt/a.py", line 3, in <module>',
        "ModuleNotFoundError: No module named 'pandas'",
    ],
    "lookup": [
        "WARN could not resolve host api.vendor.com, will retry",
        "ERROR 3 attempts failed for https://api.vendor.com/v1/prices",
        "curl: (6) Could not resolve host: api.vendor.com",
    ],
    "compiler": ["gcc: fatal error: no input files", "make: *** [Makefile:12: all] Error 1"],
    "linker": ["ld: cannot find -lpq", "make: *** [Makefile:12: all] Error 1"],
    "long": ["ERROR: cannot load analytics.orders: " + "the file's columns differ from it, " * 5],
}


def log(wrapper: str, inner: str) -> str:
    child = [f"{STAMP} {{subprocess.py:93}} INFO - {line}" for line in ["begin", *INNER[inner]]]
    return "\n".join(child) + f"\n{RAISED}{WRAPPERS[wrapper]}\n"


signed = lru_cache(maxsize=None)(sign)  # the same logs over and over


def found(text: str, symptom: str, kind: EntryKind = "runbook") -> float:
    """How like the failure of the log `text` an entry with this symptom is."""
    failure, known = signed(text), Symptom(symptom, signed(symptom))
    entry = replace(candidate("a").entry, kind=kind, symptoms=(known,))
    exact = failure.fingerprint == known.signature.fingerprint
    near = [Candidate(entry, 0)]
    return max(
        (match.similarity for match in rank(failure, near if exact else [], near)), default=0
    )


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_people_paste_of_a_wrapped_failure_finds_it(wrapper: str, inner: str) -> None:
    text, said, raised = log(wrapper, inner), "\n".join(INNER[inner]), WRAPPERS[wrapper]
    shown = sign(text).headline
    pasted = {
        "the line that is shown": shown,
        "the child's last line": INNER[inner][-1],
        "all the child's lines": said,
        "its last line and the wrapper": f"{INNER[inner][-1]}\n{raised}",
        "its lines and the wrapper": f"{said}\n{raised}",
        "the whole log": text,
    }
    likeness = {name: found(text, symptom) for name, symptom in pasted.items()}
    assert {name for name, score in likeness.items() if score < BUILTIN_BOUND} == set()
    assert likeness["the whole log"] == 1.0
    # The same under another operator, unless its code says otherwise.
    other = "pod" if wrapper != "pod" else "sigterm"
    assert found(text, log(other, inner), "incident") >= BUILTIN_BOUND


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_makes_no_two_failures_alike(wrapper: str, inner: str) -> None:
    text, raised = log(wrapper, inner), WRAPPERS[wrapper]
    alone = RAISED + raised
    assert found(text, raised) < BUILTIN_BOUND
    assert found(alone, text, "incident") < BUILTIN_BOUND
    assert found(alone, "\n".join(INNER[inner])) < BUILTIN_BOUND
    for other in INNER.keys() - {inner}:
        assert found(text, log(wrapper, other), "incident") < BUILTIN_BOUND, other
        assert found(text, log("pod", other), "incident") < BUILTIN_BOUND, other
        assert found(text, "\n".join([*INNER[other], raised])) < BUILTIN_BOUND, other


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_with_nothing_inside_is_only_itself(wrapper: str) -> None:
    alone = RAISED + WRAPPERS[wrapper]
    assert found(alone, WRAPPERS[wrapper]) == 1.0
    for other in WRAPPERS.keys() - {wrapper}:
        assert found(alone, WRAPPERS[other]) < BUILTIN_BOUND, other


def test_a_wrapper_written_above_what_was_inside_is_read_too() -> None:
    written = f"{WRAPPERS['bash']}\n{INNER['disk'][0]}"
    assert found(log("bash", "disk"), written) >= BUILTIN_BOUND
    assert found(log("bash", "rights"), written) < BUILTIN_BOUND
    assert found(RAISED + WRAPPERS["bash"], written) < BUILTIN_BOUND


def test_the_wrapper_s_exit_code_still_tells_failures_apart() -> None:
    text, symptom = log("bash", "compiler"), f"{INNER['compiler'][-1]}\n{WRAPPERS['bash']}"
    assert found(text, symptom) >= BUILTIN_BOUND
    assert found(text.replace("code 1.", "code 137."), symptom) < BUILTIN_BOUND
    assert found(text.replace("code 1.", "code 137."), text, "incident") < BUILTIN_BOUND


def test_the_last_line_of_a_failure_is_not_all_of_it() -> None:
    """`make: *** Error 1` may end any build: a runbook that says no more is found, behind one
    that says more, and an incident is never taken for another one of the same last line."""
    text, last = log("bash", "compiler"), INNER["compiler"][-1]
    assert BUILTIN_BOUND <= found(text, last) <= 1.0 - BUILTIN_MARGIN
    assert found(text, "\n".join(INNER["compiler"])) > found(text, last) + BUILTIN_MARGIN
    assert found(
        text, f"{STAMP} {{a.py:9}} INFO - {last}\n{RAISED}{WRAPPERS['bash']}", "incident"
    ) < (BUILTIN_BOUND)
    assert found(text, INNER["compiler"][0]) < BUILTIN_BOUND


def test_lines_that_are_shown_cut_are_the_same_only_where_they_agree_to_the_end() -> None:
    head = "OperationalError: connection failed: server on '/var/run/postgresql/.s.PGSQL.5432': "
    one, two = (
        head + "FATAL: there is no database named analytics",
        head + "FATAL: too many clients already",
    )
    shown = sign(one).headline
    assert shown.endswith("…")
    assert found(one, shown) >= BUILTIN_BOUND
    assert found(two, shown) < BUILTIN_BOUND
    assert found(two, shown) == similarity(sign(two).text, sign(shown).text)


def test_an_exception_that_was_raised_without_a_message_wraps_nothing() -> None:
    load = (
        "Traceback (most recent call last):\nKeyError\n\nDuring handling of the above exception, "
    )
    load += (
        "another exception occurred:\n\nTraceback (most recent call last):\nRuntimeError: load\n"
    )
    assert sign(load).text == "RuntimeError: load\nKeyError"
    assert found(load, load.replace("KeyError", "StopIteration"), "incident") < BUILTIN_BOUND


# --- lead --------------------------------------------------------------------------------------


def test_lead_is_over_the_best_match_with_another_action() -> None:
    def of(*actions: str | None) -> float | None:
        texts = [REFUSED, REFUSED + " by peer", REFUSED + " by its peer on the wire"]
        near = [
            candidate(str(index), text, action=action)
            for index, (text, action) in enumerate(zip(texts, actions, strict=False))
        ]
        return lead(rank(signature(REFUSED), [], near))

    assert of() is None
    assert of("retry") is None
    assert of("retry", "retry") is None
    assert of("retry", None) is None
    second, third = of("retry", "none"), of("retry", "retry", "none")
    assert second is not None
    assert third is not None
    assert 0 < second < third
    conflict = [candidate("a", REFUSED), candidate("b", REFUSED, action="none")]
    assert lead(rank(signature(REFUSED), conflict, [])) == 0.0


# --- similarity --------------------------------------------------------------------------------

SIGNATURES = st.lists(
    st.sampled_from([*REFUSED.split(), *VIOLATION.split(), "<n>", "GET", "(404)", "exit code 3"]),
    max_size=8,
).map(" ".join)


@given(SIGNATURES, SIGNATURES)
def test_similarity_is_symmetric_and_within_bounds(a: str, b: str) -> None:
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    assert 0.0 <= similarity(a, b) <= 1.0
    assert similarity(a, a) == (1.0 if a else 0.0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ReadTimeout: GET <url>/prices timed out", "ReadTimeout: POST <url>/prices timed out"),
        (
            "HTTPError: 404 Client Error: for url: <url>/v1/orders",
            "HTTPError: 429 Client Error: for url: <url>/v1/orders",
        ),
        ("OSError: [Errno 28] cannot write <path>", "OSError: [Errno 13] cannot write <path>"),
        ("it broke\nAirflowException: exit code 1", "it broke\nAirflowException: exit code 137"),
        ("DatabaseError: ORA-01017: call failed", "DatabaseError: ORA-00942: call failed"),
        ("OperationalError: (1213, 'try again')", "OperationalError: (1205, 'try again')"),
    ],
)
def test_contradicting_codes_are_never_the_same_failure(a: str, b: str) -> None:
    assert similarity(a, b) < BUILTIN_BOUND


def test_server_errors_are_one_family() -> None:
    one = "HTTPError: 502 Server Error: Bad Gateway for url: <url>/v1/orders"
    assert similarity(one, one.replace("502 Server Error: Bad", "504 Server Error: Bad")) > 0.9


# --- tokens ------------------------------------------------------------------------------------


def test_tokens_keep_names_whole_and_in_parts() -> None:
    assert tokenize("psycopg2.errors.UniqueViolation: <n> of raw.orders") == [
        *("psycopg2.errors.uniqueviolation", "psycopg2", "errors", "unique", "violation"),
        *("of", "raw.orders", "raw", "orders"),
    ]
    assert tokenize("ORA-01017 [Errno 111] exit_code") == [
        *("ora-01017", "ora", "01017", "errno", "111", "exit_code", "exit", "code"),
    ]
    assert tokenize("ReadTimeout") == ["readtimeout", "read", "timeout"]


@given(st.text(max_size=200))
def test_tokens_are_plain_and_found_again(text: str) -> None:
    tokens = tokenize(text)
    assert all(re.fullmatch(r"[a-z0-9_]+(?:[.-][a-z0-9_]+)*", token) for token in tokens)
    again = set(tokenize(" ".join(tokens)))
    assert set(tokens) <= again


def test_the_bounds_are_the_embedder_s() -> None:
    assert BuiltinEmbedder.bound == BUILTIN_BOUND
    assert 0.0 < BUILTIN_MARGIN < 1.0 - BUILTIN_BOUND


# ---- another embedder's own similarity ----

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def test_vectors_of_another_embedder_are_compared_by_their_cosine() -> None:
    asked = sign("requests.HTTPError: 404 Client Error: Not Found for url: https://a/b")
    texts = {
        "same words": ("requests.HTTPError: 404 Client Error: Not Found for url: https://a/c", 0.5),
        "other words": ("the page is gone: HTTP 404", 0.93),
        "another code": ("requests.HTTPError: 401 Client Error for url: https://a/b", 0.97),
        "without a vector": ("requests.HTTPError: 404 Client Error: Not Found", None),
        "opposite": ("all is well", -0.4),
    }
    near = [
        Candidate(
            Entry(name, "runbook", "test", name, (Symptom(text, sign(text)),), "", NOW), 0, cosine
        )
        for name, (text, cosine) in texts.items()
    ]
    found = rank(asked, (), near, by_cosine=True)
    assert [(match.entry.id, round(match.similarity, 4)) for match in found] == [
        ("other words", 0.93),
        ("another code", round(0.97 * 0.75, 4)),
        ("same words", 0.5),
    ]

"""What changes from run to run must go, what tells failures apart must stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.masking import mask
from knowledge.redact import redact
from knowledge.signature import sign


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        # Codes stay.
        ("[Errno 111] Connection refused", "[Errno 111] Connection refused"),
        ("[Errno -2] Name or service not known", "[Errno -2] Name or service not known"),
        ("HTTP Error 502: Bad Gateway", "HTTP Error 502: Bad Gateway"),
        ("Client error '429 Too Many Requests'", "Client error '429 Too Many Requests'"),
        ("An error occurred (404) when calling", "An error occurred (404) when calling"),
        ("Status Code: 429, took 7 s", "Status Code: 429, took <n> s"),
        ("non-zero exit code 137.", "non-zero exit code 137."),
        ("return code -9", "return code -9"),
        ("ORA-01017: invalid username", "ORA-01017: invalid username"),
        ("(1213, 'Deadlock found')", "(1213, 'Deadlock found')"),
        ("ERROR 1045 (28000): Access denied", "ERROR 1045 (28000): Access denied"),
        ("090073 (22000): suspended after 7", "090073 (22000): suspended after <n>"),
        ("('42S02', '[42S02] no table')", "('42S02', '[42S02] no table')"),
        ("E11000 duplicate key", "E11000 duplicate key"),
        # Verbs and the words of a path stay; hosts, ids and queries go.
        ("GET https://a.io/v1/prices/77?day=3", "GET <url>/v1/prices/<id>"),
        ("POST /payments/77 failed", "POST <url>/payments/<id> failed"),
        ("with url: /v2/data?x=1 (Caused by", "with url: <url>/v2/data (Caused by"),
        ("redis://cache:6379/0 is down", "redis:<url>/<id> is down"),
        ("s3://raw/2024/01/a.csv is missing", "s3:<object> is missing"),
        # What redaction has left of a secret is a part of its address.
        ("url: https://a.io/v1/x?key=<redacted:token>&n=3.", "url: <url>/v1/x."),
        ("url: /v1/x?n=3&key=<redacted:stripe_key> (Caused by", "url: <url>/v1/x (Caused by"),
        ("for https://a.io/hook/<redacted:webhook>/run: no", "for <url>/hook/<id>/run: no"),
        ("postgres://u:<redacted:password>@db-1/x is down", "postgres:<url>/x is down"),
        ("bad token <redacted:jwt>", "bad token <redacted:jwt>"),
        # Identifiers go.
        ("job 3f2b8c1e-9c1a-4f6e-8a56-0a4d3a1b2c3d died", "job <uuid> died"),
        ("run scheduled__2024-02-01T06:00:00+00:00", "run <run>"),
        ("at 2024-02-01 06:00:00.123+00:00 and 12:30:11", "at <ts> and <ts>"),
        ("<X object at 0x7f9c2c0d5e10>", "<X object at <hex>>"),
        ('host "db-1" (172.18.0.2), port 5432', 'host "<host>" (<ip>), port <port>'),
        ("host='api.acme.invalid', port=80", "host='<host>', port=<port>"),
        ("dial db-orders:5432 timeout", "dial <host> timeout"),
        ("Pod train-x8k2 returned a failure", "Pod <id> returned a failure"),
        ("ip-10-0-3-9.ec2.internal executor 14", "<ip> executor <n>"),
        ("No such file: '/data/in/a 7.csv'", "No such file: '<path> <n>.csv'"),
        ("calling o81.parquet", "calling o<n>.parquet"),
        ("application_1612345678901_0042", "application_<n>_<n>"),
        ("wrote to bob@acme.io", "wrote to <email>"),
        ("arn:aws:iam::123456789012:role/x is not", "<arn> is not"),
        # Names that merely look like something else stay.
        ("'utf-8' codec, float64, s3fs", "'utf-8' codec, float64, s3fs"),
        ("java.io.IOException: a and/or b", "java.io.IOException: a and/or b"),
        ('relation "raw.orders" does not exist', 'relation "raw.orders" does not exist'),
        ("No module named 'google.cloud'", "No module named 'google.cloud'"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    assert mask(text) == masked


PIECES = st.sampled_from(
    [
        *("https://a.io/b/1?c=2", "<url>/v1/x", "<id>", "<n>", "10.0.0.1:80", "::1", "a.b.com:80"),
        *("2024-01-01T00:00:00Z", "manual__2024", "GET", "/a/b", "url:", "/x", "/tmp/x.csv"),
        *("0xdeadbeef", "12-34", "-5", "exit", "code", "3", "Errno", "9", "1,234.5%", "_99"),
        *("a@b.io", "host='x'", "port=7", "s3://a/b", "(", "'", ":", ",", "C:\\x", "x_2024"),
        *("pod", "a-b-12345", "12345678", "deadbeef01", "<redacted:jwt>", "https://a.io/?k="),
    ]
)


@settings(max_examples=500)
@given(st.lists(st.one_of(PIECES, st.text(max_size=12)), max_size=12).map(" ".join))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


VOLATILE = {
    "uuid": st.uuids().map(str),
    "stamp": st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%S").zfill(19) + "+00:00"),
    "ip": st.ip_addresses(v=4).map(str),
    "port": st.integers(1024, 65535).map(str),
    "row": st.integers(0, 10**9).map(str),
    "run": st.datetimes().map(
        lambda at: "scheduled__" + at.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    ),
    "page": st.integers(1, 10**6).map(str),
    "file": st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
    "address": st.integers(2**40, 2**47).map(hex),
}
LOG = """\
[{stamp}] {{taskinstance.py:{row}}} ERROR - Task failed with exception
Traceback (most recent call last):
  File "/opt/airflow/dags/etl.py", line {row}, in load
    load()
requests.exceptions.HTTPError: {status} Server Error for url: http://{ip}:{port}/v1/orders?p={page}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/airflow/dags/etl.py", line {row}, in load
acme.LoadFailed: job {uuid} of {run} on {ip} port {port} read /data/{file}.csv up to row {row} \
into <Sink object at {address}> at {stamp}: [Errno {errno}] gave up, exit code {exit}
"""


@settings(max_examples=150)
@given(st.fixed_dictionaries(VOLATILE), st.fixed_dictionaries(VOLATILE))
def test_what_changes_from_run_to_run_leaves_the_fingerprint(
    one: dict[str, str], other: dict[str, str]
) -> None:
    codes = {"status": "503", "errno": "104", "exit": "137"}
    assert sign(LOG.format(**one, **codes)).text == sign(LOG.format(**other, **codes)).text


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(VOLATILE),
    st.sampled_from(["status", "errno", "exit"]),
    st.tuples(st.integers(1, 255), st.integers(1, 255)).filter(lambda pair: pair[0] != pair[1]),
)
def test_a_code_is_part_of_what_failed(
    values: dict[str, str], which: str, numbers: tuple[int, int]
) -> None:
    codes = {"status": "503", "errno": "104", "exit": "137"}
    base = 400 if which == "status" else 0  # 401 to 655, of which 599 is the last
    signed = [
        sign(LOG.format(**values, **{**codes, which: str(base + number % 200)}))
        for number in numbers
    ]
    same = numbers[0] % 200 == numbers[1] % 200
    assert (signed[0].fingerprint == signed[1].fingerprint) == same


@pytest.mark.parametrize(
    "query", ["?api_key=sk_live_4eC39HqLyjWDarjtT1", "?page=3", "?a=1&token=d3adb33f"]
)
def test_a_secret_in_an_address_does_not_make_a_failure_another_one(query: str) -> None:
    text = "HTTPError: 429 Client Error: Too Many Requests for url: https://api.acme.io/v1/charges"
    assert sign(redact(text + query)).fingerprint == sign(text).fingerprint


def test_a_timeout_on_reading_prices_is_not_one_on_posting_a_payment() -> None:
    get = sign("ReadTimeout: GET https://api.acme.io/prices timed out")
    post = sign("ReadTimeout: POST https://api.acme.io/payments timed out")
    assert get.fingerprint != post.fingerprint

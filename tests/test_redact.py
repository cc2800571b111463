"""What leaves a log as a secret must not come in; what decides a diagnosis must stay."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.redact import KeyBlocks, clean, redact

# Put together here, so that no scanner takes this file for a leak.
AWS_ID = "AKIA" + "IOSFODNN7EXAMPLE"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"
FERNET = "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs" + "="
KEY_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
KEY_END = "MzEfYyjiWA4R4/M2bS1GB4t7NXp9"
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY_BODY}\n{KEY_BODY}\n{KEY_END}\n-----END PRIVATE KEY-----"

LEAKS = {
    # text: what must be gone
    f"key {AWS_ID} used": AWS_ID,
    f"creds {AWS_ID} {AWS_SECRET}": AWS_SECRET,
    f"aws_secret_access_key = {AWS_SECRET}": AWS_SECRET,
    f"AWS_SECRET_ACCESS_KEY={AWS_SECRET}": AWS_SECRET,
    f"'aws_access_key_id={AWS_ID};aws_secret_access_key={AWS_SECRET}'": AWS_SECRET,
    "key=" + "AIza" + "SyA1234567890abcdefghijklmnopqrstuv": "SyA1234567890",
    "Bearer ya29." + "a0AfH6SMBx1234567890abcdef": "a0AfH6SMBx",
    "AccountName=acme;AccountKey=q1w2e3r4t5y6+/==;EndpointSuffix=core": "q1w2e3",
    "https://acme.blob.core.windows.net/raw?sv=2021&sig=abc%2Bdef%3D&se=1": "abc%2Bdef",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature=0a1b2c3d4e5f&x=1": "0a1b2c3d",
    "remote: ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": "a1B2c3D4",
    "github_pat_" + "11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ": "11ABCDEFG0",
    "glpat-" + "a1B2c3D4e5F6g7H8i9J0": "a1B2c3D4",
    "xoxb-" + "123456789012-1234567890123-a1B2c3D4e5F6g7H8i9J0k1L2": "a1B2c3",
    "https://hooks.slack.com/services/" + "T00000000/B00000000/abcdefGHIJKL": "abcdefGHIJKL",
    "sk_live_" + "a1B2c3D4e5F6g7H8i9J0k1L2": "a1B2c3",
    "npm_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8": "a1B2c3",
    "pypi-AgEIcHlwaS5vcmc" + "a1B2c3D4" * 10: "a1B2c3",
    "OpenAI key sk-proj-" + "a1B2c3D4e5F6g7H8i9J0k1L2": "a1B2c3",
    "hf_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6": "a1B2c3",
    f"token {JWT} rejected": "dozjgNry",
    f"token {JWT[:30]}": JWT[20:30],
    "postgresql://etl:pw-1@db-orders:5432/orders": "pw-1",
    "postgresql+psycopg2://etl:p@s/s?w0rd@db-orders/orders?opt=a@b": "w0rd",
    "redis://:pw-1@cache:6379/0": "pw-1",
    "connection to host=db user=etl password=pw-1 dbname=x failed": "pw-1",
    "dsn password='two words' host=db": "two words",
    "jdbc:postgresql://db/x?user=etl&password=pw-1&ssl=true": "pw-1",
    "jdbc:sqlserver://db;user=etl;password=pw-1;encrypt=true": "pw-1",
    "jdbc:oracle:thin:scott/pw-1@db:1521/x": "pw-1",
    "DRIVER={ODBC 18};SERVER=db;UID=sa;PWD=pw-1;Encrypt=yes": "pw-1",
    "DRIVER={ODBC 18};SERVER=db;UID=sa;PWD={pw;1};Encrypt=yes": "pw;1",
    "Authorization: Bearer pw-1-abc": "pw-1-abc",
    "authorization: Basic ZXRsOnB3MTIz": "ZXRsOnB3MTIz",
    "Authorization: pw-1": "pw-1",
    "{'Authorization': 'token pw-1', 'X-Api-Key': 'k-1'}": "pw-1",
    "{'Authorization': 'Bearer x', 'X-Api-Key': 'k-1'}": "k-1",
    'curl -H "Authorization: Digest username=etl, response=pw-1"': "pw-1",
    "sent Bearer a1b2c3d4e5f6": "a1b2c3d4e5f6",
    "Cookie: session=pw-1; other=pw-2": "pw-2",
    "{'Set-Cookie': 'session=pw-1; Path=/'}": "pw-1",
    f"fernet {FERNET}": FERNET,
    "password=pw-1": "pw-1",
    "PASSWORD = pw-1": "pw-1",
    "passwd: pw-1": "pw-1",
    "db_pass=pw-1": "pw-1",
    "PGPASSWORD=pw-1 psql": "pw-1",
    "client_secret => pw-1": "pw-1",
    "api-key: pw-1": "pw-1",
    "apiKey=pw-1": "pw-1",
    "password=hun,ter;2&x end": "ter;2",
    'connect(user="etl", password="p\\"w-1")': "w-1",
    '{"user": "etl", "password": "pw-1", "port": 1}': "pw-1",
    r"{\"user\": \"etl\", \"password\": \"p\\\"w-1\"}": "w-1",
    "Namespace(user='etl', password='pw-1')": "pw-1",
    'os.environ["DB_PASSWORD"] = "pw-1"': "pw-1",
    'def connect(password: str = "pw-1"):': "pw-1",
    "password%3Dpw-1": "pw-1",
    "password: correct horse battery": "battery",
    "run --password pw-1 --host db": "pw-1",
    "run --db-password='pw 1' --host db": "pw 1",
    "['run', '--api-token', 'pw-1', '--host', 'db']": "pw-1",
    "curl -u etl:pw-1 https://api": "pw-1",
    "mysql -h db -u root -ppw-1 -e 'select 1'": "pw-1",
    "CREATE USER etl IDENTIFIED BY 'pw-1'": "pw-1",
    "ALTER ROLE etl WITH PASSWORD 'pw-1'": "pw-1",
    "<password>pw-1</password>": "pw-1",
    f'"private_key": "{PEM}", "client_email": "a@b"'.replace("\n", "\\n"): KEY_BODY,
    f"key was {KEY_BODY}\n{KEY_BODY}\nnext": f"\n{KEY_BODY}",
    PEM: KEY_END,
    PEM.replace("PRIVATE", "RSA PRIVATE"): KEY_END,
    PEM.replace("\n", "\n[2024-01-02, 03:04:05 UTC] {bash.py:1} INFO - "): KEY_BODY,
    "\n".join(PEM.split("\n")[:2]): KEY_BODY,
    # Two strings for a user and a password, as a call or a repr shows them.
    "requests.get(url, auth=('bob', 'hunter22'), timeout=3)": "hunter22",
    'auth=("bob","pw-1")': "pw-1",
    "{'auth': ('bob', 'pw-1')}": "pw-1",
    '{"auth": ["bob", "pw-1"]}': "pw-1",
    r"{\"auth\": [\"bob\", \"pw-1\"]}": "pw-1",
    "http_auth = (b'elastic', b'pw-1')": "pw-1",
    "HTTPBasicAuth('bob', 'pw-1')": "pw-1",
    'requests.auth.HTTPDigestAuth("bob", "pw-1")': "pw-1",
    "server.login('bob', 'pw-1')": "pw-1",
    "('X-Api-Key', 'pw-1')": "pw-1",
    "[(b'Host', b'x'), (b'Authorization', b'Bearer pw-1')]": "pw-1",
    "BasicAuth(login='bob', password='pw-1', encoding='latin1')": "pw-1",
    # A prompt, and what was typed or generated for it.
    "Password for user bob: hunter2": "hunter2",
    "Password for user bob: hunter": "hunter",
    "Simple auth manager | Password for user 'admin': tDnKqAbcQmWxYzRs": "tDnKqAbc",
    "standalone | Password for the admin user is: pw-1": "pw-1",
    "Enter passphrase for key '/home/etl/.ssh/id_rsa': pw-1": "pw-1",
    "SET PASSWORD FOR 'etl'@'%' = 'pw-1'": "pw-1",
    # Names of settings.
    "secret_key_base: pw-1": "pw-1",
    "credentials='pw-1'": "pw-1",
    '{"credentials": "pw-1"}': "pw-1",
    "creds=hunter2": "hunter2",
    "creds: bob:hunter": "hunter",
    "secretAccessKey: qwerty": "qwerty",
    "REDISCLI_AUTH=pw-1 redis-cli": "pw-1",
    "Ocp-Apim-Subscription-Key: pw-1": "pw-1",
    "--conf spark.hadoop.fs.s3a.secret.key=pw-1": "pw-1",
    "fs.azure.account.key.acme.dfs.core.windows.net=pw-1": "pw-1",
    "fs.azure.account.key.acme.dfs.core.windows.net q1w2e3r4t5y6": "q1w2e3",
    f"aws_secret_access_key {AWS_SECRET}": AWS_SECRET,
    "aws configure set aws_session_token a1b2c3d4e5": "a1b2c3d4e5",
    "session IQoJb3JpZ2lu" + "a1B2c3D4" * 10: "a1B2c3",
    # Authorization, however it is printed.
    '{"Authorization": "Bearer pw-1"}': "pw-1",
    r"{\"Authorization\": \"Bearer pw-1\"}": "pw-1",
    "{'Authorization': b'Bearer pw-1'}": "pw-1",
    "{'authorization': ['Bearer pw-1']}": "pw-1",
    "('Authorization', 'Bearer pw-1')": "pw-1",
    '"Authorization" => "Bearer pw-1"': "pw-1",
    "{'Authorization': 'SSWS pw-1'}": "pw-1",
    "Authorization: GenieKey pw-1": "pw-1",
    "send: 'AUTH PLAIN AGV0bABwdzEyMw=='": "AGV0bABwdzEyMw",
    # Command lines.
    "run --password=pw-1 --host db": "pw-1",
    "mysqldump -u etl -p'pw 1' orders": "pw 1",
    "sshpass -p pw-1 ssh etl@db": "pw-1",
    "['sshpass', '-p', 'pw-1', 'ssh']": "pw-1",
    "['mysql', '-u', 'etl', '-ppw-1']": "pw-1",
    "sqlcmd -S db -U sa -P pw-1 -Q x": "pw-1",
    "docker login -u bob -p pw-1 registry": "pw-1",
    "redis-cli -h cache -a pw-1 ping": "pw-1",
    "beeline -u jdbc:hive2://h:10000/db -n bob -p pw-1": "pw-1",
    "sqlplus -s etl/pw-1@db": "pw-1",
    'sqlplus -S -L "etl/pw-1@//db:1521/x" @run.sql': "pw-1",
    "['sqlplus', 'etl/pw-1@db']": "pw-1",
    "sqlldr userid=etl/pw-1@db control=x": "pw-1",
    "curl -ubob:pw-1 https://api": "pw-1",
    "curl -sSu bob:pw-1 https://api": "pw-1",
    "curl --proxy-user bob:pw-1 https://api": "pw-1",
    "['curl', '-u', 'bob:pw-1', 'https://api']": "pw-1",
    # What the logs of providers show.
    "snowflake.connector.connect(**{'user': 'ETL', 'password': 'pw-1', 'account': 'a'})": "pw-1",
    "{'user': 'ETL', 'private_key': b'0\\x82\\x04', 'account': 'ab12345.eu'}": "x82",
    '{"extra__snowflake__private_key_content": "pw-1"}': "pw-1",
    "URL(drivername='postgresql', username='etl', password='pw-1', host='db')": "pw-1",
    "Engine(snowflake://etl:pw-1@ab12345/orders?warehouse=wh)": "pw-1",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3DODBC%3BUID%3Dsa%3BPWD%3Dpw-1%3B": "pw-1",
    "{'AccessKeyId': 'A', 'SecretAccessKey': 'pw-1', 'Expiration': 1}": "pw-1",
    "ReadOnlyCredentials(access_key='A', secret_key='pw-1', token='pw-2')": "pw-2",
    "https://hooks.slack.com/triggers/" + "T000/123/a1B2c3D4e5F6": "a1B2c3D4",
    "https://acme.webhook.office.com/webhookb2/" + "1-2@3/IncomingWebhook/a1b2c3/4": "a1b2c3",
    "https://discord.com/api/webhooks/123456/" + "a1B2c3D4-e5F6": "a1B2c3D4",
    "token for databricks dapi" + "0123456789abcdef" * 2: "0123456789abcdef",
    "BlobEndpoint=https://a.x;SharedAccessSignature=sv=2021&se=2024&sig=pw-1": "pw-1",
    "Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey=pw-1": "pw-1",
    'sasl.jaas.config=o.a.k.PlainLoginModule required username="etl" password="pw-1";': "pw-1",
    '{"access_token":"pw-1","refresh_token":"pw-2","expires_in":3600}': "pw-2",
    "grant_type=refresh_token&refresh_token=pw-1&client_id=x": "pw-1",
    "https://" + "a1b2c3d4" * 5 + "@dev.azure.com/acme": "a1b2c3d4",
}


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_is_gone(text: str) -> None:
    assert LEAKS[text] in text
    redacted = redact(text)
    assert LEAKS[text] not in redacted
    assert "<redacted:" in redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        'FATAL: password authentication failed for user "etl"',
        "token expired",
        "Variable api_key does not exist",
        "secret: not found",
        "Error reading secret: permission denied",
        "KeyError: 'password'",
        "TypeError: connect() got an unexpected keyword argument 'password'",
        "(1045, \"Access denied for user 'airflow'@'10.2.0.9' (using password: YES)\")",
        "ORA-01017: invalid username/password; logon denied",
        "cryptography.fernet.InvalidToken",
        "jwt.exceptions.InvalidToken: Signature verification failed",
        "unexpected token: SELECT",
        "Authorization header missing",
        "Bearer authentication failed",
        "Basic authentication is required",
        "password=None host=db",
        '"password": "***"',
        "Done. PASS=3 WARN=0 ERROR=1 SKIP=0 TOTAL=4",
        "PWD=/opt/airflow",
        "prompt_tokens=512 total_tokens: 600 token_type=bearer",
        "secret_name: orders",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "ti_id=01a205a2-12c5-78ac-9c7d-c5a5ce50498a",
        "run scheduled__2024-01-02T00:00:00+00:00, manual__2026-11-22T23:40:59_9684",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "airflow.sdk.exceptions.AirflowRuntimeError: CONNECTION_NOT_FOUND: {'conn_id': 's3'}",
        "http://api:8080/users/me@acme.com",
        "https://e.io/mail?to=a@b",
        '["http://api:8080","a@b"]',
        "docker run -u 1000:1000 image",
        "psycopg2.OperationalError: SSL SYSCALL error: EOF detected",
        'File "/opt/airflow/dags/token.py", line 3, in password',
        "Password expired for user etl",
        "Incorrect password for user etl: connection refused",
        "Could not find password for user bob: no entry in .pgpass",
        "Password for user bob: psql: error: connection to server failed",
        "The password for user etl is wrong",
        "f\"Password for user '{user['username']}': {passwords[user['username']]}\"",
        "Invalid credentials",
        "credentials not found",
        "Unable to locate credentials",
        "credentials: not found",
        "credentials=None",
        "self._credentials = credentials",
        "creds = boto3.Session().get_credentials()",
        "credentials=<google.oauth2.service_account.Credentials object at 0x7f00>",
        "credentials='/etc/gcp/key1.json'",
        "Found credentials from IAM Role: airflow-role",
        "KeyError: 'aws_secret_access_key'",
        "aws_secret_access_key is not set",
        "aws_secret_access_key, aws_session_token in /home/etl/.aws/credentials",
        "aws_secret_access_key environment variable",
        "secret_key_base: missing",
        "HTTPBasicAuth(login, password)",
        "auth=('bob', None)",
        "auth: ['basic', 'digest']",
        "AUTH_BACKENDS=('airflow.api.auth', 'airflow.api.basic')",
        "missing: ['user', 'password', 'host']",
        "required=('token', 'secret')",
        "mysql -h db -P 3306 -u etl -p orders",
        "mysql -h db; mkdir -p /tmp/x",
        "docker run -p 8080:80 image",
        "psql -p 5432 -U etl",
        "ssh -p 22 etl@host",
        "redis-cli -p 6379",
        "sqlplus /nolog @run.sql",
        "sqlplus / as sysdba",
        "sshpass -e ssh host",
        "beeline -u jdbc:hive2 -n bob",
        "Authorization: Bearer",
        "sasl.jaas.config=null",
        "unique_key='order_id', primary_key=order_id, sort key: ds",
        "BlobEndpoint=https://a.x;SharedAccessSignature=sv=2021&se=2024-01-02",
        "from airflow.sdk.bases.hook import BaseHook",
        "class AwsHook(BaseHook, CredentialsMixin):",
        "https://hooks.slack.com returned 404",
        "InvalidPassword: authentication",
    ],
)
def test_what_decides_a_diagnosis_stays(text: str) -> None:
    assert redact(clean(text)) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (
            "postgresql://etl:pw@db-orders:5432/orders",
            "postgresql://etl:<redacted:password>@db-orders:5432/orders",
        ),
        ("f(password=pw, user=etl)", "f(password=<redacted:password>, user=etl)"),
        ("password=pw,user=etl", "password=<redacted:password>,user=etl"),
        ("Authorization: Bearer a.b-c ok", "Authorization: Bearer <redacted:authorization> ok"),
        (f"token={JWT}", "token=<redacted:jwt>"),
        ("password=<redacted:jwt>rest", "password=<redacted:password>"),
        (f"a\n{PEM}\nb", "a" + "\n<redacted:private_key>" * 5 + "\nb"),
        (PEM[:-40] + "\nTask failed: no route", None),
    ],
)
def test_the_rest_of_the_line_stays(text: str, redacted: str | None) -> None:
    if redacted is None:  # a key that is cut hides nothing of what follows
        assert redact(text).endswith("\nTask failed: no route")
    else:
        assert redact(text) == redacted


@pytest.mark.parametrize(
    ("hidden", "secret"),
    [
        ("pass\x1b[31mword=pw-1", "pw-1"),
        ("AKIAIOSF\x1b[0mODNN7EXAMPLE", "EXAMPLE"),
        ("AKIAIOSF\u200bODNN7EXAMPLE", "EXAMPLE"),
        ("pass\x00word=pw\x1b]0;title\x07-1", "-1"),
        ("pass\u202eword=pw-1", "pw-1"),
        ("pwd\u200d=hunter2x", "hunter2x"),
        ("p\u00adassword=hunter2x", "hunter2x"),
        ("to\u115fken=hunter2x", "hunter2x"),
        ("pass\ufe0fword\u3164=hunter2x", "hunter2x"),
        ("pass\x1b\u200b[31mword=pw-1", "pw-1"),
    ],
)
def test_escapes_do_not_hide_a_secret(hidden: str, secret: str) -> None:
    assert secret not in redact(clean(hidden))


def test_clean_drops_every_character_that_nobody_sees() -> None:
    formats = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) == "Cf"]
    fillers = [*"\u034f\u115f\u1160\u17b4\u17b5\u180b\u2065\u3164\uffa0\ufe00\ufe0f\U000e01ef"]
    kept = [f"U+{ord(c):04X}" for c in formats + fillers if clean(f"a{c}b") != "ab"]
    assert formats
    assert not kept
    assert clean("Zoë e\u0301 \u0928\u0940 ✓ → 日本 😀") == "Zoë e\u0301 \u0928\u0940 ✓ → 日本 😀"


def test_clean_keeps_the_text_and_drops_what_drives_a_terminal() -> None:
    assert clean("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 é\tend\n") == (
        "red link é\tend\n"
    )
    assert clean("\x9b2Jx\x1bcy\x1b[2") == "xy2"
    assert clean("a\ud800b\u2066c\u2028d\x85e\r\n") == "a\ufffdbc de\n"


ANY_TEXT = st.text(st.characters(codec=None))
# Pieces that the patterns look for, thrown together.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *("password", "=", ": ", '"', "'", "\\", "token", "://", "a:", "@h", " ", ",", ";"),
                *("&", "Bearer ", "Authorization: ", "Cookie: ", "<redacted:jwt>", "--password "),
                *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "\n", KEY_BODY),
                *("</x>", "--", "x", AWS_ID, AWS_SECRET, JWT, FERNET, "eyJ", "sig=", "?", "{", "}"),
                *("mysql -p", "<password>", "(", ")", "[", "secret", "api_key", "None", "%3D"),
                *("curl -u ", "IDENTIFIED BY ", "auth=(", "creds=", "Password for ", "sqlplus a/"),
                *("aws_secret_access_key ", "sshpass -p ", "login(", "webhook/", "auth", "', '"),
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


@given(st.one_of(ANY_TEXT, PIECES))
def test_any_text_ends_without_control_and_with_as_many_lines(text: str) -> None:
    cleaned = clean(text)
    redacted = redact(cleaned)
    assert clean(cleaned) == cleaned
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", redacted)
    assert redacted.count("\n") == cleaned.count("\n") == text.count("\n")
    redacted.encode("utf-8")


@given(PIECES)
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


SECRET = st.text("abcXYZ019!#$%*+-/^_~", min_size=6, max_size=30).filter(
    lambda text: text.strip("*") and not text.lower().strip("-").isalpha()
)


@given(
    SECRET,
    st.sampled_from(
        [
            "password={}",
            'password="{}"',
            "{{'password': '{}', 'user': 'etl'}}",
            '{{"token":"{}"}}',
            "postgres://etl:{}@db/x",
            "api_key: '{}'",
            "AWS_SECRET_ACCESS_KEY={} run",
            "x --client-secret={} y",
            "host=db password={} user=etl",
        ]
    ),
    ANY_TEXT,
)
def test_no_secret_survives_in_its_place(secret: str, place: str, around: str) -> None:
    around = clean(around).replace(secret, "")
    text = f"{around} {place.format(secret)}"
    assert secret not in redact(text).replace(around, "", 1)


@pytest.mark.parametrize(
    "seed",
    [
        *("a", "://", "://a:", "@://a:", "password", "password='", 'password=\\"', "eyJ", "--a"),
        *("-----BEGIN PRIVATE KEY-----", "cookie:", "basic ", "mysql -p", "\\", "1:", "a,", "sk-"),
        *("password=a,", "<a", "xoxb-1-", "?sig=", "[", "gl-", "Z9+/", "=", "\x1b[", "\x1b]", "-"),
        *(
            "a.",
            "&a=",
            "auth=('a','",
            'auth=("a',
            "creds=",
            "credentials='",
            "password for ",
            "curl ",
        ),
        *(
            "mysql ",
            "sqlplus ",
            "sqlplus -s ",
            "sqlplus a/",
            "aws_secret_access_key ",
            "a@",
            "\u200b",
        ),
        *("authorization: '", "login(", "('token','", "account.key.", "webhook/", "('", "--user "),
        *("://a1", "userid=", "a/"),
    ],
)
def test_a_hostile_line_takes_linear_time(seed: str) -> None:
    def seconds(length: int) -> float:
        text = (seed * length)[:length]
        start = time.process_time()  # of this process alone, whatever else the machine does
        redact(clean(text))
        return time.process_time() - start

    redact("")  # the detectors' import
    # Quadratic time would be a factor of 64; the floor keeps the noise of short times out.
    short = min(seconds(10_000) for _ in range(3))
    assert min(seconds(80_000) for _ in range(2)) < 30 * max(short, 0.01)


def test_an_empty_setting_does_not_swallow_the_name_of_the_next() -> None:
    assert "hunter22" not in redact("CREDENTIAL= api_key: 'hunter22'")


def test_key_blocks_pass_other_lines_untouched() -> None:
    blocks = KeyBlocks()
    lines = ["a", "-----BEGIN CERTIFICATE-----", KEY_BODY, "b"]
    assert [blocks.line(line) for line in lines] == lines


def test_importing_the_module_does_not_import_the_detectors() -> None:
    code = "import sys, knowledge.redact; sys.exit('detect_secrets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

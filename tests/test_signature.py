"""Logs as they really look, from Airflow 1.10 to 3, must end in the same few words."""

from __future__ import annotations

import builtins
import json
import pprint
import sys
import time
import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_cli.airflow.logs import read_excerpt
from knowledge.ranking import BUILTIN_BOUND, similarity
from knowledge.signature import KILLED, LOST, SIGNATURE_VERSION, sign
from knowledge.wrappers import inner_lines

STAMP = "[2024-02-01T07:44:10.220+0000]"
CHILD = f"{STAMP} {{subprocess.py:93}} INFO - "
FAILED = f"{STAMP} {{taskinstance.py:3313}} ERROR - Task failed with exception\n"
BASH = (
    FAILED + "Traceback (most recent call last):\n"
    '  File "/opt/airflow/airflow/operators/bash.py", line 759, in execute\n'
    "    raise AirflowException(\n"
    "airflow.exceptions.AirflowException: Bash command failed. "
    "The command returned a non-zero exit code 1.\n"
)


# --- one failure, four ways of writing it ------------------------------------------------------


class Vendor(Exception):
    pass


def refused() -> None:
    try:
        raise ConnectionRefusedError(111, "Connection refused")
    except OSError as error:
        raise Vendor("could not reach https://api.acme.io/v1/prices?page=3") from error


def while_handling() -> None:
    try:
        [][7]
    except IndexError:
        int("12,5abc")


def many_lines() -> None:
    raise Vendor('relation "orders" does not exist\nLINE 1: select 1\n   ^\nDETAIL: id 7')


def no_message() -> None:
    raise MemoryError


def noted() -> None:
    error = Vendor("quota exceeded")
    vars(error)["__notes__"] = ["while loading orders"]  # add_note, for Python 3.10 too
    raise error


def bad_syntax() -> None:
    compile("a b", "orders.py", "exec")


def grouped() -> None:
    errors = []
    for failing in (no_message, refused):
        try:
            failing()
        except Exception as error:  # noqa: BLE001 - collected for the group
            errors.append(error)
    group: type[Exception] = vars(builtins)["ExceptionGroup"]  # new in Python 3.11
    raise group("two failed", errors)


RAISING = [refused, while_handling, many_lines, no_message, bad_syntax]
if sys.version_info >= (3, 11):  # both are printed from there on
    RAISING += [noted, grouped]


def detail(error: BaseException, *, is_cause: bool = False) -> list[dict[str, Any]]:
    """`error_detail` as structlog's dictionary tracebacks write it for Airflow 3."""
    frames = traceback.extract_tb(error.__traceback__)
    stack: dict[str, Any] = {
        "exc_type": type(error).__name__,
        "exc_value": str(error),
        "exc_notes": getattr(error, "__notes__", []),
        "syntax_error": None,
        "is_cause": is_cause,
        "frames": [{"filename": f.filename, "lineno": f.lineno, "name": f.name} for f in frames],
        "is_group": hasattr(error, "exceptions"),
        "exceptions": [detail(member) for member in getattr(error, "exceptions", [])],
    }
    if error.__cause__:
        return [stack, *detail(error.__cause__, is_cause=True)]
    if error.__context__ and not error.__suppress_context__:
        return [stack, *detail(error.__context__)]
    return [stack]


def written(failing: Any) -> dict[str, str]:
    """One real exception as a plain traceback, Airflow 2 text, Airflow 3 text and events."""
    try:
        failing()
    except Exception as error:  # noqa: BLE001 - any of them is the test's subject
        plain = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        events = [
            {"timestamp": "2025-06-02T03:20:00Z", "level": "info", "event": "Task start"},
            {
                "timestamp": "2025-06-02T03:20:01Z",
                "level": "error",
                "logger": "task",
                "event": "Task failed with exception",
                "error_detail": detail(error),
            },
            {"timestamp": "2025-06-02T03:20:02Z", "level": "info", "event": "Task finished"},
        ]
    return {
        "plain": plain,
        "airflow 2": f"{STAMP} {{x.py:1}} INFO - Starting attempt 1 of 1\n{FAILED}{plain}"
        f"{STAMP} {{taskinstance.py:1225}} INFO - Marking task as FAILED. dag_id=a\n"
        f"{STAMP} {{local_task_job_runner.py:240}} INFO - Task exited with return code 1\n",
        "airflow 3": "[2025-06-02T03:20:00.1Z] INFO - Task start [task.stdout]\n"
        f"[2025-06-02T03:20:00.1Z] ERROR - Task failed with exception [task]\n{plain}"
        "[2025-06-02T03:20:00.1Z] INFO - Task instance in failure state [task.stdout]\n",
        "events": "\n".join(json.dumps(event) for event in events),
    }


@pytest.mark.parametrize("failing", RAISING, ids=lambda failing: failing.__name__)
def test_the_excerpt_of_a_log_signs_as_the_log_does(failing: Any) -> None:
    for way, text in written(failing).items():
        excerpt = read_excerpt([text.encode()])
        assert sign(excerpt.text, excerpt.numbers).text == sign(text).text, way


@pytest.mark.parametrize("failing", RAISING, ids=lambda failing: failing.__name__)
def test_one_failure_has_one_signature_however_its_log_came(failing: Any) -> None:
    signatures = {way: sign(text) for way, text in written(failing).items()}
    plain = signatures["plain"]
    assert plain.text
    for way, signature in signatures.items():
        assert signature.text == plain.text, way
        assert signature.fingerprint == plain.fingerprint, way
        assert signature.error_class == plain.error_class, way
        assert signature.frame == plain.frame, way


def test_the_cause_follows_what_it_caused() -> None:
    signature = sign(written(refused)["events"])
    assert signature.text == (
        "Vendor: could not reach <url>/v1/prices\n"
        "ConnectionRefusedError: [Errno 111] Connection refused"
    )
    assert signature.error_class == "Vendor"
    assert signature.frame == "test_signature.py:refused"
    assert signature.version == SIGNATURE_VERSION


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are Python 3.11's")
def test_a_group_is_opened() -> None:
    signature = sign(written(grouped)["plain"])
    assert signature.text.splitlines() == [
        "MemoryError",
        "Vendor: could not reach <url>/v1/prices",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "ExceptionGroup",
    ]
    assert signature.raised_from == "", "nobody can say which of them it came from"


def test_airflow_3_as_its_user_interface_shows_it() -> None:
    text = (
        '[2026-01-28, 14:36:06] INFO - Connected: source="paramiko.transport"\n'
        '[2026-01-28, 14:36:14] ERROR - Task failed with exception: source="task"\n'
        "ConnectionError: all tries used up\n"
        'File "/home/a/lib/python3.12/site-packages/airflow/sdk/task_runner.py", line 920 in run\n'
        "\n"
        'File "/opt/airflow/dags/prices.py", line 21 in fetch\n'
        "\n"
        "ConnectionRefusedError: [Errno 111] Connection refused\n"
        'File "/usr/local/lib/python3.12/socket.py", line 9 in create_connection\n'
    )
    signature = sign(text)
    assert signature.text == (
        "ConnectionError: all tries used up\nConnectionRefusedError: [Errno 111] Connection refused"
    )
    assert signature.frame == "prices.py:fetch"


def test_a_person_is_told_where_in_the_code_and_what_it_was_raised_from() -> None:
    def frame(file: str, line: int, name: str) -> str:
        return f'  File "{file}", line {line}, in {name}\n    …\n'

    head = "Traceback (most recent call last):\n"
    library = frame("/usr/local/lib/python3.11/site-packages/pandas/io.py", 9, "read")
    cause = f"{head}{frame('/opt/airflow/dags/fin.py', 21, 'conv')}{library}KeyError: 'x'\n"
    joint = "\nThe above exception was the direct cause of the following exception:\n\n"
    above = f"{head}{frame('/opt/airflow/dags/fin.py', 40, 'load')}"
    bad = sign(FAILED + cause + joint + above + "ValueError: bad config\n")
    assert bad.headline == "ValueError: bad config"
    assert (bad.place, bad.raised_from) == ("/opt/airflow/dags/fin.py:40 in load", "KeyError: 'x'")
    alone = sign(FAILED + cause)
    assert (alone.place, alone.raised_from) == ("/opt/airflow/dags/fin.py:21 in conv", "")
    # A library that only repeats its cause, and a headline that is the cause already.
    assert sign(cause + joint + above + "acme.Failed: could not read 'x'\n").raised_from == ""
    assert sign(cause + joint + above + f"ValueError: {'long ' * 40}\n").headline == "KeyError: 'x'"
    assert sign(cause + joint + above + f"ValueError: {'long ' * 40}\n").raised_from == ""
    assert sign(head + library + "KeyError: 'x'\n").place is None
    assert sign(written(no_message)["plain"]).raised_from == ""


def test_what_the_text_leaves_open_the_user_s_frame_tells() -> None:
    """urllib's timeout names neither verb nor address: the caller's own function does."""

    def timeout(function: str) -> str:
        return (
            FAILED + "Traceback (most recent call last):\n"
            f'  File "/opt/airflow/dags/prices.py", line 21, in {function}\n'
            "    urlopen(request, timeout=5)\n"
            '  File "/usr/local/lib/python3.11/urllib/request.py", line 216, in urlopen\n'
            '  File "/usr/local/lib/python3.11/socket.py", line 706, in readinto\n'
            "TimeoutError: timed out\n"
        )

    read, pay = sign(timeout("read_prices")), sign(timeout("post_payment"))
    assert read.text == pay.text == "TimeoutError: timed out"
    assert (read.frame, pay.frame) == ("prices.py:read_prices", "prices.py:post_payment")


# --- what is not the failure -------------------------------------------------------------------


def test_the_alert_mail_and_the_callback_do_not_hide_what_failed() -> None:
    task = 'Traceback (most recent call last):\n  File "/opt/airflow/dags/etl.py", line 1, in f\n'
    boom = task + "ValueError: no rows\n"
    mail = (
        f"{STAMP} {{taskinstance.py:1534}} ERROR - [Errno 99] Cannot assign requested address\n"
        + boom
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "/x/site-packages/airflow/models/taskinstance.py", line 1900, in email_alert\n'
        '  File "/usr/local/lib/python3.8/smtplib.py", line 339, in connect\n'
        "OSError: [Errno 99] Cannot assign requested address\n"
    )
    callback = (
        f"{STAMP} {{taskinstance.py:1567}} ERROR - Error when executing on_failure_callback\n"
        "Traceback (most recent call last):\n"
        '  File "/opt/airflow/dags/etl.py", line 9, in notify_slack\n'
        "requests.exceptions.ConnectionError: slack is down\n"
    )
    for after in (mail, callback, mail + callback):
        assert sign(FAILED + boom + after).text == "ValueError: no rows"


def test_a_mail_task_that_fails_is_no_alert() -> None:
    text = (
        FAILED + "Traceback (most recent call last):\n"
        '  File "/x/site-packages/airflow/operators/email.py", line 80, in execute\n'
        '  File "/x/site-packages/airflow/utils/email.py", line 90, in send_email\n'
        '  File "/usr/local/lib/python3.8/smtplib.py", line 339, in connect\n'
        "smtplib.SMTPServerDisconnected: Connection unexpectedly closed\n"
    )
    assert sign(text).error_class == "SMTPServerDisconnected"


def test_an_exception_that_was_only_logged_is_not_the_reason() -> None:
    logged = (
        f"{STAMP} {{lineage.py:12}} WARNING - could not send\n"
        'Traceback (most recent call last):\n  File "a.py", line 1, in b\nTypeError: lineage\n'
    )
    reason = FAILED + "Traceback (most recent call last):\nValueError: the reason\n"
    assert sign(logged + reason + logged).text == "ValueError: the reason"


# --- wrappers ----------------------------------------------------------------------------------


def test_a_bash_failure_is_what_the_script_said() -> None:
    text = (
        f"{CHILD}loading\n{CHILD}psql: error: connection refused\n"
        f"{STAMP} {{subprocess.py:97}} INFO - Command exited with return code 1\n" + BASH
    )
    signature = sign(text)
    assert signature.text == "psql: error: connection refused\nAirflowException: exit code 1"
    assert signature.headline == "psql: error: connection refused"
    assert signature.line == 2
    assert not signature.wrapper


@pytest.mark.parametrize(
    "said",
    [
        "ssh: connect to host db port 22: No route to host",
        "curl: (56) Received HTTP code 407 from proxy after CONNECT",
        "GET prices: HTTP 503",
        "upload ended, status_code=429",
        "rsync: Broken pipe (32)",
        "read: Connection reset by peer",
    ],
)
def test_a_line_tells_of_an_error_without_the_word(said: str) -> None:
    signature = sign(f"{CHILD}loading\n{CHILD}{said}\n{CHILD}bye\n{BASH}")
    assert (signature.headline, signature.wrapper) == (said, False)


@pytest.mark.parametrize(
    "said",
    [
        "GET prices: HTTP 200",
        "status code: 204",
        "HTTP/1.1 301 moved",
        "status: 4040 rows",
        "host 503",
        "zoom 12: 4410 tiles",
    ],
)
def test_a_good_answer_and_a_count_tell_of_none(said: str) -> None:
    assert sign(f"{CHILD}{said}\n{BASH}").wrapper


def test_a_wrapper_with_nothing_inside_says_so() -> None:
    signature = sign(BASH)
    assert signature.wrapper
    assert signature.error_class == ""
    assert "exit code 1" in signature.text


@pytest.mark.parametrize("prefix", ["", CHILD])
def test_an_error_stands_before_the_data_that_it_happened_to(prefix: str) -> None:
    """As psql prints it; the row differs from run to run."""
    error = 'ERROR:  null value in column "customer_id" violates not-null constraint'
    said = [f"psql:/srv/load.sql:3: {error}", "DETAIL:  Failing row contains (1, null)."]
    signature = sign("\n".join(prefix + line for line in said) + "\n" + BASH)
    assert signature.headline.endswith(error.replace(":  ", ": "))
    assert "Failing row" not in signature.text
    number = [said[0].replace(error, "ERROR:  1023"), "DETAIL:  Serializable isolation failure"]
    assert sign("\n".join(number)).headline == number[1].replace(":  ", ": ")


def test_a_signal_stays_one_when_its_wrapper_is_opened() -> None:
    """-9 is SIGKILL; 9 is whatever the program means by it."""
    killed = f"{CHILD}gave up: no such host\n" + BASH.replace("code 1.", "code -9.")
    assert sign(killed).text == "gave up: no such host\nAirflowException: exit code -9"
    positive = sign(killed.replace("-9", "9")).text
    assert similarity(sign(killed).text, positive) < BUILTIN_BOUND


def test_a_script_s_own_traceback_is_found_behind_each_kind_of_prefix() -> None:
    inner = [
        "Traceback (most recent call last):",
        '  File "/app/main.py", line 3, in load',
        "    import pandas",
        "ModuleNotFoundError: No module named 'pandas'",
    ]
    prefixes = [
        CHILD,
        f"{STAMP} {{pod_manager.py:156}} INFO - [base] ",
        "[2018-05-12 15:21:04,202] {{bash_operator.py:101}} INFO - ",
        "[2018-05-12 15:21:04,202] {base_task_runner.py:98} INFO - Job 12: Subtask load "
        "[2018-05-12 15:21:04,202] {bash_operator.py:101} INFO - ",
        "",
    ]
    for prefix in prefixes:
        signature = sign("\n".join(prefix + line for line in inner) + "\n" + BASH)
        assert signature.text.startswith("ModuleNotFoundError: No module named 'pandas'"), prefix
        assert signature.frame == "main.py:load", prefix
    quoted = "\n".join(
        f"[2021-04-01 16:47:48,547] {{pod_launcher.py:156}} INFO - {(line + chr(10)).encode()!r}"
        for line in inner
    )
    assert sign(quoted + "\n" + BASH).error_class == "ModuleNotFoundError"


def test_spark_s_cause_is_found_through_py4j_and_spark_submit() -> None:
    prefix = "[2020-03-01 10:00:00,000] {spark_submit_hook.py:415} INFO - "
    inner = [
        "Traceback (most recent call last):",
        'File "/opt/jobs/load.py", line 40, in <module>',
        "df.write.save(path)",
        "py4j.protocol.Py4JJavaError: An error occurred while calling o40.save.",
        ": org.apache.spark.SparkException: Job aborted.",
        "at org.apache.spark.sql.Writer.write(Writer.scala:224)",
        "Caused by: java.lang.OutOfMemoryError: Java heap space",
        "... 12 more",
    ]
    outer = (
        "[2020-03-01 10:00:02,000] {taskinstance.py:1150} ERROR - Cannot execute: spark-submit\n"
        "Traceback (most recent call last):\n"
        '  File "/x/site-packages/airflow/contrib/hooks/spark_submit_hook.py", line 9, in submit\n'
        "airflow.exceptions.AirflowException: Cannot execute: spark-submit. Error code is: 1.\n"
    )
    assert sign("\n".join(prefix + line for line in inner) + "\n" + outer).text == (
        "SparkException: Job aborted.\n"
        "OutOfMemoryError: Java heap space\n"
        "AirflowException: exit code 1"
    )


def test_dbt_says_which_model_and_why() -> None:
    lines = [
        "10:37:22  Completed with 1 error and 0 warnings:",
        "10:37:22  ",
        "10:37:22    Database Error in model fct_orders (models/marts/fct_orders.sql)",
        '10:37:22    relation "raw.orders" does not exist',
        "10:37:22    LINE 12:     from raw.orders",
        "10:37:22    compiled Code at target/run/x.sql",
        "10:37:22  Done. PASS=1 WARN=0 ERROR=1 SKIP=1 TOTAL=3",
    ]
    expected = 'Database Error: in model fct_orders: relation "raw.orders" does not exist'
    assert sign("\n".join(lines)).text == expected
    wrapped = "\n".join(CHILD + line for line in lines) + "\n" + BASH
    assert sign(wrapped).text.splitlines()[0] == expected


@pytest.mark.parametrize(
    "prefix",
    ["", "[INFO] ", "[ERROR] ", "2024-02-01T07:44:10Z [info     ] ", CHILD, f"{STAMP} INFO - "],
)
def test_what_goes_on_by_its_indent_goes_on_behind_a_prefix_too(prefix: str) -> None:
    """dbt 1.5 and later writes its clock on a message's first line alone."""
    lines = [
        "02:11:09    Database Error in model fct_orders (models/marts/fct_orders.sql)",
        '  column "order_ts" does not exist',
        "  LINE 12:     order_ts,",
        "  compiled code at target/run/x.sql",
        "02:11:09  Done. PASS=1 WARN=0 ERROR=1 SKIP=1 TOTAL=3",
    ]
    expected = 'Database Error: in model fct_orders: column "order_ts" does not exist'
    signature = sign("\n".join(prefix + line for line in lines))
    assert (signature.text, signature.headline) == (expected, expected)


@pytest.mark.parametrize("prefix", ["", "[ERROR] ", CHILD])
def test_a_traceback_logged_line_by_line_is_one(prefix: str) -> None:
    plain = written(while_handling)["plain"].rstrip()
    assert sign("\n".join(prefix + line for line in plain.split("\n"))) == sign(plain)


def test_a_message_that_is_a_number_is_told_by_its_detail() -> None:
    """Redshift's own, in dbt as in psycopg2."""
    detail = "DETAIL:  Serializable isolation violation on table"
    assert detail.split(":  ")[1] in sign(f"psycopg2.errors.InternalError_: 1023\n{detail}").text
    header = "Database Error in model fct_orders (models/fct_orders.sql)"
    assert detail.split(":  ")[1] in sign(f"{header}\n  1023\n  {detail}").text


def test_a_pod_s_reason_is_read_out_of_the_pod() -> None:
    pod = "{'metadata': {'uid': 'x'}, 'state': {'exit_code': 137, 'reason': 'OOMKilled'}}"
    text = f"airflow.exceptions.AirflowException: Pod train-x8k2 returned a failure.\n{pod}"
    signature = sign(text.replace("\n", "\nremote_pod: "))
    assert "OOMKilled" in signature.text
    assert "137" in signature.text
    assert "metadata" not in signature.text
    assert not signature.wrapper


def a_whole_pod() -> str:
    """As KubernetesPodOperator prints it: a field a line, the reason after more than a hundred."""
    variables = [
        {"name": f"PART_{number}", "value": "x", "value_from": None} for number in range(90)
    ]
    ended = {"container_id": "containerd://7", "exit_code": 137, "reason": "OOMKilled"}
    unready = [{"reason": "PodFailed", "type": "Ready"}, {"reason": "ContainersNotReady"}]
    pod = {
        "kind": "Pod",
        "metadata": {"name": "train-x8k2", "annotations": None},
        "spec": {"containers": [{"env": variables, "name": "base"}]},
        "status": {
            "conditions": unready,
            "container_statuses": [{"name": "base", "state": {"terminated": ended}}],
            "init_container_statuses": None,
            **dict.fromkeys(("message", "pod_ip", "reason", "resize", "start_time")),
        },
    }
    return f"Pod train-x8k2 returned a failure.\nremote_pod: {pprint.pformat(pod, width=60)}"


def test_a_pod_s_reason_is_found_deep_inside_the_pod() -> None:
    pod = a_whole_pod()
    assert pod.count("\n") > 100
    plain = (
        f"{FAILED}Traceback (most recent call last):\nairflow.exceptions.AirflowException: {pod}\n"
    )
    raised = {"exc_type": "AirflowException", "exc_value": pod, "frames": []}
    event = {"timestamp": "2026-01-01T00:00:00Z", "level": "error", "error_detail": [raised]}
    structured = json.dumps({**event, "event": "Task failed with exception"}) + "\n"
    expected = "AirflowException: Pod <id> returned a failure. reason: OOMKilled, exit_code: 137"
    assert sign(plain).text == sign(structured).text == expected
    for written in (plain, structured):
        assert sign(read_excerpt([written.encode()]).text).text == expected


def test_advice_behind_a_message_is_left_out_but_not_all_there_is() -> None:
    oracle = "oracledb.exceptions.DatabaseError: ORA-00942: table or view does not exist"
    assert sign(f"{oracle}\nHelp: https://docs.example.com/ora-00942/").text == sign(oracle).text
    spark = "pyspark.errors.exceptions.captured.AnalysisException: [PATH_NOT_FOUND] no such path.;"
    plan = "'Project ['a]\n+- Relation [b#1] parquet"
    assert sign(f"{spark}\n{plan}").text == sign(spark).text
    number = "psycopg2.errors.InternalError_: 1023 \nDETAIL:  Serializable isolation violation"
    assert "Serializable isolation violation" in sign(number).text
    worded = "psycopg2.errors.UniqueViolation: duplicate key\nDETAIL:  Key (id)=(7) exists."
    assert "Key" not in sign(worded).text


def test_what_is_inside_stands_without_its_wrapper() -> None:
    inner = "psql: error: connection refused"
    assert inner_lines(sign(f"{CHILD}{inner}\n{BASH}").text) == inner
    # As people write it down: with the type or without, above or below what was inside.
    wrapper = BASH.splitlines()[-1]
    for outer in (wrapper, wrapper.partition(": ")[2], "CalledProcessError: it returned 1"):
        assert inner_lines(f"{inner}\n{outer}") == inner_lines(f"{outer}\n{inner}") == inner
        assert inner_lines(outer) == outer
    why = "AirflowException: Pod <id> returned a failure. reason: OOMKilled, exit_code: 137"
    for told in (f"{inner}\n{why}", f"{inner}\nKeyError", f"{inner}\nAirflowTaskTimeout"):
        assert inner_lines(told) == told


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*BASH.splitlines(), "AirflowException: exit code 1", ""]), st.text()
        )
    ).map("\n".join)
)
def test_inner_lines_are_some_of_the_lines_in_their_order(text: str) -> None:
    inner = inner_lines(text)
    every = iter(text.split("\n"))
    assert all(line in every for line in inner.split("\n"))
    assert inner_lines(inner) == inner
    assert bool(inner.strip()) == bool(text.strip())


# --- no exception ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            f"{STAMP} {{local_task_job.py:159}} INFO - Task exited with return code "
            "Negsignal.SIGKILL",
            KILLED,
        ),
        (
            '{"level":"critical","event":"Process terminated by signal. Likely out of memory '
            'error (OOM)","exit_code":-9,"signal_name":"SIGKILL","logger":"task"}',
            KILLED,
        ),
        (f"{STAMP} {{local_task_job.py:1}} INFO - Task exited with return code -9", KILLED),
        (
            f"{STAMP} {{local_task_job.py:1}} INFO - exited with return code Negsignal.SIGABRT",
            KILLED,
        ),
        (f"{STAMP} {{scheduler_job.py:1}} ERROR - Detected zombie job: {{'pid': 1}}", LOST),
        (f"{STAMP} {{local_task_job.py:1}} ERROR - Heartbeat time limit exceeded!", LOST),
        ("Task did not emit heartbeat within time limit (30 seconds) and will be killed", LOST),
    ],
)
def test_a_dead_or_lost_process_is_its_own_kind(text: str, kind: str) -> None:
    before = f"{STAMP} {{logging_mixin.py:1}} INFO - loading error_rates, 0 errors\n"
    signature = sign(before + text)
    assert signature.error_class == kind
    assert signature.text.startswith(f"{kind}: ")
    assert signature.line == 2


def test_lines_that_look_like_errors_are_the_last_resort() -> None:
    signature = sign(f"{CHILD}all well\n{CHILD}rsync: connection unexpectedly closed\n{CHILD}bye")
    assert signature.text == "rsync: connection unexpectedly closed"
    assert not signature.wrapper


def test_a_text_without_any_error_is_never_enough_to_act_on() -> None:
    signature = sign("Hello\nINFO done\nall is well")
    assert signature.wrapper
    assert signature.headline == "no clear error; the log ends: all is well"


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n\n", "   ", "\x00", "*** Reading local file: /a/b.log"),
        "Log file not found on worker 'w-3'. This attempt may have run elsewhere.",
    ],
)
def test_a_text_that_says_nothing_has_no_fingerprint(text: str) -> None:
    signature = sign(text)
    assert (signature.text, signature.fingerprint, signature.error_class) == ("", "", "")


# --- copies of logs ----------------------------------------------------------------------------


def test_logs_are_read_as_people_paste_them() -> None:
    plain = written(refused)["airflow 2"]
    expected = sign(plain).text
    assert sign("\n".join("        " + line for line in plain.split("\n"))).text == expected
    assert sign(plain.replace("\n", "\r\n")).text == expected
    assert sign(plain.replace("ERROR", "\x1b[31mERROR\x1b[0m")).text == expected
    # Some handlers write the whole traceback on one line, with escaped ends of line.
    assert sign(FAILED + written(refused)["plain"].rstrip().replace("\n", r"\n")).text == expected


def test_masked_secrets_inside_names_change_nothing() -> None:
    """Where the database's password is "airflow", so is every module's name masked."""
    text = (
        "Traceback (most recent call last):\n"
        '  File "/home/***/.local/lib/python3.8/site-packages/***/models/base.py", line 1, in run\n'
        '  File "/opt/***/dags/etl.py", line 12, in load\n'
        "***.exceptions.AirflowNotFoundException: The conn_id `dwh` isn't defined\n"
    )
    signature = sign(FAILED + text)
    assert signature.text == "AirflowNotFoundException: The conn_id `dwh` isn't defined"
    assert signature.frame == "etl.py:load"


def test_lines_of_one_event_end_with_it() -> None:
    """The log's own line numbers say where a message ends that no prefix ends."""
    text = "Traceback (most recent call last):\nValueError: no rows\nrows written: 7\nbye"
    assert sign(text, (4, 4, 5, 6)).text == "ValueError: no rows"


def test_what_a_message_only_frames_is_left_out() -> None:
    refused = 'HTTP response body: {"message":"pods is forbidden"}'
    head = "Traceback (most recent call last):\nApiException: (403)\nReason: Forbidden\n"
    headers = "HTTP response headers: HTTPHeaderDict({'Date': 'Mon, 01 Jan 2024 00:00:00 GMT'})\n"
    assert sign(head + headers + refused) == sign(head + refused)
    assert refused in sign(head + headers + refused).text
    full = "psycopg2.errors.DiskFull: Disk Full"
    assert sign(f"{full}\nDETAIL:\n  error: Disk Full\n  code: 1016").text == sign(full).text


def test_the_headline_prefers_the_line_that_fits() -> None:
    pool = "HTTPConnectionPool(host='a', port=80): Max retries exceeded with url: /health "
    text = (
        "Traceback (most recent call last):\nConnectionRefusedError: [Errno 111] Connection refused"
        "\n\nDuring handling of the above exception, another exception occurred:\n\n"
        f"Traceback (most recent call last):\nrequests.exceptions.ConnectionError: {pool * 2}\n"
    )
    signature = sign(text)
    assert signature.headline == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert signature.line == 2
    assert signature.error_class == "ConnectionError"
    assert len(sign("ValueError: " + "long " * 200).headline) <= 120


# --- properties --------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        "Traceback (most recent call last):",
        '  File "/opt/airflow/dags/a.py", line 3, in f',
        "ValueError: bad",
        "a.b.C: d",
        "Caused by: java.io.IOException: x",
        "\tat a.b.C.d(E.java:1)",
        "  + Exception Group Traceback (most recent call last):",
        "  | ExceptionGroup: x (2 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
        "    +------------------------------------",
        "The above exception was the direct cause of the following exception:",
        '{"event": "x", "error_detail": [{"exc_type": null, "frames": [1, {}], "exceptions": 3}]}',
        '{"event": 5, "level": ["a"], "error_detail": [[], {"is_group": 1, "exceptions": [{}]}]}',
        "Database Error in model x",
        FAILED.strip(),
        CHILD,
        "Pod x returned a failure {'reason': 'OOMKilled'",
        "",
    ]
)


@settings(max_examples=300)
@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=60)), max_size=25).map("\n".join))
def test_signing_never_raises_and_repeats_itself(text: str) -> None:
    signature = sign(text)
    assert signature == sign(text)
    assert bool(signature.text) == bool(signature.fingerprint)
    for told in (signature.headline, signature.raised_from, signature.place or ""):
        assert len(told) <= 120
        assert "\n" not in told
    assert signature.line is None or 1 <= signature.line <= text.count("\n") + 1


HOSTILE = {
    "one word": "a",
    "digits": "1",
    "dots": "a.",
    "slashes": "/a",
    "dashes": "a-1",
    "hex": "ab:",
    "headers": "Traceback (most recent call last):\n",
    "exceptions": "ValueError: x\n",
    "causes": "Caused by: a.B: x\n",
    "groups": "+-+---- 1 ----\n",
    "blank": " ",
    "escapes": "\x1b[",
    "carets": "~^ ",
    "mail": "a@b.",
    "codes": "error code ",
    "dbt": "Database Error in model x\n  y\n",
    "json": '{"event":"x","error_detail":[',
    "one-line tracebacks": r"Traceback (most recent call last):\n  File \"x\"\nValueError: y\n",
    "stamps": "[2024-01-01 00:00:00] ",
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_time_is_linear_in_hostile_text(piece: str) -> None:
    # Linear is 4; quadratic would be 16. Times of a few milliseconds say nothing.
    small = max(seconds(piece * (50_000 // len(piece))), 0.005)
    assert seconds(piece * (200_000 // len(piece))) / small < 10


def test_time_is_linear_in_the_blank_lines_of_a_message() -> None:
    text = "Traceback (most recent call last):\nValueError:\n"
    assert seconds(text + "\n" * 8_000) / max(seconds(text + "\n" * 2_000), 0.005) < 10


def seconds(text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        sign(text)
        best = min(best, time.process_time() - start)
    return best


def test_what_is_listed_behind_a_colon_is_no_plan() -> None:
    texts = [f"[x] ERROR\nValueError: several:\n'Alpha [x] {what}" for what in ("broke", "is late")]
    one, other = (sign(text) for text in texts)
    assert one.fingerprint != other.fingerprint

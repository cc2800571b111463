"""Runbooks in every supported shape; whatever is wrong in one is refused with its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import RunbookError
from knowledge.records import Entry
from knowledge.runbooks import read_runbooks
from knowledge.signature import sign


def read(folder: Path, text: str, name: str = "a.yaml") -> tuple[Entry, ...]:
    file = folder / name
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return read_runbooks([file])


def refused(folder: Path, text: str, name: str = "a.yaml") -> str:
    with pytest.raises(RunbookError) as caught:
        read(folder, text, name)
    assert caught.value.hint
    return caught.value.message.removeprefix(f"{folder / name}:")


WHOLE = """\
# what the team knows
- title: Orders refuses
  symptoms:
    - "ConnectionRefusedError: [Errno 111] Connection refused"
    - |
      Traceback (most recent call last):
        File "/dags/orders.py", line 3, in load
      TimeoutError: timed out
  cause: It restarts.
  action: retry_later
  params: {delay: 10m, tries: 2}
  why: Nothing was written.
  safe_to_retry: yes
  dags: [orders_*, sales]
  tags: network, orders
  owner: team-orders
  edited: 2024-02-01
- error: 404
  root_cause: Gone.
  action: none
"""


def test_yaml_gives_every_field(tmp_path: Path) -> None:
    first, second = read(tmp_path, WHOLE)
    assert first.kind == "runbook"
    assert first.source == f"{tmp_path.name}/a.yaml:2"
    assert first.title == "Orders refuses"
    assert first.symptoms[0].text.startswith("ConnectionRefusedError")
    assert first.symptoms[1].signature == sign(first.symptoms[1].text)
    assert first.symptoms[1].signature.error_class == "TimeoutError"
    assert (first.cause, first.action, first.explanation) == (
        "It restarts.",
        "retry_later",
        "Nothing was written.",
    )
    assert first.params == {"delay": "10m", "tries": 2}
    assert first.safe_to_retry is True
    assert first.dags == ("orders_*", "sales")
    assert first.tags == ("network", "orders")
    assert (first.owner, first.edited) == ("team-orders", "2024-02-01")
    assert not first.suggestion_only
    assert first.created_at.tzinfo is not None
    assert (second.title, second.cause, second.action) == ("404", "Gone.", "none")
    assert second.safe_to_retry is None


def test_entries_may_stand_below_a_head_of_defaults(tmp_path: Path) -> None:
    head = "owner: ops\ndags: [a]\nentries:\n"
    text = head + "- {error: x y, cause: c}\n- {error: z, cause: c, dags: b}\n"
    first, second = read(tmp_path, text)
    assert (first.owner, first.dags, second.dags) == ("ops", ("a",), ("b",))


def test_the_older_shape_is_read(tmp_path: Path) -> None:
    text = """\
postgres:
  - error: "connection refused"
    root_cause: restarts
    decision: RERUN
  - error: "no such table"
    root_cause: migration missing
    decision: no_rerun
"""
    first, second = read(tmp_path, text)
    assert (first.action, second.action) == ("retry", "none")
    assert first.tags == ("postgres",)
    assert first.cause == "restarts"


MARKDOWN = """\
---
title: some site's own key
tags: [data]
updated: 2023-05-06
---
# How we work
Some words.

## A field was renamed

It happens in spring.

```
KeyError: 'unit_price'
# not a heading
```

**Cause:** the shop renamed it;
the code has to follow.

Action: `none`

## The vendor is down
### Symptoms
~~~text
HTTPError: HTTP Error 503: Service Unavailable
~~~
### Cause
Maintenance.
### Fix
Call the vendor, then clear the task.

```
airflow tasks clear vendor
```

# ORA-00054: resource busy
- Cause: the nightly count.
- Action: retry_later delay=15m
- Dags: stock_*, count
"""


def test_markdown_takes_a_heading_as_an_entry(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, MARKDOWN, "a.md")
    assert (first.title, first.source) == ("A field was renamed", f"{tmp_path.name}/a.md:9")
    assert [symptom.text for symptom in first.symptoms] == [
        "KeyError: 'unit_price'\n# not a heading"
    ]
    assert first.cause == "the shop renamed it; the code has to follow."
    assert (first.action, first.explanation) == ("none", "It happens in spring.")
    assert (first.tags, first.edited) == (("data",), "2023-05-06")
    assert not first.suggestion_only

    assert second.cause == "Maintenance."
    assert second.action is None
    assert second.suggestion_only
    assert second.explanation == (
        "Call the vendor, then clear the task.\nairflow tasks clear vendor"
    )
    assert len(second.symptoms) == 1  # the command below the fix is none

    assert third.symptoms[0].text == "ORA-00054: resource busy"
    assert (third.action, third.params) == ("retry_later", {"delay": "15m"})
    assert third.dags == ("stock_*", "count")


def test_an_action_in_prose_is_advice(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "# T\n```\nKeyError: 'a'\n```\nFix: retry when it is quiet\n", "a.md")
    assert entry.action is None
    assert entry.suggestion_only


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- title: a\n  symptom: x\n  cuase: y\n", "3: unknown key `cuase`; did you mean `cause`?"),
        ("- error: x\n  zzz: y\n", "2: unknown key `zzz`; known are symptoms"),
        ("- error: x\n  action: restart\n", "2: no action 'restart'; one of retry, retry_later"),
        ("- error: x\n  action: RETRY\n", "2: no action 'RETRY'"),
        ("- error: x\n  action: retry\n  params: 3\n", "3: `params` must be a mapping"),
        ("- error: x\n  action: retry\n  params: {a: !!set {b}}\n", "3: `params` cannot be stored"),
        ("- error: x\n  action: retry\n  params: !!python/object:os.x {}\n", "3: not a value"),
        (
            "- error: x\n  action: retry\n  params: {a: 2024-02-01}\n",
            "3: `params` cannot be stored",
        ),
        ("- error: x\n  action: retry\n  params: {a: .nan}\n", "3: `params` cannot be stored"),
        ("- error: x\n  cause: y\n  params: {password: pw-1}\n", "3: `params` hold a secret"),
        ("- error: x\n", "1: an entry needs a `cause:` or an `action:`"),
        ("- title: a\n  cause: y\n", "1: an entry without `symptoms:`"),
        ("- error: x\n  cause: [a]\n", "2: `cause` must be text"),
        ("- error: x\n  cause: {a: b}\n", "2: `cause` must be text"),
        ("- error: [{a: b}]\n  cause: y\n", "1: `symptoms` must be text or a list"),
        ("- error: x\n  safe_to_retry: perhaps\n  cause: y\n", "2: `safe_to_retry` must be"),
        ("- error: x\n  error: y\n  cause: z\n", "2: `error` stands twice"),
        ("- error: x\n  symptoms: y\n  cause: z\n", "2: `symptoms` says what another key"),
        ("- error: x\n  decision: MAYBE\n", "2: no decision 'MAYBE'; RERUN or NO_RERUN"),
        ("- error: x\n  decision: RERUN\n  action: retry\n", "2: `decision` and `action`"),
        ("- a\n- b\n", "1: an entry must be a mapping"),
        ("just text\n", "1: neither a list of entries nor a mapping"),
        ("service: 3\n", "1: not a list of entries"),
        ("entries: []\ncause: x\n", "2: `cause` belongs to an entry"),
        ("- error: x\n  cause: 'open\n", "3: not YAML: found unexpected end of stream"),
        ("- error: x\n cause: y\n", "2: not YAML"),
        ("- &a {error: x, cause: y}\n- *a\n", "2: aliases (*name) are not read"),
        ("a: " + "[" * 500, "1: nested deeper than 20 levels"),
        ("- error: x\n  cause: \x01\n", "1: not YAML"),
        ("- {error: x, cause: y}\n- {error: x, cause: z}\n", "2: same id or title as"),
        ("- {id: k, error: x, cause: y}\n- {id: k, error: z, cause: z}\n", "2: same id or title"),
        ("- error: x\n  cause: \ud800\n", "2: not UTF-8 text"),
        ("- error: x\n  cause: y\n#" + "x" * 2_100_000, "1: larger than 2 MiB"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    assert refused(tmp_path, text).startswith(reason)


def test_bad_markdown_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "# T\n```\nKeyError\n", "a.md").startswith("2: a fenced block is not")
    text = "---\ntag: [a]\ndag: orders\n---\n# T\nCause: x\n"
    assert "did you mean `tags`?" in refused(tmp_path, text, "a.md")
    assert refused(tmp_path, "---\ntags: [\n---\n# T\nCause: x\n", "a.md").startswith("3: not YAML")


def test_folders_are_read_whole_and_paths_named_twice_once(tmp_path: Path) -> None:
    folder = tmp_path / "runbooks"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "a.yaml").write_text("- {error: x, cause: y}\n")
    (folder / "deep" / "b.yml").write_text("- {error: x, cause: y}\n")
    (folder / "c.md").write_text("# T\nCause: y\n")
    (folder / "README.md").write_text("# About these\nWords.\n")
    (folder / "notes.txt").write_text("not read")
    (folder / ".git" / "d.yaml").write_text("broken: [")
    entries = read_runbooks([folder, folder / "a.yaml"])
    assert [entry.source for entry in entries] == [
        "runbooks/a.yaml:1",
        "runbooks/c.md:1",
        "runbooks/deep/b.yml:1",
    ]
    (alone,) = read_runbooks([folder / "a.yaml"])
    assert alone.id == entries[0].id


def test_one_bad_file_refuses_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {error: x, cause: y}\n")
    (tmp_path / "b.yaml").write_text("- {error: x}\n")
    with pytest.raises(RunbookError, match=r"b\.yaml:1: "):
        read_runbooks([tmp_path])


def test_what_is_missing_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="no such file or folder"):
        read_runbooks([tmp_path / "none.yaml"])
    with pytest.raises(RunbookError, match="no runbook entries"):
        read_runbooks([tmp_path])
    with pytest.raises(RunbookError, match=r"a\.md:1: no failure in it"):
        read(tmp_path, "# nothing yet\n", "a.md")
    with pytest.raises(RunbookError, match=r"a\.yaml:1: no failure in it"):
        read(tmp_path, "# nothing yet\n")
    with pytest.raises(RunbookError, match="not a runbook"):
        read(tmp_path, "x", "a.txt")


def test_ids_stay_and_depend_on_path_and_title_or_the_id(tmp_path: Path) -> None:
    one = read(tmp_path, "- {title: T, error: x, cause: y}\n")[0].id
    assert read(tmp_path, "\n\n- {title: T, error: z, cause: other}\n")[0].id == one
    assert read(tmp_path, "- {title: U, error: x, cause: y}\n")[0].id != one
    assert read(tmp_path, "- {title: T, error: x, cause: y}\n", "b.yaml")[0].id != one
    named = "- {id: mine, title: T, error: x, cause: y}\n"
    assert read(tmp_path, named)[0].id == read(tmp_path, named, "b.yaml")[0].id


def test_secrets_and_escapes_leave_the_text(tmp_path: Path) -> None:
    error = "cannot reach postgres://etl:pw-1@db/x"
    text = f'- {{title: "t\\e[31m", error: "{error}", cause: "token=pw-2"}}\n'
    (entry,) = read(tmp_path, text)
    assert entry.title == "t"
    assert entry.symptoms[0].text == "cannot reach postgres://etl:<redacted:password>@db/x"
    assert "pw-2" not in entry.cause


PIECES = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(
            [
                *(
                    "- error: x\n",
                    "  cause: y\n",
                    "# T\n",
                    "```\n",
                    "Cause: c\n",
                    "Fix: retry\n",
                    "---\n",
                ),
                *(
                    "[",
                    "{",
                    "&a ",
                    "*a",
                    "!!x ",
                    "\t",
                    ": ",
                    "entries:\n",
                    "params: {}\n",
                    "? ",
                    "|\n",
                ),
            ]
        ),
    ),
    max_size=12,
).map("".join)


@given(PIECES, st.sampled_from(["a.yaml", "a.md"]))
def test_any_text_gives_entries_or_a_named_refusal(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / name).write_bytes(text.encode("utf-8", "replace"))
    with contextlib.suppress(RunbookError):  # any other exception fails the test
        for entry in read_runbooks([folder / name]):
            assert entry.title
            assert entry.symptoms

"""Changing a settings file: what a person wrote around the values stays, and no value is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.config_write import edited, values, write_private
from aiops_cli.errors import ConfigError

HERE = Path("config.yaml")
URL = ("airflow", "url")
COMMENTED = """\
# ours
airflow:
  url: http://old  # the one in the cellar
  # how to log in
  username: 'ana'
  password: secret
  headers:
    X-Team: data
mode: shadow # for now
rerun_safe:
  - orders_*

instances:
  eu:
    url: http://eu
"""


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({URL: "https://new:8443"}, "http://old", "https://new:8443"),
        ({("airflow", "username"): None}, "  username: 'ana'\n", ""),
        ({("airflow", "headers"): None}, "  headers:\n    X-Team: data\n", ""),
        ({("airflow", "token"): "a b"}, "data\nmode", 'data\n  token: "a b"\nmode'),
        ({("instances", "eu", "token"): "t"}, "http://eu\n", "http://eu\n    token: t\n"),
        ({("instances", "us", "url"): "http://us"}, "http://eu\n",
         "http://eu\n  us:\n    url: http://us\n"),
        ({("kb",): "sqlite:////srv/kb.db"}, "http://eu\n",
         "http://eu\nkb: sqlite:////srv/kb.db\n"),
        ({("nothing",): None}, "", ""),
    ],
)  # fmt: skip
def test_only_what_changes_is_touched(changes: Any, old: str, new: str) -> None:
    found = edited(COMMENTED, changes, HERE)
    assert found.whole
    assert found.text == COMMENTED.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "airflow:\n  url: http://a\n"),
        ("# only a comment", "# only a comment\nairflow:\n  url: http://a\n"),
        ("airflow:\nmode: ask\n", "airflow:\n  url: http://a\nmode: ask\n"),
        ("airflow: {url: http://b, token: t}\n", "airflow: {url: http://a, token: t}\n"),
    ],
)
def test_a_file_of_another_layout(text: str, expected: str) -> None:
    assert edited(text, {URL: "http://a"}, HERE) == (expected, True)


@pytest.mark.parametrize("text", ["airflow: {token: t}\n", "{mode: ask}\n", "airflow: {url: }\n"])
def test_a_layout_that_cannot_be_kept_is_written_anew_and_loses_no_value(text: str) -> None:
    found = edited(text, {URL: "http://a"}, HERE)
    assert not found.whole
    assert values(found.text, HERE) == {**values(text, HERE), URL: "http://a"}


KEYS = st.sampled_from([
    ("kb",), ("mode",), URL, ("airflow", "token"), ("airflow", "password"), ("gate", "margin"),
    ("instances", "eu", "url"), ("instances", "eu", "token"), ("instances", "us", "url"),
])  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12) | (
    st.sampled_from(["null", "~", "off", "0123", "1:30", "- a", "#x", "a: b", "a #b", "'", '"\\'])
)


@given(
    st.sampled_from(
        ["", COMMENTED, "airflow: {token: t}\n", "kb: >-\n  sqlite:////a\nmode: ask\n"]
    ),
    st.lists(st.dictionaries(KEYS, st.none() | TEXTS, max_size=4), max_size=3),
)
def test_any_changes_are_made_and_everything_else_stays(text: str, steps: Any) -> None:
    wanted = values(text, HERE)
    for changes in steps:
        text = edited(text, changes, HERE).text
        for keys, value in changes.items():
            wanted.pop(keys, None)
            if value is not None:
                wanted[keys] = value
    assert values(text, HERE) == wanted


def test_a_file_that_is_broken_is_not_touched() -> None:
    with pytest.raises(ConfigError, match="broken YAML"):
        edited("mode: 'ask\n", {URL: "http://a"}, HERE)


# ---- on disk ----

posix = pytest.mark.skipif(os.name != "posix", reason="file modes")


@posix
def test_a_written_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.yaml"
    write_private(file, "mode: ask\n")
    assert file.read_text() == "mode: ask\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.chmod(0o644)
    write_private(file, "mode: off\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


@posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.yaml"
    kept.write_text("")
    link = tmp_path / "config.yaml"
    link.symlink_to(kept)
    write_private(link, "mode: ask\n")
    assert link.is_symlink()
    assert kept.read_text() == "mode: ask\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_is_interrupted_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("mode: ask\n")

    def fail(_descriptor: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((KeyboardInterrupt, ConfigError)):
        write_private(file, "mode: off\n")
    assert file.read_text() == "mode: ask\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "file" / "config.yaml", "")

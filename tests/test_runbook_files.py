"""Which files are read, what they are called in every clone, and how old git says they are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import RunbookError
from knowledge.runbooks import survey
from knowledge.runbooks.files import covers

PAGE = "# {0}\n\n`ValueError: {0} is wrong`\n\nCause: {0}\n"


def write(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PAGE.format(file.stem))
    return folder


def names(*paths: Path, in_git: bool = False) -> list[str]:
    return [entry.source for entry in survey(paths, in_git=in_git).entries]


def git(folder: Path, *args: str, day: str = "2024-02-01") -> None:
    stamp = f"{day}T12:00:00Z"
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        **{f"GIT_{who}_{what}": "ana@example.com" for who in ("AUTHOR", "COMMITTER") for what in
           ("NAME", "EMAIL")},
        "GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp, "HOME": str(folder),
    }  # fmt: skip
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, env=environ)


def repository(folder: Path, *files: str, origin: str = "") -> Path:
    write(folder, *files)
    git(folder, "init", "-q")
    if origin:
        git(folder, "remote", "add", "origin", origin)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "runbooks")
    return folder


# ---- folders, files and globs ----


def test_a_glob_finds_what_a_shell_would(tmp_path: Path) -> None:
    book = write(tmp_path / "runbooks", "a.md", "b.yaml", "deep/er/c.md", ".git/d.md", "e.txt")
    (book / "b.yaml").write_text("- {error: 'ValueError: b', cause: c}\n")
    assert names(book / "*.md") == ["runbooks/a.md:1"]
    assert names(book / "**/*.md") == ["runbooks/a.md:1", "runbooks/deep/er/c.md:1"]
    assert names(book / "*" / "er" / "[a-c].md") == ["runbooks/deep/er/c.md:1"]
    assert len(names(book / "*")) == 2  # files that are no runbooks are none of its business


def test_folder_and_glob_give_the_same_ids(tmp_path: Path) -> None:
    book = write(tmp_path / "runbooks", "a.md", "deep/c.md")
    whole = {entry.id for entry in survey([book]).entries}
    assert {entry.id for entry in survey([book / "**" / "*.md"]).entries} == whole


def test_a_glob_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match=r"\*\.md: fits no runbook"):
        survey([tmp_path / "*.md"])


def test_a_name_with_brackets_is_a_name_where_it_is_there(tmp_path: Path) -> None:
    write(tmp_path, "rb [old].md")
    assert len(names(tmp_path / "rb [old].md")) == 1


def test_what_was_asked_for_as_a_whole_is_told(tmp_path: Path) -> None:
    book = write(tmp_path / "runbooks", "a.md", "deep/c.md", "README.md")
    (book / "README.md").write_text("# Welcome\n")
    reading = survey([book, book / "deep" / "*.md", book / "a.md"])
    assert reading.scopes == ("runbooks/**", "deep/*.md")
    assert "runbooks/README.md" in reading.files
    assert [Path(file).name for file, _ in reading.left_out] == ["README.md"]


@pytest.mark.parametrize(
    ("scope", "name", "held"),
    [
        ("runbooks/**", "runbooks/a/b.md", True),
        ("runbooks/**", "runbooks2/a.md", False),
        ("runbooks/**/*.md", "runbooks/a.md", True),
        ("runbooks/**/*.md", "runbooks/a/b/c.md", True),
        ("runbooks/**/*.md", "runbooks/a.yaml", False),
        ("runbooks/*.md", "runbooks/a/b.md", False),
        ("r/?[!x]*.md", "r/ab.md", True),
        ("r/?[!x]*.md", "r/ax.md", False),
        ("r/(a).md", "r/(a).md", True),
        ("r/(a).md", "r/a.md", False),
    ],
)
def test_a_scope_holds_names_as_a_shell_does(scope: str, name: str, held: bool) -> None:
    assert covers(scope, name) is held


PARTS = st.lists(st.sampled_from(["a", "b", "x.md", "y.md", "(c)"]), min_size=1, max_size=4)


@given(PARTS)
def test_every_name_is_in_its_folder_and_its_own_scope(parts: list[str]) -> None:
    name = "/".join(["r", *parts])
    assert covers("r/**", name)
    assert covers(name, name)
    assert covers("r/**/" + parts[-1], name)


# ---- in git ----


def test_inside_a_repository_a_file_has_one_name_however_it_is_asked_for(tmp_path: Path) -> None:
    root = repository(tmp_path / "dags", "docs/runbooks/deep/a.md")
    file = root / "docs" / "runbooks" / "deep" / "a.md"
    for path in (root, root / "docs", file.parent, file, root / "docs" / "**" / "*.md"):
        assert names(path, in_git=True) == ["dags/docs/runbooks/deep/a.md:1"]


def test_another_clone_gives_the_same_ids(tmp_path: Path) -> None:
    origin = "git@git.example:team/dags.git"
    one = repository(tmp_path / "dags", "runbooks/a.md", origin=origin)
    other = repository(tmp_path / "build-4711", "runbooks/a.md", origin=origin)
    (first,), (second,) = (
        survey([root / "runbooks"], in_git=True).entries for root in (one, other)
    )
    assert (first.id, first.source) == (second.id, second.source)
    assert first.source == "dags/runbooks/a.md:1"


def test_a_page_without_a_date_is_as_old_as_its_last_commit(tmp_path: Path) -> None:
    root = repository(tmp_path / "dags", "old.md", "new.md", "sub/über.md")
    (root / "new.md").write_text(PAGE.format("newer"))
    git(root, "commit", "-q", "-am", "newer", day="2024-06-30")
    dated = "---\nupdated: 2020-12-31\n---\n" + PAGE.format("dated")
    (root / "dated.md").write_text(dated)
    (root / "untracked.md").write_text(PAGE.format("untracked"))
    git(root, "add", "dated.md")
    git(root, "commit", "-q", "-m", "dated", day="2024-07-01")
    found = {entry.title: entry.edited for entry in survey([root], in_git=True).entries}
    assert found == {
        "old": "2024-02-01 (git)",
        "über": "2024-02-01 (git)",
        "newer": "2024-06-30 (git)",
        "dated": "2020-12-31",
        "untracked": None,  # a file's own time says only when it was copied here
    }


def test_a_shallow_clone_says_nothing_of_age(tmp_path: Path) -> None:
    root = repository(tmp_path / "dags", "a.md")
    git(root, "commit", "-q", "--allow-empty", "-m", "later", day="2024-09-09")
    git(tmp_path, "clone", "-q", "--depth", "1", root.as_uri(), "copy")
    (entry,) = survey([tmp_path / "copy"], in_git=True).entries
    assert entry.edited is None


def test_without_git_there_is_no_age_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "dags", "a.md")
    monkeypatch.setenv("PATH", str(tmp_path))
    (entry,) = survey([root], in_git=True).entries
    assert entry.edited is None


def test_what_ships_with_the_package_is_not_asked_of_git(tmp_path: Path) -> None:
    root = repository(tmp_path / "dags", "starter/a.md")
    (entry,) = survey([root / "starter"]).entries
    assert (entry.source, entry.edited) == ("starter/a.md:1", None)

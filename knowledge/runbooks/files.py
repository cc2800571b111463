"""Where runbooks are, what each file is called wherever it was checked out, and how old it is."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from knowledge.errors import RunbookError
from knowledge.runbooks.fields import RunbookFile

SUFFIXES = (".yaml", ".yml", ".md", ".markdown", ".jsonl", ".ndjson")

_PATIENCE = 10  # seconds for git; a page's age is worth no more
_ORIGIN = re.compile(r'\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Found:
    """`named` are the files that were asked for one by one, by their path; `scopes` the patterns
    of names that were asked for as a whole, so that what they no longer bring is gone."""

    files: tuple[RunbookFile, ...]
    named: frozenset[Path]
    scopes: tuple[str, ...]


def find_files(paths: Sequence[Path], *, in_git: bool) -> Found:
    """The files of paths, folders (recursively, nothing hidden) and globs as a shell has them
    (`**` for any folders), each once.

    A file's name is its path beneath what was asked for, with that folder's own name before it;
    with `in_git`, inside a git repository, its path in there with the repository's name, so that
    it is the same whichever folder, file or glob was asked for, in every clone. Raises
    RunbookError for a path that is not there, no runbook, or a glob that fits nothing.
    """
    files: dict[Path, RunbookFile] = {}
    named: set[Path] = set()
    scopes: list[str] = []
    for path in paths:
        base, pattern, found = _expand(path)
        before = _prefix(base.resolve(), in_git=in_git)
        if pattern:
            scopes.append(f"{before}/{pattern}")
        for file in found:
            whole = file.resolve()
            named |= set() if pattern else {whole}
            beneath = Path(os.path.relpath(file, base)).as_posix()
            files.setdefault(whole, RunbookFile(file, f"{before}/{beneath}"))
    return Found(tuple(files.values()), frozenset(named), tuple(scopes))


def _expand(path: Path) -> tuple[Path, str, list[Path]]:
    """(folder, the pattern beneath it, "" for a single file, its files)."""
    if path.is_dir():
        found = (file for file in sorted(path.rglob("*")) if not _hidden(file, path))
        return path, "**", [file for file in found if _is_runbook(file)]
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise RunbookError(f"{path}: not a runbook", f"One of {', '.join(SUFFIXES)}.")
        return path.parent, "", [path]
    if not glob.has_magic(str(path)):
        raise RunbookError(f"{path}: no such file or folder", "Check the path.")
    fixed = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
    base = Path(*path.parts[:fixed])
    # Not Path.glob: it finds what is hidden, which a shell's * does not.
    matched = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207 -- see above
    runbooks = [file for file in matched if _is_runbook(file)]
    if not runbooks:
        raise RunbookError(f"{path}: fits no runbook", f"It reads {', '.join(SUFFIXES)}.")
    return base, "/".join(path.parts[fixed:]), runbooks


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _is_runbook(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def covers(scope: str, name: str) -> bool:
    """Whether a scope that was asked for as a whole holds a file of this name."""
    return bool(_pattern(scope).fullmatch(name))


@cache
def _pattern(scope: str) -> re.Pattern[str]:
    if scope.endswith("/**"):  # a folder
        return re.compile(re.escape(scope[:-2]) + ".+", re.DOTALL)
    wild = {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", scope)
    made = (
        wild.get(piece) or (piece.replace("[!", "[^") if odd else re.escape(piece))
        for odd, piece in ((number % 2, piece) for number, piece in enumerate(pieces))
    )
    return re.compile("".join(made), re.DOTALL)


def _prefix(folder: Path, *, in_git: bool) -> str:
    root = _repository(folder) if in_git else None
    if root is None:
        return folder.name
    return "/".join((_repository_name(root), *folder.relative_to(root).parts))


def _repository(folder: Path) -> Path | None:
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), None)


def _repository_name(root: Path) -> str:
    """What `origin` is called, for a build server checks out into any folder; else the folder."""
    config = root / ".git" / "config"
    text = config.read_text("utf-8", "replace") if config.is_file() else ""
    origin = _ORIGIN.search(text)
    name = re.split(r"[/:]", origin[1].rstrip("/"))[-1].removesuffix(".git") if origin else ""
    return name or root.name


def last_commits(files: Collection[Path]) -> Mapping[Path, str]:
    """The day of the last commit of each file (resolved path → ISO date), as far as git knows it
    and says so within some seconds. A shallow clone says nothing: there every file looks new."""
    repositories: dict[Path, set[Path]] = {}
    for file in files:
        if root := _repository(file.parent):
            repositories.setdefault(root, set()).add(file)
    return {
        file: day
        for root, wanted in repositories.items()
        if not (root / ".git" / "shallow").exists()
        for file, day in _log(root, wanted).items()
    }


def _log(root: Path, wanted: set[Path]) -> dict[Path, str]:
    import subprocess  # only seeding needs it

    folder = Path(os.path.commonpath([file.parent for file in wanted]))
    command = ["git", "-C", str(root), "-c", "log.showSignature=false", "--no-pager", "log"]
    command += ["--format=%x01%cs", "--name-only", "-z", "--", str(folder)]
    try:
        said = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)  # noqa: S603 -- git itself, with our own words
    except (OSError, subprocess.SubprocessError):  # no git, not its owner, a huge history
        return {}
    days: dict[Path, str] = {}
    day = ""
    for field in said.stdout.decode("utf-8", "surrogateescape").split("\0"):
        name = field.lstrip("\n")
        if name.startswith("\x01"):
            day, _, name = name[1:].partition("\n")
            name = name.lstrip("\n")
        file = root / name
        if name and file in wanted:
            days.setdefault(file, day)
    return days

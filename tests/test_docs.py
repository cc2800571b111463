"""What the pages say is so: links lead somewhere, commands and settings are the program's, quoted
messages stand in the code, and what is generated is up to date."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from aiops_cli import config, config_environ, gate
from aiops_cli.actions import CATALOGUE
from aiops_cli.main import COMMANDS, Group
from knowledge.records import STATUSES
from knowledge.runbooks import read_runbooks
from scripts import reference
from tests.cli import Cli
from tests.documents import ROOT, all_blocks, anchors, blocks, calls, links, understand
from tests.test_published import CHECKS, ENTRY, FAILURE, INCIDENT, NUMBER, PLAN, fits

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
DOCS = {name: text for name, text in TEXTS.items() if name.startswith("docs/")}


def marked(info: str) -> list[tuple[str, str]]:
    return [(name, text) for name, page in TEXTS.items() for text in blocks(page, info)]


# ---- links, commands, names ----


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in links(TEXTS[name]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), f"{name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set[str](), ["README.md"]
    while todo:
        name = todo.pop()
        seen.add(name)
        for target in links(TEXTS[name]):
            path = ((ROOT / name).parent / target.partition("#")[0]).resolve()
            other = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
            if other in TEXTS and other not in seen:
                todo.append(other)
    assert set(DOCS) <= seen


@pytest.mark.parametrize(
    "words", [words for page in DOCS.values() for words in calls(page)], ids=" ".join
)
def test_every_command_shown_is_understood(words: list[str]) -> None:
    understand(words)


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        name
        for page in TEXTS.values()
        for block in blocks(page, "console")
        for name in re.findall(r"^\$ make ([a-z0-9]+)", block, re.MULTILINE)
    }
    assert {"test", "demo"} <= shown <= targets


def test_every_command_and_variable_named_exists() -> None:
    """Also in a sentence: `aiops kb seed`, `AIOPS_KB`. What is not there yet is in status.md."""
    known = {path for path, _, _ in reference.walk()} | set(COMMANDS)
    variables = {*config_environ.names(), "AIOPS_TEST_PG_DSN"}  # the last is the tests' own
    for name, page in TEXTS.items():
        assert set(re.findall(r"\bAIOPS_[A-Z_]+[A-Z]", page)) <= variables, name
        if name == "docs/status.md":
            continue
        for said in re.findall(r"`aiops ([a-z]+(?: [a-z]+)?)", page):
            first = said.split()[0]
            whole = isinstance(COMMANDS.get(first), Group) and " " in said
            assert (said if whole else first) in known, f"{name}: aiops {said}"


def test_what_is_not_there_yet_is_not_there() -> None:
    """status.md is honest in both directions: a command that has come is taken off the list."""
    known = {path for path, _, _ in reference.walk()} | set(COMMANDS)
    (kb,) = re.findall(r"^\| (`aiops kb .*?) \|", DOCS["docs/status.md"], re.MULTILINE)
    group, *names = re.findall(r"[a-z]+", kb.replace("aiops", ""))
    planned = {f"{group} {name}" for name in names}
    for row in re.findall(r"^\| (`aiops (?!kb ).*?) \|", DOCS["docs/status.md"], re.MULTILINE):
        planned |= set(re.findall(r"`(?:aiops )?([a-z]+)`", row))
    assert planned
    assert not planned & known


def test_what_a_page_calls_missing_is_on_that_list() -> None:
    """A link to status.md names a missing thing as the list does, or is only the way there."""
    status = DOCS["docs/status.md"]
    for name, page in TEXTS.items():
        for words in re.findall(r"\[([^\]]*)\]\((?:docs/)?status\.md\)", page):
            missing = re.findall(r"`([^`]+)`", words)
            assert words in {"status", "status.md", "docs/status.md"} or missing, f"{name}: {words}"
            assert all(thing in status for thing in missing), f"{name}: {words}"


def test_the_checks_the_actions_and_the_statuses_are_all_explained() -> None:
    page = DOCS["docs/concepts.md"]
    rows = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert {*CHECKS, *CATALOGUE, *STATUSES} <= named
    for tag in (gate.TAG_OFF, gate.TAG_ASK, gate.TAG_RERUN_SAFE):
        assert f"`{tag}`" in page


# ---- what is generated ----


def test_generated_pages_are_up_to_date() -> None:
    """Written anew by `python -m scripts.reference`."""
    for name in reference.PAGES:
        assert (reference.DOCS / name).read_text(encoding="utf-8") == reference.page(name), name


def test_every_command_has_a_section_and_its_json_an_example() -> None:
    """A new command needs a call in the story of scripts/json_examples.py."""
    sections, examples = anchors(DOCS["docs/commands.md"]), anchors(DOCS["docs/json.md"])
    for path, command, _ in reference.walk():
        anchor = "aiops-" + path.replace(" ", "-")
        assert anchor in sections
        if any(param.name == "json" for param in command.params):
            assert anchor in examples, path


def test_the_examples_have_the_published_shapes() -> None:
    page = DOCS["docs/json.md"]
    found = {
        name: json.loads(text)
        for name, text in re.findall(r"^### aiops (.+?)$.*?```json\n(.*?)```", page, re.M | re.S)
    }
    fits(found["diagnose"], {"incidents": [INCIDENT]})
    fits(found["failures"], {"failures": [FAILURE]})
    fits(found["approve --dry-run"], PLAN)
    fits(found["kb list"], {"entries": [ENTRY]})
    fits(
        found["kb search"],
        {"entries": [ENTRY | {"similarity": NUMBER, "found": {"exact", "near"}}]},
    )
    fits(found["undo"], {"error": {"code": str, "message": str, "hint": str}})


# ---- settings and runbooks ----


@pytest.mark.parametrize(("name", "text"), marked("yaml settings"))
def test_settings_shown_are_read(name: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    settings = config.load(cwd=tmp_path, environ={"AIOPS_CONFIG": str(file)})
    assert any(str(file) in origin for origin in settings.origins.values()), name


@pytest.mark.parametrize(("name", "text"), marked("yaml project"))
def test_project_settings_shown_are_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "aiops.yaml").write_text(text)
    environ = {"AIOPS_CONFIG": str(tmp_path / "user.yaml")}
    (tmp_path / "user.yaml").touch()
    settings = config.load(cwd=tmp_path, environ=environ)
    assert any("aiops.yaml" in origin for origin in settings.origins.values()), name


@pytest.mark.parametrize("kind", ["yaml", "markdown"])
def test_runbooks_shown_are_read(kind: str, tmp_path: Path) -> None:
    shown = marked(f"{kind} runbook")
    assert shown
    for number, (_, text) in enumerate(shown):
        file = tmp_path / f"{number}.{'md' if kind == 'markdown' else 'yaml'}"
        file.write_text(text)
        for entry in read_runbooks([file]):
            assert entry.action, entry.title
            assert not entry.suggestion_only


def test_no_yaml_is_left_unread() -> None:
    """Every YAML block says what it is, so that it is parsed above; the README's has its test."""
    infos = {block.info for page in DOCS.values() for block in all_blocks(page)}
    assert {info for info in infos if "yaml" in info} == {
        *("yaml settings", "yaml project", "yaml runbook"),
    }


# ---- messages ----


@cache
def strings_of_the_code() -> tuple[str, ...]:
    """Every text in the code; of an f-string the fixed parts, with \\0 for what is filled in."""
    found = []
    for path in [*(ROOT / "aiops_cli").rglob("*.py"), *(ROOT / "knowledge").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


QUOTED = re.findall(r"^\| `([^`]+)` \|", DOCS["docs/troubleshooting.md"], re.MULTILINE)


@pytest.mark.parametrize("message", QUOTED)
def test_every_message_quoted_is_the_programs(message: str) -> None:
    """Its fixed words, between the …, each stand in one text of the code."""
    pieces = [piece.strip(" :") for piece in message.split("…")]
    for piece in filter(None, pieces):
        assert any(piece in text for text in strings_of_the_code()), piece


# ---- the examples for cron and systemd ----


def test_the_unit_and_the_crontab_run_real_commands() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as configparser documents
    unit.read(ROOT / "examples" / "systemd" / "aiops-watch.service")
    start = shlex.split(unit["Service"]["ExecStart"])
    assert start[0].endswith("/aiops")
    understand(start[1:])
    lines = (ROOT / "examples" / "cron" / "aiops").read_text().splitlines()
    jobs = [line.rpartition(" aiops ")[2] for line in lines if re.match(r"[*0-9]", line)]
    assert len(jobs) == 3
    for job in jobs:
        understand(shlex.split(job.partition(" && ")[0]))


def test_pages_name_nothing_of_one_machine() -> None:
    """No folder of a developer's, no package index, no address but examples."""
    for name, page in TEXTS.items():
        assert not re.search(r"/(?:work|root|tmp)/|pypi\.org|pythonhosted|index-url", page), name
        hosts = re.findall(r"https?://([\w.-]+)", page)
        assert all(re.search(r"(^|\.)(example(\.com)?|corp\.example)$", h) for h in hosts), hosts


def test_a_pass_that_finds_nothing_new_prints_nothing(cli: Cli) -> None:
    """Else cron would mail every five minutes (docs/recipes.md)."""
    cli.two_failures()
    first, second = cli.ok("watch", "--once"), cli.ok("watch", "--once")
    assert len(first.out.splitlines()) == 2
    assert (second.out, second.err) == ("", "")

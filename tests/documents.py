"""What README and docs say, in pieces that can be checked: blocks, calls, links, headings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from aiops_cli.commands import Invocation
from aiops_cli.main import LazyGroup, app

if TYPE_CHECKING:
    from typer._click.core import Command

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: what stands behind its fence ("yaml settings"), and its text."""

    info: str
    text: str


def blocks(page: str, info: str) -> list[str]:
    """The texts of a page's fenced blocks of this info string."""
    return [block.text for block in all_blocks(page) if block.info == info]


def all_blocks(page: str) -> list[Block]:
    return [Block(info.strip(), text) for _, info, text in _FENCE.findall(page)]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page)


def links(page: str) -> list[str]:
    """The targets of all links and pictures, in order."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """What `#…` may name: each heading in lower case, blanks as dashes, other signs left out;
    the second of a name with `-1` behind it."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        name, number = text, 0
        while name in found:
            number += 1
            name = f"{text}-{number}"
        found.add(name)
    return found


def calls(page: str) -> list[list[str]]:
    """The words behind `aiops` of each call in the console blocks. A line that ends with a
    backslash goes on; a pipe, a redirection or `&&` ends a call."""
    found = []
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            part: list[str] = []
            for word in [*shlex.split(line.removeprefix("$ "), comments=True), "|"]:
                if word not in ("|", ">", "&&", "||"):
                    part.append(word)
                    continue
                if part[:1] == ["timeout"]:
                    part = part[2:]
                if part[:1] == ["aiops"]:
                    found.append(part[1:])
                part = []
    return found


def understand(words: list[str]) -> None:
    """Parse a call's words with the real command; nothing is run. Raises Typer's usage errors."""
    root = typer.main.get_command(app)
    assert isinstance(root, LazyGroup)
    if words[:1] in (["--version"], ["--help"]):
        return
    called = Invocation(environ={}, cwd=Path())
    with root.make_context("aiops", ["--help"], resilient_parsing=True, obj=called) as context:
        command: Command = root
        rest = words
        while isinstance(command, LazyGroup):
            if command.default and (not rest or rest[0] not in command.table):
                rest = [command.default, *rest]
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None
            command = found
        made = command.make_context(str(name), list(rest), parent=context)
    assert made.params

"""The README's commands and settings are the program's, and its picture is what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from aiops_cli import config, config_table
from aiops_cli.main import COMMANDS, Group, app
from scripts import picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
LINES = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
CALLS = [shlex.split(line)[1:] for line in LINES if line.startswith("aiops ")]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_every_command_shown_is_understood(words: list[str]) -> None:
    """Each call's words are parsed by the real command; nothing is run."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    with root.make_context("aiops", ["--help"], resilient_parsing=True) as context:
        name, command, rest = root.resolve_command(context, words)
        while isinstance(COMMANDS[str(name)], Group) and isinstance(command, typer.core.TyperGroup):
            _, command, rest = command.resolve_command(context, rest)
        assert command is not None
        made = command.make_context(str(name), list(rest), parent=context)
    assert made.params


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z0-9]+)", README))
    assert shown
    assert shown <= targets


def test_the_settings_shown_are_settings(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "config.yaml"
    file.write_text(block)
    settings = config.load(cwd=tmp_path, environ={"AIOPS_CONFIG": str(file), "HOME": str(tmp_path)})
    assert settings.mode == "ask"
    assert settings.protected == ("payments_*",)


def test_every_variable_shown_is_one() -> None:
    known = {setting.env for setting in config_table.SETTINGS}
    assert set(re.findall(r"\bAIOPS_[A-Z_]+", README)) <= known


def test_the_picture_is_what_the_program_shows() -> None:
    """Drawn anew by `python -m scripts.picture`."""
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.draw()

"""The README's commands and settings are the program's, and its picture is what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiops_cli import config, config_table
from scripts import picture
from tests.documents import ROOT, blocks, calls, understand

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", calls(README), ids=" ".join)
def test_every_command_shown_is_understood(words: list[str]) -> None:
    understand(words)


def test_every_make_target_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z0-9]+)", README))
    assert shown
    assert shown <= targets


def test_the_settings_shown_are_settings(tmp_path: Path) -> None:
    (block,) = blocks(README, "yaml")
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

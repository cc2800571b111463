"""What is shipped: the wheel and the source archive, and the program as installed from the wheel.

Nothing is downloaded: hatchling builds in this environment, virtualenv brings its own pip, and
the dependencies are this environment's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from aiops_cli import __version__
from knowledge.runbooks import read_runbooks
from tests.documents import ROOT

NAME = f"aiops_cli-{__version__}"
# What belongs into the wheel beside modules, and is found at run time or by type checkers.
DATA = (
    "aiops_cli/diagnosis/prompt.txt",
    "py.typed",
    "starter/*.yaml",
    "stores/migrations/**/*.sql",
)


class Built(NamedTuple):
    wheel: Path
    sdist: Path

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            return message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source archive, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return Built(folder / f"{NAME}-py3-none-any.whl", folder / f"{NAME}.tar.gz")


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, **options)  # type: ignore[call-overload]  # options are subprocess's
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def tracked() -> set[str]:
    """The project's own files that a wheel must hold."""
    files = {path for package in ("aiops_cli", "knowledge") for path in (ROOT / package).rglob("*")}
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix == ".py" or any(path.match(pattern) for pattern in DATA)
    }


def test_the_wheel_holds_the_program_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = tracked()
    assert {"aiops_cli/py.typed", "knowledge/py.typed"} <= wanted
    assert "aiops_cli/plugin/aiops_airflow_plugin.py" in wanted  # not a module of the program
    assert any(name.startswith("knowledge/starter/") for name in wanted)
    assert "knowledge/stores/migrations/sqlite/0001_tables.sql" in wanted
    assert names == wanted


def test_the_source_archive_holds_what_is_needed_to_build_and_to_check(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert tracked() <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"} <= names
    assert {"docs/quickstart.md", "examples/cron/aiops", "tests/test_package.py"} <= names
    hidden = {name for name in names if name.startswith(".") and name != ".gitignore"}
    assert hidden == {".dockerignore", ".pre-commit-config.yaml"}
    assert not any(part in name for name in names for part in ("__pycache__", ".db", ".envs"))


def test_the_metadata_is_whole(built: Built) -> None:
    metadata = built.metadata()
    assert (metadata["Name"], metadata["Version"]) == ("aiops-cli", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Summary"]
    assert metadata["Keywords"]
    assert metadata["Author"]
    assert str(metadata.get_payload()).startswith("# aiops-cli")
    classifiers = metadata.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert not any(each.startswith("License ::") for each in classifiers)  # PEP 639 forbids both
    for needed in ("typer", "apsw", "sqlite-vec", "pyyaml", "platformdirs", "detect-secrets"):
        required = metadata.get_all("Requires-Dist", [])
        assert any(each.startswith(needed) for each in required), needed
    assert set(metadata.get_all("Provides-Extra", [])) >= {"dashboard", "mcp", "notify", "postgres"}
    with zipfile.ZipFile(built.wheel) as archive:
        scripts = archive.read(f"{NAME}.dist-info/entry_points.txt").decode()
        licence = archive.read(f"{NAME}.dist-info/licenses/LICENSE").decode()
    assert scripts.split() == ["[console_scripts]", "aiops", "=", "aiops_cli.__main__:main"]
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_wheel_installs_and_works_anywhere(built: Built, tmp_path: Path) -> None:
    """In a new environment, from a folder that is not the project's, without a network."""
    env = tmp_path / "env"
    run(sys.executable, "-m", "virtualenv", "--quiet", "--no-download", str(env))
    paths = {"base": str(env), "platbase": str(env)}
    bin_, site = (Path(sysconfig.get_path(name, "venv", paths)) for name in ("scripts", "purelib"))
    pip = [str(bin_ / "python"), "-m", "pip", "--disable-pip-version-check"]
    options = ("--quiet", "--no-compile", "--no-deps", "--no-index")
    run(*pip, "install", *options, str(built.wheel))
    # A folder named in a .pth is searched, its own .pth files (the editable install) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log = elsewhere / "task.log"
    log.write_text("ConnectionRefusedError: [Errno 111] Connection refused\n")
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIOPS_USER": "ana"}
    aiops = str(bin_ / "aiops")

    def say(*args: str) -> str:
        return run(aiops, *args, cwd=elsewhere, env=clean)

    assert say("--version") == f"aiops {__version__}\n"
    assert "diagnose" in say("--help")
    starter = site / "knowledge" / "starter"  # the installed one
    seeded = json.loads(say("kb", "seed", str(starter / "*.yaml"), "--json"))
    assert seeded["added"] + seeded["same"] == len(
        read_runbooks([ROOT / "knowledge/starter/*.yaml"])
    )
    document = json.loads(say("diagnose", "--log", str(log), "--json"))
    assert document["error_class"] == "ConnectionRefusedError"
    assert document["diagnosis"]["by"] == "exact"


def test_the_hooks_are_the_tools_that_make_test_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    run(
        sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")
    )
    (repo,) = config["repos"]
    assert repo["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".envs/dev/bin")
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"] in makefile, hook["entry"]

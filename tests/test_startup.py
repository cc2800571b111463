"""Import hygiene: what a command may import. Times are `make bench`'s; these are their causes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import startup

# Runs the program and then names what it imported, on a file: stdout is the program's.
PROBE = """
import json, sys
from aiops_cli.__main__ import main
try:
    main()
except SystemExit as end:
    code = end.code or 0
with open({path!r}, "w") as file:
    json.dump([code, sorted(sys.modules)], file)
"""
TALKS = {"airflow_client", "ollama", "httpx", "requests", "urllib3"}
HEAVY = TALKS | {"rich", "yaml", "pydantic", "detect_secrets", "numpy", "psycopg"}


def imported(tmp_path: Path, args: Sequence[str], *, config: str | None = None) -> set[str]:
    """The modules that are imported when `aiops ARGS` has ended well."""
    found = tmp_path / "modules.json"
    environ = {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(startup.ROOT),
        "AIOPS_KB": f"sqlite:///{tmp_path}/knowledge.db",
    }
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
        environ["AIOPS_CONFIG"] = str(tmp_path / "config.yaml")
    subprocess.run(
        [sys.executable, "-c", PROBE.format(path=str(found)), *args],
        cwd=tmp_path,
        env=environ,
        check=True,
        capture_output=True,
    )
    code, modules = json.loads(found.read_text())
    assert code == 0
    return set(modules)


def commands(modules: set[str]) -> set[str]:
    prefix = "aiops_cli.commands."
    return {name.removeprefix(prefix) for name in modules if name.startswith(prefix)}


def test_version_needs_nothing(tmp_path: Path) -> None:
    modules = imported(tmp_path, ["--version"])
    assert not modules & (HEAVY | {"typer", "dataclasses", "aiops_cli.main", "knowledge"})


@pytest.mark.parametrize("args", [["--help"], ["kb", "--help"], []])
def test_help_imports_no_command(tmp_path: Path, args: list[str]) -> None:
    modules = imported(tmp_path, args)
    assert "typer" in modules
    assert not modules & (HEAVY | {"apsw", "aiops_cli.config", "platformdirs"})
    assert commands(modules) == {"output"}


def test_a_command_imports_itself_and_neither_rich_nor_the_network_for_json(
    tmp_path: Path,
) -> None:
    modules = imported(tmp_path, ["incidents", "--json"])
    assert commands(modules) == {"output", "incidents"}
    assert "aiops_cli.config" in modules
    assert not modules & HEAVY


def test_a_settings_file_costs_yaml_only_where_there_is_one(tmp_path: Path) -> None:
    modules = imported(tmp_path, ["incidents", "--json"], config="mode: shadow\n")
    assert "yaml" in modules
    assert not modules & (HEAVY - {"yaml"})


def test_text_costs_rich_but_not_the_network(tmp_path: Path) -> None:
    assert not imported(tmp_path, ["incidents"]) & (HEAVY - {"rich"})


# ---- the bench itself ----


def _costs(ratio: float) -> dict[startup.Case, list[startup.Cost]]:
    base, *others = startup.CASES
    cpu = {base: 0.1} | dict.fromkeys(others, 0.1 * ratio)
    return {case: [startup.Cost(seconds, seconds)] * 3 for case, seconds in cpu.items()}


def test_the_bench_fails_over_a_bound_or_without_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert startup._report(_costs(1.2)) == 0
    assert "BROKEN" not in capsys.readouterr().out
    assert startup._report(_costs(1.4)) == 1
    assert capsys.readouterr().out.count("BROKEN") == 1  # --version alone allows less
    missing = _costs(1.2)
    del missing[startup.CASES[-1]]
    assert startup._report(missing) == 1


def test_the_bench_says_what_it_could_not_measure(tmp_path: Path) -> None:
    case = startup.Case("ends", ("-c", "raise SystemExit('no such thing')"))
    with pytest.raises(startup.NotMeasured, match="exit code 1, no such thing"):
        startup._run(case, {}, str(tmp_path))


def test_the_bench_stops_a_command_at_its_first_byte(tmp_path: Path) -> None:
    talk = (
        "import os, socket, time; port = int(os.environ['AIOPS_AIRFLOW_URL'].split(':')[-1]);"
        "socket.create_connection(('127.0.0.1', port)).send(b'x'); time.sleep(60)"
    )
    case = startup.Case("talks", ("-c", talk), until_request=True)
    assert startup._run(case, {}, str(tmp_path)).wall < 30

"""The example stack's Airflow: a real one of its version knows what `compose.yaml` tells it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "compose"

# Runs in Airflow's own environment: stdin is {"settings": [[section, name]], "calls": [[word]]}.
ASK = """
import json, sys
from airflow.cli import cli_parser
from airflow.configuration import conf
asked = json.load(sys.stdin)
known = conf.configuration_description
print(json.dumps({
    "unknown": [one for one in asked["settings"] if one[1] not in known[one[0]]["options"]],
    "values": {"/".join(one): conf.get(*one) for one in asked["settings"]},
}))
parser = cli_parser.get_parser()
for call in asked["calls"]:
    parser.parse_args(call)
"""


def airflows() -> tuple[str, dict[str, Any]]:
    """The version, and the services of that image."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    image = services["airflow-api"]["image"]
    return image.rpartition(":")[2], {n: s for n, s in services.items() if s["image"] == image}


def calls(service: dict[str, Any]) -> list[list[str]]:
    """The words behind `airflow` of what runs in a container: its command, its health check."""
    command = service["command"]
    scripts = [shlex.join(["airflow", *command]) if command[0] != "bash" else command[-1]]
    kind, *words = service.get("healthcheck", {}).get("test", [""])
    scripts += words if kind == "CMD-SHELL" else []
    found = [call for text in scripts for call in re.findall(r"\bairflow (.+)", text)]
    return [shlex.split(call.replace("$$", "$")) for call in found]


def test_airflow_knows_its_settings_and_command_lines(tmp_path: Path) -> None:
    version, services = airflows()
    shutil.copytree(FOLDER.parent, tmp_path / "examples", ignore=shutil.ignore_patterns("secrets"))
    folder = tmp_path / "examples" / FOLDER.name
    subprocess.run([folder / "prepare.sh"], check=True, capture_output=True)
    secrets = folder / "secrets"
    given = {
        name: value.replace("/run/secrets", str(secrets))
        for name, value in services["airflow-api"]["environment"].items()
    }
    settings = [
        [part.lower() for part in name.removesuffix("_CMD").split("__")[1:]]
        for name in given
        if name.startswith("AIRFLOW__")
    ]
    asked = {"settings": settings, "calls": [c for one in services.values() for c in calls(one)]}
    assert len(asked["calls"]) == 7  # five services, two of which are asked by `airflow jobs check`
    done = subprocess.run(
        [ROOT / ".envs" / f"airflow-{version}" / "bin" / "python", "-c", ASK],
        input=json.dumps(asked),
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    said = json.loads(line)
    assert said["unknown"] == []
    for setting, secret in {
        "core/fernet_key": "airflow_fernet_key",
        "database/sql_alchemy_conn": "airflow_db_url",
        "api/secret_key": "airflow_api_secret",
        "api_auth/jwt_secret": "airflow_jwt_secret",
    }.items():
        assert said["values"][setting] == (secrets / secret).read_text()

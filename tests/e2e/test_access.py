"""Every way to log in that Airflow's own auth manager knows, on a real Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.airflow_box import AirflowBox

ROOT = Path(__file__).parents[2]


def aiops(
    folder: Path, *words: str, settings: Any = None, stdin: str = "", code: int = 0
) -> dict[str, Any]:
    """The JSON of one call whose settings stand in a file alone."""
    config = folder / "config.yaml"
    if settings is not None:
        config.write_text(yaml.safe_dump({"airflow": settings}))
        config.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "aiops_cli", *words, "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AIOPS_CONFIG": str(config),
            "AIOPS_KB": f"sqlite:///{folder / 'kb.db'}",
        },
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def login(document: dict[str, Any]) -> str:
    return next(str(c["found"]) for c in document["checks"] if c["name"] == "login")


def test_init_writes_what_works(airflow: AirflowBox, tmp_path: Path) -> None:
    words = ("init", "--yes", "--url", f"{airflow.url}/", "--username", "user", "--password-stdin")
    document = aiops(tmp_path, *words, stdin=airflow.users["user"])
    assert document["changed"] == ["airflow.url", "airflow.username", "airflow.password"]
    assert login(document).startswith("accepted; its token expires in ")
    assert "failures" in aiops(tmp_path, "failures")
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    error = aiops(wrong, *words, stdin="no such password", code=3)["error"]
    assert "refused the login of user" in error["message"]
    assert not (wrong / "config.yaml").exists()


@pytest.mark.parametrize("way", ["token", "cookie", "headers", "command", "json command"])
def test_ways_to_log_in(airflow: AirflowBox, tmp_path: Path, way: str) -> None:
    token = airflow.token("viewer")
    kept = tmp_path / "token"
    kept.write_text(json.dumps({"token": token}) if way == "json command" else token)
    ways: dict[str, Any] = {
        "token": {"token": token},
        "cookie": {"cookie": f"_token={token}"},
        "headers": {"headers": {"Authorization": f"Bearer {token}"}},
    }
    settings = {"url": airflow.url, **ways.get(way, {"token_command": f"cat {kept}"})}
    document = aiops(tmp_path, "doctor", settings=settings)
    assert login(document).startswith("accepted")
    assert token not in json.dumps(document)


@pytest.mark.parametrize("way", ["token", "cookie"])
def test_a_login_that_is_none_is_told(airflow: AirflowBox, tmp_path: Path, way: str) -> None:
    settings = {"token": "no-token"} if way == "token" else {"cookie": "_token=no-token"}
    document = aiops(tmp_path, "failures", settings={"url": airflow.url, **settings}, code=3)
    assert document["error"]["code"] == "airflow_auth"


def test_an_auth_manager_without_client_credentials_says_so(
    airflow: AirflowBox, tmp_path: Path
) -> None:
    settings = {"url": airflow.url, "client_id": "robot", "client_secret": "robot-secret"}
    error = aiops(tmp_path, "failures", settings=settings, code=3)["error"]
    assert "refused the login of client robot" in error["message"]
    assert "robot-secret" not in json.dumps(error)


def test_a_pages_address_is_told_apart_from_airflows(airflow: AirflowBox, tmp_path: Path) -> None:
    settings = {"url": f"{airflow.url}/dags", "token": "t"}
    error = aiops(tmp_path, "failures", settings=settings, code=3)["error"]
    assert "no Airflow 3 at" in error["message"]
    assert "web page (Airflow)" in error["message"]

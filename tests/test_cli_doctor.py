"""`aiops doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli import Cli

# ---- doctor ----


def test_doctor_finds_everything_well(cli: Cli) -> None:
    said = cli.ok("doctor")
    assert "default: 3.3.2 at http://127.0.0.1" in said.out
    assert "may clear task instances" in said.out
    assert cli.server.password not in said.out
    assert "environment AIOPS_AIRFLOW_URL" in said.out
    checks = {check["name"]: check for check in cli.ok("doctor", "--json").json["checks"]}
    assert checks["airflow"]["status"] == checks["embedder"]["status"] == "ok"
    assert cli.cleared() == []  # rights are tried, nothing is changed


def test_the_rights_that_are_there_take_one_line(cli: Cli) -> None:
    lines = [line.split()[:2] for line in cli.ok("doctor").out.splitlines()]
    assert lines.count(["ok", "rights"]) == 1
    rights = [one for one in cli.ok("doctor", "--json").json["checks"] if one["name"] == "rights"]
    assert len(rights) == 11  # each by itself for a script
    cli.environ |= dict(
        zip(("AIOPS_AIRFLOW_USERNAME", "AIOPS_AIRFLOW_PASSWORD"), cli.server.viewer, strict=True)
    )
    lines = [line.split()[:2] for line in cli.ok("doctor").out.splitlines()]
    assert lines.count(["ok", "rights"]) == 1
    assert lines.count(["warn", "rights"]) == 1
    (cli.home / "aiops.yaml").write_text("read_only: true\n")
    assert "may read logs, read_only is set" in cli.ok("doctor").text


def checks(said: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(check["name"], check["status"]): check for check in said.json["checks"]}


def test_doctor_lists_the_right_that_is_missing(cli: Cli) -> None:
    name, password = cli.server.viewer
    cli.environ |= {"AIOPS_AIRFLOW_USERNAME": name, "AIOPS_AIRFLOW_PASSWORD": password}
    said = cli.ok("doctor", "--json")
    assert checks(said)["rights", "warn"]["found"] == "may not clear task instances"
    assert "approve" in checks(said)["rights", "warn"]["todo"]
    assert "may not clear" in cli.ok("doctor").out


def test_doctor_says_what_else_is_still_well(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_URL"] = "http://127.0.0.1:9"
    said = cli.run("doctor", "--json")
    assert said.code == 3
    assert checks(said)["airflow", "fail"]["todo"]
    assert checks(said)["embedder", "ok"]
    assert [row for row in said.json["settings"] if row["name"] == "airflow.password"] == [
        {
            "name": "airflow.password",
            "value": "set, not shown",
            "origin": "environment AIOPS_AIRFLOW_PASSWORD",
        }
    ]


def test_doctor_with_a_wrong_password(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_PASSWORD"] = "wrong"
    said = cli.run("doctor")
    assert said.code == 3
    assert "refused the login of oncall" in said.text


@pytest.mark.file_only
def test_doctor_with_a_broken_knowledge_base(cli: Cli) -> None:
    cli.kb.write_bytes(b"not a database at all" * 1000)
    said = cli.run("doctor", "--json")
    assert said.code == 4
    assert "not a knowledge base" in checks(said)["knowledge base", "fail"]["found"]
    assert checks(said)["airflow", "ok"]


# Of apprise, which asks for it when it is imported.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.file_only
def test_doctor_says_whom_watch_tells_and_shows_no_key(cli: Cli) -> None:
    assert "notify" not in {name for name, _ in checks(cli.ok("doctor", "--json"))}
    (cli.home / "config.yaml").write_text(
        "notify: ['json://127.0.0.1/hush-one', 'json://127.0.0.1/hush-two', "
        "'mailto://a:hush@b.example']\n"
    )
    said = cli.ok("doctor", "--json")
    found = checks(said)["notify", "ok"]["found"]
    assert found == "watch tells people by json ×2, mailto; nothing was sent now"
    assert "hush" not in said.text
    (cli.home / "config.yaml").write_text("notify: ['nosuchservice://hush']\n")
    said = cli.run("doctor")
    assert said.code == 2
    assert "nosuchservice" in said.text
    assert "hush" not in said.text


def test_doctor_with_both_broken_ends_with_the_lower_code(cli: Cli) -> None:
    cli.environ |= {"AIOPS_AIRFLOW_URL": "http://127.0.0.1:9", "AIOPS_KB": "sqlite:////dev/null/x"}
    assert cli.run("doctor").code == 3


def test_doctor_warns_of_settings_others_may_read_and_of_misspelt_ones(cli: Cli) -> None:
    file = Path(cli.environ["AIOPS_CONFIG"])
    file.write_text("airflow: {url: http://a, password: secret-word}\n")
    file.chmod(0o644)
    cli.environ["AIOPS_AIRFLOW_PASWORD"] = "x"
    said = cli.ok("doctor")
    assert "chmod 600" in said.text
    assert "did you mean AIOPS_AIRFLOW_PASSWORD?" in said.text
    assert "secret-word" not in said.text


def test_doctor_tells_that_it_is_paused_or_only_reads(cli: Cli) -> None:
    cli.ok("pause")
    (cli.home / "aiops.yaml").write_text("read_only: true\n")
    said = checks(cli.ok("doctor", "--json"))
    assert said["pause", "warn"]["found"] == "paused by ana"
    assert "read_only" in said["rights", "ok"]["found"]

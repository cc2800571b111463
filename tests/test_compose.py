"""The example stack and the Dockerfile: what can be said of them without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from aiops_cli import config
from aiops_cli.commands.plugin import SHIPPED
from knowledge.ollama_host import refusal
from tests.cli import Cli
from tests.documents import ROOT, understand
from tests.postgres_server import VERSION, PostgresServer, wheel_folder

FOLDER = ROOT / "examples" / "compose"
FILE = FOLDER / "compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
AIOPS = ("aiops-example-aiops", "aiops-example-dashboard")
ONCE = {"airflow-migrate", "ollama-model", "kb-migrate"}  # they end


@pytest.fixture(scope="module")
def stack() -> Any:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def services(stack: Any) -> dict[str, Any]:
    return dict(stack["services"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after prepare.sh, as somebody has it whose umask gives nothing to others."""
    examples = tmp_path_factory.mktemp("stack") / "examples"
    shutil.copytree(
        FOLDER.parent, examples, ignore=shutil.ignore_patterns("secrets", "__pycache__")
    )
    for path in examples.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    folder = examples / FOLDER.name
    said = subprocess.run(["./prepare.sh"], cwd=folder, capture_output=True, text=True, check=True)
    (folder / "said").write_text(said.stdout + said.stderr)
    return folder


def aiops_services(services: dict[str, Any]) -> dict[str, Any]:
    return {n: one for n, one in services.items() if one["image"].startswith(AIOPS)}


# ---- the compose file ----


def test_it_fits_the_compose_specification() -> None:
    command = [*("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"), str(FILE)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def compose() -> list[str] | None:
    """Docker Compose, if this machine has one that knows `dockerfile_inline`; it needs no engine
    to read a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            ask = [*command, "version", "--short"]
            said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
            found = re.match(r"v?(\d+)\.(\d+)", said)
            if found and (int(found[1]), int(found[2])) >= (2, 17):
                return command
    return None


def test_compose_itself_takes_it(services: dict[str, Any], made: Path) -> None:
    command = compose()
    if command is None:
        pytest.skip("Docker Compose 2.17 or newer is not here")
    read = subprocess.run([*command, "config", "--format=json"], cwd=made, capture_output=True)
    assert read.returncode == 0, read.stderr
    assert read.stderr == b""  # no warning
    told = json.loads(read.stdout)["services"]
    assert set(told) == set(services)
    for name, service in told.items():
        assert service["image"] == services[name]["image"]
        assert service["cap_drop"] == ["ALL"]  # what is merged into each has come through


def test_it_has_everything(services: dict[str, Any]) -> None:
    airflow = {"airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}
    assert set(services) == {"postgres", "ollama", "watch", "dashboard", *airflow, *ONCE}
    assert not [name for name, one in services.items() if "profiles" in one]  # one command


def test_each_image_is_built_once(services: dict[str, Any]) -> None:
    """Two builds of one name at the same time end in "already exists" on a machine that is new to
    them. And none of them is looked for in a registry, where anybody may own its name."""
    built = [one["image"] for one in services.values() if "build" in one]
    assert len(built) == len(set(built))
    for name, service in services.items():
        ours = service["image"].startswith("aiops-example-")
        assert ours == (service["image"] in built), name
        if ours:
            assert service["pull_policy"] == ("build" if "build" in service else "never"), name


def test_code_of_dags_reaches_nothing_of_ours(services: dict[str, Any]) -> None:
    """The dashboard asks for no login, the metrics and the model neither: where DAGs' code runs
    there is no way to them."""
    code = ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
    reachable = {network for name in code for network in services[name]["networks"]}
    for name in ("dashboard", "watch", "ollama"):
        assert services[name]["networks"]
        assert not reachable & set(services[name]["networks"]), name
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            if needed not in ONCE:
                assert set(service["networks"]) & set(services[needed]["networks"]), (name, needed)


def test_what_stays_up_is_healthy_and_what_ends_is_waited_for(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) == (name not in ONCE), name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        for needed, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends == (needed in ONCE), (name, needed)


def test_nobody_is_root_or_may_become_it(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"[1-9]\d+:\d+", service["user"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        assert "docker.sock" not in json.dumps(service)


def test_images_have_versions_and_the_page_says_how_to_pin_them(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()}
    for service in services.values():
        inline = service.get("build", {}).get("dockerfile_inline", "")
        images |= set(re.findall(r"FROM (\S+)", inline))
    python = re.search(r"ARG PYTHON=(\S+)", DOCKERFILE.read_text())
    assert python
    images.add(f"python:{python[1]}")
    for image in images:
        digest = r"(@sha256:[0-9a-f]{64})?"
        assert re.fullmatch(rf"[a-z/-]+:v?\d+\.\d+\.\d+[\w.-]*{digest}", image), image
    page = (FOLDER / "README.md").read_text()
    listed = set(re.findall(r"^\| `([a-z/]+:\S+)` \|", page, re.MULTILINE))
    assert listed == {one for one in images if not one.startswith("aiops-example-")}


def test_only_pages_are_reached_and_from_this_machine(services: dict[str, Any]) -> None:
    assert {name: one["ports"] for name, one in services.items() if "ports" in one} == {
        "airflow-api": ["127.0.0.1:8080:8080"],
        "dashboard": ["127.0.0.1:8501:8501"],
    }


def test_secrets_come_from_files_alone(stack: Any, services: dict[str, Any], made: Path) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|CONN|FERNET|KB", variable):
                assert "/run/secrets/" in value or variable.endswith("PASSWORDS_FILE"), name
        text = json.dumps([service.get("environment"), service.get("command")])
        assert set(re.findall(r"/run/secrets/(\w+)", text)) <= set(service.get("secrets", [])), name
        assert "://" not in re.sub(r"http://[a-z0-9.-]+:\d+", "", text), name
    used = {secret for service in services.values() for secret in service.get("secrets", [])}
    assert used == set(stack["secrets"])
    asked_for = re.findall(r"/run/secrets/(\w+)", (FOLDER / "databases.sh").read_text())
    assert set(asked_for) <= set(services["postgres"]["secrets"])
    for name, secret in stack["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert (made / "secrets" / name).stat().st_size >= 40
    assert {file.name for file in (made / "secrets").iterdir()} == used


def test_volumes_are_named_and_hold_what_must_last(stack: Any, services: dict[str, Any]) -> None:
    named = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume[0] not in "./"
    }
    assert named == set(stack["volumes"])
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, _, inside = volume.partition(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), name
                assert inside.endswith(":ro"), name


def test_the_plugin_and_the_watch_share_the_spool(services: dict[str, Any]) -> None:
    settings = yaml.safe_load((FOLDER / "aiops.yaml").read_text())
    for name in ("airflow-api", "airflow-scheduler", "airflow-dag-processor"):
        assert services[name]["environment"]["AIOPS_SPOOL"] == settings["spool"]
        assert f"spool:{settings['spool']}" in services[name]["volumes"]
        assert services[name]["image"] == services["airflow-migrate"]["image"]
        inline = services["airflow-migrate"]["build"]["dockerfile_inline"]
        assert f"COPY --chmod=0644 {SHIPPED.relative_to(ROOT)} /opt/airflow/plugins/" in inline
        assert f"-g 0 -m 2770 {settings['spool']}" in inline  # the watch is another user
    assert f"spool:{settings['spool']}" in services["watch"]["volumes"]
    assert f"-g 0 -m 2770 {settings['spool']}" in DOCKERFILE.read_text()
    assert {services[name]["user"].partition(":")[2] for name in ("airflow-api", "watch")} == {"0"}


def test_aiops_takes_its_commands_and_settings(services: dict[str, Any], made: Path) -> None:
    for service in aiops_services(services).values():
        understand(service["command"])
    for name in ("watch", "dashboard"):
        environ = {
            key: value.replace("/run/secrets", str(made / "secrets"))
            for key, value in services[name]["environment"].items()
        }
        environ["AIOPS_CONFIG"] = str(made / "aiops.yaml")
        settings = config.load(cwd=made / "secrets", environ=environ)
        assert settings.warnings == ()
        assert settings.user == environ["AIOPS_USER"]  # a container's user has no name
    airflow = settings.airflow()
    logins = json.loads((made / "secrets" / "airflow_logins").read_text())
    assert airflow.username
    assert airflow.password == logins[airflow.username]
    assert airflow.url == "http://airflow-api:8080"
    users = services["airflow-api"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert f"{airflow.username}:op" in users.split(",")
    assert settings.kb.startswith("postgresql://aiops:")
    model = settings.llm.removeprefix("ollama:")
    assert services["ollama-model"]["command"] == ["pull", model]
    assert refusal(settings.ollama_host, model, settings.ollama_allow) is None


def test_the_first_pass_may_take_longer_than_a_beat(services: dict[str, Any]) -> None:
    watch = services["watch"]
    (beat,) = [w.partition("=")[2] for w in watch["command"] if w.startswith("--heartbeat-file")]
    assert beat in watch["healthcheck"]["test"][1]
    assert watch["read_only"]
    assert beat.startswith(watch["tmpfs"][0].partition(":")[0])


# ---- what is run beside it ----


def test_secrets_are_made_once_and_nobody_else_may_enter(made: Path) -> None:
    assert stat.S_IMODE((made / "secrets").stat().st_mode) == 0o700
    before = {file.name: file.read_bytes() for file in (made / "secrets").iterdir()}
    again = subprocess.run(["./prepare.sh"], cwd=made, capture_output=True, text=True, check=True)
    assert "nothing was changed" in again.stdout
    assert {file.name: file.read_bytes() for file in (made / "secrets").iterdir()} == before
    assert len(set(before.values())) == len(before)
    said = (made / "said").read_text()
    assert not any(value.decode() in said for value in before.values())
    assert [path.name for path in made.glob("secrets*")] == ["secrets"]
    assert "/examples/compose/secrets" in (ROOT / ".gitignore").read_text()


def test_what_is_mounted_can_be_read_by_other_users(services: dict[str, Any], made: Path) -> None:
    mounted = {v.partition(":")[0] for one in services.values() for v in one.get("volumes", [])}
    here = [made / source for source in mounted if source.startswith(".")]
    assert len(here) == 3
    for path in [file for top in here for file in (top, *top.rglob("*"))]:
        needed = 0o005 if path.is_dir() or path.suffix == ".sh" else 0o004
        assert stat.S_IMODE(path.stat().st_mode) & needed == needed, path


def test_the_databases_are_made(
    services: dict[str, Any],
    made: Path,
    own_postgres: Callable[..., PostgresServer],
    cli: Cli,
) -> None:
    """By the script, in a Postgres of its own; then the owner makes the tables, and the program's
    role works in them."""
    server = own_postgres()
    script = made / "databases.here.sh"
    script.write_text((FOLDER / "databases.sh").read_text().replace("/run/", f"{made}/"))
    environ = {
        "PATH": f"{wheel_folder() / VERSION / 'bin'}:{os.environ['PATH']}",
        "PGHOST": str(server.folder),
        "PGDATABASE": "postgres",
    }
    subprocess.run(["sh", str(script)], env=environ, check=True, capture_output=True)
    with psycopg.connect(server.dsn) as connection:
        roles = "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-%'"
        found = {name for (name,) in connection.execute(roles)}
        owned = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database"
        owners: dict[str, str] = dict(connection.execute(owned).fetchall())
    assert found == {"airflow", "aiops_owner", "aiops"}
    assert (owners["airflow"], owners["aiops"]) == ("airflow", "aiops_owner")

    def here(secret: str) -> str:
        address = (made / "secrets" / secret).read_text()
        return address.replace("@postgres/aiops", f"@/aiops?host={server.folder}")

    # The container that makes the tables has no folder to write to.
    with pytest.MonkeyPatch.context() as patch:
        home = "/proc/nowhere"  # not even root can make that
        patch.setattr(cli, "environ", {"AIOPS_KB": here("kb_owner_url"), "HOME": home})
        done = cli.process(*services["kb-migrate"]["command"])
        assert done.returncode == 0, done.stderr
    cli.environ["AIOPS_KB"] = here("kb_url")
    assert cli.ok("kb", "stats", "--json").json


@pytest.mark.parametrize("script", ["prepare.sh", "databases.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert (FOLDER / script).stat().st_mode & 0o111 == 0o111
    subprocess.run(["sh", "-n", str(FOLDER / script)], check=True)


# ---- the Dockerfile ----


def test_the_image_is_small_and_not_roots() -> None:
    text = DOCKERFILE.read_text()
    build, _, final = text.rpartition("\nFROM ")
    assert "AS build" in build
    assert "pip install" not in final  # no compiler, no pip cache, no source in what is shipped
    assert "--without-pip" in build
    assert re.search(r"^USER 10001:0$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--", "aiops"]' in final
    assert final.index("USER") < final.index("ENTRYPOINT")
    assert "--no-install-recommends tini" in final
    (extras,) = re.findall(r"ARG EXTRAS=(\S+)", text)
    project = (ROOT / "pyproject.toml").read_text()
    for extra in extras.split(","):
        assert f"\n{extra} = [" in project


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    stages = DOCKERFILE.read_text() + FILE.read_text()
    copied = re.findall(r"^ *COPY (?!--from)(?:--chmod=0644 )?(.+) \S+$", stages, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in kept), source
    assert kept <= {
        "/".join(s.split("/")[: 1 + (s[:3] == "req")]) for s in " ".join(copied).split()
    }

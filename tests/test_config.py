"""Settings: where each value comes from, what is refused, and what is never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import config_values
from aiops_cli.config import GateSettings, Settings, load, parse_duration, typed_duration
from aiops_cli.config_table import SETTINGS
from aiops_cli.errors import ConfigError, UsageError


class Folder:
    """A user's config file and a project's folder of their own."""

    def __init__(self, root: Path) -> None:
        self.user = root / "user.yaml"
        self.cwd = root / "project"
        self.cwd.mkdir()
        self.project = self.cwd / "aiops.yaml"

    def load(
        self,
        user: str = "",
        project: str | None = None,
        environ: Mapping[str, str] | None = None,
        **flags: str | None,
    ) -> Settings:
        self.user.write_text(user)
        self.user.chmod(0o600)
        if project is not None:
            self.project.write_text(project)
        return load(
            cwd=self.cwd,
            environ={"AIOPS_CONFIG": str(self.user), **(environ or {})},
            overrides=flags,
        )

    def refusal(self, user: str = "", project: str | None = None, **environ: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.load(user, project, environ)
        return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# ---- the table ----


def test_the_table_and_the_dataclasses_name_the_same_settings() -> None:
    own = {f.name for f in fields(Settings)}
    derived = {"gate", "config_file", "instances", "warnings", "unknown", "origins"}
    names = {s.name for s in SETTINGS if not s.name.startswith("airflow.")}
    assert names == (own - derived) | {f"gate.{f.name}" for f in fields(GateSettings)}


def test_defaults(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    settings = folder.load()
    assert (settings.mode, settings.read_only, settings.paused) == ("ask", False, False)
    assert (settings.embedder, settings.llm) == ("builtin", "none")
    assert settings.interval == timedelta(seconds=30)
    assert settings.lease == timedelta(seconds=300)
    assert settings.evidence_half_life == timedelta(days=180)
    assert settings.machine_logins == ()
    assert settings.lookback == settings.give_up == settings.relapse_window == timedelta(hours=24)
    assert settings.gate == GateSettings(
        *(None, None, 0.80, (), (), False),
        *(timedelta(hours=24), 1, 10, 3, 4, timedelta(hours=6)),
    )
    assert settings.user
    path = settings.kb_path()
    assert path is not None
    assert path.is_absolute()
    assert path.name == "knowledge.db"
    assert all(origin == "default" for origin in settings.origins.values())
    assert settings.warnings == ()


def test_without_a_named_file_the_platforms_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "aiops")
    (tmp_path / "aiops").mkdir()
    (tmp_path / "aiops" / "config.yaml").write_text("mode: shadow\n")
    settings = load(cwd=tmp_path, environ={})
    assert settings.mode == "shadow"
    assert settings.origin("mode") == f"{tmp_path / 'aiops' / 'config.yaml'}:1"


# ---- priority ----


def test_flag_beats_environment_beats_project_beats_user_beats_default(folder: Folder) -> None:
    env = {"AIOPS_INSTANCE": "env"}
    user, project = "instance: user\n", "\ninstance: project\n"
    for settings, value, origin in [
        (folder.load(user, project, env, instance="flag"), "flag", "flag --instance"),
        (folder.load(user, project, env, instance=None), "env", "environment AIOPS_INSTANCE"),
        (folder.load(user, project), "project", f"{folder.project}:2"),
        (folder.load(user, ""), "user", f"{folder.user}:1"),
        (folder.load("", ""), "default", "default"),
    ]:
        assert (settings.instance, settings.origin("instance")) == (value, origin)


def test_an_empty_variable_and_a_null_are_not_set(folder: Folder) -> None:
    settings = folder.load("mode: shadow\n", "mode: null\n", {"AIOPS_LLM": ""})
    assert (settings.mode, settings.llm) == ("shadow", "none")


def test_an_empty_flag_is_a_mistake(folder: Folder) -> None:
    with pytest.raises(ConfigError, match=r"flag --instance: instance is ''"):
        folder.load(instance="")


def test_without_a_home_the_knowledge_base_must_be_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: Path("~/.local/share"))
    error = folder.refusal()
    assert "AIOPS_KB" in error.hint
    assert folder.load("kb: sqlite:////srv/kb.db").kb_path() == Path("/srv/kb.db")


def test_what_protects_adds_up_and_cannot_be_undone_by_a_project(folder: Folder) -> None:
    settings = folder.load(
        "read_only: true\nprotected: [pay_*]\n", "read_only: false\nprotected: [tmp_*]\n"
    )
    assert settings.read_only is True
    assert settings.protected == ("tmp_*", "pay_*")
    assert settings.origin("protected") == f"{folder.project}:2 + {folder.user}:2"


def test_the_folders_file_named_as_the_users_is_the_users(folder: Folder) -> None:
    folder.project.write_text("airflow: {url: http://a}\n")
    environ = {"AIOPS_CONFIG": str(folder.project)}
    assert load(cwd=folder.cwd, environ=environ).airflow().url == "http://a"


# ---- values keep the text of the file ----


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("mode: off", "mode", "off"),
        ("mode: 'off'", "mode", "off"),
        ("interval: 90", "interval", timedelta(seconds=90)),
        ("interval: 2d", "interval", timedelta(days=2)),
        ("read_only: yes", "read_only", True),
        ("rerun_safe: [orders_*, 'a.b']", "rerun_safe", ("orders_*", "a.b")),
        ("rerun_safe: []", "rerun_safe", ()),
        ("pause_dag: 007", "pause_dag", "007"),
    ],
)
def test_values(folder: Folder, text: str, name: str, value: object) -> None:
    assert getattr(folder.load(text), name) == value


def test_a_password_keeps_its_zeros_and_blanks(folder: Folder) -> None:
    settings = folder.load("airflow: {url: http://a, username: 010, password: ' 0123 '}")
    assert (settings.airflow().username, settings.airflow().password) == ("010", " 0123 ")
    assert folder.load("airflow: {url: http://a, username: 1, password: 0123}").airflow() == (
        type(settings.airflow())("default", "http://a", "1", "0123")
    )


@pytest.mark.parametrize("text", ["1", "true", "yes", "on", "TRUE", "maybe", "stop!"])
def test_paused_by_whatever_does_not_say_no(folder: Folder, text: str) -> None:
    assert folder.load(environ={"AIOPS_PAUSED": text}).paused is True


@pytest.mark.parametrize("text", ["0", "false", "No", "off", ""])
def test_not_paused(folder: Folder, text: str) -> None:
    assert folder.load(environ={"AIOPS_PAUSED": text}).paused is False


# ---- durations ----


@given(st.integers(1, 3650), st.sampled_from("smhd"))
def test_durations(number: int, unit: str) -> None:
    name = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[unit]
    assert parse_duration(f"{number}{unit}") == timedelta(**{name: number})


def test_a_bare_number_is_seconds() -> None:
    assert parse_duration("90") == timedelta(seconds=90)
    assert parse_duration("1w") == timedelta(days=7)


def test_a_person_names_the_unit() -> None:
    assert typed_duration("2h") == timedelta(hours=2)
    with pytest.raises(UsageError, match="'2' of what") as refused:
        typed_duration("2")
    assert "2h hours" in refused.value.hint


@given(st.text(max_size=12))
def test_a_duration_is_above_zero_or_refused(text: str) -> None:
    try:
        found = parse_duration(text)
    except UsageError:
        return
    assert timedelta(0) < found <= timedelta(days=3650)


@pytest.mark.parametrize(
    "text", ["0", "0m", "-5m", "1.5h", "5 m", "m", "", "3651d", "٣m", "9" * 30]
)
def test_refused_durations(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert "15m, 24h or 2d" in caught.value.hint


# ---- addresses ----


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://a.example/", "https://a.example"),
        ("https://a.example/team/api/v2/", "https://a.example/team"),
        (" https://a.example/api/v2 ", "https://a.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert config_values.url(text) == url


@pytest.mark.parametrize(
    "text",
    ["localhost:8080", "ftp://a", "http://", "http://a:x", "http://a b", "http://a\nb", "http://a/?q=1",
     "http://a#f", "http://[::1", "http://a\x1b[31m", "http:\\\\a", ""],
)  # fmt: skip
def test_refused_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        config_values.url(text)


@given(st.text(max_size=30) | st.from_regex(r"https?://[a-z.@:/?#\[\]\\ ]{0,20}", fullmatch=True))
def test_an_address_is_plain_or_refused(text: str) -> None:
    try:
        url = config_values.url(text)
    except ValueError:
        return
    parts = urlsplit(url)
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.username is parts.password is None
    assert not set(url) & set("?# \\")
    assert not url.endswith("/")


def test_a_login_inside_an_address_is_refused_without_showing_it(folder: Folder) -> None:
    error = folder.refusal(AIOPS_AIRFLOW_URL="https://me:hunter2@a.example")
    assert "AIOPS_AIRFLOW_URL" in error.message
    assert "username and password" in error.message
    assert "hunter2" not in error.message + error.hint


# ---- knowledge base ----


def test_knowledge_base_addresses(folder: Folder) -> None:
    assert folder.load("kb: sqlite:////srv/kb.db").kb_path() == Path("/srv/kb.db")
    assert folder.load("kb: sqlite:///~/kb.db").kb_path() == Path.home() / "kb.db"
    settings = folder.load("kb: postgresql://me:hunter2@db/x")
    assert settings.kb == "postgresql://me:hunter2@db/x"
    assert settings.kb_path() is None


@pytest.mark.parametrize(
    "kb",
    ["/srv/kb.db", "sqlite:///", "mysql://a", "sqlite:///kb.db", "sqlite:///~nobody-here/kb.db"],
)
def test_refused_knowledge_bases(folder: Folder, kb: str) -> None:
    assert "expected" in folder.refusal(AIOPS_KB=kb).message


# ---- several Airflows ----

TWO = """\
airflow: {url: http://dev, username: me, password: dev-pw}
instances:
  prod:
    url: https://prod
    token: prod-token
"""


def test_an_instance_is_chosen_by_name(folder: Folder) -> None:
    settings = folder.load(TWO)
    assert settings.airflow().url == "http://dev"
    assert settings.airflow("prod").token == "prod-token"
    assert settings.origin("airflow.url") == f"{folder.user}:1"
    chosen = folder.load(TWO, instance="prod")
    assert (chosen.airflow().name, chosen.airflow().url) == ("prod", "https://prod")
    assert chosen.origin("airflow.url") == f"{folder.user}:4"


def test_the_environment_never_reaches_the_instance_of_a_flag(folder: Folder) -> None:
    env = {"AIOPS_AIRFLOW_URL": "http://shell", "AIOPS_AIRFLOW_TOKEN": "shell-token"}
    settings = folder.load(TWO, environ=env, instance="prod")
    assert (settings.airflow().url, settings.airflow().token) == ("https://prod", "prod-token")
    assert settings.airflow("default").url == "http://shell"


def test_the_environment_alone_makes_a_named_instance(folder: Folder) -> None:
    env = {"AIOPS_INSTANCE": "eu", "AIOPS_AIRFLOW_URL": "http://eu", "AIOPS_AIRFLOW_TOKEN": "t"}
    airflow = folder.load(environ=env).airflow()
    assert (airflow.name, airflow.url, airflow.token) == ("eu", "http://eu", "t")


def test_a_files_login_is_not_sent_to_another_address(folder: Folder) -> None:
    airflow = folder.load(TWO, environ={"AIOPS_AIRFLOW_URL": "http://elsewhere"}).airflow()
    assert (airflow.url, airflow.username, airflow.password) == ("http://elsewhere", None, None)
    same = folder.load(TWO, environ={"AIOPS_AIRFLOW_URL": "http://dev/"}).airflow()
    assert same.password == "dev-pw"


def test_two_ways_to_log_in_are_never_mixed(folder: Folder) -> None:
    airflow = folder.load(TWO, environ={"AIOPS_AIRFLOW_TOKEN": "t"}).airflow()
    assert (airflow.token, airflow.username, airflow.password) == ("t", None, None)
    user = "instances: {a: {url: http://a, token: t}}\ninstance: a\n"
    airflow = folder.load(
        user, environ={"AIOPS_AIRFLOW_USERNAME": "me", "AIOPS_AIRFLOW_PASSWORD": "pw"}
    ).airflow()
    assert (airflow.token, airflow.username, airflow.password) == (None, "me", "pw")


def test_a_password_from_the_environment_completes_the_files_user(folder: Folder) -> None:
    user = "airflow: {url: http://a, username: me}"
    airflow = folder.load(user, environ={"AIOPS_AIRFLOW_PASSWORD": "pw"}).airflow()
    assert (airflow.url, airflow.username, airflow.password) == ("http://a", "me", "pw")
    airflow = folder.load(user, environ={"AIOPS_AIRFLOW_USERNAME": "you"}).airflow()
    assert (airflow.url, airflow.username) == ("http://a", "you")


def test_no_airflow_says_what_to_set_and_where(folder: Folder) -> None:
    with pytest.raises(ConfigError) as caught:
        folder.load().airflow()
    assert "AIOPS_AIRFLOW_URL" in caught.value.hint
    assert str(folder.user) in caught.value.hint


def test_an_unknown_instance_names_the_known_ones(folder: Folder) -> None:
    with pytest.raises(ConfigError) as caught:
        folder.load(TWO, instance="prd").airflow()
    assert "'prd'" in caught.value.message
    assert "default, prod" in caught.value.hint


# ---- what is refused ----


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("mode: ask\nmod: off\n", 2, ["mod is not a setting", "did you mean mode?"]),
        ("gate:\n  confidenc: 1\n", 2, ["gate.confidenc", "did you mean gate.confidence?"]),
        ("instances:\n  a:\n    ulr: x\n", 3, ["instances.a.ulr", "did you mean airflow.url?"]),
        ("airflow: http://a\n", 1, ["airflow: expected keys below it"]),
        ("mode: on\n", 1, ["mode is 'on'", "off, ask, shadow, auto"]),
        ("\n\ninterval: soon\n", 3, ["interval is 'soon'", "15m"]),
        ("gate: {confidence: 1.5}\n", 1, ["gate.confidence is '1.5'", "from 0 to 1"]),
        ("gate: {confidence: nan}\n", 1, ["from 0 to 1"]),
        ("gate: {max_per_hour: -1}\n", 1, ["whole number"]),
        ("concurrency: 33\n", 1, ["concurrency is '33'", "from 1 to 32"]),
        ("concurrency: 0\n", 1, ["from 1 to 32"]),
        ("concurrency: true\n", 1, ["from 1 to 32"]),
        ("read_only: maybe\n", 1, ["true or false"]),
        ("rerun_safe: orders_*\n", 1, ["rerun_safe", "a list"]),
        ("rerun_safe: [a, [b]]\n", 1, ["list of plain texts"]),
        ("protected: ['']\n", 1, ["empty pattern"]),
        ("mode: [ask]\n", 1, ["one value"]),
        ("mode: {a: {b: {c: d}}}\n", 1, ["mode.a.b", "found a section"]),
        ("embedder: openai\n", 1, ["builtin or ollama:MODEL"]),
        ("paused: true\n", 1, ["paused", "no file"]),
        ("mode: ask\nmode: auto\n", 2, ["mode is set twice"]),
        ("instances: {default: {url: http://a}}\n", 1, ["under `airflow:`"]),
        ("instances: {a b: {url: http://a}}\n", 1, ["'a b'", "letters, digits"]),
        ("- a\n", 1, ["expected settings"]),
        ("mode: ask\n? [a]\n: b\n", 2, ["plain key"]),
        ("mode: 'ask\n", 2, ["broken YAML"]),
        ("mode: ask\n\tmode: x\n", 2, ["broken YAML"]),
        ("a: *b\n", 1, ["broken YAML"]),
        ("a: 1\n---\nb: 2\n", 2, ["broken YAML"]),
        ("gate: &g\n  gate: *g\n", 1, ["found a section"]),
    ],
)
def test_a_mistake_is_told_with_file_line_and_reason(
    folder: Folder, text: str, line: int, parts: list[str]
) -> None:
    error = folder.refusal(text)
    assert error.message.startswith(f"{folder.user}:{line}: ")
    for part in parts:
        assert part in error.message


def test_files_that_are_no_text_or_cannot_be_read(folder: Folder) -> None:
    folder.project.write_bytes(b"mode: ask\nkb: \xff\n")
    assert f"{folder.project}:2: not UTF-8" in folder.refusal().message
    folder.project.write_bytes(b"mode: \x00\n")
    assert "broken YAML" in folder.refusal().message
    folder.project.unlink()
    folder.project.mkdir()
    assert f"{folder.project} cannot be read" in folder.refusal().message


def test_windows_editors_mark_is_no_mistake(folder: Folder) -> None:
    folder.project.write_bytes(b"\xef\xbb\xbfmode: auto\r\n")
    assert folder.load().mode == "auto"


def test_a_config_file_that_is_named_must_exist(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(cwd=folder.cwd, environ={"AIOPS_CONFIG": str(folder.cwd / "nowhere.yaml")})


@pytest.mark.parametrize(
    "text", ["airflow:\n", "", "# nothing\n", "instances: {}\n", "instances: {a: }\n"]
)
def test_an_empty_file_or_section_sets_nothing(folder: Folder, text: str) -> None:
    assert folder.load(text).mode == "ask"


@pytest.mark.parametrize(
    "text",
    [
        "airflow: {url: http://evil}",
        "airflow: {token_command: rm -rf .}",
        "airflow: {username: me}",
        "instances: {prod: {url: http://evil}}",
        "kb: sqlite:////tmp/evil.db",
        "embedder: ollama:evil",
        "llm: ollama:evil-cloud",
        "pause_dag: never_paused",
    ],
)
def test_a_cloned_repository_cannot_redirect(folder: Folder, text: str) -> None:
    error = folder.refusal("", text)
    assert error.message.startswith(f"{folder.project}:1: ")
    assert "may not be set by a project's file" in error.message
    assert str(folder.user) in error.hint


# ---- secrets ----


@given(secret=st.from_regex(r"[A-Za-z0-9]{9,20}", fullmatch=True))
def test_secrets_are_never_shown(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    user = tmp_path_factory.mktemp("s") / "c.yaml"
    user.write_text(
        f"airflow: {{url: http://a, username: u, password: '{secret}'}}\n"
        f"instances: {{b: {{url: http://b, token: '{secret}'}},"
        f" c: {{url: http://c, token_command: 'echo {secret}'}}}}\n"
        f"kb: postgresql://u:{secret}@h/d?password={secret}\n"
    )
    for name in ("default", "b", "c"):
        settings = load(
            cwd=user.parent, environ={"AIOPS_CONFIG": str(user)}, overrides={"instance": name}
        )
        assert secret in f"{settings.airflow().password}{settings.airflow().token}" or name == "c"
        shown = f"{settings!r} {settings} {settings.describe()} {settings.warnings}"
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    ["airflow: {password: [hunter2]}", "airflow: {token: [hunter2]}", "kb: mysql://a:hunter2@b"],
)
def test_a_refused_secret_is_not_shown(folder: Folder, text: str) -> None:
    error = folder.refusal(text)
    assert "hunter2" not in error.message + error.hint


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize(
    "text", ["airflow: {url: http://a, password: x}\n", "kb: postgresql://me:x@db/kb\n"]
)
def test_a_readable_file_with_a_secret_is_warned_of(folder: Folder, text: str) -> None:
    folder.user.write_text(text)
    folder.user.chmod(0o640)
    environ = {"AIOPS_CONFIG": str(folder.user)}
    (warning,) = load(cwd=folder.cwd, environ=environ).warnings
    assert f"chmod 600 {folder.user}" in warning
    folder.user.chmod(0o600)
    assert load(cwd=folder.cwd, environ=environ).warnings == ()
    folder.user.write_text("mode: ask\n")
    folder.user.chmod(0o644)
    assert load(cwd=folder.cwd, environ=environ).warnings == ()


def test_a_secret_may_stand_in_a_file(folder: Folder) -> None:
    password, kb = folder.cwd / "password", folder.cwd / "kb"
    password.write_text("0 s3cret \n")
    kb.write_text("postgresql://aiops:s3cret@db/aiops")
    settings = folder.load(
        environ={
            "AIOPS_AIRFLOW_URL": "http://airflow",
            "AIOPS_AIRFLOW_USERNAME": "watch",
            "AIOPS_AIRFLOW_PASSWORD_FILE": str(password),
            "AIOPS_KB_FILE": str(kb),
        }
    )
    assert settings.airflow().password == "0 s3cret "
    assert settings.kb == "postgresql://aiops:s3cret@db/aiops"
    assert settings.origin("kb") == "environment AIOPS_KB_FILE"
    assert settings.origin("airflow.password") == "environment AIOPS_AIRFLOW_PASSWORD_FILE"
    assert settings.warnings == ()
    assert "s3cret" not in str(settings.describe())


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_secrets_file_that_is_none(folder: Folder, content: bytes | None) -> None:
    file = folder.cwd / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="AIOPS_AIRFLOW_TOKEN_FILE"):
        folder.load(environ={"AIOPS_AIRFLOW_TOKEN_FILE": str(file)})


def test_a_secret_in_two_places_is_refused(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="both set"):
        folder.load(
            environ={"AIOPS_AIRFLOW_PASSWORD": "x", "AIOPS_AIRFLOW_PASSWORD_FILE": "/nowhere"}
        )


def test_only_secrets_stand_in_files(folder: Folder) -> None:
    (warning,) = folder.load(environ={"AIOPS_INSTANCE_FILE": "/etc/instance"}).unknown
    assert warning.startswith("environment AIOPS_INSTANCE_FILE is not a setting")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AIOPS_AIRFLOW_USER_NAME", "; did you mean AIOPS_AIRFLOW_USERNAME?"),
        ("AIOPS_READONLY", "; did you mean AIOPS_READ_ONLY?"),
        ("AIOPS_URL", "; did you mean AIOPS_AIRFLOW_URL?"),
        ("AIOPS_MODE", "; did you mean `mode` of the settings file?"),
        ("AIOPS_PROTECTD", "; did you mean `protected` of the settings file?"),
        ("AIOPS_GATE_CONFIDENCE", "; did you mean `gate.confidence` of the settings file?"),
        ("AIOPS_VERIFY_TLS", "; did you mean `airflow.verify_tls` of the settings file?"),
        ("AIOPS_TEAM_COLOUR", ""),
    ],
)
def test_a_variable_that_is_none_is_told_with_what_was_meant(
    folder: Folder, name: str, meant: str
) -> None:
    settings = folder.load(environ={name: "x"})
    assert settings.unknown == (f"environment {name} is not a setting{meant}",)


def test_variables_of_others_are_none_of_ours(folder: Folder) -> None:
    """Kubernetes' for each service that is named aiops…, as its documentation lists them; those
    of this project's tests; and an empty one, which is not set."""
    environ = {
        "AIOPS_SERVICE_HOST": "10.0.0.11",
        "AIOPS_DASHBOARD_SERVICE_PORT": "8501",
        "AIOPS_SERVICE_PORT_HTTP": "8501",
        "AIOPS_PORT": "tcp://10.0.0.11:8501",
        "AIOPS_PORT_8501_TCP": "tcp://10.0.0.11:8501",
        "AIOPS_PORT_8501_TCP_PROTO": "tcp",
        "AIOPS_PORT_8501_TCP_PORT": "8501",
        "AIOPS_DASHBOARD_PORT_8501_TCP_ADDR": "10.0.0.11",
        "AIOPS_TEST_PG_DSN": "postgresql://x",
        "AIOPS_MODE": "",
    }
    assert folder.load(environ=environ).unknown == ()
    assert folder.load(environ={"AIOPS_PORT": "8501", "AIOPS_SERVICE": "x"}).unknown


def test_read_only_from_the_environment_adds_up_too(folder: Folder) -> None:
    assert folder.load(environ={"AIOPS_READ_ONLY": "1"}).read_only is True
    assert folder.load("read_only: true\n", environ={"AIOPS_READ_ONLY": "0"}).read_only is True
    assert folder.load("read_only: true\n", environ={"AIOPS_READ_ONLY": ""}).read_only is True
    with pytest.raises(ConfigError, match="AIOPS_READ_ONLY: read_only is 'maybe'"):
        folder.load(environ={"AIOPS_READ_ONLY": "maybe"})


def test_describe_tells_each_setting_with_its_origin(folder: Folder) -> None:
    rows = {name: (value, origin) for name, value, origin in folder.load(TWO).describe()}
    assert list(rows) == [setting.name for setting in SETTINGS]
    assert rows["airflow.url"] == ("http://dev", f"{folder.user}:1")
    assert rows["airflow.password"] == ("set, not shown", f"{folder.user}:1")
    assert rows["airflow.token"] == ("not set", "default")
    assert rows["interval"] == ("30s", "default")


# ---- access as it is in companies ----

ACCESS = """\
airflow:
  url: https://a
  client_id: robot
  client_secret: robot-secret
  headers: {X-Team: data, CF-Access: header-secret}
  cookie: session=cookie-secret
  ca_file: ~/company.pem
  cert_file: /etc/me.pem
  key_file: /etc/me.key
  proxy: http://me:proxy-secret@proxy:3128
  verify_tls: false
"""


def test_access_is_read_and_its_secrets_are_not_shown(folder: Folder) -> None:
    settings = folder.load(ACCESS)
    airflow = settings.airflow()
    assert (airflow.client_id, airflow.client_secret) == ("robot", "robot-secret")
    assert airflow.headers == {"X-Team": "data", "CF-Access": "header-secret"}
    assert airflow.cookie == "session=cookie-secret"
    assert airflow.ca_file == Path.home() / "company.pem"
    assert (airflow.cert_file, airflow.key_file) == (Path("/etc/me.pem"), Path("/etc/me.key"))
    assert (airflow.proxy, airflow.verify_tls) == ("http://me:proxy-secret@proxy:3128", False)
    shown = f"{settings!r} {airflow!r} {settings.describe()}"
    for secret in ("robot-secret", "header-secret", "cookie-secret", "proxy-secret"):
        assert secret not in shown
    assert "http://me:***@proxy:3128" in shown


def test_each_instance_has_its_own_access(folder: Folder) -> None:
    user = ACCESS + "instances: {eu: {url: https://eu, token: t, headers: {X-Eu: '1'}}}\n"
    eu = folder.load(user).airflow("eu")
    assert (eu.token, eu.headers, eu.proxy, eu.verify_tls) == ("t", {"X-Eu": "1"}, None, True)


def test_access_goes_with_any_login_but_to_no_other_address(folder: Folder) -> None:
    env = {"AIOPS_AIRFLOW_TOKEN": "t", "AIOPS_AIRFLOW_CA_FILE": "/etc/other.pem"}
    same = folder.load(ACCESS, environ=env).airflow()
    assert (same.token, same.client_secret, same.cookie) == ("t", None, "session=cookie-secret")
    assert same.ca_file == Path("/etc/other.pem")
    other = folder.load(ACCESS, environ={"AIOPS_AIRFLOW_URL": "https://b"}).airflow()
    assert (other.headers, other.cookie, other.cert_file, other.proxy) == ({}, None, None, None)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("headers: {X-A: hunter2, x-a: hunter2}", "set twice"),
        ("headers: [hunter2]", "names with values"),
        ("headers: {'X A': hunter2}", "header names"),
        ('headers: {X-A: "hunter2\\r\\nX-B: 1"}', "one line of ASCII"),
        ("headers: {X-A: [hunter2]}", "names with plain texts"),
        ('cookie: "hunter2\\n"', "one line of ASCII"),
        ("ca_file: company.pem", "absolute path"),
        ("proxy: hunter2@proxy:3128", "http://proxy.example.com:3128"),
        ("verify_tls: maybe", "true or false"),
    ],
)
def test_refused_access(folder: Folder, text: str, part: str) -> None:
    error = folder.refusal(f"airflow:\n  {text}\n")
    assert part in error.message
    assert "hunter2" not in error.message + error.hint


@pytest.mark.parametrize("key", [s.name for s in SETTINGS if s.name.startswith("airflow.")])
def test_no_part_of_an_access_may_stand_in_a_projects_file(folder: Folder, key: str) -> None:
    for section in ("airflow", "instances.prod"):
        value = f"{key.partition('.')[2]}: x"
        for name in reversed(section.split(".")):
            value = f"{name}: {{{value}}}"
        assert "may not be set by a project's file" in folder.refusal("", value).message


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize("text", ["client_secret: s", "cookie: s", "headers: {A: s}",
                                  "proxy: http://u:s@p:1"])  # fmt: skip
def test_a_readable_file_with_a_part_of_a_login_is_warned_of(folder: Folder, text: str) -> None:
    folder.user.write_text(f"airflow: {{url: http://a, {text}}}")
    folder.user.chmod(0o644)
    (warning,) = load(cwd=folder.cwd, environ={"AIOPS_CONFIG": str(folder.user)}).warnings
    assert "chmod 600" in warning

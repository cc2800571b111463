"""`aiops init`: each step is tried before the next; no settings are written before all work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aiops_cli import config_write
from aiops_cli.commands import init_models
from aiops_cli.commands.init_access import page_to_address
from tests.airflow_server import Fault
from tests.airflow_world import Request
from tests.cli import Cli, Said, make
from tests.network import CA, CLIENT, CLIENT_KEY, TlsServer, proxy
from tests.ollama_server import CLOUD_MODEL, Model, OllamaServer

NOBODY = "127.0.0.1:9"  # whoever runs the tests may have an Ollama


@pytest.fixture
def fresh(cli: Cli) -> Cli:
    return newcomer(cli)


def newcomer(cli: Cli) -> Cli:
    """Somebody who has neither settings nor variables yet."""
    file(cli).unlink()
    for name in ("KB", "AIRFLOW_URL", "AIRFLOW_USERNAME", "AIRFLOW_PASSWORD"):
        del cli.environ[f"AIOPS_{name}"]
    cli.environ["OLLAMA_HOST"] = NOBODY
    return cli


def wants(cli: Cli, header: str, value: str) -> None:
    """A gateway stands before Airflow, and lets nobody pass without this header."""
    page = Fault("", 1, 302, headers={"Location": "https://sso.test/login"})
    take_fault = cli.server.take_fault

    def take(request: Request) -> Fault | None:
        return take_fault(request) if request.headers.get(header) == value else page

    cli.monkeypatch.setattr(cli.server, "take_fault", take)


def file(cli: Cli) -> Path:
    return Path(cli.environ["AIOPS_CONFIG"])


def lines(*answers: str) -> str:
    return "".join(f"{answer}\n" for answer in answers)


def talk(cli: Cli, *answers: str, secrets: tuple[str, ...] = (), args: Any = ()) -> Said:
    """Init on a terminal; `secrets` are typed where they are not shown."""
    typed = iter(secrets)
    with cli.monkeypatch.context() as patch:
        patch.setattr("getpass.getpass", lambda *_, **__: next(typed))
        said = cli.type("init", *args, keys=lines(*answers))
    assert next(typed, None) is None
    return said


# ---- on a terminal ----


def test_it_asks_tries_writes_and_says_what_to_do_next(fresh: Cli) -> None:
    said = talk(
        fresh, fresh.server.url, "2", fresh.server.username, str(fresh.kb),
        secrets=(fresh.server.password,),
    )  # fmt: skip
    assert said.code == 0, said
    assert file(fresh).read_text() == (
        f'airflow:\n  url: {fresh.server.url}\n  username: oncall\n  password: "oncall-password"\n'
        f"kb: sqlite:///{fresh.kb}\n"
    ).replace('"oncall-password"', "oncall-password")
    for part in ("Airflow 3.3.2", "logged in", "password: set, not shown", "aiops diagnose"):
        assert part in said.err
    assert "may clear task instances" in said.out  # doctor's summary
    assert fresh.server.password not in said.out + said.err
    if os.name == "posix":
        assert file(fresh).stat().st_mode & 0o777 == 0o600
    assert fresh.cleared() == []
    assert fresh.ok("failures", "--json").json == {"failures": []}


def test_a_token_command_is_what_it_prefers(fresh: Cli) -> None:
    fresh.server.tokens["from-the-vault"] = "oncall"
    said = talk(fresh, fresh.server.url, "", "echo from-the-vault", str(fresh.kb))
    assert said.code == 0, said
    assert 'token_command: "echo from-the-vault"' in file(fresh).read_text()
    assert "from-the-vault" not in said.out + said.err  # a command may hold a secret


@pytest.mark.parametrize(
    ("answers", "secrets", "key"),
    [(("3",), ("a-token",), "token: a-token"), (("4", "robot"), ("s3cret",), "client_id: robot")],
)
def test_the_other_ways_to_log_in(
    fresh: Cli, answers: tuple[str, ...], secrets: tuple[str, ...], key: str
) -> None:
    fresh.server.tokens["a-token"] = "oncall"
    fresh.server.client = ("robot", "s3cret")
    said = talk(fresh, fresh.server.url, *answers, str(fresh.kb), secrets=secrets)
    assert said.code == 0, said
    assert key in file(fresh).read_text()
    assert secrets[0] not in said.out + said.err


def test_each_step_is_asked_again_with_the_reason(fresh: Cli) -> None:
    said = talk(
        fresh,
        "airflow.example.com",  # no scheme
        "http://127.0.0.1:9",  # nobody there
        f"{fresh.server.url}/dags/orders/runs?x=1",  # copied from a browser
        "7",
        "2", "oncall",  # a wrong password
        "1", "sh -c 'echo no vault >&2; exit 3'",
        "2", "oncall",
        "/dev/null/kb.db",
        str(fresh.kb),
        secrets=("wrong-password", fresh.server.password),
    )  # fmt: skip
    assert said.code == 0, said
    for reason in (
        "expected an address such as https://airflow.example.com",
        "connection refused",
        "'7' is none of these",
        "refused the login of oncall: Invalid credentials",
        "the token command ended with 3: no vault",
        "/dev/null",
    ):
        assert reason in said.err
    text = file(fresh).read_text()
    assert f"url: {fresh.server.url}\n" in text
    assert "token_command" not in text  # of the way that failed nothing stays
    assert "wrong-password" not in text + said.err


@pytest.mark.parametrize("answered", range(5))
@pytest.mark.parametrize("interrupt", [False, True])
def test_whoever_stops_leaves_nothing_behind(fresh: Cli, answered: int, interrupt: bool) -> None:
    fresh.server.tokens["t"] = "oncall"
    answers = [fresh.server.url, "1", "echo t", str(fresh.kb)][:answered]
    if answered == 4:  # and the one question more where there is a file already
        file(fresh).write_text("mode: shadow\n")
    before = file(fresh).read_text() if file(fresh).exists() else None
    said = fresh.type("init", keys=lines(*answers), interrupt=interrupt)
    assert "Ctrl-C before that leaves the settings as they are" in said.err
    assert "written" not in said.err.replace("no settings are written", "")
    assert said.code in ((130,) if interrupt or answered < 4 else (0,))
    assert "no settings are written" in said.err
    assert "aiops incidents" not in said.err  # there is nothing yet that it could show
    assert (file(fresh).read_text() if file(fresh).exists() else None) == before
    assert {path.name for path in fresh.home.iterdir()} <= {"kb", "config.yaml"}


def test_ctrl_c_behind_the_last_answer_says_nothing_untrue(fresh: Cli) -> None:
    """The file may be in its place by then."""
    fresh.server.tokens["t"] = "oncall"
    write_private = config_write.write_private

    def stopped(path: Path, text: str) -> None:
        write_private(path, text)
        raise KeyboardInterrupt

    fresh.monkeypatch.setattr(config_write, "write_private", stopped)
    said = fresh.type("init", keys=lines(fresh.server.url, "1", "echo t", str(fresh.kb)))
    assert said.code == 130
    assert file(fresh).exists()
    assert "asks anew" not in said.err


def test_an_existing_file_keeps_what_was_not_asked_about(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    before = f"# ours\nairflow:\n  url: {fresh.server.url}  # here\n  token: old\nmode: shadow\n"
    file(fresh).write_text(before)
    answers = ("", "1", "echo t", str(fresh.kb))
    said = talk(fresh, *answers, "n")
    assert (said.code, file(fresh).read_text()) == (0, before)
    assert "airflow.token: removed" in said.err
    said = talk(fresh, *answers, "y")
    assert said.code == 0, said
    after = file(fresh).read_text()
    assert after.startswith(f"# ours\nairflow:\n  url: {fresh.server.url}  # here\n")
    assert "mode: shadow" in after
    assert "old" not in after
    assert not list(fresh.home.glob("*.bak"))
    if os.name == "posix":
        assert file(fresh).stat().st_mode & 0o777 == 0o600


def test_a_file_whose_comments_cannot_be_kept_is_kept_beside(fresh: Cli) -> None:
    before = "{mode: shadow}  # ours\n"
    file(fresh).write_text(before)
    fresh.server.tokens["t"] = "oncall"
    said = talk(fresh, fresh.server.url, "1", "echo t", str(fresh.kb), "y")
    assert said.code == 0, said
    assert "config.yaml.bak" in said.err
    backup = fresh.home / "config.yaml.bak"
    assert backup.read_text() == before
    assert "mode: shadow" in file(fresh).read_text()
    if os.name == "posix":
        assert backup.stat().st_mode & 0o777 == 0o600


def test_nothing_to_change_is_nothing_to_write(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    text = f"airflow: {{url: '{fresh.server.url}', token: t}}\nkb: sqlite:///{fresh.kb}\n"
    file(fresh).write_text(text)
    said = talk(fresh, "", "0", "")
    assert said.code == 0, said
    assert "stays as it is" in said.err
    assert file(fresh).read_text() == text


def test_a_login_is_not_sent_to_another_address(fresh: Cli) -> None:
    file(fresh).write_text(
        "airflow:\n  url: http://127.0.0.1:9\n  token: old-token\n  cookie: old-cookie\n"
        "  headers:\n    X-Key: old-header\n"
    )
    said = talk(
        fresh, fresh.server.url, "2", fresh.server.username, str(fresh.kb), "y",
        secrets=(fresh.server.password,),
    )  # fmt: skip
    assert said.code == 0, said
    assert "old-" not in file(fresh).read_text()
    assert not [r for r in fresh.server.requests if "old-" in str(r.headers)]


def test_an_own_ca_is_asked_for_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer() as server:
        server.tokens["t"] = "oncall"
        cli = newcomer(make(server, tmp_path, monkeypatch))
        said = talk(cli, server.url, str(CA), "1", "echo t", str(cli.kb))
        assert said.code == 0, said
        assert "not trusted" in said.err
        assert f"ca_file: {CA}" in file(cli).read_text()


def test_behind_a_sign_in_page_the_login_is_asked_for_all_the_same(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    fresh.server.fault("version", status=302, headers={"Location": "https://sso.test/login"})
    said = talk(fresh, fresh.server.url, "", "1", "echo t", str(fresh.kb))
    assert said.code == 0, said
    assert "sends on to https://sso.test/login" in said.err


def test_a_gateways_header_is_asked_for_where_it_is_needed(fresh: Cli) -> None:
    """It goes with every request, beside Airflow's own login."""
    wants(fresh, "x-gateway", "key-of-the-gateway")
    said = talk(
        fresh, fresh.server.url, "X-Gateway", "2", "oncall", str(fresh.kb),
        secrets=("key-of-the-gateway", fresh.server.password),
    )  # fmt: skip
    assert said.code == 0, said
    assert 'headers: {"X-Gateway": "key-of-the-gateway"}' in file(fresh).read_text()
    assert "key-of-the-gateway" not in said.out + said.err
    assert fresh.ok("failures", "--json").json == {"failures": []}


def test_a_header_in_the_place_of_another_and_a_cookie(fresh: Cli) -> None:
    wants(fresh, "cookie", "session=of-the-gateway")
    file(fresh).write_text(
        f"airflow:\n  url: {fresh.server.url}\n  headers: {{X-Old: old-one}}\n  cookie: old-two\n"
    )
    said = talk(
        fresh, "", "cookie", "2", "oncall", str(fresh.kb), "y",
        secrets=("session=of-the-gateway", fresh.server.password),
    )  # fmt: skip
    assert said.code == 0, said
    assert 'cookie: "session=of-the-gateway"' in file(fresh).read_text()
    assert "X-Old" in file(fresh).read_text()  # nobody said that it goes
    wants(fresh, "x-new", "new-one")
    said = talk(fresh, "", "X-New", "0", "", "y", secrets=("new-one",))
    assert said.code == 0, said
    assert "new-one" in file(fresh).read_text()
    assert "X-Old" not in file(fresh).read_text()


def test_a_cookie_or_a_header_may_be_all_of_the_login(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    said = talk(fresh, fresh.server.url, "5", "Authorization", str(fresh.kb), secrets=("Bearer t",))
    assert said.code == 0, said
    assert 'headers: {"Authorization": "Bearer t"}' in file(fresh).read_text()
    assert "Bearer t" not in said.out + said.err


def test_a_client_certificate_is_asked_for_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(wants_client=True) as server:
        server.tokens["t"] = "oncall"
        cli = newcomer(make(server, tmp_path, monkeypatch))
        answers = (str(CA), str(CLIENT), str(CLIENT_KEY), "1", "echo t", str(cli.kb))
        said = talk(cli, server.url, *answers)
        assert said.code == 0, said
        for line in (f"ca_file: {CA}", f"cert_file: {CLIENT}", f"key_file: {CLIENT_KEY}"):
            assert line in file(cli).read_text()


def test_a_proxy_is_asked_for_where_nobody_answers(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    fresh.monkeypatch.setattr("aiops_cli.airflow.client.proxy_for", lambda url, chosen: chosen)
    with proxy(fresh.server.url, "me:hunter2pass") as way:
        with_login = way.url.replace("//", "//me:hunter2pass@")
        said = talk(
            fresh,
            "http://airflow.invalid",
            "http://airflow.invalid",
            "1", "echo t", str(fresh.kb),
            secrets=("", way.url, with_login),  # first no proxy: another address
        )  # fmt: skip
    assert said.code == 0, said
    assert "its name is not known (DNS)" in said.err
    assert "wants a login" in said.err
    assert f"proxy: {with_login}" in file(fresh).read_text().replace('"', "")
    assert "hunter2pass" not in said.out + said.err


def test_a_named_instance_goes_under_its_name(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    said = talk(
        fresh, fresh.server.url, "1", "echo t", str(fresh.kb), args=("--instance", "staging")
    )
    assert said.code == 0, said
    assert file(fresh).read_text().startswith("instances:\n  staging:\n    url: ")


def test_what_the_environment_sets_is_told(cli: Cli) -> None:
    cli.environ["OLLAMA_HOST"] = NOBODY
    file(cli).write_text("")
    said = talk(cli, "", "0")
    assert said.code == 0, said
    assert "AIOPS_AIRFLOW_PASSWORD, AIOPS_AIRFLOW_URL" in said.err
    assert cli.server.password not in file(cli).read_text() + said.err


# ---- models ----


@pytest.fixture
def ollama(fresh: Cli) -> Iterator[OllamaServer]:
    """An Ollama with a model of each kind, and one that runs elsewhere."""
    fresh.server.tokens["t"] = "oncall"
    with OllamaServer() as server:
        server.models["mine:latest"] = CLOUD_MODEL
        server.models["old:7b"] = Model(capabilities=())
        server.answer = lambda request: {
            "action": "none", "cause": "c", "confidence": 0.5, "explanation": "e", "quotes": [],
        }  # fmt: skip
        fresh.environ["OLLAMA_HOST"] = server.url
        yield server


def asked(fresh: Cli, *answers: str, args: Any = ()) -> Said:
    return talk(fresh, fresh.server.url, "1", "echo t", str(fresh.kb), *answers, args=args)


def test_the_models_of_an_ollama_are_offered(fresh: Cli, ollama: OllamaServer) -> None:
    said = asked(fresh, "1", "1")
    assert said.code == 0, said
    assert (
        file(fresh)
        .read_text()
        .endswith(
            f"kb: sqlite:///{fresh.kb}\nllm: ollama:llama3.1\nembedder: ollama:nomic-embed-text\n"
        )
    )
    suggest, vectors = said.err.split("Similar failures")
    assert "0  none\n  1  ollama:llama3.1\n  2  ollama:old:7b\n" in suggest
    assert "0  builtin\n  1  ollama:nomic-embed-text\n  2  ollama:old:7b\n" in vectors
    assert "mine" not in said.err, "it runs elsewhere"
    assert "llama3.1 is installed" in said.out
    assert "64 dimensions" in said.out


def test_without_an_answer_no_model_is_set(fresh: Cli, ollama: OllamaServer) -> None:
    said = asked(fresh, "9", "", "")
    assert said.code == 0, said
    assert "'9' is none of these" in said.err
    assert "ollama:" not in file(fresh).read_text()
    assert {request.path for request in ollama.requests} == {"/api/tags", "/api/show"}


def test_what_is_set_stays_unless_another_is_chosen(fresh: Cli, ollama: OllamaServer) -> None:
    file(fresh).write_text("llm: ollama:gone\nembedder: ollama:nomic-embed-text\n")
    said = asked(fresh, "", "0", "y")
    assert said.code == 4, "doctor tells that it is not installed"
    assert "gone is not installed" in said.out
    assert "3  ollama:gone\nWhich [3]" in said.err
    assert file(fresh).read_text().startswith("llm: ollama:gone\nembedder: builtin\n")
    assert "embedder: ollama:nomic-embed-text → builtin" in said.err


def test_what_a_variable_sets_is_not_asked_for(fresh: Cli, ollama: OllamaServer) -> None:
    fresh.environ |= {"AIOPS_LLM": "none", "AIOPS_EMBEDDER": "builtin"}
    assert asked(fresh).code == 0
    assert ollama.requests == []


def test_an_ollama_elsewhere_is_not_asked_unless_it_is_allowed(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    fresh.environ["OLLAMA_HOST"] = "http://gpu.example.com:11434"
    said = asked(fresh)
    assert said.code == 0, said
    assert "Similar failures" not in said.err


def test_an_ollama_that_hangs_is_not_waited_for(
    fresh: Cli, ollama: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_models, "_PATIENCE", timedelta(milliseconds=200))
    ollama.fault("/api/tags", "hang")
    assert asked(fresh).code == 0


def test_models_as_options(fresh: Cli, ollama: OllamaServer) -> None:
    script = ("init", "--yes", "--url", fresh.server.url, "--token-command", "echo t")
    for option, value, code, words in (
        ("--llm", "ollama:qwen3", 4, "ollama pull qwen3"),
        ("--llm", "gpt-4", 2, "expected none or ollama:MODEL"),
        ("--embedder", "ollama:gpt-oss:120b-cloud", 2, "ollama_allow"),
        ("--embedder", "ollama:mine", 4, "runs in a cloud"),
    ):
        fresh.run(*script, "--kb", str(fresh.kb), option, value).refused(code, words)
        assert not file(fresh).exists()
    models = ("--llm", "ollama:llama3.1", "--embedder", "builtin")
    said = fresh.ok(*script, "--kb", str(fresh.kb), *models, "--json").json
    assert said["changed"][-2:] == ["llm", "embedder"]
    assert "llm: ollama:llama3.1\nembedder: builtin\n" in file(fresh).read_text()
    assert asked(fresh, "n", args=("--llm", "none", "--embedder", "builtin")).code == 0


# ---- in a script ----


def test_options_answer_everything(fresh: Cli) -> None:
    said = fresh.ok(
        "init", "--yes", "--url", fresh.server.url, "--username", "oncall", "--password-stdin",
        "--kb", str(fresh.kb), "--json", stdin=f"{fresh.server.password}\n",
    )  # fmt: skip
    document = said.json
    assert document["config"] == str(file(fresh))
    assert document["changed"] == ["airflow.url", "airflow.username", "airflow.password", "kb"]
    assert {check["status"] for check in document["checks"]} <= {"ok", "warn"}
    assert fresh.server.password not in said.out + said.err
    assert fresh.ok("failures", "--json").json == {"failures": []}


def test_a_second_time_changes_only_what_is_named(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    args = ("init", "--yes", "--url", fresh.server.url, "--token-command", "echo t", "--json")
    fresh.environ["AIOPS_KB"] = f"sqlite:///{fresh.kb}"
    assert fresh.ok(*args).json["changed"] == ["airflow.url", "airflow.token_command"]
    assert fresh.ok(*args).json["changed"] == []
    fresh.server.tokens["u"] = "oncall"
    again = fresh.ok("init", "--yes", "--token-command", "echo u", "--json").json
    assert again["changed"] == ["airflow.token_command"]


@pytest.mark.parametrize(
    ("args", "code", "part"),
    [
        ((), 2, "nobody is here to answer"),
        (("--yes",), 2, "no Airflow is named"),
        (("--yes", "--url", "nowhere"), 2, "expected an address"),
        (("--yes", "--url", "http://127.0.0.1:9"), 3, "connection refused"),
        (("--yes", "--url", "URL"), 3, "no login"),
        (("--yes", "--url", "URL", "--token-command", "false"), 3, "ended with 1"),
        (("--yes", "--url", "URL", "--token-command", "x", "--username", "y"), 2, "two ways"),
        (("--yes", "--url", "URL", "--password-stdin"), 2, "needs --username"),
        (("--yes", "--url", "URL", "--username", "a", "--password-stdin"), 2, "no password"),
        (("--yes", "--url", "URL", "--token-command", "echo t", "--kb", "/dev/null/x"), 4, "/x"),
        (("--yes", "--url", "URL", "--token-command", "echo t", "--kb", "mysql://x"), 2, "sqlite"),
    ],
)
def test_what_does_not_work_is_told_and_not_written(
    fresh: Cli, args: tuple[str, ...], code: int, part: str
) -> None:
    fresh.server.tokens["t"] = "oncall"
    said = fresh.run("init", *(arg.replace("URL", fresh.server.url) for arg in args))
    assert (said.code, part in said.text) == (code, True), said
    assert not file(fresh).exists()


def test_a_page_may_be_named_without_being_asked_too(fresh: Cli) -> None:
    fresh.server.tokens["t"] = "oncall"
    page = f"{fresh.server.url}/dags/orders/runs/r?tab=1#z"
    fresh.ok("init", "--yes", "--url", page, "--token-command", "echo t")
    assert f"url: {fresh.server.url}\n" in file(fresh).read_text()


def test_enter_where_an_answer_is_needed_leads_back_to_the_ways(fresh: Cli) -> None:
    url, kb = fresh.server.url, str(fresh.kb)
    said = talk(
        fresh, url, "1", "", "4", "", "2", "", "", fresh.server.username, kb,
        secrets=(fresh.server.password,),
    )  # fmt: skip
    assert said.code == 0, said
    assert said.err.count("this way of logging in needs it") == 3
    assert "expected text" not in said.err
    assert "Which [2]: " in said.err  # the way that was chosen last


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ("http://a:8080", "http://a:8080"),
        ("http://a:8080/home", "http://a:8080"),
        ("https://a/team/dags/x/runs/y?tab=1#z", "https://a/team"),
        ("https://home/login/?next=x", "https://home"),
        ("https://a/airflow", "https://a/airflow"),
        ("https://a/homework", "https://a/homework"),
    ],
)
def test_a_pages_address_holds_airflows(page: str, address: str) -> None:
    assert page_to_address(page) == address


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests at a terminal is not asked for a password."""

    def asked(*_: object, **__: object) -> str:
        raise AssertionError("asked for a secret")

    monkeypatch.setattr("getpass.getpass", asked)

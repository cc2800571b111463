"""The table of all settings: names, how each is read, defaults, and who may set them. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiops_cli import config_values as values
from aiops_cli.errors import ConfigError

DEFAULT_INSTANCE = "default"


def _default_kb() -> str:
    from platformdirs import user_data_path  # only where no knowledge base is named

    path = user_data_path("aiops", appauthor=False) / "knowledge.db"
    if not path.is_absolute():  # "~/…": a container's user without a home
        raise ConfigError("there is no home folder for the knowledge base", "set AIOPS_KB")
    return f"sqlite:///{path}"


def _login_name() -> str:
    import getpass  # 2 ms; asked for once

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return "unknown"


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted name, how its text is read, its default (or what makes it)."""

    name: str
    parse: Callable[[Any], Any]
    default: Any = None
    env: str | None = None
    project: bool = False  # may stand in ./aiops.yaml
    file: bool = True  # may stand in the user's file
    secret: bool = False  # never shown
    combine: Callable[[Any, Any], Any] | None = None  # adds up over the files


# A cloned repository must not redirect a login, run a command, swap the memory, send logs to
# another model (some names of Ollama's run in its cloud) or take away the kill switch: these are
# the user's own (project=False).
SETTINGS: tuple[Setting, ...] = (
    Setting("airflow.url", values.url, env="AIOPS_AIRFLOW_URL"),
    Setting("airflow.username", values.text, env="AIOPS_AIRFLOW_USERNAME"),
    Setting("airflow.password", str, env="AIOPS_AIRFLOW_PASSWORD", secret=True),
    Setting("airflow.token", values.text, env="AIOPS_AIRFLOW_TOKEN", secret=True),
    Setting("airflow.token_command", values.text, env="AIOPS_AIRFLOW_TOKEN_COMMAND", secret=True),
    Setting("airflow.client_id", values.text),
    Setting("airflow.client_secret", str, secret=True),
    Setting("airflow.headers", values.headers, secret=True),
    Setting("airflow.cookie", values.header, secret=True),
    Setting("airflow.ca_file", values.file, env="AIOPS_AIRFLOW_CA_FILE"),
    Setting("airflow.cert_file", values.file),
    Setting("airflow.key_file", values.file),
    Setting("airflow.proxy", values.proxy),
    Setting("airflow.verify_tls", values.flag, True),
    Setting("instance", values.name, DEFAULT_INSTANCE, env="AIOPS_INSTANCE", project=True),
    Setting("kb", values.kb, _default_kb, env="AIOPS_KB"),
    Setting("embedder", values.Model("builtin"), "builtin", env="AIOPS_EMBEDDER"),
    Setting("llm", values.Model("none"), "none", env="AIOPS_LLM"),
    # A model that has to be loaded first answers after minutes, and giving up undoes the loading.
    Setting("llm_timeout", values.duration, timedelta(seconds=300)),
    Setting("ollama_host", values.text, "127.0.0.1:11434", env="OLLAMA_HOST", file=False),
    Setting("ollama_allow", values.patterns, ()),
    Setting("user", values.text, _login_name, env="AIOPS_USER", file=False),
    Setting("paused", values.stop, False, env="AIOPS_PAUSED", file=False),
    Setting("pause_dag", values.text),
    Setting("read_only", values.flag, False, "AIOPS_READ_ONLY", project=True, combine=operator.or_),
    Setting("mode", values.Choice(("off", "ask", "shadow", "auto")), "ask", project=True),
    Setting("rerun_safe", values.patterns, (), project=True),
    Setting("protected", values.patterns, (), project=True, combine=operator.add),
    Setting("actions", values.who_may, dict),
    Setting("two_people", values.actions, ()),
    Setting("interval", values.duration, timedelta(seconds=30), project=True),
    # Files in it are deleted.
    Setting("spool", values.file, env="AIOPS_SPOOL"),
    Setting("lookback", values.duration, timedelta(hours=24), project=True),
    Setting("relapse_window", values.duration, timedelta(hours=24), project=True),
    # Longer trusts what is old: not for a cloned repository to say.
    Setting("evidence_half_life", values.duration, timedelta(days=180)),
    Setting("machine_logins", values.patterns, (), project=True, combine=operator.add),
    Setting("give_up", values.duration, timedelta(hours=24), project=True),
    # Longer than one changing call with its timeouts and the look at what became of it.
    Setting("lease", values.duration, timedelta(seconds=300), project=True),
    Setting("concurrency", values.at_once, 4, project=True),
    # Addresses of pagers and chats hold their keys; and a project must not send messages.
    Setting("notify", values.services, (), secret=True),
    Setting("notify_grace", values.duration, timedelta(minutes=5), project=True),
    Setting("gate.similarity", values.share, project=True),  # not set: the embedder's own bound
    Setting("gate.margin", values.share, project=True),
    Setting("gate.confidence", values.share, 0.80),
    Setting("gate.similarity_for", values.bounds_for, ()),
    Setting("gate.confidence_for", values.bounds_for, ()),
    Setting("gate.trust_retries", values.flag, False),
    # As long as an outcome may still be called wrong: the relapse window's default.
    Setting("gate.vouch_after", values.duration, timedelta(hours=24)),
    Setting("gate.attempts_per_day", values.whole, 1),
    Setting("gate.max_per_hour", values.whole, 10),
    Setting("gate.max_per_dag_hour", values.whole, 3),
    Setting("gate.max_per_storm", values.whole, 4),
    Setting("gate.recent", values.duration, timedelta(hours=6)),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
AIRFLOW_KEYS = tuple(n.partition(".")[2] for n in BY_NAME if n.startswith("airflow."))
# The ways to log in, strongest first; parts of two ways are never mixed.
LOGINS = (("token",), ("token_command",), ("client_id", "client_secret"), ("username", "password"))

"""Settings: the only reader of the environment and of settings files.

Each value comes from the first of: flag, environment, ./aiops.yaml, the user's config file,
default. Three that protect (`read_only`, `protected`, `machine_logins`) add up over them all
instead, so that none can undo another's. `config_table.SETTINGS` is the whole list.

Values are read as the text that stands in the file, so that `mode: off`, `password: 0123` and
`interval: 1:30` mean what they look like and not what YAML makes of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiops_cli import config_environ
from aiops_cli import config_values as values
from aiops_cli.config_table import (
    AIRFLOW_KEYS,
    BY_NAME,
    DEFAULT_INSTANCE,
    LOGINS,
    SETTINGS,
    Setting,
)
from aiops_cli.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from aiops_cli.config_yaml import Raw

PROJECT_FILE = "aiops.yaml"
_SECTIONS = (("airflow",), ("gate",), ("instances",))


@dataclass(frozen=True)
class AirflowSettings:
    """One Airflow and how to reach it. At most one way to log in is set: token, command, client
    or user; headers, cookie, certificate and proxy go with any."""

    name: str
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_command: str | None = field(default=None, repr=False)
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookie: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a login
    verify_tls: bool = True


@dataclass(frozen=True)
class GateSettings:
    """The gate's bounds; None means the embedder's own."""

    similarity: float | None
    margin: float | None
    confidence: float
    similarity_for: tuple[values.BoundFor, ...]
    confidence_for: tuple[values.BoundFor, ...]
    trust_retries: bool
    vouch_after: timedelta
    attempts_per_day: int
    max_per_hour: int
    max_per_dag_hour: int
    max_per_storm: int
    recent: timedelta


@dataclass(frozen=True)
class Settings:
    """All settings, read and checked. `kb` may hold a password, so its repr is left out."""

    instance: str
    embedder: str
    llm: str
    llm_timeout: timedelta
    ollama_host: str
    ollama_allow: tuple[str, ...]
    user: str
    paused: bool
    pause_dag: str | None
    read_only: bool
    mode: Literal["off", "ask", "shadow", "auto"]
    rerun_safe: tuple[str, ...]
    protected: tuple[str, ...]
    actions: Mapping[str, str]  # who may do them, of those that are named
    two_people: tuple[str, ...]
    interval: timedelta
    spool: Path | None
    lookback: timedelta
    relapse_window: timedelta
    evidence_half_life: timedelta
    machine_logins: tuple[str, ...]
    give_up: timedelta
    lease: timedelta
    concurrency: int
    notify_grace: timedelta
    gate: GateSettings
    notify: tuple[str, ...] = field(repr=False)
    kb: str = field(repr=False)
    config_file: Path  # the user's file, whether it exists or not
    instances: Mapping[str, AirflowSettings]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]  # a word on each variable that looks like a setting and is none
    origins: Mapping[str, str] = field(repr=False)

    def origin(self, name: str) -> str:
        """Where a setting's value came from, such as "environment AIOPS_AIRFLOW_URL". The
        `airflow.*` names speak of the chosen instance."""
        return self.origins[name]

    def airflow(self, name: str | None = None) -> AirflowSettings:
        """The named Airflow, or the chosen one. Raises ConfigError where it is not known."""
        wanted = name or self.instance
        if wanted in self.instances:
            return self.instances[wanted]
        known = ", ".join(sorted(self.instances))
        if known:
            raise ConfigError(
                f"no Airflow instance is named {wanted!r}",
                f"known: {known}; others go under `instances:` in {self.config_file}",
            )
        raise ConfigError(
            "no Airflow is configured",
            "aiops init asks for it; or set AIOPS_AIRFLOW_URL, or write `airflow: {url: …}` into "
            f"{self.config_file}",
        )

    def kb_path(self) -> Path | None:
        """The knowledge base's file; None where it is not SQLite."""
        path = self.kb.removeprefix("sqlite:///")
        return None if path == self.kb else Path(path)

    def describe(self) -> list[tuple[str, str, str]]:
        """(name, value as it may be shown, origin) of every setting, for `aiops doctor`."""
        airflow = self.instances.get(self.instance)
        rows = []
        for setting in SETTINGS:
            section, _, key = setting.name.rpartition(".")
            holder = {"airflow": airflow, "gate": self.gate}.get(section, self)
            value = getattr(holder, key, None)
            rows.append((setting.name, _shown(setting, value), self.origins[setting.name]))
        return rows


def _shown(setting: Setting, value: object) -> str:
    if value is None or value == () or value == {}:
        return "not set"
    if setting.secret:
        return "set, not shown"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"(//[^:/@]*:).*(?=@)|(password=)[^&]*", r"\1\2***", str(value))


def parse_duration(text: str) -> timedelta:
    """`90` (seconds), `90s`, `15m`, `24h`, `2d` or `1w`, above zero; raises UsageError."""
    try:
        return values.duration(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a duration", str(error)) from None


def typed_duration(text: str) -> timedelta:
    """A duration as somebody types it. A number without a unit is refused: who types `hold orders
    2` at night means hours, and would get seconds. Raises UsageError."""
    if text.strip().isdigit():
        said = text.strip()
        raise UsageError(f"{said!r} of what?", f"{said}m are minutes, {said}h hours, {said}d days")
    return parse_duration(text)


# ---- reading ----


class _Found(NamedTuple):
    value: Any
    origin: str


_Source = dict[str, _Found]  # by dotted name; a file's `airflow:` is "instances.default."


def load(
    *,
    cwd: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, str | None] | None = None,
    new_file: bool = False,
) -> Settings:
    """Settings as they hold in the folder `cwd`. `overrides` are flags: dotted name -> text,
    None where the flag was not given. With `new_file` the one that AIOPS_CONFIG names may be
    missing: it is about to be written.

    Raises ConfigError naming the file and line, variable or flag, the key and what is expected.
    """
    user_file = user_path(environ)
    if environ.get("AIOPS_CONFIG") and not (new_file or user_file.exists()):
        raise ConfigError(
            f"AIOPS_CONFIG names {user_file}, which does not exist",
            "aiops init writes it; or unset AIOPS_CONFIG",
        )
    flags = _given({name: (f"flag --{name}", text) for name, text in (overrides or {}).items()})
    environment = _given(config_environ.variables(environ))
    user = _read(user_file, user_file, project=False)
    project_file = cwd / PROJECT_FILE
    # In a container the folder's own file may be named as the user's.
    project = {} if _same(project_file, user_file) else _read(project_file, user_file, project=True)

    found = {
        setting.name: _resolve(setting, flags, environment, project, user)
        for setting in SETTINGS
        if not setting.name.startswith("airflow.")
    }
    # The environment describes the instance that is used without a flag: `--instance staging`
    # must not reach production because the shell names production's address.
    without_flag = _resolve(BY_NAME["instance"], environment, project, user).value
    named = {name.split(".")[1] for name in user if name.startswith("instances.")}
    parts = {
        name: _airflow(environment if name == without_flag else {}, user, name)
        for name in sorted(named | {without_flag})
    }
    origins = {f"airflow.{key}": "default" for key in AIRFLOW_KEYS}
    for key, part in parts.get(found["instance"].value, {}).items():
        origins[f"airflow.{key}"] = part.origin
    own = {f.name: found[f.name].value for f in fields(Settings) if f.name in found}
    gate = {f.name: found[f"gate.{f.name}"].value for f in fields(GateSettings)}
    return Settings(
        **own,
        gate=GateSettings(**gate),
        config_file=user_file,
        instances={
            name: AirflowSettings(name, **{key: part.value for key, part in its.items()})
            for name, its in parts.items()
            if "url" in its
        },
        warnings=_warnings(user_file, user),
        unknown=config_environ.unknown(environ),
        origins=origins | {name: item.origin for name, item in found.items()},
    )


def user_path(environ: Mapping[str, str]) -> Path:
    """Where the user's own file is, or would be."""
    named = environ.get("AIOPS_CONFIG")
    if named:
        return Path(named)
    from platformdirs import user_config_path  # only where no file is named

    return user_config_path("aiops", appauthor=False) / "config.yaml"


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False


def _given(texts: Mapping[str, tuple[str, str | None]]) -> _Source:
    """The values of flags or variables, name -> (origin, text), but of those that are None."""
    return {
        name: _Found(_parse(BY_NAME[name], text, origin), origin)
        for name, (origin, text) in texts.items()
        if text is not None
    }


def _read(path: Path, user_file: Path, *, project: bool) -> _Source:
    """The values of one file, {} where there is none."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    from aiops_cli import config_yaml  # yaml takes 30 ms: only where a file exists

    found: _Source = {}
    for keys, raw, line in config_yaml.values(text, path):
        where = f"{path}:{line}"
        if keys in _SECTIONS or (keys[0] == "instances" and len(keys) == 2):
            if raw is None:
                continue  # its keys are commented out
            raise ConfigError(f"{where}: {'.'.join(keys)}: expected keys below it, found a value")
        name, setting = _setting(keys, where)
        if project and not setting.project:
            raise ConfigError(
                f"{where}: {'.'.join(keys)} may not be set by a project's file",
                f"put it into {user_file}: a cloned repository must not choose where logins "
                "and memories go",
            )
        if raw is not None:
            found[name] = _Found(_parse(setting, raw, where), where)
    return found


def _setting(keys: tuple[str, ...], where: str) -> tuple[str, Setting]:
    """The setting that a file's keys mean, and the name it is kept under."""
    written = kept = name = ".".join(keys)
    if keys[0] == "airflow" and len(keys) == 2:
        kept = f"instances.{DEFAULT_INSTANCE}.{keys[1]}"
    elif keys[0] == "instances" and len(keys) == 3:
        try:
            values.name(keys[1])
        except ValueError as error:
            raise ConfigError(f"{where}: {keys[1]!r} as an instance: {error}") from None
        if keys[1] == DEFAULT_INSTANCE:
            raise ConfigError(f"{where}: write the default instance under `airflow:`")
        name = f"airflow.{keys[2]}"
    setting = BY_NAME.get(name)
    if setting is None:
        near = config_environ.nearest(
            name, {each.name: each.name for each in SETTINGS if each.file}
        )
        raise ConfigError(f"{where}: {written} is not a setting{near}")
    if not setting.file:
        raise ConfigError(f"{where}: {written} is no file's business", f"set {setting.env}")
    return kept, setting


_SHAPES: Mapping[Any, tuple[type, str]] = {
    values.patterns: (tuple, "a list such as [orders_*]"),
    values.actions: (tuple, "a list such as [update_connection]"),
    values.who_may: (dict, "actions with who may do them, such as {resize_pool: nobody}"),
    values.services: (tuple, "a list of addresses"),
    values.headers: (dict, "names with values, such as {X-Team: data}"),
    values.bounds_for: (dict, "names with bounds, such as {error:TimeoutError: 0.9}"),
}


def _parse(setting: Setting, raw: Raw, where: str) -> Any:
    """The value of a setting's text, or of its list or map of texts."""
    shape, expected = _SHAPES.get(setting.parse, (str, "one value"))
    try:
        if not isinstance(raw, shape):
            raise ValueError(f"expected {expected}")
        return setting.parse(raw)
    except ValueError as error:
        shown = ", ".join(raw) if isinstance(raw, tuple) else str(raw)
        value = "" if setting.secret or "@" in shown else f" is {shown!r}"  # may be a password
        raise ConfigError(f"{where}: {setting.name}{value}: {error}") from None


def _resolve(setting: Setting, *sources: _Source) -> _Found:
    """The first source's value; of a setting that adds up, all sources' together."""
    found = [source[setting.name] for source in sources if setting.name in source]
    if not found:
        default = setting.default() if callable(setting.default) else setting.default
        return _Found(default, "default")
    best = found[0]
    if setting.combine is not None:
        for other in found[1:]:
            value = setting.combine(best.value, other.value)
            best = _Found(value, f"{best.origin} + {other.origin}")
    return best


def _airflow(environment: _Source, user: _Source, name: str) -> dict[str, _Found]:
    """Address and login of one instance, by key; one way to log in at most."""
    here = {k: environment[n] for k in AIRFLOW_KEYS if (n := f"airflow.{k}") in environment}
    there = {k: user[n] for k in AIRFLOW_KEYS if (n := f"instances.{name}.{k}") in user}
    if "url" in here and "url" in there and here["url"].value != there["url"].value:
        there = {}  # a login belongs to the address it was written beside
    both = there | here
    for source in (here, there):
        for way in LOGINS:
            if any(key in source for key in way):
                others = {key for other in LOGINS if other != way for key in other}
                return {key: part for key, part in both.items() if key not in others}
    return both


def _warnings(user_file: Path, user: _Source) -> tuple[str, ...]:
    hidden = {setting.name.rpartition(".")[2] for setting in SETTINGS if setting.secret}
    secret = any(
        name.rpartition(".")[2] in hidden - {"token_command"} or "@" in str(found.value)
        for name, found in user.items()
    )
    # Windows has no such bits; its home folders are private.
    if secret and os.name == "posix" and user_file.stat().st_mode & 0o077:
        return (f"{user_file} holds a secret and others may read it: chmod 600 {user_file}",)
    return ()

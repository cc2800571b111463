"""The JSON Schema of a settings file, for editors, from the table of settings.

`python -m scripts.config_schema` writes docs/config.schema.json; a test holds it to the table. In
an editor: `# yaml-language-server: $schema=…/docs/config.schema.json` as the file's first line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiops_cli import config_values as values
from aiops_cli.config_table import SETTINGS, Setting
from knowledge.records import ACTIONS

FILE = Path(__file__).parents[1] / "docs" / "config.schema.json"
Schema = dict[str, Any]

# What each setting is about, for whoever hovers over it.
DOES: Mapping[str, str] = {
    "airflow.url": "Airflow's address: what stands before /api/v2.",
    "airflow.username": "Log in as this user, at Airflow's own /auth/token.",
    "airflow.password": "The user's password; a token command keeps it out of the file.",
    "airflow.token": "A fixed token. Its end is warned of.",
    "airflow.token_command": "A command that prints a token, alone or as JSON. No shell runs it.",
    "airflow.client_id": "Log in with client credentials (Keycloak's auth manager).",
    "airflow.client_secret": "The client's secret.",
    "airflow.headers": "Sent with every request, for what stands before Airflow.",
    "airflow.cookie": "Sent with every request.",
    "airflow.ca_file": "CA certificates (PEM) to trust instead of the machine's own.",
    "airflow.cert_file": "A client certificate (PEM).",
    "airflow.key_file": "The client certificate's key, where it is not in cert_file.",
    "airflow.proxy": "Asked instead of HTTPS_PROXY; may hold a login. Never for this machine.",
    "airflow.verify_tls": "false believes every certificate: for a test, never for production.",
    "instance": "The Airflow that is meant where --instance names none.",
    "kb": "Where what is learned is kept.",
    "embedder": "What turns texts into vectors.",
    "llm": "The model that may suggest; none asks no model.",
    "llm_timeout": "How long one answer of a model is waited for.",
    "ollama_host": "Where Ollama listens.",
    "ollama_allow": "Hosts that are not this one, and cloud models, that may be sent logs.",
    "user": "Whose name stands beside a decision.",
    "paused": "Whatever does not say no stops acting alone.",
    "pause_dag": "A DAG whose paused toggle in Airflow stops acting alone.",
    "read_only": "Nothing is ever changed in Airflow, and nothing decided in the dashboard.",
    "mode": "What watch does with a failure it could repair.",
    "rerun_safe": "Tasks that may run twice, as globs on dag or dag.task.",
    "protected": "Tasks that are never acted on alone, as globs on dag or dag.task.",
    "actions": "Who may do an action: nobody, person, or alone (within a grant).",
    "two_people": "Actions that a second person has to approve as well.",
    "interval": "How long watch waits between two looks.",
    "spool": "The folder in which Airflow's plugin says what has failed.",
    "lookback": "How far back the first look goes.",
    "relapse_window": "The same failure within this time after a repair is a relapse.",
    "evidence_half_life": "After this time an outcome counts half as evidence.",
    "machine_logins": "Logins in Airflow whose re-runs are no person's, as globs.",
    "give_up": "An act whose end is not known after this time is given to a person.",
    "lease": "How long one watcher holds an incident.",
    "concurrency": "How much is asked of Airflow at once at most; less while it answers slowly.",
    "notify": "Whom watch tells what waits for a person: addresses as apprise has them.",
    "notify_grace": "An incident that is over within this time wakes nobody.",
    "gate.similarity": "The least similarity of a match; not set, the embedder's own.",
    "gate.margin": "The least lead over the best match with another action.",
    "gate.confidence": "The least confidence of a model. It may only lower a decision.",
    "gate.similarity_for": "A higher bound for some failures, by error class or DAG glob.",
    "gate.confidence_for": "A higher bound for some, named as in similarity_for.",
    "gate.trust_retries": "Whether retries in Airflow say that a task may run twice.",
    "gate.vouch_after": "A yes given with an approval counts for the next re-run after this time.",
    "gate.attempts_per_day": "Acts alone per task instance and day.",
    "gate.max_per_hour": "Acts alone per hour.",
    "gate.max_per_dag_hour": "Acts alone per DAG and hour.",
    "gate.max_per_storm": "Members of one storm that run again at once, after its canary is fixed.",
    "gate.recent": "What failed longer ago than this is not acted on alone.",
}

# An unquoted 0123 or off is a number or a truth to an editor, and read as its text by the program.
_TEXT: Schema = {"type": ["string", "number", "boolean", "null"]}
_ACTIONS = [name for name in ACTIONS if name != "none"]
_DURATION = r"^[0-9]{1,9}[smhdw]?$"
_SHAPES: Mapping[Callable[[Any], Any], Schema] = {
    str: _TEXT,
    values.text: _TEXT,
    values.name: {"type": ["string", "number", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    values.url: {"type": ["string", "null"], "pattern": "^ *https?://[^ ?#@]+ *$"},
    values.proxy: {"type": ["string", "null"], "pattern": "^https?://.+:[0-9]+/?$"},
    values.file: {"type": ["string", "null"], "pattern": "^(/|~|[A-Za-z]:)"},
    values.header: {"type": ["string", "null"]},
    values.headers: {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
        "additionalProperties": {"type": ["string", "number"]},
    },
    values.bounds_for: {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^(error|dag):.*\\S"},
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
    },
    values.kb: {"type": ["string", "null"], "pattern": "^(sqlite:///(/|~)|postgres(ql)?://)"},
    values.flag: {
        "type": ["boolean", "string", "integer", "null"],
        "enum": [True, False, "true", "false", "yes", "no", "on", "off", 0, 1, None],
    },
    values.actions: {"type": ["array", "null"], "items": {"enum": [*_ACTIONS]}},
    values.who_may: {
        "type": ["object", "null"],
        "propertyNames": {"enum": [*_ACTIONS]},
        "additionalProperties": {"enum": [*values.WHO]},
    },
    values.patterns: {"type": ["array", "null"], "items": {"type": "string", "pattern": "\\S"}},
    values.services: {
        "type": ["array", "null"],
        "items": {"type": "string", "pattern": "^ *[a-z][a-z0-9+.-]*://"},
    },
    values.duration: {"type": ["string", "integer", "null"], "pattern": _DURATION, "minimum": 1},
    values.share: {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    values.whole: {"type": ["integer", "null"], "minimum": 0},
    values.at_once: {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": values.MOST_AT_ONCE,
    },
}


def schema() -> Schema:
    """The schema of the user's file; a project's own may hold less."""
    sections: dict[str, Schema] = {"": {}, "airflow": {}, "gate": {}}
    for setting in SETTINGS:
        if setting.file:
            section, _, key = setting.name.rpartition(".")
            sections[section][key] = _of(setting)
    airflow = _section(sections["airflow"], "An Airflow, and how to reach it.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aiops settings",
        "$defs": {"airflow": airflow},
        **_section(
            {
                "airflow": {"$ref": "#/$defs/airflow"},
                "instances": {
                    "description": "More Airflows, by name.",
                    "type": ["object", "null"],
                    "propertyNames": {"pattern": "^(?!default$)[A-Za-z0-9_-]{1,64}$"},
                    "additionalProperties": {"$ref": "#/$defs/airflow"},
                },
                "gate": _section(sections["gate"], "The bounds of acting alone."),
                **sections[""],
            },
            "The user's file, or a project's aiops.yaml.",
        ),
    }


def _section(properties: Schema, description: str) -> Schema:
    return {
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


def _of(setting: Setting) -> Schema:
    if isinstance(setting.parse, values.Choice):
        # An editor takes an unquoted off for a truth.
        words: list[Any] = [
            *setting.parse.words,
            *([False] if "off" in setting.parse.words else []),
        ]
        shape: Schema = {"enum": [*words, None]}
    elif isinstance(setting.parse, values.Model):
        shape = {"type": ["string", "null"], "pattern": rf"^({setting.parse.bare}$|ollama:\S+$)"}
    else:
        shape = _SHAPES[setting.parse]
    does = DOES[setting.name]
    where = "" if setting.project else " Not in a project's file."
    made = {"description": f"{does}{where}", **shape}
    default = setting.default
    if isinstance(default, timedelta):
        default = f"{int(default.total_seconds())}s"
    if isinstance(default, (str, bool, int, float)):
        made["default"] = default
    return made


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")

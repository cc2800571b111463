"""The published JSON Schema says what the program itself takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiops_cli import config
from aiops_cli.config_table import SETTINGS
from aiops_cli.errors import ConfigError
from scripts import config_schema

SCHEMA = config_schema.schema()
ROOT = Path(__file__).parents[1]


def problems(value: Any, schema: Any, where: str = "") -> list[str]:
    """What a validator would say; it knows the words that the schema uses, and no others."""
    schema = dict(schema)
    if "$ref" in schema:
        schema |= SCHEMA["$defs"][schema.pop("$ref").rpartition("/")[2]]
    known = {"$schema", "$defs", "title", "description", "default", "type", "enum", "pattern"}
    known |= {"minimum", "maximum", "items", "properties", "propertyNames", "additionalProperties"}
    assert schema.keys() <= known, schema.keys() - known
    kinds = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
    kind = {bool: "boolean", int: "integer", float: "number"}.get(type(value)) or next(
        name for name, python in kinds.items() if isinstance(value, python)
    )
    types = schema.get("type", kind)
    allowed = {types} if isinstance(types, str) else set(types)
    if kind not in allowed and not (kind == "integer" and "number" in allowed):
        return [f"{where}: a {kind}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: not one of them")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: pattern")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        found += [f"{where}: range"] if not low <= value <= high else []
    if isinstance(value, list):
        found += [p for item in value for p in problems(item, schema["items"], f"{where}[]")]
    if isinstance(value, dict):
        for key, item in value.items():
            found += problems(key, schema.get("propertyNames", {}), f"{where} the name {key}")
            inner = schema.get("properties", {}).get(key, schema["additionalProperties"])
            if inner is False:
                found.append(f"{where}.{key}: unknown")
            else:
                found += problems(item, inner, f"{where}.{key}")
    return found


def test_the_published_file_is_up_to_date() -> None:
    told = "python -m scripts.config_schema writes it anew"
    assert config_schema.FILE.read_text(encoding="utf-8") == config_schema.text(), told


def test_every_setting_is_described() -> None:
    assert config_schema.DOES.keys() == {setting.name for setting in SETTINGS}


def takes(text: str, folder: Path) -> bool:
    file = folder / "config.yaml"
    file.write_text(text)
    try:
        config.load(cwd=folder, environ={"AIOPS_CONFIG": str(file), "AIOPS_KB": "sqlite:////x"})
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "airflow: {url: http://a, username: 010, password: 0123, verify_tls: no}",
        "airflow: {url: https://a:8443/team/, token: t, headers: {X-A: b}, ca_file: ~/ca.pem}",
        "airflow:\ngate:\ninstances:\nmode: null",
        "instances: {eu: {url: http://a, client_id: x, client_secret: y, proxy: 'http://p:1'}}",
        "gate: {similarity: 0.9, margin: 1, max_per_hour: 0, trust_retries: true}",
        "interval: 90\nconcurrency: 32\nlookback: 2d\nrerun_safe: [a_*]\nprotected: []",
        "kb: postgresql://u:p@h/d\nembedder: builtin\nllm: ollama:llama3.1",
        "kb: sqlite:////srv/kb.db\nmode: off\nread_only: on\nembedder: ollama:nomic-embed-text",
    ],
)
def test_what_the_program_takes_the_schema_takes(text: str, tmp_path: Path) -> None:
    assert takes(text, tmp_path)
    assert problems(yaml.safe_load(text), SCHEMA) == []


@pytest.mark.parametrize(
    "text",
    [
        "mod: ask",
        "mode: on",
        "airflow: http://a",
        "airflow: {ulr: http://a}",
        "airflow: {url: ftp://a}",
        "airflow: {url: 'http://me:pw@a'}",
        "airflow: {ca_file: ca.pem}",
        "airflow: {proxy: proxy}",
        "airflow: {headers: [a]}",
        "airflow: {headers: {'X A': b}}",
        "instances: {default: {url: http://a}}",
        "instances: {a b: {url: http://a}}",
        "instances: {a: {ulr: http://a}}",
        "gate: {confidence: 1.5}",
        "gate: {max_per_hour: -1}",
        "interval: soon",
        "interval: 0",
        "concurrency: 0",
        "concurrency: 33",
        "rerun_safe: orders_*",
        "protected: ['']",
        "kb: mysql://a",
        "llm: gpt",
        "read_only: maybe",
        "paused: true",
        "user: me",
    ],
)
def test_what_the_program_refuses_the_schema_refuses(text: str, tmp_path: Path) -> None:
    assert not takes(text, tmp_path)
    assert problems(yaml.safe_load(text), SCHEMA)


def test_the_documented_files_fit_the_schema() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    files = re.findall(r"```yaml (?:settings|project)\n(.*?)```", text, re.DOTALL)
    assert files
    for file in files:
        assert problems(yaml.safe_load(file), SCHEMA) == []

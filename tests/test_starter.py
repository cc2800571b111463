"""Starter knowledge: each entry is found by logs as Airflow writes them, and by no other's.

`starter_logs/<entry id>.txt`, or `<entry id>-2.txt` and so on, are such logs; a new one is tested
by being there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiops_cli.actions import CATALOGUE
from aiops_cli.config import parse_duration
from knowledge.base import KnowledgeBase, symptom
from knowledge.embedders import BuiltinEmbedder
from knowledge.ranking import lead
from knowledge.records import ACTIONS, Entry, short_hash
from knowledge.redact import clean, redact
from knowledge.runbooks import read_runbooks
from knowledge.stores.sqlite import SqliteStore
from tests.samples import NOW

FOLDER = Path(__file__).parents[1] / "knowledge" / "starter"
LOGS = sorted((Path(__file__).parent / "starter_logs").glob("*.txt"))
WRITTEN: dict[str, dict[str, Any]] = {
    written["id"]: written
    for file in sorted(FOLDER.glob("*.yaml"))
    for written in yaml.safe_load(file.read_text(encoding="utf-8"))
}
# The files' own ids do not survive in an entry, but its id is made from nothing else.
NAMES = {short_hash("runbook", name): name for name in WRITTEN}
SENTENCE = re.compile(r"[A-Za-z].{20,}[.?]", re.DOTALL)


def named(log: Path) -> str:
    """The id of the entry that a log must match."""
    return re.sub(r"-\d$", "", log.stem) if log.stem not in WRITTEN else log.stem


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    return {NAMES[entry.id]: entry for entry in read_runbooks(sorted(FOLDER.glob("*.yaml")))}


@pytest.fixture(scope="module")
def knowledge(
    entries: dict[str, Entry], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KnowledgeBase]:
    store = SqliteStore.open(str(tmp_path_factory.mktemp("starter") / "knowledge.db"))
    base = KnowledgeBase(store, BuiltinEmbedder())
    base.seed(list(entries.values()), by="test", at=NOW)
    yield base
    store.close()


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_a_log_matches_its_entry_and_none_with_another_action(
    log: Path, knowledge: KnowledgeBase
) -> None:
    signature = symptom(log.read_text(encoding="utf-8")).signature
    matches = knowledge.find(signature, limit=len(WRITTEN))
    best = matches[0]
    found = f"{NAMES[best.entry.id]} at {best.similarity:.3f} by\n{signature.text}"
    assert NAMES[best.entry.id] == named(log), found
    assert best.similarity >= BuiltinEmbedder.bound, found
    ahead = lead(matches)
    assert ahead is None or ahead > knowledge.margin, found
    others = [match for match in matches if match.entry.action != best.entry.action]
    assert not [match for match in others if match.found == "exact"], found


# Each is close to an entry whose action would be wrong or harmful for it.
UNKNOWN = (
    "_pickle.UnpicklingError: invalid load key, 'v'.",  # a model's file, not an XCom
    "pymysql.err.OperationalError: (1317, 'Query execution was interrupted')",  # a person did
    "airflow.exceptions.AirflowException: run failed with terminal state: "
    "{'life_cycle_state': 'TERMINATED', 'result_state': 'CANCELED', 'state_message': 'Cancelled.'}",
    "airflow.exceptions.AirflowException: Pod etl-x8k2v returned a failure. "
    "reason: DeadlineExceeded, message: Pod was active on the node longer than the deadline",
    "airflow.exceptions.AirflowException: Pod etl-x8k2v returned a failure.\n"
    "remote_pod: {'state': {'terminated': {'exit_code': 1, 'reason': 'Error'}}}",
    "airflow.exceptions.AirflowException: Bash command failed. "
    "The command returned a non-zero exit code 1.",
    "airflow.exceptions.AirflowException: SSH operator error: exit status = 3",
    "google.api_core.exceptions.Conflict: 409 Already Exists: Job acme:EU.load_2026_02_11",
    "kubernetes.client.exceptions.ApiException: (409)\nReason: Conflict\n"
    'HTTP response body: {"kind":"Status","message":"pods already exists","code":409}',
    "openai.RateLimitError: Error code: 429 - {'error': {'message': 'You exceeded your current "
    "quota, please check your plan and billing details.', 'type': 'insufficient_quota'}}",
    "botocore.errorfactory.ConditionalCheckFailedException: An error occurred "
    "(ConditionalCheckFailedException) when calling the PutItem operation: The conditional request "
    "failed",
    "acme.ops.FileRejected: the bank rejected pay_7.xml: duplicate message id",
    "ValueError: the ledger does not balance: 1204.55 != 1204.05",
    "requests.exceptions.HTTPError: 402 Client Error: Payment Required for url: https://a.example.com",
    "TimeoutError",
)


@pytest.mark.parametrize("text", UNKNOWN, ids=range(len(UNKNOWN)))
def test_what_no_entry_tells_is_not_taken_for_one_that_is_like_it(
    text: str, knowledge: KnowledgeBase
) -> None:
    best = knowledge.find(symptom(text).signature, limit=1)
    assert not best or best[0].similarity < BuiltinEmbedder.bound, best[0].entry.title


def test_each_entry_has_a_log_and_each_log_an_entry() -> None:
    assert {named(log) for log in LOGS} == set(WRITTEN)


def test_no_log_is_only_the_text_of_a_symptom(entries: dict[str, Entry]) -> None:
    for log in LOGS:
        text = log.read_text(encoding="utf-8").strip()
        assert text not in {symptom.text.strip() for symptom in entries[named(log)].symptoms}
        assert text.count("\n") >= 1, log.name


def test_there_are_at_least_eighty_and_their_ids_are_their_own(entries: dict[str, Entry]) -> None:
    listed = [
        line.removeprefix("- id: ")
        for file in FOLDER.glob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("- id: ")
    ]
    assert len(listed) == len(set(listed)) == len(entries) == len(WRITTEN) >= 80
    assert all(re.fullmatch(r"starter(-[a-z0-9]+){2,}", name) for name in listed)


@pytest.mark.parametrize("name", WRITTEN)
def test_an_entry_says_what_why_and_of_what_kind(name: str, entries: dict[str, Entry]) -> None:
    entry = entries[name]
    assert len(entry.symptoms) >= 2
    assert SENTENCE.fullmatch(entry.title + " is what failed.")
    assert SENTENCE.fullmatch(entry.cause)
    assert SENTENCE.fullmatch(entry.explanation)
    assert entry.tags
    assert entry.safe_to_retry is not True, "only a person can vouch for a task"
    assert not entry.dags


@pytest.mark.parametrize("name", WRITTEN)
def test_an_action_is_known_and_takes_its_params(name: str, entries: dict[str, Entry]) -> None:
    entry = entries[name]
    assert entry.action in ACTIONS
    action = CATALOGUE[entry.action]
    assert action.tier != "irreversible"
    assert set(entry.params) <= set(action.params)
    if entry.action == "retry_later":
        assert parse_duration(entry.params["delay"])
    else:
        # Which connection, XCom or upstream is meant, only the place knows.
        assert not entry.params


@pytest.mark.parametrize("name", WRITTEN)
def test_symptoms_hold_no_secret_and_each_says_something_else(
    name: str, entries: dict[str, Entry]
) -> None:
    for written in WRITTEN[name]["symptoms"]:
        assert redact(clean(written)) == written
    texts = [symptom.signature.text for symptom in entries[name].symptoms]
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_no_two_entries_of_different_actions_share_a_symptom(entries: dict[str, Entry]) -> None:
    actions: dict[str, str | None] = {}
    for entry in entries.values():
        for known in entry.symptoms:
            fingerprint = known.signature.fingerprint
            assert actions.setdefault(fingerprint, entry.action) == entry.action, known.text

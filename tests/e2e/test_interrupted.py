"""kill -9 in the middle of an act on a real Airflow: the next passes finish it or report it, and
nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_box import AirflowBox
from tests.e2e.proxy import Call, Cut, Proxy
from tests.e2e.test_actions import CONNECTION, EXAMPLES, FAILING, dags
from tests.e2e.test_aiops import OnCall

__all__ = ["dags"]  # a fixture


@pytest.fixture
def proxy(dags: AirflowBox) -> Iterator[Proxy]:
    with Proxy(dags.url) as made:
        yield made


@pytest.fixture
def ana(dags: AirflowBox, proxy: Proxy, tmp_path: Path) -> OnCall:
    """Whoever is dead is known to be dead after a short lease."""
    made = OnCall(dags, tmp_path, environ={"AIOPS_AIRFLOW_URL": proxy.url})
    settings = tmp_path / "config.yaml"
    settings.write_text(json.dumps({"lease": "5s"}))
    settings.chmod(0o600)
    made.environ["AIOPS_CONFIG"] = str(settings)
    made.run("kb", "seed", str(EXAMPLES / "runbooks" / "actions.yaml"))
    return made


def changes_connection(call: Call) -> bool:
    return call.method == "PATCH" and "/connections/" in call.path


def clears(call: Call) -> bool:
    return call.clears


CASES = {
    "the connection is changed, which is not yet written down": (
        ("update_connection", changes_connection, True),
        {"resolved"},
    ),
    "the connection is changed, the retry never arrived": (
        ("update_connection", clears, False),
        {"resolved"},
    ),
    "the upstream was to run again, which never arrived": (
        ("retry_upstream", clears, False),
        {"needs_human"},
    ),
    "the upstream runs again, which is not yet written down": (
        ("retry_upstream", clears, True),
        # A clear of several leaves no note, so that nobody can tell afterwards whose it was.
        {"resolved", "superseded"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_kill_in_the_middle(ana: OnCall, proxy: Proxy, case: str) -> None:
    (action, at, arrives), ends = CASES[case]
    box, dag_id = ana.box, f"fix_by_{action}"
    box.request("PATCH", "/api/v2/connections/fix_by_warehouse", CONNECTION)
    _, incident = ana.failure(dag_id, FAILING[action])
    proxy.calls.clear()
    words = (sys.executable, "-m", "aiops_cli", "approve", incident["incident"], "--yes")
    with subprocess.Popen(
        words,
        env=ana.environment(),
        cwd=ana.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        proxy.cut = Cut(at, process.kill, arrives)
        assert process.wait(120) == -9
    assert proxy.cut is None
    assert ana.json("incidents", "show", incident["incident"])["status"] == "acting"

    ended: Any = ana.settled(incident["incident"])
    assert ended["status"] in ends, ended["outcome"]
    assert len([call for call in proxy.calls if changes_connection(call)]) == (
        action == "update_connection"
    )
    once = "resolved" in ends
    assert len(proxy.acts) == once
    path = f"/api/v2/dags/{dag_id}/dagRuns/{incident['run_id']}/taskInstances/{FAILING[action]}"
    tries, state = (2, "success") if once else (1, "failed")

    def is_over() -> bool:
        task = box.request("GET", path)
        return (task["try_number"], task["state"]) == (tries, state)

    box.until("what was begun has ended", is_over, 120)
    ana.run("watch", "--once")
    assert len(proxy.acts) == once

"""A storm on a real Airflow: 64 instances of one mapped task fail for one reason."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.storm import CALLS, calls_each, kind_of
from scripts.airflow_box import AirflowBox
from tests.e2e.conftest import VERSIONS
from tests.e2e.proxy import Proxy
from tests.e2e.test_aiops import DAGS, OnCall

# Of minutes, and what is special in it is ours: once is enough.
pytestmark = pytest.mark.parametrize("airflow", VERSIONS[:1], indirect=True)

SIZE = 64
AT_ONCE = 16  # of a storm, once its canary is fixed: AirflowBox runs six at a time
DAG = "e2e_storm"


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    shutil.copy(DAGS / "e2e_storm.py", airflow.dags / "e2e_storm.py")

    def parsed() -> bool:
        listed = airflow.request("GET", f"/api/v2/dags?limit=100&dag_id_pattern={DAG}")["dags"]
        return [dag["dag_id"] for dag in listed] == [DAG]

    airflow.until("the storm's DAG is parsed", parsed, 120)


@pytest.fixture
def proxy(airflow: AirflowBox) -> Iterator[Proxy]:
    with Proxy(airflow.url) as made:
        yield made


@pytest.fixture
def ana(airflow: AirflowBox, proxy: Proxy, tmp_path: Path) -> OnCall:
    made = OnCall(airflow, tmp_path, environ={"AIOPS_AIRFLOW_URL": proxy.url})
    made.allow(max_per_storm=AT_ONCE, max_per_hour=1000, max_per_dag_hour=1000)
    return made


def failed_run(box: AirflowBox, size: int) -> str:
    run_id = box.trigger(DAG, {"size": size})
    assert box.wait(DAG, run_id, seconds=400) == "failed"
    return run_id


def members(ana: OnCall, run_id: str) -> list[Any]:
    listed = ana.json("incidents", "list", "--limit", "1000")["incidents"]
    return [one for one in listed if one["run_id"] == run_id]


@pytest.mark.timeout(1200)
def test_a_canary_goes_first_and_the_rest_follow(
    ana: OnCall, proxy: Proxy, figure: Callable[[str], None]
) -> None:
    failed_run(ana.box, 1)
    (known,) = ana.json("diagnose", DAG)["incidents"]
    ana.run(
        *("approve", known["incident"], "--action", "retry"),
        *("--cause", "it ends sessions at night", "--yes"),
    )
    assert ana.settled(known["incident"])["outcome"] == "fixed"
    ana.run(
        *("auto", "grant", "--actions", "retry", "--dags", DAG),
        *("--max-per-hour", "1000", "--max-per-dag-hour", "1000"),
    )

    run_id = failed_run(ana.box, SIZE)
    proxy.calls.clear()
    said = ana.run("watch", "--once")  # mode ask: captured and diagnosed
    calls = Counter(kind_of(c.path) for c in proxy.calls if f"/dags/{DAG}/" in c.path)
    each = calls_each(calls, SIZE)
    assert not proxy.clears
    figure(f"storm of {SIZE}: {each:.2f} calls per failure, {said.count(DAG)} lines of watch")
    assert each <= CALLS, calls
    assert calls["logs"] >= SIZE  # a busy Airflow is asked again
    captured = members(ana, run_id)
    assert len(captured) == SIZE
    assert len({one["group"] for one in captured}) == 1
    diagnoses = {(d["by"], d["action"], d["cause"]) for d in (i["diagnosis"] for i in captured)}
    assert diagnoses == {("exact", "retry", "it ends sessions at night")}
    waiting = ana.run("incidents", "--status", "pending")
    listed = [line for line in waiting.splitlines() if DAG in line]
    assert len(listed) == 1, listed
    assert f"{SIZE} of {SIZE}" in listed[0]

    ana.run("watch", "--once", "--auto")
    assert len(proxy.acts) == 1
    states = Counter(one["status"] for one in members(ana, run_id))
    assert states == {"acting": 1, "pending": SIZE - 1}

    passes = [1]

    def over() -> bool:
        before = len(proxy.acts)
        ana.run("watch", "--once", "--auto")
        now = members(ana, run_id)
        running = sum(one["status"] == "acting" for one in now)
        assert running <= AT_ONCE
        if len(proxy.acts) > before:
            assert any(one["outcome"] == "fixed" for one in now), "the canary first"
            passes.append(len(proxy.acts) - before)
        return all(one["outcome"] for one in now)

    ana.box.until("the storm is over", over, 600)
    batches = ", ".join(map(str, passes))
    figure(f"storm of {SIZE}: batches of {batches}; {len(proxy.clears)} clears")
    assert Counter(one["outcome"] for one in members(ana, run_id)) == {"fixed": SIZE}
    assert ana.box.wait(DAG, run_id) == "success"
    ran = Counter(ana.counted(DAG, run_id, f"convert-{number}") for number in range(SIZE))
    assert ran == {2: SIZE}
    assert len(proxy.acts) == SIZE

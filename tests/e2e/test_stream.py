"""A stream of failures on a real Airflow, from an empty knowledge base: what is acted on alone, and
how that ends; at last on DAGs that were kept back."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.replay import verdict
from scripts.airflow_box import AirflowBox
from tests.e2e.conftest import VERSIONS
from tests.e2e.test_aiops import DAGS, OnCall

NAME = "e2e_stream_"
ROUNDS = 2  # before the one that brings what was kept back
SAID = ("right", "wasted", "harmful", "told", "mistold", "asked")
SETTINGS = {
    # A night lasts a minute here, so that the next must not count as the first one come back, nor
    # may an approval have to stand a day. What else ran in this Airflow is nobody's concern.
    "relapse_window": "1s",
    "lookback": "1m",
    "gate": {"vouch_after": "1s", "max_per_hour": 1000, "max_per_dag_hour": 1000},
}


@dataclass(frozen=True)
class Spot:
    """A DAG with what is true of it: its kind of failure, and what a second try does."""

    dag_id: str
    kind: str
    end: str

    @property
    def kept_back(self) -> bool:
        return self.dag_id.startswith(f"{NAME}kept_")


@pytest.fixture(scope="module")
def site(airflow: AirflowBox) -> Iterator[list[Spot]]:
    """Every DAG of the site, parsed; gone again afterwards."""
    file = airflow.dags / "e2e_stream.py"
    shutil.copy(DAGS / file.name, file)
    airflow.until("the site's DAGs are parsed", airflow.parsed, 120)
    listed = airflow.request("GET", f"/api/v2/dags?limit=100&dag_id_pattern={NAME}")["dags"]
    spots = []
    for dag in listed:
        (said,) = [tag["name"] for tag in dag["tags"] if tag["name"].startswith("e2e_stream:")]
        _, kind, end = said.split(":")
        spots.append(Spot(dag["dag_id"], kind, end))
    yield spots
    file.unlink()


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    made = OnCall(airflow, tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(SETTINGS))
    file.chmod(0o600)
    made.environ["AIOPS_CONFIG"] = str(file)
    made.run("watch", "--once")
    # `retry_later`, which runbooks propose for some of them, waits longer than a test may.
    made.run("auto", "grant", "--actions", "retry", "--dags", f"{NAME}*",
             "--max-per-hour", "1000", "--max-per-dag-hour", "1000")  # fmt: skip
    return made


def incidents(ana: OnCall, runs: dict[str, str]) -> dict[str, Any]:
    """The first try's of each of these runs, by DAG."""
    listed = ana.json("incidents", "list", "--limit", "1000")["incidents"]
    own = [
        one for one in listed if one["kind"] == "task" and runs.get(one["dag_id"]) == one["run_id"]
    ]
    own.sort(key=lambda one: one["try_number"], reverse=True)
    return {one["dag_id"]: one for one in own}


def watch(ana: OnCall, runs: dict[str, str]) -> dict[str, Any]:
    """Passes until nothing is under way and one more changes nothing: the rest is a person's."""
    seen: list[dict[str, Any]] = [{}]

    def settled() -> bool:
        ana.run("watch", "--once", "--auto")
        before = {dag_id: one["status"] for dag_id, one in seen[-1].items()}
        seen.append(incidents(ana, runs))
        now = {dag_id: one["status"] for dag_id, one in seen[-1].items()}
        return now == before and set(now) == set(runs) and "acting" not in now.values()

    ana.box.until("nothing is under way", settled, 90)
    return seen[-1]


def answer(ana: OnCall, asked: list[tuple[Spot, str]]) -> None:
    """What somebody says who knows the tasks: which may run twice, and which failures are bugs."""
    words = {
        "heals": ("approve", "--action", "retry", "--rerun-safe", "--yes"),
        "stays": ("reject", "--action", "none", "--reason", "a bug"),
        "harms": ("reject", "--action", "none", "--reason", "it is booked already"),
    }
    for kind, end in sorted({(spot.kind, spot.end) for spot, _ in asked}):
        ids = [one for spot, one in asked if (spot.kind, spot.end) == (kind, end)]
        command, *options = words[end]
        ana.run(command, *ids, *options, "--cause", f"{kind}: {end}")


def night(ana: OnCall, spots: list[Spot]) -> dict[str, str]:
    """Every DAG fails once, the tool does what it may, a person the rest. What came of each, by
    DAG: one of SAID."""
    runs = {spot.dag_id: ana.box.trigger(spot.dag_id) for spot in spots}
    for dag_id, run_id in runs.items():
        assert ana.box.wait(dag_id, run_id) == "failed"
    left = watch(ana, runs)
    said: dict[str, str] = {}
    asked = []
    for spot in spots:
        incident = left[spot.dag_id]
        if (incident["decided"] or {}).get("kind") == "auto":
            said[spot.dag_id] = {"heals": "right", "stays": "wasted", "harms": "harmful"}[spot.end]
        elif verdict(incident).told:
            said[spot.dag_id] = "mistold" if spot.end == "heals" else "told"
        else:
            said[spot.dag_id] = "asked"
        if said[spot.dag_id] in ("asked", "mistold"):
            asked.append((spot, incident["incident"]))
    answer(ana, asked)
    watch(ana, runs)
    for spot in spots:
        ran = ana.counted(spot.dag_id, runs[spot.dag_id], "work")
        if said[spot.dag_id] == "right":
            assert (left[spot.dag_id]["outcome"], ran) == ("fixed", 2), spot
        elif spot.end != "heals" and said[spot.dag_id] not in ("wasted", "harmful"):
            assert ran <= 1, spot  # nobody ran it again, neither the tool nor a person
    return said


@pytest.mark.parametrize("airflow", VERSIONS[:1], indirect=True)
def test_a_stream_of_failures(ana: OnCall, site: list[Spot], figure: Callable[[str], None]) -> None:
    kept = {spot.dag_id for spot in site if spot.kept_back}
    known = [spot for spot in site if not spot.kept_back]
    assert (len(known), len(kept)) == (12, 8)

    def tell(name: str, found: list[str]) -> Counter[str]:
        counts = Counter(found)
        figure(f"{name}: {len(found)} failures, " + ", ".join(f"{counts[o]} {o}" for o in SAID))
        return counts

    everything: Counter[str] = Counter()
    for number in range(1, ROUNDS + 1):
        last = tell(f"stream, round {number}", list(night(ana, known).values()))
        everything += last
    said = night(ana, site)
    last = tell("stream, last round, DAGs seen before",
                [one for dag_id, one in said.items() if dag_id not in kept])  # fmt: skip
    new = tell("stream, last round, DAGs kept back", [said[dag_id] for dag_id in sorted(kept)])
    everything += last + new

    assert everything["harmful"] == 0
    assert everything["wasted"] == 0
    # Or nothing was measured: silence is never wrong.
    assert last["right"] >= 3
    assert new["right"] >= 1

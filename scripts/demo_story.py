"""The story that `make demo` tells: what somebody on call types, what they see, what must be true.

Each step shows real commands, then checks what they did from the program's JSON and from
Airflow's own answers, never from prose. The first promise that does not hold ends the story.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.airflow_box import AirflowBox

Incident = Mapping[str, Any]
Try = tuple[str, str, str, int, int]  # DAG, run, task, map index, try number

FIRST, SECOND = "night-1", "night-2"  # the ids of the runs
FEWEST_FAILURES = 12
WIDTH = 78
COMMAND_SECONDS = 120


class Broken(Exception):
    """Something did not happen as told; says which promise broke, and what was found."""


@dataclass(frozen=True)
class Stage:
    """A terminal with `aiops` on it, and the Airflow it talks to. `environ` is all that a command
    gets to see of the environment, `folder` is where it runs."""

    box: AirflowBox
    folder: Path
    environ: Mapping[str, str]

    def title(self, text: str) -> None:
        print(f"\n\n{bold(text)}", flush=True)

    def tell(self, text: str) -> None:
        print(f"\n{textwrap.fill(text, WIDTH)}", flush=True)

    def show(self, *words: str) -> None:
        """Type a command as a person would, with its real output. Raises Broken."""
        typed = shlex.join(["aiops", *words])
        print(f"\n{bold(f'$ {typed}')}", flush=True)
        # One stream, so that what is said and what is shown stay in order in a pipe too.
        self._run(words, stdout=None, stderr=subprocess.STDOUT)

    def ask(self, *words: str) -> Any:
        """The JSON that a command answers with; shows nothing. Raises Broken."""
        return json.loads(self._run((*words, "--json"), stdout=subprocess.PIPE, stderr=None))

    def _run(self, words: Sequence[str], stdout: int | None, stderr: int | None) -> str:
        typed = shlex.join(["aiops", *words])
        try:
            done = subprocess.run(
                [sys.executable, "-m", "aiops_cli", *words],
                env=dict(self.environ),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise Broken(f"`{typed}` ends\nfound: not within {COMMAND_SECONDS} s") from None
        if done.returncode:
            raise Broken(f"`{typed}` ends well\nfound: exit code {done.returncode}")
        return done.stdout or ""

    def check(self, promise: str, kept: bool, found: object) -> None:
        """Say what was looked up and held. Raises Broken where it does not."""
        if not kept:
            raise Broken(f"{promise}\nfound: {found}")
        lines = textwrap.wrap(
            promise, WIDTH, initial_indent="  checked: ", subsequent_indent=" " * 11
        )
        print(dim("\n".join(lines)), flush=True)

    def incidents(self) -> list[Incident]:
        """Those of tasks: a run that ran out of time is one too, with nothing to run again."""
        found: list[Incident] = self.ask("incidents")["incidents"]
        return [incident for incident in found if incident["kind"] == "task"]

    def incident(self, dag_id: str, run_id: str = FIRST) -> Incident:
        """The one incident of this run. Raises Broken."""
        found = [i for i in self.incidents() if (i["dag_id"], i["run_id"]) == (dag_id, run_id)]
        if len(found) != 1:
            raise Broken(f"{dag_id} {run_id} is one incident\nfound: {found}")
        return found[0]

    def id(self, incident: Incident) -> str:
        """The id as a person types it: the shortest that is no other incident's start."""
        whole: str = incident["incident"]
        others = [other["incident"] for other in self.incidents() if other["incident"] != whole]
        return next(
            whole[:length]
            for length in range(4, len(whole) + 1)
            if not any(other.startswith(whole[:length]) for other in others)
        )

    def failed_tries(self) -> set[Try]:
        """What Airflow itself calls failed."""
        path = "/api/v2/dags/~/dagRuns/~/taskInstances?state=failed&limit=100"
        return {try_of(found) for found in self.box.request("GET", path)["task_instances"]}

    def tries(self, dag_id: str, run_id: str) -> dict[str, tuple[str, int]]:
        """State and try number of each task of a run, from Airflow."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100"
        answer = self.box.request("GET", path)["task_instances"]
        return {found["task_id"]: (found["state"], found["try_number"]) for found in answer}

    def wait(self, dag_id: str, run_id: str, state: str) -> None:
        """Wait until the run has ended, and see that it ended so. Raises Broken or BoxError."""
        with waiting(f"{dag_id} is running"):
            found = self.box.wait(dag_id, run_id)
        self.check(f"in Airflow, run {run_id} of {dag_id} is {state}", found == state, found)


def seed(stage: Stage) -> None:
    stage.title("1  What the team knows already")
    stage.tell("Old runbooks, YAML and Markdown, become the memory: one SQLite file.")
    stage.show("kb", "seed", "examples/runbooks")
    again = stage.ask("kb", "seed", "examples/runbooks")
    unchanged = again["same"] > 0 and not (again["added"] or again["changed"] or again["retired"])
    stage.check(f"{again['same']} entries; seeding again changes nothing", unchanged, again)


def failures(stage: Stage) -> None:
    stage.title("2  What has failed tonight")
    stage.tell(
        "What Airflow calls failed, as it is. (prices_weekly is not here: Airflow's own "
        "retry has mended it, so nobody needs to know.)"
    )
    stage.show("failures")
    ours = {try_of(found) for found in stage.ask("failures")["failures"]}
    theirs = stage.failed_tries()
    listed = ours == theirs and len(ours) >= FEWEST_FAILURES
    stage.check(f"all {len(theirs)} that Airflow has, and no other", listed, ours ^ theirs)
    weekly = stage.box.run_state("prices_weekly", FIRST)
    stage.check("prices_weekly is green", weekly == "success", weekly)


def diagnose(stage: Stage) -> None:
    stage.title("3  What they are")
    stage.tell(
        "Each log is reduced to what it says and compared with the memory. Diagnosing acts "
        "on nothing. PROPOSE ? means: never seen, so nothing is proposed."
    )
    stage.show("diagnose")
    incidents = stage.incidents()
    theirs = stage.failed_tries()
    untouched = {try_of(i) for i in incidents if i["status"] == "pending"} == theirs != set()
    new = [i for i in incidents if i["decision"] == "novel"]
    known = [i for i in incidents if i["diagnosis"]["by"] in ("exact", "near")]
    stage.check(
        f"of the tasks {len(known)} are known, new: {len(new)}; all wait, none was run again",
        untouched
        and bool(new)
        and len(known) >= FEWEST_FAILURES
        and len(new) + len(known) == len(incidents)
        and all(i["diagnosis"]["action"] is None for i in new),
        [(i["dag_id"], i["status"], i["decision"]) for i in incidents],
    )


def approve(stage: Stage) -> None:
    stage.title("4  You decide once")
    stage.tell(
        "One of them whole. A runbook proposes a retry. But nobody has said that this task "
        "may run twice, and nothing proves yet that a retry helps, so it asks."
    )
    id_ = stage.id(stage.incident("prices_daily"))
    stage.show("diagnose", id_)
    asked = stage.incident("prices_daily")
    reasons = {"evidence", "rerun_safe", "action_allowed"}
    stage.check(
        "it proposes a retry, and asks",
        (asked["decision"], asked["diagnosis"]["action"]) == ("ask", "retry")
        and stood_against(asked) == reasons,
        (asked["decision"], asked["diagnosis"]["action"], stood_against(asked)),
    )
    stage.tell(
        "You know that reading prices twice does no harm, and say yes. The plan names "
        "exactly what will run again."
    )
    stage.show("approve", id_, "--yes")
    planned = [
        item["task_id"] for item in stage.incident("prices_daily")["decided"]["plan"]["clears"]
    ]
    stage.wait("prices_daily", FIRST, "success")
    stage.tell("Whether it helped is looked up in Airflow, never assumed:")
    stage.show("watch", "--once")
    settled(stage, "prices_daily", FIRST, "approve")
    ran = stage.tries("prices_daily", FIRST)
    stage.check(
        "the plan named these three, and each is green; fetch_prices at its second try",
        sorted(planned) == sorted(ran)
        and {state for state, _ in ran.values()} == {"success"}
        and ran["fetch_prices"][1] == 2,
        (planned, ran),
    )


def again(stage: Stage) -> None:
    stage.title("5  The same failure, the next night")
    stage.tell(
        "The next run fails in the same way. (A night lasts seconds here, and so does the demo's "
        "relapse_window. With the usual 24 h this would count as a fix that did not last, and "
        "your yes would vouch for the task from tomorrow on.)"
    )
    stage.box.trigger("prices_daily", run_id=SECOND)
    stage.wait("prices_daily", SECOND, "failed")
    stage.show("diagnose", "prices_daily", "--run", SECOND)
    incident = stage.incident("prices_daily", SECOND)
    stage.check(
        "an exact match, with one retry that fixed it; only nobody's leave is missing",
        incident["diagnosis"]["by"] == "exact"
        and incident["evidence"]["fixed"] == 1
        and stood_against(incident) == {"action_allowed"}
        and try_of(incident) in stage.failed_tries(),
        (incident["diagnosis"], incident["evidence"], incident["gate"]),
    )


def alone(stage: Stage) -> None:
    stage.title("6  It heals alone what its record allows")
    stage.tell(
        "You allow retries, and for the sake of the demo in every DAG there is. So what "
        "is left alone now is left by its own judgement."
    )
    before = stage.failed_tries()
    stage.show("auto", "grant", "--actions", "retry", "--dags", "*")
    stage.show("watch", "--once", "--auto")
    both = {("prices_daily", SECOND), ("prices_hourly", FIRST)}
    acted = done_alone(stage)
    stage.check(
        "of prices_daily and prices_hourly, which share the failure and are tagged as safe to run "
        "twice, it acted on one, the canary, and on no other",
        len(acted) == 1 and acted < both,
        acted,
    )
    ((dag_id, run_id),) = acted
    stage.wait(dag_id, run_id, "success")
    stage.tell("The canary is green, so the next look lets the other follow.")
    stage.show("watch", "--once", "--auto")
    acted = done_alone(stage)
    stage.check("it acted on the other as well, and on no more", acted == both, acted)
    for dag_id, run_id in sorted(both):
        stage.wait(dag_id, run_id, "success")
    stage.show("watch", "--once")
    settled(stage, "prices_daily", SECOND, "auto")
    settled(stage, "prices_hourly", FIRST, "auto")
    healed = before - stage.failed_tries()
    stage.check(
        "in Airflow these two left the list of failures, and nothing else did",
        {(dag_id, run_id) for dag_id, run_id, *_ in healed} == acted,
        healed,
    )


def done_alone(stage: Stage) -> set[tuple[str, str]]:
    """What was acted on alone: DAG and run."""
    return {(i["dag_id"], i["run_id"]) for i in stage.incidents() if decided(i) == "auto"}


def data_bug(stage: Stage) -> None:
    stage.title("7  What it leaves to you: a bug")
    stage.tell(
        "One region had no visitors, so a division failed. What ships with aiops knows such "
        "failures: running it again would change nothing, so a person must fix it."
    )
    stage.show("incidents", "show", stage.id(stage.incident("regional_sales")))
    left_alone(stage, "regional_sales", decision="ask", action="none")


def payment(stage: Stage) -> None:
    stage.title("8  What must not run twice: a payment")
    stage.tell(
        "The bank booked the payment and was then too slow to say so. A second try would "
        "be green, and would pay twice. The team's runbook knows that."
    )
    stage.show("incidents", "show", stage.id(stage.incident("invoices_payout")))
    left_alone(stage, "invoices_payout", decision="ask", action="none")
    ledger = stage.box.home / "ledger.jsonl"
    booked = ledger.read_text().splitlines() if ledger.exists() else []
    stage.check("the bank's ledger holds one payment", len(booked) == 1, booked)


def outcomes(stage: Stage) -> None:
    stage.title("9  What came of it")
    stage.tell("Everything that was seen, and how it stands.")
    stage.show("incidents")
    incidents = stage.incidents()
    fixed = {(i["dag_id"], i["run_id"]) for i in incidents if i["outcome"] == "fixed"}
    waiting_ = {try_of(i) for i in incidents if i["status"] == "pending"}
    stage.check(
        "three are resolved, proven by Airflow; all that still fails waits for a person, at the "
        "try it failed with",
        fixed == {("prices_daily", FIRST), ("prices_daily", SECOND), ("prices_hourly", FIRST)}
        and len(waiting_) + len(fixed) == len(incidents)
        and waiting_ == stage.failed_tries(),
        [(i["dag_id"], i["run_id"], i["status"], i["outcome"]) for i in incidents],
    )


STORY: tuple[Callable[[Stage], None], ...] = (
    seed,
    failures,
    diagnose,
    approve,
    again,
    alone,
    data_bug,
    payment,
    outcomes,
)


def tell(stage: Stage) -> None:
    """The whole story. Raises Broken or BoxError."""
    for step in STORY:
        try:
            step(stage)
        except (LookupError, TypeError, ValueError) as error:
            raise Broken(f"the JSON has the shape that is published\nfound: {error!r}") from error


def settled(stage: Stage, dag_id: str, run_id: str, by: str) -> None:
    after = stage.incident(dag_id, run_id)
    how = (after["status"], after["outcome"], decided(after))
    stage.check(f"{dag_id} {run_id} is settled as fixed", how == ("resolved", "fixed", by), how)


def left_alone(stage: Stage, dag_id: str, *, decision: str, action: str | None) -> None:
    left = stage.incident(dag_id)
    found = (left["decision"], left["diagnosis"]["action"], left["status"], decided(left))
    untouched = try_of(left) in stage.failed_tries() and left["try_number"] == 1
    stage.check(
        f"{dag_id} waits for a person, and is still at its first try in Airflow",
        found == (decision, action, "pending", None)
        and untouched
        and bool(left["gate"]["reasons"]),
        found,
    )


def try_of(found: Mapping[str, Any]) -> Try:
    return (
        found["dag_id"],
        found["dag_run_id"] if "dag_run_id" in found else found["run_id"],
        found["task_id"],
        found["map_index"],
        found["try_number"],
    )


def decided(incident: Incident) -> str | None:
    decision: Mapping[str, str] = incident["decided"] or {}
    return decision.get("kind")


def stood_against(incident: Incident) -> set[str]:
    return {check["name"] for check in incident["gate"]["checks"] if not check["passed"]}


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say what is waited for; on a terminal with the seconds so far, that it is seen to live."""
    if not sys.stdout.isatty():
        print(f"  … {what}", flush=True)
        yield
        return
    over = threading.Event()

    def tick() -> None:
        start = time.monotonic()
        while True:
            print(f"\r  … {what}: {time.monotonic() - start:.0f} s", end="", flush=True)
            if over.wait(1):
                return

    clock = threading.Thread(target=tick, daemon=True)
    clock.start()
    try:
        yield
    finally:
        over.set()
        clock.join()
        print(flush=True)


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if coloured() else text


def dim(text: str) -> str:
    return f"\033[2m{text}\033[0m" if coloured() else text


def coloured() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain

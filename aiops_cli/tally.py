"""What a running watch has seen and done so far, and the same as Prometheus text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aiops_cli import __version__
from knowledge.records import Status

Document = Mapping[str, Any]
Units = dict[str, dict[str, Document]]  # incidents by id, by the group or task they belong to
Result = Literal["whole", "airflow", "knowledge_base"]
KEPT = 5  # of what came in and of what was done, so many are kept to be shown

# What a line of an incident or of a storm is made of.
_TOLD = (
    *("incident", "instance", "group", "group_key", "fingerprint", "headline", "failed_at"),
    *("dag_id", "run_id", "task_id", "map_index"),
    *("status", "decision", "outcome", "detail", "snoozed_until"),
)


@dataclass
class Tally:
    """Of one Airflow, counted since the watch began. A pass is `whole`, or ended at an Airflow or
    a knowledge base that could not be used."""

    instance: str
    mode: str
    passes: Counter[Result] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)  # incidents told of, by status
    counts: Mapping[Status, int] = field(default_factory=dict)  # incidents by status, as last seen
    whole_at: datetime | None = None
    began_at: datetime | None = None  # the pass that was made last, or is being made
    took: float = 0.0  # seconds of the last pass
    next_at: datetime | None = None
    reading: tuple[int, int] | None = None  # how many of how many new failures have been read
    trouble: str = ""  # what keeps it from its work; "" where nothing does
    unheard: int = 0  # messages that did not reach every service

    def begun(self, mode: str, now: datetime) -> None:
        """A pass begins."""
        self.mode, self.began_at, self.next_at, self.reading = mode, now, None, None

    def ended(self, result: Result, now: datetime, trouble: str = "") -> None:
        """A pass is over."""
        self.passes[result] += 1
        self.trouble, self.reading = trouble, None
        if self.began_at is not None:
            self.took = (now - self.began_at).total_seconds()
        if result == "whole":
            self.whole_at = now


@dataclass
class Lately:
    """What came in and what was done last, the newest last; failures of one group together, and
    without one the instances of a mapped task."""

    came: Units = field(default_factory=dict)
    done: Units = field(default_factory=dict)

    def add(self, doc: Document) -> None:
        """An incident that is new or changed, as `told` has it."""
        task = doc["task_id"] and f"{doc['dag_id']}/{doc['run_id']}/{doc['task_id']}"
        unit = doc["group"] or task or doc["incident"]
        kept = self.came if doc["status"] in ("pending", "needs_human") else self.done
        for units in (self.came, self.done):
            members = units.get(unit, {})
            if members.pop(doc["incident"], None) and not members:
                del units[unit]
        kept[unit] = kept.pop(unit, {})  # the newest last
        kept[unit][doc["incident"]] = doc
        if len(kept) > KEPT:
            del kept[next(iter(kept))]


def told(document: Document) -> Document:
    """Of a published incident what its line is made of: a storm's are kept by the thousand."""
    diagnosis, gate, decided = (document[key] for key in ("diagnosis", "gate", "decided"))
    context = {key: document["context"].get(key) for key in ("file", "log", "mapped")}
    return {
        **{key: document[key] for key in _TOLD},
        "context": context,
        "diagnosis": diagnosis and {"action": diagnosis["action"]},
        "gate": gate and {"reasons": gate["reasons"]},
        "decided": decided and {**decided, "plan": None},
    }


def prometheus(tallies: Sequence[Tally]) -> str:
    """In the text exposition format, version 0.0.4 (prometheus.io, "Exposition formats")."""
    of = [({"instance_name": tally.instance}, tally) for tally in tallies]
    families = (
        _family(
            "aiops_info", "gauge", "What is running.",
            [({**one, "version": __version__, "mode": tally.mode}, 1) for one, tally in of],
        ),
        _family(
            "aiops_incidents", "gauge", "Incidents by status.",
            [({**one, "status": status}, count)
             for one, tally in of for status, count in sorted(tally.counts.items())],
        ),
        _family(
            "aiops_incident_changes_total", "counter", "Incidents new or changed, by new status.",
            [({**one, "status": status}, count)
             for one, tally in of for status, count in sorted(tally.changes.items())],
        ),
        _family(
            "aiops_passes_total", "counter", "Passes, by what they ended with.",
            [({**one, "result": result}, count)
             for one, tally in of for result, count in sorted(tally.passes.items())],
        ),
        _family(
            "aiops_pass_seconds", "gauge", "How long the last pass took.",
            [(one, tally.took) for one, tally in of],
        ),
        _family(
            "aiops_last_whole_pass_timestamp_seconds", "gauge",
            "When the last whole pass ended; 0 where there was none.",
            [(one, tally.whole_at.timestamp() if tally.whole_at else 0) for one, tally in of],
        ),
        _family(
            "aiops_notify_failures_total", "counter", "Messages that some service did not take.",
            [(one, tally.unheard) for one, tally in of],
        ),
    )  # fmt: skip
    return "".join(line + "\n" for family in families for line in family)


def _family(
    name: str, kind: str, does: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    yield f"# HELP {name} {does}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{told}}} {value:.3f}".removesuffix(".000")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

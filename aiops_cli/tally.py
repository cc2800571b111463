"""What a running watch has seen and done so far, and the same as Prometheus text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aiops_cli import __version__
from knowledge.records import Status

Document = Mapping[str, Any]
Result = Literal["whole", "airflow", "knowledge_base"]
KEPT = 5  # of what came in and of what was done, so many are kept to be shown


@dataclass
class Tally:
    """Counted since the watch began. A pass is `whole`, or ended at an Airflow or a knowledge
    base that could not be used."""

    instance: str
    mode: str
    passes: Counter[Result] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)  # incidents told of, by status
    came: list[Document] = field(default_factory=list)  # the newest last, as all lists here
    done: list[Document] = field(default_factory=list)
    counts: Mapping[Status, int] = field(default_factory=dict)  # incidents by status, as last seen
    whole_at: datetime | None = None
    began_at: datetime | None = None  # the pass that was made last, or is being made
    took: float = 0.0  # seconds of the last pass
    next_at: datetime | None = None
    trouble: str = ""  # what keeps it from its work; "" where nothing does
    unheard: int = 0  # messages that did not reach every service

    def add(self, document: Document) -> None:
        """An incident that is new or changed."""
        self.changes[document["status"]] += 1
        waits = document["status"] in ("pending", "needs_human")
        kept, other = (self.came, self.done) if waits else (self.done, self.came)
        for shown in (kept, other):
            shown[:] = [doc for doc in shown if doc["incident"] != document["incident"]]
        kept.append(document)
        del kept[:-KEPT]

    def ended(self, result: Result, now: datetime) -> None:
        """A pass is over."""
        self.passes[result] += 1
        if self.began_at is not None:
            self.took = (now - self.began_at).total_seconds()
        if result == "whole":
            self.whole_at, self.trouble = now, ""


def prometheus(tally: Tally) -> str:
    """In the text exposition format, version 0.0.4 (prometheus.io, "Exposition formats")."""
    one = {"instance_name": tally.instance}
    whole = tally.whole_at.timestamp() if tally.whole_at else 0
    families = (
        _family(
            "aiops_info", "gauge", "What is running.",
            [({**one, "version": __version__, "mode": tally.mode}, 1)],
        ),
        _family(
            "aiops_incidents", "gauge", "Incidents by status.",
            [({**one, "status": name}, count) for name, count in sorted(tally.counts.items())],
        ),
        _family(
            "aiops_incident_changes_total", "counter", "Incidents new or changed, by new status.",
            [({**one, "status": name}, count) for name, count in sorted(tally.changes.items())],
        ),
        _family(
            "aiops_passes_total", "counter", "Passes, by what they ended with.",
            [({**one, "result": name}, count) for name, count in sorted(tally.passes.items())],
        ),
        _family(
            "aiops_pass_seconds", "gauge", "How long the last pass took.", [(one, tally.took)]
        ),
        _family(
            "aiops_last_whole_pass_timestamp_seconds", "gauge",
            "When the last whole pass ended; 0 where there was none.", [(one, whole)],
        ),
        _family(
            "aiops_notify_failures_total", "counter", "Messages that some service did not take.",
            [(one, tally.unheard)],
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

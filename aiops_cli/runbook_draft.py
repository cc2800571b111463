"""What people did about failures that no runbook answers to → a runbook to be edited. Pure.

Nothing in it is invented: symptoms are what was seen, causes and actions what people said and
did, counts what came of it. Without a cause that was said or an act that helped there is no entry.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from aiops_cli.report import acts, came_of, causes, done_elsewhere, fixes
from aiops_cli.report_value import what_came_of
from knowledge.records import Brief, Incident, Vouch
from knowledge.redact import clean, redact
from knowledge.signature import sign

TAG = "draft"
TITLE_LENGTH = 100
SYMPTOM_LENGTH = 8000  # characters; a chain of tracebacks has some thousands


@dataclass(frozen=True, slots=True)
class Seen:
    """One failure: all its incidents, oldest first, the newest of them whole, and what people
    vouched of its tasks, oldest first."""

    briefs: Sequence[Brief]
    newest: Incident
    vouches: Sequence[Vouch] = ()


def draft(several: Iterable[Seen], at: datetime) -> tuple[str, int, list[str]]:
    """The runbook as YAML, how many entries it has, and the headlines of those left out because
    nobody has named a cause or done what helped. The text is "" where there is no entry."""
    entries: list[tuple[dict[str, Any], list[str]]] = []
    left_out: list[str] = []
    titles: set[str] = set()
    for seen in several:
        entry = _entry(seen)
        if entry is None:
            left_out.append(_title(seen.newest))
            continue
        if entry["title"] in titles:  # an entry is known by its title
            entry["title"] += f" ({seen.newest.signature.fingerprint[:8]})"
        titles.add(entry["title"])
        entries.append((entry, _comments(seen)))
    if not entries:
        return "", 0, left_out
    head = [
        f"DRAFT, written by aiops report on {at:%Y-%m-%d} from what people did. Read it, correct",
        f"it, and take the tag `{TAG}` away; then: aiops kb seed FILE",
    ]
    if left_out:
        head.append("Left out, for nobody has named a cause or done what helped:")
        head += [f"  {headline}" for headline in left_out]
    parts = ["\n".join(f"# {line}" for line in head)]
    for entry, comments in entries:
        told = "\n".join(f"# {line}" for line in comments)
        parts.append(f"{told}\n{_yaml(entry)}")
    return clean("\n\n".join(parts)), len(entries), left_out  # a terminal may be where it goes


def _entry(seen: Seen) -> dict[str, Any] | None:
    """The entry's fields in the order of a runbook; None where neither a cause nor an action is
    known."""
    said, chosen = causes(seen.briefs), _chosen(seen.briefs)
    if not said and chosen is None:
        return None
    entry: dict[str, Any] = {
        "title": _title(seen.newest),
        "symptoms": [symptom(seen.newest)],
    }
    if said:
        entry["cause"] = said[0]
    if chosen is not None:
        entry["action"], params = chosen
        if params and _may_be_written(params):
            entry["params"] = dict(params)
    if any(not vouch.safe for vouch in _last_words(seen.vouches)):
        entry["safe_to_retry"] = False
    entry["explanation"] = _record(seen.briefs)
    entry["tags"] = [TAG]
    return entry


def _may_be_written(params: Mapping[str, Any]) -> bool:
    """Whether a runbook takes them: not what looks like a secret."""
    written = json.dumps(params, ensure_ascii=False)
    return redact(clean(written)) == written


def _title(incident: Incident) -> str:
    text = _one_line(incident.signature.headline) or incident.task_id
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


def symptom(incident: Incident) -> str:
    """The shortest text that was seen and is this failure, exactly, when it is read again: its
    headline, its masked chain or its log; the headline where none is."""
    texts = (incident.signature.headline, incident.signature.text, incident.excerpt.text)
    for text in texts:
        kept = redact(clean(text)).strip()
        if (
            0 < len(kept) <= SYMPTOM_LENGTH
            and sign(kept).fingerprint == incident.signature.fingerprint
        ):
            return kept
    return _one_line(incident.signature.headline) or incident.signature.text


def _chosen(briefs: Sequence[Brief]) -> tuple[str, Mapping[str, Any]] | None:
    """The action and params with which people helped most often, the last of equals, or else
    `none` where somebody answered so. An act that was called wrong or undone speaks for nothing,
    and so does one that never helped. Of what was changed in Airflow itself nobody can tell to
    what."""
    helped: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    answered = False
    for brief in briefs:
        done = [
            (str(one.action), one.params)
            for one in acts(brief)
            if one.kind == "approve" and came_of(brief, one) == "fixed"
        ]
        elsewhere = done_elsewhere(brief)
        if elsewhere and (elsewhere.action, elsewhere.outcome) == ("retry", "fixed"):
            done.append(("retry", {}))
        for action, params in done:
            helped.setdefault(f"{action} {sorted(params.items())}", []).append((action, params))
        answered |= any((o.kind, o.action) == ("approve", "none") for o in brief.decisions)
    if helped:
        most = max(map(len, helped.values()))
        return [done for done in helped.values() if len(done) == most][-1][-1]
    return ("none", {}) if answered else None


def tasks_decided_on(briefs: Sequence[Brief]) -> list[tuple[str, str, str]]:
    """(instance, DAG, task) of those about which a person has decided something, the newest
    first: with these decisions words on running them again may have come."""
    decided = (
        (one.instance, one.dag_id, one.task_id)
        for one in reversed(briefs)
        if one.harms or any(d.kind in ("approve", "reject") for d in one.decisions)
    )
    return list(dict.fromkeys(decided))


def _last_words(vouches: Iterable[Vouch]) -> list[Vouch]:
    """Of each task and failure the newest word."""
    last: dict[object, Vouch] = {}
    for one in vouches:
        last[one.instance, one.dag_id, one.task_id, one.fingerprint] = one
    return list(last.values())


def _record(briefs: Sequence[Brief]) -> str:
    told = [what_came_of(**asdict(fix)) for fix in fixes(briefs)]
    people = Counter(
        one.by for brief in briefs for one in brief.decisions if one.kind in ("approve", "reject")
    )
    told += [f"decided by {', '.join(people)}"] if people else []
    hands = Counter(done.by for one in briefs if (done := done_elsewhere(one)) and done.by)
    told += [f"done in Airflow itself by {', '.join(hands)}"] if hands else []
    return _one_line("; ".join([f"Seen {len(briefs)}×", *told]) + ".")


def _comments(seen: Seen) -> list[str]:
    """What may help to edit it, and is no part of the entry: where it was seen, what else was
    said, and people's words on running the tasks again, which hold for tasks and not for errors."""
    tasks = sorted({f"{brief.dag_id}.{brief.task_id}" for brief in seen.briefs})
    lines = [f"seen in {', '.join(tasks[:5])}" + (" and others" if len(tasks) > 5 else "")]
    lines += [f"also said: {cause}" for cause in causes(seen.briefs)[1:]]
    lines += [
        f"refused: {one.reason}"
        for brief in seen.briefs
        for one in brief.decisions
        if one.kind == "reject" and one.reason
    ][-3:]
    lines += [f"called wrong: {harm.reason}" for brief in seen.briefs for harm in brief.harms][-3:]
    chosen = _chosen(seen.briefs)
    if chosen is not None and not _may_be_written(chosen[1]):
        lines.append("its params are left out: they look like a secret")
    for vouch in _last_words(seen.vouches):
        word = "may run again" if vouch.safe else "must not run again"
        lines.append(f"{vouch.by} said of {vouch.dag_id}.{vouch.task_id}: {word}")
    return [_one_line(line) for line in lines]


def _one_line(text: str) -> str:
    """A comment ends at the end of its line, whatever a log has put into it."""
    return " ".join(redact(clean(text)).split())


def _yaml(entry: Mapping[str, Any]) -> str:
    import yaml  # 20 ms, and only a draft needs it

    class Dumper(yaml.SafeDumper):
        """Text of several lines as such, which is easier to edit."""

    def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump([dict(entry)], Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return dumped.rstrip()

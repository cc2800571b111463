"""Many published documents → tables, a line each; what belongs together is one line."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiops_cli import folding, storms
from aiops_cli.published import WAITING, action_word, status_word
from aiops_cli.render import STATUS_STYLE, WIDE, task_name
from aiops_cli.screen import Elided, Fitted, Trimmed, local, one_line, plain, span, table
from aiops_cli.storms import Storm

Document = Mapping[str, Any]
# A list of which one part after the other is shown has one layout for all, whatever is in them.
Part = Literal["whole", "first", "next"]
# What the columns that are not cut need in such a list.
_ID, _TIME, _ACTION, _STATUS = 6, 17, 11, 11


def incident_table(
    docs: Sequence[Document], short: Mapping[str, str], part: Part = "whole"
) -> RenderableType:
    """The queue or the history, newest first: a storm is one line, and so are the instances of a
    mapped task. `short` has the ids of incidents and groups. In a narrow window what happened
    stands below the task."""
    offset = f"FAILED {local(docs[0]['failed_at'], '%z')}" if docs else "FAILED"
    told = [_row(line, short) for line in told_together(docs)]

    def lay_out(width: int) -> RenderableType:
        wide = width >= WIDE
        rows = table(
            *("ID", offset, "TASK", *(["WHAT"] if wide else []), "ACTION", "STATUS"),
            narrow=("TASK", "WHAT"),
            widths=None if part == "whole" else (_ID, _TIME, _ACTION, _STATUS),
            header=part != "next",
        )
        ids = rows.columns[0]  # whole in the narrowest window: it is what is typed next
        ids.min_width = max([ids.min_width or 0, *(row[0].cell_len for row in told)])
        for id_, time, task, what, action, status in told:
            rows.add_row(id_, time, task, *([one_line(what)] if wide else []), action, status)
        if wide:
            return Trimmed(rows)
        return Trimmed(rows, [one_line(" " * _ID + what, "dim") for _, _, _, what, _, _ in told])

    return Fitted(lay_out)


def _row(
    line: Storm | list[Document], short: Mapping[str, str]
) -> tuple[Text, str, RenderableType, str, Text, Text]:
    """Id, time, name, what happened, action and status of one line."""
    if isinstance(line, Storm):
        return (
            Text(short[line.group], "bold cyan"),
            _between(line),
            one_line(line.size, "bold"),
            line.title,
            plain(_counted(line.actions)),
            _status(line.statuses),
        )
    doc = line[0]
    word = "relapsed" if doc["outcome"] == "relapsed" else status_word(doc)
    if doc["snoozed_until"] and doc["status"] in WAITING:
        word = "snoozed"
    more = f" +{len(line) - 1}" if len(line) > 1 else ""
    return (
        Text(short[doc["incident"]] + more, "cyan"),
        local(doc["failed_at"], "%m-%d %H:%M"),
        Elided(name_of(line)),
        doc["headline"] or "no error in the log",
        plain(action_word(doc)),
        Text(word, STATUS_STYLE.get(word, STATUS_STYLE.get(doc["status"], ""))),
    )


def told_together(docs: Sequence[Document]) -> list[Storm | list[Document]]:
    """What each line of a table tells, in order: storms, instances of one mapped task, singles."""
    parted = storms.folded(docs)
    singles = [one for one in parted if not isinstance(one, Storm)]
    mapped = {group[0]["incident"]: group for group in folding.folded(singles, _answered_alike)}
    lines: list[Storm | list[Document]] = []
    for one in parted:
        if isinstance(one, Storm):
            lines.append(one)
        elif one["incident"] in mapped:  # else it is told with the first of its task
            lines.append(mapped[one["incident"]])
    return lines


def _answered_alike(doc: Document) -> object:
    action = action_word(doc)
    return doc["fingerprint"], status_word(doc), doc["outcome"], doc["snoozed_until"], action


def _between(storm: Storm) -> str:
    first, last = local(storm.first_failed, "%m-%d %H:%M"), local(storm.last_failed, "%m-%d %H:%M")
    if first == last:
        return first
    return f"{first}-{last[6:] if first[:5] == last[:5] else last}"


def _counted(counts: Counter[str]) -> str:
    """`retry`, or `retry 9` where not all have it; the most common one."""
    word, count = counts.most_common(1)[0]
    return word if len(counts) == 1 else f"{word} {count}"


def _status(statuses: Counter[str]) -> Text:
    """What waits goes before what is done with."""
    word = next((name for name in reversed(WAITING) if name in statuses), None)
    word = word or statuses.most_common(1)[0][0]
    some = "" if len(statuses) == 1 else f" {statuses[word]}"
    return Text(word + some, STATUS_STYLE.get(word, ""))


def storm_card(storm: Storm, short: Mapping[str, str], most: int | None = None) -> RenderableType:
    """A group: what its members share, what is proposed, and a line for each of them, or for the
    first `most`."""
    group = short[storm.group]
    head = Text.assemble((group, "bold cyan"), "  ", (f"{len(storm.members)} failures", "bold red"))
    head.append(plain(f": {storm.title}", "bold"))
    first, last = local(storm.first_failed), local(storm.last_failed)
    when = first if first == last else f"{first} to {last}"
    told = [f"{count} {name}" for name, count in storm.statuses.most_common()]
    parts: list[RenderableType] = [
        head,
        Trimmed(plain(f"{storm.size} · {when} · {', '.join(told)}")),
        plain(f"{'PROPOSE' if storm.waiting else 'DONE'} {storms.told(storm.actions)}", "bold"),
        Text(),
        *(_member(doc, short[doc["incident"]], storm.headline) for doc in storm.members[:most]),
    ]
    left = len(storm.members) - (most or len(storm.members))
    if left > 0:
        parts.append(Text(f"… and {left} more: aiops incidents show {group}", "dim"))
    named = sorted({d["dag_id"] for d in storm.waiting if d["context"].get("newer_version")})
    if named:
        newer = f"NEWER   code of {', '.join(named)} since then: approve {group} --action retry"
        parts.append(plain(f"{newer} runs them on it"))
    if storm.waiting:
        keys = f"approve {group} | reject {group} --reason … | snooze {group} 1h | hold {group}"
        parts += [Text(), Text(f"{keys} | log {group}", "dim")]
    return Group(*parts)


def _member(doc: Document, short: str, headline: str) -> Text:
    """One member; its own headline where that is not the storm's."""
    line = Text.assemble((short, "cyan"), f"  {local(doc['failed_at'], '%m-%d %H:%M')}  ")
    line.append(plain(task_name(doc)))
    line.append(f"  {status_word(doc)}", STATUS_STYLE.get(doc["status"], ""))
    if (doc["headline"] or "") not in ("", headline):
        line.append(plain(f"  {doc['headline']}", "dim"))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def name_of(group: Sequence[Document]) -> str:
    """One task, or the instances of a mapped one with their indexes."""
    if len(group) == 1:
        return task_name(group[0])
    context = group[0].get("context", group[0])
    return folding.name(group, context.get("mapped"))


def failure_table(docs: Sequence[Document], part: Part = "whole") -> RenderableType:
    """Failed tries as Airflow has them; in a narrow window without the operators."""
    offset = f"ENDED {local(docs[0]['end_date'], '%z')}" if docs else "ENDED"

    def lay_out(width: int) -> RenderableType:
        wide = width >= WIDE
        rows = table(
            *(offset, "TASK", "TRY", *(["OPERATOR"] if wide else []), "RUN"),
            narrow=("TASK", "OPERATOR", "RUN"),
            widths=None if part == "whole" else (_TIME - 6, 5),
            header=part != "next",
        )
        for group in folding.folded(docs):
            doc = group[0]
            rows.add_row(
                local(doc["end_date"], "%m-%d %H:%M"),
                Elided(name_of(group)),
                f"{doc['try_number']}/{doc['max_tries'] + 1}",
                *([one_line(doc["operator"] or "")] if wide else []),
                Elided(doc["run_id"]),
            )
        return Trimmed(rows)

    return Fitted(lay_out)


def stuck_table(docs: Sequence[Document]) -> RenderableType:
    """What does not move, the longest first; instances of a mapped task on one line."""
    rows = table("FOR", "STATE", "TASK", "USUAL", "WHY", narrow=("TASK", "WHY"))
    for group in folding.folded(docs, lambda doc: (doc["state"], tuple(doc["reasons"]))):
        doc = group[0]
        usual = doc["usual_seconds"]
        name = f"{doc['dag_id']} (run)" if doc["kind"] == "run" else name_of(group)
        rows.add_row(
            span(doc["seconds"]),
            Text(doc["state"], "yellow"),
            Elided(name),
            "?" if usual is None else span(usual),
            plain("; ".join(doc["reasons"]) or "Airflow does not say"),
        )
    return Trimmed(rows)


_SHOWN_ENTRIES = 8  # of one finding; its command leads to the others


def finding_list(docs: Sequence[Document]) -> RenderableType:
    """What `kb lint` found: what is wrong, with which entries, why it matters, what to do."""
    parts: list[RenderableType] = []
    for doc in docs:
        head = Text(doc["kind"].replace("_", " "), "bold yellow").append("  ")
        parts += [Text(), head.append(plain(doc["what"], "bold"))]
        for entry in doc["entries"][:_SHOWN_ENTRIES]:
            line = Text.assemble("  ", (entry["entry"], "cyan"), f"  {entry['action'] or '?'}  ")
            line.append(plain(f"{entry['title']}  "))
            line.append(plain(entry["source"], "dim"))
            line.no_wrap, line.overflow = True, "ellipsis"
            parts.append(line)
        if (more := len(doc["entries"]) - _SHOWN_ENTRIES) > 0:
            parts.append(Text(f"  and {more} more", "dim"))
        told = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        told.add_column(no_wrap=True)
        told.add_column(overflow="fold")
        told.add_row("  why", plain(doc["why"]))
        told.add_row("  do", plain(doc["todo"]))
        for command in doc["commands"]:
            told.add_row("", plain(command, "green"))
        parts.append(told)
    return Trimmed(Group(*parts[1:]))


def audit_table(docs: Sequence[Document]) -> RenderableType:
    """The audit log, a row a line: when, who, and what was said. Entries come by the hundred, and
    those that came together are one line."""
    rows = table("SEQ", f"AT {local(docs[0]['at'], '%z')}", "BY", "WHAT", narrow=("WHAT",))

    def together(doc: Document) -> object:
        return doc["at"][:16] if doc["what"] == "entries" else doc["seq"]

    for _, group in itertools.groupby(docs, together):
        first, *others = group
        told = f"{len(others) + 1} entries" if others else _audited(first)
        last = f"-{others[-1]['seq']}" if others else ""
        rows.add_row(
            f"{first['seq']}{last}",
            local(first["at"], "%m-%d %H:%M"),
            one_line(first["by"] or ""),
            one_line(told),
        )
    return Trimmed(rows)


def _audited(doc: Document) -> str:
    row = doc["row"]
    match doc["what"]:
        case "decisions":
            kind = "alone:" if row["kind"] == "auto" else row["kind"]  # not who ran the watch
            told = f"{kind} {row['action'] or ''} of {row['incident_id']}"
            return f"{told}: {row['reason'] or row['cause']}".removesuffix(": ")
        case "outcomes":
            return f"{row['outcome']}: decision {row['decision']} of {row['incident_id']}"
        case "voided":
            what = "taken back" if row["by"] else "given back, nothing was done"
            return f"decision {row['decision']} {what}"
        case "vouches":
            task = f"{row['dag_id']}.{row['task_id']}"
            if row["fingerprint"] is None:
                return f"{task} is {'' if row['safe'] else 'not '}safe to run again"
            # What an answer to one failure says of no other.
            return f"{'yes' if row['safe'] else 'no'} to running {task} again after one failure"
        case "harms":
            return f"decision {row['decision']} of {row['incident_id']} did harm: {row['reason']}"
        case "entries":
            return f"entry {row['id']} of {row['source']}"
        case "retirements":
            return f"entry version {row['entry']} retired: {row['reason']}"
        case "grants":
            return f"grant {row['id']}: {row['actions']} in {row['dags']}"
        case "revocations":
            return f"grant {row['grant_id']} revoked"
        case "pauses":
            return f"{'paused' if row['paused'] else 'resumed'}: {row['reason']}".removesuffix(": ")
        case "holds":
            return f"hold on {row['target']}: {row['reason']}".removesuffix(": ")
        case "hold_ends":
            return f"hold {row['hold_id']} ended"
        case "remarks":
            return f"note on {row['incident_id']}: {row['text']}"
        case "snoozes":
            return f"{row['incident_id']} left until {row['until'][:16]}"
        case "imports":
            return f"what the knowledge base {row['base']} exported was taken in"
        case "instances":
            return f"instance {row['name']} is {row['url']}"
        case other:
            return str(other)

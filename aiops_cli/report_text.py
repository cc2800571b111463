"""A report's document → text for a terminal, or Markdown to paste into a ticket. Never prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from aiops_cli.report_value import SHOWN, what_came_of
from aiops_cli.screen import Elided, Trimmed, fields, local, one_line, plain, span, table

Document = Mapping[str, Any]
Short = Mapping[str, str]

BAR = 24  # cells of the longest bar
INDENT = " " * 7
NOTHING = "no error in the log"
ALONE, ELSEWHERE = "the tool alone", "in Airflow itself"
UNFIXED, WAITING = "not fixed", "still waiting"


def as_text(doc: Document, short: Short) -> RenderableType:
    """For a weekly review: how much, how it ended, what keeps coming back, and what to write."""
    if not doc["incidents"]:
        return plain(nothing(doc))
    parts: list[RenderableType] = [
        plain(title(doc), "bold"),
        plain(extent(doc)),
        Text("\nHOW THEY ENDED", "bold"),
        _endings(doc),
        Text(),
        fields(list(facts(doc))),
    ]
    if doc["wrong"]:
        parts.append(Text(f"\nCALLED WRONG: {wrong_count(doc)}", "bold red"))
        parts += [one_line(f"  {wrong_line(one, short)}") for one in doc["wrong"]]
    for head, several, note in sections(doc):
        parts.append(Text(f"\n{head}", "bold").append(plain(note, "dim")))
        whole = several is doc["failures"]
        parts += [_failure(one, short, whole=whole) for one in several] or [Text("  none", "dim")]
    if doc["novel"]:
        parts.append(Text("\n  a draft of it: aiops report --draft-runbook draft.yaml", "dim"))
    if doc["dags"]:
        parts += [Text(), _dag_table(worst(doc, "dags"))]
        parts += [plain(f"  {said}", "dim") for said in doc["missing"]]
    if doc["tasks"]:
        parts += [Text(), _task_table(worst(doc, "tasks"))]
    return Trimmed(Group(*parts))


def title(doc: Document) -> str:
    return f"Airflow failures{_at(doc)}, {local(doc['since'])} – {local(doc['until'])}"


def nothing(doc: Document) -> str:
    """The one sentence about an empty time."""
    return (
        f"Nothing failed between {local(doc['since'])} and {local(doc['until'])}"
        f"{_at(doc)}, as far as this knowledge base has seen."
    )


def _at(doc: Document) -> str:
    return f" in {doc['instance']}" if doc["instance"] else ""


def extent(doc: Document) -> str:
    return (
        f"{_many(doc['incidents'], 'failure')} of {_many(doc['signatures'], 'kind')}, "
        f"{doc['recurring']} of them recurring · {hours(doc['lost'])} of task time lost "
        f"({hours(doc['lost_in_tries'])} in failed tries, "
        f"{hours(doc['lost_until_fixed'])} until fixed)"
    )


def endings(doc: Document) -> list[tuple[str, int]]:
    """How the incidents ended and how many so, in a fixed order; people by name."""
    closed = doc["closed"]
    return [
        (ALONE, closed["alone"]),
        *((_login(name), count) for name, count in closed["people"].items()),
        (ELSEWHERE, closed["elsewhere"]),
        (UNFIXED, closed["unfixed"]),
        (WAITING, closed["waiting"]),
    ]


def _login(name: str) -> str:
    """Somebody's name beside the other endings, which may be anybody's login too."""
    return f"{name} (a login)" if name in (ALONE, ELSEWHERE, UNFIXED, WAITING) else name


def facts(doc: Document) -> Iterator[tuple[str, str]]:
    """What is told in a sentence: (of what, the sentence)."""
    plain_retry = doc["plain_retry"]
    known = plain_retry["known"]
    if known:
        yield (
            "a plain retry",
            f"of the {known} whose right answer is known it would have fixed "
            f"{_share(plain_retry['right'], known)}, wasted a run on {plain_retry['wasted']} "
            f"and done harm in {plain_retry['harmful']}",
        )
    for name, key in (("acts alone", "alone"), ("acts by people", "people")):
        if doc[key]["done"]:
            yield name, _came_of(doc[key])
    times = doc["times"]
    for name, key in (("time to retry", "retry"), ("time to fix", "fix")):
        told = [
            f"{who} median {span(one['median'])}, 90% within {span(one['p90'])} ({one['count']})"
            for who, one in (
                ("alone", times[f"{key}_alone"]),
                ("people", times[f"{key}_people"]),
            )
            if one["count"]
        ]
        if told:
            yield name, "; ".join(told)
    shadow = doc["shadow"]
    if shadow["wrote"]:
        judged = shadow["same"] + shadow["otherwise"]
        told = [
            f"would have acted on {shadow['wrote']}",
            f"a person then did the same in {_share(shadow['same'], judged)} of {judged}"
            if judged
            else "no person has decided on one yet",
        ]
        if shadow["elsewhere"]:
            told.append(f"of {shadow['elsewhere']} it is not known what was done")
        if shadow["waiting"]:
            told.append(f"{_many(shadow['waiting'], 'waits', 'wait')}")
        yield "shadow", "; ".join(told)


def sections(doc: Document) -> Iterator[tuple[str, Sequence[Document], str]]:
    """(heading, failures, what stands beside the heading)."""
    yield "RECURRING FAILURES", doc["failures"], _more(doc["recurring"], doc["failures"])
    yield "WORTH A RUNBOOK", doc["novel"], "  no runbook answers to them"


def wrong_count(doc: Document) -> int:
    return int(doc["alone"]["wrong"] + doc["people"]["wrong"])


def wrong_line(one: Document, short: Short) -> str:
    who = "done alone" if one["alone"] else "approved"
    return (
        f"{short[one['incident']]}  {one['dag_id']}.{one['task_id']}  {one['action']}, {who}: "
        f"{one['reason']} ({one['by']})"
    )


def fixed_by(one: Document) -> str:
    """What fixed a recurring failure, in the words of its record."""
    told = [what_came_of(**fix) for fix in one["fixes"]]
    if one["waiting"]:
        told.append(_many(one["waiting"], "waits", "wait"))
    return " · ".join(told) or "nobody has done anything about it"


def where(one: Document) -> str:
    """One task by its name, or that one and how many others."""
    others = one["tasks"] - 1
    more = f" and {others} more" if others > 0 else ""
    return f"{one['task']}{more}" + (f" in {one['dags']} DAGs" if one["dags"] > 1 else "")


def worst(doc: Document, key: Literal["dags", "tasks"]) -> list[tuple[str, Document]]:
    """The first few rows with their names, which begin with the Airflow's where several are told
    of."""
    several = len({one["instance"] for one in doc["dags"]}) > 1
    return [
        (
            f"{one['instance'] + ': ' if several else ''}{one['dag_id']}"
            + (f".{one['task_id']}" if key == "tasks" else ""),
            one,
        )
        for one in doc[key][:SHOWN]
    ]


def hours(seconds: int) -> str:
    """A cost in hours."""
    return f"{seconds / 3600:.1f} h"


def percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.1f}%"


def _share(some: int, of: int) -> str:
    return f"{some} ({round(100 * some / of)}%)" if of else str(some)


def _many(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _more(total: int, shown: Sequence[object]) -> str:
    return f"  the worst {len(shown)} of {total}" if total > len(shown) else ""


def _came_of(acts: Document) -> str:
    names = ("fixed", "failed", "relapsed", "wrong", "undone", "open")
    told = [
        f"{'called wrong' if name == 'wrong' else name} {acts[name]}"
        for name in names
        if acts[name] or name == "wrong"
    ]
    return f"{acts['done']}: {', '.join(told)}"


# ---- the terminal ----


def _endings(doc: Document) -> RenderableType:
    rows = table("who", "how many", "share", "", narrow=("who",), header=False)
    most = max((count for _, count in endings(doc)), default=0) or 1
    for name, count in endings(doc):
        bar = "█" * max(round(BAR * count / most), 1 if count else 0)
        style = {UNFIXED: "red", WAITING: "yellow"}.get(name, "green")
        share = f"{round(100 * count / doc['incidents']):>3}%"
        rows.add_row(one_line(f"  {name}"), f"{count:>4}", share, Text(bar, style))
    return Trimmed(rows)


def _failure(one: Document, short: Short, *, whole: bool) -> RenderableType:
    """One kind of failure: how often and where, and what it is; `whole` with what was done."""
    head = Text.assemble((f"{one['count']:>4}×", "bold"), "  ", (short[one["incident"]], "cyan"))
    head.append(f"  {hours(one['lost'])} lost, last {local(one['last_seen'], '%m-%d %H:%M')}")
    rows = table("how often", "where", narrow=("where",), header=False)
    rows.add_row(head, Elided(where(one)))
    told: list[RenderableType] = [Trimmed(rows), one_line(f"{INDENT}{one['headline'] or NOTHING}")]
    if whole:
        told.append(one_line(f"{INDENT}{fixed_by(one)}"))
        said = "; ".join(one["causes"])
        told += [one_line(f"{INDENT}said: {said}", "dim")] if said else []
    return Group(*told)


def _dag_table(dags: Sequence[tuple[str, Document]]) -> RenderableType:
    head = ("WORST DAGS", "FAILURES", "FAILED RUNS", "RUNS", "RATE", "LOST")
    rows = table(*head, narrow=head[:1])
    for name, one in dags:
        rows.add_row(Elided(name), *map(str, figures(one)))
    return Trimmed(rows)


def figures(dag: Document) -> tuple[object, ...]:
    """Of a DAG: failures, failed runs, runs, rate, lost."""
    runs = "?" if dag["runs"] is None else dag["runs"]
    return dag["count"], dag["failed_runs"], runs, percent(dag["rate"]), hours(dag["lost"])


def _task_table(tasks: Sequence[tuple[str, Document]]) -> RenderableType:
    rows = table("WORST TASKS", "FAILURES", "LOST", narrow=("WORST TASKS",))
    for name, one in tasks:
        rows.add_row(Elided(name), str(one["count"]), hours(one["lost"]))
    return Trimmed(rows)


# ---- Markdown ----


def as_markdown(doc: Document, short: Short) -> Text:
    """The same as Markdown. What came from a log or a person is code, so that it formats and
    links nothing."""
    if not doc["incidents"]:
        return plain(nothing(doc))
    lines = [f"# {plain(title(doc)).plain}", "", f"{extent(doc)}.", "", "## How they ended", ""]
    people = {_login(name) for name in doc["closed"]["people"]}
    ended = [(code(name) if name in people else name, count) for name, count in endings(doc)]
    lines += _rows(("", "failures"), ended)
    lines += [f"- **{name}**: {said}" for name, said in facts(doc)]
    if doc["wrong"]:
        lines += ["", f"## Called wrong ({wrong_count(doc)})", ""]
        lines += [f"- {code(wrong_line(one, short))}" for one in doc["wrong"]]
    for head, several, note in sections(doc):
        lines += ["", f"## {head.capitalize()}", ""]
        lines += [f"{note.strip().capitalize()}.", ""] if note and several else []
        lines += [_item(one, short) for one in several] or ["None."]
    if doc["dags"]:
        head_row = ("DAG", "failures", "failed runs", "runs", "rate", "lost")
        lines += ["", "## Worst DAGs", ""]
        lines += _rows(head_row, [(code(n), *figures(one)) for n, one in worst(doc, "dags")])
        lines += [f"- {code(said)}" for said in doc["missing"]]
    if doc["tasks"]:
        rows = [(code(n), one["count"], hours(one["lost"])) for n, one in worst(doc, "tasks")]
        lines += ["", "## Worst tasks", "", *_rows(("task", "failures", "lost"), rows)]
    return Text("\n".join(lines).rstrip())


def _item(one: Document, short: Short) -> str:
    said = f"; said: {code('; '.join(one['causes']))}" if one["causes"] else ""
    return (
        f"- **{one['count']}×** {code(one['headline'] or NOTHING)} in {code(where(one))}, "
        f"{hours(one['lost'])}, last {local(one['last_seen'])}: {fixed_by(one)}{said} "
        f"({code(short[one['incident']])})"
    )


def _rows(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table, and the empty line behind it."""
    made = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(str(cell) for cell in row)} |" for row in made] + [""]


def code(text: object) -> str:
    """A code span that the text cannot leave, nor the cell of a table."""
    inner = plain(text).plain.replace("`", "'").replace("|", "¦")
    return f"`{inner}`"

"""A report's document → a page of HTML that stands alone, to be mailed or opened from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from aiops_cli import page
from aiops_cli.page import Html
from aiops_cli.report_text import (
    NOTHING,
    Document,
    endings,
    extent,
    facts,
    figures,
    fixed_by,
    hours,
    nothing,
    sections,
    title,
    where,
    worst,
    wrong_count,
    wrong_line,
)
from aiops_cli.screen import local


def as_html(doc: Document, short: Mapping[str, str]) -> str:
    """The whole page; every text in it is escaped by `page`."""
    if not doc["incidents"]:
        return page.page("Airflow failures", title(doc), [page.paragraph(nothing(doc))])
    parts = [
        page.paragraph(f"{extent(doc)}."),
        _days(doc["per_day"]),
        page.heading("How they ended"),
        page.bars("failures", endings(doc), shown="{:.0f}".format),
        page.table(("", ""), list(facts(doc))),
    ]
    if doc["wrong"]:
        parts.append(page.heading(f"Called wrong: {wrong_count(doc)}"))
        parts.append(page.lines_to_paste("\n".join(wrong_line(o, short) for o in doc["wrong"])))
    for head, several, note in sections(doc):
        parts.append(page.heading(head.capitalize()))
        parts += [page.paragraph(note.strip(), soft=True)] if note and several else []
        parts.append(_failures(several, short) if several else page.paragraph("none", soft=True))
    if doc["dags"]:
        dags = worst(doc, "dags")
        rated = [(name, 100 * one["rate"]) for name, one in dags if one["rate"] is not None]
        parts.append(page.heading("Worst DAGs"))
        if rated:
            parts.append(page.bars("failed runs, % of all", rated, shown="{:.1f}%".format))
        head_row = ("DAG", "failures", "failed runs", "runs", "rate", "lost")
        parts.append(page.table(head_row, [(name, *figures(one)) for name, one in dags]))
        parts += [page.paragraph(said, soft=True) for said in doc["missing"]]
    if doc["tasks"]:
        tasks = worst(doc, "tasks")
        lost = [(name, one["lost"] / 3600) for name, one in tasks]
        parts.append(page.heading("Worst tasks"))
        parts.append(page.bars("hours of task time lost", lost, shown="{:.1f} h".format))
        rows = [(name, one["count"], hours(one["lost"])) for name, one in tasks]
        parts.append(page.table(("task", "failures", "lost"), rows))
    return page.page("Airflow failures", title(doc), parts)


def _days(days: Sequence[Document]) -> Html:
    """One day is a dot."""
    first = datetime.fromisoformat(days[0]["day"])

    def line(key: str) -> list[tuple[float, float]]:
        return [(float(place), float(one[key])) for place, one in enumerate(days)]

    return page.lines(
        "Failures a day",
        {"all": line("count"), "resolved by the tool alone": line("alone")},
        across=f"days from {first:%Y-%m-%d} on, UTC",
        up="failures",
        top=max(4.0, *(float(one["count"]) for one in days)),
    )


def _failures(several: Sequence[Document], short: Mapping[str, str]) -> Html:
    head = ("times", "what", "where", "lost", "last seen", "what was done", "said", "newest")
    return page.table(
        head,
        [
            (
                one["count"],
                one["headline"] or NOTHING,
                where(one),
                hours(one["lost"]),
                local(one["last_seen"]),
                fixed_by(one),
                "; ".join(one["causes"]),
                short[one["incident"]],
            )
            for one in several
        ],
    )

"""A backtest's document → a page of HTML that stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiops_cli import page
from aiops_cli.backtest_text import (
    COLUMNS,
    EXPLAINED,
    curve,
    headlines,
    share,
    shares,
    title,
    told_bound,
    told_model,
)

LEAST_SEEN = 5  # incidents a point of the reliability plot rests on

Document = Mapping[str, Any]


def as_html(doc: Document) -> str:
    """What `as_text` says, with the curves drawn."""
    if not doc["incidents"]:
        return page.page("aiops backtest", "No incidents are stored yet.", [])
    parts = [page.paragraph(line) for line in headlines(doc)]
    parts += [page.heading("Learning curve"), _curve(doc), page.paragraph(EXPLAINED, soft=True)]
    rows = [[name.strip(), *(counts[one] for one in COLUMNS)] for name, counts in curve(doc)]
    parts += [page.table(["incidents", *COLUMNS], rows)]
    parts += [page.heading("Precision against coverage"), *_precision(doc)]
    parts += [page.heading("Bound on near matches")]
    parts += [page.paragraph(line) for line in told_bound(doc["bound"])]
    if doc["bound"]["settings"]:
        parts += [page.lines_to_paste("\n".join(doc["bound"]["settings"]))]
    parts += [page.heading("The model")]
    parts += [page.paragraph(line) for line in told_model(doc)]
    if doc["model"] is not None:
        parts += [_reliability(doc["model"])]
    return page.page("aiops backtest", title(doc), parts)


def _curve(doc: Document) -> page.Html:
    series = {
        "acted alone and right": ("right",),
        "told without a question": ("told",),
        "asked a person": ("asked",),
        "wrong (wasted, harmful, mistold)": ("wasted", "harmful", "mistold"),
    }
    return page.lines(
        "Of each 50 incidents, what became of them",
        {
            name: [(block["to"], shares(block, outcomes)) for block in doc["curve"]]
            for name, outcomes in series.items()
        },
        across="incidents so far",
        up="share of the 50",
        top=1.0,
        shown="{:.0%}".format,
        shown_across="{:.0f}".format,
    )


def _precision(doc: Document) -> list[page.Html]:
    rows = [one for one in doc["precision"] if one["reached"]]
    if not rows:
        return [page.paragraph("Too little is known.")]
    points = [(one["reached"] / one["known"], one["right"] / one["reached"]) for one in rows]
    drawn = page.lines(
        "The lower the bound, the more incidents are answered, and the less often rightly",
        {"best match at bounds from 1.0 down": sorted(points)},
        across="share of the incidents answered",
        up="share of those right",
        top=1.0,
        shown="{:.0%}".format,
        shown_across="{:.0%}".format,
    )
    told = [
        [f"{one['bound']:.2f}", share(one["reached"], one["known"]),
         share(one["right"], one["reached"])]
        for one in rows
    ]  # fmt: skip
    return [drawn, page.table(["bound", "answered", "of these right"], told)]


def _reliability(model: Document) -> page.Html:
    bins = [one for one in model["reliability"] if one["said"] >= LEAST_SEEN]
    if not bins:
        return page.paragraph(f"No confidence was stated {LEAST_SEEN} times: nothing to draw.")
    middle = [((one["from"] + one["to"]) / 2, one["right"] / one["said"]) for one in bins]
    return page.lines(
        "Stated confidence against being right",
        {"as it was": middle, "as it should be": [(0.0, 0.0), (1.0, 1.0)]},
        across="stated confidence",
        up="share that was right",
        top=1.0,
        shown="{:.0%}".format,
        shown_across="{:.0%}".format,
    )

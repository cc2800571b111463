"""A page of HTML that stands alone: one file without network, script or picture beside it, that
can be mailed; light and dark as the reader has it.

Every text that is given to a function of this file is escaped: log text is hostile, and the page
lets a browser load nothing at all. `Html` is what was escaped here, and comes from nowhere else.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NewType

from aiops_cli.atomic import private_file
from aiops_cli.errors import UsageError
from knowledge.redact import clean

Html = NewType("Html", str)

# Of a line chart, in units of its own drawing; the page scales it to the width there is.
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 12, 40
BAR, GAP = 22, 8
LABEL = 210  # for a bar's name, before the bar
VALUE = 80  # for its figure, behind it
DASHES = ("", "6 4", "2 3", "9 3 2 3", "1 4", "12 4")  # told apart without colours too
COLOURS = len(DASHES)

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --c0: #0b62c4; --c1: #b35900; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #59636e; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e6eaef; --soft: #9aa4af;
  --line: #38414b; --c0: #62a8ff; --c1: #f0954a; --c2: #4ac26b; --c3: #b794ff; --c4: #f778ba;
  --c5: #9aa4af; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 56rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .4rem 0; } .soft, figcaption { color: var(--soft); }
figure { margin: 1rem 0; } svg { display: block; width: 100%; height: auto; max-width: 44rem; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
.axis { stroke: var(--line); stroke-width: 1; }
.run { fill: none; stroke-width: 2.2; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0; text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; }
td.number, th.number { text-align: right; }
pre { border: 1px solid var(--line); overflow-x: auto; padding: .6rem .8rem; }
"""


def page(title: str, told: str, parts: Sequence[Html]) -> str:
    """The whole page, to be written as it is; `told` is one line below the title."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Whatever may have slipped into the page: nothing is loaded, sent or run.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escaped(title)}</h1>\n<p class="soft">{escaped(told)}</p>\n'
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def save(file: Path, text: str) -> None:
    """Write a page whole or not at all, readable to nobody else: it tells of failures. Raises
    UsageError."""
    try:
        with private_file(file) as out:
            out.write(text)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "name another place"
        ) from error


def escaped(text: object) -> Html:
    return Html(html.escape(clean(str(text))))


def heading(text: str) -> Html:
    return Html(f"<h2>{escaped(text)}</h2>")


def paragraph(text: str, *, soft: bool = False) -> Html:
    return Html(f"<p{' class=soft' if soft else ''}>{escaped(text)}</p>")


def lines_to_paste(text: str) -> Html:
    return Html(f"<pre>{escaped(text)}</pre>")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """Cells are shown as `str` has them, None as nothing; numbers stand to the right, and so do
    columns whose every filled cell begins with a digit."""
    right = [
        any(row[place] is not None for row in rows)
        and all(_is_number(row[place]) for row in rows if row[place] is not None)
        for place in range(len(columns))
    ]

    def cells(tag: str, row: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=number' if right[place] else ''}>"
            f"{'' if cell is None else escaped(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return Html(
        f'<div class="wide"><table>\n<tr>{cells("th", columns)}</tr>\n{body}\n</table></div>'
    )


def _is_number(cell: object) -> bool:
    return str(cell).lstrip("-+.")[:1].isdigit()


def bars(
    caption: str,
    values: Sequence[tuple[str, float]],
    *,
    shown: Callable[[float], str] = "{:g}".format,
    full: float | None = None,
) -> Html:
    """A bar a name, of lengths that are not negative; the longest, or `full`, is all the width."""
    most = full or max((value for _, value in values), default=0.0) or 1.0
    room = WIDTH - LABEL - VALUE
    drawn = []
    for place, (name, value) in enumerate(values):
        y = place * (BAR + GAP)
        length = round(room * min(value / most, 1.0), 1)
        middle = y + BAR - 6
        drawn.append(
            f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end">{escaped(_short(name))}'
            f"<title>{escaped(name)}</title></text>"
            f'<rect x="{LABEL}" y="{y}" width="{length}" height="{BAR}" rx="2" '
            'style="fill:var(--c0)"/>'
            f'<text x="{LABEL + length + 6}" y="{middle}">{escaped(shown(value))}</text>'
        )
    return _figure(caption, WIDTH, max(len(values) * (BAR + GAP), 1), "".join(drawn))


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:29] + "…"


def lines(
    caption: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    up: str,
    top: float | None = None,
    shown: Callable[[float], str] = "{:g}".format,
    shown_across: Callable[[float], str] = "{:g}".format,
) -> Html:
    """A line a series of (x, y) points, none negative, from 0 to the largest y or `top`. A series
    of one point is a dot. `across` and `up` name the axes, with their units."""
    points = [point for several in series.values() for point in several]
    first = min((x for x, _ in points), default=0.0)
    last = max((x for x, _ in points), default=1.0)
    wide = (last - first) or 1.0
    high = top or max((y for _, y in points), default=0.0) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            round(LEFT + (x - first) / wide * (WIDTH - LEFT - RIGHT), 1),
            round(TOP + (1 - min(y / high, 1.0)) * (HEIGHT - TOP - BOTTOM), 1),
        )

    drawn = []
    for step in range(5):
        x, y = at(first + wide * step / 4, high * step / 4)
        drawn.append(
            f'<line class="axis" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
            f'<text class="soft" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">'
            f"{escaped(shown(high * step / 4))}</text>"
            f'<text class="soft" x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{escaped(shown_across(first + wide * step / 4))}</text>"
        )
    drawn.append(
        f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
        f'text-anchor="middle">{escaped(across)} (up: {escaped(up)})</text>'
    )
    for number, (name, several) in enumerate(series.items()):
        stroke = f'style="stroke:{_colour(number)}" stroke-dasharray="{DASHES[number % COLOURS]}"'
        if len(several) == 1:
            x, y = at(*several[0])
            drawn.append(
                f'<circle cx="{x}" cy="{y}" r="4.5" style="fill:{_colour(number)}">'
                f"<title>{escaped(name)}</title></circle>"
            )
        elif several:
            path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in several))
            drawn.append(
                f'<polyline class="run" points="{path}" {stroke}>'
                f"<title>{escaped(name)}</title></polyline>"
            )
    return _figure(caption, WIDTH, HEIGHT, "".join(drawn), _legend(series))


def _legend(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    keys = []
    for number, (name, several) in enumerate(series.items()):
        mark = (
            f'<circle cx="13" cy="5" r="4.5" style="fill:{_colour(number)}"/>'
            if len(several) == 1
            else f'<line class="run" x1="0" y1="5" x2="26" y2="5" style="stroke:{_colour(number)}" '
            f'stroke-dasharray="{DASHES[number % COLOURS]}"/>'
        )
        keys.append(
            '<svg width="26" height="10" style="display:inline;width:26px;height:10px" '
            f'aria-hidden="true">{mark}</svg> {escaped(name)}'
        )
    return " &nbsp; ".join(keys)


def _colour(number: int) -> str:
    return f"var(--c{number % COLOURS})"


def _figure(caption: str, width: float, height: float, drawn: str, below: str = "") -> Html:
    return Html(
        f"<figure>\n<figcaption>{escaped(caption)}</figcaption>\n"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(caption)}">{drawn}'
        f"</svg>\n{f'<div class=soft>{below}</div>' if below else ''}\n</figure>"
    )

"""Markdown as wikis, exports and people write it → a flat list of blocks. Syntax only.

Read are headings (#, underlined, HTML, Confluence's `h2.`, a line that is bold as a whole),
code (fenced, indented, <pre>, {code}, {noformat}), tables, list items and lines of text;
quotes are read as what they quote, comments and the tags around text are dropped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from knowledge.runbooks.fields import RunbookFile

BOLD_LINE = 7  # below the six levels of real headings
_MOST_CELLS = 100

_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(.*?)[\s#]*$")
_WIKI_HEADING = re.compile(r"h([1-6])\.\s+(.+)$")
_WIKI_ITEM = re.compile(r"\s*#{1,6}\s+(.*)$")  # on a page with such headings
_HTML_HEADING = re.compile(r"\s*<h([1-6])[^<>]*>(.*?)</h\1>\s*$", re.IGNORECASE)
_BOLD = re.compile(r"\s*(?:\*\*\*?|__)([^*_`][^*`]{0,118}?)(?:\*\*\*?|__)\s*:?\s*$")
_UNDERLINE = re.compile(r"\s{0,3}(=+|-{2,})\s*$")
_RULE = re.compile(r"\s{0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$")
_FENCE = re.compile(r"(\s*(?:[-*+]\s+|\d{1,3}[.)]\s+)?)(`{3,}|~{3,})\s*([^\s`{]*)[^`]*$")
_MACRO = re.compile(r"\s*\{(code|noformat)(?::([^}]*))?\}(.*)$")
_PRE = re.compile(r"\s*<pre[^>]*>\s*(?:<code[^>]*>)?(.*)$", re.IGNORECASE)
_END_PRE = re.compile(r"(?:</code>\s*)?</pre>", re.IGNORECASE)
_QUOTE = re.compile(r"\s{0,3}(?:>\s?)+")
_ALERT = re.compile(r"\s*\[!\w+\]\s*$|\s*:::+.*$|\s*\{/?\w+(?::[^}]*)?\}\s*$|\s*\[TOC\]\s*$", re.I)
_ITEM = re.compile(r"(\s*)(?:[-*+•◦▪–]|\d{1,3}[.)]|[a-z]\))\s+(?:\[[ xX]\]\s+)?(.*)$")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")
_CELLS = re.compile(r"(?:\\\||`[^`]*`|[^|])+|(?<=\|)(?=\|)")
_TAG = re.compile(
    r"</?(?:p|div|span|b|i|u|em|strong|small|big|sub|sup|kbd|details|summary|center|font|a|img|"
    r"aside|ul|ol|section|blockquote|mark|ins|hr|li|input|label)\b[^<>]*>",
    re.IGNORECASE,
)
_CODE_TAG = re.compile(r"</?(?:code|tt)>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """`text` is a heading's words, the code, one list item or one line of text; "blank" is an
    empty line. `info` is the language named at a fence; `rows` are a table's cells, its head
    first."""

    kind: Literal["heading", "code", "table", "item", "text", "blank"]
    line: int
    text: str = ""
    level: int = 0
    info: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def read_blocks(file: RunbookFile, lines: Sequence[str], start: int = 0) -> list[Block]:
    """The blocks of the lines from index `start`. Refuses a fence that is never closed, and what
    would be read wrongly (an HTML page, an HTML table)."""
    wiki = any(map(_WIKI_HEADING.match, lines))
    blocks: list[Block] = []
    number = start
    while number < len(lines):
        number = _next(file, lines, number, blocks, wiki=wiki)
    return blocks


def _next(
    file: RunbookFile, lines: Sequence[str], at: int, blocks: list[Block], *, wiki: bool
) -> int:
    """Append what stands at index `at`; the index behind it."""
    line, number = lines[at], at + 1
    quote = _QUOTE.match(line)
    text = line[quote.end() :] if quote else line
    before = blocks[-1] if blocks else Block("blank", 0)
    if fence := _FENCE.match(text):
        return _fenced(file, lines, at, fence, quoted=bool(quote), blocks=blocks)
    if macro := _MACRO.match(text):
        return _macro(file, lines, at, macro, blocks)
    if pre := _PRE.match(text):
        return _until(file, lines, at, pre[1], _END_PRE, "a <pre>", blocks)
    if "<!--" in text:
        return _comment(file, lines, at, text, blocks)
    if re.match(r"\s*<(?:!doctype|html|body)\b", text, re.IGNORECASE):
        file.refuse(number, "an HTML page, not Markdown; export it as Markdown")
    if re.search(r"<(?:table|tr|td)\b", text, re.IGNORECASE):
        file.refuse(number, "an HTML table is not read; write it as a Markdown table")
    if not text.strip() or _ALERT.match(text):
        blocks.append(Block("blank", number))
        return number
    indented = re.match(r" {4}|\t", text)
    if indented and before.kind in ("blank", "code") and not _in_list(blocks):
        return _indented(lines, at, blocks)
    if wiki and (item := _WIKI_ITEM.match(text)):
        blocks.append(Block("item", number, _plain(item[1])))
    elif heading := _HEADING.match(text):
        blocks.append(Block("heading", number, _plain(heading[2]), len(heading[1])))
    elif heading := _WIKI_HEADING.match(text) or _HTML_HEADING.match(text):
        blocks.append(Block("heading", number, _plain(heading[2]), int(heading[1])))
    elif _UNDERLINE.match(text) and _may_be_heading(blocks):
        blocks.pop()
        level = 1 if text.strip()[0] == "=" else 2
        blocks.append(Block("heading", before.line, before.text, level))
    elif _RULE.match(text):
        blocks.append(Block("blank", number))
    elif 0 < text.count("|") <= _MOST_CELLS and _is_rule(lines[number : number + 1], quote):
        return _table(lines, at, quote, blocks)
    elif bold := _BOLD.match(text):
        blocks.append(Block("heading", number, _plain(bold[1]), BOLD_LINE))
    elif item := _ITEM.match(text):
        blocks.append(Block("item", number, _plain(item[2]), len(item[1].expandtabs(4))))
    elif before.kind == "item" and text[:1].isspace():
        blocks[-1] = Block("item", before.line, f"{before.text} {_plain(text)}", before.level)
    else:
        parts = _BREAK.split(text)
        blocks.extend(Block("text", number, plain) for part in parts if (plain := _plain(part)))
    return number


def _plain(text: str) -> str:
    text = _CODE_TAG.sub("`", _TAG.sub("", _BREAK.sub(" ", text)))
    return html.unescape(text).replace("\xa0", " ").strip()


def _may_be_heading(blocks: Sequence[Block]) -> bool:
    """Whether the last block, underlined, is a heading: a rule drawn under a paragraph is not."""
    if not blocks or blocks[-1].kind != "text" or blocks[-1].text.endswith((".", ";")):
        return False
    return len(blocks[-1].text) <= 80 and (len(blocks) < 2 or blocks[-2].kind != "text")


def _in_list(blocks: Sequence[Block]) -> bool:
    told = next((block for block in reversed(blocks) if block.kind not in ("blank", "code")), None)
    return told is not None and told.kind == "item"


def _fenced(
    file: RunbookFile,
    lines: Sequence[str],
    at: int,
    fence: re.Match[str],
    *,
    quoted: bool,
    blocks: list[Block],
) -> int:
    margin, mark = len(fence[1]), fence[2]
    ends = re.compile(rf"\s*{re.escape(mark[0])}{{{len(mark)},}}\s*$")

    def inner(index: int) -> str:
        return _QUOTE.sub("", lines[index], count=1) if quoted else lines[index]

    last = next((index for index in range(at + 1, len(lines)) if ends.match(inner(index))), None)
    if last is None:
        file.refuse(at + 1, "a fenced block is not closed")
    code = [
        line[min(margin, len(line) - len(line.lstrip())) :]
        for line in map(inner, range(at + 1, last))
    ]
    blocks.append(Block("code", at + 1, "\n".join(code), info=fence[3].lower()))
    return last + 1


def _macro(
    file: RunbookFile, lines: Sequence[str], at: int, macro: re.Match[str], blocks: list[Block]
) -> int:
    """Confluence's {code:java}…{code}; a name after the colon without = is the language."""
    info = next((part for part in (macro[2] or "").split("|") if part and "=" not in part), "")
    end = re.compile(rf"\{{{macro[1]}\}}")
    return _until(file, lines, at, macro[3], end, f"a {{{macro[1]}}}", blocks, info=info.lower())


def _until(
    file: RunbookFile,
    lines: Sequence[str],
    at: int,
    first: str,
    end: re.Pattern[str],
    what: str,
    blocks: list[Block],
    *,
    info: str = "",
) -> int:
    def inner(index: int) -> str:
        return first if index == at else lines[index]

    last = next((index for index in range(at, len(lines)) if end.search(inner(index))), None)
    if last is None:
        file.refuse(at + 1, f"{what} is not closed")
    code = [*map(inner, range(at, last)), end.split(inner(last))[0]]
    text = "\n".join(code).strip("\n")
    if what == "a <pre>":
        text = html.unescape(text)
    blocks.append(Block("code", at + 1, text, info=info))
    return last + 1


def _comment(
    file: RunbookFile, lines: Sequence[str], at: int, text: str, blocks: list[Block]
) -> int:
    """Comments hold a template's instructions: dropped, with what else stands on their lines."""
    kept = text[: text.index("<!--")]
    if kept.strip():
        blocks.append(Block("text", at + 1, _plain(kept)))
    last = next((index for index in range(at, len(lines)) if "-->" in lines[index]), None)
    if last is None:
        file.refuse(at + 1, "a comment <!-- is not closed")
    return last + 1


def _indented(lines: Sequence[str], at: int, blocks: list[Block]) -> int:
    index, code = at, list[str]()
    while index < len(lines) and (re.match(r" {4}|\t", lines[index]) or not lines[index].strip()):
        code.append(re.sub(r"^(?: {4}|\t)", "", lines[index]))
        index += 1
    blocks.append(Block("code", at + 1, "\n".join(code).strip("\n")))
    return index


def _is_rule(below: Sequence[str], quote: re.Match[str] | None) -> bool:
    line = "".join(below)
    if quote:
        line = _QUOTE.sub("", line, count=1)
    return "-" in line and bool(_TABLE_RULE.match(line))


def _table(lines: Sequence[str], at: int, quote: re.Match[str] | None, blocks: list[Block]) -> int:
    rows, index = [], at
    while index < len(lines) and "|" in lines[index]:
        line = _QUOTE.sub("", lines[index], count=1) if quote else lines[index]
        if index != at + 1:
            cells = _CELLS.findall(line.strip().removeprefix("|").removesuffix("|"))
            rows.append(tuple(_plain(cell.replace("\\|", "|")) for cell in cells))
        index += 1
    blocks.append(Block("table", at + 1, rows=tuple(rows)))
    return index

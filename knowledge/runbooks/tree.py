"""A page's blocks → its sections, each with the part it plays. What they say is not judged here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from knowledge.runbooks.fields import RunbookFile
from knowledge.runbooks.markdown import Block
from knowledge.runbooks.samples import plain
from knowledge.runbooks.words import Meta, Role, has_remark, meta_of, role_of, split_label

_LABEL = 8  # below every heading
CORE: tuple[Role, ...] = ("symptoms", "cause", "action")
_LABELS = (*CORE, "why")  # a line "Note: …" is text of its section
_NAMES = re.compile(r"\b(?:name|title|failure|case|what)\b", re.IGNORECASE)  # of a column
_BOLD_ALONE = re.compile(r"(\*\*|__)[^*_]+\1")


@dataclass(slots=True)
class Section:
    """A heading or a label with what stands below it. Without a role it is a topic: perhaps a
    failure of its own. `remark` is the heading or label of a part where it says more than the
    part's name."""

    title: str
    line: int
    level: int
    role: Role | None = None
    meta: Meta | None = None
    blocks: list[Block] = field(default_factory=list)
    children: list[Section] = field(default_factory=list)
    remark: str = ""

    def walk(self) -> Iterator[Section]:
        yield self
        for child in self.children:
            yield from child.walk()


def sections(file: RunbookFile, blocks: list[Block], title: str) -> Section:
    """The page as a tree; its root is a topic too, called `title`."""
    root = Section(title, 1, 0)
    stack = [root]
    label: Section | None = None  # the last label of this section
    filling = False  # … and the lines that follow still belong to it,
    whole = False  # all of them where nothing stands beside the label
    for block in blocks:
        if block.kind == "heading":
            _close(stack, block.level)
            stack.append(_of_heading(block))
            label, filling = None, False
            stack[-2].children.append(stack[-1])
        elif block.kind in ("item", "text") and (found := _of_label(block)):
            _close(stack, _LABEL)
            label = found
            whole = not label.blocks
            filling = True
            stack[-1].children.append(label)
        elif block.kind == "table" and (rows := _of_table(file, block)):
            stack[-1].children.extend(rows)
            label, filling = None, False
        elif label and (filling and block.kind != "blank"):
            label.blocks.append(block)
        elif label and block.kind == "blank":
            filling = filling and (whole or label.blocks[-1].text.endswith((":", "：")))
            label.blocks.append(block)
        elif label and block.kind == "code" and label.role in ("symptoms", "action"):
            label.blocks.append(block)
        else:
            stack[-1].blocks.append(block)
    _reparent(root)
    return root


def _close(stack: list[Section], level: int) -> None:
    while stack[-1].level >= level:
        stack.pop()


def heading_title(text: str) -> str:
    """A heading without markup, anchors and numbers in front."""
    text = re.sub(r"\s*\{#[^}]*\}", "", plain(text))
    return re.sub(r"^(?:\d+(?:\.\d+)*[.)]|\d+(?:\.\d+)+)\s+", "", text).strip(" #:") or text


def _remark(name: str) -> str:
    return plain(name).strip(" *_:") if has_remark(name) else ""


def _of_heading(block: Block) -> Section:
    text, line = block.text, block.line
    made = Section(heading_title(text), line, block.level)
    if role := role_of(text):
        made.role, made.remark = role, _remark(text)
    elif meta := meta_of(text):
        made.meta, made.remark = meta, _remark(text)
    elif labelled := split_label(text):
        label, rest = labelled
        role = role_of(label)
        if role == "symptoms" and rest:  # "Problem: the disk is full" names a failure
            made.title = heading_title(rest)
        else:
            made.title, made.role, made.meta = "", role, None if role else meta_of(label)
            made.blocks = [Block("text", line, rest)] if rest else []
            made.remark = _remark(label)
    return made


def _of_label(block: Block) -> Section | None:
    text, line = block.text, block.line
    if _BOLD_ALONE.fullmatch(text) and role_of(text) in _LABELS:
        return Section("", line, _LABEL, role_of(text), remark=_remark(text))
    labelled = split_label(text)
    if labelled is None:
        return None
    label, rest = labelled
    if label in ("ERROR", "EXCEPTION"):  # "ERROR: relation …" is the log's own
        return None
    role, meta = role_of(label), meta_of(label)
    if role not in _LABELS and not meta:
        return None
    blocks = [Block("text", line, rest)] if rest else []
    return Section("", line, _LABEL, role, None if role else meta, blocks, remark=_remark(label))


def _of_table(file: RunbookFile, block: Block) -> list[Section]:
    """A table of failures, a row each, as topics; a table of names and values as labels; nothing
    for any other table."""
    head, *rows = block.rows
    roles = [role_of(cell) for cell in head]
    if "symptoms" in roles and ({"cause", "action"} & {*roles}):
        return [_of_row(file, block.line + 2 + at, head, row) for at, row in enumerate(rows)]
    if len(head) != 2:
        return []
    found = []
    for at, (name, value) in enumerate(row for row in block.rows if len(row) == 2):
        role, meta = role_of(name), meta_of(name)
        line = block.line + at + (at > 0)
        blocks = [Block("text", line, value)] if value else []
        if role in _LABELS:
            found.append(Section("", line, _LABEL, role, None, blocks, remark=_remark(name)))
        elif meta:
            found.append(Section("", line, _LABEL, None, meta, blocks, remark=_remark(name)))
    return found


def _of_row(file: RunbookFile, line: int, head: tuple[str, ...], row: tuple[str, ...]) -> Section:
    made = Section("", line, _LABEL)
    for name, value in zip(head, row, strict=False):
        role, meta = role_of(name), meta_of(name)
        if not value or not (role or meta):
            if value and not made.title and _NAMES.search(name):
                made.title = plain(value)
            elif value:
                made.blocks.append(Block("text", line, f"{name}: {value}" if name else value))
            continue
        blocks = [Block("text", line, value)]
        part = Section("", line, _LABEL + 1, role, None if role else meta, blocks)
        part.remark = _remark(name)
        made.children.append(part)
    if not any(child.role == "symptoms" for child in made.children):
        file.refuse(line, "a row of a table of failures without an error text")
    if len(row) > len(head):
        file.refuse(line, "a row with more cells than its table's head; write a | in a cell as \\|")
    return made


def _reparent(parent: Section) -> None:
    """Pages on which the parts stand at the level of the title above them: they are that
    title's. So it is where there is nothing above, or where the parts come again and again."""
    for child in parent.children:
        _reparent(child)
    headings = [child for child in parent.children if child.level < _LABEL]
    first = next((one for one in headings if one.role != "aside" and not one.meta), None)
    named = [one.role for one in headings if one.role in CORE]
    again = len(named) > len({*named})
    if first is None or first.role is not None or not (parent.level == 0 or again):
        return
    kept: list[Section] = []
    topic: Section | None = None
    for child in parent.children:
        if child.role is None and child.meta is None and child.level < _LABEL:
            topic = child
        elif topic is not None and child.level == topic.level:
            topic.children.append(child)
            continue
        kept.append(child)
    parent.children = kept

"""The question to a model, and what may be believed of its answer. Pure.

The words are in `prompt.txt`. The log is hostile: it stands as data between tags that carry a
code made of the data itself, and no tag or control token of a model can be written inside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from aiops_cli.incidents import Incident, Known, Prompt, Question
from knowledge.records import short_hash
from knowledge.redact import clean, redact

_SECTIONS = dict(
    re.findall(
        r"^=== (\w+)\n(.*?)\n*(?=^=== |\Z)",
        Path(__file__).with_name("prompt.txt").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)

_MATCHES = 3
_FIELD = 400  # characters of one text of a match or of one fact
_LINE = 600  # characters of one line of the log, where not all of it fits
_LEAST_LOG = 100  # tokens; with less of the log nothing can be said of it
_MARK = "… left out here: {} of the lines …"

# What opens a tag, or a control token of some chat template: <|im_start|>, </think>, <s>, [INST],
# [|user|]. Ollama reads those as the real thing wherever they stand (ollama#15931, #17248). Marks
# of redaction stay as they are, so that they can be quoted.
_OPENS = re.compile(r"<(?=\S)(?!redacted:\w+>)|\[(?=/?\w+\]|\|)")

# A word with the blank before it or part of one (an id in mixed case is many), blanks, or any
# other single character.
_PIECES = re.compile(r" ?(?:[A-Z]?[a-z]{1,48}|[A-Z]{1,48})|[ \t]{1,48}|.", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z]+|[0-9]+")


class NoRoom(Exception):
    """The model's context cannot hold the question."""


def ask_about(incident: Incident, known: Sequence[Known], actions: Mapping[str, str]) -> Question:
    """The question about one incident. `known` comes most similar first."""
    context, signature = incident.context, incident.signature
    mapped = f"[{incident.map_index}]" if incident.map_index >= 0 else ""
    tries = context.get("max_tries")
    facts = {
        "kind of failure": incident.kind,
        "DAG": incident.dag_id,
        "task": f"{incident.task_id}{mapped}",
        "operator": context.get("operator"),
        "try": f"{incident.try_number}" + (f" of {tries + 1}" if isinstance(tries, int) else ""),
        "kind of run": context.get("run_type"),
        "exception": signature.error_class,
        "changed since the last success": "; ".join(map(str, context.get("changed") or ())),
        "about the log": incident.excerpt.notice,
    }
    return Question(
        excerpt=incident.excerpt.text,
        line=signature.line,
        facts={name: str(value) for name, value in facts.items() if value},
        known=tuple(known),
        actions=actions,
    )


def build(question: Question, budget: int) -> Prompt:
    """The prompt, of at most `budget` tokens by `tokens`' count. What is shortened first is the
    log, from the lines furthest from its telling line and its end. Equal questions give equal
    prompts. Raises NoRoom."""
    system = Template(_SECTIONS["system"]).substitute(
        actions="\n".join(f"- {name}: {does}" for name, does in question.actions.items())
    )
    task = "\n".join(f"{name}: {_field(value)}" for name, value in question.facts.items())
    room = budget - tokens(system) - tokens(_SECTIONS["user"]) - tokens(task)
    # The tags' codes: three pairs of them.
    room -= 6 * tokens("=" * 10)
    known = _known(question.known, room // 3)
    room -= tokens(known)
    if room < _LEAST_LOG:
        raise NoRoom(f"a context of {budget:,} tokens is too small for the question")
    # Redacted before anything is cut: half a secret is none that could be recognised.
    lines = _safe(question.excerpt).split("\n")
    shown = _shortened(lines, question.line, room)
    user = Template(_SECTIONS["user"]).substitute(
        fence=short_hash(task, known, shown), task=task, known=known, log=shown
    )
    messages = ({"role": "system", "content": system}, {"role": "user", "content": user})
    return Prompt(messages, schema(tuple(question.actions)), shown)


def repair(answer: str, why: str, room: int) -> tuple[Mapping[str, str], ...]:
    """Two more messages of at most `room` tokens: what the model said, and what was wrong."""
    told = Template(_SECTIONS["repair"]).substitute(why=_cut(_field(why), room // 3))
    said = _cut(_safe(answer).strip(), room - tokens(told)) or "…"
    return {"role": "assistant", "content": said}, {"role": "user", "content": told}


def schema(actions: Sequence[str]) -> dict[str, Any]:
    """The JSON schema that is asked for. Models break it: see `answer.read`."""
    text = {"type": "string"}
    properties = {
        "action": {"type": "string", "enum": list(actions)},
        "cause": text,
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "explanation": text,
        "quotes": {"type": "array", "items": text},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


PROMPT_VERSION = short_hash(json.dumps(_SECTIONS), json.dumps(schema(())))


def tokens(text: str) -> int:
    """How many tokens a text may have for a model, estimated: rather too many than too few.
    Against two of Mistral's tokenizers: 1.2 to 2.0 times as many for logs, more for other
    scripts, 0.8 times for random letters."""
    count = 0
    for piece in _PIECES.findall(text):
        letters = len(piece.lstrip(" "))
        if piece[-1].isalpha() and piece.isascii():
            count += (letters + 2) // 3 if letters <= 16 else (letters + 1) // 2
        elif piece[0] in " \t":
            count += (len(piece) + 7) // 8
        else:
            count += len(piece.encode("utf-8", "replace"))
    return count


def least_tokens(text: str) -> int:
    """How many tokens a text has at least: none reaches over two words."""
    return sum(1 for _ in _WORDS.finditer(text))


def neutral(text: str) -> str:
    """Text in which nothing opens a tag or a control token: a blank follows what would."""
    return _OPENS.sub(r"\g<0> ", text)


def _safe(text: str) -> str:
    return neutral(redact(clean(text)))


def _field(text: str) -> str:
    return _middle_out(" ".join(_safe(text).split()), _FIELD)


def _known(known: Sequence[Known], room: int) -> str:
    """The best matches, as many as fit."""
    told = ""
    for number, one in enumerate(known[:_MATCHES], 1):
        entry = one.match.entry
        symptom = entry.symptoms[one.match.symptom].text if entry.symptoms else ""
        rows = {
            "failure": symptom,
            "cause": entry.cause,
            "action": entry.action or "not known",
            "came of it": one.record,
            "said of it": entry.explanation,
        }
        text = f"{number}. {_field(entry.title)} (similarity {one.match.similarity:.2f})\n"
        text += "".join(f"   {name}: {_field(value)}\n" for name, value in rows.items() if value)
        if tokens(told + text) > room:
            break
        told += text
    return told.rstrip() or "nothing"


def _shortened(lines: Sequence[str], telling: int | None, room: int) -> str:
    """The lines that fit, nearest first to the telling one (1-based) and to the end, then to the
    start; a mark stands where some are left out."""
    if sum(tokens(line) + 1 for line in lines) <= room:
        return "\n".join(lines)
    end = len(lines) - 1
    centre = min((telling or len(lines)) - 1, end)
    order = sorted(range(len(lines)), key=lambda i: min(abs(i - centre), end - i + 1, 4 * i + 2))
    # Four marks at most: around the telling line, the end and the start.
    room -= 4 * (tokens(_MARK.format(len(lines))) + 1)
    short = [_middle_out(line, _LINE) for line in lines]
    short[centre] = _cut(short[centre], room - 1)
    kept: list[int] = []
    for index in order:
        room -= tokens(short[index]) + 1
        if room < 0:
            break
        kept.append(index)
    shown: list[str] = []
    last = -1
    for index in (*sorted(kept), len(lines)):
        if index - last > 1:
            shown.append(_MARK.format(index - last - 1))
        shown += short[index : index + 1]
        last = index
    return "\n".join(shown)


def _middle_out(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    return f"{text[: length * 2 // 3]} […] {text[-(length // 3) :]}"


def _cut(text: str, room: int) -> str:
    for piece in _PIECES.finditer(text):
        room -= tokens(piece[0])
        if room < 0:
            return text[: piece.start()]
    return text

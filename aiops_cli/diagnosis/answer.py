"""A model's words → a Suggestion, or the reason why they are none. Pure.

The schema that was asked for is never trusted to have been kept: Ollama has ignored it with
thinking on and off (ollama#14645, #15260, #10929), and let values outside it through (#8063).
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from aiops_cli.diagnosis.prompt import PROMPT_VERSION, neutral
from aiops_cli.incidents import Question, Suggestion
from knowledge.redact import clean, redact

MIN_QUOTE = 10  # characters that prove something; "Error" stands in every log

_MAX_ANSWER = 20_000  # characters, without the thinking
_MAX_STARTS = 50  # braces that are tried as the beginning of the object
_CAUSE, _EXPLANATION = 300, 1000  # characters that are kept
_MAX_QUOTE = 2000
_MAX_QUOTES = 20
_HEADER = "Traceback (most recent call last):"

# How models think aloud where Ollama has not taken it out: tags, Kimi, Magistral, Cohere, gpt-oss,
# and the form of Ollama's own command line.
_TAG = r"<(?P<tag>think|thinking|thoughts?|reasoning|reflection|seed:think)>"
_PAIRS = (
    (_TAG, r"</(?P=tag)>"),
    ("◁think▷", "◁/think▷"),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|channel\|>analysis", r"<\|channel\|>final"),
    (r"Thinking\.\.\.\n", r"\.\.\.done thinking\."),
)
_THOUGHT = re.compile(
    r"\s*(?:" + "|".join(f"{begin}.*?{end}" for begin, end in _PAIRS) + ")", re.I | re.S
)
_THINKS = re.compile(r"\s*(?:" + "|".join(begin for begin, _ in _PAIRS) + ")", re.I)


class BadAnswer(ValueError):
    """The answer cannot be used. `why` is half a sentence, "the confidence is no number"."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def read_answer(text: str, question: Question, model: str) -> Suggestion:
    """The one answer in a model's text, every value of it validated here and made safe to show.
    Raises BadAnswer."""
    answer = _answer(_spoken(text))
    action = _text(answer, "action").strip()
    if action not in question.actions:
        raise BadAnswer(f"there is no action {_shown(action, 40)!r}")
    cause = _shown(_text(answer, "cause"), _CAUSE)
    if not any(character.isalnum() for character in cause):
        raise BadAnswer("the cause is empty")
    return Suggestion(
        action=action,
        cause=cause,
        confidence=_confidence(answer.get("confidence")),
        explanation=_shown(_text(answer, "explanation"), _EXPLANATION),
        quotes=_quotes(answer.get("quotes")),
        model=model,
        prompt_version=PROMPT_VERSION,
    )


def quotes_stand(suggestion: Suggestion, excerpt: str) -> bool:
    """Whether there are quotes and each stands in the excerpt, blanks and line ends folded.
    One that is too short to prove anything, or stands in every log, fails."""
    log = _folded(excerpt)
    folded = [_folded(quote) for quote in suggestion.quotes]
    return bool(folded) and all(
        len(quote.replace(_HEADER, "").strip()) >= MIN_QUOTE and quote in log for quote in folded
    )


def _folded(text: str) -> str:
    # Neutral on both sides, for a model quotes what it was shown, or what that must have been.
    return " ".join(neutral(clean(text)).split())


def _spoken(text: str) -> str:
    """What was said after thinking: what was only thought of is no answer. An end of thinking
    that has no beginning may be a quote of the log, so nothing before it is taken away."""
    end = 0
    while thought := _THOUGHT.match(text, end):
        end = thought.end()
    spoken = text[end:]
    if _THINKS.match(spoken):
        raise BadAnswer("it stopped while it was still thinking")
    if not spoken.strip():
        raise BadAnswer("it is empty")
    if len(spoken) > _MAX_ANSWER:
        raise BadAnswer(f"it has {len(spoken):,} characters")
    return spoken


def _answer(text: str) -> dict[str, Any]:
    """The one JSON object with an action in it, whatever stands around it."""
    found: list[dict[str, Any]] = []
    end = 0
    for _ in range(_MAX_STARTS):
        start = text.find("{", end)
        if start < 0:
            break
        try:
            value, end = _JSON.raw_decode(text, start)
        except RecursionError:
            raise BadAnswer("its JSON is nested too deeply") from None
        except json.JSONDecodeError:
            end = start + 1
            continue
        if "action" in value and value not in found:
            found.append(value)
    if not found:
        raise BadAnswer("it holds no JSON object with an action")
    if len(found) > 1:
        raise BadAnswer("it holds several answers")
    return found[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise BadAnswer("a key of its JSON stands there twice")
    return value


def _no_number(word: str) -> NoReturn:
    raise BadAnswer(f"{word} is no number")


# A number of thousands of digits would be refused by `int` with an error of its own.
_JSON = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_number, parse_int=float, strict=False
)


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    if not isinstance(value, str):
        raise BadAnswer(f"the {key} is no text" if key in answer else f"the {key} is missing")
    return value


def _confidence(value: object) -> float:
    # Every number is read as a float; true and "0.9" are none.
    if not isinstance(value, float):
        raise BadAnswer("the confidence is no number")
    if not 0 <= value <= 1:
        raise BadAnswer("the confidence is not between 0 and 1")
    return value


def _quotes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(quote, str) for quote in value):
        raise BadAnswer("the quotes are no list of texts")
    if len(value) > _MAX_QUOTES or any(len(quote) > _MAX_QUOTE for quote in value):
        raise BadAnswer("the quotes are too long")
    # An empty one says nothing and claims nothing.
    return tuple(quote for quote in (redact(clean(each)).strip() for each in value) if quote)


def _shown(text: str, length: int) -> str:
    """One line that can do no harm to a terminal and tells no secret: a line of its own could
    pass for one of ours."""
    line = " ".join(redact(clean(text)).split())
    return line if len(line) <= length else line[: length - 1] + "…"

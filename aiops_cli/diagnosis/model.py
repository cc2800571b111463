"""A model of Ollama's as the seam `Model`: one question, one answer, at most one repair.

Whatever goes wrong is a ModelError with the reason; a person is asked then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from aiops_cli.diagnosis.answer import BadAnswer, read_answer
from aiops_cli.diagnosis.prompt import NoRoom, build, least_tokens, repair
from aiops_cli.errors import ModelError
from aiops_cli.incidents import Prompt, Question, Suggestion
from knowledge.errors import ModelUnavailable
from knowledge.ollama_client import Chat, Ollama

# Tokens. A bigger window costs memory that a laptop lacks, and a log of 64 KB is cut to what
# tells; where Ollama does not say what the model was trained with, its own default.
MAX_CONTEXT = 8192
_DEFAULT_CONTEXT = 4096
_ANSWER = 1024
_ANSWER_WITH_THINKING = 3072  # thinking counts as well
_TEMPLATE = 64  # what the model's chat template adds around the messages
_REPAIR = 512
# A prompt that was cut keeps half the window and a few tokens (ollama#17427). One that is just
# that long by itself is lost with it.
_CUT_SLACK = 8
_SEED = 1  # with temperature 0 it decides nothing, but some builds sample all the same


class _Window(NamedTuple):
    """`context` is the num_ctx that is asked for, `answer` the part of it kept for the answer."""

    context: int
    answer: int


class OllamaModel:
    """The model `name` of one Ollama. `keep_alive` is how long it stays loaded after an answer,
    as Ollama takes it ("15m", seconds, -1 for ever)."""

    def __init__(
        self,
        client: Ollama,
        name: str,
        *,
        keep_alive: str | float = "15m",
        max_context: int = MAX_CONTEXT,
    ) -> None:
        self.name = name
        self._client = client
        self._keep_alive = keep_alive
        self._max_context = max_context

    @property
    def context(self) -> int:
        """The tokens of context that Ollama is asked for. Raises ModelError."""
        return self._window.context

    def prompt(self, question: Question) -> Prompt:
        """What `suggest` sends. Raises ModelError."""
        window = self._window
        try:
            return build(question, window.context - window.answer - _REPAIR - _TEMPLATE)
        except NoRoom as error:
            raise self._dropped(str(error), "use a model with a larger context") from error

    def suggest(self, question: Question, told: Callable[[int], None] | None = None) -> Suggestion:
        """The model's answer, validated; the quotes in it are still to be checked. While it is
        written `told` gets the number of characters so far. Raises ModelError with the reason:
        unreachable, slow, busy, cut, or no valid answer the second time either."""
        prompt = self.prompt(question)
        first = self._ask(prompt.messages, prompt.schema, told)
        try:
            return read_answer(first.text, question, self.name)
        except BadAnswer as error:
            why = error.why
        if first.done_reason == "length":  # it would not come to an end again
            raise self._dropped(f"no end within {self._window.answer:,} tokens")
        more = repair(first.text, why, _REPAIR)
        second = self._ask((*prompt.messages, *more), prompt.schema, told)
        try:
            return read_answer(second.text, question, self.name)
        except BadAnswer as error:
            raise self._dropped(f"{why}; asked again: {error.why}") from error

    def _ask(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any],
        told: Callable[[int], None] | None,
    ) -> Chat:
        window = self._window
        options = {
            "num_ctx": window.context,
            "num_predict": window.answer,
            "temperature": 0,
            "seed": _SEED,
        }
        try:
            chat = self._client.chat(
                self.name, messages, schema, options, self._keep_alive, told, told is not None
            )
        except ModelUnavailable as error:
            raise ModelError(error.message, error.hint, why=error.why) from error
        self._must_have_read(messages, chat.prompt_tokens)
        return chat

    def _must_have_read(self, messages: Sequence[Mapping[str, str]], count: int | None) -> None:
        """Ollama cuts the front off a prompt that is too long for what it really set up, and says
        nothing (ollama#3839). Its count tells, cached tokens included (#5371; 0.30.0 left them
        out, #16414)."""
        hint = "update Ollama, or use a model with a larger context"
        if count is None:
            raise self._dropped("Ollama does not say how much of the question it has read", hint)
        half = self._window.context // 2
        least = sum(least_tokens(message["content"]) for message in messages)
        if count < least or half <= count <= half + _CUT_SLACK:
            raise self._dropped(f"Ollama read only {count:,} tokens of the question", hint)
        if count > self._window.context - self._window.answer:
            # Beyond the window Ollama drops the front while it writes.
            raise self._dropped(f"the question has {count:,} tokens and leaves no room", hint)

    @cached_property
    def _window(self) -> _Window:
        try:
            info = self._client.show(self.name)
        except ModelUnavailable as error:
            raise ModelError(error.message, error.hint, why=error.why) from error
        context = min(info.context_length or _DEFAULT_CONTEXT, self._max_context)
        answer = _ANSWER_WITH_THINKING if "thinking" in info.capabilities else _ANSWER
        return _Window(context, min(answer, context * 3 // 8))

    def _dropped(self, why: str, hint: str = "") -> ModelError:
        message = f"the answer of {self.name} was dropped: {why}"
        return ModelError(message, hint or "try another model", why=why, dropped=True)

"""What an Ollama knows and says: models, answers, and every way in which they go wrong.

Field names and error texts are Ollama's (docs/api.md and server/routes.go of its source, issues
of its users). What a text means is made up: four characters are a token, words make a vector.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

DEFAULT_CONTEXT = 4096
LOADING_NS, WARM_NS = 4_000_000_000, 20_000_000
MADE = "2026-01-05T08:00:00.000000Z"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.body.get("options") or {})

    @property
    def prompt(self) -> str:
        """All that the model is shown."""
        messages = self.body.get("messages") or ()
        texts = [str(message.get("content")) for message in messages]
        return "\n".join(texts) if messages else str(self.body.get("prompt") or "")


@dataclass(frozen=True)
class Reply:
    """What the model says. `mode` makes this one go wrong, as a fault would."""

    text: str = ""
    thinking: str = ""
    done_reason: str = "stop"
    mode: str = ""


@dataclass(frozen=True)
class Model:
    """An installed model, or one that can be pulled."""

    context_length: int = 8192  # 0: it does not say
    embedding_length: int = 4096
    capabilities: tuple[str, ...] = ("completion",)
    family: str = "llama"
    parameters: str = ""  # of its Modelfile, as /api/show prints them
    remote_host: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


CHAT_MODEL = Model()
EMBEDDING_MODEL = Model(2048, 64, ("embedding",), "nomic-bert", "num_ctx    8192")
CLOUD_MODEL = Model(131072, 2880, remote_host="https://ollama.com:443")


def error(status: int, text: str) -> tuple[int, str, bytes]:
    return status, "application/json; charset=utf-8", json.dumps({"error": text}).encode()


_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
JSON = "application/json; charset=utf-8"

# Whole answers: status, type, body.
WHOLE = {
    "busy": error(503, "server busy, please try again.  maximum pending requests exceeded"),
    "crash": error(
        500,
        "model runner has unexpectedly stopped, this may be due to resource limitations or an "
        "internal error, check ollama server logs for details",
    ),
    "eof": error(500, 'do embedding request: Post "http://127.0.0.1:33967/embedding": EOF'),
    "memory": error(
        500, "model requires more system memory (40.2 GiB) than is available (7.1 GiB)"
    ),
    "context": error(400, "the input length exceeds the context length"),
    "nan": error(500, "failed to encode response: json: unsupported value: NaN"),
    "login": error(401, "unauthorized"),
    "limit": error(429, "you've reached your hourly usage limit"),
    "html": (502, "text/html", _PAGE),
    "html_200": (200, "text/html", _PAGE),
    "not_json": (200, JSON, b'{"model":"llama3.1","mess'),
    "list": (200, JSON, b"[1, 2]"),
    "other_json": (200, JSON, b'{"hello": "world"}'),
    "odd_facts": (200, JSON, b'{"capabilities": 5, "parameters": [], "model_info": [7]}'),
    "nested": (200, JSON, b'{"a":' * 100_000),
    "string_error": (500, JSON, b'"out of order"'),
    "redirect": (307, "text/plain", b""),
}  # fmt: skip

# What the model says instead of what it should; the first is why `format` cannot be trusted.
SAID: dict[str, Callable[[Reply], Reply]] = {
    "ignore_format": lambda r: replace(r, text="It looks like the database was down. Retry it."),
    "fenced": lambda r: replace(r, text=f"Here you are:\n```json\n{r.text}\n```\n"),
    "schema_violation": lambda r: replace(r, text='{"confidence": "very high", "action": 7}'),
    "cut": lambda r: replace(r, text=r.text[: len(r.text) // 2], done_reason="length"),
    "empty": lambda r: replace(r, text=""),
    "thinking_first": lambda r: replace(r, text=f"<think>Is {{it}} so?</think>\n\n{r.text}"),
    "think_only": lambda r: Reply("", r.text or "hm", "length"),
    "dup_brace": lambda r: replace(r, text="{" + r.text),
}
SENT = (
    "drop", "hang", "unfinished", "stream_error", "stream_cut", "stream_hang", "trickle",
    "whitespace", "truncated", "pull_fail", "fewer",
)  # fmt: skip
VECTORS: dict[str, Callable[[list[float]], object]] = {
    "zero": lambda v: [0.0] * len(v),
    "nan_200": lambda v: [math.nan, *v[1:]],  # as `NaN`, which Python's json reads
    "infinite": lambda v: [math.inf, *v[1:]],
    "wrong_dimension": lambda v: v[:-1],
    "null": lambda v: None,
}
MODES = frozenset((*WHOLE, *SAID, *SENT, *VECTORS))


def tokens(text: str) -> int:
    return -(-len(text) // 4)


def vector(text: str, length: int) -> list[float]:
    """Alike for texts that share words; of unit length, as /api/embed has them."""
    places = [0.0] * length
    for word in re.findall(r"\w+", text.lower()) or [text]:
        code = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        places[code % length] += 1.0 if code >> 31 else -1.0
    places[0] += 0.01  # words may cancel each other; no real model gives a zero for that
    size = math.hypot(*places)
    return [place / size for place in places]


def said(request: Request, text: str, thinking: str) -> dict[str, Any]:
    thought = {"thinking": thinking} if thinking else {}
    if request.path == "/api/generate":
        return {"response": text, **thought}
    return {"message": {"role": "assistant", "content": text, **thought}}


def pieces(
    request: Request, base: Mapping[str, Any], reply: Reply, last: Mapping[str, Any], mode: str
) -> Iterator[dict[str, Any]]:
    """A streamed answer: thinking first, 20 characters a line."""
    for key, whole in (("thinking", reply.thinking), ("text", reply.text)):
        for start in range(0, len(whole), 20):
            piece = whole[start : start + 20]
            shown = ("", piece) if key == "thinking" else (piece, "")
            yield {**base, **said(request, *shown), "done": False}
            if mode == "stream_error":
                yield {"error": "an error was encountered while running the model: unexpected EOF"}
            if mode in ("stream_error", "stream_cut", "stream_hang", "unfinished"):
                return
    yield {**last, **said(request, "", "")}


def details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": "8.0B",
        "quantization_level": "Q4_K_M",
    }

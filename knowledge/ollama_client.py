"""Ollama over HTTP: the only file that imports the `ollama` package.

Every failure is told as ModelUnavailable. Nothing is asked twice: a closed connection makes
Ollama give up the model that it was loading (ollama#7408), so that a second try after a timeout
would start from nothing again and never succeed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from knowledge.errors import ModelUnavailable
from knowledge.ollama_host import ModelInfo, base_url, is_cloud, is_local

if TYPE_CHECKING:
    import httpx
    import ollama

CONNECT_SECONDS = 5.0
_SHOWN = 200  # characters of a server's own words
_OUT_OF_WINDOW = re.compile(r"(?i)context (?:length|size|window)|exceed_context_size")
_CRASHED = re.compile(
    r"(?i)\brunner\b|running the model|(?:^|request: .*)\bEOF$|terminated|CUDA error"
)


@dataclass(frozen=True, slots=True)
class Chat:
    """One answer. `prompt_tokens` is what Ollama says it read, None where it does not say;
    `done_reason` is "stop", or "length" for an answer that was cut."""

    text: str
    thinking: str
    prompt_tokens: int | None
    done_reason: str


def connect(host: str, *, read_seconds: float, allowed: Collection[str] = ()) -> Ollama:
    """An Ollama at `host` (a value of OLLAMA_HOST); nothing is sent yet. `read_seconds` is how
    long an answer may take, loading the model included; connecting may take 5 s. `allowed` names
    the models that may run in a cloud. Raises ModelUnavailable for what is no address."""
    return Ollama(base_url(host), read_seconds, allowed)


class Ollama:
    """One Ollama server, to be closed after use. Every question raises ModelUnavailable, and
    nothing else, where no usable answer came."""

    def __init__(self, url: str, read_seconds: float, allowed: Collection[str] = ()) -> None:
        self.url = url
        self.read_seconds = read_seconds
        self.allowed = allowed

    def __enter__(self) -> Ollama:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        made = self.__dict__.pop("_clients", ())
        for client in made:
            client.close()

    def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        keep_alive: str | float | None,
        told: Callable[[int], None] | None = None,
        stream: bool = False,
    ) -> Chat:
        """The model's answer to these messages, as it came: nothing is stripped or validated.

        Without messages the model is only loaded. With `stream`, `told` is called with the
        number of characters (of thinking too) whenever more have come, so that whoever waits
        sees that the model works; what it raises ends the answer."""
        asked = {
            "model": model,
            "messages": [
                {key: _sendable(text) for key, text in message.items()} for message in messages
            ],
            "format": dict(schema) if schema is not None else None,
            "options": dict(options),
            "keep_alive": keep_alive,
        }
        text, thinking, count = "", "", 0
        last: ollama.ChatResponse | None = None
        with closing(self._parts(model, asked, stream)) as parts:
            for part in parts:
                last = part
                text += part.message.content or ""
                thinking += part.message.thinking or ""
                if told is not None and len(text) + len(thinking) > count:
                    count = len(text) + len(thinking)
                    told(count)
        if last is None or not last.done:
            raise self._unavailable("broke its answer off", _LOOK)
        return Chat(text, thinking, last.prompt_eval_count, last.done_reason or "")

    def _parts(
        self, model: str, asked: Mapping[str, Any], stream: bool
    ) -> Generator[ollama.ChatResponse, None, None]:
        until = time.monotonic() + self.read_seconds
        if not stream:
            with self._asking(model) as client:
                answer = client.chat(**asked)
            yield answer
            return
        with self._asking(model) as client:
            pieces = cast(
                "Generator[ollama.ChatResponse, None, None]", client.chat(**asked, stream=True)
            )
        with closing(pieces):
            while True:
                with self._asking(model):
                    piece = next(pieces, None)
                if piece is None:
                    return
                # The timeout of the connection is for each piece, and a slow model sends many.
                if time.monotonic() > until and not piece.done:
                    raise self._timed_out()
                yield piece

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, in their order, as Ollama gives them. A text that is too long is an
        error: cutting it is left to the caller, who can say so."""
        with self._asking(model) as client:
            answer = client.embed(model, [_sendable(text) for text in texts], truncate=False)
        vectors = [list(vector) for vector in answer.embeddings]
        if len(vectors) != len(texts):
            raise self._unavailable(f"gave {len(vectors)} vectors for {len(texts)} texts", _LOOK)
        return vectors

    def show(self, model: str) -> ModelInfo:
        """What Ollama knows of a model: asked before the model is shown anything. A model that
        runs in a cloud under a name of this machine's is refused here, unless it is allowed."""
        told = self._plain("POST", "/api/show", model, {"model": model})
        facts = told.get("model_info")
        facts = facts if isinstance(facts, dict) else {}
        words = told.get("capabilities")
        wish = re.search(r"(?m)^num_ctx\s+([0-9]+)\s*$", str(told.get("parameters") or ""))
        info = ModelInfo(
            context_length=_whole(facts, ".context_length"),
            num_ctx=int(wish[1]) if wish else None,
            embedding_length=_whole(facts, ".embedding_length"),
            capabilities=tuple(map(str, words)) if isinstance(words, list) else (),
            remote_host=str(told.get("remote_host") or "") or None,
        )
        if is_cloud(model, info) and model not in self.allowed:
            why = f"{model} runs in a cloud, and the settings do not allow it by name"
            raise self._unavailable(why, "name it in ollama_allow, if logs may go there")
        return info

    def models(self) -> tuple[str, ...]:
        """The names of the installed models, tag included: see `tagged`."""
        with self._asking() as client:
            return tuple(model.model for model in client.list().models if model.model)

    def pull(self, model: str, told: Callable[[str, int, int], None]) -> None:
        """Download a model. `told` gets what is being done, and of how many bytes how many are
        there: (status, completed, total), 0 where Ollama does not say."""
        with self._asking(model) as client:
            steps = cast(
                "Generator[ollama.ProgressResponse, None, None]", client.pull(model, stream=True)
            )
        status = ""
        with closing(steps):
            while True:
                with self._asking(model):
                    step = next(steps, None)
                if step is None:
                    break
                status = step.status or ""
                told(status, step.completed or 0, step.total or 0)
        if status != "success":
            raise self._unavailable("broke the download off", f"again: ollama pull {model}")

    def version(self) -> str:
        return str(self._plain("GET", "/api/version", None, None).get("version") or "")

    def _plain(self, method: str, path: str, model: str | None, body: object) -> dict[str, Any]:
        """What the package does not ask, or not whole: it has no question for the version, and
        leaves out of /api/show where a model runs."""
        with self._asking(model):
            from ollama import ResponseError

            answer = self._clients[1].request(method, path, json=body)
            if answer.status_code != 200:
                raise ResponseError(answer.text, answer.status_code)
            told = answer.json()
            if not isinstance(told, dict):
                raise ValueError("no JSON object")
            return told

    @cached_property
    def _clients(self) -> tuple[ollama.Client, httpx.Client]:
        # Dear: 319 ms, and a failure that is known needs no model. On import the package makes a
        # client of its own from the environment, which fails with a proxy that it cannot use.
        try:
            import ssl

            import httpx
            import ollama

            local = is_local(self.url)
            # Reading the trusted CAs takes 27 ms a client, and is of no use to plain HTTP.
            trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bare = local and self.url.startswith("http:")
            # The key goes to this host only: redirects are not followed. The package would take
            # it from the same variable.
            key = os.environ.get("OLLAMA_API_KEY")
            ways: dict[str, Any] = {
                "timeout": httpx.Timeout(self.read_seconds, connect=CONNECT_SECONDS),
                "headers": {"Authorization": f"Bearer {key}"} if key else {},
                "follow_redirects": False,
                # HTTP_PROXY would be asked even for this machine, and does not find it.
                "trust_env": not local,
                "verify": trusts_nobody if bare else httpx.create_ssl_context(),
            }
            return ollama.Client(self.url, **ways), httpx.Client(base_url=self.url, **ways)
        except (ImportError, OSError, ValueError) as error:
            raise self._unavailable(
                f"cannot be asked: {_words(str(error))}",
                "look at HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE and OLLAMA_API_KEY",
            ) from error

    @contextmanager
    def _asking(self, model: str | None = None) -> Iterator[ollama.Client]:
        """Turns whatever the package raises into ModelUnavailable."""
        client, _ = self._clients
        import httpx
        from ollama import RequestError, ResponseError

        try:
            yield client
        except httpx.ConnectTimeout as error:
            raise self._unavailable(
                f"gave no connection within {CONNECT_SECONDS:g} s", _LOOK_AT_HOST
            ) from error
        except httpx.TimeoutException as error:
            raise self._timed_out() from error
        except (httpx.ConnectError, ConnectionError) as error:
            raise self._unavailable(*_unconnected(error, is_local(self.url))) from error
        except httpx.ProxyError as error:
            raise self._unavailable(
                "its proxy refused", "look at HTTP_PROXY and NO_PROXY"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise self._unavailable("broke the connection off", _LOOK) from error
        except ResponseError as error:
            raise self._unavailable(*_said(error.status_code, error.error, model)) from error
        # Not JSON (JSONDecodeError) or not the API's (pydantic's ValidationError) are
        # ValueErrors; at JSON that is no object the package stumbles with the next two, and the
        # parser itself at JSON that is nested without end.
        except (
            RequestError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise self._unavailable(*_no_answer(getattr(error, "doc", ""), model)) from error

    def _timed_out(self) -> ModelUnavailable:
        return self._unavailable(
            f"timed out after {self.read_seconds:g} s",
            "a big model takes minutes to load: allow more time, or take a smaller one",
        )

    def _unavailable(self, why: str, hint: str) -> ModelUnavailable:
        return ModelUnavailable(f"Ollama at {self.url}", why, hint)


_LOOK = "look at its log: journalctl -u ollama, or ~/.ollama/logs/server.log"
_LOOK_AT_HOST = "look at OLLAMA_HOST"
_HTML = (
    "answered with HTML: is a proxy in between?",
    "look at OLLAMA_HOST, HTTP_PROXY and NO_PROXY",
)


def _unconnected(error: Exception, local: bool) -> tuple[str, str]:
    # The package raises a ConnectionError of its own words while it handles the telling one.
    text = f"{error} {error.__context__}".lower()
    if "refused" in text:
        return "refused the connection", "start it: ollama serve" if local else _LOOK_AT_HOST
    if "certificate" in text:
        return "its certificate is not trusted", "name its CA in SSL_CERT_FILE"
    return "cannot be reached", _LOOK_AT_HOST


def _said(status: int, told: object, model: str | None) -> tuple[str, str]:
    """Why and hint of an error that Ollama, or what stands before it, put into words; `status`
    is -1 for one inside a stream."""
    text = _words(str(told))
    if text[:1] == "<":
        return _HTML
    if status == 503:
        return "busy", "it has more to do than OLLAMA_MAX_QUEUE allows: try again later"
    if status == 429:
        return "too many requests", "try again later"
    if status in (401, 403):
        return f"wants a login ({status})", "set OLLAMA_API_KEY"
    if 300 <= status < 400:
        return "sends us to another address", "name that one in OLLAMA_HOST, if it is trusted"
    if model and "not found" in text and model in text:
        return f"model {model} is not installed", f"get it: ollama pull {model}"
    if "file does not exist" in text:
        return f"model {model} is unknown to Ollama's library", "look at its name"
    if status == 404:
        return "knows no such question (404)", "is it an Ollama, and the path in OLLAMA_HOST right?"
    if _OUT_OF_WINDOW.search(text):
        return "the text is longer than the model's context window", "allow a larger window"
    if _CRASHED.search(text):
        return "its runner crashed", _LOOK
    if "does not support" in text:
        return f"says: {text}", "name another model: ollama list"
    return f"says: {text}" if text else f"failed ({status})", _LOOK


def _no_answer(document: object, model: str | None) -> tuple[str, str]:
    if model == "":
        return "no model is named", "name one: ollama list"
    if isinstance(document, str) and document.lstrip()[:1] == "<":
        return _HTML
    return "answered with something else than Ollama's API", "is it an Ollama? " + _LOOK


def _words(text: str) -> str:
    """A server's words as one short line."""
    return " ".join(re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f]", " ", text[:2000]).split())[:_SHOWN]


def _sendable(text: str) -> str:
    """Without lone surrogates, which a log may hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _whole(facts: Mapping[str, object], ending: str) -> int | None:
    """The number under "<architecture><ending>"."""
    found = (value for key, value in facts.items() if key.endswith(ending))
    value = next(found, None)
    return value if isinstance(value, int) else None

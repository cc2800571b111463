"""A local HTTP server that answers like an Ollama, and misbehaves like one when told to.

with OllamaServer() as server:
    server.answer = lambda request: {"cause": "...", "confidence": 0.9}  # object, text or Reply
    server.fault("/api/chat", "fenced", times=1)  # MODES; without `times` always
    ...  # server.url; then look at server.requests

`answer` decides for each request; a Reply can go wrong by itself (`mode`). What is known and said
is in tests/ollama_world.py.
"""

from __future__ import annotations

import json
import math
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler
from typing import Any

from tests.ollama_world import (
    CHAT_MODEL,
    CLOUD_MODEL,
    DEFAULT_CONTEXT,
    EMBEDDING_MODEL,
    JSON,
    LOADING_NS,
    MADE,
    MODES,
    SAID,
    VECTORS,
    WARM_NS,
    WHOLE,
    Model,
    Reply,
    Request,
    details,
    error,
    pieces,
    said,
    tokens,
    vector,
)
from tests.served import Served

__all__ = ["CLOUD_MODEL", "EMBEDDING_MODEL", "MODES", "Model", "OllamaServer", "Reply", "Request"]


@dataclass
class Fault:
    path: str
    mode: str
    times: int


@dataclass
class OllamaServer(Served):
    """What is installed, how it answers, and the `requests` received, oldest first. `loading`
    is how many seconds a model that is not in memory takes to load; nothing is sent until then,
    and a client that goes away ends it. `gone` counts those who left before their answer."""

    models: dict[str, Model] = field(
        default_factory=lambda: {
            "llama3.1:latest": CHAT_MODEL,
            "nomic-embed-text:latest": EMBEDDING_MODEL,
        }
    )
    library: dict[str, Model] = field(default_factory=lambda: {"qwen3:latest": CHAT_MODEL})
    answer: Callable[[Request], Reply | Mapping[str, Any] | str] = lambda request: "{}"
    vector: Callable[[str, int], list[float]] = vector
    count: Callable[[str], int] = tokens
    loading: float = 0.0
    redirect: str = "/elsewhere"  # where the fault of that name leads
    prefix: str = ""  # a path that it is served under
    version: str = "0.12.6"
    requests: list[Request] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    gone: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[BaseRequestHandler]:
        return type("Handler", (_Handler,), {"world_served": self})

    def __enter__(self) -> OllamaServer:
        super().__enter__()
        self.url += self.prefix
        return self

    def fault(self, path: str, mode: str, times: int = 1_000_000) -> None:
        """The next requests to this path go wrong."""
        assert mode in MODES, mode
        self.faults.append(Fault(path, mode, times))

    def take_fault(self, path: str) -> str:
        for fault in self.faults:
            if fault.times and fault.path == path:
                fault.times -= 1
                return fault.mode
        return ""

    def sent(self, path: str) -> list[Request]:
        """The requests to this path."""
        return [request for request in self.requests if request.path == path]

    def find(self, name: object) -> tuple[str, Model]:
        full = str(name) if ":" in str(name).rpartition("/")[2] else f"{name}:latest"
        if full not in self.models:
            raise _Problem(404, f"model '{name}' not found")
        return full, self.models[full]


class _Problem(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for a delayed ACK
    world_served: OllamaServer
    connection: socket.socket

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client left before it asked again
            super().handle()

    def do_GET(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.removeprefix(self.world_served.prefix)
        request = Request(self.command, path, headers, json.loads(data) if data else {})
        with self.world_served.lock:
            self.world_served.requests.append(request)
            mode = self.world_served.take_fault(request.path)
        try:
            self._answer(request, mode)
        except _Problem as problem:
            self._whole(*error(problem.status, problem.text))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            self.world_served.gone.release()

    do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def _answer(self, request: Request, mode: str) -> None:
        answers: dict[tuple[str, str], Callable[[Request, str], None]] = {
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/generate"): self._chat,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._embed,
            ("POST", "/api/pull"): self._pull,
            ("POST", "/api/show"): self._show,
            ("DELETE", "/api/delete"): self._delete,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._tags,
        }
        if self._misbehaved(mode):
            return
        if (request.method, request.path) in answers:
            answers[request.method, request.path](request, mode)
        elif request.path == "/":
            self._whole(200, "text/plain; charset=utf-8", b"Ollama is running")
        elif request.path == "/api/version":
            self._json({"version": self.world_served.version})
        else:
            self._whole(404, "text/plain", b"404 page not found")

    def _misbehaved(self, mode: str) -> bool:
        """Whether the answer was none of the API's."""
        if mode == "drop":
            self.close_connection = True
        elif mode == "hang":
            self._wait(3600)
        elif mode in WHOLE:
            self._whole(*WHOLE[mode])
        else:
            return False
        return True

    # --- answering -------------------------------------------------------------------------

    def _chat(self, request: Request, mode: str) -> None:
        name, model = self.world_served.find(request.body.get("model"))
        if "completion" not in model.capabilities:
            raise _Problem(400, f'"{name}" does not support chat')
        load = self._load(name, request)
        window = int(request.options.get("num_ctx") or DEFAULT_CONTEXT)
        asked = self.world_served.count(request.prompt)
        base = {"model": request.body["model"], "created_at": MADE}
        if not request.prompt:
            self._json({**base, **said(request, "", ""), "done_reason": "load", "done": True})
            return
        given = self.world_served.answer(request)
        if isinstance(given, Mapping):
            given = json.dumps(given)
        reply = Reply(given) if isinstance(given, str) else given
        mode = mode or reply.mode
        if self._misbehaved(mode):
            return
        most = int(request.options.get("num_predict") or -1)
        if mode in SAID:
            reply = SAID[mode](reply)
        if mode == "whitespace":
            reply = replace(reply, text=" \n" * (2 * most if most > 0 else 8192))
        if 0 < most < tokens(reply.text + reply.thinking):
            reply = replace(reply, text=reply.text[: 4 * most], done_reason="length")
        if asked > window or mode == "truncated":
            asked = window // 2 + 2  # the front is dropped without a word (ollama#17427)
        last = {
            **base,
            "done": True,
            "done_reason": reply.done_reason,
            "total_duration": load + 50_000_000,
            "load_duration": load,
            "prompt_eval_count": asked,
            "prompt_eval_duration": 10_000_000,
            "eval_count": tokens(reply.text + reply.thinking),
            "eval_duration": 40_000_000,
        }
        if request.body.get("stream", True):
            self._stream(pieces(request, base, reply, last, mode), mode)
        elif mode == "stream_error":
            self._whole(*WHOLE["crash"])
        elif mode == "stream_cut":
            self.close_connection = True
            self._whole(200, JSON, json.dumps(last).encode(), missing=20)
        else:
            last["done"] = mode != "unfinished"
            self._json({**last, **said(request, reply.text, reply.thinking)})

    def _embed(self, request: Request, mode: str) -> None:
        name, model = self.world_served.find(request.body.get("model"))
        load = self._load(name, request)
        old = request.path == "/api/embeddings"
        given = request.body.get("prompt" if old else "input") or []
        texts = [given] if isinstance(given, str) else list(given)
        if any(0 < model.context_length < self.world_served.count(text) for text in texts):
            # Also with truncate=true: ignored since 0.13.5 (ollama#14186).
            raise _Problem(400, "the input length exceeds the context length")
        made: list[object] = [
            self.world_served.vector(text, model.embedding_length) for text in texts
        ]
        if mode in VECTORS and made:
            made[-1] = VECTORS[mode](self.world_served.vector(texts[-1], model.embedding_length))
        if mode == "fewer":
            made = made[:-1]
        if old:
            self._json({"embedding": made[0] if made else []})
            return
        counts = {
            "prompt_eval_count": sum(map(self.world_served.count, texts)),
            "load_duration": load,
        }
        self._json({"model": request.body["model"], "embeddings": made, **counts})

    def _show(self, request: Request, mode: str) -> None:
        name, model = self.world_served.find(request.body.get("model") or request.body.get("name"))
        remote = {"remote_host": model.remote_host, "remote_model": name.removesuffix("-cloud")}
        facts = {
            "general.architecture": model.family,
            "general.parameter_count": 8030261248,
            f"{model.family}.attention.head_count": 32,
            f"{model.family}.embedding_length": model.embedding_length,
            "tokenizer.ggml.tokens": None,
        }
        if model.context_length:
            facts[f"{model.family}.context_length"] = model.context_length
        self._json(
            {
                "license": "",
                "modelfile": f"FROM {name}",
                "parameters": model.parameters,
                "template": "{{ .Prompt }}",
                "details": details(model),
                "model_info": facts,
                "capabilities": list(model.capabilities),
                "modified_at": MADE,
                **(remote if model.remote_host else {}),
            }
        )

    def _tags(self, request: Request, mode: str) -> None:
        running = request.path == "/api/ps"
        shown = [
            {
                "name": name,
                "model": name,
                "size": 4_920_753_328,
                "digest": model.digest,
                "details": details(model),
                **({"expires_at": MADE, "size_vram": 0} if running else {"modified_at": MADE}),
            }
            for name, model in self.world_served.models.items()
            if not running or name in self.world_served.loaded
        ]
        self._json({"models": shown})

    def _pull(self, request: Request, mode: str) -> None:
        name = str(request.body.get("model") or request.body.get("name"))
        name = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        model = self.world_served.library.get(name)
        steps: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if model is None:
            steps.append({"error": "pull model manifest: file does not exist"})
        else:
            layer = {"status": f"pulling {model.digest[:12]}", "digest": model.digest}
            steps += [{**layer, "total": 1000, "completed": done} for done in (0, 400, 1000)]
            if mode == "pull_fail":
                steps[-1] = {"error": "max retries exceeded: unexpected EOF"}
            else:
                self.world_served.models[name] = model
                last = ("verifying sha256 digest", "writing manifest", "success")
                steps += [{"status": status} for status in last]
        if request.body.get("stream", True):
            self._stream(steps[:-1] if mode == "stream_cut" else steps)
        elif "error" in steps[-1]:
            raise _Problem(500, steps[-1]["error"])
        else:
            self._json(steps[-1])

    def _delete(self, request: Request, mode: str) -> None:
        name, _ = self.world_served.find(request.body.get("model") or request.body.get("name"))
        del self.world_served.models[name]
        self._whole(200, JSON, b"")

    # --- the wire --------------------------------------------------------------------------

    def _load(self, name: str, request: Request) -> int:
        """Nanoseconds that loading took. keep_alive 0 unloads."""
        cold = name not in self.world_served.loaded
        if cold and self.world_served.loading:
            self._wait(self.world_served.loading)
        with self.world_served.lock:
            self.world_served.loaded.add(name)
            if request.body.get("keep_alive") in (0, "0"):
                self.world_served.loaded.discard(name)
        return LOADING_NS if cold else WARM_NS

    def _wait(self, seconds: float) -> None:
        """Silence; it ends with the server, and when the client goes away."""
        for _ in range(math.ceil(seconds * 100)):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError
            if self.world_served.closing.wait(min(seconds, 0.01)):
                raise ConnectionResetError

    def _json(self, value: object) -> None:
        self._whole(200, JSON, json.dumps(value).encode())

    def _whole(self, status: int, kind: str, body: bytes, missing: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 307:
            self.send_header("Location", self.world_served.redirect)
        self.end_headers()
        self.wfile.write(body[: len(body) - missing])

    def _stream(self, lines: Iterable[Mapping[str, Any]], mode: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            data = json.dumps(line).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            if mode == "trickle":
                self._wait(0.01)
        if mode == "stream_hang":
            self._wait(3600)
        if mode == "stream_cut":
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: pytest shows what a test prints."""

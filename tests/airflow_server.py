"""A local HTTP server that answers like an Airflow, for the error paths a real one won't show.

with AirflowServer() as server:
    server.add_failure("orders", "load", events=[exception("ValueError", "bad row 7")])
    server.fault("POST .*clearTaskInstances", status=500, takes_effect=True)
    ...  # server.url, server.username, server.password; then look at server.requests
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.airflow_beside import Problem
from tests.airflow_world import RUN, Request, World, exception
from tests.served import Served

__all__ = ["RUN", "AirflowServer", "exception"]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose "METHOD /path" `pattern` is found in.
    Changing calls have no effect then unless `takes_effect`."""

    pattern: str
    times: int = 1
    status: int | None = None
    body: bytes = b'{"detail":"Internal Server Error"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0  # seconds of silence before the answer; ends with the server
    drop_after: int | None = None  # bytes of the body; -1: not even a status line
    takes_effect: bool = False


class AirflowServer(Served, World):
    """The world, served at `url`. `requests` are those received, oldest first."""

    def __init__(self, version: str = "3.3.2") -> None:
        super().__init__(version)
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()

    def handler(self) -> type[BaseRequestHandler]:
        return type("Handler", (_Handler,), {"server_world": self})

    def fault(self, pattern: str, **fields: Any) -> None:
        """The next requests that fit go wrong: see Fault."""
        self.faults.append(Fault(pattern, **fields))

    def take_fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, f"{request.method} {request.path}"):
                fault.times -= 1
                return fault
        return None

    def sent(self, method: str) -> list[Request]:
        """The requests of this method to the API, logins left out."""
        return [r for r in self.requests if r.method == method and r.path != "/auth/token"]


class _Handler(BaseHTTPRequestHandler):
    """Speaks HTTP for the world, and misbehaves as its faults say."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for a delayed ACK
    server_world: AirflowServer

    def do_GET(self) -> None:
        world = self.server_world
        target = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            target.path,
            parse_qs(target.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(data) if data else None,
        )
        with world.lock:
            world.requests.append(request)
            fault = world.take_fault(request)
            status, body = 200, fault.body if fault else b""
            lines: Iterable[bytes] | None = None
            try:
                if fault is None or fault.takes_effect or self.command == "GET":
                    answer = world.answer(request)
                    if callable(answer):
                        lines = answer()
                    elif answer is None:
                        status, body = 204, b""
                    else:
                        body = json.dumps(answer).encode()
            except Problem as problem:
                status, body = problem.status, json.dumps(problem.body).encode()
        fault = fault or Fault("")
        if fault.status is not None:
            status, body, lines = fault.status, fault.body, None
        if fault.hang:
            world.closing.wait(fault.hang)
        self.close_connection = fault.drop_after is not None
        if fault.drop_after == -1:
            return
        try:
            self._send(status, body, lines, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up first

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def _send(self, status: int, body: bytes, lines: Iterable[bytes] | None, fault: Fault) -> None:
        headers = {"Content-Type": "application/json", **fault.headers}
        pieces: Iterable[bytes] = [body]
        if lines is None:
            headers["Content-Length"] = str(len(body))
        else:
            headers |= {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                headers["Content-Encoding"] = "gzip"
                lines = _zipped(lines)
            pieces = _chunks(lines)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        left = fault.drop_after
        for piece in pieces:
            self.wfile.write(piece if left is None else piece[:left])
            left = None if left is None else max(0, left - len(piece))
            if left == 0:
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: pytest shows what a test prints."""


def _zipped(lines: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)
    for line in lines:
        yield packer.compress(line)
    yield packer.flush()


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        if piece:
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"

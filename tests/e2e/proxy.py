"""A proxy before an Airflow that writes down what is asked of it: what a command really costs. It
can end who asks at one call, before or after Airflow has taken it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.served import Served

DROPPED = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")
PATIENCE = 120  # seconds for one answer of an Airflow that does much else


@dataclass(frozen=True)
class Call:
    at: datetime  # when it came in
    method: str
    path: str  # without the query
    body: Any

    @property
    def clears(self) -> bool:
        """Whether it runs something again."""
        return self.path.endswith("/clearTaskInstances") and not self.body.get("dry_run", True)


@dataclass(frozen=True)
class Cut:
    """`kill` is called once, at the first call that `at` is true of: when it has come in, which is
    as far as it gets, or (`arrives`) when Airflow has answered, which is not passed back."""

    at: Callable[[Call], bool]
    kill: Callable[[], None]
    arrives: bool


@dataclass
class Proxy(Served):
    """Serves the Airflow at `target` on `url`; `calls` are those passed on, oldest first."""

    target: str
    calls: list[Call] = field(default_factory=list)
    cut: Cut | None = None

    def handler(self) -> type[BaseRequestHandler]:
        return type("Handler", (_Handler,), {"passes_on": self})

    @property
    def clears(self) -> list[Call]:
        return [call for call in self.calls if call.clears]

    @property
    def acts(self) -> set[str]:
        """What was run again. A clear that the scheduler ran over, or that Airflow gave no clear
        answer to, is made once more: that is no other act."""
        return {
            json.dumps([call.path, call.body["dag_run_id"], call.body["task_ids"]])
            for call in self.clears
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for a delayed ACK
    passes_on: Proxy

    def do_GET(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = Call(
            datetime.now(timezone.utc),
            self.command,
            urlsplit(self.path).path,
            json.loads(data) if data else None,
        )
        cut = self.passes_on.cut
        if cut and cut.at(call):
            self.passes_on.cut = None
            if not cut.arrives:
                cut.kill()
                self.close_connection = True
                return
        else:
            cut = None
        self.passes_on.calls.append(call)
        there = http.client.HTTPConnection(urlsplit(self.passes_on.target).netloc, timeout=PATIENCE)
        try:
            there.request(self.command, self.path, data, dict(self.headers))
            answer = there.getresponse()
            body = answer.read()
        finally:
            there.close()
        if cut:
            cut.kill()
        try:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in DROPPED:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # whoever asked went first

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: pytest shows what a test prints."""

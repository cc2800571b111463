"""What keeps a watch in good hands: its log, its figures, its heartbeat, and how it is ended."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aiops_cli.atomic import whole_file
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM. Whatever is safe to interrupt by Ctrl-C is safe to end by this."""


class Ending:
    """Whether SIGTERM has come. Python drops what a handler raises while it clears an object away
    or calls back from C, so a loop asks once more."""

    come = False

    def check(self) -> None:
        """Raises Terminated."""
        if self.come:
            raise Terminated


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[Ending]:
    """SIGTERM raises Terminated, once: what is then under way comes to its end."""
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():  # Python takes none elsewhere
        yield ending
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ending.come = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, before)


class JsonLog(io.TextIOBase):
    """Stands for stderr: every line written to it becomes one JSON object on a line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                level = "error" if line.startswith("error: ") else "warning"
                self.event("message", level=level, message=line)
        return len(text)

    def flush(self) -> None:
        if not self.stream.closed:
            self.stream.flush()

    def event(self, event: str, *, level: str = "info", **fields: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        document = {"at": now.replace("+00:00", "Z"), "level": level, "event": event, **fields}
        self.stream.write(json.dumps(document) + "\n")
        self.stream.flush()


def log_as_json() -> JsonLog:
    """From now on stderr holds JSON: until the process ends, so that how it ended does, too."""
    log = JsonLog(sys.stderr)
    sys.stderr = log
    return log


class Figures:
    """The text that is served or written for Prometheus; "" before the first pass."""

    def __init__(self) -> None:
        self.text = ""


@contextlib.contextmanager
def served(figures: Figures, where: str | None) -> Iterator[None]:
    """Serve the figures at /metrics of `where`, a port of 127.0.0.1 or ADDRESS:PORT. Raises
    UsageError where that cannot be."""
    if where is None:
        yield
        return
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # 20 ms

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # who asks and does not read keeps no thread

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = figures.text.encode() if found else b"figures are at /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Every scrape would be a line of the watch's own log."""

        def log_error(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A scraper that goes away is nothing of the watch's."""

    address, port = _address(where)
    try:
        server = Server((address, port), Handler)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"--metrics-port {where}: {why}", "name another port") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _address(where: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:([\w.-]+):)?([0-9]{1,5})", where)
    if not found or int(found[2]) > 65535:
        raise UsageError(f"--metrics-port {where!r} is no port", "such as 9464, or 0.0.0.0:9464")
    return found[1] or "127.0.0.1", int(found[2])


def write_figures(path: Path, text: str) -> None:
    """Write the file whole or not at all: its reader (node_exporter) may come at any time, and
    is another user. Raises OSError."""
    with whole_file(path, mode=0o644) as out:
        out.write(text)

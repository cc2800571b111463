"""What the tests' servers have in common: how they come and go."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler
from types import TracebackType
from typing import TypeVar

SELF = TypeVar("SELF", bound="Served")


class Served:
    """A `with` block during which `handler()` answers at `url`, a free port of loopback, each
    connection in a thread of its own. `closing` is set at its end, for those that keep silent."""

    url: str
    closing: threading.Event

    def handler(self) -> type[BaseRequestHandler]:
        """The class of what answers."""
        raise NotImplementedError

    def __enter__(self: SELF) -> SELF:
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        # serve_forever looks for its end twice a second by default: half a second a test.
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

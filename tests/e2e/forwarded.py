"""A reverse proxy in small: it says who somebody is, as one with a login of its own does."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, StreamRequestHandler

from tests.served import Served

LONGEST_HEAD = 65536


class Named(Served):
    """Serves what listens on `port` of this machine, each request with `header: name`; what a
    browser says of itself there is dropped."""

    def __init__(self, port: int, header: str, name: str) -> None:
        self.port, self.header, self.name = port, header, name

    def handler(self) -> type[BaseRequestHandler]:
        return type("Handler", (_Handler,), {"named": self})

    def told(self, head: str) -> str:
        """The head of a request as it is passed on. One connection is one request, but for a web
        socket: then nothing comes without the name."""
        lines = [
            line
            for line in head.split("\r\n")
            if not line.lower().startswith(f"{self.header.lower()}:")
        ]
        lines.insert(1, f"{self.header}: {self.name}")
        if not re.search(r"^upgrade: *websocket", head, re.IGNORECASE | re.MULTILINE):
            lines = [line for line in lines if not line.lower().startswith("connection:")]
            lines.insert(1, "Connection: close")
        return "\r\n".join(lines)


class _Handler(StreamRequestHandler):
    named: Named

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < LONGEST_HEAD:
            line = self.rfile.readline()
            if not line:
                return
            head += line
        with socket.create_connection(("127.0.0.1", self.named.port)) as there:
            there.sendall(self.named.told(head.decode("latin-1")).encode("latin-1"))
            back = threading.Thread(target=self._back, args=(there,), daemon=True)
            back.start()
            with suppress(OSError):
                while data := self.rfile.read1(LONGEST_HEAD):
                    there.sendall(data)
            with suppress(OSError):
                there.shutdown(socket.SHUT_WR)
            back.join()

    def _back(self, there: socket.socket) -> None:
        with suppress(OSError):
            while data := there.recv(LONGEST_HEAD):
                self.connection.sendall(data)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

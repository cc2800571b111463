"""A company's network in small: TLS with a CA of its own, client certificates, and a proxy."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

from tests.airflow_server import AirflowServer

TLS = Path(__file__).parent / "tls"
CA, STRANGER = TLS / "ca.pem", TLS / "stranger.pem"
CLIENT, CLIENT_KEY = TLS / "client.pem", TLS / "client.key"


class TlsServer(AirflowServer):
    """The local Airflow behind TLS, as https://localhost. With `wants_client` it asks for a
    certificate of the tests' CA."""

    def __init__(self, *, wants_client: bool = False) -> None:
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
        if wants_client:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(CA)

    def __enter__(self) -> TlsServer:
        super().__enter__()
        # The handshake happens in `accept`; one that fails is an OSError there, and passed over.
        self._http.socket = self.context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://localhost:{self._http.server_address[1]}"
        return self


class Proxy(ThreadingTCPServer):
    """A proxy that reaches `airflow`, whatever host it is asked for. `asked` are the first lines
    of its connections; with `login` ("user:password") it answers 407 to others."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, airflow: str, login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.target = ("127.0.0.1", urlsplit(airflow).port or 0)
        self.login = login
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxy(airflow: str, login: str = "") -> Iterator[Proxy]:
    with Proxy(airflow, login) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()


class _ProxyHandler(StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        first = self.rfile.readline().decode()
        lines = list(iter(lambda: self.rfile.readline().decode(), "\r\n"))
        self.server.asked.append(first.strip())
        known = base64.b64encode(self.server.login.encode()).decode()
        if self.server.login and f"basic {known}" not in "".join(lines).replace("Basic", "basic"):
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
            self.wfile.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with socket.create_connection(self.server.target, 30) as airflow:
            if first.startswith("CONNECT "):
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                airflow.sendall(f"{first}{''.join(lines)}\r\n".encode())
            answers = threading.Thread(target=_copy, args=(airflow, self.connection), daemon=True)
            answers.start()
            with suppress(OSError):
                while data := self.rfile.read1(65536):
                    airflow.sendall(data)
                airflow.shutdown(socket.SHUT_WR)
            answers.join(30)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

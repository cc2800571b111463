"""What every request passes before Streamlit sees it: only this dashboard's own pages may talk to
it, and no other site may show it in a frame.

Streamlit lets in pages of every port of this machine, and forbids no frame. A click is a message
over the page's web socket, so that is where a page of another site has to be kept out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # an incident's id is in the address
]


class Guard:
    """An ASGI middleware. `public_host` is the name by which browsers reach a reverse proxy."""

    def __init__(self, app: ASGIApp, public_host: str | None = None) -> None:
        self.app, self.public_host = app, public_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not self._own(scope):
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, headed)

    def _own(self, scope: Scope) -> bool:
        asked = [
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"origin", b"host")
        ]
        origins, hosts = asked
        return len(hosts) == 1 and all(
            same_origin(origin, hosts[0], self.public_host) for origin in origins
        )


def same_origin(origin: str, host: str, public_host: str | None) -> bool:
    """Whether a page from `origin` is one that `host` has served. No browser asks without an
    origin, so that who names none is a program, which could name any."""
    try:
        url = urlsplit(origin)
        name = url.hostname
    except ValueError:
        return False
    if not name:  # a page in a box of its own has the origin "null"
        return False
    return url.netloc.lower() == host.lower() or (
        public_host is not None and name == public_host.lower()
    )
